//! The node daemon: starts the tasks, wires them, waits for a signal, stops them in order.
//!
//! Order of the start: signal handlers, the claim to this network namespace and state folder, the control socket,
//! the configuration (which may have to wait for the API server), the FIB (which adopts what an earlier run left in
//! the kernel), the speaker, local originations. Order of the end, asked for or forced by a part that failed: configuration, sessions, FIB, the
//! control socket, the claim. Routes stay in the kernel: a successor adopts them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use api::DesiredState;
use api::desired::LogLevel;
use bgp_speaker::SpeakerHandle;
use bgp_speaker::handle::Ending;
use bgp_speaker::speaker;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::cluster;
use crate::cluster::client::Api;
use crate::config::{Loaded, Source};
use crate::control::server::ControlSocket;
use crate::exclusive::Exclusive;
use crate::fib::run::{self as fib, Feedback, FibConfig, FibHandle, SpeakerFeedback};
use crate::local;
use crate::part::Part;
use crate::pods;
use crate::respond::{Answers, Door, Stage};

/// What the command line says.
pub struct Options {
    /// Where the configuration comes from.
    pub configuration: Configuration,
    /// `--node`.
    pub node: String,
    /// `--socket`.
    pub socket: PathBuf,
    /// `--state-dir`.
    pub state_dir: PathBuf,
    /// `--proc-sys`.
    pub proc_sys: PathBuf,
    /// Files of a node that has pods.
    pub pods: pods::Options,
    /// Applies `NetworkConfig.spec.logLevel`.
    pub set_log_level: Box<dyn Fn(LogLevel) + Send>,
}

/// Where the configuration comes from.
pub enum Configuration {
    /// `-f`.
    Files(Vec<PathBuf>),
    /// `--cluster`.
    Cluster(cluster::Options),
}

/// Runs until SIGTERM or SIGINT. When a part fails, the rest is stopped as in order and the error returned.
///
/// # Errors
/// No good configuration, another daemon here, a kernel that cannot be read, a task that ended.
pub async fn run(options: Options) -> anyhow::Result<()> {
    // Before anything that takes time: a signal that comes then must not kill what has just begun.
    let mut signals = Signals::new().context("signal handlers")?;
    raise_file_limit();
    let _alone = Exclusive::claim(&options.state_dir)?;
    let socket = Arc::new(ControlSocket::bind(&options.socket).context("control socket")?);
    let mut tasks = JoinSet::new();
    // Dropped with this function: questions that wait for a stage are then answered that the daemon ends.
    let (stage, door) = watch::channel(Stage::Starting);
    let door = Door { node: options.node.clone(), started: Instant::now(), stage: door };
    let listening = Arc::clone(&socket);
    tasks.spawn(async move {
        listening.serve(Arc::new(door)).await;
        Ok(())
    });
    let waiting = |why| drop(stage.send_replace(Stage::Waiting(why)));
    let begun = tokio::select! {
        begun = begin(options.configuration, options.node.clone(), &options.state_dir, waiting) => begun,
        () = signals.end() => {
            info!("stopped before there was a configuration");
            return Ok(());
        }
    };
    let (first, follow, api) = begun?;
    let desired = Arc::clone(&first.desired);
    let (loaded, configuration) = watch::channel(first);

    // Full: the router keeps what waits, four octets a prefix instead of forty.
    let (rib_events, inbox) = mpsc::channel(4);
    let (speaker_ready, speaker_when_ready) = watch::channel(None);
    let fib_config = FibConfig {
        install: desired.install.clone(),
        sysctls: Some(options.proc_sys),
        state_dir: Some(options.state_dir),
    };
    let (fib, fib_task) =
        fib::start(fib_config, inbox, ToSpeaker(speaker_when_ready)).context("kernel routes")?;
    let preserved = fib.preserved.clone();
    if !preserved.is_empty() {
        info!(families = ?preserved, "routes of an earlier run are in the kernel: restarting gracefully");
    }
    let speaker_options = speaker::Options { fib: Some(rib_events), preserved };
    let (speaker, speaker_task) = speaker::start(speaker_options, desired).await;
    speaker_ready.send_replace(Some(speaker.clone()));

    let (speaker_problems, problems) = watch::channel(Vec::new());
    let (reload, reloads) = mpsc::channel(1);
    let (pods, pods_task) = pods::start(options.pods, configuration.clone(), speaker.clone(), fib.clone());
    let answers = Answers {
        started: Instant::now(),
        loaded: configuration.clone(),
        speaker_problems: problems,
        speaker: speaker.clone(),
        fib: fib.clone(),
        pods: pods.clone(),
    };
    // Nothing is sent: it closes when reports have nothing left to do.
    let (unfinished, mut finished) = mpsc::channel(1);
    match api {
        None => drop(unfinished),
        Some(api) => {
            let (loaded, speaker, fib) = (configuration.clone(), speaker.clone(), fib.clone());
            tasks.spawn(cluster::report::run(api, options.node, loaded, speaker, fib, pods, unfinished));
        }
    }
    tasks.spawn(pods_task);
    tasks.spawn(follow(loaded, reloads));
    tasks.spawn(local::run(configuration.clone(), speaker.clone(), fib.clone()));
    tasks.spawn(apply(configuration, speaker.clone(), fib, speaker_problems, options.set_log_level));
    stage.send_replace(Stage::Running(Arc::new(answers)));
    tokio::spawn(async {
        tokio::time::sleep(START_IS_OVER).await;
        if let Err(error) = bgp_speaker::memory::forget_start() {
            warn!(%error, "the program's start stays in memory");
        }
    });

    let mut fib_part = Part::new("the task that writes kernel routes", async { Ok(fib_task.await??) });
    let mut speaker_part = Part::new("the speaker's task", async { Ok(speaker_task.await?) });
    let outcome = tokio::select! {
        // Where one takes others along, it is the one to name.
        biased;
        error = fib_part.ended_early() => Err(error),
        error = speaker_part.ended_early() => Err(error),
        outcome = signals.wait(&reload, &mut tasks) => outcome,
    };
    if let Err(error) = &outcome {
        error!(
            error = format!("{error:#}"),
            "a part of the daemon failed: stopping; routes stay in the kernel"
        );
    }
    tasks.shutdown().await;
    if timeout(REPORT_LIMIT, finished.recv()).await.is_err() {
        info!("the API server is not told of the end");
    }
    if speaker_part.runs() && !matches!(timeout(END_LIMIT, speaker.stop(Ending::Restart)).await, Ok(Ok(()))) {
        warn!("the speaker takes no orders any more");
    }
    let stopped = speaker_part.stopped(END_LIMIT).await;
    drop(speaker);
    drop(speaker_ready);
    let written = fib_part.stopped(END_LIMIT).await;
    for error in [&stopped, &written].into_iter().filter_map(|ended| ended.as_ref().err()) {
        error!(error = format!("{error:#}"), "not everything ended in order");
    }
    info!("stopped; routes stay in the kernel");
    // Whoever comes next finds the socket and the namespace free only now.
    drop(socket);
    outcome.and(stopped).and(written)
}

/// Goes on with a configuration: follows it for ever.
type Follow = Box<
    dyn FnOnce(watch::Sender<Loaded>, mpsc::Receiver<()>) -> BoxFuture<'static, anyhow::Result<()>> + Send,
>;

/// The first configuration, how to go on, and where to report to. `waiting` hears what is waited for, if anything.
async fn begin(
    configuration: Configuration,
    node: String,
    state_dir: &Path,
    waiting: impl Fn(String),
) -> anyhow::Result<(Loaded, Follow, Option<Api>)> {
    match configuration {
        Configuration::Files(files) => {
            let source = Source::new(files, node, state_dir);
            let (source, first) = tokio::task::spawn_blocking(move || {
                let first = source.load_first();
                (source, first)
            })
            .await
            .context("reading the configuration")?;
            let follow: Follow = Box::new(|loaded, reloads| source.follow(loaded, reloads).boxed());
            Ok((first?, follow, None))
        }
        Configuration::Cluster(options) => {
            let api = Api::open(&options).await.context("the way to the API server")?;
            let (mut source, keep) = cluster::source::Source::start(api.clone(), node, state_dir).await?;
            let first = source.first(waiting).await?;
            let follow: Follow = Box::new(|loaded, _| {
                async { tokio::try_join!(source.follow(loaded), keep).map(|_| ()) }.boxed()
            });
            Ok((first, follow, Some(api)))
        }
    }
}

/// Hands each new desired state to the speaker and the FIB.
async fn apply(
    mut loaded: watch::Receiver<Loaded>,
    speaker: SpeakerHandle,
    fib: FibHandle,
    speaker_problems: watch::Sender<Vec<String>>,
    set_log_level: Box<dyn Fn(LogLevel) + Send>,
) -> anyhow::Result<()> {
    let mut applied: Option<Arc<DesiredState>> = None;
    loop {
        let desired = Arc::clone(&loaded.borrow_and_update().desired);
        // Else only what is said about it is new.
        if applied.as_ref().is_none_or(|applied| !Arc::ptr_eq(applied, &desired)) {
            set_log_level(desired.log_level.unwrap_or(LogLevel::Info));
            fib.set_install(desired.install.clone()).await?;
            let problems = speaker.configure(Arc::clone(&desired)).await?;
            for problem in &problems {
                error!(%problem, "speaker");
            }
            speaker_problems.send_replace(problems);
            applied = Some(desired);
        }
        if loaded.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// How long a part may take to end; the FIB's own limit is below it.
const END_LIMIT: Duration = Duration::from_secs(15);

/// What was only needed to start has been used by then.
const START_IS_OVER: Duration = Duration::from_secs(2);
/// How long the API server may take to hear of the end.
const REPORT_LIMIT: Duration = Duration::from_secs(1);

/// Sockets, one for each peer and connection, may be many more than the usual 1024.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        warn!(%error, "the limit of open files stays as it is");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Until the end is asked for.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Until the end is asked for, or a task fails.
    async fn wait(
        &mut self,
        reload: &mpsc::Sender<()>,
        tasks: &mut JoinSet<anyhow::Result<()>>,
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
