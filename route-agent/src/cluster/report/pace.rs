//! When a node writes its status: on news, at least [`GAP`] apart, else every [`HEARTBEAT`].
//!
//! Every write takes one unit of credit, of which there are at most [`BURST`]; one comes back each [`REFILL`]. So a
//! session that flaps for ever costs what a quiet node costs: 5,000 nodes stay below 17 writes a second together,
//! whatever their sessions do. A node that has used credit up gets it back by fewer heartbeats ([`RESTING`]).
//! News that waits for credit is not lost: what is written is always the latest. Pure: time in, a verdict out.

use std::time::{Duration, Instant};

/// Least time between two writes.
pub(super) const GAP: Duration = Duration::from_secs(5);
/// A quiet node writes this often.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(300);
/// A node short of credit gives signs of life this often.
pub(super) const RESTING: Duration = Duration::from_secs(600);
/// 5,000 nodes at this rate are 16.9 writes a second.
const REFILL: Duration = Duration::from_secs(296);
/// Writes that may follow each other after a quiet time.
const BURST: f64 = 6.0;
/// What belongs together comes together: routes follow their session within this time.
const SETTLE: Duration = Duration::from_secs(1);
/// News that concerns many nodes does not make them all write at once.
const SPREAD: Duration = Duration::from_secs(3);
/// The same after the API server was away, when every node has something to say.
const RETURN_SPREAD: Duration = Duration::from_secs(12);
/// Pauses after failures: doubled each time up to the last.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
/// Counts alone, which follow the fabric's routes and the node's pods, are no reason to write more often than this.
const COUNTS_GAP: Duration = Duration::from_secs(60);
/// And they leave credit for transitions: they are written while there is this much.
const COUNTS_CREDIT: f64 = BURST - 2.0;

/// What has changed since the last write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum News {
    /// Nothing, or nothing worth a write.
    None,
    /// A count moved by more than a twentieth.
    Counts,
    /// A state or a condition changed.
    Transition,
}

/// The pace of one node.
pub(super) struct Pace {
    random: Random,
    credit: f64,
    /// Since when `credit` holds.
    counted: Instant,
    written: Option<Instant>,
    /// When the oldest news not written yet came, and the pause chosen for it.
    pending: Option<(Instant, Duration)>,
    /// After failures: not before this time, and how long the next pause is.
    retry: Option<(Instant, Duration)>,
}

impl Pace {
    /// `seed` sets nodes apart: their names make it.
    pub(super) fn new(now: Instant, seed: &str) -> Self {
        Self {
            random: Random::new(seed),
            credit: BURST,
            counted: now,
            written: None,
            pending: None,
            retry: None,
        }
    }

    /// When the status is to be written, given what is new at `now`. Ask again whenever something may have changed.
    pub(super) fn due(&mut self, now: Instant, news: News) -> Instant {
        let at = self.wished(now, news).max(self.affordable(now, 1.0));
        self.retry.map_or(at, |(earliest, _)| at.max(earliest))
    }

    fn wished(&mut self, now: Instant, news: News) -> Instant {
        let Some(written) = self.written else { return now };
        let heartbeat = written + if self.credit_at(now) + 1.0 > BURST { HEARTBEAT } else { RESTING };
        if news == News::None {
            self.pending = None;
            return heartbeat;
        }
        let random = &mut self.random;
        let (since, pause) = *self.pending.get_or_insert_with(|| (now, SETTLE + random.below(SPREAD)));
        let told = match news {
            News::Counts => (written + COUNTS_GAP).max(self.affordable(now, COUNTS_CREDIT)),
            News::None | News::Transition => written + GAP,
        };
        heartbeat.min(told.max(since + pause))
    }

    /// The status was written.
    pub(super) fn written(&mut self, now: Instant) {
        self.credit = (self.credit_at(now) - 1.0).max(0.0);
        self.counted = now;
        self.written = Some(now);
        self.pending = None;
        self.retry = None;
    }

    /// It could not be written.
    pub(super) fn failed(&mut self, now: Instant) {
        let (first, most) = RETRY;
        let pause = self.retry.map_or(first, |(_, pause)| pause.saturating_mul(2).min(most));
        let jitter = self.random.below(pause);
        self.retry = Some((now + pause / 2 + jitter / 2, pause));
    }

    /// The API server answers again: what it missed is worth a write at once, credit or not.
    pub(super) fn returned(&mut self, now: Instant) {
        self.credit = self.credit_at(now).max(1.0);
        self.counted = now;
        let spread = self.random.below(RETURN_SPREAD);
        self.retry = Some((now + spread, RETRY.0));
    }

    fn credit_at(&self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.counted);
        (self.credit + since.as_secs_f64() / REFILL.as_secs_f64()).min(BURST)
    }

    /// When there is this much credit.
    fn affordable(&self, now: Instant, credit: f64) -> Instant {
        let missing = credit - self.credit_at(now);
        if missing > 0.0 { now + REFILL.mul_f64(missing) } else { now }
    }
}

/// Numbers that differ from node to node; nothing depends on their quality (splitmix64).
pub(super) struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub(super) fn new(seed: &str) -> Self {
        // FNV-1a: the standard library's hashes may change from release to release.
        Self(seed.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
            (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3)
        }))
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A time below `limit`.
    pub(super) fn below(&mut self, limit: Duration) -> Duration {
        limit.mul_f64((self.next() >> 11) as f64 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    /// Writes of one node, second by second, when `news` says what is new `second`s after the start and after the
    /// last write; a failing `server` refuses.
    fn play(seconds: u64, news: impl Fn(u64, u64) -> News, server: impl Fn(u64) -> bool) -> Vec<u64> {
        let start = Instant::now();
        let mut pace = Pace::new(start, "node1");
        let (mut writes, mut last) = (Vec::new(), 0);
        let mut away = false;
        for second in 0..seconds {
            let now = start + Duration::from_secs(second);
            if server(second) && away {
                pace.returned(now);
            }
            away = !server(second);
            if pace.due(now, news(second, last)) > now {
                continue;
            }
            if away {
                pace.failed(now);
            } else {
                pace.written(now);
                writes.push(second);
                last = second;
            }
        }
        writes
    }

    fn always(_: u64) -> bool {
        true
    }

    /// What one node may write: 5,000 nodes, 17 writes a second.
    fn budget(hours: u64) -> usize {
        (17 * HOUR * hours / 5000) as usize
    }

    #[test]
    fn a_quiet_node_writes_its_heartbeat_and_nothing_else() {
        let writes = play(5 * HOUR, |_, _| News::None, always);
        let first_hour = writes.iter().filter(|second| **second < HOUR).count();
        assert!(first_hour <= budget(1), "{first_hour} writes in the first hour: {writes:?}");
        for pair in writes.windows(2) {
            assert!((300..=600).contains(&(pair[1] - pair[0])), "{writes:?}");
        }
        let last = writes.iter().filter(|second| **second >= 4 * HOUR).count();
        assert!(
            (11..=budget(1)).contains(&last),
            "heartbeats every five minutes once there is credit: {last}"
        );
    }

    #[test]
    fn however_a_session_flaps_the_budget_holds_and_the_last_state_is_written() {
        for period in [2, 5, 7, 30, 60, 149, 295, 301, 305, 450, 599, 601, 1200] {
            // The state of the session that is true at `second`, against the one written last.
            let state = |second: u64| second / period;
            let news = |second, last| {
                if second > 0 && state(second) != state(last) { News::Transition } else { News::None }
            };
            let writes = play(10 * HOUR, news, always);
            let steady = writes.iter().filter(|second| **second >= HOUR).count();
            assert!(steady <= budget(9) + 1, "a change every {period} s: {steady} writes in nine hours");
            let all = writes.len();
            assert!(all <= budget(10) + 6, "a change every {period} s: {all} writes in ten hours");
            assert!(writes.windows(2).all(|pair| pair[1] - pair[0] >= 5), "{period}: {writes:?}");
            // It flaps until the end: nothing older than what credit allows is shown.
            assert!(writes.windows(2).all(|pair| pair[1] - pair[0] <= 600), "{period}: {writes:?}");
        }
    }

    #[test]
    fn news_is_written_within_seconds_and_again_after_five() {
        let changes = [1000, 1002, 1008, 1030];
        let state = |second: u64| changes.iter().filter(|change| **change <= second).count();
        let news = |second, last| if state(second) == state(last) { News::None } else { News::Transition };
        let writes = play(1100, news, always);
        let told: Vec<u64> = writes.into_iter().filter(|second| *second >= 1000).collect();
        assert!(told.len() <= 3, "what comes within seconds is one write: {told:?}");
        assert!(told.first().is_some_and(|first| (1001..=1005).contains(first)), "{told:?}");
        assert!(told.last().is_some_and(|last| (1031..=1035).contains(last)), "{told:?}");
    }

    #[test]
    fn news_that_is_no_news_any_more_is_not_written() {
        let news = |second, _| if second == 400 { News::Transition } else { News::None };
        let writes = play(500, news, always);
        assert!(!writes.iter().any(|second| (400..=405).contains(second)), "{writes:?}");
    }

    #[test]
    fn counts_that_move_all_the_time_are_written_once_a_minute_at_most_and_leave_credit_for_transitions() {
        let news = |second, last| match second {
            0 => News::None,
            // Three transitions in a row, after hours of moving counts.
            second if second >= 2 * HOUR && last < 2 * HOUR + 12 => News::Transition,
            _ => News::Counts,
        };
        let writes = play(2 * HOUR + 20, news, always);
        assert!(writes.get(1).is_some_and(|second| (60..70).contains(second)), "{writes:?}");
        let (before, after): (Vec<u64>, Vec<u64>) = writes.into_iter().partition(|second| *second < 2 * HOUR);
        assert!(before.windows(2).all(|pair| pair[1] - pair[0] >= 60), "{before:?}");
        assert!(before.len() <= budget(2) + 3, "{before:?}");
        assert!(after.len() >= 3, "{after:?}");
    }

    #[test]
    fn after_the_servers_return_the_status_is_right_within_30_seconds() {
        // A node that flaps has no credit most of the time: several moments, so that one of them is such.
        let moments = (2 * HOUR..2 * HOUR + 300).step_by(50);
        let cases = moments.flat_map(|gone| [5, 60, 600].map(|away| (gone, away)));
        for ((gone, away), flapping) in cases.flat_map(|case| [(case, false), (case, true)]) {
            let back = gone + away;
            let server = |second| !(gone..back).contains(&second);
            let news = |second, last| {
                let flaps = flapping && second / 20 != last / 20;
                // Something happens while the server is away, and is not told yet.
                let happened = second > gone + 1 && last < back;
                if flaps || happened { News::Transition } else { News::None }
            };
            let writes = play(back + 300, news, server);
            assert!(!writes.iter().any(|second| (gone..back).contains(second)));
            let first = writes.iter().find(|second| **second >= back).copied().unwrap_or(u64::MAX);
            assert!(first - back <= 25, "away for {away} s: told {} s after the return", first - back);
        }
    }

    #[test]
    fn a_server_that_refuses_is_asked_every_few_seconds_at_most() {
        let asked = std::cell::Cell::new(0);
        let refusing = |_| {
            asked.set(asked.get() + 1);
            false
        };
        assert!(play(600, |_, _| News::Transition, refusing).is_empty());
        let start = Instant::now();
        let mut pace = Pace::new(start, "node1");
        let mut tries = Vec::new();
        for tenth in 0..1200 {
            let now = start + Duration::from_millis(100) * tenth;
            if pace.due(now, News::Transition) <= now {
                tries.push(tenth / 10);
                pace.failed(now);
            }
        }
        assert!((15..=40).contains(&tries.len()), "in two minutes: {tries:?}");
    }

    #[test]
    fn nodes_do_not_write_in_step() {
        let start = Instant::now();
        let after = |node: &str| {
            let mut pace = Pace::new(start, node);
            pace.written(start);
            pace.due(start + GAP, News::Transition) - start
        };
        assert_ne!(after("node1"), after("node2"));
        assert_eq!(after("node1"), after("node1"));
    }
}
