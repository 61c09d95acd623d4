//! A table comes from the feeder and goes again: time to the receiver, time to the kernel, processor time, memory.

use std::time::{Duration, Instant};

use anyhow::Context;
use towpath_tests::feeder::load;
use towpath_tests::feeder::tape::Counts;
use towpath_tests::installed::Installed;

use crate::compare;
use crate::contender::Contender;
use crate::idle::REST;
use crate::limit::Writer;
use crate::results::{Family, Sample};
use crate::rig::{self, Clocks, FEEDER, LIMIT, Links, Phase, RECEIVER, Rig};

/// The same table in every run.
pub(crate) const SEED: u64 = 0x7077_7061_7468;
/// How long memory may take to settle after a withdrawal.
const SETTLING: Duration = Duration::from_secs(5);
/// It has settled when it changed by less than this in a second.
const SETTLED_BYTES: u64 = 128 << 10;

/// The figures, and what the daemon says it is.
pub(crate) fn run(
    contender: Contender,
    family: Family,
    routes: usize,
    with_rib: bool,
) -> anyhow::Result<(Sample, String)> {
    if contender == Contender::Limit {
        return Ok((limit(family, routes)?, String::new()));
    }
    let table = rig::table(family, FEEDER, routes, SEED);
    let (announcements, withdrawals) = (load::announcements(&table), load::withdrawals(&table));
    let rig = Rig::new(contender, family, 2, 2)?;
    let installed = rig.installed(&table)?;
    let via = rig::neighbor(family, FEEDER);
    let count = routes as u64;
    let feed = |bytes: &[u8], announced, withdrawn| {
        let held = if announced > 0 { routes } else { 0 };
        let counts = Counts { announced, withdrawn };
        rig.phase(FEEDER, bytes, counts, installed.as_ref(), |heard| heard.routes.len() == held)
    };
    let check = || -> anyhow::Result<()> {
        compare::receiver(&table, &rig.tape(RECEIVER).heard(), rig::daemon(family, RECEIVER))?;
        if contender.installs() {
            compare::kernel(&table, &rig.links.daemon, &[via])?;
        }
        Ok(())
    };

    std::thread::sleep(REST);
    towpath_tests::usage::forget_peaks(rig.processes())?;
    let idle = rig.usage();
    let up = feed(&announcements, count, 0).context("announcing")?;
    let full = rig.usage();
    check()?;
    let down = feed(&withdrawals, 0, count).context("withdrawing")?;
    if contender.installs() {
        compare::kernel(&[], &rig.links.daemon, &[via])?;
    }
    let empty = settled(&rig);
    let per_route = full.peak_bytes.saturating_sub(idle.resident_bytes) as f64 / routes as f64;
    let mut sample = phases(&up, &down);
    sample.extend([
        ("RSS idle MB", megabytes(idle.resident_bytes)),
        ("RSS peak MB", megabytes(full.peak_bytes)),
        ("B/route", per_route),
        ("RSS after MB", megabytes(empty)),
    ]);
    if with_rib {
        // Asking for a whole RIB changes the daemon's memory: it comes last.
        feed(&announcements, count, 0).context("announcing again")?;
        check()?;
        let speaker = contender.speaker().context("a daemon without a RIB")?;
        let ask = |argv: &[&str]| contender.ask(&rig.sandbox, argv);
        compare::rib(&table, &speaker.routes(&ask, family == Family::V6)?)?;
    }
    Ok((sample, rig.version.clone()))
}

fn phases(up: &Phase, down: &Phase) -> Sample {
    let mut sample = vec![
        ("receiver ms", milliseconds(up.receiver)),
        ("withdraw receiver ms", milliseconds(down.receiver)),
    ];
    sample.extend(up.kernel.map(|time| ("kernel ms", milliseconds(time))));
    sample.extend(down.kernel.map(|time| ("withdraw kernel ms", milliseconds(time))));
    let wall = |phase: &Phase| phase.kernel.unwrap_or_default().max(phase.receiver).as_secs_f64();
    let bench = up.spent.bench.as_secs_f64() / wall(up).max(f64::EPSILON);
    sample.extend([
        ("CPU s", up.spent.daemon.as_secs_f64()),
        ("withdraw CPU s", down.spent.daemon.as_secs_f64()),
        ("bench CPU %", bench * 100.0),
        ("others' CPU s", (up.spent.others + down.spent.others).as_secs_f64()),
    ]);
    sample
}

/// Resident memory once it no longer changes.
fn settled(rig: &Rig) -> u64 {
    let deadline = Instant::now() + SETTLING;
    let mut last = (Instant::now(), rig.usage().resident_bytes);
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let now = rig.usage().resident_bytes;
        if now.abs_diff(last.1) > SETTLED_BYTES {
            last = (Instant::now(), now);
        }
        if last.0.elapsed() > Duration::from_secs(1) || Instant::now() > deadline {
            return now;
        }
    }
}

/// The kernel alone: the same table by a bare writer.
fn limit(family: Family, routes: usize) -> anyhow::Result<Sample> {
    let links = Links::new(1)?;
    let via = rig::neighbor(family, FEEDER);
    let table = rig::table(family, FEEDER, routes, SEED);
    let prefixes = rig::prefixes(&table);
    let installed = Installed::new(&links.daemon, &prefixes)?;
    let mut writer = Writer::open(&links.daemon, via, "peer1")?;
    let clocks = Clocks::read(&[])?;
    let (up, up_cpu) = writer.add(&prefixes)?;
    let up_spent = clocks.spent(&[])?;
    installed.until(true, LIMIT)?;
    compare::kernel(&table, &links.daemon, &[via])?;
    let clocks = Clocks::read(&[])?;
    let (down, down_cpu) = writer.delete(&prefixes)?;
    let down_spent = clocks.spent(&[])?;
    compare::kernel(&[], &links.daemon, &[via])?;
    Ok(vec![
        ("kernel ms", milliseconds(up)),
        ("withdraw kernel ms", milliseconds(down)),
        ("CPU s", up_cpu.as_secs_f64()),
        ("withdraw CPU s", down_cpu.as_secs_f64()),
        ("others' CPU s", (up_spent.others + down_spent.others).as_secs_f64()),
    ])
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
