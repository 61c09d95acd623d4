//! How the neighbour is found, and that an incoming connection belongs to one peer only.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{mesh, optional};
use crate::bgp;
use crate::build::{Finding, Report, values};
use crate::desired::{Neighbor, Peer};
use crate::problem::show;

const LISTEN_MAX: u32 = 100;

/// Exactly one way to find the neighbour.
pub(super) fn neighbor(report: &mut Report<'_>, spec: &bgp::Neighbor) -> Option<Neighbor> {
    match (&spec.address, &spec.listen, &spec.nodes) {
        (Some(address), None, None) => neighbor_address(report, address),
        (None, None, Some(_)) => Some(mesh::anybody()),
        (None, Some(listen), None) => {
            if spec.port.is_some() {
                report.refuse::<()>(
                    "spec.neighbor.port",
                    "has no meaning with listen, where the neighbour connects; remove it",
                );
            }
            let ranges = ranges(report, &listen.ranges);
            Some(Neighbor::Listen { ranges: ranges?, max: listen.max.unwrap_or(LISTEN_MAX) })
        }
        (None, None, None) => {
            report.refuse("spec.neighbor", "names no neighbour; give address, listen or nodes")
        }
        (Some(_), Some(_), _) => {
            report.refuse("spec.neighbor", "address and listen are both given; keep one")
        }
        (Some(_), None, Some(_)) => {
            report.refuse("spec.neighbor", "address and nodes are both given; keep one")
        }
        (None, Some(_), Some(_)) => {
            report.refuse("spec.neighbor", "listen and nodes are both given; keep one")
        }
    }
}

fn neighbor_address(report: &mut Report<'_>, text: &str) -> Option<Neighbor> {
    const PATH: &str = "spec.neighbor.address";
    let (bare, zone) = match text.split_once('%') {
        Some((bare, zone)) => (bare, Some(zone)),
        None => (text, None),
    };
    let address = values::address(report, PATH, bare)?;
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    match zone {
        None if link_local => {
            report.refuse(PATH, format!("{address} is link-local; add its interface, as {address}%eth0"))
        }
        Some(zone) if !link_local => {
            report.refuse(PATH, format!("{} is not link-local; write it without %{}", address, show(zone)))
        }
        zone => {
            let interface = optional(zone, |zone| values::interface(report, PATH, zone))?;
            Some(Neighbor::Address { address, interface })
        }
    }
}

fn ranges(report: &mut Report<'_>, written: &[String]) -> Option<Vec<IpNet>> {
    const PATH: &str = "spec.neighbor.listen.ranges";
    if written.is_empty() {
        return report.refuse(PATH, "an empty list is not allowed; give at least one entry");
    }
    let read: Vec<Option<(IpNet, usize)>> = written
        .iter()
        .enumerate()
        .map(|(index, text)| Some((values::prefix(report, &format!("{PATH}[{index}]"), text)?, index)))
        .collect();
    let mut ranges: Vec<(IpNet, usize)> = read.iter().copied().flatten().collect();
    let overlaps = values::overlaps(&mut ranges);
    for ((range, index), (other, _)) in &overlaps {
        report.refuse::<()>(
            &format!("{PATH}[{index}]"),
            format!("{range} overlaps {other}; keep the larger one"),
        );
    }
    let complete = overlaps.is_empty() && ranges.len() == written.len();
    complete.then(|| read.into_iter().flatten().map(|(range, _)| range).collect())
}

/// Two peers an incoming connection could belong to.
pub(super) fn clashes(peers: &[(usize, Peer)], findings: &mut Vec<Finding>) {
    let mut addresses: HashMap<(IpAddr, Option<&str>), usize> = HashMap::new();
    let mut all_ranges = Vec::new();
    // Two that overlap in many nodes are named once.
    let mut said = HashSet::new();
    for (position, (object, peer)) in peers.iter().enumerate() {
        match &peer.neighbor {
            Neighbor::Address { address, interface } => {
                let key = (*address, interface.as_deref());
                let first = *addresses.entry(key).or_insert(position);
                if let Some((other, first)) = peers.get(first).filter(|_| first != position)
                    && said.insert((*object, *other))
                {
                    let first = show(first.resource());
                    let message = format!("{address} is the neighbour of BGPPeer/{first} too; keep one");
                    let nodes = peer.resource() != peer.name;
                    let path = if nodes { "spec.neighbor.nodes" } else { "spec.neighbor.address" };
                    Report { object: *object, findings }.contradicts(*other, path, message);
                }
            }
            Neighbor::Listen { ranges, .. } => {
                all_ranges
                    .extend(ranges.iter().enumerate().map(|(index, range)| (*range, (position, index))));
            }
        }
    }
    for ((range, (position, index)), (other, (first, _))) in values::overlaps(&mut all_ranges) {
        let (Some((object, _)), Some((first_object, first))) = (peers.get(position), peers.get(first)) else {
            continue;
        };
        let path = format!("spec.neighbor.listen.ranges[{index}]");
        let message = format!("{range} overlaps {other} of BGPPeer/{}; make them apart", show(&first.name));
        Report { object: *object, findings }.contradicts(*first_object, &path, message);
    }
}
