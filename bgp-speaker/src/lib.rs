//! A BGP-4 speaker as a library.
//!
//! ```text
//!  bytes <-> wire <-> session (pure FSM) <-> peer (socket, one timer)
//!                                              |  PeerEvent
//!                                              v
//!                     router task: owns rib::Rib --> Vec<BestChange> --> whoever installs routes
//! ```
//! `wire`, `session` and `rib` are pure: no sockets, no runtime, no clock. `transport`, `peer` and
//! `speaker` carry values between them and the network. [`handle::SpeakerHandle`] is the only door in.

mod connection;
pub mod filter;
pub mod handle;
mod managed;
pub mod memory;
mod neighbors;
mod outbound;
mod peer;
mod peer_channel;
pub mod query;
mod report;
mod restart;
pub mod rib;
pub mod session;
mod shrinking;
pub mod speaker;
pub mod status;
mod transport;
pub mod wire;

pub use handle::SpeakerHandle;
