//! BGP messages of the feeder: an encoder and decoder that share nothing with the ones under test.
//!
//! RFC 4271, 4760 (IPv6 in MP_REACH_NLRI), 6793 (4-octet AS numbers, always), 8654. The decoder reads what
//! another speaker sends to a feeder and refuses what it cannot follow; it does not judge attributes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, bail, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const HEADER: usize = 19;
/// The longest message (RFC 4271 section 4.1).
pub const MESSAGE_MAX: usize = 4096;
/// The longest message where both sides have the capability (RFC 8654).
pub const EXTENDED_MAX: usize = 65_535;
/// Room for everything after the header.
const BODY_MAX: usize = MESSAGE_MAX - HEADER;
const AS_TRANS: u16 = 23_456;

/// Wraps a body in a header with a correct marker and length.
pub fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend(((HEADER + body.len()) as u16).to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

/// The message that keeps a session alive.
pub fn keepalive() -> Vec<u8> {
    frame(4, &[])
}

/// A NOTIFICATION.
pub fn notification(code: u8, subcode: u8, data: &[u8]) -> Vec<u8> {
    frame(3, &[&[code, subcode], data].concat())
}

/// An OPEN with the given capabilities, each (code, value), in one optional parameter each.
pub fn open(local_as: u32, hold_time_seconds: u16, id: Ipv4Addr, capabilities: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut parameters = Vec::new();
    for (code, value) in capabilities {
        parameters.extend([2, value.len() as u8 + 2, *code, value.len() as u8]);
        parameters.extend(value);
    }
    let mut body = vec![4];
    body.extend(u16::try_from(local_as).unwrap_or(AS_TRANS).to_be_bytes());
    body.extend(hold_time_seconds.to_be_bytes());
    body.extend(id.octets());
    body.push(parameters.len() as u8);
    body.extend(parameters);
    frame(1, &body)
}

/// What an UPDATE says about its prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// AS_PATH, one AS_SEQUENCE.
    pub as_path: Vec<u32>,
    /// NEXT_HOP, or the next hop of MP_REACH_NLRI for IPv6.
    pub next_hop: IpAddr,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// Standard communities.
    pub communities: Vec<u32>,
    /// Large communities.
    pub large_communities: Vec<[u32; 3]>,
    /// Further attributes, complete: flags, type, length, value.
    pub raw: Vec<u8>,
}

impl Attributes {
    /// Only what is mandatory.
    pub fn new(as_path: &[u32], next_hop: IpAddr) -> Self {
        Self {
            as_path: as_path.to_vec(),
            next_hop,
            med: None,
            communities: Vec::new(),
            large_communities: Vec::new(),
            raw: Vec::new(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        attribute(&mut bytes, 0x40, 1, &[0]);
        let mut path = Vec::new();
        if !self.as_path.is_empty() {
            path.extend([2, self.as_path.len() as u8]);
            path.extend(self.as_path.iter().flat_map(|number| number.to_be_bytes()));
        }
        attribute(&mut bytes, 0x40, 2, &path);
        if let IpAddr::V4(next_hop) = self.next_hop {
            attribute(&mut bytes, 0x40, 3, &next_hop.octets());
        }
        if let Some(med) = self.med {
            attribute(&mut bytes, 0x80, 4, &med.to_be_bytes());
        }
        if !self.communities.is_empty() {
            let value: Vec<u8> = self.communities.iter().flat_map(|one| one.to_be_bytes()).collect();
            attribute(&mut bytes, 0xc0, 8, &value);
        }
        if !self.large_communities.is_empty() {
            let value: Vec<u8> =
                self.large_communities.iter().flatten().flat_map(|part| part.to_be_bytes()).collect();
            attribute(&mut bytes, 0xc0, 32, &value);
        }
        bytes.extend(&self.raw);
        bytes
    }
}

fn attribute(bytes: &mut Vec<u8>, flags: u8, kind: u8, value: &[u8]) {
    match u8::try_from(value.len()) {
        Ok(length) => bytes.extend([flags, kind, length]),
        Err(_) => {
            bytes.extend([flags | 0x10, kind]);
            bytes.extend((value.len() as u16).to_be_bytes());
        }
    }
    bytes.extend(value);
}

/// UPDATEs that announce `prefixes`, as few as they fit in; extended messages (RFC 8654) only where the
/// attributes alone are too long for others. Prefixes of the family of the next hop only.
pub fn announce(attributes: &Attributes, prefixes: &[IpNet]) -> Vec<u8> {
    let shared = attributes.encode();
    let room = |taken: usize| {
        let whole = if taken + 17 <= BODY_MAX { BODY_MAX } else { EXTENDED_MAX - HEADER };
        whole - taken
    };
    match attributes.next_hop {
        IpAddr::V4(_) => packed(prefixes, room(4 + shared.len()), |nlri| update(&[], &shared, nlri)),
        IpAddr::V6(next_hop) => packed(prefixes, room(4 + shared.len() + 25), |nlri| {
            let mut value = vec![0, 2, 1, 16];
            value.extend(next_hop.octets());
            value.push(0);
            value.extend(nlri);
            // MP_REACH_NLRI goes first (RFC 7606 section 5.1).
            let mut bytes = Vec::new();
            attribute(&mut bytes, 0x80, 14, &value);
            update(&[], &[bytes, shared.clone()].concat(), &[])
        }),
    }
}

/// UPDATEs that withdraw `prefixes` (of either family).
pub fn withdraw(prefixes: &[IpNet]) -> Vec<u8> {
    let (v4, v6): (Vec<IpNet>, Vec<IpNet>) = prefixes.iter().partition(|prefix| prefix.addr().is_ipv4());
    let mut bytes = packed(&v4, BODY_MAX - 4, |nlri| update(nlri, &[], &[]));
    bytes.extend(packed(&v6, BODY_MAX - 11, |nlri| {
        let mut attributes = Vec::new();
        attribute(&mut attributes, 0x80, 15, &[&[0, 2, 1], nlri].concat());
        update(&[], &attributes, &[])
    }));
    bytes
}

/// The end of the first full table of a family (RFC 4724 section 2).
pub fn end_of_rib(v6: bool) -> Vec<u8> {
    if v6 { update(&[], &[0x80, 15, 3, 0, 2, 1], &[]) } else { update(&[], &[], &[]) }
}

/// An UPDATE from its three parts, with correct lengths.
pub fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
    body.extend(withdrawn);
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(attributes);
    body.extend(nlri);
    frame(2, &body)
}

fn packed(prefixes: &[IpNet], room: usize, mut message: impl FnMut(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut nlri = Vec::new();
    for prefix in prefixes {
        // One octet of length and at most 16 of address.
        if nlri.len() + 17 > room {
            bytes.extend(message(&nlri));
            nlri.clear();
        }
        nlri.push(prefix.prefix_len());
        let octets = usize::from(prefix.prefix_len().div_ceil(8));
        match prefix.network() {
            IpAddr::V4(address) => nlri.extend(&address.octets()[..octets]),
            IpAddr::V6(address) => nlri.extend(&address.octets()[..octets]),
        }
    }
    if !nlri.is_empty() {
        bytes.extend(message(&nlri));
    }
    bytes
}

/// A NOTIFICATION that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// The rest.
    pub data: Vec<u8>,
}

/// A message that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the RFCs")]
pub enum Message {
    Open { hold_time_seconds: u16, body: Vec<u8> },
    Update(Update),
    Notification(Notification),
    Keepalive,
    RouteRefresh(Vec<u8>),
}

/// What an UPDATE changes. An End-of-RIB has neither.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// Prefixes taken back.
    pub withdrawn: Vec<IpNet>,
    /// Prefixes announced.
    pub announced: Vec<IpNet>,
    /// A digest of the attributes, next hop included, in an order of its own: equal for equal routes.
    pub digest: u64,
    /// The attributes as they came, where something is announced.
    pub attributes: Vec<u8>,
}

/// Flags and value of the attribute of type `kind` in attributes that [`decode`] has read.
pub fn attribute_of(attributes: &[u8], kind: u8) -> Option<(u8, &[u8])> {
    each(attributes).find(|(_, found, _)| *found == kind).map(|(flags, _, value)| (flags, value))
}

/// Types and values of attributes, up to one that is cut short.
pub fn attributes(attributes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    each(attributes).map(|(_, kind, value)| (kind, value))
}

/// Flags, type and value.
fn each(mut attributes: &[u8]) -> impl Iterator<Item = (u8, u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[flags, kind], rest) = attributes.split_first_chunk::<2>()?;
        let (size, rest) = if flags & 0x10 == 0 {
            let (&size, rest) = rest.split_first()?;
            (usize::from(size), rest)
        } else {
            let (size, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*size)), rest)
        };
        let (value, rest) = rest.split_at_checked(size)?;
        attributes = rest;
        Some((flags, kind, value))
    })
}

/// How many prefixes a whole UPDATE announces and withdraws, without reading them: a few nanoseconds each. Zeroes for
/// other messages; what is cut short counts as far as it goes.
pub fn count(message: &[u8]) -> (u64, u64) {
    let Some((&[.., 2], body)) = message.split_first_chunk::<HEADER>() else { return (0, 0) };
    let part =
        |bytes: &[u8]| -> Option<usize> { Some(usize::from(u16::from_be_bytes(*bytes.first_chunk()?))) };
    let rest = |bytes: &'_ [u8], at: usize| bytes.get(at..).map(<[u8]>::len);
    let Some(withdrawn) = part(body).filter(|size| rest(body, 2 + size).is_some()) else { return (0, 0) };
    let behind = &body[2 + withdrawn..];
    let Some(size) = part(behind).filter(|size| rest(behind, 2 + size).is_some()) else { return (0, 0) };
    let (mut announced, mut gone) = (nlri_count(&behind[2 + size..]), nlri_count(&body[2..2 + withdrawn]));
    for (kind, value) in attributes(&behind[2..2 + size]) {
        match kind {
            14 => {
                let next_hop = value.get(3).copied().map_or(0, usize::from);
                announced += nlri_count(value.get(5 + next_hop..).unwrap_or_default());
            }
            15 => gone += nlri_count(value.get(3..).unwrap_or_default()),
            _ => {}
        }
    }
    (announced, gone)
}

fn nlri_count(mut nlri: &[u8]) -> u64 {
    let mut count = 0;
    while let Some((&bits, rest)) = nlri.split_first() {
        count += 1;
        nlri = rest.get(usize::from(bits.div_ceil(8))..).unwrap_or_default();
    }
    count
}

/// The length of the first message in `bytes`; `None` while its header is incomplete.
///
/// # Errors
/// When this is no BGP, or longer than `max`.
pub fn length(bytes: &[u8], max: usize) -> anyhow::Result<Option<usize>> {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    ensure!(header[..16] == [0xff; 16], "a message without the marker");
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    ensure!((HEADER..=max).contains(&length), "a message of {length} octets");
    Ok(Some(length))
}

/// Decodes one whole message.
///
/// # Errors
/// When a length inside does not fit, or the type is unknown.
pub fn decode(message: &[u8]) -> anyhow::Result<Message> {
    let kind = message.get(18).copied().context("no header")?;
    let body = message.get(HEADER..).unwrap_or_default();
    Ok(match kind {
        1 => {
            let hold = body.get(3..5).context("an OPEN that is cut short")?;
            Message::Open { hold_time_seconds: u16::from_be_bytes([hold[0], hold[1]]), body: body.to_vec() }
        }
        2 => Message::Update(decode_update(body).context("in an UPDATE")?),
        3 => {
            let (&[code, subcode], data) =
                body.split_first_chunk::<2>().context("a NOTIFICATION without a code")?;
            Message::Notification(Notification { code, subcode, data: data.to_vec() })
        }
        4 => Message::Keepalive,
        5 => Message::RouteRefresh(body.to_vec()),
        other => bail!("a message of type {other}"),
    })
}

fn decode_update(mut body: &[u8]) -> anyhow::Result<Update> {
    let mut update = Update::default();
    let withdrawn = u16_take(&mut body)?;
    prefixes(take(&mut body, usize::from(withdrawn))?, false, &mut update.withdrawn)?;
    let size = u16_take(&mut body)?;
    let mut attributes = take(&mut body, usize::from(size))?;
    let all = attributes;
    prefixes(body, false, &mut update.announced)?;
    while let Some((&[flags, kind], rest)) = attributes.split_first_chunk::<2>() {
        attributes = rest;
        let size = if flags & 0x10 == 0 {
            usize::from(take(&mut attributes, 1)?[0])
        } else {
            usize::from(u16_take(&mut attributes)?)
        };
        let mut value = take(&mut attributes, size)?;
        match kind {
            14 => {
                let v6 = family(take(&mut value, 3)?)?;
                let size = usize::from(take(&mut value, 1)?[0]);
                // Next hop and family belong to the route, the prefixes do not.
                update.digest =
                    update.digest.wrapping_add(digest(&[&[kind, u8::from(v6)], take(&mut value, size)?]));
                take(&mut value, 1)?;
                prefixes(value, v6, &mut update.announced)?;
            }
            15 => {
                let v6 = family(take(&mut value, 3)?)?;
                prefixes(value, v6, &mut update.withdrawn)?;
            }
            // Addition, so that the order of attributes does not matter.
            _ => update.digest = update.digest.wrapping_add(digest(&[&[flags & 0xe0, kind], value])),
        }
    }
    ensure!(attributes.is_empty(), "an attribute that is cut short");
    if !update.announced.is_empty() {
        update.attributes = all.to_vec();
    }
    Ok(update)
}

/// Whether AFI and SAFI name IPv6 unicast (or else IPv4 unicast).
fn family(bytes: &[u8]) -> anyhow::Result<bool> {
    match bytes {
        [0, 1, 1] => Ok(false),
        [0, 2, 1] => Ok(true),
        other => bail!("AFI and SAFI {other:?} were not negotiated"),
    }
}

fn prefixes(mut bytes: &[u8], v6: bool, found: &mut Vec<IpNet>) -> anyhow::Result<()> {
    while !bytes.is_empty() {
        let bits = take(&mut bytes, 1)?[0];
        ensure!(bits <= if v6 { 128 } else { 32 }, "a prefix of length {bits}");
        let octets = take(&mut bytes, usize::from(bits.div_ceil(8)))?;
        let mut address = [0; 16];
        address[..octets.len()].copy_from_slice(octets);
        found.push(if v6 {
            IpNet::V6(Ipv6Net::new(Ipv6Addr::from(address), bits)?.trunc())
        } else {
            let [a, b, c, d, ..] = address;
            IpNet::V4(Ipv4Net::new(Ipv4Addr::new(a, b, c, d), bits)?.trunc())
        });
    }
    Ok(())
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> anyhow::Result<&'a [u8]> {
    let (head, rest) = bytes
        .split_at_checked(count)
        .with_context(|| format!("{count} octets asked, {} left", bytes.len()))?;
    *bytes = rest;
    Ok(head)
}

fn u16_take(bytes: &mut &[u8]) -> anyhow::Result<u16> {
    let head = take(bytes, 2)?;
    Ok(u16::from_be_bytes([head[0], head[1]]))
}

/// FNV-1a.
fn digest(parts: &[&[u8]]) -> u64 {
    parts
        .iter()
        .copied()
        .flatten()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode_all(mut bytes: &[u8]) -> Vec<Update> {
        let mut updates = Vec::new();
        while let Some(size) = length(bytes, EXTENDED_MAX).unwrap() {
            match decode(&bytes[..size]).unwrap() {
                Message::Update(update) => updates.push(update),
                other => panic!("{other:?}"),
            }
            bytes = &bytes[size..];
        }
        updates
    }

    fn count_all(mut bytes: &[u8]) -> (u64, u64) {
        let mut sum = (0, 0);
        while let Some(size) = length(bytes, EXTENDED_MAX).unwrap() {
            let (announced, withdrawn) = count(&bytes[..size]);
            sum = (sum.0 + announced, sum.1 + withdrawn);
            bytes = &bytes[size..];
        }
        sum
    }

    fn some_prefixes(v6: bool, count: u32) -> Vec<IpNet> {
        (0..count)
            .map(|n| match v6 {
                false => IpNet::new(Ipv4Addr::from(0x1400_0000 + n * 256).into(), 24).unwrap(),
                true => IpNet::new(Ipv6Addr::from(u128::from(n) << 80 | 0x2a00 << 112).into(), 48).unwrap(),
            })
            .collect()
    }

    #[test]
    fn what_is_announced_and_withdrawn_is_read_back_across_message_limits() {
        for (v6, next_hop) in [(false, "10.0.0.1"), (true, "fd00::1")] {
            let mut attributes = Attributes::new(&[65_001, 4_200_000_001], next_hop.parse().unwrap());
            attributes.communities = vec![0xfde9_0001; 80];
            let prefixes = some_prefixes(v6, 5001);
            let updates = decode_all(&announce(&attributes, &prefixes));
            assert!(updates.len() > 1);
            assert!(
                updates
                    .iter()
                    .all(|update| update.digest == updates[0].digest && update.withdrawn.is_empty())
            );
            let read: Vec<IpNet> = updates.into_iter().flat_map(|update| update.announced).collect();
            assert_eq!(read, prefixes);
            assert_eq!(count_all(&announce(&attributes, &prefixes)), (5001, 0));
            assert_eq!(count_all(&withdraw(&prefixes)), (0, 5001));
            assert_eq!(count_all(&[end_of_rib(v6), keepalive()].concat()), (0, 0));
            let read: Vec<IpNet> =
                decode_all(&withdraw(&prefixes)).into_iter().flat_map(|u| u.withdrawn).collect();
            assert_eq!(read, prefixes);
            assert_eq!(decode_all(&end_of_rib(v6)), [Update::default()]);
        }
    }

    #[test]
    fn long_attributes_make_an_extended_message_and_are_found_in_it() {
        let mut attributes = Attributes::new(&[65_001], "10.0.0.1".parse().unwrap());
        attributes.large_communities = (0..500).map(|n| [65_001, 7, n]).collect();
        attributes.raw = vec![0xc0, 199, 1, 42];
        let bytes = announce(&attributes, &some_prefixes(false, 3));
        assert!(length(&bytes, MESSAGE_MAX).is_err());
        let updates = decode_all(&bytes);
        assert_eq!(updates.len(), 1);
        let (flags, value) = attribute_of(&updates[0].attributes, 32).unwrap();
        assert_eq!((flags, value.len()), (0xd0, 6000));
        assert_eq!(attribute_of(&updates[0].attributes, 199), Some((0xc0, [42].as_slice())));
        assert_eq!(attribute_of(&updates[0].attributes, 8), None);
    }

    #[test]
    fn the_digest_tells_routes_apart() {
        let one = Attributes::new(&[1, 2], "10.0.0.1".parse().unwrap());
        let digest =
            |attributes: &Attributes| decode_all(&announce(attributes, &some_prefixes(false, 1)))[0].digest;
        let changes: [fn(&mut Attributes); 4] = [
            |a| a.as_path.push(3),
            |a| a.next_hop = "10.0.0.2".parse().unwrap(),
            |a| a.med = Some(0),
            |a| a.large_communities.push([1, 2, 3]),
        ];
        for change in changes {
            let mut other = one.clone();
            change(&mut other);
            assert_ne!(digest(&one), digest(&other), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(kind in 0u8..7, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let message = frame(kind, &body);
            prop_assert_eq!(length(&message, MESSAGE_MAX).unwrap(), Some(message.len()));
            drop(decode(&message));
            prop_assert!(count(&message).0 <= 200);
        }
    }
}
