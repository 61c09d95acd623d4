//! What the router task and a peer's task say to each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::desired::Peer;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};

use crate::rib::{OutboundBatch, PeerExport, PeerId};
use crate::session::{ConnId, Down, Event, LocalSpeaker, Negotiated};
use crate::status::{PeerView, SharedCounters};
use crate::wire::{AfiSafi, RouteRefresh, Update};

/// One run of one session's task, never reused: what a task says after it was replaced is recognised and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionKey(pub(crate) u64);

/// What the router tells a peer's task.
#[derive(Debug)]
pub(crate) enum PeerCommand {
    /// A connection the listener accepted from this neighbour.
    Incoming(TcpStream),
    /// More to say to this peer of the RIB; answered with [`Appetite::ask`] when it is written.
    Outbound(ConnId, Arc<OutboundBatch>, PeerId, Arc<PeerExport>),
    /// An event for the session: start, stop, refresh.
    Session(Event),
    /// Changed settings that need no new session.
    Configure(Box<Peer>),
    /// Changed capabilities of this speaker, for the next OPEN.
    Local(Box<LocalSpeaker>),
}

/// What a peer's task tells the router.
#[derive(Debug)]
pub(crate) enum PeerEvent {
    Up(ConnId, Box<Negotiated>),
    Down(Down),
    Updates(Vec<Update>),
    Refresh(RouteRefresh),
    SweepStale(AfiSafi),
}

impl PeerEvent {
    /// How many prefixes the router has to look at, at least one.
    pub(crate) fn prefixes(&self) -> usize {
        let Self::Updates(updates) = self else { return 1 };
        updates.iter().map(Update::prefix_count).sum::<usize>().max(1)
    }
}

/// A peer's task asks for its next batch. Not an event, because it must not wait behind those of other peers: a full
/// channel holds some 32,000 routes of a feeder.
#[derive(Clone)]
pub(crate) struct Appetite {
    /// One more than the connection that has room; 0: none.
    asked: Arc<AtomicU64>,
    router: Arc<Notify>,
}

impl Appetite {
    /// None yet; `router` is woken when that changes.
    pub(crate) fn new(router: Arc<Notify>) -> Self {
        Self { asked: Arc::default(), router }
    }

    /// All of the last batch but a little is written on `connection`, or it is new.
    pub(crate) fn ask(&self, connection: ConnId) {
        self.asked.store(connection.0 + 1, Ordering::Release);
        self.router.notify_one();
    }

    /// Whether `connection` has asked.
    pub(crate) fn has_asked(&self, connection: ConnId) -> bool {
        self.asked.load(Ordering::Acquire) == connection.0 + 1
    }

    /// It is given a batch now.
    pub(crate) fn served(&self) {
        self.asked.store(0, Ordering::Release);
    }
}

/// The router's end of a peer task.
pub(crate) struct PeerHandle {
    /// Full only if the task is stuck; the router then drops the command's effect by closing the task.
    pub(crate) commands: mpsc::Sender<PeerCommand>,
    pub(crate) view: watch::Receiver<PeerView>,
    pub(crate) counters: Arc<SharedCounters>,
    pub(crate) appetite: Appetite,
}
