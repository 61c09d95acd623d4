//! The `links` of a topology: veth pairs, in short and in extended form, and dummies.
//!
//! Out: [`Link`]s and [`Dummy`]s whose ends exist and are used once. An end is on a node, on a
//! bridge, or on `host` or `mgmt-net`. Link types that need more are refused by name.

mod form;
mod name;

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::file::fields::{did_you_mean, sequence};
use crate::file::kind::Kind;
use crate::file::management::Management;
use crate::file::problem::Findings;
use crate::file::space::{self, HOST, MGMT_NET, Space};
use crate::file::topology::{Network, NodeSpec};
use crate::file::yaml::Yaml;

pub use form::DEFAULT_MTU_BYTES;
use form::Form;
pub(crate) use name::{alternative_name, device_name};

/// A veth pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The two ends.
    pub ends: [End; 2],
    /// MTU of both ends, in bytes.
    pub mtu_bytes: u32,
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Node the end belongs to; `host` and `mgmt-net` stand for the lab's host namespace.
    pub node: String,
    /// Name as written in the file.
    pub interface: String,
    /// Address given in the file; otherwise a random one is chosen.
    pub mac: Option<[u8; 6]>,
}

/// An interface of a node that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dummy {
    /// Where it is.
    pub end: End,
    /// Its MTU, in bytes.
    pub mtu_bytes: u32,
}

/// All that `links` asks for, in the file's order.
#[derive(Debug, Default)]
pub(crate) struct Links {
    pub(crate) pairs: Vec<Link>,
    pub(crate) dummies: Vec<Dummy>,
}

/// What the ends of links may be on.
pub(crate) struct Places<'a> {
    pub(crate) nodes: &'a BTreeMap<String, NodeSpec>,
    /// Where each node is in the file.
    pub(crate) lines: &'a BTreeMap<String, usize>,
    pub(crate) management: &'a Management,
}

pub(crate) fn read(yaml: &Yaml, places: &Places<'_>, findings: &mut Findings) -> Links {
    let mut seen = devices(places);
    let mut links = Links::default();
    for item in sequence("\"links\"", yaml, findings) {
        let Some(form) = form::read(item, findings) else { continue };
        let before = findings.problems.len();
        for (end, line) in form.ends() {
            check_end(end, *line, places, &mut seen, findings);
        }
        if findings.problems.len() > before {
            continue;
        }
        match form {
            Form::Pair { ends: [(a, _), (b, _)], mtu_bytes } => {
                links.pairs.push(Link { ends: [a, b], mtu_bytes });
            }
            Form::Dummy { end: [(end, _)], mtu_bytes } => links.dummies.push(Dummy { end, mtu_bytes }),
        }
    }
    links
}

/// Devices by namespace and name, and the line that asks for each; 0: the management network does.
type Devices = HashMap<(Space, String), usize>;

/// The bridges, whose names no end can have.
fn devices(places: &Places<'_>) -> Devices {
    let mut devices = HashMap::from([((Space::Host, places.management.bridge.clone()), 0)]);
    for (name, _) in places.nodes.iter().filter(|(_, node)| node.kind == Kind::Bridge) {
        let line = places.lines.get(name).copied().unwrap_or_default();
        devices.insert((space::of(name, places.nodes), space::bridge_device(name).to_owned()), line);
    }
    devices
}

fn check_end(end: &End, line: usize, places: &Places<'_>, seen: &mut Devices, findings: &mut Findings) {
    let nodes = places.nodes;
    let End { node, interface, .. } = end;
    if !nodes.contains_key(node) && !matches!(node.as_str(), HOST | MGMT_NET) {
        return findings.refuse(line, no_such_node(node, nodes));
    }
    let place = format!("node {node}: interface \"{interface}\"");
    if interface == "lo" || interface.contains(':') || interface == "." || interface == ".." {
        findings.refuse(line, format!("{place} is not a possible name; use eth1 or the like"));
    }
    if interface.len() > 127 {
        findings.refuse(line, format!("{place} is longer than 127 bytes; choose a shorter name"));
    }
    let space = space::of(node, nodes);
    if let Space::Node(owner) = &space
        && interface == "eth0"
        && nodes.get(owner).is_some_and(|owner| owner.network == Network::Management)
    {
        let text =
            format!("{place} is the management network's; use eth1, or `network-mode: none` for {owner}");
        return findings.refuse(line, text);
    }
    // Links of a node inside another node's network end up there, next to that node's own.
    match seen.insert((space, device_name(interface)), line) {
        None => {}
        Some(0) => {
            findings.refuse(line, format!("{place} is the management network's bridge; choose another name"))
        }
        Some(first) => findings.refuse(
            line,
            format!("{place} is used twice, first in line {first}; each end needs a name of its own"),
        ),
    }
}

fn no_such_node(name: &str, nodes: &BTreeMap<String, NodeSpec>) -> String {
    if name == "macvlan" {
        let remedy = "link two nodes, or a node with \"host\"";
        return format!("link: \"macvlan\" needs a network card of the machine; {remedy}");
    }
    let hint = did_you_mean(name, nodes.keys().map(String::as_str));
    format!("link: there is no node \"{name}\"; {}", hint.replace("remove it", "add it under \"nodes\""))
}
