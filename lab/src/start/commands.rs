//! The commands a file names, run while a lab comes up; what they print goes to the node's log.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::file::topology::Topology;
use crate::node::control::{self, Request};
use crate::node::launch::Program;
use crate::node::reaper::{Exit, Reaper};
use crate::start::state::StateDir;

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
    topology: &Topology,
) -> anyhow::Result<()> {
    let env = topology.nodes.get(node).map(|spec| spec.env.clone()).unwrap_or_default();
    logged(state, node, argv, |writer| {
        let null = File::open("/dev/null")?;
        let request = Request::Exec(Program { argv: argv.to_vec(), env, ..Program::default() });
        let fds = [null.as_fd(), writer.as_fd(), writer.as_fd()];
        Ok(control::call(&state.socket(node), &request, &fds, PATIENCE)?.exit)
    })
}

/// Runs `argv` among the machine's files, in the folder of the topology, for `node`; its network is
/// that of the lab's own host.
///
/// # Errors
/// When it fails, with the last line it printed.
pub(crate) fn on_host(
    state: &StateDir,
    node: &str,
    argv: &[String],
    topology: &Topology,
    reaper: &Reaper,
) -> anyhow::Result<()> {
    let [program, args @ ..] = argv else { bail!("no program is named") };
    logged(state, node, argv, |writer| {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).process_group(0);
        command.current_dir(topology.file.parent().unwrap_or(Path::new("/")));
        command.stdout(writer.try_clone()?).stderr(writer.try_clone()?);
        let (child, ended) = reaper.spawn(&mut command)?;
        drop(command);
        match ended.recv_timeout(PATIENCE) {
            Ok(exit) => Ok(Some(exit)),
            Err(_) => {
                crate::node::programs::kill_group(child.id());
                bail!("not done within {PATIENCE:?}; killed")
            }
        }
    })
}

/// Runs a command whose output goes to the log of `node`.
fn logged(
    state: &StateDir,
    node: &str,
    argv: &[String],
    run: impl FnOnce(&std::io::PipeWriter) -> anyhow::Result<Option<Exit>>,
) -> anyhow::Result<()> {
    // The log of a node that is not created yet begins here.
    let log = state.log(node);
    let mut log = File::options().append(true).create(true).open(&log).context("opening the node's log")?;
    writeln!(log, "[lab] exec: {}", argv.join(" "))?;
    let (mut reader, writer) = std::io::pipe()?;
    let (exit, output) = std::thread::scope(|scope| {
        let output = scope.spawn(move || {
            let mut output = Vec::new();
            reader.read_to_end(&mut output).map(|_| output)
        });
        let exit = run(&writer);
        drop(writer);
        (exit, output.join())
    });
    let output = output.map_err(|_| anyhow::anyhow!("reading its output panicked"))??;
    log.write_all(&output)?;
    judge(exit?, &output)
}

fn judge(exit: Option<Exit>, output: &[u8]) -> anyhow::Result<()> {
    match exit {
        Some(Exit::Code(0)) | None => Ok(()),
        Some(exit) => {
            let said = String::from_utf8_lossy(output);
            let code = exit.shell_code();
            match said.trim().lines().last() {
                Some(last) => bail!("exit code {code}: {last}"),
                None => bail!("exit code {code}"),
            }
        }
    }
}
