//! Processor time and memory of processes, read from /proc without starting anything.
//!
//! Processor time is exact where every thread still lives (schedstat, nanoseconds) and to two hundredths of a second
//! where some have ended (stat).

use std::time::Duration;

use anyhow::Context;

/// USER_HZ, the same on every Linux that this runs on.
const TICK: Duration = Duration::from_millis(10);

/// What processes used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory now.
    pub resident_bytes: u64,
    /// The most each process had since it began or since [`forget_peaks`], summed up.
    pub peak_bytes: u64,
    /// User and system time.
    pub cpu: Duration,
}

/// A process and all it started, and what those started, by number; those left out whose name `skip` knows.
///
/// # Errors
/// When the first one is gone.
pub fn family(root: u32, skip: &[&str]) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    let mut waiting = vec![root];
    while let Some(pid) = waiting.pop() {
        // One that has just ended has no children and used nothing any more.
        let Ok(name) = std::fs::read_to_string(format!("/proc/{pid}/comm")) else { continue };
        if !skip.contains(&name.trim()) {
            found.push(pid);
        }
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            waiting.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    anyhow::ensure!(!found.is_empty(), "process {root} and all it started are gone");
    Ok(found)
}

/// What the processes used, summed up. One that has ended counts as nothing.
#[must_use]
pub fn of(processes: &[u32]) -> Usage {
    let mut sum = Usage::default();
    for pid in processes {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let status = read("status");
        sum.resident_bytes += kilobytes(&status, "VmRSS:");
        sum.peak_bytes += kilobytes(&status, "VmHWM:");
        sum.cpu += ticks(&read("stat")).max(threads(*pid));
    }
    sum
}

/// Lets the peaks of memory begin anew at what is resident now (proc(5), clear_refs).
///
/// # Errors
/// When the system does not allow it.
pub fn forget_peaks(processes: &[u32]) -> anyhow::Result<()> {
    processes.iter().try_for_each(|pid| {
        let path = format!("/proc/{pid}/clear_refs");
        std::fs::write(&path, "5").with_context(|| format!("writing {path}"))
    })
}

/// Time that all processors were busy since boot, with whatever, in hundredths of a second.
///
/// # Errors
/// When /proc is not mounted.
pub fn machine() -> anyhow::Result<Duration> {
    Ok(busy(&std::fs::read_to_string("/proc/stat")?))
}

/// User, nice, system, irq, softirq and steal of the first line of proc(5)'s stat.
fn busy(stat: &str) -> Duration {
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<u32> = line.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
    let at = |index: usize| fields.get(index).copied().unwrap_or(0);
    TICK * (at(0) + at(1) + at(2) + at(5) + at(6) + at(7))
}

fn kilobytes(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Fields 14 and 15 of proc(5)'s stat, counted from the state, which is the third.
fn ticks(stat: &str) -> Duration {
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    TICK * fields.split(' ').skip(11).take(2).filter_map(|word| word.parse::<u32>().ok()).sum::<u32>()
}

/// Time on a processor of the threads that live.
fn threads(pid: u32) -> Duration {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let times = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_understood() {
        assert_eq!(busy("cpu  100 20 3 999 888 4 5 6 777 0\ncpu0 1 1 1"), TICK * 138);
        let status = "Name:\tx\nVmHWM:\t  200 kB\nVmRSS:\t   100 kB\n";
        assert_eq!((kilobytes(status, "VmRSS:"), kilobytes(status, "VmSwap:")), (102_400, 0));
        assert_eq!(ticks("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 30 12 99"), TICK * 42);
    }

    #[test]
    fn a_process_that_works_and_one_it_started_are_counted() {
        let own = std::process::id();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let named = |skip: &[&str]| family(own, skip).unwrap().contains(&child.id());
        let (with, without) = (named(&[]), named(&["sleep"]));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(with && !without);
        let before = of(&[own]);
        assert!(before.resident_bytes > 1 << 20 && before.peak_bytes >= before.resident_bytes);
        let began = std::time::Instant::now();
        let mut sum = 0u64;
        while began.elapsed() < Duration::from_millis(50) {
            sum = sum.wrapping_mul(3).wrapping_add(1);
        }
        assert!(of(&[own]).cpu > before.cpu + Duration::from_millis(10), "{sum}");
        assert!(machine().unwrap() > Duration::ZERO);
    }

    #[test]
    fn a_peak_can_be_forgotten() {
        let own = [std::process::id()];
        drop(std::hint::black_box(vec![1u8; 64 << 20]));
        let before = of(&own).peak_bytes;
        forget_peaks(&own).unwrap();
        assert!(of(&own).peak_bytes + (32 << 20) < before);
    }
}
