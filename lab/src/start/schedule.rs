//! Which node of a starting lab may do what next, and what all of them are doing.
//!
//! In: what each stage waits for, and what the nodes report. Out: permissions, and a line for
//! whoever looks on. A bounded number of nodes is created at a time, the first by name first;
//! everything else runs at once. No threads, no kernel; [`crate::start::board`] is the driver.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::file::stage::{Stage, WaitFor};

/// Nodes named in a line about those under way.
const NAMED: usize = 4;

#[derive(Debug, Default)]
pub(crate) struct Schedule {
    waits: BTreeMap<WaitFor, Vec<WaitFor>>,
    ended: BTreeSet<WaitFor>,
    /// Nodes that cannot be created yet for reasons of their own, such as a start delay.
    held: BTreeSet<String>,
    to_create: BTreeSet<String>,
    creating: usize,
    creating_at_most: usize,
    under_way: BTreeMap<String, (String, Option<Instant>)>,
    nodes: usize,
    failure: Option<String>,
}

impl Schedule {
    /// `waits` gives for a stage of a node what must have ended before it is entered.
    pub(crate) fn new(
        nodes: impl IntoIterator<Item = String>,
        waits: BTreeMap<WaitFor, Vec<WaitFor>>,
        held: BTreeSet<String>,
        creating_at_most: usize,
    ) -> Self {
        let to_create: BTreeSet<String> = nodes.into_iter().collect();
        let under_way = to_create.iter().map(|node| (node.clone(), ("waits its turn".to_owned(), None)));
        Self {
            nodes: to_create.len(),
            under_way: under_way.collect(),
            waits,
            held,
            to_create,
            creating_at_most,
            ..Self::default()
        }
    }

    /// What the stage still waits for; nothing: it may be entered.
    pub(crate) fn missing(&self, stage: &WaitFor) -> Option<&WaitFor> {
        self.waits.get(stage).into_iter().flatten().find(|wait| !self.ended.contains(wait))
    }

    /// The node has no reason of its own any more not to be created.
    pub(crate) fn release(&mut self, node: &str) {
        self.held.remove(node);
    }

    /// Lets `node` be created now, if there is room and no node before it by name could be.
    pub(crate) fn may_create(&mut self, node: &str) -> bool {
        let stage = |node: &String| WaitFor { node: node.clone(), stage: Stage::Create };
        let next = self
            .to_create
            .iter()
            .find(|node| !self.held.contains(*node) && self.missing(&stage(node)).is_none());
        if self.creating >= self.creating_at_most || next.is_none_or(|next| next != node) {
            return false;
        }
        self.to_create.remove(node);
        self.creating += 1;
        true
    }

    /// Its process 1 runs.
    pub(crate) fn created(&mut self) {
        self.creating = self.creating.saturating_sub(1);
    }

    /// The stage has ended, its `exec` included.
    pub(crate) fn end(&mut self, stage: WaitFor) {
        self.ended.insert(stage);
    }

    /// The node is as its file describes it; whatever follows, nobody waits for it.
    pub(crate) fn settle(&mut self, node: &str) {
        self.under_way.remove(node);
    }

    /// What `node` does from `now` on, in words.
    pub(crate) fn doing(&mut self, node: &str, what: String, now: Instant) {
        if let Some(doing) = self.under_way.get_mut(node) {
            *doing = (what, Some(now));
        }
    }

    /// The whole lab is up.
    pub(crate) fn is_up(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Ends the start of the lab; the first reason counts.
    pub(crate) fn fail(&mut self, reason: String) {
        self.failure.get_or_insert(reason);
    }

    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// One line: how many are up, and what the others do, for how long.
    pub(crate) fn summary(&self, now: Instant) -> String {
        let up = self.nodes - self.under_way.len();
        let mut doing: Vec<_> = self.under_way.iter().collect();
        // The longest first; who has not begun is at the end.
        doing.sort_by_key(|(_, (_, since))| since.map_or((true, None), |since| (false, Some(since))));
        let mut named: Vec<String> = doing
            .iter()
            .take(NAMED)
            .map(|(node, (what, since))| match since {
                Some(since) => format!("{node} {what} ({} s)", now.duration_since(*since).as_secs()),
                None => format!("{node} {what}"),
            })
            .collect();
        if doing.len() > NAMED {
            named.push(format!("{} more", doing.len() - NAMED));
        }
        format!("{up} of {} nodes up; {}", self.nodes, named.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn end(node: &str, stage: Stage) -> WaitFor {
        WaitFor { node: node.to_owned(), stage }
    }

    fn schedule(nodes: &str, waits: &[(WaitFor, WaitFor)], held: &[&str], at_most: usize) -> Schedule {
        let mut map: BTreeMap<WaitFor, Vec<WaitFor>> = BTreeMap::new();
        for (stage, wait) in waits {
            map.entry(stage.clone()).or_default().push(wait.clone());
        }
        let held = held.iter().map(|&node| node.to_owned()).collect();
        Schedule::new(nodes.split(' ').map(str::to_owned), map, held, at_most)
    }

    #[test]
    fn nodes_are_created_by_name_and_no_more_at_once_than_allowed() {
        let mut schedule = schedule("a b c", &[], &[], 2);
        assert!(!schedule.may_create("b"), "a comes first, whenever it asks");
        assert!(schedule.may_create("a"));
        assert!(schedule.may_create("b"));
        assert!(!schedule.may_create("c"));
        schedule.created();
        assert!(schedule.may_create("c"));
    }

    #[test]
    fn who_waits_or_is_held_is_in_nobodys_way() {
        let waits = [(end("a", Stage::Create), end("c", Stage::Configure))];
        let mut schedule = schedule("a b c", &waits, &["b"], 1);
        assert!(!schedule.may_create("a") && !schedule.may_create("b"));
        assert!(schedule.may_create("c"));
        schedule.created();
        schedule.release("b");
        assert!(schedule.may_create("b"));
        schedule.created();
        assert_eq!(schedule.missing(&waits[0].0), Some(&waits[0].1));
        assert!(!schedule.may_create("a"));
        schedule.end(end("c", Stage::Configure));
        assert!(schedule.may_create("a"));
    }

    #[test]
    fn a_lab_is_up_when_every_node_is_and_says_what_the_others_do() {
        let mut schedule = schedule("a b c d e f", &[], &[], 1);
        let start = Instant::now();
        schedule.settle("a");
        schedule.doing("c", "runs exec `sleep 3`".to_owned(), start + Duration::from_secs(1));
        schedule.doing("b", "waits for f healthy".to_owned(), start);
        assert_eq!(
            schedule.summary(start + Duration::from_secs(3)),
            "1 of 6 nodes up; b waits for f healthy (3 s), c runs exec `sleep 3` (2 s), \
             d waits its turn, e waits its turn, 1 more"
        );
        for node in ["b", "c", "d", "e", "f"] {
            assert!(!schedule.is_up());
            schedule.settle(node);
        }
        assert!(schedule.is_up());
        schedule.fail("first".to_owned());
        schedule.fail("second".to_owned());
        assert_eq!(schedule.failure(), Some("first"));
    }
}
