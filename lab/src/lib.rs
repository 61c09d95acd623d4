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
//! Tests start labs with [`Lab::up`]; people with [`cli`]. Every program that does so calls
//! [`maybe_run_helper`] first thing in `main`.
//!
//! Kernel settings of a node, unless its `sysctls` say otherwise: IPv4 forwarding on, reverse path
//! filter off, IPv6 on with its forwarding off, no duplicate address detection (an address can be
//! used at once), IPv6 addresses survive a link that goes down, and an ECMP hash seed of its own. TCP sockets hash
//! their packets once, for every hop: chained ECMP hops choose alike for TCP, and differently for UDP.

mod binds;
mod board;
mod bring_up;
pub mod cli;
mod commands;
mod control;
mod device_requests;
mod devices;
mod eth0;
mod fields;
mod git;
pub mod graph;
mod health;
mod helper;
mod holder;
mod host;
mod hosts;
mod image;
mod impair;
mod init;
mod kind;
mod lab;
mod launch;
mod lifecycle;
mod links;
mod main_process;
mod management;
mod netem;
mod netlink;
mod netns;
mod netns_names;
mod network;
mod nft;
mod node;
mod node_spec;
mod outside;
mod problem;
mod programs;
mod reaper;
mod root;
mod rootless;
mod running;
mod schedule;
mod shape;
mod space;
pub mod speakers;
mod stage;
mod stage_file;
mod state;
pub mod story;
mod substitute;
mod svg;
mod sysctls;
mod terminal;
mod topology;
mod users;
mod wait;
mod wires;
mod words;
mod xml;
mod yaml;

pub use control::Status;
pub use health::Health;
pub use helper::{maybe_run_helper, use_program};
pub use hosts::Dns;
pub use image::RUN_LABEL;
pub use impair::Means;
pub use kind::Kind;
pub use lab::{Lab, LabError};
pub use lifecycle::{Healthcheck, RestartPolicy};
pub use links::{DEFAULT_MTU_BYTES, Dummy, End, Link};
pub use management::{Management, Subnet};
pub use netem::{BadImpairment, Impairment};
pub use nft::{BadLoss, Loss};
pub use problem::{FileError, Problem};
pub use reaper::Exit;
pub use running::{ExecOptions, Node, Output};
pub use stage::{Phase, Stage, StageExec, StageSpec, Target, WaitFor};
pub use topology::{Bind, Network, NodeSpec, Topology};
pub use wait::{Timeout, until};
