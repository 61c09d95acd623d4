//! `towpath install` and `uninstall`, below a folder and on a node of its own. The second needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const TOWPATH: &str = env!("CARGO_BIN_EXE_towpath");

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// Every file below a folder, by its path in it.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(entry.path().strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found
}

#[test]
fn what_install_puts_in_place_uninstall_takes_away_and_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (root, plugin) = (folder.path().join("node"), folder.path().join("plugin"));
    fs::write(&plugin, "a program").unwrap();
    for (path, content) in [
        ("etc/cni/net.d/05-other.conflist", "theirs"),
        ("etc/cni/net.d/99-last.conf", "theirs too"),
        ("opt/cni/bin/loopback", "theirs"),
        ("usr/sbin/NetworkManager", ""),
        ("usr/lib/systemd/systemd-networkd", ""),
    ] {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), content).unwrap();
    }
    let before = files(&root);
    let run = |arguments: &[&str]| {
        let place = ["--root", root.to_str().unwrap()];
        Command::new(TOWPATH).args(arguments).args(place).output().unwrap()
    };
    let install =
        ["install", "--cni-plugin", plugin.to_str().unwrap(), "--blocks", "10.244.3.0/24,fd00:244:3::/64"];

    let dry = run(&[&install[..], &["--dry-run"]].concat());
    assert!(dry.status.success(), "{}", text(&dry));
    assert_eq!(files(&root), before, "a dry run touches nothing");
    let said = text(&dry);
    for word in ["would put", "05-other.conflist: runtimes would use it before ours", "--remove-leftovers"] {
        assert!(said.contains(word), "{word}: {said}");
    }

    let done = run(&install);
    assert!(done.status.success(), "{}", text(&done));
    let added: Vec<String> = files(&root).difference(&before).cloned().collect();
    assert_eq!(
        added,
        [
            "etc/NetworkManager/conf.d/10-towpath.conf",
            "etc/cni/net.d/10-towpath.conflist",
            "etc/iproute2/rt_protos.d/towpath.conf",
            "etc/systemd/network/10-towpath-pods.network",
            "etc/systemd/networkd.conf.d/10-towpath.conf",
            "opt/cni/bin/towpath-cni",
            "usr/local/bin/towpath",
            "usr/local/bin/towpath-cni",
        ]
    );
    let conflist = fs::read_to_string(root.join("etc/cni/net.d/10-towpath.conflist")).unwrap();
    assert!(conflist.contains("10.244.3.0/24") && !conflist.contains("readyFile"), "no daemon: {conflist}");
    assert_eq!(fs::read_to_string(root.join("opt/cni/bin/loopback")).unwrap(), "theirs");
    let again = run(&[&install[..], &["--remove-leftovers"]].concat());
    assert!(again.status.success(), "{}", text(&again));
    assert!(root.join("etc/cni/net.d/05-other.conflist~").exists(), "moved, not lost");

    let undone = run(&["uninstall"]);
    assert!(undone.status.success(), "{}", text(&undone));
    let left: Vec<String> = files(&root).symmetric_difference(&before).cloned().collect();
    assert_eq!(left, ["etc/cni/net.d/05-other.conflist", "etc/cni/net.d/05-other.conflist~"]);
}

/// Namespaces for network and mounts with an empty `/etc`, as long as it lives.
struct Node {
    holder: Child,
    folder: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("conf")).unwrap();
        let script = "mount -t tmpfs node /etc && ip link set lo up && echo ready && exec cat";
        let mut holder = Command::new("unshare")
            .args(["--mount", "--net", "--propagation", "private", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { holder, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--net", "--target", &self.holder.id().to_string(), "--"]).args(arguments);
        command
    }

    fn run(&self, line: &str) -> String {
        let output = self.command(&line.split(' ').collect::<Vec<_>>()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", text(&output));
        text(&output)
    }

    /// A command of ours with folders of this node.
    fn towpath(&self, command: &str, more: &[&str]) -> Output {
        let places = ["program", "bin", "net.d", "state", "agent.sock"]
            .map(|name| self.path(name).display().to_string());
        let [program, bin, conf, state, socket] = &places;
        let places = [
            "--program-dir",
            program,
            "--bin-dir",
            bin,
            "--conf-dir",
            conf,
            "--state-dir",
            state,
            "--socket",
            socket,
        ];
        self.command(&[&[TOWPATH, command], &places[..], more].concat()).output().unwrap()
    }

    fn agent(&self) -> Child {
        self.agent_command().stderr(fs::File::create(self.path("log")).unwrap()).spawn().unwrap()
    }

    fn agent_command(&self) -> Command {
        let plugin = self.path("plugin").display().to_string();
        let at = |name: &str| self.path(name).display().to_string();
        self.command(&[
            TOWPATH,
            "agent",
            "--node",
            "node1",
            "-f",
            &at("conf"),
            "--socket",
            &at("agent.sock"),
            "--state-dir",
            &at("state"),
            "--cni-conf-dir",
            &at("net.d"),
            "--cni-bin-dir",
            &at("bin"),
            "--cni-plugin",
            &plugin,
        ])
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Killed when dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

const CONFIG: &str = "\
apiVersion: towpath.io/v1alpha1
kind: NodeNetwork
metadata: { name: node1 }
spec: { asn: 65001, routerID: 10.0.0.11, podCIDRs: [10.244.1.0/24] }
---
apiVersion: towpath.io/v1alpha1
kind: Advertisement
metadata: { name: pods }
spec: { source: { podBlocks: {} } }
";

#[test]
fn uninstall_waits_for_daemon_and_pods_and_gives_the_kernel_back() {
    let node = Node::new();
    fs::write(node.path("conf/node.yaml"), CONFIG).unwrap();
    fs::write(node.path("plugin"), "a program").unwrap();
    let sysctls = ["ipv4/ip_forward", "ipv4/fib_multipath_hash_policy", "ipv6/conf/all/forwarding"];
    let values = || sysctls.map(|name| node.run(&format!("cat /proc/sys/net/{name}")));
    let before = values();
    let daemon = Daemon(node.agent());
    until("the conflist", || node.path("net.d/10-towpath.conflist").exists());
    assert_ne!(values(), before);
    let refused = node.towpath("uninstall", &[]);
    assert!(!refused.status.success() && text(&refused).contains("another towpath"), "{}", text(&refused));

    // The daemon stops; routes of its and a pod stay.
    let mut daemon = daemon;
    end(&mut daemon.0);
    node.run("ip link add tw0000000000001 type veth peer name cali1234");
    node.run("ip link set tw0000000000001 up");
    node.run("ip link set cali1234 up");
    node.run("ip route add 10.244.1.5/32 dev tw0000000000001 proto 200");
    node.run("ip nexthop add id 7 dev cali1234 proto 199");
    node.run("ip route add 192.0.2.0/24 nhid 7 proto 199 metric 20");
    node.run("ip route add 198.51.100.0/24 dev cali1234 proto static");
    let refused = node.towpath("uninstall", &[]);
    assert!(!refused.status.success() && text(&refused).contains("tw0000000000001"), "{}", text(&refused));
    assert!(node.path("net.d/10-towpath.conflist").exists(), "nothing was touched");

    let done = node.towpath("uninstall", &["--force"]);
    assert!(done.status.success(), "{}", text(&done));
    assert!(!node.path("net.d/10-towpath.conflist").exists() && !node.path("bin/towpath-cni").exists());
    assert_eq!(values(), before);
    let routes = node.run("ip route show");
    assert!(!routes.contains("192.0.2.0/24") && !routes.contains("blackhole"), "{routes}");
    assert!(
        routes.contains("198.51.100.0/24") && routes.contains("10.244.1.5"),
        "not ours, and a pod's: {routes}"
    );
    assert_eq!(node.run("ip nexthop show"), "");

    // Over what another CNI left.
    let named = node.towpath("install", &["--cni-plugin", node.path("plugin").to_str().unwrap()]);
    assert!(
        named.status.success() && text(&named).contains("the link cali1234 of Calico"),
        "{}",
        text(&named)
    );
    assert!(node.run("ip link show").contains("cali1234"), "it is only named");
    assert!(node.run("ip route show proto towpath-pod").contains("10.244.1.5"), "the protocol has a name");
    let plugin = node.path("plugin");
    let removed = node.towpath("install", &["--remove-leftovers", "--cni-plugin", plugin.to_str().unwrap()]);
    assert!(removed.status.success(), "{}", text(&removed));
    assert!(!node.run("ip link show").contains("cali1234"));
}

/// As containers see a node: its files below a folder, `/proc/sys` read-only, and a writable one elsewhere.
#[test]
fn an_uninstall_in_a_container_waits_for_daemon_and_pods_and_stays() {
    let node = Node::new();
    fs::write(node.path("conf/node.yaml"), CONFIG).unwrap();
    fs::write(node.path("plugin"), "a program").unwrap();
    fs::create_dir(node.path("sys")).unwrap();
    let elsewhere = node.path("sys").display().to_string();
    node.run(&format!("mount --bind /proc/sys {elsewhere}"));
    node.run("mount --bind /proc/sys /proc/sys");
    node.run("mount -o remount,bind,ro /proc/sys");
    // A new namespace has this value whatever the machine's is.
    let sysctl = || node.run("cat /proc/sys/net/ipv4/nexthop_compat_mode");
    assert_eq!(sysctl(), "1\n");

    let mut agent = node.agent_command();
    agent.env("TOWPATH_PROC_SYS", &elsewhere);
    let mut daemon = Daemon(agent.stderr(fs::File::create(node.path("log")).unwrap()).spawn().unwrap());
    until("the conflist", || node.path("net.d/10-towpath.conflist").exists());
    assert_eq!(sysctl(), "0\n");

    let said = node.path("said");
    let mut uninstall = node.command(&[
        TOWPATH,
        "uninstall",
        "--root",
        node.folder.path().to_str().unwrap(),
        "--host-network",
        "--proc-sys",
        &elsewhere,
        "--conf-dir",
        "/net.d",
        "--bin-dir",
        "/bin",
        "--state-dir",
        "/state",
        "--socket",
        "/agent.sock",
        "--wait",
        "--purge",
        "--stay",
    ]);
    let mut uninstall = Daemon(uninstall.stdout(fs::File::create(&said).unwrap()).spawn().unwrap());
    let says = |words: &str| {
        until(words, || fs::read_to_string(&said).unwrap().lines().any(|line| line.contains(words)));
    };
    says("waiting: a daemon runs on this node");
    node.run("ip link add tw0000000000001 type veth peer name other");
    end(&mut daemon.0);
    says("waiting: 1 pods still have links of ours");
    assert!(node.path("net.d/10-towpath.conflist").exists(), "nothing was touched");

    node.run("ip link del tw0000000000001");
    says("this node is as it was");
    assert!(!node.path("net.d/10-towpath.conflist").exists() && !node.path("bin/towpath-cni").exists());
    assert_eq!(fs::read_dir(node.path("state")).unwrap().count(), 0, "--purge");
    assert_eq!(sysctl(), "1\n");
    assert!(uninstall.0.try_wait().unwrap().is_none(), "--stay");
    end(&mut uninstall.0);
    assert!(uninstall.0.wait().unwrap().success());
}

/// As a service manager ends a process.
fn end(process: &mut Child) {
    rustix::process::kill_process(rustix::process::Pid::from_child(process), rustix::process::Signal::TERM)
        .unwrap();
    until("the end of the process", || process.try_wait().unwrap().is_some());
}

#[test]
fn only_drop_ins_are_written_for_a_daemon_in_a_container_and_a_read_only_etc_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for program in ["usr/sbin/NetworkManager", "usr/lib/systemd/systemd-networkd"] {
        fs::create_dir_all(root.join(program).parent().unwrap()).unwrap();
        fs::write(root.join(program), "").unwrap();
    }
    let before = files(root);
    let run = || {
        let arguments = ["install", "--only-drop-ins", "--root", root.to_str().unwrap()];
        Command::new(TOWPATH).args(arguments).output().unwrap()
    };
    // A file where the folder should be: as unwritable as a read-only disk, also for root.
    fs::write(root.join("etc"), "").unwrap();
    let refused = run();
    assert!(refused.status.success() && text(&refused).contains("going on without"), "{}", text(&refused));
    fs::remove_file(root.join("etc")).unwrap();
    let done = run();
    assert!(done.status.success() && !text(&done).contains("going on without"), "{}", text(&done));
    let added: Vec<String> = files(root).difference(&before).cloned().collect();
    assert_eq!(
        added,
        [
            "etc/NetworkManager/conf.d/10-towpath.conf",
            "etc/iproute2/rt_protos.d/towpath.conf",
            "etc/systemd/network/10-towpath-pods.network",
            "etc/systemd/networkd.conf.d/10-towpath.conf",
        ]
    );
}
