//! Every refusal, word for word: what an operator reads is part of the interface.
//!
//! A row is a name, the text of `fabric.yaml`, and the lines shown, without the leading `fabric.yaml:`.

mod documents;
mod meanings;

use api::Documents;

type Row = (&'static str, String, &'static [&'static str]);

/// The lines an operator of node-1 sees.
fn refusals(text: &str) -> Vec<String> {
    let mut documents = Documents::default();
    documents.add("fabric.yaml", text.as_bytes());
    let problems = documents.build("node-1").expect_err("is refused");
    problems.iter().map(|problem| problem.to_string().replacen("fabric.yaml:", "", 1)).collect()
}

fn check(rows: Vec<Row>) {
    for (name, text, expected) in rows {
        assert_eq!(refusals(&text), expected, "{name}:\n{text}");
    }
}

#[test]
fn texts_and_documents_that_cannot_be_read_are_refused() {
    check(documents::text_and_documents());
}

#[test]
fn wrong_shapes_types_and_words_are_refused() {
    check(documents::shapes());
}

#[test]
fn fields_that_come_later_are_refused_by_name() {
    check(documents::fields_that_come_later());
}

#[test]
fn one_mistake_neither_hides_nor_causes_another() {
    check(documents::what_follows_from_what());
}

#[test]
fn values_of_network_and_node_are_checked() {
    check(meanings::network_and_node());
}

#[test]
fn values_of_peers_are_checked_alone_and_together() {
    check(meanings::peers());
}

#[test]
fn passwords_are_checked_and_never_shown() {
    check(meanings::secrets());
    for (name, text, _) in meanings::secrets() {
        assert!(
            refusals(&text).iter().all(|line| !line.contains("s3cret") && !line.contains("12345")),
            "{name}"
        );
    }
}

#[test]
fn values_of_advertisements_and_pools_are_checked() {
    check(meanings::advertisements_and_pools());
}

/// A resource of ours from its `kind` on.
fn resource(rest: &str) -> String {
    format!("apiVersion: towpath.io/v1alpha1\n{rest}\n")
}

fn named(kind: &str, name: &str, spec: &str) -> String {
    resource(&format!(
        "kind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  {}",
        spec.trim_end().replace('\n', "\n  ")
    ))
}

fn network(spec: &str) -> String {
    named("NetworkConfig", "default", spec)
}

fn peer_named(name: &str, spec: &str) -> String {
    named("BGPPeer", name, &format!("neighbor: {{address: 10.0.1.1}}\nremoteASN: 65000\n{spec}"))
}

fn peer(spec: &str) -> String {
    peer_named("tor", spec)
}

fn advertisement(spec: &str) -> String {
    named("Advertisement", "adv", spec)
}

fn secret(metadata: &str, rest: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata: {metadata}\n{rest}\n")
}

fn joined(parts: &[&str]) -> String {
    parts.concat()
}

/// Several documents in one file.
fn documents(documents: &[&str]) -> String {
    documents.join("---\n")
}
