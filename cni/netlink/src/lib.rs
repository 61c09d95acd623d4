//! Netlink for programs that must be small and quick: bytes written, bytes read, one blocking socket.
//!
//! ```text
//!   write::Batch ──> socket::Socket ──> kernel
//!   read::{Messages, Attributes} <── answers
//! ```
//!
//! A [`Batch`] holds any number of requests and travels in one system call; the kernel works them off in
//! order and acknowledges each. What a link or a route is stands where it is used, with the numbers of
//! `linux/*.h`; only nf_tables has a vocabulary of its own here ([`nft`]), because several rooms speak it.
//! No async runtime, no allocation per message. See ADR 0009.

pub mod nft;
pub mod read;
pub mod socket;
pub mod write;

pub use read::{Attributes, Message, Messages, attributes};
pub use socket::{Error, Refused, Socket};
pub use write::{Batch, Body};

/// Header flags of a request (`linux/netlink.h`).
#[expect(missing_docs, reason = "the names are those of linux/netlink.h")]
pub mod flags {
    pub const REQUEST: u16 = 0x1;
    pub const ACK: u16 = 0x4;
    pub const ECHO: u16 = 0x8;
    pub const DUMP: u16 = 0x300;
    pub const REPLACE: u16 = 0x100;
    pub const EXCL: u16 = 0x200;
    pub const CREATE: u16 = 0x400;
    pub const APPEND: u16 = 0x800;
}
