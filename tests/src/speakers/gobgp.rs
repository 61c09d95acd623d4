//! GoBGP: `gobgpd.toml`, and the commands for what its file cannot say.

use std::fmt::Write;

use ipnet::IpNet;

use super::{Neighbor, Router};

/// What GoBGP waits for its neighbours after a restart before it tells anything (RFC 4724 section 4.1).
const DEFERRAL_SECONDS: u16 = 10;
const RESTART_SECONDS: u16 = 60;

pub(super) fn conf(router: &Router) -> String {
    let mut text = String::new();
    write_router(&mut text, router).expect("a String takes everything");
    text
}

fn write_router(text: &mut String, router: &Router) -> std::fmt::Result {
    let Router { local_as, router_id, .. } = router;
    writeln!(text, "[global.config]\n  as = {local_as}\n  router-id = \"{router_id}\"")?;
    router.neighbors.iter().try_for_each(|neighbor| write_neighbor(text, router, neighbor))
}

fn write_neighbor(text: &mut String, router: &Router, neighbor: &Neighbor) -> std::fmt::Result {
    let Neighbor { address, remote_as, .. } = neighbor;
    let interface = neighbor.interface.as_ref().map_or_else(String::new, |name| format!("%{name}"));
    writeln!(text, "[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{address}{interface}\"")?;
    writeln!(text, "    peer-as = {remote_as}")?;
    if let Some(password) = &neighbor.password {
        writeln!(text, "    auth-password = \"{password}\"")?;
    }
    writeln!(text, "  [neighbors.transport.config]\n    passive-mode = {}", neighbor.passive)?;
    if let Some(source) = neighbor.source {
        writeln!(text, "    local-address = \"{source}\"")?;
    }
    writeln!(text, "  [neighbors.timers.config]\n    idle-hold-time-after-reset = 1")?;
    writeln!(text, "    connect-retry = {}", neighbor.connect_retry)?;
    if let Some((keepalive, hold)) = neighbor.timers {
        writeln!(text, "    hold-time = {hold}\n    keepalive-interval = {keepalive}")?;
    }
    if neighbor.gtsm {
        writeln!(text, "  [neighbors.ttl-security.config]\n    enabled = true\n    ttl-min = 255")?;
    }
    if let Some(hops) = neighbor.multihop {
        writeln!(text, "  [neighbors.ebgp-multihop.config]\n    enabled = true\n    multihop-ttl = {hops}")?;
    }
    if router.graceful_restart {
        writeln!(text, "  [neighbors.graceful-restart.config]\n    enabled = true")?;
        writeln!(text, "    restart-time = {RESTART_SECONDS}\n    deferral-time = {DEFERRAL_SECONDS}")?;
    }
    for (wanted, family) in [(neighbor.v4, "ipv4-unicast"), (neighbor.v6, "ipv6-unicast")] {
        if !wanted {
            continue;
        }
        writeln!(text, "  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]")?;
        writeln!(text, "      afi-safi-name = \"{family}\"")?;
        if router.graceful_restart {
            writeln!(text, "    [neighbors.afi-safis.mp-graceful-restart.config]\n      enabled = true")?;
        }
        if let Some(limit) = neighbor.max_prefixes {
            writeln!(text, "    [neighbors.afi-safis.prefix-limit.config]\n      max-prefixes = {limit}")?;
        }
    }
    Ok(())
}

/// The `gobgp` commands that follow its start with sessions that are administratively down: its networks,
/// then its sessions.
pub fn started(router: &Router) -> Vec<String> {
    let networks = router.networks.iter().map(|prefix| network(router, "add", *prefix));
    let sessions =
        router.neighbors.iter().map(|neighbor| format!("gobgp neighbor {} enable", neighbor.address));
    networks.chain(sessions).collect()
}

/// The `gobgp` command that announces (`add`) a network or takes it back (`del`): its file has no place
/// for networks.
///
/// It is one command for all neighbours, so the first one's wishes count. On a session of the other family
/// GoBGP sends the next hop it was given; without one, an IPv4 address written as an IPv6 one.
pub fn network(router: &Router, verb: &str, network: IpNet) -> String {
    let v6 = network.addr().is_ipv6();
    let family = if v6 { "ipv6" } else { "ipv4" };
    let mut hops = router.neighbors.iter().filter_map(|neighbor| neighbor.local_other_family);
    let next_hop = hops
        .find(|hop| hop.is_ipv6() == v6)
        .map_or_else(String::new, |next_hop| format!(" nexthop {next_hop}"));
    let community = router.neighbors.iter().find_map(|neighbor| neighbor.community);
    let community = community.map_or_else(String::new, |(high, low)| format!(" community {high}:{low}"));
    format!("gobgp global rib {verb} {network} origin igp{next_hop}{community} -a {family}")
}
