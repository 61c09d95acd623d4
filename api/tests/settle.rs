//! What is in force in a cluster while some objects are wrong, gone or not there yet.

use api::build::{Object, Settled, Verdict, settle, settle_with_left};
use api::cluster::object;
use api::desired::{AdvertisementSource, Secret};
use serde_json::{Value, json};

/// An object as the API server gives it.
fn read(json: &Value) -> Object {
    object(json).unwrap_or_else(Object::from)
}

fn resource(kind: &str, name: &str, spec: Value) -> Object {
    let metadata = json!({ "name": name, "uid": "0b7f", "generation": 1, "managedFields": [{}] });
    read(&json!({ "apiVersion": "towpath.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec }))
}

/// Adds fields to an object, or replaces them.
fn give(object: &mut Value, more: &Value) {
    for (field, value) in more.as_object().into_iter().flatten() {
        object[field] = value.clone();
    }
}

fn peer(name: &str, address: &str, more: Value) -> Object {
    let mut spec = json!({ "neighbor": { "address": address }, "remoteASN": 65000 });
    give(&mut spec, &more);
    resource("BGPPeer", name, spec)
}

fn with_password(name: &str, address: &str, secret: &str) -> Object {
    peer(name, address, json!({ "auth": { "md5SecretRef": { "name": secret } } }))
}

/// base64 of `text`, whose length is a multiple of three.
fn secret(name: &str, key: &str, encoded: &str) -> Object {
    let metadata = json!({ "name": name, "namespace": "towpath-system" });
    read(&json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": { key: encoded } }))
}

fn node(name: &str, more: Value) -> Object {
    let mut json = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "uid": "5f1c" } });
    give(&mut json, &more);
    read(&json)
}

fn names(settled: &Settled) -> Vec<&str> {
    settled.desired.peers.iter().map(|peer| peer.name.as_str()).collect()
}

fn refused(last_good_in_force: bool, problem: &str) -> Verdict {
    Verdict::Refused { problems: vec![problem.to_owned()], last_good_in_force }
}

fn unresolved(problem: &str) -> Verdict {
    Verdict::Unresolved { problems: vec![problem.to_owned()] }
}

#[test]
fn what_is_right_is_in_force() {
    let current = [peer("a", "10.0.0.1", json!({})), peer("b", "10.0.0.2", json!({}))];
    let settled = settle(&current, &[], "node-1");
    assert_eq!(names(&settled), ["a", "b"]);
    assert_eq!(settled.in_force, current);
    assert_eq!(settled.verdicts, [Verdict::Accepted, Verdict::Accepted]);
    assert_eq!(settle(&current, &settled.in_force, "node-1"), settled, "again: nothing new");
}

#[test]
fn a_bad_edit_leaves_the_last_good_version_in_force() {
    let good =
        [peer("a", "10.0.0.1", json!({ "timers": { "hold": "9s" } })), peer("b", "10.0.0.2", json!({}))];
    let before = settle(&good, &[], "node-1");
    let edits = [
        (
            peer("a", "10.0.0.1", json!({ "timers": { "hold": "2s" } })),
            "spec.timers.hold: 2s is not allowed; use 0s (off) or at least 3s",
        ),
        (
            peer("a", "10.0.0.1", json!({ "passive": "Sometimes" })),
            "spec.passive: Sometimes is not allowed; use Auto, Always, Never",
        ),
        (
            peer("a", "10.0.0.1", json!({ "port": 7, "neighbor": { "address": "10.0.0.1", "port": 0 } })),
            "spec.neighbor.port: 0 is not allowed; use 1 to 65535",
        ),
        (
            peer("a", "10.0.0.2", json!({})),
            "spec.neighbor.address: 10.0.0.2 is the neighbour of BGPPeer/b too; keep one (first in BGPPeer/b)",
        ),
    ];
    for (edit, problem) in edits {
        let after = settle(&[edit, good[1].clone()], &before.in_force, "node-1");
        assert_eq!(after.desired, before.desired, "{problem}");
        assert_eq!(after.in_force, before.in_force, "{problem}");
        assert_eq!(after.verdicts, [refused(true, problem), Verdict::Accepted]);
    }
}

#[test]
fn without_a_last_good_version_only_the_bad_object_is_left_out() {
    let current = [peer("a", "10.0.0.300", json!({})), peer("b", "10.0.0.2", json!({}))];
    let settled = settle(&current, &[], "node-1");
    assert_eq!(names(&settled), ["b"]);
    assert_eq!(settled.in_force, current[1..]);
    let problem = "spec.neighbor.address: 10.0.0.300 is no address; use an IPv4 or IPv6 address";
    assert_eq!(settled.verdicts, [refused(false, problem), Verdict::Accepted]);
}

#[test]
fn of_two_that_contradict_each_other_the_newcomer_loses() {
    let (old, new) = (peer("b-old", "10.0.0.1", json!({})), peer("a-new", "10.0.0.1", json!({})));
    let problem = "spec.neighbor.address: 10.0.0.1 is the neighbour of BGPPeer/b-old too; keep one (first in BGPPeer/b-old)";
    let current = [old.clone(), new.clone()];
    let settled = settle(&current, &[], "node-1");
    assert_eq!(names(&settled), ["b-old"], "the later one, when nothing was in force");
    assert_eq!(settled.verdicts, [Verdict::Accepted, refused(false, problem)]);
    let settled = settle(&[new, old.clone()], &[old], "node-1");
    assert_eq!(names(&settled), ["b-old"], "wherever it stands, when the other was in force");
    assert_eq!(settled.verdicts, [refused(false, problem), Verdict::Accepted]);
}

#[test]
fn an_edit_that_makes_another_object_wrong_is_refused_itself() {
    let passive = peer("a", "10.0.0.1", json!({ "passive": "Always" }));
    let config = |port: u16| resource("NetworkConfig", "default", json!({ "listen": { "port": port } }));
    let own = |address: &str| resource("NodeNetwork", "node-1", json!({ "addresses": [address] }));
    let good = [config(1179), own("10.0.0.9"), passive.clone()];
    let before = settle(&good, &[], "node-1");
    let silent = settle(&[config(0), own("10.0.0.9"), passive.clone()], &before.in_force, "node-1");
    assert_eq!(silent.desired, before.desired);
    let problem = "contradicts BGPPeer/a spec.passive: waits for connections, but NetworkConfig's listen.port is 0; give it a port";
    assert_eq!(silent.verdicts, [refused(true, problem), Verdict::Accepted, Verdict::Accepted]);
    let taken = settle(&[config(1179), own("10.0.0.1"), passive], &before.in_force, "node-1");
    assert_eq!(taken.desired, before.desired);
    let problem = "contradicts BGPPeer/a spec.neighbor.address: 10.0.0.1 is this node's own; leave the node out with nodeSelector";
    assert_eq!(taken.verdicts, [Verdict::Accepted, refused(true, problem), Verdict::Accepted]);
}

#[test]
fn one_that_contradicts_an_object_refused_for_itself_is_in_force() {
    let bad = peer("a", "10.0.0.1", json!({ "timers": { "hold": "2s" } }));
    let settled = settle(&[bad, peer("b", "10.0.0.1", json!({}))], &[], "node-1");
    assert_eq!(names(&settled), ["b"]);
    assert_eq!(settled.verdicts[1], Verdict::Accepted);
}

#[test]
fn what_is_gone_though_nobody_deleted_it_stays_until_something_contradicts_it() {
    let config = |asn: u32| resource("NetworkConfig", "default", json!({ "asn": asn }));
    let good = [config(64_600), with_password("a", "10.0.0.1", "bgp"), peer("b", "10.0.0.2", json!({}))];
    let before = settle(&[&good[..], &[secret("bgp", "password", "czNjcmV0")]].concat(), &[], "node-1");
    let left = |object: &Object| object.name != "b";
    let without = settle_with_left(&[], &before.in_force, left, "node-1");
    assert_eq!((names(&without), without.desired.node.asn), (vec!["a"], before.desired.node.asn));
    assert_eq!(without.desired.peers[0].md5, Some(Secret::new("s3cret")));
    assert_eq!(without.verdicts, [], "nobody is told of what is not there");
    assert_eq!(settle_with_left(&[], &without.in_force, left, "node-1"), without, "again: nothing new");
    assert_eq!(names(&settle(&[], &before.in_force, "node-1")), Vec::<&str>::new(), "deleted is deleted");
    // What is there again is right, whatever it says.
    let current = [config(64_700), peer("new", "10.0.0.1", json!({}))];
    let again = settle_with_left(&current, &without.in_force, left, "node-1");
    assert_eq!((names(&again), again.desired.node.asn), (vec!["new"], 64_700));
    assert_eq!(again.verdicts, [Verdict::Accepted, Verdict::Accepted]);
}

#[test]
fn a_session_is_never_made_without_its_password() {
    let current = [with_password("a", "10.0.0.1", "bgp"), peer("b", "10.0.0.2", json!({}))];
    let none = settle(&current, &[], "node-1");
    assert_eq!(names(&none), ["b"]);
    let problem = "spec.auth.md5SecretRef.name: there is no Secret bgp in namespace towpath-system; add it beside this resource";
    assert_eq!(none.verdicts, [unresolved(problem), Verdict::Accepted]);
    let [a, b] = current;
    let there = settle(&[a, b, secret("bgp", "password", "czNjcmV0")], &none.in_force, "node-1");
    assert_eq!(names(&there), ["a", "b"]);
    assert_eq!(there.desired.peers[0].md5, Some(Secret::new("s3cret")));
    assert_eq!(there.verdicts, [Verdict::Accepted, Verdict::Accepted, Verdict::Accepted]);
}

#[test]
fn a_secret_that_is_gone_or_broken_stays_as_it_was_while_it_is_named() {
    let peers = [with_password("a", "10.0.0.1", "bgp"), with_password("b", "10.0.0.2", "bgp")];
    let with = |more: &[Object]| [&peers, more].concat();
    let good = secret("bgp", "password", "czNjcmV0");
    let before = settle(&with(std::slice::from_ref(&good)), &[], "node-1");
    assert_eq!(names(&before), ["a", "b"]);
    let gone = settle(&with(&[]), &before.in_force, "node-1");
    assert_eq!(gone.desired, before.desired);
    assert!(gone.in_force.contains(&good));
    assert!(
        matches!(&gone.verdicts[..], [Verdict::Unresolved { .. }, Verdict::Unresolved { .. }]),
        "{:?}",
        gone.verdicts
    );
    assert_eq!(settle(&with(&[]), &gone.in_force, "node-1"), gone, "and stays so");
    for broken in [
        secret("bgp", "pass", "czNjcmV0"),
        secret("bgp", "password", "czNjcmV0Cg=="),
        secret("bgp", "password", "?"),
    ] {
        let after = settle(&with(&[broken]), &before.in_force, "node-1");
        assert_eq!(after.desired, before.desired);
        assert!(
            matches!(after.verdicts[2], Verdict::Refused { last_good_in_force: true, .. }),
            "{:?}",
            after.verdicts
        );
    }
    let unnamed = settle(&[peer("a", "10.0.0.1", json!({}))], &gone.in_force, "node-1");
    assert_eq!(unnamed.in_force.len(), 1, "nobody names it any more");
}

#[test]
fn a_new_password_reaches_only_the_sessions_that_name_it() {
    let peers = [with_password("a", "10.0.0.1", "bgp"), peer("b", "10.0.0.2", json!({}))];
    let before = settle(&[&peers[..], &[secret("bgp", "password", "czNjcmV0")]].concat(), &[], "node-1");
    let after =
        settle(&[&peers[..], &[secret("bgp", "password", "cm90YXRl")]].concat(), &before.in_force, "node-1");
    assert_eq!(after.desired.peers[0].md5, Some(Secret::new("rotate")));
    assert_eq!(after.desired.peers[1], before.desired.peers[1]);
}

#[test]
fn a_reference_moved_to_a_secret_that_is_not_there_keeps_the_password_it_had() {
    let good = [with_password("a", "10.0.0.1", "bgp"), secret("bgp", "password", "czNjcmV0")];
    let before = settle(&good, &[], "node-1");
    // Its Secret is no longer asked of the API server, since nothing current names it.
    let after = settle(&[with_password("a", "10.0.0.1", "other")], &before.in_force, "node-1");
    assert_eq!(after.desired, before.desired);
    assert!(matches!(after.verdicts[0], Verdict::Refused { last_good_in_force: true, .. }));
}

#[test]
fn secrets_of_another_namespace_of_ours_are_found_without_naming_it() {
    let mut own = secret("bgp", "password", "czNjcmV0");
    own.namespace = Some("kube-system".into());
    let settled = settle(&[with_password("a", "10.0.0.1", "bgp"), own], &[], "node-1");
    assert_eq!(names(&settled), ["a"]);
}

#[test]
fn an_announcement_outlives_one_of_the_peers_it_names() {
    let advertisement = resource(
        "Advertisement",
        "vip",
        json!({ "source": { "static": { "cidrs": ["192.0.2.1/32"] } }, "peers": ["a", "b"] }),
    );
    let (a, b) = (peer("a", "10.0.0.1", json!({})), peer("b", "10.0.0.2", json!({})));
    let before = settle(&[a.clone(), b, advertisement.clone()], &[], "node-1");
    let after = settle(&[a, advertisement], &before.in_force, "node-1");
    assert_eq!(after.desired.advertisements, before.desired.advertisements);
    assert_eq!(
        after.verdicts[1],
        unresolved("spec.peers[1]: there is no BGPPeer b; name a BGPPeer that is given")
    );
}

#[test]
fn a_node_is_what_the_cluster_says_under_what_its_nodenetwork_says() {
    let facts = json!({
        "metadata": { "name": "node-1", "uid": "5f1c", "labels": { "rack": "a", "kubernetes.io/hostname": "n1" } },
        "spec": { "podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:244:0:1::/64"] },
        "status": { "addresses": [
            { "type": "Hostname", "address": "node-1" },
            { "type": "InternalIP", "address": "192.168.7.1" },
            { "type": "InternalIP", "address": "fd00:7::1" },
            { "type": "ExternalIP", "address": "198.51.100.7" },
        ] },
    });
    let rack =
        |name: &str| peer(name, "10.0.0.1", json!({ "nodeSelector": { "matchLabels": { "rack": name } } }));
    let settled = settle(&[node("node-1", facts.clone()), rack("a"), rack("b")], &[], "node-1");
    assert_eq!(names(&settled), ["a"]);
    let node_of = |settled: &Settled| settled.desired.node.clone();
    assert_eq!(format!("{:?}", node_of(&settled).addresses), "[192.168.7.1, fd00:7::1]");
    assert_eq!(format!("{:?}", node_of(&settled).pod_blocks), "[10.244.1.0/24, fd00:244:0:1::/64]");
    assert_eq!(node_of(&settled).router_id.to_string(), "192.168.7.1");
    let own = json!({ "podCIDRs": ["10.9.0.0/24"], "labels": { "rack": "b", "disk": "ssd" } });
    let ssd =
        peer("c", "10.0.0.2", json!({ "nodeSelector": { "matchLabels": { "rack": "a", "disk": "ssd" } } }));
    let settled =
        settle(&[node("node-1", facts), ssd, resource("NodeNetwork", "node-1", own)], &[], "node-1");
    assert_eq!(names(&settled), ["c"], "the Node's labels outweigh, NodeNetwork's are added");
    assert_eq!(format!("{:?}", node_of(&settled).pod_blocks), "[10.9.0.0/24]", "field by field");
    assert_eq!(format!("{:?}", node_of(&settled).addresses), "[192.168.7.1, fd00:7::1]");
}

#[test]
fn a_node_without_addresses_has_a_router_id_of_its_uid() {
    let id = |uid: &str| {
        let metadata = json!({ "name": "node-1", "uid": uid });
        settle(&[node("node-1", json!({ "metadata": metadata }))], &[], "node-1").desired.node.router_id
    };
    assert_ne!(id("one"), id("two"));
    assert_eq!(id("one"), id("one"));
}

#[test]
fn a_node_that_is_gone_keeps_its_pods_reachable() {
    let own = node("node-1", json!({ "spec": { "podCIDRs": ["10.244.1.0/24"] } }));
    let before = settle(&[own, node("node-2", json!({}))], &[], "node-1");
    let after = settle(&[], &before.in_force, "node-1");
    assert_eq!(after.desired, before.desired);
    assert_eq!(after.in_force.len(), 1, "only its own");
}

#[test]
fn every_kind_of_the_api_server_is_settled_or_named() {
    let current = [
        resource("NetworkConfig", "default", json!({ "asn": "65000.1", "future": { "a": 1 } })),
        resource("IPPool", "pods", json!({ "cidrs": ["10.244.0.0/16"] })),
        resource(
            "Advertisement",
            "vip",
            json!({ "source": { "static": { "cidrs": ["192.0.2.1/32"] }, "more": 1 } }),
        ),
        resource("Advertisement", "later", json!({ "source": { "services": {} } })),
        resource("RoutePolicy", "later", json!({})),
    ];
    let settled = settle(&current, &[], "node-1");
    assert_eq!(settled.desired.node.asn, 65000 << 16 | 1);
    assert_eq!(settled.desired.pod_ranges.len(), 1);
    let sources: Vec<_> = settled.desired.advertisements.iter().map(|one| &one.source).collect();
    assert!(matches!(sources[..], [AdvertisementSource::Static { .. }]), "{sources:?}");
    assert_eq!(
        settled.verdicts[..3],
        [Verdict::Accepted, Verdict::Accepted, Verdict::Accepted],
        "unknown fields are for others"
    );
    assert_eq!(
        settled.verdicts[3],
        refused(false, "spec.source: names no source; give static, interfaces or podBlocks")
    );
    assert_eq!(settled.verdicts[4], refused(false, "kind: RoutePolicy is none that is read here"));
}
