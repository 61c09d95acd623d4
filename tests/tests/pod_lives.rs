//! Pods of a lab, through the plugin and as a runtime has them: made, asked after, taken away, and lost with
//! their node.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::{Lab, Node, Output};
use meter::echo;
use serde_json::Value;
use towpath_tests::two_tor::{TwoTor, program};

const PATIENCE: Duration = Duration::from_secs(30);

fn up(test: &str) -> TwoTor {
    lab::use_program(program().expect("towpath"));
    let racks = TwoTor::up(&format!("{test}-{}", std::process::id())).expect("the racks come up");
    assert_eq!(racks.lab.warnings(), [] as [String; 0]);
    racks
}

fn run(node: &Node, line: &str) -> Output {
    let argv: Vec<&str> = line.split(' ').collect();
    node.exec(&argv).expect("the node runs")
}

/// What a command that succeeds prints.
fn said(node: &Node, line: &str) -> String {
    let output = run(node, line);
    assert!(output.success(), "{line}: {output:?}");
    output.stdout
}

fn pods(lab: &Lab, node: &str) -> Vec<(String, Vec<String>)> {
    let list: Value = serde_json::from_str(&said(&lab.node(node), "towpath pod list -o json")).expect("JSON");
    let words = |value: &Value| value.as_str().expect("text").to_owned();
    let pods = list.as_array().expect("a list").iter();
    pods.map(|pod| {
        let addresses = pod["addresses"].as_array().expect("a list").iter().map(words).collect();
        (words(&pod["name"]), addresses)
    })
    .collect()
}

/// What of the plugin's work is in the node: its links, and its routes without the blocks' blackholes.
fn wires(node: &Node) -> Vec<String> {
    let links = said(node, "ip -o link show type veth");
    let links = links.lines().filter(|line| line.contains(": tw")).map(str::to_owned);
    let routes = ["-4", "-6"].map(|family| said(node, &format!("ip {family} route show proto 200")));
    let routes: Vec<String> = routes
        .iter()
        .flat_map(|routes| routes.lines())
        .filter(|route| !route.starts_with("blackhole") && !route.contains("dev lo"))
        .map(|route| route.trim().to_owned())
        .collect();
    links.chain(routes).collect()
}

#[test]
fn pods_are_made_asked_after_and_taken_away() {
    let racks = up("pods");
    let (lab, node1) = (&racks.lab, racks.lab.node("node1"));
    racks.until_converged(PATIENCE).expect("routes");
    let own = |last: u8| vec![format!("10.244.1.{last}"), format!("fd00:244:1::{last}")];
    assert_eq!(pods(lab, "node1"), [("pod1a".to_owned(), own(10)), ("pod1b".to_owned(), own(11))]);
    let netns = racks.netns("node1/pod1a").expect("the pod");
    for to in ["10.244.2.10", "fd00:244:2::11", "10.244.1.11"] {
        echo::until_answers(&netns, None, to.parse().expect("an address"), PATIENCE).expect("an answer");
    }
    said(&node1, "towpath pod check pod1a");

    // An address that is taken is refused in the plugin's words, and nothing is left of the attempt.
    let before = wires(&node1);
    let taken = run(&node1, "towpath pod add other --ip 10.244.1.10");
    assert!(
        !taken.success() && taken.stderr.contains("code 1") && taken.stderr.contains("10.244.1.10"),
        "{taken:?}"
    );
    assert_eq!(wires(&node1), before);
    assert!(!said(&node1, "ip netns list").contains("other"));
    let twice = run(&node1, "towpath pod add pod1a");
    assert!(!twice.success() && twice.stderr.contains("there is a pod pod1a already"), "{twice:?}");

    // One of the plugin's choice, with a port: its result is printed.
    let result: Value =
        serde_json::from_str(&said(&node1, "towpath pod add any --port 8080:80/tcp")).expect("a CNI result");
    assert_eq!(result["cniVersion"], "1.1.0");
    assert_eq!(result["interfaces"][1]["sandbox"], "/run/netns/any", "{result}");
    let chosen = result["ips"][0]["address"].as_str().expect("an address");
    assert!(chosen.starts_with("10.244.1.") && chosen.ends_with("/32"), "{result}");

    // What somebody else broke is found.
    said(&node1, "ip -n any route del default");
    let broken = run(&node1, "towpath pod check any");
    assert!(!broken.success() && broken.stderr.contains("CHECK of towpath-cni: code"), "{broken:?}");

    for name in ["any", "pod1a", "pod1b"] {
        said(&node1, &format!("towpath pod del {name}"));
    }
    assert_eq!(wires(&node1), [] as [String; 0]);
    assert_eq!(said(&node1, "ip netns list"), "");
    assert!(pods(lab, "node1").is_empty());
    let unknown = run(&node1, "towpath pod del pod1a");
    assert!(!unknown.success() && unknown.stderr.contains("there is no pod pod1a"), "{unknown:?}");
    // And the address is free again, for a pod of the same name or another.
    said(&node1, "towpath pod add pod1a --ip 10.244.1.11");
    said(&node1, "towpath pod add pod1c --ip 10.244.1.10 --ip fd00:244:1::10");
}

#[test]
fn a_pod_goes_even_when_its_plugin_is_gone() {
    let racks = up("pods-orphan");
    let node1 = racks.lab.node("node1");
    said(&node1, "mv /opt/cni/bin /opt/cni/away");
    let gone = run(&node1, "towpath pod del pod1a");
    assert!(!gone.success() && gone.stderr.contains("pod1a is removed, but: there is no plugin"), "{gone:?}");
    assert!(!said(&node1, "ip netns list").contains("pod1a"));
    assert_eq!(pods(&racks.lab, "node1").len(), 1);
}

#[test]
fn a_node_that_was_off_gives_its_addresses_again() {
    let racks = up("pods-reboot");
    let (lab, node1) = (&racks.lab, racks.lab.node("node1"));
    racks.until_converged(PATIENCE).expect("routes");
    lab.kill_and_isolate("node1").expect("it dies");
    racks.revive("node1").expect("it returns");
    assert_eq!(wires(&node1), [] as [String; 0]);
    assert!(pods(lab, "node1").is_empty());
    // Not before it is ready again; the rows of its earlier boot hold no address.
    for (name, last) in [("pod1a", 10), ("pod1b", 11)] {
        said(&node1, &format!("towpath pod add {name} --ip 10.244.1.{last} --ip fd00:244:1::{last}"));
    }
    racks.until_converged(PATIENCE).expect("routes");
    let netns = racks.netns("node1/pod1a").expect("the pod");
    for to in ["10.244.2.10", "fd00:244:2::10"] {
        echo::until_answers(&netns, None, to.parse().expect("an address"), PATIENCE).expect("an answer");
    }
}

#[test]
fn a_user_without_rights_has_pods_too() {
    const NOBODY: u32 = 65534;
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).expect("open to all");
    // The build folder may be closed to other users.
    let towpath = program().expect("towpath");
    let beside = || towpath.canonicalize().expect("a path").with_file_name("towpath-cni");
    let plugin = std::env::var_os("TOWPATH_CNI").map_or_else(beside, PathBuf::from);
    for (from, name) in [(&towpath, "towpath"), (&plugin, "towpath-cni")] {
        std::fs::copy(from, folder.join(name)).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
    let example = folder.join("lab");
    copy_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/one-router"), &example);
    let topology = example.join("topo.clab.yml");
    let text = std::fs::read_to_string(&topology).expect("the topology");
    let name = format!("name: pods-nobody-{}", std::process::id());
    std::fs::write(&topology, text.replacen("name: one-router", &name, 1)).expect("another name");
    let run = folder.join("run");
    std::fs::create_dir(&run).expect("a folder");
    chown(&run, Some(NOBODY), Some(NOBODY)).expect("root");
    let story = Command::new(folder.join("towpath"))
        .args(["lab", "test", "--slack", "5"])
        .arg(&example)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("XDG_RUNTIME_DIR", &run)
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&story.stdout);
    assert!(story.status.success(), "{said}{}", String::from_utf8_lossy(&story.stderr));
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("a file");
        }
    }
}
