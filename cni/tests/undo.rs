//! What is asked for beside the wire, and that all of it goes again: by a DEL with nothing but names, by an ADD that
//! fails, with a runtime that went away.

mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Call, Node, plugin};

fn config(node: &Node) -> Value {
    node.config("1.0.0", json!({"blocks": ["10.244.3.0/24", "fd00:244:3::/64"]}))
}

fn asking(config: &Value, host_port: u16) -> Value {
    let mut config = config.clone();
    config["runtimeConfig"] = json!({
        "portMappings": [
            {"hostPort": host_port, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": host_port, "containerPort": 80, "protocol": "udp"},
        ],
        "bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 80_000, "egressRate": 8_000_000, "egressBurst": 80_000},
    });
    config
}

/// A node on which one pod with everything came and went: what stays for good is there.
fn used_node() -> (Node, Value) {
    let node = Node::new();
    let config = config(&node);
    let pod = node.pod("first");
    node.call("ADD", &pod, &asking(&config, 7000)).result();
    node.call("DEL", &pod, &config).silent();
    (node, config)
}

#[test]
fn ports_and_rates_are_checked_and_go_with_a_del_of_nothing_but_names() {
    let (node, config) = used_node();
    let pod = node.pod("c1");
    let before = (node.remains(), pod.remains());
    let mut asking = asking(&config, 8080);
    let result = node.call("ADD", &pod, &asking).result();
    let rules = node.remains();
    assert!(rules.contains("8080"), "{rules}");
    assert!(node.netns.ip("-o link").unwrap().contains(": ti"), "no ifb");
    asking["prevResult"] = result;
    node.call("CHECK", &pod, &asking).silent();
    let names =
        Call::new("DEL").config(&config).variable("CNI_CONTAINERID", "c1").variable("CNI_IFNAME", "eth0");
    node.run(&names).silent();
    assert_eq!((node.remains(), pod.remains()), before);
}

#[test]
fn an_add_whose_port_is_taken_leaves_nothing() {
    let (node, config) = used_node();
    let (one, two) = (node.pod("c1"), node.pod("c2"));
    // An ifb takes its time to settle, and this one would only be in the way of the comparison.
    let mut ports_only = asking(&config, 8080);
    ports_only["runtimeConfig"]["bandwidth"] = Value::Null;
    node.call("ADD", &one, &ports_only).result();
    let before = (node.remains(), two.remains());
    let (code, msg) = node.call("ADD", &two, &asking(&config, 8080)).refusal();
    assert_eq!(code, 103, "{msg}");
    assert!(msg.contains("8080"), "{msg}");
    assert_eq!((node.remains(), two.remains()), before);
    node.call("ADD", &two, &asking(&config, 8081)).result();
}

#[test]
fn names_too_long_to_be_found_again_are_refused_before_anything_is_made() {
    let node = Node::new();
    let pod = node.pod(&"c".repeat(250));
    let config = config(&node);
    let before = node.remains();
    let (code, msg) = node.call("ADD", &pod, &config).refusal();
    assert_eq!(code, 7, "{msg}");
    assert!(msg.contains("CNI_CONTAINERID"), "{msg}");
    assert_eq!(node.remains(), before);
    node.call("DEL", &pod, &config).silent();
}

#[test]
fn add_and_del_of_one_attachment_take_turns_and_end_in_what_came_last() {
    let (node, config) = used_node();
    let pod = node.pod("c1");
    let before = (node.remains(), pod.remains());
    std::thread::scope(|scope| {
        for number in 0..12 {
            let (node, pod, config) = (&node, &pod, &config);
            scope.spawn(move || {
                let command = if number % 3 == 2 { "DEL" } else { "ADD" };
                let answer = node.call(command, pod, config);
                if !answer.success {
                    let (code, msg) = answer.refusal();
                    assert!([11, 101].contains(&code), "{command}: {msg}");
                }
            });
        }
    });
    node.call("DEL", &pod, &config).silent();
    assert_eq!((node.remains(), pod.remains()), before);
    node.call("ADD", &pod, &config).result();
}

#[test]
fn a_runtime_that_went_away_is_no_reason_to_die_by_a_signal() {
    let (node, config) = used_node();
    let pod = node.pod("c1");
    let stdin = node.path("stdin");
    std::fs::write(&stdin, config.to_string()).unwrap();
    let run = |script: &str| {
        node.netns.run(|| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).env_clear().env("PATH", "/usr/bin:/bin").env("PLUGIN", plugin());
            command.env("CNI_CONTAINERID", "c1").env("CNI_IFNAME", "eth0").env("CNI_NETNS", &pod.path);
            command.env("CNI_PATH", "/opt/cni/bin").env("STDIN", &stdin);
            Ok(command.stdin(Stdio::null()).output()?)
        })
    };
    // The reader ends before anything is written; the shell tells how the plugin ended.
    let script = r#"{ CNI_COMMAND=ADD "$PLUGIN" < "$STDIN"; echo "status $?" >&2; } | true"#;
    let output = run(script).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("status 1") || stderr.contains("status 0"), "{stderr}");
    assert!(stderr.contains("status 0") || stderr.contains("writing the answer"), "{stderr}");
    // Closed descriptors must not be taken by files of ours, which would then get the answer.
    let output = run(r#"CNI_COMMAND=DEL "$PLUGIN" < "$STDIN" >&- 2>&-; echo "status $?""#).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "status 0\n");
    let output = run(r#"CNI_COMMAND=ADD "$PLUGIN" <&- >&- 2>&-; echo "status $?""#).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "status 1\n");
    node.call("DEL", &pod, &config).silent();
    assert!(!node.netns.ip("-o link").unwrap().contains(": tw"));
}

/// A runtime's ADD timed out and its process still lives when DEL comes: here it waits for its configuration.
#[test]
fn an_add_that_its_del_overtook_makes_nothing() {
    let (node, config) = used_node();
    let pod = node.pod("c1");
    let before = (node.remains(), pod.remains());
    let add = Call::new("ADD").pod(&pod, "eth0");
    let mut late = node.netns.run(|| Ok(add.spawn())).unwrap();
    let started = Instant::now();
    // The kernel tells a process's start in ticks of 10 ms: the last DEL is surely after it.
    while started.elapsed() < Duration::from_millis(40) {
        node.call("DEL", &pod, &config).silent();
    }
    late.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
    let output = late.wait_with_output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["code"], 11, "{answer}");
    assert!(answer["msg"].as_str().unwrap().contains("was deleted while it was added"), "{answer}");
    assert_eq!((node.remains(), pod.remains()), before);
    node.call("ADD", &pod, &config).result();
}
