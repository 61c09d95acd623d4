//! Sets, next hops, kernel nexthops and kernel groups, and which of them are in the kernel.
//!
//! A *set* is what the RIB wants for a prefix. A *nexthop* is a member of a set; resolved, it leads to a
//! *hop* (gateway, interface), which is one nexthop object of the kernel. A *group* is a kernel group
//! object labelled with the set it serves; several groups may serve one set, because a group whose
//! routes all move to another set is relabelled and replaced rather than left. All in one file, although
//! it is long: each of the four counts its users among the others, and a reader needs them side by side.

use std::sync::Arc;
use std::time::Instant;

use bgp_speaker::rib::{FibNexthop, NexthopSet};
use ipnet::IpNet;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::slab::Slab;
use super::{Hop, Refusal};

/// Places of hops, sorted.
pub(super) type Members = SmallVec<[u32; 4]>;

/// First id of ours. High, so that people's small numbers do not collide; those that do are stepped over.
const FIRST_ID: u32 = 0x7470_0000;
const LAST_ID: u32 = 0x7fff_ffff;
/// Next hops without user that stay watched because they were reported unreachable.
const MOST_UNUSED_UNREACHABLE: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Not resolved yet.
    Unknown,
    /// Leads to this hop.
    Via(u32),
    /// Leads nowhere.
    Nowhere,
}

#[derive(Debug)]
pub(super) struct Nexthop {
    pub(super) reach: Reach,
    /// Not on link: a route of ours around it, of this length or longer, would be the way to it itself.
    pub(super) own_from: Option<u8>,
    /// What the RIB believes: reachable until told otherwise.
    pub(super) told: bool,
    /// Its session is gone, and the changes that follow from it are not all here.
    pub(super) down: bool,
}

#[derive(Debug)]
pub(super) struct HopState {
    pub(super) id: u32,
    pub(super) hop: Hop,
    pub(super) present: bool,
    /// Others changed the object: write it again.
    pub(super) altered: bool,
    /// Groups in the kernel that contain it.
    pub(super) refs: u32,
    /// Group requests of the batch in flight that name it.
    pub(super) incoming: u32,
    /// Part of the batch being made or in flight.
    pub(super) planned: bool,
    /// Refused by the kernel: not used before this time.
    pub(super) blocked: Option<Backoff>,
    /// Refusals in a row.
    pub(super) tries: u32,
}

impl HopState {
    pub(super) fn new(id: u32, hop: Hop, present: bool) -> Self {
        Self {
            id,
            hop,
            present,
            altered: false,
            refs: 0,
            incoming: 0,
            planned: false,
            blocked: None,
            tries: 0,
        }
    }
}

/// A refused object waiting for its next try.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    pub(super) until: Instant,
    pub(super) since: Instant,
    pub(super) refusal: Refusal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupState {
    /// Not yet in the kernel.
    New,
    /// In the kernel with exactly `members`.
    Live,
    /// Gone from the kernel, and its routes with it; prefixes still name it until they are heard of again.
    Dead,
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: u32,
    /// The set served; `None`: found at start and not claimed yet.
    pub(super) label: Option<u32>,
    pub(super) state: GroupState,
    pub(super) members: Members,
    /// Routes using it, by family: IPv4, IPv6.
    pub(super) users: [u32; 2],
    /// Routes of the batch in flight that will use it, and requests about it.
    pub(super) incoming: u32,
    /// A request about its members is part of the batch being made or in flight.
    pub(super) planned: bool,
    /// Dead when a complete list of wishes began: whoever still names it at the end is not wanted.
    pub(super) doomed: bool,
    pub(super) blocked: Option<Backoff>,
    /// Refusals in a row.
    pub(super) tries: u32,
}

impl Group {
    pub(super) fn new(id: u32, label: Option<u32>, state: GroupState) -> Self {
        Self {
            id,
            label,
            state,
            members: Members::new(),
            users: [0; 2],
            incoming: 0,
            planned: false,
            doomed: false,
            blocked: None,
            tries: 0,
        }
    }

    pub(super) fn users(&self) -> u32 {
        self.users[0] + self.users[1]
    }
}

#[derive(Debug)]
struct Set {
    nexthops: Arc<NexthopSet>,
    epoch: u64,
    members: Option<Members>,
}

#[derive(Debug, Default)]
pub(super) struct Groups {
    sets: Slab<Set>,
    by_nexthops: FxHashMap<Arc<NexthopSet>, u32>,
    pub(super) nexthops: FxHashMap<FibNexthop, Nexthop>,
    /// Not resolved yet, in order of appearance.
    pub(super) unresolved: Vec<FibNexthop>,
    pub(super) hops: Slab<HopState>,
    by_hop: FxHashMap<Hop, u32>,
    pub(super) groups: Slab<Group>,
    primary: FxHashMap<u32, u32>,
    pub(super) ids: Ids,
    /// Increases whenever a next hop's state changes: what a set leads to must be computed again.
    pub(super) epoch: u64,
    /// Groups whose members may differ from what their set leads to.
    pub(super) dirty: FxHashSet<u32>,
    /// Something may have lost its last user.
    pub(super) idle: bool,
    sets_after_cleaning: usize,
}

/// Ids of nexthop objects not in use by anyone.
#[derive(Debug, Default)]
pub(super) struct Ids {
    pub(super) taken: FxHashSet<u32>,
    next: u32,
}

impl Ids {
    pub(super) fn allocate(&mut self) -> u32 {
        loop {
            self.next = if (FIRST_ID..LAST_ID).contains(&self.next) { self.next + 1 } else { FIRST_ID };
            if self.taken.insert(self.next) {
                return self.next;
            }
        }
    }
}

impl Groups {
    /// The number of a set; an unseen next hop of it is queued for resolution.
    pub(super) fn intern(&mut self, nexthops: &Arc<NexthopSet>) -> u32 {
        if let Some(set) = self.by_nexthops.get(nexthops) {
            return *set;
        }
        for nexthop in nexthops.iter() {
            if !self.nexthops.contains_key(nexthop) {
                self.nexthops.insert(
                    *nexthop,
                    Nexthop { reach: Reach::Unknown, own_from: None, told: true, down: false },
                );
                self.unresolved.push(*nexthop);
            }
        }
        let set = self.sets.insert(Set { nexthops: Arc::clone(nexthops), epoch: u64::MAX, members: None });
        self.by_nexthops.insert(Arc::clone(nexthops), set);
        set
    }

    /// The next hop of a set that a route to `prefix` over it would make depend on itself: `prefix` is around it
    /// and more specific than what leads to it now.
    pub(super) fn within_itself(&self, set: u32, prefix: &IpNet) -> Option<FibNexthop> {
        let within = |nexthop: &&FibNexthop| {
            prefix.contains(&nexthop.address)
                && self
                    .nexthops
                    .get(nexthop)
                    .and_then(|state| state.own_from)
                    .is_some_and(|from| prefix.prefix_len() >= from)
        };
        self.sets.get(set)?.nexthops.iter().find(within).copied()
    }

    /// Whether a group serves a set with this next hop.
    pub(super) fn uses(&self, group: u32, nexthop: &FibNexthop) -> bool {
        let set = self.groups.get(group).and_then(|group| self.sets.get(group.label?));
        set.is_some_and(|set| set.nexthops.contains(nexthop))
    }

    /// The hops a set leads to now; `None`: nowhere, or not known yet.
    pub(super) fn effective(&mut self, set: u32) -> Option<Members> {
        let epoch = self.epoch;
        let known = self.sets.get(set)?;
        if known.epoch == epoch {
            return known.members.clone();
        }
        let members = self.compute(&Arc::clone(&known.nexthops));
        if let Some(known) = self.sets.get_mut(set) {
            known.epoch = epoch;
            known.members.clone_from(&members);
        }
        members
    }

    fn compute(&self, nexthops: &NexthopSet) -> Option<Members> {
        let mut members = Members::new();
        for nexthop in nexthops {
            let Some(state) = self.nexthops.get(nexthop) else { continue };
            match state.reach {
                Reach::Unknown => return None,
                Reach::Via(hop) if !state.down && self.hops.get(hop).is_some_and(|h| h.blocked.is_none()) => {
                    members.push(hop);
                }
                Reach::Via(_) | Reach::Nowhere => {}
            }
        }
        members.sort_unstable();
        members.dedup();
        (!members.is_empty()).then_some(members)
    }

    /// Something about next hops changed: sets are computed anew and labelled groups compared.
    pub(super) fn changed(&mut self) {
        self.epoch += 1;
        self.dirty.extend(
            self.groups.iter().filter(|(_, group)| group.state == GroupState::Live).map(|(place, _)| place),
        );
    }

    /// The place of a hop, with an id of its own if it is new.
    pub(super) fn hop(&mut self, hop: Hop) -> u32 {
        if let Some(place) = self.by_hop.get(&hop) {
            return *place;
        }
        let id = self.ids.allocate();
        self.add_hop(HopState::new(id, hop, false))
    }

    pub(super) fn add_hop(&mut self, state: HopState) -> u32 {
        let hop = state.hop;
        let place = self.hops.insert(state);
        // Of two equal objects found at start the first is used, the other goes when its groups have.
        self.by_hop.entry(hop).or_insert(place);
        place
    }

    pub(super) fn drop_hop(&mut self, place: u32) {
        if let Some(state) = self.hops.remove(place) {
            self.ids.taken.remove(&state.id);
            if self.by_hop.get(&state.hop) == Some(&place) {
                self.by_hop.remove(&state.hop);
            }
        }
    }

    pub(super) fn hop_with_id(&self, id: u32) -> Option<u32> {
        self.hops.iter().find(|(_, state)| state.id == id).map(|(place, _)| place)
    }

    pub(super) fn group_with_id(&self, id: u32) -> Option<u32> {
        self.groups.iter().find(|(_, group)| group.id == id).map(|(place, _)| place)
    }

    /// The group in the kernel that routes of `set` go to, if there is one.
    pub(super) fn live(&self, set: u32) -> Option<u32> {
        let serves = |group: &Group| group.label == Some(set) && group.state == GroupState::Live;
        self.primary.get(&set).copied().filter(|place| self.groups.get(*place).is_some_and(serves))
    }

    /// A group that serves `set`: an existing one, or a new one still to be created.
    pub(super) fn serving(&mut self, set: u32) -> u32 {
        let serves = |group: &Group| group.label == Some(set) && group.state != GroupState::Dead;
        if let Some(place) = self.primary.get(&set).copied()
            && self.groups.get(place).is_some_and(serves)
        {
            return place;
        }
        let other = self.groups.iter().find(|(_, group)| serves(group)).map(|(place, _)| place);
        let place = other.unwrap_or_else(|| {
            let id = self.ids.allocate();
            self.groups.insert(Group::new(id, Some(set), GroupState::New))
        });
        self.primary.insert(set, place);
        place
    }

    /// Gives a live group a new set to serve.
    pub(super) fn relabel(&mut self, place: u32, set: u32) {
        if let Some(group) = self.groups.get_mut(place) {
            group.label = Some(set);
            self.dirty.insert(place);
        }
    }

    pub(super) fn drop_group(&mut self, place: u32) {
        self.set_members(place, Members::new());
        if let Some(group) = self.groups.remove(place) {
            self.ids.taken.remove(&group.id);
            self.dirty.remove(&place);
            if let Some(set) = group.label
                && self.primary.get(&set) == Some(&place)
            {
                self.primary.remove(&set);
            }
        }
    }

    /// Notes what the kernel's group contains.
    pub(super) fn set_members(&mut self, place: u32, members: Members) {
        let Some(group) = self.groups.get_mut(place) else { return };
        for hop in &members {
            if let Some(state) = self.hops.get_mut(*hop) {
                state.refs += 1;
            }
        }
        for hop in std::mem::replace(&mut group.members, members) {
            if let Some(state) = self.hops.get_mut(hop) {
                state.refs = state.refs.saturating_sub(1);
                self.idle |= state.refs == 0;
            }
        }
    }

    /// Counts routes of `prefix`'s family on a group.
    pub(super) fn add_users(&mut self, place: u32, prefix: IpNet, by: i32) {
        if let Some(group) = self.groups.get_mut(place) {
            let family = usize::from(matches!(prefix, IpNet::V6(_)));
            group.users[family] = group.users[family].saturating_add_signed(by);
            self.idle |= group.users() == 0;
        }
    }

    /// Drops sets and next hops nobody names any more, now and then; `wanted` names the sets of pending
    /// prefixes. Returns next hops that were reported unreachable and are no longer watched.
    pub(super) fn clean(&mut self, wanted: impl Iterator<Item = u32>) -> Vec<FibNexthop> {
        if self.sets.len() < 2 * self.sets_after_cleaning + 64 {
            return Vec::new();
        }
        let mut used: FxHashSet<u32> = wanted.collect();
        used.extend(self.groups.iter().filter_map(|(_, group)| group.label));
        let unused: Vec<u32> =
            self.sets.iter().map(|(set, _)| set).filter(|set| !used.contains(set)).collect();
        for set in unused {
            if let Some(set) = self.sets.remove(set) {
                self.by_nexthops.remove(&set.nexthops);
            }
        }
        self.sets_after_cleaning = self.sets.len();
        self.primary.retain(|set, _| used.contains(set));
        let named: FxHashSet<FibNexthop> =
            self.sets.iter().flat_map(|(_, set)| set.nexthops.iter().copied()).collect();
        self.nexthops.retain(|nexthop, state| named.contains(nexthop) || !state.told || state.down);
        self.unresolved.retain(|nexthop| self.nexthops.contains_key(nexthop));
        self.idle = true;
        if self.nexthops.len() < named.len() + MOST_UNUSED_UNREACHABLE {
            return Vec::new();
        }
        let forgotten: Vec<FibNexthop> =
            self.nexthops.keys().filter(|nexthop| !named.contains(nexthop)).copied().collect();
        self.nexthops.retain(|nexthop, _| named.contains(nexthop));
        forgotten
    }

    /// Whether a next hop resolves to this hop.
    pub(super) fn resolved_to(&self, hop: u32) -> bool {
        self.nexthops.values().any(|nexthop| nexthop.reach == Reach::Via(hop))
    }
}
