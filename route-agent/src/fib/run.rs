//! The door to the FIB task: start it, tell it what only the agent knows, ask how it is.
//!
//! [`start`] opens the sockets in the calling thread's network namespace, sets the sysctls, reads what
//! the kernel has and spawns the task. The task ends when the channel of RIB events is closed: what is
//! pending is written first, routes stay.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use api::desired::Install;
use bgp_speaker::rib::{FibNexthop, PrefixId, RibEvent};
use bgp_speaker::wire::AfiSafi;
use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::driver::{Driver, Published};
use super::numbers::Numbers;
use super::pods::PodRoutes;
use super::status::FibStatus;
use crate::kernel::KernelError;
use crate::kernel::dump::Snapshot;
use crate::kernel::monitor::Monitor;
use crate::kernel::resolve::Topology;
use crate::kernel::socket::Netlink;
use crate::kernel::{dump, sysctl, worker};

/// Commands waiting; a caller waits when it is full.
const COMMANDS: usize = 16;

/// The FIB task has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task that writes kernel routes has ended")]
pub struct Stopped;

/// What the FIB tells the speaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// Everything up to `seq` is in the kernel, except `failed`; one of those that is installed later comes
    /// as [`Feedback::Reassert`], and is confirmed with the changes the RIB answers with.
    Installed {
        /// `RibEvent::Changes::seq`.
        seq: u64,
        /// Not in the kernel as wanted.
        failed: Vec<PrefixId>,
    },
    /// A next hop became resolvable (true) or ceased to be.
    NexthopChanged(FibNexthop, bool),
    /// A link is down, without carrier or deleted.
    LinkDown {
        /// Interface index.
        ifindex: u32,
        /// Interface name.
        name: String,
    },
    /// A link is up, with carrier.
    LinkUp {
        /// Interface index.
        ifindex: u32,
        /// Interface name.
        name: String,
    },
    /// Send all that is wanted again, between `RibEvent::Resend { complete: false }` and `{ complete: true }`.
    Resend,
    /// Send what is wanted for this prefix again, if anything is.
    Reassert(IpNet),
}

/// Where [`Feedback`] goes; the agent implements it on the speaker's handle.
///
/// The task goes on taking RIB events while a call waits, so a full command channel cannot lock both.
pub trait SpeakerFeedback: Clone + Send + 'static {
    /// Delivers one message, in order.
    ///
    /// # Errors
    /// [`Stopped`] when the speaker has ended: the FIB then goes on alone.
    fn send(&self, feedback: Feedback) -> impl Future<Output = Result<(), Stopped>> + Send;
}

/// How to run.
#[derive(Clone, Debug)]
pub struct FibConfig {
    /// Table, metric, protocols.
    pub install: Install,
    /// `/proc/sys`; `None` leaves all sysctls alone.
    pub sysctls: Option<PathBuf>,
    /// Where old values of sysctls and protocol numbers are kept for the next start; `None`: nowhere.
    pub state_dir: Option<PathBuf>,
}

pub(super) enum Command {
    Blackholes(BTreeSet<IpNet>, oneshot::Sender<()>),
    Install(Install),
    Status(oneshot::Sender<FibStatus>),
}

/// The door to a running FIB task.
#[derive(Clone, Debug)]
pub struct FibHandle {
    commands: mpsc::Sender<Command>,
    topology: watch::Receiver<Arc<Topology>>,
    others: watch::Sender<u64>,
    pods: watch::Receiver<PodRoutes>,
    /// Families of which the kernel had routes of ours at the start: their forwarding state was preserved
    /// (RFC 4724 section 4.1).
    pub preserved: Vec<AfiSafi>,
}

impl FibHandle {
    /// The blackholes wanted: all of them, each time. Before the first call none found at start is removed.
    /// Returns when each is in the kernel, or refused by it and shown in the status.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn set_blackholes(&self, prefixes: BTreeSet<IpNet>) -> Result<(), Stopped> {
        let (done, settled) = oneshot::channel();
        self.commands.send(Command::Blackholes(prefixes, done)).await.map_err(|_| Stopped)?;
        settled.await.map_err(|_| Stopped)
    }

    /// Another table, metric or protocol: routes are made anew under the new key, then the old ones go.
    /// Without a difference nothing happens.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn set_install(&self, install: Install) -> Result<(), Stopped> {
        self.commands.send(Command::Install(install)).await.map_err(|_| Stopped)
    }

    /// A snapshot for `towpath status`.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn status(&self) -> Result<FibStatus, Stopped> {
        let (answer, status) = oneshot::channel();
        self.commands.send(Command::Status(answer)).await.map_err(|_| Stopped)?;
        status.await.map_err(|_| Stopped)
    }

    /// Changes when routes that are not ours have changed, or may have.
    pub fn others_routes(&self) -> watch::Receiver<u64> {
        self.others.subscribe()
    }

    /// The routes to this node's pods, as they change.
    pub fn pods(&self) -> watch::Receiver<PodRoutes> {
        self.pods.clone()
    }

    /// Links and addresses of this network namespace, as they change.
    pub fn topology(&self) -> watch::Receiver<Arc<Topology>> {
        self.topology.clone()
    }
}

/// Starts the FIB: sysctls, subscription, dump, adoption; then the task.
///
/// # Errors
/// When the kernel cannot be read. Sysctls that cannot be set are warnings in the status.
pub fn start<F: SpeakerFeedback>(
    config: FibConfig,
    inbox: mpsc::Receiver<RibEvent>,
    feedback: F,
) -> Result<(FibHandle, JoinHandle<Result<(), KernelError>>), KernelError> {
    let in_state = |name: &str| config.state_dir.as_ref().map(|folder| folder.join(name));
    let (sysctls, errors) = config
        .sysctls
        .as_deref()
        .map(|root| sysctl::apply(root, in_state("sysctls.json").as_deref()))
        .unwrap_or_default();
    let warnings: Vec<String> = errors.iter().map(ToString::to_string).collect();
    for warning in &warnings {
        tracing::warn!(error = warning, "sysctl not set");
    }
    let mut netlink = Netlink::open()?;
    // Subscribe before the dump: what changes in between is then seen twice, never missed.
    let monitor = Monitor::subscribe(netlink.port())?;
    let numbers_file = in_state("protocols.json");
    let numbers = numbers_file.as_deref().map(Numbers::load).unwrap_or_default();
    let numbers = numbers.and(&Numbers::of(&config.install));
    let snapshot = dump::snapshot(&mut netlink, &numbers.all())?;
    let preserved = families(&snapshot);
    let sent = Arc::new(AtomicU64::new(0));
    let worker = worker::start(netlink, Arc::clone(&sent))
        .map_err(|source| KernelError::Socket { doing: "starting the writer thread", source })?;
    let (commands, orders) = mpsc::channel(COMMANDS);
    let (publish, topology) = watch::channel(Arc::default());
    let others = watch::Sender::new(0);
    let (publish_pods, pods) = watch::channel(PodRoutes::default());
    let published = Published { topology: publish, others: others.clone(), pods: publish_pods };
    let mut driver = Driver::new(config.install, inbox, feedback, monitor, worker, orders, published);
    driver.record(sent, sysctls, warnings);
    driver.numbers(&numbers, numbers_file);
    driver.adopt(snapshot);
    let task = tokio::spawn(driver.run());
    Ok((FibHandle { commands, topology, others, pods, preserved }, task))
}

fn families(snapshot: &Snapshot) -> Vec<AfiSafi> {
    let has = |v4| snapshot.routes.iter().any(|route| route.prefix.addr().is_ipv4() == v4);
    let families = [(AfiSafi::Ipv4Unicast, has(true)), (AfiSafi::Ipv6Unicast, has(false))];
    families.into_iter().filter_map(|(family, found)| found.then_some(family)).collect()
}
