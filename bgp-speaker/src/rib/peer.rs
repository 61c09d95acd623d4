//! What the RIB knows of a peer: its settings, its session, and how its next hops are to be resolved.

use std::net::{IpAddr, Ipv4Addr};

use api::desired::{Family, NextHopMode};
use smallvec::SmallVec;

use super::FibNexthop;
use crate::wire::{AfiSafi, Nexthop};

/// What the operator says about a peer, as far as routes are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    /// `metadata.name`; a dynamic neighbour has the name of its listen range.
    pub name: String,
    /// How often our own AS may stand in a received AS_PATH.
    pub allow_local_as: u8,
    /// The first AS of an eBGP peer's AS_PATH must be its own.
    pub enforce_first_as: bool,
    /// Next hop we advertise.
    pub next_hop: NextHopMode,
    /// Families with their limits.
    pub families: Vec<Family>,
}

/// An Established session, as far as routes are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSession {
    /// The peer is in another AS.
    pub ebgp: bool,
    /// Our AS on this session.
    pub local_asn: u32,
    /// The peer's AS.
    pub remote_asn: u32,
    /// The peer's BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Our end of the TCP connection.
    pub local_address: IpAddr,
    /// The peer's end.
    pub remote_address: IpAddr,
    /// The interface the session runs over when the peer is directly connected.
    pub ifindex: Option<u32>,
    /// Addresses of that interface, both families: next hops for the family the session does not run over.
    pub local_addresses: Vec<IpAddr>,
    /// Negotiated families.
    pub families: Vec<AfiSafi>,
    /// IPv4 prefixes may carry IPv6 next hops (RFC 8950).
    pub extended_nexthop_v4: bool,
    /// RFC 6793.
    pub four_octet_as: bool,
    /// Largest message, octets.
    pub max_message: usize,
    /// RFC 7313 both ways: a refresh is bracketed.
    pub enhanced_refresh: bool,
}

impl PeerSession {
    /// How a next hop of this peer's routes is to be resolved.
    pub(crate) fn resolve(&self, nexthop: &Nexthop) -> FibNexthop {
        let link_local = match (nexthop.link_local, nexthop.address) {
            (Some(address), _) if self.ifindex.is_some() => Some(IpAddr::V6(address)),
            (_, IpAddr::V6(address)) if address.is_unicast_link_local() => Some(IpAddr::V6(address)),
            _ => None,
        };
        match link_local {
            Some(address) => FibNexthop { address, ifindex: self.ifindex, recursive: false },
            None if self.ebgp => FibNexthop {
                address: nexthop.address,
                // A third party's address on the same link resolves over the connected route like any other.
                ifindex: self.ifindex.filter(|_| nexthop.address == self.remote_address),
                recursive: false,
            },
            None => FibNexthop { address: nexthop.address, ifindex: None, recursive: true },
        }
    }

    /// Is it an address of ours, as far as this session shows them?
    pub(crate) fn is_own(&self, address: IpAddr) -> bool {
        address == self.local_address || self.local_addresses.contains(&address)
    }
}

/// Which families a set holds, in two bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct FamilySet(u8);

impl FamilySet {
    pub(crate) fn contains(self, family: AfiSafi) -> bool {
        self.0 & bit(family) != 0
    }
    pub(crate) fn insert(&mut self, family: AfiSafi) {
        self.0 |= bit(family);
    }
    pub(crate) fn remove(&mut self, family: AfiSafi) {
        self.0 &= !bit(family);
    }
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
    pub(crate) fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
    pub(crate) fn iter(self) -> impl Iterator<Item = AfiSafi> {
        [AfiSafi::Ipv4Unicast, AfiSafi::Ipv6Unicast].into_iter().filter(move |family| self.contains(*family))
    }
}

impl<'a> FromIterator<&'a AfiSafi> for FamilySet {
    fn from_iter<I: IntoIterator<Item = &'a AfiSafi>>(families: I) -> Self {
        let mut set = Self::default();
        families.into_iter().for_each(|family| set.insert(*family));
        set
    }
}

fn bit(family: AfiSafi) -> u8 {
    1 << slot(family)
}

/// Place of a family in a pair.
pub(crate) fn slot(family: AfiSafi) -> usize {
    match family {
        AfiSafi::Ipv4Unicast => 0,
        AfiSafi::Ipv6Unicast => 1,
    }
}

/// Next hops beyond this are not remembered per peer; its own are among the first.
const NEXTHOPS_KEPT: usize = 64;

/// A peer and what the RIB holds of it.
pub(crate) struct PeerState {
    pub(crate) settings: PeerSettings,
    /// The session, or the last one while stale paths of it are kept.
    pub(crate) session: Option<PeerSession>,
    pub(crate) up: bool,
    /// Its update group while it is up.
    pub(crate) group: Option<usize>,
    /// Paths held, per family.
    pub(crate) received: [u32; 2],
    /// The warning of maxPrefix was given, per family.
    pub(crate) warned: [bool; 2],
    /// Its limit was passed and told, per family.
    pub(crate) exceeded: [bool; 2],
    /// Families that may hold stale paths.
    pub(crate) stale: FamilySet,
    /// Families between Beginning and End of Route Refresh.
    pub(crate) refreshing: FamilySet,
    /// Next hops seen in this session and the families that used them: what fails with the session.
    pub(crate) nexthops: SmallVec<[(FibNexthop, FamilySet); 2]>,
}

impl PeerState {
    pub(crate) fn new(settings: PeerSettings) -> Self {
        Self {
            settings,
            session: None,
            up: false,
            group: None,
            received: [0; 2],
            warned: [false; 2],
            exceeded: [false; 2],
            stale: FamilySet::default(),
            refreshing: FamilySet::default(),
            nexthops: SmallVec::new(),
        }
    }

    pub(crate) fn saw_nexthop(&mut self, nexthop: FibNexthop, family: AfiSafi) {
        if let Some(known) = self.nexthops.iter_mut().find(|known| known.0 == nexthop) {
            known.1.insert(family);
        } else if self.nexthops.len() < NEXTHOPS_KEPT {
            self.nexthops.push((nexthop, FamilySet::from_iter([&family])));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn session(local: &str, remote: &str) -> PeerSession {
        PeerSession {
            ebgp: true,
            local_asn: 65000,
            remote_asn: 65001,
            router_id: Ipv4Addr::new(192, 0, 2, 1),
            local_address: local.parse().unwrap(),
            remote_address: remote.parse().unwrap(),
            ifindex: Some(7),
            local_addresses: Vec::new(),
            families: vec![AfiSafi::Ipv4Unicast, AfiSafi::Ipv6Unicast],
            extended_nexthop_v4: false,
            four_octet_as: true,
            max_message: 4096,
            enhanced_refresh: true,
        }
    }

    #[test]
    fn next_hops_resolve_by_kind_of_session() {
        let on_link = session("10.0.0.1", "10.0.0.2");
        let far = PeerSession { ifindex: None, ..on_link.clone() };
        let ibgp = PeerSession { ebgp: false, ..far.clone() };
        let ibgp_on_link = PeerSession { ebgp: false, ..on_link.clone() };
        let cases = [
            ("the peer itself", &on_link, "10.0.0.2", None, ("10.0.0.2", Some(7), false)),
            ("a third party", &on_link, "10.0.0.3", None, ("10.0.0.3", None, false)),
            ("multihop", &far, "10.9.9.9", None, ("10.9.9.9", None, false)),
            ("link-local", &on_link, "fe80::2", None, ("fe80::2", Some(7), false)),
            ("both", &on_link, "2001:db8::2", Some("fe80::2"), ("fe80::2", Some(7), false)),
            ("both, multihop", &far, "2001:db8::2", Some("fe80::2"), ("2001:db8::2", None, false)),
            ("iBGP", &ibgp, "10.9.9.9", None, ("10.9.9.9", None, true)),
            ("iBGP on the link", &ibgp_on_link, "10.0.0.2", None, ("10.0.0.2", None, true)),
            ("iBGP link-local", &ibgp_on_link, "fe80::2", None, ("fe80::2", Some(7), false)),
        ];
        for (name, session, address, link_local, (expected, ifindex, recursive)) in cases {
            let nexthop = Nexthop {
                address: address.parse().unwrap(),
                link_local: link_local.map(|text: &str| text.parse().unwrap()),
            };
            let expected = FibNexthop { address: expected.parse().unwrap(), ifindex, recursive };
            assert_eq!(session.resolve(&nexthop), expected, "{name}");
        }
    }
}
