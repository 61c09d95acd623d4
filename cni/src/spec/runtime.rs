//! What a runtime asks for beside the configuration: the values of `runtimeConfig`'s capabilities.
//!
//! Source: CNI conventions, "Dynamic Plugin specific Fields (Capabilities / Runtime Configuration)".

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;

/// One entry of `portMappings`: a port of the node that leads into the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortMapping {
    /// Port on the node.
    pub host_port: NonZeroU16,
    /// Port in the pod.
    pub container_port: NonZeroU16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Only at this address of the node. `None`: at every address of both families; the unspecified address of a
    /// family: at every address of that family.
    pub host_ip: Option<IpAddr>,
}

/// Transport protocol of a port mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The protocol's number in an IP header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// `bandwidth`: how fast a pod may receive and send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bandwidth {
    /// Towards the pod.
    pub ingress: Option<Rate>,
    /// From the pod.
    pub egress: Option<Rate>,
}

impl Bandwidth {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }
}

/// A rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Sustained rate in bit/s; never 0.
    pub bits_per_second: u64,
    /// How much may pass at once, in bits; never 0, below 2^35 (the queueing discipline counts bytes in 32 bits).
    pub burst_bits: u64,
}

/// One range of `ipRanges`: addresses from which the pod's may be taken, both ends included, one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IpRange {
    /// Lowest address.
    pub first: IpAddr,
    /// Highest address.
    pub last: IpAddr,
}
