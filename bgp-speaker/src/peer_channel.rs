//! What the router task and a peer's task say to each other.

use std::sync::Arc;

use api::desired::Peer;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use crate::rib::{OutboundUpdate, PeerExport};
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
    /// More to say; answered with [`PeerEvent::Ready`] when it is written.
    Outbound(ConnId, Arc<[OutboundUpdate]>, Arc<PeerExport>),
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
    /// The last batch is written: the next one may come.
    Ready,
}

/// The router's end of a peer task.
pub(crate) struct PeerHandle {
    /// Full only if the task is stuck; the router then drops the command's effect by closing the task.
    pub(crate) commands: mpsc::Sender<PeerCommand>,
    pub(crate) view: watch::Receiver<PeerView>,
    pub(crate) counters: Arc<SharedCounters>,
}
