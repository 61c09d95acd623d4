//! The node daemon: starts the tasks, wires them, waits for a signal, stops them in order.
//!
//! Order of the start: the control socket (one daemon a socket), the configuration, the FIB (which adopts what
//! an earlier run left in the kernel), the speaker, local originations. Order of the end: configuration, sessions,
//! FIB. Routes stay in the kernel: a successor adopts them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use api::desired::LogLevel;
use bgp_speaker::SpeakerHandle;
use bgp_speaker::handle::Ending;
use bgp_speaker::speaker;
use bgp_speaker::wire::AfiSafi;
use ipnet::IpNet;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use crate::config::{Loaded, Source};
use crate::control::server::ControlSocket;
use crate::fib::run::{self as fib, Feedback, FibConfig, FibHandle, SpeakerFeedback};
use crate::local;
use crate::respond::Answers;

/// What the command line says.
pub struct Options {
    /// `-f`.
    pub files: Vec<PathBuf>,
    /// `--node`.
    pub node: String,
    /// `--socket`.
    pub socket: PathBuf,
    /// `--state-dir`.
    pub state_dir: PathBuf,
    /// Applies `NetworkConfig.spec.logLevel`.
    pub set_log_level: Box<dyn Fn(LogLevel) + Send>,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// No good configuration, another daemon on the control socket, a kernel that cannot be read.
pub async fn run(options: Options) -> anyhow::Result<()> {
    // First: whoever finds the socket may send signals, and an unhandled SIGHUP kills.
    let signals = Signals::new().context("signal handlers")?;
    let socket = ControlSocket::bind(&options.socket).context("control socket")?;
    std::fs::create_dir_all(&options.state_dir).with_context(|| {
        format!("{}: the state folder; name another with --state-dir", options.state_dir.display())
    })?;
    let source = Source::new(options.files, options.node, &options.state_dir);
    let first = source.load_first()?;
    let desired = Arc::clone(&first.desired);
    let (loaded, configuration) = watch::channel(first);

    // Full: the router keeps what waits, one entry a prefix.
    let (rib_events, inbox) = mpsc::channel(64);
    let (speaker_ready, speaker_when_ready) = watch::channel(None);
    let fib_config =
        FibConfig { install: desired.install.clone(), sysctls: Some(PathBuf::from("/proc/sys")) };
    let (fib, fib_task) =
        fib::start(fib_config, inbox, ToSpeaker(speaker_when_ready)).context("kernel routes")?;
    let preserved = families_found(&fib).await?;
    if !preserved.is_empty() {
        info!(families = ?preserved, "routes of an earlier run are in the kernel: restarting gracefully");
    }
    let speaker_options = speaker::Options { fib: Some(rib_events), preserved };
    let (speaker, speaker_task) = speaker::start(speaker_options, desired).await;
    speaker_ready.send_replace(Some(speaker.clone()));

    let (blackholes, wanted_blackholes) = watch::channel(BTreeSet::new());
    let (speaker_problems, problems) = watch::channel(Vec::new());
    let (reload, reloads) = mpsc::channel(1);
    let answers = Answers {
        started: Instant::now(),
        loaded: configuration.clone(),
        speaker_problems: problems,
        speaker: speaker.clone(),
        fib: fib.clone(),
    };
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(source.follow(loaded, reloads));
    tasks.spawn(local::run(configuration.clone(), speaker.clone(), blackholes));
    tasks.spawn(pass_blackholes(wanted_blackholes, fib.clone()));
    tasks.spawn(apply(configuration, speaker.clone(), fib, speaker_problems, options.set_log_level));
    tasks.spawn(async move {
        socket.serve(Arc::new(answers)).await;
        Ok(())
    });

    signals.wait(&reload, &mut tasks).await?;
    tasks.shutdown().await;
    if speaker.stop(Ending::Restart).await.is_err() {
        warn!("the speaker had stopped before");
    }
    drop(speaker);
    drop(speaker_ready);
    speaker_task.await.context("the speaker's task")?;
    fib_task.await.context("the FIB's task")?.context("kernel routes")?;
    info!("stopped; routes stay in the kernel");
    Ok(())
}

/// Families of which the kernel holds routes of ours: the F bit says nothing else (RFC 4724 section 4.1).
async fn families_found(fib: &FibHandle) -> anyhow::Result<Vec<AfiSafi>> {
    let status = fib.status().await?;
    let mut families = Vec::new();
    if status.routes_v4 > 0 {
        families.push(AfiSafi::Ipv4Unicast);
    }
    if status.routes_v6 > 0 {
        families.push(AfiSafi::Ipv6Unicast);
    }
    Ok(families)
}

/// Hands each new desired state to the speaker and the FIB.
async fn apply(
    mut loaded: watch::Receiver<Loaded>,
    speaker: SpeakerHandle,
    fib: FibHandle,
    speaker_problems: watch::Sender<Vec<String>>,
    set_log_level: Box<dyn Fn(LogLevel) + Send>,
) -> anyhow::Result<()> {
    loop {
        let desired = Arc::clone(&loaded.borrow_and_update().desired);
        set_log_level(desired.log_level.unwrap_or(LogLevel::Info));
        fib.set_install(desired.install.clone()).await?;
        let problems = speaker.configure(desired).await?;
        for problem in &problems {
            error!(%problem, "speaker");
        }
        speaker_problems.send_replace(problems);
        if loaded.changed().await.is_err() {
            return Ok(());
        }
    }
}

async fn pass_blackholes(mut wanted: watch::Receiver<BTreeSet<IpNet>>, fib: FibHandle) -> anyhow::Result<()> {
    while wanted.changed().await.is_ok() {
        let prefixes = wanted.borrow_and_update().clone();
        fib.set_blackholes(prefixes).await?;
    }
    Ok(())
}

/// Those the daemon answers to; kept from the moment they are made.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Asks for a reading at each SIGHUP, until it is time to stop.
    async fn wait(
        mut self,
        reload: &mpsc::Sender<()>,
        tasks: &mut tokio::task::JoinSet<anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Ok(()),
                _ = self.interrupt.recv() => return Ok(()),
                // One reading that has not begun serves several signals.
                _ = self.hangup.recv() => drop(reload.try_send(())),
                Some(ended) = tasks.join_next() => ended.context("a task failed")??,
            }
        }
    }
}

/// The FIB's way to the speaker, which starts after it.
#[derive(Clone)]
struct ToSpeaker(watch::Receiver<Option<SpeakerHandle>>);

impl SpeakerFeedback for ToSpeaker {
    async fn send(&self, feedback: Feedback) -> Result<(), fib::Stopped> {
        let mut ready = self.0.clone();
        let speaker = match ready.wait_for(Option::is_some).await {
            Ok(speaker) => speaker.clone(),
            Err(_) => return Err(fib::Stopped),
        };
        let Some(speaker) = speaker else { return Err(fib::Stopped) };
        let result = match feedback {
            Feedback::Installed { seq, failed } => speaker.installed(seq, failed).await,
            Feedback::NexthopChanged(nexthop, reachable) => speaker.nexthop_changed(nexthop, reachable).await,
            Feedback::LinkDown { ifindex, name } => speaker.link_down(ifindex, name).await,
            Feedback::LinkUp { ifindex, .. } => speaker.link_up(ifindex).await,
            Feedback::Resend => speaker.resend().await,
            Feedback::Reassert(prefix) => speaker.reassert(prefix).await,
        };
        result.map_err(|_| fib::Stopped)
    }
}
