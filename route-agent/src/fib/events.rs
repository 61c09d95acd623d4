//! What happens to our objects without us: links that lose their carrier, people who delete things.
//!
//! On carrier loss the kernel deletes the nexthop objects of the link, takes them out of groups, deletes
//! groups left empty and the routes on them, all without a notification. So the loss is mirrored here
//! from the link's own notification. Routes that went with a group are known by prefix id only; their
//! prefixes come from the RIB, with its reaction or on [`Note::Resend`].

use std::time::Instant;

use ipnet::IpNet;

use super::groups::{GroupState, Members};
use super::plan::Target;
use super::status::Repair;
use super::table::{NONE, PLAIN, State};
use super::{Fib, Note};
use crate::kernel::{KernelRoute, NexthopObject, RTN_BLACKHOLE, RTN_UNICAST};

/// How many repairs are remembered with their story.
const REPAIRS_KEPT: usize = 32;
/// More prefixes taken away at once than are worth following one by one.
const MOST_SUSPECTS: usize = 65_536;

impl Fib {
    /// A link went down, lost its carrier or was deleted.
    pub fn link_lost(&mut self, ifindex: u32) {
        self.verify_in_flight();
        let lost: Vec<u32> = self
            .groups
            .hops
            .iter()
            .filter(|(_, hop)| hop.hop.ifindex == ifindex && hop.present)
            .map(|(place, _)| place)
            .collect();
        for place in lost {
            self.hop_lost(place);
        }
    }

    /// Links or addresses changed for the better: what was refused is tried again now.
    pub fn try_again(&mut self, now: Instant) {
        for (_, hop) in self.groups.hops.iter_mut() {
            hop.tries = 0;
            if let Some(blocked) = &mut hop.blocked {
                blocked.until = now;
            }
        }
        for (_, group) in self.groups.groups.iter_mut() {
            group.tries = 0;
            if let Some(blocked) = &mut group.blocked {
                blocked.until = now;
            }
        }
    }

    pub(super) fn hop_lost(&mut self, place: u32) {
        let Some(hop) = self.groups.hops.get_mut(place) else { return };
        hop.present = false;
        hop.altered = false;
        // Of a group with a request in flight nothing can be said before it has landed: it is verified then.
        let containing: Vec<(u32, Members)> = self
            .groups
            .groups
            .iter()
            .filter(|(_, group)| !group.planned && group.members.contains(&place))
            .map(|(at, group)| (at, group.members.iter().copied().filter(|hop| *hop != place).collect()))
            .collect();
        for (group, rest) in containing {
            if rest.is_empty() {
                self.group_died(group);
            } else {
                self.groups.set_members(group, rest);
                self.groups.dirty.insert(group);
            }
        }
        self.groups.idle = true;
    }

    /// A group is gone, and the kernel deleted its routes.
    pub(super) fn group_died(&mut self, place: u32) {
        self.groups.set_members(place, Members::new());
        let Some(group) = self.groups.groups.get_mut(place) else { return };
        if group.state == GroupState::New {
            return;
        }
        (group.state, group.blocked) = (GroupState::Dead, None);
        self.groups.dirty.remove(&place);
        let mut gone: Vec<IpNet> = Vec::new();
        self.adopted.retain(|prefix, group| *group != place || (gone.push(*prefix), false).1);
        self.former.retain(|stray| stray.group != place || (gone.push(stray.key.prefix), false).1);
        self.strays.retain(|stray| stray.group != place || (gone.push(stray.key.prefix), false).1);
        self.stray_retry.retain(|(_, stray)| stray.group != place || (gone.push(stray.key.prefix), false).1);
        for prefix in gone {
            self.groups.add_users(place, prefix, -1);
        }
        self.groups.idle = true;
    }

    /// Someone else deleted a route.
    pub fn route_gone(&mut self, now: Instant, route: &KernelRoute, who: &str) {
        if self.is_blackhole(route) {
            if self.blackholes.lost(route.prefix) {
                self.repair(now, format!("blackhole {}", route.prefix), who);
            }
            return;
        }
        if route.table != self.install.table || route.metric != self.install.metric || route.tos != 0 {
            return;
        }
        if route.protocol != self.install.protocol {
            self.foreign_gone(route.prefix);
        } else if let Some(group) = self.adopted.remove(&route.prefix) {
            self.add_users(group, route.prefix, -1);
        } else {
            self.suspect(route.prefix, NONE, who);
        }
    }

    /// Someone else wrote a route in the place of another.
    pub fn route_replaced(&mut self, now: Instant, route: &KernelRoute, who: &str) {
        let ours = self.install.table == route.table && self.install.metric == route.metric && route.tos == 0;
        if ours {
            // With our protocol it stays ours and is replaced in turn; any other is foreign and stays.
            let left = if route.protocol == self.install.protocol { PLAIN } else { NONE };
            if let Some(group) = self.adopted.remove(&route.prefix) {
                self.add_users(group, route.prefix, -1);
                if left == PLAIN {
                    self.add_users(PLAIN, route.prefix, 1);
                    self.adopted.insert(route.prefix, PLAIN);
                }
            } else {
                self.suspect(route.prefix, left, who);
            }
        } else if self.blackholes.is_at(route) && self.blackholes.lost(route.prefix) {
            self.repair(now, format!("blackhole {}", route.prefix), who);
        }
    }

    fn is_blackhole(&self, route: &KernelRoute) -> bool {
        route.kind == RTN_BLACKHOLE
            && route.protocol == self.install.local_protocol
            && self.blackholes.is_at(route)
    }

    fn suspect(&mut self, prefix: IpNet, left: u32, who: &str) {
        if self.suspects.len() >= MOST_SUSPECTS {
            self.stalled = true;
            self.notes.push(Note::Resync);
            return;
        }
        self.suspects.insert(prefix, (left, who.to_owned()));
        self.notes.push(Note::Reassert(prefix));
    }

    /// The route in our way may be the one that went.
    fn foreign_gone(&mut self, prefix: IpNet) {
        let waiting: Vec<u32> = self
            .failures
            .iter()
            .filter(|(_, failure)| failure.foreign.is_some())
            .filter(|(slot, _)| self.table.pending(**slot).is_some_and(|entry| entry.prefix == prefix))
            .map(|(slot, _)| *slot)
            .collect();
        for slot in waiting {
            self.table.requeue(slot);
        }
    }

    /// The routes that have exactly this prefix, as an answer to [`Note::Inspect`].
    pub fn inspected(&mut self, prefix: IpNet, route: Option<&KernelRoute>) {
        let slots: Vec<u32> = self
            .failures
            .iter()
            .filter(|(_, failure)| failure.foreign.is_some())
            .filter(|(slot, _)| self.table.pending(**slot).is_some_and(|entry| entry.prefix == prefix))
            .map(|(slot, _)| *slot)
            .collect();
        for slot in slots {
            let Some(route) = route.filter(|route| {
                route.prefix == prefix
                    && route.table == self.install.table
                    && route.metric == self.install.metric
            }) else {
                continue;
            };
            if self.is_stray(prefix) {
                continue; // On its way out: the next try finds the place free.
            }
            if route.protocol == self.install.protocol && route.kind == RTN_UNICAST {
                // A leftover of ours: replaced in place.
                self.clear_failure(slot);
                self.table.set_installed(slot, PLAIN);
                self.add_users(PLAIN, prefix, 1);
                self.table.requeue(slot);
            } else if let Some(failure) = self.failures.get_mut(&slot) {
                failure.foreign = Some(Some(route.protocol));
            }
        }
    }

    /// What is in flight may have been written before or after an event: compared once it has landed.
    fn verify_in_flight(&mut self) {
        if !self.in_flight.is_empty() {
            self.notes.push(Note::Verify);
        }
    }

    fn is_stray(&self, prefix: IpNet) -> bool {
        let targets = self.in_flight.iter().flat_map(|batch| &batch.targets);
        let flying = targets.filter_map(|target| match target {
            Target::Stray(stray) => Some(stray),
            _ => None,
        });
        let retried = self.stray_retry.iter().map(|(_, stray)| stray);
        self.strays.iter().chain(retried).chain(flying).any(|stray| stray.key == self.key(prefix))
    }

    /// Someone else deleted a nexthop object or group.
    pub fn nexthop_gone(&mut self, now: Instant, id: u32, who: &str) {
        self.verify_in_flight();
        if let Some(hop) = self.groups.hop_with_id(id) {
            if self.groups.hops.get(hop).is_some_and(|hop| hop.present) {
                self.repair(now, format!("nexthop {id}"), who);
                self.hop_lost(hop);
            }
        } else if let Some(group) = self.groups.group_with_id(id) {
            if self
                .groups
                .groups
                .get(group)
                .is_some_and(|group| group.state == GroupState::Live && !group.planned)
            {
                self.repair(now, format!("nexthop group {id}"), who);
                self.group_died(group);
            }
        } else {
            self.groups.ids.taken.remove(&id);
        }
    }

    /// Someone else made or changed a nexthop object or group.
    pub fn nexthop_changed(&mut self, now: Instant, object: &NexthopObject, who: &str) {
        self.verify_in_flight();
        if !self.differs(object) {
            return;
        }
        self.repair(now, format!("nexthop {}", object.id), who);
        self.take_over(object);
    }

    /// Whether an object of ours is not as we made it. Learns ids of others on the way.
    fn differs(&mut self, object: &NexthopObject) -> bool {
        if let Some(hop) = self.groups.hop_with_id(object.id).and_then(|place| self.groups.hops.get(place)) {
            return hop.present && object.hop != Some(hop.hop);
        }
        if let Some(group) = self.groups.group_with_id(object.id).and_then(|at| self.groups.groups.get(at)) {
            return group.state == GroupState::Live
                && !group.planned
                && self.members(object) != Some(group.members.clone());
        }
        self.groups.ids.taken.insert(object.id);
        false
    }

    /// The members of a kernel group as places; `None`: some are not ours.
    pub(super) fn members(&self, object: &NexthopObject) -> Option<Members> {
        let mut members: Members =
            object.members.iter().map(|id| self.groups.hop_with_id(*id)).collect::<Option<_>>()?;
        members.sort_unstable();
        Some(members)
    }

    /// Notes what an object of ours contains, to be corrected with the next plan.
    fn take_over(&mut self, object: &NexthopObject) {
        if let Some(place) = self.groups.hop_with_id(object.id) {
            if let Some(hop) = self.groups.hops.get_mut(place) {
                hop.altered = true;
            }
        } else if let Some(place) = self.groups.group_with_id(object.id) {
            // Unknown members count as none: the comparison with what is wanted then fails, as it must.
            let members = self.members(object).unwrap_or_default();
            self.groups.set_members(place, members);
            self.groups.dirty.insert(place);
        }
    }

    /// Compares a dump of nexthop objects, read while no batch was in flight, with what is thought to be
    /// there. Returns the number of differences, all of which will be repaired.
    pub fn reconcile(&mut self, objects: &[NexthopObject]) -> usize {
        let mut differences = 0;
        let present: rustc_hash::FxHashSet<u32> = objects.iter().map(|object| object.id).collect();
        let lost_hops: Vec<u32> = self
            .groups
            .hops
            .iter()
            .filter(|(_, hop)| hop.present && !present.contains(&hop.id))
            .map(|(place, _)| place)
            .collect();
        for place in lost_hops {
            differences += 1;
            self.hop_lost(place);
        }
        let lost_groups: Vec<u32> = self
            .groups
            .groups
            .iter()
            .filter(|(_, group)| group.state == GroupState::Live && !present.contains(&group.id))
            .map(|(place, _)| place)
            .collect();
        for place in lost_groups {
            differences += 1;
            self.group_died(place);
        }
        for object in objects {
            if self.differs(object) {
                differences += 1;
                self.take_over(object);
            }
        }
        self.drift = differences as u64;
        differences
    }

    pub(super) fn repair(&mut self, now: Instant, what: String, who: &str) {
        self.repaired += 1;
        if self.repairs.len() == REPAIRS_KEPT {
            self.repairs.pop_front();
        }
        self.repairs.push_back(Repair { at: now, what, who: who.to_owned() });
    }

    /// How many prefixes wait for a next hop.
    pub(super) fn waiting(&self) -> usize {
        self.table.all_pending().filter(|(_, entry)| entry.state == State::Waiting).count()
    }
}
