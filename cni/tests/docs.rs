//! docs/cni.md says what the program does: its example works, and its table has every key.

mod support;

use serde_json::{Value, json};
use support::{Call, Node};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cni.md");

#[test]
fn the_conflists_of_the_page_are_good() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let node = Node::new();
    let examples: Vec<&str> =
        page.split("```json").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let conflists: Vec<Value> = examples.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let plugins: Vec<&Value> =
        conflists.iter().flat_map(|conflist| conflist["plugins"].as_array().unwrap()).collect();
    let ours: Vec<&&Value> = plugins.iter().filter(|plugin| plugin["type"] == "towpath-cni").collect();
    assert!(!ours.is_empty(), "{PAGE} has no example");
    for plugin in ours {
        let mut keys = (*plugin).clone();
        // A daemon's file is not there in a test.
        keys.as_object_mut().unwrap().remove("readyFile");
        node.run(&Call::new("STATUS").config(&node.config("1.1.0", keys))).silent();
    }
}

#[test]
fn the_page_has_every_key_and_no_other() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let table = page.split("| key | default | meaning |").nth(1).unwrap().split("\n\n").next().unwrap();
    let documented: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let node = Node::new();
    let refusal = |keys: Value| {
        let answer = node.run(&Call::new("STATUS").config(&node.config("1.1.0", keys)));
        (!answer.success).then(|| answer.refusal())
    };
    for key in &documented {
        let (code, msg) = refusal(json!({"blocks": ["10.0.0.0/24"], *key: 0.5})).unwrap();
        assert!([6, 7].contains(&code), "{key}: {msg}");
    }
    // The program names its own keys when it meets one that is like none of them.
    let (code, msg) = refusal(json!({"somethingElseAltogether": 1})).unwrap();
    assert_eq!(code, 2, "{msg}");
    let known = msg.split("towpath-cni knows ").nth(1).unwrap().split(", ");
    for key in known {
        assert!(documented.contains(&key), "{key} is not in {PAGE}");
    }
}
