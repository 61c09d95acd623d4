//! What a node's status is made of, as it stands at one look.

use api::DesiredState;
use api::build::Verdict;
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
    /// Not [`Verdict::Accepted`].
    pub(super) verdict: Verdict,
}

/// The BGPPeer a session belongs to: sessions between nodes are called `BGPPEER/NODE`.
pub(super) fn bgp_peer(session: &str) -> &str {
    session.split('/').next().unwrap_or(session)
}

/// It works with a fault: it is gone and its routes stay (Graceful Restart), or it is at a prefix limit.
pub(super) fn degraded(peer: &PeerStatus) -> bool {
    let stale = peer.families.iter().any(|family| family.stale > 0);
    let full = peer.families.iter().any(|family| family.limit > 0 && family.received >= family.limit);
    stale || (peer.is_established() && full)
}
