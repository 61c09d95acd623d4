//! The lab a story is played on: up for the story alone, with private copies of the files its nodes share with the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use meter::netns::Netns;

use super::check::Check;
use super::event::Event;
use super::read::Story;
use crate::file::topology::Topology;
use crate::speakers::Speaker;
use crate::{Lab, Node};

/// A lab that is up, and the clock of the story.
pub(crate) struct Scene {
    pub(crate) lab: Lab,
    netns: BTreeMap<String, Netns>,
    began: Instant,
    /// How long the lab took to come up.
    pub(crate) up: Duration,
    /// Removed with the value, after the lab.
    copies: Option<tempfile::TempDir>,
}

impl Scene {
    /// Brings the story's lab up.
    pub(super) fn up(story: &Story, progress: &mut dyn FnMut(&str)) -> anyhow::Result<Self> {
        let began = Instant::now();
        let mut topology = story.topology.clone();
        let copies = private_copies(&mut topology)?;
        let lab = Lab::up_topology(topology, |text| progress(text))?;
        Self::of(lab, began, copies)
    }

    /// The story's lab, which is up already.
    pub(super) fn running(story: &Story) -> anyhow::Result<Self> {
        let lab = Lab::running(&story.topology.name)?;
        if *lab.topology() != story.topology {
            bail!(
                "lab {0} is running and its file has changed; bring it up anew with `towpath lab up -c`",
                story.topology.name
            );
        }
        Self::of(lab, Instant::now(), None)
    }

    fn of(lab: Lab, began: Instant, copies: Option<tempfile::TempDir>) -> anyhow::Result<Self> {
        let mut netns = BTreeMap::new();
        // Bridges and the machine itself are no places for traffic; other nodes must be there.
        for node in lab.nodes().filter(|node| node.spec().kind == crate::Kind::Linux) {
            netns.insert(node.name().to_owned(), Netns::of_process(node.init_pid()?)?);
        }
        Ok(Self { lab, netns, began, up: began.elapsed(), copies })
    }

    /// Time since the story began.
    pub(crate) fn clock(&self) -> Duration {
        self.began.elapsed()
    }

    /// A node, or a network namespace in it.
    pub(crate) fn node(&self, name: &str) -> anyhow::Result<Node> {
        Ok(self.lab.locate(name)?)
    }

    /// The network of a node, or of a network namespace in it, as it is now: pods come and go.
    pub(crate) fn netns(&self, place: &str) -> anyhow::Result<Netns> {
        if place.contains('/') {
            return Netns::open(&self.node(place)?.netns_path()?);
        }
        let netns = self.netns.get(place).cloned();
        netns.with_context(|| format!("node {place} has no network of its own"))
    }

    /// Every node that has a network of its own, by name.
    pub(super) fn networks(&self) -> &BTreeMap<String, Netns> {
        &self.netns
    }

    /// Nodes with a routing program.
    pub(crate) fn speakers(&self) -> impl Iterator<Item = (Node, Speaker)> + '_ {
        self.lab.nodes().filter_map(|node| Speaker::of(node.spec()).map(|speaker| (node, speaker)))
    }

    /// Nodes that run towpath.
    pub(crate) fn towpaths(&self) -> impl Iterator<Item = Node> + '_ {
        self.speakers().filter(|(_, speaker)| *speaker == Speaker::Towpath).map(|(node, _)| node)
    }

    /// The main processes that run, by their id in the node: one that ends by itself shows here.
    pub(super) fn processes(&self) -> anyhow::Result<BTreeMap<String, u32>> {
        let with_process = self.lab.nodes().filter(|node| !node.spec().command.is_empty());
        let running =
            with_process.map(|node| Ok(node.status()?.pid.map(|pid| (node.name().to_owned(), pid))));
        running.filter_map(Result::transpose).collect()
    }

    /// The main processes that ended by themselves since `before`; `expected` nodes were ended by the story.
    pub(super) fn fallen(
        &self,
        before: &BTreeMap<String, u32>,
        expected: &BTreeSet<&str>,
    ) -> anyhow::Result<Vec<String>> {
        let mut fallen = Vec::new();
        for (name, pid) in before.iter().filter(|(name, _)| !expected.contains(name.as_str())) {
            let node = self.lab.find(name)?;
            let status = node.status()?;
            if status.pid != Some(*pid) {
                let how =
                    status.last_exit.map_or(String::new(), |exit| format!(", code {}", exit.shell_code()));
                fallen.push(format!(
                    "the main process of {name} ended by itself{how}; see {}",
                    node.log().display()
                ));
            }
        }
        Ok(fallen)
    }
}

/// Replaces what nodes may write to by copies, so that no file of the user's changes.
fn private_copies(topology: &mut Topology) -> anyhow::Result<Option<tempfile::TempDir>> {
    let folder = topology.file.parent().unwrap_or(Path::new("/")).to_owned();
    let mut copies: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    let mut place = None;
    for bind in topology.nodes.values_mut().flat_map(|node| &mut node.binds) {
        if bind.read_only || !bind.source.starts_with(&folder) {
            continue;
        }
        let place: &tempfile::TempDir = match &mut place {
            Some(place) => place,
            empty => empty
                .insert(tempfile::tempdir().context("a folder for the private copies of the lab's files")?),
        };
        let copy = match copies.get(&bind.source) {
            Some(copy) => copy.clone(),
            None => {
                let copy = place.path().join(copies.len().to_string());
                copy_all(&bind.source, &copy)
                    .with_context(|| format!("copying {}", bind.source.display()))?;
                copies.insert(bind.source.clone(), copy.clone());
                copy
            }
        };
        bind.source = copy;
    }
    Ok(place)
}

fn copy_all(from: &Path, to: &Path) -> std::io::Result<()> {
    if !from.is_dir() {
        return std::fs::copy(from, to).map(drop);
    }
    std::fs::create_dir(to)?;
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        copy_all(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

impl Scene {
    /// Ends the story and leaves the lab up, its private copies too.
    pub(super) fn keep(self) -> anyhow::Result<()> {
        if let Some(copies) = self.copies {
            // Kept on purpose: the lab's nodes go on using them.
            let _ = copies.keep();
        }
        Ok(self.lab.detach()?)
    }

    /// Takes the lab down.
    pub(super) fn down(self) -> anyhow::Result<()> {
        drop(self.netns);
        Ok(self.lab.down()?)
    }
}

/// Nodes whose main process the events of the step may end or start.
pub(super) fn disturbed<'s>(
    events: impl IntoIterator<Item = &'s Event>,
    all: &'s Topology,
) -> BTreeSet<&'s str> {
    let mut nodes = BTreeSet::new();
    for event in events {
        match event {
            Event::Random(_) => nodes.extend(all.nodes.keys().map(String::as_str)),
            event => nodes.extend(event.restarts()),
        }
    }
    nodes
}

/// Whether the check looks at the lab for longer than a moment, and is therefore made last.
pub(super) fn is_slow(check: &Check) -> bool {
    matches!(check, Check::Transfer { .. } | Check::Same)
}
