//! A real Kubernetes on this machine, in namespaces: its own programs, nothing of them replaced.
//!
//! [`ApiServer`] is etcd and kube-apiserver alone, for tests of what is said to an API server and what it answers:
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use towpath_tests::kube::ApiServer;
//!
//! let mut server = ApiServer::up()?;
//! server.kubectl(&["apply", "-f", "deploy/crds.yaml"])?;
//! let netns = server.netns(); // a daemon started there reaches server.url()
//! server.kill()?; // as in an outage: what it has stored stays
//! server.start()?;
//! # Ok(())
//! # }
//! ```
//!
//! The programs are what `tests/setup/cluster.sh` builds (`TOWPATH_CLUSTER` names its folder). Everything ends with the value,
//! also when this process is killed, and leaves nothing. Needs root.

mod api_server;
mod pki;
mod program;

pub use api_server::{ApiServer, Families, Options as ApiServerOptions};
pub use program::{Program, folder, program};
