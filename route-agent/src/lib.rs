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
