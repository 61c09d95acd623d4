//! What is refused and how: rows of a name, the text of `fabric.yaml`, and the lines shown, without the leading
//! `fabric.yaml:`.
//!
//! Files are read as one here; the test of the CRDs asks a real API server about every single document of them.

pub(crate) mod documents;
pub(crate) mod meanings;
pub(crate) mod places;

pub(crate) type Row = (&'static str, String, &'static [&'static str]);

/// A resource of ours from its `kind` on.
pub(crate) fn resource(rest: &str) -> String {
    format!("apiVersion: towpath.io/v1alpha1\n{rest}\n")
}

pub(crate) fn named(kind: &str, name: &str, spec: &str) -> String {
    resource(&format!(
        "kind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  {}",
        spec.trim_end().replace('\n', "\n  ")
    ))
}

pub(crate) fn network(spec: &str) -> String {
    named("NetworkConfig", "default", spec)
}

pub(crate) fn peer_named(name: &str, spec: &str) -> String {
    named("BGPPeer", name, &format!("neighbor: {{address: 10.0.1.1}}\nremoteASN: 65000\n{spec}"))
}

pub(crate) fn peer(spec: &str) -> String {
    peer_named("tor", spec)
}

pub(crate) fn advertisement(spec: &str) -> String {
    named("Advertisement", "adv", spec)
}

pub(crate) fn secret(metadata: &str, rest: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata: {metadata}\n{rest}\n")
}

pub(crate) fn joined(parts: &[&str]) -> String {
    parts.concat()
}

/// Several documents in one file.
pub(crate) fn documents(documents: &[&str]) -> String {
    documents.join("---\n")
}
