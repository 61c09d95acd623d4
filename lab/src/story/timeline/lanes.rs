//! What changed, as lanes: a stretch of time for each state, one lane for all that changed alike.

use std::collections::BTreeMap;
use std::time::Duration;

use super::scale::Scale;
use crate::story::report::{RouteChange, SessionChange};

/// One row of the picture.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lane<S> {
    pub(super) label: String,
    /// How many more sessions or routes of this node it stands for.
    pub(super) more: usize,
    /// When each state began, in order; before the first nothing is known.
    pub(super) changes: Vec<(Duration, S)>,
}

/// The sessions that changed while the picture lasts, the earliest change first.
pub(super) fn sessions(changes: &[SessionChange], scale: &Scale) -> Vec<Lane<String>> {
    let mut histories = BTreeMap::new();
    for change in changes {
        let key = (change.node.clone(), change.neighbor.clone());
        push(histories.entry(key).or_default(), change.at, change.state.clone());
    }
    lanes(histories, scale, |(node, neighbor)| format!("{node} – {neighbor}"))
}

/// The routes that changed while the picture lasts, by their number of next hops.
pub(super) fn routes(changes: &[RouteChange], scale: &Scale) -> Vec<Lane<usize>> {
    let mut histories = BTreeMap::new();
    for change in changes {
        let key = (change.node.clone(), change.prefix.clone());
        push(histories.entry(key).or_default(), change.at, change.nexthops);
    }
    lanes(histories, scale, |(node, prefix)| format!("{node} {prefix}"))
}

type Key = (String, String);
/// When each state began.
type History<S> = Vec<(Duration, S)>;

/// A session or route, and what became of it.
type Member<S> = (Key, History<S>);
/// A history as the picture shows it: the pixel at which each state begins.
type Shape<S> = Vec<(u64, S)>;

/// Appends a state; one that is seen again is no change.
fn push<S: PartialEq>(history: &mut History<S>, at: Duration, state: S) {
    if history.last().is_none_or(|(_, last)| *last != state) {
        history.push((at, state));
    }
}

/// A lane for each node and history, histories being alike when the picture could not show a difference.
fn lanes<S: Clone + Ord>(
    histories: BTreeMap<Key, History<S>>,
    scale: &Scale,
    label: impl Fn(&Key) -> String,
) -> Vec<Lane<S>> {
    let mut alike: BTreeMap<(String, Shape<S>), Vec<Member<S>>> = BTreeMap::new();
    for (key, history) in histories {
        if !history.iter().any(|(at, _)| *at > scale.from && scale.shows(*at)) {
            continue;
        }
        let pixel = |at: Duration| scale.x(at).round() as u64;
        let shape = history.iter().map(|(at, state)| (pixel(*at), state.clone())).collect();
        alike.entry((key.0.clone(), shape)).or_default().push((key, history));
    }
    let mut lanes: Vec<Lane<S>> = alike
        .into_values()
        .filter_map(|members| {
            let more = members.len() - 1;
            let (key, changes) = members.into_iter().next()?;
            Some(Lane { label: label(&key), more, changes })
        })
        .collect();
    let first = |lane: &Lane<S>| lane.changes.iter().map(|(at, _)| *at).find(|at| *at > scale.from);
    lanes.sort_by(|a, b| first(a).cmp(&first(b)).then_with(|| a.label.cmp(&b.label)));
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::report::Timeline;

    fn scale() -> Scale {
        let timeline = Timeline { to: Duration::from_secs(10), ..Timeline::default() };
        Scale::of(&timeline, &[Duration::from_secs(1)], 0.0, 100.0)
    }

    fn route(at: f64, prefix: &str, nexthops: usize) -> RouteChange {
        let at = Duration::from_secs_f64(at);
        RouteChange { at, node: "n".to_owned(), prefix: prefix.to_owned(), nexthops }
    }

    #[test]
    fn routes_that_change_alike_share_a_lane() {
        let changes = [
            route(0.0, "10.1.0.0/24", 2),
            route(0.0, "10.2.0.0/24", 2),
            route(0.0, "10.3.0.0/24", 2),
            route(0.0, "10.4.0.0/24", 2),
            route(0.90, "10.1.0.0/24", 1),
            route(0.91, "10.2.0.0/24", 1),
            route(0.91, "10.2.0.0/24", 1),
            route(0.50, "10.3.0.0/24", 0),
        ];
        let lanes = routes(&changes, &scale());
        let labels: Vec<_> = lanes.iter().map(|lane| (lane.label.as_str(), lane.more)).collect();
        assert_eq!(labels, [("n 10.3.0.0/24", 0), ("n 10.1.0.0/24", 1)]);
        let states: Vec<usize> = lanes[1].changes.iter().map(|(_, nexthops)| *nexthops).collect();
        assert_eq!(states, [2, 1]);
    }
}
