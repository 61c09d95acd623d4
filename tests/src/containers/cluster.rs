//! The lab, its disks, and its two machines.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use lab::Lab;

use super::image;
use super::machine::Machine;
use crate::cgroups::Cgroups;
use crate::wait::until;

const TOPOLOGY: &str = include_str!("topo.clab.yml");
const TOR: &str = include_str!("tor.yaml");
const NODE: &str = include_str!("node.yaml");

/// Folders of a node's disk, by what they are called there.
const DISK: [&str; 6] =
    ["/etc/cni", "/etc/node", "/opt/cni", "/var/lib/cni", "/var/lib/containerd", "/var/lib/towpath"];

/// Patience for sessions, routes and containers on a slow machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Distinguishes the labs of one program.
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// Who starts the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// Debian 12's containerd 1.6: CNI 1.0.
    Containerd1,
    /// containerd 2: CNI 1.1, with STATUS.
    Containerd2,
}

/// The running lab. What it leaves on the machine ends with it.
#[derive(Debug)]
pub struct Cluster {
    machines: Vec<Machine>,
    lab: Option<Lab>,
    cgroups: Cgroups,
    runtime: Runtime,
    name: String,
    length: u8,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Brings both nodes up: each daemon has a route to the other node's pods and has told containerd of the
    /// plugin. Node N's pods get addresses of 10.244.N.0/24 and fd00:244:N::/64.
    ///
    /// # Errors
    /// What is missing or did not start.
    pub fn up(runtime: Runtime) -> anyhow::Result<Self> {
        Self::with_blocks_of(24, runtime)
    }

    /// As [`Cluster::up`], with blocks of another prefix length: a small one is soon used up.
    ///
    /// # Errors
    /// As [`Cluster::up`].
    pub fn with_blocks_of(length: u8, runtime: Runtime) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("towpath-containers-").tempdir()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("containers-{}-{}-{number}", runtime.word(), std::process::id());
        // The nodes get it from the lab, which can do without.
        crate::cni::plugin()?;
        let containerd = crate::tools::containerd()?;
        let topology = TOPOLOGY
            .replace("LAB", &name)
            .replace("CONTAINERD", containerd.to_str().context("the cache folder's path is no text")?);
        fs::write(folder.path().join("topo.clab.yml"), topology)?;
        fs::create_dir(folder.path().join("tor"))?;
        fs::write(folder.path().join("tor/towpath.yaml"), TOR)?;
        image::write(&folder.path().join("image.tar"), image::NAME)?;
        for number in [1, 2] {
            let disk = folder.path().join(format!("node{number}"));
            for path in DISK {
                fs::create_dir_all(disk.join(&path[1..]))?;
            }
            fs::create_dir(disk.join("towpath"))?;
            let text = NODE
                .replace("NODE", &number.to_string())
                .replace("TOR", &(2 * number).to_string())
                .replace("LENGTH", &length.to_string());
            fs::write(disk.join("towpath/towpath.yaml"), text)?;
            Machine::install(&disk)?;
        }
        let cgroups = Cgroups::of(&name, folder.path())?;
        let mut cluster = Self { machines: Vec::new(), lab: None, cgroups, runtime, name, length, folder };
        cluster.boot()?;
        Ok(cluster)
    }

    /// Node 1 or 2.
    ///
    /// # Panics
    /// For another number.
    #[must_use]
    pub fn node(&self, number: usize) -> &Machine {
        &self.machines[number - 1]
    }

    /// Node 1 or 2, to do something to its containerd.
    ///
    /// # Panics
    /// For another number.
    pub fn node_mut(&mut self, number: usize) -> &mut Machine {
        &mut self.machines[number - 1]
    }

    /// The router between the nodes.
    ///
    /// # Panics
    /// When the lab is gone.
    #[must_use]
    pub fn tor(&self) -> lab::Node {
        self.lab.as_ref().expect("there is a lab from `boot` on").node("tor")
    }

    /// Cuts the power of all nodes and starts them again: what was in memory is gone (links, routes, processes,
    /// `/run`), what was on disk is not, and the boot ids are others.
    ///
    /// # Errors
    /// As [`Cluster::up`].
    pub fn reboot(&mut self) -> anyhow::Result<()> {
        self.machines.clear();
        let lab = self.lab.take().context("the lab is gone")?;
        self.cgroups.ending(|| lab.down())?;
        self.boot()
    }

    fn boot(&mut self) -> anyhow::Result<()> {
        self.lab = Some(Lab::up(self.folder.path().join("topo.clab.yml"))?);
        let lab = self.lab.as_ref().context("the lab is gone")?;
        for number in [1, 2] {
            let node = lab.node(&format!("node{number}"));
            let disk = self.folder.path().join(format!("node{number}"));
            let mut machine = Machine::new(number, node, self.runtime, &self.name, &disk)?;
            machine.start_containerd()?;
            machine.import(Path::new("/opt/image.tar"))?;
            self.machines.push(machine);
        }
        for (machine, other) in [(self.node(1), 2), (self.node(2), 1)] {
            for prefix in [format!("10.244.{other}.0/{}", self.length), format!("fd00:244:{other}::/64")] {
                until(LIMIT, &format!("a route to {prefix}"), || machine.has_route(&prefix))?;
            }
            until(LIMIT, "containerd to have a network", || {
                machine.network_ready()?.map_err(anyhow::Error::msg).map(Some)
            })?;
        }
        Ok(())
    }
}

impl Runtime {
    /// Distinguishes labs, and logs.
    fn word(self) -> &'static str {
        match self {
            Self::Containerd1 => "v1",
            Self::Containerd2 => "v2",
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Shown of tests that fail only.
        for machine in &self.machines {
            eprintln!("{}", machine.last_words());
        }
        self.machines.clear();
        if let Some(Err(error)) = self.lab.take().map(|lab| self.cgroups.ending(|| lab.down())) {
            eprintln!("taking {} down: {error}", self.name);
        }
    }
}
