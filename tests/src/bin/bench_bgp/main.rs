//! `bench-bgp`: towpath beside FRR, BIRD, GoBGP, OpenBGPD and the kernel's own limit, in one run.
//!
//! For each case, each round and each contender in turn: fresh namespaces, the daemon with passive sessions, neighbours
//! that speak real BGP over veth. Times start with the first byte sent, which is ready by then. Rounds are
//! interleaved, so that a busy minute of the machine hits all; compare within one run only. After each run the
//! receiver, the kernel and the RIB are compared with what was fed, route by route.
//!
//! A `must` that is missed is said, and is no failure: that is what a benchmark is for. A route that is missing or
//! wrong is one.

mod compare;
mod contender;
mod converge;
mod failover;
mod flap;
mod idle;
mod limit;
mod must;
mod peers;
mod report;
mod results;
mod rig;
mod start;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use contender::Contender;
use failover::Event;
use results::{Case, Family, Results, Sample, Scenario};
use towpath_tests::tables;

/// Measures BGP daemons beside each other.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure. Default: everything.
    #[arg(long, value_enum, value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// Prefixes in the table, where a scenario takes them. Default: what the table of musts needs.
    #[arg(long, value_delimiter = ',')]
    routes: Vec<usize>,
    /// Families. Default: IPv4, and IPv6 for one table that comes and goes.
    #[arg(long, value_enum, value_delimiter = ',')]
    family: Vec<Family>,
    /// Runs of each contender.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Who runs. Default: whoever can, without those that need minutes.
    #[arg(long, value_enum, value_delimiter = ',')]
    daemons: Vec<Contender>,
    /// Puts the tables into this file, in place of those there, as well as on the screen.
    #[arg(long)]
    write: Option<PathBuf>,
    /// Writes every figure of every run to this file, for comparison with other runs.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// RIBs of more routes are not read: some daemons take minutes to print theirs.
const RIB_MAX: usize = 100_000;

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let began = Instant::now();
    let mut results = Results::default();
    for case in cases(&arguments) {
        let contenders = contenders(case, &arguments);
        for round in 1..=arguments.rounds {
            for &contender in &contenders {
                let what = format!("{}, {}, round {round}", case.title(), contender.name());
                match run(case, contender, round) {
                    Ok((sample, version)) => {
                        eprintln!("{what}: {}", words(&sample));
                        results.add(case, contender, sample);
                        results.versions.insert(contender, version);
                    }
                    Err(error) => {
                        eprintln!("{what} FAILED: {error:#}");
                        results.failures.push(format!("{what}: {error:#}"));
                    }
                }
            }
        }
    }
    let text = text(&results, &arguments, began)?;
    println!("{text}");
    if let Some(path) = &arguments.write {
        tables::replace(path, "bench-bgp", &text)?;
    }
    if let Some(path) = &arguments.json {
        let file = serde_json::to_string_pretty(&results.file(machine()?))?;
        std::fs::write(path, file).with_context(|| format!("writing {}", path.display()))?;
    }
    if results.failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{} runs failed:\n{}", results.failures.len(), results.failures.join("\n"));
    Ok(ExitCode::FAILURE)
}

fn cases(arguments: &Arguments) -> Vec<Case> {
    let wanted = |scenario: &Scenario| arguments.scenario.is_empty() || arguments.scenario.contains(scenario);
    let mut cases = Vec::new();
    for &scenario in Scenario::value_variants().iter().filter(|scenario| wanted(scenario)) {
        for &family in Family::value_variants() {
            let sizes = sizes(scenario, family, &arguments.routes);
            let wanted = match arguments.family.is_empty() {
                true => family == Family::V4 || scenario == Scenario::Converge,
                false => arguments.family.contains(&family),
            };
            if wanted {
                cases.extend(sizes.into_iter().map(|routes| Case { scenario, routes, family }));
            }
        }
    }
    cases
}

/// How many routes, in how many tables.
fn sizes(scenario: Scenario, family: Family, asked: &[usize]) -> Vec<usize> {
    let or = |default: &[usize]| if asked.is_empty() { default.to_vec() } else { asked.to_vec() };
    match (scenario, family) {
        (Scenario::Peers, _) => vec![usize::from(peers::PEERS) * peers::SHARE],
        (Scenario::Start, _) => vec![1],
        (Scenario::Converge, Family::V4) => or(&[10_000, 100_000, 500_000]),
        (Scenario::FailoverReset | Scenario::FailoverLink, _) => or(&[10_000, 100_000]),
        (Scenario::Flap, _) => or(&[10_000]),
        (Scenario::Converge | Scenario::Idle, _) => or(&[100_000]),
    }
}

/// Who takes part.
fn contenders(case: Case, arguments: &Arguments) -> Vec<Contender> {
    let able = |contender: &Contender| match case.scenario {
        Scenario::Converge => true,
        Scenario::FailoverReset | Scenario::FailoverLink => {
            contender.installs() && *contender != Contender::Limit
        }
        _ => *contender != Contender::Limit,
    };
    // GoBGP has told little more than half after a minute.
    let slow = |contender: &Contender| case.scenario == Scenario::Peers && *contender == Contender::Gobgp;
    let all = Contender::value_variants().iter().copied().filter(able);
    if arguments.daemons.is_empty() {
        all.filter(|contender| !slow(contender)).collect()
    } else {
        all.filter(|contender| arguments.daemons.contains(contender)).collect()
    }
}

/// One run of one contender.
fn run(case: Case, contender: Contender, round: u32) -> anyhow::Result<(Sample, String)> {
    let Case { scenario, routes, family } = case;
    match scenario {
        Scenario::Converge => {
            let with_rib = round == 1 && routes <= RIB_MAX;
            converge::run(contender, family, routes, with_rib)
        }
        Scenario::Flap => flap::run(contender, family, routes),
        Scenario::Peers => peers::run(contender, family),
        Scenario::Start => start::run(contender, family),
        Scenario::FailoverReset => failover::run(contender, family, routes, Event::Reset),
        Scenario::FailoverLink => failover::run(contender, family, routes, Event::Link),
        Scenario::Idle => idle::run(contender, family, routes),
    }
}

fn words(sample: &Sample) -> String {
    sample.iter().map(|(name, value)| format!("{name} {value:.3}")).collect::<Vec<_>>().join(", ")
}

fn machine() -> anyhow::Result<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let processors = std::thread::available_parallelism()?;
    Ok(format!("{processors} processors, Linux {}", kernel.trim()))
}

/// Everything that goes into the document.
fn text(results: &Results, arguments: &Arguments, began: Instant) -> anyhow::Result<String> {
    let versions: Vec<&str> =
        results.versions.values().map(String::as_str).filter(|version| !version.is_empty()).collect();
    let (versions, machine, rounds) = (versions.join("; "), machine()?, arguments.rounds);
    let minutes = began.elapsed().as_secs().div_ceil(60);
    let mut text = format!(
        "### BGP: median (smallest-largest)\n\n\
         {versions}. {machine}. {rounds} rounds, interleaved, {minutes} minutes.\n"
    );
    let (must, missed, unknown) = must::table(results);
    write!(text, "\n#### What must hold\n\n{must}\n{missed} missed, {unknown} not measured in this run.\n")?;
    for case in results.cases() {
        write!(text, "\n{}", report::table(case, results))?;
    }
    if !results.failures.is_empty() {
        write!(text, "\nFailed:\n\n")?;
        for failure in &results.failures {
            writeln!(text, "- {failure}")?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(arguments: &[&str]) -> Arguments {
        Arguments::parse_from(std::iter::once("bench-bgp").chain(arguments.iter().copied()))
    }

    #[test]
    fn the_default_measures_all_that_must_hold() {
        let arguments = of(&[]);
        let cases = cases(&arguments);
        let case = |scenario, routes, family| Case { scenario, routes, family };
        for routes in [10_000, 100_000, 500_000] {
            assert!(cases.contains(&case(Scenario::Converge, routes, Family::V4)));
        }
        for (scenario, routes) in [
            (Scenario::Peers, 64_000),
            (Scenario::Start, 1),
            (Scenario::FailoverReset, 10_000),
            (Scenario::FailoverReset, 100_000),
            (Scenario::FailoverLink, 100_000),
            (Scenario::Flap, 10_000),
            (Scenario::Idle, 100_000),
        ] {
            assert!(cases.contains(&case(scenario, routes, Family::V4)));
            assert!(!cases.contains(&case(scenario, routes, Family::V6)));
        }
        assert!(cases.contains(&case(Scenario::Converge, 100_000, Family::V6)));
        let peers = contenders(case(Scenario::Peers, 64_000, Family::V4), &arguments);
        assert!(peers.contains(&Contender::Openbgpd) && !peers.contains(&Contender::Gobgp));
        let failover = contenders(case(Scenario::FailoverLink, 10_000, Family::V4), &arguments);
        assert_eq!(failover, [Contender::Frr, Contender::Bird, Contender::Towpath]);
    }

    #[test]
    fn what_is_asked_for_is_what_is_measured() {
        let arguments = of(&[
            "--scenario",
            "converge,start",
            "--routes",
            "1000000",
            "--family",
            "v6",
            "--daemons",
            "gobgp,limit",
        ]);
        let cases = cases(&arguments);
        let expected = [(Scenario::Converge, 1_000_000), (Scenario::Start, 1)];
        let expected = expected.map(|(scenario, routes)| Case { scenario, routes, family: Family::V6 });
        assert_eq!(cases, expected);
        assert_eq!(contenders(cases[0], &arguments), [Contender::Gobgp, Contender::Limit]);
        assert_eq!(contenders(cases[1], &arguments), [Contender::Gobgp]);
    }
}
