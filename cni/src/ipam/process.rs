//! Which process, and when: an ADD that lives, an ADD that began before a DEL.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Clock ticks per second in `/proc` (`USER_HZ`, 100 on every Linux).
const TICKS_PER_SECOND: u64 = 100;
const NANOSECONDS_PER_TICK: u64 = 1_000_000_000 / TICKS_PER_SECOND;

/// A process that a reused pid does not take for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Start, in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub started_ticks: u64,
}

/// A moment since this boot that no clock change moves, suspend included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime {
    /// Nanoseconds since boot.
    pub nanoseconds: u64,
}

impl BootTime {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        Self { nanoseconds: seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) }
    }

    /// How long after `earlier`; zero if not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanoseconds.saturating_sub(earlier.nanoseconds))
    }
}

impl Process {
    /// This process.
    ///
    /// # Errors
    /// `/proc` is not there or not of this process's PID namespace.
    pub fn current() -> io::Result<Self> {
        let pid = std::process::id();
        let started_ticks = started(Path::new("/proc/self/stat"))?;
        Ok(Self { pid, started_ticks })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(self) -> bool {
        let stat = format!("/proc/{}/stat", self.pid);
        started(Path::new(&stat)).is_ok_and(|ticks| ticks == self.started_ticks)
    }

    /// The latest moment at which it can have started: `/proc` knows the tick.
    #[must_use]
    pub fn started_by(self) -> BootTime {
        BootTime { nanoseconds: self.started_ticks.saturating_add(1).saturating_mul(NANOSECONDS_PER_TICK) }
    }
}

/// Field 22 of a `stat` file (proc(5)). Field 2 is in parentheses and may hold anything: count from the last one.
fn started(path: &Path) -> io::Result<u64> {
    let stat = fs::read(path)?;
    let after_name = stat.iter().rposition(|&octet| octet == b')').map_or(0, |at| at + 1);
    let fields = std::str::from_utf8(&stat[after_name..]).unwrap_or("");
    let mut fields = fields.split_ascii_whitespace();
    // The first of them is field 3, the state; a zombie has ended.
    if fields.next() == Some("Z") {
        return Err(io::ErrorKind::NotFound.into());
    }
    fields.nth(18).and_then(|ticks| ticks.parse().ok()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{} has no start time", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_until_it_ends_and_its_pid_alone_is_not_enough() {
        let before = BootTime::now();
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let started_ticks = started(Path::new(&format!("/proc/{}/stat", child.id()))).unwrap();
        let process = Process { pid: child.id(), started_ticks };
        assert!(process.is_alive());
        assert!(!Process { started_ticks: started_ticks - 1, ..process }.is_alive());
        assert!(process.started_by() > before, "{process:?} {before:?}");
        assert!(process.started_by().since(BootTime::now()) <= Duration::from_millis(10));
        child.kill().unwrap();
        // A zombie is no longer alive: it is asked before it is waited for.
        let status = rustix::process::waitid(
            rustix::process::WaitId::All,
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
        );
        status.unwrap();
        assert!(!process.is_alive());
        child.wait().unwrap();
    }

    #[test]
    fn this_process_is_alive() {
        assert!(Process::current().unwrap().is_alive());
    }
}
