//! Process 1 of a lab: starts the nodes, makes the links, runs the nodes' `exec`, and then stays.
//!
//! When it ends, however it ends, the kernel ends everything in the lab with it. Standard input is
//! a leash: if it closes before the word `detach`, the lab goes down. Standard output tells the
//! caller what happens, one JSON line each.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use crate::control::{self, Request};
use crate::helper;
use crate::links::{End, alternative_name, device_name};
use crate::netlink::{Netlink, VethEnd};
use crate::node::NodeEvent;
use crate::reaper::{Exit, Reaper};
use crate::state::{Plan, StateDir};
use crate::topology::Network;

/// Word on standard input after which the lab outlives its caller.
pub(crate) const DETACH: &str = "detach";

/// Longest wait for one `exec` line; scripts there poll for what others do.
const EXEC_PATIENCE: Duration = Duration::from_secs(600);

/// First ifindex of a link; `lo` is 1, and daemons make some of their own.
const FIRST_IFINDEX: u32 = 10;

/// What the holder tells whoever started the lab.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LabEvent {
    Progress(String),
    Warning(String),
    Ready,
    Failed(String),
}

/// Enters the lab's namespaces, starts the holder in them, writes down who it is, and ends.
pub(crate) fn outer(state: &StateDir) -> anyhow::Result<()> {
    let plan = state.plan().context("reading the lab's plan")?;
    let spaces = UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWIPC;
    if plan.rootless {
        become_root_of_own_users(spaces)?;
    } else {
        helper::unshare(spaces)
            .context("making the lab's namespaces: this root may not; run as real root")?;
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("keeping the lab's mounts out of the machine")?;
    let log = File::create(state.holder_log())?;
    let child = helper::step(Path::new(helper::SELF), "holder", state, &[])
        .stderr(log)
        .spawn()
        .context("starting the holder")?;
    state.write_holder(i32::try_from(child.id())?).context("writing down the holder")
}

/// Only this user exists in the new user namespace, as its root.
fn become_root_of_own_users(spaces: UnshareFlags) -> anyhow::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    helper::unshare(UnshareFlags::NEWUSER | spaces)
        .context("making the lab's namespaces: this machine forbids user namespaces; run as root")?;
    std::fs::write("/proc/self/setgroups", "deny").context("writing /proc/self/setgroups")?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("writing /proc/self/uid_map")?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("writing /proc/self/gid_map")
}

/// The holder itself.
pub(crate) fn run(state: &StateDir) -> anyhow::Result<()> {
    // Ctrl-C at the caller's terminal is the caller's business.
    rustix::process::setsid().context("leaving the caller's session")?;
    // Apart from `outer`, which still needs the machine's /proc to write down who the holder is.
    helper::unshare(UnshareFlags::NEWNS).context("making the lab's mount namespace")?;
    mount("proc", "/proc", "proc", MountFlags::empty(), None).context("mounting the lab's /proc")?;
    let leash = std::thread::spawn({
        let state = state.clone();
        move || hold_leash(&state)
    });
    match Lab::new(state).and_then(|mut lab| lab.up()) {
        Ok(()) => tell(&LabEvent::Ready),
        Err(error) => {
            tell(&LabEvent::Failed(format!("{error:#}")));
            bail!("the lab did not come up: {error:#}");
        }
    }
    // Never returns: the leash either ends this process or waits for ever.
    leash.join().map_err(|_| anyhow::anyhow!("the leash broke"))
}

/// Ends the lab when the caller goes away without having said that the lab may stay.
fn hold_leash(state: &StateDir) {
    let mut word = String::new();
    let got = std::io::stdin().lock().take(64).read_line(&mut word);
    if got.is_ok() && word.trim() == DETACH {
        loop {
            std::thread::park();
        }
    }
    if let Err(error) = state.remove() {
        eprintln!("removing {}: {error}", state.path().display());
    }
    std::process::exit(0);
}

/// The caller may have gone: then the leash says so, not this.
fn tell(event: &LabEvent) {
    if let Ok(line) = serde_json::to_string(event) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

struct Lab<'a> {
    state: &'a StateDir,
    plan: Plan,
    reaper: Arc<Reaper>,
    /// Process 1 of each node that is up.
    inits: BTreeMap<String, u32>,
}

impl<'a> Lab<'a> {
    fn new(state: &'a StateDir) -> anyhow::Result<Self> {
        let plan = state.plan().context("reading the lab's plan")?;
        Ok(Self { state, plan, reaper: Reaper::start(), inits: BTreeMap::new() })
    }

    fn up(&mut self) -> anyhow::Result<()> {
        tell(&LabEvent::Progress(format!("starting {} nodes", self.plan.topology.nodes.len())));
        self.start_nodes()?;
        tell(&LabEvent::Progress(format!("making {} links", self.plan.topology.links.len())));
        self.make_links()?;
        tell(&LabEvent::Progress("running the nodes' exec".to_owned()));
        self.run_exec();
        Ok(())
    }

    /// In waves, because a node inside another one's network needs that one first.
    fn start_nodes(&mut self) -> anyhow::Result<()> {
        let mut waiting: Vec<String> = self.plan.topology.nodes.keys().cloned().collect();
        while !waiting.is_empty() {
            let ready = |name: &String| match self.plan.topology.nodes.get(name).map(|node| &node.network) {
                Some(Network::Container(other)) => self.inits.contains_key(other),
                _ => true,
            };
            let (now, later): (Vec<String>, Vec<String>) = waiting.into_iter().partition(ready);
            if now.is_empty() {
                bail!("network-mode leads in a circle at node {}", later.join(", "));
            }
            let this = &*self;
            let started: Vec<(String, anyhow::Result<u32>)> = std::thread::scope(|scope| {
                let threads: Vec<_> =
                    now.iter().map(|name| scope.spawn(move || this.start_node(name))).collect();
                let results = threads.into_iter().map(|thread| {
                    thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the starting thread panicked")))
                });
                now.iter().cloned().zip(results).collect()
            });
            for (name, pid) in started {
                let pid = pid.with_context(|| format!("node {name}"))?;
                self.inits.insert(name, pid);
            }
            waiting = later;
        }
        Ok(())
    }

    /// Starts a node; returns once its process 1 serves requests.
    fn start_node(&self, name: &str) -> anyhow::Result<u32> {
        let spec = self.plan.topology.nodes.get(name).context("no such node")?;
        let shared = match &spec.network {
            Network::Container(other) => self.inits.get(other).map(u32::to_string),
            Network::None => None,
        };
        let args: Vec<&str> = [name].into_iter().chain(shared.as_deref()).collect();
        let mut command = helper::step(Path::new(helper::SELF), "node", self.state, &args);
        let log = File::create(self.state.log(name)).context("creating its log")?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let (mut child, _ended) = self.reaper.spawn(&mut command).context("starting it")?;
        let output = child.stdout.take().context("it has no output")?;
        // The node and its process 1 share this pipe, and either may be first.
        let (mut pid, mut ready) = (None, false);
        for line in BufReader::new(output).lines() {
            match serde_json::from_str(&line?)? {
                NodeEvent::Init(init) => pid = Some(init),
                NodeEvent::Ready => ready = true,
            }
            if let (Some(pid), true) = (pid, ready) {
                return Ok(pid);
            }
        }
        let log = std::fs::read_to_string(self.state.log(name)).unwrap_or_default();
        bail!("{}", log.trim())
    }

    fn netns(&self, node: &str) -> anyhow::Result<OwnedFd> {
        let pid = self.inits.get(node).with_context(|| format!("node {node} is not up"))?;
        Ok(File::open(format!("/proc/{pid}/ns/net"))?.into())
    }

    fn make_links(&self) -> anyhow::Result<()> {
        let mut netlink = Netlink::route().context("opening a netlink socket")?;
        let mut ifindex = FIRST_IFINDEX..;
        for link in &self.plan.topology.links {
            let [near, far] = &link.ends;
            let mut end = |end| -> anyhow::Result<VethEnd<OwnedFd>> {
                self.end(end, ifindex.next().context("too many links")?)
            };
            let ends = [end(near)?, end(far)?];
            let names = format!("link {}:{} - {}:{}", near.node, near.interface, far.node, far.interface);
            netlink.veth(&ends, link.mtu_bytes).with_context(|| names.clone())?;
            let second_up = Request::Link { device: device_name(&far.interface), up: true };
            self.call(&far.node, &second_up).with_context(|| names.clone())?;
            for end in &link.ends {
                if let Some(name) = alternative_name(&end.interface) {
                    let request = Request::AlternativeName { device: device_name(&end.interface), name };
                    self.call(&end.node, &request).with_context(|| names.clone())?;
                }
            }
        }
        Ok(())
    }

    /// The two ends of a pair never share an ifindex: with equal ones the kernel delays carrier
    /// events by up to a second.
    fn end(&self, end: &End, ifindex: u32) -> anyhow::Result<VethEnd<OwnedFd>> {
        let mac = match end.mac {
            Some(mac) => mac,
            None => random_mac()?,
        };
        Ok(VethEnd { device: device_name(&end.interface), mac, ifindex, netns: self.netns(&end.node)? })
    }

    fn call(&self, node: &str, request: &Request) -> anyhow::Result<control::Response> {
        Ok(control::call(&self.state.socket(node), request, &[], EXEC_PATIENCE)?)
    }

    /// All nodes at once, each node's lines in their order. A failure is told and does not stop the lab.
    fn run_exec(&self) {
        std::thread::scope(|scope| {
            for (name, node) in &self.plan.topology.nodes {
                scope.spawn(move || {
                    for argv in &node.exec {
                        if let Err(error) = self.exec(name, argv, &node.env) {
                            tell(&LabEvent::Warning(format!(
                                "node {name}: exec `{}`: {error:#}",
                                argv.join(" ")
                            )));
                        }
                    }
                });
            }
        });
    }

    /// Runs one line; what it prints goes to the node's log.
    fn exec(&self, node: &str, argv: &[String], env: &BTreeMap<String, String>) -> anyhow::Result<()> {
        let mut log = File::options().append(true).open(self.state.log(node))?;
        writeln!(log, "[lab] exec: {}", argv.join(" "))?;
        let (mut reader, writer) = std::io::pipe()?;
        let null = File::open("/dev/null")?;
        let request = Request::Exec { argv: argv.to_vec(), env: env.clone() };
        let socket = self.state.socket(node);
        let (answer, output) = std::thread::scope(|scope| {
            let output = scope.spawn(move || {
                let mut output = Vec::new();
                reader.read_to_end(&mut output).map(|_| output)
            });
            use std::os::fd::AsFd;
            let answer = control::call(
                &socket,
                &request,
                &[null.as_fd(), writer.as_fd(), writer.as_fd()],
                EXEC_PATIENCE,
            );
            drop(writer);
            (answer, output.join())
        });
        let output = output.ok().and_then(Result::ok).unwrap_or_default();
        log.write_all(&output)?;
        match answer?.exit {
            Some(Exit::Code(0)) | None => Ok(()),
            Some(exit) => {
                let said = String::from_utf8_lossy(&output);
                bail!("exit code {}: {}", exit.shell_code(), said.trim().lines().last().unwrap_or_default())
            }
        }
    }
}

/// containerlab's prefix, and three random octets.
fn random_mac() -> anyhow::Result<[u8; 6]> {
    let mut random = [0; 3];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let [a, b, c] = random;
    Ok([0xaa, 0xc1, 0xab, a, b, c])
}
