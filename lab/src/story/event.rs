//! Things a story does to its lab, as the file writes them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::given::{Given, Reader};
use super::keys;
use crate::Loss;
use crate::file::topology::Topology;
use crate::file::words;
use crate::file::yaml::{Value, Yaml};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Node { verb: Verb, node: String },
    LinkDown(String),
    LinkUp(String),
    Loss { end: String, loss: Loss },
    NoLoss(String),
    Edit { node: String, file: PathBuf, replace: String, with: String },
    Run { node: String, argv: Vec<String> },
    Wait(Duration),
    Random(Random),
}

/// What befalls a node's main process, or its forwarding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Die,
    Kill,
    Stop,
    Start,
    Restart,
    Pause,
    Resume,
    Isolate,
    Restore,
}

/// Events at random, all of them undone in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Random {
    pub(crate) lasts: Duration,
    pub(crate) every: Duration,
    /// Words of [`keys::RANDOM_EVENTS`].
    pub(crate) events: Vec<&'static str>,
    /// Empty: all nodes that run towpath.
    pub(crate) nodes: Vec<String>,
    /// Ends, as NODE:INTERFACE. Empty: all links between these nodes.
    pub(crate) links: Vec<String>,
}

const VERBS: [(&str, Verb, &str); 9] = [
    ("die", Verb::Die, "dies"),
    ("kill", Verb::Kill, "is killed"),
    ("stop", Verb::Stop, "is stopped"),
    ("start", Verb::Start, "starts"),
    ("restart", Verb::Restart, "is killed and started"),
    ("pause", Verb::Pause, "is frozen"),
    ("resume", Verb::Resume, "goes on"),
    ("isolate", Verb::Isolate, "forwards nothing"),
    ("restore", Verb::Restore, "forwards again"),
];

impl Verb {
    /// Whether it needs a main process.
    fn needs_process(self) -> bool {
        !matches!(self, Self::Isolate | Self::Restore)
    }
}

impl Event {
    /// Reads one item of `events`.
    pub(super) fn read(place: &str, yaml: &Yaml, reader: &mut Reader<'_>) -> Option<Self> {
        let given = Given::read(&keys::EVENT, &format!("{place}: an event"), yaml, reader.findings);
        let (name, value) = given.only()?;
        let called = given.name(name);
        if let Some((_, verb, _)) = VERBS.iter().find(|(word, ..)| *word == name) {
            let node = reader.node(&called, value)?;
            if verb.needs_process() && no_main_process(reader.topology, &node) {
                let text =
                    format!("{called}: node {node} has no main process; give it a \"cmd\" or another event");
                reader.findings.refuse(value.line, text);
            }
            return Some(Self::Node { verb: *verb, node });
        }
        match name {
            "link-down" => reader.end(&called, value).map(Self::LinkDown),
            "link-up" => reader.end(&called, value).map(Self::LinkUp),
            "no-loss" => reader.end(&called, value).map(Self::NoLoss),
            "wait" => given.time(name, reader).map(Self::Wait),
            "loss" => loss(&called, value, reader),
            "edit" => edit(&called, value, reader),
            "run" => run(&called, value, reader),
            "random" => random(&called, value, reader).map(Self::Random),
            other => unreachable!("{other} is in the table of events and must be read here"),
        }
    }

    /// Nodes whose main process the event may end or start.
    pub(super) fn restarts(&self) -> Option<&str> {
        match self {
            Self::Node { verb: Verb::Die | Verb::Kill | Verb::Stop | Verb::Start | Verb::Restart, node } => {
                Some(node)
            }
            _ => None,
        }
    }
}

fn no_main_process(topology: &Topology, node: &str) -> bool {
    topology.nodes.get(node).is_some_and(|spec| spec.command.is_empty())
}

fn loss(place: &str, yaml: &Yaml, reader: &mut Reader<'_>) -> Option<Event> {
    let given = Given::read(&keys::LOSS, place, yaml, reader.findings);
    let end = given.get("end").and_then(|end| reader.end(&given.name("end"), end));
    let loss = given.get("percent").and_then(|percent| {
        let fault = "is no percentage; write a number above 0, at most 100";
        reader.parsed(&given.name("percent"), percent, fault, |text| {
            text.parse().ok().filter(|loss: &Loss| !loss.is_none())
        })
    });
    Some(Event::Loss { end: end?, loss: loss? })
}

fn edit(place: &str, yaml: &Yaml, reader: &mut Reader<'_>) -> Option<Event> {
    let given = Given::read(&keys::EDIT, place, yaml, reader.findings);
    let node = given.node("node", reader);
    let file = given.text("file", reader).map(PathBuf::from);
    let (replace, with) = (given.text("replace", reader), given.any_text("with", reader));
    if let Some(file) = file.as_ref().filter(|file| file.is_relative()) {
        let text = format!("{place}: file {} must be absolute, as the node sees it", file.display());
        reader.findings.refuse(given.line_of("file"), text);
    }
    if let (Some(node), Some(file)) = (&node, &file)
        && let Some(fault) = not_ours_to_edit(reader.topology, node, file)
    {
        reader.findings.refuse(given.line_of("file"), format!("{place}: {fault}"));
    }
    Some(Event::Edit { node: node?, file: file?, replace: replace?, with: with? })
}

/// Why a story may not change `file` of `node`: it plays on copies of what lies beside the topology, so a
/// file bound from elsewhere would be the user's own.
fn not_ours_to_edit(topology: &Topology, node: &str, file: &Path) -> Option<String> {
    let binds = topology.nodes.get(node)?.binds.iter();
    let bind = binds
        .filter(|bind| file.starts_with(&bind.target))
        .max_by_key(|bind| bind.target.as_os_str().len())?;
    let folder = topology.file.parent().unwrap_or(Path::new("/"));
    let (file, source) = (file.display(), bind.source.display());
    if bind.read_only {
        Some(format!("file {file} is bound read-only; bind {source} without \"ro\""))
    } else if !bind.source.starts_with(folder) {
        Some(format!(
            "file {file} is bound from {source}; put it beside the topology, where a copy is edited"
        ))
    } else {
        None
    }
}

fn run(place: &str, yaml: &Yaml, reader: &mut Reader<'_>) -> Option<Event> {
    let given = Given::read(&keys::RUN, place, yaml, reader.findings);
    let node = given.place("node", reader);
    let argv = command_line(&given, "command", reader);
    Some(Event::Run { node: node?, argv: argv? })
}

/// A command line, split.
pub(super) fn command_line(given: &Given<'_>, key: &str, reader: &mut Reader<'_>) -> Option<Vec<String>> {
    let text = given.text(key, reader)?;
    match words::split(&text) {
        Ok(argv) if argv.is_empty() => {
            reader
                .findings
                .refuse(given.line_of(key), format!("{}: there is no command; write one", given.name(key)));
            None
        }
        Ok(argv) => Some(argv),
        Err(fault) => {
            reader.findings.refuse(given.line_of(key), format!("{}: {fault}; close it", given.name(key)));
            None
        }
    }
}

fn random(place: &str, yaml: &Yaml, reader: &mut Reader<'_>) -> Option<Random> {
    let given = Given::read(&keys::RANDOM, place, yaml, reader.findings);
    let (lasts, every) = (given.time("for", reader), given.time("every", reader));
    let events: Vec<_> =
        given.list("events", reader, |name, yaml, reader| reader.word(name, yaml, &keys::RANDOM_EVENTS));
    let nodes = given.list("nodes", reader, |name, yaml, reader| {
        let node = reader.node(name, yaml)?;
        if no_main_process(reader.topology, &node) {
            let text = format!("{name}: node {node} has no main process; name nodes that run a program");
            reader.findings.refuse(yaml.line, text);
        }
        Some(node)
    });
    let links = given.list("links", reader, |name, yaml, reader| reader.end(name, yaml));
    if every.is_some_and(|every| every.is_zero()) {
        reader
            .findings
            .refuse(given.line_of("every"), format!("{place}: \"every\" is 0; write at least 1ms"));
        return None;
    }
    if given
        .get("events")
        .is_some_and(|events| matches!(&events.value, Value::Seq(items) if items.is_empty()))
    {
        let text =
            format!("{place}: \"events\" is empty; name at least one of {}", keys::RANDOM_EVENTS.join(", "));
        reader.findings.refuse(given.line_of("events"), text);
    }
    Some(Random { lasts: lasts?, every: every?, events, nodes, links })
}

/// In words, as the reports say it.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { verb, node } => {
                let words = VERBS.iter().find(|(_, known, _)| known == verb).map_or("", |(.., words)| words);
                write!(f, "{node} {words}")
            }
            Self::LinkDown(end) => write!(f, "{end} goes down"),
            Self::LinkUp(end) => write!(f, "{end} comes up"),
            Self::Loss { end, loss } => write!(f, "{end} loses {} %", loss.as_percent()),
            Self::NoLoss(end) => write!(f, "{end} loses nothing any more"),
            Self::Edit { node, file, replace, with } => {
                write!(f, "{node}: {}: \"{replace}\" becomes \"{with}\"", file.display())
            }
            Self::Run { node, argv } => write!(f, "{node}: {}", argv.join(" ")),
            Self::Wait(time) => write!(f, "{time:?} pass"),
            Self::Random(random) => random.fmt(f),
        }
    }
}

impl fmt::Display for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at random for {:?}", self.events.join(", "), self.lasts)
    }
}
