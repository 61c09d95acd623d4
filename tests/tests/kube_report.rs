//! What daemons write back to a real API server: status, conditions, columns, Events, and how often.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy allows it in test functions only")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use towpath_tests::agent::{Agent, LIMIT};
use towpath_tests::kube::{ApiServer, ApiServerOptions};
use towpath_tests::rack::Rack;
use towpath_tests::wait::until;

const NAMESPACE: &str = "towpath-system";
const PASSWORD: &str = "never-in-a-status";

/// Nodes `node` and `node2` of a cluster, linked to each other; `node` has a ToR outside of it.
struct Bench {
    server: ApiServer,
    tor: Agent,
    node: Agent,
    node2: Agent,
    _rack: Rack,
}

const TOR: &str = "\
apiVersion: towpath.io/v1alpha1
kind: NetworkConfig
metadata: { name: default }
spec: { transit: true, asn: 65101, routerID: 10.0.1.2 }
---
apiVersion: towpath.io/v1alpha1
kind: BGPPeer
metadata: { name: node }
spec: { neighbor: { address: 10.0.1.1 }, remoteASN: external, auth: { md5SecretRef: { name: bgp } }, timers: { connectRetry: 1s, idleHoldMax: 1s } }
---
apiVersion: v1
kind: Secret
metadata: { name: bgp }
stringData: { password: never-in-a-status }
";

/// The session with the ToR, and one with an address where nobody answers.
const PEERS: &str = "\
apiVersion: v1
kind: Secret
metadata: { name: bgp, namespace: towpath-system }
stringData: { password: never-in-a-status }
---
apiVersion: towpath.io/v1alpha1
kind: BGPPeer
metadata: { name: tor1 }
spec: { nodeSelector: { matchLabels: { rack: a } }, neighbor: { address: 10.0.1.2 }, remoteASN: external, auth: { md5SecretRef: { name: bgp } }, timers: { connectRetry: 1s, idleHoldMax: 1s } }
";

impl Bench {
    /// The cluster has nodes, roles and kinds of resources, and both daemons run; none of ours is there.
    fn new() -> Self {
        let rack = Rack::new(2).unwrap();
        let options = ApiServerOptions { audit: true, ..ApiServerOptions::default() };
        let server = ApiServer::with(options).unwrap();
        server.kubectl(&["apply", "--server-side", "-f", "deploy/crds.yaml"]).unwrap();
        let kubeconfigs = ["towpath", "towpath2"].map(|who| server.kubeconfig_of(NAMESPACE, who).unwrap());
        server.kubectl(&["apply", "--server-side", "-f", "deploy/base/rbac.yaml"]).unwrap();
        // Another name for the same rights, so that the audit log tells the daemons apart.
        for kind in ["clusterrolebinding", "rolebinding"] {
            let mut binding = server.json(&["get", kind, "towpath", "-n", NAMESPACE]).unwrap();
            let namespace = binding["metadata"]["namespace"].take();
            binding["metadata"] = json!({ "name": "towpath2" });
            if namespace.is_string() {
                binding["metadata"]["namespace"] = namespace;
            }
            binding["subjects"][0]["name"] = json!("towpath2");
            server.apply(&binding.to_string()).unwrap();
        }
        register(&server, "node", "a", "10.0.1.1", "10.244.1.0/24");
        register(&server, "node2", "b", "10.0.2.2", "10.244.2.0/24");
        for (netns, i) in [(&rack.node, 8), (rack.neighbor(2), 9)] {
            let (ours, theirs) = (format!("10.0.{i}.1/24"), format!("10.0.{i}.2/24"));
            let name = format!("api{i}");
            netns.link(("api0", &[&ours]), server.netns(), (&name, &[&theirs])).unwrap();
            netns.ip(&format!("route add 172.20.0.100/32 via 10.0.{i}.2")).unwrap();
        }
        let tor = Agent::start(rack.neighbor(1), &[("tor.yaml", TOR)], "tor1").unwrap();
        let mut node = Agent::in_cluster(&rack.node, &kubeconfigs[0], "node").unwrap();
        let mut node2 = Agent::in_cluster(rack.neighbor(2), &kubeconfigs[1], "node2").unwrap();
        node.start_again().unwrap();
        node2.start_again().unwrap();
        Self { server, tor, node, node2, _rack: rack }
    }

    /// Waits for an answer of kubectl in which `words` stand in this order.
    fn until_shown(&self, within: Duration, arguments: &[&str], words: &[&str]) -> String {
        until(within, &format!("{words:?} in kubectl {}", arguments.join(" ")), || {
            let text = self.server.kubectl(arguments)?;
            let mut rest = text.as_str();
            for word in words {
                let Some(at) = rest.find(word) else { anyhow::bail!("{word} is not there:\n{text}") };
                rest = &rest[at + word.len()..];
            }
            Ok(Some(text))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", self.node.log(), self.node2.log()))
    }

    /// A condition of a resource, once it has this status and reason.
    fn until_condition(&self, within: Duration, object: &str, kind: &str, expected: (&str, &str)) -> Value {
        until(within, &format!("{kind} {expected:?} of {object}"), || {
            let object = self.server.json(&["get", object])?;
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let found = conditions.into_iter().find(|condition| condition["type"] == kind);
            let fits =
                |condition: &Value| condition["status"] == expected.0 && condition["reason"] == expected.1;
            match found.filter(fits) {
                Some(condition) => Ok(Some(condition)),
                None => anyhow::bail!("{:#}", object["status"]),
            }
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", self.node.log(), self.node2.log()))
    }

    fn status(&self, node: &str) -> Value {
        self.server.json(&["get", "nodenetwork", node]).unwrap()["status"].clone()
    }

    /// Notes of the Events with this reason about this object.
    fn until_event(&self, object: &str, reason: &str) -> String {
        until(LIMIT, &format!("an Event {reason} about {object}"), || {
            let events = self.server.json(&["get", "events.events.k8s.io"])?;
            let items = events["items"].as_array().cloned().unwrap_or_default();
            let about = |event: &&Value| {
                let regarding = &event["regarding"];
                let name = format!("{}/{}", regarding["kind"].as_str()?, regarding["name"].as_str()?);
                (name == object && event["reason"] == reason).then_some(())
            };
            let Some(event) = items.iter().find(|event| about(event).is_some()) else {
                anyhow::bail!("{events:#}")
            };
            anyhow::ensure!(event["regarding"]["uid"].is_string(), "without a uid: {event:#}");
            Ok(event["note"].as_str().map(str::to_owned))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", self.node.log(), self.node2.log()))
    }

    fn holder(&self) -> String {
        let lease = self.server.json(&["get", "lease", "towpath-status", "-n", NAMESPACE]).unwrap();
        lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    }

    /// Requests of one daemon, as `VERB RESOURCE/SUBRESOURCE`, since `from`.
    fn requests(&self, who: &str, from: usize) -> Vec<String> {
        let user = format!("system:serviceaccount:{NAMESPACE}:{who}");
        let events = self.server.audit().unwrap();
        let own = events.iter().skip(from).filter(|event| event["user"]["username"] == user.as_str());
        own.map(|event| {
            let object = &event["objectRef"];
            let part = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
            format!(
                "{} {}/{} {}",
                event["verb"].as_str().unwrap_or_default(),
                part("resource"),
                part("subresource"),
                part("name")
            )
        })
        .collect()
    }
}

fn register(server: &ApiServer, name: &str, rack: &str, address: &str, block: &str) {
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": { "rack": rack } },
        "spec": { "podCIDR": block, "podCIDRs": [block] },
    });
    server.apply(&node.to_string()).unwrap();
    let status = json!({ "status": { "addresses": [{ "type": "InternalIP", "address": address }] } });
    server.kubectl(&["patch", "node", name, "--subresource=status", "-p", &status.to_string()]).unwrap();
}

#[test]
fn the_state_of_a_cluster_at_a_glance_and_what_happens_in_it() {
    let mut bench = Bench::new();
    // Without any resource: a node says what it lacks, and pods may start all the same.
    let none = bench.until_condition(LIMIT, "nodenetwork/node", "PeersUp", ("False", "NoPeers"));
    assert!(none["message"].as_str().unwrap().contains("create a BGPPeer"), "{none}");
    bench.until_condition(LIMIT, "node/node", "NetworkUnavailable", ("False", "TowpathReady"));
    bench.until_condition(LIMIT, "nodenetwork/node", "Ready", ("True", "DataPlaneReady"));
    assert!(bench.until_event("Node/node", "NoBGPPeer").contains("no BGPPeer selects this node"));
    let own = bench.server.json(&["get", "nodenetwork", "node"]).unwrap();
    let uid = bench.server.json(&["get", "node", "node"]).unwrap()["metadata"]["uid"].clone();
    assert_eq!(own["metadata"]["ownerReferences"][0]["uid"], uid, "it goes with its Node");

    bench.server.apply(PEERS).unwrap();
    bench.until_condition(LIMIT, "nodenetwork/node", "PeersUp", ("True", "AllEstablished"));
    bench.until_condition(LIMIT, "bgppeer/tor1", "Established", ("True", "AllEstablished"));
    let header = ["NAME", "ASN", "ROUTER-ID", "ESTABLISHED", "DESIRED", "PODS", "READY"];
    let line = ["node ", "64512", "10.0.1.1", "1", "1", "0", "True", "node2 ", "0", "0", "True"];
    println!("{}", bench.until_shown(LIMIT, &["get", "nodenetworks"], &[&header[..], &line[..]].concat()));
    let header = ["NAME", "NEIGHBOR", "REMOTE-ASN", "ESTABLISHED", "DESIRED", "ACCEPTED"];
    let line = ["tor1", "10.0.1.2", "external", "1", "1", "True"];
    println!("{}", bench.until_shown(LIMIT, &["get", "bgppeers"], &[&header[..], &line[..]].concat()));
    let peer = bench.server.json(&["get", "bgppeer", "tor1"]).unwrap()["status"].clone();
    assert_eq!(peer["observedGeneration"], 1);
    assert_eq!(peer["nodes"], 1);
    for kind in ["Accepted", "ReferencesResolved", "NodesMatched"] {
        bench.until_condition(
            LIMIT,
            "bgppeer/tor1",
            kind,
            (
                "True",
                match kind {
                    "Accepted" => "Accepted",
                    "ReferencesResolved" => "Resolved",
                    _ => "Matched",
                },
            ),
        );
    }
    let session = bench.status("node")["peers"][0].clone();
    assert_eq!((&session["peer"], &session["remoteASN"]), (&json!("tor1"), &json!(65101)), "{session:#}");
    assert!(bench.until_event("Node/node", "SessionUp").contains("tor1 (10.0.1.2) is Established"));

    // A session is lost: that is said, with the reason, and takes nothing back.
    let transition = bench.until_condition(LIMIT, "nodenetwork/node", "Ready", ("True", "DataPlaneReady"));
    bench.tor.kill9().unwrap();
    let lost = bench.until_condition(LIMIT, "nodenetwork/node", "PeersUp", ("False", "SessionsDown"));
    assert!(lost["message"].as_str().unwrap().starts_with("0 of 1 sessions"), "{lost}");
    bench.until_condition(LIMIT, "bgppeer/tor1", "Established", ("False", "SessionsDown"));
    assert!(bench.until_event("Node/node", "SessionDown").contains("tor1 (10.0.1.2) was lost"));
    bench.until_condition(LIMIT, "node/node", "NetworkUnavailable", ("False", "TowpathReady"));
    let ready = bench.until_condition(LIMIT, "nodenetwork/node", "Ready", ("True", "DataPlaneReady"));
    assert_eq!(ready["lastTransitionTime"], transition["lastTransitionTime"]);

    // What contradicts something else is refused, in words; its last good version is in force.
    let pool = |name: &str, cidr: &str| {
        format!(
            "apiVersion: towpath.io/v1alpha1\nkind: IPPool\nmetadata: {{ name: {name} }}\nspec: {{ cidrs: [{cidr}] }}\n"
        )
    };
    bench.server.apply(&pool("a", "10.244.0.0/16")).unwrap();
    bench.until_condition(LIMIT, "ippool/a", "Accepted", ("True", "Accepted"));
    bench.server.apply(&pool("b", "10.245.0.0/16")).unwrap();
    bench.until_condition(LIMIT, "ippool/b", "Accepted", ("True", "Accepted"));
    bench.server.apply(&pool("b", "10.244.128.0/17")).unwrap();
    let refused = bench.until_condition(LIMIT, "ippool/b", "Accepted", ("False", "Invalid"));
    let message = refused["message"].as_str().unwrap();
    assert!(message.starts_with("spec.cidrs[0]: 10.244.128.0/17 overlaps"), "{message}");
    assert!(message.ends_with("its last good version stays in force"), "{message}");
    assert_eq!(refused["observedGeneration"], 2);
    bench.until_condition(LIMIT, "nodenetwork/node2", "ConfigurationAccepted", ("False", "ResourcesRefused"));
    assert!(bench.until_event("IPPool/b", "Refused").contains("overlaps"));

    // A node is taken out of service.
    bench.node2.cli_ok(&["drain"]).unwrap();
    bench.until_condition(LIMIT, "nodenetwork/node2", "Ready", ("False", "Drained"));
    bench.until_event("Node/node2", "Drained");
    bench.until_condition(LIMIT, "node/node2", "NetworkUnavailable", ("False", "TowpathReady"));

    // The API server is away while the ToR returns: status is right soon after it is back.
    bench.server.kill().unwrap();
    bench.tor.start_again().unwrap();
    bench.node.until_established("tor1").unwrap();
    bench.server.start().unwrap();
    let back = Instant::now();
    let thirty = Duration::from_secs(30);
    bench.until_condition(thirty, "nodenetwork/node", "PeersUp", ("True", "AllEstablished"));
    bench.until_condition(thirty, "bgppeer/tor1", "Established", ("True", "AllEstablished"));
    assert!(back.elapsed() < thirty, "{:.1?}", back.elapsed());
    println!("status right {:.1?} after the API server's return", back.elapsed());

    for kind in ["nodenetworks", "bgppeers", "nodes", "events.events.k8s.io"] {
        let text = bench.server.kubectl(&["get", kind, "-o", "yaml"]).unwrap();
        assert!(!text.contains(PASSWORD), "{kind}: {text}");
    }
}

#[test]
fn one_daemon_reports_for_all_and_another_takes_over() {
    let mut bench = Bench::new();
    bench.server.apply(PEERS).unwrap();
    bench.until_condition(LIMIT, "bgppeer/tor1", "Established", ("True", "AllEstablished"));
    let first = bench.holder();
    // Only the one that has the Lease reads what other nodes report.
    let reads = |who: &str| {
        let requests = bench.requests(who, 0);
        let all = |request: &&String| *request == "list nodenetworks/ " || *request == "watch nodenetworks/ ";
        requests.iter().filter(all).count()
    };
    let (has_it, has_not) = if first == "node" { ("towpath", "towpath2") } else { ("towpath2", "towpath") };
    assert!(reads(has_it) > 0, "{:?}", bench.requests(has_it, 0));
    assert_eq!(reads(has_not), 0, "{:?}", bench.requests(has_not, 0));

    // Stopped in order, it lets go: nobody waits for the Lease to run out.
    let stopped = Instant::now();
    let (leaving, second) =
        if first == "node" { (&mut bench.node, "node2") } else { (&mut bench.node2, "node") };
    leaving.sigterm().unwrap();
    until(LIMIT, "another to have the Lease", || Ok((bench.holder() == second).then_some(()))).unwrap();
    println!("taken over {:.1?} after the end", stopped.elapsed());
    assert!(stopped.elapsed() < Duration::from_secs(14), "{:.1?}", stopped.elapsed());

    // Both nodes are given one router id: that is said at both, until it is mended.
    if first == "node" {
        bench.node.start_again().unwrap()
    } else {
        bench.node2.start_again().unwrap()
    }
    let identity = |node: &str, id: &str| {
        format!(
            "apiVersion: towpath.io/v1alpha1\nkind: NodeNetwork\nmetadata: {{ name: {node} }}\nspec: {{ routerID: {id} }}\n"
        )
    };
    bench.server.apply(&identity("node", "10.9.9.9")).unwrap();
    bench.server.apply(&identity("node2", "10.9.9.9")).unwrap();
    for node in ["nodenetwork/node", "nodenetwork/node2"] {
        let shared = bench.until_condition(LIMIT, node, "IdentityUnique", ("False", "SharedIdentity"));
        let message = shared["message"].as_str().unwrap();
        assert!(message.starts_with("router id 10.9.9.9 is in use on node, node2"), "{message}");
    }
    bench.until_event("Node/node2", "SharedIdentity");
    // What the node itself reports stays beside it.
    bench.until_condition(LIMIT, "nodenetwork/node2", "Ready", ("True", "DataPlaneReady"));
    bench.server.apply(&identity("node2", "10.9.9.8")).unwrap();
    for node in ["node", "node2"] {
        until(LIMIT, "the condition to go", || {
            let status = bench.status(node).to_string();
            anyhow::ensure!(!status.contains("IdentityUnique"), "{status}");
            Ok(Some(()))
        })
        .unwrap();
    }
}

#[test]
fn a_session_that_flaps_costs_few_writes_and_one_series_of_events() {
    let mut bench = Bench::new();
    bench.server.apply(PEERS).unwrap();
    bench.until_condition(LIMIT, "nodenetwork/node", "PeersUp", ("True", "AllEstablished"));
    let before = bench.server.audit().unwrap().len();
    let start = Instant::now();
    let mut flaps = 0;
    while start.elapsed() < Duration::from_secs(60) {
        bench.node.cli_ok(&["bgp", "reset", "tor1", "--reason", "a test"]).unwrap();
        bench.node.until_established("tor1").unwrap();
        flaps += 1;
    }
    let requests = bench.requests("towpath", before);
    let count = |what: &str| requests.iter().filter(|request| request.starts_with(what)).count();
    let status = count("patch nodenetworks/status node");
    println!(
        "{flaps} flaps in {:.0?}: {status} writes of status, {} Events made, {} counted",
        start.elapsed(),
        count("create events/"),
        count("patch events/")
    );
    assert!(flaps >= 10, "{flaps}");
    assert!((1..=6).contains(&status), "{requests:?}");
    assert!(count("create events/") <= 4, "{requests:?}");
    assert!(count("patch events/") <= 8, "{requests:?}");
    let last = bench.status("node")["peers"][0]["downCount"].as_i64().unwrap();
    assert!(last > 0 && last <= flaps, "{last} of {flaps}");
    // The node's own object and its Node are all it asked for beside shared resources.
    let others = requests.iter().filter(|request| request.contains("node2"));
    assert_eq!(others.count(), 0, "{requests:?}");
    bench.tor.sigterm().unwrap();
}
