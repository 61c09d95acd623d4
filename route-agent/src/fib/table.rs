//! Which group each prefix uses: four octets a prefix, and an entry with the prefix only while something
//! about it is still to be done.

use std::collections::VecDeque;

use bgp_speaker::rib::PrefixId;
use ipnet::IpNet;
use rustc_hash::FxHashMap;

use super::slab::Slab;

/// No route, or no wish for one.
pub(super) const NONE: u32 = u32::MAX >> 1;
/// Instead of a group: a route of ours that points to something we do not manage. Replaced in place.
pub(super) const PLAIN: u32 = NONE - 1;
const PENDING: u32 = 1 << 31;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// In the queue, once.
    Queued,
    /// Part of the batch being written.
    InFlight,
    /// Its next hops lead nowhere at present.
    Waiting,
    /// Forwards as wanted already; moves to its own group once all has settled.
    Deferred,
    /// Refused; tried again later.
    Failed,
}

/// A prefix with something to do.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) prefix: IpNet,
    pub(super) id: PrefixId,
    /// The set wanted, or [`NONE`].
    pub(super) want: u32,
    /// The group in use, [`PLAIN`] or [`NONE`].
    pub(super) installed: u32,
    pub(super) state: State,
    /// The wish changed while in flight (and the entry is in the queue).
    pub(super) again: bool,
    /// Others took the route away while in flight: what they left, [`NONE`] or [`PLAIN`].
    pub(super) lost: Option<u32>,
    /// The RIB was told, or will be, that it is not in the kernel as wanted.
    pub(super) reported: bool,
}

/// What is known of a prefix.
pub(super) enum Entry {
    /// Nothing to do: the group in use, or [`NONE`].
    Settled(u32),
    /// Something to do: the number of the entry.
    Pending(u32),
}

#[derive(Debug, Default)]
pub(super) struct Table {
    /// By prefix id: a group, or with the highest bit set the number of an entry of `pending`.
    installed: Vec<u32>,
    pending: Slab<Pending>,
    queue: VecDeque<u32>,
    /// How many pending prefixes leave group .0 for set .1.
    moves: FxHashMap<(u32, u32), u32>,
    pushed: u64,
    popped: u64,
}

impl Table {
    pub(super) fn entry(&self, id: PrefixId) -> Entry {
        match self.installed.get(id.0 as usize).copied().unwrap_or(NONE) {
            value if value & PENDING != 0 => Entry::Pending(value & !PENDING),
            group => Entry::Settled(group),
        }
    }

    fn set(&mut self, id: PrefixId, value: u32) {
        let place = id.0 as usize;
        if place >= self.installed.len() {
            if value == NONE {
                return;
            }
            self.installed.resize(place + 1, NONE);
        }
        self.installed[place] = value;
    }

    /// Notes the group of a prefix that has nothing to do.
    pub(super) fn settle(&mut self, id: PrefixId, group: u32) {
        self.set(id, group);
    }

    /// Makes a settled prefix pending and queues it.
    pub(super) fn open(&mut self, id: PrefixId, prefix: IpNet, installed: u32, want: u32) {
        let entry = Pending {
            prefix,
            id,
            want,
            installed,
            state: State::Queued,
            again: false,
            lost: None,
            reported: false,
        };
        let slot = self.pending.insert(entry);
        self.set(id, slot | PENDING);
        self.count(installed, want, 1);
        self.push(slot);
    }

    /// Ends a pending entry; its group becomes the prefix's settled one.
    pub(super) fn close(&mut self, slot: u32) {
        if let Some(entry) = self.pending.remove(slot) {
            self.count(entry.installed, entry.want, -1);
            self.set(entry.id, entry.installed);
        }
    }

    pub(super) fn pending(&self, slot: u32) -> Option<&Pending> {
        self.pending.get(slot)
    }

    pub(super) fn pending_mut(&mut self, slot: u32) -> Option<&mut Pending> {
        self.pending.get_mut(slot)
    }

    pub(super) fn all_pending(&self) -> impl Iterator<Item = (u32, &Pending)> {
        self.pending.iter()
    }

    pub(super) fn set_want(&mut self, slot: u32, want: u32) {
        let Some(entry) = self.pending.get_mut(slot) else { return };
        let (installed, old) = (entry.installed, std::mem::replace(&mut entry.want, want));
        self.count(installed, old, -1);
        self.count(installed, want, 1);
    }

    /// Changes the group of a pending prefix; returns the former one.
    pub(super) fn set_installed(&mut self, slot: u32, group: u32) -> u32 {
        let Some(entry) = self.pending.get_mut(slot) else { return NONE };
        let (want, old) = (entry.want, std::mem::replace(&mut entry.installed, group));
        self.count(old, want, -1);
        self.count(group, want, 1);
        old
    }

    /// Queues a parked entry, or one in flight for another round.
    pub(super) fn requeue(&mut self, slot: u32) {
        let Some(entry) = self.pending.get_mut(slot) else { return };
        match entry.state {
            State::Queued => return,
            State::InFlight if entry.again => return,
            State::InFlight => entry.again = true,
            State::Waiting | State::Deferred | State::Failed => entry.state = State::Queued,
        }
        self.push(slot);
    }

    /// Queues all entries in `state`.
    pub(super) fn requeue_all(&mut self, state: State) {
        let slots: Vec<u32> =
            self.pending.iter().filter(|(_, entry)| entry.state == state).map(|(slot, _)| slot).collect();
        for slot in slots {
            self.requeue(slot);
        }
    }

    /// Takes an entry's turn back after its request, whose outcome is known now.
    pub(super) fn landed(&mut self, slot: u32, otherwise: State) {
        if let Some(entry) = self.pending.get_mut(slot) {
            entry.state = if std::mem::take(&mut entry.again) { State::Queued } else { otherwise };
        }
    }

    fn push(&mut self, slot: u32) {
        self.queue.push_back(slot);
        self.pushed += 1;
    }

    /// The entry that [`Table::pop`] takes next.
    pub(super) fn front(&self) -> Option<u32> {
        self.queue.front().copied()
    }

    /// The next entry in order of arrival.
    pub(super) fn pop(&mut self) -> Option<u32> {
        let slot = self.queue.pop_front();
        match slot {
            Some(_) => self.popped += 1,
            None => self.queue.shrink_to(1024),
        }
        slot
    }

    pub(super) fn queue_is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// Position of the newest entry of the queue; reached when [`Table::popped`] is no less.
    pub(super) fn pushed(&self) -> u64 {
        self.pushed
    }

    pub(super) fn popped(&self) -> u64 {
        self.popped
    }

    pub(super) fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// How many prefixes leave `group` for `set`.
    pub(super) fn moving(&self, group: u32, set: u32) -> u32 {
        self.moves.get(&(group, set)).copied().unwrap_or(0)
    }

    /// Whether any prefix is about to leave `group`.
    pub(super) fn leaving(&self, group: u32) -> bool {
        self.moves.keys().any(|(from, _)| *from == group)
    }

    fn count(&mut self, group: u32, set: u32, by: i32) {
        if group == NONE || group == PLAIN {
            return;
        }
        let count = self.moves.entry((group, set)).or_insert(0);
        *count = count.saturating_add_signed(by);
        if *count == 0 {
            self.moves.remove(&(group, set));
        }
    }

    /// Forgets the groups of settled prefixes for which `gone` holds.
    pub(super) fn forget(&mut self, gone: impl Fn(u32) -> bool) {
        for value in &mut self.installed {
            if *value & PENDING == 0 && *value != NONE && gone(*value) {
                *value = NONE;
            }
        }
    }
}
