//! What the RIB says: changes, next hops that went down, complete lists, and where next hops lead.

use std::time::Instant;

use bgp_speaker::rib::{BestChange, FibNexthop};
use ipnet::IpNet;

use super::groups::{GroupState, Reach};
use super::table::{Entry, NONE, State};
use super::{Fib, Hop, Note, Resend, Stray};
use crate::kernel::KernelRoute;

impl Fib {
    /// Takes in a batch of the RIB.
    pub fn changes(&mut self, now: Instant, seq: u64, changes: Vec<BestChange>) {
        for change in changes {
            self.want(now, &change);
        }
        self.marks.push_back((seq, self.table.pushed()));
        let wanted = self.table.all_pending().map(|(_, entry)| entry.want);
        for nexthop in self.groups.clean(wanted) {
            // No longer watched: should the RIB still name it, it is resolved anew.
            self.notes.push(Note::NexthopChanged(nexthop, true));
        }
        self.confirm();
    }

    fn want(&mut self, now: Instant, change: &BestChange) {
        let (id, prefix) = (change.id, change.prefix);
        let want = change.nexthops.as_ref().map_or(NONE, |set| self.groups.intern(set));
        let suspect = if self.suspects.is_empty() { None } else { self.suspects.remove(&prefix) };
        match self.table.entry(id) {
            Entry::Pending(slot) => self.want_pending(now, slot, change, want, suspect),
            Entry::Settled(mut group) => {
                if let Some((left, who)) = suspect.filter(|_| group != NONE) {
                    self.add_users(group, prefix, -1);
                    self.add_users(left, prefix, 1);
                    group = left;
                    self.repair(now, format!("route {prefix}"), &who);
                } else if group == NONE && !self.adopted.is_empty() {
                    group = self.adopted.remove(&prefix).unwrap_or(NONE);
                }
                if group != NONE && self.is_dead(group) {
                    self.add_users(group, prefix, -1);
                    group = NONE;
                }
                if (group == NONE && want == NONE) || (want != NONE && self.serves(group, want)) {
                    self.table.settle(id, group);
                } else {
                    self.table.open(id, prefix, group, want);
                }
            }
        }
    }

    fn want_pending(
        &mut self,
        now: Instant,
        slot: u32,
        change: &BestChange,
        want: u32,
        suspect: Option<(u32, String)>,
    ) {
        let Some(entry) = self.table.pending_mut(slot) else { return };
        let (state, old_prefix, unchanged) = (entry.state, entry.prefix, entry.want == want);
        if old_prefix != change.prefix && state != State::InFlight {
            // The id stands for another prefix now: what is left of the old one is to be removed.
            entry.prefix = change.prefix;
            let group = self.table.set_installed(slot, NONE);
            if group != NONE {
                self.strays.push_back(Stray { key: self.key(old_prefix), group, attempts: 0 });
            }
            self.clear_failure(slot);
        } else if let Some((left, who)) = suspect {
            if state == State::InFlight {
                entry.lost = Some(left);
            } else {
                let group = self.table.set_installed(slot, left);
                self.add_users(group, old_prefix, -1);
                self.add_users(left, old_prefix, 1);
            }
            self.repair(now, format!("route {}", change.prefix), &who);
        }
        if unchanged && matches!(state, State::Waiting | State::Failed) {
            // Nothing new; it goes on waiting, but this batch is not confirmed with it.
            self.report(slot);
            return;
        }
        self.table.set_want(slot, want);
        self.table.requeue(slot);
    }

    /// These next hops are gone with their session: groups lose them with the next plan.
    pub fn nexthops_down(&mut self, nexthops: &[FibNexthop]) {
        self.holding = true;
        for nexthop in nexthops {
            if let Some(state) = self.groups.nexthops.get_mut(nexthop) {
                state.down = true;
            }
        }
        self.groups.changed();
    }

    /// What follows from [`Fib::nexthops_down`] has been said.
    pub fn nexthops_settled(&mut self) {
        self.holding = false;
        for state in self.groups.nexthops.values_mut() {
            state.down = false;
        }
        self.groups.changed();
        self.table.requeue_all(State::Deferred);
        self.table.requeue_all(State::Waiting);
    }

    /// Start or end of a complete list of wishes.
    pub fn resent(&mut self, complete: bool) {
        match &mut self.resend {
            Resend::No => {}
            Resend::Asked { begun } | Resend::Restart { begun } if !complete => {
                *begun = true;
                for (_, group) in self.groups.groups.iter_mut() {
                    group.doomed = group.state == GroupState::Dead;
                }
            }
            // The end of a list that began before it was asked for says nothing.
            Resend::Asked { begun: false } | Resend::Restart { begun: false } => {}
            Resend::Asked { .. } => {
                self.resend = Resend::No;
                self.forget_doomed();
            }
            Resend::Restart { .. } => {
                self.resend = Resend::No;
                self.forget_doomed();
                self.delay_marks();
                if self.converged {
                    self.sweep();
                }
            }
        }
        self.confirm();
    }

    /// What was not named by a complete list is not wanted; its routes went with the group.
    fn forget_doomed(&mut self) {
        let groups = &self.groups.groups;
        self.table.forget(|group| groups.get(group).is_some_and(|group| group.doomed));
        for (_, group) in self.groups.groups.iter_mut() {
            if group.doomed {
                group.users = [0; 2];
            }
        }
        let pending: Vec<(u32, IpNet)> =
            self.table.all_pending().map(|(_, entry)| (entry.installed, entry.prefix)).collect();
        for (place, prefix) in pending {
            if self.groups.groups.get(place).is_some_and(|group| group.doomed) {
                self.groups.add_users(place, prefix, 1);
            }
        }
        self.groups.idle = true;
    }

    /// Nothing is confirmed before all that is queued now has had its turn.
    pub(super) fn delay_marks(&mut self) {
        let end = self.table.pushed();
        for (_, at) in &mut self.marks {
            *at = end;
        }
    }

    /// Every peer has said all it has: what nobody claimed is removed.
    pub fn converged(&mut self) {
        self.converged = true;
        if !matches!(self.resend, Resend::Restart { .. }) {
            self.sweep();
        }
    }

    /// Next hops that need [`Fib::resolved`].
    pub fn take_unresolved(&mut self) -> Vec<FibNexthop> {
        std::mem::take(&mut self.groups.unresolved)
    }

    /// All next hops in use or watched.
    pub fn nexthops(&self) -> impl Iterator<Item = FibNexthop> {
        self.groups.nexthops.keys().copied()
    }

    /// Where a next hop leads that is on link; `None`: nowhere.
    pub fn resolved(&mut self, nexthop: &FibNexthop, hop: Option<Hop>) {
        self.resolved_over(nexthop, hop, None);
    }

    /// Where a next hop leads by way of `route`; nowhere, if that route itself needs it.
    pub fn resolved_over(&mut self, nexthop: &FibNexthop, hop: Option<Hop>, route: Option<&KernelRoute>) {
        let group = route.and_then(|route| self.groups.group_with_id(route.nexthop_id?));
        let circular = group.is_some_and(|group| self.groups.uses(group, nexthop));
        let own_from = route.map(|route| {
            let stays = route.protocol != self.install.protocol && route.metric < self.install.metric;
            // Of the same length, the better metric wins.
            route.prefix.prefix_len() + u8::from(stays)
        });
        let reach = hop.filter(|_| !circular).map_or(Reach::Nowhere, |hop| Reach::Via(self.groups.hop(hop)));
        let Some(state) = self.groups.nexthops.get_mut(nexthop) else { return };
        if state.reach != reach || state.own_from != own_from {
            (state.reach, state.own_from) = (reach, own_from);
            self.groups.idle = true;
            self.reachability_changed();
        }
    }

    /// Tells the RIB which next hops changed sides, and has everything that depends on them looked at.
    pub(super) fn reachability_changed(&mut self) {
        let hops = &self.groups.hops;
        for (nexthop, state) in &mut self.groups.nexthops {
            let reachable = match state.reach {
                Reach::Unknown => continue,
                Reach::Nowhere => false,
                Reach::Via(hop) => hops.get(hop).is_some_and(|hop| hop.blocked.is_none()),
            };
            if state.told != reachable {
                state.told = reachable;
                self.notes.push(Note::NexthopChanged(*nexthop, reachable));
            }
        }
        self.groups.changed();
        self.table.requeue_all(State::Waiting);
        self.delay_marks();
    }

    /// The prefix of this entry is not in the kernel as wanted.
    pub(super) fn report(&mut self, slot: u32) {
        if let Some(entry) = self.table.pending_mut(slot) {
            entry.reported = true;
            self.unconfirmed.insert(entry.id);
        }
    }
}
