//! Network namespaces that somebody else made: `ext-container`, and `container:X` outside of the lab.
//!
//! They are found as `/run/netns/<name>`, never removed, and keep nothing of the lab: its devices
//! in them are taken away when it goes. A device is the lab's if it has the name of the file and the
//! ifindex that the lab gives it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use crate::file::kind::Kind;
use crate::file::links::{End, device_name};
use crate::file::space::{self, Space};
use crate::file::topology::{Network, Topology};
use crate::kernel::netlink::{Netlink, ifindex};
use crate::kernel::netns::inside;
use crate::start::netns_names::FOLDER;
use crate::start::state::StateDir;
use crate::wait::until;

/// How long an `ext-container` is awaited, as containerlab does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// How often people are told what is awaited.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// File system type of namespaces: `NSFS_MAGIC`.
const NSFS: i64 = 0x6e73_6673;

/// Waits until every namespace that the lab needs is there.
///
/// # Errors
/// Names the one that is missing: `container:X` at once, an `ext-container` after `patience`.
pub(crate) fn wait(
    topology: &Topology,
    patience: Duration,
    mut progress: impl FnMut(&str),
) -> anyhow::Result<()> {
    for (node, spec) in &topology.nodes {
        let Network::Outside(name) = &spec.network else { continue };
        let path = Path::new(FOLDER).join(name);
        if rustix::process::geteuid().as_raw() != 0 {
            bail!("node {node}: only root may enter the network namespace {name}; run as root");
        }
        if spec.kind != Kind::ExtContainer {
            if !is_netns(&path) {
                bail!("{}", missing(topology, node, name));
            }
            continue;
        }
        let mut waited = Duration::ZERO;
        while !is_netns(&path) {
            if waited >= patience {
                bail!(
                    "node {node}: {} did not appear in {} s; start what makes it",
                    path.display(),
                    patience.as_secs()
                );
            }
            progress(&format!("waiting for {}, since {} s", path.display(), waited.as_secs()));
            let step = TOLD_EVERY.min(patience - waited);
            // Late or not is seen above, after the step is counted.
            if until(step, || is_netns(&path)).is_err() {
                waited += step;
            }
        }
    }
    Ok(())
}

fn missing(topology: &Topology, node: &str, name: &str) -> String {
    let nodes: Vec<&str> = topology.nodes.keys().map(String::as_str).filter(|other| *other != node).collect();
    format!(
        "node {node}: network-mode container:{name} names no node, and there is no {FOLDER}/{name}; name one of {}, or \
         make the namespace before the lab",
        nodes.join(", ")
    )
}

fn is_netns(path: &Path) -> bool {
    let magic = File::open(path).and_then(|file| Ok(rustix::fs::fstatfs(file)?.f_type));
    magic.is_ok_and(|magic| magic == NSFS)
}

/// The namespaces outside that nodes of the lab are in.
fn names(topology: &Topology) -> BTreeSet<&str> {
    let networks = topology.nodes.values().map(|node| &node.network);
    networks
        .filter_map(|network| if let Network::Outside(name) = network { Some(name.as_str()) } else { None })
        .collect()
}

/// Makes them known inside the lab, whose `/proc` cannot follow links such as Docker's.
///
/// Must run in the lab's mount namespace, while the machine's `/proc` is there.
pub(crate) fn bring_in(state: &StateDir, topology: &Topology) -> anyhow::Result<()> {
    for name in names(topology) {
        let (source, target) = (Path::new(FOLDER).join(name), state.outside(name));
        File::create(&target).with_context(|| format!("creating {}", target.display()))?;
        mount_bind(&source, &target)
            .with_context(|| format!("bringing {} into the lab", source.display()))?;
    }
    Ok(())
}

/// Removes the lab's devices from namespaces outside, as the machine knows them.
pub(crate) fn clear(topology: &Topology) -> io::Result<()> {
    clear_as(topology, |name| Path::new(FOLDER).join(name))
}

/// [`clear`], from inside the lab, whose files can be removed afterwards.
pub(crate) fn clear_from_inside(state: &StateDir, topology: &Topology) -> io::Result<()> {
    clear_as(topology, |name| state.outside(name))?;
    for name in names(topology) {
        unmount(state.outside(name), UnmountFlags::DETACH)?;
    }
    Ok(())
}

fn clear_as(topology: &Topology, path: impl Fn(&str) -> PathBuf) -> io::Result<()> {
    for (index, link) in topology.links.iter().enumerate() {
        for (side, end) in link.ends.iter().enumerate() {
            let mark = ifindex_of(topology, index, side);
            clear_end(topology, end, mark, &path)?;
        }
    }
    for (index, dummy) in topology.dummies.iter().enumerate() {
        clear_end(topology, &dummy.end, ifindex_of(topology, topology.links.len() + index, 0), &path)?;
    }
    Ok(())
}

fn clear_end(topology: &Topology, end: &End, mark: u32, path: &impl Fn(&str) -> PathBuf) -> io::Result<()> {
    let Space::Outside(name) = space::of(&end.node, &topology.nodes) else { return Ok(()) };
    // A namespace that is gone has taken the device along.
    let Ok(netns) = File::open(path(&name)) else { return Ok(()) };
    let device = device_name(&end.interface);
    inside(netns.as_fd(), || match ifindex(&device) {
        Ok(index) if index == mark => match Netlink::route()?.delete(index) {
            // The other end took it along.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            outcome => outcome,
        },
        _ => Ok(()),
    })?
}

/// The ifindex of an end outside: by it the lab knows its own, so no other lab and no kernel chooses it.
pub(crate) fn ifindex_of(topology: &Topology, link: usize, side: usize) -> u32 {
    let lab = topology.name.bytes();
    let hash = lab.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let end = u32::try_from(2 * link + side).unwrap_or_default();
    0x1000_0000 + (hash & 0x0fff_f000) + (end & 0xfff)
}
