//! What a story expects of its lab, as the file writes it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::event::command_line;
use super::given::{Given, Reader};
use super::keys;
use crate::file::yaml::{Value, Yaml};

/// One expectation and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expectation {
    pub(crate) line: usize,
    pub(crate) check: Check,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Check {
    /// `node`: `None` for every node with a routing program.
    Sessions {
        node: Option<String>,
        want: Sessions,
    },
    Route(Route),
    Ping {
        from: String,
        to: IpAddr,
        source: Option<IpAddr>,
        size: usize,
    },
    Transfer {
        from: String,
        to: IpAddr,
        node: String,
        source: Option<IpAddr>,
        bytes: u64,
    },
    Command {
        node: String,
        argv: Vec<String>,
        exit: i32,
        stdout: Option<String>,
        stderr: Option<String>,
    },
    Paths {
        class: String,
        through: Vec<String>,
    },
    /// RIB, kernel and neighbours agree everywhere.
    Same,
}

/// What is expected of sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sessions {
    All,
    Established(usize),
    Neighbor { neighbor: String, state: String, not: bool },
}

/// What is expected of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) node: String,
    pub(crate) prefix: IpNet,
    /// `None`: at least one.
    pub(crate) nexthops: Option<usize>,
    /// Empty: any.
    pub(crate) via: BTreeSet<IpAddr>,
    /// Empty: any.
    pub(crate) dev: BTreeSet<String>,
    pub(crate) protocol: Option<u8>,
}

/// Bytes after the ICMP header of a ping whose size is not given.
const PING_BYTES: usize = 32;
const TRANSFER_BYTES: u64 = 1_000_000;

impl Expectation {
    /// Reads one item of `expect`; `running` are the classes that run in the step.
    pub(super) fn read(
        place: &str,
        yaml: &Yaml,
        running: &[String],
        reader: &mut Reader<'_>,
    ) -> Option<Self> {
        let given = Given::read(&keys::EXPECT, &format!("{place}: an expectation"), yaml, reader.findings);
        let (name, value) = given.only()?;
        let called = given.name(name);
        let check = match name {
            "sessions" => sessions(&called, value, reader),
            "route" => route(&called, value, reader).map(Check::Route),
            "ping" => ping(&called, value, reader),
            "transfer" => transfer(&called, value, reader),
            "command" => command(&called, value, reader),
            "paths" => paths(&called, value, running, reader),
            "same" => reader.word(&called, value, &keys::SAME).map(|_| Check::Same),
            other => unreachable!("{other} is in the table of expectations and must be read here"),
        }?;
        Some(Self { line: given.line, check })
    }
}

fn sessions(place: &str, yaml: &Yaml, reader: &mut Reader<'_>) -> Option<Check> {
    let given = Given::read(&keys::SESSIONS, place, yaml, reader.findings);
    let node = match given.get("node") {
        Some(Yaml { value: Value::Scalar(star), .. }) if star == "*" => Some(None),
        _ => given.node("node", reader).map(Some),
    };
    let all =
        matches!(given.get("established"), Some(Yaml { value: Value::Scalar(all), .. }) if all == "all");
    let established = if all { None } else { given.count("established", reader) };
    let (neighbor, state, not) =
        (given.text("neighbor", reader), given.text("state", reader), given.text("not", reader));
    let counted = given.get("established").is_some();
    let mut refuse = |key: &str, text: &str| {
        reader.findings.refuse(given.line_of(key), format!("{place}: {text}"));
    };
    let want = match (neighbor, state, not) {
        (Some(_), ..) if counted => {
            refuse("established", "\"established\" counts all sessions; remove it or \"neighbor\"");
            return None;
        }
        (Some(_), Some(_), Some(_)) => {
            refuse("not", "\"state\" and \"not\" exclude each other; keep one");
            return None;
        }
        (Some(neighbor), Some(state), None) => Sessions::Neighbor { neighbor, state, not: false },
        (Some(neighbor), None, Some(state)) => Sessions::Neighbor { neighbor, state, not: true },
        (Some(_), None, None) => {
            refuse("neighbor", "\"neighbor\" needs the \"state\" it must have");
            return None;
        }
        (None, None, None) if all => Sessions::All,
        (None, None, None) if counted => Sessions::Established(established?),
        (None, None, None) => {
            refuse("node", "say how many are \"established\", or which \"neighbor\" has which \"state\"");
            return None;
        }
        (None, ..) => {
            refuse("state", "a state belongs to one session; add its \"neighbor\"");
            return None;
        }
    };
    Some(Check::Sessions { node: node?, want })
}

fn route(place: &str, yaml: &Yaml, reader: &mut Reader<'_>) -> Option<Route> {
    let given = Given::read(&keys::ROUTE, place, yaml, reader.findings);
    let (node, prefix) = (given.place("node", reader), given.prefix("prefix", reader));
    let via: BTreeSet<IpAddr> =
        given.list("via", reader, |name, yaml, reader| reader.address(name, yaml)).into_iter().collect();
    let dev: BTreeSet<String> = given
        .list("dev", reader, |name, yaml, reader| reader.parsed(name, yaml, "", |text| Some(text.to_owned())))
        .into_iter()
        .collect();
    let (nexthops, protocol) = (given.count("nexthops", reader), given.count("protocol", reader));
    if nexthops == Some(0) && !(via.is_empty() && dev.is_empty()) {
        let text = format!("{place}: a route that is absent has no \"via\" and no \"dev\"; remove them");
        reader.findings.refuse(given.line_of("nexthops"), text);
    }
    if let Some(count) = nexthops.filter(|count| *count > 0 && !via.is_empty() && *count != via.len()) {
        let text = format!("{place}: {count} next hops cannot be via {} gateways; correct one", via.len());
        reader.findings.refuse(given.line_of("nexthops"), text);
    }
    Some(Route { node: node?, prefix: prefix?, nexthops, via, dev, protocol })
}

fn ping(place: &str, yaml: &Yaml, reader: &mut Reader<'_>) -> Option<Check> {
    let given = Given::read(&keys::PING, place, yaml, reader.findings);
    let (from, to, source) =
        (given.place("from", reader), given.address("to", reader), given.address("source", reader));
    let size: Option<usize> = given.count("size", reader);
    if size.is_some_and(|size| size > 65_000) {
        let text = format!("{place}: \"size\" is more than a packet holds; use at most 65000");
        reader.findings.refuse(given.line_of("size"), text);
    }
    same_family(&given, to, source, reader);
    Some(Check::Ping { from: from?, to: to?, source, size: size.unwrap_or(PING_BYTES) })
}

fn transfer(place: &str, yaml: &Yaml, reader: &mut Reader<'_>) -> Option<Check> {
    let given = Given::read(&keys::TRANSFER, place, yaml, reader.findings);
    let (from, to, node) =
        (given.place("from", reader), given.address("to", reader), given.place("node", reader));
    let (source, bytes) = (given.address("source", reader), given.count("bytes", reader));
    same_family(&given, to, source, reader);
    Some(Check::Transfer {
        from: from?,
        to: to?,
        node: node?,
        source,
        bytes: bytes.unwrap_or(TRANSFER_BYTES),
    })
}

fn same_family(given: &Given<'_>, to: Option<IpAddr>, source: Option<IpAddr>, reader: &mut Reader<'_>) {
    if let (Some(to), Some(source)) = (to, source)
        && to.is_ipv4() != source.is_ipv4()
    {
        let text = format!("{}: {source} and {to} are of two families; use one", given.place);
        reader.findings.refuse(given.line_of("source"), text);
    }
}

fn command(place: &str, yaml: &Yaml, reader: &mut Reader<'_>) -> Option<Check> {
    let given = Given::read(&keys::COMMAND, place, yaml, reader.findings);
    let node = given.place("node", reader);
    let argv = command_line(&given, "run", reader);
    let exit: Option<u8> = given.count("exit", reader);
    let (stdout, stderr) = (given.text("stdout", reader), given.text("stderr", reader));
    Some(Check::Command { node: node?, argv: argv?, exit: exit.unwrap_or(0).into(), stdout, stderr })
}

fn paths(place: &str, yaml: &Yaml, running: &[String], reader: &mut Reader<'_>) -> Option<Check> {
    let given = Given::read(&keys::PATHS, place, yaml, reader.findings);
    let class = given.get("class").and_then(|class| reader.class(&given.name("class"), class));
    let through = given.list("through", reader, |name, yaml, reader| reader.node(name, yaml));
    if let Some(class) = class.as_ref().filter(|class| !running.contains(class)) {
        let text =
            format!("{place}: class {class} does not run in this step; add it to the step's \"traffic\"");
        reader.findings.refuse(given.line_of("class"), text);
    }
    Some(Check::Paths { class: class?, through })
}

/// In words, as the reports say it.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sessions { node, want } => {
                let node = node.as_deref().unwrap_or("every node");
                match want {
                    Sessions::All => write!(f, "{node}: all sessions Established"),
                    Sessions::Established(count) => write!(f, "{node}: {count} sessions Established"),
                    Sessions::Neighbor { neighbor, state, not: false } => {
                        write!(f, "{node}: session {neighbor} {state}")
                    }
                    Sessions::Neighbor { neighbor, state, not: true } => {
                        write!(f, "{node}: session {neighbor} not {state}")
                    }
                }
            }
            Self::Route(route) => route.fmt(f),
            Self::Ping { from, to, .. } => write!(f, "{from}: ping {to}"),
            Self::Transfer { from, to, bytes, .. } => write!(f, "{from}: {bytes} bytes to {to}"),
            Self::Command { node, argv, .. } => write!(f, "{node}: {}", argv.join(" ")),
            Self::Same => f.write_str("RIB, kernel and neighbours agree everywhere"),
            Self::Paths { class, through } => write!(f, "{class} through {}", through.join(", ")),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.node, self.prefix)?;
        match self.nexthops {
            Some(0) => return f.write_str(" absent"),
            Some(1) => f.write_str(" over 1 next hop")?,
            Some(count) => write!(f, " over {count} next hops")?,
            None => {}
        }
        let joined = |words: Vec<String>| words.join(", ");
        if !self.via.is_empty() {
            write!(f, " via {}", joined(self.via.iter().map(IpAddr::to_string).collect()))?;
        }
        if !self.dev.is_empty() {
            write!(f, " dev {}", joined(self.dev.iter().cloned().collect()))?;
        }
        Ok(())
    }
}
