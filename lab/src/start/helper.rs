//! The processes of a lab that are this program again: each enters its namespaces and goes on.
//!
//! Namespaces can only be left or made by a process with one thread, and a process namespace only
//! starts with the next child; so each step is a fresh process, `<program> __towpath-lab <step> ...`:
//! `outer` -> `holder` (process 1 of the lab) -> `node` -> `init` (process 1 of a node).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use rustix::thread::UnshareFlags;

use crate::node::{init, launch, namespaces};
use crate::start::holder;
use crate::start::state::StateDir;

/// First argument of a helper process.
const MARK: &str = "__towpath-lab";

/// The step that is no process of the lab itself: it becomes a program of a node.
const PROGRAM: &str = "program";

/// Names the CNI plugin.
const CNI: &str = "TOWPATH_CNI";

static SERVES: AtomicBool = AtomicBool::new(false);
static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// Names the program that runs this process' labs and is `towpath` in their nodes; it must call
/// [`maybe_run_helper`]. Comes before `$TOWPATH_BIN`; the first call counts.
pub fn use_program(path: impl Into<PathBuf>) {
    CHOSEN.get_or_init(|| path.into());
}

/// Becomes a helper process of a lab, if that is what this process was started as; never returns then.
///
/// A program that starts labs calls this first thing in `main`, before any thread exists.
pub fn maybe_run_helper() {
    SERVES.store(true, Ordering::Relaxed);
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|first| first != MARK) {
        return;
    }
    let code = match run(args.collect()) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error:#}");
            1
        }
    };
    std::process::exit(code);
}

fn run(args: Vec<OsString>) -> anyhow::Result<()> {
    let mut args = args.into_iter();
    let step = args.next().unwrap_or_default();
    if step == PROGRAM {
        let before = args.next().context("what to do before is missing")?;
        return launch::become_program(&before.to_string_lossy(), args);
    }
    let state = StateDir::at(Path::new(&args.next().context("the state folder is missing")?));
    let mut text = || args.next().map(|arg| arg.to_string_lossy().into_owned());
    match step.to_str() {
        Some("outer") => holder::outer(&state),
        Some("holder") => holder::run(&state),
        Some("node") => {
            namespaces::prepare(&state, &text().context("the node is missing")?, text().as_deref())
        }
        Some("init") => init::run(&state, &text().context("the node is missing")?),
        _ => bail!("no such step: {}", step.display()),
    }
}

/// The command of one step, run by `program`.
pub(crate) fn step(program: &Path, step: &str, state: &StateDir, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg(MARK).arg(step).arg(state.path()).args(args);
    command
}

/// The command of the step that becomes `program`, once `before` is done; arguments may follow.
pub(crate) fn program_step(before: &str, program: &str) -> Command {
    let mut command = Command::new(SELF);
    command.args([MARK, PROGRAM, before, program]);
    command
}

/// This program as the kernel knows it, whatever happened to its file since.
pub(crate) const SELF: &str = "/proc/self/exe";

/// A program that calls [`maybe_run_helper`]: the chosen one, `$TOWPATH_BIN`, this one, or `towpath` beside a test's folder.
pub(crate) fn program() -> anyhow::Result<PathBuf> {
    if let Some(path) = CHOSEN.get() {
        return Ok(path.clone());
    }
    if let Some(path) = std::env::var_os("TOWPATH_BIN") {
        let path = std::path::absolute(PathBuf::from(path))?;
        if !path.is_file() {
            bail!(
                "TOWPATH_BIN names {}, which is no file; build towpath or correct the path",
                path.display()
            );
        }
        return Ok(path);
    }
    let own = std::env::current_exe().context("finding this program")?;
    if SERVES.load(Ordering::Relaxed) {
        return Ok(own);
    }
    // A test runs as target/<profile>/deps/<name>; the programs are one folder up.
    let built =
        own.ancestors().skip(1).take(2).map(|folder| folder.join("towpath")).find(|path| path.is_file());
    built.context("no towpath program found for the lab; build it, or name it in TOWPATH_BIN")
}

/// The CNI plugin of the nodes: `$TOWPATH_CNI`, else `towpath-cni` beside `towpath`, else none.
pub(crate) fn cni_plugin(towpath: &Path) -> anyhow::Result<Option<PathBuf>> {
    if let Some(path) = std::env::var_os(CNI) {
        let path = std::path::absolute(PathBuf::from(path))?;
        if !path.is_file() {
            bail!("{CNI} names {}, which is no file; build towpath-cni or correct the path", path.display());
        }
        return Ok(Some(path));
    }
    let beside = towpath.canonicalize()?.with_file_name("towpath-cni");
    Ok(beside.is_file().then_some(beside))
}

/// Leaves the namespaces named by `flags` for new ones.
pub(crate) fn unshare(flags: UnshareFlags) -> anyhow::Result<()> {
    #[expect(deprecated, reason = "the replacement is unsafe because of CLONE_FILES, which no caller passes")]
    rustix::thread::unshare(flags).map_err(Into::into)
}
