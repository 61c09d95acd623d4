//! Programs that run in a node on request, besides its main process.
//!
//! Each is a process group of its own, which dies when the caller hangs up.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::control::Response;
use crate::init::set_env;
use crate::reaper::{Exit, Reaper};

/// Exit code when a program is missing or cannot be run; containerlab's, where a shell has two.
const NOT_RUNNABLE: i32 = 126;

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

    /// Runs `argv` until it ends, or until the caller closes `stream`.
    pub(crate) fn run(
        &self,
        argv: &[String],
        env: &BTreeMap<String, String>,
        fds: Vec<OwnedFd>,
        stream: &UnixStream,
    ) -> Response {
        let [program, args @ ..] = argv else {
            return Response::of(Err(io::Error::new(io::ErrorKind::InvalidInput, "no program is named")));
        };
        let Ok([stdin, stdout, stderr]) = <[OwnedFd; 3]>::try_from(fds) else {
            return Response::of(Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "three descriptors are needed",
            )));
        };
        let mut command = Command::new(program);
        set_env(&mut command, env);
        let complaint = stderr.try_clone();
        command.args(args).process_group(0);
        command.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
        let spawned = self.reaper.spawn(&mut command);
        // Our copies of the caller's pipes close here, or the caller would never see their end.
        drop(command);
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
                    crate::init::note(&complaint.into(), &format!("{program}: {error}"));
                }
                Response { exit: Some(Exit::Code(NOT_RUNNABLE)), ..Response::default() }
            }
        }
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
        if let Some(group) = i32::try_from(group).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL); // gone already
        }
    }))
}
