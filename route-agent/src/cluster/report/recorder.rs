//! Writes Events (events.k8s.io/v1): new ones, and how often they happened again.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Instant;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use tracing::warn;

use super::notice::{Notice, Regarding};
use super::series::{Book, Key, Series};
use super::server::{Failure, Server};

/// `reportingController` of our Events.
const CONTROLLER: &str = "towpath.io/agent";
/// The API server takes no longer note, in octets.
const NOTE_MOST: usize = 1024;
/// Nor a longer name of who reports.
const INSTANCE_MOST: usize = 128;
/// Events written between two looks at the daemon.
const AT_ONCE: usize = 5;

/// Notices on their way to the API server.
pub(super) struct Recorder {
    server: Server,
    /// Node name of who reports.
    node: String,
    book: Book,
    dropped: u64,
}

impl Recorder {
    pub(super) fn new(server: Server, node: &str) -> Self {
        Self { server, node: node.to_owned(), book: Book::new(Instant::now()), dropped: 0 }
    }

    /// Takes in a notice; [`Recorder::write`] tells it.
    pub(super) fn add(&mut self, notice: Notice) {
        self.book.add(Instant::now(), Timestamp::now(), notice);
    }

    /// Writes what is due; `uid` knows objects. Stops at the first failure: there will be another look.
    pub(super) async fn write(&mut self, uid: impl Fn(&Regarding) -> Option<String>) {
        if self.book.dropped > self.dropped {
            warn!(dropped = self.book.dropped - self.dropped, "Events dropped: too many at once");
            self.dropped = self.book.dropped;
        }
        for _ in 0..AT_ONCE {
            let Some((key, series)) = self.book.next(Instant::now()) else { return };
            let told = match &series.event {
                Some(event) => self.count(event, &series).await,
                None => self.create(&key, &series, &uid).await,
            };
            let now = Instant::now();
            match told {
                Ok(event) => self.book.written(now, &key, &series, event),
                Err(Failure::Refused(error)) => {
                    warn!(error, reason = series.notice.reason, "an Event was refused");
                    self.book.give_up(&key);
                }
                Err(failure) => {
                    self.book.failed(now, &key, matches!(failure, Failure::NotFound(_)));
                    return;
                }
            }
        }
    }

    async fn create(
        &self,
        key: &Key,
        series: &Series,
        uid: impl Fn(&Regarding) -> Option<String>,
    ) -> Result<String, Failure> {
        let regarding = &series.notice.regarding;
        let mut known = uid(regarding);
        if known.is_none() && regarding.kind == "Node" {
            known = self.server.node_uid(&regarding.name).await?;
        }
        let event =
            event(
                &self.node,
                key,
                series,
                |asked| if asked == regarding { known.clone() } else { uid(asked) },
            );
        let name = event.metadata.name.clone().unwrap_or_default();
        match self.server.create_event(&event).await {
            // The answer to an earlier attempt was lost.
            Ok(()) | Err(Failure::Conflict(_)) => Ok(name),
            Err(failure) => Err(failure),
        }
    }

    async fn count(&self, event: &str, series: &Series) -> Result<String, Failure> {
        let series = json!({ "count": series.count, "lastObservedTime": MicroTime(series.last) });
        self.server.patch_event(event, &series).await.map(|()| event.to_owned())
    }
}

fn event(node: &str, key: &Key, series: &Series, uid: impl Fn(&Regarding) -> Option<String>) -> Event {
    let Notice { regarding, related, reason, warning, note, .. } = &series.notice;
    let mut hash = DefaultHasher::new();
    (key, series.first.as_nanosecond(), node).hash(&mut hash);
    let stem: String = regarding.name.chars().take(200).collect();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:016x}", stem.trim_end_matches(['.', '-']), hash.finish())),
            namespace: Some("default".to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(series.first)),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(node.chars().take(INSTANCE_MOST).collect()),
        action: Some("Report".to_owned()),
        reason: Some((*reason).to_owned()),
        type_: Some(if *warning { "Warning" } else { "Normal" }.to_owned()),
        note: Some(shortened(note)),
        regarding: Some(reference(regarding, uid(regarding))),
        related: related.as_ref().map(|related| reference(related, uid(related))),
        series: (series.count > 1)
            .then_some(EventSeries { count: series.count, last_observed_time: MicroTime(series.last) }),
        ..Event::default()
    }
}

fn reference(object: &Regarding, uid: Option<String>) -> ObjectReference {
    let api_version = if object.kind == "Node" { "v1" } else { api::crd::API_VERSION };
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(object.kind.to_owned()),
        name: Some(object.name.clone()),
        uid,
        ..ObjectReference::default()
    }
}

fn shortened(note: &str) -> String {
    if note.len() <= NOTE_MOST {
        return note.to_owned();
    }
    let mut end = NOTE_MOST - "...".len();
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &note[..end])
}
