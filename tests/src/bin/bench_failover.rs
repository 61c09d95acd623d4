//! `bench-failover`: what each failure in the stories of `two-tor` and `clos` costs their flows, medians of many plays,
//! and how long `clos` takes to come up, routes included, and to go.
//!
//! The stories are the examples' own, so what is measured is what `towpath lab test` and the tests promise. A play with
//! a loss where none is allowed is no figure but a failure, and ends the benchmark.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use lab::story::report::{Report, TrafficReport};
use lab::story::table::{Colours, render};
use lab::story::{Play, Story};
use lab::{Lab, Topology};
use towpath_tests::tables;
use towpath_tests::two_tor::program;

/// Measured outages may exceed the stories' bounds by this much before a play ends early.
const SLACK: u32 = 50;

/// Measures fail-over in `examples/two-tor` and `examples/clos` by packets.
#[derive(Debug, Parser)]
struct Arguments {
    /// Plays of each story.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Puts the tables into this file, in place of those there, as well as on the screen.
    #[arg(long)]
    write: Option<PathBuf>,
}

/// One class of flows in one step, and its figures of each round.
struct Row {
    step: String,
    class: String,
    bound: String,
    outages: Vec<Duration>,
    lost: Vec<u64>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    lab::use_program(program()?);
    let mut text = format!(
        "### Fail-over: median (smallest-largest) of {0} plays\n\n`make bench`, or `bench-failover --rounds {0}`\n",
        arguments.rounds
    );
    for example in ["two-tor", "clos"] {
        let reports = plays(example, arguments.rounds)?;
        write!(text, "\n{}", failures(example, &mut rows(&reports))?)?;
    }
    write!(text, "\n{}", life("clos", arguments.rounds)?)?;
    println!("{text}");
    if let Some(path) = &arguments.write {
        tables::replace(path, "bench-failover", &text)?;
    }
    Ok(())
}

/// Plays an example's story `rounds` times.
fn plays(example: &str, rounds: u32) -> anyhow::Result<Vec<Report>> {
    let story = Story::read(folder(example))?;
    let mut reports = Vec::new();
    for round in 1..=rounds {
        eprintln!("{example}, play {round} of {rounds}");
        let report = Play::new(&story).slack(SLACK).run()?;
        ensure!(report.held(), "{}", render(&report, Colours::Off));
        reports.push(report);
    }
    Ok(reports)
}

/// The steps with a bound, in the story's order.
fn rows(reports: &[Report]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for report in reports {
        for step in report.steps.iter().filter(|step| !step.events.is_empty()) {
            for traffic in &step.traffic {
                let Some(bound) = bound(traffic) else { continue };
                let index = rows
                    .iter()
                    .position(|row| row.step == step.name && row.class == traffic.class)
                    .unwrap_or_else(|| {
                        let (step, class) = (step.name.clone(), traffic.class.clone());
                        rows.push(Row { step, class, bound, outages: Vec::new(), lost: Vec::new() });
                        rows.len() - 1
                    });
                rows[index].outages.push(traffic.longest_outage);
                rows[index].lost.push(traffic.lost);
            }
        }
    }
    rows
}

/// What the story allows, in its own words.
fn bound(traffic: &TrafficReport) -> Option<String> {
    match (traffic.allowed_outage, traffic.allowed_lost) {
        (Some(outage), _) => Some(format!("{} ms", (outage / SLACK).as_millis())),
        (None, Some(0)) => Some("0 lost".to_owned()),
        (None, Some(lost)) => Some(format!("{} lost", lost / u64::from(SLACK))),
        (None, None) => None,
    }
}

fn failures(example: &str, rows: &mut [Row]) -> anyhow::Result<String> {
    let mut text = format!(
        "`examples/{example}`\n\n\
         | event | flows | longest outage of any flow, ms | packets lost, all flows | must |\n|---|---|---|---|---|\n"
    );
    for row in rows {
        let outage = spread(&mut row.outages, milliseconds)?;
        let lost = spread(&mut row.lost, ToString::to_string)?;
        writeln!(text, "| {} | {} | {outage} | {lost} | {} |", row.step, row.class, row.bound)?;
    }
    Ok(text)
}

/// From nothing to all routes in all kernels (what the story's first step expects), and back to nothing.
fn life(example: &str, rounds: u32) -> anyhow::Result<String> {
    let story = Story::read(folder(example))?;
    let first = story.steps().next().context("the story has no steps")?;
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        eprintln!("{example}, up and down {round} of {rounds}");
        let report = Play::new(&story).only(first).run()?;
        ensure!(report.held(), "{}", render(&report, Colours::Off));
        up.push(report.up + report.steps.first().map_or(Duration::ZERO, |step| step.took));
        let lab = Lab::up(folder(example).join("topo.clab.yml"))?;
        let from = Instant::now();
        lab.down()?;
        down.push(from.elapsed());
    }
    let nodes = Topology::read(&folder(example).join("topo.clab.yml"))?.nodes.len();
    Ok(format!(
        "`examples/{example}`, {nodes} nodes\n\n| | ms | must |\n|---|---|---|\n\
         | up, until all routes are in all kernels | {} | 5000 ms |\n| down | {} | 1000 ms |\n",
        spread(&mut up, milliseconds)?,
        spread(&mut down, milliseconds)?
    ))
}

fn milliseconds(time: &Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

fn spread<T: Ord>(values: &mut [T], show: impl Fn(&T) -> String) -> anyhow::Result<String> {
    values.sort();
    let median = values.get(values.len() / 2).context("no plays")?;
    let (first, last) = values.first().zip(values.last()).context("no plays")?;
    Ok(format!("{} ({}-{})", show(median), show(first), show(last)))
}

fn folder(example: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(example)
}
