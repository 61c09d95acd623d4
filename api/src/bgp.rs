//! `BGPPeer`: a session, or a range that accepts sessions.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cel::{self, values as checked};
use crate::status::BGPPeerStatus;
use crate::words::{IntOrText, Interval, LabelSelector};

/// A BGP session of each selected node with one neighbour or with other nodes, or ranges that may connect.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "towpath.io",
    version = "v1alpha1",
    kind = "BGPPeer",
    plural = "bgppeers",
    shortname = "bgpp",
    category = "towpath",
    status = "BGPPeerStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name": "Neighbor", "type": "string", "jsonPath": ".spec.neighbor.address"}"#,
    printcolumn = r#"{"name": "Remote-ASN", "type": "string", "jsonPath": ".spec.remoteASN"}"#,
    printcolumn = r#"{"name": "Established", "type": "integer", "jsonPath": ".status.sessions.established"}"#,
    printcolumn = r#"{"name": "Desired", "type": "integer", "jsonPath": ".status.sessions.desired"}"#,
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Accepted')].status"}"#,
    printcolumn = r#"{"name": "Paused", "type": "boolean", "jsonPath": ".spec.paused", "priority": 1}"#,
    printcolumn = r#"{"name": "Nodes", "type": "integer", "jsonPath": ".status.nodes", "priority": 1}"#,
    printcolumn = r#"{"name": "Problem", "type": "string", "jsonPath": ".status.conditions[?(@.status=='False')].message", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::objects::bgp_peer()))]
pub struct BGPPeerSpec {
    /// Nodes that have this session. Default: all.
    pub node_selector: Option<LabelSelector>,
    /// How the neighbour is found.
    pub neighbor: Neighbor,
    /// The neighbour's AS number (`65000`, `"65000.1"`), or `external`, `internal`, `any`. May be left out only with
    /// `neighbor.nodes`: then each node's own.
    #[serde(rename = "remoteASN")]
    #[schemars(with = "Option<checked::RemoteAsn>")]
    pub remote_asn: Option<IntOrText>,
    /// Our AS number on this session. Default: the node's.
    #[serde(rename = "localASN")]
    #[schemars(with = "Option<checked::Asn>")]
    pub local_asn: Option<IntOrText>,
    /// Our address: `auto` and `kernel` let the kernel choose by route, or a literal address. Default auto.
    #[schemars(with = "Option<checked::SourceAddress>")]
    pub source_address: Option<String>,
    /// Takes our address from this interface instead.
    #[schemars(with = "Option<checked::InterfaceName>")]
    pub source_interface: Option<String>,
    /// Binds the connection to this interface.
    #[schemars(with = "Option<checked::InterfaceName>")]
    pub bind_interface: Option<String>,
    /// Authentication of the TCP connection.
    pub auth: Option<Auth>,
    /// Session timers.
    pub timers: Option<Timers>,
    /// TTL of the TCP connection.
    pub ttl: Option<Ttl>,
    /// Who opens the connection. Default Auto.
    pub passive: Option<Passive>,
    /// Graceful Restart (RFC 4724).
    pub graceful_restart: Option<GracefulRestart>,
    /// Address families offered. Default: unicast of the neighbour address's family, or of both nodes' addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["afi", "safi"]))]
    pub families: Vec<Family>,
    /// Next hop we advertise. Default Auto: self on eBGP, kept on iBGP.
    pub next_hop: Option<NextHop>,
    /// The next hop for `nextHop: Address`.
    #[schemars(with = "Option<checked::Address>")]
    pub next_hop_address: Option<String>,
    /// How often our own AS number may stand in a received AS_PATH, 0 to 10. Default 0.
    #[serde(rename = "allowLocalAS")]
    #[schemars(range(min = 0, max = 10))]
    pub allow_local_as: Option<u8>,
    /// eBGP: a received AS_PATH must start with the neighbour's AS number. Default true.
    #[serde(rename = "enforceFirstAS")]
    pub enforce_first_as: Option<bool>,
    /// Administratively down. Default false.
    pub paused: Option<bool>,
    /// Why, told to the neighbour (RFC 9003): at most 255 octets.
    #[schemars(with = "Option<checked::Reason>")]
    pub pause_reason: Option<String>,
}

/// Exactly one way to find the neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::objects::neighbor()))]
pub struct Neighbor {
    /// IPv4 or IPv6 address; a link-local one with its interface: `fe80::1%eth0`.
    #[schemars(with = "Option<checked::NeighborAddress>")]
    pub address: Option<String>,
    /// TCP port. Default 179; with `nodes` that of NetworkConfig's listen.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Accepts connections from these ranges.
    pub listen: Option<ListenRanges>,
    /// Other nodes: one session with each, made at both ends by this object.
    pub nodes: Option<Nodes>,
}

/// Sessions between nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    /// Nodes that the nodes of `nodeSelector` have sessions with, which then have them too. Default: all.
    pub selector: Option<LabelSelector>,
    /// Who of both has a session with whom. Default Mesh.
    pub topology: Option<Topology>,
}

/// Who has a session with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Topology {
    /// Each node of `nodeSelector` with each of `nodes.selector`.
    Mesh,
}

/// Ranges neighbours may connect from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenRanges {
    /// IPv4 and IPv6 prefixes.
    #[schemars(
        with = "Vec<checked::Prefix>",
        length(min = 1, max = 64),
        extend("x-kubernetes-list-type" = "set", "x-kubernetes-validations" = cel::objects::apart("; keep the larger one"))
    )]
    pub ranges: Vec<String>,
    /// Most sessions at the same time, 1 to 8192. Default 100.
    #[schemars(range(min = 1, max = 8192))]
    pub max: Option<u32>,
}

/// Authentication of the TCP connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Secret with the TCP MD5 key (RFC 2385), 1 to 80 octets.
    pub md5_secret_ref: Option<SecretRef>,
}

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(with = "checked::ObjectName")]
    pub name: String,
    /// Key in it. Default password.
    #[schemars(with = "Option<checked::SecretKey>")]
    pub key: Option<String>,
    /// Its namespace. Default towpath-system.
    #[schemars(with = "Option<checked::Namespace>")]
    pub namespace: Option<String>,
}

/// Session timers: intervals like `90s`, `1h30m`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::objects::timers()))]
pub struct Timers {
    /// Hold Time offered: 0s (off), or 3s to 65535s. Default 90s.
    #[schemars(extend("x-kubernetes-validations" = cel::validations(checked::hold())))]
    pub hold: Option<Interval>,
    /// Interval of KEEPALIVEs, at most a third of hold. Default: a third of hold.
    #[schemars(extend("x-kubernetes-validations" = cel::validations(checked::interval(0, 65535 / 3, "use at most a third of hold"))))]
    pub keepalive: Option<Interval>,
    /// Time between attempts to connect, 1s to 1h. Default 5s.
    #[schemars(extend("x-kubernetes-validations" = cel::validations(checked::interval(1, 3600, "use 1s to 1h"))))]
    pub connect_retry: Option<Interval>,
    /// Longest rest after repeated failures, 1s to 1h. Default 60s.
    #[schemars(extend("x-kubernetes-validations" = cel::validations(checked::interval(1, 3600, "use 1s to 1h"))))]
    pub idle_hold_max: Option<Interval>,
}

/// TTL of the TCP connection: one of two ways.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::objects::ttl()))]
pub struct Ttl {
    /// eBGP packets are sent with this TTL. Default 1: directly connected.
    #[schemars(range(min = 1, max = 255))]
    pub multihop: Option<u8>,
    /// GTSM (RFC 5082): packets from farther away than this many hops are dropped.
    #[schemars(range(min = 1, max = 254))]
    pub security: Option<u8>,
}

/// Who opens the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Passive {
    /// Both sides.
    Auto,
    /// Only the neighbour.
    Always,
    /// Only we.
    Never,
}

/// Graceful Restart (RFC 4724).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GracefulRestart {
    /// Roles. Default Auto: Helper with `transit`, Restarter elsewhere.
    pub mode: Option<GracefulRestartMode>,
    /// Restart Time we ask for, 1s to 4095s. Default 120s.
    #[schemars(extend("x-kubernetes-validations" = cel::validations(checked::interval(1, 4095, "use 1s to 4095s"))))]
    pub restart_time: Option<Interval>,
    /// How long stale paths wait for End-of-RIB, 1s to 1h. Default 360s.
    #[schemars(extend("x-kubernetes-validations" = cel::validations(checked::interval(1, 3600, "use 1s to 1h"))))]
    pub stale_path_time: Option<Interval>,
}

/// Roles in Graceful Restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GracefulRestartMode {
    /// Helper with `transit`, Restarter elsewhere.
    Auto,
    /// Keep a restarting neighbour's routes.
    Helper,
    /// Also ask neighbours to keep ours.
    Restarter,
    /// Neither.
    Disabled,
}

/// One address family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::objects::family()))]
pub struct Family {
    /// Address family.
    pub afi: Afi,
    /// Kind of routes.
    pub safi: Safi,
    /// IPv4 prefixes with IPv6 next hops (RFC 8950). Default Auto: offered with ipv4.
    pub extended_next_hop: Option<ExtendedNextHop>,
    /// Limit of received prefixes.
    pub max_prefix: Option<MaxPrefix>,
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Afi {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Kind of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Safi {
    /// Unicast.
    Unicast,
}

/// Whether RFC 8950 is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExtendedNextHop {
    /// With ipv4.
    Auto,
    /// Always.
    Enabled,
    /// Never.
    Disabled,
}

/// Limit of received prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaxPrefix {
    /// Prefixes accepted, 1 to 4294967295. Default 1000000.
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub limit: Option<u32>,
    /// Per cent of the limit at which a warning is logged, 1 to 100. Default 80.
    #[schemars(range(min = 1, max = 100))]
    pub warn_at: Option<u8>,
    /// What happens above the limit. Default Restart.
    pub action: Option<MaxPrefixAction>,
}

/// What happens above the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MaxPrefixAction {
    /// Log, take the route.
    Warn,
    /// Take no new prefix.
    Block,
    /// End the session, start again after a rest.
    Restart,
    /// End the session, stay down until reset.
    Down,
}

/// Next hop we advertise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NextHop {
    /// eBGP: self; iBGP: kept.
    Auto,
    /// Our own address.
    #[serde(rename = "Self")]
    SelfAddress,
    /// As learned.
    Keep,
    /// `nextHopAddress`.
    Address,
}
