//! The log's bytes: a header, then records back to back, then zeros.
//!
//! ```text
//!  0   magic (16)  version u32  its complement u32  first sequence u64  boot id (1 + 63)
//!      octets written before the log got its name u64  0 ...  checksum u64
//!  128 length u32  kind u8  0 0 0  sequence u64  payload ...  checksum u64      each a multiple of 8 octets
//!  ... zeros up to the file's size, written before, so that a commit changes no metadata
//! ```
//!
//! Little endian. Sequences have no gaps. A record that is not whole at the log's end was being written when its
//! process or the node died: nobody relied on it, the next writer replaces it. One with whole records behind it is
//! damage. The checksum is a 64-bit multiply-and-fold: it misses less than a 32-bit CRC and reads a thousand rows in
//! a few microseconds without a table or an instruction of one processor. No I/O, no clock; fuzzed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::process::BootTime;
use super::row::{Names, Row};

/// The format's version.
pub const VERSION: u32 = 1;
/// Octets before the first record.
pub const HEADER_OCTETS: usize = 128;
/// Longest boot id, in octets; the kernel's has 36.
pub const MOST_BOOT_ID_OCTETS: usize = 63;
/// No record is longer, in octets.
pub const MOST_RECORD_OCTETS: usize = 2048;

const MAGIC: &[u8; 16] = b"towpath-ipam-log";
/// Length, kind, sequence; and the checksum at the end.
const FRAME_OCTETS: usize = 16 + 8;
/// How far behind a bad record a good one's sequence may be to prove damage.
const FARTHEST_SEQUENCE: u64 = 1 << 20;

/// What stands before the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'log> {
    /// The boot in which the log was written.
    pub boot_id: &'log [u8],
    /// Sequence of the first record.
    pub first_sequence: u64,
    /// The log's octets when it got its name: all durable by then.
    pub whole_octets: usize,
}

/// A log that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Written by a later towpath.
    #[error("format version {0} is not known")]
    Newer(u32),
    /// No log, or parts of it are lost.
    #[error("damaged at octet {0}")]
    Damaged(usize),
}

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'log> {
    /// Addresses were promised.
    Claim(Row<'log>),
    /// The row of this id is wired.
    Ready(u64),
    /// The row of this id is gone.
    Release {
        /// Which row.
        id: u64,
        /// When, in seconds since 1970.
        at: u64,
    },
    /// DEL of an attachment that had no row.
    Tombstone {
        /// Which attachment.
        names: Names<'log>,
        /// When.
        at: BootTime,
    },
    /// An address is free (written when the log is rewritten without its row).
    Resting {
        /// Which address.
        address: IpAddr,
        /// Since when, in seconds since 1970.
        since: u64,
    },
    /// The address handed out last from a block (likewise).
    Cursor {
        /// Which block.
        block: IpNet,
        /// Its address.
        last: IpAddr,
    },
}

const CLAIM: u8 = 1;
const READY: u8 = 2;
const RELEASE: u8 = 3;
const TOMBSTONE: u8 = 4;
const RESTING: u8 = 5;
const CURSOR: u8 = 6;

/// How a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Where the next record goes.
    pub offset: usize,
    /// Its sequence.
    pub sequence: u64,
    /// Whether something that is no record lies there.
    pub torn: bool,
}

impl<'log> Header<'log> {
    /// Reads a log's header.
    ///
    /// # Errors
    /// [`LogError`]; the magic, the version and its complement, which tells a later version from damage, stay where they
    /// are in every version.
    pub fn decode(log: &'log [u8]) -> Result<Self, LogError> {
        let damaged = LogError::Damaged(0);
        if log.get(..16) != Some(MAGIC) {
            return Err(damaged);
        }
        let version = u32_at(log, 16).ok_or(damaged)?;
        if u32_at(log, 20) != Some(!version) {
            return Err(damaged);
        }
        if version > VERSION {
            return Err(LogError::Newer(version));
        }
        let header = log.get(..HEADER_OCTETS).ok_or(damaged)?;
        let sum = checksum(&header[..HEADER_OCTETS - 8]);
        let length = usize::from(header[32]);
        if u64_at(header, HEADER_OCTETS - 8) != Some(sum) || length > MOST_BOOT_ID_OCTETS || version == 0 {
            return Err(damaged);
        }
        let boot_id = &header[33..33 + length];
        let whole_octets = u64_at(header, 96).and_then(|octets| octets.try_into().ok()).ok_or(damaged)?;
        Ok(Self { boot_id, first_sequence: u64_at(header, 24).ok_or(damaged)?, whole_octets })
    }

    fn encode(&self) -> Vec<u8> {
        let boot_id = &self.boot_id[..self.boot_id.len().min(MOST_BOOT_ID_OCTETS)];
        let mut out = Vec::with_capacity(HEADER_OCTETS);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(!VERSION).to_le_bytes());
        out.extend_from_slice(&self.first_sequence.to_le_bytes());
        out.push(boot_id.len() as u8);
        out.extend_from_slice(boot_id);
        out.resize(96, 0);
        out.extend_from_slice(&(self.whole_octets as u64).to_le_bytes());
        out.resize(HEADER_OCTETS - 8, 0);
        let sum = checksum(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }
}

/// A whole new log of what `fill` writes.
pub fn whole(boot_id: &[u8], first_sequence: u64, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer { bytes: vec![0; HEADER_OCTETS], sequence: first_sequence };
    fill(&mut out);
    let header = Header { boot_id, first_sequence, whole_octets: out.bytes.len() };
    out.bytes[..HEADER_OCTETS].copy_from_slice(&header.encode());
    out.bytes
}

/// Hands each record from `offset` on to `each`, in order, and says where and how the log ends.
///
/// # Errors
/// [`LogError::Damaged`] when whole records follow one that is not.
pub fn read<'log>(
    log: &'log [u8],
    offset: usize,
    sequence: u64,
    mut each: impl FnMut(Record<'log>),
) -> Result<End, LogError> {
    let mut end = End { offset, sequence, torn: false };
    while let Some((record, length)) = decode_at(log, end.offset, |found| found == end.sequence) {
        each(record);
        end.offset += length;
        end.sequence = end.sequence.wrapping_add(1);
    }
    end.torn = log.get(end.offset..).is_some_and(is_used);
    if end.torn && is_followed(log, &end) {
        return Err(LogError::Damaged(end.offset));
    }
    Ok(end)
}

/// Every record that can still be read in a damaged log, in order.
pub fn salvage<'log>(log: &'log [u8], mut each: impl FnMut(Record<'log>)) {
    let mut at = HEADER_OCTETS;
    while at < log.len() {
        at += match decode_at(log, at, |_| true) {
            Some((record, length)) => {
                each(record);
                length
            }
            None => 8,
        };
    }
}

/// How far the records reach, judged by their lengths alone: what tells a reader in pieces when to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The zeros behind the last record begin.
    Ends,
    /// The record at this offset goes on behind these bytes.
    GoesOn(usize),
    /// No record begins at the place where one should: the whole file is needed to judge.
    Strange,
}

/// Walks the lengths from `offset`, where a record begins.
#[must_use]
pub fn reach(log: &[u8], mut offset: usize) -> Reach {
    loop {
        match u32_at(log, offset) {
            None => return Reach::GoesOn(offset),
            Some(0) => return Reach::Ends,
            Some(length) => match plausible(length) {
                None => return Reach::Strange,
                Some(length) if log.len() - offset < length => return Reach::GoesOn(offset),
                Some(length) => offset += length,
            },
        }
    }
}

/// Whether a whole record of this log lies behind its end.
fn is_followed(log: &[u8], end: &End) -> bool {
    let later = |found: u64| {
        found.checked_sub(end.sequence).is_some_and(|ahead| (1..FARTHEST_SEQUENCE).contains(&ahead))
    };
    (end.offset + 8..log.len()).step_by(8).any(|at| decode_at(log, at, later).is_some())
}

/// The record at `offset`, with its length.
fn decode_at(log: &[u8], offset: usize, is_expected: impl Fn(u64) -> bool) -> Option<(Record<'_>, usize)> {
    let length = plausible(u32_at(log, offset)?)?;
    let record = log.get(offset..offset.checked_add(length)?)?;
    let (covered, sum) = record.split_at(length - 8);
    let good = is_expected(u64_at(covered, 8)?) && u64_at(sum, 0)? == checksum(covered);
    if good { Some((decode(covered[4], &covered[16..])?, length)) } else { None }
}

fn plausible(length: u32) -> Option<usize> {
    let length = usize::try_from(length).ok()?;
    ((FRAME_OCTETS..=MOST_RECORD_OCTETS).contains(&length) && length.is_multiple_of(8)).then_some(length)
}

fn decode(kind: u8, payload: &[u8]) -> Option<Record<'_>> {
    Some(match kind {
        CLAIM => Record::Claim(Row::decode(payload)?),
        READY => Record::Ready(u64_at(payload, 0)?),
        RELEASE => Record::Release { id: u64_at(payload, 0)?, at: u64_at(payload, 8)? },
        TOMBSTONE => Record::Tombstone {
            names: Names::decode(payload.get(8..)?)?,
            at: BootTime { nanoseconds: u64_at(payload, 0)? },
        },
        RESTING => Record::Resting { address: address_at(payload, 8)?, since: u64_at(payload, 0)? },
        CURSOR => {
            let last = address_at(payload, 8)?;
            let block = IpNet::new(last, *payload.first()?).ok()?.trunc();
            Record::Cursor { block, last }
        }
        _ => return None,
    })
}

/// Writes records one behind the other.
#[derive(Clone, Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    sequence: u64,
}

impl Writer {
    /// Records to append, the first of them with this sequence.
    #[must_use]
    pub fn new(sequence: u64) -> Self {
        Self { bytes: Vec::with_capacity(512), sequence }
    }

    /// Sequence of the next record.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Adds one record.
    pub fn push(&mut self, record: &Record<'_>) {
        let mut payload = Vec::with_capacity(256);
        let kind = match record {
            Record::Claim(row) => {
                row.encode(&mut payload);
                CLAIM
            }
            Record::Ready(id) => {
                payload.extend_from_slice(&id.to_le_bytes());
                READY
            }
            Record::Release { id, at } => {
                payload.extend_from_slice(&id.to_le_bytes());
                payload.extend_from_slice(&at.to_le_bytes());
                RELEASE
            }
            Record::Tombstone { names, at } => {
                payload.extend_from_slice(&at.nanoseconds.to_le_bytes());
                names.encode(&mut payload);
                TOMBSTONE
            }
            Record::Resting { address, since } => {
                payload.extend_from_slice(&since.to_le_bytes());
                push_address(&mut payload, *address);
                RESTING
            }
            Record::Cursor { block, last } => {
                payload.extend_from_slice(&[block.prefix_len(), 0, 0, 0, 0, 0, 0, 0]);
                push_address(&mut payload, *last);
                CURSOR
            }
        };
        self.push_payload(kind, &payload);
    }

    /// Adds a record of this kind and payload, whether or not it can be read back (for tests of the reader).
    pub fn push_payload(&mut self, kind: u8, payload: &[u8]) {
        let start = self.bytes.len();
        let length = (FRAME_OCTETS + payload.len()).next_multiple_of(8);
        self.bytes.extend_from_slice(&(length as u32).to_le_bytes());
        self.bytes.extend_from_slice(&[kind, 0, 0, 0]);
        self.bytes.extend_from_slice(&self.sequence.to_le_bytes());
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(start + length - 8, 0);
        let sum = checksum(&self.bytes[start..]);
        self.bytes.extend_from_slice(&sum.to_le_bytes());
        self.sequence = self.sequence.wrapping_add(1);
    }
}

/// Family (4 or 6), padding, address.
fn push_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            out.extend_from_slice(&[4, 0, 0, 0]);
            out.extend_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            out.extend_from_slice(&[6, 0, 0, 0]);
            out.extend_from_slice(&v6.octets());
        }
    }
}

fn address_at(bytes: &[u8], offset: usize) -> Option<IpAddr> {
    let octets = bytes.get(offset.checked_add(4)?..)?;
    match bytes.get(offset)? {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets.get(..4)?).ok()?).into()),
        6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets.get(..16)?).ok()?).into()),
        _ => None,
    }
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let octets = bytes.get(offset..offset.checked_add(4)?)?;
    octets.try_into().ok().map(u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let octets = bytes.get(offset..offset.checked_add(8)?)?;
    octets.try_into().ok().map(u64::from_le_bytes)
}

/// Four words at a time in two sums that do not wait for each other; each pair is multiplied to 128 bits and folded.
fn checksum(bytes: &[u8]) -> u64 {
    const A: u64 = 0xa076_1d64_78bd_642f;
    const B: u64 = 0xe703_7ed1_a0b4_28db;
    let fold = |x: u64, y: u64| {
        // Cannot overflow; `wrapping` keeps the check of that out of the loop.
        let product = u128::from(x).wrapping_mul(u128::from(y));
        (product as u64) ^ ((product >> 64) as u64)
    };
    let (mut even, mut odd) = (A ^ bytes.len() as u64, B);
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        let word = |at: usize| u64::from_le_bytes(words[at]);
        even = fold(word(0) ^ A ^ even, word(1) ^ B).rotate_left(23) ^ even;
        odd = fold(word(2) ^ B ^ odd, word(3) ^ A).rotate_left(29) ^ odd;
    }
    for chunk in rest.chunks(8) {
        let mut octets = [0; 8];
        octets[..chunk.len()].copy_from_slice(chunk);
        even = fold(u64::from_le_bytes(octets) ^ A, even ^ B);
    }
    // Other constants than at the beginning: no factor is zero when a sum was not touched. And never zero itself: a
    // record of zeros must not pass.
    fold(even.rotate_left(32) ^ B, odd ^ A) | 1
}

/// Whether there is anything but zeros.
fn is_used(bytes: &[u8]) -> bool {
    let (blocks, rest) = bytes.as_chunks::<64>();
    blocks.iter().any(|block| block.iter().fold(0, |sum, octet| sum | octet) != 0)
        || rest.iter().any(|&octet| octet != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of three records, with the place where each begins and the end.
    fn three() -> (Vec<u8>, [usize; 4]) {
        let mut at = [0; 4];
        let log = whole(b"boot", 7, |out| {
            for (index, id) in [10, 11, 12].into_iter().enumerate() {
                at[index] = out.bytes.len();
                // The shortest record is in the middle.
                out.push(&if id == 11 { Record::Ready(id) } else { Record::Release { id, at: 1 } });
            }
            at[3] = out.bytes.len();
        });
        (log, at)
    }

    /// Reads as if the log had got its name when it was empty.
    fn ids(log: &[u8]) -> Result<(Vec<u64>, End), LogError> {
        let mut ids = Vec::new();
        let end = read(log, HEADER_OCTETS, 7, |record| {
            if let Record::Release { id, .. } | Record::Ready(id) = record {
                ids.push(id);
            }
        })?;
        Ok((ids, end))
    }

    #[test]
    fn a_torn_end_is_left_out_and_a_torn_middle_is_damage() {
        let (log, at) = three();
        let zeros = |log: &[u8]| [log, &[0; 64]].concat();
        let clean = End { offset: at[3], sequence: 10, torn: false };
        assert_eq!(ids(&zeros(&log)), Ok((vec![10, 11, 12], clean)));
        assert_eq!(ids(&log), Ok((vec![10, 11, 12], clean)), "no room behind it");
        for cut in at[2] + 1..at[3] {
            let (read, end) = ids(&zeros(&log[..cut])).unwrap();
            assert_eq!((read, end.offset), (vec![10, 11], at[2]), "cut at {cut}");
            assert!(end.torn, "cut at {cut}");
        }
        for octet in at[1]..at[2] {
            let mut rotten = zeros(&log);
            rotten[octet] ^= 0x40;
            assert_eq!(ids(&rotten), Err(LogError::Damaged(at[1])), "octet {octet}");
            let mut salvaged = Vec::new();
            salvage(&rotten, |record| salvaged.push(record));
            assert_eq!(salvaged.len(), 2, "octet {octet}");
        }
        let lost = [&log[..at[1]], &vec![0; at[2] - at[1]][..], &log[at[2]..]].concat();
        assert_eq!(ids(&lost), Err(LogError::Damaged(at[1])), "a sector of zeros");
    }

    #[test]
    fn a_record_of_another_place_is_not_read_twice() {
        let (log, at) = three();
        let again = [&log[..], &log[at[1]..at[2]]].concat();
        let (read, end) = ids(&again).unwrap();
        assert_eq!((read, end.torn), (vec![10, 11, 12], true));
    }

    #[test]
    fn headers_say_version_boot_and_how_much_was_whole() {
        let (log, at) = three();
        let header = Header { boot_id: b"boot", first_sequence: 7, whole_octets: at[3] };
        assert_eq!(Header::decode(&log), Ok(header));
        for octet in 0..HEADER_OCTETS {
            let mut rotten = log.clone();
            rotten[octet] ^= 0x01;
            assert_eq!(Header::decode(&rotten), Err(LogError::Damaged(0)), "octet {octet}");
            assert_eq!(Header::decode(&log[..octet]), Err(LogError::Damaged(0)), "cut at {octet}");
        }
        let mut newer = log;
        newer[16..24].copy_from_slice(&[2, 0, 0, 0, 0xfd, 0xff, 0xff, 0xff]);
        assert_eq!(Header::decode(&newer), Err(LogError::Newer(2)));
    }

    #[test]
    fn a_reader_in_pieces_knows_where_to_stop() {
        let (log, at) = three();
        let full = [&log[..], &[0; 64]].concat();
        assert_eq!(reach(&full, HEADER_OCTETS), Reach::Ends);
        assert_eq!(reach(&full[..at[2] + 5], HEADER_OCTETS), Reach::GoesOn(at[2]));
        assert_eq!(reach(&log, HEADER_OCTETS), Reach::GoesOn(at[3]));
        let mut strange = full;
        strange[at[1]] = 3;
        assert_eq!(reach(&strange, HEADER_OCTETS), Reach::Strange);
    }

    #[test]
    fn the_format_never_changes() {
        // A log of an earlier towpath must be read by a later one: change VERSION with the layout.
        let (log, at) = three();
        assert_eq!(at, [128, 168, 200, 240]);
        assert_eq!((checksum(b""), checksum(&log)), (0x0ebc_1a1c_a835_540b, 0xc993_4628_b98b_df79));
    }
}
