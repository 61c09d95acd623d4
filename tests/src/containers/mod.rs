//! Real containers on two nodes of a lab: containerd and runc start pods whose network is the plugin's.
//!
//! ```text
//!              tor (65100)                  10.0.0.<2 x node>/31       ToR even, node odd
//!             /           \                 fd00:0:0:<node>::/64       ToR ::1, node ::2
//!     node1 (65001)   node2 (65002)         pods 10.244.<node>.0/24, fd00:244:<node>::/64
//!      containerd       containerd
//! ```
//!
//! A node is a machine as far as containerd can tell: network, processes, `/run`, `/etc/cni` and `/opt/cni` are its
//! own, and its disk (`/var/lib/containerd`, `/var/lib/towpath`, ...) is a folder of the test, so that it outlives
//! a [`Cluster::reboot`]. Only cgroups are the machine's; the test's have a folder of their own there. The test
//! plays the kubelet: it speaks CRI. Needs root and what `make setup` provides.

mod cluster;
pub(crate) mod image;
mod leftovers;
mod machine;
mod pod;

pub use cluster::{Cluster, Runtime};
pub use machine::Machine;
pub use pod::{Pod, PodSpec};
