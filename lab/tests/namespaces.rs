//! Network namespaces inside nodes, such as pods: reached as NODE/NETNS, gone when the node was off.
//!
//! Need root, as labs of the daemon do.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod support;

use std::fs;
use std::time::Duration;

use lab::story::report::Outcome;
use lab::story::{Play, Story};
use lab::{Lab, until};
use support::nobody::Nobody;
use support::{File, runner, text};

const PATIENCE: Duration = Duration::from_secs(10);

/// `a` has a namespace `pod` on a wire of its own, 10.9.0.1 in it and 10.9.0.0 at the node; `b` is next to `a`.
const TOPOLOGY: &str = " nodes:
  a:
   cmd: sleep 3600
   exec:
   - ip addr add 10.1.0.0/31 dev eth1
   - ip netns add pod
   - ip link add to-pod type veth peer name eth0 netns pod
   - ip addr add 10.9.0.0/31 dev to-pod
   - ip link set to-pod up
   - nsenter --net=/run/netns/pod ip addr add 10.9.0.1/31 dev eth0
   - nsenter --net=/run/netns/pod ip link set eth0 up
   - nsenter --net=/run/netns/pod ip route add default via 10.9.0.0
  b: {exec: [ip addr add 10.1.0.1/31 dev eth1, ip route add 10.9.0.0/31 via 10.1.0.0]}
 links: [{endpoints: [\"a:eth1\", \"b:eth1\"]}]
";

fn up(test: &str) -> (File, Lab) {
    let file = File::new(test, TOPOLOGY);
    let lab = file.up();
    assert_eq!(lab.warnings(), [] as [String; 0]);
    (file, lab)
}

#[test]
fn a_namespace_in_a_node_is_named_by_both() {
    let (file, lab) = up("netns");
    let pod = lab.node("a").netns("pod");
    let shown = pod.exec(&["ip", "-br", "addr", "show", "dev", "eth0"]).unwrap();
    assert!(shown.stdout.contains("10.9.0.1/31"), "{shown:?}");
    let listed = || std::net::UdpSocket::bind("10.9.0.1:0").is_ok();
    assert!(pod.in_netns(listed).unwrap(), "sockets are the pod's");
    assert!(!lab.node("a").in_netns(listed).unwrap(), "and not the node's");

    let run = |words: &[&str]| runner().args(["exec", "--lab", &file.name]).args(words).output().unwrap();
    let ping = run(&["a/pod", "ping", "-c1", "-W1", "-n", "10.1.0.1"]);
    assert!(ping.status.success(), "{ping:?}");
    for (place, told) in [
        ("a/pot", "node a/pot: "),
        ("a/pot", "there is no network namespace pot; `ip netns` there lists pod"),
        ("b/pod", "it has none; make one with `towpath pod add`"),
        ("c/pod", "has no node c"),
        ("a/../../etc/passwd", "there is no network namespace"),
    ] {
        let output = run(&[place, "true"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(told), "{place}: {said}");
    }
    // What ends or starts a node is not said of a part of it.
    let kill = runner().args(["node", "-l", &file.name, "kill", "a/pod"]).output().unwrap();
    assert!(!kill.status.success(), "{kill:?}");
}

#[test]
fn a_user_without_rights_reaches_them_too() {
    let file = File::new("netns-nobody", TOPOLOGY);
    let nobody = Nobody::in_folder(file.path());
    let up = nobody.run(&["up", file.path().to_str().unwrap()]);
    assert!(up.status.success() && !String::from_utf8_lossy(&up.stderr).contains("exec `"), "{up:?}");
    let ping = nobody.run(&["exec", "a/pod", "ping", "-c1", "-W1", "-n", "10.1.0.1"]);
    assert!(ping.status.success(), "{ping:?}");
    assert!(nobody.run(&["down", &file.name]).status.success());
}

#[test]
fn a_node_that_was_off_has_another_boot_id_and_no_namespaces() {
    const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
    let (_file, lab) = up("boot");
    let a = lab.node("a");
    let boot = || text(&lab, "a", &["cat", BOOT_ID]);
    let first = boot();
    let machine = fs::read_to_string(BOOT_ID).unwrap();
    assert!(first.len() == machine.trim().len() && first != machine.trim(), "{first}");
    assert_ne!(first, text(&lab, "b", &["cat", BOOT_ID]));

    a.kill(rustix::process::Signal::KILL).unwrap();
    a.start().unwrap();
    assert_eq!(boot(), first, "a main process that is killed is no boot");
    assert!(a.netns("pod").exec(&["true"]).unwrap().success());

    // Somebody who looks into the pod keeps its namespace, but neither its name nor its wire.
    let held = a.netns("pod").open_netns().unwrap();
    lab.kill_and_isolate("a").unwrap();
    a.restore_forwarding().unwrap();
    a.start().unwrap();
    until(PATIENCE, || a.status().is_ok_and(|status| status.pid.is_some())).unwrap();
    assert_ne!(boot(), first);
    assert!(a.netns("pod").exec(&["true"]).is_err());
    let links = text(&lab, "a", &["ls", "/sys/class/net"]);
    assert!(links.contains("eth1") && !links.contains("to-pod"), "{links}");
    drop(held);
}

#[test]
fn networks_of_the_machines_own_containers_are_none_of_a_nodes() {
    let (_file, lab) = up("own-cni");
    for folder in ["/etc/cni", "/opt/cni", "/var/lib/cni", "/var/lib/towpath"] {
        assert_eq!(text(&lab, "a", &["ls", folder]), "", "{folder}");
        lab.node("a").write_file(format!("{folder}/private"), "mine").unwrap();
        assert!(!std::path::Path::new(folder).join("private").exists(), "{folder}");
    }
}

#[test]
fn stories_name_them_too() {
    let file = File::new("netns-story", TOPOLOGY);
    fs::write(
        file.path().join("expect.yaml"),
        "traffic:
  pods: {between: [a/pod, b], flows: 1, rate: 500, families: [ipv4]}
story:
- name: the pod is there
  traffic: [pods]
  events: [{run: {node: a/pod, command: ip link set lo up}}]
  expect:
  - ping: {from: a/pod, to: 10.1.0.1}
  - ping: {from: b, to: 10.9.0.1}
  - route: {node: a/pod, prefix: 0.0.0.0/0, nexthops: 1, via: [10.9.0.0], dev: [eth0]}
  - transfer: {from: b, to: 10.9.0.1, node: a/pod, bytes: 100000}
  - command: {node: a/pod, run: ip -br link show lo, stdout: UNKNOWN}
  lost: {pods: {packets: 0}}
- name: a namespace that is not there is told
  within: 0
  expect: [{ping: {from: a/pot, to: 10.1.0.1}}]
",
    )
    .unwrap();
    let story = Story::read(file.path()).unwrap_or_else(|error| panic!("{error}"));
    let report = Play::new(&story).slack(5).run().unwrap();
    let outcomes: Vec<Outcome> = report.steps.iter().map(|step| step.outcome).collect();
    assert_eq!(outcomes, [Outcome::Held, Outcome::Failed], "{report:#?}");
    assert!(report.steps[0].traffic[0].sent > 100);
    let found = report.steps[1].checks[0].found.as_ref().unwrap();
    assert!(found.contains("there is no network namespace pot; `ip netns` there lists pod"), "{found}");
}
