//! Graceful Restart (RFC 4724) in both roles: theirs is killed and returns, ours is killed and returns.

use anyhow::ensure;
use bgp_speaker::query::RibView;

use super::{HUB_NETWORKS, Plan, Program, peer_name, spoke_networks, until_path};
use crate::agent::LIMIT;
use crate::kernel::{Kind, Notice, Recorder};
use crate::wait::until;

/// What the one that restarts announces no longer afterwards.
const DROPPED: [&str; 2] = ["10.150.0.0/16", "fd00:150::/32"];

/// A killed daemon that asked for Graceful Restart keeps its routes until it is back and has said all:
/// those it names again are never touched in the kernel, the others go (RFC 4724 section 4.2).
///
/// # Errors
/// As for every scenario.
pub fn routes_of_a_restarting_router_stay(program: Program) -> anyhow::Result<()> {
    let kept = spoke_networks(1);
    let mut plan = Plan::new()?;
    let networks = &mut plan.spoke(program)?.router.networks;
    for prefix in DROPPED {
        networks.push(prefix.parse()?);
    }
    plan.session(1, false)?;
    plan.session(1, true)?;
    let mut bed = plan.up()?;
    let all = || kept.iter().map(String::as_str).chain(DROPPED);
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

    bed.others[0].router.networks.retain(|network| !DROPPED.contains(&network.to_string().as_str()));
    bed.others[0].write_conf()?;
    bed.others[0].start_again()?;
    until(LIMIT, "only fresh routes", || {
        let routes = bed.agent.routes(RibView::Accepted, None)?;
        let fresh = routes.iter().all(|route| !route.stale && kept.contains(&route.prefix.to_string()));
        ensure!(routes.len() == 2 && fresh, "{routes:?}");
        Ok(Some(()))
    })?;
    for prefix in DROPPED {
        bed.until_kernel(prefix, &[])?;
    }
    for v6 in [false, true] {
        bed.agent.until_established(&peer_name(1, v6))?;
        bed.until_kernel(&kept[usize::from(v6)], &[1])?;
        until_path(&bed.others[0], HUB_NETWORKS[usize::from(v6)], Some("65000"))?;
    }
    let notices = recorder.stop()?;
    let touched: Vec<_> = notices
        .iter()
        .filter(|notice| notice.protocol == Some(199) && is_about(notice, &kept))
        .filter(|notice| matches!(notice.kind, Kind::NewRoute | Kind::DelRoute))
        .collect();
    ensure!(touched.is_empty(), "{touched:?}");
    Ok(())
}

/// Whether a kernel's notice is about a route to one of these prefixes.
fn is_about(notice: &Notice, prefixes: &[String]) -> bool {
    let route = notice.destination.map(|(address, length)| format!("{address}/{length}"));
    route.is_some_and(|route| prefixes.contains(&route))
}

/// Our daemon is killed, having asked for Graceful Restart: they keep its routes, also in their kernel, until
/// it is back and has said all; then what it announces no longer goes, and the rest never went.
///
/// # Errors
/// As for every scenario.
pub fn our_routes_stay_while_we_restart(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    plan.config.networks.extend(DROPPED.map(str::to_owned));
    plan.spoke(program)?;
    for v6 in [false, true] {
        plan.session(1, v6)?.0.spec.push("gracefulRestart: {mode: Restarter}".to_owned());
    }
    let mut bed = plan.up()?;
    let forwards = bed.others[0].router.kernel;
    let theirs = bed.others[0].netns.clone();
    let all_there = |bed: &super::Bed| -> anyhow::Result<()> {
        for prefix in HUB_NETWORKS.into_iter().chain(DROPPED) {
            until_path(&bed.others[0], prefix, Some("65000"))?;
            let family = if prefix.contains(':') { "-6" } else { "-4" };
            until(LIMIT, &format!("{program:?}'s kernel route to {prefix}"), || {
                let route = theirs.ip(&format!("{family} route show {prefix}"))?;
                Ok((!forwards || route.contains("dev eth0")).then_some(()))
            })?;
        }
        Ok(())
    };
    all_there(&bed)?;
    for v6 in [false, true] {
        // They keep nothing of a session whose End-of-RIB did not come.
        bed.until_best(&spoke_networks(1)[usize::from(v6)], "65001")?;
    }

    let recorder = Recorder::start(&theirs)?;
    bed.agent.kill9()?;
    until(LIMIT, &format!("{program:?} to lose us"), || {
        let sessions = bed.others[0].sessions()?;
        ensure!(!sessions.values().any(|session| session.established()), "{sessions:?}");
        Ok(Some(()))
    })?;
    all_there(&bed)?;

    bed.config.networks.retain(|network| !DROPPED.contains(&network.as_str()));
    bed.agent.write("hub.yaml", &bed.config.yaml())?;
    bed.agent.start_again()?;
    for prefix in DROPPED {
        until_path(&bed.others[0], prefix, None)?;
    }
    for (v6, prefix) in [(false, HUB_NETWORKS[0]), (true, HUB_NETWORKS[1])] {
        bed.agent.until_established(&peer_name(1, v6))?;
        until_path(&bed.others[0], prefix, Some("65000"))?;
        bed.until_kernel(&spoke_networks(1)[usize::from(v6)], &[1])?;
    }
    let kept = HUB_NETWORKS.map(str::to_owned);
    let notices = recorder.stop()?;
    let gone: Vec<_> =
        notices.iter().filter(|notice| notice.kind == Kind::DelRoute && is_about(notice, &kept)).collect();
    ensure!(gone.is_empty(), "{gone:?}");
    Ok(())
}
