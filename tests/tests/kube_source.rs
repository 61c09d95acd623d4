//! A daemon that is configured by an API server: a real one, with our own resource definitions and roles.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy allows it in test functions only")]

use std::net::SocketAddr;
use std::time::Duration;

use bgp_speaker::query::RibView;
use bgp_speaker::status::PeerStatus;
use route_agent::status::AgentStatus;
use serde_json::json;
use towpath_tests::agent::{Agent, LIMIT};
use towpath_tests::kube::{ApiServer, ApiServerOptions};
use towpath_tests::rack::Rack;
use towpath_tests::wait::until;

const NAMESPACE: &str = "towpath-system";
/// A dead way is noticed after a ping and its limit, and the connection that is tried then has one too.
const NOTICED: Duration = Duration::from_secs(45);

/// A node between an API server and two switches: ours, with a password on the second one's session.
struct Bench {
    server: ApiServer,
    node: Agent,
    tors: Vec<Agent>,
    _rack: Rack,
}

fn tor(i: u8, password: &str) -> String {
    let auth = if password.is_empty() { "" } else { "auth: { md5SecretRef: { name: bgp } }, " };
    format!(
        "apiVersion: towpath.io/v1alpha1\nkind: NetworkConfig\nmetadata: {{ name: default }}\nspec: {{ transit: true, asn: {asn}, routerID: 10.0.{i}.2 }}\n\
         ---\napiVersion: towpath.io/v1alpha1\nkind: BGPPeer\nmetadata: {{ name: node }}\nspec: {{ neighbor: {{ address: 10.0.{i}.1 }}, {auth}remoteASN: external, timers: {{ connectRetry: 1s, idleHoldMax: 1s }} }}\n\
         ---\napiVersion: towpath.io/v1alpha1\nkind: Advertisement\nmetadata: {{ name: default }}\nspec: {{ source: {{ static: {{ cidrs: [0.0.0.0/0] }} }} }}\n\
         ---\napiVersion: v1\nkind: Secret\nmetadata: {{ name: bgp }}\nstringData: {{ password: '{password}' }}\n",
        asn = 65_100 + u32::from(i),
    )
}

fn peer(name: &str, i: u8, more: &str) -> String {
    format!(
        "---\napiVersion: towpath.io/v1alpha1\nkind: BGPPeer\nmetadata: {{ name: {name} }}\n\
         spec: {{ neighbor: {{ address: 10.0.{i}.2 }}, remoteASN: external, gracefulRestart: {{ mode: Restarter }}{more} }}\n"
    )
}

const WITH_PASSWORD: &str = ", auth: { md5SecretRef: { name: bgp } }";

fn secret(password: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{ name: bgp, namespace: {NAMESPACE} }}\nstringData: {{ password: \"{password}\" }}\n"
    )
}

impl Bench {
    /// Everything but the daemon runs; the node is registered.
    fn new() -> Self {
        let rack = Rack::new(2).unwrap();
        let server =
            ApiServer::with(ApiServerOptions { audit: true, ..ApiServerOptions::default() }).unwrap();
        rack.node.link(("api0", &["10.0.9.1/24"]), server.netns(), ("api0", &["10.0.9.2/24"])).unwrap();
        rack.node.ip("route add 172.20.0.100/32 via 10.0.9.2").unwrap();
        let kubeconfig = server.kubeconfig_of(NAMESPACE, "towpath").unwrap();
        let tors = vec![
            Agent::start(rack.neighbor(1), &[("tor.yaml", &tor(1, ""))], "tor1").unwrap(),
            Agent::start(rack.neighbor(2), &[("tor.yaml", &tor(2, "sesame-1"))], "tor2").unwrap(),
        ];
        let node = Agent::in_cluster(&rack.node, &kubeconfig, "node").unwrap();
        Self { server, node, tors, _rack: rack }
    }

    /// The daemon runs and has two sessions.
    fn established() -> Self {
        let mut bench = Self::new();
        bench.definitions();
        bench.roles();
        bench.register();
        bench
            .server
            .apply(&(secret("sesame-1") + &peer("tor1", 1, "") + &peer("tor2", 2, WITH_PASSWORD)))
            .unwrap();
        bench.node.start_again().unwrap();
        bench.until("the first state", |status| !status.waiting);
        for tor in ["tor1", "tor2"] {
            bench.node.until_established(tor).unwrap();
        }
        bench
    }

    fn definitions(&self) {
        self.server.kubectl(&["apply", "--server-side", "-f", "deploy/crds.yaml"]).unwrap();
    }

    fn roles(&self) {
        self.server.kubectl(&["apply", "--server-side", "-f", "deploy/base/rbac.yaml"]).unwrap();
    }

    fn register(&self) {
        let node = "{apiVersion: v1, kind: Node, metadata: {name: node}, spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24]}}";
        self.server.apply(node).unwrap();
        let status = json!({ "status": { "addresses": [{ "type": "InternalIP", "address": "10.0.1.1" }] } });
        self.server
            .kubectl(&["patch", "node", "node", "--subresource=status", "-p", &status.to_string()])
            .unwrap();
    }

    fn until(&self, what: &str, check: impl Fn(&AgentStatus) -> bool) -> AgentStatus {
        self.until_within(LIMIT, what, check)
    }

    fn until_within(&self, limit: Duration, what: &str, check: impl Fn(&AgentStatus) -> bool) -> AgentStatus {
        until(limit, what, || {
            let status = self.node.status()?;
            if check(&status) { Ok(Some(status)) } else { anyhow::bail!("{status:#?}") }
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", self.node.log()))
    }

    fn until_problem(&self, words: &[&str]) -> String {
        let found = |status: &AgentStatus| {
            let fits = |problem: &&String| words.iter().all(|word| problem.contains(word));
            status.problems.iter().find(fits).cloned()
        };
        let status = self.until(&format!("a problem with {words:?}"), |status| found(status).is_some());
        found(&status).unwrap()
    }

    fn until_no_problems(&self) -> AgentStatus {
        self.until("no problems", |status| status.problems.is_empty())
    }

    fn generation(&self) -> u64 {
        self.node.status().unwrap().config.generation
    }

    fn until_generation(&self, generation: u64) {
        self.until("the next configuration", |status| status.config.generation >= generation);
        assert_eq!(self.generation(), generation, "{}", self.node.log());
    }

    fn edit(&self, yaml: &str) {
        self.server.apply(yaml).unwrap();
    }

    fn health(&self, probe: &str) -> bool {
        self.node.cli(&["health", probe]).unwrap().status.success()
    }
}

/// What would be another one if the session had been anything but left alone.
fn session(agent: &Agent, name: &str) -> (String, u64, u64, Option<SocketAddr>) {
    let peer = agent.peer(name).unwrap();
    (peer.state, peer.since, peer.down_count, peer.remote_endpoint)
}

#[test]
fn objects_become_sessions_and_an_edit_touches_nothing_else() {
    let bench = Bench::established();
    let node = &bench.node;
    bench.until("readiness", |_| bench.health("--ready"));
    bench.tors[0].until_prefixes(RibView::Best, &["0.0.0.0/0", "10.244.1.0/24"]).unwrap();
    let status = bench.until_no_problems();
    let cluster = status.config.cluster.unwrap();
    assert!(cluster.synced && cluster.away_since.is_none());
    let (first, second) = (session(node, "tor1"), session(node, "tor2"));

    // Nothing new is nothing new.
    let generation = bench.generation();
    bench.edit(&(secret("sesame-1") + &peer("tor1", 1, "")));
    bench.server.kubectl(&["annotate", "bgppeer", "tor1", "seen=yes"]).unwrap();
    bench.edit(&peer("tor1", 1, ", timers: { hold: 30s, keepalive: 10s }"));
    bench.until_generation(generation + 1);
    assert_eq!((session(node, "tor1"), session(node, "tor2")), (first.clone(), second.clone()));

    // A peer that contradicts another, one whose Secret is in another namespace, and one that names none that is there.
    bench.edit(&peer("zz-same", 1, ""));
    bench.until_problem(&["BGPPeer/zz-same", "10.0.1.2", "BGPPeer/tor1", "left out"]);
    bench.edit(&peer("tor3", 3, ", auth: { md5SecretRef: { name: bgp, namespace: kube-system } }"));
    bench.until_problem(&["BGPPeer/tor3", "spec.auth.md5SecretRef", "kube-system"]);
    assert!(node.peer("tor3").is_err(), "no session without its password");
    bench.edit(&peer("tor2", 2, ", auth: { md5SecretRef: { name: gone } }"));
    bench.until_problem(&["BGPPeer/tor2", "gone", "last good version stays"]);
    // A password that cannot be one.
    bench.edit(&peer("tor2", 2, WITH_PASSWORD));
    bench.edit(&secret("sesame-1\\n"));
    bench.until_problem(&["Secret bgp", "line break"]);
    assert_eq!((session(node, "tor1"), session(node, "tor2")), (first.clone(), second.clone()));
    bench.server.kubectl(&["delete", "bgppeers", "zz-same", "tor3"]).unwrap();
    bench.edit(&secret("sesame-1"));
    bench.until_no_problems();

    // Another password, at both ends: that session only.
    bench.edit(&secret("sesame-2"));
    bench.tors[1].write("tor.yaml", &tor(2, "sesame-2")).unwrap();
    node.until_peer("tor2", "another session", |peer| {
        peer.state == "Established" && peer.remote_endpoint != second.3
    })
    .unwrap();
    assert_eq!(session(node, "tor1"), first);
    let said = node.log() + &String::from_utf8(node.cli(&["status", "-o", "json"]).unwrap().stdout).unwrap();
    assert!(!said.contains("sesame"), "passwords are never shown: {said}");

    // Only what concerns this node was asked for.
    let asked: Vec<String> = bench
        .server
        .audit()
        .unwrap()
        .iter()
        .filter(|event| event["user"]["username"] == format!("system:serviceaccount:{NAMESPACE}:towpath"))
        .map(|event| event["requestURI"].as_str().unwrap_or_default().to_owned())
        .collect();
    let lists = |resource: &str| {
        let lists = asked.iter().filter(|uri| uri.contains(&format!("/{resource}?")));
        lists.cloned().collect::<Vec<_>>()
    };
    assert!(
        !lists("nodes").is_empty() && lists("nodes").iter().all(|uri| uri.contains("metadata.name%3Dnode&")),
        "{asked:#?}"
    );
    assert!(
        lists("secrets").iter().all(|uri| uri.contains(&format!("/namespaces/{NAMESPACE}/"))),
        "{asked:#?}"
    );
    assert!(!asked.iter().any(|uri| uri.contains("/pods")), "{asked:#?}");
}

#[test]
fn an_api_server_that_is_away_changes_nothing_also_for_a_daemon_that_starts_meanwhile() {
    let mut bench = Bench::established();
    bench.node.until_prefixes(RibView::Best, &["0.0.0.0/0", "10.244.1.0/24"]).unwrap();
    let before = (session(&bench.node, "tor1"), session(&bench.node, "tor2"));
    let installed = bench.node.installed().unwrap();

    // The way to it is cut without a word.
    bench.server.netns().ip("link set api0 down").unwrap();
    bench.until_within(NOTICED, "the loss", |status| {
        status.config.cluster.as_ref().is_some_and(|cluster| cluster.away_since.is_some())
    });
    bench.until_problem(&["the API server does not answer", "172.20.0.100:6443"]);
    bench.server.netns().ip("link set api0 up").unwrap();
    bench.until_no_problems();
    // It dies.
    bench.server.kill().unwrap();
    bench.until_problem(&["the API server does not answer"]);
    assert_eq!((session(&bench.node, "tor1"), session(&bench.node, "tor2")), before);

    bench.node.kill9().unwrap();
    bench.node.start_again().unwrap();
    let status = bench.until("a start from disk", |status| !status.waiting);
    assert!(!status.config.cluster.unwrap().synced);
    for tor in ["tor1", "tor2"] {
        bench.node.until_established(tor).unwrap();
    }
    bench.node.until_prefixes(RibView::Best, &["0.0.0.0/0", "10.244.1.0/24"]).unwrap();
    assert_eq!(bench.node.installed().unwrap(), installed, "the kernel keeps what it has");
    let before = (session(&bench.node, "tor1"), session(&bench.node, "tor2"));

    // It comes back, with nothing new.
    bench.server.start().unwrap();
    bench.until("everything read anew", |status| {
        status.problems.is_empty() && status.config.cluster.as_ref().is_some_and(|cluster| cluster.synced)
    });
    assert_eq!(bench.generation(), 1, "{}", bench.node.log());
    bench.edit(&peer("tor1", 1, ", timers: { hold: 60s }"));
    bench.until_generation(2);
    assert_eq!((session(&bench.node, "tor1"), session(&bench.node, "tor2")), before);
}

/// Configuration of every kind that the daemon in [`Bench`] can have.
fn all_kinds() -> String {
    let object = |kind: &str, name: &str, spec: &str| {
        format!(
            "---\napiVersion: towpath.io/v1alpha1\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec: {{ {spec} }}\n"
        )
    };
    object("NetworkConfig", "default", "asn: 64601")
        + &object("NodeNetwork", "node", "routerID: 10.9.9.9")
        + &object("IPPool", "pods", "cidrs: [10.244.0.0/16]")
        + &object("Advertisement", "blocks", "source: { podBlocks: {} }")
        + &object("Advertisement", "static", "source: { static: { cidrs: [10.99.0.0/24] } }")
        + &peer("tor1", 1, "")
        + &peer("tor2", 2, WITH_PASSWORD)
}

/// Objects of every kind the daemon reads, and of those it writes. One after the other they are edited and deleted: `tor1` is
/// the session that none of it is about.
#[test]
fn no_edit_and_no_deletion_of_any_one_object_resets_a_session_it_is_not_about() {
    let bench = Bench::established();
    bench.edit(&(all_kinds() + NEIGHBOURS));
    bench.server.kubectl(&["label", "node", "node", "rack=a"]).unwrap();
    bench.tors[0].until_prefixes(RibView::Best, &["0.0.0.0/0", "10.99.0.0/24", "10.244.1.0/24"]).unwrap();
    bench.until_no_problems();
    let first = session(&bench.node, "tor1");
    let ours = |kind: &str, name: &str, spec: &str| {
        format!(
            "{{apiVersion: towpath.io/v1alpha1, kind: {kind}, metadata: {{name: {name}}}, spec: {{{spec}}}}}"
        )
    };
    let core = |kind: &str, more: &str| format!("{{apiVersion: v1, kind: {kind}, {more}}}");
    // YAML to apply, or what else kubectl is told.
    let steps = [
        ours("NetworkConfig", "default", "asn: 64601, install: {maxPaths: 4}, logLevel: Debug"),
        ours("IPPool", "pods", "cidrs: [10.244.0.0/16, 10.245.0.0/16]"),
        "delete ippool/pods".to_owned(),
        ours("Advertisement", "static", "source: {static: {cidrs: [10.99.1.0/24]}}"),
        "delete advertisement/static".to_owned(),
        "delete advertisement/blocks".to_owned(),
        ours("NodeNetwork", "node", "routerID: 10.9.9.9, podCIDRs: [10.244.1.0/24, 10.244.9.0/24]"),
        ours("NodeNetwork", "other", "asn: 64777, routerID: 10.9.9.9"),
        "delete nodenetwork/other".to_owned(),
        core(
            "Node",
            "metadata: {name: other, labels: {rack: b}}, spec: {podCIDR: 10.244.3.0/24, podCIDRs: [10.244.3.0/24]}",
        ),
        "delete node/other".to_owned(),
        // The selector of tor2 is this label.
        "label node/node rack=none --overwrite".to_owned(),
        "label node/node rack=a zone=z --overwrite".to_owned(),
        peer(
            "tor2",
            2,
            ", auth: { md5SecretRef: { name: bgp } }, timers: { hold: 30s }, pauseReason: hm, paused: true",
        ),
        core("Secret", "metadata: {name: unused, namespace: towpath-system}, stringData: {password: other}"),
        "delete secret/unused".to_owned(),
        secret("sesame-3"),
        "delete secret/bgp".to_owned(),
        "delete bgppeer/tor2".to_owned(),
        "delete lease/towpath-status".to_owned(),
        "delete node/node".to_owned(),
    ];
    for (step, what) in (0..).zip(&steps) {
        if what.starts_with("delete") || what.starts_with("label") {
            let words: Vec<&str> = what.split(' ').chain(["-n", NAMESPACE]).collect();
            bench.server.kubectl(&words).unwrap();
        } else {
            bench.edit(what);
        }
        // What comes afterwards has arrived: so has this, and what it made of the sessions is seen below, whenever it was.
        bench.edit(&ours(
            "Advertisement",
            "mark",
            &format!("source: {{static: {{cidrs: [10.98.{step}.0/24]}}}}"),
        ));
        let marked = format!("10.98.{step}.0/24");
        until(LIMIT, &format!("{marked} after {what}"), || {
            let heard =
                bench.tors[0].prefixes(RibView::Best)?.iter().any(|prefix| prefix.to_string() == marked);
            Ok(heard.then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", bench.node.log()));
        assert_eq!(session(&bench.node, "tor1"), first, "after {what}\n{}", bench.node.log());
    }
    // These two are what every session is made of: another router id, then another AS number.
    for what in ["nodenetwork/node", "networkconfig/default"] {
        let before = bench.tors[0].peer("node").unwrap().down_count;
        bench.server.kubectl(&["delete", what]).unwrap();
        let renewed = |peer: &PeerStatus| peer.state == "Established" && peer.down_count > before;
        bench.tors[0].until_peer("node", "another session", renewed).unwrap();
    }
}

/// Of another node, and a peer that a label of this one selects.
const NEIGHBOURS: &str = "---
{apiVersion: v1, kind: Node, metadata: {name: other}, spec: {podCIDR: 10.244.3.0/24, podCIDRs: [10.244.3.0/24]}}
---
{apiVersion: towpath.io/v1alpha1, kind: NodeNetwork, metadata: {name: other}, spec: {}}
---
{apiVersion: towpath.io/v1alpha1, kind: BGPPeer, metadata: {name: tor2}, spec: {nodeSelector: {matchLabels: {rack: a}}, neighbor: {address: 10.0.2.2}, remoteASN: external, auth: {md5SecretRef: {name: bgp}}}}
";

#[test]
fn definitions_that_are_deleted_take_no_session_and_no_route_along() {
    let mut bench = Bench::established();
    bench.edit(&all_kinds());
    let announced = ["0.0.0.0/0", "10.99.0.0/24", "10.244.1.0/24"];
    for tor in &bench.tors {
        tor.until_prefixes(RibView::Best, &announced).unwrap();
    }
    bench.until_no_problems();
    let sessions = |bench: &Bench| (session(&bench.node, "tor1"), session(&bench.node, "tor2"));
    let (before, installed) = (sessions(&bench), bench.node.installed().unwrap());
    let generation = bench.generation();

    // As `kubectl delete -k deploy/` does it, and what was the daemons' own namespace is gone as well.
    bench.server.kubectl(&["delete", "-f", "deploy/crds.yaml"]).unwrap();
    bench.server.kubectl(&["delete", "secret", "bgp", "-n", NAMESPACE]).unwrap();
    for plural in ["networkconfigs", "bgppeers", "advertisements", "ippools", "nodenetworks"] {
        bench.until_problem(&[plural, "went with their definition", "stay in force"]);
    }
    assert_eq!((sessions(&bench), bench.generation()), (before, generation), "{}", bench.node.log());
    bench.server.kubectl(&["delete", "clusterrole,clusterrolebinding", "towpath"]).unwrap();

    // A daemon that starts meanwhile, and one that starts when the definitions are there again, without resources.
    bench.node.kill9().unwrap();
    bench.node.start_again().unwrap();
    bench.until("a start from disk", |status| !status.waiting);
    for tor in ["tor1", "tor2"] {
        bench.node.until_established(tor).unwrap();
    }
    bench.until_problem(&["bgppeers may not be read"]);
    assert_eq!(bench.node.installed().unwrap(), installed);
    bench.definitions();
    bench.roles();
    bench.until_problem(&["bgppeers went with an earlier definition", "tor1, tor2", "stay in force"]);
    bench.node.kill9().unwrap();
    bench.node.start_again().unwrap();
    for tor in ["tor1", "tor2"] {
        bench.node.until_established(tor).unwrap();
    }
    bench.until_problem(&["bgppeers went with an earlier definition", "tor1, tor2", "stay in force"]);
    for tor in &bench.tors {
        tor.until_prefixes(RibView::Best, &announced).unwrap();
    }
    assert_eq!(bench.node.installed().unwrap(), installed);

    // The same resources again are nothing new, and from now on a deletion is one.
    let before = sessions(&bench);
    bench.edit(&(secret("sesame-1") + &all_kinds()));
    bench.until_no_problems();
    assert_eq!((sessions(&bench), bench.generation()), (before.clone(), 1), "{}", bench.node.log());
    bench.server.kubectl(&["delete", "bgppeer", "tor2"]).unwrap();
    bench.until("one session less", |_| bench.node.peer("tor2").is_err());
    assert_eq!(session(&bench.node, "tor1"), before.0);
}

#[test]
fn a_first_start_waits_for_the_server_its_definitions_and_its_roles_and_says_so() {
    let mut bench = Bench::new();
    bench.server.kill().unwrap();
    bench.node.start_again().unwrap();
    bench.until_problem(&["waiting for the API server at https://172.20.0.100:6443", "refused"]);
    let shown = String::from_utf8(bench.node.cli(&["status"]).unwrap().stdout).unwrap();
    assert!(shown.contains("waiting") && shown.contains("not healthy"), "{shown}");
    let peers = bench.node.peers().unwrap_err();
    assert!(format!("{peers:#}").contains("there is no configuration yet"), "{peers:#}");
    let probes = ["--live", "--started", "--ready"].map(|probe| bench.health(probe));
    assert_eq!(probes, [true, true, false]);

    bench.server.start().unwrap();
    bench.until_problem(&["bgppeers may not be read", "forbidden", "roles of deploy/"]);
    bench.roles();
    bench.until_problem(&["the API server knows no bgppeers of towpath.io/v1alpha1", "deploy/crds.yaml"]);
    // Not for ever: pods of this node need no peer to talk to each other.
    bench.until_within(NOTICED, "a state without them", |status| !status.waiting);
    bench.until_problem(&["the API server has no Node node", "--node"]);
    bench.register();
    bench.definitions();
    bench.until_no_problems();
    bench.edit(&peer("tor1", 1, ""));
    bench.node.until_established("tor1").unwrap();
    bench.until("readiness", |_| bench.health("--ready"));
    bench.node.sigterm().unwrap();
}
