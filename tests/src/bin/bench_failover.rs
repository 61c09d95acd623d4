//! `bench-failover`: what a ToR's death, a lost carrier and their return cost 16 flows, medians of many runs.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use towpath_tests::failover::{Reaction, carrier_loss, carrier_return, tor_death, tor_return};
use towpath_tests::meter::Report;
use towpath_tests::tables;
use towpath_tests::two_tor::{self, TwoTor};

/// Measures fail-over in `examples/two-tor` by packets.
#[derive(Debug, Parser)]
struct Arguments {
    /// Runs of each event.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Puts the table into this file, in place of the one there, as well as on the screen.
    #[arg(long)]
    write: Option<PathBuf>,
}

/// One event, and its figures of each round.
struct Row {
    event: &'static str,
    bound: &'static str,
    outages: Vec<Duration>,
    lost: Vec<u64>,
}

impl Row {
    fn new(event: &'static str, bound: &'static str) -> Self {
        Self { event, bound, outages: Vec::new(), lost: Vec::new() }
    }

    fn add(&mut self, report: &Report) {
        eprintln!("{}: {}", self.event, report.to_string().lines().next().unwrap_or_default());
        self.outages.push(report.longest_outage());
        self.lost.push(report.lost());
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    lab::use_program(two_tor::program()?);
    let racks = TwoTor::up("bench-failover")?;
    let mut death = Row::new("ToR dies (kill -9, forwarding stopped)", "50 ms");
    let mut back = Row::new("ToR returns", "0 lost");
    let mut cut = Row::new("carrier lost", "20 ms");
    let mut mended = Row::new("carrier back", "0 lost");
    for round in 1..=arguments.rounds {
        eprintln!("round {round}");
        death.add(&tor_death(&racks, Reaction::Running)?);
        back.add(&tor_return(&racks)?);
        cut.add(&carrier_loss(&racks, Reaction::Running)?);
        mended.add(&carrier_return(&racks)?);
    }
    racks.lab.down()?;
    let table = table(&mut [death, back, cut, mended])?;
    println!("{table}");
    if let Some(path) = &arguments.write {
        tables::replace(path, "bench-failover", &table)?;
    }
    Ok(())
}

fn table(rows: &mut [Row]) -> anyhow::Result<String> {
    let runs = rows.first().map_or(0, |row| row.lost.len());
    let mut text = format!(
        "### Fail-over in two-tor, 16 flows at 1 kHz: median (smallest-largest) of {runs} runs\n\n\
         `make bench`, or `bench-failover --rounds {runs}`\n\n\
         | event | longest outage of any flow, ms | packets lost, all flows | must |\n|---|---|---|---|\n"
    );
    for row in rows {
        let outage = spread(&mut row.outages, |outage| format!("{:.1}", outage.as_secs_f64() * 1e3))?;
        let lost = spread(&mut row.lost, ToString::to_string)?;
        writeln!(text, "| {} | {outage} | {lost} | {} |", row.event, row.bound)?;
    }
    text.push('\n');
    Ok(text)
}

fn spread<T: Ord>(values: &mut [T], show: impl Fn(&T) -> String) -> anyhow::Result<String> {
    values.sort();
    let median = values.get(values.len() / 2).context("no runs: --rounds must be at least 1")?;
    let (first, last) = values.first().zip(values.last()).context("no runs")?;
    Ok(format!("{} ({}-{})", show(median), show(first), show(last)))
}
