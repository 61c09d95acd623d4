//! The lab runner alone, without the daemon: what this crate's tests run.

use std::process::ExitCode;

use clap::Parser;
use lab::cli::{LabCommand, run};

/// Labs out of network namespaces, from containerlab files.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: LabCommand,
}

fn main() -> ExitCode {
    lab::maybe_run_helper();
    match run(Args::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
