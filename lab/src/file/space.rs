//! In which network namespace a link's end lives, and which bridge it is a port of.
//!
//! A lab has one namespace that stands for containerlab's host: bridges without `network-mode`,
//! `host:` and `mgmt-net:` ends and the management network are in it. It is the holder's own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::file::topology::{Network, NodeSpec};

/// The short word for the host namespace as the node of an end.
pub(crate) const HOST: &str = "host";
/// The short word for the management network as the node of an end.
pub(crate) const MGMT_NET: &str = "mgmt-net";

/// A network namespace of a lab.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Space {
    /// That of this node.
    Node(String),
    /// The lab's host namespace.
    Host,
    /// `/run/netns/<name>` of the machine.
    Outside(String),
}

/// The namespace of what is called `name` in a link: a node, `host` or `mgmt-net`.
pub(crate) fn of(name: &str, nodes: &BTreeMap<String, NodeSpec>) -> Space {
    let owner = network_owner(name, nodes);
    match nodes.get(owner).map(|node| &node.network) {
        Some(Network::Outside(name)) => Space::Outside(name.clone()),
        Some(Network::Host) | None => Space::Host,
        // A circle of `container:` is refused elsewhere; any answer will do here.
        Some(Network::Management | Network::None | Network::Container(_)) => Space::Node(owner.to_owned()),
    }
}

/// The node whose network `name` uses: itself, or where `container:` leads.
pub(crate) fn network_owner<'a>(name: &'a str, nodes: &'a BTreeMap<String, NodeSpec>) -> &'a str {
    let mut owner = name;
    // Bounded, because a circle is reported elsewhere and must not hang this.
    for _ in 0..nodes.len() {
        match nodes.get(owner).map(|node| &node.network) {
            Some(Network::Container(next)) if nodes.contains_key(next) => owner = next,
            _ => break,
        }
    }
    owner
}

/// The device of a bridge node: `br0|sw` is `br0`, in the network of `sw`.
pub(crate) fn bridge_device(node: &str) -> &str {
    node.split_once('|').map_or(node, |(device, _)| device)
}
