//! A plugin stopped at each of its system calls, to be killed at one of them: ptrace(2).
//!
//! A process that is killed when it enters a system call does not execute it, so killing at every entry is killing
//! at every state that the kernel and the files can be left in by an orderly death. The stops belong to the thread
//! that traces: one thread traces one process at a time, any number of threads do.

use std::io::Read as _;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::call::Call;

/// How a traced run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Killed when it was about to make this system call (number and arguments, as in /proc/PID/syscall).
    Killed(String),
    /// It made fewer system calls than asked for and ended by itself.
    Ended {
        /// Exit status.
        status: i32,
        /// What it printed.
        stdout: String,
    },
}

/// Stops itself, so that it can be seized before the plugin's first system call.
const PRELUDE: &str = "kill -STOP $$; exec \"$0\"";

/// Runs `call` and kills it with SIGKILL at the entry of its system call number `stop`, counted from 0 and from the
/// first one after the plugin was executed.
///
/// # Errors
/// When the plugin starts threads or programs (this tracer follows neither), and when it cannot be traced.
pub fn kill_at(call: &Call, stop: usize) -> anyhow::Result<Fate> {
    let mut prelude = Command::new("/bin/sh");
    prelude.args(["-c", PRELUDE]).arg(&call.plugin);
    let mut child = call.start(prelude)?;
    let pid = Pid::from_raw(child.id().try_into().context("a process id")?);
    let mut tracee = Tracee { pid, started: None, ended: false };
    tracee.seize()?;
    let mut fate = tracee.run_to(stop)?;
    if let Fate::Ended { stdout, .. } = &mut fate {
        child.stdout.take().context("no standard output of a plugin")?.read_to_string(stdout)?;
    }
    Ok(fate)
}

/// A traced process, killed and reaped when dropped.
struct Tracee {
    pid: Pid,
    /// A thread or process it started, which the kernel traces as well.
    started: Option<Pid>,
    ended: bool,
}

impl Tracee {
    /// Takes hold of the stopped prelude and lets it run until it has become the plugin.
    fn seize(&mut self) -> anyhow::Result<()> {
        let stopped = self.wait(WaitPidFlag::WUNTRACED)?;
        ensure!(matches!(stopped, WaitStatus::Stopped(_, Signal::SIGSTOP)), "not stopped: {stopped:?}");
        let options = Options::PTRACE_O_EXITKILL
            | Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK;
        ptrace::seize(self.pid, options).context("seizing a plugin")?;
        kill(self.pid, Signal::SIGCONT)?;
        loop {
            match self.wait(WaitPidFlag::empty())? {
                WaitStatus::PtraceEvent(_, _, event) if event == Event::PTRACE_EVENT_EXEC as i32 => {
                    return Ok(());
                }
                // The end of its stop, seen once as an event and once as the signal.
                WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..) => ptrace::cont(self.pid, None)?,
                other => bail!("the plugin was not executed: {other:?}"),
            }
        }
    }

    /// Runs to the entry of system call `stop` and kills there.
    fn run_to(&mut self, stop: usize) -> anyhow::Result<Fate> {
        // The first stop is the end of execve itself.
        let (mut entries, mut inside) = (0, true);
        let mut signal = None;
        loop {
            ptrace::syscall(self.pid, signal.take())?;
            match self.wait(WaitPidFlag::empty())? {
                WaitStatus::PtraceSyscall(_) if inside => inside = false,
                WaitStatus::PtraceSyscall(_) if entries == stop => {
                    let at =
                        std::fs::read_to_string(format!("/proc/{}/syscall", self.pid))?.trim_end().to_owned();
                    kill(self.pid, Signal::SIGKILL)?;
                    let ended = self.wait(WaitPidFlag::empty())?;
                    ensure!(matches!(ended, WaitStatus::Signaled(..)), "killed, but {ended:?}");
                    return Ok(Fate::Killed(at.trim_end().to_owned()));
                }
                WaitStatus::PtraceSyscall(_) => {
                    entries += 1;
                    inside = true;
                }
                WaitStatus::Stopped(_, other) => signal = Some(other),
                WaitStatus::Exited(_, status) => return Ok(Fate::Ended { status, stdout: String::new() }),
                WaitStatus::PtraceEvent(..) => {
                    self.started = Some(Pid::from_raw(ptrace::getevent(self.pid)?.try_into()?));
                    bail!("the plugin started a thread or a program");
                }
                other => bail!("the plugin stopped: {other:?}"),
            }
        }
    }

    fn wait(&mut self, flags: WaitPidFlag) -> anyhow::Result<WaitStatus> {
        let status = waitpid(self.pid, Some(flags)).context("waiting for a plugin")?;
        self.ended = matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..));
        Ok(status)
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        if !self.ended {
            // Already on the way out with an error; a process that is gone needs no killing.
            for pid in self.started.into_iter().chain([self.pid]) {
                let _ = kill(pid, Signal::SIGKILL);
                let _ = waitpid(pid, Some(WaitPidFlag::__WALL));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(plugin: &str) -> Call {
        let environment = vec![("CNI_COMMAND", "VERSION".to_owned())];
        Call { plugin: plugin.into(), environment, stdin: b"{\"cniVersion\": \"1.0.0\"}".to_vec() }
    }

    #[test]
    fn a_program_is_killed_at_each_of_its_system_calls_before_it_does_anything_more() {
        let folder = tempfile::tempdir().unwrap();
        let call = call("/usr/bin/mktemp");
        let call = Call { environment: vec![("TMPDIR", folder.path().display().to_string())], ..call };
        let files = || std::fs::read_dir(folder.path()).unwrap().count();
        let mut ends = Vec::new();
        let stops = (0..).take_while(|stop| {
            let fate = kill_at(&call, *stop).unwrap();
            let done = matches!(fate, Fate::Ended { status: 0, .. });
            ends.push((fate, files()));
            !done
        });
        let stops = stops.count();
        assert!((20..500).contains(&stops), "{ends:?}");
        // The file is made by openat (257), so it is there from the system call after that one on.
        let made = ends.iter().position(|(_, files)| *files == 1).unwrap();
        assert!(
            matches!(&ends[made - 1].0, Fate::Killed(at) if at.starts_with("257 ")),
            "{:?}",
            ends[made - 1]
        );
        assert_eq!(files(), stops + 1 - made, "{ends:?}");
        assert!(matches!(&ends[stops].0, Fate::Ended { stdout, .. } if stdout.contains("tmp.")));
    }

    #[test]
    fn a_program_with_threads_is_refused() {
        let plugin = super::super::reference_plugins().unwrap().join("ptp");
        let error = kill_at(&call(plugin.to_str().unwrap()), usize::MAX).unwrap_err().to_string();
        assert!(error.contains("started a thread"), "{error}");
    }
}
