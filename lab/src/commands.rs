//! The commands a file names, run while a lab comes up; what they print goes to the node's log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::bail;

use crate::control::{self, Request};
use crate::reaper::Exit;
use crate::state::StateDir;

/// Longest run of one command; scripts there poll for what others do.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs `argv` as root in `node`.
///
/// # Errors
/// When it fails, with the last line it printed.
pub(crate) fn in_node(
    state: &StateDir,
    node: &str,
    argv: &[String],
    env: &BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let mut log = File::options().append(true).open(state.log(node))?;
    writeln!(log, "[lab] exec: {}", argv.join(" "))?;
    let (mut reader, writer) = std::io::pipe()?;
    let null = File::open("/dev/null")?;
    let request = Request::Exec { argv: argv.to_vec(), env: env.clone() };
    let (answer, output) = std::thread::scope(|scope| {
        let output = scope.spawn(move || {
            let mut output = Vec::new();
            reader.read_to_end(&mut output).map(|_| output)
        });
        let fds = [null.as_fd(), writer.as_fd(), writer.as_fd()];
        let answer = control::call(&state.socket(node), &request, &fds, PATIENCE);
        drop(writer);
        (answer, output.join())
    });
    let output = output.map_err(|_| anyhow::anyhow!("reading its output panicked"))??;
    log.write_all(&output)?;
    judge(answer?.exit, &output)
}

fn judge(exit: Option<Exit>, output: &[u8]) -> anyhow::Result<()> {
    match exit {
        Some(Exit::Code(0)) | None => Ok(()),
        Some(exit) => {
            let said = String::from_utf8_lossy(output);
            bail!("exit code {}: {}", exit.shell_code(), said.trim().lines().last().unwrap_or_default())
        }
    }
}
