//! Whatever becomes of one object of a cluster: an end, no panic, and the others as they were.

use api::build::{Object, Verdict, settle};
use api::cluster::object;
use proptest::prelude::*;
use serde_json::{Value, json};

/// A cluster of every kind, with sessions of every kind.
fn cluster() -> Vec<Value> {
    let ours = |kind: &str, name: &str, spec: Value| json!({ "apiVersion": "towpath.io/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    let node = |n: u32| {
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": format!("node-{n}"), "uid": format!("uid-{n}"), "labels": { "rack": "a" } },
            "spec": { "podCIDRs": [format!("10.244.{n}.0/24")] },
            "status": { "addresses": [{ "type": "InternalIP", "address": format!("10.1.0.{n}") }] },
        })
    };
    vec![
        ours("NetworkConfig", "default", json!({ "asn": 65001, "listen": { "port": 1179 } })),
        node(1),
        node(2),
        node(3),
        ours("NodeNetwork", "node-1", json!({ "labels": { "disk": "ssd" } })),
        ours("IPPool", "pods", json!({ "cidrs": ["10.244.0.0/16"] })),
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "bgp", "namespace": "towpath-system" }, "data": { "password": "czNjcmV0" } }),
        ours(
            "BGPPeer",
            "tor-1",
            json!({ "neighbor": { "address": "10.0.0.1" }, "remoteASN": 65100, "timers": { "hold": "9s", "keepalive": "3s" } }),
        ),
        ours(
            "BGPPeer",
            "tor-2",
            json!({ "neighbor": { "address": "10.0.0.2" }, "remoteASN": "external", "auth": { "md5SecretRef": { "name": "bgp" } } }),
        ),
        ours(
            "BGPPeer",
            "clients",
            json!({ "neighbor": { "listen": { "ranges": ["10.2.0.0/16"] } }, "remoteASN": "any", "nodeSelector": { "matchLabels": { "rack": "a", "disk": "ssd" } } }),
        ),
        ours(
            "BGPPeer",
            "mesh",
            json!({ "neighbor": { "nodes": { "selector": { "matchLabels": { "rack": "a" } } } } }),
        ),
        ours(
            "Advertisement",
            "vip",
            json!({ "source": { "static": { "cidrs": ["192.0.2.1/32"] } }, "peers": ["tor-1", "tor-2"] }),
        ),
        ours(
            "Advertisement",
            "pods",
            json!({ "source": { "podBlocks": {} }, "attributes": { "communities": ["65001:100"] } }),
        ),
    ]
}

fn read(all: &[Value]) -> Vec<Object> {
    all.iter().map(|one| object(one).unwrap_or_else(Object::from)).collect()
}

/// What somebody may write in a field, or nothing at all.
fn written() -> impl Strategy<Value = Option<Value>> {
    let words = [
        "",
        "10.0.0.1",
        "10.0.0.2",
        "10.1.0.1",
        "10.1.0.2",
        "10.2.0.1",
        "fe80::1%eth0",
        "10.244.2.0/24",
        "192.0.2.1/32",
        "0s",
        "2s",
        "90s",
        "bgp",
        "none",
        "tor-2",
        "mesh",
        "podBlocks",
        "a",
        "?",
    ];
    prop_oneof![
        Just(None),
        prop::sample::select(words.to_vec()).prop_map(|word| Some(json!(word))),
        (-1_i64..70_000).prop_map(|number| Some(json!(number))),
        any::<bool>().prop_map(|value| Some(json!(value))),
        prop::sample::select(words.to_vec()).prop_map(|word| Some(json!([word, word]))),
        Just(Some(json!({}))),
        Just(Some(json!({ "address": "10.0.0.2" }))),
        Just(Some(json!({ "port": 0 }))),
        Just(Some(json!({ "nodes": {} }))),
        Just(Some(json!({ "md5SecretRef": { "name": "none" } }))),
    ]
}

/// Paths of the fields below an object's spec and data.
fn fields(at: &str, value: &Value, all: &mut Vec<String>) {
    for (name, inner) in value.as_object().into_iter().flatten() {
        let path = format!("{at}/{name}");
        fields(&path, inner, all);
        all.push(path);
    }
}

fn edit(object: &mut Value, which: prop::sample::Index, name: &str, value: Option<Value>) {
    let mut all = vec![format!("/spec/{name}")];
    for part in ["spec", "data"] {
        fields(&format!("/{part}"), &object[part], &mut all);
    }
    let path = which.get(&all).clone();
    let Some((parent, field)) = path.rsplit_once('/') else { return };
    let Some(fields) = object.pointer_mut(parent).and_then(Value::as_object_mut) else { return };
    match value {
        Some(value) => fields.insert(field.to_owned(), value),
        None => fields.remove(field),
    };
}

/// Trees of what means something to some part of the reader.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9.:/%=]{0,12}".prop_map(Value::from),
    ];
    let names = [
        "metadata",
        "name",
        "uid",
        "labels",
        "spec",
        "status",
        "data",
        "addresses",
        "type",
        "podCIDRs",
        "podCIDR",
        "neighbor",
        "nodes",
        "selector",
        "matchLabels",
        "matchExpressions",
        "families",
        "source",
        "static",
        "cidrs",
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        let name = prop::sample::select(names.to_vec());
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..6).prop_map(|fields| fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_of_any_kind_gets_an_answer(
        kind in prop::sample::select(vec!["NetworkConfig", "NodeNetwork", "BGPPeer", "Advertisement", "IPPool", "Node", "Secret", "Pod"]),
        mut json in any_json(),
    ) {
        if let Some(fields) = json.as_object_mut() {
            fields.insert("kind".to_owned(), json!(kind));
        }
        match object(&json) {
            Ok(read) => prop_assert_eq!(settle(&[read], &[], "node-1").verdicts.len(), 1),
            Err(unreadable) => prop_assert!(!unreadable.problems.is_empty()),
        }
    }

    #[test]
    fn an_edit_that_breaks_one_object_leaves_everything_as_it_was(
        which in any::<prop::sample::Index>(),
        field in any::<prop::sample::Index>(),
        name in prop::sample::select(vec!["passive", "asn", "asnMode", "neighbor", "peers", "addresses", "podCIDRs", "cidrs", "listen", "auth"]),
        value in written(),
    ) {
        let mut all = cluster();
        let before = settle(&read(&all), &[], "node-1");
        prop_assert!(before.verdicts.iter().all(|verdict| *verdict == Verdict::Accepted), "{:?}", before.verdicts);
        let edited = which.index(all.len());
        edit(&mut all[edited], field, name, value);
        let current = read(&all);
        let after = settle(&current, &before.in_force, "node-1");
        for (index, verdict) in after.verdicts.iter().enumerate() {
            if index != edited {
                // Of what others say, only references may suffer: to a Secret that no longer serves.
                prop_assert!(!matches!(verdict, Verdict::Refused { .. }), "{} of {}: {verdict:?}", current[index].name, all[edited]);
            }
        }
        match &after.verdicts[edited] {
            Verdict::Refused { last_good_in_force, problems } => {
                prop_assert!(last_good_in_force, "{problems:?}");
                prop_assert!(!problems.is_empty());
                prop_assert_eq!(&after.desired, &before.desired, "{}", all[edited]);
                prop_assert_eq!(&after.in_force.len(), &before.in_force.len());
            }
            Verdict::Accepted | Verdict::Unresolved { .. } => {}
        }
        let again = settle(&current, &after.in_force, "node-1");
        prop_assert_eq!(again.desired, after.desired, "the same again changes nothing");
        prop_assert_eq!(again.in_force, after.in_force);
    }

    #[test]
    fn without_a_past_there_is_an_end_and_no_session_without_its_password(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), written()), 0..12),
        gone in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut all = cluster();
        for (which, field, value) in edits {
            let edited = which.index(all.len());
            edit(&mut all[edited], field, "neighbor", value);
        }
        for which in gone {
            all.remove(which.index(all.len()));
        }
        let current = read(&all);
        let settled = settle(&current, &[], "node-1");
        prop_assert_eq!(settled.verdicts.len(), current.len());
        for peer in &settled.desired.peers {
            let spec = all.iter().find(|one| one["metadata"]["name"] == peer.resource() && one["kind"] == "BGPPeer");
            let asked = spec.is_some_and(|spec| spec.pointer("/spec/auth/md5SecretRef").is_some());
            prop_assert_eq!(peer.md5.is_some(), asked, "{}", peer.name);
        }
    }
}
