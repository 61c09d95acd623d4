//! The main process of a node: started, watched, started again, and signalled on request.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::file::topology::NodeSpec;
use crate::node::control::Status;
use crate::node::health::Health;
use crate::node::init::note;
use crate::node::launch::{NOT_RUNNABLE, Program};
use crate::node::programs::Groups;
use crate::node::reaper::{Exit, Reaper};
use crate::node::terminal::Terminal;

/// Pause before a main process that ended is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct MainProcess {
    spec: NodeSpec,
    reaper: Arc<Reaper>,
    groups: Groups,
    log: File,
    terminal: Terminal,
    status: Mutex<Status>,
    changed: Condvar,
}

impl MainProcess {
    /// Starts it and the thread that watches over it. A node without a command has none.
    ///
    /// # Errors
    /// When it cannot be started at all: no such program, no such user.
    pub(crate) fn start(
        spec: NodeSpec,
        reaper: Arc<Reaper>,
        groups: Groups,
        log: File,
    ) -> io::Result<Arc<Self>> {
        let status = Status {
            pid: None,
            starts: 0,
            last_exit: None,
            suspended: spec.command.is_empty(),
            finished: false,
            health: spec.healthcheck.is_some().then_some(Health::Starting),
        };
        let terminal = Terminal::open(log.try_clone()?)?;
        let (status, changed) = (Mutex::new(status), Condvar::new());
        let main = Arc::new(Self { spec, reaper, groups, log, terminal, status, changed });
        if !main.spec.command.is_empty() {
            let running = main.spawn()?;
            let own = Arc::clone(&main);
            std::thread::spawn(move || own.watch(running));
        }
        Ok(main)
    }

    pub(crate) fn spec(&self) -> &NodeSpec {
        &self.spec
    }

    pub(crate) fn status(&self) -> Status {
        self.lock().clone()
    }

    /// Waits until `true_of` its status.
    pub(crate) fn wait_until(&self, mut true_of: impl FnMut(&Status) -> bool) -> Status {
        self.changed
            .wait_while(self.lock(), |status| !true_of(status))
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for `time`; `false` as soon as it is another start than that of `status`, or it has ended.
    pub(crate) fn lasts(&self, status: &Status, time: Duration) -> bool {
        let same = |now: &mut Status| (now.pid, now.starts) == (status.pid, status.starts);
        let (mut now, _) =
            self.changed.wait_timeout_while(self.lock(), time, same).unwrap_or_else(PoisonError::into_inner);
        same(&mut now)
    }

    /// What its health check has found, while it was as `seen`.
    pub(crate) fn found(&self, health: Health, seen: &Status) {
        let mut status = self.lock();
        if (status.pid, status.starts) == (seen.pid, seen.starts) && status.health != Some(health) {
            note(&self.log, &format!("health: {health:?}"));
            status.health = Some(health);
            drop(status);
            self.changed.notify_all();
        }
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
        let mut status = self.lock();
        (status.suspended, status.finished) = (false, false);
        drop(status);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, mut running: Option<Receiver<Exit>>) {
        let mut restarts = 0;
        loop {
            if let Some(ended) = running.take() {
                let exit = ended.recv().ok();
                note(&self.log, &format!("ended: {}", exit.map_or("nobody saw how".to_owned(), Exit::text)));
                self.ended(exit);
            }
            if self.until_start(restarts) {
                restarts = 0;
            } else {
                restarts += 1;
            }
            running = match self.spawn() {
                Ok(running) => running,
                Err(error) => {
                    note(&self.log, &format!("cannot start `{}`: {error}", self.spec.command.join(" ")));
                    self.ended(Some(Exit::Code(NOT_RUNNABLE)));
                    None
                }
            };
        }
    }

    fn ended(&self, exit: Option<Exit>) {
        let mut status = self.lock();
        status.pid = None;
        status.last_exit = exit;
        status.health = self.spec.healthcheck.is_some().then_some(Health::Starting);
        drop(status);
        self.changed.notify_all();
    }

    /// Waits until it may run again; `true` when that was on request.
    fn until_start(&self, restarts: u32) -> bool {
        let mut status = self.lock();
        if !status.suspended {
            if self.spec.restart.again(status.last_exit, restarts) {
                let pause = |status: &mut Status| !status.suspended;
                let (after, _) = self
                    .changed
                    .wait_timeout_while(status, RESTART_PAUSE, pause)
                    .unwrap_or_else(PoisonError::into_inner);
                status = after;
            } else {
                status.finished = true;
                self.changed.notify_all();
            }
        }
        let on_request = status.suspended || status.finished;
        drop(
            self.changed
                .wait_while(status, |status| status.suspended || status.finished)
                .unwrap_or_else(PoisonError::into_inner),
        );
        on_request
    }

    /// `None`: it was killed on request while it was being prepared.
    fn spawn(&self) -> io::Result<Option<Receiver<Exit>>> {
        let program = Program {
            argv: self.spec.command.clone(),
            env: self.spec.env.clone(),
            user: self.spec.user.clone(),
            folder: None,
            terminal: true,
            netns: None,
        };
        let mut command = program.command()?;
        command
            .stdin(self.terminal.descriptor()?)
            .stdout(self.terminal.descriptor()?)
            .stderr(self.terminal.descriptor()?);
        let mut status = self.lock();
        if status.suspended {
            return Ok(None);
        }
        note(&self.log, &format!("starting: {}", self.spec.command.join(" ")));
        let (child, ended) = self.reaper.spawn(&mut command)?;
        status.pid = Some(child.id());
        status.starts += 1;
        drop(status);
        self.changed.notify_all();
        Ok(Some(ended))
    }
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
