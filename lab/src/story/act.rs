//! Does what a story says to its lab, and remembers what would undo it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;

use super::event::{Event, Verb};
use super::scene::Scene;
use crate::until;

/// How long a killed process may take to be gone.
const DEATH: Duration = Duration::from_secs(5);
/// Longest run of a command that is an event.
const COMMAND: Duration = Duration::from_secs(60);
/// Routes with a lower protocol number are the kernel's and the administrator's (linux/rtnetlink.h).
const FIRST_DAEMON_PROTOCOL: u8 = 5;
/// RTPROT_RA: from router advertisements.
const ROUTER_ADVERTISEMENT: u8 = 9;

/// What is out of order in the lab because a story did it.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    dead: BTreeSet<String>,
    ended: BTreeSet<String>,
    frozen: BTreeSet<String>,
    isolated: BTreeSet<String>,
    down: BTreeSet<String>,
    lossy: BTreeSet<String>,
    /// Node, file and what it held before the first edit.
    edited: Vec<(String, PathBuf, String)>,
}

impl Undo {
    /// Does one event; [`Event::Random`] is a series of such.
    pub(crate) fn act(&mut self, scene: &Scene, event: &Event) -> anyhow::Result<()> {
        match event {
            Event::Node { verb, node } => self.node(scene, *verb, node),
            Event::LinkDown(end) => {
                self.down.insert(end.clone());
                Ok(scene.lab.link_down(end)?)
            }
            Event::LinkUp(end) => {
                self.down.remove(end);
                Ok(scene.lab.link_up(end)?)
            }
            Event::Loss { end, loss } => {
                self.lossy.insert(end.clone());
                Ok(scene.lab.set_loss(end, *loss)?)
            }
            Event::NoLoss(end) => {
                self.lossy.remove(end);
                Ok(scene.lab.clear_loss(end)?)
            }
            Event::Edit { node, file, replace, with } => self.edit(scene, node, file, replace, with),
            Event::Run { node, argv } => run(scene, node, argv),
            Event::Wait(time) => {
                // The story's own pause: it says what happens when, and nothing is waited for.
                std::thread::sleep(*time);
                Ok(())
            }
            Event::Random(_) => bail!("random events are done one by one"),
        }
    }

    fn node(&mut self, scene: &Scene, verb: Verb, name: &str) -> anyhow::Result<()> {
        let node = scene.node(name)?;
        let owned = || name.to_owned();
        match verb {
            Verb::Die => {
                self.dead.insert(owned());
                scene.lab.kill_and_isolate(name)?;
            }
            Verb::Kill => {
                self.ended.insert(owned());
                node.kill(Signal::KILL)?;
            }
            Verb::Stop => {
                self.ended.insert(owned());
                node.stop()?;
            }
            Verb::Start => return self.start(scene, name),
            Verb::Restart => {
                self.ended.insert(owned());
                node.kill(Signal::KILL)?;
                // Started before it is seen dead, it would count as ended by itself, and rest for a second.
                until(DEATH, || node.status().is_ok_and(|status| status.pid.is_none()))
                    .with_context(|| format!("waiting for the main process of {name} to be gone"))?;
                return self.start(scene, name);
            }
            Verb::Pause => {
                self.frozen.insert(owned());
                node.kill(Signal::STOP)?;
            }
            Verb::Resume => {
                self.frozen.remove(name);
                node.kill(Signal::CONT)?;
            }
            Verb::Isolate => {
                self.isolated.insert(owned());
                node.stop_forwarding()?;
            }
            Verb::Restore => {
                self.isolated.remove(name);
                node.restore_forwarding()?;
            }
        }
        Ok(())
    }

    fn start(&mut self, scene: &Scene, name: &str) -> anyhow::Result<()> {
        let node = scene.node(name)?;
        if self.dead.remove(name) {
            forget_routes(scene, name)?;
            node.restore_forwarding()?;
        }
        self.ended.remove(name);
        self.frozen.remove(name);
        Ok(node.start()?)
    }

    fn edit(
        &mut self,
        scene: &Scene,
        name: &str,
        file: &PathBuf,
        replace: &str,
        with: &str,
    ) -> anyhow::Result<()> {
        let node = scene.node(name)?;
        let text = node.read_file(file)?;
        if !text.contains(replace) {
            bail!(
                "node {name}: {} does not contain \"{replace}\"; correct the event's \"replace\"",
                file.display()
            );
        }
        if !self.edited.iter().any(|(known, path, _)| known == name && path == file) {
            self.edited.push((name.to_owned(), file.clone(), text.clone()));
        }
        Ok(node.write_file(file, &text.replace(replace, with))?)
    }

    /// Puts the lab in order again. Goes on after a failure and gives all of them.
    pub(crate) fn undo(&mut self, scene: &Scene) -> Vec<String> {
        let mut failures = Vec::new();
        let mut events: Vec<Event> = Vec::new();
        let verb = |verb| move |node: &String| Event::Node { verb, node: node.clone() };
        events.extend(self.down.iter().cloned().map(Event::LinkUp));
        events.extend(self.lossy.iter().cloned().map(Event::NoLoss));
        events.extend(self.isolated.iter().map(verb(Verb::Restore)));
        // A frozen process that was killed since needs no more than the start.
        let gone: BTreeSet<String> = self.dead.union(&self.ended).cloned().collect();
        events.extend(self.frozen.difference(&gone).map(verb(Verb::Resume)));
        events.extend(gone.iter().map(verb(Verb::Start)));
        for event in events {
            if let Err(error) = self.act(scene, &event) {
                failures.push(format!("undoing: {event}: {error:#}"));
            }
        }
        failures.extend(self.restore_files(scene));
        failures
    }

    /// Whether an event of the story keeps the node's main process stopped.
    pub(crate) fn has_paused(&self, node: &str) -> bool {
        self.frozen.contains(node)
    }

    /// Gives edited files what they held before. Goes on after a failure and gives all of them.
    pub(crate) fn restore_files(&mut self, scene: &Scene) -> Vec<String> {
        let mut failures = Vec::new();
        for (node, file, text) in self.edited.drain(..) {
            if let Err(error) = scene.node(&node).and_then(|node| Ok(node.write_file(&file, &text)?)) {
                failures.push(format!("restoring {} of {node}: {error:#}", file.display()));
            }
        }
        failures
    }
}

fn run(scene: &Scene, node: &str, argv: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let output = scene.node(node)?.exec_within(COMMAND, &words)?;
    if !output.success() {
        bail!(
            "node {node}: `{}` ended with code {}: {}",
            argv.join(" "),
            output.exit.shell_code(),
            output.stderr.trim()
        );
    }
    Ok(())
}

/// A router that was off has no routes of its earlier life.
fn forget_routes(scene: &Scene, name: &str) -> anyhow::Result<()> {
    let netns = &scene.netns(name)?;
    // With them go the routes on them. FRR's could not go by themselves: the kernel shows them with the object and its
    // gateway, and takes a request that names both for a mistake.
    netns.ip("nexthop flush")?;
    for (ipv4, family) in [(true, "-4"), (false, "-6")] {
        let protocols: BTreeSet<u8> = meter::kernel::routes(netns, ipv4)?
            .iter()
            .map(|route| route.protocol)
            .filter(|protocol| *protocol >= FIRST_DAEMON_PROTOCOL && *protocol != ROUTER_ADVERTISEMENT)
            .collect();
        for protocol in protocols {
            netns.ip(&format!("{family} route flush table all proto {protocol}"))?;
        }
    }
    Ok(())
}
