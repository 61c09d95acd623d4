//! Asking for all routes again without a reset.

use anyhow::ensure;
use bgp_speaker::status::PeerStatus;

use super::{Bed, Plan, Program, peer_name, until_path};

/// One router with one IPv4 session, a route each way.
fn bed(program: Program) -> anyhow::Result<(Bed, PeerStatus)> {
    let mut plan = Plan::new()?;
    plan.spoke(program)?;
    plan.session(1, false)?;
    let bed = plan.up()?;
    bed.until_best("10.101.0.0/16", "65001")?;
    until_path(&bed.others[0], "10.200.0.0/16", Some("65000"))?;
    let peer = bed.agent.peer(&peer_name(1, false))?;
    Ok((bed, peer))
}

/// Both sides have their routes still, on the same session.
fn nothing_lost(bed: &Bed) -> anyhow::Result<()> {
    let kept = |peer: &PeerStatus| peer.families.iter().all(|family| family.accepted == 1);
    let peer = bed.agent.until_peer(&peer_name(1, false), "to have the route", kept)?;
    ensure!(peer.down_count == 0, "{peer:#?}");
    until_path(&bed.others[0], "10.200.0.0/16", Some("65000"))
}

/// They ask for everything again and get it (RFC 2918).
///
/// # Errors
/// When that is not so, as for every scenario.
pub fn they_ask_for_all_routes_again(program: Program) -> anyhow::Result<()> {
    let (bed, before) = bed(program)?;
    bed.others[0].refresh()?;
    bed.agent.until_peer(&peer_name(1, false), "everything sent again", |peer| {
        peer.received.route_refresh > before.received.route_refresh && peer.sent.update > before.sent.update
    })?;
    nothing_lost(&bed)
}

/// We ask for everything again and get it (RFC 2918).
///
/// # Errors
/// As for every scenario.
pub fn we_ask_for_all_routes_again(program: Program) -> anyhow::Result<()> {
    let (bed, before) = bed(program)?;
    let name = peer_name(1, false);
    bed.agent.cli_ok(&["bgp", "refresh", &name])?;
    bed.agent.until_peer(&name, "everything received again", |peer| {
        peer.sent.route_refresh > before.sent.route_refresh && peer.received.update > before.received.update
    })?;
    nothing_lost(&bed)
}

/// What either side sends again stands between a Begin-of-RR and an End-of-RR (RFC 7313).
///
/// # Errors
/// As for every scenario.
pub fn refreshes_have_a_beginning_and_an_end(program: Program) -> anyhow::Result<()> {
    let (bed, before) = bed(program)?;
    let name = peer_name(1, false);
    let offered = &before.capabilities.received;
    ensure!(offered.iter().any(|capability| capability == "enhanced route refresh"), "{offered:?}");
    // The command asks, and sends everything again unasked.
    bed.agent.cli_ok(&["bgp", "refresh", &name])?;
    let before = bed.agent.until_peer(&name, "our request, and two marks from each side", |peer| {
        let [sent, received] = [peer.sent, peer.received].map(|messages| messages.route_refresh);
        (sent, received) == (before.sent.route_refresh + 3, before.received.route_refresh + 2)
    })?;
    nothing_lost(&bed)?;
    bed.others[0].refresh()?;
    bed.agent.until_peer(&name, "our two marks for their request", |peer| {
        let [sent, received] = [peer.sent, peer.received].map(|messages| messages.route_refresh);
        (sent, received) == (before.sent.route_refresh + 2, before.received.route_refresh + 1)
    })?;
    nothing_lost(&bed)
}
