//! The program a container runtime calls: one command, one answer, gone.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use cni::commands::{Answer, Invocation, run};
use cni::spec::{CniError, Code, Version};

fn main() -> ExitCode {
    // A bug is told like every other failure: the runtime then shows it, and calls DEL.
    std::panic::set_hook(Box::new(|bug| {
        let error = CniError::new(Code::Bug, format!("a bug of towpath-cni, please report it: {bug}"));
        // There is nobody left to tell when standard output is gone.
        let _ = writeln!(std::io::stdout(), "{}", error.to_json(Version::NEWEST));
    }));
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
