//! Programs that run in a node on request, besides its main process.
//!
//! Each is a process group of its own, which dies when the caller hangs up.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::node::control::Response;
use crate::node::launch::{NOT_RUNNABLE, Program};
use crate::node::reaper::{Exit, Reaper};

/// Process groups of programs that do not belong to the main process.
pub(crate) type Groups = Arc<Mutex<BTreeSet<u32>>>;

pub(crate) struct Programs {
    reaper: Arc<Reaper>,
    groups: Groups,
}

impl Programs {
    pub(crate) fn new(reaper: Arc<Reaper>) -> Self {
        Self { reaper, groups: Groups::default() }
    }

    pub(crate) fn groups(&self) -> Groups {
        Arc::clone(&self.groups)
    }

    /// Runs `program` until it ends, or until the caller closes `stream`.
    pub(crate) fn run(&self, program: &Program, fds: Vec<OwnedFd>, stream: &UnixStream) -> Response {
        let Ok([stdin, stdout, stderr]) = <[OwnedFd; 3]>::try_from(fds) else {
            return Response::of(Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "three descriptors are needed",
            )));
        };
        let complaint = stderr.try_clone();
        let spawned = program.command().and_then(|mut command| {
            command.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
            // With the command our copies of the caller's pipes close, or it would never see their end.
            self.reaper.spawn(&mut command)
        });
        match spawned {
            Ok((child, ended)) => {
                self.lock().insert(child.id());
                let watched = hang_up_kills(stream, child.id());
                let exit = ended.recv();
                // Ends the watching thread, which reads from this connection.
                let _ = stream.shutdown(std::net::Shutdown::Read);
                if let Ok(watched) = watched {
                    let _ = watched.join(); // it returns nothing
                }
                self.lock().remove(&child.id());
                Response { exit: exit.ok(), ..Response::default() }
            }
            Err(error) => {
                if let Ok(complaint) = complaint {
                    let name = program.argv.first().map_or("", String::as_str);
                    crate::node::init::note(&complaint.into(), &format!("{name}: {error}"));
                }
                Response { exit: Some(Exit::Code(NOT_RUNNABLE)), ..Response::default() }
            }
        }
    }

    /// Runs `program` without input or output; `false` when it fails, or has not ended in time.
    pub(crate) fn succeeds(&self, program: &Program, timeout: Duration) -> io::Result<bool> {
        let mut command = program.command()?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let (child, ended) = self.reaper.spawn(&mut command)?;
        self.lock().insert(child.id());
        let exit = ended.recv_timeout(timeout);
        if exit.is_err() {
            kill_group(child.id());
            let _ = ended.recv(); // it is dead now, or the reaper is
        }
        self.lock().remove(&child.id());
        Ok(exit == Ok(Exit::Code(0)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<u32>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches the connection: its end, while the program runs, is the end of the program's group.
fn hang_up_kills(stream: &UnixStream, group: u32) -> io::Result<std::thread::JoinHandle<()>> {
    let mut stream = stream.try_clone()?;
    Ok(std::thread::spawn(move || {
        let mut byte = [0];
        // Data is not expected; whatever ends the wait, the group is not needed any more. After the
        // program's own end this finds at most what it left running in its group.
        let _ = stream.read(&mut byte);
        kill_group(group);
    }))
}

pub(crate) fn kill_group(group: u32) {
    if let Some(group) = i32::try_from(group).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL); // gone already
    }
}
