//! Real containers through the plugin: both containerds that people run, two nodes, BGP between them.
//!
//! The test is the kubelet. Each test brings up a lab of its own and runs once with each containerd, except those
//! about what only CNI 1.1 has.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Signal;
use towpath_tests::containers::{Cluster, Machine, Pod, PodSpec, Runtime};
use towpath_tests::wait::until;

/// Patience for what follows from an event, on a slow machine.
const LIMIT: Duration = Duration::from_secs(60);

macro_rules! with_both_runtimes {
    ($($name:ident)*) => {
        mod containerd_1 {
            $(#[test]
            fn $name() -> anyhow::Result<()> {
                super::$name(super::Runtime::Containerd1)
            })*
        }
        mod containerd_2 {
            $(#[test]
            fn $name() -> anyhow::Result<()> {
                super::$name(super::Runtime::Containerd2)
            })*
        }
    };
}

with_both_runtimes! {
    pods_of_two_nodes_talk_and_leave_nothing_behind
    pods_outlive_their_runtime
    a_reboot_frees_what_its_pods_had
    a_drained_node_starts_no_pods_until_that_is_undone
}

fn pods_of_two_nodes_talk_and_leave_nothing_behind(runtime: Runtime) -> anyhow::Result<()> {
    let cluster = Cluster::up(runtime)?;
    let (node1, node2) = (cluster.node(1), cluster.node(2));
    let client = node1.start(&PodSpec::named("client"))?;
    let server = node2.start(&PodSpec {
        ports: vec![(8080, 80)],
        annotations: vec![
            ("kubernetes.io/ingress-bandwidth", "10M"),
            ("kubernetes.io/egress-bandwidth", "20M"),
        ],
        ..PodSpec::named("server")
    })?;
    reach_each_other((node1, &client), (node2, &server))?;

    // As a kubelet's probe does, and as clients of a host port do: elsewhere, and in the pod itself.
    for address in [IpAddr::from(server.v4), server.v6.into()] {
        ensure!(node2.name_at_from_node((address, 80).into())? == "server", "{address} from node2");
    }
    for host in ["10.0.0.5:8080", "[fd00:0:0:2::2]:8080"] {
        ensure!(node1.name_at_from_node(host.parse()?)? == "server", "{host} from node1");
        for (node, pod) in [(node1, &client), (node2, &server)] {
            ensure!(
                node.name_at(pod, host.parse()?)? == "server",
                "{host} from a pod of node{}",
                node.number
            );
        }
    }

    let shaped = node2.run(&["tc", "qdisc", "show"])?;
    for rate in ["rate 10Mbit", "rate 20Mbit"] {
        ensure!(shaped.contains(rate), "no tbf of {rate}: {shaped}");
    }

    for (node, pod) in [(node1, &client), (node2, &server)] {
        // Removing stops it once more, as a kubelet does whenever it is not sure.
        node.stop(&pod.sandbox)?;
        node.remove(&pod.sandbox)?;
        let traces = node.traces_of_pods()?;
        ensure!(traces.is_empty(), "node{}: {traces:?}", node.number);
    }
    Ok(())
}

fn pods_outlive_their_runtime(runtime: Runtime) -> anyhow::Result<()> {
    let mut cluster = Cluster::up(runtime)?;
    let client = cluster.node(1).start(&PodSpec::named("client"))?;
    let server = cluster.node(2).start(&PodSpec { ports: vec![(8080, 80)], ..PodSpec::named("server") })?;

    cluster.node_mut(2).kill_containerd()?;
    let node1 = cluster.node(1);
    for server in [(server.v4, 80).into(), "10.0.0.5:8080".parse()?] {
        ensure!(node1.name_at(&client, server)? == "server", "{server}");
    }
    cluster.node_mut(2).start_containerd()?;

    let (node1, node2) = (cluster.node(1), cluster.node(2));
    ensure!(node2.sandboxes()?.contains(&server.sandbox), "containerd forgot {server:?}");
    reach_each_other((node1, &client), (node2, &server))?;
    let next = node2.start(&PodSpec::named("next"))?;
    ensure!((next.v4, next.v6) != (server.v4, server.v6), "{next:?} has the addresses of {server:?}");
    reach_each_other((node1, &client), (node2, &next))?;
    for pod in [&server, &next] {
        node2.remove(&pod.sandbox)?;
    }
    let traces = node2.traces_of_pods()?;
    ensure!(traces.is_empty(), "{traces:?}");
    Ok(())
}

fn a_reboot_frees_what_its_pods_had(runtime: Runtime) -> anyhow::Result<()> {
    // Two addresses a node: its first and its last one are left out.
    let mut cluster = Cluster::with_blocks_of(30, runtime)?;
    let names = ["first", "second"];
    let start = |node: &Machine| -> anyhow::Result<Vec<Pod>> {
        names.iter().map(|name| node.start(&PodSpec::named(name))).collect()
    };
    let before = start(cluster.node(2))?;
    let refused = cluster.node(2).start(&PodSpec::named("third")).err().context("a third address of two")?;
    ensure!(refused.to_string().contains("10.244.2.0/30"), "{refused:#}");

    cluster.reboot()?;
    let (node1, node2) = (cluster.node(1), cluster.node(2));
    let old = node2.sandboxes()?;
    ensure!(before.iter().all(|pod| old.contains(&pod.sandbox)), "containerd forgot {before:?}: {old:?}");
    let after = start(node2)?;
    let addresses = |pods: &[Pod]| pods.iter().map(|pod| pod.v4).collect::<std::collections::BTreeSet<_>>();
    ensure!(addresses(&after) == addresses(&before), "{after:?} after {before:?}");

    // Only now does the kubelet come to clean up after the pods of before.
    for sandbox in &old {
        node2.remove(sandbox)?;
    }
    let client = node1.start(&PodSpec::named("client"))?;
    for pod in &after {
        reach_each_other((node1, &client), (node2, pod))?;
        node2.remove(&pod.sandbox)?;
    }
    let traces = node2.traces_of_pods()?;
    ensure!(traces.is_empty(), "{traces:?}");
    Ok(())
}

fn a_drained_node_starts_no_pods_until_that_is_undone(runtime: Runtime) -> anyhow::Result<()> {
    let cluster = Cluster::up(runtime)?;
    let (node, other) = (cluster.node(1), cluster.node(2));
    let [pod, peer] = [node, other].map(|node| node.start(&PodSpec::named("pod")));
    let (pod, peer) = (pod?, peer?);
    node.run(&["towpath", "drain"])?;
    ensure!(node.start(&PodSpec::named("late")).is_err(), "a pod starts on a drained node");
    reach_each_other((node, &pod), (other, &peer))?;

    // What runs can be ended, and with the last one the conflist goes.
    for sandbox in node.sandboxes()? {
        node.remove(&sandbox)?;
    }
    until(LIMIT, "a network that is not ready", || Ok(node.network_ready()?.err()))?;
    node.run(&["towpath", "drain", "--undo"])?;
    until(LIMIT, "a ready network", || Ok(node.network_ready()?.ok()))?;
    ensure!(node.traces_of_pods()?.is_empty(), "{:?}", node.traces_of_pods()?);
    Ok(())
}

#[test]
fn status_makes_the_node_ready_and_unready() -> anyhow::Result<()> {
    let cluster = Cluster::up(Runtime::Containerd2)?;
    let node = cluster.node(1);
    let until_ready = || until(LIMIT, "a ready network", || Ok(node.network_ready()?.ok()));

    // The loss of all sessions must not cost the node its pods.
    cluster.tor().kill(Signal::KILL)?;
    until(LIMIT, "the end of both sessions", || {
        let peers = node.json(&["towpath", "peers", "-o", "json"])?;
        let peers = peers.as_array().context("peers is no list")?;
        Ok(peers.iter().all(|peer| peer["state"] != "Established").then_some(()))
    })?;
    until_ready()?;

    // As after a reboot: nobody has said yet that this node has routes.
    node.node.kill(Signal::KILL)?;
    node.run(&["rm", "/run/towpath/ready"])?;
    node.node.start()?;
    until(LIMIT, "the name of the session that is waited for, in containerd's words", || {
        let words = node.network_ready()?.err().context("the network is ready")?;
        ensure!(words.contains("tor-v4"), "containerd says: {words}");
        Ok(Some(()))
    })?;
    // What is under way is not stopped by it.
    let pod = node.start(&PodSpec::named("early"))?;
    node.remove(&pod.sandbox)?;

    cluster.tor().start()?;
    until_ready()
}

#[test]
fn gc_takes_what_no_container_has() -> anyhow::Result<()> {
    let cluster = Cluster::up(Runtime::Containerd2)?;
    let node = cluster.node(1);
    node.run(&["ip", "netns", "add", "leaked"])?;
    node.add("leaked", "/run/netns/leaked")?;
    let leak = node.traces_of_pods()?;
    for kind in ["link", "route", "lease"] {
        ensure!(leak.iter().any(|trace| trace.starts_with(kind)), "the plugin made no {kind}: {leak:?}");
    }
    let alive = node.start(&PodSpec::named("alive"))?;
    let gc = ["/opt/containerd/cni-gc", "/etc/cni/net.d/10-towpath.conflist", "/opt/cni/bin"];
    let attachment = format!("{}/eth0", alive.sandbox);
    node.run(&[&gc[..], &[attachment.as_str()]].concat())?;
    let other = cluster.node(2).start(&PodSpec::named("other"))?;
    reach_each_other((node, &alive), (cluster.node(2), &other))?;
    node.remove(&alive.sandbox)?;
    ensure!(node.traces_of_pods()? == ["network namespace leaked"], "{:?}", node.traces_of_pods()?);
    Ok(())
}

/// Two pods ping each other, in both families.
fn reach_each_other(one: (&Machine, &Pod), other: (&Machine, &Pod)) -> anyhow::Result<()> {
    for ((node, from), (_, to)) in [(one, other), (other, one)] {
        for address in [to.v4.to_string(), to.v6.to_string()] {
            node.exec(from, 15, &["ping", "-c", "1", "-w", "10", &address])?;
        }
    }
    Ok(())
}
