//! STATUS: whether pods may start on this node.
//!
//! Runtimes ask every few seconds and report the node as not ready on any error, upon which its pods are taken out of
//! service and evicted. So only two things are errors: a node that has no routes yet or is drained, and a
//! configuration that no ADD could work with. Exhausted blocks are told by ADD, a lost session by the daemon.

use super::node::Node;
use crate::spec::{CniError, Code, Input};

/// Answers STATUS.
///
/// # Errors
/// 50 while the daemon does not want pods to start; 2, 6, 7 for what is wrong with the configuration.
pub(super) fn status(input: &Input) -> Result<(), CniError> {
    let unavailable =
        |reason: &str| CniError::new(Code::NotAvailable, format!("no pods can start here: {reason}"));
    match Node::read(&input.conf()?, &input.state_place()?) {
        Ok(Node { not_ready: None, .. }) => Ok(()),
        Ok(Node { not_ready: Some(reason), .. }) => Err(unavailable(&reason)),
        Err(error) if error.code == Code::TryAgainLater => Err(unavailable(&error.msg)),
        Err(error) => Err(error),
    }
}
