//! Events, aggregated: what happens again becomes a series of the same Event, and all together have a limit.
//!
//! In: notices. Out: Events to create, and counts to add to earlier ones, at a growing distance. A session that flaps
//! makes one Event for each kind of error, which counts. A failed write is tried again. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;

use super::notice::{Notice, Regarding};

/// Kinds of things told at the same time; more are dropped, and counted.
const SERIES_MOST: usize = 200;
/// Events that may be created at once.
const BURST: f64 = 25.0;
/// After that, one in this time.
const REFILL: Duration = Duration::from_secs(30);
/// From the Event to the first count added to it; then twice as long each time, up to the last.
const DISTANCE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// What has not happened for so long makes a new Event when it does (as client libraries have it).
const FORGET: Duration = Duration::from_secs(600);
/// After a failure.
const RETRY: Duration = Duration::from_secs(5);

/// What makes two notices the same thing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    regarding: Regarding,
    reason: &'static str,
    subject: String,
}

/// One thing that happened, once or often.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) notice: Notice,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    /// How often it happened.
    pub(super) count: i32,
    /// Name of its Event, once that is there.
    pub(super) event: Option<String>,
    /// Of `count`, what the API server knows.
    told: i32,
    happened: Instant,
    due: Instant,
    distance: Duration,
}

/// All that is to be told.
pub(super) struct Book {
    series: HashMap<Key, Series>,
    credit: f64,
    counted: Instant,
    /// Notices that found no place.
    pub(super) dropped: u64,
}

impl Book {
    pub(super) fn new(now: Instant) -> Self {
        Self { series: HashMap::new(), credit: BURST, counted: now, dropped: 0 }
    }

    /// Takes in a notice.
    pub(super) fn add(&mut self, now: Instant, time: Timestamp, notice: Notice) {
        self.forget(now);
        let key = Key {
            regarding: notice.regarding.clone(),
            reason: notice.reason,
            subject: notice.subject.clone(),
        };
        if let Some(series) = self.series.get_mut(&key) {
            series.count = series.count.saturating_add(1);
            (series.last, series.happened) = (time, now);
        } else if self.series.len() >= SERIES_MOST {
            self.dropped += 1;
        } else {
            let series = Series {
                notice,
                first: time,
                last: time,
                count: 1,
                event: None,
                told: 0,
                happened: now,
                due: now,
                distance: DISTANCE.0,
            };
            self.series.insert(key, series);
        }
    }

    /// What is to be written now: a new Event, or the count of an earlier one. The oldest first.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Key, Series)> {
        let earned = now.saturating_duration_since(self.counted).as_secs_f64() / REFILL.as_secs_f64();
        self.credit = (self.credit + earned).min(BURST);
        self.counted = now;
        let affordable = |series: &Series| series.event.is_some() || self.credit >= 1.0;
        let waiting = self
            .series
            .iter()
            .filter(|(_, series)| series.told < series.count && series.due <= now && affordable(series));
        let (key, series) = waiting.min_by_key(|(_, series)| (series.due, series.first))?;
        Some((key.clone(), series.clone()))
    }

    /// `series`, as [`Book::next`] gave it, is written under this name.
    pub(super) fn written(&mut self, now: Instant, key: &Key, series: &Series, event: String) {
        if series.event.is_none() {
            self.credit = (self.credit - 1.0).max(0.0);
        }
        let Some(known) = self.series.get_mut(key) else { return };
        known.told = series.count;
        known.event = Some(event);
        known.due = now + known.distance;
        known.distance = known.distance.saturating_mul(2).min(DISTANCE.1);
    }

    /// It could not be written; `gone`: its Event is no longer there, so that it is made again.
    pub(super) fn failed(&mut self, now: Instant, key: &Key, gone: bool) {
        let Some(known) = self.series.get_mut(key) else { return };
        known.due = now + RETRY;
        if gone {
            known.event = None;
        }
    }

    /// It never can be written: the API server refuses what it says.
    pub(super) fn give_up(&mut self, key: &Key) {
        self.series.remove(key);
    }

    fn forget(&mut self, now: Instant) {
        self.series.retain(|_, series| {
            series.told < series.count || now.saturating_duration_since(series.happened) < FORGET
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(subject: &str) -> Notice {
        Notice {
            regarding: Regarding { kind: "Node", name: "node1".into() },
            related: None,
            reason: "SessionDown",
            warning: true,
            subject: subject.into(),
            note: format!("session {subject} was lost"),
        }
    }

    /// Creations and counts written in `seconds`, when `happens` says what happens each second.
    fn play(seconds: u64, happens: impl Fn(u64) -> Vec<String>) -> (usize, usize, Book) {
        let start = Instant::now();
        let mut book = Book::new(start);
        let (mut created, mut counted) = (0, 0);
        for second in 0..seconds {
            let now = start + Duration::from_secs(second);
            for subject in happens(second) {
                book.add(now, Timestamp::UNIX_EPOCH, notice(&subject));
            }
            while let Some((key, series)) = book.next(now) {
                if series.event.is_none() {
                    created += 1
                } else {
                    counted += 1
                }
                book.written(now, &key, &series, "event".into());
            }
        }
        (created, counted, book)
    }

    #[test]
    fn a_session_that_flaps_for_an_hour_is_one_event_that_counts() {
        let (created, counted, book) =
            play(3600, |second| if second % 2 == 0 { vec!["tor1".into()] } else { vec![] });
        assert_eq!(created, 1);
        assert!((5..=12).contains(&counted), "{counted}");
        let series = book.series.values().next().unwrap();
        assert_eq!(series.count, 1800);
    }

    #[test]
    fn what_happens_rarely_is_an_event_each_time() {
        let (created, counted, _) =
            play(7200, |second| if second % 1500 == 0 { vec!["tor1".into()] } else { vec![] });
        assert_eq!((created, counted), (5, 0));
    }

    #[test]
    fn a_storm_has_a_limit_and_its_oldest_come_first() {
        let (created, _, book) =
            play(
                301,
                |second| {
                    if second == 0 { (0..1000).map(|index| index.to_string()).collect() } else { vec![] }
                },
            );
        assert!((34..=35).contains(&created), "{created}");
        assert_eq!(book.dropped, 800);
    }

    #[test]
    fn an_event_that_the_server_has_forgotten_is_made_again() {
        let start = Instant::now();
        let mut book = Book::new(start);
        book.add(start, Timestamp::UNIX_EPOCH, notice("tor1"));
        let (key, series) = book.next(start).unwrap();
        book.written(start, &key, &series, "event".into());
        book.add(start, Timestamp::UNIX_EPOCH, notice("tor1"));
        assert!(book.next(start).is_none(), "counts are added at a distance");
        let later = start + DISTANCE.0;
        let (key, series) = book.next(later).unwrap();
        assert_eq!((series.count, series.event.as_deref()), (2, Some("event")));
        book.failed(later, &key, true);
        assert!(book.next(later).is_none(), "not at once");
        let (key, series) = book.next(later + RETRY).unwrap();
        assert_eq!((series.count, series.event.as_deref()), (2, None));
        book.give_up(&key);
        assert!(book.next(later + FORGET).is_none());
    }
}
