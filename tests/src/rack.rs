//! A node with links to other namespaces, one for each neighbour, and the words of its configuration.
//!
//! Link `i` (from 1) is `eth<i>` at the node and `eth0` at the neighbour, with 10.0.i.1 and 10.0.i.2,
//! fd00:i::1 and fd00:i::2. The node is AS 65001; neighbour `i` of [`Rack::feeder`] is AS 65100 + i.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::agent::LIMIT;
use crate::feeder::{Config, Feeder};
use crate::netns::Netns;

/// Node `node`: AS 65001, router id 10.0.0.1, pods in 10.244.0.0/16 and fd00:244::/48.
pub const NODE: &str = "
apiVersion: towpath.io/v1alpha1
kind: NodeNetwork
metadata: { name: node }
spec: { asn: 65001, routerID: 10.0.0.1 }
---
apiVersion: towpath.io/v1alpha1
kind: IPPool
metadata: { name: pods }
spec: { cidrs: [10.244.0.0/16, 'fd00:244::/48'] }
";

/// A document of one of towpath's kinds, with the separator before it; `spec` in flow style.
pub fn document(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "\n---\napiVersion: towpath.io/v1alpha1\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec: {{ {spec} }}\n"
    )
}

/// A BGPPeer for neighbour `i`, called `p<i>`, that waits for the neighbour to connect; `more` are further fields.
pub fn peer(i: u8, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { ", " };
    let spec =
        format!("neighbor: {{ address: 10.0.{i}.2 }}, remoteASN: {}, passive: Always{comma}{more}", asn(i));
    document("BGPPeer", &format!("p{i}"), &spec)
}

/// AS number of neighbour `i`.
pub fn asn(i: u8) -> u32 {
    65_100 + u32::from(i)
}

/// Namespaces of a node and its neighbours.
#[derive(Debug)]
pub struct Rack {
    /// Where the daemon runs.
    pub node: Netns,
    /// Neighbour 1 first.
    pub neighbors: Vec<Netns>,
}

impl Rack {
    /// A node with `count` neighbours.
    ///
    /// # Errors
    /// Without the right to make namespaces.
    pub fn new(count: u8) -> anyhow::Result<Self> {
        let node = Netns::fresh()?;
        let mut neighbors = Vec::new();
        for i in 1..=count {
            let neighbor = Netns::fresh()?;
            let at = |end: u8| [format!("10.0.{i}.{end}/24"), format!("fd00:{i}::{end}/64")];
            let (ours, theirs) = (at(1), at(2));
            let interface = format!("eth{i}");
            node.link((&interface, &[&ours[0], &ours[1]]), &neighbor, ("eth0", &[&theirs[0], &theirs[1]]))?;
            neighbors.push(neighbor);
        }
        Ok(Self { node, neighbors })
    }

    /// The namespace of neighbour `i`.
    pub fn neighbor(&self, i: u8) -> &Netns {
        &self.neighbors[usize::from(i) - 1]
    }

    /// The node's BGP port, as neighbour `i` sees it.
    pub fn node_address(i: u8) -> SocketAddr {
        (Ipv4Addr::new(10, 0, i, 1), 179).into()
    }

    /// Neighbour `i`'s address.
    pub fn address(i: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, i, 2).into()
    }

    /// How neighbour `i` introduces itself.
    pub fn config(i: u8) -> Config {
        Config::new(asn(i), Ipv4Addr::new(10, 0, i, 2))
    }

    /// A session of neighbour `i` with the node, both unicast families offered.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn feeder(&self, i: u8) -> anyhow::Result<Feeder> {
        self.feeder_within(i, LIMIT)
    }

    /// [`Rack::feeder`] with another limit: for a session that must not come up.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn feeder_within(&self, i: u8, limit: Duration) -> anyhow::Result<Feeder> {
        Feeder::connect(self.neighbor(i), None, Self::node_address(i), &Self::config(i), limit)
    }
}
