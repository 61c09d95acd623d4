//! `/run/netns/<container>`: what makes `ip netns exec` work with the nodes of a lab.
//!
//! Each is a link into the lab's own folder, to `<node>.netns`, which leads to the namespace of the
//! node's process 1. So a name says whose it is, keeps no namespace alive, and everybody who finds
//! one of a lab that is gone may remove it. Names of others are never touched. Only root has them.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::file::kind::Kind;
use crate::file::topology::Topology;
use crate::start::state::{StateDir, base};

/// Where iproute2 looks for namespaces.
pub(crate) const FOLDER: &str = "/run/netns";

/// Takes the names of a lab, which lead nowhere until [`lead`].
///
/// # Errors
/// When a name is somebody else's; then none of this lab is left.
pub(crate) fn reserve(state: &StateDir, topology: &Topology) -> anyhow::Result<()> {
    fs::create_dir_all(FOLDER).with_context(|| format!("creating {FOLDER}"))?;
    for (node, container) in named(topology) {
        if let Err(error) = reserve_one(state, node, container) {
            release(state)?;
            return Err(error);
        }
    }
    Ok(())
}

fn reserve_one(state: &StateDir, node: &str, container: &str) -> anyhow::Result<()> {
    let (name, target) = (Path::new(FOLDER).join(container), state.netns(node));
    match symlink(&target, &name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        outcome => return outcome.with_context(|| format!("making {}", name.display())),
    }
    match fs::read_link(&name) {
        Ok(present) if present == target => Ok(()),
        present => {
            let owner = present.ok().and_then(|present| lab_of(&present));
            let (whose, remedy) = match owner {
                Some(lab) => (format!("of lab {}", lab.lab()), "take that one down".to_owned()),
                None => ("of somebody else".to_owned(), format!("remove it with `ip netns del {container}`")),
            };
            bail!(
                "node {node}: there is a network namespace {container} {whose}; {remedy}, or choose another \
                 \"name\" or \"prefix\" for this lab"
            )
        }
    }
}

/// Lets the name of `node` lead to the namespace of `init`, its process 1 by its id on this machine.
pub(crate) fn lead(state: &StateDir, topology: &Topology, node: &str, init: u32) -> anyhow::Result<()> {
    let Some((_, container)) = named(topology).find(|(name, _)| *name == node) else { return Ok(()) };
    // Another lab's sweep may have taken a name of a lab that was not up yet.
    reserve_one(state, node, container)?;
    let path = state.netns(node);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    symlink(format!("/proc/{init}/ns/net"), &path).with_context(|| format!("making {}", path.display()))
}

/// Gives the names of a lab back.
pub(crate) fn release(state: &StateDir) -> io::Result<()> {
    remove(|lab| lab == state)
}

/// Removes what killed labs have left behind.
pub(crate) fn sweep() -> io::Result<()> {
    remove(|lab| lab.running().is_none())
}

fn remove(whose: impl Fn(&StateDir) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(FOLDER) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let lab = fs::read_link(&path).ok().and_then(|target| lab_of(&target));
        if lab.is_some_and(|lab| whose(&lab)) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// The lab that a name with this target belongs to.
fn lab_of(target: &Path) -> Option<StateDir> {
    let below = target.strip_prefix(base()).ok()?;
    let mut parts = below.components();
    let (lab, file) = (parts.next()?, PathBuf::from(parts.next()?.as_os_str()));
    let ours = parts.next().is_none() && file.extension().is_some_and(|extension| extension == "netns");
    ours.then(|| StateDir::at(&base().join(lab)))
}

/// The nodes that have a name: not a namespace that has its own, and not a bridge.
fn named(topology: &Topology) -> impl Iterator<Item = (&str, &str)> {
    let nodes = topology.nodes.iter();
    nodes
        .filter(|(_, node)| matches!(node.kind, Kind::Linux | Kind::Host))
        .map(|(name, node)| (name.as_str(), node.container.as_str()))
}
