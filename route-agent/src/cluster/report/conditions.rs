//! The conditions of a `NodeNetwork`: what is judged, and in which words.
//!
//! In: what the daemon knows of itself. Out: conditions with a status, a reason of one word and a sentence that says
//! what to do. `lastTransitionTime` moves with the status only, as Kubernetes has it. Pure.

use api::few;
use api::words::{Condition, ConditionStatus};
use bgp_speaker::status::PeerStatus;
use cni::ready::State;

use super::facts::{Facts, Refused};
use crate::pods::PodsStatus;

/// A condition without its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) kind: &'static str,
    pub(super) status: ConditionStatus,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Judgement {
    pub(super) fn new(
        kind: &'static str,
        holds: bool,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let status = if holds { ConditionStatus::True } else { ConditionStatus::False };
        Self { kind, status, reason, message: message.into() }
    }

    pub(super) fn unknown(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status: ConditionStatus::Unknown, reason, message: message.into() }
    }

    /// With the time of its last transition: `now`, unless `earlier` has the same status already.
    pub(super) fn since(self, earlier: &[Condition], generation: Option<i64>, now: &str) -> Condition {
        let before = earlier.iter().find(|condition| condition.kind == self.kind);
        let unchanged = before.filter(|before| before.status == self.status);
        Condition {
            kind: self.kind.to_owned(),
            status: self.status,
            reason: self.reason.to_owned(),
            message: self.message,
            last_transition_time: unchanged
                .map_or_else(|| now.to_owned(), |before| before.last_transition_time.clone()),
            observed_generation: generation,
        }
    }
}

/// Every condition of this node.
pub(super) fn judge(facts: &Facts<'_>) -> Vec<Judgement> {
    vec![ready(facts.pods), accepted(facts), peers_up(facts), routes_converged(facts), kernel_ok(facts)]
}

/// Whether pods may start; never about peers.
pub(super) fn ready(pods: Option<&PodsStatus>) -> Judgement {
    let no = |reason, message: &str| Judgement::new("Ready", false, reason, message);
    let Some(pods) = pods else {
        return Judgement::unknown("Ready", "Starting", "the daemon has just started");
    };
    match pods.state {
        State::Drained => no("Drained", &format!("drained: no new pods; {}", pods.reason)),
        State::Converging => no("Converging", &pods.reason),
        State::Ready if pods.blocks.is_empty() => no(
            "NoPodCIDRs",
            "the node has no pod blocks, so only pods on the host's network run here; let the controller-manager allocate them (--allocate-node-cidrs), or give spec.podCIDRs of its NodeNetwork",
        ),
        State::Ready => match (&pods.conflist, pods.problems.first()) {
            (None, Some(problem)) => no("ConflistNotWritten", problem),
            _ => Judgement::new("Ready", true, "DataPlaneReady", "pods may start"),
        },
    }
}

fn accepted(facts: &Facts<'_>) -> Judgement {
    let said = |Refused { object, verdict }: &Refused| {
        format!("{object}: {}; {}", few(verdict.problems(), "; "), verdict.in_force())
    };
    let problems: Vec<String> = facts.refused.iter().map(said).collect();
    if problems.is_empty() {
        Judgement::new("ConfigurationAccepted", true, "Accepted", "every resource is in force as it stands")
    } else {
        let refused = facts.refused.iter().any(|refused| refused.verdict.is_refused());
        let reason = if refused { "ResourcesRefused" } else { "ReferencesMissing" };
        Judgement::new("ConfigurationAccepted", false, reason, few(&problems, "; "))
    }
}

fn peers_up(facts: &Facts<'_>) -> Judgement {
    if facts.desired.peers.is_empty() {
        return Judgement::new("PeersUp", false, "NoPeers", NO_PEERS);
    }
    let wanted = || facts.peers.iter().filter(|peer| peer.is_wanted());
    let all = wanted().count();
    let said = |peer: &PeerStatus| format!("{} ({}): {}", peer.peer, peer.neighbor, peer.down_because());
    let down: Vec<String> = wanted().filter(|peer| !peer.is_established()).map(said).collect();
    if all == 0 {
        Judgement::new("PeersUp", true, "NoneExpected", "every peer is paused or connects by itself")
    } else if down.is_empty() {
        Judgement::new("PeersUp", true, "AllEstablished", format!("{all} of {all} sessions are Established"))
    } else {
        let up = all - down.len();
        let message = format!("{up} of {all} sessions are Established; down: {}", few(&down, "; "));
        Judgement::new("PeersUp", false, "SessionsDown", message)
    }
}

/// What a node without any session says.
pub(super) const NO_PEERS: &str = "no BGPPeer selects this node: its pods reach each other and what the node itself reaches; create a BGPPeer that selects it, for the ToR or with neighbor.nodes for the other nodes";

fn routes_converged(facts: &Facts<'_>) -> Judgement {
    let fib = facts.fib;
    if fib.waiting > 0 {
        let message = format!(
            "{} routes wait for next hops that lead nowhere: {}",
            fib.waiting,
            few(&fib.unreachable, "; ")
        );
        return Judgement::new("RoutesConverged", false, "NextHopUnreachable", message);
    }
    if facts.behind {
        let message = format!("{} changes are not in the kernel yet", fib.pending + fib.unclaimed);
        return Judgement::new("RoutesConverged", false, "Pending", message);
    }
    Judgement::new("RoutesConverged", true, "Converged", "the kernel has what the sessions brought")
}

fn kernel_ok(facts: &Facts<'_>) -> Judgement {
    let fib = facts.fib;
    let no = |reason, message| Judgement::new("KernelOK", false, reason, message);
    if fib.failed_count > 0 {
        let lines: Vec<String> =
            fib.failed.iter().map(|failed| format!("{}: {}", failed.what, failed.error)).collect();
        return no(
            "RoutesRefused",
            format!("the kernel refuses {}: {}", fib.failed_count, few(&lines, "; ")),
        );
    }
    if fib.foreign_count > 0 {
        let lines: Vec<String> = fib.foreign.iter().map(|foreign| foreign.prefix.to_string()).collect();
        let message = format!(
            "routes that are not ours stand at our metric and are left alone: {}; remove them, or choose another install.metric",
            few(&lines, "; ")
        );
        return no("ForeignRoutes", message);
    }
    if !fib.warnings.is_empty() {
        return no("NotSetUp", few(&fib.warnings, "; "));
    }
    Judgement::new("KernelOK", true, "AsWanted", "the kernel takes everything")
}
