//! The router task: the one owner of the RIB, the sessions and the listeners.
//!
//! In: [`Command`]s from the handle, events of peer tasks, accepted connections. Out: [`RibEvent`]s to whoever
//! installs routes, batches of updates to peers that asked for them. Never waits for the kernel or for a peer:
//! what they have not taken yet stays in the RIB, one entry a prefix.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::DesiredState;
use api::desired::{Neighbor, Peer};
use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::handle::{Command, Ending, PeerAction, SpeakerHandle};
use crate::managed::{Managed, SessionKey, dynamic_peer, settings};
use crate::peer::{self, PeerCommand, PeerEvent};
use crate::restart::WarmStart;
use crate::rib::{Output, PeerId, Rib, RibConfig, RibEvent};
use crate::session::{ConfigEffect, Down, DownReason, Event, LocalSpeaker, StopReason, needs_reset};
use crate::transport::{ListenKey, Listeners};
use crate::wire::{AfiSafi, RefreshKind, RouteRefresh};

/// Prefixes in one batch for the FIB.
const FIB_BATCH: usize = 4096;
/// Events taken from peers before what follows from them is passed on.
const EVENTS_AT_ONCE: usize = 64;
/// Changes looked at for one batch of a peer.
const OUTBOUND_BUDGET: usize = 8192;
/// How often dynamic neighbours that went away are forgotten.
const TIDY: Duration = Duration::from_secs(5);
/// A peer's task that panicked starts again after this long.
const AFTER_PANIC: Duration = Duration::from_secs(10);

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
    let (events, event_receiver) = mpsc::channel(256);
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
        fib: options.fib,
        next_for_fib: None,
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
    next_key: u64,
    tasks: JoinSet<SessionKey>,
    listeners: Listeners,
    events: mpsc::Sender<(SessionKey, PeerEvent)>,
    fib: Option<mpsc::Sender<RibEvent>>,
    /// Taken from the RIB for the FIB's next free place.
    next_for_fib: Option<RibEvent>,
    warm: WarmStart,
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
        let mut batch = Vec::with_capacity(EVENTS_AT_ONCE);
        let mut tidy = tokio::time::interval(TIDY);
        tidy.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let fib = self.fib.clone();
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
                permit = reserve(fib.as_ref()), if self.next_for_fib.is_some() => match permit {
                    Ok(permit) => if let Some(event) = self.next_for_fib.take() {
                        permit.send(event);
                    },
                    Err(_) => {
                        error!("the FIB has ended");
                        self.stopping = Some(Ending::Restart);
                    }
                },
                _ = events.recv_many(&mut batch, EVENTS_AT_ONCE) => {
                    for (key, event) in batch.drain(..) {
                        self.event(key, event);
                    }
                }
                _ = tidy.tick() => self.tidy(),
            }
            self.flush();
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
            PeerEvent::Ready => managed.ready = true,
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
        self.rib.peer_down(id, &down.retain);
        if forget {
            self.remove(key, None);
        }
    }

    /// Gives the FIB, and every peer that asked, what comes next.
    fn flush(&mut self) {
        if self.next_for_fib.is_none() {
            self.next_for_fib = self.rib.next_event(FIB_BATCH);
        }
        for managed in self.sessions.values_mut().filter(|managed| managed.ready) {
            if let Some(updates) = self.rib.next_updates(managed.id, OUTBOUND_BUDGET) {
                managed.ready = false;
                managed.send(updates);
            }
        }
    }

    fn configure(&mut self, desired: Arc<DesiredState>) -> Vec<String> {
        let previous = std::mem::replace(&mut self.desired, Arc::clone(&desired));
        self.rib.set_identity(desired.node.asn, desired.node.router_id);
        self.rib.set_import(desired.transit, desired.pod_ranges.clone());
        let after_install = self.fib.is_some() && desired.install.advertise_after_install;
        self.rib.set_install(desired.install.max_paths, after_install);
        // A new router id or name is part of every OPEN.
        let identity_changed =
            (previous.node.router_id, &previous.node.name) != (desired.node.router_id, &desired.node.name);
        let keys: Vec<SessionKey> = self.sessions.keys().copied().collect();
        for key in keys {
            let Some(managed) = self.sessions.get(&key) else { continue };
            let Some(new) = desired.peers.iter().find(|peer| peer.name == managed.peer.name) else {
                self.remove(key, Some(StopReason::Deconfigured));
                continue;
            };
            let Some(new) = managed.reconfigured(new) else {
                self.remove(key, Some(StopReason::Deconfigured)); // no longer in a listen range
                continue;
            };
            match needs_reset(&managed.peer, &new) {
                ConfigEffect::Reset => self.remove(key, Some(StopReason::ConfigurationChange)),
                _ if identity_changed => self.remove(key, Some(StopReason::ConfigurationChange)),
                effect => self.reconfigure(key, new, effect),
            }
        }
        // Keys before sessions: a connection that comes at once must find its key.
        let problems = self.listeners.configure(desired.listen.as_ref(), &listen_keys(&desired.peers));
        for peer in &desired.peers {
            let running = self.sessions.values().any(|managed| managed.peer.name == peer.name);
            if !running
                && matches!(peer.neighbor, Neighbor::Address { .. })
                && let Some(managed) = self.add(peer.clone(), false).and_then(|key| self.sessions.get(&key))
            {
                managed.start();
            }
        }
        let open_ended = |peer: &Peer| peer.paused.is_none() && matches!(peer.neighbor, Neighbor::Listen { .. });
        self.warm.expect(
            self.sessions.iter().filter(|(_, managed)| managed.is_wanted()).map(|(key, _)| *key),
            desired.peers.iter().any(open_ended),
        );
        self.warm_progress();
        problems
    }

    fn reconfigure(&mut self, key: SessionKey, new: Peer, effect: ConfigEffect) {
        let Some(managed) = self.sessions.get_mut(&key) else { return };
        if managed.peer == new {
            return;
        }
        info!(peer = %new.name, ?effect, "peer changed");
        let more_allowed = managed.limits_widened(&new);
        managed.peer = new.clone();
        managed.tell(PeerCommand::Configure(Box::new(new)));
        if more_allowed {
            // What was over the limit before is not here: it must be said again.
            managed.tell(PeerCommand::Session(Event::RequestRefresh));
        }
        let effect = self.rib.update_peer(managed.id, settings(&managed.peer));
        if effect.reexported {
            managed.export = self.rib.peer_export(managed.id).map(Arc::new);
        }
    }

    /// Makes a session, which waits for its start. `None` when the RIB takes no more peers.
    fn add(&mut self, peer: Peer, dynamic: bool) -> Option<SessionKey> {
        let Some(id) = self.rib.add_peer(settings(&peer)) else {
            error!(peer = %peer.name, "no room for another peer");
            return None;
        };
        let key = SessionKey(self.next_key);
        self.next_key += 1;
        let (handle, task) = peer::prepare(key, peer.clone(), self.local_speaker(), self.events.clone());
        self.tasks.spawn(task);
        let managed = Managed::new(id, peer, dynamic, handle);
        self.sessions.insert(key, managed);
        Some(key)
    }

    /// Ends a session; its task writes the last words on its own.
    fn remove(&mut self, key: SessionKey, stop: Option<StopReason>) {
        let Some(managed) = self.sessions.remove(&key) else { return };
        if let Some(reason) = stop {
            managed.tell(PeerCommand::Session(Event::Stop(reason)));
        }
        self.rib.remove_peer(managed.id);
        self.warm.forget(key);
    }

    fn local_speaker(&self) -> LocalSpeaker {
        LocalSpeaker {
            router_id: self.desired.node.router_id,
            host_name: self.desired.node.name.clone(),
            restarting: self.warm.waiting(),
            forwarding_preserved: self.warm.preserved().to_vec(),
        }
    }

    fn incoming(&mut self, stream: TcpStream) {
        let Ok(remote) = stream.peer_addr() else { return };
        let known = self.sessions.values().find(|managed| managed.is_neighbor(remote));
        let peer = known.map(|managed| &managed.peer);
        let peer =
            peer.or_else(|| self.desired.peers.iter().find(|peer| listen_match(peer, remote.ip()).is_some()));
        if let Some(peer) = peer
            && peer.md5.is_some()
            && !self.listeners.demands_key(remote.ip())
        {
            // The kernel refused the key, so this connection may be anybody's.
            warn!(peer = %peer.name, neighbor = %remote.ip(), "connection without a password refused");
            return;
        }
        if let Some(managed) = known {
            managed.tell(PeerCommand::Incoming(stream));
            return;
        }
        let range =
            self.desired.peers.iter().find_map(|peer| listen_match(peer, remote.ip()).map(|max| (peer, max)));
        let Some((peer, max)) = range else {
            debug!(neighbor = %remote.ip(), "connection from nobody we know refused");
            return;
        };
        let used = self
            .sessions
            .values()
            .filter(|managed| managed.dynamic && managed.peer.name == peer.name)
            .count();
        if used >= max as usize {
            warn!(peer = %peer.name, neighbor = %remote.ip(), max, "connection refused: neighbor.listen.max is reached");
            return;
        }
        let key = self.add(dynamic_peer(peer, remote), true);
        if let Some(managed) = key.and_then(|key| self.sessions.get(&key)) {
            managed.start();
            managed.tell(PeerCommand::Incoming(stream));
        }
    }

    fn to_sessions_on(&self, ifindex: u32, event: impl Fn() -> Event) {
        let affected = |managed: &&Managed| managed.ifindex == Some(ifindex) && managed.is_wanted();
        for managed in self.sessions.values().filter(affected) {
            managed.tell(PeerCommand::Session(event()));
        }
    }

    fn act(&mut self, peer: &str, action: &PeerAction) -> usize {
        let mut count = 0;
        for managed in self.sessions.values_mut().filter(|managed| managed.is_called(peer)) {
            count += 1;
            match action {
                PeerAction::Refresh => {
                    managed.tell(PeerCommand::Session(Event::RequestRefresh));
                    for family in managed.families() {
                        self.rib.refresh_request(managed.id, family);
                    }
                }
                PeerAction::Reset(text) => {
                    managed.tell(PeerCommand::Session(Event::Stop(StopReason::AdminReset(text.clone()))));
                }
                PeerAction::Shutdown(text) => {
                    managed.shut_down = true;
                    managed.tell(PeerCommand::Session(Event::Stop(StopReason::AdminShutdown(text.clone()))));
                }
                PeerAction::Start => {
                    managed.shut_down = false;
                    managed.tell(PeerCommand::Session(Event::Start));
                }
            }
        }
        count
    }

    /// After a warm start: enough is known to speak, or to sweep what an earlier run left.
    fn warm_progress(&mut self) {
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

    /// For the next OPEN of every session.
    fn tell_local_speaker(&self) {
        let local = self.local_speaker();
        for managed in self.sessions.values() {
            managed.tell(PeerCommand::Local(Box::new(local.clone())));
        }
    }

    fn tidy(&mut self) {
        // An address that was not there yet, a port or a key that was refused: it may work now.
        self.listeners.configure(self.desired.listen.as_ref(), &listen_keys(&self.desired.peers));
        let idle: Vec<SessionKey> =
            self.sessions.iter().filter(|(_, managed)| managed.is_abandoned()).map(|(key, _)| *key).collect();
        for key in idle {
            self.remove(key, None);
        }
    }

    fn task_ended(&mut self, ended: Result<(tokio::task::Id, SessionKey), tokio::task::JoinError>) {
        let Err(error) = ended else { return };
        let key = self.sessions.iter().find(|(_, managed)| managed.is_finished()).map(|(key, _)| *key);
        let Some(key) = key else { return };
        let Some(managed) = self.sessions.get(&key) else { return };
        let (peer, dynamic) = (managed.peer.clone(), managed.dynamic);
        error!(peer = %peer.name, %error, "a session's task failed: this is a bug; the session starts again");
        self.remove(key, None);
        if !dynamic {
            // Not at once: whatever made the task fail may come again.
            let key = self.add(peer, false);
            if let Some(managed) = key.and_then(|key| self.sessions.get(&key)) {
                managed.start_after(AFTER_PANIC);
            }
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
        if tokio::time::timeout(peer::LINGER * 2, ended).await.is_err() {
            warn!("some sessions did not close in time");
        }
    }
}

/// MD5 keys of everybody who may call.
fn listen_keys(peers: &[Peer]) -> Vec<ListenKey> {
    let mut keys = Vec::new();
    for peer in peers {
        let Some(key) = &peer.md5 else { continue };
        let neighbors = match &peer.neighbor {
            Neighbor::Address { address, .. } => vec![IpNet::from(*address)],
            Neighbor::Listen { ranges, .. } => ranges.clone(),
        };
        keys.extend(neighbors.into_iter().map(|neighbor| ListenKey { neighbor, key: key.clone() }));
    }
    keys
}

/// The session limit of a listen peer whose ranges hold `address`.
fn listen_match(peer: &Peer, address: IpAddr) -> Option<u32> {
    match &peer.neighbor {
        Neighbor::Listen { ranges, max }
            if peer.paused.is_none() && ranges.iter().any(|range| range.contains(&address)) =>
        {
            Some(*max)
        }
        _ => None,
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
