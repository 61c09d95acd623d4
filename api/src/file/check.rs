//! A document's tree against its kind's schema: shapes, types, words, names.
//!
//! In: a [`Node`] and the generated schema. Out: the value for serde, without what was refused, and a
//! [`Fault`](super::tree::Fault) with a path for each thing refused. What several fields or documents must agree on is
//! checked later, in `build`.

use serde_json::{Map, Value as Json, json};

use super::scalar::{Meaning, Scalar};
use super::tree::{Entry, Node, Place, Value};
use super::unimplemented;
use crate::problem::{nearest, show};
use crate::words::Interval;

/// A refused field.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) place: Place,
    pub(crate) path: String,
    pub(crate) message: String,
}

/// What becomes of fields the schema does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// They are mistakes.
    Refused,
    /// They are for a newer release.
    Ignored,
}

/// Checks `node` as the field `path` of a `kind` and returns what serde can read.
pub(crate) fn check(
    kind: &str,
    node: &Node,
    path: &str,
    schema: &Json,
    unknown: Unknown,
) -> (Option<Json>, Vec<Refusal>) {
    let mut checker = Checker { kind, unknown, refusals: Vec::new() };
    let value = checker.value(node, node.place, path, schema);
    (value, checker.refusals)
}

struct Checker<'a> {
    kind: &'a str,
    unknown: Unknown,
    refusals: Vec<Refusal>,
}

impl Checker<'_> {
    fn refuse(&mut self, place: Place, path: &str, message: impl Into<String>) -> Option<Json> {
        self.refusals.push(Refusal { place, path: path.into(), message: message.into() });
        None
    }

    fn value(&mut self, node: &Node, place: Place, path: &str, schema: &Json) -> Option<Json> {
        if let Value::Scalar(scalar) = &node.value
            && scalar.meaning() == Meaning::Null
        {
            return None;
        }
        if schema.get("x-kubernetes-int-or-string").is_some() {
            return self.int_or_text(node, place, path);
        }
        match (schema.get("type").and_then(Json::as_str), &node.value) {
            (Some("object"), Value::Map(entries)) => self.map(entries, place, path, schema),
            (Some("array"), Value::List(items)) => self.list(items, place, path, schema),
            (Some("string"), Value::Scalar(scalar)) => self.text(scalar, place, path, schema),
            (Some("integer"), Value::Scalar(scalar)) => self.integer(scalar, place, path, schema),
            (Some("boolean"), Value::Scalar(scalar)) => self.boolean(scalar, place, path),
            (Some("object"), _) => self.refuse(place, path, format!("{}; give a map", self.found(node))),
            (Some("array"), _) => self.refuse(
                place,
                path,
                format!("{}; give a list, with - before each entry", self.found(node)),
            ),
            (Some("string"), _) => self.refuse(place, path, format!("{}; give text", self.found(node))),
            (Some("integer"), _) => {
                self.refuse(place, path, format!("{}; give a whole number", self.found(node)))
            }
            (Some("boolean"), _) => {
                self.refuse(place, path, format!("{}; give true or false", self.found(node)))
            }
            // A field without a type is taken as it is: only status and parts of metadata are so.
            (_, _) => None,
        }
    }

    fn map(&mut self, entries: &[Entry], place: Place, path: &str, schema: &Json) -> Option<Json> {
        let known = schema.get("properties").and_then(Json::as_object);
        let others = schema.get("additionalProperties").filter(|others| others.is_object());
        let mut map = Map::new();
        let before = self.refusals.len();
        for entry in entries {
            let inner = join(path, &entry.key);
            match known.and_then(|known| known.get(&entry.key)).or(others) {
                Some(schema) => {
                    // Labels have keys of their own; ours are never read as something else.
                    let key = Scalar { text: entry.key.clone(), plain: entry.plain };
                    if let Some(what) = key.trap() {
                        let fault = format!("older YAML readers take the key {{}} for {what}");
                        self.refuse(entry.place, &inner, self.quote_me(&key, &fault));
                        continue;
                    }
                    if let Some(value) = self.value(&entry.node, entry.place, &inner, schema) {
                        map.insert(entry.key.clone(), value);
                    }
                }
                None if self.unknown == Unknown::Ignored => {}
                None => self.unknown(entry, &inner, known),
            }
        }
        for name in
            schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str)
        {
            let inner = join(path, name);
            // Given but refused is no second mistake.
            let schema = known.and_then(|known| known.get(name)).unwrap_or(&Json::Null);
            if !map.contains_key(name)
                && !self.refusals.iter().skip(before).any(|refusal| is_inside(&refusal.path, &inner))
            {
                let place = entries.iter().find(|entry| entry.key == name).map_or(place, |entry| entry.place);
                self.refuse(place, &inner, format!("is missing; {}", remedy(self.kind, &inner, schema)));
            }
            map.entry(name).or_insert_with(|| placeholder(schema));
        }
        Some(Json::Object(map))
    }

    fn unknown(&mut self, entry: &Entry, path: &str, known: Option<&Map<String, Json>>) {
        let names = || known.into_iter().flatten().map(|(name, _)| name.as_str());
        let message = if unimplemented::field(self.kind, path) {
            "is not implemented yet; remove it".to_owned()
        } else if entry.key == "<<" {
            "merge keys are not read; write the fields out".to_owned()
        } else if path == "metadata.namespace" {
            format!("a {} belongs to no namespace; remove it", self.kind)
        } else if let Some(parent) = known.and_then(|known| parent_of(&entry.key, known)) {
            format!("unknown field here; it belongs under {parent}")
        } else if let Some(name) = nearest(&entry.key, names()) {
            format!("unknown field; did you mean {name}?")
        } else if names().next().is_none() {
            "unknown field; nothing is to be written here: remove it".to_owned()
        } else {
            format!("unknown field; known here: {}", names().collect::<Vec<_>>().join(", "))
        };
        self.refuse(entry.place, path, message);
    }

    fn list(&mut self, items: &[Node], place: Place, path: &str, schema: &Json) -> Option<Json> {
        let inner = schema.get("items").unwrap_or(&Json::Null);
        let mut list = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let before = self.refusals.len();
            let value = self.value(item, item.place, &path, inner);
            if value.is_none() && self.refusals.len() == before {
                self.refuse(item.place, &path, "an empty entry is not allowed; remove it");
            }
            list.push(value.unwrap_or_else(|| placeholder(inner)));
        }
        let least = schema.get("minItems").and_then(Json::as_u64).unwrap_or(0);
        if least > 0 && items.is_empty() {
            return self.refuse(place, path, "an empty list is not allowed; give at least one entry");
        }
        Some(Json::Array(list))
    }

    fn text(&mut self, scalar: &Scalar, place: Place, path: &str, schema: &Json) -> Option<Json> {
        let interval = schema.get("title").and_then(Json::as_str) == Some(Interval::TITLE);
        let words = schema.get("enum").and_then(Json::as_array);
        if let Some(words) = words {
            let known = || words.iter().filter_map(Json::as_str);
            if known().any(|word| word == scalar.text) {
                return Some(json!(scalar.text));
            }
            let all = || known().collect::<Vec<_>>().join(", ");
            let found = show(&scalar.text);
            let message = if unimplemented::word(self.kind, path, &scalar.text) {
                format!("{found} is not implemented yet; use {}", all())
            } else if let Some(word) = nearest(&scalar.text, known()).filter(|_| words.len() > 1) {
                format!("{found} is not allowed; did you mean {word}? Known: {}", all())
            } else {
                format!("{found} is not allowed; use {}", all())
            };
            return self.refuse(place, path, message);
        }
        if let Some(what) = scalar.trap() {
            return self.refuse(
                place,
                path,
                self.quote_me(scalar, &format!("older YAML readers take {{}} for {what}")),
            );
        }
        match scalar.meaning() {
            Meaning::Text(text) => Some(json!(text)),
            Meaning::Int(number) if interval => {
                self.refuse(place, path, format!("{number} has no unit; write {number}s for seconds"))
            }
            Meaning::Bool(_) => self.refuse(place, path, self.quote_me(scalar, "{} is a boolean")),
            Meaning::Int(_) | Meaning::Decimal => {
                self.refuse(place, path, self.quote_me(scalar, "{} is a number"))
            }
            Meaning::Null => None,
        }
    }

    fn int_or_text(&mut self, node: &Node, place: Place, path: &str) -> Option<Json> {
        let Value::Scalar(scalar) = &node.value else {
            return self.refuse(place, path, format!("{}; give a number or a word", self.found(node)));
        };
        if let Some(what) = scalar.trap() {
            return self.refuse(
                place,
                path,
                format!(
                    "{} is {what} to older YAML readers; write it as a decimal number",
                    show(&scalar.text)
                ),
            );
        }
        match scalar.meaning() {
            Meaning::Int(number) => Some(json!(number)),
            Meaning::Text(text) => Some(json!(text)),
            // 65000.10 as a number is 65000.1: another AS.
            Meaning::Decimal => {
                self.refuse(place, path, self.quote_me(scalar, "{} is read as a decimal fraction"))
            }
            Meaning::Bool(_) | Meaning::Null => {
                self.refuse(place, path, format!("{}; give a number or a word", self.found(node)))
            }
        }
    }

    fn integer(&mut self, scalar: &Scalar, place: Place, path: &str, schema: &Json) -> Option<Json> {
        let least = schema.get("minimum").and_then(Json::as_i64);
        let most = schema.get("maximum").and_then(Json::as_i64);
        let range = match (least, most) {
            (Some(least), Some(most)) => format!("{least} to {most}"),
            _ => "a whole number".into(),
        };
        let found = show(&scalar.text);
        if let Some(what) = scalar.trap() {
            return self.refuse(
                place,
                path,
                format!("{found} is {what} to older YAML readers; use {range}, in decimal"),
            );
        }
        match scalar.meaning() {
            Meaning::Int(number)
                if least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most) =>
            {
                Some(json!(number))
            }
            Meaning::Text(text) if !scalar.plain && text.parse::<i64>().is_ok() => {
                self.refuse(place, path, format!("\"{found}\" is text; write it without quotes"))
            }
            _ => self.refuse(place, path, format!("{found} is not allowed; use {range}")),
        }
    }

    fn boolean(&mut self, scalar: &Scalar, place: Place, path: &str) -> Option<Json> {
        match scalar.meaning() {
            Meaning::Bool(value) => Some(json!(value)),
            _ => {
                let remedy = match scalar.text.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "y" | "enabled" | "true" => "write true, without quotes",
                    "no" | "off" | "n" | "disabled" | "false" => "write false, without quotes",
                    _ => "use true or false",
                };
                let found = show(&scalar.text);
                let found = if scalar.plain { found } else { format!("\"{found}\"") };
                self.refuse(place, path, format!("{found} is not allowed; {remedy}"))
            }
        }
    }

    /// What stands there, never the content of a Secret.
    fn found(&self, node: &Node) -> String {
        match &node.value {
            Value::List(_) => "a list is not allowed".into(),
            Value::Map(_) => "a map is not allowed".into(),
            Value::Scalar(_) if self.hides() => "a single value is not allowed".into(),
            Value::Scalar(scalar) => format!("{} is not allowed", show(&scalar.text)),
        }
    }

    fn quote_me(&self, scalar: &Scalar, fault: &str) -> String {
        if self.hides() {
            return format!("{}; write it in quotes", fault.replace("{}", "it"));
        }
        let shown = show(&scalar.text);
        format!("{}; write \"{shown}\" in quotes", fault.replace("{}", &shown))
    }

    fn hides(&self) -> bool {
        self.kind == "Secret"
    }
}

fn join(path: &str, key: &str) -> String {
    let key = show(key);
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// `spec.timers.hold` is inside `spec.timers` and inside itself, `spec.families[0]` inside `spec.families`.
fn is_inside(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The field of `known` that has a field `name` in it.
fn parent_of<'a>(name: &str, known: &'a Map<String, Json>) -> Option<&'a str> {
    let has = |schema: &Json| schema.get("properties").is_some_and(|inner| inner.get(name).is_some());
    known.iter().find(|(_, schema)| has(schema)).map(|(parent, _)| parent.as_str())
}

/// Stands for a needed field that was refused, so that the rest of the document can be read and checked.
/// What is then found about it is left out as a consequence of the refusal.
fn placeholder(schema: &Json) -> Json {
    if let Some(word) = schema.get("enum").and_then(Json::as_array).and_then(|words| words.first()) {
        return word.clone();
    }
    match schema.get("type").and_then(Json::as_str) {
        Some("object") => {
            let needed = schema
                .get("required")
                .and_then(Json::as_array)
                .into_iter()
                .flatten()
                .filter_map(Json::as_str);
            let inner =
                |name: &str| schema.get("properties").and_then(|known| known.get(name)).map(placeholder);
            Json::Object(needed.filter_map(|name| Some((name.to_owned(), inner(name)?))).collect())
        }
        Some("array") => json!([]),
        Some("boolean") => json!(false),
        Some("integer") => schema.get("minimum").cloned().unwrap_or_else(|| json!(0)),
        Some("string") => json!(""),
        _ => json!(0),
    }
}

/// What to give where something needed is missing.
fn remedy(kind: &str, path: &str, schema: &Json) -> String {
    let remedy = match (kind, path) {
        ("BGPPeer", "spec.neighbor") => "give neighbor: {address: ADDRESS} or {listen: {ranges: [PREFIX]}}",
        ("BGPPeer", "spec.remoteASN") => "give a number, external, internal or any",
        ("Advertisement", "spec.source") => {
            "give source: {static: {cidrs: [PREFIX]}}, {interfaces: {names: [NAME]}} or {podBlocks: {}}"
        }
        ("IPPool", "spec.cidrs") => "give a list of prefixes",
        (_, "metadata" | "metadata.name") => "give the resource a name",
        _ => {
            let words = |field: &str| {
                let words = schema.get(field)?.as_array()?.iter().filter_map(Json::as_str);
                Some(words.collect::<Vec<_>>().join(", "))
            };
            return match (words("enum"), words("required")) {
                (Some(words), _) => format!("use {words}"),
                (_, Some(fields)) => format!("give at least {fields}"),
                _ => "give a value".into(),
            };
        }
    };
    remedy.into()
}
