//! What a node's status is made of, as it stands at one look.

use api::DesiredState;
use bgp_speaker::status::PeerStatus;

use crate::fib::status::FibStatus;
use crate::kernel::resolve::Topology;
use crate::pods::PodsStatus;

/// One look.
pub(super) struct Facts<'a> {
    pub(super) desired: &'a DesiredState,
    /// Generation of this node's NodeNetwork, once read.
    pub(super) generation: Option<i64>,
    /// Resources that are not in force as they stand.
    pub(super) refused: &'a [Refused],
    pub(super) peers: &'a [PeerStatus],
    pub(super) fib: &'a FibStatus,
    /// The kernel has lagged behind for longer than changes take.
    pub(super) behind: bool,
    pub(super) topology: &'a Topology,
    /// `None` in the first moments.
    pub(super) pods: Option<&'a PodsStatus>,
}

/// A resource that is not in force as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// `BGPPeer/tor`.
    pub(super) object: String,
    /// Field, value and remedy of each mistake.
    pub(super) problems: Vec<String>,
    /// Whether an earlier version of it is; `None`: it is in force without what it names and is not there.
    pub(super) last_good_in_force: Option<bool>,
}

/// The BGPPeer a session belongs to: sessions between nodes are called `BGPPEER/NODE`.
pub(super) fn bgp_peer(session: &str) -> &str {
    session.split('/').next().unwrap_or(session)
}

/// The session should be Established: it is neither paused nor the neighbour's to open.
pub(super) fn wanted(peer: &PeerStatus) -> bool {
    !peer.paused && !peer.dynamic
}

/// The session is Established.
pub(super) fn established(peer: &PeerStatus) -> bool {
    peer.state == "Established"
}

/// It works with a fault: it is gone and its routes stay (Graceful Restart), or it is at a prefix limit.
pub(super) fn degraded(peer: &PeerStatus) -> bool {
    let stale = peer.families.iter().any(|family| family.stale > 0);
    let full = peer.families.iter().any(|family| family.limit > 0 && family.received >= family.limit);
    stale || (established(peer) && full)
}
