//! `bgp-speaker`: the speaker alone, without a kernel FIB. For route reflectors and first steps.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use api::desired::AdvertisementSource;
use bgp_speaker::handle::Ending;
use bgp_speaker::rib::Origination;
use bgp_speaker::speaker::{self, Options};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

/// A BGP speaker that installs nothing: sessions, RIBs and advertisements of the same YAML files that
/// `towpath agent` reads.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// File or folder of YAML documents; may be given several times. Changes are applied as they are written.
    #[arg(short, long = "file", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// This node's name in the files; default: the host name.
    #[arg(long)]
    node: Option<String>,
}

impl Args {
    fn node(&self) -> anyhow::Result<String> {
        match &self.node {
            Some(name) => Ok(name.clone()),
            None => nix::unistd::gethostname()?
                .into_string()
                .map_err(|_| anyhow::anyhow!("the host name is not UTF-8; give --node")),
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_env("TOWPATH_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    bgp_speaker::memory::configure_allocator();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bgp-speaker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(args: &Args) -> anyhow::Result<()> {
    let desired = Arc::new(load(args)?);
    let (handle, task) =
        speaker::start(Options { fib: None, preserved: Vec::new() }, Arc::clone(&desired)).await;
    handle.set_originated(originated(&desired)).await?;
    // Holds one: several changes before the next reading are one reading.
    let (changed, mut changes) = mpsc::channel(1);
    let mut files = api::watch::Watch::new(&args.files).context("watching the configuration")?;
    std::thread::spawn(move || {
        while files.wait().is_ok() {
            if let Err(mpsc::error::TrySendError::Closed(())) = changed.try_send(()) {
                return;
            }
        }
    });
    let (mut terminate, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            result = tokio::signal::ctrl_c() => { result?; break }
            _ = hangup.recv() => {}
            Some(()) = changes.recv() => {}
        }
        match load(args) {
            Ok(desired) => {
                info!("configuration read");
                let desired = Arc::new(desired);
                for problem in handle.configure(Arc::clone(&desired)).await? {
                    warn!(%problem, "speaker");
                }
                handle.set_originated(originated(&desired)).await?;
            }
            Err(problem) => {
                error!(error = format!("{problem:#}"), "the last good configuration stays in force")
            }
        }
    }
    handle.stop(Ending::Restart).await?;
    task.await.context("the speaker's task")
}

fn load(args: &Args) -> anyhow::Result<api::DesiredState> {
    api::load(&args.files, &args.node()?).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", lines.join("\n"))
    })
}

/// Static prefixes and pod blocks only: without a kernel there are no interfaces and no routes to look at.
fn originated(desired: &api::DesiredState) -> std::collections::BTreeMap<ipnet::IpNet, Origination> {
    let mut routes = std::collections::BTreeMap::new();
    for advertisement in &desired.advertisements {
        let cidrs = match &advertisement.source {
            AdvertisementSource::Static { cidrs, require_route: false } => cidrs,
            AdvertisementSource::PodBlocks => &desired.node.pod_blocks,
            AdvertisementSource::Static { require_route: true, .. }
            | AdvertisementSource::Interfaces { .. } => {
                warn!(advertisement = %advertisement.name, "not announced: it depends on the kernel, use `towpath agent`");
                continue;
            }
        };
        let origination =
            Origination { attributes: advertisement.attributes.clone(), peers: advertisement.peers.clone() };
        routes.extend(cidrs.iter().map(|cidr| (*cidr, origination.clone())));
    }
    routes
}
