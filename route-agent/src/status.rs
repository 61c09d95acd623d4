//! What `towpath status` and `towpath routes installed` show, with stable JSON names.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// One node on one screen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// Version of the daemon.
    pub version: String,
    /// This node's name.
    pub node: String,
    /// Its AS number.
    pub asn: u32,
    /// Its BGP Identifier.
    pub router_id: Ipv4Addr,
    /// It re-advertises what it learns.
    pub transit: bool,
    /// Seconds since the daemon started.
    pub uptime: u64,
    /// Where the configuration stands.
    pub config: ConfigStatus,
    /// Sessions.
    pub sessions: SessionCounts,
    /// The kernel.
    pub fib: FibSummary,
    /// Sysctls this daemon changed.
    pub sysctls: Vec<SysctlChange>,
    /// Everything that wants somebody's attention; empty when healthy.
    pub problems: Vec<String>,
}

/// Where the configuration stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigStatus {
    /// What `-f` named.
    pub files: Vec<String>,
    /// Counts applied configurations since the start.
    pub generation: u64,
    /// What is wrong with the files as they are now; the last good state is in force meanwhile.
    pub problems: Vec<String>,
}

/// Sessions by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCounts {
    /// Not paused.
    pub configured: usize,
    /// Of these, Established.
    pub established: usize,
}

/// The kernel's side, in numbers and names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FibSummary {
    /// IPv4 routes of ours.
    pub routes_v4: usize,
    /// IPv6 routes of ours.
    pub routes_v6: usize,
    /// Next hop group objects of ours.
    pub groups: usize,
    /// Changes not yet in the kernel.
    pub pending: usize,
    /// Blackholes behind what we originate.
    pub blackholes: usize,
    /// What the kernel refused, with errno and its own words.
    pub failed: Vec<String>,
    /// Prefixes somebody else has a route for at our metric: left alone, tried again when it goes.
    pub foreign: Vec<String>,
    /// What others deleted or changed and we put back, newest last.
    pub events: Vec<String>,
    /// Stale routes of an earlier run have been swept.
    pub converged: bool,
}

/// A sysctl this daemon changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysctlChange {
    /// Name with dots.
    pub name: String,
    /// Value before.
    pub before: String,
    /// Value now.
    pub value: String,
}

/// One route of ours in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledRoute {
    /// The prefix.
    pub prefix: IpNet,
    /// `via ADDRESS dev NAME`, sorted; empty for a blackhole.
    pub nexthops: Vec<String>,
    /// Priority.
    pub metric: u32,
    /// Table number.
    pub table: u32,
    /// `rtm_protocol`.
    pub protocol: u8,
    /// Id of the nexthop group object.
    pub group: Option<u32>,
}
