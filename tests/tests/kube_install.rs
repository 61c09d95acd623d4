//! From `kubectl apply -k deploy/` to a pod network, in a real cluster behind two switches, and what an operator does next:
//! update it, delete it, apply it again.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy allows it in test functions only")]

use std::time::{Duration, Instant};

use towpath_tests::kube::{Cluster, deploy, pods};
use towpath_tests::meter::{Meter, Pair, Plan, Report};

/// Twice what a quiet machine takes and more: the figure itself is printed.
const BOUND: Duration = Duration::from_secs(120);

/// Applies everything and waits until it works; says how long that took.
fn install(cluster: &Cluster, what: &str) {
    let start = Instant::now();
    deploy::apply(cluster, "deploy").unwrap();
    cluster.apply(&cluster.fabric_yaml()).unwrap();
    cluster.until_ready(true).unwrap();
    println!("{what}: all nodes Ready after {:.1?}", start.elapsed());
    pods::until_connected(cluster, BOUND).unwrap();
    let elapsed = start.elapsed();
    println!("{what}: pods, switches, Service and DNS after {elapsed:.1?}");
    assert!(elapsed < BOUND, "{elapsed:?}");
}

#[test]
fn a_manifest_alone_makes_a_network_that_updates_and_deletions_do_not_disturb() {
    let cluster = Cluster::up().unwrap();
    cluster.import(&deploy::image().unwrap()).unwrap();
    pods::start_servers(&cluster).unwrap();
    // Nothing gives pods a network yet, and the kubelets say so.
    cluster.until_ready(false).unwrap();
    install(&cluster, "kubectl apply");

    // Applying it once more is nothing to do.
    let generation = |cluster: &Cluster| {
        let set = cluster.server().json(&["get", "daemonset", "towpath", "-n", deploy::NAMESPACE]).unwrap();
        set["metadata"]["generation"].clone()
    };
    let before = generation(&cluster);
    deploy::apply(&cluster, "deploy").unwrap();
    assert_eq!(generation(&cluster), before);

    // A rolling update under traffic between all nodes.
    let meters = traffic(&cluster);
    let start = Instant::now();
    cluster.kubectl(&["-n", deploy::NAMESPACE, "rollout", "restart", "daemonset/towpath"]).unwrap();
    cluster.until_rolled_out(deploy::NAMESPACE, "daemonset/towpath").unwrap();
    println!("rolling update: {:.1?}", start.elapsed());
    lossless(meters, "during a rolling update");

    // Without daemons the kernels forward, and the switches keep the routes of nodes that said they would be back.
    let meters = traffic(&cluster);
    cluster.kubectl(&["-n", deploy::NAMESPACE, "delete", "daemonset/towpath"]).unwrap();
    lossless(meters, "while the daemons were deleted");

    // The whole manifest goes, with the resources and so with every session. Applied again, all is as it was.
    deploy::delete(&cluster, "deploy").unwrap();
    install(&cluster, "kubectl apply, again");
}

/// Flows between the pods of all nodes, each family, both ways. A pod is in more than one pair: each has ports of its own.
fn traffic(cluster: &Cluster) -> Vec<Meter> {
    let pairs = pods::pairs(cluster).unwrap();
    let start = |(pair, offset): (&Pair, u16)| {
        let base = Plan::default();
        let (source_port, port) = (base.source_port + offset, base.port + offset);
        Meter::start(std::slice::from_ref(pair), Plan { flows: 4, source_port, port, ..base }).unwrap()
    };
    pairs.iter().zip((0..).step_by(100)).map(start).collect()
}

fn lossless(meters: Vec<Meter>, when: &str) {
    let reports: Vec<Report> = meters.into_iter().map(|meter| meter.stop().unwrap()).collect();
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let (sent, lost) = (sum(Report::sent), sum(Report::lost));
    println!("{when}: {sent} packets between all nodes, {lost} lost");
    assert!(sent > 10_000, "{sent}");
    let hit: Vec<String> = reports.iter().filter(|report| report.lost() > 0).map(Report::to_string).collect();
    assert_eq!(lost, 0, "{}", hit.join("\n"));
}
