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
mod limit;
mod must;
mod report;
mod results;
mod rig;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use contender::Contender;
use results::{Case, Family, Results, Sample, Scenario};
use towpath_tests::tables;

/// Measures BGP daemons beside each other.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Scenario::Converge])]
    scenario: Vec<Scenario>,
    /// Prefixes in the table, where a scenario takes them.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000, 500_000])]
    routes: Vec<usize>,
    /// Families.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Family::V4])]
    family: Vec<Family>,
    /// Runs of each contender.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Who runs.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Contender::Frr, Contender::Bird, Contender::Gobgp, Contender::Openbgpd, Contender::Towpath, Contender::Limit])]
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
        for round in 1..=arguments.rounds {
            for &contender in &arguments.daemons {
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
        let records = serde_json::to_string_pretty(&results.records())?;
        std::fs::write(path, records).with_context(|| format!("writing {}", path.display()))?;
    }
    if results.failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{} runs failed:\n{}", results.failures.len(), results.failures.join("\n"));
    Ok(ExitCode::FAILURE)
}

fn cases(arguments: &Arguments) -> Vec<Case> {
    let mut cases = Vec::new();
    for &scenario in &arguments.scenario {
        for &family in &arguments.family {
            cases.extend(arguments.routes.iter().map(|&routes| Case { scenario, routes, family }));
        }
    }
    cases
}

/// One run of one contender.
fn run(case: Case, contender: Contender, round: u32) -> anyhow::Result<(Sample, String)> {
    match case.scenario {
        Scenario::Converge => {
            let with_rib = round == 1 && case.routes <= RIB_MAX;
            converge::run(contender, case.family, case.routes, with_rib)
        }
    }
}

fn words(sample: &Sample) -> String {
    sample.iter().map(|(name, value)| format!("{name} {value:.3}")).collect::<Vec<_>>().join(", ")
}

/// Everything that goes into the document.
fn text(results: &Results, arguments: &Arguments, began: Instant) -> anyhow::Result<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let processors = std::thread::available_parallelism()?;
    let versions: Vec<&str> =
        results.versions.values().map(String::as_str).filter(|version| !version.is_empty()).collect();
    let mut text = format!(
        "### BGP: median (smallest-largest)\n\n{}. {processors} processors, Linux {}. {} rounds, interleaved, {} minutes.\n",
        versions.join("; "),
        kernel.trim(),
        arguments.rounds,
        began.elapsed().as_secs().div_ceil(60),
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
