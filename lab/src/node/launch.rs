//! How a program is started in a node: as whom, where, and on which terminal.
//!
//! A program as root without a terminal is started directly. What a child must do between fork and
//! exec for the others (a session, a controlling terminal, a namespace, the groups of a user) needs no unsafe
//! code when it is done by a process of its own: this program again, which then becomes the other.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use rustix::process::{Gid, Uid, ioctl_tiocsctty, setsid};
use rustix::thread::{
    LinkNameSpaceType, move_into_link_name_space, set_thread_gid, set_thread_groups, set_thread_uid,
};
use serde::{Deserialize, Serialize};

use crate::node::users::{Account, account};
use crate::start::{helper, netns_names};

/// Exit code when a program is missing or cannot be run; containerlab's, where a shell has two.
pub(crate) const NOT_RUNNABLE: i32 = 126;

/// A program to run in a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) argv: Vec<String>,
    /// Its whole environment.
    pub(crate) env: BTreeMap<String, String>,
    /// `user[:group]` by name or number; root when absent.
    pub(crate) user: Option<String>,
    /// Working folder; `/` when absent.
    pub(crate) folder: Option<PathBuf>,
    /// Standard input is a terminal, and becomes the controlling one.
    pub(crate) terminal: bool,
    /// A named network namespace of the node; its own when absent.
    #[serde(default)]
    pub(crate) netns: Option<String>,
}

/// What this program does before it becomes another one.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    terminal: bool,
    account: Option<Account>,
    netns: Option<String>,
}

impl Program {
    /// The command, without its descriptors.
    ///
    /// # Errors
    /// When the user is unknown, or the program is missing where that would not show at the start.
    pub(crate) fn command(&self) -> io::Result<Command> {
        let [program, args @ ..] = self.argv.as_slice() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program is named"));
        };
        let mut env = self.env.clone();
        let mut command = if self.user.is_none() && !self.terminal && self.netns.is_none() {
            let mut command = Command::new(program);
            command.process_group(0);
            command
        } else {
            find(program, self.env.get("PATH").map_or("", String::as_str))?;
            let account = self.user.as_deref().map(account).transpose()?;
            let home = account.as_ref().map(|account| account.home.clone());
            let netns = self.netns.clone();
            let before = serde_json::to_string(&Before { terminal: self.terminal, account, netns })?;
            let mut command = helper::program_step(&before, program);
            // A new session is a group of its own, and no group leader can begin one.
            if !self.terminal {
                command.process_group(0);
            }
            if let (Some(home), Some("/root")) = (home, env.get("HOME").map(String::as_str)) {
                env.insert("HOME".to_owned(), home);
            }
            command
        };
        command.args(args).env_clear().envs(env);
        command.current_dir(self.folder.as_deref().unwrap_or(Path::new("/")));
        Ok(command)
    }
}

/// The file that `program` names, as a shell would look for it.
fn find(program: &str, path: &str) -> io::Result<()> {
    let runnable = |file: &Path| {
        file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let found = if program.contains('/') {
        runnable(Path::new(program))
    } else {
        path.split(':').any(|folder| runnable(&Path::new(folder).join(program)))
    };
    if found { Ok(()) } else { Err(io::Error::new(io::ErrorKind::NotFound, "there is no such program")) }
}

/// The step `program`: does what [`Before`] says, and becomes the program of the further arguments.
pub(crate) fn become_program(
    before: &str,
    mut argv: impl Iterator<Item = std::ffi::OsString>,
) -> anyhow::Result<()> {
    let before: Before = serde_json::from_str(before).context("reading what to do before")?;
    if before.terminal {
        setsid().context("beginning a session")?;
        ioctl_tiocsctty(std::io::stdin()).context("taking the terminal")?;
    }
    // While it is root; `/sys` goes on to show the node's own network.
    if let Some(name) = before.netns {
        let file = File::open(Path::new(netns_names::FOLDER).join(&name))
            .with_context(|| format!("opening the network namespace {name}"))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("entering the network namespace {name}"))?;
    }
    if let Some(account) = before.account {
        let groups: Vec<Gid> = account.groups.iter().copied().map(Gid::from_raw).collect();
        // This process has one thread: what is true of the thread is true of the process.
        set_thread_groups(&groups).context("taking the user's groups")?;
        set_thread_gid(Gid::from_raw(account.gid)).context("taking the user's group")?;
        set_thread_uid(Uid::from_raw(account.uid)).context("becoming the user")?;
    }
    let program = argv.next().context("the program is missing")?;
    let error = Command::new(&program).args(argv).exec();
    eprintln!("[lab] {}: {error}", program.display());
    std::process::exit(NOT_RUNNABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_as_a_shell_does() {
        assert!(find("sh", "/nowhere:/bin:/usr/bin").is_ok());
        assert!(find("/bin/sh", "").is_ok());
        assert!(find("sh", "/nowhere").is_err());
        assert!(find("/etc/passwd", "").is_err(), "not executable");
        assert!(find("/bin", "").is_err(), "a folder");
    }
}
