//! The program a container runtime calls: one command, one answer, gone.

use std::io::Write as _;
use std::process::ExitCode;

use cni::commands::{Answer, Invocation, run};

fn main() -> ExitCode {
    let invocation = Invocation { variable: |name: &str| std::env::var_os(name), stdin: std::io::stdin() };
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
