//! One YAML document: which resource it is, and its way from tree to typed spec.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use k8s_openapi::ByteString;
use serde_json::{Value as Json, json};

use super::check::{Refusal, Unknown, check};
use super::scalar::Meaning;
use super::tree::{Node, Value};
use super::unimplemented;
use crate::build::{Object, Spec};
use crate::crd::API_VERSION;
use crate::desired::Secret;
use crate::problem::{Problem, nearest, show};

/// The kinds of towpath.io.
pub(crate) const KINDS: [&str; 5] = ["NetworkConfig", "BGPPeer", "Advertisement", "IPPool", "NodeNetwork"];

/// A document that names a resource of ours, or a Secret.
#[derive(Debug)]
pub(super) struct Document {
    file: String,
    root: Node,
    refused: BTreeSet<String>,
    pub(super) object: Object,
}

/// What a YAML document turned out to be.
pub(super) enum Read {
    /// A resource, perhaps with problems.
    Document(Box<Document>),
    /// Nothing between two separators.
    Empty,
    /// No kind of ours.
    Refused,
}

impl Document {
    /// Reads one document. What is wrong goes to `problems`.
    pub(super) fn read(file: &str, root: Node, problems: &mut Vec<Problem>) -> Read {
        if let Value::Scalar(scalar) = &root.value
            && scalar.meaning() == Meaning::Null
        {
            return Read::Empty;
        }
        let kind = match kind(&root) {
            Ok(kind) => kind,
            Err((path, message)) => {
                problems.push(problem(file, &root, &resource(&root), path, message));
                return Read::Refused;
            }
        };
        let (value, refusals) = check(kind, &root, "", document_schema(kind), Unknown::Refused);
        let resource = resource(&root);
        let typed = value.as_ref().map(|value| typed(kind, value));
        let mut document = Self {
            file: file.into(),
            object: Object {
                name: root
                    .get("metadata")
                    .and_then(|entry| entry.node.text("name"))
                    .unwrap_or_default()
                    .into(),
                namespace: root
                    .get("metadata")
                    .and_then(|entry| entry.node.text("namespace"))
                    .map(Into::into),
                spec: unreadable(kind),
            },
            refused: refusals.iter().map(|refusal| refusal.path.clone()).collect(),
            root,
        };
        for Refusal { place, path, message } in refusals {
            let (line, column) = (Some(place.line), Some(place.column));
            problems.push(Problem {
                file: file.into(),
                line,
                column,
                resource: resource.clone(),
                path,
                message,
            });
        }
        document.check_name(problems);
        match typed {
            _ if kind == "Secret" => document.read_secret(value.as_ref(), problems),
            Some(Ok(spec)) => document.object.spec = spec,
            // The schema let it pass, so nothing has been said about it yet.
            Some(Err(error)) if document.refused.is_empty() => {
                document.refuse(problems, "spec", format!("cannot be read: {error}"));
            }
            Some(Err(_)) | None => {}
        }
        Read::Document(Box::new(document))
    }

    /// Whether a finding about `path` only repeats a refusal: the same field, one in it, or one around it.
    pub(super) fn follows_from_refusal(&self, path: &str) -> bool {
        let around = path.match_indices(['.', '[']).filter_map(|(end, _)| path.get(..end));
        let inside = ['.', '['].map(|next| format!("{path}{next}"));
        self.refused.contains(path)
            || around.into_iter().any(|outer| self.refused.contains(outer))
            || inside.iter().any(|start| {
                self.refused.range(start.clone()..).next().is_some_and(|refused| refused.starts_with(start))
            })
    }

    /// A problem of the field `path`.
    pub(super) fn problem(&self, path: &str, message: String) -> Problem {
        problem(&self.file, &self.root, &resource(&self.root), path, message)
    }

    /// `fabric.yaml:14`.
    pub(super) fn position(&self, path: &str) -> String {
        format!("{}:{}", self.file, self.root.locate(path).line)
    }

    fn refuse(&mut self, problems: &mut Vec<Problem>, path: &str, message: impl Into<String>) {
        self.refused.insert(path.into());
        problems.push(self.problem(path, message.into()));
    }

    /// RFC 1123, as Kubernetes asks of names.
    fn check_name(&mut self, problems: &mut Vec<Problem>) {
        const PATH: &str = "metadata.name";
        if self.follows_from_refusal(PATH) {
            return;
        }
        let name = self.object.name.clone();
        let edges = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let fits = name.len() <= 253
            && name.split('.').all(|part| part.starts_with(edges) && part.ends_with(edges))
            && name.chars().all(|c| edges(c) || matches!(c, '-' | '.'));
        if !fits {
            let message = format!("{} is not allowed; use lower-case letters, digits, - and .", show(&name));
            self.refuse(problems, PATH, message);
        }
    }

    /// `data` is base64, `stringData` is text and wins.
    fn read_secret(&mut self, value: Option<&Json>, problems: &mut Vec<Problem>) {
        let mut entries = BTreeMap::new();
        let part = |name: &str| {
            value.and_then(|value| value.get(name)).and_then(Json::as_object).into_iter().flatten()
        };
        for (key, encoded) in part("data") {
            match serde_json::from_value::<ByteString>(encoded.clone()) {
                Ok(ByteString(octets)) => {
                    entries.insert(key.clone(), Secret::new(octets));
                }
                Err(_) => {
                    let path = format!("data.{}", show(key));
                    self.refuse(
                        problems,
                        &path,
                        "is not base64; encode it, or put the text under stringData",
                    );
                }
            }
        }
        for (key, text) in part("stringData") {
            entries.insert(key.clone(), Secret::new(text.as_str().unwrap_or_default()));
        }
        // A reference to a key that was refused is not a second mistake.
        self.object.spec = if self.refused.is_empty() { Spec::Secret(entries) } else { unreadable("Secret") };
    }
}

/// Its problems are reported where they are found.
fn unreadable(kind: &'static str) -> Spec {
    Spec::Unreadable { kind, problems: Vec::new() }
}

/// The kind, or the field that makes it none of ours.
fn kind(root: &Node) -> Result<&'static str, (&'static str, String)> {
    if !matches!(root.value, Value::Map(_)) {
        return Err(("", "is no resource; start with apiVersion, kind, metadata and spec".into()));
    }
    let Some(version) = root.text("apiVersion") else {
        return Err(("apiVersion", format!("is missing; write apiVersion: {API_VERSION}")));
    };
    let Some(written) = root.text("kind") else {
        return Err(("kind", format!("is missing; use one of {}", KINDS.join(", "))));
    };
    match version {
        API_VERSION => {}
        "v1" if written == "Secret" => return Ok("Secret"),
        version if version.starts_with("towpath.io") || KINDS.contains(&written) => {
            return Err(("apiVersion", format!("{} is not known; write {API_VERSION}", show(version))));
        }
        _ => {
            let message = format!("{} is no resource of towpath; keep it in another folder", show(written));
            return Err(("kind", message));
        }
    }
    if let Some(kind) = KINDS.into_iter().find(|kind| *kind == written) {
        return Ok(kind);
    }
    let message = if unimplemented::KINDS.contains(&written) {
        format!("{written} is not implemented yet; remove it")
    } else if let Some(kind) = nearest(written, KINDS) {
        format!("{} is not known; did you mean {kind}?", show(written))
    } else {
        format!("{} is not known; use one of {}", show(written), KINDS.join(", "))
    };
    Err(("kind", message))
}

fn problem(file: &str, root: &Node, resource: &str, path: &str, message: String) -> Problem {
    let place = root.locate(path);
    Problem {
        file: file.into(),
        line: Some(place.line),
        column: Some(place.column),
        resource: resource.into(),
        path: path.into(),
        message,
    }
}

/// `BGPPeer/tor`, as far as the document says.
fn resource(root: &Node) -> String {
    let kind = root.text("kind").map(show).unwrap_or_default();
    match root.get("metadata").and_then(|entry| entry.node.text("name")).map(show) {
        Some(name) if kind.is_empty() => name,
        Some(name) => format!("{kind}/{name}"),
        None => kind,
    }
}

/// The schema of a whole document of one kind.
pub(crate) fn document_schema(kind: &str) -> &'static Json {
    static SCHEMAS: [OnceLock<Json>; KINDS.len() + 1] = [const { OnceLock::new() }; KINDS.len() + 1];
    let place = KINDS.iter().position(|known| *known == kind).unwrap_or(KINDS.len());
    SCHEMAS[place].get_or_init(|| make_document_schema(kind))
}

/// What `make crds` wrote: `render_spec` of each kind.
fn spec_schema(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "NetworkConfig" => include_str!("../schemas/NetworkConfig.json"),
        "BGPPeer" => include_str!("../schemas/BGPPeer.json"),
        "Advertisement" => include_str!("../schemas/Advertisement.json"),
        "IPPool" => include_str!("../schemas/IPPool.json"),
        "NodeNetwork" => include_str!("../schemas/NodeNetwork.json"),
        _ => return None,
    })
}

/// The kind's own schema, with the fields every object has.
fn make_document_schema(kind: &str) -> Json {
    let text = json!({ "type": "string" });
    let texts = json!({ "type": "object", "additionalProperties": text });
    let mut metadata = json!({ "name": text, "labels": texts, "annotations": texts });
    // Written by an API server; here so that `kubectl get -o yaml` can be read back.
    let server = "creationTimestamp deletionGracePeriodSeconds deletionTimestamp finalizers generateName generation \
                  managedFields ownerReferences resourceVersion selfLink uid";
    let mut properties = json!({ "apiVersion": text, "kind": text, "status": {} });
    for name in server.split_whitespace() {
        set(&mut metadata, name, json!({}));
    }
    if kind == "Secret" {
        set(&mut metadata, "namespace", text.clone());
        for (name, schema) in [
            ("type", &text),
            ("immutable", &json!({ "type": "boolean" })),
            ("data", &texts),
            ("stringData", &texts),
        ] {
            set(&mut properties, name, schema.clone());
        }
    } else {
        let schema = spec_schema(kind).and_then(|text| serde_json::from_str(text).ok());
        set(
            &mut properties,
            "spec",
            schema.expect("generated for each kind, and compared with the types by a test"),
        );
    }
    let metadata = json!({ "type": "object", "properties": metadata, "required": ["name"] });
    set(&mut properties, "metadata", metadata);
    let needs_spec = properties.pointer("/spec/required").is_some();
    let required: &[&str] = if needs_spec { &["metadata", "spec"] } else { &["metadata"] };
    json!({ "type": "object", "properties": properties, "required": required })
}

fn set(object: &mut Json, name: &str, value: Json) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.into(), value);
    }
}

/// The typed spec; an error when fields it needs were missing or refused.
pub(crate) fn typed(kind: &'static str, value: &Json) -> Result<Spec, serde_json::Error> {
    let spec = value.get("spec").cloned().unwrap_or_else(|| json!({}));
    Ok(match kind {
        "NetworkConfig" => Spec::NetworkConfig(serde_json::from_value(spec)?),
        "NodeNetwork" => Spec::NodeNetwork(serde_json::from_value(spec)?),
        "BGPPeer" => Spec::BGPPeer(serde_json::from_value(spec)?),
        "Advertisement" => Spec::Advertisement(serde_json::from_value(spec)?),
        "IPPool" => Spec::IPPool(serde_json::from_value(spec)?),
        _ => unreadable(kind),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_checked_with_the_generated_schemas() {
        for kind in KINDS {
            let generated = crate::crd::render_spec(kind);
            assert!(generated.is_some(), "{kind} has no definition");
            assert!(
                spec_schema(kind) == generated.as_deref(),
                "{kind}.json is stale or missing; run: make crds"
            );
            document_schema(kind);
        }
    }
}
