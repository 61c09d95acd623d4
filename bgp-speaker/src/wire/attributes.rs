//! Path attributes: decoded values over one canonical block of octets.
//!
//! The block holds the attributes that travel with a route, in type order, AS numbers in four octets, the
//! Partial bit set on unknown transitive ones, and without NEXT_HOP, MP_REACH_NLRI, MP_UNREACH_NLRI, AS4_PATH
//! and AS4_AGGREGATOR. Two routes have equal attributes exactly when their blocks are equal, so a block is
//! what the RIB interns and what the encoder copies from.

use std::net::{IpAddr, Ipv6Addr};

/// ORIGIN (RFC 4271 section 5.1.1); the order is the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// 0
    Igp,
    /// 1
    Egp,
    /// 2
    Incomplete,
}

/// Next hop of a route as carried on the wire (RFC 4271 5.1.3, RFC 2545, RFC 8950).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nexthop {
    /// The global next hop, or the link-local one where that is all there is.
    pub address: IpAddr,
    /// Second, link-local address of a 32-octet next hop.
    pub link_local: Option<Ipv6Addr>,
}

/// Attributes of a route without its next hop: a canonical block and the values the decision needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathAttributes {
    block: Box<[u8]>,
    summary: Summary,
}

/// The values the decision process reads, kept beside the block so that it is not walked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Summary {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH length for the decision: an AS_SET counts one, confederation segments none (RFC 4271 9.1.2.2 a).
    pub as_path_len: u16,
    /// First AS of the AS_PATH (0 when empty): the neighbour AS for MED and multipath.
    pub neighbor_as: u32,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
}

/// Makes a block for a route we originate, or a changed copy of one.
#[derive(Clone, Debug, Default)]
pub struct AttributesBuilder {}
