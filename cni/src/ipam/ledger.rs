//! The ledger: what a log's records add up to, and what a claim of it gets.
//!
//! Read anew by each process that needs it; nothing here writes. Pure: no clock, no I/O.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;

use super::choose::{Family, Spans, Used, choose, number, usable};
use super::error::{BlockCount, IpamError};
use super::process::BootTime;
use super::record::{self, End, HEADER_OCTETS, Header, LogError, Record, Writer};
use super::row::{ChosenFrom, Names, Row};
use super::{Claim, Lease, LeaseState};
use crate::{Addresses, Attachment};

/// How long a DEL without a row is remembered, for an ADD that began before it.
pub const TOMBSTONE_AGE: Duration = Duration::from_secs(600);
/// No more tombstones and cursors than these outlive a rewrite of the log; the latest stay.
const MOST_TOMBSTONES: usize = 1024;
const MOST_CURSORS: usize = 256;

/// What a log says.
#[derive(Debug, Default)]
pub struct Ledger<'log> {
    /// In the order of their ids.
    entries: Vec<Entry<'log>>,
    resting: Vec<(IpAddr, u64)>,
    /// The address handed out last of each block when the log was last written anew; the block used last is last.
    cursors: Vec<(IpNet, IpAddr)>,
    /// How many entries the cursors know of.
    cursors_know: usize,
    tombstones: Vec<(Names<'log>, BootTime)>,
}

#[derive(Debug)]
struct Entry<'log> {
    row: Row<'log>,
    /// When it was released, in seconds since 1970.
    released: Option<u64>,
}

/// Both clocks of one moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Seconds since 1970: comparable over a reboot.
    pub unix_seconds: u64,
    /// Comparable within a boot.
    pub boot_time: BootTime,
}

/// What a claim gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The row of the same attachment that ends with it.
    pub replaces: Option<u64>,
    /// The addresses.
    pub addresses: Addresses,
    /// The blocks they come from.
    pub chosen_from: ChosenFrom,
}

impl<'log> Ledger<'log> {
    /// Reads a whole log.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn read(log: &'log [u8]) -> Result<(Header<'log>, Self, End), LogError> {
        let header = Header::decode(log)?;
        // Rows are longer than this, other records shorter: seldom too small.
        let mut ledger = Self { entries: Vec::with_capacity(log.len() / 256), ..Self::default() };
        let end = record::read(log, HEADER_OCTETS, header.first_sequence, |record| ledger.apply(record))?;
        if end.offset < header.whole_octets {
            return Err(LogError::Damaged(end.offset));
        }
        Ok((header, ledger, end))
    }

    /// What can still be read of a damaged log.
    #[must_use]
    pub fn salvage(log: &'log [u8]) -> Self {
        let mut ledger = Self::default();
        record::salvage(log, |record| ledger.apply(record));
        ledger
    }

    fn apply(&mut self, record: Record<'log>) {
        match record {
            Record::Claim(row) => {
                self.entries.push(Entry { row, released: None });
            }
            Record::Ready(id) => {
                if let Some(entry) = self.entry(id) {
                    entry.row.state = LeaseState::Ready;
                }
            }
            Record::Release { id, at } => {
                if let Some(entry) = self.entry(id) {
                    entry.released = Some(at);
                }
            }
            Record::Tombstone { names, at } => self.tombstones.push((names, at)),
            Record::Resting { address, since } => self.resting.push((address, since)),
            Record::Cursor { block, last } => {
                self.cursors.push((block, last));
                self.cursors_know = self.entries.len();
            }
        }
    }

    fn entry(&mut self, id: u64) -> Option<&mut Entry<'log>> {
        let at = self.entries.binary_search_by_key(&id, |entry| entry.row.id).ok()?;
        self.entries.get_mut(at)
    }

    /// The address of a family that was handed out last within `spans`.
    fn cursor(&self, family: Family, spans: &Spans) -> Option<u128> {
        let handed_out = |(address, _): (IpAddr, IpNet)| {
            Some(number(address)).filter(|last| Family::of(address) == family && spans.contain(*last))
        };
        let later = self.entries[self.cursors_know..].iter().rev();
        let earlier = self.cursors.iter().rev().map(|&(block, last)| (last, block));
        later.flat_map(|entry| entry.row.chosen()).chain(earlier).find_map(handed_out)
    }

    /// The address handed out last of each block; the block used last is last.
    fn cursors(&self) -> Vec<(IpNet, IpAddr)> {
        let mut cursors = self.cursors.clone();
        for (address, block) in self.entries[self.cursors_know..].iter().flat_map(|entry| entry.row.chosen())
        {
            if let Some(at) = cursors.iter().rposition(|(known, _)| *known == block) {
                cursors.remove(at);
            }
            cursors.push((block, address));
        }
        cursors
    }

    fn live(&self) -> impl Iterator<Item = &Row<'log>> {
        self.entries.iter().filter(|entry| entry.released.is_none()).map(|entry| &entry.row)
    }

    /// The row of an attachment.
    #[must_use]
    pub fn find(&self, who: &Attachment) -> Option<Row<'log>> {
        let mut key = Vec::with_capacity(128);
        Names::compose(who, &mut key);
        let names = Names::decode(&key)?;
        self.live().find(|row| row.names == names).copied()
    }

    /// Whether the row of this id is still there.
    #[must_use]
    pub fn has(&self, id: u64) -> bool {
        self.live().any(|row| row.id == id)
    }

    /// Every row, the oldest first. One whose names are none (only in a log made by hand) is left out.
    #[must_use]
    pub fn leases(&self) -> Vec<Lease> {
        self.live().filter_map(Row::lease).collect()
    }

    /// Which addresses a claim gets. The same as before if its attachment has a row that fits.
    ///
    /// # Errors
    /// Every [`IpamError`] that is not about files.
    pub fn claim(&self, claim: &Claim, now: Now) -> Result<Decision, IpamError> {
        if self.is_overtaken(claim, now) {
            return Err(IpamError::Overtaken { attachment: claim.attachment.clone() });
        }
        let own = self.find(&claim.attachment);
        if let Some(row) = own.filter(|row| fits(row, claim)) {
            let replaces = Some(row.id);
            return Ok(Decision { replaces, addresses: row.addresses, chosen_from: row.chosen_from });
        }
        let replaces = own.map(|row| row.id);
        let mut addresses = self.wanted(claim, replaces)?;
        let mut chosen_from = ChosenFrom::default();
        for family in [Family::V4, Family::V6] {
            if addresses.iter().any(|address| Family::of(address) == family) {
                continue;
            }
            if let Some((address, block)) = self.next(family, claim, replaces, now, addresses.v4)? {
                addresses.set(address);
                *chosen_from.of(family) = Some(block.prefix_len());
            }
        }
        if addresses.is_empty() {
            return Err(IpamError::NoBlocks);
        }
        Ok(Decision { replaces, addresses, chosen_from })
    }

    /// Whether a DEL of this attachment came after the ADD began.
    fn is_overtaken(&self, claim: &Claim, now: Now) -> bool {
        let mut key = Vec::with_capacity(128);
        Names::compose(&claim.attachment, &mut key);
        let names = Names::decode(&key);
        // A process that was stopped before it could look at the clock is as old as its start.
        let began = claim.called_at.min(claim.process.started_by());
        self.tombstones.iter().any(|(deleted, at)| {
            Some(*deleted) == names && began < *at && now.boot_time.since(*at) < TOMBSTONE_AGE
        })
    }

    /// The static addresses, if each may be had.
    fn wanted(&self, claim: &Claim, replaces: Option<u64>) -> Result<Addresses, IpamError> {
        let mut addresses = Addresses::default();
        for &address in &claim.wanted {
            if let Some(first) = addresses.same_family(address) {
                return Err(IpamError::SameFamily { first, second: address });
            }
            if let Some(reason) = unusable(address, claim) {
                return Err(IpamError::Unusable { address, reason });
            }
            let inside = claim.blocks.iter().any(|block| block.contains(&address));
            if !inside && !claim.foreign_addresses {
                return Err(IpamError::Foreign { address, blocks: claim.blocks.clone() });
            }
            addresses.set(address);
        }
        self.check_untaken(&addresses, replaces)?;
        Ok(addresses)
    }

    /// Refuses addresses that a row other than `replaces` has.
    ///
    /// # Errors
    /// [`IpamError::Taken`], with the holder's names.
    pub fn check_untaken(&self, addresses: &Addresses, replaces: Option<u64>) -> Result<(), IpamError> {
        for address in addresses.iter() {
            let holds =
                |row: &&Row<'_>| Some(row.id) != replaces && row.addresses.iter().any(|a| a == address);
            if let Some(row) = self.live().find(holds) {
                return Err(IpamError::Taken { address, holder: row.holder() });
            }
        }
        Ok(())
    }

    /// The next address of a family that has a block, and the block.
    fn next(
        &self,
        family: Family,
        claim: &Claim,
        replaces: Option<u64>,
        now: Now,
        v4: Option<Ipv4Addr>,
    ) -> Result<Option<(IpAddr, IpNet)>, IpamError> {
        let blocks: Vec<IpNet> = claim.blocks.iter().copied().filter(|block| family.has(block)).collect();
        if blocks.is_empty() {
            return Ok(None);
        }
        let spans = Spans::new(family, &blocks, &claim.ranges);
        if spans.is_empty() {
            return Err(IpamError::RangesOutside { family: family.name(), blocks });
        }
        let mut used = self.used(family, replaces, claim.reuse_delay, now);
        used.taken.extend(claim.reserved.iter().filter(|a| Family::of(**a) == family).map(|a| number(*a)));
        // The same place in both families' blocks is easier to read: 10.0.0.7 and fd00::7.
        let index = v4.filter(|_| family == Family::V6).and_then(|v4| {
            let block = claim.blocks.iter().find(|block| block.contains(&IpAddr::from(v4)))?;
            Some(number(v4.into()) - number(block.network()))
        });
        let preferred = index
            .into_iter()
            .flat_map(|index| blocks.iter().map(move |block| number(block.network()) | index));
        let Some(chosen) = choose(&spans, &used, self.cursor(family, &spans), preferred) else {
            let counts = blocks.iter().map(|block| self.count(block, claim.reuse_delay, now)).collect();
            return Err(IpamError::Exhausted { family: family.name(), counts });
        };
        let address = family.address(chosen);
        let block = blocks.into_iter().find(|block| block.contains(&address));
        Ok(block.map(|block| (address, block)))
    }

    fn used(&self, family: Family, replaces: Option<u64>, reuse_delay: Duration, now: Now) -> Used {
        let of = |addresses: Addresses| addresses.iter().find(|address| Family::of(*address) == family);
        let mut used = Used::default();
        for entry in &self.entries {
            let Some(address) = of(entry.row.addresses) else { continue };
            match entry.released {
                None if Some(entry.row.id) == replaces => (),
                None => used.taken.push(number(address)),
                Some(at) if rests(at, reuse_delay, now) => used.resting.push((number(address), at)),
                Some(_) => (),
            }
        }
        let earlier = self
            .resting
            .iter()
            .filter(|(address, at)| Family::of(*address) == family && rests(*at, reuse_delay, now));
        used.resting.extend(earlier.map(|(address, at)| (number(*address), *at)));
        used
    }

    /// How full a block is.
    #[must_use]
    pub fn count(&self, block: &IpNet, reuse_delay: Duration, now: Now) -> BlockCount {
        let family = Family::of(block.addr());
        let (first, last) = usable(block);
        let mut used = self.used(family, None, reuse_delay, now);
        let inside = |number: &u128| (first..=last).contains(number);
        used.taken.retain(inside);
        used.resting.retain(|(number, _)| inside(number) && !used.taken.contains(number));
        used.resting.sort_unstable();
        used.resting.dedup_by_key(|(number, _)| *number);
        BlockCount {
            block: *block,
            usable: (last - first).saturating_add(1),
            leased: used.taken.len() as u128,
            resting: used.resting.len() as u128,
        }
    }

    /// What must not be forgotten when the log is written anew: cursors, addresses that still rest, tombstones and,
    /// for `rows`, the rows themselves. Without them (another boot) every row's addresses begin to rest.
    pub fn rewrite(&self, out: &mut Writer, reuse_delay: Duration, now: Now, rows: Rows) {
        for (address, since) in &self.resting {
            if rests(*since, reuse_delay, now) {
                out.push(&Record::Resting { address: *address, since: *since });
            }
        }
        for entry in &self.entries {
            let since = match (entry.released, rows) {
                (Some(at), _) => at,
                (None, Rows::Drop) => now.unix_seconds,
                (None, Rows::Keep) => continue,
            };
            for address in entry.row.addresses.iter().filter(|_| rests(since, reuse_delay, now)) {
                out.push(&Record::Resting { address, since });
            }
        }
        if rows == Rows::Keep {
            let remembered =
                self.tombstones.iter().filter(|(_, at)| now.boot_time.since(*at) < TOMBSTONE_AGE);
            for (names, at) in remembered.rev().take(MOST_TOMBSTONES) {
                out.push(&Record::Tombstone { names: *names, at: *at });
            }
            for row in self.live() {
                out.push(&Record::Claim(*row));
            }
        }
        // Behind the rows, for a row moves the cursor of its block.
        let cursors = self.cursors();
        for (block, last) in &cursors[cursors.len().saturating_sub(MOST_CURSORS)..] {
            out.push(&Record::Cursor { block: *block, last: *last });
        }
    }
}

/// What becomes of the rows of a log that is written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// They stay.
    Keep,
    /// They end: their pods are gone, or the kernel says who is there.
    Drop,
}

/// Whether a row has what the claim asks for.
fn fits(row: &Row<'_>, claim: &Claim) -> bool {
    let asked = |family: Family| {
        claim.blocks.iter().any(|block| family.has(block))
            || claim.wanted.iter().any(|address| Family::of(*address) == family)
    };
    let has_wanted = claim.wanted.iter().all(|wanted| row.addresses.iter().any(|a| a == *wanted));
    let has_allowed = row.addresses.iter().all(|address| {
        claim.wanted.contains(&address) || claim.blocks.iter().any(|block| block.contains(&address))
    });
    has_wanted
        && has_allowed
        && row.addresses.v4.is_some() == asked(Family::V4)
        && row.addresses.v6.is_some() == asked(Family::V6)
}

/// Whether an address released `at` still rests. A time to come (the clock was set back) is taken as now.
fn rests(at: u64, reuse_delay: Duration, now: Now) -> bool {
    now.unix_seconds.saturating_sub(at) < reuse_delay.as_secs()
}

/// Why no pod can have an address.
fn unusable(address: IpAddr, claim: &Claim) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let edge = claim.blocks.iter().any(|block| {
        let (first, last) = usable(block);
        block.contains(&address) && !(first..=last).contains(&number(address))
    });
    let reasons = [
        (address.is_unspecified(), "unspecified"),
        (address.is_loopback(), "a loopback address"),
        (address.is_multicast(), "a multicast address"),
        (link_local, "link-local"),
        (address == IpAddr::from([255, 255, 255, 255]), "the broadcast address"),
        (claim.reserved.contains(&address), "the node's own"),
        (edge, "the first or last of its block"),
    ];
    reasons.iter().find(|(holds, _)| *holds).map(|(_, reason)| *reason)
}
