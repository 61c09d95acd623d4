//! What `towpath status` and `towpath routes installed` show, with stable JSON names.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::fib::status::FibStatus;
use crate::pods::PodsStatus;

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
    /// There is no configuration yet, so the rest says nothing but [`AgentStatus::problems`].
    #[serde(default)]
    pub waiting: bool,
    /// Where the configuration stands.
    pub config: ConfigStatus,
    /// Sessions.
    pub sessions: SessionCounts,
    /// The kernel.
    pub fib: FibStatus,
    /// Pods; `None` in the first moments.
    #[serde(default)]
    pub pods: Option<PodsStatus>,
    /// What is allowed, and hardly meant.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Everything that wants somebody's attention; empty when healthy.
    pub problems: Vec<String>,
}

/// Where the configuration stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigStatus {
    /// What `-f` named.
    pub files: Vec<String>,
    /// With `--cluster`: the API server instead.
    #[serde(default)]
    pub cluster: Option<ClusterStatus>,
    /// Counts applied configurations since the start.
    pub generation: u64,
    /// What is wrong with the files or objects as they are now; the last good state is in force meanwhile.
    pub problems: Vec<String>,
}

/// How it stands with the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Its addresses, in the order they are tried.
    pub servers: Vec<String>,
    /// Everything has been read from it since the start; else what is in force comes from this node's disk.
    pub synced: bool,
    /// Since when it does not answer, in seconds since 1970.
    pub away_since: Option<u64>,
}

/// What probes ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Beyond the first moments: there is a configuration, or the API server is waited for.
    pub started: bool,
    /// The data plane can be used. Sessions play no part once it was.
    pub ready: bool,
    /// Why it is not ready; empty when it is.
    pub reason: String,
}

/// Sessions by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCounts {
    /// Not paused.
    pub configured: usize,
    /// Of these, Established.
    pub established: usize,
}

/// One route of ours in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledRoute {
    /// The prefix.
    pub prefix: IpNet,
    /// `via ADDRESS dev NAME`, sorted; empty for a blackhole and for a route to an interface.
    pub nexthops: Vec<String>,
    /// What it matches is dropped.
    pub blackhole: bool,
    /// Priority.
    pub metric: u32,
    /// Table number.
    pub table: u32,
    /// `rtm_protocol`.
    pub protocol: u8,
    /// Id of the nexthop group object.
    pub group: Option<u32>,
}
