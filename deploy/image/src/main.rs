//! `towpath` of the container image: the same command line, linked statically (`make image`).
//!
//! A package of its own so that only this file is compiled with the flags of a static program: the dependencies are
//! those of the ordinary release build. Host names are
//! resolved as elsewhere, by `/etc/hosts` and the name servers of `/etc/resolv.conf`; nothing is loaded at run time.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A lab's nodes are this program again; they change namespaces, which works only before any thread starts.
    lab::maybe_run_helper();
    route_agent::cli::run()
}
