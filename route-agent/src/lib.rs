//! The node daemon's library: keeps this node's kernel in line with the speaker's Loc-RIB.
//!
//! ```text
//!  files --config--> DesiredState --> speaker (sessions, RIB) --RibEvent--> fib --netlink--> kernel
//!                         |              ^   ^                               |
//!                         '--> local ----'   '--- Feedback (installed, ------'
//!                   addresses, routes        link down, next hop gone)
//! ```
//! Pods' routes, which the CNI plugin writes, reach `local` by way of the FIB's notifications; [`pods`] tells container
//! runtimes when this node is ready for them. [`daemon`] starts and joins the tasks; [`control`] is how the command talks to them.
//! [`cli`] is the whole command line, for every program that is `towpath` (this package's, and the image's).

// The command line speaks of the daemon's parts by the names they have for others.
extern crate self as route_agent;

pub mod cli;
pub mod cluster;
pub mod config;
pub mod control;
pub mod daemon;
pub mod exclusive;
pub mod fib;
pub mod kernel;
mod local;
mod part;
pub mod pods;
mod respond;
pub mod state;
pub mod status;
