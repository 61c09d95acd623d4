//! `examples/two-tor` brought up for a test, a benchmark or the demo: its story in verbs.
//!
//! The topology and the YAML are the example's own files; only the lab's name is made unique, so that
//! several can be up at once and none touches the files a user edits.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use lab::Lab;
use serde_json::Value;

use crate::meter::counters::Interfaces;
use crate::meter::{Pair, Side};
use crate::netns::Netns;
use crate::wait::until;

/// The switches.
pub const TORS: [&str; 2] = ["tor1", "tor2"];
/// The nodes.
pub const NODES: [&str; 2] = ["node1", "node2"];
/// Everything that runs a daemon.
pub const SPEAKERS: [&str; 4] = ["tor1", "tor2", "node1", "node2"];

/// The lab and its private copy of the example.
pub struct TwoTor {
    /// The lab itself.
    pub lab: Lab,
    // Removed with the value, after the lab.
    _folder: Option<tempfile::TempDir>,
}

impl TwoTor {
    /// Brings it up. `name` distinguishes labs that are up at the same time.
    ///
    /// # Errors
    /// What the lab runner says.
    pub fn up(name: &str) -> anyhow::Result<Self> {
        Self::up_with(name, |_| Ok(()))
    }

    /// [`TwoTor::up`] after `change` has edited the copy of the example.
    ///
    /// # Errors
    /// What the lab runner or `change` says.
    pub fn up_with(name: &str, change: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the lab")?;
        copy_folder(&example(), folder.path())?;
        let topology = folder.path().join("topo.clab.yml");
        let text = std::fs::read_to_string(&topology)?;
        std::fs::write(&topology, text.replacen("name: two-tor", &format!("name: {name}"), 1))?;
        change(folder.path())?;
        let lab = Lab::up(&topology)?;
        Ok(Self { lab, _folder: Some(folder) })
    }

    /// Brings up the example itself, under its own name and with its own files.
    ///
    /// # Errors
    /// What the lab runner says.
    pub fn up_in_place() -> anyhow::Result<Self> {
        Ok(Self { lab: Lab::up(example().join("topo.clab.yml"))?, _folder: None })
    }

    /// Asks the daemon of `node`: `towpath ARGS -o json`.
    ///
    /// # Errors
    /// When it does not answer, or answers no JSON.
    pub fn ask(&self, node: &str, args: &[&str]) -> anyhow::Result<Value> {
        // The lab puts the program under test into every node under this name.
        let argv: Vec<&str> =
            ["towpath"].into_iter().chain(args.iter().copied()).chain(["-o", "json"]).collect();
        let output = self.lab.node(node).exec(&argv)?;
        serde_json::from_str(&output.stdout)
            .with_context(|| format!("{node}: towpath {}: {}", args.join(" "), output.stderr))
    }

    /// How many sessions of `node` are Established, of how many.
    ///
    /// # Errors
    /// As [`TwoTor::ask`].
    pub fn sessions(&self, node: &str) -> anyhow::Result<(usize, usize)> {
        let peers = self.ask(node, &["peers"])?;
        let peers = peers.as_array().context("peers is no list")?;
        let up = peers.iter().filter(|peer| peer["state"] == "Established").count();
        Ok((up, peers.len()))
    }

    /// Next hops of `prefix` in the kernel of `node`, in words; `None`: not there.
    ///
    /// # Errors
    /// As [`TwoTor::ask`].
    pub fn nexthops(&self, node: &str, prefix: &str) -> anyhow::Result<Option<Vec<String>>> {
        let routes = self.ask(node, &["routes", "installed", prefix])?;
        let Some(route) = routes.as_array().and_then(|routes| routes.first()) else { return Ok(None) };
        let words = route["nexthops"].as_array().context("nexthops is no list")?;
        Ok(Some(words.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect()))
    }

    /// Waits until each node reaches the other's pods over `paths` ToRs, in both families.
    ///
    /// # Errors
    /// When that does not happen within `limit`.
    pub fn until_paths(&self, paths: usize, limit: Duration) -> anyhow::Result<()> {
        for (node, other) in [("node1", "2"), ("node2", "1")] {
            for prefix in [format!("10.244.{other}.0/24"), format!("fd00:244:{other}::/64")] {
                until(limit, &format!("{node}: {prefix} over {paths} ToRs"), || {
                    let nexthops = self.nexthops(node, &prefix)?;
                    Ok(nexthops.filter(|nexthops| nexthops.len() == paths).map(|_| ()))
                })?;
            }
        }
        Ok(())
    }

    /// Waits until all sessions are up and every route is where it belongs: both paths on the nodes, one on each ToR.
    ///
    /// # Errors
    /// When that does not happen within `limit`.
    pub fn until_converged(&self, limit: Duration) -> anyhow::Result<()> {
        for node in SPEAKERS {
            until(limit, &format!("{node}: all sessions established"), || {
                Ok(self.sessions(node).ok().filter(|(up, all)| up == all && *all == 4).map(|_| ()))
            })?;
        }
        self.until_paths(2, limit)?;
        for tor in TORS {
            for prefix in ["10.244.1.0/24", "10.244.2.0/24", "fd00:244:1::/64", "fd00:244:2::/64"] {
                until(limit, &format!("{tor}: {prefix}"), || Ok(self.nexthops(tor, prefix)?.map(|_| ())))?;
            }
        }
        Ok(())
    }

    /// A pod: where its sockets are made, and its addresses. `letter` is `a` or `b`.
    ///
    /// # Errors
    /// When the lab is gone, or the pod was not made.
    pub fn pod(&self, node: u8, letter: char) -> anyhow::Result<Side> {
        let last: u8 = if letter == 'a' { 10 } else { 11 };
        Ok(Side {
            netns: self.netns(&format!("node{node}/pod{node}{letter}"))?,
            v4: Some(Ipv4Addr::new(10, 244, node, last)),
            v6: Some(format!("fd00:244:{node}::{last}").parse::<Ipv6Addr>()?),
        })
    }

    /// Pods of both nodes, two and two.
    ///
    /// # Errors
    /// When the lab is gone.
    pub fn pairs(&self) -> anyhow::Result<Vec<Pair>> {
        ['a', 'b']
            .iter()
            .map(|letter| Ok(Pair { a: self.pod(1, *letter)?, b: self.pod(2, *letter)? }))
            .collect()
    }

    /// The network namespace of a node, or of a pod (`node1/pod1a`).
    ///
    /// # Errors
    /// When the lab is gone, or has no such pod.
    pub fn netns(&self, place: &str) -> anyhow::Result<Netns> {
        Netns::open(&self.lab.locate(place)?.netns_path()?)
    }

    /// Packets that came into each ToR since `before`, or since it came up.
    ///
    /// # Errors
    /// When the lab is gone.
    pub fn tor_packets(&self, before: Option<&[Interfaces; 2]>) -> anyhow::Result<[u64; 2]> {
        let now = self.tor_counters()?;
        let mut packets = [0; 2];
        for (index, now) in now.iter().enumerate() {
            let delta = before.map_or_else(|| now.clone(), |before| now.since(&before[index]));
            packets[index] = ["eth1", "eth2"].iter().map(|name| delta.of(name).rx_packets).sum();
        }
        Ok(packets)
    }

    /// Counters of both ToRs, for [`TwoTor::tor_packets`].
    ///
    /// # Errors
    /// When the lab is gone.
    pub fn tor_counters(&self) -> anyhow::Result<[Interfaces; 2]> {
        Ok([Interfaces::read(&self.netns("tor1")?)?, Interfaces::read(&self.netns("tor2")?)?])
    }

    /// The ToR that died comes back: its kernel forwards again, and its daemon starts with an empty kernel.
    ///
    /// # Errors
    /// What the lab runner says.
    pub fn revive(&self, tor: &str) -> anyhow::Result<()> {
        let node = self.lab.node(tor);
        // A router that was off has no routes left of its earlier life.
        node.exec(&["ip", "route", "flush", "proto", "199"])?;
        node.exec(&["ip", "-6", "route", "flush", "proto", "199"])?;
        node.restore_forwarding()?;
        node.start()?;
        Ok(())
    }
}

/// The `towpath` under test: `$TOWPATH_BIN`, or beside or above this program.
///
/// # Errors
/// When there is none.
pub fn program() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("TOWPATH_BIN") {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe().context("the path of this program")?;
    for folder in own.ancestors().skip(1).take(2) {
        let candidate = folder.join("towpath");
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    bail!("no towpath beside {}; build it (make build) or set TOWPATH_BIN", own.display())
}

/// The example's folder in this checkout.
fn example() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).join("examples/two-tor")
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
