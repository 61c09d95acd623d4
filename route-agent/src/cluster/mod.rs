//! Configuration from a cluster's API server, and what goes back there.
//!
//! ```text
//!  API server <--client--> watch --objects--> source --settle--> Loaded --> speaker, fib, local, pods
//!                                               |  ^                '-----> report --status--> API server
//!                                               v  |
//!                                              keep (last good, on disk)
//! ```
//! What comes out is the same [`Loaded`](crate::config::Loaded) that files give: no other part of the daemon knows
//! of Kubernetes. An API server that does not answer changes nothing that runs; nor does one whose definitions of our
//! kinds are deleted.

pub(crate) mod client;
mod gather;
mod gone;
mod keep;
pub(crate) mod report;
pub(crate) mod source;
mod topic;
mod watch;

use std::path::PathBuf;
use std::time::SystemTime;

use api::build::Verdict;

/// What the command line says of the cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--kubeconfig`; `None`: the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// `--api-server`, in the order they are tried.
    pub servers: Vec<String>,
    /// `--namespace`: where this daemon runs, and the only one whose Secrets it reads.
    pub namespace: String,
}

/// What the API server said last, and how it was judged.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClusterView {
    /// Uid of our Node; `None` until it was read.
    pub(crate) node_uid: Option<String>,
    /// The objects that were judged, in force or not.
    pub(crate) objects: Vec<Judged>,
    /// There is no NodeNetwork of this node, neither at the API server nor one that stays in force without it.
    pub(crate) own_missing: bool,
    /// Since when the API server has not answered; `None`: it does.
    pub(crate) away_since: Option<SystemTime>,
    /// Everything has been read from the server at least once since this start (else: from disk).
    pub(crate) synced: bool,
}

/// One object and its verdict.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judged {
    /// Its kind.
    pub(crate) kind: &'static str,
    /// `metadata.name`.
    pub(crate) name: String,
    /// `metadata.uid`.
    pub(crate) uid: String,
    /// `metadata.generation`: what the verdict is about.
    pub(crate) generation: i64,
    /// Whether it is in force.
    pub(crate) verdict: Verdict,
}
