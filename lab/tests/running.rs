//! Labs in the kernel: up, down however it comes about, and what a test can do to them.
//!
//! Need root, as labs of the daemon do.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use lab::{Exit, Lab, LabError, until};
use rustix::process::Signal;
use support::nobody::Nobody;
use support::{File, THREE, deaf, kill, pings, runner, text};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_lab_comes_up_as_written_and_goes_without_a_trace() {
    let file = File::new("three", THREE);
    let lab = file.up();
    assert_eq!(lab.warnings(), [] as [String; 0]);
    assert!(pings(&lab, "a", "10.2.0.1"));
    assert_eq!(text(&lab, "a", &["hostname"]), "a");
    assert_eq!(text(&lab, "a", &["printenv", "COLOUR"]), "blue");
    assert_eq!(text(&lab, "a", &["cat", "/sys/class/net/eth1/mtu"]), "9500");
    assert!(text(&lab, "a", &["cat", "/sys/class/net/eth1/address"]).starts_with("aa:c1:ab:"));
    let index = |node: &str| text(&lab, node, &["cat", "/sys/class/net/eth1/ifindex"]);
    assert_ne!(index("a"), text(&lab, "a", &["cat", "/sys/class/net/eth1/iflink"]));
    let seed = |node: &str| lab.node(node).read_file("/proc/sys/net/ipv4/fib_multipath_hash_seed").ok();
    assert!(seed("a").is_none() || seed("a") != seed("b"));
    lab.down().unwrap();
    assert_eq!(file.leftovers(), [] as [String; 0]);
}

#[test]
fn what_a_node_writes_stays_private_unless_bound() {
    let shared = tempfile::tempdir().unwrap();
    let bind = shared.path().display();
    let file = File::new(
        "private",
        &format!(" nodes:\n  a: {{binds: [\"{bind}:/var/run/shared\", \"{bind}:/deep/below:ro\"]}}\n  b: \n"),
    );
    let lab = file.up();
    let a = lab.node("a");
    a.write_file("/etc/private", "mine").unwrap();
    a.write_file("/tmp/private", "mine").unwrap();
    assert_eq!(a.read_file("/etc/private").unwrap(), "mine");
    assert!(lab.node("b").read_file("/etc/private").is_err());
    assert!(!Path::new("/etc/private").exists());
    a.write_file("/run/shared/out", "ours").unwrap();
    assert_eq!(fs::read_to_string(shared.path().join("out")).unwrap(), "ours");
    assert_eq!(a.read_file("/deep/below/out").unwrap(), "ours");
    assert!(a.write_file("/deep/below/no", "x").is_err());
    assert!(a.read_file("/etc/hosts").unwrap().contains("localhost a"));
}

#[test]
fn a_killed_holder_takes_everything_with_it() {
    let file = File::new("killed", " nodes: {a: {cmd: sleep 3600}, b: {cmd: sleep MARK}}\n");
    let path = file.path().join("topo.clab.yml");
    let topology = fs::read_to_string(&path).unwrap().replace("MARK", &file.marker());
    fs::write(&path, topology).unwrap();
    let run = |args: &[&str]| runner().args(args).output().unwrap();
    assert!(run(&["up", path.to_str().unwrap()]).status.success());
    let lab = Lab::running(&file.name).unwrap();
    let main = lab.node("b").pid().unwrap();
    // Between fork and exec a main program still shows the node's own command line.
    let cmdline = format!("/proc/{main}/cmdline");
    until(PATIENCE, || fs::read_to_string(&cmdline).unwrap().contains(&file.marker())).unwrap();
    kill(file.holder());
    until(PATIENCE, || !Path::new(&format!("/proc/{main}")).exists()).unwrap();
    // The holder is gone only after everything it held.
    until(PATIENCE, || matches!(Lab::running(&file.name), Err(LabError::Unknown { .. }))).unwrap();
    // What it left behind is in nobody's way, neither of a new start nor of `down`.
    file.up().down().unwrap();
    assert!(run(&["up", path.to_str().unwrap()]).status.success());
    kill(file.holder());
    assert!(run(&["down", &file.name]).status.success());
    assert_eq!(file.leftovers(), [] as [String; 0]);
}

#[test]
fn a_killed_caller_takes_the_lab_with_it_before_it_is_up() {
    let file = File::new("orphan", " nodes: {a: {exec: [sleep 3600]}}\n");
    let mut up = runner().arg("up").arg(file.path()).spawn().unwrap();
    let log = file.state().join("a.log");
    until(PATIENCE, || fs::read_to_string(&log).is_ok_and(|text| text.contains("sleep 3600"))).unwrap();
    up.kill().unwrap();
    up.wait().unwrap();
    until(PATIENCE, || file.leftovers().is_empty()).unwrap();
}

#[test]
fn half_a_lab_can_be_killed_and_the_rest_goes_down_cleanly() {
    let file = File::new("half", THREE);
    let lab = file.up();
    kill(lab.node("r").init_pid().unwrap().try_into().unwrap());
    until(PATIENCE, || lab.node("r").status().is_err()).unwrap();
    assert_eq!(text(&lab, "a", &["hostname"]), "a");
    lab.down().unwrap();
    assert_eq!(file.leftovers(), [] as [String; 0]);
}

#[test]
fn two_labs_do_not_know_each_other_and_one_name_runs_once() {
    let (one, two) = (File::new("one", THREE), File::new("two", THREE));
    let (first, second) = (one.up(), two.up());
    assert!(matches!(Lab::up(one.path()), Err(LabError::Running { .. })));
    first.node("r").stop_forwarding().unwrap();
    assert!(deaf(&first, "a", "10.2.0.1"));
    assert!(pings(&second, "a", "10.2.0.1"));
    drop(first);
    assert_eq!(one.leftovers(), [] as [String; 0]);
    assert!(pings(&second, "a", "10.2.0.1"));
}

#[test]
fn stopped_forwarding_blocks_forwarded_packets_only() {
    let file = File::new("forward", THREE);
    let lab = file.up();
    let router = lab.node("r");
    assert!(pings(&lab, "a", "10.2.0.1"));
    for _ in 0..2 {
        router.stop_forwarding().unwrap();
        assert!(deaf(&lab, "a", "10.2.0.1"));
        assert!(pings(&lab, "a", "10.1.0.0") && pings(&lab, "r", "10.2.0.1"));
    }
    for _ in 0..2 {
        router.restore_forwarding().unwrap();
        assert!(pings(&lab, "a", "10.2.0.1"));
    }
}

#[test]
fn a_pulled_cable_is_carrier_loss_at_the_other_end() {
    let file = File::new("cable", THREE);
    let lab = file.up();
    let carrier = || text(&lab, "a", &["cat", "/sys/class/net/eth1/carrier"]);
    assert_eq!(carrier(), "1");
    lab.link_down("r:eth1").unwrap();
    until(Duration::from_secs(1), || carrier() == "0").unwrap();
    lab.link_up("r:eth1").unwrap();
    until(Duration::from_secs(1), || carrier() == "1").unwrap();
    assert!(matches!(lab.link_down("r:eth9"), Err(LabError::UnknownEnd { .. })));
}

#[test]
fn a_main_process_is_restarted_unless_it_was_killed_on_purpose() {
    let file = File::new("restart", " nodes: {a: {cmd: \"sh -c 'sleep 3600 & exec sleep 3601'\"}}\n");
    let lab = file.up();
    let node = lab.node("a");
    until(PATIENCE, || node.status().unwrap().pid.is_some()).unwrap();
    let sleeps = || node.exec(&["pgrep", "-c", "sleep"]).unwrap().stdout.trim().to_owned();
    until(PATIENCE, || sleeps() == "2").unwrap();

    // From outside, as a crash would: it comes back.
    kill(node.pid().unwrap().try_into().unwrap());
    until(PATIENCE, || node.status().unwrap().starts == 2).unwrap();

    node.kill(Signal::KILL).unwrap();
    until(PATIENCE, || sleeps() == "0").unwrap();
    let status = node.status().unwrap();
    assert!(status.suspended && status.last_exit == Some(Exit::Signal(9)), "{status:?}");
    node.start().unwrap();
    until(PATIENCE, || node.status().unwrap().starts == 3).unwrap();

    node.stop().unwrap();
    assert_eq!(node.status().unwrap().pid, None);
    node.start().unwrap();
    until(PATIENCE, || node.status().unwrap().starts == 4).unwrap();

    node.kill(Signal::STOP).unwrap();
    let state = || fs::read_to_string(format!("/proc/{}/stat", node.pid().unwrap())).unwrap();
    until(PATIENCE, || state().contains(") T ")).unwrap();
    node.kill(Signal::CONT).unwrap();
    until(PATIENCE, || state().contains(") S ")).unwrap();
}

#[test]
fn programs_in_a_node_are_bounded_in_time_and_die_with_their_caller() {
    let file = File::new("programs", " nodes: {a: }\n");
    let lab = file.up();
    let node = lab.node("a");
    let output = node.exec(&["sh", "-c", "echo out; echo err >&2; exit 3"]).unwrap();
    assert_eq!(
        (output.exit, output.stdout.as_str(), output.stderr.as_str()),
        (Exit::Code(3), "out\n", "err\n")
    );
    assert_eq!(node.exec(&["no-such-program"]).unwrap().exit, Exit::Code(126));
    let late = node.exec_within(Duration::from_millis(100), &["sh", "-c", "sleep 3600 & sleep 3600"]);
    assert!(matches!(late, Err(LabError::Io { .. })));
    until(PATIENCE, || !node.exec(&["pgrep", "sleep"]).unwrap().success()).unwrap();
    let large = node.exec(&["head", "-c", "1000000", "/dev/zero"]).unwrap();
    assert_eq!(large.stdout.len(), 1_000_000);
}

#[test]
fn a_dying_router_stops_forwarding_with_its_daemon() {
    let file = File::new("die", &THREE.replace("r: {", "r: {cmd: sleep 3600, "));
    let lab = file.up();
    let router = lab.node("r");
    until(PATIENCE, || router.status().unwrap().pid.is_some()).unwrap();
    assert!(pings(&lab, "a", "10.2.0.1"));
    lab.kill_and_isolate("r").unwrap();
    assert!(deaf(&lab, "a", "10.2.0.1"));
    until(PATIENCE, || router.status().unwrap().pid.is_none()).unwrap();
}

#[test]
fn sockets_can_be_opened_in_a_nodes_network() {
    let file = File::new("netns", THREE);
    let lab = file.up();
    let bind = |node: &str| {
        lab.node(node)
            .in_netns(|| std::net::UdpSocket::bind("10.1.0.1:0").map(|socket| socket.local_addr()))
            .unwrap()
    };
    assert!(bind("a").is_ok());
    assert!(bind("b").is_err());
}

#[test]
fn nodes_can_share_a_network() {
    let file = File::new(
        "share",
        " nodes:
  main: {hostname: chief}
  side: {network-mode: \"container:main\", exec: [ip addr add 10.4.0.1/30 dev eth2]}
  bare: {exec: [ip addr add 10.4.0.2/30 dev eth0]}
 links:
 - endpoints: [\"side:eth2\", \"bare:eth0\"]
 - endpoints: [\"main:a-name-longer-than-the-kernel-takes\", \"bare:Ethernet1/2\"]
",
    );
    let lab = file.up();
    assert_eq!(text(&lab, "side", &["hostname"]), "chief");
    assert_eq!(
        text(&lab, "main", &["ip", "-br", "-4", "addr", "show", "eth2"]),
        text(&lab, "side", &["ip", "-br", "-4", "addr", "show", "eth2"])
    );
    assert!(pings(&lab, "main", "10.4.0.2"));
    assert!(text(&lab, "bare", &["ip", "link", "show", "Ethernet1-2"]).contains("clab-"));
    lab.link_down("main:a-name-longer-than-the-kernel-takes").unwrap();
}

#[test]
fn a_failed_start_leaves_nothing() {
    let file = File::new("broken", " nodes: {a: {sysctls: {net.ipv4.no_such_setting: 1}}}\n");
    let error = Lab::up(file.path()).unwrap_err().to_string();
    assert!(error.contains("node a") && error.contains("no_such_setting"), "{error}");
    assert_eq!(file.leftovers(), [] as [String; 0]);
}

#[test]
fn a_lab_needs_no_root() {
    let file = File::new("rootless", THREE);
    let nobody = Nobody::in_folder(file.path());
    let run = |args: &[&str]| nobody.run(args);
    let up = run(&["up", file.path().to_str().unwrap()]);
    assert!(up.status.success(), "{up:?}");
    let ping = ["exec", "a", "ping", "-c1", "-W1", "10.2.0.1"];
    assert!(run(&ping).status.success());
    assert!(run(&["node", "isolate", "r"]).status.success());
    assert!(!run(&ping).status.success());
    assert_eq!(run(&["exec", "a", "sh", "-c", "exit 7"]).status.code(), Some(7));
    assert!(run(&["down", &file.name]).status.success());
    assert_eq!(fs::read_dir(&nobody.run_dir).unwrap().count(), 0);
}
