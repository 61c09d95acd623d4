//! Routers that go away: in order, without a word, by a cut link.

use anyhow::ensure;

use super::{Bed, Plan, Program, peer_name, spoke_networks};

/// One router with both families, without Graceful Restart, its routes in the kernel.
fn bed(program: Program) -> anyhow::Result<Bed> {
    let mut plan = Plan::new()?;
    plan.spoke(program)?.router.graceful_restart = false;
    for v6 in [false, true] {
        let (peer, neighbor) = plan.session(1, v6)?;
        peer.timers = "hold: 3s, keepalive: 1s, connectRetry: 1s, idleHoldMax: 1s".to_owned();
        neighbor.timers = Some((1, 3));
    }
    let bed = plan.up()?;
    until_routes(&bed, true)?;
    Ok(bed)
}

fn until_routes(bed: &Bed, there: bool) -> anyhow::Result<()> {
    let routers: &[usize] = if there { &[1] } else { &[] };
    for prefix in spoke_networks(1) {
        bed.until_kernel(&prefix, routers)?;
    }
    Ok(())
}

fn until_reason(bed: &Bed, words: &str) -> anyhow::Result<()> {
    for v6 in [false, true] {
        bed.agent.until_peer(&peer_name(1, v6), words, |peer| {
            peer.down_count == 1 && peer.reason.as_ref().is_some_and(|reason| reason.contains(words))
        })?;
    }
    Ok(())
}

/// A daemon that is stopped says goodbye: its routes go, and return with it.
///
/// # Errors
/// When that is not so, as for every scenario.
pub fn a_router_that_stops_takes_its_routes_along(program: Program) -> anyhow::Result<()> {
    let bed = bed(program)?;
    bed.others[0].signal("TERM")?;
    until_routes(&bed, false)?;
    for v6 in [false, true] {
        let peer = bed.agent.peer(&peer_name(1, v6))?;
        ensure!(peer.down_count == 1, "{peer:#?}");
    }
    bed.others[0].start_again()?;
    until_routes(&bed, true)
}

/// A daemon that hangs is noticed when the Hold Time has passed, and taken back when it goes on.
///
/// # Errors
/// As for every scenario.
pub fn a_router_that_hangs_is_given_up_after_the_hold_time(program: Program) -> anyhow::Result<()> {
    let bed = bed(program)?;
    bed.others[0].signal("STOP")?;
    for v6 in [false, true] {
        bed.agent.until_peer(&peer_name(1, v6), "to be lost", |peer| peer.down_count == 1)?;
    }
    until_routes(&bed, false)?;
    let log = bed.agent.log();
    ensure!(log.contains("Hold Timer expired"), "{log}");
    bed.others[0].signal("CONT")?;
    until_routes(&bed, true)
}

/// A cut link is noticed by the carrier, long before the Hold Time.
///
/// # Errors
/// As for every scenario.
pub fn a_cut_link_is_noticed_at_once(program: Program) -> anyhow::Result<()> {
    let bed = bed(program)?;
    bed.others[0].netns.ip("link set eth0 down")?;
    until_reason(&bed, "the link went down")?;
    until_routes(&bed, false)?;
    let router = &bed.others[0].netns;
    router.ip("link set eth0 up")?;
    // The kernel drops global IPv6 addresses with the link.
    if !router.ip("-6 address show dev eth0")?.contains("fd00:0:0:1::1") {
        router.ip("address add fd00:0:0:1::1/64 dev eth0 nodad")?;
    }
    until_routes(&bed, true)
}
