//! The driver of one peer: its sockets, its one timer, its [`Session`].
//!
//! In: [`PeerCommand`]s from the router task, octets from TCP, time. Out: [`PeerEvent`]s, in order, on the
//! router's bounded channel. While the router is busy the socket is not read, so TCP slows the peer down;
//! KEEPALIVEs and the timer go on. Decides nothing about BGP: [`Session`] does.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use api::desired::{Neighbor, Peer};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, info, warn};

use crate::connection::{Connection, Progress};
use crate::peer_channel::{Appetite, PeerCommand, PeerEvent, PeerHandle, SessionKey};
use crate::session::{
    Action, Actions, ConnId, Direction, Down, Endpoints, Event, LocalSpeaker, Negotiated, Session, State,
    StopReason,
};
use crate::status::{PeerView, SharedCounters};
use crate::transport::{self, Dial};
use crate::wire::{Message, Update};

/// Events kept for the router before the socket is no longer read.
const PENDING_MAX: usize = 4;
/// UPDATEs in one event: about a thousand prefixes of a full table. With 512 of them, and 256 events in the router's
/// channel, a whole table stood decoded between the tasks, and its first route reached the FIB after 0.3 s.
const UPDATES_PER_EVENT: usize = 128;

/// The task of one peer, to be spawned, and the way to it. The session waits for `Event::Start`.
pub(crate) fn prepare(
    key: SessionKey,
    peer: Peer,
    local: LocalSpeaker,
    router: mpsc::Sender<(SessionKey, PeerEvent)>,
    appetite: Appetite,
) -> (PeerHandle, impl Future<Output = SessionKey> + Send) {
    let (commands, receiver) = mpsc::channel(64);
    let session = Session::new(peer.clone(), local, seed(&peer));
    let counters = Arc::new(SharedCounters::default());
    let (publish, view) = watch::channel(PeerView::of(&session, &peer));
    let driver = Driver {
        key,
        peer,
        session,
        connections: Vec::with_capacity(2),
        finishing: JoinSet::new(),
        connecting: None,
        next_connection: 0,
        commands: receiver,
        router,
        pending: VecDeque::new(),
        established: None,
        appetite: appetite.clone(),
        awaiting_ready: false,
        downs: 0,
        publish,
        counters: Arc::clone(&counters),
    };
    (PeerHandle { commands, view, counters, appetite }, driver.run())
}

/// Two speakers started together must not stay in step: the jitter differs by peer and by process.
fn seed(peer: &Peer) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write(peer.name.as_bytes());
    hasher.finish()
}

type Connecting = JoinHandle<std::io::Result<(TcpStream, Endpoints)>>;

struct Driver {
    key: SessionKey,
    peer: Peer,
    session: Session,
    /// At most two: the session closes the loser of a collision.
    connections: Vec<Connection>,
    /// Connections that only write their last words.
    finishing: JoinSet<()>,
    connecting: Option<Connecting>,
    next_connection: u64,
    commands: mpsc::Receiver<PeerCommand>,
    router: mpsc::Sender<(SessionKey, PeerEvent)>,
    pending: VecDeque<PeerEvent>,
    established: Option<ConnId>,
    appetite: Appetite,
    /// A batch of the router is being written.
    awaiting_ready: bool,
    /// How often an Established session was lost.
    downs: u64,
    publish: watch::Sender<PeerView>,
    counters: Arc<SharedCounters>,
}

enum Wake {
    Deadline,
    Command(Option<PeerCommand>),
    Connected(std::io::Result<(TcpStream, Endpoints)>),
    Delivered,
    RouterGone,
    Io(usize, Progress),
}

impl Driver {
    async fn run(mut self) -> SessionKey {
        let key = self.key;
        loop {
            let may_read = self.pending.len() < PENDING_MAX;
            let wake = tokio::select! {
                biased;
                () = until(self.session.deadline()) => Wake::Deadline,
                command = self.commands.recv() => Wake::Command(command),
                result = connected(&mut self.connecting) => Wake::Connected(result),
                permit = self.router.reserve(), if !self.pending.is_empty() => match (permit, self.pending.pop_front()) {
                    (Ok(permit), Some(event)) => {
                        permit.send((self.key, event));
                        Wake::Delivered
                    }
                    _ => Wake::RouterGone,
                },
                Some(_) = self.finishing.join_next() => Wake::Delivered,
                (index, progress) = any_io(&mut self.connections, may_read) => Wake::Io(index, progress),
            };
            match wake {
                Wake::Deadline => self.deadline(),
                Wake::Command(Some(command)) => self.command(command),
                Wake::Command(None) | Wake::RouterGone => break,
                Wake::Connected(result) => self.connect_finished(result),
                Wake::Delivered => {}
                Wake::Io(index, progress) => self.io(index, progress),
            }
            self.report_ready();
        }
        self.close().await;
        key
    }

    /// The timer fired. Octets that wait unread prove that the peer is alive: after a stall of ours they come first.
    fn deadline(&mut self) {
        let ids: Vec<ConnId> = self.connections.iter().map(Connection::id).collect();
        for id in ids {
            if self.connection(id).is_some_and(Connection::fill_once) {
                self.decode(id);
            }
        }
        self.feed(Event::Deadline);
    }

    fn command(&mut self, command: PeerCommand) {
        match command {
            PeerCommand::Incoming(stream) => match transport::adopt(&stream, &self.peer) {
                Ok(endpoints) => self.connected(stream, Direction::Incoming, endpoints),
                Err(error) => debug!(peer = %self.peer.name, %error, "incoming connection not taken"),
            },
            PeerCommand::Outbound(id, batch, peer, export) => {
                // A batch for a session that has ended since says nothing to the next one.
                if self.established != Some(id) {
                    return;
                }
                if let Some(connection) = self.connection(id) {
                    let messages = connection.queue_batch(&batch, peer, &export);
                    self.counters.sent_batch(&messages);
                    self.awaiting_ready = true;
                }
            }
            PeerCommand::Session(event) => self.feed(event),
            PeerCommand::Configure(peer) => {
                self.peer = (*peer).clone();
                self.step(|session| session.update_config(Instant::now(), *peer));
            }
            PeerCommand::Local(local) => self.session.set_local(*local),
        }
    }

    fn connect_finished(&mut self, result: std::io::Result<(TcpStream, Endpoints)>) {
        self.connecting = None;
        match result {
            Ok((stream, endpoints)) => self.connected(stream, Direction::Outgoing, endpoints),
            Err(error) => self.feed(Event::ConnectFailed(error.to_string())),
        }
    }

    fn connected(&mut self, stream: TcpStream, direction: Direction, endpoints: Endpoints) {
        let id = ConnId(self.next_connection);
        self.next_connection += 1;
        self.connections.push(Connection::new(id, stream));
        self.feed(Event::Connected(id, direction, endpoints));
    }

    fn io(&mut self, index: usize, progress: Progress) {
        let Some(id) = self.connections.get(index).map(Connection::id) else { return };
        match progress {
            Progress::Wrote => self.feed(Event::Wrote(id)),
            Progress::Read => self.decode(id),
            Progress::Closed(how) => {
                // What arrived before the end still counts: the last message is often a NOTIFICATION.
                self.decode(id);
                if self.connections.iter().any(|connection| connection.id() == id) {
                    self.drop_connection(id);
                    self.feed(Event::Closed(id, how));
                }
            }
        }
    }

    /// Hands every complete message of this connection's buffer to the session.
    fn decode(&mut self, id: ConnId) {
        // An action may close the connection or change its codec, so it is looked up for each message.
        while let Some(connection) = self.connections.iter_mut().find(|connection| connection.id() == id) {
            match connection.next_message() {
                Ok(Some(message)) => {
                    self.counters.received(&message);
                    self.feed(Event::Message(id, message));
                }
                Ok(None) => break,
                Err(error) => {
                    self.feed(Event::Malformed(id, error));
                    break;
                }
            }
        }
    }

    fn feed(&mut self, event: Event) {
        self.step(|session| session.handle(Instant::now(), event));
    }

    /// Does what the session asks for, and publishes where that leaves it.
    fn step(&mut self, step: impl FnOnce(&mut Session) -> Actions) {
        let before = self.session.state();
        let actions = step(&mut self.session);
        self.perform(actions);
        let after = self.session.state();
        if before != after {
            debug!(peer = %self.peer.name, from = ?before, to = ?after, "session state");
        }
        if before != after || self.publish.borrow().outdated(&self.session) {
            let view = self.publish.borrow().next(&self.session, &self.peer, self.downs);
            self.publish.send_replace(view);
        }
    }

    fn perform(&mut self, actions: impl IntoIterator<Item = Action>) {
        for action in actions {
            match action {
                Action::Connect => self.connect(),
                Action::AbortConnect => self.abort_connect(),
                Action::Close(id) => self.finish_connection(id),
                Action::Send(id, message) => self.send(id, &message),
                Action::UseCodec(id, codec) => {
                    if let Some(connection) = self.connection(id) {
                        connection.use_codec(codec);
                    }
                }
                Action::Deliver(update) => self.deliver(update),
                Action::Refresh(refresh) => self.pending.push_back(PeerEvent::Refresh(refresh)),
                Action::Up(id, negotiated) => self.up(id, negotiated),
                Action::Down(down) => self.down(down),
                Action::SweepStale(family) => self.pending.push_back(PeerEvent::SweepStale(family)),
            }
        }
    }

    fn deliver(&mut self, update: Update) {
        for fault in &update.faults {
            warn!(peer = %self.peer.name, attribute = fault.attribute, action = ?fault.action, reason = %fault.reason, "malformed UPDATE");
            self.counters.fault(fault.action);
        }
        if let Some(PeerEvent::Updates(batch)) = self.pending.back_mut()
            && batch.len() < UPDATES_PER_EVENT
        {
            batch.push(update);
        } else {
            self.pending.push_back(PeerEvent::Updates(vec![update]));
        }
    }

    fn up(&mut self, id: ConnId, negotiated: Box<Negotiated>) {
        info!(peer = %self.peer.name, neighbor = %negotiated.endpoints.remote.ip(), local_as = negotiated.local_asn,
              remote_as = negotiated.remote_asn, hold_time = ?negotiated.hold_time, "session established");
        self.established = Some(id);
        self.awaiting_ready = true; // a new session asks for its first batch at once
        self.pending.push_back(PeerEvent::Up(id, negotiated));
    }

    fn down(&mut self, down: Down) {
        warn!(peer = %self.peer.name, reason = %down.reason.explain(&self.peer), stale = ?down.retain, "session down");
        self.downs += 1;
        self.established = None;
        self.awaiting_ready = false;
        self.pending.push_back(PeerEvent::Down(down));
    }

    fn connect(&mut self) {
        self.abort_connect();
        let Neighbor::Address { address, interface } = self.peer.neighbor.clone() else { return };
        let (peer, port) = (self.peer.clone(), self.peer.port);
        self.connecting = Some(tokio::spawn(async move {
            let remote: SocketAddr = transport::remote_address(address, interface.as_deref(), port)?;
            transport::connect(Dial { remote, peer }).await
        }));
    }

    fn abort_connect(&mut self) {
        if let Some(connecting) = self.connecting.take() {
            connecting.abort();
        }
    }

    fn send(&mut self, id: ConnId, message: &Message) {
        self.counters.sent(message);
        if let Some(connection) = self.connection(id) {
            connection.queue(message);
        }
    }

    /// Lets a task of its own write what is queued (often a NOTIFICATION) and close.
    fn finish_connection(&mut self, id: ConnId) {
        if let Some(index) = self.connections.iter().position(|connection| connection.id() == id) {
            self.finishing.spawn(self.connections.swap_remove(index).finish());
        }
    }

    fn drop_connection(&mut self, id: ConnId) {
        self.connections.retain(|connection| connection.id() != id);
    }

    fn connection(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.id() == id)
    }

    fn report_ready(&mut self) {
        let Some(id) = self.established.filter(|_| self.awaiting_ready) else { return };
        if self.connection(id).is_some_and(|connection| connection.drained()) {
            self.awaiting_ready = false;
            self.appetite.ask(id);
        }
    }

    /// The speaker ends or the peer was removed: what is queued still goes out, for a moment.
    async fn close(mut self) {
        self.abort_connect();
        if self.session.state() != State::Idle {
            let actions = self.session.handle(Instant::now(), Event::Stop(StopReason::ProcessStops));
            self.perform(actions);
        }
        for connection in self.connections.drain(..) {
            self.finishing.spawn(connection.finish());
        }
        while let Some(ended) = self.finishing.join_next().await {
            if let Err(error) = ended {
                warn!(peer = %self.peer.name, %error, "closing a connection failed");
            }
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

async fn connected(connecting: &mut Option<Connecting>) -> std::io::Result<(TcpStream, Endpoints)> {
    match connecting {
        Some(task) => match task.await {
            Ok(result) => result,
            Err(error) => Err(std::io::Error::other(error)),
        },
        None => std::future::pending().await,
    }
}

/// The first connection that can read or write, and what came of it.
async fn any_io(connections: &mut [Connection], may_read: bool) -> (usize, Progress) {
    match connections {
        [] => std::future::pending().await,
        [only] => (0, only.io(may_read).await),
        [first, second, ..] => tokio::select! {
            progress = first.io(may_read) => (0, progress),
            progress = second.io(may_read) => (1, progress),
        },
    }
}
