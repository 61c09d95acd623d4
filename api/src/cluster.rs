//! Resources as an API server gives them.
//!
//! In: one object as JSON. Out: an [`Object`] for [`settle`](crate::build::settle), or what cannot be read in it.
//! Unknown fields are ignored, so that an older daemon reads what a newer one is told; unknown words, wrong types
//! and values out of range make the object unreadable, with the words files are refused with. Of a Node only what
//! [`NodeFacts`] holds is looked at. Pure.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use serde_json::Value as Json;

use crate::build::{NodeFacts, Object, Spec};
use crate::desired::Secret;
use crate::file::{KINDS, Unknown, check, document_schema, typed};
use crate::problem::show;

/// An object that cannot be used. As an [`Object`] it is still there to be named by others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}/{name}: {}", .problems.join("; "))]
pub struct Unreadable {
    /// Its kind; `Unknown` for one that is none of those read here.
    pub kind: &'static str,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// What is wrong: `spec.neighbor.port: 0 is not allowed; use 1 to 65535`.
    pub problems: Vec<String>,
}

impl From<Unreadable> for Object {
    fn from(unreadable: Unreadable) -> Self {
        let Unreadable { kind, name, namespace, problems } = unreadable;
        Self { name, namespace, spec: Spec::Unreadable { kind, problems } }
    }
}

/// Reads an object: NetworkConfig, NodeNetwork, BGPPeer, Advertisement, IPPool, and Node and Secret of the core group.
/// `kind` and `metadata.name` must be there.
///
/// # Errors
/// [`Unreadable`], with every problem.
pub fn object(json: &Json) -> Result<Object, Unreadable> {
    let text = |path: &str| json.pointer(path).and_then(Json::as_str);
    let written = text("/kind").unwrap_or_default();
    let kind = KINDS.into_iter().chain(["Node", "Secret"]).find(|kind| *kind == written);
    let name = text("/metadata/name").unwrap_or_default().to_owned();
    let namespace = text("/metadata/namespace").map(str::to_owned);
    let problems = match kind {
        None => vec![format!("kind: {} is none that is read here", show(written))],
        Some(_) if name.is_empty() => vec!["metadata.name: is missing; give the resource a name".to_owned()],
        Some(kind) => match read(kind, json) {
            Ok(spec) => return Ok(Object { name, namespace, spec }),
            Err(problems) => problems,
        },
    };
    Err(Unreadable { kind: kind.unwrap_or("Unknown"), name, namespace, problems })
}

fn read(kind: &'static str, json: &Json) -> Result<Spec, Vec<String>> {
    match kind {
        "Node" => node(json),
        "Secret" => secret(json),
        kind => {
            let (value, refusals) = check(kind, &json.into(), "", document_schema(kind), Unknown::Ignored);
            if !refusals.is_empty() {
                let said = |path: &str, message: &str| format!("{path}: {message}");
                return Err(refusals.iter().map(|refusal| said(&refusal.path, &refusal.message)).collect());
            }
            let value = value.unwrap_or_default();
            typed(kind, &value).map_err(|error| vec![format!("spec: cannot be read: {error}")])
        }
    }
}

/// `data` is base64; `stringData` is never given back by an API server.
fn secret(json: &Json) -> Result<Spec, Vec<String>> {
    let mut entries = BTreeMap::new();
    let mut problems = Vec::new();
    for (key, encoded) in json.get("data").and_then(Json::as_object).into_iter().flatten() {
        match serde_json::from_value::<ByteString>(encoded.clone()) {
            Ok(ByteString(octets)) => {
                entries.insert(key.clone(), Secret::new(octets));
            }
            Err(_) => problems.push(format!("data.{}: is not base64; encode it", show(key))),
        }
    }
    if problems.is_empty() { Ok(Spec::Secret(entries)) } else { Err(problems) }
}

fn node(json: &Json) -> Result<Spec, Vec<String>> {
    let mut problems = Vec::new();
    let mut texts = |path: &str, items: Vec<&Json>| -> Vec<String> {
        let read = items.iter().enumerate().filter_map(|(index, item)| match item.as_str() {
            Some(text) => Some(text.to_owned()),
            None => {
                problems
                    .push(format!("{path}[{index}]: {} is not allowed; give text", show(&item.to_string())));
                None
            }
        });
        read.collect()
    };
    let list = |path: &str| json.pointer(path).and_then(Json::as_array).into_iter().flatten();
    let internal = list("/status/addresses")
        .filter(|address| address.get("type").and_then(Json::as_str) == Some("InternalIP"))
        .filter_map(|address| address.get("address"));
    let addresses = texts("status.addresses", internal.collect());
    let mut pod_cidrs = texts("spec.podCIDRs", list("/spec/podCIDRs").collect());
    if pod_cidrs.is_empty() {
        pod_cidrs = texts("spec.podCIDR", json.pointer("/spec/podCIDR").into_iter().collect());
    }
    let labels = json.pointer("/metadata/labels").and_then(Json::as_object).into_iter().flatten();
    let labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
    let uid = json.pointer("/metadata/uid").and_then(Json::as_str).unwrap_or_default().to_owned();
    if problems.is_empty() {
        Ok(Spec::Node(NodeFacts { uid, labels, addresses, pod_cidrs }))
    } else {
        Err(problems)
    }
}
