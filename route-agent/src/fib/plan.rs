//! From wishes to requests: a batch, and one ahead of its outcome, small enough that urgent things never wait long.
//!
//! Order inside a batch: what takes dead next hops out of groups, then routes in order of arrival (with
//! the groups they need before them), then removals of what earlier batches left unused.

use std::time::Instant;

use bgp_speaker::rib::PrefixId;

use super::groups::Reach;
use super::groups::{GroupState, Members};
use super::table::{NONE, State};
use super::{Fib, Note, Request, Resend, Stray};

/// What a request of the batch in flight is about, by place in the batch.
#[derive(Debug)]
pub(super) enum Target {
    Hop(u32),
    Group {
        group: u32,
        members: Members,
    },
    /// A pending entry; `to`: the group it will use, or [`NONE`].
    Route {
        slot: u32,
        to: u32,
    },
    Stray(Stray),
    DropHop(u32),
    DropGroup(u32),
    Leftover,
    Blackhole(ipnet::IpNet),
}

/// A batch on its way to the kernel.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) targets: Vec<Target>,
    /// Entries taken from the queue before it was planned: all of those have had their turn.
    pub(super) popped_before: u64,
}

#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) requests: Vec<Request>,
    pub(super) targets: Vec<Target>,
}

impl Batch {
    pub(super) fn push(&mut self, request: Request, target: Target) {
        self.requests.push(request);
        self.targets.push(target);
    }
}

impl Fib {
    /// The next batch, of about `limit` requests; empty when there is nothing to do at present. The
    /// batch is in flight until [`Fib::applied`]; while it is, only [`Fib::plan_ahead`] makes another.
    pub fn plan(&mut self, now: Instant, limit: usize) -> Vec<Request> {
        assert!(self.in_flight.is_empty(), "what depends on an outcome waits for applied()");
        if self.stalled {
            return Vec::new();
        }
        let popped_before = self.table.popped();
        self.wake(now);
        let mut batch = Batch::default();
        self.plan_altered(&mut batch);
        let mut dirty: Vec<u32> = self.groups.dirty.iter().copied().collect();
        dirty.sort_unstable();
        for group in dirty {
            self.plan_group(group, true, &mut batch);
        }
        while batch.requests.len() < limit {
            let Some(slot) = self.table.pop() else { break };
            self.plan_route(slot, &mut batch);
        }
        while batch.requests.len() < limit {
            let Some(stray) = self.strays.pop_front() else { break };
            batch.push(Request::DeleteRoute { key: stray.key, blackhole: false }, Target::Stray(stray));
        }
        self.blackholes.plan(now, &mut batch);
        self.plan_removals(&mut batch);
        self.ask_for_lost();
        self.fly(popped_before, batch)
    }

    /// A batch to follow one that is in flight, so that the kernel need not wait for its outcome to be looked at: only
    /// routes that do not depend on that outcome, new ones to groups that exist and removals. Empty when the next in
    /// the queue is anything else.
    pub fn plan_ahead(&mut self, limit: usize) -> Vec<Request> {
        let eventless = self.suspects.is_empty() && self.groups.dirty.is_empty() && !self.holding;
        if self.in_flight.len() != 1 || self.stalled || !eventless {
            return Vec::new();
        }
        let popped_before = self.table.popped();
        let mut batch = Batch::default();
        while batch.requests.len() < limit
            && let Some(slot) = self.table.front()
            && self.is_independent(slot)
        {
            self.table.pop();
            self.plan_route(slot, &mut batch);
        }
        self.fly(popped_before, batch)
    }

    /// Whether the outcome of a batch in flight cannot change what is to be done about this entry.
    fn is_independent(&mut self, slot: u32) -> bool {
        let Some(entry) = self.table.pending(slot) else { return true };
        let (prefix, want, installed) = (entry.prefix, entry.want, entry.installed);
        if entry.state != State::Queued {
            return false;
        }
        if want == NONE {
            return !self.is_dead(installed);
        }
        installed == NONE
            && self.groups.live(want).is_some()
            && self.groups.effective(want).is_some()
            && self.groups.within_itself(want, &prefix).is_none()
    }

    fn fly(&mut self, popped_before: u64, batch: Batch) -> Vec<Request> {
        let Batch { requests, targets } = batch;
        if !requests.is_empty() {
            self.in_flight.push_back(InFlight { targets, popped_before });
        }
        self.confirm();
        requests
    }

    /// When [`Fib::plan`] should be called again although nothing happened.
    pub fn deadline(&self) -> Option<Instant> {
        let routes = self.timers.first().map(|(at, _)| *at);
        let hops = self.groups.hops.iter().filter_map(|(_, hop)| Some(hop.blocked.as_ref()?.until));
        let groups = self.groups.groups.iter().filter_map(|(_, group)| Some(group.blocked.as_ref()?.until));
        let strays = self.stray_retry.iter().map(|(at, _)| *at);
        routes.into_iter().chain(hops).chain(groups).chain(strays).chain(self.blackholes.deadline()).min()
    }

    /// Lets those whose time has come try again.
    fn wake(&mut self, now: Instant) {
        while let Some((at, slot)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, slot));
            if self.table.pending(slot).is_some_and(|entry| entry.state == State::Failed) {
                self.table.requeue(slot);
            }
        }
        let mut unblocked = false;
        for (_, hop) in self.groups.hops.iter_mut() {
            if hop.blocked.as_ref().is_some_and(|blocked| blocked.until <= now) {
                hop.blocked = None;
                unblocked = true;
            }
        }
        if unblocked {
            self.reachability_changed();
        }
        let mut due = Vec::new();
        self.stray_retry.retain(|(at, stray)| {
            let ready = *at <= now;
            if ready {
                due.push(*stray);
            }
            !ready
        });
        self.strays.extend(due);
        for (place, group) in self.groups.groups.iter_mut() {
            if group.blocked.as_ref().is_some_and(|blocked| blocked.until <= now) {
                group.blocked = None;
                self.groups.idle = true;
                if group.state == GroupState::Live {
                    self.groups.dirty.insert(place);
                }
            }
        }
    }

    /// Nexthop objects that others changed get their content back.
    fn plan_altered(&mut self, batch: &mut Batch) {
        for (place, state) in self.groups.hops.iter_mut() {
            if state.present && std::mem::take(&mut state.altered) {
                let request = Request::Nexthop { id: state.id, hop: state.hop, replace: true };
                batch.push(request, Target::Hop(place));
            }
        }
    }

    /// Brings a group in line with its set. `polite`: a group that gains members waits while routes are
    /// about to leave it, so that they never use what they are leaving it for.
    fn plan_group(&mut self, place: u32, polite: bool, batch: &mut Batch) {
        let Some(group) = self.groups.groups.get(place) else {
            self.groups.dirty.remove(&place);
            return;
        };
        let (state, id, label) = (group.state, group.id, group.label);
        if group.blocked.is_some() {
            self.groups.dirty.remove(&place); // Its time limit brings it back.
            return;
        }
        let Some(members) = label.and_then(|set| self.groups.effective(set)) else {
            // Found at start and unclaimed, or nothing left to forward to: the RIB will say what to do.
            self.groups.dirty.remove(&place);
            return;
        };
        let Some(group) = self.groups.groups.get(place) else { return };
        let gains = members.iter().any(|hop| !group.members.contains(hop));
        if state == GroupState::Dead || (state == GroupState::Live && group.members == members) {
            self.groups.dirty.remove(&place);
            return;
        }
        let unsettled = self.holding || !self.table.queue_is_empty();
        if polite && gains && unsettled && self.table.leaving(place) {
            return;
        }
        self.groups.dirty.remove(&place);
        let mut ids = Members::new();
        for hop in &members {
            let Some(state) = self.groups.hops.get_mut(*hop) else { continue };
            ids.push(state.id);
            state.incoming += 1;
            if !state.present && !state.planned {
                state.planned = true;
                let request = Request::Nexthop { id: state.id, hop: state.hop, replace: false };
                batch.push(request, Target::Hop(*hop));
            }
        }
        if let Some(group) = self.groups.groups.get_mut(place) {
            group.incoming += 1;
            group.planned = true;
        }
        let request = Request::Group { id, members: ids, replace: state == GroupState::Live };
        batch.push(request, Target::Group { group: place, members });
    }

    fn plan_route(&mut self, slot: u32, batch: &mut Batch) {
        let Some(entry) = self.table.pending(slot) else { return };
        let (prefix, want, installed) = (entry.prefix, entry.want, entry.installed);
        let key = self.key(prefix);
        let from = if self.is_dead(installed) {
            self.table.set_installed(slot, NONE);
            self.add_users(installed, prefix, -1);
            NONE
        } else {
            installed
        };
        if want == NONE {
            // What others wrote in our name meanwhile goes with it: the RIB will not name it again.
            let left = self.suspects.remove(&prefix).map_or(from, |(left, _)| left);
            if left != from {
                self.table.set_installed(slot, left);
                self.add_users(from, prefix, -1);
                self.add_users(left, prefix, 1);
            }
            if left == NONE {
                return self.finish(slot);
            }
            return self.launch(slot, NONE, Request::DeleteRoute { key, blackhole: false }, batch);
        }
        if self.groups.within_itself(want, &prefix).is_some() {
            if from != NONE {
                return self.launch(slot, NONE, Request::DeleteRoute { key, blackhole: false }, batch);
            }
            self.park(slot, State::Waiting);
            return self.report(slot);
        }
        if self.serves(from, want) {
            return self.finish(slot);
        }
        let Some(members) = self.groups.effective(want) else {
            self.park(slot, State::Waiting);
            return self.report(slot);
        };
        if let Some(group) = self.groups.groups.get(from) {
            let same = group.members == members;
            let unclaimed = group.label.is_none() && same;
            let all_move = group.incoming == 0 && self.table.moving(from, want) == group.users();
            if unclaimed || all_move {
                self.groups.relabel(from, want);
                self.plan_group(from, false, batch);
                return self.finish(slot);
            }
            if same && self.holding {
                return self.park(slot, State::Deferred);
            }
        }
        let to = self.groups.serving(want);
        let Some(group) = self.groups.groups.get(to) else { return };
        if group.state == GroupState::New {
            if let Some(blocked) = group.blocked.clone() {
                return self.fail_with_group(slot, &blocked);
            }
            if !group.planned {
                self.plan_group(to, false, batch);
            }
        }
        let Some(group) = self.groups.groups.get(to) else { return };
        let request = Request::Route { key, group: group.id, replace: from != NONE };
        self.launch(slot, to, request, batch);
    }

    fn launch(&mut self, slot: u32, to: u32, request: Request, batch: &mut Batch) {
        if let Some(group) = self.groups.groups.get_mut(to) {
            group.incoming += 1;
        }
        if let Some(entry) = self.table.pending_mut(slot) {
            entry.state = State::InFlight;
        }
        batch.push(request, Target::Route { slot, to });
    }

    pub(super) fn park(&mut self, slot: u32, state: State) {
        if let Some(entry) = self.table.pending_mut(slot) {
            entry.state = state;
        }
    }

    /// A prefix is as wanted. If the RIB was told otherwise, it has to be confirmed once more.
    pub(super) fn finish(&mut self, slot: u32) {
        self.clear_failure(slot);
        if let Some(entry) = self.table.pending(slot)
            && entry.reported
            && !self.unconfirmed.remove(&entry.id)
            && entry.want != NONE
        {
            self.notes.push(Note::Reassert(entry.prefix));
        }
        self.table.close(slot);
    }

    /// Objects whose last user is gone for certain, each after what points to it.
    fn plan_removals(&mut self, batch: &mut Batch) {
        if !std::mem::take(&mut self.groups.idle) {
            return;
        }
        let idle: Vec<u32> = self
            .groups
            .groups
            .iter()
            .filter(|(_, group)| group.users() == 0 && group.incoming == 0)
            .map(|(place, _)| place)
            .collect();
        for place in idle {
            let Some(group) = self.groups.groups.get_mut(place) else { continue };
            if group.state == GroupState::Live {
                group.incoming += 1;
                batch.push(Request::DeleteNexthop { id: group.id }, Target::DropGroup(place));
            } else if group.blocked.is_none() || group.state == GroupState::Dead {
                self.groups.drop_group(place);
            }
        }
        let unused: Vec<u32> = self
            .groups
            .hops
            .iter()
            .filter(|(_, hop)| hop.refs == 0 && hop.incoming == 0)
            .map(|(place, _)| place)
            .collect();
        for place in unused {
            let Some(hop) = self.groups.hops.get_mut(place) else { continue };
            if hop.present {
                hop.incoming += 1;
                batch.push(Request::DeleteNexthop { id: hop.id }, Target::DropHop(place));
            } else if !self.groups.resolved_to(place) {
                self.groups.drop_hop(place);
            }
        }
        // Plain routes of ours may be on them as long as there are any.
        if self.plain_users == 0 && self.swept() {
            for id in std::mem::take(&mut self.leftovers) {
                batch.push(Request::DeleteNexthop { id }, Target::Leftover);
            }
        }
    }

    /// Routes died with their group, their prefixes are not known here, and they could be back: ask.
    fn ask_for_lost(&mut self) {
        if self.resend != Resend::No {
            return;
        }
        let dead: Vec<u32> = self
            .groups
            .groups
            .iter()
            .filter(|(_, group)| group.state == GroupState::Dead && group.users() > 0)
            .filter_map(|(_, group)| group.label)
            .collect();
        if dead.into_iter().any(|set| self.groups.effective(set).is_some()) {
            self.resend = Resend::Asked { begun: false };
            self.notes.push(Note::Resend);
        }
    }

    /// Confirms to the RIB what has been worked off.
    pub(super) fn confirm(&mut self) {
        let unsure = matches!(self.resend, Resend::Restart { .. }) || !self.strays.is_empty() || self.stalled;
        // An unresolved next hop is about to be resolved: what waits for it has not failed yet.
        if unsure || self.marks.is_empty() || self.groups.nexthops.values().any(|n| n.reach == Reach::Unknown)
        {
            return;
        }
        let mut confirmed = None;
        let done = self.in_flight.front().map_or(self.table.popped(), |batch| batch.popped_before);
        while let Some((seq, _)) = self.marks.front().copied().filter(|(_, at)| *at <= done) {
            confirmed = Some(seq);
            self.marks.pop_front();
        }
        if let Some(seq) = confirmed {
            let mut failed: Vec<PrefixId> = std::mem::take(&mut self.unconfirmed).into_iter().collect();
            failed.sort_unstable();
            self.notes.push(Note::Installed { seq, failed });
        }
    }
}
