//! `neighbor.nodes`: both ends come to the same sessions, from files and from a cluster.

use api::build::{Object, settle};
use api::cluster::object;
use api::desired::*;
use api::{DesiredState, Documents};
use serde_json::json;
use std::net::IpAddr;
use std::time::Duration;

const MESH: &str = "apiVersion: towpath.io/v1alpha1\nkind: BGPPeer\nmetadata: {name: mesh}\nspec:\n  neighbor: {nodes: {}}\n";

fn node(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: towpath.io/v1alpha1\nkind: NodeNetwork\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
    )
}

fn built(text: &str, node: &str) -> DesiredState {
    let mut documents = Documents::default();
    documents.add("fabric.yaml", text.as_bytes());
    documents.build(node).unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

fn names(state: &DesiredState) -> Vec<&str> {
    state.peers.iter().map(|peer| peer.name.as_str()).collect()
}

fn theirs(peer: &Peer) -> IpAddr {
    match &peer.neighbor {
        Neighbor::Address { address, .. } => *address,
        Neighbor::Listen { .. } => panic!("{} listens", peer.name),
    }
}

fn families(peer: &Peer) -> Vec<(AfiSafi, bool)> {
    peer.families.iter().map(|family| (family.afi_safi, family.extended_next_hop)).collect()
}

/// `over`: the ends of the session, as `ours - theirs`.
fn over(peer: &Peer) -> String {
    match &peer.source {
        Source::Address(ours) => format!("{ours} - {}", theirs(peer)),
        other => format!("{other:?} - {}", theirs(peer)),
    }
}

#[test]
fn each_node_has_a_session_with_each_other() {
    let text = [
        MESH,
        &node("node-1", "addresses: [10.0.0.1]"),
        &node("node-2", "addresses: [10.0.0.2]"),
        &node("node-3", "addresses: [10.0.0.3]"),
        &node("node-4", ""),
    ]
    .concat();
    let state = built(&text, "node-1");
    assert_eq!(
        names(&state),
        ["mesh/node-2", "mesh/node-3"],
        "not with itself, and not with one without address"
    );
    let peer = &state.peers[0];
    assert_eq!(over(peer), "10.0.0.1 - 10.0.0.2");
    assert_eq!((peer.remote_asn, peer.local_asn, peer.port), (RemoteAsn::Number(64512), 64512, 179));
    assert_eq!(families(peer), [(AfiSafi::Ipv4Unicast, false)]);
    assert_eq!((peer.passive, peer.next_hop), (Passive::Auto, NextHopMode::Auto));
    assert_eq!(peer.resource(), "mesh");
    assert_eq!(names(&built(&text, "node-3")), ["mesh/node-1", "mesh/node-2"]);
    let left = text.replace("node-3", "node-5");
    assert_eq!(built(&left, "node-1").peers[0], *peer, "a node that leaves touches no other session");
}

#[test]
fn both_ends_agree_on_the_family_and_each_next_hop_is_right() {
    use AfiSafi::{Ipv4Unicast as V4, Ipv6Unicast as V6};
    let both = "families: [{afi: ipv4, safi: unicast}, {afi: ipv6, safi: unicast}]";
    let v6_only = "families: [{afi: ipv6, safi: unicast}]";
    let own = NextHopMode::Address("fd00::1".parse().unwrap());
    type Case<'a> =
        (&'a str, &'a str, &'a str, &'a str, Option<(&'a str, Vec<(AfiSafi, bool)>, NextHopMode)>);
    let cases: [Case<'_>; 9] = [
        (
            "IPv4",
            "10.0.0.1",
            "10.0.0.2",
            "",
            Some(("10.0.0.1 - 10.0.0.2", vec![(V4, false)], NextHopMode::Auto)),
        ),
        (
            "IPv6",
            "'fd00::1'",
            "'fd00::2'",
            "",
            Some(("fd00::1 - fd00::2", vec![(V6, false)], NextHopMode::Auto)),
        ),
        (
            "dual stack, in any order",
            "'fd00::1', 10.0.0.1, 10.9.0.1",
            "10.0.0.2, 'fd00::2'",
            "",
            Some(("10.0.0.1 - 10.0.0.2", vec![(V4, false), (V6, false)], own)),
        ),
        (
            "one end of one family",
            "10.0.0.1, 'fd00::1'",
            "'fd00::2'",
            "",
            Some(("fd00::1 - fd00::2", vec![(V6, false)], NextHopMode::Auto)),
        ),
        ("no family in common", "10.0.0.1", "'fd00::2'", "", None),
        ("only a link-local address", "'fd00::1'", "'fe80::2'", "", None),
        (
            "IPv4 prefixes over IPv6 (RFC 8950)",
            "'fd00::1'",
            "'fd00::2'",
            both,
            Some(("fd00::1 - fd00::2", vec![(V4, true), (V6, false)], NextHopMode::Auto)),
        ),
        (
            "IPv6 alone where there are both",
            "10.0.0.1, 'fd00::1'",
            "10.0.0.2, 'fd00::2'",
            v6_only,
            Some(("fd00::1 - fd00::2", vec![(V6, false)], NextHopMode::Auto)),
        ),
        (
            "IPv6 without a next hop for it",
            "10.0.0.1",
            "10.0.0.2",
            both,
            Some(("10.0.0.1 - 10.0.0.2", vec![(V4, false)], NextHopMode::Auto)),
        ),
    ];
    for (name, ours, theirs, more, expected) in cases {
        let text = [
            MESH,
            "  ",
            more,
            "\n",
            &node("node-1", &format!("addresses: [{ours}]")),
            &node("node-2", &format!("addresses: [{theirs}]")),
        ]
        .concat();
        let state = built(&text, "node-1");
        let found = state.peers.first().map(|peer| (over(peer), families(peer), peer.next_hop));
        let expected = expected.map(|(over, families, next_hop)| (over.to_owned(), families, next_hop));
        assert_eq!(found, expected, "{name}");
        let there = built(&text, "node-2");
        let mirrored = there.peers.first().map(|peer| {
            let over = over(peer);
            let (ours, theirs) = over.split_once(" - ").unwrap();
            (format!("{theirs} - {ours}"), families(peer))
        });
        assert_eq!(
            mirrored,
            found.map(|(over, families, _)| (over, families)),
            "{name}, seen from the other end"
        );
        if state.peers.is_empty() {
            let apart = "no session with node-2: this node has no address of their address family";
            assert!(state.doubts()[0].contains(apart), "{name}: {:?}", state.doubts());
        }
    }
}

#[test]
fn selectors_count_in_both_directions() {
    let role = |name: &str, role: &str, last: u8| {
        node(name, &format!("addresses: [10.0.0.{last}], labels: {{role: {role}}}"))
    };
    let nodes = [
        role("a", "edge", 1),
        role("b", "edge", 2),
        role("h1", "hub", 3),
        role("h2", "hub", 4),
        role("x", "none", 5),
    ];
    let star = MESH.replace("nodes: {}", "nodes: {selector: {matchLabels: {role: hub}}}");
    let star = star
        + "  nodeSelector: {matchExpressions: [{key: role, operator: In, values: [edge, hub]}]}\n"
        + &nodes.concat();
    assert_eq!(names(&built(&star, "a")), ["mesh/h1", "mesh/h2"]);
    assert_eq!(names(&built(&star, "h1")), ["mesh/a", "mesh/b", "mesh/h2"], "hubs have what edges have");
    assert_eq!(names(&built(&star, "x")), Vec::<&str>::new());
}

#[test]
fn a_mesh_of_as_numbers_and_ports_of_its_own() {
    let config = "---\napiVersion: towpath.io/v1alpha1\nkind: NetworkConfig\nmetadata: {name: default}\nspec: {asnMode: PerNode, listen: {port: 1179}}\n";
    let text = [
        MESH,
        config,
        &node("node-1", "addresses: [10.0.0.1]"),
        &node("node-2", "addresses: [10.0.0.2]"),
        &node("node-3", "addresses: [10.0.0.3], asn: 65003"),
    ]
    .concat();
    let state = built(&text, "node-1");
    let theirs: Vec<_> = state.peers.iter().map(|peer| (peer.remote_asn, peer.port)).collect();
    let second = built(&text, "node-2").node.asn;
    assert_eq!(theirs, [(RemoteAsn::Number(second), 1179), (RemoteAsn::Number(65003), 1179)]);
    let local = text.replace("neighbor:", "localASN: 65100\n  neighbor:");
    assert!(built(&local, "node-1").peers.iter().all(|peer| peer.remote_asn == RemoteAsn::Number(65100)));
    let any = text.replace("neighbor:", "remoteASN: any\n  neighbor:");
    assert!(built(&any, "node-1").peers.iter().all(|peer| peer.remote_asn == RemoteAsn::Any));
    // The same number twice is what a hash of 24 bits may come to one day.
    let twice = text.replace("asn: 65003", &format!("asn: {}", state.node.asn));
    assert!(built(&twice, "node-1").doubts()[0].starts_with("nodes node-1 and node-3 have the AS number"));
}

#[test]
fn a_password_and_a_path_are_those_of_every_session() {
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: bgp}\nstringData: {password: s3cret}\n";
    let vip = "---\napiVersion: towpath.io/v1alpha1\nkind: Advertisement\nmetadata: {name: vip}\nspec: {source: {static: {cidrs: [192.0.2.1/32]}}, peers: [mesh]}\n";
    let text = [
        MESH,
        "  auth: {md5SecretRef: {name: bgp}}\n  timers: {hold: 9s}\n",
        secret,
        vip,
        &node("node-1", "addresses: [10.0.0.1]"),
        &node("node-2", "addresses: [10.0.0.2]"),
        &node("node-3", "addresses: [10.0.0.3]"),
    ]
    .concat();
    let state = built(&text, "node-1");
    assert!(state.peers.iter().all(|peer| peer.md5 == Some(Secret::new("s3cret"))));
    assert!(state.peers.iter().all(|peer| peer.timers.hold == Duration::from_secs(9)));
    assert_eq!(state.advertisements[0].peers, Some(vec!["mesh/node-2".into(), "mesh/node-3".into()]));
}

#[test]
fn two_nodes_of_one_address_are_one_session_and_a_word() {
    let text = [
        MESH,
        &node("node-1", "addresses: [10.0.0.1]"),
        &node("old", "addresses: [10.0.0.2]"),
        &node("new", "addresses: [10.0.0.2]"),
        &node("clone", "addresses: [10.0.0.1]"),
    ]
    .concat();
    let state = built(&text, "node-1");
    assert_eq!(names(&state), ["mesh/new"]);
    let said = "BGPPeer/mesh: no session with clone, old: another node has the same address; remove the one that is gone";
    assert_eq!(state.doubts()[0], said);
}

#[test]
fn a_node_without_an_address_says_so() {
    let text = [MESH, &node("node-1", ""), &node("node-2", "addresses: [10.0.0.2]")].concat();
    let state = built(&text, "node-1");
    assert_eq!(names(&state), Vec::<&str>::new());
    assert!(state.doubts()[0].contains("this node has no address yet"), "{:?}", state.doubts());
}

/// Nodes of a cluster of two families.
fn nodes(count: u32) -> Vec<Object> {
    let one = |n: u32| {
        let (high, low) = (n >> 8, n & 255);
        let addresses = json!([
            { "type": "InternalIP", "address": format!("10.1.{high}.{low}") },
            { "type": "InternalIP", "address": format!("fd00:1::{n:x}") },
        ]);
        object(&json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": format!("node-{n}"), "uid": format!("uid-{n}") },
            "spec": { "podCIDRs": [format!("10.{}.{}.0/24", 128 + high, low)] },
            "status": { "addresses": addresses },
        }))
        .expect("can be read")
    };
    (1..=count).map(one).collect()
}

fn mesh() -> Object {
    object(&json!({
        "apiVersion": "towpath.io/v1alpha1",
        "kind": "BGPPeer",
        "metadata": { "name": "mesh" },
        "spec": { "neighbor": { "nodes": {} } },
    }))
    .expect("can be read")
}

#[test]
fn a_manifest_alone_makes_a_network_of_a_clusters_nodes() {
    let mut current = nodes(3);
    current.push(mesh());
    let settled = settle(&current, &[], "node-1");
    assert_eq!(names(&settled.desired), ["mesh/node-2", "mesh/node-3"]);
    assert_eq!(settled.desired.advertisements.len(), 1, "the pod blocks");
    // Out of which range the cluster's blocks were cut is known roughly.
    assert_eq!(format!("{:?}", settled.desired.pod_ranges), "[10.0.0.0/8]");
    current.remove(2);
    let left = settle(&current, &settled.in_force, "node-1");
    assert_eq!(left.desired.peers, settled.desired.peers[..1]);
}

#[test]
fn a_mesh_of_five_thousand_nodes_has_a_session_with_each() {
    let mut current = nodes(5000);
    current.push(mesh());
    let settled = settle(&current, &[], "node-1");
    assert_eq!(settled.desired.peers.len() + 1, 5000);
}
