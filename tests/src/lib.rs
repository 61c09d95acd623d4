//! What the tests and benchmarks of towpath share: namespaces, traffic, snapshots, other speakers.
//!
//! Everything here is independent of the code under test: the traffic meter counts packets, the
//! snapshots read the kernel, the BGP feeder has an encoder of its own. Needs Linux and root (or a
//! user namespace in which the caller is root).

pub mod agent;
mod cgroups;
pub mod cni;
pub mod containers;
pub mod fabric;
pub mod feeder;
pub mod installed;
pub mod interop;
pub mod kube;
pub mod packaging;
pub mod rack;
pub mod sandbox;
pub mod speakers;
pub mod tables;
pub mod tools;
pub mod two_tor;
pub mod usage;

pub use meter::{self, kernel, netns, wait};
