//! Looks whether an expectation holds right now.
//!
//! A [`Look`] is one glance at the lab: what several expectations need, such as the sessions of a node, is
//! read once. Routes are read from the kernel over netlink and pings are sent by ourselves, so that a
//! glance costs little while traffic is measured.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use meter::counters::Interfaces;
use meter::kernel::{Route as KernelRoute, routes};
use meter::{echo, tcp};

use super::check::{Check, Route, Sessions};
use super::flows::Flows;
use super::same;
use super::scene::Scene;
use crate::speakers::{Session, Speaker};

/// How long one ping may take.
const PING: Duration = Duration::from_millis(500);
const TRANSFER: Duration = Duration::from_secs(30);
const COMMAND: Duration = Duration::from_secs(30);
/// A frozen program does not answer.
const ASK: Duration = Duration::from_secs(5);
const MAIN: u32 = 254;
/// A path carries the class when this share of its packets passed there.
const SHARE: u64 = 20;
const FEWEST: u64 = 20;

type Neighbors = BTreeMap<IpAddr, Session>;

/// One glance at the lab.
pub(super) struct Look<'l> {
    scene: &'l Scene,
    /// Traffic that runs, and the counters of the nodes when it began.
    traffic: Option<(&'l Flows, &'l BTreeMap<String, Interfaces>)>,
    /// Nodes whose program is stopped and cannot be asked.
    frozen: &'l BTreeSet<String>,
    sessions: HashMap<String, Result<Neighbors, String>>,
    routes: HashMap<(String, bool), Result<Vec<KernelRoute>, String>>,
}

impl<'l> Look<'l> {
    pub(super) fn new(
        scene: &'l Scene,
        traffic: Option<(&'l Flows, &'l BTreeMap<String, Interfaces>)>,
        frozen: &'l BTreeSet<String>,
    ) -> Self {
        Self { scene, traffic, frozen, sessions: HashMap::new(), routes: HashMap::new() }
    }

    /// Whether `check` holds; otherwise what is there instead.
    pub(super) fn at(&mut self, check: &Check) -> Result<(), String> {
        match check {
            Check::Sessions { node: Some(node), want } => self.sessions(node, want),
            Check::Sessions { node: None, want } => {
                let nodes = self.scene.speakers().map(|(node, _)| node.name().to_owned());
                let nodes: Vec<String> = nodes.filter(|node| !self.frozen.contains(node)).collect();
                if nodes.is_empty() {
                    return Err("no node runs a routing program".to_owned());
                }
                let wrong: Vec<String> = nodes
                    .iter()
                    .filter_map(|node| {
                        self.sessions(node, want).err().map(|found| format!("{node}: {found}"))
                    })
                    .collect();
                if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
            }
            Check::Route(route) => self.route(route),
            Check::Ping { from, to, source, size } => self.ping(from, *to, *source, *size),
            Check::Transfer { from, to, node, source, bytes } => {
                self.transfer(from, *to, node, *source, *bytes)
            }
            Check::Command { node, argv, exit, stdout, stderr } => {
                self.command(node, argv, *exit, [("stdout", stdout), ("stderr", stderr)])
            }
            Check::Paths { class, through } => self.paths(class, through),
            Check::Same => same::tables(self.scene),
        }
    }

    fn sessions(&mut self, node: &str, want: &Sessions) -> Result<(), String> {
        let scene = self.scene;
        let sessions = self.sessions.entry(node.to_owned()).or_insert_with(|| ask_sessions(scene, node));
        let sessions = sessions.as_ref().map_err(Clone::clone)?;
        let up = sessions.values().filter(|session| session.established()).count();
        let count = || {
            let down: Vec<String> = sessions
                .iter()
                .filter(|(_, session)| !session.established())
                .map(|(neighbor, session)| format!("{} {}", called(*neighbor, session), session.state))
                .collect();
            let down = if down.is_empty() { String::new() } else { format!(": {}", down.join(", ")) };
            format!("{up} of {} Established{down}", sessions.len())
        };
        match want {
            Sessions::All if up == sessions.len() && up > 0 => Ok(()),
            Sessions::Established(wanted) if up == *wanted => Ok(()),
            Sessions::All | Sessions::Established(_) => Err(count()),
            Sessions::Neighbor { neighbor, state, not } => {
                let found = sessions.iter().find(|(address, session)| {
                    address.to_string() == *neighbor || session.name.as_ref() == Some(neighbor)
                });
                let Some((_, session)) = found else {
                    let known: Vec<String> =
                        sessions.iter().map(|(address, session)| called(*address, session)).collect();
                    return Err(format!("there is no session {neighbor}; there are: {}", known.join(", ")));
                };
                if (session.state == *state) != *not { Ok(()) } else { Err(session.state.clone()) }
            }
        }
    }

    fn route(&mut self, want: &Route) -> Result<(), String> {
        let ipv4 = want.prefix.addr().is_ipv4();
        let scene = self.scene;
        let all = self.routes.entry((want.node.clone(), ipv4)).or_insert_with(|| {
            scene
                .netns(&want.node)
                .and_then(|netns| routes(&netns, ipv4))
                .map_err(|error| format!("{error:#}"))
        });
        let destination = (want.prefix.addr(), want.prefix.prefix_len());
        let fits = |route: &&KernelRoute| {
            route.table == MAIN
                && route.destination == destination
                && want.protocol.is_none_or(|protocol| protocol == route.protocol)
        };
        let best = all.as_ref().map_err(Clone::clone)?.iter().filter(fits).min_by_key(|route| route.metric);
        let hops = best.map_or(0, KernelRoute::usable);
        let Some(route) = best.filter(|_| hops > 0) else {
            return if want.nexthops == Some(0) { Ok(()) } else { Err("absent".to_owned()) };
        };
        let via: BTreeSet<IpAddr> = route.used().filter_map(|hop| hop.via).collect();
        let dev = devices(scene, &want.node, route)?;
        let good = want.nexthops.is_none_or(|wanted| wanted == hops)
            && (want.via.is_empty() || want.via == via)
            && (want.dev.is_empty() || want.dev == dev);
        if good { Ok(()) } else { Err(words(hops, &via, &dev, route.protocol)) }
    }

    fn ping(&self, from: &str, to: IpAddr, source: Option<IpAddr>, size: usize) -> Result<(), String> {
        let netns = self.scene.netns(from).map_err(|error| format!("{error:#}"))?;
        match echo::ping_of(size, &netns, source, to, 1, PING) {
            Ok(answers) if answers.iter().all(Option::is_some) => Ok(()),
            Ok(_) => Err(format!("no answer within {} ms", PING.as_millis())),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    fn transfer(
        &self,
        from: &str,
        to: IpAddr,
        node: &str,
        source: Option<IpAddr>,
        bytes: u64,
    ) -> Result<(), String> {
        let transfer = || {
            let (client, server) = (self.scene.netns(from)?, self.scene.netns(node)?);
            tcp::transfer(&client, source, &server, SocketAddr::new(to, 0), bytes, TRANSFER)
        };
        transfer().map(drop).map_err(|error| format!("{error:#}"))
    }

    fn command(
        &self,
        node: &str,
        argv: &[String],
        exit: i32,
        texts: [(&str, &Option<String>); 2],
    ) -> Result<(), String> {
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        let ran = self.scene.node(node).and_then(|node| Ok(node.exec_within(COMMAND, &words)?));
        let output = ran.map_err(|error| format!("{error:#}"))?;
        if output.exit.shell_code() != exit {
            let said = output.stderr.trim();
            return Err(format!("ended with code {}: {}", output.exit.shell_code(), shortened(said)));
        }
        for ((name, wanted), printed) in texts.into_iter().zip([&output.stdout, &output.stderr]) {
            if let Some(wanted) = wanted
                && !printed.contains(wanted.as_str())
            {
                return Err(format!("{name} is: {}", shortened(printed.trim())));
            }
        }
        Ok(())
    }

    fn paths(&self, class: &str, through: &[String]) -> Result<(), String> {
        let Some((flows, before)) = self.traffic else { return Err("no traffic runs".to_owned()) };
        let sent = flows.sent(class, self.scene.clock());
        let fewest = (sent / SHARE).max(FEWEST);
        let mut missing = Vec::new();
        for node in through {
            let passed = passed(self.scene, node, before).map_err(|error| format!("{error:#}"))?;
            if passed < fewest {
                missing.push(format!("{node} saw {passed} packets"));
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(format!("of about {sent} sent, {}", missing.join(", "))) }
    }
}

fn devices(scene: &Scene, node: &str, route: &KernelRoute) -> Result<BTreeSet<String>, String> {
    let names = scene.netns(node).and_then(|netns| {
        netns.run(|| {
            let socket =
                std::net::UdpSocket::bind("[::]:0").or_else(|_| std::net::UdpSocket::bind("0.0.0.0:0"))?;
            let name = |index| rustix::net::netdevice::index_to_name(&socket, index);
            // An interface that is gone meanwhile has no name any more.
            Ok(route.used().filter_map(|hop| name(hop.ifindex).ok()).collect())
        })
    });
    names.map_err(|error| format!("{error:#}"))
}

/// Packets that came into a node since `before`.
pub(super) fn passed(
    scene: &Scene,
    node: &str,
    before: &BTreeMap<String, Interfaces>,
) -> anyhow::Result<u64> {
    let now = Interfaces::read(&scene.netns(node)?)?;
    let since = before.get(node).map_or_else(|| now.clone(), |before| now.since(before));
    Ok(since.0.iter().filter(|(name, _)| *name != "lo").map(|(_, counters)| counters.rx_packets).sum())
}

/// The counters of every node's interfaces.
pub(super) fn counters(scene: &Scene) -> anyhow::Result<BTreeMap<String, Interfaces>> {
    let networks = scene.networks().iter();
    networks.map(|(node, netns)| Ok((node.clone(), Interfaces::read(netns)?))).collect()
}

fn ask_sessions(scene: &Scene, name: &str) -> Result<Neighbors, String> {
    let ask = || {
        let node = scene.node(name)?;
        let Some(speaker) = Speaker::of(node.spec()) else {
            anyhow::bail!("node {name} runs no routing program that can be asked")
        };
        speaker.sessions(&|argv| {
            let output = node.exec_within(ASK, argv)?;
            anyhow::ensure!(output.success(), "{}", output.stderr.trim());
            Ok(output.stdout)
        })
    };
    ask().map_err(|error| format!("{error:#}"))
}

fn called(neighbor: IpAddr, session: &Session) -> String {
    session.name.clone().unwrap_or_else(|| neighbor.to_string())
}

fn words(hops: usize, via: &BTreeSet<IpAddr>, dev: &BTreeSet<String>, protocol: u8) -> String {
    let hops = if hops == 1 { "1 next hop".to_owned() } else { format!("{hops} next hops") };
    let list = |words: Vec<String>| words.join(", ");
    let via = list(via.iter().map(IpAddr::to_string).collect());
    let via = if via.is_empty() { String::new() } else { format!(" via {via}") };
    format!("{hops}{via} dev {}, protocol {protocol}", list(dev.iter().cloned().collect()))
}

/// Reports are read by people.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 300;
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None if text.is_empty() => "nothing".to_owned(),
        None => text.to_owned(),
    }
}
