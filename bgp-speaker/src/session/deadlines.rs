//! The times a session waits for: RFC 4271 section 10's timers, jitter, and the back-off between tries.
//!
//! Pure: a caller passes the time in and compares. Jitter comes from a small generator of our own, seeded
//! by the caller, so that a test run is repeated exactly.

use std::time::{Duration, Instant};

/// Hold Time while no Hold Time is negotiated (RFC 4271 section 8.2.2: "a large value", 4 minutes suggested).
pub(super) const LARGE_HOLD: Duration = Duration::from_secs(240);
/// Smallest SendHoldTime (RFC 9687 section 3).
const SEND_HOLD_MIN: Duration = Duration::from_secs(480);
/// How long a connection that would lose a collision waits for the OPEN of the one that would win.
pub(super) const COLLISION_WAIT: Duration = Duration::from_secs(5);
/// A second connection whose OPEN comes this soon after Established was opened before it: a late collision,
/// not a restarted peer.
pub(super) const COLLISION_REMNANT: Duration = Duration::from_secs(5);
/// A session that stayed Established this long did not fail for a reason that repeats at once.
pub(super) const STABLE: Duration = Duration::from_secs(30);
/// First wait after a failure; doubled with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Ceiling that keeps `Instant` arithmetic from overflowing whatever the configuration says.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// SendHoldTime of a session: twice its Hold Time, at least eight minutes; off where the Hold Timer is off.
pub(super) fn send_hold_time(hold_time: Duration) -> Option<Duration> {
    (!hold_time.is_zero()).then(|| SEND_HOLD_MIN.max(hold_time * 2))
}

/// `now + wait`, for any `wait`.
pub(super) fn after(now: Instant, wait: Duration) -> Instant {
    now + wait.min(FOREVER)
}

/// True when this timer runs and its time has come.
pub(super) fn due(timer: Option<Instant>, now: Instant) -> bool {
    timer.is_some_and(|at| at <= now)
}

/// Factor 0.75 to 1.0 on a timer (RFC 4271 section 10), from xorshift64.
#[derive(Clone, Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        // Neighbouring seeds (peer 1, peer 2) must not give neighbouring factors; zero is a fixed point of xorshift.
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn apply(&mut self, wait: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let thousandths = 750 + u32::try_from(self.0 >> 32).unwrap_or(0) % 251;
        wait.min(FOREVER) * thousandths / 1000
    }
}

/// Doubling wait between tries, shared by IdleHold and ConnectRetry so that a peer that refuses the TCP
/// connection and one that refuses the OPEN are left alone alike.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    level: u32,
}

impl Backoff {
    /// The next wait: one second, two, four, up to `cap`.
    pub(super) fn next(&mut self, cap: Duration) -> Duration {
        let wait = FIRST_WAIT.saturating_mul(1 << self.level.min(20)).min(cap.max(FIRST_WAIT));
        self.level = self.level.saturating_add(1);
        wait
    }

    /// An Established session ended after this long: the next try is quick unless the session flaps.
    pub(super) fn session_lasted(&mut self, lasted: Duration) {
        if lasted >= STABLE {
            self.level = 0;
        }
    }

    /// An operator asked: start over.
    pub(super) fn reset(&mut self) {
        self.level = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_three_quarters_and_one_and_varies() {
        for seed in [0, 1, 2, 77, u64::MAX] {
            let mut jitter = Jitter::new(seed);
            let waits: Vec<_> = (0..500).map(|_| jitter.apply(Duration::from_secs(100))).collect();
            assert!(waits.iter().all(|w| (75..=100).contains(&w.as_secs())), "seed {seed}");
            assert!(waits.iter().max() > waits.iter().min(), "seed {seed}");
        }
    }

    #[test]
    fn backoff_doubles_up_to_its_cap_and_starts_over_after_a_stable_session() {
        let mut backoff = Backoff::default();
        let cap = Duration::from_secs(10);
        let waits: Vec<_> = (0..6).map(|_| backoff.next(cap).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        backoff.session_lasted(STABLE - Duration::from_millis(1));
        assert_eq!(backoff.next(cap).as_secs(), 10);
        backoff.session_lasted(STABLE);
        assert_eq!(backoff.next(cap).as_secs(), 1);
    }

    #[test]
    fn backoff_of_a_peer_that_is_down_for_years_does_not_overflow() {
        let mut backoff = Backoff { level: u32::MAX };
        assert_eq!(backoff.next(Duration::MAX).as_secs(), 1 << 20);
        let now = Instant::now();
        assert!(after(now, Duration::MAX) > now);
        assert!(Jitter::new(1).apply(Duration::MAX) > Duration::ZERO);
    }
}
