//! Whether a node works, from the outcomes of its health check. No clock, no processes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::file::lifecycle::Healthcheck;

/// What a node's health check has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Nothing yet that counts.
    Starting,
    /// The last check succeeded, or too few failed since.
    Healthy,
    /// Too many checks failed in a row.
    Unhealthy,
}

/// One run of a main process, under watch.
#[derive(Debug)]
pub(crate) struct Watch {
    health: Health,
    failures: u32,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self { health: Health::Starting, failures: 0 }
    }

    /// A check has ended, `age` after the start of the main process.
    pub(crate) fn checked(&mut self, check: &Healthcheck, success: bool, age: Duration) -> Health {
        if success {
            (self.health, self.failures) = (Health::Healthy, 0);
        } else if self.health != Health::Starting || age >= check.start_period {
            self.failures += 1;
            if self.failures >= check.retries {
                self.health = Health::Unhealthy;
            }
        }
        self.health
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_after_the_start_period_and_in_a_row() {
        let seconds = Duration::from_secs;
        let check = Healthcheck {
            argv: vec!["true".to_owned()],
            interval: seconds(1),
            timeout: seconds(1),
            retries: 2,
            start_period: seconds(5),
        };
        let mut watch = Watch::new();
        let steps = [
            (false, 1, Health::Starting),
            (false, 2, Health::Starting),
            (false, 5, Health::Starting),
            (false, 6, Health::Unhealthy),
            (true, 7, Health::Healthy),
            (false, 8, Health::Healthy),
            (true, 9, Health::Healthy),
            (false, 10, Health::Healthy),
            (false, 11, Health::Unhealthy),
        ];
        for (success, age, expected) in steps {
            assert_eq!(watch.checked(&check, success, seconds(age)), expected, "at {age} s");
        }
    }
}
