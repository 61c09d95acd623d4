//! The command line: what can be said, and where it goes.

mod agent;
mod check;
mod drain;
mod health;
mod install;
mod ipam;
mod kubectl;
mod peers;
mod pod;
mod routes;
mod status;
mod table;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use bgp_speaker::query::RibView;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use route_agent::control::{PeerVerb, Request, client};

/// Where the daemon's control socket is unless `--socket` says otherwise.
const DEFAULT_SOCKET: &str = "/run/towpath/agent.sock";

/// Where sysctls are unless `--proc-sys` says otherwise.
const PROC_SYS: &str = "/proc/sys";

/// Plain routes for Kubernetes pods: node daemon, command line and lab runner.
#[derive(Parser)]
#[command(name = "towpath", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the node daemon: speak BGP, install routes.
    Agent(agent::AgentArgs),
    /// Show this node on one screen; exit 0 when all is well.
    Status(Connection),
    /// Ask the daemon how it is, for probes; exit 0 or 1.
    Health(health::HealthArgs),
    /// Show BGP sessions, and in words why one is down.
    Peers {
        /// Show again whenever something changes, until interrupted.
        #[arg(short, long)]
        watch: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show routes: what peers sent, what is in use, what is in the kernel, what peers are told.
    Routes(RoutesArgs),
    /// Let no new pods start on this node; those that run go on.
    Drain(drain::DrainArgs),
    /// Put the programs, and what keeps other programs off pods' links, in place on this node.
    Install(install::InstallArgs),
    /// Take away what `install` and the daemon put on this node, and give sysctls their old values.
    Uninstall(install::UninstallArgs),
    /// Check configuration files without touching anything; exit 1 when something is wrong.
    Check(check::CheckArgs),
    /// Act on BGP sessions.
    Bgp {
        #[command(subcommand)]
        action: BgpAction,
    },
    /// Show, check and mend which pod has which address of this node.
    Ipam {
        #[command(subcommand)]
        command: ipam::IpamCommand,
    },
    /// Make pods without a container runtime: network namespaces, connected by the node's CNI plugins.
    Pod {
        #[command(subcommand)]
        command: pod::PodCommand,
    },
    /// Run containerlab topologies out of network namespaces.
    Lab {
        #[command(subcommand)]
        command: lab::cli::LabCommand,
    },
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// How to reach the daemon, and how to print.
#[derive(Args)]
struct Connection {
    /// Control socket of the daemon.
    #[arg(long, env = "TOWPATH_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Table for people, or JSON with stable names.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Args)]
struct RoutesArgs {
    /// Which routes.
    #[arg(value_enum)]
    view: View,
    /// Only this prefix; an address means its host route.
    #[arg(value_parser = parse_prefix)]
    prefix: Option<IpNet>,
    /// Only this peer, by BGPPeer name or neighbour address.
    #[arg(long)]
    peer: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum View {
    /// Everything peers sent, with the verdict of the import rules.
    Received,
    /// What the import rules let through.
    Accepted,
    /// What is in use.
    Best,
    /// What the kernel has from us.
    Installed,
    /// What peers are told.
    Advertised,
}

#[derive(Subcommand)]
enum BgpAction {
    /// Ask the peer for all its routes again and send it all of ours, without a reset (RFC 2918).
    Refresh(PeerArgs),
    /// Close the session and open it again (Cease 6/4).
    Reset(PeerArgs),
    /// Close the session and keep it closed (Cease 6/2) until `start` or a restart of the daemon.
    Shutdown(PeerArgs),
    /// Let a session that was shut down come up again.
    Start(PeerArgs),
}

#[derive(Args)]
struct PeerArgs {
    /// BGPPeer name or neighbour address.
    peer: String,
    /// Sent to the peer's operator (RFC 9003), at most 255 octets.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    connection: Connection,
}

/// Parses the command line and does what it says. Under the name `kubectl-towpath` it is the plugin of kubectl.
pub fn run() -> ExitCode {
    let mut arguments = std::env::args_os();
    let outcome = if kubectl::is_plugin(arguments.next()) {
        kubectl::run(arguments.map(|argument| argument.to_string_lossy().into_owned()))
    } else {
        dispatch(Cli::parse().command)
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("towpath: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Agent(args) => agent::run(args),
        Command::Status(connection) => status::run(&connection),
        Command::Health(args) => health::run(&args),
        Command::Peers { watch, connection } => peers::run(&connection, watch),
        Command::Routes(args) => routes::run(&args),
        Command::Drain(args) => drain::run(&args),
        Command::Install(args) => install::run(&args),
        Command::Uninstall(args) => install::uninstall(&args),
        Command::Check(args) => check::run(&args),
        Command::Bgp { action } => bgp(action),
        Command::Ipam { command } => ipam::run(command),
        Command::Pod { command } => pod::run(command),
        Command::Lab { command } => lab::cli::run(command),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "towpath", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn bgp(action: BgpAction) -> anyhow::Result<ExitCode> {
    let (verb, args) = match action {
        BgpAction::Refresh(args) => (PeerVerb::Refresh, args),
        BgpAction::Reset(args) => (PeerVerb::Reset, args),
        BgpAction::Shutdown(args) => (PeerVerb::Shutdown, args),
        BgpAction::Start(args) => (PeerVerb::Start, args),
    };
    anyhow::ensure!(
        args.reason.len() <= 255,
        "--reason has {} octets; RFC 9003 allows 255",
        args.reason.len()
    );
    let request = Request::Peer { peer: args.peer, action: verb, reason: args.reason };
    let sessions: usize = client::ask(&args.connection.socket, &request)?;
    match args.connection.output {
        Output::Json => println!("{}", serde_json::json!({ "sessions": sessions })),
        Output::Table => println!("{sessions} session{}", if sessions == 1 { "" } else { "s" }),
    }
    Ok(ExitCode::SUCCESS)
}

fn parse_prefix(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    text.parse::<IpNet>()
        .map(|net| net.trunc())
        .map_err(|_| format!("{text} is no prefix; write 10.244.0.0/24 or fd00::/64"))
}

impl View {
    fn rib(self) -> Option<RibView> {
        Some(match self {
            Self::Received => RibView::Received,
            Self::Accepted => RibView::Accepted,
            Self::Best => RibView::Best,
            Self::Advertised => RibView::Advertised,
            Self::Installed => return None,
        })
    }
}
