//! The watches: each list of the API server, read once and then followed, for ever.
//!
//! In: which [`Topic`]s. Out: [`Update`]s. A task a topic. A watch that ends in order goes on where it was; after an
//! error the list is read anew, later each time, so that whatever went wrong nothing is missed, and an error never
//! looks like an empty list.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tracing::debug;

use super::client::Api;
use super::topic::Topic;

/// Objects in one answer to a list.
const PAGE: u32 = 500;
/// The shortest time after which the server is asked to end a watch; the longest is [`SPREAD`] later. Not the same for
/// all, or the watches of all nodes would be opened again in the same second.
const WATCH_SECONDS: u32 = 240;
const SPREAD: u32 = 50;
/// Before the second try; doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// The longest pause: what the server says is in force this long after it can be asked again.
const LAST_RETRY: Duration = Duration::from_secs(8);

/// What a watch saw.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) topic: Topic,
    pub(super) news: News,
}

#[derive(Debug)]
pub(super) enum News {
    /// All there is.
    Listed(Vec<Value>),
    /// New, or changed.
    Applied(Value),
    /// Gone.
    Deleted(Value),
    /// The server refused the list.
    Refused(Trouble),
}

/// Why a list cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server does not know the kind.
    Unknown,
    /// We may not read it; the server's words.
    Forbidden(String),
    /// Anything else the server answers, which is a matter of time; its words.
    Passing(String),
}

/// The running watches.
pub(super) struct Watches {
    api: Api,
    node: String,
    updates: mpsc::Sender<Update>,
    running: BTreeMap<Topic, AbortHandle>,
    tasks: JoinSet<()>,
}

impl Watches {
    /// None yet.
    pub(super) fn new(api: Api, node: String) -> (Self, mpsc::Receiver<Update>) {
        // Full: the watches wait, and the server keeps what comes.
        let (updates, receiver) = mpsc::channel(64);
        (Self { api, node, updates, running: BTreeMap::new(), tasks: JoinSet::new() }, receiver)
    }

    /// Watches these, and nothing else.
    pub(super) fn set(&mut self, topics: &BTreeSet<Topic>) {
        self.running.retain(|topic, task| {
            let wanted = topics.contains(topic);
            if !wanted {
                task.abort();
            }
            wanted
        });
        for topic in topics {
            if !self.running.contains_key(topic) {
                let watch = follow(self.api.clone(), self.node.clone(), topic.clone(), self.updates.clone());
                self.running.insert(topic.clone(), self.tasks.spawn(watch));
            }
        }
    }

    /// Waits for a watch that ended though it was wanted.
    pub(super) async fn broken(&mut self) -> anyhow::Error {
        loop {
            match self.tasks.join_next().await {
                Some(Err(error)) if error.is_cancelled() => {}
                Some(ended) => {
                    return ended
                        .context("a watch of the API server")
                        .err()
                        .unwrap_or_else(|| anyhow::anyhow!("a watch ended"));
                }
                None => std::future::pending().await,
            }
        }
    }
}

async fn follow(api: Api, node: String, topic: Topic, updates: mpsc::Sender<Update>) {
    let resource = topic.resource();
    let objects: kube::Api<DynamicObject> = match topic.namespace(&api) {
        Some(namespace) => kube::Api::namespaced_with(api.client(), namespace, &resource),
        None => kube::Api::all_with(api.client(), &resource),
    };
    let mut away = api.away();
    let mut pause = FIRST_RETRY;
    loop {
        let seconds = WATCH_SECONDS + u32::try_from(random() % u64::from(SPREAD)).unwrap_or_default();
        let mut config = watcher::Config::default().page_size(PAGE).timeout(seconds);
        config.field_selector = topic.field_selector(&node);
        let mut events = std::pin::pin!(watcher(objects.clone(), config));
        let mut list = Vec::new();
        let error = loop {
            let news = match events.next().await {
                Some(Ok(Event::Init)) => {
                    list.clear();
                    continue;
                }
                Some(Ok(Event::InitApply(object))) => {
                    list.extend(essence(&topic, &object));
                    continue;
                }
                Some(Ok(Event::InitDone)) => {
                    pause = FIRST_RETRY;
                    News::Listed(std::mem::take(&mut list))
                }
                Some(Ok(Event::Apply(object))) => match essence(&topic, &object) {
                    Some(object) => News::Applied(object),
                    None => continue,
                },
                Some(Ok(Event::Delete(object))) => match essence(&topic, &object) {
                    Some(object) => News::Deleted(object),
                    None => continue,
                },
                Some(Err(error)) => break Some(error),
                None => break None,
            };
            if updates.send(Update { topic: topic.clone(), news }).await.is_err() {
                return;
            }
        };
        if let Some(error) = error {
            debug!(?topic, %error, "watch");
            if let Some(trouble) = trouble(&error)
                && updates.send(Update { topic: topic.clone(), news: News::Refused(trouble) }).await.is_err()
            {
                return;
            }
        }
        // The first whose request is answered wakes the others.
        let silent = away.borrow().is_some();
        tokio::select! {
            () = tokio::time::sleep(spread(pause)) => pause = (pause * 2).min(LAST_RETRY),
            _ = away.wait_for(Option::is_none), if silent => {}
        }
    }
}

fn essence(topic: &Topic, object: &DynamicObject) -> Option<Value> {
    let object = serde_json::to_value(object)
        .inspect_err(|error| debug!(?topic, %error, "an object that is no JSON"))
        .ok()?;
    Some(topic.essence(&object))
}

/// `None`: nothing an operator can do, or `Api::away` says it.
fn trouble(error: &watcher::Error) -> Option<Trouble> {
    use watcher::Error::{InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed};
    let status = match error {
        InitialListFailed(kube::Error::Api(status)) | WatchStartFailed(kube::Error::Api(status)) => status,
        WatchFailed(kube::Error::Api(status)) | WatchError(status) => status,
        InitialListFailed(kube::Error::Service(_)) | WatchStartFailed(kube::Error::Service(_)) => {
            return None;
        }
        // The connection ended in the middle.
        WatchFailed(_) => return None,
        InitialListFailed(_) | WatchStartFailed(_) | NoResourceVersion => {
            return Some(Trouble::Passing(error.to_string()));
        }
    };
    match status.code {
        // What we had seen is too old to go on from: only the list has to be read again.
        410 => None,
        404 => Some(Trouble::Unknown),
        403 => Some(Trouble::Forbidden(status.message.clone())),
        _ => Some(Trouble::Passing(status.message.clone())),
    }
}

/// Between half of it and all of it: nodes that lost the server together do not come back together.
fn spread(pause: Duration) -> Duration {
    let half = pause / 2;
    let octet = u32::from(random().to_le_bytes()[0]);
    half + half * octet / 255
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
