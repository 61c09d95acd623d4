//! The only door into a running speaker.
//!
//! Every method is one message to the router task and, where it asks something, one answer. Level-triggered
//! where it sets something: the whole wanted state, of which only the difference is applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::DesiredState;
use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot};

use crate::query::{RibQuery, RouteStatus};
use crate::rib::{FibNexthop, Origination, PrefixId};
use crate::status::{PeerStatus, SessionBrief};

/// The speaker's router task has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the BGP speaker has stopped")]
pub struct Stopped;

/// What an operator asks of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAction {
    /// ROUTE-REFRESH both ways: ask for everything, and send everything again.
    Refresh,
    /// Cease 6/4 with this text, then start again.
    Reset(String),
    /// Cease 6/2 with this text; down until [`PeerAction::Start`] or a restart of the daemon.
    Shutdown(String),
    /// Ends an earlier shutdown.
    Start,
}

/// How the speaker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// For an upgrade or a restart: where Graceful Restart holds, the connection just closes.
    Restart,
    /// For good: Cease 6/2 to everyone.
    Shutdown,
}

pub(crate) enum Command {
    Configure(Arc<DesiredState>, oneshot::Sender<Vec<String>>),
    SetOriginated(BTreeMap<IpNet, Origination>),
    Peers(oneshot::Sender<Vec<PeerStatus>>),
    Sessions(oneshot::Sender<Vec<SessionBrief>>),
    Routes(RibQuery, oneshot::Sender<Vec<RouteStatus>>),
    Act(String, PeerAction, oneshot::Sender<usize>),
    Installed(u64, Vec<PrefixId>),
    NexthopChanged(FibNexthop, bool),
    LinkDown(u32, String),
    LinkUp(u32),
    Resend,
    Reassert(IpNet),
    Stop(Ending),
}

/// Cheap to clone; the speaker goes on when all are dropped.
#[derive(Clone)]
pub struct SpeakerHandle {
    /// Bounded: callers wait while the router is busy.
    commands: mpsc::Sender<Command>,
}

impl SpeakerHandle {
    pub(crate) fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands }
    }

    /// Makes sessions, listeners and import rules match `desired`. Returns what could not be done, in words:
    /// a port in use, a key the kernel refused. Such things are tried again at the next call.
    ///
    /// # Errors
    /// [`Stopped`] when the speaker has ended, as for every method here.
    pub async fn configure(&self, desired: Arc<DesiredState>) -> Result<Vec<String>, Stopped> {
        self.ask(|answer| Command::Configure(desired, answer)).await
    }

    /// Replaces the whole set of prefixes this node originates.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn set_originated(&self, routes: BTreeMap<IpNet, Origination>) -> Result<(), Stopped> {
        self.tell(Command::SetOriginated(routes)).await
    }

    /// Every session in brief, sorted by name and neighbour.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn sessions(&self) -> Result<Vec<SessionBrief>, Stopped> {
        self.ask(Command::Sessions).await
    }

    /// Every session, sorted by name and neighbour. Counts every route: not for what asks often.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn peers(&self) -> Result<Vec<PeerStatus>, Stopped> {
        self.ask(Command::Peers).await
    }

    /// Routes of one of the RIBs.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn routes(&self, query: RibQuery) -> Result<Vec<RouteStatus>, Stopped> {
        self.ask(|answer| Command::Routes(query, answer)).await
    }

    /// Acts on every session of the BGPPeer called `peer`, or with that neighbour address; returns how many there were.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn act(&self, peer: String, action: PeerAction) -> Result<usize, Stopped> {
        self.ask(|answer| Command::Act(peer, action, answer)).await
    }

    /// The kernel has everything up to and including batch `seq`, but for `failed`.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn installed(&self, seq: u64, failed: Vec<PrefixId>) -> Result<(), Stopped> {
        self.tell(Command::Installed(seq, failed)).await
    }

    /// A next hop can be resolved, or no longer.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn nexthop_changed(&self, nexthop: FibNexthop, reachable: bool) -> Result<(), Stopped> {
        self.tell(Command::NexthopChanged(nexthop, reachable)).await
    }

    /// An interface lost its carrier, went down or away: sessions over it end now.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn link_down(&self, ifindex: u32, name: String) -> Result<(), Stopped> {
        self.tell(Command::LinkDown(ifindex, name)).await
    }

    /// An interface is usable again: sessions over it are tried at once.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn link_up(&self, ifindex: u32) -> Result<(), Stopped> {
        self.tell(Command::LinkUp(ifindex)).await
    }

    /// Asks for the complete list of wanted routes, between two [`crate::rib::RibEvent::Resend`].
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn resend(&self) -> Result<(), Stopped> {
        self.tell(Command::Resend).await
    }

    /// Asks for one prefix again, because the kernel lost it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn reassert(&self, prefix: IpNet) -> Result<(), Stopped> {
        self.tell(Command::Reassert(prefix)).await
    }

    /// Closes every session and ends the speaker; the task given by `start` then finishes.
    ///
    /// # Errors
    /// [`Stopped`] when it had ended already.
    pub async fn stop(&self, ending: Ending) -> Result<(), Stopped> {
        self.tell(Command::Stop(ending)).await
    }

    async fn tell(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).await.map_err(|_| Stopped)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.tell(command(answer)).await?;
        answered.await.map_err(|_| Stopped)
    }
}
