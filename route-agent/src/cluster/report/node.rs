//! The Node's condition `NetworkUnavailable`, which the cluster makes a taint of: True while this node converges after
//! a boot, False once pods may start. Nothing takes that back within the boot: neither lost sessions nor a new daemon.
//! Pure.

use api::words::ConditionStatus;
use cni::ready::State;
use k8s_openapi::api::core::v1::NodeCondition;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::conditions;
use super::status::time;
use crate::pods::PodsStatus;

/// The condition's type.
const KIND: &str = "NetworkUnavailable";

/// What the condition should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    available: bool,
    /// It replaces what was False.
    takes_back: bool,
    reason: &'static str,
    message: String,
}

impl Wanted {
    /// What is waited for changes from second to second: that is no reason to write.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        (self.available, self.reason) == (other.available, other.reason)
    }

    /// Pods may start.
    pub(super) fn available(&self) -> bool {
        self.available
    }
}

/// What the condition should say; `None`: what it says already. A drained node keeps what it has.
pub(super) fn wanted(pods: Option<&PodsStatus>) -> Option<Wanted> {
    let pods = pods?;
    let ready = conditions::ready(Some(pods));
    match (pods.state, ready.status) {
        (State::Drained, _) => None,
        (State::Ready, ConditionStatus::True) => Some(Wanted {
            available: true,
            takes_back: true,
            reason: "TowpathReady",
            message: "towpath gives pods their network".to_owned(),
        }),
        (state, _) => Some(Wanted {
            available: false,
            takes_back: state == State::Converging,
            reason: match ready.reason {
                "NoPodCIDRs" => "TowpathNoPodCIDRs",
                "ConflistNotWritten" => "TowpathConflistNotWritten",
                _ => "TowpathConverging",
            },
            message: ready.message,
        }),
    }
}

/// The condition to write, given those the Node has; `None`: it is as it should be.
pub(super) fn change(conditions: &[NodeCondition], wanted: &Wanted, now: Timestamp) -> Option<Value> {
    let current = conditions.iter().find(|condition| condition.type_ == KIND);
    let status = if wanted.available { "False" } else { "True" };
    let same_status = current.filter(|current| current.status == status);
    // What is waited for changes from second to second: status and reason count.
    if same_status.is_some_and(|current| current.reason.as_deref() == Some(wanted.reason)) {
        return None;
    }
    if !wanted.takes_back && current.is_some_and(|current| current.status == "False") {
        return None;
    }
    let now = time(now);
    let since = same_status.and_then(|current| current.last_transition_time.as_ref());
    Some(json!({
        "type": KIND,
        "status": status,
        "reason": wanted.reason,
        "message": wanted.message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": since.map_or_else(|| now.clone(), |since| time(since.0)),
    }))
}
