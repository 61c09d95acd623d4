//! Who is let in: TCP MD5 keys and TTLs.

use anyhow::ensure;

use super::{Plan, Program, peer_name, until_path};
use crate::netns::Netns;

/// The same key on both sides, over IPv4 and over IPv6: routes are exchanged (RFC 2385).
///
/// # Errors
/// When that is not so, as for every scenario.
pub fn the_same_password_lets_a_session_up(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    plan.spoke(program)?;
    for v6 in [false, true] {
        let (peer, neighbor) = plan.session(1, v6)?;
        peer.password = Some("right".to_owned());
        neighbor.password = Some("right".to_owned());
    }
    let bed = plan.up()?;
    bed.until_best("10.101.0.0/16", "65001")?;
    bed.until_best("fd00:101::/32", "65001")?;
    until_path(&bed.others[0], "10.200.0.0/16", Some("65000"))
}

/// Another key, or none, keeps the session down, and `towpath peers` names the password.
///
/// # Errors
/// As for every scenario.
pub fn a_wrong_password_is_named(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    for (n, theirs) in [(1, Some("wrong")), (2, None)] {
        plan.spoke(program)?;
        let (peer, neighbor) = plan.session(n, false)?;
        peer.password = Some("right".to_owned());
        neighbor.password = theirs.map(str::to_owned);
    }
    let bed = plan.start()?;
    for n in [1, 2] {
        let hint = "probably a wrong password";
        let peer = bed.agent.until_peer(&peer_name(n, false), hint, |peer| {
            peer.reason.as_ref().is_some_and(|reason| reason.contains(hint))
        })?;
        ensure!(peer.state != "Established" && peer.received.open == 0, "{peer:#?}");
    }
    let listed = bed.agent.cli_ok(&["peers"])?;
    ensure!(listed.matches("probably a wrong password").count() == 2, "{listed}");
    Ok(())
}

/// A key that is changed here and then there: that session ends and returns, and the other one never notices.
///
/// # Errors
/// As for every scenario.
pub fn a_password_can_be_changed(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    for n in [1, 2] {
        plan.spoke(program)?;
        let (peer, neighbor) = plan.session(n, false)?;
        peer.password = Some("right".to_owned());
        neighbor.password = Some("right".to_owned());
    }
    let mut bed = plan.up()?;
    let [first, second] = [1, 2].map(|n| peer_name(n, false));
    let untouched = bed.agent.peer(&second)?;
    bed.edit(|config| config.peers[0].password = Some("fresh".to_owned()))?;
    bed.agent.until_peer(&first, "to be down", |peer| peer.state != "Established")?;
    bed.others[0].set_password("fresh")?;
    bed.agent.until_established(&first)?;
    bed.until_best("10.101.0.0/16", "65001")?;
    let after = bed.agent.peer(&second)?;
    ensure!((after.since, after.down_count) == (untouched.since, 0), "{after:#?}");
    Ok(())
}

/// TTL security (RFC 5082) on both sides lets a neighbour in, and keeps one out that sends ordinary TTLs.
///
/// # Errors
/// As for every scenario.
pub fn ttl_security_lets_only_neighbours_in(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    for n in [1, 2] {
        plan.spoke(program)?;
        for v6 in [false, true] {
            let (peer, neighbor) = plan.session(n, v6)?;
            peer.spec.push("ttl: {security: 1}".to_owned());
            neighbor.gtsm = n == 1;
        }
    }
    let bed = plan.start()?;
    for v6 in [false, true] {
        bed.agent.until_established(&peer_name(1, v6))?;
        // What it looks like depends on how far the other's handshake gets: no answer, or silence after it.
        let kept_out =
            bed.agent.until_peer(&peer_name(2, v6), "a failed attempt", |peer| peer.reason.is_some())?;
        ensure!(kept_out.state != "Established" && kept_out.down_count == 0, "{kept_out:#?}");
        ensure!(kept_out.received.keepalive == 0, "{kept_out:#?}");
    }
    Ok(())
}

/// A session over a router in between works with TTL 2, and its routes go into the kernel by the gateway
/// that leads there; with TTL 1 it does not come up again.
///
/// # Errors
/// As for every scenario.
pub fn a_far_neighbour_needs_multihop(program: Program) -> anyhow::Result<()> {
    // hub - middle - router, with a session between 10.0.8.1 and 10.0.1.2.
    let mut plan = Plan::new()?;
    let router = plan.spoke(program)?.netns.clone();
    let middle = Netns::fresh()?;
    middle.sysctl("net/ipv4/ip_forward", "1")?;
    plan.hub.ip("link del eth1")?;
    plan.hub.link(("eth1", &["10.0.1.2/24"]), &middle, ("near", &["10.0.1.9/24"]))?;
    middle.link(("far", &["10.0.8.9/24"]), &router, ("eth0", &["10.0.8.1/24"]))?;
    plan.hub.ip("route add 10.0.8.0/24 via 10.0.1.9")?;
    router.ip("route add 10.0.1.0/24 via 10.0.8.9")?;
    let (peer, neighbor) = plan.session_between(1, "10.0.8.1".parse()?, "10.0.1.2".parse()?)?;
    peer.spec.push("ttl: {multihop: 2}".to_owned());
    neighbor.multihop = Some(2);

    let mut bed = plan.up()?;
    bed.until_kernel("10.101.0.0/16", &[1])?;
    let gateway =
        bed.agent.installed()?.into_iter().find(|route| route.prefix.to_string() == "10.101.0.0/16");
    ensure!(gateway.as_ref().is_some_and(|route| route.nexthops == ["via 10.0.1.9 dev eth1"]), "{gateway:?}");
    until_path(&bed.others[0], "10.200.0.0/16", Some("65000"))?;

    bed.edit(|config| config.peers[0].spec.clear())?;
    bed.until_kernel("10.101.0.0/16", &[])?;
    ensure!(bed.agent.peer(&peer_name(1, false))?.state != "Established");
    Ok(())
}
