//! The whole cluster in counts: what the one that reports for it keeps of each NodeNetwork.
//!
//! In: one node's status after the other, as the API server streams them. Out: the sums of each BGPPeer, and nodes
//! that have an identity in common. A node is a few dozen octets here, however much it reports. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use api::status::SessionCounts;
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

/// The condition that a node has whose identity another has too.
pub(super) const IDENTITY: &str = "IdentityUnique";
/// A node that has not been heard of for so long counts as down: more than its longest silence while it lives.
const SILENT: i64 = 900;

/// What is read of a NodeNetwork's status; the rest is skipped unread.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Lean {
    #[serde(rename = "routerID")]
    router_id: Option<Ipv4Addr>,
    asn: Option<u32>,
    bgp_peers: Vec<LeanPeer>,
    conditions: Vec<LeanCondition>,
    last_heartbeat_time: Option<Timestamp>,
}

#[derive(Clone, Debug, Deserialize)]
struct LeanPeer {
    name: String,
    desired: u32,
    established: u32,
    #[serde(default)]
    degraded: u32,
}

#[derive(Clone, Debug, Deserialize)]
struct LeanCondition {
    #[serde(rename = "type")]
    kind: String,
}

/// All nodes.
#[derive(Default)]
pub(super) struct Tally {
    nodes: HashMap<String, Node>,
    names: BTreeSet<Arc<str>>,
    /// During a new listing: nodes not seen in it yet.
    unseen: Option<BTreeSet<String>>,
}

struct Node {
    router_id: Option<Ipv4Addr>,
    asn: Option<u32>,
    heard: i64,
    /// It carries [`IDENTITY`].
    flagged: bool,
    peers: Box<[(Arc<str>, Counts)]>,
}

#[derive(Clone, Copy)]
struct Counts {
    desired: u32,
    established: u32,
    degraded: u32,
}

/// One BGPPeer on all nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// Nodes it selects.
    pub(super) nodes: i64,
    pub(super) sessions: SessionCounts,
    /// Of the nodes, those not heard of for long; their sessions count as down.
    pub(super) silent: i64,
}

/// Nodes that have something in common that is one node's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Clash {
    /// `router id 10.0.0.1`, `AS 4200000001`.
    pub(super) what: String,
    /// Two or more.
    pub(super) nodes: Vec<String>,
}

impl Tally {
    /// A listing of all begins.
    pub(super) fn begin(&mut self) {
        self.unseen = Some(self.nodes.keys().cloned().collect());
    }

    /// The listing is complete: what was not in it is gone.
    pub(super) fn complete(&mut self) {
        for node in self.unseen.take().into_iter().flatten() {
            self.nodes.remove(&node);
        }
    }

    /// A node as it is now.
    pub(super) fn put(&mut self, name: &str, status: &Lean) {
        if let Some(unseen) = &mut self.unseen {
            unseen.remove(name);
        }
        let peers = status.bgp_peers.iter().map(|peer| {
            let counts =
                Counts { desired: peer.desired, established: peer.established, degraded: peer.degraded };
            (intern(&mut self.names, &peer.name), counts)
        });
        let node = Node {
            router_id: status.router_id,
            asn: status.asn,
            heard: status.last_heartbeat_time.map_or(0, Timestamp::as_second),
            flagged: status.conditions.iter().any(|condition| condition.kind == IDENTITY),
            peers: peers.collect(),
        };
        self.nodes.insert(name.to_owned(), node);
    }

    /// A node that has gone.
    pub(super) fn remove(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Every BGPPeer that a node knows.
    pub(super) fn sums(&self, now: Timestamp) -> BTreeMap<&str, Sum> {
        let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
        for node in self.nodes.values() {
            let silent = now.as_second().saturating_sub(node.heard) > SILENT;
            for (name, counts) in &node.peers {
                let sum = sums.entry(name).or_default();
                sum.nodes += 1;
                sum.silent += i64::from(silent);
                sum.sessions.desired += i64::from(counts.desired);
                if !silent {
                    sum.sessions.established += i64::from(counts.established);
                    sum.sessions.degraded += i64::from(counts.degraded);
                }
            }
        }
        sums
    }

    /// Nodes with one router id; and with one AS number, among those that `derived` says have one of their own.
    pub(super) fn clashes(&self, derived: impl Fn(&str, u32) -> bool) -> Vec<Clash> {
        let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, node) in &self.nodes {
            if let Some(id) = node.router_id {
                owners.entry(format!("router id {id}")).or_default().push(name.clone());
            }
            if let Some(asn) = node.asn.filter(|asn| derived(name, *asn)) {
                owners.entry(format!("AS {asn}")).or_default().push(name.clone());
            }
        }
        let clashes = owners.into_iter().filter(|(_, nodes)| nodes.len() > 1);
        clashes
            .map(|(what, mut nodes)| {
                nodes.sort();
                Clash { what, nodes }
            })
            .collect()
    }

    /// Nodes that carry the condition of a clash.
    pub(super) fn flagged(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter(|(_, node)| node.flagged).map(|(name, _)| name.as_str())
    }
}

fn intern(names: &mut BTreeSet<Arc<str>>, name: &str) -> Arc<str> {
    if let Some(known) = names.get(name) {
        return Arc::clone(known);
    }
    let name: Arc<str> = name.into();
    names.insert(Arc::clone(&name));
    name
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(router_id: &str, asn: u32, heard: &str, established: u32) -> Lean {
        serde_json::from_value(json!({
            "routerID": router_id, "asn": asn, "lastHeartbeatTime": heard, "version": "0.1.0",
            "bgpPeers": [{ "name": "tor", "desired": 2, "established": established, "degraded": 1 }],
            "peers": [{ "peer": "tor", "neighbor": "10.0.0.1", "state": "Established" }],
            "conditions": [],
        }))
        .unwrap()
    }

    const EARLY: &str = "2026-01-01T00:00:00Z";
    const LATE: &str = "2026-01-01T00:20:00Z";

    #[test]
    fn sums_follow_the_nodes_and_a_silent_node_counts_as_down() {
        let mut tally = Tally::default();
        tally.put("node1", &status("10.0.0.1", 65000, LATE, 2));
        tally.put("node2", &status("10.0.0.2", 65000, LATE, 1));
        tally.put("node3", &status("10.0.0.3", 65000, EARLY, 2));
        let sum = |tally: &Tally| tally.sums(LATE.parse().unwrap())["tor"];
        let sessions = SessionCounts { desired: 6, established: 3, degraded: 2 };
        assert_eq!(sum(&tally), Sum { nodes: 3, silent: 1, sessions });
        tally.remove("node3");
        tally.put("node2", &status("10.0.0.2", 65000, LATE, 2));
        let sessions = SessionCounts { desired: 4, established: 4, degraded: 2 };
        assert_eq!(sum(&tally), Sum { nodes: 2, silent: 0, sessions });
    }

    #[test]
    fn a_new_listing_forgets_nodes_that_are_not_in_it_and_no_others() {
        let mut tally = Tally::default();
        tally.put("node1", &status("10.0.0.1", 65000, LATE, 2));
        tally.put("node2", &status("10.0.0.2", 65000, LATE, 2));
        tally.begin();
        tally.put("node2", &status("10.0.0.2", 65000, LATE, 2));
        assert_eq!(tally.len(), 2, "until the listing is complete");
        tally.complete();
        assert_eq!(tally.len(), 1);
        tally.put("node3", &Lean::default());
        assert_eq!(tally.len(), 2);
    }

    #[test]
    fn nodes_with_one_router_id_or_one_number_of_their_own_are_found() {
        let mut tally = Tally::default();
        tally.put("a", &status("10.0.0.1", 65000, LATE, 2));
        tally.put("b", &status("10.0.0.1", 65000, LATE, 2));
        tally.put("c", &status("10.0.0.3", 4_200_000_001, LATE, 2));
        tally.put("d", &status("10.0.0.4", 4_200_000_001, LATE, 2));
        let clash = |what: &str, nodes: [&str; 2]| Clash {
            what: what.into(),
            nodes: nodes.map(str::to_owned).to_vec(),
        };
        assert_eq!(tally.clashes(|_, _| false), [clash("router id 10.0.0.1", ["a", "b"])]);
        assert_eq!(
            tally.clashes(|_, asn| asn > 4_200_000_000),
            [clash("AS 4200000001", ["c", "d"]), clash("router id 10.0.0.1", ["a", "b"])]
        );
    }
}
