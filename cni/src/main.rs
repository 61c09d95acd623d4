//! The program a container runtime calls: one command, one answer, gone.

use std::io::Write as _;
use std::process::ExitCode;

use cni::spec::Version;
use cni::spec::error::{CniError, Code};

fn main() -> ExitCode {
    let (answer, exit) = match std::env::var("CNI_COMMAND").as_deref() {
        Ok("VERSION") => {
            let supported: Vec<&str> = Version::ALL.iter().map(|version| version.as_str()).collect();
            let answer =
                serde_json::json!({"cniVersion": Version::NEWEST.as_str(), "supportedVersions": supported});
            (answer.to_string(), ExitCode::SUCCESS)
        }
        other => {
            let msg = format!("CNI_COMMAND is {other:?}: this build only answers VERSION");
            (CniError::new(Code::InvalidEnvironment, msg).to_json(Version::NEWEST), ExitCode::FAILURE)
        }
    };
    match writeln!(std::io::stdout(), "{answer}") {
        Ok(()) => exit,
        Err(error) => {
            eprintln!("writing the answer: {error}");
            ExitCode::FAILURE
        }
    }
}
