//! A lab comes up: a thread for each node takes it through its stages.
//!
//! Nodes meet on the [`Board`], which says who may do what next. A stage that fails gives the whole
//! lab up; a command of the file that fails is told and is no reason to.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::file::kind::Kind;
use crate::file::space;
use crate::file::stage::{Phase, Stage, Target, WaitFor};
use crate::file::topology::{Network, NodeSpec, Topology};
use crate::node::control::{self, Request};
use crate::node::namespaces::NodeEvent;
use crate::node::reaper::Reaper;
use crate::start::board::{Board, GivenUp};
use crate::start::holder::{LabEvent, tell};
use crate::start::schedule::Schedule;
use crate::start::state::{Plan, StateDir};
use crate::start::wires::Wires;
use crate::start::{commands, eth0, helper, host};

/// How often people are told what a lab is waiting for.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// Lines of its log that explain why a node did not start.
const LAST_LINES: usize = 10;

/// Brings the lab up; returns once every node is as its file describes it.
pub(crate) fn run(state: &StateDir) -> anyhow::Result<()> {
    let plan = state.plan().context("reading the lab's plan")?;
    let (nodes, links) = (plan.topology.nodes.len(), plan.topology.links.len());
    tell(&LabEvent::Progress(format!("starting {nodes} nodes with {links} links")));
    host::prepare(&plan.topology).context("making the lab's host namespace")?;
    host::serve(state).context("serving the lab's host namespace")?;
    let board = Board::new(schedule(&plan.topology));
    let wires = Wires::new(&plan.topology)?;
    wires.ready(space::HOST, host::netns()?, None)?;
    wires.ready(space::MGMT_NET, host::netns()?, Some(eth0::BRIDGE))?;
    let places = Mutex::default();
    let names: Vec<String> = plan.topology.nodes.keys().cloned().collect();
    let lab = Arc::new(Lab { state: state.clone(), plan, reaper: Reaper::start(), board, wires, places });
    for name in names {
        let lab = Arc::clone(&lab);
        std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || lab.live(&name))
            .context("starting the thread of a node")?;
    }
    let told = |line| tell(&LabEvent::Progress(line));
    lab.board.until_up(TOLD_EVERY, told).map_err(|reason| anyhow::anyhow!(reason))
}

/// What the file makes nodes wait for, and how many of them are created at a time.
fn schedule(topology: &Topology) -> Schedule {
    let mut waits: BTreeMap<WaitFor, Vec<WaitFor>> = BTreeMap::new();
    for (name, node) in &topology.nodes {
        for (stage, spec) in &node.stages {
            let stage = WaitFor { node: name.clone(), stage: *stage };
            waits.entry(stage).or_default().extend(spec.wait_for.iter().cloned());
        }
        if let Network::Container(other) = &node.network {
            let stage = |node: &str| WaitFor { node: node.to_owned(), stage: Stage::Create };
            waits.entry(stage(name)).or_default().push(stage(other));
        }
    }
    for link in &topology.links {
        let [a, b] = link.ends.each_ref().map(|end| &end.node);
        for (near, far) in [(a, b), (b, a)] {
            let free = [near, far].map(|node| topology.nodes.get(node).is_some_and(is_free));
            if free == [true, true] && near != far {
                let stage = WaitFor { node: near.clone(), stage: Stage::CreateLinks };
                let created = WaitFor { node: far.clone(), stage: Stage::Create };
                waits.entry(stage).or_default().push(created);
            }
        }
    }
    let at_most = 2 * std::thread::available_parallelism().map_or(2, usize::from);
    let late = |(name, node): (&String, &NodeSpec)| {
        let commands = node.stages.get(&Stage::Create).is_some_and(|create| !create.exec.is_empty());
        (commands || !node.startup_delay.is_zero()).then(|| name.clone())
    };
    let held = topology.nodes.iter().filter_map(late).collect();
    Schedule::new(topology.nodes.keys().cloned(), waits, held, at_most)
}

/// Nothing keeps the node from getting its links as soon as it is created. Two such nodes get their
/// common links at once, with carrier; a node that waits for others is waited for by nobody.
fn is_free(node: &NodeSpec) -> bool {
    let early = [Stage::Create, Stage::CreateLinks];
    !matches!(node.network, Network::Container(_))
        && node.startup_delay.is_zero()
        && !node.stages.keys().any(|stage| early.contains(stage))
}

struct Lab {
    state: StateDir,
    plan: Plan,
    reaper: Arc<Reaper>,
    board: Board,
    wires: Wires,
    places: Mutex<BTreeMap<String, Arc<Place>>>,
}

/// Where a node that was created is.
struct Place {
    /// Its process 1, by its id in the lab.
    init: u32,
    netns: OwnedFd,
    /// The ifindex of the bridge that the node is.
    bridge: Option<u32>,
}

impl Place {
    fn netns(&self) -> anyhow::Result<OwnedFd> {
        self.netns.try_clone().context("keeping its network namespace open")
    }
}

impl Lab {
    fn live(&self, name: &str) {
        if let Err(error) = self.stages(name)
            && !error.is::<GivenUp>()
        {
            self.board.fail(format!("node {name}: {error:#}"));
        }
    }

    fn stages(&self, name: &str) -> anyhow::Result<()> {
        let spec = self.plan.topology.nodes.get(name).context("no such node")?;
        if !spec.startup_delay.is_zero() {
            self.board.doing(name, format!("starts {} s late", spec.startup_delay.as_secs()));
            self.board.delay(spec.startup_delay)?;
        }
        let place = self.stage(name, spec, Stage::Create, || {
            self.board.turn(name)?;
            self.board.doing(name, "is created".to_owned());
            let created = match spec.kind {
                Kind::Bridge => self.create_bridge(name, spec),
                Kind::Linux | Kind::ExtContainer | Kind::Host => self.create(name, spec),
            };
            self.board.created();
            let place = created?;
            if is_free(spec) {
                self.wires.ready(name, place.netns()?, place.bridge)?;
            }
            Ok(place)
        })?;
        self.stage(name, spec, Stage::CreateLinks, || {
            self.board.doing(name, "gets its links".to_owned());
            self.wires.ready(name, place.netns()?, place.bridge)?;
            self.wires.attach(name)
        })?;
        self.stage(name, spec, Stage::Configure, || Ok(()))?;
        for argv in &spec.exec {
            self.exec(name, argv, Target::Container);
        }
        // Health and end take their time, and are played only where somebody is interested.
        if self.waited_for(name, Stage::Healthy) || spec.stages.contains_key(&Stage::Healthy) {
            self.stage(name, spec, Stage::Healthy, || {
                self.board.doing(name, "is not healthy yet".to_owned());
                self.ask(name, &Request::AwaitHealthy)
            })?;
        }
        if self.waited_for(name, Stage::Exit) || spec.stages.contains_key(&Stage::Exit) {
            // Who waits for its end is not up before; nobody else has to wait for it.
            self.board.settle(name);
            self.stage(name, spec, Stage::Exit, || self.ask(name, &Request::AwaitExit))?;
        }
        self.board.settle(name);
        Ok(())
    }

    /// One stage: what it waits for, its commands on entering, its work, its commands on exit.
    fn stage<T>(
        &self,
        name: &str,
        spec: &NodeSpec,
        stage: Stage,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.board.enter(name, stage)?;
        let commands = spec.stages.get(&stage).map(|stage| stage.exec.as_slice()).unwrap_or_default();
        let run = |phase| {
            for command in commands.iter().filter(|command| command.phase == phase) {
                self.exec(name, &command.argv, command.target);
            }
        };
        run(Phase::OnEnter);
        let outcome = work()?;
        run(Phase::OnExit);
        self.board.end(name, stage);
        Ok(outcome)
    }

    fn waited_for(&self, name: &str, stage: Stage) -> bool {
        let mut stages = self.plan.topology.nodes.values().flat_map(|node| node.stages.values());
        stages.any(|other| other.wait_for.iter().any(|wait| wait.node == name && wait.stage == stage))
    }

    fn ask(&self, name: &str, request: &Request) -> anyhow::Result<()> {
        control::call(&self.state.socket(name), request, &[], Duration::MAX).map(|_| ()).map_err(Into::into)
    }

    /// Starts a node; returns once its process 1 serves requests.
    fn create(&self, name: &str, spec: &NodeSpec) -> anyhow::Result<Arc<Place>> {
        let shared = match &spec.network {
            Network::Container(other) => Some(self.place(other)?.init.to_string()),
            Network::Management | Network::None | Network::Outside(_) | Network::Host => None,
        };
        let args: Vec<&str> = [name].into_iter().chain(shared.as_deref()).collect();
        let mut command = helper::step(Path::new(helper::SELF), "node", &self.state, &args);
        let log = File::options().append(true).create(true).open(self.state.log(name));
        let log = log.context("creating its log")?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let (mut child, _ended) = self.reaper.spawn(&mut command).context("starting it")?;
        let output = child.stdout.take().context("it has no output")?;
        let init = init_of(output)?;
        let Some(init) = init else {
            bail!("{}", self.last_lines(name));
        };
        let netns = File::open(format!("/proc/{init}/ns/net")).context("opening its network namespace")?;
        let place = Arc::new(Place { init, netns: netns.into(), bridge: None });
        self.places().insert(name.to_owned(), Arc::clone(&place));
        tell(&LabEvent::Created(name.to_owned()));
        Ok(place)
    }

    /// A bridge is a device in somebody's network, and nothing else.
    fn create_bridge(&self, name: &str, spec: &NodeSpec) -> anyhow::Result<Arc<Place>> {
        let netns = match &spec.network {
            Network::Container(other) => self.place(other)?.netns.try_clone()?,
            _ => host::netns()?,
        };
        let bridge = host::make_bridge(&self.plan.topology, name, netns.as_fd())?;
        Ok(Arc::new(Place { init: std::process::id(), netns, bridge: Some(bridge) }))
    }

    fn last_lines(&self, name: &str) -> String {
        let log = match std::fs::read(self.state.log(name)) {
            Ok(log) => log,
            Err(error) => return format!("it did not start, and its log cannot be read: {error}"),
        };
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.trim().lines().collect();
        lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("\n")
    }

    fn place(&self, name: &str) -> anyhow::Result<Arc<Place>> {
        self.places().get(name).cloned().with_context(|| format!("node {name} is not up"))
    }

    fn places(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one command; a failure is told and does not stop the lab.
    fn exec(&self, name: &str, argv: &[String], target: Target) {
        let line = argv.join(" ");
        self.board.doing(name, format!("runs `{line}`"));
        let outcome = match target {
            Target::Container => commands::in_node(&self.state, name, argv, &self.plan.topology),
            Target::Host => commands::on_host(&self.state, name, argv, &self.plan.topology, &self.reaper),
        };
        if let Err(error) = outcome {
            tell(&LabEvent::Warning(format!("node {name}: exec `{line}`: {error:#}")));
        }
    }
}

/// The process 1 that a starting node tells of, once that serves requests; `None`: it ended before.
///
/// The node and its process 1 share this pipe, and either may be first.
fn init_of(output: impl std::io::Read) -> anyhow::Result<Option<u32>> {
    let (mut pid, mut ready) = (None, false);
    for line in BufReader::new(output).lines() {
        match serde_json::from_str(&line?)? {
            NodeEvent::Init(init) => pid = Some(init),
            NodeEvent::Ready => ready = true,
        }
        if ready && pid.is_some() {
            return Ok(pid);
        }
    }
    Ok(None)
}
