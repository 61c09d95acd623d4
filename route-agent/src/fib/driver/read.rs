//! Reading the kernel: when it is done, what comes of it, and what is reported while it goes on.
//!
//! A read takes its time, and what is reported meanwhile may be older or newer than what the read brings.
//! Links and addresses count at once, because traffic waits for them, and once more when everything was read
//! anew; all else is held until the read is over. A read that fails is repeated at growing intervals.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::{Busy, Driver};
use crate::fib::outcome::pause;
use crate::fib::pods::PodRoutes;
use crate::fib::run::{Feedback, SpeakerFeedback};
use crate::kernel::dump::Snapshot;
use crate::kernel::monitor::KernelEvent;
use crate::kernel::resolve::Topology;
use crate::kernel::worker::{Answer, Job};
use crate::kernel::{KernelError, KernelRoute};

/// How often our own routes are read to see whether they are what they should be.
pub(super) const AUDIT_EVERY: Duration = Duration::from_secs(600);
/// How long a comparison is put off that finds work under way.
const AUDIT_LATER: Duration = Duration::from_secs(10);
/// More events held back than are worth keeping: everything is read once more instead.
const MOST_HELD: usize = 65_536;

/// A read that failed.
pub(super) struct Retry {
    pub(super) at: Instant,
    attempts: u32,
    error: String,
}

impl Retry {
    pub(super) fn warning(&self) -> String {
        format!("reading the kernel failed, it is tried again: {}", self.error)
    }
}

impl<F: SpeakerFeedback> Driver<F> {
    /// Starts the read that is due, if any.
    pub(super) fn next_read(&mut self) -> bool {
        if self.retry.as_ref().is_some_and(|retry| retry.at > Instant::now()) {
            return false;
        }
        if std::mem::take(&mut self.resync) {
            let protocols = self.fib.numbers().all();
            self.job(Busy::Reading, Job::Snapshot { protocols });
        } else if std::mem::take(&mut self.verify) {
            self.job(Busy::Reading, Job::Nexthops);
        } else {
            return false;
        }
        true
    }

    /// Takes in what the worker did.
    pub(super) fn answered(&mut self, answer: Answer) {
        let was_reading = self.busy == Busy::Reading;
        match answer {
            Answer::Lookup(found) => return self.looked_up(found),
            Answer::Written(outcome) => self.written(outcome),
            Answer::Nexthops(objects) => match self.read(objects) {
                Some(objects) => {
                    let differences = self.fib.reconcile(&objects);
                    if differences > 0 {
                        info!(differences, "nexthop objects differ from what was thought to be there");
                    }
                }
                None => self.verify = true,
            },
            Answer::Routes(routes) => match self.read(routes) {
                Some(routes) => self.compare(&routes),
                None => self.audit_at = self.retry.as_ref().map_or(self.audit_at, |retry| retry.at),
            },
            Answer::Snapshot(snapshot) => match self.read(snapshot) {
                Some(snapshot) => self.restart(snapshot),
                None => self.resync = true,
            },
        }
        self.busy = if self.fib.is_writing() { Busy::Writing } else { Busy::No };
        if was_reading {
            for event in std::mem::take(&mut self.held) {
                if !counts_at_once(&event) {
                    self.kernel_event(event);
                }
            }
        }
    }

    /// What was read, or a note to read again. Logged when it begins and when it ends.
    fn read<T>(&mut self, outcome: Result<T, KernelError>) -> Option<T> {
        match outcome {
            Ok(found) => {
                if self.retry.take().is_some() {
                    info!("the kernel can be read again");
                }
                Some(found)
            }
            Err(error) => {
                let attempts = self.retry.as_ref().map_or(1, |retry| retry.attempts + 1);
                if attempts == 1 {
                    warn!(%error, "reading the kernel failed; it is tried again until it succeeds");
                }
                let at = Instant::now() + pause(attempts);
                self.retry = Some(Retry { at, attempts, error: error.to_string() });
                None
            }
        }
    }

    /// An event that comes while the kernel is read.
    pub(super) fn hold(&mut self, events: Vec<KernelEvent>) {
        if self.held.len() + events.len() > MOST_HELD {
            warn!("too many kernel notifications during a read: reading everything anew");
            self.resync = true;
        }
        for event in events {
            if counts_at_once(&event) {
                self.kernel_event(event.clone());
            }
            if self.held.len() < MOST_HELD {
                self.held.push(event);
            }
        }
    }

    fn restart(&mut self, snapshot: Snapshot) {
        let install = self.next_install.take().unwrap_or_else(|| self.fib.install().clone());
        let mut pods = PodRoutes::read(&install, &snapshot.routes);
        self.fib.restart(install, &snapshot);
        let mut fresh = Topology::new(snapshot.links, snapshot.addresses);
        for event in &self.held {
            match event {
                // The nexthop objects of the dump may be from before it.
                KernelEvent::Link(link) => {
                    fresh.link_changed(link.clone());
                    self.verify = true;
                }
                KernelEvent::LinkGone(link) => {
                    fresh.link_gone(link.index);
                    pods.link_gone(link.index);
                    self.verify = true;
                }
                KernelEvent::Address(address, present) => {
                    fresh.address_changed(*address, *present);
                }
                _ => {}
            }
        }
        let old = std::mem::replace(&mut self.topology, fresh);
        for link in old.links().filter(|link| link.usable && !self.topology.usable(link.index)) {
            self.outgoing.push_back(Feedback::LinkDown { ifindex: link.index, name: link.name.clone() });
        }
        for link in self.topology.links().filter(|link| link.usable && !old.usable(link.index)) {
            self.outgoing.push_back(Feedback::LinkUp { ifindex: link.index, name: link.name.clone() });
        }
        self.published.pods.send_replace(pods);
        self.resolve_all();
        self.publish();
        self.others_changed();
    }

    /// Compares our routes, unless something happened to them meanwhile.
    fn compare(&mut self, routes: &[KernelRoute]) {
        let install = self.fib.install();
        let ours = |route: &KernelRoute| {
            route.protocol == install.protocol || route.protocol == install.local_protocol
        };
        let touched = self.held.iter().any(|event| match event {
            KernelEvent::Route { route, replaced, .. } => *replaced || ours(route),
            KernelEvent::RouteGone { route, .. } => ours(route),
            KernelEvent::Link(_) | KernelEvent::Address(..) => false,
            _ => true,
        });
        if touched || !self.fib.is_quiet() {
            self.audit_at = Instant::now() + AUDIT_LATER;
            return;
        }
        let drift = self.fib.audit(routes);
        if drift > 0 {
            warn!(drift, "routes of ours differ from what was thought to be there: reading everything anew");
        }
    }

    /// Starts a comparison when it is time and nothing is under way.
    pub(super) fn audit(&mut self) {
        let now = Instant::now();
        if now < self.audit_at {
            return;
        }
        if !self.at_rest() {
            self.audit_at = now + AUDIT_LATER;
            return;
        }
        self.audit_at = now + AUDIT_EVERY;
        let install = self.fib.install();
        let protocols = vec![install.protocol, install.local_protocol];
        self.job(Busy::Reading, Job::Routes { protocols });
    }
}

fn counts_at_once(event: &KernelEvent) -> bool {
    matches!(
        event,
        KernelEvent::Link(_) | KernelEvent::LinkGone(_) | KernelEvent::Address(..) | KernelEvent::Overrun
    )
}
