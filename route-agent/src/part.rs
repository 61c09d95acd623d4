//! A part of the daemon that runs until it is stopped: whoever waits for it learns why it ended.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, bail};

/// A running part.
pub(crate) struct Part {
    name: &'static str,
    /// `None`: its end has been seen.
    ending: Option<Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>>,
}

impl Part {
    /// `ending` is ready when the part has ended, a panic included.
    pub(crate) fn new(
        name: &'static str,
        ending: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) -> Self {
        Self { name, ending: Some(Box::pin(ending)) }
    }

    /// Waits for an end that nobody asked for, and says why it came. Cancel-safe.
    pub(crate) async fn ended_early(&mut self) -> anyhow::Error {
        let Some(ending) = &mut self.ending else { return std::future::pending().await };
        let outcome = ending.await;
        self.ending = None;
        match outcome {
            Ok(()) => anyhow::anyhow!("{} ended by itself", self.name),
            Err(error) => error.context(format!("{} failed", self.name)),
        }
    }

    /// Whether its end has not been seen yet.
    pub(crate) fn runs(&self) -> bool {
        self.ending.is_some()
    }

    /// Waits for the end that was asked for, within `limit`.
    ///
    /// # Errors
    /// It failed on the way, or did not end.
    pub(crate) async fn stopped(self, limit: Duration) -> anyhow::Result<()> {
        let Some(ending) = self.ending else { return Ok(()) };
        match tokio::time::timeout(limit, ending).await {
            Ok(outcome) => outcome.with_context(|| format!("stopping {}", self.name)),
            Err(_) => bail!("{} did not end within {} s", self.name, limit.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn whatever_way_a_part_ends_by_itself_is_an_error_that_names_it() {
        for (how, expected) in [
            ("returns", "the FIB ended by itself"),
            ("fails", "the FIB failed: no socket"),
            ("panics", "the FIB failed: task"),
        ] {
            let task = tokio::spawn(async move {
                match how {
                    "returns" => Ok(()),
                    "fails" => Err(anyhow::anyhow!("no socket")),
                    _ => panic!("a bug"),
                }
            });
            let mut part = Part::new("the FIB", async { task.await? });
            assert!(part.runs());
            let error = format!("{:#}", part.ended_early().await);
            assert!(error.starts_with(expected), "{how}: {error}");
            assert!(!part.runs());
            // Its end is known: there is nothing left to wait for.
            part.stopped(LIMIT).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_part_that_is_stopped_says_how_it_went_and_one_that_hangs_is_not_waited_for() {
        Part::new("the FIB", async { Ok(()) }).stopped(LIMIT).await.unwrap();
        let failing = Part::new("the FIB", async { bail!("no socket") }).stopped(LIMIT).await;
        assert_eq!(format!("{:#}", failing.unwrap_err()), "stopping the FIB: no socket");
        let hanging = Part::new("the FIB", std::future::pending()).stopped(Duration::ZERO).await;
        assert_eq!(hanging.unwrap_err().to_string(), "the FIB did not end within 0 s");
    }
}
