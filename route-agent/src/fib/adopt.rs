//! Taking over what an earlier run, or an earlier picture, left in the kernel.
//!
//! Routes found are kept by prefix until the RIB wants them: then they are claimed, without a message if
//! their group leads where it should, by a replacement in place otherwise. What nobody claims goes with
//! the sweep: routes first, then groups, then nexthops.

use api::desired::Install;
use rustc_hash::{FxHashMap, FxHashSet};

use super::groups::{Group, GroupState, HopState, Nexthop, Reach};
use super::local::Blackholes;
use super::table::PLAIN;
use super::{Fib, Note, Resend, RouteKey, Stray};
use crate::kernel::dump::Snapshot;
use crate::kernel::{KernelRoute, RTN_BLACKHOLE};

impl Fib {
    /// Takes in what a dump found. For a [`Fib`] that has seen no change yet.
    pub fn adopt(&mut self, snapshot: &Snapshot) {
        let protocol = self.install.protocol;
        let mut by_id: FxHashMap<u32, u32> = FxHashMap::default();
        for object in &snapshot.nexthops {
            self.groups.ids.taken.insert(object.id);
            match object.hop {
                Some(hop) if object.protocol == protocol => {
                    self.groups.add_hop(HopState::new(object.id, hop, true));
                }
                None if object.protocol == protocol && object.members.is_empty() => {
                    self.leftovers.push(object.id)
                }
                // Made under a number no longer used; routes of ours that are on it are replaced or swept.
                _ if object.protocol != protocol && self.numbers.is_learned(object.protocol) => {
                    self.leftovers.push(object.id)
                }
                _ => {}
            }
        }
        for object in &snapshot.nexthops {
            if object.protocol != protocol || object.members.is_empty() {
                continue;
            }
            match self.members(object) {
                Some(members) => {
                    let place = self.groups.groups.insert(Group::new(object.id, None, GroupState::Live));
                    self.groups.set_members(place, members);
                    by_id.insert(object.id, place);
                }
                // With members of others in it, it is not one we would make.
                None => self.leftovers.push(object.id),
            }
        }
        let mut former = FxHashSet::default();
        for route in &snapshot.routes {
            self.adopt_route(route, &by_id, &mut former);
        }
        self.groups.idle = true;
    }

    /// A key that is known already is left out: removing the second would remove the first, which is in use.
    fn adopt_route(
        &mut self,
        route: &KernelRoute,
        by_id: &FxHashMap<u32, u32>,
        former: &mut FxHashSet<RouteKey>,
    ) {
        let KernelRoute { prefix, table, metric, protocol, .. } = *route;
        let key = RouteKey { prefix, table, metric, protocol };
        if route.tos != 0 {
            // Not one we would make, and our key for it would name another.
            return;
        }
        // Also one under a former protocol number: the new one cannot stand beside it.
        if route.kind == RTN_BLACKHOLE {
            self.blackholes.adopt(key);
            return;
        }
        if protocol != self.install.protocol && self.numbers.is_local(protocol) {
            return; // a pod route, which belongs to the plugin
        }
        let in_use = key == self.key(prefix);
        if (in_use && self.adopted.contains_key(&prefix)) || (!in_use && !former.insert(key)) {
            return;
        }
        let group = route.nexthop_id.and_then(|id| by_id.get(&id).copied()).unwrap_or(PLAIN);
        self.add_users(group, prefix, 1);
        if in_use {
            self.adopted.insert(prefix, group);
        } else {
            self.former.push(Stray { key, group, attempts: 0 });
        }
    }

    /// Starts over from a new dump, with everything to be sent again by the RIB: after lost
    /// notifications, an unknown outcome, or another table, metric or protocol.
    pub fn restart(&mut self, install: Install, snapshot: &Snapshot) {
        let mut fresh = Self::new(install);
        fresh.add_numbers(&self.numbers);
        let wanted = self.blackholes.wanted();
        fresh.blackholes = Blackholes::new(&fresh.install);
        if let Some(prefixes) = wanted {
            fresh.blackholes.want(prefixes);
        }
        // What the RIB believes about next hops must stay watched.
        for (nexthop, state) in &self.groups.nexthops {
            let Nexthop { told, down, .. } = *state;
            let unknown = Nexthop { reach: Reach::Unknown, own_from: None, told, down };
            fresh.groups.nexthops.insert(*nexthop, unknown);
            fresh.groups.unresolved.push(*nexthop);
        }
        fresh.holding = self.holding;
        fresh.marks = std::mem::take(&mut self.marks);
        fresh.notes = std::mem::take(&mut self.notes);
        fresh.notes.retain(|note| !matches!(note, Note::Resync | Note::Verify));
        fresh.notes.push(Note::Resend);
        fresh.repairs = std::mem::take(&mut self.repairs);
        fresh.repaired = self.repaired;
        fresh.resyncs = self.resyncs + 1;
        fresh.converged = self.converged;
        fresh.resend = Resend::Restart { begun: false };
        fresh.adopt(snapshot);
        *self = fresh;
    }

    /// Compares a dump of our routes, read while nothing was queued or in flight, with what is thought to be
    /// there: the number of routes by group, and the blackholes. Returns the difference; any asks for a resync.
    pub fn audit(&mut self, routes: &[KernelRoute]) -> u64 {
        let mut found: FxHashMap<u32, i64> = FxHashMap::default();
        let learned = |route: &&KernelRoute| route.tos == 0 && route.protocol == self.install.protocol;
        for route in routes.iter().filter(learned) {
            let group = route.nexthop_id.and_then(|id| self.groups.group_with_id(id)).unwrap_or(PLAIN);
            *found.entry(group).or_default() += 1;
        }
        *found.entry(PLAIN).or_default() -= i64::from(self.plain_users);
        for (place, group) in self.groups.groups.iter().filter(|(_, group)| group.state == GroupState::Live) {
            *found.entry(place).or_default() -= i64::from(group.users());
        }
        let differences = found.values().map(|difference| difference.unsigned_abs()).sum::<u64>();
        self.drift = differences + self.blackholes.audit(routes);
        if self.drift != 0 {
            self.stalled = true;
            self.notes.push(Note::Resync);
        }
        self.drift
    }

    /// Queues what nobody claimed for removal.
    pub(super) fn sweep(&mut self) {
        let unclaimed = std::mem::take(&mut self.adopted);
        let strays: Vec<Stray> = unclaimed
            .into_iter()
            .map(|(prefix, group)| Stray { key: self.key(prefix), group, attempts: 0 })
            .collect();
        self.strays.extend(strays);
        self.strays.extend(self.former.drain(..));
        self.groups.idle = true;
    }

    /// Nothing found at start remains.
    pub(super) fn swept(&self) -> bool {
        self.converged
            && !matches!(self.resend, Resend::Restart { .. })
            && self.adopted.is_empty()
            && self.former.is_empty()
            && self.strays.is_empty()
            && self.stray_retry.is_empty()
    }
}
