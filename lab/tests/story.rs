//! Stories played on real namespaces, without any routing daemon: what holds, what does not, and that each is told.
//!
//! Need root, as labs of the daemon do.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers included")]

#[path = "support/nobody.rs"]
mod nobody;

use std::fs;
use std::process::Command;

use lab::Lab;
use lab::story::report::{Outcome, Report};
use lab::story::{Play, Story};
use nobody::Nobody;

/// Two hosts and the router between them; `d` is a second router that nobody uses.
const TOPOLOGY: &str = "topology:
 defaults: {kind: linux, image: alpine, network-mode: none}
 nodes:
  a: {exec: [ip addr add 10.1.0.1/24 dev eth1, ip -6 addr add fd00:1::1/64 dev eth1, ip route add default via 10.1.0.2, ip -6 route add default via fd00:1::2]}
  b: {exec: [ip addr add 10.2.0.1/24 dev eth1, ip -6 addr add fd00:2::1/64 dev eth1, ip route add default via 10.2.0.2, ip -6 route add default via fd00:2::2]}
  r:
   cmd: sleep 3600
   binds: [\"file:/etc/story\"]
   sysctls: {net.ipv6.conf.all.forwarding: 1}
   exec: [ip addr add 10.1.0.2/24 dev eth1, ip addr add 10.2.0.2/24 dev eth2, ip -6 addr add fd00:1::2/64 dev eth1, ip -6 addr add fd00:2::2/64 dev eth2]
  d: {cmd: sleep 3600}
 links:
 - endpoints: [\"a:eth1\", \"r:eth1\"]
 - endpoints: [\"b:eth1\", \"r:eth2\"]
 - endpoints: [\"d:eth1\", \"d:eth2\"]
";

const TRAFFIC: &str = "traffic:
  udp: {between: [a, b], flows: 2, rate: 4000}
  tcp: {between: [a, b], flows: 1, rate: 200, protocol: tcp, families: [ipv4]}
";

struct File {
    folder: tempfile::TempDir,
    name: String,
}

impl File {
    fn new(test: &str, story: &str) -> Self {
        lab::use_program(env!("CARGO_BIN_EXE_towpath-lab"));
        // Names that no other run of this test uses: several may share the machine.
        let name = format!("{test}-{}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("topo.clab.yml"), format!("name: {name}\n{TOPOLOGY}")).unwrap();
        fs::write(folder.path().join("file"), "colour: red\n").unwrap();
        fs::write(folder.path().join("expect.yaml"), format!("{TRAFFIC}story:\n{story}")).unwrap();
        Self { folder, name }
    }

    fn story(&self) -> Story {
        Story::read(self.folder.path()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn play(&self) -> Report {
        Play::new(&self.story()).slack(5).run().unwrap()
    }
}

fn outcomes(report: &Report) -> Vec<Outcome> {
    report.steps.iter().map(|step| step.outcome).collect()
}

#[test]
fn a_story_that_holds_is_told_as_such_and_leaves_nothing() {
    let file = File::new(
        "story-holds",
        "- name: the lab is up
  expect:
  - ping: {from: a, to: 10.2.0.1}
  - ping: {from: a, to: \"fd00:2::1\", size: 3000}
  - route: {node: a, prefix: 0.0.0.0/0, nexthops: 1, via: [10.1.0.2], dev: [eth1]}
  - route: {node: a, prefix: 10.9.0.0/16, nexthops: 0}
  - transfer: {from: a, to: 10.2.0.1, node: b, bytes: 200000}
  - command: {node: r, run: \"sh -c 'echo up; exit 3'\", exit: 3, stdout: up}
- name: traffic passes the router
  traffic: [udp, tcp]
  expect: [{paths: {class: udp, through: [r]}}]
  lost: {udp: {packets: 0}, tcp: {outage: 200ms}}
- name: a cable is cut and mended
  traffic: [udp]
  events: [{link-down: \"r:eth2\"}, {wait: 100ms}, {link-up: \"r:eth2\"}, {run: {node: r, command: \"ip -6 route replace fd00:2::/64 dev eth2\"}}]
  expect: [{ping: {from: a, to: 10.2.0.1}}, {ping: {from: a, to: \"fd00:2::1\"}}]
  lost: {udp: {outage: 1s}}
- name: a file is edited in a private copy
  events: [{edit: {node: r, file: /etc/story, replace: red, with: blue}}]
  expect: [{command: {node: r, run: cat /etc/story, stdout: \"colour: blue\"}}]
",
    );
    let report = file.play();
    assert_eq!(outcomes(&report), [Outcome::Held; 4], "{report:#?}");
    let traffic = &report.steps[1].traffic;
    assert_eq!((traffic[0].class.as_str(), traffic[0].flows, traffic[0].lost), ("udp", 8, 0));
    assert!(traffic[0].sent > 1000, "{traffic:?}");
    let cut = &report.steps[2];
    assert!(cut.traffic[0].lost > 0, "the cut must be felt: {cut:?}");
    let timeline = cut.timeline.as_ref().unwrap();
    let sum: u64 = timeline.packets[0].buckets.iter().map(|bucket| bucket.lost).sum();
    assert!(sum > 0 && sum <= cut.traffic[0].lost, "{sum} of {}", cut.traffic[0].lost);
    assert_eq!(fs::read_to_string(file.folder.path().join("file")).unwrap(), "colour: red\n");
    assert!(Lab::running(&file.name).is_err(), "the lab is down");
}

#[test]
fn what_does_not_hold_is_found_and_named() {
    // what, the step, part of what is told
    let rows = [
        ("ping", "expect: [{ping: {from: a, to: 10.2.0.9}}]", "no answer within 500 ms"),
        (
            "route",
            "expect: [{route: {node: a, prefix: 0.0.0.0/0, nexthops: 2}}]",
            "1 next hop via 10.1.0.2 dev eth1",
        ),
        (
            "command",
            "expect: [{command: {node: a, run: \"sh -c 'echo no >&2; exit 4'\"}}]",
            "ended with code 4: no",
        ),
        ("output", "expect: [{command: {node: a, run: echo x, stdout: y}}]", "stdout is: x"),
        (
            "sessions",
            "expect: [{sessions: {node: \"*\", established: all}}]",
            "no node runs a routing program",
        ),
        (
            "loss",
            "traffic: [udp]\n  events: [{loss: {end: \"r:eth1\", percent: 30}}]\n  lost: {udp: {packets: 3}}",
            "lost",
        ),
        (
            "outage",
            "traffic: [udp]\n  events: [{isolate: r}, {wait: 400ms}, {restore: r}]\n  lost: {udp: {outage: 10ms}}",
            "outage",
        ),
        (
            "tcp",
            "traffic: [tcp]\n  events: [{link-down: \"b:eth1\"}, {wait: 600ms}, {link-up: \"b:eth1\"}, {run: {node: b, command: ip route add default via 10.2.0.2}}]\n  lost: {tcp: {outage: 20ms}}",
            "round trip",
        ),
        ("unused", "traffic: [udp]\n  events: [{die: d}]\n  lost: {udp: {outage: 10ms}}", "not tested"),
        (
            "fallen",
            "events: [{run: {node: r, command: \"pkill -x sleep\"}}, {wait: 1500ms}]\n  expect: []",
            "ended by itself",
        ),
        ("failing", "events: [{run: {node: r, command: \"false\"}}]", "ended with code 1"),
        (
            "edit",
            "events: [{edit: {node: r, file: /etc/story, replace: green, with: blue}}]",
            "does not contain \"green\"",
        ),
    ];
    let mut wrong = Vec::new();
    for (what, step, told) in rows {
        let file = File::new(
            &format!("story-{what}"),
            &format!(
                "- name: s\n  within: 1s\n  {step}\n- name: later\n  expect: [{{ping: {{from: a, to: 10.1.0.2}}}}]\n"
            ),
        );
        let report = Play::new(&file.story()).run().unwrap();
        let step = &report.steps[0];
        let words = step.error.iter().cloned();
        let words = words.chain(step.checks.iter().filter_map(|check| check.found.clone()));
        let words: Vec<String> =
            words.chain(step.traffic.iter().flat_map(|traffic| traffic.worst.clone())).collect();
        let found = words.iter().any(|word| word.contains(told));
        if outcomes(&report) != [Outcome::Failed, Outcome::Skipped] || !found {
            wrong.push(format!("{what}: {report:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_step_that_holds_without_any_reaction_fails_its_proof() {
    let file = File::new(
        "story-proof",
        "- name: promises nothing
  traffic: [udp]
  events: [{pause: r}]
  expect: [{ping: {from: a, to: 10.2.0.1}}]
  lost: {udp: {packets: 0}}
- name: nobody mends it
  traffic: [udp]
  events: [{resume: r}, {isolate: r}]
  lost: {udp: {outage: 100ms}}
- name: nothing to prove
  expect: [{ping: {from: a, to: 10.1.0.2}}]
- name: no proof
  events: [{restore: r}]
  expect: [{ping: {from: a, to: 10.2.0.1}}]
  prove: none
  because: the kernel does it
- name: broken by what comes first
  events: [{run: {node: a, command: \"true\"}}]
  within: 1s
  expect: [{ping: {from: a, to: 10.2.0.1}}]
  prove: {first: [{run: {node: a, command: ip route del default}}]}
",
    );
    let report = Play::new(&file.story()).prove().run().unwrap();
    let expected = [Outcome::Failed, Outcome::Held, Outcome::Skipped, Outcome::Skipped, Outcome::Held];
    assert_eq!(outcomes(&report), expected, "{report:#?}");
    assert!(report.steps[0].error.as_ref().unwrap().contains("nothing reacted"), "{report:#?}");
}

#[test]
fn one_step_is_played_alone_and_a_running_lab_is_left_in_order() {
    let file = File::new(
        "story-running",
        "- name: cut
  events: [{link-down: \"r:eth2\"}, {edit: {node: r, file: /etc/story, replace: red, with: blue}}]
  expect: [{command: {node: r, run: cat /etc/story, stdout: blue}}]
- name: after
  expect: [{route: {node: r, prefix: 10.2.0.0/24, nexthops: 0}}]
",
    );
    let story = file.story();
    let only = Play::new(&story).only("after").run().unwrap();
    assert_eq!(outcomes(&only), [Outcome::Held; 2], "{only:#?}");
    assert!(Play::new(&story).only("nope").run().is_err());
    assert!(Play::new(&story).on_running_lab().run().is_err(), "no lab is up");
    let lab = Lab::up(file.folder.path()).unwrap();
    assert!(Play::new(&story).run().unwrap_err().to_string().contains("is running already"));
    let report = Play::new(&story).on_running_lab().run().unwrap();
    assert_eq!(outcomes(&report), [Outcome::Held; 2], "{report:#?}");
    assert!(lab.node("b").exec(&["ping", "-c1", "-W1", "10.2.0.2"]).unwrap().success(), "the cable is back");
    assert_eq!(lab.node("r").read_file("/etc/story").unwrap(), "colour: red\n");
}

#[test]
fn the_command_exits_0_1_or_2_and_writes_what_machines_read() {
    let good =
        File::new("story-cli", "- name: \"up & <running>\"\n  expect: [{ping: {from: a, to: 10.2.0.1}}]\n");
    let bad =
        File::new("story-cli-bad", "- name: s\n  within: 1ms\n  expect: [{ping: {from: a, to: 10.2.0.9}}]\n");
    let out = tempfile::tempdir().unwrap();
    let (json, junit) = (out.path().join("r.json"), out.path().join("r.xml"));
    let run = |folder: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_towpath-lab"));
        command
            .env_remove("TOWPATH_BIN")
            .arg("test")
            .arg(folder)
            .arg("--json")
            .arg(&json)
            .arg("--junit")
            .arg(&junit);
        command.output().unwrap()
    };
    let output = run(good.folder.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(report["steps"][0]["outcome"], "held", "{report}");
    assert!(fs::read_to_string(&junit).unwrap().contains("up &amp; &lt;running&gt;"));
    assert_eq!(run(bad.folder.path()).status.code(), Some(1));
    fs::write(bad.folder.path().join("expect.yaml"), "story: x").unwrap();
    let output = run(bad.folder.path());
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("expect.yaml:1: a story: \"story\" takes a list"), "{told}");
}

#[test]
fn a_story_needs_no_root() {
    let file = File::new(
        "story-rootless",
        "- name: s
  traffic: [udp, tcp]
  events: [{isolate: r}, {wait: 200ms}, {restore: r}]
  expect: [{ping: {from: a, to: 10.2.0.1}}, {transfer: {from: a, to: 10.2.0.1, node: b}}, {route: {node: a, prefix: 0.0.0.0/0}}]
  lost: {udp: {packets: 4000}}
",
    );
    let nobody = Nobody::in_folder(file.folder.path());
    let output = nobody.run(&["test", file.folder.path().to_str().unwrap(), "--slack", "5"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_dir(&nobody.run_dir).unwrap().count(), 0, "nothing is left");
}
