//! What the kernel made of a batch.
//!
//! Success is noted where the request came from; a refusal is kept with the kernel's words and tried
//! again later, at growing intervals. Nothing is assumed: only a confirmed change counts.

use std::time::{Duration, Instant};

use super::groups::{Backoff, GroupState, Members};
use super::plan::Target;
use super::table::{NONE, State};
use super::{Failure, Fib, Note, Refusal, Stray};

const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// How long to wait after the `attempts`-th refusal in a row.
pub(super) fn pause(attempts: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(LAST_RETRY)
}

impl Fib {
    /// The outcome of the oldest batch in flight: which requests were refused, by index; `None`: unknown, then
    /// everything has to be read anew.
    pub fn applied(&mut self, now: Instant, refused: Option<Vec<(usize, Refusal)>>) {
        let targets = self.in_flight.pop_front().map(|batch| batch.targets).unwrap_or_default();
        let Some(refused) = refused else {
            self.stalled = true;
            self.notes.push(Note::Resync);
            return;
        };
        let mut refused = refused.into_iter().peekable();
        for (index, target) in targets.into_iter().enumerate() {
            let refusal = refused.next_if(|(at, _)| *at == index).map(|(_, refusal)| refusal);
            match target {
                Target::Hop(hop) => self.hop_done(now, hop, refusal),
                Target::Group { group, members } => self.group_done(now, group, members, refusal),
                Target::Route { slot, to } => self.route_done(now, slot, to, refusal),
                Target::Stray(stray) => self.stray_done(now, stray, refusal),
                Target::DropHop(hop) => self.hop_dropped(hop, refusal),
                Target::DropGroup(group) => self.group_dropped(group, refusal),
                Target::Leftover => {}
                Target::Blackhole(prefix) => self.blackholes.done(now, prefix, refusal),
            }
        }
        self.confirm();
    }

    fn hop_done(&mut self, now: Instant, place: u32, refusal: Option<Refusal>) {
        let fresh =
            refusal.as_ref().is_some_and(|r| r.errno == libc::EEXIST).then(|| self.groups.ids.allocate());
        let Some(hop) = self.groups.hops.get_mut(place) else { return };
        let creating = std::mem::take(&mut hop.planned);
        match (refusal, fresh) {
            (None, _) => (hop.present, hop.tries) = (true, 0),
            // Someone else took the id; it stays marked as taken.
            (Some(_), Some(id)) => hop.id = id,
            // It could not be given its content back: made anew.
            (Some(_), None) if !creating => self.hop_lost(place),
            (Some(refusal), None) => {
                hop.tries += 1;
                hop.blocked = Some(Backoff { until: now + pause(hop.tries), since: now, refusal });
                self.reachability_changed();
            }
        }
    }

    fn group_done(&mut self, now: Instant, place: u32, members: Members, refusal: Option<Refusal>) {
        let mut incomplete = false;
        for hop in &members {
            if let Some(hop) = self.groups.hops.get_mut(*hop) {
                hop.incoming = hop.incoming.saturating_sub(1);
                incomplete |= !hop.present;
            }
        }
        self.groups.idle = true;
        let fresh =
            refusal.as_ref().is_some_and(|r| r.errno == libc::EEXIST).then(|| self.groups.ids.allocate());
        let Some(group) = self.groups.groups.get_mut(place) else { return };
        group.incoming = group.incoming.saturating_sub(1);
        group.planned = false;
        match refusal {
            None => {
                (group.state, group.tries) = (GroupState::Live, 0);
                self.groups.set_members(place, members);
                // What its set leads to may have changed meanwhile.
                self.groups.dirty.insert(place);
                if incomplete {
                    self.notes.push(Note::Verify);
                }
            }
            Some(refusal)
                if group.state == GroupState::Live && refusal.errno == libc::ENOENT && !incomplete =>
            {
                self.group_died(place);
                self.notes.push(Note::Verify);
            }
            // Its routes, refused with it, come again and find the new id, or fewer members.
            Some(_) if incomplete || fresh.is_some() => {
                if let Some(id) = fresh {
                    group.id = id;
                }
                if group.state == GroupState::Live {
                    self.groups.dirty.insert(place);
                }
            }
            Some(refusal) => {
                group.tries += 1;
                group.blocked = Some(Backoff { until: now + pause(group.tries), since: now, refusal });
                self.notes.push(Note::Verify);
            }
        }
    }

    fn route_done(&mut self, now: Instant, slot: u32, to: u32, refusal: Option<Refusal>) {
        if let Some(group) = self.groups.groups.get_mut(to) {
            group.incoming = group.incoming.saturating_sub(1);
            self.groups.idle |= group.users() == 0;
        }
        let Some(entry) = self.table.pending_mut(slot) else { return };
        let lost = entry.lost.take();
        let (prefix, installed) = (entry.prefix, entry.installed);
        match refusal {
            // Others took it away after this was written or refused: made anew.
            _ if lost.is_some() => self.route_moved(slot, lost.unwrap_or(NONE)),
            None => self.route_moved(slot, to),
            Some(refusal) => match (installed == NONE, to == NONE, refusal.errno) {
                // Deleting what is gone, or replacing it: it is gone.
                (_, true, libc::ESRCH | libc::ENOENT) => self.route_moved(slot, NONE),
                (false, false, libc::ESRCH | libc::ENOENT) if self.serves_at_all(to) => {
                    self.route_moved(slot, NONE)
                }
                (true, false, libc::EEXIST) => {
                    self.notes.push(Note::Inspect(prefix));
                    self.refuse(now, slot, refusal, true);
                }
                _ => self.route_refused(now, slot, to, refusal),
            },
        }
    }

    fn serves_at_all(&self, group: u32) -> bool {
        self.groups.groups.get(group).is_some_and(|group| group.state == GroupState::Live)
    }

    /// The route is on `to` now (or nowhere); see whether that is what is wanted.
    fn route_moved(&mut self, slot: u32, to: u32) {
        let former = self.table.set_installed(slot, to);
        let Some(entry) = self.table.pending(slot) else { return };
        let (prefix, want) = (entry.prefix, entry.want);
        self.add_users(former, prefix, -1);
        self.add_users(to, prefix, 1);
        self.table.landed(slot, State::Waiting);
        if self.table.pending(slot).is_some_and(|entry| entry.state == State::Queued) {
            return; // Its wish changed meanwhile.
        }
        if (want == NONE && to == NONE) || self.serves(to, want) {
            self.finish(slot);
        } else {
            self.table.requeue(slot);
            self.delay_marks();
        }
    }

    fn route_refused(&mut self, now: Instant, slot: u32, to: u32, refusal: Refusal) {
        let group = self.groups.groups.get(to);
        if let Some(blocked) = group.and_then(|group| group.blocked.clone()) {
            return self.fail_with_group(slot, &blocked);
        }
        if group.is_some_and(|group| group.state != GroupState::Live) {
            // The group was not made, for a reason that is being dealt with: again at once.
            self.table.landed(slot, State::Waiting);
            self.table.requeue(slot);
            return self.delay_marks();
        }
        if matches!(refusal.errno, libc::EINVAL | libc::ENOENT) {
            self.notes.push(Note::Verify);
        }
        self.refuse(now, slot, refusal, false);
    }

    fn refuse(&mut self, now: Instant, slot: u32, refusal: Refusal, foreign: bool) {
        let (since, attempts) =
            self.failures.get(&slot).map_or((now, 1), |old| (old.since, old.attempts + 1));
        let foreign = foreign.then(|| self.failures.get(&slot).and_then(|old| old.foreign).flatten());
        self.fail(slot, Failure { refusal, since, attempts, retry_at: now + pause(attempts), foreign });
    }

    /// A route whose group the kernel refuses waits with the group.
    pub(super) fn fail_with_group(&mut self, slot: u32, blocked: &Backoff) {
        let Backoff { until, since, refusal } = blocked.clone();
        let attempts = self.failures.get(&slot).map_or(1, |old| old.attempts + 1);
        self.fail(slot, Failure { refusal, since, attempts, retry_at: until, foreign: None });
    }

    fn fail(&mut self, slot: u32, failure: Failure) {
        let retry_at = failure.retry_at;
        self.clear_failure(slot);
        self.report(slot);
        self.failures.insert(slot, failure);
        match self.table.pending(slot).map(|entry| entry.state) {
            Some(State::InFlight) => self.table.landed(slot, State::Failed),
            Some(_) => self.park(slot, State::Failed),
            None => {}
        }
        self.timers.insert((retry_at, slot));
    }

    pub(super) fn clear_failure(&mut self, slot: u32) {
        if let Some(failure) = self.failures.remove(&slot) {
            self.timers.remove(&(failure.retry_at, slot));
        }
    }

    fn stray_done(&mut self, now: Instant, mut stray: Stray, refusal: Option<Refusal>) {
        match refusal {
            Some(refusal) if !matches!(refusal.errno, libc::ESRCH | libc::ENOENT) => {
                stray.attempts += 1;
                self.stray_retry.push((now + pause(stray.attempts), stray));
            }
            _ => self.add_users(stray.group, stray.key.prefix, -1),
        }
    }

    fn hop_dropped(&mut self, place: u32, refusal: Option<Refusal>) {
        let Some(hop) = self.groups.hops.get_mut(place) else { return };
        hop.incoming = hop.incoming.saturating_sub(1);
        if refusal.is_none_or(|refusal| refusal.errno == libc::ENOENT) {
            hop.present = false;
            self.groups.idle = true;
        }
    }

    fn group_dropped(&mut self, place: u32, refusal: Option<Refusal>) {
        let Some(group) = self.groups.groups.get_mut(place) else { return };
        group.incoming = group.incoming.saturating_sub(1);
        if refusal.is_none_or(|refusal| refusal.errno == libc::ENOENT) {
            self.groups.drop_group(place);
        }
    }
}
