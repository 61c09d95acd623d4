//! The program a container runtime calls: one command, one answer, gone.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use cni::commands::{Answer, Invocation, run};

fn main() -> ExitCode {
    let called_as = std::env::args_os().next().unwrap_or_default();
    let invocation = Invocation {
        variable: |name: &str| std::env::var_os(name),
        stdin: std::io::stdin(),
        is_loopback: Path::new(&called_as).file_name().is_some_and(|name| name == "loopback"),
    };
    let (line, status) = match run(invocation) {
        Answer::Done => return ExitCode::SUCCESS,
        Answer::Result(line) => (line, ExitCode::SUCCESS),
        Answer::Refused(line) => (line, ExitCode::FAILURE),
    };
    // A runtime that went away closed the pipe: what was done stays until its DEL or GC.
    match std::io::stdout().write_all(format!("{line}\n").as_bytes()) {
        Ok(()) => status,
        Err(error) => {
            eprintln!("towpath-cni: writing the answer: {error}");
            ExitCode::FAILURE
        }
    }
}
