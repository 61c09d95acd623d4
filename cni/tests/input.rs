//! What the program answers to calls that make no sense: the right code, at once, and nothing is touched.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Call, Node};

/// Far above what a refusal takes and far below what a runtime waits.
const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
fn garbage_on_standard_input_has_its_code_and_touches_nothing() {
    let node = Node::new();
    let pod = node.pod("c1");
    let before = (node.remains(), pod.remains());
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let config = |keys: &str| format!(r#"{{"cniVersion": "1.0.0", "name": "n", {keys}}}"#).into_bytes();
    let filler = "x".repeat(8 << 20);
    let cases: Vec<(&str, Vec<u8>, u64)> = vec![
        ("nothing", Vec::new(), 6),
        ("white space", b" \n\t".to_vec(), 6),
        ("zeros", vec![0; 4096], 6),
        ("half an object", br#"{"cniVersion": "1.0.0", "name": "n""#.to_vec(), 6),
        ("a list", b"[]".to_vec(), 6),
        ("no UTF-8", b"{\"name\": \"\xff\xfe\"}".to_vec(), 6),
        ("100,000 deep", deep.clone().into_bytes(), 6),
        ("100,000 deep inside", config(&format!(r#""args": {deep}"#)), 6),
        ("more than 8 MiB", config(&format!(r#""args": "{filler}""#)), 5),
        ("8 MiB of zeros", vec![b'0'; 8 << 20], 6),
        ("almost 8 MiB of args that are text", config(&format!(r#""args": "{}""#, &filler[..8_388_000])), 6),
        (
            "almost 8 MiB of name",
            {
                let mut text = br#"{"cniVersion": "1.0.0", "name": ""#.to_vec();
                text.extend_from_slice(&filler.as_bytes()[..8_388_000]);
                text.extend_from_slice(b"\"}");
                text
            },
            7,
        ),
        ("almost 8 MiB of an unknown key", config(&format!(r#""{}": 1"#, &filler[..8_388_000])), 2),
        ("no version", br#"{"name": "n"}"#.to_vec(), 1),
        ("a later version", br#"{"cniVersion": "7.0.0", "name": "n"}"#.to_vec(), 1),
        ("a version that is a number", br#"{"cniVersion": 1.0, "name": "n"}"#.to_vec(), 6),
        ("no name", br#"{"cniVersion": "1.0.0"}"#.to_vec(), 7),
        ("a name that leads elsewhere", br#"{"cniVersion": "1.0.0", "name": "../../etc"}"#.to_vec(), 7),
        ("blocks that are text", config(r#""blocks": "10.0.0.0/24""#), 6),
        ("a block that is none", config(r#""blocks": ["10.0.0.0/33"]"#), 7),
        ("an unknown key", config(r#""block": []"#), 2),
        ("a prevResult that is a list", config(r#""blocks": ["10.0.0.0/24"], "prevResult": []"#), 6),
        (
            "capabilities of the wrong type",
            config(r#""blocks": ["10.0.0.0/24"], "runtimeConfig": {"ips": 5}"#),
            6,
        ),
    ];
    for (what, stdin, code) in cases {
        let answer = node.run(&Call::new("ADD").pod(&pod, "eth0").stdin(&stdin));
        let (found, msg) = answer.refusal();
        assert_eq!(found, code, "{what}: {msg}");
        assert!(msg.len() < 1000, "{what}: a message of {} octets", msg.len());
        assert!(answer.took < AT_ONCE, "{what}: {:?}", answer.took);
    }
    assert_eq!((node.remains(), pod.remains()), before);
}

#[test]
fn variables_that_make_no_sense_are_named_and_nothing_is_touched() {
    let node = Node::new();
    let pod = node.pod("c1");
    let before = (node.remains(), pod.remains());
    let config = node.config("1.0.0", json!({"blocks": ["10.0.0.0/24"]}));
    let add = || Call::new("ADD").pod(&pod, "eth0").config(&config);
    let long = "a".repeat(300);
    let cases = [
        (add().variable("CNI_COMMAND", ""), "CNI_COMMAND"),
        (add().variable("CNI_COMMAND", "ATTACH"), "CNI_COMMAND"),
        (add().variable("CNI_CONTAINERID", ""), "CNI_CONTAINERID"),
        (add().variable("CNI_CONTAINERID", "../../../etc/passwd"), "CNI_CONTAINERID"),
        (add().variable("CNI_CONTAINERID", "-f"), "CNI_CONTAINERID"),
        (add().variable("CNI_CONTAINERID", &long), "CNI_CONTAINERID"),
        (add().variable("CNI_IFNAME", ""), "CNI_IFNAME"),
        (add().variable("CNI_IFNAME", ".."), "CNI_IFNAME"),
        (add().variable("CNI_IFNAME", "sixteen-octets-x"), "CNI_IFNAME"),
        (add().variable("CNI_IFNAME", "a b"), "CNI_IFNAME"),
        (add().variable("CNI_NETNS", ""), "CNI_NETNS"),
        (add().variable("CNI_NETNS", "netns/a"), "CNI_NETNS"),
        (add().variable("CNI_ARGS", "IP=10.0.0.300"), "CNI_ARGS"),
        (add().variable("CNI_ARGS", "SOMETHING=else"), "CNI_ARGS"),
        (Call::new("STATUS").config(&config).variable("CNI_PATH", ""), "CNI_PATH"),
    ];
    for (call, variable) in cases {
        let (code, msg) = node.run(&call).refusal();
        assert_eq!(code, 4, "{msg}");
        assert!(msg.starts_with(variable), "{msg} instead of {variable}");
    }
    assert_eq!((node.remains(), pod.remains()), before);
}

#[test]
fn version_needs_nothing_and_repeats_the_requests_version() {
    let node = Node::new();
    let versions = json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    let cases = [("", "1.1.0"), ("{}", "1.1.0"), (r#"{"cniVersion": "0.4.0"}"#, "0.4.0")];
    for (stdin, version) in cases {
        let call = Call::new("VERSION").variable("CNI_PATH", "").stdin(stdin.as_bytes());
        let expected = json!({"cniVersion": version, "supportedVersions": versions});
        assert_eq!(node.run(&call).result(), expected, "{stdin:?}");
    }
    let (code, _) = node.run(&Call::new("VERSION").stdin(b"nonsense")).refusal();
    assert_eq!(code, 6);
}

#[test]
fn commands_that_came_later_are_refused_in_earlier_versions() {
    let node = Node::new();
    let pod = node.pod("c1");
    for (command, version, newer) in
        [("CHECK", "0.3.1", "0.4.0"), ("GC", "1.0.0", "1.1.0"), ("STATUS", "0.4.0", "1.1.0")]
    {
        let config = node.config(version, json!({"blocks": ["10.0.0.0/24"]}));
        let (code, msg) = node.call(command, &pod, &config).refusal();
        assert_eq!(code, 1, "{msg}");
        assert!(msg.contains(version) && msg.contains(newer), "{msg}");
    }
}

#[test]
fn status_fails_before_the_first_convergence_and_while_drained() {
    let node = Node::new();
    let ready = node.path("ready");
    let status = |keys: Value| {
        let config = node.config("1.1.0", keys);
        node.run(&Call::new("STATUS").config(&config))
    };
    let alone = json!({"blocks": ["10.0.0.0/24"]});
    let with_daemon = json!({"blocks": ["10.0.0.0/24"], "readyFile": ready});
    let all_from_daemon = json!({"readyFile": ready});
    status(alone).silent();
    let refused = |keys: &Value| status(keys.clone()).refusal();

    let (code, msg) = refused(&with_daemon);
    assert_eq!(code, 50);
    assert!(msg.contains("has not written") && msg.contains("is it running?"), "{msg}");
    for (content, expected) in [
        (json!({"bootID": "boot-0", "state": "Ready"}), "of an earlier boot"),
        (
            json!({"bootID": "boot-1", "state": "Converging", "reason": "1 of 2 sessions"}),
            ": 1 of 2 sessions",
        ),
        (json!({"bootID": "boot-1", "state": "Drained"}), "the node is drained"),
        (json!({"bootID": "boot-1", "state": "Resting"}), "unknown variant `Resting`"),
    ] {
        std::fs::write(&ready, content.to_string()).unwrap();
        let (code, msg) = refused(&with_daemon);
        assert_eq!(code, 50, "{msg}");
        assert!(msg.contains(expected), "{msg}");
    }

    std::fs::write(&ready, json!({"bootID": "boot-1", "state": "Ready"}).to_string()).unwrap();
    status(with_daemon).silent();
    let (code, msg) = refused(&all_from_daemon);
    assert_eq!(code, 7, "{msg}");
    let whole = json!({"bootID": "boot-1", "state": "Ready", "blocks": ["10.0.0.0/24"]});
    std::fs::write(&ready, whole.to_string()).unwrap();
    status(all_from_daemon).silent();
}

#[test]
fn status_of_a_configuration_no_pod_could_use_is_an_error() {
    let node = Node::new();
    for (keys, code) in [
        (json!({}), 7),
        (json!({"blocks": []}), 7),
        (json!({"blocks": ["10.0.0.1/24"]}), 7),
        (json!({"blocks": "all"}), 6),
        (json!({"block": ["10.0.0.0/24"]}), 2),
    ] {
        let call = Call::new("STATUS").config(&node.config("1.1.0", keys.clone()));
        let (found, msg) = node.run(&call).refusal();
        assert_eq!(found, code, "{keys}: {msg}");
    }
}

#[test]
fn the_largest_input_that_is_allowed_is_served() {
    let node = Node::new();
    let pod = node.pod("c1");
    let mut config = node.config("1.0.0", json!({"blocks": ["10.0.0.0/24"], "args": {"filler": ""}}));
    let room = (8 << 20) - config.to_string().len();
    config["args"]["filler"] = "x".repeat(room).into();
    let answer = node.call("ADD", &pod, &config);
    assert_eq!(answer.result()["ips"].as_array().unwrap().len(), 1);
    assert!(answer.took < AT_ONCE, "{:?}", answer.took);
    let longer = config.to_string() + " ";
    let (code, msg) = node.run(&Call::new("DEL").pod(&pod, "eth0").stdin(longer.as_bytes())).refusal();
    assert_eq!(code, 5, "{msg}");
    node.call("DEL", &pod, &config).silent();
}
