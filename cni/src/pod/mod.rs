//! A pod's wire: a veth pair between the node and the pod, with nothing shared behind it.
//!
//! ```text
//!   pod   eth0   10.244.3.7/32, fd00:244:3::7/128; default via 169.254.1.1 and fe80::1
//!    │            neighbours, permanent: both gateways at the host end's address
//!   node  twXXX  fe80::1; routes to the pod's /32 and /128 with our protocol number
//!                 neighbours, permanent: both of the pod's addresses at the pod's
//! ```
//!
//! The neighbours are known on both ends before the first packet, and duplicate address detection has nothing to
//! detect on a wire with two ends, so nothing is asked on it, nothing is waited for, and a node without a default route
//! serves its pods like any other. No command is run.

mod attach;
mod check;
mod detach;
mod error;
mod link;
mod links;
mod loopback;
mod netns;
mod routes;
mod rtnetlink;
mod sysctls;

pub mod names;
pub mod node;

use std::net::{Ipv4Addr, Ipv6Addr};

pub use attach::attach;
pub use check::check;
pub use detach::{detach, is_there};
pub use error::PodError;
pub use links::{PodLink, links};
pub use loopback::{Loopback, loopback, loopback_down, loopback_up};
pub use netns::{Identity, Netns, NetnsError};

use crate::{Addresses, IfName};

/// The pod's IPv4 gateway: link-local, the same for each pod, and an address of nobody. The pod knows its hardware
/// address, so nobody is asked for it.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The pod's IPv6 gateway: an address of the host end.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Hardware address of every host end. One for all of them: a pod that is restored elsewhere still knows its gateway.
pub const HOST_MAC: [u8; 6] = [0xee; 6];

/// What one attachment's wire shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The end on the node; see [`names::host_ifname`].
    pub host_ifname: IfName,
    /// The end in the pod: `CNI_IFNAME`.
    pub ifname: IfName,
    /// The pod's own addresses.
    pub addresses: Addresses,
    /// The pod's hardware address: unicast, not zero, not [`HOST_MAC`].
    pub pod_mac: [u8; 6],
    /// Of both ends: 68 to 65535, from 1280 with an IPv6 address.
    pub mtu_bytes: u32,
    /// The node's routing table for the routes to the pod.
    pub table: u32,
    /// Protocol number of the routes to the pod, by which the daemon knows them.
    pub protocol: u8,
    /// Source addresses of what the node itself sends to the pod, such as kubelet's probes. Where there is none, the
    /// kernel chooses: the first global address in the order of interfaces, be it one of `lo`.
    pub sources: Addresses,
    /// `ifalias` of the host end; see [`names::mark`].
    pub mark: String,
    /// Whether 127.0.0.1 of the node may reach the pod, for host ports on it. Off, unless it is asked for:
    /// CVE-2020-8558.
    pub route_localnet: bool,
}

/// A wire that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Index of the host end, on the node.
    pub host_ifindex: u32,
    /// Index of the pod end, in the pod.
    pub pod_ifindex: u32,
    /// [`HOST_MAC`].
    pub host_mac: [u8; 6],
    /// The pod end's hardware address.
    pub pod_mac: [u8; 6],
    /// Whether the pod's default routes lead here. Another interface had them before, otherwise, and ours stand behind.
    pub is_first: bool,
}
