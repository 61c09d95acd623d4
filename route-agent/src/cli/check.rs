//! `towpath check`: reads configuration as the daemon would, and says everything that is wrong with it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// File or folder of YAML documents; may be given several times.
    #[arg(short, long = "file", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// Check as this node; default: the host name.
    #[arg(long)]
    node: Option<String>,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let node = super::agent::node_name(args.node.as_deref())?;
    match api::load(&args.files, &node) {
        Ok(desired) => {
            for doubt in desired.doubts() {
                println!("note: {doubt}");
            }
            println!(
                "ok: node {node}, AS {}, router id {}, {} peer{}, {} advertisement{}",
                desired.node.asn,
                desired.node.router_id,
                desired.peers.len(),
                plural(desired.peers.len()),
                desired.advertisements.len(),
                plural(desired.advertisements.len()),
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            for problem in &problems {
                println!("{problem}");
            }
            println!("{} problem{}", problems.len(), plural(problems.len()));
            Ok(ExitCode::FAILURE)
        }
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
