//! `make cluster`: the test cluster by hand. It stays up until `make cluster-down`.
//!
//! The cluster belongs to a process in the background, `hold`, and ends with it however that ends. The folder
//! `/run/towpath-cluster` says who holds it and how it is reached.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use towpath_tests::kube::{Cluster, Fabric, Families, Options, Proxy, deploy};
use towpath_tests::wait::until;

/// Name of the lab.
const NAME: &str = "cluster";
const FOLDER: &str = "/run/towpath-cluster";
/// Longest bring-up on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// A real Kubernetes on this machine, in namespaces.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Brings it up and returns; it stays.
    Up(Shape),
    /// Takes it down; nothing of it stays.
    Down,
    /// Runs kubectl against it.
    Kubectl {
        /// What kubectl is told.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// What `up` leaves in the background.
    #[command(hide = true)]
    Hold(Shape),
}

#[derive(clap::Args, Clone)]
struct Shape {
    /// How many nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Its address families.
    #[arg(long, value_enum, default_value = "dual")]
    families: Words,
    /// All nodes on one segment, without switches.
    #[arg(long)]
    flat: bool,
    /// kube-proxy with iptables instead of nftables.
    #[arg(long)]
    iptables: bool,
    /// Without towpath: the nodes stay NotReady until something gives their pods a network.
    #[arg(long)]
    bare: bool,
}

#[derive(ValueEnum, Clone, Copy)]
enum Words {
    Dual,
    V4,
    V6,
}

impl Shape {
    fn options(&self) -> Options {
        Options {
            nodes: self.nodes,
            families: match self.families {
                Words::Dual => Families::Dual,
                Words::V4 => Families::V4,
                Words::V6 => Families::V6,
            },
            fabric: if self.flat { Fabric::Flat } else { Fabric::TwoTors },
            proxy: if self.iptables { Proxy::Iptables } else { Proxy::Nftables },
            ..Options::default()
        }
    }
}

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Verb::Up(_) => up(),
        Verb::Hold(shape) => hold(&shape),
        Verb::Down => down(),
        Verb::Kubectl { arguments } => kubectl(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Starts this program again as `hold`, with the same words, and waits for its.
fn up() -> anyhow::Result<()> {
    if holder().is_ok() {
        bail!("the cluster is up already; take it down with `make cluster-down`");
    }
    clear()?;
    fs::create_dir_all(FOLDER)?;
    let log = File::create(file("log"))?;
    let shape = std::env::args_os().skip(2);
    let mut child = Command::new(std::env::current_exe()?)
        .arg("hold")
        .args(shape)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("starting the process that holds the cluster")?;
    fs::write(file("pid"), child.id().to_string())?;
    until(PATIENCE, "the cluster to come up", || {
        if let Some(status) = child.try_wait()? {
            let log = fs::read_to_string(file("log")).unwrap_or_default();
            let failed = anyhow::anyhow!("it did not come up ({status}): {}", log.trim());
            clear()?;
            return Ok(Some(Err(failed)));
        }
        Ok(file("up").exists().then_some(Ok(())))
    })
    .and_then(|up| up)?;
    let mut log = String::new();
    File::open(file("log"))?.read_to_string(&mut log)?;
    print!("{log}");
    println!("{}", fs::read_to_string(file("up"))?);
    Ok(())
}

fn hold(shape: &Shape) -> anyhow::Result<()> {
    let cluster = Cluster::named(NAME, shape.options())?;
    if shape.bare {
        println!("no network yet: kubectl apply -k deploy/");
    } else {
        deploy::install(&cluster)?;
        cluster.apply(&cluster.fabric_yaml())?;
        cluster.until_ready(true)?;
    }
    let kubectl = towpath_tests::kube::program("kubectl")?;
    let cp = cluster.lab().node("cp").netns_path()?;
    let command = format!(
        "nsenter --net={} {} --kubeconfig {}",
        cp.display(),
        kubectl.display(),
        cluster.server().kubeconfig().display()
    );
    fs::write(file("kubectl"), &command)?;
    // Written last, and whole: somebody waits for it.
    fs::write(
        file("words"),
        format!("{}\n\n    alias k='{command}'\n", cluster.kubectl(&["get", "nodes"])?),
    )?;
    fs::rename(file("words"), file("up"))?;
    wait_for_end()?;
    drop(cluster);
    clear()
}

/// Waits for SIGTERM or SIGINT. They are blocked from here on, so that the cluster is taken down in order.
fn wait_for_end() -> anyhow::Result<()> {
    let mut set = nix::sys::signal::SigSet::empty();
    set.add(nix::sys::signal::Signal::SIGTERM);
    set.add(nix::sys::signal::Signal::SIGINT);
    set.thread_block()?;
    set.wait()?;
    Ok(())
}

fn down() -> anyhow::Result<()> {
    let Ok(pid) = holder() else {
        println!("there is no cluster");
        return clear();
    };
    kill_process(pid, Signal::TERM)?;
    until(PATIENCE, "the cluster to be gone", || Ok(test_kill_process(pid).is_err().then_some(())))
}

fn kubectl(arguments: &[String]) -> anyhow::Result<()> {
    let command = fs::read_to_string(file("kubectl")).context("there is no cluster; run: make cluster")?;
    let mut words = command.split(' ').map(str::to_owned).chain(arguments.iter().cloned());
    let program = words.next().context("an empty command")?;
    Err(Command::new(program).args(words).exec()).context("running kubectl")
}

/// The process that holds the cluster, while it lives.
fn holder() -> anyhow::Result<Pid> {
    let text = fs::read_to_string(file("pid"))?;
    let pid = Pid::from_raw(text.trim().parse()?).context("process 0")?;
    test_kill_process(pid)?;
    // A number may be somebody else's by now.
    let command = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()))?;
    let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
    ensure!(words.get(1) == Some(&b"hold".as_slice()), "process {} is no cluster", pid.as_raw_nonzero());
    Ok(pid)
}

fn clear() -> anyhow::Result<()> {
    match fs::remove_dir_all(FOLDER) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {FOLDER}"))
        }
        _ => Ok(()),
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}
