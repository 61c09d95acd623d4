//! `towpath lab test`: plays the story beside a topology, and shows what became of it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context;
use clap::Args;

use crate::story::report::Report;
use crate::story::table::Colours;
use crate::story::{Play, Story, junit, schema, table, timeline};

/// How a story is played.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Topology file, or a folder with one *.clab.yml; its story is the expect.yaml beside it.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Switch every reaction of towpath off at the events: each step must then break what it promises.
    #[arg(long)]
    prove: bool,
    /// Allow times and losses to be this many times what the story says; 0 lost stays 0.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    slack: u32,
    /// Seed of random events.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this step; those before it bring the lab into its state, unmeasured.
    #[arg(long, value_name = "STEP")]
    only: Option<String>,
    /// Play on the lab that is up already, and leave it up and in order.
    #[arg(long, conflicts_with_all = ["prove", "keep"])]
    running: bool,
    /// Leave the lab up in the end, as the story left it.
    #[arg(long, conflicts_with = "prove")]
    keep: bool,
    /// Play the story this many times.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "keep")]
    repeat: u32,
    /// Write the outcome as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write the outcome as JSON; with --repeat a list.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw a picture (SVG) of what happened around the events of each step into this folder.
    #[arg(long, value_name = "DIR")]
    timeline: Option<PathBuf>,
    /// Print the JSON Schema of expect.yaml and do nothing else.
    #[arg(long)]
    schema: bool,
}

/// A story that cannot be read; 1 is a story that did not hold.
const BAD_FILE: u8 = 2;

pub(super) fn run(args: &TestArgs) -> anyhow::Result<ExitCode> {
    if args.schema {
        println!("{}", schema::text());
        return Ok(ExitCode::SUCCESS);
    }
    // Traffic is made in the nodes' namespaces, which only their root may enter.
    crate::rootless::enter()?;
    let story = match Story::read(&args.path) {
        Ok(story) => story,
        Err(error) => {
            eprintln!("{error}");
            return Ok(ExitCode::from(BAD_FILE));
        }
    };
    for warning in &story.topology.warnings {
        eprintln!("warning: {warning}");
    }
    let began = SystemTime::now();
    let mut reports = Vec::new();
    for number in 1..=args.repeat {
        if args.repeat > 1 {
            eprintln!("play {number} of {}", args.repeat);
        }
        let report = play(&story, args)?;
        print!("{}", table::render(&report, Colours::of(&std::io::stdout())));
        if let Some(folder) = &args.timeline {
            let folder = if args.repeat > 1 { folder.join(number.to_string()) } else { folder.clone() };
            pictures(&report, &folder)?;
        }
        reports.push(report);
    }
    if let Some(file) = &args.junit {
        write(file, &junit::render(&reports, began))?;
    }
    if let Some(file) = &args.json {
        let text = match reports.as_slice() {
            [one] => serde_json::to_string_pretty(one)?,
            many => serde_json::to_string_pretty(many)?,
        };
        write(file, &format!("{text}\n"))?;
    }
    let held = reports.iter().filter(|report| report.held()).count();
    if args.repeat > 1 {
        println!("held {held} times of {}", reports.len());
    }
    Ok(if held == reports.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn play(story: &Story, args: &TestArgs) -> anyhow::Result<Report> {
    let mut play = Play::new(story).slack(args.slack).seed(args.seed).progress(|line| eprintln!("{line}"));
    if let Some(step) = &args.only {
        play = play.only(step);
    }
    if args.prove {
        play = play.prove();
    }
    if args.running {
        play = play.on_running_lab();
    }
    if args.keep {
        play = play.keep();
    }
    play.run()
}

fn pictures(report: &Report, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    for (number, step) in (1..).zip(&report.steps) {
        if let Some(picture) = timeline::render(report, step) {
            let name: String = step.name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
            write(&folder.join(format!("{number:02}-{name}.svg")), &picture)?;
        }
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}
