//! Who reports for the whole cluster: an election over one Lease, with the usual times.
//!
//! The holder renews every 2 s, and stops when it could not for 10 s; another takes over what has not changed for
//! 15 s. As in Kubernetes' own elections, clocks of two nodes are never compared to decide this. Thousands of
//! candidates that all ask every 2 s would be a load of their own: the holder writes down how many nodes there are,
//! and candidates ask so rarely that together they stay at some twenty questions a second, more often only
//! while the Lease looks old. Pure.

use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;

use super::pace::Random;

/// What has not changed for so long may be taken.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// A holder that could not renew for so long is none any more.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// How often the holder renews, and a candidate asks that thinks the holder has gone.
pub(super) const RENEW: Duration = Duration::from_secs(2);
/// How often a candidate asks in a small cluster.
const ASK: Duration = Duration::from_secs(4);
/// Questions of all candidates together: one in this time.
const ASK_TOGETHER: Duration = Duration::from_millis(50);

/// The Lease as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Node name; empty: released.
    pub(super) holder: String,
    pub(super) renewed: Option<Timestamp>,
    /// `metadata.resourceVersion`: another one at each change.
    pub(super) version: String,
    /// Nodes of the cluster, as the holder counts them.
    pub(super) nodes: u32,
}

/// What to do about the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nobody has it, or whoever had it has gone.
    Take,
    /// It is ours.
    Renew,
    /// Ask again after this time.
    Wait(Duration),
}

/// One candidate.
pub(super) struct Candidate {
    name: String,
    random: Random,
    /// The version seen last, and since when.
    seen: Option<(String, Instant)>,
    /// How old a Lease looks that was just renewed: what the holder's clock is behind ours.
    skew_seconds: i64,
    /// The Lease looked old at the last look.
    doubted: bool,
}

impl Candidate {
    /// `name`: the node's.
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), random: Random::new(name), seen: None, skew_seconds: 0, doubted: false }
    }

    /// What to do, given the Lease as it was just read.
    pub(super) fn step(&mut self, now: Instant, time: Timestamp, lease: Option<&Record>) -> Step {
        let Some(record) = lease else { return Step::Take };
        if record.holder == self.name {
            return Step::Renew;
        }
        if record.holder.is_empty() {
            return Step::Take;
        }
        match &self.seen {
            Some((version, since)) if *version == record.version => {
                if now.saturating_duration_since(*since) >= LEASE {
                    return Step::Take;
                }
            }
            _ => {
                self.seen = Some((record.version.clone(), now));
                if std::mem::take(&mut self.doubted) {
                    // It was renewed since we looked a moment ago: it is the clocks that differ.
                    self.skew_seconds = age(time, record);
                }
            }
        }
        Step::Wait(self.pause(time, record))
    }

    /// Clocks only say how soon to look again.
    fn pause(&mut self, time: Timestamp, record: &Record) -> Duration {
        self.doubted = age(time, record).saturating_sub(self.skew_seconds) > LEASE.as_secs() as i64;
        if self.doubted {
            return RENEW;
        }
        let pause = ASK.max(ASK_TOGETHER.saturating_mul(record.nodes));
        pause * 3 / 4 + self.random.below(pause / 2)
    }
}

/// By our clock, in seconds.
fn age(time: Timestamp, record: &Record) -> i64 {
    record.renewed.map_or(i64::MAX, |renewed| time.as_second().saturating_sub(renewed.as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second as i64).unwrap()
    }

    fn record(holder: &str, renewed: u64, nodes: u32) -> Record {
        Record {
            holder: holder.into(),
            renewed: Some(at(renewed)),
            version: format!("{holder}{renewed}"),
            nodes,
        }
    }

    #[test]
    fn a_lease_that_nobody_holds_is_taken_and_ones_own_is_renewed() {
        let mut candidate = Candidate::new("node1");
        let now = Instant::now();
        assert_eq!(candidate.step(now, at(0), None), Step::Take);
        assert_eq!(candidate.step(now, at(0), Some(&record("", 0, 3))), Step::Take);
        assert_eq!(candidate.step(now, at(0), Some(&record("node1", 0, 3))), Step::Renew);
    }

    /// When `candidates` first take the lease of a holder that renews until `dies`, and how often they ask before.
    fn play(candidates: usize, dies: u64, skew: i64, seconds: u64) -> (Option<u64>, u64) {
        let start = Instant::now();
        let mut all: Vec<(Candidate, u64)> =
            (0..candidates).map(|index| (Candidate::new(&format!("node{index}")), 0)).collect();
        let mut asked = 0;
        for tenth in 0..seconds * 10 {
            let (now, second) = (start + Duration::from_millis(100) * tenth as u32, tenth / 10);
            let record = record("holder", second.min(dies) / 2 * 2, candidates as u32);
            for (candidate, next) in &mut all {
                if *next > tenth {
                    continue;
                }
                asked += u64::from(second < dies);
                let time = Timestamp::from_second(at(second).as_second() + skew).unwrap();
                match candidate.step(now, time, Some(&record)) {
                    Step::Wait(pause) => *next = tenth + (pause.as_millis() as u64 / 100).max(1),
                    _ => return (Some(second), asked),
                }
            }
        }
        (None, asked)
    }

    #[test]
    fn a_living_holder_keeps_it_whatever_the_clocks_say() {
        for skew in [-3600, -20, 0, 20, 3600] {
            assert_eq!(play(3, 300, skew, 300).0, None, "clocks differ by {skew} s");
        }
    }

    #[test]
    fn a_dead_holder_is_followed_soon_in_small_and_in_large_clusters() {
        for candidates in [1, 3, 40, 1000] {
            let (taken, _) = play(candidates, 600, 0, 1200);
            let after = taken.expect("somebody takes it") - 600;
            assert!((10..=45).contains(&after), "{candidates} candidates: taken after {after} s");
        }
    }

    #[test]
    fn many_candidates_together_ask_some_twenty_times_a_second() {
        for skew in [0, 100] {
            let (_, asked) = play(5000, 1200, skew, 1200);
            // Each asks a few times at its start.
            let rate = (asked as f64 - 3.0 * 5000.0) / 1200.0;
            assert!(rate < 25.0, "{rate} questions a second, clocks differ by {skew} s");
        }
    }
}
