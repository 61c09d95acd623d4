//! `expect.yaml` as a [`Story`]: read, and checked against the topology it belongs to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check::Expectation;
use super::class::{self, Bound, Class, Protocol};
use super::event::Event;
use super::given::{Given, Reader};
use super::keys;
use crate::file::fields::mapping;
use crate::file::problem::{FileError, Findings, Problem};
use crate::file::topology::Topology;
use crate::file::yaml::{self, Value, Yaml};

/// Name of the story's file, beside the topology.
pub const FILE_NAME: &str = "expect.yaml";

const WITHIN: Duration = Duration::from_secs(15);

/// A story and the lab it is played on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    /// The file, absolute.
    pub file: PathBuf,
    /// The lab.
    pub topology: Topology,
    pub(crate) classes: BTreeMap<String, Class>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// Classes that run meanwhile.
    pub(crate) traffic: Vec<String>,
    pub(crate) events: Vec<Event>,
    pub(crate) within: Duration,
    pub(crate) expect: Vec<Expectation>,
    /// By class; a class without bounds only runs.
    pub(crate) lost: BTreeMap<String, Bound>,
    pub(crate) proof: Proof,
}

/// How the step is shown to need our reaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Every towpath is stopped at the first event.
    Freeze,
    /// These events come before, and have settled.
    First(Vec<Event>),
    /// There is nothing to prove; why.
    None { because: String },
}

impl Story {
    /// Reads the topology of `path` (a file, or a folder with one) and the `expect.yaml` beside it.
    ///
    /// # Errors
    /// Every mistake of the topology, or else every mistake of the story, each with line and remedy.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let topology = Topology::read(path.as_ref())?;
        let file = topology.file.with_file_name(FILE_NAME);
        let raw = std::fs::read_to_string(&file).map_err(|error| {
            let text = format!("cannot be read: {error}; the story stands beside the topology");
            FileError { file: file.clone(), problems: vec![Problem { line: 0, text }] }
        })?;
        Self::parse(&raw, &file, topology)
    }

    /// Parses `raw`, the text of `file`, as a story of `topology`.
    ///
    /// # Errors
    /// Every mistake in the file, each with line and remedy.
    pub fn parse(raw: &str, file: &Path, topology: Topology) -> Result<Self, FileError> {
        let mut findings = Findings::default();
        let read = match yaml::parse(raw, &mut findings) {
            Ok(root) => {
                let mut reader = Reader { topology: &topology, findings: &mut findings, classes: Vec::new() };
                Some(read_file(&root, &mut reader))
            }
            Err(problem) => {
                findings.problems.push(problem);
                None
            }
        };
        findings.problems.sort();
        findings.problems.dedup();
        match read {
            Some((classes, steps)) if findings.problems.is_empty() => {
                Ok(Self { file: file.to_owned(), topology, classes, steps })
            }
            _ => Err(FileError { file: file.to_owned(), problems: findings.problems }),
        }
    }

    /// The names of the steps, in order.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|step| step.name.as_str())
    }
}

impl Step {
    /// Whether it has events whose failure can be shown.
    pub(crate) fn provable(&self) -> bool {
        let promises = !self.expect.is_empty() || !self.lost.is_empty();
        !self.events.is_empty() && promises && !matches!(self.proof, Proof::None { .. })
    }
}

fn read_file(root: &Yaml, reader: &mut Reader<'_>) -> (BTreeMap<String, Class>, Vec<Step>) {
    let given = Given::read(&keys::FILE, "a story", root, reader.findings);
    let nothing = Yaml { line: root.line, value: Value::Null };
    let traffic = given.get("traffic").unwrap_or(&nothing);
    if let Value::Map(entries) = &traffic.value {
        reader.classes = entries.iter().map(|(key, _)| key.text.clone()).collect();
    }
    let classes = class::read_all(traffic, reader);
    let tcp: Vec<String> = classes
        .values()
        .filter(|class| class.protocol == Protocol::Tcp)
        .map(|class| class.name.clone())
        .collect();
    let steps = given.list("story", reader, |_, yaml, reader| step(yaml, &tcp, reader));
    if let Some(Yaml { line, value }) = given.get("story")
        && (matches!(value, Value::Null) || matches!(value, Value::Seq(items) if items.is_empty()))
    {
        reader.findings.refuse(*line, "the story has no steps; add at least one");
    }
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for step in &steps {
        if let Some(first) = seen.insert(&step.name, step.line) {
            let text =
                format!("step \"{}\" has the name of the step in line {first}; give it another", step.name);
            reader.findings.refuse(step.line, text);
        }
    }
    (classes, steps)
}

fn step(yaml: &Yaml, tcp: &[String], reader: &mut Reader<'_>) -> Option<Step> {
    let named = match &yaml.value {
        Value::Map(entries) => {
            entries.iter().find(|(key, _)| key.text == "name").map(|(_, name)| &name.value)
        }
        _ => None,
    };
    let place = match named {
        Some(Value::Scalar(name)) => format!("step \"{name}\""),
        _ => "a step".to_owned(),
    };
    let given = Given::read(&keys::STEP, &place, yaml, reader.findings);
    let name = given.text("name", reader);
    let traffic = given.list("traffic", reader, |name, yaml, reader| reader.class(name, yaml));
    let events = given.list("events", reader, |_, yaml, reader| Event::read(&place, yaml, reader));
    let expect =
        given.list("expect", reader, |_, yaml, reader| Expectation::read(&place, yaml, &traffic, reader));
    let lost = bounds(&given, &traffic, tcp, reader);
    let within = given.time("within", reader).unwrap_or(WITHIN);
    let proof = proof(&given, &place, reader)?;
    let does_nothing = ["traffic", "events", "expect"].iter().all(|key| given.get(key).is_none());
    if does_nothing && name.is_some() {
        let text = format!("{place} does nothing; give it \"events\", \"expect\" or \"traffic\"");
        reader.findings.refuse(given.line, text);
    }
    Some(Step { name: name?, line: given.line, traffic, events, within, expect, lost, proof })
}

fn bounds(
    given: &Given<'_>,
    traffic: &[String],
    tcp: &[String],
    reader: &mut Reader<'_>,
) -> BTreeMap<String, Bound> {
    let Some(yaml) = given.get("lost") else { return BTreeMap::new() };
    let name = given.name("lost");
    let mut bounds = BTreeMap::new();
    for (key, value) in mapping(&name, yaml, reader.findings) {
        if !reader.classes.contains(&key.text) {
            reader.unknown_class(&name, key.line, &key.text);
        } else if !traffic.contains(&key.text) {
            let text = format!("{name}: class {} does not run in this step; add it to \"traffic\"", key.text);
            reader.findings.refuse(key.line, text);
        }
        let place = format!("{name} {}", key.text);
        let given = Given::read(&keys::LOST, &place, value, reader.findings);
        if given.get("packets").is_some() && tcp.contains(&key.text) {
            let text = format!("{place}: a tcp class has no lost packets; bound its \"outage\"");
            reader.findings.refuse(given.line_of("packets"), text);
        }
        let bound = Bound { packets: given.count("packets", reader), outage: given.time("outage", reader) };
        if given.get("packets").is_none() && given.get("outage").is_none() {
            let text = format!("{place} sets no bound; give \"packets\", \"outage\" or both");
            reader.findings.refuse(key.line, text);
        }
        bounds.insert(key.text.clone(), bound);
    }
    bounds
}

fn proof(given: &Given<'_>, place: &str, reader: &mut Reader<'_>) -> Option<Proof> {
    let because = given.text("because", reader);
    let Some(yaml) = given.get("prove") else {
        if because.is_some() {
            let text = format!("{place}: \"because\" belongs to `prove: none`; add that or remove it");
            reader.findings.refuse(given.line_of("because"), text);
        }
        return Some(Proof::Freeze);
    };
    if given.get("events").is_none() {
        let text = format!("{place} has no events, and so nothing to prove; remove \"prove\"");
        reader.findings.refuse(given.line_of("prove"), text);
    }
    if let Value::Map(_) = &yaml.value {
        let name = given.name("prove");
        let prove = Given::read(&keys::PROVE, &name, yaml, reader.findings);
        return Some(Proof::First(
            prove.list("first", reader, |_, yaml, reader| Event::read(&name, yaml, reader)),
        ));
    }
    match given.word("prove", &["freeze", "none"], reader)? {
        "none" => match because {
            Some(because) => Some(Proof::None { because }),
            None => {
                let text = format!("{place}: `prove: none` needs \"because\", a line that says why");
                reader.findings.refuse(given.line_of("prove"), text);
                None
            }
        },
        _ => Some(Proof::Freeze),
    }
}
