//! The schedule of a starting lab, shared by the threads of its nodes.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::file::stage::{Stage, WaitFor};
use crate::start::schedule::Schedule;

/// The lab's start was given up; who did so has said why.
#[derive(Debug, thiserror::Error)]
#[error("the lab is given up")]
pub(crate) struct GivenUp;

pub(crate) struct Board {
    schedule: Mutex<Schedule>,
    changed: Condvar,
}

impl Board {
    pub(crate) fn new(schedule: Schedule) -> Self {
        Self { schedule: Mutex::new(schedule), changed: Condvar::new() }
    }

    /// Waits until `node` may enter `stage`.
    pub(crate) fn enter(&self, node: &str, stage: Stage) -> Result<(), GivenUp> {
        let stage = WaitFor { node: node.to_owned(), stage };
        let mut schedule = self.lock();
        loop {
            if schedule.failure().is_some() {
                return Err(GivenUp);
            }
            let Some(missing) = schedule.missing(&stage).map(|wait| format!("waits for {wait}")) else {
                return Ok(());
            };
            schedule.doing(node, missing, Instant::now());
            schedule = self.changed.wait(schedule).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for `node`'s turn to be created.
    pub(crate) fn turn(&self, node: &str) -> Result<(), GivenUp> {
        self.lock().release(node);
        self.changed.notify_all();
        let mut schedule = self.lock();
        loop {
            if schedule.failure().is_some() {
                return Err(GivenUp);
            }
            if schedule.may_create(node) {
                drop(schedule);
                // The next one by name may have been waiting for this one to take its turn.
                self.changed.notify_all();
                return Ok(());
            }
            schedule = self.changed.wait(schedule).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for `time`, unless the lab is given up before.
    pub(crate) fn delay(&self, time: Duration) -> Result<(), GivenUp> {
        let (schedule, _) = self
            .changed
            .wait_timeout_while(self.lock(), time, |schedule| schedule.failure().is_none())
            .unwrap_or_else(PoisonError::into_inner);
        if schedule.failure().is_some() { Err(GivenUp) } else { Ok(()) }
    }

    pub(crate) fn created(&self) {
        self.change(Schedule::created);
    }

    pub(crate) fn end(&self, node: &str, stage: Stage) {
        self.change(|schedule| schedule.end(WaitFor { node: node.to_owned(), stage }));
    }

    pub(crate) fn doing(&self, node: &str, what: String) {
        self.lock().doing(node, what, Instant::now());
    }

    pub(crate) fn settle(&self, node: &str) {
        self.change(|schedule| schedule.settle(node));
    }

    pub(crate) fn fail(&self, reason: String) {
        self.change(|schedule| schedule.fail(reason));
    }

    /// Waits until all nodes are up, calling `meanwhile` with a line about them every `interval`.
    ///
    /// # Errors
    /// Why the start failed.
    pub(crate) fn until_up(
        &self,
        interval: Duration,
        mut meanwhile: impl FnMut(String),
    ) -> Result<(), String> {
        let mut schedule = self.lock();
        let mut next = Instant::now() + interval;
        loop {
            if let Some(reason) = schedule.failure() {
                return Err(reason.to_owned());
            }
            if schedule.is_up() {
                return Ok(());
            }
            let now = Instant::now();
            if now >= next {
                meanwhile(schedule.summary(now));
                next = now + interval;
            }
            let (waited, _) =
                self.changed.wait_timeout(schedule, next - now).unwrap_or_else(PoisonError::into_inner);
            schedule = waited;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Schedule)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
