//! The promise of v1alpha1: fields are only ever added.
//!
//! `v1alpha1.txt` lists every field that a release has had, one a line: kind and path, type, `required` where it
//! must be given, and the words of an enumeration. What is stored in a cluster or lies in a file stays readable: no
//! field goes away, changes its type or has to be given from now on, and no word is lost.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

const LIST: &str = include_str!("v1alpha1.txt");

/// What a reader of stored objects relies on.
#[derive(Debug, PartialEq, Eq)]
struct Field {
    kind: String,
    required: bool,
    words: BTreeSet<String>,
}

impl Field {
    fn of(schema: &Value, required: bool) -> Self {
        let words = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
        let kind = schema.get("type").and_then(Value::as_str).unwrap_or("int-or-string");
        Self {
            kind: kind.to_owned(),
            required,
            words: words.filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }

    /// `string required Auto|Always|Never`
    fn line(&self) -> String {
        let mut line = self.kind.clone();
        if self.required {
            line.push_str(" required");
        }
        if !self.words.is_empty() {
            line.push(' ');
            line.push_str(&self.words.iter().map(String::as_str).collect::<Vec<_>>().join("|"));
        }
        line
    }

    fn parse(line: &str) -> Self {
        let mut parts = line.split(' ');
        let kind = parts.next().expect("a type").to_owned();
        let (mut required, mut words) = (false, BTreeSet::new());
        for part in parts {
            match part {
                "required" => required = true,
                part => words.extend(part.split('|').map(str::to_owned)),
            }
        }
        Self { kind, required, words }
    }
}

/// Fields of all kinds by kind and path: `BGPPeer.spec.families[].afi`.
fn fields() -> BTreeMap<String, Field> {
    let mut fields = BTreeMap::new();
    for definition in api::crd::definitions() {
        let kind = definition.pointer("/spec/names/kind").and_then(Value::as_str).expect("a kind");
        collect(
            kind,
            definition.pointer("/spec/versions/0/schema/openAPIV3Schema").expect("a schema"),
            &mut fields,
        );
    }
    fields
}

fn collect(path: &str, schema: &Value, fields: &mut BTreeMap<String, Field>) {
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    let required: Vec<&str> = required.filter_map(Value::as_str).collect();
    for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = format!("{path}.{name}");
        fields.insert(path.clone(), Field::of(inner, required.contains(&name.as_str())));
        collect(&path, inner, fields);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(inner) = schema.get(key) {
            let path = format!("{path}{mark}");
            fields.insert(path.clone(), Field::of(inner, false));
            collect(&path, inner, fields);
        }
    }
}

/// What breaks the promise, and the lines that are missing in the list.
fn compare(listed: &BTreeMap<String, Field>, now: &BTreeMap<String, Field>) -> (Vec<String>, Vec<String>) {
    let mut broken = Vec::new();
    for (path, before) in listed {
        let Some(field) = now.get(path) else {
            broken.push(format!("{path} is gone; fields are only ever added"));
            continue;
        };
        if field.kind != before.kind {
            broken.push(format!("{path} was {} and is {} now", before.kind, field.kind));
        }
        if field.required && !before.required {
            broken.push(format!("{path} must be given from now on"));
        }
        let lost: Vec<&str> = before.words.difference(&field.words).map(String::as_str).collect();
        if !lost.is_empty() {
            broken.push(format!("{path} takes {} no more", lost.join(", ")));
        }
    }
    let mut missing = Vec::new();
    for (path, field) in now {
        if listed.get(path) == Some(field) {
            continue;
        }
        let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
        let is_old = |parent: &str| {
            listed.keys().any(|path| {
                path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        if field.required && !listed.contains_key(path) && is_old(parent) {
            broken.push(format!("{path} is new and must be given, where older objects do not have it"));
        }
        missing.push(format!("{path} {}", field.line()));
    }
    (broken, missing)
}

fn listed() -> BTreeMap<String, Field> {
    let line = |line: &str| {
        let (path, field) = line.split_once(' ').expect("a path and a field");
        (path.to_owned(), Field::parse(field))
    };
    LIST.lines().map(line).collect()
}

#[test]
fn fields_are_only_ever_added() {
    let (broken, missing) = compare(&listed(), &fields());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(
        missing.is_empty(),
        "api/tests/v1alpha1.txt does not know these; put these lines in it, in place of older ones of the same field:\n{}",
        missing.join("\n")
    );
}

#[test]
fn each_way_to_break_the_promise_is_found() {
    let list = |lines: &[&str]| -> BTreeMap<String, Field> {
        lines
            .iter()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(path, field)| (path.into(), Field::parse(field)))
            .collect()
    };
    let before = list(&[
        "Pool.spec object required",
        "Pool.spec.a string x|y",
        "Pool.spec.b integer",
        "Pool.spec.c boolean",
    ]);
    let now = list(&[
        "Pool.spec object required",
        "Pool.spec.a string y|z",
        "Pool.spec.b string",
        "Pool.spec.d object required",
    ]);
    let (broken, missing) = compare(&before, &now);
    assert_eq!(
        broken,
        [
            "Pool.spec.a takes x no more",
            "Pool.spec.b was integer and is string now",
            "Pool.spec.c is gone; fields are only ever added",
            "Pool.spec.d is new and must be given, where older objects do not have it",
        ]
    );
    assert_eq!(missing, ["Pool.spec.a string y|z", "Pool.spec.b string", "Pool.spec.d object required"]);
    let required = list(&["Pool.spec object required", "Pool.spec.a string required x|y"]);
    let (broken, _) = compare(&list(&["Pool.spec object required", "Pool.spec.a string x|y"]), &required);
    assert_eq!(broken, ["Pool.spec.a must be given from now on"]);
}
