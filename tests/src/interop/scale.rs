//! A table of 100 000 prefixes through a router, the hub and another router.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ipnet::{IpNet, Ipv4Net};

use super::{Other, Plan, Program};
use crate::agent::LIMIT;
use crate::feeder::{Config, Feeder, load};
use crate::netns::Netns;
use crate::speakers::Neighbor;
use crate::wait::until;

const FEEDER_AS: u32 = 65_099;
const COUNT: usize = 100_000;
/// For the whole scenario.
const LONG: Duration = Duration::from_secs(55);

/// What a feeder announces to the first router arrives in the hub's kernel and at the second router:
/// the same prefixes everywhere; and when the feeder goes, they go everywhere.
///
/// # Errors
/// When a set differs; with some of the differences.
pub fn a_large_table_arrives_whole_and_goes_whole(program: Program) -> anyhow::Result<()> {
    let deadline = Instant::now() + LONG;
    let left = || deadline.saturating_duration_since(Instant::now());
    let mut plan = Plan::new()?;
    let netns = plan.spoke(program)?.netns.clone();
    plan.spoke(program)?;
    for n in [1, 2] {
        plan.session(n, false)?;
        let router = &mut plan.spokes[n - 1].router;
        (router.kernel, router.graceful_restart) = (false, false);
        router.networks.clear();
        for neighbor in &mut router.neighbors {
            neighbor.timers = Some((20, 60));
        }
    }
    plan.config.networks.clear();
    for peer in &mut plan.config.peers {
        peer.timers = "hold: 60s, connectRetry: 1s".to_owned();
    }
    let source = Netns::fresh()?;
    source.link(("eth0", &["10.0.9.2/24"]), &netns, ("feeder", &["10.0.9.1/24"]))?;
    let mut neighbor = Neighbor::new("10.0.9.2".parse()?, FEEDER_AS);
    (neighbor.v6, neighbor.passive) = (false, true);
    plan.spokes[0].router.neighbors.push(neighbor);

    let bed = plan.start()?;
    for n in [1, 2] {
        bed.agent.until_established(&super::peer_name(n, false))?;
    }
    let config = Config::new(FEEDER_AS, [7, 7, 7, 7].into());
    let feeder = Feeder::connect(&source, None, "10.0.9.1:179".parse()?, &config, LIMIT)?;
    let table = load::internet(COUNT, 42, FEEDER_AS, "10.0.9.2".parse()?);
    let expected: BTreeSet<IpNet> = table.iter().flat_map(|group| group.prefixes.iter().copied()).collect();
    feeder.send(&load::announcements(&table))?;

    until(left(), "the table in the hub", || {
        let status = bed.agent.status()?;
        ensure!(
            status.fib.routes_v4 == COUNT as u64 && status.fib.pending == 0,
            "{} routes, {} pending",
            status.fib.routes_v4,
            status.fib.pending
        );
        Ok(Some(()))
    })?;
    equal(&expected, &kernel(&bed.hub)?).context("in the hub's kernel")?;
    until(left(), "the table at the second router", || {
        let there = learned(&bed.others[1])?;
        equal(&expected, &there).map(Some)
    })?;

    drop(feeder);
    until(left(), "an empty kernel", || {
        let left = bed.agent.status()?.fib.routes_v4;
        ensure!(left == 0, "{left} routes are left");
        Ok(Some(()))
    })?;
    equal(&BTreeSet::new(), &kernel(&bed.hub)?).context("in the hub's kernel, afterwards")?;
    until(left(), "an empty second router", || {
        let there = learned(&bed.others[1])?;
        equal(&BTreeSet::new(), &there).map(Some)
    })
}

/// The prefixes a router has from BGP; BIRD's table also has those of its links.
fn learned(router: &Other) -> anyhow::Result<BTreeSet<IpNet>> {
    let table = router.routes(false)?.into_iter();
    Ok(table
        .filter(|(_, paths)| paths.iter().any(|path| !path.as_path.is_empty()))
        .map(|(prefix, _)| prefix)
        .collect())
}

/// The destinations of our routes.
fn kernel(netns: &Netns) -> anyhow::Result<BTreeSet<IpNet>> {
    let text = netns.ip("-4 route show proto 199")?;
    let destinations = text.lines().filter_map(|line| line.split_whitespace().next());
    destinations
        .map(|word| word.parse::<Ipv4Net>().map(IpNet::V4).with_context(|| format!("a route to {word}")))
        .collect()
}

fn equal(expected: &BTreeSet<IpNet>, found: &BTreeSet<IpNet>) -> anyhow::Result<()> {
    let missing: Vec<_> = expected.difference(found).collect();
    let surplus: Vec<_> = found.difference(expected).collect();
    ensure!(
        missing.is_empty() && surplus.is_empty(),
        "{} missing: {:?} ...; {} too many: {:?} ...",
        missing.len(),
        missing.iter().take(3).collect::<Vec<_>>(),
        surplus.len(),
        surplus.iter().take(3).collect::<Vec<_>>()
    );
    Ok(())
}
