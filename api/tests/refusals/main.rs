//! Every refusal, word for word: what an operator reads is part of the interface.

mod rows;

use api::Documents;

use rows::{Row, documents, meanings, places};

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
fn values_are_checked_wherever_they_may_stand() {
    check(places::one_object());
}

#[test]
fn values_of_advertisements_and_pools_are_checked() {
    check(meanings::advertisements_and_pools());
}
