//! `network-mode`: where a node's interfaces are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::file::fields::{At, Fields};
use crate::file::kind::Kind;
use crate::file::management::Wish;
use crate::file::problem::{Findings, nearest};
use crate::file::topology::{Network, NodeSpec};

/// The network of `node`; `container:X` is taken for a node until [`settle`] has seen all of them.
pub(crate) fn read(node: &str, kind: Kind, mode: Option<&At>, findings: &mut Findings) -> Network {
    let container = mode.and_then(|mode| mode.text.strip_prefix("container:"));
    match (kind, mode, container) {
        (Kind::Host, ..) => Network::Host,
        (Kind::ExtContainer, ..) => Network::Outside(node.to_owned()),
        (Kind::Linux | Kind::Bridge, _, Some(other)) if !other.is_empty() => {
            Network::Container(other.to_owned())
        }
        // `none` from the defaults means nothing to a bridge.
        (Kind::Bridge, ..) => Network::Host,
        (Kind::Linux, None, _) => Network::Management,
        (Kind::Linux, Some(mode), _) if mode.text == "none" => Network::None,
        (Kind::Linux, Some(mode), _) => {
            let why = match mode.text.as_str() {
                "host" => "would change the machine's own network; use `kind: host` for a node that runs \
                           commands in the lab's host namespace, else remove it"
                    .to_owned(),
                _ => "is not possible; write `none` or `container:NODE`, or remove it".to_owned(),
            };
            findings.refuse(mode.line, format!("node {node}: network-mode \"{}\" {why}", mode.text));
            Network::None
        }
    }
}

/// Which management addresses a node asks for; only one that has an eth0 there may.
pub(crate) fn wish(
    place: &str,
    line: usize,
    own: &Fields,
    network: &Network,
    findings: &mut Findings,
) -> Wish {
    for (field, given) in [("mgmt-ipv4", &own.mgmt_ipv4), ("mgmt-ipv6", &own.mgmt_ipv6)] {
        if let (Some(given), false) = (given, *network == Network::Management) {
            let text = format!(
                "{place}: \"{field}\" is for a node with an eth0 on the management network; remove it or the network-mode"
            );
            findings.refuse(given.line, text);
        }
    }
    Wish { line, ipv4: own.mgmt_ipv4.clone(), ipv6: own.mgmt_ipv6.clone() }
}

/// Finds what `container:X` names, a node or a namespace of the machine, and refuses circles.
pub(crate) fn settle(
    nodes: &mut BTreeMap<String, NodeSpec>,
    lines: &BTreeMap<String, usize>,
    findings: &mut Findings,
) {
    let containers: BTreeMap<String, String> =
        nodes.iter().map(|(name, node)| (node.container.clone(), name.clone())).collect();
    let kinds: BTreeMap<String, Kind> = nodes.iter().map(|(name, node)| (name.clone(), node.kind)).collect();
    for (name, node) in nodes.iter_mut() {
        let line = lines.get(name).copied().unwrap_or_default();
        let Network::Container(other) = &node.network else { continue };
        // A node that was refused is named well enough.
        if !lines.contains_key(other) {
            if let Some(short) = containers.get(other) {
                node.network = Network::Container(short.clone());
            } else if let Some(meant) = typo(name, other, &kinds) {
                let text =
                    format!("node {name}: network-mode names no node \"{other}\"; did you mean \"{meant}\"?");
                findings.refuse(line, text);
                continue;
            } else if node.kind == Kind::Bridge {
                let text = format!(
                    "node {name}: network-mode names no node \"{other}\"; a bridge elsewhere would outlive the lab, name a node"
                );
                findings.refuse(line, text);
                continue;
            } else {
                node.network = Network::Outside(other.clone());
            }
        }
        if let Network::Container(other) = &node.network
            && kinds.get(other) == Some(&Kind::Bridge)
        {
            let text =
                format!("node {name}: network-mode names \"{other}\", which is a bridge; name its node");
            findings.refuse(line, text);
        }
    }
    refuse_circles(nodes, lines, findings);
}

/// The node that is meant, unless the machine does have a namespace of that name.
fn typo<'a>(node: &str, word: &str, kinds: &'a BTreeMap<String, Kind>) -> Option<&'a str> {
    if Path::new("/run/netns").join(word).symlink_metadata().is_ok() {
        return None;
    }
    let possible = kinds.iter().filter(|(name, kind)| *name != node && kind.has_processes());
    nearest(word, possible.map(|(name, _)| name.as_str()))
}

fn refuse_circles(
    nodes: &BTreeMap<String, NodeSpec>,
    lines: &BTreeMap<String, usize>,
    findings: &mut Findings,
) {
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for (name, node) in nodes {
        let mut seen = BTreeSet::from([name.as_str()]);
        let mut spec = node;
        while let Network::Container(next) = &spec.network {
            let Some(found) = nodes.get(next) else { break };
            if !seen.insert(next) {
                // Of a circle, and of all that leads into it, one node is enough.
                if seen.iter().any(|name| told.contains(name)) {
                    break;
                }
                told.extend(seen);
                let line = lines.get(name).copied().unwrap_or_default();
                let text = format!("node {name}: network-mode leads in a circle; give one node of it `none`");
                findings.refuse(line, text);
                break;
            }
            spec = found;
        }
    }
}
