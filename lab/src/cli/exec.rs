//! `towpath lab exec`: a program in a node, on this program's descriptors or on a terminal of the
//! node's own, in the words of `docker exec`.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::find_lab;
use crate::{ExecOptions, Exit, Node};

/// How soon a change of this terminal's size reaches the program.
const RESIZED_WITHIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// A command to run in a node.
#[derive(Debug, Args)]
pub struct Exec {
    /// Lab, where more than one runs.
    #[arg(short, long)]
    lab: Option<String>,
    /// A variable of its environment; NAME alone: as it is here.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Run it as USER or USER:GROUP, by name or number; root otherwise.
    #[arg(short, long)]
    user: Option<String>,
    /// Its working folder; / otherwise.
    #[arg(short, long, value_name = "FOLDER")]
    workdir: Option<PathBuf>,
    /// Hand this program's input on, and give no terminal unless -t says so.
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal of its own; the default where input and output are one.
    #[arg(short, long)]
    tty: bool,
    /// Node name, or NODE/NETNS: a network namespace in it, such as a pod.
    node: String,
    /// Command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(super) fn exec(exec: Exec) -> anyhow::Result<ExitCode> {
    let node = find_lab(exec.lab.as_deref())?.locate(&exec.node)?;
    let words: Vec<&str> = exec.command.iter().map(String::as_str).collect();
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let options = ExecOptions {
        env: exec.env.iter().map(|given| variable(given)).collect::<anyhow::Result<_>>()?,
        user: exec.user,
        folder: exec.workdir,
        terminal: false,
    };
    if exec.tty && !stdin.is_terminal() {
        bail!("-t needs a terminal as standard input; leave it out");
    }
    let exit = if exec.tty || (!exec.interactive && stdin.is_terminal() && stdout.is_terminal()) {
        on_terminal(&node, &words, &ExecOptions { terminal: true, ..options })?
    } else {
        node.exec_with(&words, [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()], &options)?
    };
    Ok(ExitCode::from(u8::try_from(exit.shell_code()).unwrap_or(u8::MAX)))
}

fn variable(given: &str) -> anyhow::Result<(String, String)> {
    match given.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match std::env::var(given) {
            Ok(value) => Ok((given.to_owned(), value)),
            Err(_) => bail!("{given} is not set here; write --env {given}=VALUE"),
        },
    }
}

/// Runs a program on a new terminal of the node, joined to this one until it ends.
fn on_terminal(node: &Node, words: &[&str], options: &ExecOptions) -> anyhow::Result<Exit> {
    let (ours, programs) = node.terminal()?;
    let size = tcgetwinsize(io::stdin()).context("asking for the terminal's size")?;
    tcsetwinsize(&ours, size)?;
    let (ended, ending) = io::pipe()?;
    let raw = Raw::enter()?;
    let outcome = std::thread::scope(|scope| {
        let program = scope.spawn(move || {
            let exit = node.exec_with(words, [programs.as_fd(); 3], options);
            drop((programs, ending));
            exit
        });
        let joined = join(ours, &ended);
        let exit = program.join().map_err(|_| anyhow::anyhow!("running it panicked"))?;
        joined.context("joining the terminals")?;
        anyhow::Ok(exit?)
    });
    drop(raw);
    outcome
}

/// Carries what is typed to the program and what it prints to us, until `ended` is closed and all is printed.
fn join(terminal: OwnedFd, ended: &io::PipeReader) -> io::Result<()> {
    let mut terminal = File::from(terminal);
    // Unbuffered: what was read but not handed on would not be polled for.
    let mut stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut stdout = io::stdout().lock();
    let mut size = tcgetwinsize(&stdin)?;
    let mut typing = true;
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let wanted = if typing { PollFlags::IN } else { PollFlags::empty() };
        let mut polled = [
            PollFd::new(&terminal, PollFlags::IN),
            PollFd::new(ended, PollFlags::IN),
            PollFd::new(&stdin, wanted),
        ];
        match poll(&mut polled, Some(&RESIZED_WITHIN)) {
            Err(rustix::io::Errno::INTR) => continue,
            outcome => outcome?,
        };
        let [output, end, input] = polled.map(|polled| polled.revents());
        if output.contains(PollFlags::IN) {
            let got = terminal.read(&mut chunk)?;
            stdout.write_all(chunk.get(..got).unwrap_or_default())?;
            stdout.flush()?;
        } else if !end.is_empty() || output.contains(PollFlags::HUP) && !typing {
            return Ok(());
        }
        if typing && !input.is_empty() {
            let got = stdin.read(&mut chunk)?;
            typing = got > 0;
            terminal.write_all(chunk.get(..got).unwrap_or_default())?;
        }
        let now = tcgetwinsize(&stdin)?;
        if now != size {
            tcsetwinsize(&terminal, now)?;
            size = now;
        }
    }
}

/// This terminal hands every key on as long as this lives.
struct Raw {
    before: Termios,
}

impl Raw {
    fn enter() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin()).context("asking for the terminal's modes")?;
        let mut modes = before.clone();
        modes.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &modes).context("setting the terminal's modes")?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(io::stdin(), OptionalActions::Now, &self.before) {
            eprintln!("the terminal's modes could not be set back: {error}; run `reset`");
        }
    }
}
