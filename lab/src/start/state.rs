//! What a running lab leaves in the file system: one folder, and nothing else.
//!
//! `/run/towpath-labs/<lab>` as root, under `$XDG_RUNTIME_DIR` otherwise: the topology, who the
//! holder is, and a socket and a log per node.

use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::file::topology::Topology;

/// Folder of one lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StateDir {
    path: PathBuf,
}

/// The process whose death ends the lab. A process id alone may be somebody else's by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) pid: i32,
    /// Clock ticks since boot, field 22 of `/proc/<pid>/stat`.
    pub(crate) start_time: u64,
}

/// What the helper processes need to know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) topology: Topology,
    /// Appears in each node as `/usr/local/bin/towpath`.
    pub(crate) towpath: PathBuf,
    /// The CNI plugin, where there is one: `/usr/local/bin/towpath-cni` of each node.
    #[serde(default)]
    pub(crate) towpath_cni: Option<PathBuf>,
    /// A folder of unpacked packages that nodes see as if installed.
    pub(crate) tools: Option<PathBuf>,
    /// The lab lives in a user namespace: only one user exists in it.
    pub(crate) rootless: bool,
}

/// Tries to remove a folder that others still fill: each of them adds a few files at most.
const REMOVALS: usize = 1000;

/// Folder that holds all labs of this user.
pub(crate) fn base() -> PathBuf {
    let uid = crate::rootless::caller();
    if uid.is_root() {
        return PathBuf::from("/run/towpath-labs");
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(run) => PathBuf::from(run).join("towpath-labs"),
        None => PathBuf::from(format!("/tmp/towpath-labs-{}", uid.as_raw())),
    }
}

impl StateDir {
    pub(crate) fn of(lab: &str) -> Self {
        Self { path: base().join(lab) }
    }

    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The folders of all labs, running or left behind.
    pub(crate) fn all() -> io::Result<Vec<Self>> {
        let entries = match std::fs::read_dir(base()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut all =
            entries.map(|entry| Ok(Self { path: entry?.path() })).collect::<io::Result<Vec<_>>>()?;
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn lab(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(crate) fn socket(&self, node: &str) -> PathBuf {
        self.path.join(format!("{node}.sock"))
    }

    pub(crate) fn log(&self, node: &str) -> PathBuf {
        self.path.join(format!("{node}.log"))
    }

    pub(crate) fn holder_log(&self) -> PathBuf {
        self.path.join("lab.log.txt")
    }

    pub(crate) fn root(&self, node: &str) -> PathBuf {
        self.path.join(format!("{node}.root"))
    }

    /// Where the holder answers for the host namespace.
    pub(crate) fn host_socket(&self) -> PathBuf {
        self.path.join("lab.host")
    }

    /// In the lab's mounts: the machine's network namespace of this name.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.outside"))
    }

    /// Leads to the network namespace of a node, by its process 1.
    pub(crate) fn netns(&self, node: &str) -> PathBuf {
        self.path.join(format!("{node}.netns"))
    }

    pub(crate) fn write_plan(&self, plan: &Plan) -> io::Result<()> {
        std::fs::write(self.path.join("plan.json"), serde_json::to_vec(plan)?)
    }

    pub(crate) fn plan(&self) -> io::Result<Plan> {
        Ok(serde_json::from_slice(&std::fs::read(self.path.join("plan.json"))?)?)
    }

    pub(crate) fn write_holder(&self, pid: i32) -> io::Result<()> {
        let holder = Holder { pid, start_time: start_time(pid)? };
        std::fs::write(self.path.join("holder.json"), serde_json::to_vec(&holder)?)
    }

    pub(crate) fn holder(&self) -> Option<Holder> {
        serde_json::from_slice(&std::fs::read(self.path.join("holder.json")).ok()?).ok()
    }

    /// The lab's holder, if it still runs.
    pub(crate) fn running(&self) -> Option<Holder> {
        self.holder().filter(|holder| start_time(holder.pid).is_ok_and(|start| start == holder.start_time))
    }

    /// Removes the folder; one that is gone already is no failure.
    pub(crate) fn remove(&self) -> io::Result<()> {
        // Nodes that are being started put files there meanwhile; once it is gone they cannot.
        let mut outcome = std::fs::remove_dir_all(&self.path);
        for _ in 0..REMOVALS {
            match &outcome {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    outcome = std::fs::remove_dir_all(&self.path);
                }
                _ => break,
            }
        }
        match outcome {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The folder of all labs goes with the last lab; another one still in it is no failure.
        let _ = std::fs::remove_dir(base());
        Ok(())
    }

    /// Kills the holder, and with its process namespace everything in the lab; returns when all of it is dead.
    pub(crate) fn kill(&self) -> io::Result<()> {
        let Some(holder) = self.holder() else { return Ok(()) };
        let Some(pid) = Pid::from_raw(holder.pid) else { return Ok(()) };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            pidfd => pidfd?,
        };
        // Compared after the open: from here on the descriptor cannot become another process. One
        // that was killed already is waited for: its lab may still be dying.
        if stat(holder.pid).ok().is_none_or(|stat| stat.start_time != holder.start_time) {
            return Ok(());
        }
        match pidfd_send_signal(&pidfd, Signal::KILL) {
            Err(rustix::io::Errno::SRCH) => {}
            sent => sent?,
        }
        // A process 1 counts as dead only once every process of its namespace is.
        let mut poll = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        let deadline = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
        match rustix::event::poll(&mut poll, Some(&deadline))? {
            0 => Err(io::Error::new(io::ErrorKind::TimedOut, "the lab's processes did not end in 10 s")),
            _ => Ok(()),
        }
    }
}

/// When `pid` started, in clock ticks since boot; one that has ended and waits for its parent is gone.
pub(crate) fn start_time(pid: i32) -> io::Result<u64> {
    match stat(pid)? {
        Stat { zombie: true, .. } => Err(io::Error::from(io::ErrorKind::NotFound)),
        Stat { start_time, .. } => Ok(start_time),
    }
}

struct Stat {
    zombie: bool,
    start_time: u64,
}

fn stat(pid: i32) -> io::Result<Stat> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name may hold spaces and parentheses; what follows the last one does not.
    let after = stat.rsplit_once(')').map(|(_, after)| after);
    let mut fields = after.map(str::split_whitespace).into_iter().flatten();
    let zombie = fields.next() == Some("Z");
    let start_time = fields.nth(18).and_then(|ticks| ticks.parse().ok()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat has no start time"))
    })?;
    Ok(Stat { zombie, start_time })
}
