//! The main process of a node: started, watched, started again, and signalled on request.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, PipeWriter};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::control::Status;
use crate::init::{note, set_env};
use crate::programs::Groups;
use crate::reaper::Reaper;
use crate::topology::NodeSpec;
use crate::users::id_of;

/// Pause before a main process that ended is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct MainProcess {
    spec: NodeSpec,
    reaper: Arc<Reaper>,
    groups: Groups,
    log: File,
    /// Held open, so that a shell as main process waits for input and does not end.
    stdin: Stdin,
    status: Mutex<Status>,
    changed: Condvar,
}

struct Stdin {
    reader: io::PipeReader,
    _writer: PipeWriter,
}

impl MainProcess {
    /// Starts it and the thread that watches over it. A node without a command has none.
    pub(crate) fn start(
        spec: NodeSpec,
        reaper: Arc<Reaper>,
        groups: Groups,
        log: File,
    ) -> io::Result<Arc<Self>> {
        let (reader, writer) = io::pipe()?;
        let idle = spec.command.is_empty();
        let main = Arc::new(Self {
            spec,
            reaper,
            groups,
            log,
            stdin: Stdin { reader, _writer: writer },
            status: Mutex::new(Status { pid: None, starts: 0, last_exit: None, suspended: idle }),
            changed: Condvar::new(),
        });
        if !idle {
            let own = Arc::clone(&main);
            std::thread::spawn(move || own.watch());
        }
        Ok(main)
    }

    pub(crate) fn status(&self) -> Status {
        self.lock().clone()
    }

    /// Sends `signal`; a SIGKILL also keeps it from being started again.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        let named = Signal::from_named_raw(signal)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("no signal {signal}")))?;
        let pid = {
            let mut status = self.lock();
            if named == Signal::KILL {
                status.suspended = true;
            }
            status.pid
        };
        if let Some(pid) = pid {
            kill(pid, named)?;
        } else if named != Signal::KILL {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the main process is not running"));
        }
        if [Signal::KILL, Signal::STOP, Signal::CONT].contains(&named) {
            self.signal_the_others(named, pid);
        }
        Ok(())
    }

    /// Daemons that the main process started and that detached from it are part of it: everything
    /// in the node but this process and the programs run on request.
    fn signal_the_others(&self, signal: Signal, main: Option<u32>) {
        let apart = self.groups.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Until a pass finds nobody new: a process may fork while it is being looked for.
        let mut known = BTreeSet::from([1]);
        known.extend(main);
        loop {
            let found: Vec<u32> = processes()
                .filter(|(pid, group)| !known.contains(pid) && !apart.contains(group))
                .map(|(pid, _)| pid)
                .collect();
            if found.is_empty() {
                return;
            }
            for pid in found {
                known.insert(pid);
                let _ = kill(pid, signal); // gone since it was seen
            }
        }
    }

    /// Ends it and keeps it ended until [`MainProcess::resume`].
    pub(crate) fn stop(&self, grace: Duration) -> io::Result<()> {
        let mut status = self.lock();
        status.suspended = true;
        if let Some(pid) = status.pid {
            kill(pid, Signal::TERM)?;
            // Stopped by SIGSTOP, it could not hear that.
            kill(pid, Signal::CONT)?;
        }
        let (status, waited) = self
            .changed
            .wait_timeout_while(status, grace, |status| status.pid.is_some())
            .unwrap_or_else(PoisonError::into_inner);
        drop(status);
        if waited.timed_out() {
            note(&self.log, "did not end in time: killed");
        }
        self.signal(Signal::KILL.as_raw())
    }

    /// Lets it run again.
    pub(crate) fn resume(&self) {
        if self.spec.command.is_empty() {
            return;
        }
        self.lock().suspended = false;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) {
        loop {
            let status = self.lock();
            drop(
                self.changed
                    .wait_while(status, |status| status.suspended)
                    .unwrap_or_else(PoisonError::into_inner),
            );
            self.run_once();
            let status = self.lock();
            if !status.suspended {
                // A stop or a start on request ends the pause.
                let was = status.starts;
                drop(self.changed.wait_timeout_while(status, RESTART_PAUSE, |status| {
                    !status.suspended && status.starts == was
                }));
            }
        }
    }

    fn run_once(&self) {
        let started = self.command().and_then(|mut command| {
            let mut status = self.lock();
            if status.suspended {
                return Ok(None); // killed on request while it was being prepared
            }
            let (child, ended) = self.reaper.spawn(&mut command)?;
            status.pid = Some(child.id());
            status.starts += 1;
            Ok(Some(ended))
        });
        self.changed.notify_all();
        match started {
            Ok(None) => {}
            Ok(Some(ended)) => {
                note(&self.log, &format!("started: {}", self.spec.command.join(" ")));
                let exit = ended.recv().ok();
                let mut status = self.lock();
                status.pid = None;
                status.last_exit = exit;
                note(&self.log, &format!("ended: {exit:?}"));
                drop(status);
                self.changed.notify_all();
            }
            Err(error) => {
                note(&self.log, &format!("cannot start `{}`: {error}", self.spec.command.join(" ")))
            }
        }
    }

    fn command(&self) -> io::Result<Command> {
        let [program, args @ ..] = self.spec.command.as_slice() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no command"));
        };
        let mut command = Command::new(program);
        set_env(&mut command, &self.spec.env);
        command.args(args).process_group(0);
        command
            .stdin(self.stdin.reader.try_clone()?)
            .stdout(self.log.try_clone()?)
            .stderr(self.log.try_clone()?);
        if let Some(user) = &self.spec.user {
            let (uid, gid) = ids(user)?;
            command.uid(uid).gid(gid);
        }
        Ok(command)
    }
}

/// `user[:group]`, by name or number, as the node's own files know them.
fn ids(user: &str) -> io::Result<(u32, u32)> {
    let (user, group) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
    let passwd = std::fs::read_to_string("/etc/passwd")?;
    let groups = std::fs::read_to_string("/etc/group")?;
    let unknown = |what: &str| {
        io::Error::new(io::ErrorKind::NotFound, format!("user \"{what}\" is not in /etc/passwd"))
    };
    let uid = user.parse().ok().or_else(|| id_of(&passwd, user, 2)).ok_or_else(|| unknown(user))?;
    let gid = match group {
        Some(group) => {
            group.parse().ok().or_else(|| id_of(&groups, group, 2)).ok_or_else(|| unknown(group))?
        }
        None => id_of(&passwd, user, 3).unwrap_or(0),
    };
    Ok((uid, gid))
}

fn kill(pid: u32, signal: Signal) -> io::Result<()> {
    match i32::try_from(pid).ok().and_then(Pid::from_raw) {
        Some(pid) => match kill_process(pid, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            outcome => Ok(outcome?),
        },
        None => Ok(()),
    }
}

/// Every process of this namespace that still runs, with its group.
fn processes() -> impl Iterator<Item = (u32, u32)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let group = fields.nth(1)?.parse().ok()?;
        (state != "Z").then_some((pid, group))
    })
}
