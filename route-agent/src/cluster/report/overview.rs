//! What one daemon reports for the whole cluster: counts of each BGPPeer, verdicts on the resources all nodes share,
//! nodes with one identity. Streams every NodeNetwork and keeps a [`Tally`] of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use api::build::Verdict;
use api::few;
use api::words::{Condition, Status};
use futures_util::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::core::Object;
use kube::runtime::{WatchStreamExt, watcher};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::conditions::Judgement;
use super::notice::{Notice, Regarding};
use super::own::uid;
use super::recorder::Recorder;
use super::server::{CLUSTER_MANAGER, Failure, MANAGER, Server};
use super::status::time;
use super::tally::{Clash, IDENTITY, Lean, Sum, Tally};
use super::verdict;
use crate::cluster::topic::resource;
use crate::cluster::{ClusterView, Judged};
use crate::config::Loaded;

/// How often verdicts and counts are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Objects written at one look.
const AT_ONCE: usize = 20;
/// A BGPPeer is written no more often than this, times what a large cluster's many watchers ask for.
const GAP: (Duration, Duration, Duration) =
    (Duration::from_millis(10), Duration::from_secs(5), Duration::from_secs(60));
/// Nodes read with one request.
const PAGE: u32 = 500;

/// A NodeNetwork with what is counted of it.
type Counted = Object<Anything, Lenient>;

/// Whatever is written here is not read.
#[derive(Clone, Debug, Deserialize)]
struct Anything {}

/// A status; one that cannot be read counts as empty, and hides no other node's.
#[derive(Clone, Debug, Default)]
struct Lenient(Lean);

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(Self(Lean::deserialize(value).unwrap_or_default()))
    }
}

/// The reports of the one that has the Lease.
pub(super) struct Overview<'a> {
    server: Server,
    node: String,
    loaded: watch::Receiver<Loaded>,
    /// For candidates: how many nodes there are.
    nodes: &'a AtomicU32,
    tally: Tally,
    /// All nodes have been read once.
    complete: bool,
    written: HashMap<(&'static str, String), Written>,
    /// Conditions of nodes with another's identity.
    clashes: BTreeMap<String, String>,
    /// Nodes whose status is not ours to write: each daemon is held to its own.
    locked: BTreeSet<String>,
    told: BTreeSet<Clash>,
    recorder: Recorder,
    /// Refused objects told of: which generation.
    refused: HashMap<(&'static str, String), (i64, Vec<String>)>,
    failing: bool,
}

struct Written {
    uid: String,
    status: Value,
    at: Instant,
}

impl<'a> Overview<'a> {
    pub(super) fn new(
        server: Server,
        node: &str,
        loaded: watch::Receiver<Loaded>,
        nodes: &'a AtomicU32,
    ) -> Self {
        Self {
            recorder: Recorder::new(server.clone(), node),
            server,
            node: node.to_owned(),
            loaded,
            nodes,
            tally: Tally::default(),
            complete: false,
            written: HashMap::new(),
            clashes: BTreeMap::new(),
            locked: BTreeSet::new(),
            told: BTreeSet::new(),
            refused: HashMap::new(),
            failing: false,
        }
    }

    /// Reports until it is dropped, or the configuration channel closes.
    pub(super) async fn run(mut self) {
        let nodes: Api<Counted> = Api::all_with(self.server.client(), &resource("NodeNetwork"));
        let config = watcher::Config::default().page_size(PAGE);
        let mut stream = pin!(watcher(nodes, config).default_backoff());
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = stream.next() => match event {
                    Some(Ok(event)) => self.count(event),
                    // The stream begins again by itself, after a pause.
                    Some(Err(error)) => tracing::debug!(%error, "watching NodeNetworks"),
                    None => return,
                },
                _ = looks.tick() => {
                    if self.loaded.has_changed().is_err() {
                        return;
                    }
                    self.look().await;
                }
            }
        }
    }

    fn count(&mut self, event: watcher::Event<Counted>) {
        match event {
            watcher::Event::Init => self.tally.begin(),
            watcher::Event::InitDone => {
                self.tally.complete();
                self.complete = true;
            }
            watcher::Event::Apply(node) | watcher::Event::InitApply(node) => {
                let name = node.metadata.name.unwrap_or_default();
                self.tally.put(&name, &node.status.unwrap_or_default().0);
            }
            watcher::Event::Delete(node) => {
                self.tally.remove(node.metadata.name.as_deref().unwrap_or_default());
            }
        }
        self.nodes.store(u32::try_from(self.tally.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    async fn look(&mut self) {
        let Some(view) = self.loaded.borrow_and_update().cluster.clone() else { return };
        // From the disk, or before all nodes are read: not worth telling others.
        if !view.synced || view.away_since.is_some() || !self.complete {
            return;
        }
        let outcome = self.report(&view).await;
        if let Err(failure) = &outcome
            && !self.failing
        {
            warn!(error = %failure, "status of shared resources cannot be written; it is tried until it can");
        }
        self.failing = outcome.is_err();
        let node = self.node.clone();
        self.recorder.write(|object| uid(&view, &node, object)).await;
    }

    async fn report(&mut self, view: &ClusterView) -> Result<(), Failure> {
        let now = Timestamp::now();
        let sums: BTreeMap<String, Sum> =
            self.tally.sums(now).into_iter().map(|(name, sum)| (name.to_owned(), sum)).collect();
        let mut left = AT_ONCE;
        for judged in view.objects.iter().filter(|judged| is_shared(judged.kind)) {
            self.tell(judged);
            left -= usize::from(self.write(judged, sums.get(&judged.name), &time(now)).await?);
            if left == 0 {
                return Ok(());
            }
        }
        let there = |kind: &str, name: &str| {
            view.objects.iter().any(|judged| judged.kind == kind && judged.name == name)
        };
        self.written.retain(|(kind, name), _| there(kind, name));
        self.refused.retain(|(kind, name), _| there(kind, name));
        self.identities(&time(now), left).await
    }

    /// Writes one object's status if it is not as it should be.
    async fn write(&mut self, judged: &Judged, sum: Option<&Sum>, now: &str) -> Result<bool, Failure> {
        let key = (judged.kind, judged.name.clone());
        if self.written.get(&key).is_none_or(|written| written.uid != judged.uid) {
            let status = match self.server.status(judged.kind, &judged.name).await {
                Ok(status) => status,
                Err(Failure::NotFound(_)) => return Ok(false),
                Err(failure) => return Err(failure),
            };
            let at = Instant::now().checked_sub(GAP.2).unwrap_or_else(Instant::now);
            self.written.insert(key.clone(), Written { uid: judged.uid.clone(), status, at });
        }
        let Some(written) = self.written.get(&key) else { return Ok(false) };
        let (factor, least, most) = GAP;
        let nodes = self.nodes.load(Ordering::Relaxed);
        if written.at.elapsed() < factor.saturating_mul(nodes).clamp(least, most) {
            return Ok(false);
        }
        let status = status_of(judged, sum, &conditions(&written.status), now)
            .map_err(|error| Failure::Refused(error.to_string()))?;
        if status == written.status {
            return Ok(false);
        }
        match self.server.apply_status(judged.kind, &judged.name, MANAGER, &status).await {
            Ok(()) => {
                self.written.insert(key, Written { uid: judged.uid.clone(), status, at: Instant::now() });
                Ok(true)
            }
            Err(Failure::NotFound(_)) => {
                self.written.remove(&key);
                Ok(false)
            }
            Err(failure) => Err(failure),
        }
    }

    /// An Event when an object is refused, or lacks what it names.
    fn tell(&mut self, judged: &Judged) {
        let key = (judged.kind, judged.name.clone());
        let reason = match &judged.verdict {
            Verdict::Accepted => {
                self.refused.remove(&key);
                return;
            }
            Verdict::Unresolved { .. } => "ReferenceMissing",
            Verdict::Refused { .. } => "Refused",
        };
        let problems = judged.verdict.problems();
        let told = (judged.generation, problems.to_vec());
        if self.refused.get(&key) == Some(&told) {
            return;
        }
        self.refused.insert(key, told);
        let text = few(problems, "; ");
        self.recorder.add(Notice {
            regarding: Regarding { kind: judged.kind, name: judged.name.clone() },
            related: None,
            reason,
            warning: true,
            subject: text.clone(),
            note: format!("{text}; {}", judged.verdict.in_force()),
        });
    }

    /// Two nodes with one router id, or one AS number where each has its own.
    async fn identities(&mut self, now: &str, most: usize) -> Result<(), Failure> {
        let clashes = self.tally.clashes(|node, asn| asn == api::build::asn_of_node(node));
        let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for clash in &clashes {
            let all = clash.nodes.join(", ");
            for node in &clash.nodes {
                wanted.entry(node.clone()).or_default().push(format!("{} is in use on {all}", clash.what));
            }
            if self.told.insert(clash.clone()) {
                self.tell_clash(clash);
            }
        }
        self.told.retain(|clash| clashes.contains(clash));
        let cleared: Vec<String> =
            self.tally.flagged().filter(|node| !wanted.contains_key(*node)).map(str::to_owned).collect();
        for node in cleared.into_iter().take(most) {
            self.flag(&node, &json!({})).await?;
            self.clashes.remove(&node);
        }
        for (node, problems) in wanted.into_iter().take(most) {
            let message = format!(
                "{}; give one of them another in spec.routerID or spec.asn of its NodeNetwork",
                few(&problems, "; ")
            );
            if self.clashes.get(&node) == Some(&message) {
                continue;
            }
            let condition =
                Judgement::new(IDENTITY, false, "SharedIdentity", message.clone()).since(&[], None, now);
            self.flag(&node, &json!({ "conditions": [condition] })).await?;
            self.clashes.insert(node, message);
        }
        Ok(())
    }

    async fn flag(&mut self, node: &str, status: &Value) -> Result<(), Failure> {
        if self.locked.contains(node) {
            return Ok(());
        }
        match self.server.apply_status("NodeNetwork", node, CLUSTER_MANAGER, status).await {
            // It has gone meanwhile.
            Err(Failure::NotFound(_)) => Ok(()),
            Err(Failure::Refused(error)) => {
                warn!(
                    error,
                    node, "the node's status is not ours to write: Events alone tell of its identity"
                );
                self.locked.insert(node.to_owned());
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn tell_clash(&mut self, clash: &Clash) {
        for node in clash.nodes.iter().take(2) {
            self.recorder.add(Notice {
                regarding: Regarding { kind: "Node", name: node.clone() },
                related: None,
                reason: "SharedIdentity",
                warning: true,
                subject: clash.what.clone(),
                note: format!("{} is in use on {}", clash.what, clash.nodes.join(", ")),
            });
        }
    }
}

/// Kinds whose status one daemon writes for all.
fn is_shared(kind: &str) -> bool {
    matches!(kind, "NetworkConfig" | "BGPPeer" | "Advertisement" | "IPPool")
}

fn status_of(
    judged: &Judged,
    sum: Option<&Sum>,
    earlier: &[Condition],
    now: &str,
) -> serde_json::Result<Value> {
    if judged.kind == "BGPPeer" {
        serde_json::to_value(verdict::bgp_peer(&judged.verdict, judged.generation, sum, earlier, now))
    } else {
        serde_json::to_value(verdict::plain(&judged.verdict, judged.generation, earlier, now))
    }
}

/// The conditions in a status, whatever else it has.
fn conditions(status: &Value) -> Vec<Condition> {
    Status::deserialize(status).map(|status| status.conditions).unwrap_or_default()
}
