//! The router task: the one owner of the RIB, the sessions and the listeners.
//!
//! In: [`Command`]s from the handle, events of peer tasks, accepted connections. Out: [`RibEvent`]s to whoever
//! installs routes, batches of updates to peers that asked for them. Never waits for the kernel or for a peer:
//! what they have not taken yet stays in the RIB, one entry a prefix.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::DesiredState;
use tokio::net::TcpStream;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::connection::LINGER;
use crate::handle::{Command, Ending, SpeakerHandle};
use crate::managed::Managed;
use crate::peer_channel::{PeerCommand, PeerEvent, SessionKey};
use crate::restart::WarmStart;
use crate::rib::{Output, PeerId, Rib, RibConfig, RibEvent};
use crate::session::{Down, DownReason, Event, StopReason};
use crate::shrinking::Shrinking;
use crate::transport::Listeners;
use crate::wire::{AfiSafi, RefreshKind, RouteRefresh};

/// Prefixes in one batch for the FIB.
const FIB_BATCH: usize = 2048;
/// Prefixes taken from peers before what follows from them is passed on: a few milliseconds of work. The FIB and
/// the other peers begin as soon as the first of a full table are in, not when the last is.
const PREFIXES_AT_ONCE: usize = 4096;
/// Events of all peers that wait for the router; a decoded UPDATE is some half a kilobyte.
const EVENTS_WAITING: usize = 32;
/// Changes looked at for one batch of a peer.
const OUTBOUND_BUDGET: usize = 4096;
/// How often dynamic neighbours that went away are forgotten.
const TIDY: Duration = Duration::from_secs(5);

/// How a speaker starts.
#[derive(Debug)]
pub struct Options {
    /// Where changes of the Loc-RIB go; `None`: there is no FIB (a reflector, a first try).
    pub fib: Option<mpsc::Sender<RibEvent>>,
    /// Families for which an earlier run's routes are still in the kernel: a warm start (RFC 4724 section 4.1).
    pub preserved: Vec<AfiSafi>,
}

/// Starts a speaker with `desired`. The task ends after [`SpeakerHandle::stop`].
pub async fn start(options: Options, desired: Arc<DesiredState>) -> (SpeakerHandle, JoinHandle<()>) {
    // Full: callers of the handle wait.
    let (commands, command_receiver) = mpsc::channel(256);
    // Full: peer tasks stop reading their sockets.
    let (events, event_receiver) = mpsc::channel(EVENTS_WAITING);
    // Full: the listener waits, callers queue in the kernel.
    let (accepted, accepted_receiver) = mpsc::channel(64);
    let rib = Rib::new(rib_config(&desired, options.fib.is_some()));
    let mut router = Router {
        warm: WarmStart::new(&options.preserved),
        desired: Arc::clone(&desired),
        rib,
        sessions: BTreeMap::new(),
        next_key: 0,
        tasks: JoinSet::new(),
        listeners: Listeners::new(accepted),
        events,
        appetites: Arc::default(),
        fib: options.fib,
        next_for_fib: None,
        shrinking: Shrinking::default(),
        stopping: None,
    };
    router.begin();
    let task = tokio::spawn(router.run(command_receiver, event_receiver, accepted_receiver));
    let handle = SpeakerHandle::new(commands);
    // The first configuration goes the way of every later one.
    if let Ok(problems) = handle.configure(desired).await {
        for problem in problems {
            warn!(%problem, "speaker");
        }
    }
    (handle, task)
}

pub(crate) fn rib_config(desired: &DesiredState, fib: bool) -> RibConfig {
    RibConfig {
        max_paths: desired.install.max_paths,
        local_asn: desired.node.asn,
        router_id: desired.node.router_id,
        advertise_after_install: fib && desired.install.advertise_after_install,
        transit: desired.transit,
        pod_ranges: desired.pod_ranges.clone(),
        fib,
    }
}

pub(crate) struct Router {
    pub(crate) desired: Arc<DesiredState>,
    pub(crate) rib: Rib,
    pub(crate) sessions: BTreeMap<SessionKey, Managed>,
    pub(crate) next_key: u64,
    pub(crate) tasks: JoinSet<SessionKey>,
    pub(crate) listeners: Listeners,
    pub(crate) events: mpsc::Sender<(SessionKey, PeerEvent)>,
    /// Notified when a peer's task asks for a batch.
    pub(crate) appetites: Arc<Notify>,
    pub(crate) fib: Option<mpsc::Sender<RibEvent>>,
    /// Taken from the RIB for the FIB's next free place.
    next_for_fib: Option<RibEvent>,
    pub(crate) warm: WarmStart,
    shrinking: Shrinking,
    stopping: Option<Ending>,
}

impl Router {
    fn begin(&mut self) {
        if self.warm.waiting() {
            self.rib.hold();
        } else {
            self.rib.converged();
        }
    }

    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut events: mpsc::Receiver<(SessionKey, PeerEvent)>,
        mut accepted: mpsc::Receiver<TcpStream>,
    ) {
        let mut tidy = tokio::time::interval(TIDY);
        tidy.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let fib = self.fib.clone();
        let appetites = Arc::clone(&self.appetites);
        while self.stopping.is_none() {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => self.stopping = Some(Ending::Restart),
                },
                Some(ended) = self.tasks.join_next_with_id() => self.task_ended(ended),
                Some(stream) = accepted.recv() => self.incoming(stream),
                () = until(self.warm.deadline()) => self.warm_progress(),
                () = until(self.shrinking.due()) => self.shrinking.give_back(),
                permit = reserve(fib.as_ref()), if self.next_for_fib.is_some() => match permit {
                    Ok(permit) => if let Some(event) = self.next_for_fib.take() {
                        permit.send(event);
                    },
                    Err(_) => {
                        error!("the FIB has ended");
                        self.stopping = Some(Ending::Restart);
                    }
                },
                Some(first) = events.recv() => self.events(first, &mut events),
                () = appetites.notified() => {}
                _ = tidy.tick() => self.tidy(),
            }
            self.flush();
            self.shrinking.watch(self.rib.prefix_count());
        }
        self.stop(events).await;
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Configure(desired, answer) => {
                let problems = self.configure(desired);
                // The asker may have gone; the configuration holds all the same.
                let _ = answer.send(problems);
            }
            Command::SetOriginated(routes) => {
                for (prefix, error) in self.rib.set_originated(routes).err().into_iter().flatten() {
                    error!(%prefix, %error, "not originated");
                }
                self.warm.originated();
                self.warm_progress();
            }
            Command::Peers(answer) => {
                let _ = answer.send(self.peer_statuses());
            }
            Command::Sessions(answer) => {
                let _ = answer.send(self.session_briefs());
            }
            Command::Routes(query, answer) => {
                let _ = answer.send(self.routes(&query));
            }
            Command::Act(peer, action, answer) => {
                let _ = answer.send(self.act(&peer, &action));
            }
            Command::Installed(seq, failed) => {
                self.rib.installed(seq, &failed);
                if self.warm.kernel_has_routes() {
                    self.tell_local_speaker();
                }
                self.warm_progress();
            }
            Command::NexthopChanged(nexthop, reachable) => {
                info!(nexthop = %nexthop.address, reachable, "next hop");
                self.rib.nexthop_changed(nexthop, reachable);
            }
            Command::LinkDown(ifindex, name) => {
                self.to_sessions_on(ifindex, || Event::Stop(StopReason::LinkDown(name.clone())));
            }
            Command::LinkUp(ifindex) => self.to_sessions_on(ifindex, || Event::Start),
            Command::Resend => {
                self.rib.resend();
            }
            Command::Reassert(prefix) => {
                self.rib.reassert(&prefix);
            }
            Command::Stop(ending) => self.stopping = Some(ending),
        }
    }

    /// Takes what peers have said, until it is worth passing on.
    fn events(&mut self, first: (SessionKey, PeerEvent), more: &mut mpsc::Receiver<(SessionKey, PeerEvent)>) {
        let mut prefixes = 0;
        let mut next = Some(first);
        while let Some((key, event)) = next {
            prefixes += event.prefixes();
            self.event(key, event);
            next = if prefixes < PREFIXES_AT_ONCE { more.try_recv().ok() } else { None };
        }
    }

    fn event(&mut self, key: SessionKey, event: PeerEvent) {
        let Some(managed) = self.sessions.get_mut(&key) else { return };
        let id = managed.id;
        match event {
            PeerEvent::Up(connection, negotiated) => {
                self.warm.session_up(key, &negotiated);
                managed.up(connection, negotiated, &mut self.rib);
                self.warm_progress();
            }
            PeerEvent::Down(down) => self.session_down(key, &down),
            PeerEvent::Updates(updates) => {
                let mut output = Output::default();
                self.warm.updates(key);
                for update in updates {
                    if let Some(family) = update.end_of_rib {
                        debug!(peer = %managed.peer.name, %family, "End-of-RIB");
                        self.warm.end_of_rib(key, family);
                        managed.end_of_rib.push(family);
                    }
                    self.rib.apply(id, update, &mut output);
                }
                for limit in output.limits {
                    managed.limit_reached(&limit);
                }
                self.warm_progress();
            }
            PeerEvent::Refresh(refresh) => self.refresh(id, refresh),
            PeerEvent::SweepStale(family) => {
                self.rib.sweep_stale(id, family);
                managed.stale_swept(family);
            }
        }
    }

    fn refresh(&mut self, id: PeerId, refresh: RouteRefresh) {
        let Some(family) = refresh.family() else { return }; // not one of ours: RFC 2918 says ignore
        match refresh.kind {
            RefreshKind::Request => self.rib.refresh_request(id, family),
            RefreshKind::Begin => self.rib.refresh_begin(id, family),
            RefreshKind::End => self.rib.refresh_end(id, family),
            RefreshKind::Unknown(_) => {}
        }
    }

    fn session_down(&mut self, key: SessionKey, down: &Down) {
        let Some(managed) = self.sessions.get_mut(&key) else { return };
        managed.down(&down.retain);
        let id = managed.id;
        self.warm.session_down(key);
        // Down by an operator's word or over its limit: its next call must find that, not a fresh session.
        let kept = matches!(
            down.reason,
            DownReason::Stopped(StopReason::MaxPrefix { .. } | StopReason::AdminShutdown(_))
        );
        let forget = managed.dynamic && down.retain.is_empty() && !kept;
        self.rib.peer_lost(id, &down.retain);
        self.tell_fib_of_loss();
        let mut walk = || self.rib.peer_left(id, &down.retain);
        match Handle::current().runtime_flavor() {
            // The FIB's task, just woken, would wait on this thread for the end of the walk: 100,000 routes then
            // failed over in 20 to 30 ms instead of 0.6 to 4.
            RuntimeFlavor::MultiThread => tokio::task::block_in_place(walk),
            _ => walk(),
        }
        if forget {
            self.remove(key, None);
        }
    }

    /// Passes on the next hops that went with a session, before anything else is done about it. A FIB that has not even
    /// room for that is told of them first when it has.
    fn tell_fib_of_loss(&mut self) {
        let Some(fib) = &self.fib else { return };
        loop {
            let Some(event) = self.next_for_fib.take().or_else(|| self.rib.next_event(FIB_BATCH)) else {
                return;
            };
            let loss = matches!(event, RibEvent::NexthopsDown(_));
            match fib.try_send(event) {
                Ok(()) if loss => return,
                Ok(()) => {}
                Err(TrySendError::Full(event) | TrySendError::Closed(event)) => {
                    self.next_for_fib = Some(event);
                    return;
                }
            }
        }
    }

    /// Gives the FIB, and every peer that asked, what comes next.
    fn flush(&mut self) {
        if self.next_for_fib.is_none() {
            self.next_for_fib = self.rib.next_event(FIB_BATCH);
        }
        for managed in self.sessions.values().filter(|managed| managed.ready()) {
            if let Some(batch) = self.rib.next_updates(managed.id, OUTBOUND_BUDGET) {
                managed.send(batch);
            }
        }
    }

    /// After a warm start: enough is known to speak, or to sweep what an earlier run left.
    pub(crate) fn warm_progress(&mut self) {
        let progress = self.warm.progress(Instant::now(), self.desired.transit, self.rib.fib_settled());
        if progress.release {
            info!("restart: routes are selected, advertising");
            self.rib.release();
        }
        if progress.converged {
            info!("restart: every peer has sent its routes, or had its time");
            self.rib.converged();
            self.tell_local_speaker();
        }
    }

    async fn stop(mut self, mut events: mpsc::Receiver<(SessionKey, PeerEvent)>) {
        let ending = self.stopping.unwrap_or(Ending::Restart);
        info!(?ending, "speaker stops");
        drop(self.listeners);
        for managed in self.sessions.values() {
            let reason = match ending {
                Ending::Restart => StopReason::ProcessStops,
                Ending::Shutdown => StopReason::AdminShutdown(String::new()),
            };
            managed.tell(PeerCommand::Session(Event::Stop(reason)));
        }
        self.sessions.clear(); // with the command channels the tasks end
        let ended = async {
            while !self.tasks.is_empty() {
                tokio::select! {
                    _ = self.tasks.join_next() => {}
                    _ = events.recv() => {} // nobody waits for a place in this channel any more
                }
            }
        };
        if tokio::time::timeout(LINGER * 2, ended).await.is_err() {
            warn!("some sessions did not close in time");
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn reserve(
    fib: Option<&mpsc::Sender<RibEvent>>,
) -> Result<mpsc::Permit<'_, RibEvent>, mpsc::error::SendError<()>> {
    match fib {
        Some(fib) => fib.reserve().await,
        None => std::future::pending().await,
    }
}
