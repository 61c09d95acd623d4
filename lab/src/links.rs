//! The `links` of a topology: veth pairs, in short and in extended form.
//!
//! Out: [`Link`]s whose ends exist and are used once. Link types that need more than a veth pair
//! between two nodes are refused by name.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::fields::{At, did_you_mean, mapping, sequence, text};
use crate::problem::Findings;
use crate::topology::{Network, NodeSpec};
use crate::yaml::{Key, Value, Yaml};

/// MTU of both ends, unless the link names one; jumbo frames, as containerlab does.
pub const DEFAULT_MTU_BYTES: u32 = 9500;

/// IPv4 needs 68 bytes (RFC 791), and the kernel stops at this.
const MTU_BYTES: std::ops::RangeInclusive<u32> = 68..=65_535;

/// A veth pair between two nodes.
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
    /// Node the end belongs to.
    pub node: String,
    /// Name as written in the file.
    pub interface: String,
    /// Address given in the file; otherwise a random one is chosen.
    pub mac: Option<[u8; 6]>,
}

const SHORT: [&str; 6] = ["endpoints", "mtu", "vars", "labels", "ipv4", "ipv6"];
const LONG: [&str; 5] = ["type", "endpoints", "mtu", "vars", "labels"];
const END: [&str; 6] = ["node", "interface", "mac", "ipv4", "ipv6", "vars"];

pub(crate) fn read(yaml: &Yaml, nodes: &BTreeMap<String, NodeSpec>, findings: &mut Findings) -> Vec<Link> {
    let mut seen: HashMap<(String, String), usize> = HashMap::new();
    let mut links = Vec::new();
    for item in sequence("\"links\"", yaml, findings) {
        if let Some(link) = one(item, findings) {
            let mut good = true;
            for (end, line) in &link.1 {
                good &= check_end(end, *line, nodes, &mut seen, findings);
            }
            if good {
                let [(a, _), (b, _)] = link.1;
                links.push(Link { ends: [a, b], mtu_bytes: link.0 });
            }
        }
    }
    links
}

type Ends = [(End, usize); 2];

fn one(item: &Yaml, findings: &mut Findings) -> Option<(u32, Ends)> {
    let entries = mapping("a link", item, findings);
    let given = |name: &str| entries.iter().find(|(key, _)| key.text == name).map(|(_, value)| value);
    let kind = given("type").and_then(|value| text("link: \"type\"", value, findings));
    if let Some(kind) = &kind
        && kind.text != "veth"
    {
        let known =
            ["veth-stitch", "host", "mgmt-net", "macvlan", "dummy", "vxlan", "vxlan-stitch", "bridge"];
        let why = if known.contains(&kind.text.as_str()) {
            "is not available in this version"
        } else {
            "is unknown"
        };
        findings
            .refuse(kind.line, format!("link type \"{}\" {why}; use \"veth\" between two nodes", kind.text));
        return None;
    }
    let known: &[&str] = if kind.is_some() { &LONG } else { &SHORT };
    for (key, value) in entries {
        check_key(key, value, known, findings);
    }
    let mtu = given("mtu").map_or(Some(DEFAULT_MTU_BYTES), |value| mtu(value, findings))?;
    let Some(endpoints) = given("endpoints") else {
        findings.refuse(item.line, "a link needs \"endpoints\": [\"node:interface\", \"node:interface\"]");
        return None;
    };
    let items = sequence("link: \"endpoints\"", endpoints, findings);
    let ends: Vec<_> = items.iter().filter_map(|end| read_end(end, kind.is_some(), findings)).collect();
    if ends.len() < items.len() {
        return None; // said already
    }
    match <Ends>::try_from(ends) {
        Ok(ends) => Some((mtu, ends)),
        Err(ends) => {
            findings.refuse(endpoints.line, format!("a link has two endpoints, not {}", ends.len()));
            None
        }
    }
}

fn check_key(key: &Key, value: &Yaml, known: &[&str], findings: &mut Findings) {
    match key.text.as_str() {
        "ipv4" | "ipv6" if known.contains(&key.text.as_str()) => {
            findings.warn(
                value.line,
                format!("link: \"{}\" has no effect on linux nodes; use \"exec\"", key.text),
            );
        }
        word if known.contains(&word) => {}
        word => {
            let hint = did_you_mean(word, known.iter().copied());
            findings.refuse(key.line, format!("link: unknown field \"{word}\"; {hint}"));
        }
    }
}

fn mtu(value: &Yaml, findings: &mut Findings) -> Option<u32> {
    let given = text("link: \"mtu\"", value, findings)?;
    match given.text.parse() {
        // containerlab takes 0 as "not given".
        Ok(0) => Some(DEFAULT_MTU_BYTES),
        Ok(mtu) if MTU_BYTES.contains(&mtu) => Some(mtu),
        _ => {
            findings.refuse(given.line, format!("link: mtu {} is not possible; use 68 to 65535", given.text));
            None
        }
    }
}

fn read_end(yaml: &Yaml, extended: bool, findings: &mut Findings) -> Option<(End, usize)> {
    if extended || matches!(yaml.value, Value::Map(_)) {
        return extended_end(yaml, findings);
    }
    let given = text("link: an endpoint", yaml, findings)?;
    let Some((node, interface)) =
        given.text.split_once(':').filter(|(node, rest)| !node.is_empty() && !rest.is_empty())
    else {
        let text = format!("endpoint \"{}\" must read \"node:interface\"", given.text);
        findings.refuse(given.line, text);
        return None;
    };
    Some((End { node: node.to_owned(), interface: interface.to_owned(), mac: None }, given.line))
}

fn extended_end(yaml: &Yaml, findings: &mut Findings) -> Option<(End, usize)> {
    let entries = mapping("link: an endpoint of the extended form", yaml, findings);
    let mut values: HashMap<&str, At> = HashMap::new();
    for (key, value) in entries {
        check_key(key, value, &END, findings);
        if key.text != "vars"
            && let Some(value) = text("link: endpoint", value, findings)
        {
            values.insert(&key.text, value);
        }
    }
    let (Some(node), Some(interface)) = (values.get("node"), values.get("interface")) else {
        if matches!(yaml.value, Value::Map(_)) {
            findings.refuse(yaml.line, "an endpoint of the extended form needs \"node\" and \"interface\"");
        }
        return None;
    };
    let mac = match values.get("mac") {
        None => None,
        Some(given) => match parse_mac(&given.text) {
            Some(mac) => Some(mac),
            None => {
                let remedy = "write six octets such as 02:00:00:00:00:01, the first one even";
                findings.refuse(given.line, format!("link: \"{}\" is no MAC address; {remedy}", given.text));
                return None;
            }
        },
    };
    Some((End { node: node.text.clone(), interface: interface.text.clone(), mac }, yaml.line))
}

/// A unicast MAC address in the usual notation.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let octets: Option<Vec<u8>> = text
        .split([':', '-'])
        .map(|octet| u8::from_str_radix(octet, 16).ok().filter(|_| octet.len() == 2))
        .collect();
    <[u8; 6]>::try_from(octets?).ok().filter(|mac| mac.first().is_some_and(|first| first & 1 == 0))
}

fn check_end(
    end: &End,
    line: usize,
    nodes: &BTreeMap<String, NodeSpec>,
    seen: &mut HashMap<(String, String), usize>,
    findings: &mut Findings,
) -> bool {
    let before = findings.problems.len();
    let Some(node) = nodes.get(&end.node) else {
        let text = match end.node.as_str() {
            special @ ("host" | "mgmt-net" | "macvlan") => {
                format!("link: an end on \"{special}\" is not available in this version; link two nodes")
            }
            name => format!(
                "link: there is no node \"{name}\"; {}",
                did_you_mean(name, nodes.keys().map(String::as_str))
                    .replace("remove it", "add it under \"nodes\"")
            ),
        };
        findings.refuse(line, text);
        return false;
    };
    let place = format!("node {}: interface \"{}\"", end.node, end.interface);
    if end.interface == "lo" || end.interface.contains(':') || end.interface == "." || end.interface == ".." {
        findings.refuse(line, format!("{place} is not a possible name; use eth1 or the like"));
    }
    if end.interface.len() > 127 {
        findings.refuse(line, format!("{place} is longer than 127 bytes; choose a shorter name"));
    }
    // Links of a node inside another node's network end up there, next to that node's own.
    let owner = network_owner(&end.node, node, nodes);
    if let Some(first) = seen.insert((owner, device_name(&end.interface)), line) {
        findings.refuse(
            line,
            format!("{place} is used twice, first in line {first}; each end needs a name of its own"),
        );
    }
    findings.problems.len() == before
}

/// The node whose network namespace `node` uses.
pub(crate) fn network_owner(name: &str, node: &NodeSpec, nodes: &BTreeMap<String, NodeSpec>) -> String {
    let mut owner = name;
    let mut spec = node;
    // Bounded, because a cycle is reported elsewhere and must not hang this.
    for _ in 0..nodes.len() {
        let Network::Container(next) = &spec.network else { break };
        let Some(found) = nodes.get(next) else { break };
        (owner, spec) = (next, found);
    }
    owner.to_owned()
}

/// The kernel's name for an interface: as written, or `clab-<8 hex>` where the kernel allows no such name.
pub(crate) fn device_name(interface: &str) -> String {
    if alternative_name(interface).is_none() {
        return interface.to_owned();
    }
    // FNV-1a, 32 bit: stable across runs, so that a device can be found again.
    let hash = interface
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("clab-{hash:08x}")
}

/// The name to set as the device's second one, if its first could not be what was written.
pub(crate) fn alternative_name(interface: &str) -> Option<String> {
    let possible = interface.len() <= 15 && !interface.contains(|c: char| c == '/' || c.is_whitespace());
    (!possible).then(|| interface.replace(|c: char| c == '/' || c.is_whitespace(), "-"))
}
