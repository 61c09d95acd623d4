//! Configuration from the API server: watched, judged, and kept when the server is away.
//!
//! In: what the watches see, and whether the server answers. Out: a [`Loaded`] whenever something is new. Level
//! triggered: every judgement takes all objects as they are now, so no order of events can be wrong, and what comes
//! to the same state changes nothing. Nothing here ends because of the server.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use api::DesiredState;
use api::build::{Object, Verdict, settle_with_left};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::client::{Api, Away};
use super::gather::{Gathered, PATIENCE};
use super::gone::Definition;
use super::keep::Keep;
use super::topic::Topic;
use super::watch::{Update, Watches};
use super::{ClusterView, Judged};
use crate::config::Loaded;
use crate::status::{ClusterStatus, ConfigStatus};

/// This node's configuration in the cluster.
pub(crate) struct Source {
    api: Api,
    node: String,
    gathered: Gathered,
    watches: Watches,
    updates: mpsc::Receiver<Update>,
    away: watch::Receiver<Option<Away>>,
    /// Definitions that were asked for.
    definitions: JoinSet<(Topic, Definition)>,
    /// What was settled last, and the same as the server gave it.
    in_force: Vec<Object>,
    raw: Vec<Value>,
    keep: watch::Sender<Vec<Value>>,
    judged: Option<Judgement>,
    synced: bool,
    generation: u64,
    /// What the last [`Loaded`] said.
    published: Option<(u64, ConfigStatus, Arc<ClusterView>)>,
}

/// What came of the objects.
struct Judgement {
    desired: Arc<DesiredState>,
    node_uid: Option<String>,
    own_missing: bool,
    objects: Vec<Judged>,
    /// Of the objects, and of the lists.
    problems: Vec<String>,
}

impl Source {
    /// Reads what was kept, and begins to watch. Also returns what must run beside it: the keeping of what is in force.
    ///
    /// # Errors
    /// The state folder cannot be read for want of a thread.
    pub(crate) async fn start(
        api: Api,
        node: String,
        state_dir: &Path,
    ) -> anyhow::Result<(Self, impl Future<Output = anyhow::Result<()>> + use<>)> {
        let keep = Keep::new(state_dir, &node);
        let (keep, raw) = tokio::task::spawn_blocking(move || {
            let kept = keep.load();
            (keep, kept)
        })
        .await
        .context("reading what was in force")?;
        let (raw, in_force): (Vec<Value>, Vec<Object>) = raw
            .into_iter()
            .filter_map(|raw| {
                let object = api::cluster::object(&raw)
                    .inspect_err(|error| warn!(%error, "an object that was in force cannot be read any more"))
                    .ok()?;
                Some((raw, object))
            })
            .unzip();
        let gathered = Gathered::new(&node, api.namespace(), raw.clone(), Instant::now());
        let (mut watches, updates) = Watches::new(api.clone(), node.clone());
        watches.set(&gathered.topics());
        let away = api.away();
        let (kept, to_keep) = watch::channel(raw.clone());
        let source = Self {
            api,
            node,
            gathered,
            watches,
            updates,
            away,
            definitions: JoinSet::new(),
            in_force,
            raw,
            keep: kept,
            judged: None,
            synced: false,
            generation: 0,
            published: None,
        };
        Ok((source, keep.save(to_keep)))
    }

    /// Waits for the first state; says meanwhile what it waits for.
    ///
    /// # Errors
    /// A watch ended, which none does.
    pub(crate) async fn first(&mut self, waiting: impl Fn(String)) -> anyhow::Result<Loaded> {
        loop {
            waiting(self.waits_for());
            self.step().await?;
            if let Some(loaded) = self.news() {
                if !self.synced {
                    let seconds = PATIENCE.as_secs();
                    warn!(
                        "the API server has not sent everything within {seconds} s: starting with what was in force last"
                    );
                }
                return Ok(loaded);
            }
        }
    }

    /// Follows the cluster for ever.
    ///
    /// # Errors
    /// As [`Source::first`].
    pub(crate) async fn follow(mut self, loaded: watch::Sender<Loaded>) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                stepped = self.step() => stepped?,
                () = loaded.closed() => return Ok(()),
            }
            if let Some(fresh) = self.news() {
                loaded.send_replace(fresh);
            }
        }
    }

    /// One thing that happens.
    async fn step(&mut self) -> anyhow::Result<()> {
        let due =
            [self.gathered.due(Instant::now()), self.gathered.question_due()].into_iter().flatten().min();
        tokio::select! {
            update = self.updates.recv() => {
                self.gathered.handle(Instant::now(), update.context("the watches have ended")?);
            }
            Some(answer) = self.definitions.join_next() => {
                let (topic, definition) = answer.context("asking for a definition")?;
                self.gathered.answered(Instant::now(), Timestamp::now(), &topic, definition);
            }
            changed = self.away.changed() => changed.context("the client has ended")?,
            () = until(due) => {
                let now = Instant::now();
                if self.gathered.due(now).is_some_and(|due| due <= now) {
                    self.judge(now);
                }
            }
            error = self.watches.broken() => return Err(error),
        }
        for (topic, name) in self.gathered.questions(Instant::now()) {
            let api = self.api.clone();
            self.definitions.spawn(async move { (topic, api.definition(&name).await) });
        }
        self.watches.set(&self.gathered.topics());
        Ok(())
    }

    /// Judges all objects as they are now.
    fn judge(&mut self, now: Instant) {
        self.synced |= self.gathered.complete(now);
        let raw = self.gathered.take(now);
        let current: Vec<Object> =
            raw.iter().map(|raw| api::cluster::object(raw).unwrap_or_else(Object::from)).collect();
        let left = |object: &Object| self.gathered.stays(object);
        let settled = settle_with_left(&current, &self.in_force, left, &self.node);
        let before = self.judged.take();
        let told = before.as_ref().map_or_else(Vec::new, |before| before.problems.clone());
        let desired = match before {
            Some(before) if *before.desired == settled.desired => before.desired,
            _ => {
                self.generation += 1;
                info!(generation = self.generation, "configuration changed");
                Arc::new(settled.desired)
            }
        };
        let mut problems = self.gathered.troubles(now);
        let mut objects = Vec::new();
        for ((raw, object), verdict) in raw.iter().zip(&current).zip(settled.verdicts) {
            problems.extend(said(object, &verdict));
            objects.push(Judged {
                kind: object.spec.kind(),
                name: object.name.clone(),
                uid: text(raw, "/metadata/uid").to_owned(),
                generation: raw.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default(),
                verdict,
            });
        }
        for problem in problems.iter().filter(|problem| !told.contains(problem)) {
            error!(%problem, "configuration");
        }
        if problems.is_empty() && !told.is_empty() {
            info!("configuration has no problems any more");
        }
        let node_uid = raw
            .iter()
            .find(|raw| Topic::of(raw, &self.node) == Some(Topic::OwnNode))
            .map(|raw| text(raw, "/metadata/uid").to_owned());
        self.remember(settled.in_force, &current, &raw);
        let own_missing = self.gathered.is_without(&Topic::OwnNodeNetwork);
        self.judged = Some(Judgement { desired, node_uid, own_missing, objects, problems });
    }

    /// Keeps what is in force as the server gave it, now or before.
    fn remember(&mut self, in_force: Vec<Object>, current: &[Object], raw: &[Value]) {
        // Of two versions of an object, the one in force is the one that says the same.
        let mut versions: HashMap<(&str, &str), Vec<(&Object, &Value)>> = HashMap::new();
        let known = current.iter().zip(raw).chain(self.in_force.iter().zip(&self.raw));
        for (object, raw) in known {
            versions.entry((object.spec.kind(), &object.name)).or_default().push((object, raw));
        }
        let as_given = |object: &Object| {
            let versions = versions.get(&(object.spec.kind(), object.name.as_str()))?;
            versions.iter().find(|(version, _)| *version == object).map(|(_, raw)| (*raw).clone())
        };
        let (in_force, raw): (Vec<Object>, Vec<Value>) =
            in_force.into_iter().filter_map(|object| as_given(&object).map(|raw| (object, raw))).unzip();
        self.gathered.set_in_force(&raw);
        self.keep.send_if_modified(|kept| {
            let changed = *kept != raw;
            if changed {
                kept.clone_from(&raw);
            }
            changed
        });
        (self.in_force, self.raw) = (in_force, raw);
    }

    /// What is to be told, if anything is new.
    fn news(&mut self) -> Option<Loaded> {
        let judged = self.judged.as_ref()?;
        let away = self.away.borrow_and_update().clone();
        let servers = self.api.servers();
        let mut problems = Vec::new();
        if let Some(away) = &away {
            problems
                .push(format!("the API server does not answer, so what was in force stays: {}", away.error));
        }
        problems.extend(judged.problems.iter().cloned());
        let away_since = away.map(|away| away.since);
        let status = ConfigStatus {
            files: Vec::new(),
            generation: self.generation,
            problems,
            cluster: Some(ClusterStatus {
                servers,
                synced: self.synced,
                away_since: away_since.map(seconds),
            }),
        };
        let view = Arc::new(ClusterView {
            node_uid: judged.node_uid.clone(),
            own_missing: judged.own_missing,
            objects: judged.objects.clone(),
            away_since,
            synced: self.synced,
        });
        let fresh = (self.generation, status, view);
        if self.published.as_ref() == Some(&fresh) {
            return None;
        }
        self.published = Some(fresh.clone());
        let (_, status, view) = fresh;
        Some(Loaded { desired: Arc::clone(&judged.desired), status, cluster: Some(view) })
    }

    /// What the first state waits for, in words.
    fn waits_for(&self) -> String {
        // It begins with the addresses.
        if let Some(away) = &*self.away.borrow() {
            return format!("waiting for the API server at {}", away.error);
        }
        let servers = self.api.servers().join(", ");
        let mut waits =
            vec![format!("reading {} from the API server at {servers}", self.gathered.waited_for())];
        waits.extend(self.gathered.troubles(Instant::now()));
        waits.join("; ")
    }
}

/// `BGPPeer/tor spec.timers.hold: 2s is not allowed; use 0s (off) or at least 3s (its last good version stays in force)`
fn said(object: &Object, verdict: &Verdict) -> Vec<String> {
    let (kind, name, stays) = (object.spec.kind(), &object.name, verdict.in_force());
    verdict.problems().iter().map(|problem| format!("{kind}/{name} {problem} ({stays})")).collect()
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// Since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
