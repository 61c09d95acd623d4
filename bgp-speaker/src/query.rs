//! Questions about the RIBs and their answers, with stable JSON names.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Which RIB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RibView {
    /// Adj-RIB-In: everything peers sent, with the verdict.
    Received,
    /// Adj-RIB-In after import rules.
    Accepted,
    /// Loc-RIB: paths in use.
    Best,
    /// Adj-RIB-Out: what peers are told.
    Advertised,
}

/// Which routes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RibQuery {
    /// The RIB.
    pub view: RibView,
    /// Only this prefix.
    pub prefix: Option<IpNet>,
    /// Only this BGPPeer, by name or neighbour address.
    pub peer: Option<String>,
}

/// One path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// The prefix.
    pub prefix: IpNet,
    /// The BGPPeer it came from, or goes to; absent: originated here.
    pub peer: Option<String>,
    /// That peer's address.
    pub neighbor: Option<IpAddr>,
    /// Next hop as received or as advertised.
    pub nexthop: Option<IpAddr>,
    /// AS_PATH, left to right.
    pub as_path: String,
    /// `igp`, `egp` or `incomplete`.
    pub origin: String,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// RFC 1997, as `65000:1`.
    pub communities: Vec<String>,
    /// RFC 8092, as `65000:1:2`.
    pub large_communities: Vec<String>,
    /// RFC 4360, as 16 hexadecimal digits.
    pub ext_communities: Vec<String>,
    /// Attributes we do not know, as type, flags and value.
    pub unknown_attributes: Vec<String>,
    /// AGGREGATOR.
    pub aggregator: Option<(u32, Ipv4Addr)>,
    /// The best path.
    pub best: bool,
    /// In use beside the best path.
    pub multipath: bool,
    /// Kept while the peer restarts (RFC 4724).
    pub stale: bool,
    /// `accepted`, or why it was not, or why it is not best.
    pub verdict: String,
}
