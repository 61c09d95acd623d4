//! A table of 100,000 prefixes from them to us, and from us to them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ipnet::{IpNet, Ipv4Net};

use super::{Other, Peer, Plan, Program};
use crate::agent::LIMIT;
use crate::feeder::{Config, Feeder, load};
use crate::netns::Netns;
use crate::speakers::Neighbor;
use crate::wait::until;

const FEEDER_AS: u32 = 65_099;
const COUNT: usize = 100_000;
/// For the whole scenario, also with the slowest program on a machine that has other things to do.
const LONG: Duration = Duration::from_secs(240);

/// A hub and a router with a session that carries the table, and no prefixes of their own.
fn plan(program: Program) -> anyhow::Result<Plan> {
    let mut plan = Plan::new()?;
    plan.config.networks.clear();
    let router = &mut plan.spoke(program)?.router;
    (router.kernel, router.graceful_restart) = (false, false);
    router.networks.clear();
    let (peer, neighbor) = plan.session(1, false)?;
    peer.timers = "hold: 60s, connectRetry: 1s".to_owned();
    neighbor.timers = Some((20, 60));
    Ok(plan)
}

/// A feeder that has announced the table, and its prefixes.
fn feeder(source: &Netns) -> anyhow::Result<(Feeder, BTreeSet<IpNet>)> {
    let config = Config::new(FEEDER_AS, [7, 7, 7, 7].into());
    let feeder = Feeder::connect(source, None, "10.0.9.1:179".parse()?, &config, LIMIT)?;
    let table = load::internet(COUNT, 42, FEEDER_AS, "10.0.9.2".parse()?);
    let prefixes = table.iter().flat_map(|group| group.prefixes.iter().copied()).collect();
    feeder.send(&load::announcements(&table))?;
    Ok((feeder, prefixes))
}

/// A namespace for the feeder, on a link to `netns`.
fn source(netns: &Netns) -> anyhow::Result<Netns> {
    let source = Netns::fresh()?;
    source.link(("eth0", &["10.0.9.2/24"]), netns, ("feeder", &["10.0.9.1/24"]))?;
    Ok(source)
}

/// What a feeder announces to the router arrives in our kernel: exactly those prefixes; and when the feeder
/// goes, they go.
///
/// # Errors
/// When a set differs; with some of the differences.
pub fn a_large_table_comes_from_them(program: Program) -> anyhow::Result<()> {
    let deadline = Instant::now() + LONG;
    let left = || deadline.saturating_duration_since(Instant::now());
    let mut plan = plan(program)?;
    let source = source(&plan.spokes[0].netns)?;
    let mut neighbor = Neighbor::new("10.0.9.2".parse()?, FEEDER_AS);
    (neighbor.v6, neighbor.passive) = (false, true);
    plan.spokes[0].router.neighbors.push(neighbor);
    let bed = plan.up_but_for_feeders()?;
    let (feeder, expected) = feeder(&source)?;
    let until_count = |count: u64| {
        until(left(), &format!("{count} routes in the hub's kernel"), || {
            let fib = bed.agent.status()?.fib;
            ensure!(
                (fib.routes_v4, fib.pending) == (count, 0),
                "{} routes, {} pending",
                fib.routes_v4,
                fib.pending
            );
            Ok(Some(()))
        })
    };
    until_count(COUNT as u64)?;
    equal(&expected, &kernel(&bed.hub)?).context("in the hub's kernel")?;
    drop(feeder);
    until_count(0)?;
    equal(&BTreeSet::new(), &kernel(&bed.hub)?).context("in the hub's kernel, afterwards")
}

/// What a feeder announces to us arrives at the router: exactly those prefixes; and when the feeder goes,
/// they go.
///
/// # Errors
/// When a set differs; with some of the differences.
pub fn a_large_table_goes_to_them(program: Program) -> anyhow::Result<()> {
    let deadline = Instant::now() + LONG;
    let left = || deadline.saturating_duration_since(Instant::now());
    let mut plan = plan(program)?;
    let source = source(&plan.hub)?;
    plan.config.peers.push(Peer {
        name: "feeder".to_owned(),
        address: "10.0.9.2".parse()?,
        remote_as: FEEDER_AS,
        spec: vec!["passive: Always".to_owned()],
        ..plan.config.peers[0].clone()
    });
    let bed = plan.up_but_for_feeders()?;
    let (feeder, expected) = feeder(&source)?;
    until_learned(&bed.others[0], &expected, left()).context("the table at the router")?;
    drop(feeder);
    until_learned(&bed.others[0], &BTreeSet::new(), left()).context("an empty router")
}

/// Waits until a router has exactly these prefixes from BGP. Listing them all is work for the router too, and
/// some do nothing else meanwhile: they get three times as long in between.
fn until_learned(router: &Other, expected: &BTreeSet<IpNet>, limit: Duration) -> anyhow::Result<()> {
    let mut next = Instant::now();
    let mut last = String::new();
    until(limit, &format!("{} prefixes", expected.len()), || {
        ensure!(Instant::now() >= next, "{last}");
        let begin = Instant::now();
        let found = learned(router)?;
        next = Instant::now() + 3 * begin.elapsed();
        let result = equal(expected, &found);
        last = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
        result.map(Some)
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
