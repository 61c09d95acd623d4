//! Calls one after the other, and many at once: how long each took.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use towpath_tests::cni::{Pod, plugin};
use towpath_tests::netns::Netns;

use crate::contender::{Contender, floor};
use crate::report::Results;

/// What was measured of one contender in one way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    pub(crate) add: Vec<Duration>,
    pub(crate) del: Vec<Duration>,
    /// Of all ADDs together: CPU, and the time from the first one's start to the last one's end, turns summed up.
    pub(crate) add_total: Total,
    pub(crate) del_total: Total,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Total {
    pub(crate) cpu: Duration,
    pub(crate) span: Duration,
}

static NEXT_ID: AtomicUsize = AtomicUsize::new(0);

fn pods(contender: &Contender, pool: &[Netns]) -> Vec<Pod> {
    let id = || format!("bench-{}", NEXT_ID.fetch_add(1, Ordering::Relaxed));
    pool.iter().enumerate().map(|(number, netns)| contender.pod(id(), netns, number)).collect()
}

/// Adds a pod to each namespace of `pool`, one after the other, then deletes them.
pub(crate) fn one_by_one(contender: &Contender, pool: &[Netns], samples: &mut Samples) -> anyhow::Result<()> {
    contender.node.netns.run(|| {
        let pods = pods(contender, pool);
        let mut results = Vec::new();
        let (began, before) = (Instant::now(), children_cpu()?);
        for pod in &pods {
            let began = Instant::now();
            results.push(contender.add(pod)?);
            samples.add.push(began.elapsed());
        }
        let (added, middle) = (Instant::now(), children_cpu()?);
        for (pod, result) in pods.iter().zip(&results) {
            let began = Instant::now();
            contender.del(pod, result.as_ref())?;
            samples.del.push(began.elapsed());
        }
        samples.add_total.cpu += middle - before;
        samples.add_total.span += added - began;
        samples.del_total.cpu += children_cpu()? - middle;
        samples.del_total.span += added.elapsed();
        Ok(())
    })
}

/// Adds a pod to each namespace of `pool` by `workers` callers at once, then deletes them in the same way.
pub(crate) fn all_at_once(
    contender: &Contender,
    workers: usize,
    pool: &[Netns],
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let pods = pods(contender, pool);
    let parts: Vec<&[Pod]> = pods.chunks(pods.len().div_ceil(workers).max(1)).collect();
    let (adds, span) = burst(contender, &parts, |pod| contender.add(pod).map(drop))?;
    samples.add.extend(adds);
    samples.add_total.span += span;
    let (dels, span) = burst(contender, &parts, |pod| contender.del(pod, None))?;
    samples.del.extend(dels);
    samples.del_total.span += span;
    Ok(())
}

/// Every part by a thread of its own, all starting together: each call's time, and that of all of them.
fn burst(
    contender: &Contender,
    parts: &[&[Pod]],
    work: impl Fn(&Pod) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<(Vec<Duration>, Duration)> {
    let (start, work) = (Barrier::new(parts.len()), &work);
    let outcomes = std::thread::scope(|scope| {
        let threads: Vec<_> = parts
            .iter()
            .map(|pods| {
                let start = &start;
                scope.spawn(move || {
                    let entered = contender.node.netns.enter();
                    start.wait();
                    entered?;
                    let began = Instant::now();
                    let mut times = Vec::new();
                    for pod in *pods {
                        let began = Instant::now();
                        work(pod)?;
                        times.push(began.elapsed());
                    }
                    anyhow::Ok((times, began, Instant::now()))
                })
            })
            .collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect::<anyhow::Result<Vec<_>>>()
    })?;
    let began = outcomes.iter().map(|(_, began, _)| *began).min().context("nobody works")?;
    let ended = outcomes.iter().map(|(_, _, ended)| *ended).max().context("nobody works")?;
    Ok((outcomes.into_iter().flat_map(|(times, ..)| times).collect(), ended - began))
}

/// Starts the plugin for VERSION and the empty program in turns.
pub(crate) fn starts(count: usize, results: &mut Results) -> anyhow::Result<()> {
    let programs = [plugin()?, floor("floor-empty")?];
    for _ in 0..count {
        for (program, times) in programs.iter().zip([&mut results.version, &mut results.empty]) {
            let began = Instant::now();
            let output = Command::new(program)
                .env("CNI_COMMAND", "VERSION")
                .stdin(Stdio::piped())
                .output()
                .with_context(|| format!("starting {}", program.display()))?;
            times.push(began.elapsed());
            ensure!(output.status.success(), "{}: {:?}", program.display(), output.status);
        }
    }
    Ok(())
}

/// Writes and commits as an ADD has to: into blocks that the file has already.
pub(crate) fn commits(folder: &Path, count: usize, times: &mut Vec<Duration>) -> anyhow::Result<()> {
    let file = tempfile::tempfile_in(folder)?;
    file.write_all_at(&[0; 16_384], 0)?;
    file.sync_all()?;
    for number in 0..count {
        let began = Instant::now();
        file.write_all_at(&[1; 104], 104 * number as u64)?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    Ok(())
}

/// CPU time of this process and of all it waited for, and of the whole machine (user, nice and system of proc(5)).
pub(crate) fn own_and_all_cpu() -> anyhow::Result<(Duration, Duration)> {
    let own = getrusage(UsageWho::RUSAGE_SELF)?;
    let own = own.user_time().num_microseconds() + own.system_time().num_microseconds();
    let stat = std::fs::read_to_string("/proc/stat")?;
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).take(3);
    let hundredths: u64 = fields.filter_map(|word| word.parse::<u64>().ok()).sum();
    let own = Duration::from_micros(own.try_into()?) + children_cpu()?;
    Ok((own, Duration::from_millis(hundredths * 10)))
}

/// CPU time of all processes that this one waited for, and of those they waited for.
fn children_cpu() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(microseconds.try_into()?))
}
