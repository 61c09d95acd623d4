//! ExaBGP: `exabgp.conf`.

use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Neighbor, Router};

const RESTART_SECONDS: u16 = 60;

pub(super) fn conf(router: &Router) -> String {
    let mut text = String::new();
    write_router(&mut text, router).expect("a String takes everything");
    text
}

fn write_router(text: &mut String, router: &Router) -> std::fmt::Result {
    router.neighbors.iter().try_for_each(|neighbor| write_neighbor(text, router, neighbor))
}

fn write_neighbor(text: &mut String, router: &Router, neighbor: &Neighbor) -> std::fmt::Result {
    writeln!(text, "neighbor {} {{", neighbor.address)?;
    writeln!(text, "  router-id {};\n  local-as {};", router.router_id, router.local_as)?;
    match neighbor.source.or(neighbor.local) {
        Some(local) => writeln!(text, "  local-address {local};")?,
        None => writeln!(text, "  local-address auto;")?,
    }
    writeln!(text, "  peer-as {};\n  adj-rib-in true;", neighbor.remote_as)?;
    if let Some((_, hold)) = neighbor.timers {
        writeln!(text, "  hold-time {hold};")?;
    }
    if let Some(password) = &neighbor.password {
        writeln!(text, "  md5-password \"{password}\";")?;
    }
    if neighbor.gtsm {
        writeln!(text, "  incoming-ttl 255;\n  outgoing-ttl 255;")?;
    }
    if let Some(hops) = neighbor.multihop {
        writeln!(text, "  outgoing-ttl {hops};")?;
    }
    if neighbor.passive {
        writeln!(text, "  passive true;")?;
    }
    let families = [(neighbor.v4, "ipv4 unicast; "), (neighbor.v6, "ipv6 unicast; ")];
    let families: String = families.into_iter().filter_map(|(wanted, name)| wanted.then_some(name)).collect();
    writeln!(text, "  family {{ {families}}}")?;
    let extended = neighbor.v4 && neighbor.address.is_ipv6();
    let restart =
        if router.graceful_restart { format!("graceful-restart {RESTART_SECONDS}; ") } else { String::new() };
    let nexthop = if extended { "nexthop enable; " } else { "" };
    let asn4 = if neighbor.two_octet_as { "disable" } else { "enable" };
    writeln!(text, "  capability {{ route-refresh enable; asn4 {asn4}; {restart}{nexthop}}}")?;
    if extended {
        writeln!(text, "  nexthop {{ ipv4 unicast ipv6; }}")?;
    }
    writeln!(text, "  static {{")?;
    for network in &router.networks {
        // An IPv6 prefix of length 32 in its file makes it take every IPv4 address for a range: it keeps
        // masks by their number alone. Such networks are announced by command.
        if network.addr().is_ipv6() && neighbor.address.is_ipv4() {
            continue;
        }
        if let Some(route) = route(neighbor, *network) {
            writeln!(text, "    {route};")?;
        }
    }
    writeln!(text, "  }}\n}}")
}

/// `route PREFIX next-hop ADDRESS ...`, as its file and its commands say it; `None` for a family that is not
/// exchanged with the neighbour.
pub fn route(neighbor: &Neighbor, network: IpNet) -> Option<String> {
    let v6 = network.addr().is_ipv6();
    if !(if v6 { neighbor.v6 } else { neighbor.v4 }) {
        return None;
    }
    // It knows its own end only; an address of the other family must be given.
    let other: Option<IpAddr> = neighbor.local_other_family.filter(|hop| hop.is_ipv6() == v6);
    let next_hop = match other {
        Some(hop) => hop.to_string(),
        None => neighbor.local.map_or_else(|| "self".to_owned(), |hop| hop.to_string()),
    };
    let community =
        neighbor.community.map_or_else(String::new, |(high, low)| format!(" community {high}:{low}"));
    Some(format!("route {network} next-hop {next_hop}{community}"))
}
