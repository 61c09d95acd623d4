//! Adj-RIB-Out: one change log per update group and a cursor per peer.
//!
//! A prefix stands in the log once, at its latest change; what a peer is told is derived from the Loc-RIB when
//! its cursor passes, so a slow peer costs a cursor and never a queue (RFC 4271 section 9.2). A peer that joins
//! walks the table once and reads the log from where it ended then. Per prefix and group two numbers are
//! kept, whatever the count of peers: its place in the log, and from whom what the peers may hold came, so
//! that nobody is sent a withdrawal of what it was never told.

use std::collections::VecDeque;
use std::sync::Arc;

use ipnet::IpNet;
use smallvec::SmallVec;

use super::PrefixId;
use super::batch::OutboundBatch;
use super::export::GroupKey;
use super::path::{NOBODY, SEVERAL};
use super::peer::FamilySet;

/// A log entry whose prefix changed again later.
const MOVED: u32 = u32::MAX;
/// Batches kept for other peers of the group that come by the same place.
const CACHED: usize = 8;
/// Log entries left behind by prefixes that moved are squeezed out above this many.
const SQUEEZE: usize = 1024;

/// The peers that are told the same, and what they must still be told.
pub(crate) struct UpdateGroup {
    pub(crate) key: GroupKey,
    pub(crate) members: Vec<Member>,
    log: VecDeque<LogEntry>,
    /// Number of the log's first entry.
    base: u64,
    moved: usize,
    /// By prefix: low bits of the number of its log entry; meaningless unless that entry names it.
    places: Vec<u32>,
    /// By prefix: from whom came what the peers hold, once they have read the log.
    held: Vec<u16>,
    cache: VecDeque<CachedBatch>,
}

struct LogEntry {
    prefix: u32,
    /// From whom came what a peer may hold that has not read this entry.
    before: u16,
}

/// A peer of the group.
pub(crate) struct Member {
    pub(crate) peer: u16,
    /// Next log entry to read.
    pub(crate) log: u64,
    /// Walks of the table still to finish; the log waits for them.
    pub(crate) walks: VecDeque<Walk>,
}

/// One walk of the whole table for one peer.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    pub(crate) families: FamilySet,
    /// Next prefix.
    pub(crate) next: u32,
    /// End of the walk: prefixes above were added later and are in the log.
    pub(crate) until: u32,
    /// Withdrawn first: told under another group's rules, not told under this one's.
    pub(crate) owed: Vec<IpNet>,
    pub(crate) begin_marked: bool,
    /// Nothing was told in this session before it.
    pub(crate) fresh: bool,
    pub(crate) end: WalkEnd,
}

/// What is said when a walk is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WalkEnd {
    /// Nothing.
    #[default]
    Silent,
    /// End-of-RIB.
    EndOfRib,
    /// Beginning and End of Route Refresh.
    Refresh,
}

/// Where a batch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A log entry.
    Log(u64),
    /// A prefix, in a walk of these families.
    Walk(u32, FamilySet),
}

/// A batch as it was made for one peer, good for all others that are not [`CachedBatch::involved`] in it.
pub(crate) struct CachedBatch {
    pub(crate) from: Place,
    pub(crate) to: Place,
    pub(crate) updates: Arc<OutboundBatch>,
    pub(crate) involved: Involved,
}

/// Peers for whom a batch looks different: their own address is a next hop in it, or routes in it are meant for some only.
#[derive(Debug, Default)]
pub(crate) struct Involved {
    peers: SmallVec<[u16; 4]>,
    /// Too many to list, or routes meant for some peers only.
    everybody: bool,
}

impl Involved {
    pub(crate) fn add(&mut self, peer: u16) {
        if self.peers.len() == 16 {
            self.everybody = true;
        } else {
            self.peers.push(peer);
        }
    }
    pub(crate) fn add_everybody(&mut self) {
        self.everybody = true;
    }
    pub(crate) fn contains(&self, peer: u16) -> bool {
        self.everybody || self.peers.contains(&peer)
    }
}

/// From whom came what was told first as the one, then as the other.
fn merge(a: u16, b: u16) -> u16 {
    match (a, b) {
        (NOBODY, one) | (one, NOBODY) => one,
        (a, b) if a == b => a,
        _ => SEVERAL,
    }
}

impl UpdateGroup {
    pub(crate) fn new(key: GroupKey) -> Self {
        Self {
            key,
            members: Vec::new(),
            log: VecDeque::new(),
            base: 0,
            moved: 0,
            places: Vec::new(),
            held: Vec::new(),
            cache: VecDeque::new(),
        }
    }

    pub(crate) fn log_end(&self) -> u64 {
        self.base + self.log.len() as u64
    }

    /// From whom comes what the peers hold of this prefix, or will hold.
    pub(crate) fn held(&self, id: PrefixId) -> u16 {
        self.held.get(id.0 as usize).copied().unwrap_or(NOBODY)
    }

    /// As [`UpdateGroup::held`], for a peer whose cursor may be anywhere.
    pub(crate) fn held_by_anyone(&self, id: PrefixId) -> u16 {
        let before = self.place(id).and_then(|at| self.log.get(at)).map_or(NOBODY, |entry| entry.before);
        merge(before, self.held(id))
    }

    /// At the making of the group: what its peers will be told by their walks.
    pub(crate) fn preset(&mut self, id: PrefixId, source: u16) {
        if source != NOBODY {
            self.grow(id);
            self.held[id.0 as usize] = source;
        }
    }

    /// The prefix is now announced from `source`, [`NOBODY`]: not at all. Goes to the end of the log.
    pub(crate) fn mark(&mut self, id: PrefixId, source: u16) {
        let before = self.unmark(id);
        if before == NOBODY && source == NOBODY {
            return;
        }
        self.grow(id);
        self.held[id.0 as usize] = source;
        self.places[id.0 as usize] = self.log_end() as u32;
        self.log.push_back(LogEntry { prefix: id.0, before });
        if self.moved > SQUEEZE && self.moved > self.log.len() / 2 {
            self.squeeze();
        }
    }

    /// Takes the prefix out of the log: nobody is told about it for now. Returns from whom came what any peer
    /// may hold.
    pub(crate) fn unmark(&mut self, id: PrefixId) -> u16 {
        let held = self.held_by_anyone(id);
        self.forget_batches_with(id);
        if let Some(entry) = self.place(id).and_then(|at| self.log.get_mut(at)) {
            entry.prefix = MOVED;
            self.moved += 1;
            self.held[id.0 as usize] = held;
        }
        held
    }

    pub(crate) fn logged(&self, id: PrefixId) -> bool {
        self.place(id).is_some()
    }

    /// The prefix of a log entry, unless it moved on, with what a peer that reads it may hold.
    pub(crate) fn read(&self, number: u64) -> Option<(PrefixId, u16)> {
        let entry = self.log.get(usize::try_from(number.checked_sub(self.base)?).ok()?)?;
        (entry.prefix != MOVED).then_some((PrefixId(entry.prefix), entry.before))
    }

    /// Drops what every member has read; returns the prefixes that left the log.
    pub(crate) fn compact(&mut self) -> Vec<PrefixId> {
        let read = self.members.iter().map(|member| member.log).min().unwrap_or(self.log_end());
        let count = usize::try_from(read - self.base).unwrap_or(0).min(self.log.len());
        self.base += count as u64;
        let base = self.base;
        self.cache.retain(|batch| !matches!(batch.from, Place::Log(from) if from < base));
        let gone: Vec<_> = self.log.drain(..count).map(|entry| entry.prefix).collect();
        self.moved -= gone.iter().filter(|prefix| **prefix == MOVED).count();
        if self.log.is_empty() {
            self.log.shrink_to(SQUEEZE);
        }
        gone.into_iter().filter(|prefix| *prefix != MOVED).map(PrefixId).collect()
    }

    /// Takes out the entries of prefixes that moved: a peer that reads nothing must not make the log grow.
    fn squeeze(&mut self) {
        let mut live = 0;
        let live_before: Vec<u64> = self
            .log
            .iter()
            .map(|entry| {
                let before = live;
                live += u64::from(entry.prefix != MOVED);
                before
            })
            .collect();
        for member in &mut self.members {
            let read = usize::try_from(member.log - self.base).unwrap_or(usize::MAX);
            member.log = self.base + live_before.get(read).copied().unwrap_or(live);
        }
        self.log.retain(|entry| entry.prefix != MOVED);
        for (at, entry) in self.log.iter().enumerate() {
            self.places[entry.prefix as usize] = (self.base + at as u64) as u32;
        }
        self.moved = 0;
        self.cache.clear();
    }

    fn place(&self, id: PrefixId) -> Option<usize> {
        let at = self.places.get(id.0 as usize)?.wrapping_sub(self.base as u32) as usize;
        self.log.get(at).is_some_and(|entry| entry.prefix == id.0).then_some(at)
    }

    fn grow(&mut self, id: PrefixId) {
        let wanted = id.0 as usize + 1;
        if self.held.len() < wanted {
            self.held.resize(wanted, NOBODY);
            self.places.resize(wanted, 0);
        }
    }

    /// Gives back memory of prefixes at and above `end`, which are no longer in use.
    pub(crate) fn shrink(&mut self, end: u32) {
        let end = end as usize;
        if self.held.len() > 2 * end + SQUEEZE {
            self.held.truncate(end);
            self.places.truncate(end);
            self.held.shrink_to_fit();
            self.places.shrink_to_fit();
        }
    }

    pub(crate) fn member(&mut self, peer: u16) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.peer == peer)
    }

    /// A batch made for another peer that is right for this one too.
    pub(crate) fn cached(&self, from: Place, peer: u16) -> Option<&CachedBatch> {
        self.cache.iter().find(|batch| batch.from == from && !batch.involved.contains(peer))
    }

    pub(crate) fn keep(&mut self, batch: CachedBatch) {
        if self.members.len() > 1 {
            if self.cache.len() == CACHED {
                self.cache.pop_front();
            }
            self.cache.push_back(batch);
        }
    }

    /// Batches that say something of this prefix: it is no longer so.
    fn forget_batches_with(&mut self, id: PrefixId) {
        if self.cache.is_empty() {
            return;
        }
        let number = self.place(id).map(|at| self.base + at as u64);
        self.cache.retain(|batch| match (batch.from, batch.to) {
            (Place::Log(from), Place::Log(to)) => !number.is_some_and(|number| (from..to).contains(&number)),
            (Place::Walk(from, _), Place::Walk(to, _)) => !(from..to).contains(&id.0),
            _ => false,
        });
    }

    /// All members are at the end: nobody comes by an old place again.
    pub(crate) fn forget_batches(&mut self) {
        let end = self.log_end();
        if self.members.iter().all(|member| member.log == end && member.walks.is_empty()) {
            self.cache.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::peer::PeerSettings;
    use super::super::peer::{PeerState, tests::session};
    use super::*;
    use api::desired::NextHopMode;

    fn group() -> UpdateGroup {
        let settings = PeerSettings {
            name: String::new(),
            allow_local_as: 0,
            enforce_first_as: true,
            next_hop: NextHopMode::Auto,
            families: Vec::new(),
        };
        let mut group =
            UpdateGroup::new(GroupKey::new(&PeerState::new(settings), &session("10.0.0.1", "10.0.0.2")));
        group.members.push(Member { peer: 0, log: 0, walks: VecDeque::new() });
        group
    }

    fn read_all(group: &UpdateGroup) -> Vec<(u32, u16)> {
        (group.base..group.log_end())
            .filter_map(|at| group.read(at))
            .map(|(id, before)| (id.0, before))
            .collect()
    }

    #[test]
    fn a_prefix_stands_once_at_its_latest_change() {
        let mut group = group();
        for (id, source) in [(1, 5), (2, 5), (1, 5), (3, NOBODY)] {
            group.mark(PrefixId(id), source);
        }
        assert_eq!(read_all(&group), [(2, NOBODY), (1, 5)], "3 was never announced and is not withdrawn");
        group.members[0].log = group.log_end();
        assert_eq!(group.compact(), [PrefixId(2), PrefixId(1)]);
        group.mark(PrefixId(1), NOBODY);
        assert_eq!(read_all(&group), [(1, 5)]);
        group.mark(PrefixId(1), 6);
        assert_eq!(read_all(&group), [(1, 5)]);
        group.mark(PrefixId(1), NOBODY);
        assert_eq!(read_all(&group), [(1, SEVERAL)], "5's route or 6's, whoever read how far");
    }

    #[test]
    fn a_flapping_prefix_does_not_grow_the_log_of_a_stuck_peer() {
        let mut group = group();
        for round in 0..100_000u32 {
            group.mark(PrefixId(round % 10), 5 + (round % 2) as u16);
        }
        assert!(group.log.len() <= 2 * SQUEEZE + 2, "{}", group.log.len());
        assert_eq!(read_all(&group).len(), 10);
    }

    #[test]
    fn cursors_stay_at_their_entry_when_the_log_is_squeezed() {
        let mut group = group();
        for id in 0..4 {
            group.mark(PrefixId(id), 5);
        }
        group.members[0].log = 3;
        for _ in 0..=2 * SQUEEZE {
            group.mark(PrefixId(0), 5);
        }
        let left: Vec<_> = (group.members[0].log..group.log_end())
            .filter_map(|at| group.read(at))
            .map(|(id, _)| id.0)
            .collect();
        assert_eq!(left, [3, 0]);
    }
}
