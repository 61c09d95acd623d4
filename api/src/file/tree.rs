//! YAML text as a tree that remembers where everything stood.
//!
//! In: one file's text. Out: its documents as [`Node`]s, and what is wrong with the text itself
//! (syntax, duplicate keys, tags, limits). Aliases are copied in, under the same limits, so that a few
//! lines cannot grow into gigabytes.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::scalar::{Meaning, Scalar};
use crate::problem::show;

/// Most nodes of one file, aliases counted as often as they are used.
const MAX_NODES: usize = 100_000;
/// Deepest nesting.
const MAX_DEPTH: usize = 64;

/// Where something starts: line and column from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// One value with its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Not quoted.
    pub(crate) plain: bool,
    pub(crate) place: Place,
    pub(crate) node: Node,
}

/// A fault of the text itself.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) place: Place,
    pub(crate) message: String,
}

/// What a text held.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) documents: Vec<Node>,
    pub(crate) faults: Vec<Fault>,
    /// Whether it was read to its end.
    pub(crate) complete: bool,
}

/// JSON has no places, and says itself what is text.
impl From<&serde_json::Value> for Node {
    fn from(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let scalar = |text: String, plain| Value::Scalar(Scalar { text, plain });
        let place = Place { line: 0, column: 0 };
        let value = match json {
            Json::String(text) => scalar(text.clone(), false),
            Json::Null | Json::Bool(_) | Json::Number(_) => scalar(json.to_string(), true),
            Json::Array(items) => Value::List(items.iter().map(Self::from).collect()),
            Json::Object(entries) => {
                let entry = |(key, value): (&String, &Json)| Entry {
                    key: key.clone(),
                    plain: false,
                    place,
                    node: Self::from(value),
                };
                Value::Map(entries.iter().map(entry).collect())
            }
        };
        Self { place, value }
    }
}

impl Node {
    /// The value of a key, when this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The text of a key, whatever form it was written in.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.node.value {
            Value::Scalar(scalar) if !matches!(scalar.meaning(), Meaning::Null) => Some(&scalar.text),
            _ => None,
        }
    }

    /// Adds every scalar and key in it that YAML 1.1 reads otherwise.
    pub(crate) fn traps(&self, found: &mut Vec<(String, u32)>) {
        match &self.value {
            Value::Scalar(scalar) => {
                found.extend(scalar.trap().map(|_| (scalar.text.clone(), self.place.line)))
            }
            Value::List(items) => items.iter().for_each(|item| item.traps(found)),
            Value::Map(entries) => {
                for entry in entries {
                    let key = Scalar { text: entry.key.clone(), plain: entry.plain };
                    found.extend(key.trap().map(|_| (key.text.clone(), entry.place.line)));
                    entry.node.traps(found);
                }
            }
        }
    }

    /// Where `path` (`spec.families[0].afi`) stands, or else its nearest parent that is there.
    pub(crate) fn locate(&self, path: &str) -> Place {
        let mut node = self;
        let mut place = self.place;
        for step in path.split(['.', '[']) {
            let next = match (&node.value, step.strip_suffix(']')) {
                (Value::List(items), Some(index)) => index
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get(index))
                    .map(|item| (item.place, item)),
                (_, None) => node.get(step).map(|entry| (entry.place, &entry.node)),
                _ => None,
            };
            let Some((found, inner)) = next else { break };
            place = found;
            node = inner;
        }
        place
    }
}

/// Reads every document of `text`; the faults come in the order of the text. After a syntax error
/// nothing can be said about the rest, so the documents before it are returned.
pub(crate) fn parse(text: &str) -> Parsed {
    let mut builder = Builder::default();
    let mut complete = true;
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((event, span)) => builder.event(event, span),
            Err(error) => {
                let marker = error.marker();
                let place = place_at(marker.line(), marker.col());
                Err(Fault { place, message: syntax_message(text, place, error.info()) })
            }
        };
        if let Err(fault) = step {
            builder.faults.push(fault);
            complete = false;
            break;
        }
    }
    Parsed { documents: builder.documents, faults: builder.faults, complete }
}

fn place_at(line: usize, column: usize) -> Place {
    Place {
        line: u32::try_from(line).unwrap_or(u32::MAX).max(1),
        column: u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1),
    }
}

fn syntax_message(text: &str, place: Place, info: &str) -> String {
    let line = usize::try_from(place.line).ok().and_then(|line| text.lines().nth(line.saturating_sub(1)));
    let indent = line.map(|line| line.split(|c: char| !c.is_whitespace()).next().unwrap_or_default());
    if indent.is_some_and(|indent| indent.contains('\t')) {
        return "a tab stands in the indentation; YAML indents with spaces".into();
    }
    format!("not YAML: {info}")
}

/// Turns events into nodes without recursion.
#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    faults: Vec<Fault>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

/// A list or map whose end has not come yet.
struct Open {
    place: Place,
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<(Scalar, Place)>, lines: HashMap<String, u32> },
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let place = place_at(span.start.line(), span.start.col());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text_tag = tag.as_deref().is_some_and(is_text);
                self.refuse_tag(tag.as_deref(), place);
                let plain = style == ScalarStyle::Plain && !text_tag;
                let scalar = Scalar { text: text.into_owned(), plain };
                self.add(Node { place, value: Value::Scalar(scalar) }, anchor, 1)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), place);
                self.open(Open { place, anchor, kind: OpenKind::List(Vec::new()) })
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), place);
                self.open(Open {
                    place,
                    anchor,
                    kind: OpenKind::Map { entries: Vec::new(), key: None, lines: HashMap::new() },
                })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let value = match open.kind {
                    OpenKind::List(items) => Value::List(items),
                    OpenKind::Map { entries, .. } => Value::Map(entries),
                };
                self.add(Node { place: open.place, value }, open.anchor, 1)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(Fault {
                        place,
                        message: "the alias names an anchor that is not complete here".into(),
                    });
                };
                // Measured before it is copied; `add` counts the copy, which is never larger than a whole file.
                let (size, depth) = measure(node);
                if self.open.len() + depth > MAX_DEPTH {
                    return Err(too_deep(place));
                }
                let node = node.clone();
                self.add(node, 0, size)
            }
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn open(&mut self, open: Open) -> Result<(), Fault> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(open.place));
        }
        self.open.push(open);
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: usize, size: usize) -> Result<(), Fault> {
        self.nodes += size;
        if self.nodes > MAX_NODES {
            return Err(too_many(node.place));
        }
        if anchor > 0 {
            // An anchored copy is held beside the original: it counts twice.
            self.nodes += measure(&node).0;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.documents.push(node),
            Some(OpenKind::List(items)) => items.push(node),
            Some(OpenKind::Map { entries, key, lines }) => match key.take() {
                Some((key, place)) => match lines.get(&key.text) {
                    Some(first) => {
                        let message =
                            format!("{} is given twice, first in line {first}; keep one", show(&key.text));
                        self.faults.push(Fault { place, message });
                    }
                    None => {
                        lines.insert(key.text.clone(), place.line);
                        entries.push(Entry { key: key.text, plain: key.plain, place, node });
                    }
                },
                None => match node.value {
                    Value::Scalar(scalar) => *key = Some((scalar, node.place)),
                    _ => {
                        return Err(Fault {
                            place: node.place,
                            message: "a list or map cannot be a key; write text".into(),
                        });
                    }
                },
            },
        }
        Ok(())
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, place: Place) {
        if let Some(tag) = tag.filter(|tag| !is_text(tag)) {
            let name = format!("{}{}", tag.handle, tag.suffix).replace("tag:yaml.org,2002:", "!!");
            let message = format!("the tag {} has no meaning here; remove it", show(&name));
            self.faults.push(Fault { place, message });
        }
    }
}

fn too_deep(place: Place) -> Fault {
    Fault { place, message: format!("nested deeper than {MAX_DEPTH} levels; no resource needs that") }
}

fn too_many(place: Place) -> Fault {
    Fault { place, message: format!("more than {MAX_NODES} values, aliases included; split the file") }
}

fn is_text(tag: &Tag) -> bool {
    tag.is_yaml_core_schema() && tag.suffix == "str"
}

/// Nodes in it and levels of nesting.
fn measure(node: &Node) -> (usize, usize) {
    let children: Vec<&Node> = match &node.value {
        Value::Scalar(_) => return (1, 0),
        Value::List(items) => items.iter().collect(),
        Value::Map(entries) => entries.iter().map(|entry| &entry.node).collect(),
    };
    children
        .into_iter()
        .map(measure)
        .fold((1, 1), |(size, depth), (inner, below)| (size + inner, depth.max(below + 1)))
}
