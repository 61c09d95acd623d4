//! What a daemon reports of its own node: `NodeNetwork.status`, the Node's condition, Events. Carries values between
//! the daemon and the API server; what to say and when is decided elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::build::Verdict;
use api::status::NodeNetworkStatus;
use api::words::Condition;
use bgp_speaker::SpeakerHandle;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::facts::{Facts, Refused};
use super::notice::{Observer, Regarding};
use super::pace::{News, Pace};
use super::recorder::Recorder;
use super::server::{Failure, MANAGER, Server};
use super::{node, status};
use crate::cluster::ClusterView;
use crate::config::Loaded;
use crate::fib::run::FibHandle;
use crate::pods::PodsHandle;

/// How often the daemon is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Changes take less time to get into the kernel, unless something is wrong.
const BEHIND_AFTER: Duration = Duration::from_secs(5);
/// How often the Node's condition is looked at although nothing changed: others write there, too.
const NODE_EVERY: Duration = Duration::from_secs(600);
/// After a failed attempt on the Node's condition.
const NODE_RETRY: Duration = Duration::from_secs(2);

/// One node's reports.
pub(super) struct Own {
    pub(super) server: Server,
    pub(super) node: String,
    pub(super) loaded: watch::Receiver<Loaded>,
    pub(super) speaker: SpeakerHandle,
    pub(super) fib: FibHandle,
    pub(super) pods: PodsHandle,
}

struct Progress {
    pace: Pace,
    observer: Observer,
    recorder: Recorder,
    /// As written last, by this daemon.
    written: Option<NodeNetworkStatus>,
    /// Conditions that the API server has; `None`: not read yet.
    earlier: Option<Vec<Condition>>,
    /// Since when the kernel lags behind.
    behind: Option<Instant>,
    away: bool,
    /// What the Node's condition says, and when that was last seen to; `None`: nobody knows.
    node: Option<(node::Wanted, Instant)>,
    node_after: Instant,
    /// The failure told last.
    told: Option<String>,
}

impl Own {
    /// Reports until the configuration channel closes.
    ///
    /// # Errors
    /// A part of the daemon has ended; never because of the API server.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let mut progress = Progress {
            pace: Pace::new(now, &self.node),
            observer: Observer::new(&self.node, now),
            recorder: Recorder::new(self.server.clone(), &self.node),
            written: None,
            earlier: None,
            behind: None,
            away: false,
            node: None,
            node_after: now,
            told: None,
        };
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if self.loaded.has_changed().is_err() {
                return Ok(());
            }
            self.look(&mut progress).await?;
        }
    }

    async fn look(&mut self, progress: &mut Progress) -> anyhow::Result<()> {
        let loaded = self.loaded.borrow_and_update().clone();
        let Some(view) = loaded.cluster else { return Ok(()) };
        let (peers, fib) = (self.speaker.peers().await?, self.fib.status().await?);
        let pods = self.pods.status();
        let topology = Arc::clone(&self.fib.topology().borrow());
        let now = Instant::now();
        let lags = !fib.converged && fib.pending > fib.waiting;
        let behind = if lags { *progress.behind.get_or_insert(now) } else { now };
        progress.behind = lags.then_some(behind);
        let away = view.away_since.is_some();
        if std::mem::replace(&mut progress.away, away) && !away {
            progress.pace.returned(now);
            progress.node = None;
        }
        let refused = refused(&view);
        let facts = Facts {
            desired: &loaded.desired,
            generation: generation(&view, &self.node),
            refused: &refused,
            peers: &peers,
            fib: &fib,
            behind: now.saturating_duration_since(behind) > BEHIND_AFTER,
            topology: &topology,
            pods: pods.as_ref(),
        };
        for notice in progress.observer.look(now, &facts, away) {
            progress.recorder.add(notice);
        }
        self.report_status(progress, &facts, &view).await;
        if !away {
            self.report_node(progress, &facts, &view).await;
            progress.recorder.write(|object| uid(&view, &self.node, object)).await;
        }
        Ok(())
    }

    async fn report_status(&self, progress: &mut Progress, facts: &Facts<'_>, view: &ClusterView) {
        let earlier = progress.earlier.clone().unwrap_or_default();
        let status = status::status(facts, &earlier, Timestamp::now());
        let news =
            progress.written.as_ref().map_or(News::Transition, |written| status::news(written, &status));
        let now = Instant::now();
        if progress.pace.due(now, news) > now {
            return;
        }
        let outcome = self.write_status(progress, facts, view).await;
        let now = Instant::now();
        match outcome {
            Ok(()) => {
                progress.pace.written(now);
                if progress.told.take().is_some() {
                    info!(object = "NodeNetwork", "status is written again");
                }
            }
            Err(failure) => {
                progress.pace.failed(now);
                let error = failure.to_string();
                if progress.told.is_none() {
                    warn!(
                        error,
                        object = "NodeNetwork",
                        "status cannot be written; it is tried until it can"
                    );
                }
                progress.told = Some(error);
            }
        }
    }

    async fn write_status(
        &self,
        progress: &mut Progress,
        facts: &Facts<'_>,
        view: &ClusterView,
    ) -> Result<(), Failure> {
        let earlier = match &progress.earlier {
            Some(earlier) => earlier.clone(),
            None => match self.server.node_network(&self.node).await {
                Ok(found) => found.conditions,
                Err(Failure::NotFound(_)) => Vec::new(),
                Err(failure) => return Err(failure),
            },
        };
        let status = status::status(facts, &earlier, Timestamp::now());
        let value = serde_json::to_value(&status).map_err(|error| Failure::Refused(error.to_string()))?;
        let apply = || self.server.apply_status("NodeNetwork", &self.node, MANAGER, &value);
        match apply().await {
            // One that went with its definition stays in force, which an empty one would end.
            Err(Failure::NotFound(missing)) if view.own_missing => {
                let uid = view.node_uid.as_deref().ok_or(Failure::NotFound(missing))?;
                self.server.create_node_network(&self.node, uid).await?;
                apply().await?;
            }
            outcome => outcome?,
        }
        progress.earlier = Some(status.conditions.clone());
        progress.written = Some(status);
        Ok(())
    }

    async fn report_node(&self, progress: &mut Progress, facts: &Facts<'_>, view: &ClusterView) {
        let now = Instant::now();
        let Some(wanted) = node::wanted(facts.pods).filter(|_| view.node_uid.is_some()) else { return };
        let told = progress.node.as_ref().is_some_and(|(told, at)| {
            let recent = now.saturating_duration_since(*at) < NODE_EVERY;
            recent && told.says_the_same(&wanted)
        });
        if told || now < progress.node_after {
            return;
        }
        match self.write_node(&wanted).await {
            Ok(changed) => {
                if changed {
                    info!(
                        available = wanted.available(),
                        "the Node's condition NetworkUnavailable is written"
                    );
                }
                progress.node = Some((wanted, now));
            }
            // What hinders this hinders the status, too, and is told there; but for a right that is missing.
            Err(failure) => {
                if let Failure::Refused(error) = &failure
                    && progress.told.as_ref() != Some(error)
                {
                    warn!(error, object = "Node", "the condition NetworkUnavailable cannot be written");
                    progress.told = Some(error.clone());
                }
                progress.node_after = now + NODE_RETRY;
            }
        }
    }

    async fn write_node(&self, wanted: &node::Wanted) -> Result<bool, Failure> {
        let conditions = self.server.node(&self.node).await?.status.and_then(|status| status.conditions);
        let Some(condition) = node::change(&conditions.unwrap_or_default(), wanted, Timestamp::now()) else {
            return Ok(false);
        };
        self.server.patch_node_status(&self.node, &condition).await?;
        Ok(true)
    }
}

/// What is not in force as it stands.
fn refused(view: &ClusterView) -> Vec<Refused> {
    let judged = view.objects.iter().filter_map(|judged| {
        let object = format!("{}/{}", judged.kind, judged.name);
        (judged.verdict != Verdict::Accepted).then(|| Refused { object, verdict: judged.verdict.clone() })
    });
    judged.collect()
}

fn generation(view: &ClusterView, node: &str) -> Option<i64> {
    let own = view.objects.iter().find(|judged| judged.kind == "NodeNetwork" && judged.name == node);
    own.map(|judged| judged.generation)
}

/// The uid of an object this daemon knows.
pub(super) fn uid(view: &ClusterView, node: &str, object: &Regarding) -> Option<String> {
    if object.kind == "Node" && object.name == node {
        return view.node_uid.clone();
    }
    let known = view.objects.iter().find(|judged| judged.kind == object.kind && judged.name == object.name);
    known.map(|judged| judged.uid.clone())
}
