//! The FIB task: carries values between the RIB's channel, the pure [`Fib`], the writer thread and the
//! kernel's notifications. Decides nothing about routes.

mod listen;
mod read;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use api::desired::Install;
use bgp_speaker::rib::{FibNexthop, RibEvent};
use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use super::numbers::Numbers;
use super::pods::PodRoutes;
use super::run::{Command, Feedback, SpeakerFeedback, Stopped};
use super::status::FibStatus;
use super::{Fib, Note, Refusal, Request};
use crate::kernel::KernelError;
use crate::kernel::dump::Snapshot;
use crate::kernel::monitor::{KernelEvent, Monitor};
use crate::kernel::resolve::Topology;
use crate::kernel::sysctl::SysctlChange;
use crate::kernel::worker::{Job, Worker};

use read::{AUDIT_EVERY, Retry};
use resolve::Looking;

/// Requests of one batch. Two are on their way at most: some five milliseconds of kernel time, the longest an urgent
/// change waits.
const BATCH: usize = 2048;
/// How long the end may take after the RIB's channel is closed.
const FLUSH_LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Busy {
    No,
    Writing,
    Reading,
}

type Sending = Pin<Box<dyn Future<Output = Result<(), Stopped>> + Send>>;

/// What others may watch.
pub(super) struct Published {
    pub(super) topology: watch::Sender<Arc<Topology>>,
    /// Counts changes of routes that are not ours.
    pub(super) others: watch::Sender<u64>,
    /// Changed in place: thousands of pods are not copied for each that comes.
    pub(super) pods: watch::Sender<PodRoutes>,
}

pub(super) struct Driver<F> {
    fib: Fib,
    topology: Topology,
    inbox: mpsc::Receiver<RibEvent>,
    feedback: F,
    /// Waiting for the speaker to take them; confirmations in a row are merged.
    outgoing: VecDeque<Feedback>,
    sending: Option<Sending>,
    monitor: Monitor,
    worker: Worker,
    commands: mpsc::Receiver<Command>,
    published: Published,
    /// Wait for the blackholes they asked for.
    blackhole_waiters: Vec<oneshot::Sender<()>>,
    sent: Arc<AtomicU64>,
    numbers_file: Option<PathBuf>,
    sysctls: Vec<SysctlChange>,
    warnings: Vec<String>,
    busy: Busy,
    resync: bool,
    next_install: Option<Install>,
    verify: bool,
    /// The last read failed: none before this time.
    retry: Option<Retry>,
    /// Reported while the kernel is being read.
    held: Vec<KernelEvent>,
    /// Next hops that are not on link: their way is the kernel's to say.
    indirect: BTreeSet<FibNexthop>,
    to_look_up: BTreeSet<FibNexthop>,
    to_inspect: BTreeSet<IpNet>,
    /// Pods' addresses whose links changed.
    pods_to_look_up: BTreeSet<IpNet>,
    looking: Option<Looking>,
    audit_at: Instant,
    closing: Option<Instant>,
}

impl<F: SpeakerFeedback> Driver<F> {
    pub(super) fn new(
        install: Install,
        inbox: mpsc::Receiver<RibEvent>,
        feedback: F,
        monitor: Monitor,
        worker: Worker,
        commands: mpsc::Receiver<Command>,
        published: Published,
    ) -> Self {
        Self {
            fib: Fib::new(install),
            topology: Topology::default(),
            inbox,
            feedback,
            outgoing: VecDeque::new(),
            sending: None,
            monitor,
            worker,
            commands,
            published,
            blackhole_waiters: Vec::new(),
            sent: Arc::default(),
            numbers_file: None,
            sysctls: Vec::new(),
            warnings: Vec::new(),
            busy: Busy::No,
            resync: false,
            next_install: None,
            verify: false,
            retry: None,
            held: Vec::new(),
            indirect: BTreeSet::new(),
            to_look_up: BTreeSet::new(),
            to_inspect: BTreeSet::new(),
            pods_to_look_up: BTreeSet::new(),
            looking: None,
            audit_at: Instant::now() + AUDIT_EVERY,
            closing: None,
        }
    }

    pub(super) fn record(&mut self, sent: Arc<AtomicU64>, sysctls: Vec<SysctlChange>, warnings: Vec<String>) {
        (self.sent, self.sysctls, self.warnings) = (sent, sysctls, warnings);
    }

    /// Protocol numbers of this and earlier runs, and where to keep them.
    pub(super) fn numbers(&mut self, numbers: &Numbers, file: Option<PathBuf>) {
        self.fib.add_numbers(numbers);
        self.numbers_file = file;
        self.keep_numbers();
    }

    /// A few octets, and only when a number begins or ceases to be used: not worth a thread.
    fn keep_numbers(&self) {
        if let Some(file) = &self.numbers_file {
            self.fib.numbers().save(file);
        }
    }

    /// Takes in the dump made at start.
    pub(super) fn adopt(&mut self, snapshot: Snapshot) {
        self.fib.adopt(&snapshot);
        self.published.pods.send_replace(PodRoutes::read(self.fib.install(), &snapshot.routes));
        info!(routes = snapshot.routes.len(), nexthops = snapshot.nexthops.len(), "kernel read");
        self.topology = Topology::new(snapshot.links, snapshot.addresses);
        self.publish();
    }

    pub(super) async fn run(mut self) -> Result<(), KernelError> {
        let outcome = self.serve().await;
        let Worker { jobs, answers, thread } = self.worker;
        drop((jobs, answers));
        if tokio::task::spawn_blocking(move || thread.join()).await.is_err() {
            warn!("the writer thread of the FIB did not end well");
        }
        outcome
    }

    async fn serve(&mut self) -> Result<(), KernelError> {
        loop {
            self.advance();
            if self.closing.is_some_and(|limit| self.at_rest() || Instant::now() >= limit) {
                return Ok(());
            }
            let retry = self.retry.as_ref().filter(|_| self.resync || self.verify).map(|retry| retry.at);
            let mut wake =
                self.fib.deadline().into_iter().chain(retry).fold(self.audit_at, |a: Instant, b| a.min(b));
            if self.busy != Busy::No {
                // Nothing can be written before the answer is here.
                wake = wake.max(Instant::now() + Duration::from_millis(10));
            }
            let wake = self.closing.map_or(wake, |limit| limit.min(wake));
            tokio::select! {
                event = self.inbox.recv(), if self.closing.is_none() && self.fib.has_room() => self.rib_events(event),
                answer = self.worker.answers.recv() => match answer {
                    Some(answer) => self.answered(answer),
                    None => return Err(KernelError::NoAnswer { doing: "use the writer thread" }),
                },
                events = self.monitor.next() => self.kernel_events(events?),
                Some(command) = self.commands.recv() => self.command(command),
                outcome = async { self.sending.as_mut().expect("guarded").await }, if self.sending.is_some() => {
                    self.sending = None;
                    if outcome.is_err() {
                        self.outgoing.clear();
                    }
                }
                () = sleep_until(wake.into()) => self.audit(),
            }
        }
    }

    fn at_rest(&self) -> bool {
        self.busy == Busy::No && self.fib.is_quiet()
    }

    fn rib_events(&mut self, first: Option<RibEvent>) {
        let Some(first) = first else {
            self.closing = Some(Instant::now() + FLUSH_LIMIT);
            return;
        };
        self.rib_event(first);
        while self.fib.has_room()
            && let Ok(event) = self.inbox.try_recv()
        {
            self.rib_event(event);
        }
    }

    fn rib_event(&mut self, event: RibEvent) {
        match event {
            RibEvent::Changes { seq, changes } => self.fib.changes(Instant::now(), seq, changes),
            RibEvent::NexthopsDown(nexthops) => {
                self.fib.nexthops_down(&nexthops);
                // Must be seen by a plan before what follows is: it is written first.
                self.advance();
            }
            RibEvent::NexthopsSettled => self.fib.nexthops_settled(),
            RibEvent::Resend { complete } => self.fib.resent(complete),
            RibEvent::Converged => self.fib.converged(),
        }
    }

    /// Everything that can be done now without waiting.
    fn advance(&mut self) {
        self.resolve_new();
        self.take_notes();
        match self.busy {
            Busy::No => self.next_job(),
            // What was read would be older than what is written after it was asked for.
            Busy::Writing if !self.resync && !self.verify => {
                let requests = self.fib.plan_ahead(BATCH);
                self.write(requests);
            }
            Busy::Writing | Busy::Reading => {}
        }
        self.take_notes();
        // Those of a configuration about to be taken over are not former ones.
        if self.next_install.is_none() && self.fib.forget_former_numbers() {
            self.keep_numbers();
        }
        if !self.blackhole_waiters.is_empty() && self.fib.blackholes_settled() {
            for waiter in self.blackhole_waiters.drain(..) {
                // Who no longer waits need not know.
                let _ = waiter.send(());
            }
        }
        self.look_up();
        if self.sending.is_none()
            && let Some(feedback) = self.outgoing.pop_front()
        {
            let door = self.feedback.clone();
            self.sending = Some(Box::pin(async move { door.send(feedback).await }));
        }
    }

    fn next_job(&mut self) {
        if self.next_read() {
            return;
        }
        let requests = self.fib.plan(Instant::now(), BATCH);
        self.write(requests);
    }

    fn write(&mut self, requests: Vec<Request>) {
        if !requests.is_empty() {
            let protocol = self.fib.install().protocol;
            self.job(Busy::Writing, Job::Write { requests, protocol });
        }
    }

    fn job(&mut self, busy: Busy, job: Job) {
        self.busy = busy;
        if self.worker.jobs.try_send(job).is_err() {
            // The thread has ended: its closed channel of answers ends the task.
            debug!("the writer thread takes no jobs");
        }
    }

    fn take_notes(&mut self) {
        for note in self.fib.take_notes() {
            match note {
                Note::Installed { seq, failed } => self.installed(seq, failed),
                Note::NexthopChanged(nexthop, reachable) => {
                    info!(nexthop = %nexthop.address, reachable, "next hop");
                    self.outgoing.push_back(Feedback::NexthopChanged(nexthop, reachable));
                }
                Note::Resend => self.outgoing.push_back(Feedback::Resend),
                Note::Reassert(prefix) => self.outgoing.push_back(Feedback::Reassert(prefix)),
                Note::Inspect(prefix) => {
                    self.to_inspect.insert(prefix);
                }
                Note::Verify => self.verify = true,
                Note::Resync => self.resync = true,
            }
        }
    }

    fn installed(&mut self, seq: u64, failed: Vec<bgp_speaker::rib::PrefixId>) {
        match self.outgoing.back_mut() {
            Some(Feedback::Installed { seq: last, failed: before }) => {
                *last = seq;
                before.extend(failed);
            }
            _ => self.outgoing.push_back(Feedback::Installed { seq, failed }),
        }
    }

    fn written(&mut self, outcome: Result<Vec<(usize, Refusal)>, KernelError>) {
        let refused = outcome.map_err(|error| warn!(%error, "outcome unknown: reading everything anew")).ok();
        for (_, refusal) in refused.iter().flatten() {
            debug!(errno = refusal.errno, error = %refusal, "the kernel refused a request");
        }
        self.fib.applied(Instant::now(), refused);
        // Our own routes may carry the next hops of others.
        self.to_look_up.extend(self.indirect.iter().filter(|nexthop| nexthop.recursive));
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Blackholes(prefixes, done) => {
                self.fib.set_blackholes(prefixes);
                self.blackhole_waiters.push(done);
            }
            Command::Install(install) => {
                let old = self.fib.install();
                let key = |install: &Install| {
                    (install.table, install.metric, install.protocol, install.local_protocol)
                };
                if self.next_install.is_some() || key(&install) != key(old) {
                    // Known before the first route carries them.
                    self.fib.add_numbers(&Numbers::of(&install));
                    self.keep_numbers();
                    self.next_install = Some(install);
                    self.resync = true;
                }
            }
            // A caller that has gone away needs no answer.
            Command::Status(answer) => drop(answer.send(self.status())),
        }
    }

    fn status(&self) -> FibStatus {
        FibStatus {
            uplink_mtu: self.fib.links().into_iter().filter_map(|link| self.topology.mtu_bytes(link)).min(),
            messages: self.sent.load(Ordering::Relaxed),
            sysctls: self.sysctls.clone(),
            warnings: self.warnings.iter().cloned().chain(self.retry.as_ref().map(Retry::warning)).collect(),
            ..self.fib.status(Instant::now())
        }
    }

    fn publish(&self) {
        self.published.topology.send_replace(Arc::new(self.topology.clone()));
    }
}
