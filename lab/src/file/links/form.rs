//! The forms a link may be written in.
//!
//! Short: `endpoints: ["a:eth1", "b:eth1"]`. Extended: `type` with `endpoints` (veth), with
//! `endpoint` and `host-interface` (host, mgmt-net) or with `endpoint` alone (dummy).

use std::collections::HashMap;

use super::End;
use super::name::parse_mac;
use crate::file::fields::{At, did_you_mean, mapping, sequence, text};
use crate::file::problem::Findings;
use crate::file::space::{HOST, MGMT_NET};
use crate::file::yaml::{Key, Value, Yaml};

/// MTU of both ends, unless the link names one; jumbo frames, as containerlab does.
pub const DEFAULT_MTU_BYTES: u32 = 9500;

/// IPv4 needs 68 bytes (RFC 791), and the kernel stops at this.
const MTU_BYTES: std::ops::RangeInclusive<u32> = 68..=65_535;

const SHORT: [&str; 6] = ["endpoints", "mtu", "vars", "labels", "ipv4", "ipv6"];
const VETH: [&str; 5] = ["type", "endpoints", "mtu", "vars", "labels"];
const TO_HOST: [&str; 6] = ["type", "endpoint", "host-interface", "mtu", "vars", "labels"];
const DUMMY: [&str; 5] = ["type", "endpoint", "mtu", "vars", "labels"];
const END: [&str; 6] = ["node", "interface", "mac", "ipv4", "ipv6", "vars"];

const TYPES: [&str; 4] = ["veth", "host", "mgmt-net", "dummy"];

/// Link types of containerlab that are refused: why, and what to do instead.
const REFUSED: [(&str, &str); 4] = [
    ("macvlan", "needs a network card of the machine; use \"host\", or \"veth\" between two nodes"),
    ("vxlan", "leads to another machine, and a lab has no exit; use \"veth\" between two nodes"),
    ("vxlan-stitch", "leads to another machine, and a lab has no exit; use \"veth\" between two nodes"),
    ("veth-stitch", "joins containers through the machine; use \"veth\" between two nodes"),
];

/// An end, and the line it is written in.
pub(super) type Written = (End, usize);

/// A link as written.
pub(super) enum Form {
    Pair { ends: [Written; 2], mtu_bytes: u32 },
    Dummy { end: [Written; 1], mtu_bytes: u32 },
}

impl Form {
    pub(super) fn ends(&self) -> &[Written] {
        match self {
            Self::Pair { ends, .. } => ends,
            Self::Dummy { end, .. } => end,
        }
    }
}

pub(super) fn read(item: &Yaml, findings: &mut Findings) -> Option<Form> {
    let before = findings.problems.len();
    let entries = mapping("a link", item, findings);
    if findings.problems.len() > before {
        return None;
    }
    let given = |name: &str| entries.iter().find(|(key, _)| key.text == name).map(|(_, value)| value);
    let kind = given("type").and_then(|value| text("link: \"type\"", value, findings));
    let known: &[&str] = match kind.as_ref().map(|kind| kind.text.as_str()) {
        None => &SHORT,
        Some("veth") => &VETH,
        Some("host" | "mgmt-net") => &TO_HOST,
        Some("dummy") => &DUMMY,
        Some(other) => {
            findings.refuse(kind.as_ref()?.line, format!("link type \"{other}\" {}", refusal(other)));
            return None;
        }
    };
    for (key, value) in entries {
        check_key(key, value, known, findings);
    }
    if findings.problems.len() > before {
        return None; // a misspelt key must not be told as a missing one too
    }
    let mtu_bytes = given("mtu").map_or(Some(DEFAULT_MTU_BYTES), |value| mtu(value, findings))?;
    match kind.as_ref().map(|kind| kind.text.as_str()) {
        Some("dummy") => {
            let end = endpoint(item, given("endpoint"), findings)?;
            Some(Form::Dummy { end: [end], mtu_bytes })
        }
        Some(to @ ("host" | "mgmt-net")) => {
            let end = endpoint(item, given("endpoint"), findings)?;
            let name =
                given("host-interface").and_then(|value| text("link: \"host-interface\"", value, findings));
            let Some(name) = name else {
                findings
                    .refuse(item.line, format!("a link of type \"{to}\" needs \"host-interface\"; name it"));
                return None;
            };
            let node = if to == "host" { HOST } else { MGMT_NET };
            let far = End { node: node.to_owned(), interface: name.text, mac: None };
            Some(Form::Pair { ends: [end, (far, name.line)], mtu_bytes })
        }
        kind => {
            let ends = endpoints(item, given("endpoints"), kind.is_some(), findings)?;
            Some(Form::Pair { ends, mtu_bytes })
        }
    }
}

fn refusal(kind: &str) -> String {
    match REFUSED.iter().find(|(refused, _)| *refused == kind) {
        Some((_, why)) => (*why).to_owned(),
        None => {
            let hint = did_you_mean(kind, TYPES).replace("remove it", "use \"veth\" between two nodes");
            format!("is unknown; {hint}")
        }
    }
}

fn endpoint(item: &Yaml, given: Option<&Yaml>, findings: &mut Findings) -> Option<Written> {
    match given {
        Some(end) => extended_end(end, findings),
        None => {
            findings.refuse(item.line, "this link needs \"endpoint\": {node: NAME, interface: NAME}");
            None
        }
    }
}

fn endpoints(
    item: &Yaml,
    given: Option<&Yaml>,
    extended: bool,
    findings: &mut Findings,
) -> Option<[Written; 2]> {
    let Some(endpoints) = given else {
        findings
            .refuse(item.line, "a link needs \"endpoints\"; write [\"node:interface\", \"node:interface\"]");
        return None;
    };
    let before = findings.problems.len();
    let items = sequence("link: \"endpoints\"", endpoints, findings);
    if findings.problems.len() > before {
        return None;
    }
    let ends: Vec<_> = items.iter().filter_map(|end| read_end(end, extended, findings)).collect();
    if ends.len() < items.len() {
        return None; // said already
    }
    match <[Written; 2]>::try_from(ends) {
        Ok(ends) => Some(ends),
        Err(ends) => {
            let remedy = "write [\"node:interface\", \"node:interface\"]";
            findings
                .refuse(endpoints.line, format!("a link has two endpoints, not {}; {remedy}", ends.len()));
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

fn read_end(yaml: &Yaml, extended: bool, findings: &mut Findings) -> Option<Written> {
    if extended || matches!(yaml.value, Value::Map(_)) {
        return extended_end(yaml, findings);
    }
    let given = text("link: an endpoint", yaml, findings)?;
    let Some((node, interface)) =
        given.text.split_once(':').filter(|(node, rest)| !node.is_empty() && !rest.is_empty())
    else {
        let text =
            format!("endpoint \"{}\" names no node and interface; write \"node:interface\"", given.text);
        findings.refuse(given.line, text);
        return None;
    };
    Some((End { node: node.to_owned(), interface: interface.to_owned(), mac: None }, given.line))
}

fn extended_end(yaml: &Yaml, findings: &mut Findings) -> Option<Written> {
    let before = findings.problems.len();
    if let Value::Scalar(text) = &yaml.value {
        let remedy = "remove the \"type\", or write {node: NAME, interface: NAME}";
        findings.refuse(yaml.line, format!("link: endpoint \"{text}\" is of the short form; {remedy}"));
        return None;
    }
    let entries = mapping("link: an endpoint of the extended form", yaml, findings);
    if let [(node, Yaml { value: Value::Scalar(interface), .. })] = entries
        && !END.contains(&node.text.as_str())
    {
        let text =
            format!("link: endpoint {0}: {interface} has a space; write \"{0}:{interface}\"", node.text);
        findings.refuse(yaml.line, text);
        return None;
    }
    let mut values: HashMap<&str, At> = HashMap::new();
    for (key, value) in entries {
        check_key(key, value, &END, findings);
        if key.text != "vars"
            && let Some(value) = text("link: endpoint", value, findings)
        {
            values.insert(&key.text, value);
        }
    }
    if findings.problems.len() > before {
        return None; // a misspelt key must not be told as a missing one too
    }
    let (Some(node), Some(interface)) = (values.get("node"), values.get("interface")) else {
        let remedy = "write {node: NAME, interface: NAME}";
        findings.refuse(yaml.line, format!("an endpoint needs \"node\" and \"interface\"; {remedy}"));
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
