//! `towpath health`: what the probes of a container ask; exit 0 or 1, and one line that says why.

use std::process::ExitCode;

use clap::Args;
use route_agent::control::{Request, client};
use route_agent::status::Health;

use super::{Connection, Output};

#[derive(Args)]
#[group(multiple = false)]
pub(crate) struct Probe {
    /// The daemon answers.
    #[arg(long)]
    live: bool,
    /// The data plane can be used; the default. Never about peers once pods could start.
    #[arg(long)]
    ready: bool,
    /// There is a configuration, or the API server is waited for while the kernel keeps its routes.
    #[arg(long)]
    started: bool,
}

#[derive(Args)]
pub(crate) struct HealthArgs {
    #[command(flatten)]
    probe: Probe,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(args: &HealthArgs) -> anyhow::Result<ExitCode> {
    let health: Health = client::ask(&args.connection.socket, &Request::Health)?;
    let well = match &args.probe {
        Probe { live: true, .. } => true,
        Probe { started: true, .. } => health.started,
        _ => health.ready,
    };
    match args.connection.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&health)?),
        Output::Table if well => println!("ok"),
        Output::Table => println!("not yet: {}", health.reason),
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
