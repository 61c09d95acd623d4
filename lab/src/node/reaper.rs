//! Reaps every child of a process 1, and tells the one who spawned a child how it ended.
//!
//! A process 1 inherits orphans, so it must wait for any child; the standard library waits for its
//! own. Both agree through one lock: no child is reaped while another is being spawned.

use std::collections::HashMap;
use std::io;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::process::{WaitId, WaitIdOptions, WaitOptions};
use serde::{Deserialize, Serialize};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// As a shell would say it: the code, or 128 and the signal.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }

    /// In words.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Code(code) => format!("exit code {code}"),
            Self::Signal(signal) => format!("killed by signal {signal}"),
        }
    }
}

#[derive(Default)]
pub(crate) struct Reaper {
    waiting: Mutex<HashMap<u32, Sender<Exit>>>,
    spawned: Condvar,
}

impl Reaper {
    /// Starts the reaping thread, which lives as long as the process.
    pub(crate) fn start() -> Arc<Self> {
        let reaper = Arc::new(Self::default());
        let own = Arc::clone(&reaper);
        std::thread::spawn(move || own.run());
        reaper
    }

    /// Spawns `command`; the receiver gets one message when the process has ended.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<(std::process::Child, Receiver<Exit>)> {
        let mut waiting = self.lock();
        let child = command.spawn()?;
        let (sender, receiver) = channel();
        waiting.insert(child.id(), sender);
        self.spawned.notify_all();
        Ok((child, receiver))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Sender<Exit>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            // Look without reaping, then take the lock: what a spawn in progress must reap itself
            // (a program that does not exist) is gone by then.
            let any = rustix::process::waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            let mut waiting = self.lock();
            if any.is_err() {
                // No child at all, or a signal: the next spawn is what changes that.
                if waiting.is_empty() {
                    drop(self.spawned.wait(waiting).unwrap_or_else(PoisonError::into_inner));
                }
                continue;
            }
            while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                let exit = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, Some(signal)) => Exit::Signal(signal),
                    (None, None) => continue,
                };
                if let Some(sender) = waiting.remove(&pid.as_raw_nonzero().get().unsigned_abs()) {
                    // Nobody listens any more: nobody needs to know.
                    let _ = sender.send(exit);
                }
            }
        }
    }
}
