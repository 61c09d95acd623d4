//! `Advertisement`: what a node originates, with which attributes, to which peers.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cel::{self, values as checked};
use crate::words::{LabelSelector, Status};

/// Prefixes each selected node originates.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "towpath.io",
    version = "v1alpha1",
    kind = "Advertisement",
    plural = "advertisements",
    shortname = "adv",
    category = "towpath",
    status = "Status",
    derive = "PartialEq",
    printcolumn = r#"{"name": "CIDRs", "type": "string", "jsonPath": ".spec.source.static.cidrs"}"#,
    printcolumn = r#"{"name": "Interfaces", "type": "string", "jsonPath": ".spec.source.interfaces.names"}"#,
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Accepted')].status"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::objects::advertisement()))]
pub struct AdvertisementSpec {
    /// Where the prefixes come from.
    pub source: Source,
    /// Nodes that originate them. Default: all.
    pub node_selector: Option<LabelSelector>,
    /// true: to every peer; false: to none. Default true, unless `peers` is given.
    pub all: Option<bool>,
    /// Only to these peers, by name of their BGPPeer.
    #[schemars(
        with = "Option<Vec<checked::ObjectName>>",
        length(min = 1, max = 256),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub peers: Option<Vec<String>>,
    /// Attributes put on the routes.
    pub attributes: Option<Attributes>,
}

/// Exactly one source of prefixes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::objects::source()))]
pub struct Source {
    /// These prefixes.
    #[serde(rename = "static")]
    pub fixed: Option<StaticSource>,
    /// The addresses of interfaces, as host routes.
    pub interfaces: Option<InterfaceSource>,
    /// Each node's pod blocks (`NodeNetwork.spec.podCIDRs`), and addresses of its pods outside them as host routes.
    pub pod_blocks: Option<PodBlocksSource>,
}

/// The pod blocks of each node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodBlocksSource {}

/// Prefixes by value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StaticSource {
    /// IPv4 and IPv6 prefixes.
    #[schemars(
        with = "Vec<checked::AnnouncedPrefix>",
        length(min = 1, max = 4096),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub cidrs: Vec<String>,
    /// Announce only while the kernel has a route to the prefix. Default false: a blackhole is installed behind it.
    pub require_route: Option<bool>,
}

/// Addresses of interfaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceSource {
    /// Interface names.
    #[schemars(
        with = "Vec<checked::InterfaceName>",
        length(min = 1, max = 256),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub names: Vec<String>,
}

/// Path attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attributes {
    /// RFC 1997: `"65001:100"`, or a well-known name such as `no-export`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<checked::Community>", length(max = 256), extend("x-kubernetes-list-type" = "set"))]
    pub communities: Vec<String>,
    /// RFC 8092: `"65001:1:100"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<checked::LargeCommunity>", length(max = 256), extend("x-kubernetes-list-type" = "set"))]
    pub large_communities: Vec<String>,
    /// LOCAL_PREF on iBGP sessions.
    #[schemars(range(min = 0, max = 4_294_967_295_u32))]
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    #[schemars(range(min = 0, max = 4_294_967_295_u32))]
    pub med: Option<u32>,
    /// Our AS number more often in AS_PATH.
    pub prepend: Option<Prepend>,
}

/// Our AS number more often in AS_PATH.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prepend {
    /// How many more times, 1 to 20.
    #[schemars(range(min = 1, max = 20))]
    pub count: u8,
}
