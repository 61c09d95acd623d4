//! `towpath install` and `towpath uninstall`: what a node gets beside the running daemon, put in place and taken away.
//!
//! Each step is said before it is done; `--dry-run` only says. A step that fails is reported, the others go on, and
//! the exit code tells. Installing over another CNI names what that one left; only `--remove-leftovers` removes it.

mod files;
mod leftovers;
mod undo;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use ipnet::IpNet;
use route_agent::control::{Request, client};
use route_agent::pods::conflist::{self, Conflist};
use route_agent::pods::place;
use route_agent::status::AgentStatus;

pub(crate) use undo::UninstallArgs;
pub(super) use undo::run as uninstall;

/// Where things are on the node.
#[derive(Args)]
pub(crate) struct Places {
    /// Before every path: a node's file system mounted elsewhere. Links, routes and sysctls are then left alone,
    /// unless --host-network is given.
    #[arg(long, default_value = "/")]
    root: PathBuf,
    /// The network namespace is that of the node below --root, as in a container of the host network.
    #[arg(long)]
    host_network: bool,
    /// Where sysctls are written; not below --root.
    #[arg(long, env = "TOWPATH_PROC_SYS", default_value = super::PROC_SYS, hide = true)]
    proc_sys: PathBuf,
    /// Where the programs `towpath` and `towpath-cni` live.
    #[arg(long, default_value = "/usr/local/bin")]
    program_dir: PathBuf,
    /// Where container runtimes look for CNI plugins.
    #[arg(long, default_value = "/opt/cni/bin")]
    bin_dir: PathBuf,
    /// Where container runtimes look for a conflist.
    #[arg(long, default_value = "/etc/cni/net.d")]
    conf_dir: PathBuf,
    /// What the daemon and the plugin keep over restarts.
    #[arg(long, default_value = "/var/lib/towpath")]
    state_dir: PathBuf,
    /// Control socket of the daemon.
    #[arg(long, env = "TOWPATH_SOCKET", default_value = super::DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Places {
    /// A path of the node, below `--root`.
    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The network namespace we run in is the node's.
    fn here(&self) -> bool {
        self.host_network || self.root == Path::new("/")
    }
}

#[derive(Args)]
pub(crate) struct InstallArgs {
    #[command(flatten)]
    places: Places,
    /// Pod blocks of this node, for the plugin without a daemon. A daemon writes the conflist itself when it is ready.
    #[arg(long, value_name = "CIDR", num_args = 1.., value_delimiter = ',')]
    blocks: Vec<IpNet>,
    /// The CNI plugin; default: `towpath-cni` beside this program.
    #[arg(long)]
    cni_plugin: Option<PathBuf>,
    /// Remove the files and links that other CNIs left.
    #[arg(long)]
    remove_leftovers: bool,
    /// Only the files that keep other programs off our routes and links: programs and conflist are the daemon's, which
    /// runs in a container. A file that cannot be written is said, and is no failure.
    #[arg(long, conflicts_with_all = ["blocks", "cni_plugin", "remove_leftovers"])]
    only_drop_ins: bool,
}

/// Says each step, does it unless this is a dry run, and remembers failures.
struct Steps {
    dry_run: bool,
    failures: Vec<String>,
}

impl Steps {
    fn new(places: &Places) -> Self {
        Self { dry_run: places.dry_run, failures: Vec::new() }
    }

    fn step(&mut self, what: impl std::fmt::Display, act: impl FnOnce() -> anyhow::Result<()>) {
        println!("{}{what}", if self.dry_run { "would " } else { "" });
        if !self.dry_run
            && let Err(error) = act()
        {
            eprintln!("towpath: {what}: {error:#}");
            self.failures.push(format!("{what}: {error:#}"));
        }
    }

    fn end(self) -> ExitCode {
        match self.failures.len() {
            0 => ExitCode::SUCCESS,
            failed => {
                eprintln!("towpath: {failed} step(s) failed; mend what they say and run the command again");
                ExitCode::FAILURE
            }
        }
    }
}

/// `towpath install`.
pub(super) fn run(args: &InstallArgs) -> anyhow::Result<ExitCode> {
    let places = &args.places;
    if args.only_drop_ins {
        return Ok(drop_ins(places));
    }
    for block in &args.blocks {
        anyhow::ensure!(block.trunc() == *block, "--blocks {block}: write {}", block.trunc());
    }
    let plugin = place::plugin(args.cni_plugin.as_deref())?;
    let own = std::env::current_exe().context("finding this program")?;
    let mut steps = Steps::new(places);
    for leftover in leftovers::find(places)? {
        leftover.treat(places, args.remove_leftovers, &mut steps);
    }
    let programs = [
        (&own, places.at(&places.program_dir).join("towpath")),
        (&plugin, places.at(&places.program_dir).join(place::PLUGIN)),
        (&plugin, places.at(&places.bin_dir).join(place::PLUGIN)),
    ];
    for (from, to) in programs {
        steps.step(format_args!("put {} in place", to.display()), || place::program(from, &to).map(drop));
    }
    let bin = places.at(&places.bin_dir);
    if std::fs::metadata(bin.join(place::LOOPBACK)).is_err() {
        let path = bin.join(place::LOOPBACK);
        steps.step(format_args!("let {} be our plugin", path.display()), || place::loopback(&bin).map(drop));
    }
    write_files(places, &mut steps);
    // Last: a runtime acts on it at once.
    offer(args, &mut steps);
    Ok(steps.end())
}

/// A node whose `/etc` is read-only has a network all the same.
fn drop_ins(places: &Places) -> ExitCode {
    let mut steps = Steps::new(places);
    write_files(places, &mut steps);
    if !steps.failures.is_empty() {
        eprintln!("towpath: going on without; put these files in place by the means of this node's system");
    }
    ExitCode::SUCCESS
}

fn write_files(places: &Places, steps: &mut Steps) {
    for (path, text) in files::of(places) {
        let what = format!("write {}", path.display());
        steps.step(what, || place::text(&path, text.as_bytes()).map(drop));
    }
}

fn offer(args: &InstallArgs, steps: &mut Steps) {
    let places = &args.places;
    let path = places.at(&places.conf_dir).join(conflist::FILE);
    let daemon =
        places.here().then(|| client::ask::<AgentStatus>(&places.at(&places.socket), &Request::Status));
    match daemon {
        Some(Ok(status)) => {
            let pods = status.pods.filter(|pods| !pods.blocks.is_empty());
            match pods {
                Some(pods) if pods.conflist.is_some() => {
                    println!("the daemon has written {}", path.display())
                }
                Some(pods) => {
                    println!("the daemon writes {} when the node is ready: {}", path.display(), pods.reason)
                }
                None => println!(
                    "the daemon knows no podCIDRs of this node, so there is no conflist; give them in its NodeNetwork"
                ),
            }
            if !args.blocks.is_empty() {
                println!("--blocks is left aside: a daemon runs, and its NodeNetwork counts");
            }
        }
        _ if args.blocks.is_empty() => println!(
            "no conflist yet: start `towpath agent`, which writes {} when the node is ready, or give --blocks for the plugin alone",
            path.display()
        ),
        _ => {
            let text = Conflist {
                blocks: &args.blocks,
                node_addresses: &[],
                ready_file: None,
                state_dir: &places.state_dir,
                boot_id_file: Path::new(cni::ready::BOOT_ID_PATH),
                install: None,
            }
            .text();
            steps.step(format_args!("write {}", path.display()), || {
                place::text(&path, text.as_bytes()).map(drop)
            });
        }
    }
}
