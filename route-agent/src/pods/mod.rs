//! This node as a place for pods: when they may start, and how container runtimes learn of it.
//!
//! In: the configuration (blocks, addresses), sessions, the FIB's state and pods' routes, an operator's drain. Out: the
//! ready file, which the plugin reads, and the runtimes' files: the plugin's program first, the conflist last.
//! Nothing but a drain takes the conflist away again: not the end of the daemon, not the loss of every session
//! (ADR 0002). What cannot be written is shown and tried again. A node without pod blocks gets no conflist.

pub mod conflist;
mod keeper;
pub mod place;
mod readiness;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bgp_speaker::SpeakerHandle;
use bgp_speaker::status::SessionBrief;
use cni::ready;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::Loaded;
use crate::fib::run::FibHandle;
use crate::fib::status::FibStatus;
use crate::kernel::resolve::Topology;

use keeper::{Keeper, Now};
use readiness::Seen;

/// How often convergence is judged before it is reached.
const WHILE_CONVERGING: Duration = Duration::from_millis(250);
/// How often links are measured afterwards, and what could not be written is tried again.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// Where things go.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--ready-file`; absolute.
    pub ready_file: PathBuf,
    /// `--cni-conf-dir`; `None`: no conflist is written.
    pub conf_dir: Option<PathBuf>,
    /// `--cni-bin-dir`.
    pub bin_dir: PathBuf,
    /// `--cni-plugin`; `None`: beside this program.
    pub plugin: Option<PathBuf>,
    /// `--boot-id-file`; absolute.
    pub boot_id_file: PathBuf,
    /// `--state-dir`; absolute.
    pub state_dir: PathBuf,
}

/// What `towpath status` shows of pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodsStatus {
    /// This node's pod blocks.
    pub blocks: Vec<IpNet>,
    /// Pods that have a route.
    pub pods: usize,
    /// Addresses of pods outside the blocks.
    pub outside: Vec<IpNet>,
    /// What CNI's STATUS goes by.
    pub state: ready::State,
    /// Why, in words; empty when ready.
    pub reason: String,
    /// MTU given to pods, in octets; `None`: the plugin looks for itself.
    pub mtu: Option<u32>,
    /// The conflist as it should be is in this place.
    pub conflist: Option<PathBuf>,
    /// What is wrong, with the remedy.
    pub problems: Vec<String>,
}

/// The door to the task.
#[derive(Clone, Debug)]
pub(crate) struct PodsHandle {
    orders: mpsc::Sender<Order>,
    status: watch::Receiver<Option<PodsStatus>>,
}

#[derive(Debug)]
struct Order {
    drain: bool,
    done: oneshot::Sender<anyhow::Result<PodsStatus>>,
}

impl PodsHandle {
    /// As of the last look; `None`: there was none yet.
    pub(crate) fn status(&self) -> Option<PodsStatus> {
        self.status.borrow().clone()
    }

    /// Drains the node, or ends that; returns when it is done.
    ///
    /// # Errors
    /// It cannot be kept over a restart, or the task has ended.
    pub(crate) async fn drain(&self, drain: bool) -> anyhow::Result<PodsStatus> {
        let (done, answer) = oneshot::channel();
        let ended = "the task that looks after pods has ended";
        self.orders.send(Order { drain, done }).await.ok().context(ended)?;
        answer.await.context(ended)?
    }
}

/// Returns the door and the task; the task runs until the configuration channel closes.
pub(crate) fn start(
    options: Options,
    loaded: watch::Receiver<Loaded>,
    speaker: SpeakerHandle,
    fib: FibHandle,
) -> (PodsHandle, impl Future<Output = anyhow::Result<()>>) {
    // Operators are few; one that comes while another is served waits.
    let (orders, inbox) = mpsc::channel(1);
    let (publish, status) = watch::channel(None);
    (PodsHandle { orders, status }, run(options, loaded, speaker, fib, inbox, publish))
}

async fn run(
    options: Options,
    mut loaded: watch::Receiver<Loaded>,
    speaker: SpeakerHandle,
    fib: FibHandle,
    mut orders: mpsc::Receiver<Order>,
    publish: watch::Sender<Option<PodsStatus>>,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut keeper = Some(blocking(move || Keeper::new(options)).await??);
    let mut converging = interval(WHILE_CONVERGING);
    let mut afterwards = interval(AFTERWARDS);
    converging.set_missed_tick_behavior(MissedTickBehavior::Delay);
    afterwards.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pods = fib.pods();
    let mut order: Option<Order> = None;
    loop {
        let desired = Arc::clone(&loaded.borrow_and_update().desired);
        let (sessions, kernel) = (speaker.sessions().await?, fib.status().await?);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seen = Seen { sessions: &sessions, fib: &kernel, running: started.elapsed(), now };
        let (pods_now, outside) = {
            let routes = pods.borrow_and_update();
            (routes.pods(), routes.outside(&desired.node.pod_blocks).collect())
        };
        let now = Now {
            converged: readiness::converged(&seen),
            waits_for_peers: !sessions.is_empty(),
            uplink_mtu: uplink_mtu(&sessions, &kernel, &fib.topology().borrow()),
            pods: pods_now,
            outside,
            desired,
        };
        let mut own = keeper.take().context("the files' keeper is lost")?;
        let (drain, done) = order.take().map(|order| (order.drain, order.done)).unzip();
        let (back, outcome) = blocking(move || {
            let kept = drain.map_or(Ok(()), |drain| own.drain(drain));
            let status = own.reconcile(&now);
            (own, kept.map(|()| status))
        })
        .await?;
        let waiting = !back.converged();
        keeper = Some(back);
        if let Ok(status) = &outcome {
            publish.send_replace(Some(status.clone()));
        }
        if let Some(done) = done {
            // Who asked may have gone away.
            drop(done.send(outcome));
        }
        tokio::select! {
            changed = loaded.changed() => if changed.is_err() { return Ok(()) },
            Some(next) = orders.recv() => order = Some(next),
            _ = converging.tick(), if waiting => {}
            changed = pods.changed() => {
                changed.context("the task that writes kernel routes has ended")?;
                // A thousand pods that start at once are one change.
                tokio::time::sleep(WHILE_CONVERGING).await;
            }
            _ = afterwards.tick() => {}
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("writing the runtimes' files")
}

/// The smallest MTU of the links that sessions and learned routes use: what every packet of a pod fits through.
fn uplink_mtu(sessions: &[SessionBrief], fib: &FibStatus, topology: &Topology) -> Option<u32> {
    let links = sessions.iter().filter_map(|session| session.local_endpoint).filter_map(|local| {
        let scope = match local {
            std::net::SocketAddr::V6(local) => local.scope_id(),
            std::net::SocketAddr::V4(_) => 0,
        };
        topology.interface_of(local.ip(), scope)
    });
    // A session between loopback addresses says nothing about links.
    let links = links.filter(|link| topology.links().any(|known| known.index == *link && known.name != "lo"));
    links.filter_map(|link| topology.mtu_bytes(link)).chain(fib.uplink_mtu).min()
}
