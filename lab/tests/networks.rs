//! What labs are wired of besides veth pairs between nodes: the management network, the host
//! namespace and its bridges, namespaces of others, and names in `/run/netns`.
//!
//! Need root, as labs of the daemon do.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::{Lab, until};
use support::nobody::Nobody;
use support::written::Written;
use support::{deaf, kill, pings, text};

const PATIENCE: Duration = Duration::from_secs(10);

fn ip(args: &[&str]) -> bool {
    Command::new("ip").args(args).output().unwrap().status.success()
}

fn named(container: &str) -> PathBuf {
    Path::new("/run/netns").join(container)
}

/// A network namespace of the machine; gone when dropped.
struct Netns(String);

impl Netns {
    fn new(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        assert!(ip(&["netns", "add", &name]));
        Self(name)
    }

    fn has(&self, device: &str) -> bool {
        ip(&["-n", &self.0, "link", "show", device])
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        assert!(ip(&["netns", "del", &self.0]));
    }
}

fn holder(name: &str) -> i32 {
    let text = fs::read_to_string(Path::new("/run/towpath-labs").join(name).join("holder.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["pid"].as_i64().unwrap().try_into().unwrap()
}

const TWO: &str = "
topology:
 defaults: $D
 nodes:
  a: {aliases: [alpha]}
  b: {mgmt-ipv4: 172.20.20.2, hostname: bee, dns: {servers: [192.0.2.53], search: [lab.example], options: [\"ndots:1\"]}}
";

fn two(name: &str) -> Written {
    Written::new(name, &format!("name: {name}{TWO}"))
}

#[test]
fn nodes_reach_each_other_by_name_on_the_management_network_and_nobody_else() {
    let file = two("reach");
    let (lab, _) = file.up();
    let container = format!("clab-{}-b", file.name);
    for name in ["b", container.as_str(), "172.20.20.1", "3fff:172:20:20::1"] {
        assert!(pings(&lab, "a", name), "{name}");
    }
    assert!(pings(&lab, "b", "alpha"));
    assert!(text(&lab, "a", &["getent", "ahostsv4", "alpha"]).starts_with("172.20.20.3 "));
    assert!(text(&lab, "b", &["getent", "hosts", "bee"]).contains("3fff:172:20:20::3"));
    assert_eq!(text(&lab, "a", &["cat", "/sys/class/net/eth0/mtu"]), "1500");
    let routes = text(&lab, "a", &["sh", "-c", "ip route show default; ip -6 route show default"]);
    assert!(
        routes.starts_with("default via 172.20.20.1 dev eth0 \ndefault via 3fff:172:20:20::1 dev eth0"),
        "{routes}"
    );
    assert_eq!(
        lab.node("b").read_file("/etc/resolv.conf").unwrap(),
        "nameserver 192.0.2.53\nsearch lab.example\noptions ndots:1\n"
    );
    assert!(!lab.node("a").read_file("/etc/resolv.conf").unwrap().contains("nameserver"));
    // No exit: neither to an address of the machine nor beyond.
    assert!(deaf(&lab, "a", "192.0.2.1"));
    assert!(!ip(&["link", "show", "br-clab"]));

    let list = file.run(&["list", &file.name, "-o", "json"]);
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    let b = &list[&file.name][1];
    let seen = ["name", "kind", "image", "state", "ipv4_address", "ipv6_address"]
        .map(|key| b[key].as_str().unwrap());
    assert_eq!(seen, ["b", "linux", "alpine", "running", "172.20.20.2/24", "3fff:172:20:20::3/64"]);
}

#[test]
fn two_labs_have_the_same_management_subnet_and_do_not_meet() {
    let (one, other) = (two("same-one"), two("same-two"));
    let (first, second) = (one.up().0, other.up().0);
    assert!(pings(&first, "a", "172.20.20.2") && pings(&second, "a", "172.20.20.2"));
    first.link_down("b:eth0").unwrap_err();
    assert!(first.node("b").exec(&["ip", "link", "set", "eth0", "down"]).unwrap().success());
    assert!(deaf(&first, "a", "172.20.20.2"));
    assert!(pings(&second, "a", "172.20.20.2"));
}

const HOST: &str = "name: host
mgmt: {bridge: mgmt7, ipv4-subnet: 10.77.0.0/24}
topology:
 defaults: $D
 nodes:
  a: {network-mode: none, exec: [ip addr add 10.1.0.1/24 dev eth1, ip addr add 10.2.0.1/24 dev eth2]}
  b: {network-mode: none, exec: [ip addr add 10.1.0.2/24 dev eth1, ip addr add 10.77.0.9/24 dev eth2]}
  c:
  sw: {kind: bridge}
  machine: {kind: host, exec: [\"sh -c 'until ip link show to-a; do sleep .1; done; ip addr add 10.2.0.2/24 dev to-a'\"]}
 links:
 - endpoints: [\"a:eth1\", \"sw:pa\"]
 - endpoints: [\"sw:pb\", \"b:eth1\"]
 - {type: host, endpoint: {node: a, interface: eth2}, host-interface: to-a}
 - endpoints: [\"mgmt-net:pc\", \"b:eth2\"]
";

#[test]
fn bridges_and_host_ends_are_in_the_labs_own_host_namespace() {
    let file = Written::new("host", HOST);
    let (lab, _) = file.up();
    assert!(pings(&lab, "a", "10.1.0.2"), "through the bridge");
    assert!(pings(&lab, "a", "10.2.0.2"), "to the host");
    assert!(pings(&lab, "b", "10.77.0.2"), "through the management bridge");
    let bridges = text(&lab, "machine", &["ip", "-br", "link", "show", "type", "bridge"]);
    assert!(bridges.contains("mgmt7") && bridges.contains("sw"), "{bridges}");
    assert_eq!(text(&lab, "machine", &["ls", "/sys/class/net/sw/brif"]), "pa\npb");
    assert_eq!(text(&lab, "machine", &["cat", "/sys/class/net/pa/mtu"]), "9500");
    for device in ["sw", "pa", "to-a", "pc", "mgmt7"] {
        assert!(!ip(&["link", "show", device]), "{device} is on the machine");
    }
    let error = lab.node("sw").exec(&["true"]).unwrap_err().to_string();
    assert!(error.contains("a bridge runs nothing"), "{error}");
    let carrier = || text(&lab, "a", &["cat", "/sys/class/net/eth1/carrier"]);
    for (down, expected) in [(true, "0"), (false, "1")] {
        if down {
            lab.link_down("sw:pa").unwrap()
        } else {
            lab.link_up("sw:pa").unwrap()
        }
        until(Duration::from_secs(1), || carrier() == expected).unwrap();
    }
    let all = lab::Loss::percent(100.0).unwrap();
    lab.set_loss("sw:pa", all).unwrap();
    assert!(deaf(&lab, "a", "10.1.0.2"));
    lab.clear_loss("sw:pa").unwrap();
    // A neighbour that was being looked for meanwhile is asked for once a second.
    until(Duration::from_secs(5), || pings(&lab, "a", "10.1.0.2")).unwrap();
    lab.link_down("mgmt-net:pc").unwrap();
    assert!(deaf(&lab, "b", "10.77.0.2"));
}

#[test]
fn a_dummy_is_made_or_the_kernels_lack_of_it_is_named() {
    let probe = Netns::new("labnet-probe");
    let possible = ip(&["-n", &probe.0, "link", "add", "probe", "type", "dummy"]);
    let file = Written::new(
        "dummy",
        "name: dummy\ntopology:\n nodes: {a: {kind: linux, image: alpine}}\n links: [{type: dummy, mtu: 1400, endpoint: {node: a, interface: d0}}]\n",
    );
    if possible {
        let (lab, _) = file.up();
        assert_eq!(text(&lab, "a", &["cat", "/sys/class/net/d0/mtu"]), "1400");
    } else {
        let up = file.run(&["up", file.path().to_str().unwrap()]);
        let said = String::from_utf8_lossy(&up.stderr);
        assert!(
            !up.status.success() && said.contains("dummy a:d0") && said.contains("`modprobe dummy`"),
            "{said}"
        );
    }
}

#[test]
fn a_namespace_of_somebody_else_is_used_and_left_as_it_was() {
    let other = Netns::new("labnet-other");
    let guest = Netns::new("labnet-guest");
    let text = format!(
        "name: outside
topology:
 defaults: $D
 nodes:
  a: {{network-mode: none, exec: [ip addr add 10.1.0.1/24 dev eth1]}}
  {other}: {{kind: ext-container, exec: [ip addr add 10.1.0.2/24 dev ext1]}}
  inside: {{network-mode: \"container:{guest}\", exec: [ip addr add 10.3.0.1/24 dev ext2]}}
 links:
 - endpoints: [\"a:eth1\", \"{other}:ext1\"]
 - endpoints: [\"{other}:ext2\", \"inside:ext2\"]
",
        other = other.0,
        guest = guest.0
    );
    let file = Written::new("outside", &text);
    let (lab, _) = file.up();
    assert!(pings(&lab, "a", "10.1.0.2"));
    assert!(ip(&["netns", "exec", &other.0, "ping", "-c1", "-W1", "10.1.0.1"]));
    let node = lab.node(&other.0);
    assert!(node.exec(&["ip", "link", "show", "ext1"]).unwrap().success());
    // The machine's files, not private ones.
    let mark = file.path().join("mark");
    assert!(node.exec(&["touch", mark.to_str().unwrap()]).unwrap().success());
    assert!(mark.exists());
    assert!(guest.has("ext2"));
    assert!(file.run(&["down", &file.name]).status.success());
    for (netns, device) in [(&other, "ext1"), (&other, "ext2"), (&guest, "ext2")] {
        assert!(!netns.has(device), "{device} is left in {}", netns.0);
    }

    // A killed lab's device, whose both ends are outside, goes with the next `down`.
    file.up();
    kill(holder(&file.name));
    assert!(other.has("ext2"));
    assert!(file.run(&["down", &file.name]).status.success());
    assert!(!other.has("ext2") && !guest.has("ext2"));
}

#[test]
fn a_missing_namespace_is_named_before_anything_starts() {
    let file = Written::new(
        "absent",
        "name: absent\ntopology:\n defaults: $D\n nodes: {n: {network-mode: \"container:nobody-at-home\"}, m: }\n",
    );
    let up = file.run(&["up", file.path().to_str().unwrap()]);
    let said = String::from_utf8_lossy(&up.stderr);
    assert!(!up.status.success());
    assert!(said.contains("node n: ") && said.contains("there is no /run/netns/nobody-at-home"), "{said}");
    assert!(!Path::new("/run/towpath-labs").join(&file.name).exists());
}

#[test]
fn an_ext_container_is_awaited() {
    let name = format!("labnet-late-{}", std::process::id());
    let text = format!("name: late\ntopology:\n nodes: {{{name}: {{kind: ext-container}}}}\n");
    let file = Written::new("late", &text);
    let mut up = Command::new(env!("CARGO_BIN_EXE_towpath-lab"))
        .env("TOWPATH_BIN", env!("CARGO_BIN_EXE_towpath-lab"))
        .args(["up", "."])
        .current_dir(file.path())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(up.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains(&format!("waiting for /run/netns/{name}")), "{line}");
    let _netns = {
        assert!(ip(&["netns", "add", &name]));
        Netns(name.clone())
    };
    assert!(up.wait().unwrap().success());
    assert!(Lab::running(&file.name).unwrap().node(&name).exec(&["true"]).unwrap().success());
    assert!(file.run(&["down", &file.name]).status.success());
}

#[test]
fn nodes_have_names_in_run_netns_while_the_lab_is_up() {
    let file = two("names");
    let (lab, _) = file.up();
    let containers = ["a", "b"].map(|node| format!("clab-{}-{node}", file.name));
    assert!(ip(&["netns", "exec", &containers[1], "ping", "-c1", "-W1", "172.20.20.3"]));
    let inside = Command::new("ip").args(["-n", &containers[1], "-br", "addr"]).output().unwrap();
    assert!(String::from_utf8_lossy(&inside.stdout).contains("172.20.20.2/24"), "{inside:?}");
    drop(lab);
    assert!(file.run(&["down", &file.name]).status.success());
    assert!(containers.iter().all(|name| named(name).symlink_metadata().is_err()));

    // Killed, it leaves names that lead nowhere; anybody's next command removes them.
    file.up();
    kill(holder(&file.name));
    until(PATIENCE, || !ip(&["netns", "exec", &containers[0], "true"])).unwrap();
    assert!(named(&containers[0]).symlink_metadata().is_ok());
    until(PATIENCE, || {
        assert!(file.run(&["list"]).status.success());
        containers.iter().all(|name| named(name).symlink_metadata().is_err())
    })
    .unwrap();

    // A name of somebody else stays his.
    fs::write(named(&containers[1]), "").unwrap();
    let up = file.run(&["up", file.path().to_str().unwrap()]);
    let said = String::from_utf8_lossy(&up.stderr);
    assert!(!up.status.success() && said.contains("of somebody else"), "{said}");
    assert!(named(&containers[0]).symlink_metadata().is_err());
    assert!(file.run(&["list"]).status.success());
    assert!(named(&containers[1]).exists());
    fs::remove_file(named(&containers[1])).unwrap();
}

#[test]
fn a_killed_caller_leaves_no_names() {
    let file = Written::new(
        "orphaned",
        "name: orphaned\ntopology:\n defaults: $D\n nodes: {a: {exec: [sleep 3600]}}\n",
    );
    let mut up = Command::new(env!("CARGO_BIN_EXE_towpath-lab"))
        .env("TOWPATH_BIN", env!("CARGO_BIN_EXE_towpath-lab"))
        .env("D", "{kind: linux, image: alpine}")
        .args(["up", "."])
        .current_dir(file.path())
        .spawn()
        .unwrap();
    let name = named(&format!("clab-{}-a", file.name));
    until(PATIENCE, || name.exists()).unwrap();
    up.kill().unwrap();
    up.wait().unwrap();
    until(PATIENCE, || name.symlink_metadata().is_err()).unwrap();
}

#[test]
fn a_management_network_needs_no_root() {
    let file = two("no-root");
    let nobody = Nobody::in_folder(file.path());
    let run = |args: &[&str]| nobody.run(args);
    let up = run(&["up", file.path().to_str().unwrap()]);
    let said = String::from_utf8_lossy(&up.stderr);
    assert!(up.status.success(), "{said}");
    assert_eq!(said.matches("have no names in /run/netns").count(), 1, "{said}");
    assert!(
        run(&["exec", "a", "ping", "-c1", "-W1", "bee"]).status.code() != Some(0),
        "only b knows its host name"
    );
    let ping = run(&["exec", "a", "ping", "-c1", "-W1", "b"]);
    assert!(ping.status.success(), "{ping:?}");
    assert!(run(&["down", &file.name]).status.success());
}
