//! A node that has pods: when container runtimes learn of it, and what a ToR is told of pods' addresses.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy allows it in test functions only")]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::ensure;
use cni::ready::State;
use route_agent::pods::PodsStatus;
use serde_json::{Value, json};
use towpath_tests::agent::{Agent, LIMIT};
use towpath_tests::feeder::Feeder;
use towpath_tests::feeder::message::end_of_rib;
use towpath_tests::kernel::Recorder;
use towpath_tests::netns::Netns;
use towpath_tests::rack::{Rack, document, peer};
use towpath_tests::wait::until;

const NODE: &str = "
apiVersion: towpath.io/v1alpha1
kind: NodeNetwork
metadata: { name: node }
spec: { asn: 65001, routerID: 10.0.0.1, addresses: [10.0.1.1], podCIDRs: [10.244.1.0/24, 'fd00:244:1::/64'] }
";

const BOTH: &str = "families: [{ afi: ipv4, safi: unicast }, { afi: ipv6, safi: unicast }]";

fn config() -> String {
    let blocks = document("Advertisement", "pods", "source: { podBlocks: {} }");
    [NODE.to_owned(), peer(1, BOTH), blocks].concat()
}

/// A neighbour that has said everything: nothing.
fn tor(rack: &Rack) -> Feeder {
    let tor = rack.feeder(1).unwrap();
    tor.send(&[end_of_rib(false), end_of_rib(true)].concat()).unwrap();
    tor
}

fn until_told(tor: &Feeder, expected: &[&str]) {
    until(LIMIT, &format!("exactly {expected:?} to be announced"), || {
        let mut told: Vec<String> = tor.heard().routes.keys().map(ToString::to_string).collect();
        told.sort();
        ensure!(told == expected, "told: {told:?}");
        Ok(Some(()))
    })
    .unwrap();
}

fn until_pods(agent: &Agent, what: &str, good: impl Fn(&PodsStatus) -> bool) -> PodsStatus {
    until(LIMIT, what, || {
        let pods = agent.status()?.pods;
        ensure!(pods.as_ref().is_some_and(&good), "{pods:?}");
        Ok(pods)
    })
    .unwrap()
}

fn conflist(agent: &Agent) -> PathBuf {
    agent.cni_conf_dir().join("10-towpath.conflist")
}

/// The code of the plugin's answer to STATUS, asked as a runtime does; 0: pods may start.
fn status(agent: &Agent) -> u64 {
    let config = json!({
        "cniVersion": "1.1.0",
        "name": "towpath",
        "type": "towpath-cni",
        "readyFile": agent.ready_file(),
        "stateDir": agent.ready_file().with_file_name("state"),
    });
    let mut plugin = Command::new(towpath_tests::agent::plugin().unwrap())
        .env_clear()
        .env("CNI_COMMAND", "STATUS")
        .env("CNI_PATH", agent.cni_bin_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    plugin.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
    let output = plugin.wait_with_output().unwrap();
    if output.status.success() {
        return 0;
    }
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["code"].as_u64().unwrap()
}

fn drain(agent: &Agent, more: &[&str]) -> String {
    agent.cli_ok(&[&["drain"], more].concat()).unwrap()
}

#[test]
fn the_conflist_comes_with_the_first_convergence_and_goes_with_a_drain_only() {
    let rack = Rack::new(1).unwrap();
    let mut agent = Agent::start(&rack.node, &[("all.yaml", &config())], "node").unwrap();
    let waiting = until_pods(&agent, "a first look", |pods| !pods.reason.is_empty());
    assert_eq!(waiting.state, State::Converging, "{waiting:?}");
    assert!(waiting.reason.contains("1 of 1 sessions"), "{}", waiting.reason);
    assert_eq!(status(&agent), 50);
    assert!(!conflist(&agent).exists() && !agent.cni_bin_dir().exists());

    let told = tor(&rack);
    until_pods(&agent, "readiness", |pods| pods.conflist.as_deref() == Some(&conflist(&agent)));
    until_told(&told, &["10.244.1.0/24", "fd00:244:1::/64"]);
    assert_eq!(status(&agent), 0);
    assert!(agent.cni_bin_dir().join("towpath-cni").is_file());
    let written: Value = serde_json::from_slice(&std::fs::read(conflist(&agent)).unwrap()).unwrap();
    assert_eq!(written["plugins"][0]["blocks"], json!(["10.244.1.0/24", "fd00:244:1::/64"]));
    assert_eq!(written["plugins"][0]["readyFile"], json!(agent.ready_file()));
    assert_eq!(agent.status().unwrap().pods.unwrap().mtu, Some(1500), "of the session's link");

    // The last session goes, then the daemon, in both ways.
    drop(told);
    until(LIMIT, "the loss of the session", || {
        ensure!(agent.status()?.sessions.established == 0, "still up");
        Ok(Some(()))
    })
    .unwrap();
    let still = |agent: &Agent, when: &str| {
        assert!(conflist(agent).exists(), "{when}");
        assert_eq!(status(agent), 0, "{when}");
    };
    still(&agent, "without a session");
    agent.kill9().unwrap();
    still(&agent, "killed");
    agent.start_again().unwrap();
    until_pods(&agent, "readiness without a session", |pods| pods.state == State::Ready);
    agent.sigterm().unwrap();
    still(&agent, "stopped");

    agent.start_again().unwrap();
    assert!(drain(&agent, &[]).contains("no new pods start here"));
    assert_eq!((status(&agent), conflist(&agent).exists()), (50, false));
    agent.kill9().unwrap();
    agent.start_again().unwrap();
    until_pods(&agent, "a drain that is remembered", |pods| pods.state == State::Drained);
    assert!(!conflist(&agent).exists());
    drain(&agent, &["--undo"]);
    until_pods(&agent, "the conflist after the drain", |pods| pods.conflist.is_some());
    assert_eq!(status(&agent), 0);
}

/// A link as the plugin makes it, and its pod's routes.
fn wire(node: &Netns, number: usize, addresses: &[String]) {
    node.ip(&format!("link add tw{number:0>13} type veth peer name p{number}")).unwrap();
    for end in [format!("tw{number:0>13}"), format!("p{number}")] {
        node.ip(&format!("link set {end} up")).unwrap();
    }
    for address in addresses {
        node.ip(&format!("route add {address} dev tw{number:0>13} proto 200 table main")).unwrap();
    }
}

#[test]
fn a_pod_outside_the_blocks_is_announced_while_its_route_is_there() {
    let rack = Rack::new(1).unwrap();
    let node = &rack.node;
    let mut agent = Agent::start(node, &[("all.yaml", &config())], "node").unwrap();
    let blocks = ["10.244.1.0/24", "fd00:244:1::/64"];
    let told = tor(&rack);
    for number in 1..=50 {
        wire(node, number, &[format!("10.244.1.{number}/32"), format!("fd00:244:1::{number:x}/128")]);
    }
    wire(node, 51, &["192.0.2.7/32".to_owned(), "2001:db8::7/128".to_owned()]);
    wire(node, 52, &["10.244.2.9/32".to_owned()]);
    until_told(
        &told,
        &["10.244.1.0/24", "10.244.2.9/32", "192.0.2.7/32", "2001:db8::7/128", "fd00:244:1::/64"],
    );
    let seen = until_pods(&agent, "52 pods", |pods| pods.pods == 52);
    assert_eq!(seen.outside.len(), 3, "{seen:?}");

    // The daemon dies and comes again: no pod's route is touched, and what is announced is the same.
    let routes = || {
        let all = ["-4", "-6"]
            .map(|family| node.ip(&format!("-d {family} route show table main proto 200")).unwrap());
        let mut pods: Vec<String> =
            all.join("\n").lines().filter(|line| line.contains("dev tw")).map(str::to_owned).collect();
        pods.sort();
        pods
    };
    let before = routes();
    assert_eq!(before.len(), 103);
    let recorder = Recorder::start(node).unwrap();
    agent.kill9().unwrap();
    agent.start_again().unwrap();
    drop(told);
    let told = tor(&rack);
    until_told(
        &told,
        &["10.244.1.0/24", "10.244.2.9/32", "192.0.2.7/32", "2001:db8::7/128", "fd00:244:1::/64"],
    );
    until_pods(&agent, "52 pods again", |pods| pods.pods == 52);
    assert_eq!(routes(), before);
    let notices = recorder.stop().unwrap();
    let touched: Vec<_> = notices.iter().filter(|notice| notice.protocol == Some(200)).collect();
    assert!(touched.is_empty(), "{touched:?}");
    let status = agent.status().unwrap();
    assert_eq!((status.fib.drift, status.fib.failed_count, status.fib.foreign_count), (0, 0, 0));

    // A route that is removed, a link that is taken down (IPv4 goes in silence), and one that is deleted.
    node.ip("route del 10.244.2.9/32 dev tw0000000000052 proto 200").unwrap();
    until_told(&told, &["10.244.1.0/24", "192.0.2.7/32", "2001:db8::7/128", "fd00:244:1::/64"]);
    node.ip("link set tw0000000000051 down").unwrap();
    until_told(&told, &blocks);
    wire(node, 53, &["192.0.2.8/32".to_owned()]);
    until_told(&told, &["10.244.1.0/24", "192.0.2.8/32", "fd00:244:1::/64"]);
    node.ip("link del tw0000000000053").unwrap();
    until_told(&told, &blocks);
    // Blackholes stay behind the blocks.
    let holes = node.ip("route show type blackhole proto 200").unwrap();
    assert!(holes.contains("10.244.1.0/24"), "{holes}");
}

#[test]
fn a_folder_that_cannot_be_written_is_shown_and_tried_again() {
    let rack = Rack::new(0).unwrap();
    let mut agent = Agent::prepare(&rack.node, &[("node.yaml", NODE)], "node").unwrap();
    // A file where the folder of programs should be.
    std::fs::write(agent.cni_bin_dir(), "in the way").unwrap();
    agent.start_again().unwrap();
    let refused = until_pods(&agent, "a problem", |pods| !pods.problems.is_empty());
    assert!(refused.problems[0].contains("--cni-bin-dir"), "{refused:?}");
    assert!(!conflist(&agent).exists(), "programs come first");
    let output = agent.cli(&["status"]).unwrap();
    let screen = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{screen}");
    assert!(screen.contains("no BGPPeer selects this node"), "a note on pods that nobody hears of: {screen}");
    std::fs::remove_file(agent.cni_bin_dir()).unwrap();
    until_pods(&agent, "the conflist", |pods| pods.conflist.is_some());
    agent.cli_ok(&["status"]).unwrap();
}
