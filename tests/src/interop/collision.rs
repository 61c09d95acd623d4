//! Two connections of one session at the same time (RFC 4271 section 6.8), forced by holding packets back.

use std::net::IpAddr;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{Plan, Program, peer_name};
use crate::agent::LIMIT;
use crate::netns::Netns;
use crate::wait::until;

/// What opens a connection.
const SYN: &str = "tcp flags & (syn | ack) == syn";
/// What says something: an OPEN has at least 29 octets beside 52 of headers, and neither a SYN nor an
/// acknowledgement has more than 80 in all.
const WORDS: &str = "ip length > 80";

/// Lets nothing in that matches one of `rules`, and counts it, in place of what was held back before.
fn hold(netns: &Netns, rules: &[String]) -> anyhow::Result<()> {
    let rules: String = rules.iter().map(|rule| format!("{rule} counter drop; ")).collect();
    let table = format!("table ip held {{ chain input {{ type filter hook input priority 0; {rules} }}; }}");
    nft(netns, &[&format!("table ip held; delete table ip held; {table}")]).map(drop)
}

fn release(netns: &Netns) -> anyhow::Result<()> {
    nft(netns, &["delete table ip held"]).map(drop)
}

/// Waits until every rule has held something back.
fn until_held(netns: &Netns, what: &str) -> anyhow::Result<()> {
    until(LIMIT, what, || {
        let rules: Value = serde_json::from_str(&nft(netns, &["--json", "list table ip held"])?)?;
        let found = rules.pointer("/nftables").and_then(Value::as_array).into_iter().flatten();
        let parts = found.filter_map(|item| item.pointer("/rule/expr")?.as_array()).flatten();
        let counts: Vec<u64> = parts.filter_map(|part| part.pointer("/counter/packets")?.as_u64()).collect();
        ensure!(!counts.is_empty() && !counts.contains(&0), "packets held back by each rule: {counts:?}");
        Ok(Some(()))
    })
}

fn nft(netns: &Netns, arguments: &[&str]) -> anyhow::Result<String> {
    let output = netns.exec(&[&["nft"], arguments].concat())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "nft {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

/// Connections of the hub with `address`, each as whether the hub opened it.
fn connections(hub: &Netns, address: IpAddr) -> anyhow::Result<Vec<bool>> {
    let output = hub.exec(&["ss", "-Htn", "state", "established", "dst", &address.to_string()])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "ss: {}", String::from_utf8_lossy(&output.stderr));
    Ok(text.lines().map(|line| line.trim_end().ends_with(":179")).collect())
}

/// Both sides connect at once and say OPEN on both connections: the one that the side with the higher BGP
/// Identifier opened survives, whichever side that is, and becomes a session that stays.
///
/// # Errors
/// When there is none, or the other one, as for every scenario.
pub fn the_higher_identifier_decides_a_collision(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    for (n, router_id) in [(1, [1, 1, 1, 1]), (2, [20, 20, 20, 20])] {
        plan.spoke(program)?.router.router_id = router_id.into();
        let (peer, neighbor) = plan.session(n, false)?;
        // Nobody may give an attempt up while it is held back.
        peer.timers = "hold: 3s, keepalive: 1s, connectRetry: 30s".to_owned();
        (neighbor.timers, neighbor.connect_retry) = (Some((1, 3)), 30);
    }
    // Each namespace with its links to the others.
    let mut ends: Vec<(Netns, &[&str])> =
        plan.spokes.iter().map(|spoke| (spoke.netns.clone(), ["eth0"].as_slice())).collect();
    ends.push((plan.hub.clone(), &["eth1", "eth2"]));
    let rules = |links: &[&str], matches: &[String]| -> Vec<String> {
        let all = links.iter().flat_map(|link| matches.iter().map(move |rule| format!("iif {link} {rule}")));
        all.collect()
    };
    for (netns, links) in &ends {
        hold(netns, &rules(links, &[format!("tcp dport 179 {SYN}")]))?;
    }
    let bed = plan.start()?;
    for (netns, _) in &ends {
        until_held(netns, "an attempt to connect from each side")?;
    }
    for (netns, links) in &ends {
        hold(netns, &rules(links, &["dport", "sport"].map(|port| format!("tcp {port} 179 {WORDS}"))))?;
    }
    for (netns, _) in &ends {
        until_held(netns, "an OPEN from each side on each connection").with_context(|| bed.agent.log())?;
    }
    for (netns, _) in &ends {
        release(netns)?;
    }
    for (n, ours_survives) in [(1, true), (2, false)] {
        let name = peer_name(n, false);
        let peer = bed.agent.until_peer(&name, "a session that stays", |peer| {
            peer.state == "Established" && peer.received.keepalive >= 5
        })?;
        // FRR moves what it accepted into the place of the connection that is just being closed, and now and
        // then that one's end takes it along; a second later it connects again, without a collision.
        if program == Program::Frr && peer.down_count == 1 {
            continue;
        }
        ensure!(peer.down_count == 0, "{peer:#?}\n{}", bed.agent.log());
        let left = connections(&bed.hub, peer.neighbor)?;
        ensure!(left == [ours_survives], "{name}: opened by us: {left:?}\n{}", bed.agent.log());
        bed.until_best(&super::spoke_networks(n)[0], &(65_000 + n).to_string())?;
    }
    bed.others.iter().try_for_each(super::Other::until_established)
}
