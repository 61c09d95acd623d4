//! A containerlab topology file, read, inherited and checked.
//!
//! In: the file's text and the environment. Out: a [`Topology`] in which every reference holds, or
//! a [`FileError`] with every mistake and its line. No kernel, no processes; the only files read
//! besides the topology are its `env-files`, and bind sources are looked at for being there.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::file::fields::{Fields, did_you_mean, mapping, text};
use crate::file::hosts::Dns;
use crate::file::kind::Kind;
use crate::file::lifecycle::{Healthcheck, RestartPolicy};
use crate::file::links::{self, Dummy, Link, Links};
use crate::file::management::{self, Management};
use crate::file::problem::{FileError, Findings, Problem, nearest};
use crate::file::shape;
use crate::file::stage::{Stage, StageSpec};
use crate::file::stage_file::{self, Wait};
use crate::file::substitute::substitute;
use crate::file::yaml::{self, Value, Yaml};
use crate::file::{git, network, node_spec, space};

/// A lab as its file describes it, everything inherited and resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The lab's name.
    pub name: String,
    /// The file, absolute.
    pub file: PathBuf,
    /// The nodes, by name.
    pub nodes: BTreeMap<String, NodeSpec>,
    /// The veth pairs between them, in the file's order.
    pub links: Vec<Link>,
    /// Interfaces that lead nowhere, in the file's order.
    pub dummies: Vec<Dummy>,
    /// The network that nodes without `network-mode` have their eth0 on.
    pub management: Management,
    /// What the file says that has no effect here, one line each.
    pub warnings: Vec<String>,
}

/// One node, its inheritance applied and its image mapped to a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// What it is.
    pub kind: Kind,
    /// As written.
    pub image: String,
    /// `clab-<lab>-<node>`, or what `prefix` makes of it.
    pub container: String,
    /// Name inside the node.
    pub hostname: String,
    /// Main process; empty: none.
    pub command: Vec<String>,
    /// Whom the main process runs as: `uid`, `name`, `uid:gid` or `name:group`; root when absent.
    pub user: Option<String>,
    /// Commands to run once the node's links are there.
    pub exec: Vec<Vec<String>>,
    /// The whole environment of the main process and of `exec`.
    pub env: BTreeMap<String, String>,
    /// Labels as written.
    pub labels: BTreeMap<String, String>,
    /// Kernel settings by dotted name, set before the links exist.
    pub sysctls: BTreeMap<String, String>,
    /// Files and folders of the machine that appear in the node.
    pub binds: Vec<Bind>,
    /// Where its interfaces are.
    pub network: Network,
    /// Addresses of its eth0 on the management network, IPv4 first; empty: it has none.
    pub management: Vec<IpNet>,
    /// Further names of it that all nodes know.
    pub aliases: Vec<String>,
    /// Name servers; absent: none at all.
    pub dns: Option<Dns>,
    /// Folders in memory, empty at the start, with their mount options.
    pub tmpfs: BTreeMap<PathBuf, String>,
    /// What its stages wait for and run.
    pub stages: BTreeMap<Stage, StageSpec>,
    /// What tells whether it works.
    pub healthcheck: Option<Healthcheck>,
    /// What happens when its main process ends.
    pub restart: RestartPolicy,
    /// It is not created earlier after the lab's start than this.
    pub startup_delay: Duration,
}

/// A file or folder of the machine that appears inside a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// On the machine, absolute.
    pub source: PathBuf,
    /// In the node, absolute.
    pub target: PathBuf,
    /// Writes are refused.
    pub read_only: bool,
}

/// Where a node's interfaces live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// In a namespace of its own, with `lo`, the links of the file, and eth0 on the management network.
    Management,
    /// In a namespace of its own, with `lo` and the links of the file only.
    None,
    /// In the namespace of the node named here, whose host name and hosts file it shares too.
    Container(String),
    /// In the machine's `/run/netns/<name>`, which somebody else made.
    Outside(String),
    /// In the lab's own host namespace.
    Host,
}

/// What surrounds the nodes while they are resolved.
pub(crate) struct Scope<'a> {
    pub(crate) lab: &'a str,
    pub(crate) folder: &'a Path,
    pub(crate) prefix: Option<&'a str>,
    pub(crate) defaults: Fields,
    pub(crate) kinds: BTreeMap<String, Fields>,
    pub(crate) groups: BTreeMap<String, Fields>,
    /// Every `wait-for` of the nodes, as they are resolved.
    pub(crate) waits: RefCell<Vec<Wait>>,
}

/// A topology of ten thousand nodes has less; a device file has no end.
const MAX_BYTES: u64 = 8 << 20;

impl Topology {
    /// Reads `path`, which is a file, or a folder that holds one `*.clab.yml` or `*.clab.yaml`.
    ///
    /// # Errors
    /// Every mistake in the file, each with line and remedy.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let fail = |file: &Path, text: String| FileError {
            file: file.to_owned(),
            problems: vec![Problem { line: 0, text }],
        };
        let file = find_file(path).map_err(|text| fail(path, text))?;
        let raw = read_text(&file).map_err(|text| fail(&file, text))?;
        Self::parse(&raw, &file, &|name| std::env::var(name).ok())
    }

    /// Parses `raw`, the text of `file`, with the environment variables `lookup` knows.
    ///
    /// # Errors
    /// Every mistake in the file, each with line and remedy.
    pub fn parse(raw: &str, file: &Path, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, FileError> {
        let mut findings = Findings::default();
        for (index, line) in raw.lines().enumerate() {
            if line.contains("{{") {
                findings.refuse(index + 1, "templates (\"{{\") are not available; write the text out");
            }
        }
        if !findings.problems.is_empty() {
            // Before the template is written out, what stands around it need not be YAML.
            return Err(FileError { file: file.to_owned(), problems: findings.problems });
        }
        let text = substitute(raw, lookup);
        let topology = match yaml::parse(&text, &mut findings) {
            Ok(root) => read_root(&root, file, &mut findings),
            Err(problem) => {
                findings.problems.push(problem);
                None
            }
        };
        findings.problems.sort();
        findings.problems.dedup();
        match topology {
            Some(topology) if findings.problems.is_empty() => Ok(topology),
            _ => Err(FileError { file: file.to_owned(), problems: findings.problems }),
        }
    }

    /// The node whose network namespace `node` uses: itself, or the one `container:` names.
    #[must_use]
    pub fn network_owner(&self, node: &str) -> String {
        space::network_owner(node, &self.nodes).to_owned()
    }
}

fn read_text(file: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}; correct the path");
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(unreadable)?;
    opened.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_BYTES) {
        return Err("this is more than 8 MiB, which is no topology; name another file".to_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count();
        format!("line {line} is not UTF-8; save the file as UTF-8 text")
    })
}

fn find_file(path: &Path) -> Result<PathBuf, String> {
    let path = std::path::absolute(path).map_err(|error| error.to_string())?;
    if !path.is_dir() {
        return Ok(path);
    }
    let entries = std::fs::read_dir(&path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".clab.yml") || name.ends_with(".clab.yaml")
        })
        .collect();
    found.sort();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err("this folder holds no *.clab.yml; name the topology file".to_owned()),
        many => Err(format!("this folder holds {} topologies; name one of them", many.len())),
    }
}

fn read_root(root: &Yaml, file: &Path, findings: &mut Findings) -> Option<Topology> {
    if !shape::check(root, findings) {
        return None;
    }
    let mut parts: BTreeMap<&str, &Yaml> = BTreeMap::new();
    for (key, value) in mapping("a topology file", root, findings) {
        match key.text.as_str() {
            "name" | "prefix" | "topology" | "mgmt" => {
                parts.insert(&key.text, value);
            }
            "settings" => findings.refuse(key.line, "\"settings\" needs Docker; remove it"),
            other => {
                let hint = did_you_mean(other, ["name", "prefix", "mgmt", "topology"]);
                findings.refuse(key.line, format!("unknown field \"{other}\"; {hint}"));
            }
        }
    }
    // A key that is only misspelt is said once.
    let meant = |word: &str| {
        mapping("", root, &mut Findings::default())
            .iter()
            .any(|(key, _)| nearest(&key.text, [word]).is_some())
    };
    let folder = file.parent().unwrap_or(Path::new("/"));
    let mut name = parts.get("name").and_then(|name| text("\"name\"", name, findings));
    match &mut name {
        None if meant("name") && !parts.contains_key("name") => {}
        None => findings.refuse(1, "the lab has no \"name\"; add one"),
        Some(name) => match git::expand(&name.text, folder) {
            Ok(text) => name.text = text,
            Err(why) => findings.refuse(name.line, format!("name: {why}")),
        },
    }
    match &name {
        Some(name) if !good_name(&name.text) => findings.refuse(
            name.line,
            format!(
                "name \"{}\" is not possible; use letters, digits, \"-\", \"_\" and \".\", at most 60",
                name.text
            ),
        ),
        Some(_) | None => {}
    }
    // A prefix that is given and empty differs from none: it leaves the node's name alone.
    let prefix = parts
        .get("prefix")
        .map(|prefix| text("\"prefix\"", prefix, findings).map_or(String::new(), |p| p.text));
    let Some(topology) = parts.get("topology") else {
        if !meant("topology") {
            findings.refuse(root.line, "there is no \"topology\"; add it with its \"nodes\"");
        }
        return None;
    };
    let lab = name.map(|name| name.text).unwrap_or_default();
    let management =
        parts.get("mgmt").map_or_else(Management::default, |mgmt| Management::read(mgmt, findings));
    let surroundings = Surroundings { lab: &lab, folder, prefix: prefix.as_deref(), management: &management };
    let (nodes, links) = read_topology(topology, &surroundings, findings);
    let warnings =
        findings.warnings.iter().map(|warning| crate::file::problem::located(file, warning)).collect();
    let Links { pairs: links, dummies } = links;
    Some(Topology { name: lab, file: file.to_owned(), nodes, links, dummies, management, warnings })
}

/// What the file says outside of `topology`, and where it is.
struct Surroundings<'a> {
    lab: &'a str,
    folder: &'a Path,
    prefix: Option<&'a str>,
    management: &'a Management,
}

/// A lab's name becomes a folder, a host name part and a socket path.
fn good_name(name: &str) -> bool {
    name.len() <= 60
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

fn read_topology(
    yaml: &Yaml,
    around: &Surroundings<'_>,
    findings: &mut Findings,
) -> (BTreeMap<String, NodeSpec>, Links) {
    let empty = Yaml { line: yaml.line, value: Value::Null };
    let mut parts: BTreeMap<&str, &Yaml> = BTreeMap::new();
    for (key, value) in mapping("\"topology\"", yaml, findings) {
        let known = ["defaults", "kinds", "groups", "nodes", "links"];
        if known.contains(&key.text.as_str()) {
            parts.insert(&key.text, value);
        } else {
            let hint = did_you_mean(&key.text, known);
            findings.refuse(key.line, format!("topology: unknown field \"{}\"; {hint}", key.text));
        }
    }
    let part = |name: &str| parts.get(name).copied().unwrap_or(&empty);
    let scope = Scope {
        lab: around.lab,
        folder: around.folder,
        prefix: around.prefix,
        defaults: Fields::read("defaults", part("defaults"), findings),
        kinds: levels("kind", part("kinds"), findings),
        groups: levels("group", part("groups"), findings),
        waits: RefCell::default(),
    };
    let entries = mapping("\"nodes\"", part("nodes"), findings);
    if entries.is_empty() && matches!(part("nodes").value, Value::Null | Value::Map(_)) {
        findings.refuse(part("nodes").line, "the topology has no \"nodes\"; add at least one");
    }
    let mut lines = BTreeMap::new();
    let mut nodes = BTreeMap::new();
    let mut wishes = BTreeMap::new();
    for (key, value) in entries {
        lines.insert(key.text.clone(), key.line);
        if let Some((node, wish)) = node_spec::resolve(key, value, &scope, findings) {
            if node.network == Network::Management {
                wishes.insert(key.text.clone(), wish);
            }
            nodes.insert(key.text.clone(), node);
        }
    }
    network::settle(&mut nodes, &lines, findings);
    let known = entries.iter().map(|(key, _)| (key.text.clone(), key.line)).collect();
    stage_file::check(&scope.waits.borrow(), &nodes, &known, findings);
    let mut addresses = management::assign(around.management, &wishes, findings);
    for (name, node) in &mut nodes {
        node.management = addresses.remove(name).unwrap_or_default();
    }
    // Where nodes were refused, links to them are not a second mistake: check the names only.
    let mut found = Findings::default();
    let places = links::Places { nodes: &nodes, lines: &lines, management: around.management };
    let links = links::read(part("links"), &places, &mut found);
    found.problems.retain(|problem| {
        !entries.iter().any(|(key, _)| {
            !nodes.contains_key(&key.text)
                && problem.text.starts_with(&format!("link: there is no node \"{}\"", key.text))
        })
    });
    findings.problems.extend(found.problems);
    findings.warnings.extend(found.warnings);
    lab_variables(&mut nodes, &links);
    (nodes, links)
}

fn levels(what: &str, yaml: &Yaml, findings: &mut Findings) -> BTreeMap<String, Fields> {
    mapping(&format!("\"{what}s\""), yaml, findings)
        .iter()
        .map(|(key, value)| {
            (key.text.clone(), Fields::read(&format!("{what} {}", key.text), value, findings))
        })
        .collect()
}

/// `CLAB_INTFS`: how many links end at a node, so that a start script can wait for them; and the
/// lab's names, to which no proxy leads.
fn lab_variables(nodes: &mut BTreeMap<String, NodeSpec>, links: &Links) {
    let names: Vec<&str> = nodes.keys().map(String::as_str).collect();
    let no_proxy = format!("localhost,127.0.0.1,::1,*.local,{}", names.join(","));
    for (name, node) in nodes {
        for variable in ["NO_PROXY", "no_proxy"] {
            node.env.entry(variable.to_owned()).or_insert_with(|| no_proxy.clone());
        }
        let pairs = links.pairs.iter().flat_map(|link| &link.ends);
        let ends = pairs.chain(links.dummies.iter().map(|dummy| &dummy.end));
        let count = ends.filter(|end| end.node == *name).count();
        node.env.entry("CLAB_INTFS".to_owned()).or_insert_with(|| count.to_string());
    }
}
