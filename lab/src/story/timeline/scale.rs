//! Time on the picture's horizontal axis.

use std::time::Duration;

use crate::story::report::Timeline;

/// Maps times of the story to pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub(super) from: Duration,
    pub(super) to: Duration,
    /// What the axis calls zero: the first event.
    pub(super) zero: Duration,
    left: f64,
    width: f64,
}

impl Scale {
    /// The part of the timeline in which something happens: where most of it is waiting, the waiting is cut.
    pub(super) fn of(timeline: &Timeline, events: &[Duration], left: f64, width: f64) -> Self {
        let zero = events.iter().min().copied().unwrap_or(timeline.from);
        let whole = Self { from: timeline.from, to: timeline.to, zero, left, width };
        let Some(last) = changes(timeline).filter(|at| *at > timeline.from).max() else { return whole };
        let last = events.iter().copied().fold(last, Duration::max);
        let active = last.saturating_sub(zero).max(Duration::from_millis(100));
        let from = timeline.from.max(zero.saturating_sub(active / 4));
        let to = timeline.to.min(last.max(zero) + active / 2);
        if to.saturating_sub(from) * 5 < timeline.to.saturating_sub(timeline.from) * 3 {
            Self { from, to, ..whole }
        } else {
            whole
        }
    }

    pub(super) fn shows(&self, at: Duration) -> bool {
        (self.from..=self.to).contains(&at)
    }

    /// The pixel of a time; what lies outside is drawn at the edge.
    pub(super) fn x(&self, at: Duration) -> f64 {
        let span = self.to.saturating_sub(self.from).as_secs_f64().max(1e-9);
        let part = at.clamp(self.from, self.to.max(self.from)).saturating_sub(self.from).as_secs_f64() / span;
        self.left + part * self.width
    }

    pub(super) fn right(&self) -> f64 {
        self.left + self.width
    }

    /// Round times for the axis, six to twelve of them, with their words.
    pub(super) fn ticks(&self) -> Vec<(Duration, String)> {
        let span = self.to.saturating_sub(self.from).as_micros().max(1);
        let steps = (0..20).flat_map(|power| [1, 2, 5].map(|factor| factor * 10_u128.pow(power)));
        let step = steps.into_iter().find(|step| span / step <= 10).unwrap_or(span);
        let (zero, from, to) = (self.zero.as_micros(), self.from.as_micros(), self.to.as_micros());
        let before = zero.saturating_sub(from) / step;
        (0..)
            .map(|index: u128| (zero + index * step).checked_sub(before * step).map(|at| (index, at)))
            .map_while(|tick| tick.filter(|(_, at)| *at <= to))
            .map(|(index, at)| {
                let microseconds = (index as i128 - before as i128) * step as i128;
                let time = Duration::from_micros(u64::try_from(at).unwrap_or(u64::MAX));
                (time, words(microseconds, step))
            })
            .collect()
    }
}

/// Times at which something was seen to change; losses by the end of their bucket.
fn changes(timeline: &Timeline) -> impl Iterator<Item = Duration> + '_ {
    let sessions = timeline.sessions.iter().map(|change| change.at);
    let routes = timeline.routes.iter().map(|change| change.at);
    let lost = timeline.packets.iter().flat_map(|series| {
        let lost = series.buckets.iter().enumerate().filter(|(_, bucket)| bucket.lost > 0);
        lost.map(|(index, _)| timeline.from + series.bucket * u32::try_from(index + 1).unwrap_or(u32::MAX))
    });
    sessions.chain(routes).chain(lost)
}

fn words(microseconds: i128, step: u128) -> String {
    let value = microseconds as f64;
    match step {
        _ if microseconds == 0 => "0".to_owned(),
        500_000.. => format!("{} s", value / 1e6),
        1_000.. => format!("{} ms", value / 1e3),
        _ => format!("{value} µs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::report::SessionChange;

    fn timeline(to: u64, changes: &[u64]) -> Timeline {
        let change = |at: &u64| SessionChange {
            at: Duration::from_millis(*at),
            node: "a".to_owned(),
            neighbor: "b".to_owned(),
            state: "Idle".to_owned(),
        };
        Timeline {
            from: Duration::from_secs(1),
            to: Duration::from_millis(to),
            sessions: changes.iter().map(change).collect(),
            ..Timeline::default()
        }
    }

    #[test]
    fn ticks_are_round_and_zero_is_the_first_event() {
        let words = |to: u64| -> Vec<String> {
            let event = [Duration::from_millis(1_500)];
            let scale = Scale::of(&timeline(to, &[to]), &event, 0.0, 100.0);
            scale.ticks().into_iter().map(|(_, word)| word).collect()
        };
        assert_eq!(words(2_100), ["-400 ms", "-200 ms", "0", "200 ms", "400 ms", "600 ms"]);
        assert_eq!(words(5_400), ["-0.5 s", "0", "0.5 s", "1 s", "1.5 s", "2 s", "2.5 s", "3 s", "3.5 s"]);
        assert_eq!(words(66_000)[..3], ["0", "10 s", "20 s"]);
    }

    #[test]
    fn waiting_without_a_change_is_cut() {
        let events = [Duration::from_millis(2_000)];
        let scale = Scale::of(&timeline(20_000, &[1_000, 2_400]), &events, 0.0, 100.0);
        assert_eq!((scale.from, scale.to), (Duration::from_millis(1_900), Duration::from_millis(2_600)));
        let busy = Scale::of(&timeline(3_000, &[2_900]), &events, 0.0, 100.0);
        assert_eq!((busy.from, busy.to), (Duration::from_secs(1), Duration::from_secs(3)));
        assert_eq!((busy.x(Duration::ZERO), busy.x(Duration::from_secs(2))), (0.0, 50.0));
    }
}
