//! `NetworkConfig`, the cluster's defaults, `NodeNetwork`, one node's overrides, and `IPPool`.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cel::{self, values as checked};
use crate::status::NodeNetworkStatus;
use crate::words::{IntOrText, Status};

/// Cluster-wide defaults. One object, named `default`; without it every default below holds.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "towpath.io",
    version = "v1alpha1",
    kind = "NetworkConfig",
    plural = "networkconfigs",
    shortname = "netcfg",
    category = "towpath",
    status = "Status",
    derive = "PartialEq",
    printcolumn = r#"{"name": "ASN", "type": "string", "jsonPath": ".spec.asn"}"#,
    printcolumn = r#"{"name": "Transit", "type": "boolean", "jsonPath": ".spec.transit"}"#,
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Accepted')].status"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::objects::network_config_spec()))]
pub struct NetworkConfigSpec {
    /// AS number of every node (RFC 6793), as a number or dotted in quotes: `65000`, `"65000.1"`. Default 64512.
    #[schemars(with = "Option<checked::Asn>")]
    pub asn: Option<IntOrText>,
    /// Whether nodes share one AS number. Default Cluster.
    pub asn_mode: Option<AsnMode>,
    /// BGP Identifier (RFC 6286) as a dotted quad. For files and single routers; nodes derive theirs.
    #[serde(rename = "routerID")]
    #[schemars(with = "Option<checked::RouterId>")]
    pub router_id: Option<String>,
    /// Makes a router of a node: every valid route is accepted and the best ones are re-advertised. Default false.
    pub transit: Option<bool>,
    /// Where BGP connections are accepted.
    pub listen: Option<Listen>,
    /// How learned routes go into the kernel.
    pub install: Option<Install>,
    /// How much the daemon logs. Default: what its command line says.
    pub log_level: Option<LogLevel>,
}

/// Whether nodes share one AS number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AsnMode {
    /// One AS number for all nodes.
    Cluster,
    /// Each node its own: 4200000000 and a hash of its name in 24 bits (RFC 6996).
    PerNode,
}

/// Where BGP connections are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Listen {
    /// TCP port; 0 means do not listen. Default 179.
    #[schemars(range(min = 0, max = 65535))]
    pub port: Option<u16>,
    /// Addresses to listen on; empty means every address of both families.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        with = "Vec<checked::ListenAddress>",
        length(max = 64),
        extend("x-kubernetes-list-type" = "set", "x-kubernetes-validations" = cel::objects::once())
    )]
    pub addresses: Vec<String>,
}

/// How learned routes go into the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Install {
    /// Route priority, `metric` of iproute2: 1 to 4294967295. Default 20.
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub metric: Option<u32>,
    /// Routing table: `main` or a number. Default main.
    #[schemars(with = "Option<checked::Table>")]
    pub table: Option<IntOrText>,
    /// Most next hops of one route, 1 to 256. Default 8.
    #[schemars(range(min = 1, max = 256))]
    pub max_paths: Option<u16>,
    /// Kernel route protocol number of learned routes; the next number marks pod routes and blackholes. Default 199.
    #[schemars(
        range(min = 5, max = 254),
        extend("x-kubernetes-validations" = cel::validations([checked::route_protocol()]))
    )]
    pub protocol: Option<u8>,
    /// Announce a learned route only once the kernel has it. Default: the value of `transit`.
    pub advertise_after_install: Option<bool>,
}

/// How much the daemon logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogLevel {
    /// Someone must act.
    Error,
    /// Service is degraded, and handled.
    Warn,
    /// Something changed that an operator would tell a colleague.
    Info,
    /// Every prefix and pod.
    Debug,
    /// Every message.
    Trace,
}

/// One node's own values, named like the node. In files it also gives the node's labels.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "towpath.io",
    version = "v1alpha1",
    kind = "NodeNetwork",
    plural = "nodenetworks",
    shortname = "nn",
    category = "towpath",
    status = "NodeNetworkStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name": "ASN", "type": "integer", "jsonPath": ".status.asn"}"#,
    printcolumn = r#"{"name": "Router-ID", "type": "string", "jsonPath": ".status.routerID"}"#,
    printcolumn = r#"{"name": "Established", "type": "integer", "jsonPath": ".status.sessions.established"}"#,
    printcolumn = r#"{"name": "Desired", "type": "integer", "jsonPath": ".status.sessions.desired"}"#,
    printcolumn = r#"{"name": "Pods", "type": "integer", "jsonPath": ".status.cni.pods"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name": "Heartbeat", "type": "date", "jsonPath": ".status.lastHeartbeatTime", "priority": 1}"#,
    printcolumn = r#"{"name": "Pod-CIDRs", "type": "string", "jsonPath": ".status.podCIDRs", "priority": 1}"#,
    printcolumn = r#"{"name": "Problem", "type": "string", "jsonPath": ".status.conditions[?(@.status=='False')].message", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NodeNetworkSpec {
    /// This node's AS number. Default: by NetworkConfig's asn and asnMode.
    #[schemars(with = "Option<checked::Asn>")]
    pub asn: Option<IntOrText>,
    /// BGP Identifier as a dotted quad. Default: NetworkConfig's, then the first IPv4 address, then a hash of the name.
    #[serde(rename = "routerID")]
    #[schemars(with = "Option<checked::RouterId>")]
    pub router_id: Option<String>,
    /// The node's addresses, IPv4 and IPv6.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        with = "Vec<checked::Address>",
        length(max = 64),
        extend("x-kubernetes-list-type" = "set", "x-kubernetes-validations" = cel::objects::once())
    )]
    pub addresses: Vec<String>,
    /// The node's pod blocks: ranges its pods get their addresses from, IPv4 and IPv6.
    #[serde(default, rename = "podCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        with = "Vec<checked::PodBlock>",
        length(max = 64),
        extend(
            "x-kubernetes-list-type" = "set",
            "x-kubernetes-validations" = cel::objects::apart("; give each node blocks of its own")
        )
    )]
    pub pod_cidrs: Vec<String>,
    /// The node's labels, for files only: in a cluster the Node carries them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Pod address ranges of this cluster.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "towpath.io",
    version = "v1alpha1",
    kind = "IPPool",
    plural = "ippools",
    shortname = "ipp",
    category = "towpath",
    status = "Status",
    derive = "PartialEq",
    printcolumn = r#"{"name": "CIDRs", "type": "string", "jsonPath": ".spec.cidrs"}"#,
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Accepted')].status"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct IPPoolSpec {
    /// Ranges, IPv4 and IPv6: routes to them are accepted from peers.
    #[schemars(
        with = "Vec<checked::PoolPrefix>",
        length(min = 1, max = 64),
        extend("x-kubernetes-list-type" = "set", "x-kubernetes-validations" = cel::objects::apart("; keep one"))
    )]
    pub cidrs: Vec<String>,
}
