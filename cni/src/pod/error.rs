//! Why a pod's wire could not be made, looked at or taken away.

use std::io;
use std::net::IpAddr;

use super::netns::NetnsError;

/// What went wrong with a pod's wire.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// The pod's namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The pod's namespace could be entered before and cannot now.
    #[error("entering the pod's network namespace: {0}")]
    Enter(io::Error),
    /// The interface is there already: it and what it has stay as they are.
    #[error(
        "the pod already has an interface {ifname}; a runtime gives each attachment its own CNI_IFNAME, and DEL before another ADD"
    )]
    InterfaceExists {
        /// `CNI_IFNAME`.
        ifname: String,
    },
    /// A link of somebody else, or of another attachment, has the host end's name.
    #[error(
        "{name} on this node is not this attachment's (ifalias {alias:?}): rename it, or remove it with `ip link delete {name}`"
    )]
    ForeignLink {
        /// The host end's name.
        name: String,
        /// What its ifalias says.
        alias: String,
    },
    /// The wire itself cannot be made so.
    #[error("{0}")]
    Unusable(String),
    /// The node has a route to exactly this address already.
    #[error(
        "the node already has a route to {address}, {held}: two pods with one address, or a route that somebody else added; remove it, or leave the address out of the blocks"
    )]
    RouteTaken {
        /// The pod's address.
        address: IpAddr,
        /// Protocol, device and whose that is.
        held: String,
    },
    /// The kernel does not take the node address as a source.
    #[error(
        "the route to {address} with source {source_address}: {reason}; nodeAddresses holds addresses that this node has"
    )]
    Source {
        /// The pod's address.
        address: IpAddr,
        /// The node's.
        source_address: IpAddr,
        /// The kernel's words.
        reason: netlink::Refused,
    },
    /// An IPv6 address, and a kernel without IPv6.
    #[error(
        "the pod has an IPv6 address and this kernel has no IPv6 (ipv6.disable=1?); leave IPv6 out of the blocks"
    )]
    NoIpv6,
    /// A kernel setting cannot be written.
    #[error("writing {value} to {file}: {source}; /proc/sys must be writable for the plugin")]
    Sysctl {
        /// Its file.
        file: String,
        /// What it shall be.
        value: u32,
        /// The system's answer.
        source: io::Error,
    },
    /// Kernel settings did not stay what they were set to.
    #[error("{}; is there a udev rule or a daemon that sets sysctls of new interfaces?", .0.join(", "))]
    Overwritten(Vec<String>),
    /// Something that was just made is not there any more.
    #[error("{what} is gone already; did the runtime take the pod away?")]
    Gone {
        /// Which end.
        what: String,
    },
    /// Another request that the kernel refused.
    #[error("{0}")]
    Kernel(#[from] netlink::Error),
    /// An ADD failed, and so did taking back what it had made.
    #[error("{failure}; and then {undoing}: {name} stays until DEL or GC")]
    NotUndone {
        /// Why the ADD failed.
        failure: Box<PodError>,
        /// Why the rest stays.
        undoing: netlink::Error,
        /// The host end.
        name: String,
    },
}

impl From<netlink::Refused> for PodError {
    fn from(refused: netlink::Refused) -> Self {
        Self::Kernel(refused.into())
    }
}
