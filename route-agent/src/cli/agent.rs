//! `towpath agent`: starts the node daemon.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use api::desired::LogLevel;
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use cni::ready::BOOT_ID_PATH;
use route_agent::cluster;
use route_agent::daemon::{self, Configuration, Options};
use route_agent::pods;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

use super::DEFAULT_SOCKET;

#[derive(Args)]
pub(crate) struct AgentArgs {
    /// File or folder of YAML documents; may be given several times. Changes are applied as they are written.
    #[arg(short, long = "file", value_name = "PATH", default_value = "/etc/towpath")]
    files: Vec<PathBuf>,
    /// Take the configuration from the API server of this node's cluster instead of files.
    #[arg(long, conflicts_with = "files")]
    cluster: bool,
    /// How to reach the API server, and as whom; default: the pod's service account.
    #[arg(long, value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// Address of the API server, tried before that of its Service, which leads nowhere until a service proxy runs; may
    /// be given several times.
    #[arg(long = "api-server", env = "TOWPATH_API_SERVER", value_name = "URL", value_delimiter = ',')]
    api_servers: Vec<String>,
    /// Namespace this daemon runs in: the only one whose Secrets it reads.
    #[arg(long, env = "TOWPATH_NAMESPACE", default_value = "towpath-system")]
    namespace: String,
    /// This node's name, in the files or in the cluster; default, without --cluster: the host name.
    #[arg(long, env = "TOWPATH_NODE", required_if_eq("cluster", "true"))]
    node: Option<String>,
    /// Control socket.
    #[arg(long, env = "TOWPATH_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// What must survive a restart: the last good configuration, old values of sysctls.
    #[arg(long, default_value = "/var/lib/towpath")]
    state_dir: PathBuf,
    /// Where sysctls are written; a container without privileges has the node's own in another place.
    #[arg(long, env = "TOWPATH_PROC_SYS", default_value = super::PROC_SYS, hide = true)]
    proc_sys: PathBuf,
    /// What the CNI plugin's STATUS reads; default: `ready` beside the control socket.
    #[arg(long)]
    ready_file: Option<PathBuf>,
    /// Where container runtimes look for a conflist; it is written when this node has pod blocks and is ready. Empty: never.
    #[arg(long, default_value = "/etc/cni/net.d", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    cni_conf_dir: PathBuf,
    /// Where container runtimes look for CNI plugins.
    #[arg(long, default_value = "/opt/cni/bin")]
    cni_bin_dir: PathBuf,
    /// The CNI plugin to put there; default: `towpath-cni` beside this program.
    #[arg(long)]
    cni_plugin: Option<PathBuf>,
    /// What tells one boot from the next.
    #[arg(long, default_value = BOOT_ID_PATH, hide = true)]
    boot_id_file: PathBuf,
}

impl AgentArgs {
    /// Runtimes call the plugin from a folder of their own: what it is told is absolute.
    fn pods(&self) -> anyhow::Result<pods::Options> {
        let absolute = |path: &Path| {
            std::path::absolute(path).with_context(|| format!("{}: not a path", path.display()))
        };
        let ready_file = self.ready_file.clone().unwrap_or_else(|| self.socket.with_file_name("ready"));
        Ok(pods::Options {
            ready_file: absolute(&ready_file)?,
            conf_dir: Some(self.cni_conf_dir.clone()).filter(|folder| !folder.as_os_str().is_empty()),
            bin_dir: self.cni_bin_dir.clone(),
            plugin: self.cni_plugin.clone(),
            boot_id_file: absolute(&self.boot_id_file)?,
            state_dir: absolute(&self.state_dir)?,
        })
    }
}

pub(super) fn run(args: AgentArgs) -> anyhow::Result<ExitCode> {
    let node = node_name(args.node.as_deref())?;
    let set_log_level = log_to_stderr();
    let pods = args.pods()?;
    let configuration = if args.cluster {
        // The manifest names the variable, and leaves it empty where the Service's address will do.
        let servers = args.api_servers.into_iter().filter(|server| !server.is_empty()).collect();
        Configuration::Cluster(cluster::Options {
            kubeconfig: args.kubeconfig,
            servers,
            namespace: args.namespace,
        })
    } else {
        Configuration::Files(args.files)
    };
    let options = Options {
        configuration,
        node,
        socket: args.socket,
        state_dir: args.state_dir,
        proc_sys: args.proc_sys,
        pods,
        set_log_level,
    };
    bgp_speaker::memory::configure_allocator();
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .context("starting the runtime")?
        .block_on(daemon::run(options))?;
    Ok(ExitCode::SUCCESS)
}

/// `--node`, or the host name.
pub(super) fn node_name(given: Option<&str>) -> anyhow::Result<String> {
    if let Some(name) = given {
        return Ok(name.to_owned());
    }
    let name = rustix::system::uname()
        .nodename()
        .to_str()
        .context("the host name is not UTF-8; give --node")?
        .to_owned();
    anyhow::ensure!(!name.is_empty(), "this host has no name; give --node");
    Ok(name)
}

/// The Kubernetes client warns of each request that fails; we say when that begins and ends.
const INFO: &str = "info,kube_client=error,kube_runtime=error";
const WARN: &str = "warn,kube_client=error,kube_runtime=error";

/// `TOWPATH_LOG` takes `debug`, or `bgp_speaker=debug,route_agent=trace` and the like, and then outweighs
/// `NetworkConfig.spec.logLevel`. Returns how to change the level while the daemon runs.
fn log_to_stderr() -> Box<dyn Fn(LogLevel) + Send> {
    let given = EnvFilter::try_from_env("TOWPATH_LOG").ok();
    let fixed = given.is_some();
    let (filter, handle) = reload::Layer::new(given.unwrap_or_else(|| EnvFilter::new(INFO)));
    // Colours are for people; a file or the journal would keep the escape codes.
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    tracing_subscriber::registry().with(filter).with(lines).init();
    Box::new(move |level| {
        let words = match level {
            LogLevel::Error => "error",
            LogLevel::Warn => WARN,
            LogLevel::Info => INFO,
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        };
        if !fixed {
            // Fails only when the subscriber is gone, at the very end of the process.
            let _ = handle.reload(EnvFilter::new(words));
        }
    })
}
