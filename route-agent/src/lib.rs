//! The node daemon's library: keeps this node's kernel in line with the speaker's Loc-RIB.
//!
//! ```text
//!  files --config--> DesiredState --> speaker (sessions, RIB) --RibEvent--> fib --netlink--> kernel
//!                         |              ^   ^                               |
//!                         '--> local ----'   '--- Feedback (installed, ------'
//!                   addresses, routes        link down, next hop gone)
//! ```
//! [`daemon`] starts and joins the tasks; [`control`] is how the command talks to them.

pub mod config;
pub mod control;
pub mod daemon;
pub mod exclusive;
pub mod fib;
pub mod kernel;
mod local;
mod part;
mod respond;
pub mod state;
pub mod status;
