//! Sessions that are ended on purpose: by operators, and by limits of prefixes.

use anyhow::ensure;

use super::{Bed, Plan, Program, peer_name};

/// One router with one IPv4 session, without Graceful Restart, its route in the kernel.
fn bed(program: Program) -> anyhow::Result<Bed> {
    let mut plan = Plan::new()?;
    plan.spoke(program)?.router.graceful_restart = false;
    plan.session(1, false)?;
    let bed = plan.up()?;
    bed.until_kernel("10.101.0.0/16", &[1])?;
    Ok(bed)
}

/// The text with which they shut a session down is shown here (RFC 9003), and the session returns when
/// their operator says so.
///
/// # Errors
/// When that is not so, as for every scenario.
pub fn we_read_why_they_shut_a_session_down(program: Program) -> anyhow::Result<()> {
    let bed = bed(program)?;
    let name = peer_name(1, false);
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
    bed.until_kernel("10.101.0.0/16", &[1])
}

/// The text with which we shut a session down is shown there (RFC 9003), and the session returns when our
/// operator says so.
///
/// # Errors
/// As for every scenario.
pub fn they_read_why_we_shut_a_session_down(program: Program) -> anyhow::Result<()> {
    let bed = bed(program)?;
    let name = peer_name(1, false);
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
