//! Many peers: each feeds its share, each gets everyone else's.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ipnet::IpNet;
use towpath_tests::feeder::Heard;
use towpath_tests::feeder::load::{self, Group};
use towpath_tests::feeder::tape::{Counts, Tape};

use crate::compare;
use crate::contender::Contender;
use crate::converge::{SEED, megabytes, milliseconds};
use crate::results::{Family, Sample};
use crate::rig::{self, Clocks, LIMIT, Rig};

/// Peers, each on a link of its own.
pub(crate) const PEERS: u8 = 64;
/// Prefixes of each.
pub(crate) const SHARE: usize = 1000;

pub(crate) fn run(contender: Contender, family: Family) -> anyhow::Result<(Sample, String)> {
    let tables = tables(family);
    let bytes: Vec<Vec<u8>> = tables.iter().map(|table| load::announcements(table)).collect();
    let shares: Vec<HashSet<IpNet>> =
        tables.iter().map(|table| rig::prefixes(table).into_iter().collect()).collect();
    let all = tables.concat();
    let rig = Rig::new(contender, family, PEERS, PEERS)?;
    let installed = rig.installed(&all)?;
    towpath_tests::usage::forget_peaks(rig.processes())?;
    let idle = rig.usage();
    let clocks = Clocks::read(rig.processes())?;
    let before: Vec<Counts> = rig.tapes().iter().map(Tape::counts).collect();
    let (began, kernel, spent, last) = std::thread::scope(|scope| {
        let kernel = installed.as_ref().map(|installed| scope.spawn(|| installed.until(true, LIMIT)));
        let began = Instant::now();
        let sending =
            scope.spawn(|| rig.tapes().iter().zip(&bytes).try_for_each(|(tape, bytes)| tape.send(bytes)));
        // To understand what was heard costs time of the processor: last, when all is over.
        let counted = counted(rig.tapes(), &before);
        let kernel = kernel.map(rig::join).transpose();
        rig::join(sending)?;
        counted?;
        let (kernel, over) = (kernel?, Instant::now());
        let mut spent = clocks.spent(rig.processes())?;
        let last = complete(rig.tapes(), &before, &shares)?;
        if last > over {
            // It only paused.
            spent = clocks.spent(rig.processes())?;
        }
        anyhow::Ok((began, kernel, spent, last))
    })?;
    let full = rig.usage();
    for (place, tape) in rig.tapes().iter().enumerate() {
        let next_hop = rig::daemon(family, place as u8 + 1);
        others(&tables, place, &tape.heard(), |table, heard| compare::receiver(table, heard, next_hop))
            .with_context(|| format!("peer {}", place + 1))?;
    }
    if contender.installs() {
        let routes = towpath_tests::meter::kernel::routes(&rig.links.daemon, family == Family::V4)?;
        let found: HashSet<IpNet> = routes
            .iter()
            .filter(|route| route.usable() == 1)
            .filter_map(|route| IpNet::new(route.destination.0, route.destination.1).ok())
            .collect();
        let missing: Vec<&IpNet> = shares.iter().flatten().filter(|prefix| !found.contains(prefix)).collect();
        ensure!(missing.is_empty(), "the kernel: {} missing {:?}", missing.len(), missing.first());
    }
    let mut sample = vec![("all peers ms", milliseconds(last.saturating_duration_since(began)))];
    sample.extend(kernel.map(|at| ("kernel ms", milliseconds(at.saturating_duration_since(began)))));
    sample.extend([
        ("CPU s", spent.daemon.as_secs_f64()),
        ("bench CPU s", spent.bench.as_secs_f64()),
        ("RSS idle MB", megabytes(idle.resident_bytes)),
        ("RSS peak MB", megabytes(full.peak_bytes)),
        ("others' CPU s", spent.others.as_secs_f64()),
    ]);
    Ok((sample, rig.version))
}

/// One table, cut into shares of different prefixes.
fn tables(family: Family) -> Vec<Vec<Group>> {
    let mut whole = rig::table(family, 1, usize::from(PEERS) * SHARE, SEED).into_iter().peekable();
    (1..=PEERS)
        .map(|i| {
            let mut table = Vec::new();
            let mut room = SHARE;
            while room > 0 {
                let Some(group) = whole.peek_mut() else { break };
                let rest = group.prefixes.split_off(room.min(group.prefixes.len()));
                let mut part = group.clone();
                part.attributes.as_path[0] = rig::asn(i);
                part.attributes.next_hop = rig::neighbor(family, i);
                room -= part.prefixes.len();
                table.push(part);
                if rest.is_empty() {
                    whole.next();
                } else {
                    group.prefixes = rest;
                }
            }
            table
        })
        .collect()
}

/// What a peer is told in all.
fn told(before: &Counts) -> Counts {
    Counts { announced: before.announced + (usize::from(PEERS - 1) * SHARE) as u64, ..*before }
}

/// Waits until every peer may have what all others feed.
fn counted(tapes: &[Tape], before: &[Counts]) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !tapes.iter().zip(before).all(|(tape, before)| tape.looks_whole(told(before))) {
        ensure!(Instant::now() < deadline, "not all peers are told everything after {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Waits until every peer has what all others feed, and gives the time of the last one's last.
fn complete(tapes: &[Tape], before: &[Counts], shares: &[HashSet<IpNet>]) -> anyhow::Result<Instant> {
    let mut last = None;
    for ((tape, before), own) in tapes.iter().zip(before).zip(shares) {
        // A daemon may tell a peer what came from it.
        let whole = |heard: &Heard| {
            let own = own.iter().filter(|prefix| heard.routes.contains_key(*prefix)).count();
            heard.routes.len() - own == (shares.len() - 1) * SHARE
        };
        last = last.max(Some(tape.until(told(before), LIMIT, whole)?));
    }
    last.context("no peers")
}

/// Compares what one peer heard with what all others feed, whether or not it was told its own.
fn others(
    tables: &[Vec<Group>],
    place: usize,
    heard: &Heard,
    compare: impl Fn(&[Group], &Heard) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut heard = heard.clone();
    for group in &tables[place] {
        for prefix in &group.prefixes {
            heard.routes.remove(prefix);
        }
    }
    let others = tables.iter().enumerate().filter(|(other, _)| *other != place);
    let table: Vec<Group> = others.flat_map(|(_, table)| table.iter().cloned()).collect();
    compare(&table, &heard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_of_one_size_and_have_nothing_in_common() {
        let tables = tables(Family::V4);
        assert_eq!(tables.len(), usize::from(PEERS));
        let mut seen = HashSet::new();
        for (place, table) in tables.iter().enumerate() {
            let prefixes = rig::prefixes(table);
            assert_eq!(prefixes.len(), SHARE);
            assert!(prefixes.into_iter().all(|prefix| seen.insert(prefix)));
            let asn = rig::asn(place as u8 + 1);
            assert!(table.iter().all(|group| group.attributes.as_path[0] == asn));
        }
    }
}
