//! What the node's own routes say when neither conflist nor daemon does: how large a pod's packets may be, and from
//! which address the node talks to its pods.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink::read::{address, u32_at};
use netlink::{Body, Message, Socket, attributes};

use super::link::Link;
use super::rtnetlink::{ADDRESS_HEADER, IFA_ADDRESS, IFA_LOCAL, SCOPE_UNIVERSE, family};
use super::{PodError, routes};
use crate::Addresses;

/// What Ethernet carries where nobody says otherwise.
const ETHERNET_MTU: u32 = 1500;

/// Addresses of documentation (RFC 5737, RFC 3849), to which only a default route leads.
const FAR_AWAY: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// The calling thread's network namespace, as one that is asked.
#[derive(Debug)]
pub struct Node(Socket);

impl Node {
    /// # Errors
    /// What the socket says.
    pub fn open() -> Result<Self, PodError> {
        Ok(Self(Socket::route()?))
    }

    /// The largest packet that every uplink takes, in octets.
    ///
    /// Uplinks are the interfaces of the default routes, each of several next hops counting, and an MTU of the route
    /// itself too. A node without one (BGP has not said it yet, or never will): the interfaces that are up and have a
    /// global address, `lo` and dummies left out. Without any, 1500.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn uplink_mtu_bytes(&mut self) -> Result<u32, PodError> {
        let mut sizes = Vec::new();
        let mut uplinks = BTreeSet::new();
        for destination in FAR_AWAY {
            let route = routes::toward(&mut self.0, destination)?;
            let Some(route) = route.filter(|route| route.is_unicast) else { continue };
            sizes.extend(route.mtu_bytes);
            uplinks.extend(match route.nexthop_id {
                Some(id) if route.interfaces.is_empty() => routes::interfaces_of(&mut self.0, id)?,
                _ => route.interfaces,
            });
        }
        if uplinks.is_empty() {
            uplinks = self.addressed_interfaces()?;
        }
        for index in uplinks {
            let link = Link::of_index(&mut self.0, index)?;
            let counts = |link: &Link| link.is_up && !link.is_loopback && link.kind != "dummy";
            sizes.extend(link.filter(counts).map(|link| link.mtu_bytes));
        }
        Ok(sizes.into_iter().min().unwrap_or(ETHERNET_MTU))
    }

    /// The addresses from which this node talks to the outside, for those families that `pod` has. None where there is
    /// no way outside, or only a link-local source.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn sources(&mut self, pod: &Addresses) -> Result<Addresses, PodError> {
        let mut sources = Addresses::default();
        for destination in FAR_AWAY.into_iter().filter(|far| pod.same_family(*far).is_some()) {
            let source = routes::source_toward(&mut self.0, destination)?;
            if let Some(source) = source.filter(is_global) {
                sources.set(source);
            }
        }
        Ok(sources)
    }

    /// Interfaces with an address of global scope: of IPv4, and of IPv6 only where there is no IPv4.
    fn addressed_interfaces(&mut self) -> Result<BTreeSet<u32>, PodError> {
        const RTM_GETADDR: u16 = 22;
        for far in FAR_AWAY {
            let write = |body: &mut Body<'_>| body.header(&[family(far), 0, 0, 0, 0, 0, 0, 0]);
            let each = |found: &mut BTreeSet<u32>, message: &Message<'_>| found.extend(global(message));
            let found = self.0.dump("listing addresses", RTM_GETADDR, write, each)?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(BTreeSet::new())
    }
}

/// The interface of a global address.
fn global(message: &Message<'_>) -> Option<u32> {
    let scope = *message.payload.get(3)?;
    let value = |wanted| attributes(message.payload, ADDRESS_HEADER).find(|(kind, _)| *kind == wanted);
    let (_, octets) = value(IFA_LOCAL).or_else(|| value(IFA_ADDRESS))?;
    let counts = scope == SCOPE_UNIVERSE && is_global(&address(octets)?);
    if counts { u32_at(message.payload, 4) } else { None }
}

fn is_global(address: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(link_local || address.is_loopback() || address.is_unspecified())
}
