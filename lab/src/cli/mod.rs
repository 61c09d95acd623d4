//! `towpath lab ...`: labs for people.

mod exec;
mod graph;
mod list;
mod logs;
mod netem;
mod node;
mod test;
mod up;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::{Subcommand, ValueEnum};

pub use netem::{Interface, NetemCommand};

use crate::Lab;
use crate::file::topology::Topology;
use crate::start::state::StateDir;

/// Labs out of network namespaces, from containerlab files.
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// Bring a lab up and leave it running.
    Up {
        /// Topology file, or a folder with one *.clab.yml.
        #[arg(default_value = ".")]
        path: PathBuf,
        /// Take a running lab of the same name down first.
        #[arg(short = 'c', long)]
        reconfigure: bool,
    },
    /// Take a lab down; nothing of it stays.
    Down {
        /// Lab name, topology file or its folder.
        #[arg(default_value = ".")]
        lab: String,
        /// All labs of this user.
        #[arg(short, long)]
        all: bool,
    },
    /// Run a command in a node; exits as the command does.
    Exec(exec::Exec),
    /// Show labs and their nodes.
    List {
        /// One lab only.
        lab: Option<String>,
        /// Form of the output.
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Draw a lab: nodes, links, and of a running one sessions and prefixes.
    Graph(graph::GraphArgs),
    /// Check a topology file; every mistake is shown with its line.
    Check {
        /// Topology file, or a folder with one *.clab.yml.
        #[arg(default_value = ".")]
        path: PathBuf,
    },
    /// Play the story beside a topology: traffic, failures, and what must hold. Exit 0: it held, 1: it did not,
    /// 2: its files are wrong.
    Test(test::TestArgs),
    /// Print what the programs of a node, or of all nodes, have written.
    Logs {
        /// Lab, where more than one runs.
        #[arg(short, long)]
        lab: Option<String>,
        /// Node name; all nodes otherwise.
        node: Option<String>,
        /// Go on printing as it is written.
        #[arg(short, long)]
        follow: bool,
    },
    /// Kill, stop or start a node's main process, or its forwarding.
    Node {
        /// Lab, where more than one runs.
        #[arg(short, long)]
        lab: Option<String>,
        /// What to do.
        action: NodeAction,
        /// Node name.
        node: String,
    },
    /// Pull a cable or put it back.
    Link {
        /// Lab, where more than one runs.
        #[arg(short, long)]
        lab: Option<String>,
        /// Down or up.
        action: LinkAction,
        /// NODE:INTERFACE as in the file.
        end: String,
    },
    /// Delay, loss and the like on a link.
    #[command(subcommand)]
    Netem(NetemCommand),
}

/// How lists are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs; the keys are stable.
    Json,
}

/// What can be done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NodeAction {
    /// kill -9 of its main process, without restart until `start`.
    Kill,
    /// End its main process gently.
    Stop,
    /// Start its main process again.
    Start,
    /// Freeze its main process (SIGSTOP).
    Pause,
    /// Let it go on (SIGCONT).
    Resume,
    /// Kill its main process and stop its forwarding in the same instant.
    Die,
    /// Stop its forwarding only.
    Isolate,
    /// Restore its forwarding.
    Restore,
}

/// What can be done to a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LinkAction {
    /// The other end loses its carrier.
    Down,
    /// The carrier is back.
    Up,
}

/// Does what the command line asks for.
///
/// # Errors
/// What failed, as one chain; a bad topology file as one line per mistake.
pub fn run(command: LabCommand) -> anyhow::Result<ExitCode> {
    match command {
        LabCommand::Up { path, reconfigure } => up::up(&path, reconfigure)?,
        LabCommand::Down { lab, all } => up::down(&lab, all)?,
        LabCommand::Exec(command) => return exec::exec(command),
        LabCommand::List { lab, output } => list::list(lab.as_deref(), output)?,
        LabCommand::Test(args) => return test::run(&args),
        LabCommand::Graph(arguments) => graph::graph(&arguments)?,
        LabCommand::Check { path } => up::check(&path)?,
        LabCommand::Logs { lab, node, follow } => {
            let lab = find_lab(lab.as_deref())?;
            let nodes = match node {
                Some(node) => vec![lab.find(&node)?],
                None => lab.nodes().collect(),
            };
            logs::logs(&nodes, follow)?;
        }
        LabCommand::Node { lab, action, node } => node::act(&find_lab(lab.as_deref())?, action, &node)?,
        LabCommand::Link { lab, action: LinkAction::Down, end } => {
            find_lab(lab.as_deref())?.link_down(&end)?
        }
        LabCommand::Netem(command) => netem::run(command)?,
        LabCommand::Link { lab, action: LinkAction::Up, end } => find_lab(lab.as_deref())?.link_up(&end)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A lab's name, or the name in the topology file it points to.
fn lab_name(word: &str) -> anyhow::Result<String> {
    if StateDir::of(word).path().is_dir() && !word.contains('/') && !word.starts_with('.') {
        return Ok(word.to_owned());
    }
    let path = Path::new(word);
    if path.exists() { Ok(Topology::read(path)?.name) } else { Ok(word.to_owned()) }
}

/// The lab named, or the only one that runs.
fn find_lab(name: Option<&str>) -> anyhow::Result<Lab> {
    if let Some(name) = name {
        return Ok(Lab::running(&lab_name(name)?)?);
    }
    let running: Vec<String> =
        StateDir::all()?.iter().filter(|state| state.running().is_some()).map(StateDir::lab).collect();
    match running.as_slice() {
        [one] => Ok(Lab::running(one)?),
        [] => bail!("no lab is running; start one with `towpath lab up`"),
        many => bail!("several labs are running; choose one with --lab: {}", many.join(", ")),
    }
}
