//! The CNI plugin: gives a pod its addresses and its wire, and takes them back.
//!
//! ```text
//!  runtime ── environment, stdin ──> spec ──> commands ──┬──> ipam       who has which address (one log, one lock)
//!          <── result or error ───── spec <──            ├──> pod        veth, addresses, routes, neighbours
//!                                                        ├──> rules      nf_tables: host ports, anti-spoofing
//!                                                        └──> bandwidth  tbf, ifb
//! ```
//!
//! The program lives for two or three milliseconds and needs no daemon. What it shares with the daemon is in the kernel
//! (pod routes carry our protocol number) and in files (the conflist; `/run/towpath/ready`). See ADR 0002.
//! Source: CNI specification 1.1.0.

mod addresses;
pub mod bandwidth;
pub mod commands;
pub mod ipam;
pub mod names;
pub mod pod;
pub mod ready;
pub mod rules;
pub mod spec;

pub use addresses::Addresses;
pub use names::{Attachment, ContainerId, IfName, NameError, NetworkName};
