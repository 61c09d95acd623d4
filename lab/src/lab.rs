//! A running lab, as a test or the command line holds it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use anyhow::Context;

use crate::FileError;
use crate::file::links::{End, device_name};
use crate::file::space::{self, Space};
use crate::file::topology::Topology;
use crate::kernel::nft::Loss;
use crate::node::control::{self, Request, Response};
use crate::running::Node;
use crate::start::holder::{DETACH, LabEvent};
use crate::start::state::{Plan, StateDir};
use crate::start::{helper, netns_names, outside};

/// Folder of unpacked packages (`usr/sbin`, `usr/lib/frr`, ...) that every node sees as installed.
const TOOLS: &str = "TOWPATH_TOOLS";

/// Why a lab could not be started or reached.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The topology file has mistakes.
    #[error(transparent)]
    File(#[from] FileError),
    /// A lab of this name is up.
    #[error("lab {lab} is running already; take it down with `towpath lab down {lab}`")]
    Running {
        /// Its name.
        lab: String,
    },
    /// There is no such lab.
    #[error("there is no lab {lab}; `towpath lab list` shows what there is")]
    Unknown {
        /// The name asked for.
        lab: String,
    },
    /// The lab has no such node.
    #[error("lab {lab} has no node {node}; it has {}", .known.join(", "))]
    UnknownNode {
        /// Its name.
        lab: String,
        /// The node asked for.
        node: String,
        /// Those it has.
        known: Vec<String>,
    },
    /// The link end is not in the topology.
    #[error("lab {lab} has no link end {end}; write NODE:INTERFACE as in the file")]
    UnknownEnd {
        /// Its name.
        lab: String,
        /// The end asked for.
        end: String,
    },
    /// A step of starting it failed; nothing of it is left.
    #[error("lab {lab} did not come up: {reason}")]
    Start {
        /// Its name.
        lab: String,
        /// What went wrong.
        reason: String,
    },
    /// A request to it failed.
    #[error("lab {lab}: {what}: {error}")]
    Io {
        /// Its name.
        lab: String,
        /// What was tried.
        what: String,
        /// Why it failed.
        error: std::io::Error,
    },
}

/// A lab that is up. Dropping it takes it down, unless it was detached.
#[derive(Debug)]
pub struct Lab {
    topology: Topology,
    state: StateDir,
    /// While this is open the lab lives; `None`: it outlives us.
    leash: Option<ChildStdin>,
    warnings: Vec<String>,
}

impl Lab {
    /// Brings up the topology of `path` (a file, or a folder with one) and waits until every link is
    /// in place and every `exec` has run.
    ///
    /// The lab lives as long as the value, and as this process: if the process is killed, so is the lab.
    ///
    /// # Errors
    /// [`LabError::File`] with every mistake of the file, [`LabError::Running`], or what failed on the way.
    pub fn up(path: impl AsRef<Path>) -> Result<Self, LabError> {
        Self::up_with(path, |_| {})
    }

    /// [`Lab::up`], telling `progress` what happens meanwhile, a line each.
    ///
    /// # Errors
    /// As [`Lab::up`].
    pub fn up_with(path: impl AsRef<Path>, progress: impl FnMut(&str)) -> Result<Self, LabError> {
        Self::up_topology(Topology::read(path.as_ref())?, progress)
    }

    /// [`Lab::up_with`] of a topology that is read already.
    ///
    /// # Errors
    /// As [`Lab::up`].
    pub fn up_topology(topology: Topology, progress: impl FnMut(&str)) -> Result<Self, LabError> {
        let state = StateDir::of(&topology.name);
        let mut progress = progress;
        outside::wait(&topology, outside::PATIENCE, &mut progress)
            .map_err(|reason| LabError::Start { lab: topology.name.clone(), reason: reason.to_string() })?;
        make_folder(&state)?;
        // Held until the lab is down: a holder that loses its leash removes the files by itself, and
        // there would be nothing left to know by whom to wait for.
        let mut leash = None;
        match start(&topology, &state, &mut leash, &mut progress) {
            Ok(exec_warnings) => {
                let warnings = [topology.warnings.clone(), exec_warnings].concat();
                Ok(Self { topology, state, leash, warnings })
            }
            Err(error) => {
                let start = |reason| LabError::Start { lab: topology.name.clone(), reason };
                Err(match take_down(&state) {
                    Ok(()) => start(format!("{error:#}")),
                    Err(down) => start(format!("{error:#}; and taking it down failed: {down}")),
                })
            }
        }
    }

    /// A lab that is up already, by name. Dropping the value leaves it up.
    ///
    /// # Errors
    /// [`LabError::Unknown`] when no lab of that name runs.
    pub fn running(name: &str) -> Result<Self, LabError> {
        let state = StateDir::of(name);
        let unknown = || LabError::Unknown { lab: name.to_owned() };
        state.running().ok_or_else(unknown)?;
        let plan = state.plan().map_err(|_| unknown())?;
        let warnings = plan.topology.warnings.clone();
        Ok(Self { topology: plan.topology, state, leash: None, warnings })
    }

    /// Lets the lab outlive this value and this process.
    ///
    /// # Errors
    /// [`LabError::Io`] when its holder cannot be told.
    pub fn detach(mut self) -> Result<(), LabError> {
        if let Some(mut leash) = self.leash.take() {
            let told = writeln!(leash, "{DETACH}").and_then(|()| leash.flush());
            told.map_err(|error| self.io("detaching", error))?;
        }
        Ok(())
    }

    /// Takes the lab down and reports what [`Drop`] would only print.
    ///
    /// # Errors
    /// [`LabError::Io`] when something could not be removed.
    pub fn down(mut self) -> Result<(), LabError> {
        let leash = self.leash.take();
        let outcome = take_down(&self.state);
        drop(leash);
        outcome
    }

    /// What it was made from.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// What the file says without effect, and which `exec` failed.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// One node.
    ///
    /// # Panics
    /// When the topology has no such node: a test that names one is wrong. See [`Lab::find`].
    #[must_use]
    pub fn node(&self, name: &str) -> Node {
        match self.find(name) {
            Ok(node) => node,
            Err(error) => panic!("{error}"),
        }
    }

    /// One node, if there is such a one.
    ///
    /// # Errors
    /// [`LabError::UnknownNode`].
    pub fn find(&self, name: &str) -> Result<Node, LabError> {
        let unknown = || LabError::UnknownNode {
            lab: self.topology.name.clone(),
            node: name.to_owned(),
            known: self.topology.nodes.keys().cloned().collect(),
        };
        let spec = self.topology.nodes.get(name).ok_or_else(unknown)?;
        Ok(Node::new(&self.topology.name, name, spec, &self.state))
    }

    /// A node, or with `NODE/NETNS` a named network namespace inside one: see [`Node::netns`].
    ///
    /// # Errors
    /// [`LabError::UnknownNode`].
    pub fn locate(&self, place: &str) -> Result<Node, LabError> {
        match place.split_once('/') {
            Some((node, netns)) => Ok(self.find(node)?.netns(netns)),
            None => self.find(place),
        }
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + '_ {
        let nodes = self.topology.nodes.iter();
        nodes.map(|(name, spec)| Node::new(&self.topology.name, name, spec, &self.state))
    }

    /// Pulls the cable at `end` (`tor1:eth1`): the interface there goes down, the other end loses its carrier.
    ///
    /// # Errors
    /// [`LabError::UnknownEnd`], or the kernel's refusal.
    pub fn link_down(&self, end: &str) -> Result<(), LabError> {
        self.set_link(end, false)
    }

    /// Puts the cable back. IPv6 addresses are kept meanwhile, routes that used the interface are not.
    ///
    /// # Errors
    /// As [`Lab::link_down`].
    pub fn link_up(&self, end: &str) -> Result<(), LabError> {
        self.set_link(end, true)
    }

    /// The router `node` dies: its main process is killed (and not restarted), and in the same
    /// instant its kernel forwards nothing any more.
    ///
    /// # Errors
    /// [`LabError::UnknownNode`], or the kernel's refusal.
    pub fn kill_and_isolate(&self, node: &str) -> Result<(), LabError> {
        self.find(node)?.ask(&Request::KillAndIsolate, "killing it").map(|_| ())
    }

    /// Makes the cable at `end` (`tor1:eth1`) lose this share of its packets, at random and each way
    /// on its own: of a ping every second one fails at about 30 %. Every frame counts, ARP and
    /// neighbour discovery too. It is done by an nftables rule where packets arrive, so senders
    /// notice nothing; with a share of 0 the cable is whole again.
    ///
    /// # Errors
    /// [`LabError::UnknownEnd`], or the kernel's refusal: it needs nf_tables with `numgen`.
    pub fn set_loss(&self, end: &str, loss: Loss) -> Result<(), LabError> {
        for end in self.cable(end)? {
            let request = Request::Loss { device: device_name(&end.interface), loss };
            self.ask_at(end, &request, &format!("setting the loss at {}", end.interface))?;
        }
        Ok(())
    }

    /// Undoes [`Lab::set_loss`]. Repeating it changes nothing.
    ///
    /// # Errors
    /// As [`Lab::set_loss`].
    pub fn clear_loss(&self, end: &str) -> Result<(), LabError> {
        self.set_loss(end, Loss::default())
    }

    fn set_link(&self, end: &str, up: bool) -> Result<(), LabError> {
        let [near, _] = self.cable(end)?;
        let request = Request::Link { device: device_name(&near.interface), up };
        self.ask_at(near, &request, &format!("setting the link at {end}")).map(|_| ())
    }

    /// Asks whoever answers for the device of a link's end.
    pub(crate) fn ask_at(&self, end: &End, request: &Request, what: &str) -> Result<Response, LabError> {
        control::call(&self.socket_at(&end.node), request, &[], PATIENCE)
            .map_err(|error| self.io(what, error))
    }

    /// Where requests about the devices of `node` go; `host` and `mgmt-net` count as nodes.
    fn socket_at(&self, node: &str) -> PathBuf {
        let nodes = &self.topology.nodes;
        match space::of(node, nodes) {
            Space::Node(owner) => self.state.socket(&owner),
            Space::Host => self.state.host_socket(),
            Space::Outside(_) => self.state.socket(space::network_owner(node, nodes)),
        }
    }

    /// The link end of this name, and the one its cable leads to.
    pub(crate) fn cable(&self, end: &str) -> Result<[&End; 2], LabError> {
        let found = end.split_once(':').and_then(|(node, interface)| {
            let named = |end: &End| end.node == node && end.interface == interface;
            self.topology.links.iter().find_map(|link| match &link.ends {
                [near, far] if named(near) => Some([near, far]),
                [near, far] if named(far) => Some([far, near]),
                _ => None,
            })
        });
        found.ok_or_else(|| LabError::UnknownEnd { lab: self.topology.name.clone(), end: end.to_owned() })
    }

    pub(crate) fn io(&self, what: &str, error: std::io::Error) -> LabError {
        LabError::Io { lab: self.topology.name.clone(), what: what.to_owned(), error }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(leash) = self.leash.take() {
            if let Err(error) = take_down(&self.state) {
                eprintln!("{error}");
            }
            drop(leash);
        }
    }
}

/// Takes down a lab by name, running or left behind: no process, namespace, mount or file of it stays.
pub(crate) fn take_down_by_name(lab: &str) -> Result<(), LabError> {
    let state = StateDir::of(lab);
    if !state.path().is_dir() {
        return Err(LabError::Unknown { lab: lab.to_owned() });
    }
    take_down(&state)
}

fn take_down(state: &StateDir) -> Result<(), LabError> {
    // Each of these is tried even if another one fails; the first failure is told.
    let outcomes = [
        // A lab that ended before it had a plan has made nothing outside.
        ("removing its devices outside", state.plan().map_or(Ok(()), |plan| outside::clear(&plan.topology))),
        ("ending its processes", state.kill()),
        ("removing its names in /run/netns", netns_names::release(state)),
        ("removing its files", state.remove()),
    ];
    let io = |what: &str, error| LabError::Io { lab: state.lab(), what: what.to_owned(), error };
    outcomes.into_iter().try_for_each(|(what, outcome)| outcome.map_err(|error| io(what, error)))
}

/// Making the folder is also the lock: two starts of one lab cannot both succeed.
fn make_folder(state: &StateDir) -> Result<(), LabError> {
    let io = |error| LabError::Io {
        lab: state.lab(),
        what: format!("creating {}", state.path().display()),
        error,
    };
    let base = state.path().parent().unwrap_or(Path::new("/run"));
    for _ in 0..10 {
        std::fs::create_dir_all(base).map_err(io)?;
        match std::fs::create_dir(state.path()) {
            Ok(()) => return owner_only(state.path()).map_err(io),
            // Another lab that went down took the folder of all labs with it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(io(error)),
            Err(_) if state.running().is_some() => break,
            // What a killed lab left behind.
            Err(_) => take_down(state)?,
        }
    }
    Err(LabError::Running { lab: state.lab() })
}

/// Whoever can open a node's socket can run programs in it.
fn owner_only(path: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700))
}

fn start(
    topology: &Topology,
    state: &StateDir,
    leash: &mut Option<ChildStdin>,
    mut progress: impl FnMut(&str),
) -> anyhow::Result<Vec<String>> {
    let towpath = helper::program()?;
    let tools = std::env::var_os(TOOLS).map(std::path::absolute).transpose()?;
    if let Some(tools) = tools.as_ref().filter(|tools| !tools.is_dir()) {
        anyhow::bail!("{TOOLS} names {}, which is no folder; unpack the packages there", tools.display());
    }
    let rootless = !crate::rootless::caller().is_root();
    let mut warnings = Vec::new();
    let mut warn = |text: String, progress: &mut dyn FnMut(&str)| {
        progress(&format!("warning: {text}"));
        warnings.push(text);
    };
    if rootless {
        warn(
            "without root the nodes have no names in /run/netns; use `towpath lab exec` instead of `ip netns exec`"
                .to_owned(),
            &mut progress,
        );
    } else {
        netns_names::sweep().context("removing names of labs that are gone from /run/netns")?;
        netns_names::reserve(state, topology)?;
    }
    state.write_plan(&Plan {
        topology: topology.clone(),
        towpath: towpath.clone(),
        towpath_cni: helper::cni_plugin(&towpath)?,
        tools,
        rootless,
    })?;
    let mut outer = helper::step(&towpath, "outer", state, &[])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    *leash = outer.stdin.take();
    let Some(output) = outer.stdout.take() else { anyhow::bail!("the holder has no output") };
    let ended = outer.wait_with_output()?;
    if !ended.status.success() {
        anyhow::bail!("{}", String::from_utf8_lossy(&ended.stderr).trim());
    }
    for line in BufReader::new(output).lines() {
        match serde_json::from_str(&line?)? {
            LabEvent::Progress(text) => progress(&text),
            LabEvent::Warning(text) => warn(text, &mut progress),
            LabEvent::Created(_) if rootless => {}
            LabEvent::Created(name) => {
                let spec = topology.nodes.get(&name).context("it started a node that is not in its file")?;
                let init = Node::new(&topology.name, &name, spec, state).init_pid()?;
                netns_names::lead(state, topology, &name, init)?;
            }
            LabEvent::Ready => return Ok(warnings),
            LabEvent::Failed(reason) => anyhow::bail!("{reason}"),
        }
    }
    let log = std::fs::read_to_string(state.holder_log()).unwrap_or_default();
    anyhow::bail!("the lab ended early: {}", log.trim())
}

/// How long a request that the node answers at once may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
