//! How sessions come up and stay up: AS numbers, who connects, timers.

use anyhow::ensure;

use super::{Bed, Peer, Plan, Program, peer_name, until_path};
use crate::agent::LIMIT;
use crate::feeder::message::{Attributes, announce};
use crate::feeder::{self, Feeder};
use crate::netns::Netns;

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

/// The ports of a session's connection: ours and theirs.
fn ports(bed: &Bed) -> anyhow::Result<(Option<u16>, Option<u16>)> {
    let peer = bed.agent.peer(&peer_name(1, false))?;
    Ok((peer.local_endpoint.map(|end| end.port()), peer.remote_endpoint.map(|end| end.port())))
}

/// When we are told to wait, they connect.
///
/// # Errors
/// As for every scenario.
pub fn we_wait_and_they_connect(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    plan.spoke(program)?;
    plan.session(1, false)?.0.spec.push("passive: Always".to_owned());
    let bed = plan.up()?;
    let ports = ports(&bed)?;
    ensure!(ports.0 == Some(179) && ports.1 != Some(179), "we were to wait: {ports:?}");
    bed.until_best("10.101.0.0/16", "65001").map(drop)
}

/// When they are told to wait, we connect.
///
/// # Errors
/// As for every scenario.
pub fn they_wait_and_we_connect(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    plan.spoke(program)?;
    plan.session(1, false)?.1.passive = true;
    let bed = plan.up()?;
    let ports = ports(&bed)?;
    ensure!(ports.1 == Some(179) && ports.0 != Some(179), "we were to connect: {ports:?}");
    bed.until_best("10.101.0.0/16", "65001").map(drop)
}

/// A session for each case: our Hold Time, their keepalive and hold times, and the negotiated one.
fn held(program: Program, cases: &[(&str, (u16, u16), u64)]) -> anyhow::Result<Bed> {
    let mut plan = Plan::new()?;
    for (index, (ours, theirs, _)) in cases.iter().enumerate() {
        plan.spoke(program)?;
        let (peer, neighbor) = plan.session(index + 1, false)?;
        peer.timers = format!("hold: {ours}, connectRetry: 1s");
        neighbor.timers = Some(*theirs);
    }
    let bed = plan.up()?;
    for (index, (ours, theirs, expected)) in cases.iter().enumerate() {
        let peer = bed.agent.peer(&peer_name(index + 1, false))?;
        ensure!(peer.hold_time == Some(*expected), "{ours} and {theirs:?} gave {:?}", peer.hold_time);
    }
    Ok(bed)
}

/// A Hold Time of 3 s is kept alive: more than one has passed after five KEEPALIVEs.
///
/// # Errors
/// As for every scenario.
pub fn a_hold_time_of_three_seconds_is_kept_alive(program: Program) -> anyhow::Result<()> {
    let bed = held(program, &[("3s", (1, 3), 3)])?;
    let name = peer_name(1, false);
    let peer = bed.agent.until_peer(&name, "five KEEPALIVEs", |peer| peer.received.keepalive >= 6)?;
    ensure!(peer.down_count == 0 && peer.sent.keepalive >= 5, "{peer:#?}");
    Ok(())
}

/// The smaller Hold Time of both counts, whoever offers it.
///
/// # Errors
/// As for every scenario.
pub fn the_smaller_hold_time_counts(program: Program) -> anyhow::Result<()> {
    held(program, &[("9s", (10, 30), 9), ("90s", (4, 12), 12)]).map(drop)
}

/// With a Hold Time of 0 one KEEPALIVE answers each OPEN, and no other follows while another session of the
/// same program has five.
///
/// # Errors
/// As for every scenario.
pub fn without_a_hold_time_there_are_no_keepalives(program: Program) -> anyhow::Result<()> {
    let bed = held(program, &[("0s", (0, 0), 0), ("3s", (1, 3), 3)])?;
    bed.agent.until_peer(&peer_name(2, false), "five KEEPALIVEs", |peer| peer.received.keepalive >= 6)?;
    let peer = bed.agent.peer(&peer_name(1, false))?;
    ensure!((peer.received.keepalive, peer.sent.keepalive) == (1, 1) && peer.down_count == 0, "{peer:#?}");
    bed.until_best("10.101.0.0/16", "65001").map(drop)
}
