//! Routers that go away: in order, without a word, for a moment.

use anyhow::ensure;
use bgp_speaker::query::RibView;

use super::{Bed, HUB_NETWORKS, Plan, Program, peer_name, spoke_networks, until_path};
use crate::agent::LIMIT;
use crate::kernel::{Kind, Recorder};
use crate::wait::until;

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

/// A killed daemon that asked for Graceful Restart keeps its routes until it is back and has said all:
/// those it names again are never touched in the kernel, the others go (RFC 4724 section 4.2).
///
/// # Errors
/// As for every scenario.
pub fn routes_of_a_restarting_router_stay(program: Program) -> anyhow::Result<()> {
    let (kept, dropped) = (spoke_networks(1), ["10.150.0.0/16", "fd00:150::/32"]);
    let mut plan = Plan::new()?;
    let networks = &mut plan.spoke(program)?.router.networks;
    for prefix in dropped {
        networks.push(prefix.parse()?);
    }
    plan.session(1, false)?;
    plan.session(1, true)?;
    let mut bed = plan.up()?;
    let all = || kept.iter().map(String::as_str).chain(dropped);
    for prefix in all() {
        bed.until_kernel(prefix, &[1])?;
    }
    for network in HUB_NETWORKS {
        until_path(&bed.others[0], network, Some("65000"))?;
    }

    let recorder = Recorder::start(&bed.hub)?;
    bed.others[0].signal("KILL")?;
    until(LIMIT, "stale routes", || {
        let routes = bed.agent.routes(RibView::Accepted, None)?;
        ensure!(routes.len() == 4 && routes.iter().all(|route| route.stale && route.best), "{routes:?}");
        Ok(Some(()))
    })?;
    for prefix in all() {
        bed.until_kernel(prefix, &[1])?;
    }

    bed.others[0].router.networks.retain(|network| !dropped.contains(&network.to_string().as_str()));
    bed.others[0].write_conf()?;
    bed.others[0].start_again()?;
    until(LIMIT, "only fresh routes", || {
        let routes = bed.agent.routes(RibView::Accepted, None)?;
        let fresh = routes.iter().all(|route| !route.stale && kept.contains(&route.prefix.to_string()));
        ensure!(routes.len() == 2 && fresh, "{routes:?}");
        Ok(Some(()))
    })?;
    for prefix in dropped {
        bed.until_kernel(prefix, &[])?;
    }
    for v6 in [false, true] {
        bed.agent.until_established(&peer_name(1, v6))?;
        bed.until_kernel(&kept[usize::from(v6)], &[1])?;
        until_path(&bed.others[0], HUB_NETWORKS[usize::from(v6)], Some("65000"))?;
    }
    let notices = recorder.stop()?.into_iter();
    let touched: Vec<_> = notices
        .filter(|notice| {
            let route = notice.destination.map(|(address, length)| format!("{address}/{length}"));
            matches!(notice.kind, Kind::NewRoute | Kind::DelRoute)
                && notice.protocol == Some(199)
                && route.is_some_and(|route| kept.contains(&route))
        })
        .collect();
    ensure!(touched.is_empty(), "{touched:?}");
    Ok(())
}
