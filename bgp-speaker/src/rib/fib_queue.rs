//! What the FIB must still be told, and what it has not confirmed yet.
//!
//! The queue holds each changed prefix once; where its packets go is read from the Loc-RIB when the event is
//! taken, so a FIB that falls behind is told the latest state only. Confirmed batches release prefix numbers and,
//! with `advertise_after_install`, announcements.

use std::collections::VecDeque;

use super::{FibNexthop, PrefixId};

/// Batches in flight at a time. The low 16 bits of the sequence number must name one of them.
const IN_FLIGHT: usize = 16 * 1024;

/// See the module.
#[derive(Default)]
pub(crate) struct FibQueue {
    /// Changed prefixes, each once.
    dirty: VecDeque<PrefixId>,
    /// Prefixes ever taken from `dirty`.
    taken: u64,
    /// Sequence number of the last batch.
    seq: u64,
    awaiting: VecDeque<(u64, Vec<PrefixId>)>,
    /// Next hops that went with their session, not told yet.
    pub(crate) down: Vec<FibNexthop>,
    /// Settled when `taken` has come this far.
    pub(crate) settle_at: Option<u64>,
    /// Converged when `taken` has come this far.
    pub(crate) converged_at: Option<u64>,
    /// A complete list is being told.
    pub(crate) resend: Option<ResendAt>,
}

/// How far a complete list has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResendAt {
    /// Not begun.
    Start,
    /// Next prefix.
    Prefix(u32),
}

impl FibQueue {
    pub(crate) fn push(&mut self, id: PrefixId) {
        self.dirty.push_back(id);
    }
    pub(crate) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }
    pub(crate) fn is_awaiting(&self) -> bool {
        !self.awaiting.is_empty()
    }
    /// Count of prefixes taken when everything now queued has been.
    pub(crate) fn tail(&self) -> u64 {
        self.taken + self.dirty.len() as u64
    }
    pub(crate) fn reached(&self, mark: Option<u64>) -> bool {
        mark.is_some_and(|mark| self.taken >= mark)
    }
    /// May another batch be sent?
    pub(crate) fn has_room(&self) -> bool {
        self.awaiting.len() < IN_FLIGHT
    }
    pub(crate) fn take(&mut self, limit: usize) -> Vec<PrefixId> {
        let count = limit.min(self.dirty.len());
        let taken: Vec<_> = self.dirty.drain(..count).collect();
        self.taken += taken.len() as u64;
        if self.dirty.is_empty() {
            self.dirty.shrink_to(1024);
        }
        taken
    }
    /// The batch was sent; returns its sequence number.
    pub(crate) fn sent(&mut self, ids: Vec<PrefixId>) -> u64 {
        self.seq += 1;
        self.awaiting.push_back((self.seq, ids));
        self.seq
    }
    /// The sequence number the next batch will have.
    pub(crate) fn next_seq(&self) -> u64 {
        self.seq + 1
    }
    /// The oldest batch at or below `seq`, now confirmed.
    pub(crate) fn confirmed(&mut self, seq: u64) -> Option<(u64, Vec<PrefixId>)> {
        let due = self.awaiting.front().is_some_and(|batch| batch.0 <= seq);
        if due { self.awaiting.pop_front() } else { None }
    }
    /// Is the batch with these low bits still unconfirmed?
    pub(crate) fn in_flight(&self, batch: u16) -> bool {
        let age = (self.seq as u16).wrapping_sub(batch);
        usize::from(age) < self.awaiting.len()
    }
}
