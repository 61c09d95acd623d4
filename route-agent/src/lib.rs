//! The node daemon's library: keeps this node's kernel in line with the speaker's Loc-RIB.
//!
//! [`fib`] decides which routes, groups and nexthops are missing; [`kernel`] writes, reads and listens.

pub mod fib;
pub mod kernel;
