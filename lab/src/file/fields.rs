//! One level of node settings: `defaults`, a kind, a group or a node.
//!
//! In: the mapping as [`Yaml`]. Out: [`Fields`], each value with its line, and in the findings
//! every key that is unknown, has no effect here, or needs what a lab of namespaces is not.

use std::collections::BTreeMap;

use crate::file::hosts::Dns;
use crate::file::lifecycle::{self, Healthcheck};
use crate::file::problem::{Findings, nearest};
use crate::file::stage::Stage;
use crate::file::stage_file::{self, StageFields};
use crate::file::yaml::{Key, Value, Yaml};

/// A text and the line it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) line: usize,
    pub(crate) text: String,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Fields {
    pub(crate) kind: Option<At>,
    pub(crate) group: Option<At>,
    pub(crate) image: Option<At>,
    pub(crate) cmd: Option<At>,
    pub(crate) entrypoint: Option<At>,
    pub(crate) user: Option<At>,
    pub(crate) hostname: Option<At>,
    pub(crate) network_mode: Option<At>,
    pub(crate) restart_policy: Option<At>,
    pub(crate) startup_delay: Option<At>,
    /// `Some(None)`: switched off at this level.
    pub(crate) healthcheck: Option<Option<Healthcheck>>,
    pub(crate) stages: BTreeMap<Stage, StageFields>,
    pub(crate) tmpfs: BTreeMap<String, At>,
    pub(crate) env: BTreeMap<String, At>,
    pub(crate) labels: BTreeMap<String, At>,
    pub(crate) sysctls: BTreeMap<String, At>,
    pub(crate) env_files: Vec<At>,
    pub(crate) binds: Vec<At>,
    pub(crate) exec: Vec<At>,
    pub(crate) dns: Option<Dns>,
    pub(crate) aliases: Vec<At>,
    pub(crate) mgmt_ipv4: Option<At>,
    pub(crate) mgmt_ipv6: Option<At>,
}

const KNOWN: [&str; 23] = [
    "kind",
    "group",
    "image",
    "cmd",
    "entrypoint",
    "user",
    "hostname",
    "network-mode",
    "restart-policy",
    "startup-delay",
    "healthcheck",
    "stages",
    "tmpfs",
    "env",
    "labels",
    "sysctls",
    "env-files",
    "binds",
    "exec",
    "dns",
    "aliases",
    "mgmt-ipv4",
    "mgmt-ipv6",
];

/// What containerlab reads of nodes only, and ignores in groups, kinds and defaults.
const NODE_ONLY: [&str; 3] = ["aliases", "mgmt-ipv4", "mgmt-ipv6"];

/// Nodes have all capabilities and the machine's `/dev` anyway.
const GRANTED: [&str; 3] = ["cap-add", "devices", "privileged"];

const NO_EFFECT: [&str; 12] = [
    "image-pull-policy",
    "memory",
    "cpu",
    "cpu-set",
    "shm-size",
    "cgroupns-mode",
    "cgroup-parent",
    "security-opts",
    "auto-remove",
    "runtime",
    "certificate",
    "credentials",
];

/// Keys that are refused: what they would need, and what to do instead.
const REFUSED: [(&str, &str, &str); 11] = [
    ("ports", "needs Docker", "remove it and reach the node with `towpath lab exec`"),
    ("volumes", "needs Docker", "use \"binds\""),
    ("pid-mode", "needs Docker", "remove it; every node has a process namespace of its own"),
    ("startup-config", "needs a vendor's router image", "bind the file with \"binds\""),
    ("enforce-startup-config", "needs a vendor's router image", "remove it"),
    ("suppress-startup-config", "needs a vendor's router image", "remove it"),
    ("license", "needs a vendor's router image", "remove it"),
    ("components", "needs a vendor's router image", "remove it"),
    ("extras", "needs a vendor's router image", "remove it"),
    ("config", "needs a vendor's router image", "bind the file with \"binds\""),
    ("type", "needs a vendor's router image", "remove it"),
];

impl Fields {
    /// Reads one level; `place` is how messages call it, such as `node r1`.
    pub(crate) fn read(place: &str, yaml: &Yaml, findings: &mut Findings) -> Self {
        let mut fields = Self::default();
        for (key, value) in mapping(place, yaml, findings) {
            fields.read_one(place, key, value, findings);
        }
        fields
    }

    fn read_one(&mut self, place: &str, key: &Key, value: &Yaml, findings: &mut Findings) {
        if NODE_ONLY.contains(&key.text.as_str()) && !place.starts_with("node ") {
            let text = format!("{place}: \"{}\" has no effect here; write it at a node", key.text);
            return findings.warn(key.line, text);
        }
        let name = format!("{place}: \"{}\"", key.text);
        let scalar = match key.text.as_str() {
            "kind" => &mut self.kind,
            "group" => &mut self.group,
            "image" => &mut self.image,
            "cmd" => &mut self.cmd,
            "entrypoint" => &mut self.entrypoint,
            "user" => &mut self.user,
            "hostname" => &mut self.hostname,
            "network-mode" => &mut self.network_mode,
            "restart-policy" => &mut self.restart_policy,
            "startup-delay" => &mut self.startup_delay,
            "healthcheck" => {
                return self.healthcheck = Some(lifecycle::healthcheck(&name, value, findings));
            }
            "stages" => return self.stages = stage_file::read(&name, value, findings),
            "tmpfs" => return self.tmpfs = texts(&name, value, findings),
            "env" => return self.env = texts(&name, value, findings),
            "labels" => return self.labels = texts(&name, value, findings),
            "sysctls" => return self.sysctls = texts(&name, value, findings),
            "env-files" => return self.env_files = list(&name, value, findings),
            "binds" => return self.binds = list(&name, value, findings),
            "exec" => return self.exec = list(&name, value, findings),
            "aliases" => return self.aliases = list(&name, value, findings),
            "dns" => return self.dns = Some(dns(&name, value, findings)),
            "mgmt-ipv4" => &mut self.mgmt_ipv4,
            "mgmt-ipv6" => &mut self.mgmt_ipv6,
            other => return other_key(place, key.line, other, findings),
        };
        *scalar = text(&name, value, findings);
    }
}

fn other_key(place: &str, line: usize, key: &str, findings: &mut Findings) {
    if let Some((_, needs, remedy)) = REFUSED.iter().find(|(refused, ..)| *refused == key) {
        findings.refuse(line, format!("{place}: \"{key}\" {needs}; {remedy}"));
    } else if NO_EFFECT.contains(&key) {
        findings.warn(line, format!("{place}: \"{key}\" has no effect here"));
    } else if !GRANTED.contains(&key) {
        if let Some((_, ours)) = SYNONYMS.iter().find(|(theirs, _)| *theirs == key) {
            return findings
                .refuse(line, format!("{place}: unknown field \"{key}\"; did you mean \"{ours}\"?"));
        }
        let known = KNOWN.into_iter().chain(GRANTED).chain(NO_EFFECT).chain(REFUSED.map(|(name, ..)| name));
        findings.refuse(line, format!("{place}: unknown field \"{key}\"; {}", did_you_mean(key, known)));
    }
}

/// Words of other tools for what is here called otherwise.
const SYNONYMS: [(&str, &str); 8] = [
    ("command", "cmd"),
    ("cmds", "exec"),
    ("environment", "env"),
    ("env_file", "env-files"),
    ("envs", "env"),
    ("mounts", "binds"),
    ("network", "network-mode"),
    ("restart", "restart-policy"),
];

/// `did you mean "x"?`, or the advice to remove what nobody knows.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(word, known) {
        Some(known) => format!("did you mean \"{known}\"?"),
        None => "remove it".to_owned(),
    }
}

/// The entries of a mapping; nothing given is an empty one.
pub(crate) fn mapping<'y>(name: &str, yaml: &'y Yaml, findings: &mut Findings) -> &'y [(Key, Yaml)] {
    match &yaml.value {
        Value::Map(entries) => entries,
        Value::Null => &[],
        Value::Scalar(_) | Value::Seq(_) => {
            findings.refuse(
                yaml.line,
                format!("{name} takes a mapping, not {}; write `key: value` below it", yaml.kind()),
            );
            &[]
        }
    }
}

/// The items of a list; nothing given is an empty one.
pub(crate) fn sequence<'y>(name: &str, yaml: &'y Yaml, findings: &mut Findings) -> &'y [Yaml] {
    match &yaml.value {
        Value::Seq(items) => items,
        Value::Null => &[],
        Value::Scalar(_) | Value::Map(_) => {
            findings.refuse(
                yaml.line,
                format!("{name} takes a list, not {}; begin each item with \"- \"", yaml.kind()),
            );
            &[]
        }
    }
}

/// A text; nothing given and an empty text are the same: not set.
pub(crate) fn text(name: &str, yaml: &Yaml, findings: &mut Findings) -> Option<At> {
    match &yaml.value {
        Value::Scalar(text) if text.is_empty() => None,
        Value::Scalar(text) => Some(At { line: yaml.line, text: text.clone() }),
        Value::Null => None,
        Value::Seq(_) => {
            findings.refuse(yaml.line, format!("{name} takes a text, not a list; write one line"));
            None
        }
        Value::Map(_) => {
            let remedy = "quote a text that has a colon and a space in it";
            findings.refuse(yaml.line, format!("{name} takes a text, not a mapping; {remedy}"));
            None
        }
    }
}

fn texts(name: &str, yaml: &Yaml, findings: &mut Findings) -> BTreeMap<String, At> {
    let mut texts = BTreeMap::new();
    for (key, value) in mapping(name, yaml, findings) {
        let before = findings.problems.len();
        let empty = At { line: value.line, text: String::new() };
        let text = text(&format!("{name} {}", key.text), value, findings).unwrap_or(empty);
        if findings.problems.len() == before {
            texts.insert(key.text.clone(), text);
        }
    }
    texts
}

fn dns(name: &str, yaml: &Yaml, findings: &mut Findings) -> Dns {
    let mut dns = Dns::default();
    for (key, value) in mapping(name, yaml, findings) {
        let field = match key.text.as_str() {
            "servers" => &mut dns.servers,
            "search" => &mut dns.search,
            "options" => &mut dns.options,
            other => {
                let hint = did_you_mean(other, ["servers", "search", "options"]);
                findings.refuse(key.line, format!("{name}: unknown field \"{other}\"; {hint}"));
                continue;
            }
        };
        let texts = list(&format!("{name} {}", key.text), value, findings);
        *field = texts.into_iter().map(|at| at.text).collect();
    }
    dns
}

fn list(name: &str, yaml: &Yaml, findings: &mut Findings) -> Vec<At> {
    let items = sequence(name, yaml, findings);
    items.iter().filter_map(|item| text(&format!("an item of {name}"), item, findings)).collect()
}

/// The most specific of the levels, which come in the order node, group, kind, defaults.
pub(crate) fn first<'f>(
    levels: &[&'f Fields],
    field: impl Fn(&'f Fields) -> Option<&'f At>,
) -> Option<&'f At> {
    levels.iter().copied().find_map(field)
}

/// Merged key by key; the more specific level wins.
pub(crate) fn by_key(
    levels: &[&Fields],
    field: impl Fn(&Fields) -> &BTreeMap<String, At>,
) -> BTreeMap<String, At> {
    let mut merged = BTreeMap::new();
    for level in levels.iter().rev() {
        merged.extend(field(level).clone());
    }
    merged
}

/// Appended from the most general level to the node's own; of equal texts the first stays.
pub(crate) fn appended(levels: &[&Fields], field: impl Fn(&Fields) -> &Vec<At>) -> Vec<At> {
    let mut all: Vec<At> = Vec::new();
    for item in levels.iter().rev().flat_map(|level| field(level)) {
        if !all.iter().any(|known| known.text == item.text) {
            all.push(item.clone());
        }
    }
    all
}
