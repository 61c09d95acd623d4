//! Waiting for a condition with a deadline, instead of sleeping and hoping.

use std::time::{Duration, Instant};

/// Calls `check` until it gives a value, every 10 ms, at most for `limit`.
///
/// # Errors
/// After `limit`: says what was waited for, and the last error of `check` where it gave one.
pub fn until<T>(
    limit: Duration,
    what: &str,
    mut check: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let error = match check() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if Instant::now() >= deadline {
            return Err(match error {
                Some(error) => error.context(format!("waited {limit:?} in vain for: {what}")),
                None => anyhow::anyhow!("waited {limit:?} in vain for: {what}"),
            });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
