//! `towpath lab ...`: labs for people.

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use rustix::process::Signal;
use serde_json::json;

use crate::lab::take_down_by_name;
use crate::state::StateDir;
use crate::topology::Topology;
use crate::{Lab, Node};

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
    Exec {
        /// Lab, where more than one runs.
        #[arg(short, long)]
        lab: Option<String>,
        /// Node name.
        node: String,
        /// Command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Show labs and their nodes.
    List {
        /// One lab only.
        lab: Option<String>,
        /// Form of the output.
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Check a topology file; every mistake is shown with its line.
    Check {
        /// Topology file, or a folder with one *.clab.yml.
        #[arg(default_value = ".")]
        path: PathBuf,
    },
    /// Print what a node's programs have written.
    Logs {
        /// Lab, where more than one runs.
        #[arg(short, long)]
        lab: Option<String>,
        /// Node name.
        node: String,
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
        LabCommand::Up { path, reconfigure } => up(&path, reconfigure)?,
        LabCommand::Down { lab, all } => down(&lab, all)?,
        LabCommand::Exec { lab, node, command } => return exec(lab.as_deref(), &node, &command),
        LabCommand::List { lab, output } => list(lab.as_deref(), output)?,
        LabCommand::Check { path } => check(&path)?,
        LabCommand::Logs { lab, node, follow } => logs(&find_lab(lab.as_deref())?.find(&node)?, follow)?,
        LabCommand::Node { lab, action, node } => act(&find_lab(lab.as_deref())?, action, &node)?,
        LabCommand::Link { lab, action: LinkAction::Down, end } => {
            find_lab(lab.as_deref())?.link_down(&end)?
        }
        LabCommand::Link { lab, action: LinkAction::Up, end } => find_lab(lab.as_deref())?.link_up(&end)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(path: &Path, reconfigure: bool) -> anyhow::Result<()> {
    let topology = Topology::read(path)?;
    for warning in &topology.warnings {
        eprintln!("warning: {warning}");
    }
    if let Ok(running) = Lab::running(&topology.name) {
        if reconfigure {
            take_down_by_name(&topology.name)?;
        } else if *running.topology() == topology {
            println!("lab {} is running already", topology.name);
            return Ok(());
        } else {
            bail!("lab {} is running and its file has changed; bring it up anew with -c", topology.name);
        }
    }
    let started = std::time::Instant::now();
    let lab = Lab::up_with(path, |text| eprintln!("{text}"))?;
    let (nodes, links) = (lab.topology().nodes.len(), lab.topology().links.len());
    println!(
        "lab {} is up: {nodes} nodes, {links} links, {:.1} s",
        topology.name,
        started.elapsed().as_secs_f32()
    );
    Ok(lab.detach()?)
}

fn down(lab: &str, all: bool) -> anyhow::Result<()> {
    let labs = if all { StateDir::all()?.iter().map(StateDir::lab).collect() } else { vec![lab_name(lab)?] };
    let mut failures = Vec::new();
    for lab in labs {
        match take_down_by_name(&lab) {
            Ok(()) => println!("lab {lab} is down"),
            Err(error) => failures.push(error.to_string()),
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("\n")) }
}

/// A lab's name, or the name in the topology file it points to.
fn lab_name(word: &str) -> anyhow::Result<String> {
    if StateDir::of(word).path().is_dir() && !word.contains('/') && !word.starts_with('.') {
        return Ok(word.to_owned());
    }
    let path = Path::new(word);
    if path.exists() { Ok(Topology::read(path)?.name) } else { Ok(word.to_owned()) }
}

fn exec(lab: Option<&str>, node: &str, command: &[String]) -> anyhow::Result<ExitCode> {
    let node = find_lab(lab)?.find(node)?;
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let exit = node.exec_on(&words, [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
    Ok(ExitCode::from(u8::try_from(exit.shell_code()).unwrap_or(u8::MAX)))
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

fn list(only: Option<&str>, format: Format) -> anyhow::Result<()> {
    let mut labs = serde_json::Map::new();
    for state in StateDir::all()? {
        let name = state.lab();
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let nodes = match Lab::running(&name) {
            Ok(lab) => lab.nodes().map(|node| describe(&node)).collect(),
            Err(_) => {
                vec![json!({"name": "-", "kind": "-", "image": "-", "state": "left behind, run `lab down`"})]
            }
        };
        labs.insert(name, nodes.into());
    }
    let mut out = std::io::stdout().lock();
    match format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&labs)?)?,
        Format::Table => {
            writeln!(out, "{:<16} {:<12} {:<8} {:<32} STATE", "LAB", "NODE", "KIND", "IMAGE")?;
            for (lab, nodes) in &labs {
                for node in nodes.as_array().into_iter().flatten() {
                    let text =
                        |key: &str| node.get(key).and_then(|value| value.as_str()).unwrap_or("-").to_owned();
                    let (name, kind, image, state) =
                        (text("name"), text("kind"), text("image"), text("state"));
                    writeln!(out, "{lab:<16} {name:<12} {kind:<8} {image:<32} {state}")?;
                }
            }
        }
    }
    Ok(())
}

fn describe(node: &Node) -> serde_json::Value {
    let state = match node.status() {
        Ok(_) if node.spec().command.is_empty() => "running".to_owned(),
        Ok(status) => match (status.pid, status.suspended) {
            (Some(_), _) => "running".to_owned(),
            (None, true) => "stopped".to_owned(),
            (None, false) => format!("restarting, {} starts", status.starts),
        },
        Err(_) => "dead".to_owned(),
    };
    let spec = node.spec();
    json!({
        "name": node.name(), "kind": spec.kind, "image": spec.image, "state": state,
        "container": spec.container, "pid": node.init_pid().ok(),
    })
}

fn check(path: &Path) -> anyhow::Result<()> {
    let topology = Topology::read(path)?;
    for warning in &topology.warnings {
        eprintln!("warning: {warning}");
    }
    let (nodes, links) = (topology.nodes.len(), topology.links.len());
    println!("{}: lab {}, {nodes} nodes, {links} links", topology.file.display(), topology.name);
    Ok(())
}

fn logs(node: &Node, follow: bool) -> anyhow::Result<()> {
    let path = node.log();
    let mut file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut out = std::io::stdout().lock();
    loop {
        let mut text = Vec::new();
        let at = file.stream_position()?;
        file.read_to_end(&mut text)?;
        out.write_all(&text)?;
        out.flush()?;
        if !follow || !path.exists() {
            return Ok(());
        }
        file.seek(SeekFrom::Start(at + text.len() as u64))?;
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn act(lab: &Lab, action: NodeAction, name: &str) -> anyhow::Result<()> {
    let node = lab.find(name)?;
    match action {
        NodeAction::Kill => node.kill(Signal::KILL)?,
        NodeAction::Stop => node.stop()?,
        NodeAction::Start => node.start()?,
        NodeAction::Pause => node.kill(Signal::STOP)?,
        NodeAction::Resume => node.kill(Signal::CONT)?,
        NodeAction::Die => lab.kill_and_isolate(name)?,
        NodeAction::Isolate => node.stop_forwarding()?,
        NodeAction::Restore => node.restore_forwarding()?,
    }
    Ok(())
}
