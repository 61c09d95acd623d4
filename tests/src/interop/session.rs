//! How sessions come up, stay up and are refused: keys, TTLs, timers, who connects, AS numbers, limits.

use anyhow::ensure;

use super::{Peer, Plan, Program, peer_name, until_path};
use crate::agent::LIMIT;
use crate::feeder::message::{Attributes, announce};
use crate::feeder::{self, Feeder};
use crate::netns::Netns;

/// The same key: up. Another: never up, and `towpath peers` names the password. A key changed in both
/// files: the session returns, and the other one never notices.
///
/// # Errors
/// When that is not so, as for every scenario.
pub fn passwords_decide_and_can_be_changed(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    for (n, v6, theirs) in [(1, false, "right"), (2, true, "right"), (3, false, "wrong")] {
        plan.spoke(program)?;
        let (peer, neighbor) = plan.session(n, v6)?;
        peer.password = Some("right".to_owned());
        neighbor.password = Some(theirs.to_owned());
    }
    let mut bed = plan.start()?;
    let [first, second, third] = [(1, false), (2, true), (3, false)].map(|(n, v6)| peer_name(n, v6));
    bed.agent.until_established(&first)?;
    let untouched = bed.agent.until_established(&second)?;
    bed.agent.until_peer(&third, "a hint at the password", |peer| {
        peer.reason.as_ref().is_some_and(|reason| reason.contains("probably a wrong password"))
    })?;
    ensure!(bed.agent.cli_ok(&["peers"])?.contains("probably a wrong password"));

    bed.edit(|config| config.peers[0].password = Some("fresh".to_owned()))?;
    bed.agent.until_peer(&first, "to be down", |peer| peer.state != "Established")?;
    bed.others[0].set_password("fresh")?;
    bed.agent.until_established(&first)?;
    bed.until_best("10.101.0.0/16", "65001")?;

    bed.edit(|config| config.peers[2].password = Some("wrong".to_owned()))?;
    bed.agent.until_established(&third)?;
    let after = bed.agent.peer(&second)?;
    ensure!((after.since, after.down_count) == (untouched.since, 0), "{after:#?}");
    Ok(())
}

/// AS numbers above 65535 on both sides, and in the paths (RFC 6793).
///
/// # Errors
/// As for every scenario.
pub fn as_numbers_have_four_octets(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    plan.config.asn = 4_200_000_001;
    for (n, local_as) in [(1, 4_200_000_011), (2, 4_200_000_012)] {
        plan.spoke(program)?.router.local_as = local_as;
        plan.session(n, false)?;
    }
    let bed = plan.up()?;
    bed.until_best("10.101.0.0/16", "4200000011")?;
    until_path(&bed.others[0], "10.200.0.0/16", Some("4200000001"))?;
    until_path(&bed.others[1], "10.101.0.0/16", Some("4200000001 4200000011"))
}

/// A path with a large AS number between two towpaths, through a speaker of 2-octet ones: AS_TRANS on its
/// sessions, and the true path after it (RFC 6793 section 4.2.3).
///
/// Not for FRR: with `dont-capability-negotiate` it speaks 2-octet numbers and yet drops AS4_PATH.
///
/// # Errors
/// As for every scenario.
pub fn four_octet_paths_survive_a_two_octet_speaker(program: Program) -> anyhow::Result<()> {
    let mut far = Plan::new()?;
    far.config.asn = 65_020;
    far.config.router_id = [8, 8, 8, 8].into();
    far.config.networks.clear();

    let mut plan = Plan::new()?;
    let netns = plan.spoke(program)?.netns.clone();
    netns.link(("eth1", &["10.0.9.1/24"]), &far.hub, ("eth1", &["10.0.9.2/24"]))?;
    plan.session(1, false)?;
    // The session of the same router with the second towpath is written into that one's file.
    plan.session_between(1, "10.0.9.1".parse()?, "10.0.9.2".parse()?)?;
    far.config.peers.extend(plan.config.peers.pop());
    let neighbors = &mut plan.spokes[0].router.neighbors;
    for (neighbor, remote_as) in neighbors.iter_mut().zip([plan.config.asn, far.config.asn]) {
        (neighbor.two_octet_as, neighbor.remote_as) = (true, remote_as);
    }
    let source = Netns::fresh()?;
    source.link(("eth0", &["10.0.8.1/24"]), &plan.hub, ("feeder", &["10.0.8.2/24"]))?;
    plan.config.peers.push(Peer {
        name: "feeder".to_owned(),
        address: "10.0.8.1".parse()?,
        remote_as: 4_200_000_003,
        spec: vec!["passive: Always".to_owned()],
        ..plan.config.peers[0].clone()
    });
    let far = far.start()?;
    let near = plan.start()?;
    let config = feeder::Config::new(4_200_000_003, [7, 7, 7, 7].into());
    let feeder = Feeder::connect(&source, None, "10.0.8.2:179".parse()?, &config, LIMIT)?;
    let attributes = Attributes::new(&[4_200_000_003, 4_200_000_004], "10.0.8.1".parse()?);
    feeder.send(&announce(&attributes, &["10.77.0.0/16".parse()?]))?;

    let peer = far.agent.until_established(&peer_name(1, false))?;
    let offered = &peer.capabilities.received;
    ensure!(!offered.iter().any(|capability| capability.contains("4-octet")), "{offered:?}");
    near.until_best("10.77.0.0/16", "4200000003 4200000004")?;
    far.until_best("10.77.0.0/16", "65001 65000 4200000003 4200000004")?;
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

/// Whoever is told to wait waits, and the other connects.
///
/// # Errors
/// As for every scenario.
pub fn either_side_can_be_the_one_that_waits(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    plan.spoke(program)?;
    plan.session(1, false)?.0.spec.push("passive: Always".to_owned());
    plan.spoke(program)?;
    plan.session(2, false)?.1.passive = true;
    let bed = plan.up()?;
    let port = |n| -> anyhow::Result<_> {
        let peer = bed.agent.peer(&peer_name(n, false))?;
        Ok((peer.local_endpoint.map(|end| end.port()), peer.remote_endpoint.map(|end| end.port())))
    };
    let (waiting, connecting) = (port(1)?, port(2)?);
    ensure!(waiting.0 == Some(179) && waiting.1 != Some(179), "we were to wait: {waiting:?}");
    ensure!(connecting.1 == Some(179) && connecting.0 != Some(179), "we were to connect: {connecting:?}");
    Ok(())
}

/// The smaller Hold Time of both counts, 3 s is kept alive, and 0 turns the timers off.
///
/// # Errors
/// As for every scenario.
pub fn the_smaller_hold_time_counts(program: Program) -> anyhow::Result<()> {
    // ours (hold), theirs (keepalive, hold), negotiated
    let cases = [("3s", (1, 3), 3), ("9s", (10, 30), 9), ("90s", (4, 12), 12), ("0s", (0, 0), 0)];
    let mut plan = Plan::new()?;
    for (index, (ours, theirs, _)) in cases.into_iter().enumerate() {
        plan.spoke(program)?;
        let (peer, neighbor) = plan.session(index + 1, false)?;
        peer.timers = format!("hold: {ours}, connectRetry: 1s");
        neighbor.timers = Some(theirs);
    }
    let bed = plan.up()?;
    // After five KEEPALIVEs more than a Hold Time of 3 s has passed.
    bed.agent.until_peer(&peer_name(1, false), "five KEEPALIVEs", |peer| peer.received.keepalive >= 6)?;
    for (index, (ours, theirs, expected)) in cases.into_iter().enumerate() {
        let peer = bed.agent.peer(&peer_name(index + 1, false))?;
        ensure!(
            peer.hold_time == Some(expected) && peer.down_count == 0,
            "{ours} and {theirs:?} gave {:?}, lost {} times",
            peer.hold_time,
            peer.down_count
        );
        // One answers the OPEN; with the timers off no other follows.
        ensure!(expected != 0 || (peer.received.keepalive, peer.sent.keepalive) == (1, 1), "{peer:#?}");
    }
    Ok(())
}

/// The text of whoever shuts a session down is shown at the other end (RFC 9003), and the session
/// returns when its operator says so.
///
/// # Errors
/// As for every scenario.
pub fn operators_read_why_a_session_was_shut_down(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    plan.spoke(program)?.router.graceful_restart = false;
    plan.session(1, false)?;
    let bed = plan.up()?;
    let name = peer_name(1, false);
    bed.until_kernel("10.101.0.0/16", &[1])?;

    bed.others[0].shutdown("new line card until noon")?;
    let peer = bed.agent.until_peer(&name, "the reason", |peer| {
        let reason = peer.reason.as_deref().unwrap_or_default();
        peer.state != "Established"
            && reason.contains("administratively shut down: \"new line card until noon\"")
    })?;
    let error = peer.last_error.as_ref().map(|error| (error.code, error.subcode, error.received));
    ensure!(error == Some((6, 2, true)), "{peer:#?}");
    bed.until_kernel("10.101.0.0/16", &[])?;
    bed.others[0].start_session()?;
    bed.agent.until_established(&name)?;
    bed.until_kernel("10.101.0.0/16", &[1])?;

    bed.agent.cli_ok(&["bgp", "shutdown", &name, "--reason", "moving rack nine"])?;
    bed.others[0].until_account("moving rack nine")?;
    bed.until_kernel("10.101.0.0/16", &[])?;
    ensure!(bed.agent.peer(&name)?.paused);
    bed.agent.cli_ok(&["bgp", "start", &name])?;
    bed.agent.until_established(&name)?;
    bed.until_kernel("10.101.0.0/16", &[1])
}

/// More prefixes than our limit end the session, which returns when there are fewer.
///
/// # Errors
/// As for every scenario.
pub fn too_many_prefixes_end_the_session(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    plan.config.networks.clear();
    plan.spoke(program)?;
    let limit = "families: [{afi: ipv4, safi: unicast, maxPrefix: {limit: 2, action: Restart}}]";
    plan.session(1, false)?.0.spec.push(limit.to_owned());
    let mut bed = plan.up()?;
    let name = peer_name(1, false);
    bed.others[0].announce("10.150.0.0/16")?;
    bed.until_best("10.150.0.0/16", "65001")?;
    bed.others[0].announce("10.151.0.0/16")?;
    let peer = bed.agent.until_peer(&name, "the limit", |peer| {
        peer.reason.as_ref().is_some_and(|reason| reason.contains("more than 2 ipv4-unicast prefixes"))
    })?;
    ensure!(peer.down_count >= 1, "{peer:#?}");
    bed.others[0].withdraw("10.151.0.0/16")?;
    bed.until_best("10.150.0.0/16", "65001")?;
    bed.agent.until_established(&name)?;
    Ok(())
}

/// More prefixes than their limit end the session with Cease 6/1, which stays visible in words while they
/// refuse to talk to us.
///
/// # Errors
/// As for every scenario.
pub fn their_limit_of_prefixes_is_shown_in_words(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    plan.spoke(program)?;
    plan.session(1, false)?.1.max_prefixes = Some(2);
    let mut bed = plan.up()?;
    // FRR looks at what it has before it takes an UPDATE, and so acts one later.
    for more in [["10.160.0.0/16", "10.161.0.0/16"], ["10.162.0.0/16", "10.163.0.0/16"]] {
        bed.edit(|config| config.networks.extend(more.map(str::to_owned)))?;
    }
    let name = peer_name(1, false);
    let words = "before that the peer ended the session: Cease, too many prefixes";
    let peer = bed
        .agent
        .until_peer(&name, words, |peer| peer.reason.as_ref().is_some_and(|reason| reason.contains(words)))?;
    let error = peer.last_error.as_ref().map(|error| (error.code, error.subcode, error.received));
    ensure!(error == Some((6, 1, true)), "{peer:#?}");
    Ok(())
}
