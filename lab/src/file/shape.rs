//! Whether a file has the shape of a topology at all, before its fields are read.
//!
//! A file of another kind, or one whose parts stand in the wrong place, would otherwise be told as
//! many mistakes that are one.

use crate::file::problem::{Findings, nearest};
use crate::file::yaml::{Value, Yaml};

const PARTS: [&str; 5] = ["nodes", "links", "defaults", "kinds", "groups"];

/// Refuses a file that cannot be read further; true: it can.
pub(crate) fn check(root: &Yaml, findings: &mut Findings) -> bool {
    let before = findings.problems.len();
    match &root.value {
        Value::Null => {
            findings.refuse(1, "the file is empty; write a \"name\" and a \"topology\" with \"nodes\"")
        }
        Value::Scalar(_) | Value::Seq(_) => {
            let text =
                format!("a topology file takes a mapping, not {}; start with `name: ...`", root.kind());
            findings.refuse(root.line, text);
        }
        Value::Map(entries) if entries.is_empty() => {
            findings.refuse(
                root.line,
                "the file says nothing; write a \"name\" and a \"topology\" with \"nodes\"",
            );
        }
        Value::Map(entries) => {
            let meant = |word: &str| entries.iter().any(|(key, _)| nearest(&key.text, [word]).is_some());
            for (key, _) in entries.iter().filter(|(key, _)| PARTS.contains(&key.text.as_str())) {
                let text = format!("\"{}\" stands outside \"topology\"; move it below that", key.text);
                findings.refuse(key.line, text);
            }
            if findings.problems.len() == before && !meant("name") && !meant("topology") {
                let text = "this is no topology: it has neither \"name\" nor \"topology\"; name another file";
                findings.refuse(root.line, text);
            }
            if let Some(name) = value(root, "name").filter(|name| is_more_than_text(name)) {
                let text = format!("\"name\" takes a text, not {}; write one word", name.kind());
                findings.refuse(name.line, text);
            }
            check_parts(root, findings);
        }
    }
    findings.problems.len() == before
}

fn check_parts(root: &Yaml, findings: &mut Findings) {
    let Some(topology) = value(root, "topology") else { return };
    if matches!(topology.value, Value::Scalar(_) | Value::Seq(_)) {
        let remedy = "write `nodes:` and `links:` below it";
        findings.refuse(
            topology.line,
            format!("\"topology\" takes a mapping, not {}; {remedy}", topology.kind()),
        );
    }
    let Some(Yaml { value: Value::Map(nodes), .. }) = value(topology, "nodes") else { return };
    for (key, value) in nodes {
        if key.text == "links" && matches!(value.value, Value::Seq(_)) {
            findings
                .refuse(key.line, "\"links\" stands below \"nodes\"; indent it as far as \"nodes\" itself");
        }
    }
}

fn value<'y>(yaml: &'y Yaml, name: &str) -> Option<&'y Yaml> {
    let Value::Map(entries) = &yaml.value else { return None };
    entries.iter().find(|(key, _)| key.text == name).map(|(_, value)| value)
}

fn is_more_than_text(yaml: &Yaml) -> bool {
    matches!(yaml.value, Value::Seq(_) | Value::Map(_))
}
