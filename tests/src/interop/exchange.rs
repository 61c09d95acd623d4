//! Prefixes in both directions: families, sessions, next hops.

use anyhow::ensure;

use super::{HUB_NETWORKS, Plan, Program, peer_name, spoke_networks, until_path};

const BOTH_FAMILIES: &str = "families: [{afi: ipv4, safi: unicast}, {afi: ipv6, safi: unicast}]";

/// What each side announces over an IPv4 session and takes back, arrives and goes at the other.
///
/// # Errors
/// When that is not so, as for every scenario.
pub fn ipv4_prefixes_come_and_go(program: Program) -> anyhow::Result<()> {
    come_and_go(program, false, "10.150.0.0/16")
}

/// The same for IPv6.
///
/// # Errors
/// As for every scenario.
pub fn ipv6_prefixes_come_and_go(program: Program) -> anyhow::Result<()> {
    come_and_go(program, true, "fd00:150::/32")
}

fn come_and_go(program: Program, v6: bool, prefix: &str) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    plan.spoke(program)?;
    plan.session(1, v6)?;
    let mut bed = plan.up()?;
    bed.until_kernel(&spoke_networks(1)[usize::from(v6)], &[1])?;
    until_path(&bed.others[0], HUB_NETWORKS[usize::from(v6)], Some("65000"))?;
    bed.until_pings(1, v6)?;

    bed.others[0].announce(prefix)?;
    bed.until_best(prefix, "65001")?;
    bed.until_kernel(prefix, &[1])?;
    bed.others[0].withdraw(prefix)?;
    bed.until_kernel(prefix, &[])?;

    bed.edit(|config| config.networks.push(prefix.to_owned()))?;
    until_path(&bed.others[0], prefix, Some("65000"))?;
    bed.edit(|config| config.networks.retain(|network| network != prefix))?;
    until_path(&bed.others[0], prefix, None)?;

    let peer = bed.agent.peer(&peer_name(1, v6))?;
    ensure!(peer.down_count == 0 && peer.faults == Default::default(), "{peer:#?}");
    Ok(())
}

/// IPv4 and IPv6 on one IPv6 session over a link without any IPv4 address: RFC 8950 in both directions,
/// in the kernel, and pings of both families.
///
/// # Errors
/// As for every scenario.
pub fn both_families_share_an_ipv6_session(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    plan.spoke_with(program, false)?;
    let (peer, neighbor) = plan.session(1, true)?;
    peer.spec.push(BOTH_FAMILIES.to_owned());
    neighbor.v4 = true;
    let bed = plan.up()?;
    for v6 in [false, true] {
        bed.until_kernel(&spoke_networks(1)[usize::from(v6)], &[1])?;
        until_path(&bed.others[0], HUB_NETWORKS[usize::from(v6)], Some("65000"))?;
        bed.until_pings(1, v6)?;
    }
    Ok(())
}

/// IPv4 and IPv6 on one IPv4 session: the IPv6 next hops are addresses of the link (RFC 4760).
///
/// # Errors
/// As for every scenario.
pub fn both_families_share_an_ipv4_session(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    plan.spoke(program)?;
    let (peer, neighbor) = plan.session(1, false)?;
    peer.spec.push(BOTH_FAMILIES.to_owned());
    neighbor.v6 = true;
    let bed = plan.up()?;
    for v6 in [false, true] {
        bed.until_kernel(&spoke_networks(1)[usize::from(v6)], &[1])?;
        until_path(&bed.others[0], HUB_NETWORKS[usize::from(v6)], Some("65000"))?;
        bed.until_pings(1, v6)?;
    }
    Ok(())
}

/// One prefix from two routers is one route with two next hops; one when a router takes it back.
///
/// # Errors
/// As for every scenario.
pub fn two_routers_make_two_next_hops(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    for n in [1, 2] {
        let networks = &mut plan.spoke(program)?.router.networks;
        networks.extend(["10.150.0.0/16".parse::<ipnet::IpNet>()?, "fd00:150::/32".parse()?]);
        plan.session(n, false)?;
        plan.session(n, true)?;
    }
    let mut bed = plan.up()?;
    let prefixes = ["10.150.0.0/16", "fd00:150::/32"];
    for prefix in prefixes {
        bed.until_kernel(prefix, &[1, 2])?;
    }
    for prefix in prefixes {
        bed.others[0].withdraw(prefix)?;
        bed.until_kernel(prefix, &[2])?;
    }
    // Routers hear of each other's networks through the hub, with all AS numbers.
    until_path(&bed.others[0], "10.102.0.0/16", Some("65000 65002"))?;
    until_path(&bed.others[1], "fd00:101::/32", Some("65000 65001"))
}
