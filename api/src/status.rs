//! What the daemons report: the `status` of `NodeNetwork` and `BGPPeer`. The other kinds carry a plain
//! [`Status`](crate::words::Status).
//!
//! A `NodeNetwork`'s status has one writer, its node; a `BGPPeer`'s is counts only, put together from those by one
//! daemon of the cluster. Times are RFC 3339 in UTC. Nothing here ever holds a password.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::words::Condition;

/// What a node observes of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeNetworkStatus {
    /// `metadata.generation` of the spec this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, ConfigurationAccepted, PeersUp, RoutesConverged, KernelOK; of a node whose identity another has too,
    /// IdentityUnique.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// BGP Identifier in use.
    #[serde(rename = "routerID", skip_serializing_if = "Option::is_none")]
    pub router_id: Option<String>,
    /// AS number in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asn: Option<i64>,
    /// The node's addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub addresses: Vec<String>,
    /// The node's pod blocks.
    #[serde(rename = "podCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub pod_cidrs: Vec<String>,
    /// Version of the daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Interfaces that sessions and learned routes use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub uplinks: Vec<Uplink>,
    /// Sessions of all peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<SessionCounts>,
    /// Sessions by BGPPeer: one entry for each that selects this node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub bgp_peers: Vec<BGPPeerCounts>,
    /// Sessions one by one, at most 200: those that are not Established come first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["peer", "neighbor"]))]
    pub peers: Vec<NodePeerStatus>,
    /// Learned routes in the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fib: Option<FibCounts>,
    /// The node as a place for pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cni: Option<CniStatus>,
    /// When the node last wrote this: every five minutes at least, ten after many changes in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_heartbeat_time: Option<String>,
}

/// An interface towards the fabric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// Largest packet, in octets.
    pub mtu: i64,
    /// It is up and has a carrier.
    pub carrier: bool,
}

/// Sessions by state. Paused ones and those accepted from a range are not desired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionCounts {
    /// That should be Established.
    pub desired: i64,
    /// That are.
    pub established: i64,
    /// That work with a fault: gone while their routes stay (Graceful Restart), or at a prefix limit.
    pub degraded: i64,
}

/// One BGPPeer's sessions of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BGPPeerCounts {
    /// `metadata.name` of the BGPPeer.
    pub name: String,
    /// That should be Established.
    pub desired: i64,
    /// That are.
    pub established: i64,
    /// That work with a fault.
    pub degraded: i64,
}

/// One session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePeerStatus {
    /// Name of the BGPPeer; of sessions between nodes, `BGPPEER/NODE`.
    pub peer: String,
    /// The neighbour's address; a link-local one with its interface: `fe80::1%eth0`.
    pub neighbor: String,
    /// The interface, of a session that is bound to one.
    #[serde(rename = "interface", skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The neighbour's AS number, once known.
    #[serde(rename = "remoteASN", skip_serializing_if = "Option::is_none")]
    pub remote_asn: Option<i64>,
    /// State of RFC 4271 section 8.2.2: `Established`, `Active`, ...
    pub state: String,
    /// Administratively down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Since when it is in this state.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
    /// Why it is not Established, or last was not, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The NOTIFICATION behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<PeerError>,
    /// How often it was lost since the daemon's start.
    pub down_count: i64,
    /// Prefix counts. They are as of the last write: changes below a twentieth are not written for their own sake.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["family"]))]
    pub families: Vec<NodeFamilyStatus>,
}

/// A NOTIFICATION (RFC 4271 section 4.5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerError {
    /// Error code.
    pub code: i64,
    /// Error subcode.
    pub subcode: i64,
    /// Both in words, with who sent it and the shutdown text.
    pub text: String,
}

/// Prefix counts of one address family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeFamilyStatus {
    /// `ipv4-unicast` or `ipv6-unicast`.
    pub family: String,
    /// Prefixes the peer told us.
    pub received: i64,
    /// Of these, accepted by the import rules.
    pub accepted: i64,
    /// Prefixes we told the peer.
    pub advertised: i64,
    /// `maxPrefix.limit`.
    pub limit: i64,
}

/// Learned routes in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FibCounts {
    /// Routes, both families.
    pub routes: i64,
    /// Nexthop groups.
    pub nexthop_groups: i64,
    /// Differences between what the kernel had and what it should have had, at the last comparison.
    pub drift: i64,
}

/// The node as a place for pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CniStatus {
    /// Pods may start.
    pub ready: bool,
    /// Why not, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Pods that have a route.
    pub pods: i64,
}

/// A BGPPeer on all nodes: counts, put together by one daemon of the cluster. Single sessions are in the nodes' status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BGPPeerStatus {
    /// `metadata.generation` of the spec this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, ReferencesResolved, NodesMatched, Established.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Nodes that have a session, or would take one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<i64>,
    /// Sessions of all nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<SessionCounts>,
}
