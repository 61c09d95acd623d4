//! A thousand pods on one node, two hundred at a time, as fast as its kubelet goes; and four hundred on another node
//! with the reference plugins, in turns, to compare how long the plugins take.
//!
//! Ours gives every pod an address of each family, the reference plugins IPv4 alone: with IPv6 they wait seconds for its
//! duplicate address detection, which would be no comparison.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy allows it in test functions only")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use bgp_speaker::status::PeerStatus;
use serde_json::{Value, json};
use towpath_tests::kube::{Call, Cluster, LIMIT, Machine, Options, deploy, pods};
use towpath_tests::wait::until;

/// Rounds of ours, and after which of them the reference plugins have one.
const ROUNDS: usize = 5;
const COMPARED: [usize; 2] = [2, 4];
/// Patience for two hundred pods on a busy machine.
const LONG: &str = "--timeout=600s";

/// Pods of all rounds of ours together: a thousand, or what TOWPATH_PODS says. A fifth of them at once.
fn pods_in_all() -> usize {
    let pods = std::env::var("TOWPATH_PODS").ok();
    pods.map_or(1_000, |text| text.parse().expect("TOWPATH_PODS as a number"))
}

/// A pod that does nothing, on a node that is named instead of chosen: the scheduler has no part in it.
fn pod(node: &Machine, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": "many", "node": node.name() } },
        "spec": {
            "nodeName": node.name(), "automountServiceAccountToken": false, "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 1,
            "containers": [{ "name": "pause", "image": "registry.k8s.io/pause:3.10.2" }],
        },
    })
}

/// Starts `count` pods at once, waits until all are ready, deletes them at once and waits until they are gone.
fn come_and_go(cluster: &Cluster, node: &Machine, round: &str, count: usize) {
    let pods: Vec<Value> = (0..count).map(|i| pod(node, &format!("{round}-{}-{i}", node.name()))).collect();
    let file = cluster.folder().join("pods.json");
    std::fs::write(&file, json!({ "apiVersion": "v1", "kind": "List", "items": pods }).to_string()).unwrap();
    let start = Instant::now();
    cluster.kubectl(&["create", "-f", file.to_str().unwrap()]).unwrap();
    let label = format!("app=many,node={}", node.name());
    let ready = cluster.kubectl(&["wait", "pods", "--for=condition=Ready", LONG, "-l", &label]);
    ready.unwrap_or_else(|error| panic!("{error:#}\n{}", node.last_words("containerd")));
    let came = start.elapsed();
    cluster.kubectl(&["delete", "pods", LONG, "-l", &label]).unwrap();
    println!(
        "{round} on {}: {count} pods ready after {came:.1?}, gone after {:.1?}",
        node.name(),
        start.elapsed()
    );
}

/// UPDATE messages that each switch has received from each neighbour, and how often sessions were lost.
fn updates(cluster: &Cluster) -> BTreeMap<String, (u64, u64)> {
    let mut counts = BTreeMap::new();
    for tor in ["tor1", "tor2"] {
        let output = cluster.lab().node(tor).exec(&["towpath", "peers", "-o", "json"]).unwrap();
        let peers: Vec<PeerStatus> = serde_json::from_str(&output.stdout).unwrap();
        for peer in peers {
            let neighbor = format!("{tor} from {}", peer.neighbor);
            counts.insert(neighbor, (peer.received.update, peer.down_count));
        }
    }
    counts
}

/// The times of the calls of one command that succeeded, sorted; the others are counted.
fn times(calls: &[Call], command: &str) -> (Vec<Duration>, usize) {
    let (good, bad): (Vec<&Call>, Vec<&Call>) =
        calls.iter().filter(|call| call.command == command).partition(|call| call.succeeded);
    let mut times: Vec<Duration> = good.iter().map(|call| call.took).collect();
    times.sort_unstable();
    (times, bad.len())
}

fn quantile(sorted: &[Duration], share: f64) -> Duration {
    sorted[((sorted.len() as f64 * share) as usize).min(sorted.len() - 1)]
}

/// The calls of one command that took longest, and when: whether they come at the begin of a round, or all over it.
fn slowest(calls: &[Call], command: &str, start: SystemTime) -> String {
    let mut calls: Vec<&Call> = calls.iter().filter(|call| call.command == command).collect();
    calls.sort_by_key(|call| std::cmp::Reverse(call.took));
    let at = |call: &&Call| call.at.duration_since(start).unwrap_or_default();
    let words: Vec<String> =
        calls.iter().take(12).map(|call| format!("{:.1?} at {:.1?}", call.took, at(call))).collect();
    words.join(", ")
}

/// Waits until the node has exactly what it had `before`.
fn until_as(node: &Machine, before: &[String]) {
    until(LIMIT, "everything of the pods to be gone", || {
        let now = node.traces()?;
        let more = now.iter().filter(|line| !before.contains(line)).map(|line| format!("+ {line}"));
        let less = before.iter().filter(|line| !now.contains(line)).map(|line| format!("- {line}"));
        let difference: Vec<String> = more.chain(less).collect();
        anyhow::ensure!(difference.is_empty(), "{}", difference.join("\n"));
        Ok(Some(()))
    })
    .unwrap();
}

#[test]
#[ignore = "a thousand pods and more: make test-cluster"]
fn a_thousand_pods_leave_nothing_behind_and_nobody_hears_of_them() {
    let at_once = pods_in_all() / ROUNDS;
    let cluster = Cluster::with(Options { nodes: 2, ..Options::default() }).unwrap();
    deploy::install(&cluster).unwrap();
    cluster.apply(&cluster.fabric_yaml()).unwrap();
    cluster.use_small_pause().unwrap();
    cluster.until_ready(true).unwrap();
    // They stay, and so do their traces.
    pods::start_servers(&cluster).unwrap();
    pods::servers(&cluster).unwrap();
    let (ours, reference) = (cluster.machine(1), cluster.machine(2));
    reference.use_reference_plugins(&["10.244.128.0/24"]).unwrap();
    for node in [ours, reference] {
        node.time_plugin().unwrap();
        // The first pod makes what stays: logs, tables. Containerd has read the new configuration when it is timed.
        until(LIMIT, "the plugin to be timed", || {
            come_and_go(&cluster, node, "first", 1);
            Ok((!node.timed_calls()?.is_empty()).then_some(()))
        })
        .unwrap();
    }
    let before = ours.traces().unwrap();
    assert!(before.iter().any(|line| line.starts_with("lease")), "no trace of a server: {before:#?}");
    let told = updates(&cluster);
    assert!(told.len() >= 6 && told.values().all(|(updates, _)| *updates > 0), "{told:?}");
    let warm = [ours, reference].map(|node| node.timed_calls().unwrap().len());

    let start = SystemTime::now();
    for round in 1..=ROUNDS {
        println!("after {:.1?}:", start.elapsed().unwrap());
        let name = format!("round{round}");
        come_and_go(&cluster, ours, &name, at_once);
        if COMPARED.contains(&round) {
            come_and_go(&cluster, reference, &name, at_once);
        }
    }

    until_as(ours, &before);
    ours.run(&["towpath", "ipam", "check"]).unwrap();
    assert_eq!(updates(&cluster), told, "UPDATEs received and sessions lost at the switches");
    let mut p99s = Vec::new();
    for ((node, rounds), warm) in [(ours, ROUNDS), (reference, COMPARED.len())].into_iter().zip(warm) {
        let calls = node.timed_calls().unwrap().split_off(warm);
        for command in ["ADD", "DEL"] {
            let (times, failed) = times(&calls, command);
            let quantiles = [0.5, 0.9, 0.99].map(|share| quantile(&times, share));
            println!(
                "{}: {} {command}s, {failed} failed, p50 {:.1?}, p90 {:.1?}, p99 {:.1?}",
                node.name(),
                times.len(),
                quantiles[0],
                quantiles[1],
                quantiles[2]
            );
            println!("slowest: {}", slowest(&calls, command, start));
            assert!(times.len() >= rounds * at_once, "{command}: only {} were timed", times.len());
            assert_eq!(failed, 0, "{command} on {}", node.name());
            if command == "ADD" {
                p99s.push(quantiles[2]);
            }
        }
    }
    let ratio = p99s[0].as_secs_f64() / p99s[1].as_secs_f64();
    println!("ADD p99 beside ptp + host-local: {ratio:.2}x");
    assert!(ratio <= 0.5, "{ratio:.2}x");
}
