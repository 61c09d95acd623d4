//! A plugin stopped at each of its system calls, to be killed at one of them: ptrace(2).
//!
//! A process that is killed when it enters a system call does not execute it, so killing at every entry is killing
//! at every state that the kernel and the files can be left in by an orderly death. The stops belong to the thread
//! that traces: one thread traces one process at a time, any number of threads do.

use std::io::Read as _;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
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
/// first one after the plugin was executed, over all its threads in the order in which they come.
///
/// # Errors
/// When the plugin starts programs (this tracer does not follow them), and when it cannot be traced.
pub fn kill_at(call: &Call, stop: usize) -> anyhow::Result<Fate> {
    // A thread of its own, in the namespaces of this one: it waits for whatever it traces.
    let traced = std::thread::scope(|scope| scope.spawn(|| trace(call, stop)).join());
    traced.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn trace(call: &Call, stop: usize) -> anyhow::Result<Fate> {
    let mut prelude = Command::new("/bin/sh");
    prelude.args(["-c", PRELUDE]).arg(&call.plugin);
    let mut child = call.start(prelude)?;
    let pid = Pid::from_raw(child.id().try_into().context("a process id")?);
    let mut tracee = Tracee { pid, ended: None };
    tracee.seize()?;
    let mut fate = tracee.run_to(stop)?;
    if let Fate::Ended { stdout, .. } = &mut fate {
        child.stdout.take().context("no standard output of a plugin")?.read_to_string(stdout)?;
    }
    Ok(fate)
}

/// A traced process, killed and reaped with all its threads when dropped.
struct Tracee {
    pid: Pid,
    /// How the process ended, once it has.
    ended: Option<WaitStatus>,
}

impl Tracee {
    /// Takes hold of the stopped prelude and lets it run until it has become the plugin.
    fn seize(&mut self) -> anyhow::Result<()> {
        let stopped = waitpid(self.pid, Some(WaitPidFlag::WUNTRACED))?;
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
            match self.wait()? {
                WaitStatus::PtraceEvent(_, _, event) if event == Event::PTRACE_EVENT_EXEC as i32 => {
                    return Ok(ptrace::syscall(self.pid, None)?);
                }
                // The end of its stop, seen once as an event and once as the signal.
                WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..) => ptrace::cont(self.pid, None)?,
                other => bail!("the plugin was not executed: {other:?}"),
            }
        }
    }

    /// Runs to the entry of system call `stop` and kills there.
    fn run_to(&mut self, stop: usize) -> anyhow::Result<Fate> {
        const FORKS: [i32; 2] = [Event::PTRACE_EVENT_FORK as i32, Event::PTRACE_EVENT_VFORK as i32];
        let mut entries = 0;
        loop {
            let (thread, signal) = match self.wait()? {
                WaitStatus::PtraceSyscall(thread) => {
                    let entry = ptrace::syscall_info(thread)?.op == libc::PTRACE_SYSCALL_INFO_ENTRY;
                    if entry && entries == stop {
                        return self.kill_in(thread);
                    }
                    entries += usize::from(entry);
                    (thread, None)
                }
                WaitStatus::PtraceEvent(_, _, event) if FORKS.contains(&event) => {
                    bail!("the plugin started a program");
                }
                // A new thread's birth, seen by its maker and by itself.
                WaitStatus::PtraceEvent(thread, ..) => (thread, None),
                WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
                WaitStatus::Exited(pid, status) if pid == self.pid => {
                    return Ok(Fate::Ended { status, stdout: String::new() });
                }
                WaitStatus::Exited(..) => continue,
                other => bail!("the plugin stopped: {other:?}"),
            };
            match ptrace::syscall(thread, signal) {
                // Another thread has ended the process meanwhile: its end is waited for next.
                Err(Errno::ESRCH) => {}
                resumed => resumed.context("resuming a plugin")?,
            }
        }
    }

    fn kill_in(&mut self, thread: Pid) -> anyhow::Result<Fate> {
        let at = std::fs::read_to_string(format!("/proc/{}/task/{thread}/syscall", self.pid))?;
        kill(self.pid, Signal::SIGKILL)?;
        while self.ended.is_none() {
            self.wait()?;
        }
        ensure!(matches!(self.ended, Some(WaitStatus::Signaled(..))), "killed, but {:?}", self.ended);
        Ok(Fate::Killed(at.trim_end().to_owned()))
    }

    /// Waits for any thread that this thread traces.
    fn wait(&mut self) -> anyhow::Result<WaitStatus> {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let status = waitpid(None, Some(flags)).context("waiting for a plugin")?;
        if let WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) = status
            && pid == self.pid
        {
            self.ended = Some(status);
        }
        Ok(status)
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        // Already on the way out with an error. What it started is traced as well and dies with the tracing thread.
        while self.ended.is_none() && kill(self.pid, Signal::SIGKILL).is_ok() {
            if self.wait().is_err() {
                break;
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
    fn threads_are_followed_and_programs_are_refused() {
        // The reference plugins are Go programs: their runtime starts threads at once.
        let plugin = super::super::reference_plugins().unwrap().join("ptp");
        let call = call(plugin.to_str().unwrap());
        let ended = kill_at(&call, usize::MAX).unwrap();
        assert!(matches!(&ended, Fate::Ended { status: 0, stdout } if stdout.contains("1.0.0")), "{ended:?}");
        for stop in [0, 50, 100] {
            let killed = kill_at(&call, stop).unwrap();
            assert!(matches!(killed, Fate::Killed(_)), "{stop}: {killed:?}");
        }

        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("plugin");
        std::fs::write(&script, "#!/bin/sh\n/bin/true\nexit 0\n").unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let error = kill_at(&Call { plugin: script, ..call }, usize::MAX).unwrap_err().to_string();
        assert!(error.contains("started a program"), "{error}");
    }
}
