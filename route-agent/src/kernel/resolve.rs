//! From a BGP next hop to a kernel one: links, addresses and connected subnets of this node.
//!
//! In: what dumps and notifications say about links and addresses. Out: a [`Resolution`]. Only what
//! is on link is decided here; a next hop further away needs the kernel's own lookup
//! ([`Resolution::Lookup`]). No I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgp_speaker::rib::FibNexthop;

use super::{Address, Link};
use crate::fib::Hop;

/// What is known about a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// On link: packets go to it directly.
    Via(Hop),
    /// Not on link: ask the kernel's table.
    Lookup,
    /// No packet can go there now.
    Unreachable,
}

/// Links and addresses of this network namespace.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    links: BTreeMap<u32, Link>,
    addresses: BTreeSet<Address>,
}

impl Topology {
    /// From a dump.
    pub fn new(links: Vec<Link>, addresses: Vec<Address>) -> Self {
        Self {
            links: links.into_iter().map(|link| (link.index, link)).collect(),
            addresses: addresses.into_iter().collect(),
        }
    }

    /// Takes in a link notification; returns the link as it was.
    pub fn link_changed(&mut self, link: Link) -> Option<Link> {
        self.links.insert(link.index, link)
    }

    /// Takes in the deletion of a link; returns it.
    pub fn link_gone(&mut self, index: u32) -> Option<Link> {
        self.addresses.retain(|address| address.ifindex != index);
        self.links.remove(&index)
    }

    /// Takes in an address; returns whether anything changed.
    pub fn address_changed(&mut self, address: Address, present: bool) -> bool {
        // The connected-route flag may differ between two notifications of one address.
        let before = self.addresses.len();
        let same = |known: &Address| {
            known.ifindex == address.ifindex && known.local == address.local && known.subnet == address.subnet
        };
        let known = self.addresses.contains(&address);
        self.addresses.retain(|known| !same(known));
        if present {
            self.addresses.insert(address);
            !known
        } else {
            before != self.addresses.len()
        }
    }

    /// The interfaces of this namespace.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// One interface.
    pub fn link(&self, ifindex: u32) -> Option<&Link> {
        self.links.get(&ifindex)
    }

    /// The interface with the longest connected subnet around `address`, whether it can be used now or not.
    pub(crate) fn towards(&self, address: IpAddr) -> Option<u32> {
        let holds = |ours: &&Address| ours.connected && ours.subnet.contains(&address);
        self.addresses
            .iter()
            .filter(holds)
            .max_by_key(|ours| ours.subnet.prefix_len())
            .map(|ours| ours.ifindex)
    }

    /// Largest packet of an interface, in octets.
    pub fn mtu_bytes(&self, ifindex: u32) -> Option<u32> {
        self.links.get(&ifindex).map(|link| link.mtu_bytes).filter(|mtu| *mtu > 0)
    }

    /// The interface with this address of ours; `scope`: the interface of a link-local one.
    pub fn interface_of(&self, local: IpAddr, scope: u32) -> Option<u32> {
        let ours = |address: &&Address| address.local == local && (scope == 0 || address.ifindex == scope);
        self.addresses.iter().find(ours).map(|address| address.ifindex)
    }

    /// Up, with carrier.
    pub fn usable(&self, ifindex: u32) -> bool {
        self.links.get(&ifindex).is_some_and(|link| link.usable)
    }

    /// Where packets for `nexthop` go.
    pub fn resolve(&self, nexthop: &FibNexthop) -> Resolution {
        let gateway = nexthop.address;
        if self.addresses.iter().any(|address| is_own(address, nexthop)) {
            // A route over it would send packets to ourselves.
            return Resolution::Unreachable;
        }
        match nexthop.ifindex {
            Some(ifindex) if !self.usable(ifindex) => Resolution::Unreachable,
            Some(ifindex) => {
                let onlink = !is_link_local(gateway) && !self.covers(ifindex, gateway);
                Resolution::Via(Hop { gateway, ifindex, onlink })
            }
            // A link-local address without its interface names nothing.
            None if is_link_local(gateway) => Resolution::Unreachable,
            None => match self.connected(gateway) {
                Some(ifindex) => Resolution::Via(Hop { gateway, ifindex, onlink: false }),
                None => Resolution::Lookup,
            },
        }
    }

    fn covers(&self, ifindex: u32, gateway: IpAddr) -> bool {
        self.addresses
            .iter()
            .any(|known| known.connected && known.ifindex == ifindex && known.subnet.contains(&gateway))
    }

    /// The usable interface with the longest connected subnet around `gateway`.
    fn connected(&self, gateway: IpAddr) -> Option<u32> {
        self.addresses
            .iter()
            .filter(|known| known.connected && known.subnet.contains(&gateway) && self.usable(known.ifindex))
            .max_by_key(|known| known.subnet.prefix_len())
            .map(|known| known.ifindex)
    }
}

/// Whether the next hop is this address of ours. A link-local one may be ours on one interface and a neighbour's on
/// the next: every pod's gateway is `fe80::1`, and so are many ToRs.
fn is_own(address: &Address, nexthop: &FibNexthop) -> bool {
    let elsewhere =
        |ifindex| address.local.is_ipv6() && is_link_local(address.local) && ifindex != address.ifindex;
    address.local == nexthop.address && !nexthop.ifindex.is_some_and(elsewhere)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> Topology {
        let link = |index, usable| Link { index, name: format!("eth{index}"), usable, mtu_bytes: 1500 };
        let address = |ifindex, local: &str, subnet: &str, connected| Address {
            ifindex,
            local: local.parse().unwrap(),
            subnet: subnet.parse().unwrap(),
            connected,
        };
        Topology::new(
            vec![link(2, true), link(3, true), link(4, false)],
            vec![
                address(2, "10.0.0.1", "10.0.0.0/16", true),
                address(3, "10.0.1.1", "10.0.1.0/24", true),
                address(4, "10.0.2.1", "10.0.2.0/24", true),
                address(3, "10.9.0.1", "10.9.0.0/24", false),
                address(2, "2001:db8::1", "2001:db8::/64", true),
                address(3, "fe80::1", "fe80::/64", true),
                address(3, "169.254.1.1", "169.254.1.1/32", true),
            ],
        )
    }

    #[test]
    fn next_hops_resolve_over_what_is_connected_and_usable() {
        let via = |gateway: &str, ifindex, onlink| {
            Resolution::Via(Hop { gateway: gateway.parse().unwrap(), ifindex, onlink })
        };
        let cases: &[(&str, Option<u32>, Resolution)] = &[
            ("10.0.0.9", None, via("10.0.0.9", 2, false)),
            // The longest subnet wins.
            ("10.0.1.9", None, via("10.0.1.9", 3, false)),
            // Its own subnet is on a link without carrier: the shorter one remains.
            ("10.0.2.9", None, via("10.0.2.9", 2, false)),
            ("10.0.2.9", Some(4), Resolution::Unreachable),
            ("10.0.2.9", Some(9), Resolution::Unreachable),
            ("192.0.2.1", Some(3), via("192.0.2.1", 3, true)),
            ("10.0.1.9", Some(3), via("10.0.1.9", 3, false)),
            ("10.9.0.9", None, Resolution::Lookup),
            ("10.9.0.9", Some(3), via("10.9.0.9", 3, true)),
            ("192.0.2.1", None, Resolution::Lookup),
            ("10.0.1.1", None, Resolution::Unreachable),
            ("fe80::2", Some(2), via("fe80::2", 2, false)),
            ("fe80::2", None, Resolution::Unreachable),
            // Ours on one link, a neighbour's on the other.
            ("fe80::1", Some(2), via("fe80::1", 2, false)),
            ("fe80::1", Some(3), Resolution::Unreachable),
            // The kernel takes no IPv4 address of its own as a gateway, on whatever link.
            ("169.254.1.1", Some(2), Resolution::Unreachable),
            ("2001:db8::2", None, via("2001:db8::2", 2, false)),
            ("2001:db8:1::2", None, Resolution::Lookup),
        ];
        for (address, ifindex, expected) in cases {
            let nexthop =
                FibNexthop { address: address.parse().unwrap(), ifindex: *ifindex, recursive: false };
            assert_eq!(topology().resolve(&nexthop), *expected, "{address} {ifindex:?}");
        }
    }

    #[test]
    fn a_deleted_link_takes_its_addresses_along() {
        let mut topology = topology();
        topology.link_gone(3);
        let nexthop = FibNexthop { address: "10.0.1.9".parse().unwrap(), ifindex: None, recursive: false };
        let expected = Hop { gateway: nexthop.address, ifindex: 2, onlink: false };
        assert_eq!(topology.resolve(&nexthop), Resolution::Via(expected));
    }
}
