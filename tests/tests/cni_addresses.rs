//! Addresses of towpath-cni in bad weather: a hundred pods at once, none left, a reboot, a damaged log.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::thread;

use anyhow::Context;
use serde_json::Value;
use towpath_tests::cni::{Pod, Towpath, addresses};
use towpath_tests::netns::Netns;

const V6: &str = "fd00:68::/64";
/// A block, and how many pods have room in it.
const SMALL: (&str, usize) = ("10.68.0.0/29", 6);

/// Adds pods `numbers`, named after them; their results.
fn add(towpath: &Towpath, numbers: std::ops::Range<usize>) -> Vec<(Pod, Value)> {
    let pods = numbers.map(|number| towpath.pod(number, format!("pod-{number}")));
    pods.map(|pod| {
        let result = towpath.call(|runtime| runtime.add(&pod)).unwrap();
        (pod, result)
    })
    .collect()
}

fn all_addresses(pods: &[(Pod, Value)]) -> Vec<IpAddr> {
    pods.iter().flat_map(|(_, result)| addresses(result).unwrap()).collect()
}

/// Each pod is as its ADD left it.
fn check(towpath: &Towpath, pods: &[(Pod, Value)]) {
    for (pod, result) in pods {
        towpath.call(|runtime| runtime.check(pod, result)).with_context(|| pod.container_id.clone()).unwrap();
    }
}

fn del(towpath: &Towpath, pods: &[(Pod, Value)]) {
    for (pod, result) in pods {
        towpath.call(|runtime| runtime.del(pod, Some(result))).unwrap();
    }
}

#[test]
fn a_hundred_pods_at_once_get_a_hundred_addresses() {
    const PODS: usize = 100;
    let towpath = Towpath::new(PODS, &["10.69.0.0/24", V6]).unwrap();
    let warm_up = add(&towpath, 0..1);
    del(&towpath, &warm_up);
    let before = towpath.node.remains().unwrap();
    let at_once = |work: &(dyn Fn(&Pod) -> Value + Sync)| -> Vec<Value> {
        thread::scope(|scope| {
            let pods = (0..PODS).map(|number| towpath.pod(number, format!("pod-{number}")));
            let threads: Vec<_> = pods.map(|pod| scope.spawn(move || work(&pod))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    };
    let results = at_once(&|pod| towpath.call(|runtime| runtime.add(pod)).unwrap());
    let distinct: BTreeSet<IpAddr> = results.iter().flat_map(|result| addresses(result).unwrap()).collect();
    assert_eq!(distinct.len(), 2 * PODS, "{distinct:?}");
    assert_eq!(towpath.leases().unwrap().len(), PODS);
    at_once(&|pod| towpath.call(|runtime| runtime.del(pod, None)).map(|()| Value::Null).unwrap());
    towpath.expect_nothing_left(&before).unwrap();
}

#[test]
fn an_exhausted_node_says_so_and_keeps_nothing_of_the_pod_it_refused() {
    let (block, room) = SMALL;
    let towpath = Towpath::new(room + 1, &[block, V6]).unwrap();
    let mut pods = add(&towpath, 0..room);
    let before = towpath.node.remains().unwrap();
    let late = towpath.pod(room, "late");
    let refusal = towpath.refusal(|runtime| runtime.add(&late)).unwrap();
    assert_eq!(refusal.code, 11, "{refusal}");
    let text = refusal.to_string();
    assert!(text.contains(block) && text.contains(&room.to_string()), "the block and its counts: {text}");
    assert_eq!(towpath.node.remains().unwrap().beyond(&before), "");
    assert_eq!(towpath.leases().unwrap().len(), room);
    check(&towpath, &pods);

    del(&towpath, &pods.split_off(room - 1));
    let result = towpath.call(|runtime| runtime.add(&late)).unwrap();
    pods.push((late, result));
    check(&towpath, &pods);
}

#[test]
fn rows_of_another_boot_do_not_count_and_a_late_del_harms_nobody() {
    let (block, room) = SMALL;
    let mut towpath = Towpath::new(room, &[block, V6]).unwrap();
    let old = add(&towpath, 0..room);

    // What a boot leaves: the disk.
    towpath.node.netns = Netns::fresh().unwrap();
    towpath.node.pods = (0..room).map(|_| Netns::fresh().unwrap()).collect();
    towpath.boot("second").unwrap();
    assert_eq!(towpath.leases().unwrap(), []);
    let pods = (0..room).map(|number| towpath.pod(number, format!("new-{number}")));
    let new: Vec<(Pod, Value)> = pods
        .map(|pod| {
            let result = towpath.call(|runtime| runtime.add(&pod)).unwrap();
            (pod, result)
        })
        .collect();
    del(&towpath, &old);
    towpath.call(|runtime| runtime.gc(&new.iter().map(|(pod, _)| pod).collect::<Vec<_>>())).unwrap();
    check(&towpath, &new);
    assert_eq!(towpath.leases().unwrap().len(), room);
    assert_eq!(all_addresses(&new).into_iter().collect::<BTreeSet<_>>().len(), 2 * room);
}

/// Ways to ruin a file; each gets its bytes and leaves others, or `None` for no file.
type Ruin = fn(Vec<u8>) -> Option<Vec<u8>>;

const RUINS: &[(&str, Ruin)] = &[
    ("deleted", |_| None),
    ("empty", |_| Some(Vec::new())),
    ("zeroed", |bytes| Some(vec![0; bytes.len()])),
    ("first octet", |bytes| Some(flipped(bytes, 0, 1))),
    ("header", |bytes| Some(flipped(bytes, 8, 24))),
    ("a record in the middle", |bytes| Some(flipped(bytes, 120, 8))),
    ("truncated", |bytes| Some(bytes.into_iter().take(150).collect())),
    ("all of it", |bytes| {
        let length = bytes.len();
        Some(flipped(bytes, 0, length))
    }),
];

fn flipped(mut bytes: Vec<u8>, from: usize, count: usize) -> Vec<u8> {
    bytes.iter_mut().skip(from).take(count).for_each(|byte| *byte ^= 0xa5);
    bytes
}

fn ruin(log: &Path, how: Ruin) {
    let bytes = std::fs::read(log).unwrap();
    match how(bytes) {
        Some(bytes) => std::fs::write(log, bytes).unwrap(),
        None => std::fs::remove_file(log).unwrap(),
    }
}

#[test]
fn a_damaged_log_is_made_anew_from_the_kernel() {
    let (block, room) = SMALL;
    let towpath = Towpath::new(room + 1, &[block, V6]).unwrap();
    del(&towpath, &add(&towpath, 0..1));
    let before = towpath.node.remains().unwrap();
    for (name, how) in RUINS {
        let mut pods = add(&towpath, 0..room / 2);
        ruin(&towpath.node.state().join("cni/ledger"), *how);
        pods.extend(add(&towpath, room / 2..room));
        let seen = all_addresses(&pods);
        let distinct: BTreeSet<&IpAddr> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len(), "{name}: an address was given twice: {seen:?}");
        let refusal = towpath.refusal(|runtime| runtime.add(&towpath.pod(room, "late"))).unwrap();
        assert_eq!(refusal.code, 11, "{name}: {refusal}");
        assert_eq!(towpath.leases().unwrap().len(), room, "{name}");
        check(&towpath, &pods);
        // One more time, and nothing comes but DELs: they find their rows, or do without.
        ruin(&towpath.node.state().join("cni/ledger"), *how);
        del(&towpath, &pods);
        towpath.expect_nothing_left(&before).with_context(|| (*name).to_owned()).unwrap();
    }
}
