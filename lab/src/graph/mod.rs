//! A lab as a picture and as text: nodes, links, BGP sessions and the prefixes that nodes announce.
//!
//! In: a [`Topology`], and the running [`Lab`] where there is one. Out: a [`Graph`] and its forms:
//! [`Graph::svg`], [`Graph::text`], [`Graph::dot`], [`Graph::mermaid`]. Without a running lab the addresses
//! are those that the nodes' `exec` will set, and there are no sessions.

mod draw;
mod exchange;
mod layers;
mod learn;
mod place;
mod text;

use std::net::IpAddr;

use ipnet::IpNet;

use crate::file::topology::{NodeSpec, Topology};
use crate::file::words;
use crate::lab::Lab;
use crate::speakers::Speaker;

/// A lab, drawn from its file or from how it runs.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Name of the lab.
    pub lab: String,
    /// Sessions and addresses are those of a running lab.
    pub live: bool,
    /// Nodes, in the natural order of their names.
    pub nodes: Vec<Node>,
    /// Links, in the file's order.
    pub links: Vec<Link>,
    /// Sessions between nodes of the lab.
    pub sessions: Vec<Session>,
    /// Sessions to addresses that no node has: node, address, state.
    pub strays: Vec<(usize, IpAddr, String)>,
    /// What could not be learned, a line each.
    pub problems: Vec<String>,
}

/// A node.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// The BGP program it runs.
    pub program: Option<String>,
    /// Its main process runs, or it has none.
    pub runs: bool,
    /// Its AS, where a program of towpath knows it.
    pub asn: Option<u32>,
    /// What it announces as its own.
    pub originates: Vec<IpNet>,
    /// Its interfaces with a link or an address.
    pub interfaces: Vec<Interface>,
    /// Label `graph-level`: smaller numbers stand higher.
    pub level: Option<i64>,
    /// Label `graph-icon`: what it stands for, as `router`, `switch`, `host`.
    pub icon: Option<String>,
}

/// An interface of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// As the file writes it.
    pub name: String,
    /// Addresses that are not link-local.
    pub addresses: Vec<IpNet>,
    /// Link-local addresses: sessions may use them.
    pub link_local: Vec<IpAddr>,
    /// It has carrier; true for a lab that does not run.
    pub up: bool,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its ends: node, and interface of that node.
    pub ends: [(usize, usize); 2],
}

/// A session, as both its ends see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The nodes.
    pub nodes: [usize; 2],
    /// The address at which each of them is a neighbour, where the other one has told.
    pub addresses: [Option<IpAddr>; 2],
    /// The state as each of them sees it, where it told.
    pub states: [Option<String>; 2],
    /// The link it runs over; `None` for one between addresses that are on no common link.
    pub link: Option<usize>,
}

impl Session {
    /// Every end that was asked says Established.
    #[must_use]
    pub fn established(&self) -> bool {
        self.states.iter().flatten().all(|state| state == "Established")
    }

    /// The state; where the ends disagree, the one that is not Established.
    #[must_use]
    pub fn state(&self) -> &str {
        let other = self.states.iter().flatten().find(|state| *state != "Established");
        other.map_or("Established", String::as_str)
    }

    /// `v4` or `v6`, by the addresses it runs between.
    #[must_use]
    pub fn family(&self) -> &'static str {
        if self.addresses.iter().flatten().any(IpAddr::is_ipv6) { "v6" } else { "v4" }
    }
}

impl Graph {
    /// What the file says.
    #[must_use]
    pub fn of(topology: &Topology) -> Self {
        let mut names: Vec<&String> = topology.nodes.keys().collect();
        names.sort_by_key(|name| natural(name));
        let mut nodes: Vec<Node> = names.iter().map(|name| node(name, &topology.nodes[*name])).collect();
        for end in topology.links.iter().flat_map(|link| &link.ends) {
            if let Some(node) = nodes.iter_mut().find(|node| node.name == end.node) {
                node.interface(&end.interface);
            }
        }
        for node in &mut nodes {
            node.interfaces.sort_by_key(|interface| natural(&interface.name));
        }
        let find = |end: &crate::file::links::End| {
            let index = nodes.iter().position(|node| node.name == end.node)?;
            let interfaces = &nodes[index].interfaces;
            Some((index, interfaces.iter().position(|interface| interface.name == end.interface)?))
        };
        // An end that is at no node is the machine's own.
        let link = |link: &crate::file::links::Link| {
            Some(Link { ends: [find(&link.ends[0])?, find(&link.ends[1])?] })
        };
        let links = topology.links.iter().filter_map(link).collect();
        Self {
            lab: topology.name.clone(),
            live: false,
            nodes,
            links,
            sessions: Vec::new(),
            strays: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// How the lab runs now. A node that does not answer within three seconds is a problem, not a failure.
    #[must_use]
    pub fn running(lab: &Lab) -> Self {
        let mut graph = Self::of(lab.topology());
        graph.live = true;
        learn::learn(&mut graph, lab);
        graph
    }

    /// The links that have `node` as an end: own interface, other node, its interface, the link's index.
    fn links_of(&self, node: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> + '_ {
        self.links.iter().enumerate().flat_map(move |(index, link)| {
            let [a, b] = link.ends;
            let forth = (a.0 == node).then_some((a.1, b.0, b.1, index));
            let back = (b.0 == node).then_some((b.1, a.0, a.1, index));
            forth.into_iter().chain(back)
        })
    }
}

impl Node {
    /// The index of an interface, made if need be.
    fn interface(&mut self, name: &str) -> usize {
        if let Some(index) = self.interfaces.iter().position(|interface| interface.name == name) {
            return index;
        }
        let interface =
            Interface { name: name.to_owned(), addresses: Vec::new(), link_local: Vec::new(), up: true };
        self.interfaces.push(interface);
        self.interfaces.len() - 1
    }

    /// Neither routes nor is a switch: a pod, a server.
    fn is_host(&self) -> bool {
        match self.icon.as_deref() {
            Some(icon) => matches!(icon, "host" | "server" | "client" | "pc"),
            None => self.program.is_none(),
        }
    }
}

fn node(name: &str, spec: &NodeSpec) -> Node {
    let label = |key: &str| spec.labels.get(key);
    let mut node = Node {
        name: name.to_owned(),
        program: Speaker::of(spec).map(program),
        runs: true,
        asn: None,
        originates: Vec::new(),
        interfaces: Vec::new(),
        level: label("graph-level").and_then(|level| level.parse().ok()),
        icon: label("graph-icon").cloned(),
    };
    for command in &spec.exec {
        if let Some((interface, address)) = address_of(command) {
            let index = node.interface(&interface);
            node.interfaces[index].addresses.push(address);
        }
    }
    node
}

fn program(speaker: Speaker) -> String {
    let name = match speaker {
        Speaker::Towpath => "towpath",
        Speaker::Frr => "FRR",
        Speaker::Bird => "BIRD",
        Speaker::Gobgp => "GoBGP",
        Speaker::Openbgpd => "OpenBGPD",
        Speaker::Exabgp => "ExaBGP",
    };
    name.to_owned()
}

/// The interface and the address of `ip [-6] addr add ADDRESS dev INTERFACE`.
fn address_of(command: &[String]) -> Option<(String, IpNet)> {
    // Also where a shell is given the command as one word.
    let text = command.join(" ");
    let words = words::split(&text).ok()?;
    let verb = words.iter().position(|word| word == "add" || word == "replace")?;
    let object = words.get(verb.checked_sub(1)?)?;
    if !words.iter().take(verb).any(|word| word.rsplit('/').next() == Some("ip"))
        || !"address".starts_with(object.as_str())
        || !object.starts_with('a')
    {
        return None;
    }
    let rest = &words[verb + 1..];
    let device = rest.iter().position(|word| word == "dev").and_then(|dev| rest.get(dev + 1))?;
    let address = rest.first()?;
    let address = match address.parse() {
        Ok(net) => net,
        Err(_) => IpNet::from(address.parse::<IpAddr>().ok()?),
    };
    (!is_link_local(address.addr())).then(|| (device.clone(), address))
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Numbers in a name sort as numbers: `node2` before `node10`.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = vec![(String::new(), 0_u64)];
    let mut number = false;
    for c in name.chars() {
        let last = parts.len() - 1;
        match c.to_digit(10) {
            Some(digit) => {
                parts[last].1 = parts[last].1.saturating_mul(10).saturating_add(digit.into());
                number = true;
            }
            None if number => {
                parts.push((c.to_string(), 0));
                number = false;
            }
            None => parts[last].0.push(c),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_file_are_those_its_exec_adds() {
        let cases = [
            ("ip addr add 10.0.0.1/31 dev eth1", Some(("eth1", "10.0.0.1/31"))),
            ("/sbin/ip -6 address add fd00::1/64 dev eth2 nodad", Some(("eth2", "fd00::1/64"))),
            ("ip a replace 10.0.0.1 dev lo", Some(("lo", "10.0.0.1/32"))),
            ("ip -6 addr add fe80::1/64 dev eth3", None),
            ("ip route add 10.0.0.0/8 dev eth1", None),
            ("echo addr add 10.0.0.1/31 dev eth1", None),
        ];
        for (command, expected) in cases {
            let found = address_of(&words::split(command).unwrap());
            let expected = expected.map(|(dev, net)| (dev.to_owned(), net.parse().unwrap()));
            assert_eq!(found, expected, "{command}");
        }
    }

    #[test]
    fn names_sort_by_their_numbers() {
        let mut names = ["tor2b", "node10", "node2", "tor2a", "tor10", "node"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["node", "node2", "node10", "tor2a", "tor2b", "tor10"]);
    }
}
