//! Neighbours, announcements and a RIB with them, for the tests of the RIB.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use api::desired::{AfiSafi, Family, MaxPrefix, MaxPrefixAction, NextHopMode};
use bgp_speaker::rib::{PeerId, PeerSession, PeerSettings, Rib, RibConfig};
use bgp_speaker::wire::{AttributesBuilder, Nexthop, Nlri, Reach, Update};
use ipnet::{IpNet, Ipv4Net};

pub(crate) const V4: AfiSafi = AfiSafi::Ipv4Unicast;
pub(crate) const V6: AfiSafi = AfiSafi::Ipv6Unicast;
/// Neighbours: eBGP from an AS each, iBGP from 8 on.
pub(crate) const NUMBERS: [u8; 5] = [0, 1, 2, 8, 9];

pub(crate) fn config() -> RibConfig {
    RibConfig {
        max_paths: 4,
        local_asn: 65000,
        router_id: Ipv4Addr::new(192, 0, 2, 100),
        advertise_after_install: false,
        transit: true,
        pod_ranges: Vec::new(),
        fib: true,
    }
}

pub(crate) fn settings(number: u8) -> PeerSettings {
    let max_prefix = MaxPrefix { limit: 1_000_000, warn_at: 90, action: MaxPrefixAction::Restart };
    let families = [V4, V6].map(|afi_safi| Family { afi_safi, extended_next_hop: false, max_prefix });
    PeerSettings {
        name: format!("peer-{number}"),
        allow_local_as: 0,
        enforce_first_as: true,
        next_hop: NextHopMode::Auto,
        families: families.to_vec(),
    }
}

pub(crate) fn session(number: u8) -> PeerSession {
    let ebgp = number < 8;
    PeerSession {
        ebgp,
        local_asn: 65000,
        remote_asn: if ebgp { 65001 + u32::from(number) } else { 65000 },
        router_id: Ipv4Addr::new(192, 0, 2, number),
        local_address: IpAddr::from([10, 0, number, 1]),
        remote_address: IpAddr::from([10, 0, number, 2]),
        ifindex: ebgp.then_some(100 + u32::from(number)),
        local_addresses: vec![format!("2001:db8:{number:x}::1").parse().unwrap()],
        families: vec![V4, V6],
        extended_nexthop_v4: false,
        four_octet_as: true,
        max_message: 4096,
        enhanced_refresh: true,
    }
}

/// Every fourth is IPv6.
pub(crate) fn prefix(number: u8) -> IpNet {
    if number % 4 == 3 {
        format!("2001:db8:ff{number:02x}::/64").parse().unwrap()
    } else {
        IpNet::V4(Ipv4Net::new(Ipv4Addr::new(172, 16, number, 0), 24).unwrap())
    }
}

pub(crate) fn nlri(prefix: IpNet) -> Nlri {
    match prefix {
        IpNet::V4(prefix) => Nlri::V4(vec![prefix]),
        IpNet::V6(prefix) => Nlri::V6(vec![prefix]),
    }
}

/// An announcement; `variant` chooses attributes that win, tie, lose, or may not be passed on.
pub(crate) fn reach(number: u8, prefix: IpNet, variant: u8) -> Update {
    let session = session(number);
    let mut path = if session.ebgp { vec![session.remote_asn] } else { vec![64999] };
    path.extend(std::iter::repeat_n(64512, usize::from(variant % 3)));
    let attributes = AttributesBuilder::default()
        .as_path(&path)
        .med(Some(u32::from(variant / 3)))
        .local_pref((!session.ebgp).then_some(100))
        .communities(if variant == 8 { &[0xffff_ff02] } else { &[] });
    let address = match prefix {
        IpNet::V6(_) => format!("2001:db8:{number:x}::2").parse().unwrap(),
        IpNet::V4(_) => session.remote_address,
    };
    Update {
        reach: vec![Reach { nexthop: Nexthop { address, link_local: None }, nlri: nlri(prefix) }],
        attributes: Some(attributes.build().unwrap()),
        ..Update::default()
    }
}

pub(crate) fn unreach(prefix: IpNet) -> Update {
    Update { unreach: vec![nlri(prefix)], ..Update::default() }
}

pub(crate) fn rib_with(config: RibConfig) -> (Rib, BTreeMap<u8, PeerId>) {
    let mut rib = Rib::new(config);
    let mut ids = BTreeMap::new();
    for number in NUMBERS {
        let id = rib.add_peer(settings(number)).unwrap();
        rib.peer_up(id, session(number));
        ids.insert(number, id);
    }
    (rib, ids)
}
