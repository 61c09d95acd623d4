//! `neighbor.nodes`: a session with each of the other nodes, which both ends make of the same BGPPeer.
//!
//! In: the BGPPeer as one [`Peer`] without a neighbour, and what is known of the nodes. Out: one [`Peer`] a
//! node, and a line on each node that ought to have one and cannot. Both ends must come to the same: whether there
//! is a session, over which address family, with which ends. So selectors count in both directions; a session
//! runs between the first addresses of both nodes, over IPv4 where both have it; and its ends are those addresses,
//! whichever the kernel would choose. One session carries both families. The IPv6 next hop over IPv4 is the node's
//! own first IPv6 address, and the IPv4 one over IPv6 is that of RFC 8950, so that each is right on the segment
//! and beyond.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::bgp::{Afi, BGPPeerSpec, ExtendedNextHop, NextHop, Nodes, Passive};
use crate::build::node::Identity;
use crate::build::{Report, selector};
use crate::desired::{AfiSafi, Family, Neighbor, NextHopMode, Peer, RemoteAsn, Source};
use crate::problem::{few, show};

/// What the BGPPeer's one [`Peer`] has for a neighbour: both families, until a node is put in its place.
pub(super) fn anybody() -> Neighbor {
    let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    Neighbor::Listen { ranges: any.into_iter().map(IpNet::from).collect(), max: 0 }
}

/// What cannot be said of all nodes at once, or where both ends would wait for each other.
pub(super) fn check(report: &mut Report<'_>, spec: &BGPPeerSpec) {
    let mut refuse = |path: &str, message: &str| {
        report.refuse::<()>(path, message);
    };
    if spec.source_interface.is_some() {
        refuse(
            "spec.sourceInterface",
            "has no meaning with neighbor.nodes, where the nodes' addresses are the ends; remove it",
        );
    }
    if spec.source_address.as_deref().is_some_and(|source| !matches!(source, "auto" | "kernel")) {
        refuse(
            "spec.sourceAddress",
            "is one node's with neighbor.nodes, and every node would take it; use auto or remove it",
        );
    }
    if spec.next_hop == Some(NextHop::Address) {
        refuse(
            "spec.nextHop",
            "Address is one node's with neighbor.nodes, and every node would announce it; use Auto or Self",
        );
    }
    if matches!(spec.passive, Some(Passive::Always | Passive::Never)) {
        refuse(
            "spec.passive",
            "is the same at both ends with neighbor.nodes, so nobody would answer; use Auto or remove it",
        );
    }
}

/// The sessions of this node, sorted by the other's name, and what to say about those that cannot be.
pub(super) fn sessions(
    report: &mut Report<'_>,
    spec: &BGPPeerSpec,
    nodes: &Nodes,
    template: &Peer,
    identity: &Identity,
) -> (Vec<Peer>, Vec<String>) {
    const SELECTOR: &str = "spec.neighbor.nodes.selector";
    let (from, to) = (spec.node_selector.as_ref(), nodes.selector.as_ref());
    let ours_from = selector::matches(from, &identity.labels);
    let ours_to = selector::selects(report, SELECTOR, to, &identity.labels);
    let mut peers = Vec::new();
    let (mut apart, mut taken) = (Vec::new(), Vec::new());
    let mut addresses: HashSet<IpAddr> = identity.node.addresses.iter().copied().collect();
    for (name, other) in &identity.others {
        let wanted = ours_from && selector::matches(to, &other.labels)
            || ours_to && selector::matches(from, &other.labels);
        // One that has just joined has no address yet.
        if !wanted || other.addresses.is_empty() {
            continue;
        }
        match ends(spec, &identity.node.addresses, &other.addresses) {
            None => apart.push(name.as_str()),
            Some(ends) if !addresses.insert(ends.theirs) => taken.push(name.as_str()),
            Some(ends) => {
                let asn = identity.asn_of(name, other);
                peers.push(session(spec, template, name, asn, &ends, identity.transit));
            }
        }
    }
    let mesh = show(&template.name);
    let mut doubts = Vec::new();
    if !apart.is_empty() && identity.node.addresses.is_empty() {
        let node = &identity.node.name;
        doubts.push(format!(
            "BGPPeer/{mesh}: this node has no address yet, so no session with others; without a cluster give NodeNetwork/{node} spec.addresses"
        ));
    } else if !apart.is_empty() {
        doubts.push(format!(
            "BGPPeer/{mesh}: no session with {}: this node has no address of their address family",
            few(&apart, ", ")
        ));
    }
    if !taken.is_empty() {
        doubts.push(format!(
            "BGPPeer/{mesh}: no session with {}: another node has the same address; remove the one that is gone",
            few(&taken, ", ")
        ));
    }
    (peers, doubts)
}

/// Both ends of a session, and our next hop for IPv6 prefixes where that is another.
struct Ends {
    ours: IpAddr,
    theirs: IpAddr,
    /// Both nodes have IPv6 addresses.
    ipv6: Option<IpAddr>,
}

/// Over IPv4 when both have it and it is wanted, else over IPv6.
fn ends(spec: &BGPPeerSpec, ours: &[IpAddr], theirs: &[IpAddr]) -> Option<Ends> {
    let first = |addresses: &[IpAddr], ipv4: bool| {
        let link_local = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        addresses.iter().find(|address| address.is_ipv4() == ipv4 && !link_local(address)).copied()
    };
    let both = |ipv4: bool| first(ours, ipv4).zip(first(theirs, ipv4));
    let (v4, v6) = (both(true).filter(|_| wants(spec, Afi::Ipv4)), both(false));
    let (ours, theirs) = v4.or(v6)?;
    Some(Ends { ours, theirs, ipv6: v6.map(|(ours, _)| ours) })
}

/// Whether `families` has it, or leaves it to the addresses.
fn wants(spec: &BGPPeerSpec, afi: Afi) -> bool {
    spec.families.is_empty() || spec.families.iter().any(|family| family.afi == afi)
}

fn session(spec: &BGPPeerSpec, template: &Peer, name: &str, asn: u32, ends: &Ends, transit: bool) -> Peer {
    let families = families(spec, template, ends);
    let both = ends.ours.is_ipv4() && families.iter().any(|one| one.afi_safi == AfiSafi::Ipv6Unicast);
    let own = match template.next_hop {
        // A router passes on what it learned, with the next hop it learned it with.
        NextHopMode::Auto => !transit,
        NextHopMode::SelfAddress => true,
        NextHopMode::Keep | NextHopMode::Address(_) => false,
    };
    Peer {
        name: format!("{}/{name}", template.name),
        neighbor: Neighbor::Address { address: ends.theirs, interface: None },
        remote_asn: match (&spec.remote_asn, &spec.local_asn) {
            (None, None) => RemoteAsn::Number(asn),
            // The other end has the same one from the same object.
            (None, Some(_)) => RemoteAsn::Number(template.local_asn),
            (Some(_), _) => template.remote_asn,
        },
        source: match spec.source_address.as_deref() {
            Some("kernel") => Source::Kernel,
            _ => Source::Address(ends.ours),
        },
        // IPv4 prefixes keep the session's own address: an IPv6 next hop is not theirs without RFC 8950.
        next_hop: match ends.ipv6.filter(|_| both && own) {
            Some(address) => NextHopMode::Address(address),
            None => template.next_hop,
        },
        families,
        ..template.clone()
    }
}

/// Those written, as far as there is a next hop for them; else those of the nodes' addresses.
fn families(spec: &BGPPeerSpec, template: &Peer, ends: &Ends) -> Vec<Family> {
    let over_ipv4 = ends.ours.is_ipv4();
    let written = |afi| spec.families.iter().find(|family| family.afi == afi);
    let extended = match written(Afi::Ipv4).and_then(|family| family.extended_next_hop) {
        Some(ExtendedNextHop::Enabled) => true,
        Some(ExtendedNextHop::Disabled) => false,
        Some(ExtendedNextHop::Auto) | None => !over_ipv4,
    };
    let offered = template.families.iter().filter(|family| match family.afi_safi {
        AfiSafi::Ipv4Unicast => over_ipv4 || !spec.families.is_empty(),
        AfiSafi::Ipv6Unicast => ends.ipv6.is_some(),
    });
    let set = |family: &Family| Family {
        extended_next_hop: extended && family.afi_safi == AfiSafi::Ipv4Unicast,
        ..*family
    };
    offered.map(set).collect()
}
