//! Process 1 of a lab: brings its nodes up ([`crate::start::bring_up`]), and then stays.
//!
//! When it ends, however it ends, the kernel ends everything in the lab with it. Standard input is
//! a leash: if it closes before the word `detach`, the lab goes down. Standard output tells the
//! caller what happens, one JSON line each.

use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::path::Path;

use anyhow::{Context, bail};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use crate::rootless;
use crate::start::state::StateDir;
use crate::start::{bring_up, helper, host, outside};

/// Word on standard input after which the lab outlives its caller.
pub(crate) const DETACH: &str = "detach";

/// What the holder tells whoever started the lab.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LabEvent {
    Progress(String),
    Warning(String),
    /// This node has its namespaces, and its process 1 serves requests.
    Created(String),
    Ready,
    Failed(String),
}

/// Enters the lab's namespaces, starts the holder in them, writes down who it is, and ends.
pub(crate) fn outer(state: &StateDir) -> anyhow::Result<()> {
    let plan = state.plan().context("reading the lab's plan")?;
    let spaces = UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWIPC;
    if plan.rootless {
        rootless::become_root_of_own_users(spaces)?;
    } else {
        helper::unshare(spaces)
            .context("making the lab's namespaces: this root may not; run as real root")?;
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("keeping the lab's mounts out of the machine")?;
    outside::bring_in(state, &plan.topology)?;
    let log = File::create(state.holder_log())?;
    let child = helper::step(Path::new(helper::SELF), "holder", state, &[])
        .stderr(log)
        .spawn()
        .context("starting the holder")?;
    state.write_holder(i32::try_from(child.id())?).context("writing down the holder")
}

/// The holder itself.
pub(crate) fn run(state: &StateDir) -> anyhow::Result<()> {
    // Ctrl-C at the caller's terminal is the caller's business.
    rustix::process::setsid().context("leaving the caller's session")?;
    // Apart from `outer`, which still needs the machine's /proc to write down who the holder is.
    helper::unshare(UnshareFlags::NEWNS).context("making the lab's mount namespace")?;
    mount("proc", "/proc", "proc", MountFlags::empty(), None).context("mounting the lab's /proc")?;
    let leash = std::thread::spawn({
        let state = state.clone();
        move || hold_leash(&state)
    });
    match bring_up::run(state) {
        Ok(()) => tell(&LabEvent::Ready),
        Err(error) => {
            tell(&LabEvent::Failed(format!("{error:#}")));
            bail!("the lab did not come up: {error:#}");
        }
    }
    // Never returns: the leash either ends this process or waits for ever.
    leash.join().map_err(|_| anyhow::anyhow!("the leash broke"))
}

/// Ends the lab when the caller goes away without having said that the lab may stay.
fn hold_leash(state: &StateDir) {
    let mut word = String::new();
    let got = std::io::stdin().lock().take(64).read_line(&mut word);
    if got.is_ok() && word.trim() == DETACH {
        loop {
            std::thread::park();
        }
    }
    if let Err(error) = host::forget(state) {
        eprintln!("removing {}: {error}", state.path().display());
    }
    std::process::exit(0);
}

/// The caller may have gone: then the leash says so, not this.
pub(crate) fn tell(event: &LabEvent) {
    if let Ok(line) = serde_json::to_string(event) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}
