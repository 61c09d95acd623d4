//! For any text: no panic, and an answer. For any document: the values YAML means.

use std::fmt::Write;

use api::Documents;
use proptest::prelude::*;

/// Words that mean something to some part of the reader.
fn word() -> impl Strategy<Value = String> {
    let known = [
        "apiVersion",
        "kind",
        "metadata",
        "name",
        "spec",
        "towpath.io/v1alpha1",
        "v1",
        "BGPPeer",
        "NetworkConfig",
        "Secret",
        "Advertisement",
        "IPPool",
        "NodeNetwork",
        "default",
        "tor",
        "neighbor",
        "address",
        "listen",
        "ranges",
        "port",
        "remoteASN",
        "timers",
        "hold",
        "families",
        "afi",
        "ipv4",
        "safi",
        "unicast",
        "source",
        "static",
        "cidrs",
        "data",
        "stringData",
        "peers",
        "auth",
        "md5SecretRef",
        "10.0.0.1",
        "fe80::1%",
        "10.0.0.0/8",
        "::/0",
        "90s",
        "1h",
        "s",
        "yes",
        "on",
        "0644",
        "1:30",
        "65000.1",
        "-1",
        "4294967296",
        "99999999999999999999",
        "1e9",
        ".inf",
        "~",
        "null",
        "true",
        "65001:100",
        "<<",
        "*a",
        "&a x",
        "!!str 1",
        "!x y",
        "\"",
        "'",
        "|",
        ">",
        "%",
        "@",
        "\u{feff}",
        "é",
        "\u{0}",
        "\t",
        "#",
        "?",
    ];
    prop_oneof![4 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

/// Trees of maps and lists of such words, in flow style.
fn value() -> impl Strategy<Value = String> {
    word().prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec((word(), inner), 0..6).prop_map(|entries| {
                let entries: Vec<String> =
                    entries.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", entries.join(", "))
            }),
        ]
    })
}

const GOOD: &str = "apiVersion: towpath.io/v1alpha1\nkind: BGPPeer\nmetadata: {name: tor}\nspec:\n  neighbor:\n    address: 10.0.1.1\n  \
    remoteASN: 65000\n  timers: {hold: 9s, keepalive: 3s}\n  families:\n  - {afi: ipv4, safi: unicast}\n---\napiVersion: v1\nkind: Secret\n\
    metadata: {name: bgp}\nstringData:\n  password: |\n    s3cret\n";

/// Builds it and prints every problem.
fn answer(bytes: &[u8]) -> usize {
    let mut documents = Documents::default();
    documents.add("f", bytes);
    documents.build("node-1").err().into_iter().flatten().map(|problem| problem.to_string().len()).sum()
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        answer(&bytes);
    }

    #[test]
    fn any_text_of_meaningful_words_gets_an_answer(words in prop::collection::vec((word(), 0..6_usize), 0..60)) {
        let mut text = String::new();
        for (word, indent) in words {
            let end = ["\n", ": ", "\n- ", "\n---\n", " ", ", "][indent];
            write!(text, "{}{word}{end}", " ".repeat(indent)).unwrap();
        }
        answer(text.as_bytes());
    }

    #[test]
    fn any_spec_of_any_kind_gets_an_answer(
        kind in prop::sample::select(vec!["BGPPeer", "NetworkConfig", "Advertisement", "IPPool", "NodeNetwork"]),
        spec in value(),
    ) {
        answer(format!("apiVersion: towpath.io/v1alpha1\nkind: {kind}\nmetadata: {{name: default}}\nspec: {spec}\n").as_bytes());
    }

    #[test]
    fn a_good_text_with_a_change_anywhere_gets_an_answer(at in 0..GOOD.len(), cut in 0..20_usize, put in word()) {
        let (before, after) = GOOD.split_at(at);
        let text = format!("{before}{put}{}", after.get(cut..).unwrap_or_default());
        answer(text.as_bytes());
    }

    /// Our reading of scalars is that of a YAML 1.2 library, and what it takes for text is text to us.
    #[test]
    fn labels_are_what_another_reader_sees(written in "[-+0-9a-zA-Z._:~/]{0,8}") {
        let text = format!(
            "apiVersion: towpath.io/v1alpha1\nkind: NodeNetwork\nmetadata: {{name: node-1}}\nspec:\n  labels:\n    rack: {written}\n\
             ---\napiVersion: towpath.io/v1alpha1\nkind: BGPPeer\nmetadata: {{name: tor}}\nspec:\n  neighbor: {{address: 10.0.0.1}}\n  \
             remoteASN: 65000\n  nodeSelector: {{matchLabels: {{rack: '{written}'}}}}\n"
        );
        let mut documents = Documents::default();
        documents.add("f", text.as_bytes());
        let other: Result<serde_yaml::Value, _> = serde_yaml::from_str(&format!("rack: {written}"));
        let is_text = other.is_ok_and(|value| value.get("rack").is_some_and(serde_yaml::Value::is_string));
        if let Ok(state) = documents.build("node-1") {
            prop_assert_eq!(state.peers.len() == 1, is_text, "{}", written);
        }
    }
}
