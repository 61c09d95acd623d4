//! containerlab topologies out of network namespaces.
//!
//! A lab is one process namespace: its process 1, the holder, makes the nodes and the links and
//! then waits, and when it dies, everything of the lab dies. A node is a set of namespaces
//! (network, mounts, host name, processes) with the machine's files under private edits, the
//! program its image stands for, and a socket to be asked things. What containerlab would make on
//! the machine (bridges, the management network) is in the holder's own network namespace.
//!
//! ```text
//! file -> Topology -> plan.json -> holder -> node -> init -> main process
//!                       bring_up, board, wires             \-> exec, files, forwarding
//! ```
//!
//! `file/` reads a topology, `start/` brings it up, `node/` is what runs inside a node, `kernel/` what is
//! asked of netlink. On top of a running lab stand `story/` (failures, played and judged), `graph/` (its
//! picture) and `speakers/` (what routing programs say); all of them are reached through `cli/`.
//!
//! Tests start labs with [`Lab::up`]; people with [`cli`]. Every program that does so calls
//! [`maybe_run_helper`] first thing in `main`.
//!
//! Kernel settings of a node, unless its `sysctls` say otherwise: IPv4 forwarding on, reverse path
//! filter off, IPv6 on with its forwarding off, no duplicate address detection (an address can be
//! used at once), IPv6 addresses survive a link that goes down, and an ECMP hash seed of its own. TCP sockets hash
//! their packets once, for every hop: chained ECMP hops choose alike for TCP, and differently for UDP.

pub mod cli;
mod file;
pub mod graph;
mod impair;
mod kernel;
mod lab;
mod node;
mod rootless;
mod running;
pub mod speakers;
mod start;
pub mod story;
mod svg;
mod wait;
mod xml;

pub use file::hosts::Dns;
pub use file::image::RUN_LABEL;
pub use file::kind::Kind;
pub use file::lifecycle::{Healthcheck, RestartPolicy};
pub use file::links::{DEFAULT_MTU_BYTES, Dummy, End, Link};
pub use file::management::{Management, Subnet};
pub use file::problem::{FileError, Problem};
pub use file::stage::{Phase, Stage, StageExec, StageSpec, Target, WaitFor};
pub use file::topology::{Bind, Network, NodeSpec, Topology};
pub use impair::Means;
pub use kernel::netem::{BadImpairment, Impairment};
pub use kernel::nft::{BadLoss, Loss};
pub use lab::{Lab, LabError};
pub use node::control::Status;
pub use node::health::Health;
pub use node::reaper::Exit;
pub use running::{ExecOptions, Node, Output};
pub use start::helper::{maybe_run_helper, use_program};
pub use wait::{Timeout, until};
