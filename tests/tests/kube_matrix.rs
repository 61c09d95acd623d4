//! The same manifest in other clusters: one family, kube-proxy with iptables, no switch at all. Only with `make
//! test-cluster`, because each is a cluster of its own.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy allows it in test functions only")]

use std::time::Duration;

use towpath_tests::kube::{Cluster, Fabric, Families, Options, Proxy, deploy, pods};
use towpath_tests::wait::until;

const LIMIT: Duration = Duration::from_secs(180);

fn works(options: Options) {
    let flat = options.fabric == Fabric::Flat;
    let cluster = Cluster::with(options).unwrap();
    cluster.import(&deploy::image().unwrap()).unwrap();
    if flat {
        // The manifest alone makes the network. kubectl knows a kind of it only once its definition is established, so
        // that the BGPPeer may take a second try.
        until(LIMIT, "the manifest to be applied", || deploy::apply(&cluster, "deploy/flat-l2").map(Some))
            .unwrap();
    } else {
        deploy::apply(&cluster, "deploy").unwrap();
        cluster.apply(&cluster.fabric_yaml()).unwrap();
    }
    pods::start_servers(&cluster).unwrap();
    cluster.until_ready(true).unwrap();
    pods::until_connected(&cluster, LIMIT).unwrap();
}

#[test]
#[ignore = "a cluster of its own: make test-cluster"]
fn ipv4_alone() {
    works(Options { families: Families::V4, ..Options::default() });
}

#[test]
#[ignore = "a cluster of its own: make test-cluster"]
fn ipv6_alone_with_iptables() {
    works(Options { families: Families::V6, proxy: Proxy::Iptables, ..Options::default() });
}

#[test]
#[ignore = "a cluster of its own: make test-cluster"]
fn both_families_with_iptables() {
    works(Options { proxy: Proxy::Iptables, ..Options::default() });
}

#[test]
#[ignore = "a cluster of its own: make test-cluster"]
fn nodes_of_one_segment_without_a_switch() {
    works(Options { fabric: Fabric::Flat, ..Options::default() });
}
