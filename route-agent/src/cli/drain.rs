//! `towpath drain`: no new pods start on this node, or they do again.

use std::process::ExitCode;

use clap::Args;
use route_agent::control::{Request, client};
use route_agent::pods::PodsStatus;

use super::{Connection, Output};

#[derive(Args)]
pub(crate) struct DrainArgs {
    /// Let pods start again.
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(args: &DrainArgs) -> anyhow::Result<ExitCode> {
    let status: PodsStatus = client::ask(&args.connection.socket, &Request::Drain { undo: args.undo })?;
    match args.connection.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&status)?),
        Output::Table => println!("{}", sentence(&status, args.undo)),
    }
    for problem in &status.problems {
        eprintln!("towpath: {problem}");
    }
    Ok(if status.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn sentence(status: &PodsStatus, undo: bool) -> String {
    match (undo, &status.conflist) {
        (false, _) => format!(
            "drained: no new pods start here; {} that run go on, and their routes stay announced",
            status.pods
        ),
        (true, Some(path)) => format!("pods may start: {} is in place", path.display()),
        (true, None) if status.blocks.is_empty() => "not drained; this node has no pod blocks".to_owned(),
        (true, None) => format!("not drained; {}", status.reason),
    }
}
