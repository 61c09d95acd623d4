//! When a table that has shrunk gives its memory back.
//!
//! Giving back stops every thread that allocates, for milliseconds: not while routes still go. In: the number of
//! prefixes, after each change. Out: a moment. Routes that come back meanwhile do not put it off: what is free then is
//! returned all the same.

use std::time::Duration;

use tokio::time::Instant;

use crate::memory;

/// Tables that were never larger are not worth it.
const SMALL_TABLE: usize = 4096;
/// How long after the last halving.
const REST: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Shrinking {
    /// Most prefixes since the last halving.
    most: usize,
    due: Option<Instant>,
}

impl Shrinking {
    /// The table has this many prefixes now.
    pub(crate) fn watch(&mut self, prefixes: usize) {
        self.most = self.most.max(prefixes);
        if self.most > SMALL_TABLE && prefixes < self.most / 2 {
            self.most = prefixes;
            self.due = Some(Instant::now() + REST);
        }
    }

    /// When [`Shrinking::give_back`] should be called.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn give_back(&mut self) {
        self.due = None;
        memory::give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_table_gives_back_a_while_after_its_last_halving() {
        let mut shrinking = Shrinking::default();
        for prefixes in [4096, 0, 10_000, 5_000] {
            shrinking.watch(prefixes);
            assert_eq!(shrinking.due(), None, "{prefixes}: small, or not yet half");
        }
        shrinking.watch(4_999);
        let first = shrinking.due().unwrap();
        assert!(first > Instant::now(), "not at once");
        shrinking.watch(4_000);
        assert_eq!(shrinking.due(), Some(first), "too little since");
        shrinking.watch(2_000);
        assert!(shrinking.due() > Some(first), "half of what was left: it waits on");
        shrinking.give_back();
        shrinking.watch(1_000);
        assert_eq!(shrinking.due(), None, "once");
    }
}
