//! Waiting for something to become true, instead of sleeping and hoping.

use std::time::{Duration, Instant};

/// Pause between two looks: short enough to measure with, long enough to leave the machine alone.
const PAUSE: Duration = Duration::from_millis(5);

/// What was waited for did not happen in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not true within {0:?}")]
pub struct Timeout(pub Duration);

/// Asks `condition` until it is true; returns how long that took.
///
/// # Errors
/// [`Timeout`] when it is still false after `patience`; it is asked once more at the end.
pub fn until(patience: Duration, mut condition: impl FnMut() -> bool) -> Result<Duration, Timeout> {
    let start = Instant::now();
    loop {
        let late = start.elapsed() >= patience;
        if condition() {
            return Ok(start.elapsed());
        }
        if late {
            return Err(Timeout(patience));
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn until_asks_at_least_once_and_gives_up() {
        assert!(until(Duration::ZERO, || true).is_ok());
        let mut asked = 0;
        let late = until(Duration::from_millis(20), || {
            asked += 1;
            false
        });
        assert_eq!(late, Err(Timeout(Duration::from_millis(20))));
        assert!(asked > 1);
    }
}
