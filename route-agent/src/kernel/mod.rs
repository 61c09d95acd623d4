//! What touches the kernel's routing state: one worker thread for requests, one socket for events.
//!
//! [`worker`] owns the request socket: it writes batches ([`writer`], encoded by [`encode`]) and reads
//! dumps ([`dump`]). [`monitor`] listens. [`resolve`] keeps links and addresses and turns BGP next hops
//! into kernel ones. [`nexthop`] is the message type that netlink-packet-route lacks. Nothing here
//! decides which route should exist: that is [`crate::fib`].

pub mod dump;
pub mod encode;
pub mod monitor;
pub mod nexthop;
pub mod resolve;
pub mod socket;
pub mod sysctl;
pub mod worker;
pub mod writer;

use std::io;

use ipnet::IpNet;
use smallvec::SmallVec;

use crate::fib::Hop;

/// What can go wrong between us and the kernel, beside the refusal of a single request.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The socket itself failed.
    #[error("netlink socket, {doing}: {source}")]
    Socket {
        /// What was tried.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A dump or query was refused.
    #[error("the kernel refused to {doing}: {} (errno {errno}) {text}", io::Error::from_raw_os_error(*.errno))]
    Refused {
        /// What was asked.
        doing: &'static str,
        /// Positive errno.
        errno: i32,
        /// The kernel's own words (extended acknowledgement), may be empty.
        text: String,
    },
    /// Answers were lost because the receive buffer was full: what the kernel did is unknown.
    #[error("netlink answers were lost (receive buffer full)")]
    Overrun,
    /// No answer within the socket's time limit.
    #[error("no netlink answer while trying to {doing}")]
    NoAnswer {
        /// What was asked.
        doing: &'static str,
    },
    /// The table kept changing while it was read.
    #[error("the kernel's tables changed during each of {attempts} dumps ({doing})")]
    Unstable {
        /// What was read.
        doing: &'static str,
        /// How often it was tried.
        attempts: u32,
    },
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Up and with carrier: the kernel keeps nexthop objects on it.
    pub usable: bool,
    /// Largest packet, in octets; 0 when the kernel names none.
    pub mtu_bytes: u32,
}

/// An address of an interface, with the subnet it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Interface index.
    pub ifindex: u32,
    /// Our own address.
    pub local: std::net::IpAddr,
    /// What is on link; the peer's network on point-to-point links.
    pub subnet: IpNet,
    /// False with `noprefixroute`: no connected route comes with the address.
    pub connected: bool,
}

/// A nexthop object or group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NexthopObject {
    /// `NHA_ID`.
    pub id: u32,
    /// `nh_protocol`.
    pub protocol: u8,
    /// A single gateway; `None` for groups, blackholes and plain device nexthops.
    pub hop: Option<Hop>,
    /// Member ids of a group; empty for single nexthops.
    pub members: SmallVec<[u32; 4]>,
}

/// A route as dumps and notifications show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelRoute {
    /// Destination.
    pub prefix: IpNet,
    /// Table number.
    pub table: u32,
    /// Priority; 0 when the kernel names none.
    pub metric: u32,
    /// `rtm_protocol`.
    pub protocol: u8,
    /// `rtm_type`: 1 unicast, 6 blackhole.
    pub kind: u8,
    /// Type of service: part of the key of IPv4 routes.
    pub tos: u8,
    /// The nexthop object it points to.
    pub nexthop_id: Option<u32>,
    /// The interface it names itself, if it names one.
    pub ifindex: Option<u32>,
}

/// `RTN_UNICAST`.
pub const RTN_UNICAST: u8 = 1;
/// `RTN_BLACKHOLE`.
pub const RTN_BLACKHOLE: u8 = 6;
