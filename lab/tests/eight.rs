//! Eight topology files on which containerlab and this runner must agree, and what must be true of them.
//!
//! Need root; the file with routers needs FRR in the folder that $TOWPATH_TOOLS names (`make setup`).

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use lab::{Exit, Lab, Node, until};
use support::{pings, text};

const PATIENCE: Duration = Duration::from_secs(10);

/// What `$D` stands for.
const DEFAULTS: &str = "{kind: linux, image: alpine, cmd: sleep infinity}";

/// One of the files, under a lab name that no other run of this test uses.
struct Eight {
    folder: tempfile::TempDir,
    /// In place of `t<number>`.
    prefix: String,
}

impl Eight {
    fn new(number: u8, text: &str) -> Self {
        let prefix = format!("t{number}-{}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        let text = text.replacen(&format!("name: t{number}"), &format!("name: {prefix}"), 1);
        fs::write(folder.path().join("topo.clab.yml"), text).unwrap();
        Self { folder, prefix }
    }

    fn with(self, name: &str, text: &str) -> Self {
        fs::write(self.folder.path().join(name), text).unwrap();
        self
    }

    fn up(&self, env: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_towpath-lab"));
        command.arg("up").arg(self.folder.path()).env_remove("V").envs(env.iter().copied());
        command.env("TOWPATH_BIN", env!("CARGO_BIN_EXE_towpath-lab"));
        command.env("IMG", "alpine").env("FRR", "quay.io/frrouting/frr:10").env("D", DEFAULTS);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output
    }

    fn lab(&self) -> Lab {
        Lab::running(&self.prefix).unwrap()
    }
}

impl Drop for Eight {
    fn drop(&mut self) {
        for entry in fs::read_dir("/run/towpath-labs").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(&self.prefix) {
                Command::new(env!("CARGO_BIN_EXE_towpath-lab")).args(["down", &name]).output().unwrap();
            }
        }
    }
}

/// What the node's `exec` printed, without the runner's own lines.
fn printed(node: &Node) -> Vec<String> {
    let log = fs::read_to_string(node.log()).unwrap();
    log.lines().filter(|line| !line.starts_with("[lab] ")).map(str::to_owned).collect()
}

fn env(node: &Node, name: &str) -> Option<String> {
    let output = node.exec(&["printenv", name]).unwrap();
    output.success().then(|| output.stdout.trim_end_matches('\n').to_owned())
}

#[test]
fn t1_links_are_made_as_written() {
    let file = Eight::new(
        1,
        r#"name: t1
topology:
 defaults: $D
 nodes: {a: {exec: [ip addr add 10.1.0.1/30 dev eth1]}, b: {exec: [ip addr add 10.1.0.2/30 dev eth1]}}
 links:
 - {endpoints: ["a:eth1", "b:eth1"], ipv4: [192.0.2.1/30, 192.0.2.2/30]}
 - {type: veth, mtu: 1400, endpoints: [{node: a, interface: eth2, mac: "02:00:00:00:00:01"}, {node: b, interface: Ethernet1/2}]}
 - endpoints: ["a:x1", "a:x2"]
"#,
    );
    let said = String::from_utf8(file.up(&[]).stderr).unwrap();
    let lab = file.lab();
    assert!(said.contains("\"ipv4\" has no effect"), "{said}");
    for (node, device, mtu) in
        [("a", "eth1", "9500"), ("b", "eth1", "9500"), ("a", "eth2", "1400"), ("a", "x1", "9500")]
    {
        assert_eq!(
            text(&lab, node, &["cat", &format!("/sys/class/net/{device}/mtu")]),
            mtu,
            "{node}:{device}"
        );
    }
    let links = text(&lab, "a", &["ip", "-br", "link", "show", "up"]);
    for device in ["eth0", "eth1", "eth2", "x1", "x2"] {
        assert!(
            links.lines().any(|line| line.starts_with(&format!("{device}@")) && line.contains("LOWER_UP")),
            "{links}"
        );
    }
    let addresses = text(&lab, "a", &["ip", "-4", "-o", "addr", "show", "dev", "eth1"]);
    assert!(addresses.lines().count() == 1 && addresses.contains("10.1.0.1/30"), "{addresses}");
    assert!(pings(&lab, "a", "10.1.0.2"));
    assert_eq!(text(&lab, "a", &["cat", "/sys/class/net/eth2/address"]), "02:00:00:00:00:01");
    assert!(text(&lab, "a", &["cat", "/sys/class/net/eth1/address"]).starts_with("aa:c1:ab:"));
    let long = text(&lab, "b", &["ip", "link", "show", "Ethernet1-2"]);
    assert!(long.contains(": clab-") && long.contains("mtu 1400"), "{long}");
    for (node, count) in [("a", "4"), ("b", "2")] {
        assert_eq!(text(&lab, node, &["printenv", "CLAB_INTFS"]), count);
        assert_eq!(lab.node(node).read_file("/proc/sys/net/ipv4/ip_forward").unwrap(), "1\n");
    }
}

#[test]
fn t2_levels_are_inherited() {
    let file = Eight::new(
        2,
        r#"name: t2
topology:
 defaults: {kind: linux, image: $IMG, cmd: sleep infinity, env: {A: d, B: d}, binds: ["f1:/x"], exec: [echo d, echo s]}
 kinds: {linux: {env: {A: k, C: k}, exec: [echo k, echo s]}}
 groups: {g: {env: {A: g}, binds: ["f2:/x:ro"], exec: [echo g]}}
 nodes: {n: {group: g, env: {B: n, N: 010, Y: yes}, labels: {a.b-c: v}, exec: [echo d, echo n]}}
"#,
    );
    let file = file.with("f1", "one").with("f2", "two");
    file.up(&[]);
    let lab = file.lab();
    let node = lab.node("n");
    assert_eq!(printed(&node), ["d", "s", "k", "g", "n"]);
    let expected =
        [("A", "g"), ("B", "n"), ("C", "k"), ("N", "010"), ("Y", "yes"), ("CLAB_LABEL_A_B_C", "v")];
    for (name, value) in expected {
        assert_eq!(env(&node, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(node.read_file("/x").unwrap(), "two");
    assert!(node.write_file("/x", "mine").is_err());
}

#[test]
fn t3_commands_run_as_root_and_the_main_process_on_a_terminal_as_its_user() {
    let file = Eight::new(
        3,
        r#"name: t3
topology:
 nodes:
  n: {kind: linux, image: $IMG, user: "65534", cmd: bash, env: {FOO: bar},
   exec: [id -u, "sh -c 'echo $$FOO; exit 3'", 'echo "a  b" c\ d * # x', nosuch, echo __clabNodeName__ __clabLabName__]}
"#,
    );
    let output = file.up(&[]);
    let lab = file.lab();
    let node = lab.node("n");
    let last = format!("n clab-{}", file.prefix);
    // The shell's prompt may stand before any line.
    let own = |line: &String| line.rsplit_once("$ ").map_or(line.clone(), |(_, rest)| rest.to_owned());
    let printed: Vec<String> = printed(&node).iter().map(own).collect();
    let printed: Vec<&String> =
        printed.iter().filter(|line| !line.is_empty() && !line.starts_with("[lab] ")).collect();
    assert_eq!(printed, ["0", "bar", "a  b c d *", last.as_str()]);
    let warnings = String::from_utf8(output.stderr).unwrap();
    assert!(warnings.contains("exit code 3") && warnings.contains("exit code 126"), "{warnings}");
    let main = node.status().unwrap().pid.unwrap().to_string();
    let proc = |what: &str| node.read_file(Path::new("/proc").join(&main).join(what)).unwrap();
    assert_eq!(proc("comm").trim(), "bash");
    assert!(proc("status").contains("\nUid:\t65534\t65534\t65534\t65534\n"), "{}", proc("status"));
    let input = node.exec(&["readlink", &format!("/proc/{main}/fd/0")]).unwrap();
    assert_eq!(input.stdout.trim(), "/dev/pts/0");
    // Field 7 of stat: its controlling terminal.
    let stat = proc("stat");
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_ne!(fields[4], "0", "{stat}");
}

#[test]
fn t4_a_node_lives_in_the_network_of_another_one() {
    let file = Eight::new(
        4,
        r#"name: t4
topology:
 defaults: $D
 nodes:
  main: {mgmt-ipv4: 172.20.20.50}
  side: {network-mode: "container:main", exec: [hostname, ip addr add 10.4.0.1/30 dev eth2]}
  bare: {network-mode: none, exec: [ip addr add 10.4.0.2/30 dev eth0]}
 links: [{endpoints: ["side:eth2", "bare:eth0"]}]
"#,
    );
    file.up(&[]);
    let lab = file.lab();
    assert_eq!(printed(&lab.node("side")), ["main"]);
    for node in ["main", "side"] {
        let addresses = text(&lab, node, &["ip", "-4", "-o", "addr"]);
        assert!(addresses.contains("eth0    inet 172.20.20.50/24"), "{addresses}");
        assert!(addresses.contains("eth2    inet 10.4.0.1/30"), "{addresses}");
        assert!(pings(&lab, node, "10.4.0.2"));
        assert_eq!(text(&lab, node, &["hostname"]), "main");
    }
    assert_eq!(
        lab.node("main").read_file("/etc/hosts").unwrap(),
        lab.node("side").read_file("/etc/hosts").unwrap()
    );
    let default = text(&lab, "main", &["ip", "route", "show", "default"]);
    assert_eq!(default, "default via 172.20.20.1 dev eth0");
    let links = text(&lab, "bare", &["ip", "-br", "link"]);
    assert_eq!(links.lines().count(), 2, "{links}");
    assert_eq!(text(&lab, "bare", &["ip", "route", "show", "default"]), "");
}

#[test]
fn t5_nodes_wait_for_one_another_stage_by_stage() {
    let file = Eight::new(
        5,
        r#"name: t5
topology:
 defaults: $D
 nodes:
  a:
   {exec: [sleep 3], healthcheck: {test: [CMD-SHELL, test -e /ok], interval: 1}, stages: {healthy: {exec: [{command: touch /ok}]},
   create-links: {exec: [{command: ls /sys/class/net}, {command: ls /sys/class/net, phase: on-exit}]}}}
  b: {stages: {create: {wait-for: [{node: a, stage: configure}]}}}
  c: {stages: {create: {wait-for: [{node: a, stage: healthy}]}}}
 links: [{endpoints: ["a:eth1", "b:eth1"]}]
"#,
    );
    let begun = Instant::now();
    let running = std::thread::scope(|scope| {
        let up = scope.spawn(|| file.up(&[]));
        // While the exec of `a` still sleeps.
        until(PATIENCE, || Lab::running(&file.prefix).is_ok_and(|lab| lab.node("b").status().is_ok()))
            .unwrap();
        let at = begun.elapsed();
        let lab = file.lab();
        assert!(lab.node("a").read_file("/ok").is_err(), "b began too late");
        assert!(lab.node("c").status().is_err(), "c began too early");
        up.join().unwrap();
        at
    });
    assert!(running < Duration::from_secs(3), "{running:?}");
    let lab = file.lab();
    assert!(lab.node("c").status().is_ok() && lab.node("a").read_file("/ok").is_ok());
    assert_eq!(printed(&lab.node("a")), ["eth0", "lo", "eth0", "eth1", "lo"]);
}

#[test]
fn t6_a_bridge_is_made_inside_a_node() {
    let file = Eight::new(
        6,
        r#"name: t6
topology:
 defaults: $D
 nodes:
  sw: {exec: ["sh -c 'until ip link show br0; do sleep .1; done; ip addr add 10.6.0.1/24 dev br0'"]}
  "br0|sw": {kind: bridge, network-mode: "container:sw"}
  h1: {exec: [ip addr add 10.6.0.11/24 dev eth1]}
  h2: {exec: [ip addr add 10.6.0.12/24 dev eth1]}
 links: [{endpoints: ["h1:eth1", "br0|sw:p1"]}, {endpoints: ["br0|sw:p2", "h2:eth1"]}]
"#,
    );
    file.up(&[]);
    let lab = file.lab();
    let bridge = text(&lab, "sw", &["ip", "-d", "link", "show", "br0"]);
    assert!(
        bridge.contains("mtu 9500") && bridge.contains("state UP") && bridge.contains("stp_state 0"),
        "{bridge}"
    );
    let ports = text(&lab, "sw", &["ls", "/sys/class/net/br0/brif"]);
    assert_eq!(ports.split_whitespace().collect::<Vec<_>>(), ["p1", "p2"]);
    for (from, to) in [
        ("sw", "10.6.0.11"),
        ("sw", "10.6.0.12"),
        ("h1", "10.6.0.1"),
        ("h1", "10.6.0.12"),
        ("h2", "10.6.0.11"),
    ] {
        assert!(pings(&lab, from, to), "{from} to {to}");
    }
}

#[test]
fn t7_variables_are_replaced_where_the_file_is_read() {
    let file = Eight::new(
        7,
        r#"name: t7-${V:=x}
prefix: __lab-name
topology:
 defaults: $D
 nodes: {r: {env: {U: "${NOPE}", E: "${NOPE:-e f}", K: $$K, P: "${V:+p}", M: __clabNodeName__}, sysctls: {net.ipv6.conf.all.forwarding: 1}}}
"#,
    );
    file.up(&[]);
    file.up(&[("V", "z")]);
    for (suffix, p) in [("x", ""), ("z", "p")] {
        let name = format!("{}-{suffix}", file.prefix);
        let lab = Lab::running(&name).unwrap();
        let node = lab.node("r");
        assert_eq!(node.spec().container, format!("{name}-r"));
        let expected = [("U", "$NOPE"), ("E", "e f"), ("K", "$K"), ("P", p), ("M", "__clabNodeName__")];
        for (variable, value) in expected {
            assert_eq!(env(&node, variable).as_deref(), Some(value), "{variable} of {name}");
        }
        assert_eq!(env(&node, "CLAB_LABEL_CONTAINERLAB").as_deref(), Some(name.as_str()));
        let forwarding = node.exec(&["cat", "/proc/sys/net/ipv6/conf/all/forwarding"]).unwrap();
        assert_eq!((forwarding.exit, forwarding.stdout.trim()), (Exit::Code(0), "1"));
    }
}

#[test]
fn t8_two_frr_routers_exchange_their_routes() {
    let tools =
        std::env::var_os("TOWPATH_TOOLS").expect("TOWPATH_TOOLS must name the unpacked daemons: make setup");
    assert!(Path::new(&tools).join("usr/lib/frr/bgpd").is_file(), "no FRR in {tools:?}");
    let file = Eight::new(
        8,
        r#"name: t8
topology:
 groups: {f: {kind: linux, image: $FRR, binds: ["daemons:/etc/frr/daemons", "__clabNodeName__.conf:/etc/frr/frr.conf"]}}
 nodes: {r1: {group: f}, r2: {group: f}}
 links: [{endpoints: ["r1:eth1", "r2:eth1"]}]
"#,
    );
    let router = |n: u8| {
        let other = 3 - n;
        format!(
            "interface eth1\n ip address 10.8.0.{n}/30\nrouter bgp 6500{n}\n no bgp ebgp-requires-policy\n \
             no bgp network import-check\n neighbor 10.8.0.{other} remote-as 6500{other}\n \
             neighbor 10.8.0.{other} timers connect 1\n address-family ipv4 unicast\n  network 10.8.{n}.0/24\n"
        )
    };
    let file = file.with("daemons", "bgpd=yes\n").with("r1.conf", &router(1)).with("r2.conf", &router(2));
    file.up(&[]);
    let lab = file.lab();
    let node = lab.node("r1");
    let route = || node.exec(&["ip", "route", "show", "10.8.2.0/24"]).unwrap().stdout;
    let expected =
        |route: &str| ["via 10.8.0.2 ", "proto bgp ", "metric 20"].iter().all(|part| route.contains(part));
    let outcome = until(PATIENCE, || expected(&route()));
    assert!(outcome.is_ok(), "{}\n{}", route(), fs::read_to_string(node.log()).unwrap());
}
