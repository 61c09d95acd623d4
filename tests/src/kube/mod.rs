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
//! [`Cluster`] is the whole: control plane, kubelets, containerd, kube-proxy, name server.
//!
//! ```text
//!          tor1 (65101)        tor2 (65102)       our own daemon, transit, default route
//!          10.0.1.1 |           | 10.0.2.1        fd00:0:0:1::1, fd00:0:0:2::1 on every port
//!       +-----------+-----------+-----------+     each machine on both
//!       |           |           |           |
//!      cp         node1       node2       node3   172.20.0.100, 172.20.0.N, fd00:20::N (on lo)
//!    etcd, API    kubelet, containerd 2,          pods 10.244.0.0/16, fd00:244::/56
//!    server, ...  kube-proxy                      Services 10.96.0.0/16, fd00:96::/112
//! ```
//!
//! A test reads like this:
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use std::time::Duration;
//! use towpath_tests::kube::{Cluster, Families, Options, deploy, pods};
//!
//! // Nodes are there, and NotReady: nothing gives their pods a network.
//! let mut cluster = Cluster::with(Options { families: Families::V6, ..Options::default() })?;
//! deploy::install(&cluster)?; // kubectl apply -k deploy/
//! cluster.apply(&cluster.fabric_yaml())?; // BGPPeers of the switches
//! cluster.until_ready(true)?;
//! pods::start_servers(&cluster)?; // a web server on every node, and a Service
//! pods::until_connected(&cluster, Duration::from_secs(30))?;
//!
//! cluster.server_mut().kill()?; // the API server is away
//! cluster.machine(2).power_off()?; // a node dies ...
//! cluster.machine(2).power_on()?; // ... and returns with another boot id, disk as it was
//! cluster.lab().kill_and_isolate("tor1")?; // a switch dies
//! let pod = &pods::servers(&cluster)?[0];
//! let netns = pod.netns(&cluster)?; // for sockets of the meter
//! println!("{}", pod.exec(&cluster, &["ip", "route"])?);
//! println!("{}", cluster.machine(1).run(&["ip", "route"])?);
//! # Ok(())
//! # }
//! ```
//!
//! A machine's programs log to `var/log/node` of its disk, a folder of [`Cluster::folder`]. The programs are what
//! `tests/setup/cluster.sh` builds (`TOWPATH_CLUSTER` names its folder), the image of towpath is what `make image` makes
//! (`TOWPATH_IMAGE`). Everything ends with the value, also when this process is killed, and leaves nothing. Needs root.

mod api_server;
mod away;
mod cluster;
pub mod deploy;
mod machine;
mod pki;
pub mod pods;
mod program;
mod reference;
mod site;
mod traces;

pub use api_server::{ApiServer, Families, Options as ApiServerOptions};
pub use cluster::{Cluster, Fabric, LIMIT, Options, Proxy};
pub use machine::{BOOT_ID, Machine};
pub use program::{Program, folder, program};
pub use reference::Call;
