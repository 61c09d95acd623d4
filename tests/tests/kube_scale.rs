//! A node of a cluster of five thousand: what its daemon takes, how soon it forwards, and what it asks the API server for.
//!
//! The API server is real and has 5,000 Nodes and NodeNetworks; two switches announce 5,000 routes each. One other daemon has
//! the Lease, as one of five thousand would.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy allows it in test functions only")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use towpath_tests::agent::{Agent, LIMIT};
use towpath_tests::kube::{ApiServer, ApiServerOptions};
use towpath_tests::netns::Netns;
use towpath_tests::rack::{Rack, asn, document};
use towpath_tests::wait::until;

const NODES: usize = 5_000;
/// kubectl holds itself to so many requests a second; several at once are several times as quick.
const CLIENTS: usize = 10;
const NAMESPACE: &str = "towpath-system";
/// Patience for five thousand of anything on a busy machine.
const LONG: Duration = Duration::from_secs(300);

/// The pod block of node `i`.
fn block(i: usize) -> String {
    format!("10.{}.{}.0/26", 64 + i / 256, i % 256)
}

fn objects(range: std::ops::Range<usize>) -> String {
    let mut text = String::new();
    for i in range {
        let block = block(i);
        let (node, network) = (
            json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": format!("node{i}"), "labels": { "rack": (i / 40).to_string() } }, "spec": { "podCIDR": block, "podCIDRs": [block] } }),
            json!({ "apiVersion": "towpath.io/v1alpha1", "kind": "NodeNetwork", "metadata": { "name": format!("node{i}") }, "spec": {} }),
        );
        write!(text, "{node}\n---\n{network}\n---\n").unwrap();
    }
    text
}

/// A switch that announces every node's block.
fn tor(i: u8) -> String {
    let cidrs: Vec<String> = (0..NODES).map(block).collect();
    let spec = format!("transit: true, asn: {}, routerID: 10.0.{i}.2", asn(i));
    document("NetworkConfig", "default", &spec)
        + &document("BGPPeer", "node", &format!("neighbor: {{ address: 10.0.{i}.1 }}, remoteASN: external"))
        + &document(
            "Advertisement",
            "nodes",
            &format!("source: {{ static: {{ cidrs: [{}] }} }}", cidrs.join(", ")),
        )
}

fn fill(server: &ApiServer) {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let share = NODES / CLIENTS;
            let file = folder.path().join(format!("{client}.yaml"));
            scope.spawn(move || {
                std::fs::write(&file, objects(client * share..(client + 1) * share)).unwrap();
                server.kubectl(&["create", "-f", file.to_str().unwrap()]).unwrap();
            });
        }
    });
}

/// Requests that came from `address`: how many of each verb and resource, and which were for more than one object of
/// the cluster's nodes or pods.
fn asked(server: &ApiServer, address: &str) -> (BTreeMap<String, usize>, Vec<String>) {
    let (mut counts, mut wide) = (BTreeMap::new(), Vec::new());
    for event in server.audit().unwrap() {
        if event["sourceIPs"][0] != address {
            continue;
        }
        let verb = event["verb"].as_str().unwrap_or_default();
        let resource = event["objectRef"]["resource"].as_str().unwrap_or_default();
        *counts.entry(format!("{verb} {resource}")).or_default() += 1;
        let uri = event["requestURI"].as_str().unwrap_or_default();
        let several = matches!(verb, "list" | "watch") && !uri.contains("fieldSelector=metadata.name");
        if several && matches!(resource, "nodes" | "nodenetworks" | "pods" | "endpointslices") {
            wide.push(uri.to_owned());
        }
    }
    (counts, wide)
}

/// The routes of all other nodes are in the kernel; the one to its own block no node takes.
fn until_converged(node: &Agent) {
    until(LIMIT, "all routes of the cluster", || {
        let status = node.status()?;
        let missing = (NODES as u64 - 1).saturating_sub(status.fib.routes_v4);
        anyhow::ensure!(missing == 0 && status.sessions.established == 2, "{missing} routes are missing");
        Ok(Some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", node.log()));
}

#[test]
#[ignore = "five thousand nodes: make test-cluster"]
fn a_node_of_five_thousand_is_small_quick_and_asks_only_about_itself() {
    let rack = Rack::new(2).unwrap();
    let server = ApiServer::with(ApiServerOptions { audit: true, ..ApiServerOptions::default() }).unwrap();
    let other = Netns::fresh().unwrap();
    for (netns, subnet) in [(&rack.node, "10.0.9"), (&other, "10.0.8")] {
        let name = format!("api{}", &subnet[5..]);
        let (ours, theirs) = (format!("{subnet}.1/24"), format!("{subnet}.2/24"));
        netns.link((&name, &[ours.as_str()]), server.netns(), (&name, &[theirs.as_str()])).unwrap();
        netns.ip(&format!("route add 172.20.0.100/32 via {subnet}.2")).unwrap();
    }
    for file in ["deploy/crds.yaml", "deploy/base/namespace.yaml", "deploy/base/rbac.yaml"] {
        server.kubectl(&["apply", "--server-side", "-f", file]).unwrap();
    }
    server
        .kubectl(&["wait", "--for=condition=established", "crd/nodenetworks.towpath.io", "--timeout=60s"])
        .unwrap();
    let start = Instant::now();
    fill(&server);
    println!("{NODES} Nodes and NodeNetworks made in {:.1?}", start.elapsed());
    let address = json!({ "status": { "addresses": [{ "type": "InternalIP", "address": "10.0.1.1" }] } });
    server.kubectl(&["patch", "node", "node7", "--subresource=status", "-p", &address.to_string()]).unwrap();
    let peers: String = [1, 2]
        .map(|i| {
            let spec =
                format!("neighbor: {{ address: 10.0.{i}.2 }}, remoteASN: {}, nodeSelector: {{ matchLabels: {{ rack: '0' }} }}", asn(i));
            document("BGPPeer", &format!("tor{i}"), &spec)
        })
        .concat();
    server.apply(&(peers + &document("IPPool", "pods", "cidrs: [10.64.0.0/11]"))).unwrap();

    // The daemon that has the Lease and counts for all.
    let kubeconfig = server.kubeconfig_of(NAMESPACE, "towpath").unwrap();
    let mut holder = Agent::in_cluster(&other, &kubeconfig, "node4999").unwrap();
    holder.start_again().unwrap();
    until(LONG, "the other daemon to have the Lease", || {
        let lease = server.json(&["get", "lease", "towpath-status", "-n", NAMESPACE])?;
        Ok((lease["spec"]["holderIdentity"] == "node4999").then_some(()))
    })
    .unwrap();
    let _tors: Vec<Agent> = [1, 2]
        .map(|i| Agent::start(rack.neighbor(i), &[("tor.yaml", &tor(i))], &format!("tor{i}")).unwrap())
        .into();

    let mut node = Agent::in_cluster(&rack.node, &kubeconfig, "node7").unwrap();
    let start = Instant::now();
    node.start_again().unwrap();
    until_converged(&node);
    let converged = start.elapsed();
    until(LIMIT, "its status in the API server", || {
        let network = server.json(&["get", "nodenetwork", "node7"])?;
        Ok((network["status"]["sessions"]["established"] == 2).then_some(()))
    })
    .unwrap();
    until(LONG, "the holder to count", || {
        let peer: Value = server.json(&["get", "bgppeer", "tor1"])?;
        Ok((peer["status"]["sessions"]["established"] == 1).then_some(()))
    })
    .unwrap();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (small, large) = (mib(node.resident_bytes().unwrap()), mib(holder.resident_bytes().unwrap()));
    println!(
        "start to converged: {converged:.1?}; RSS {small:.1} MiB, of the holder of the Lease {large:.1} MiB"
    );
    let (counts, wide) = asked(&server, "10.0.9.1");
    println!("requests of the node in {:.0?}: {counts:?}", start.elapsed());
    assert!(!counts.is_empty(), "the audit log has nothing of 10.0.9.1");
    assert!(wide.is_empty(), "{wide:#?}");
    assert!(small <= 60.0, "{small:.1} MiB");
    assert!(converged <= Duration::from_secs(10), "{converged:?}");
}
