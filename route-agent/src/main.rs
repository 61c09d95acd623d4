//! `towpath`: the node daemon and the operator's command in one file.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A lab's nodes are this program again; they change namespaces, which works only before any thread starts.
    lab::maybe_run_helper();
    route_agent::cli::run()
}
