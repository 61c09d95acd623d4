//! `towpath ipam` on leases made as the plugin makes them, and links as the kernel shows them. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cni::ipam::{BootTime, Claim, Links, Node, Process, Store};
use cni::pod::names;
use cni::{Attachment, ContainerId, IfName, NetworkName};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

const TOWPATH: &str = env!("CARGO_BIN_EXE_towpath");
const BLOCK: &str = "10.44.0.0/29";

/// A state folder of a node that is a network namespace.
struct Fixture {
    folder: tempfile::TempDir,
}

/// Runs `test` on a thread of its own in a fresh namespace; what it starts is there too.
fn in_namespace(test: impl FnOnce(&Fixture) + Send + 'static) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("ipamtest-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let body = move || {
        run("ip", &["netns", "add", &name]);
        let namespace = File::open(format!("/run/netns/{name}")).unwrap();
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        // The thread keeps the namespace; without the name it ends with the thread.
        run("ip", &["netns", "del", &name]);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("boot"), "this boot\n").unwrap();
        test(&Fixture { folder });
    };
    std::thread::spawn(body).join().unwrap();
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn attachment(id: &str) -> Attachment {
    Attachment {
        network: NetworkName::parse("towpath").unwrap(),
        container_id: ContainerId::parse(id).unwrap(),
        ifname: IfName::parse("eth0").unwrap(),
    }
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn store(&self) -> Store<Node> {
        Store::open(self.folder.path(), "this boot", Duration::from_secs(60), Links::of_node(200))
    }

    /// What an ADD leases; `process` is that of the ADD.
    fn lease(&self, id: &str, process: Process) -> String {
        let claim = Claim {
            attachment: attachment(id),
            blocks: vec![BLOCK.parse().unwrap()],
            wanted: Vec::new(),
            foreign_addresses: false,
            ranges: Vec::new(),
            reserved: Vec::new(),
            reuse_delay: Duration::from_secs(60),
            netns: None,
            process,
            called_at: BootTime::now(),
            pod: Some(format!("default/{id}")),
            ports: false,
            shaped: false,
        };
        let store = self.store();
        let lease = store.claim(&claim).unwrap();
        if !process.is_alive() {
            store.ready(&lease).unwrap();
        }
        lease.addresses.to_string()
    }

    /// The node's end of a wire, as ADD leaves it.
    fn wire(&self, id: &str, address: &str) {
        let link = names::host_ifname(&attachment(id)).to_string();
        let mark = names::mark(&attachment(id));
        run("ip", &["link", "add", &link, "type", "veth", "peer", "name", &format!("p-{id}")]);
        run("ip", &["link", "set", &link, "up", "alias", &mark]);
        run("ip", &["route", "add", &format!("{address}/32"), "dev", &link, "proto", "200"]);
    }

    fn has_link(&self, id: &str) -> bool {
        let link = names::host_ifname(&attachment(id)).to_string();
        let output = Command::new("ip").args(["link", "show", &link]).output().unwrap();
        output.status.success()
    }

    /// Runs `towpath ipam` and returns whether it succeeded and what it said.
    fn ipam(&self, arguments: &[&str]) -> (bool, String) {
        let conflist = self.path("conflist");
        let place = |command: &mut Command| {
            command.args(arguments).arg("--conflist").arg(&conflist);
            command.arg("--state-dir").arg(self.folder.path()).arg("--boot-id-file").arg(self.path("boot"));
        };
        let mut command = Command::new(TOWPATH);
        command.arg("ipam");
        place(&mut command);
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let (_, said) = self.ipam(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }
}

/// A process that is no more.
fn ended() -> Process {
    Process { pid: std::process::id(), started_ticks: 1 }
}

#[test]
fn leases_are_shown_with_their_pods_and_blocks_with_their_counts() {
    in_namespace(|node| {
        let (success, said) = node.ipam(&["show"]);
        assert!(success && said.contains("no address was ever leased here"), "{said}");
        node.lease("web", ended());
        node.lease("db", Process::current().unwrap());
        let conflist = format!(r#"{{"plugins": [{{"type": "towpath-cni", "blocks": ["{BLOCK}"]}}]}}"#);
        fs::write(node.path("conflist"), conflist).unwrap();
        let (success, said) = node.ipam(&["show"]);
        assert!(success, "{said}");
        let lines: Vec<&str> = said.lines().collect();
        let begins = |line: usize, words: &[&str]| {
            let cells: Vec<&str> = lines[line].split_whitespace().collect();
            assert_eq!(cells[..words.len()], *words, "{said}");
        };
        begins(0, &["ADDRESS", "NETWORK", "CONTAINER", "IFNAME", "POD", "STATE", "SINCE"]);
        begins(1, &["10.44.0.1", "towpath", "web", "eth0", "default/web", "Ready"]);
        begins(2, &["10.44.0.2", "towpath", "db", "eth0", "default/db", "Intent"]);
        assert_eq!(lines[3], "10.44.0.0/29: 2 of 6 leased, 0 resting");
        let shown = node.json(&["show"]);
        assert_eq!(shown["ledger"], "good");
        assert_eq!(shown["leases"][1]["addresses"], serde_json::json!(["10.44.0.2"]));
        assert_eq!(shown["blocks"][0]["usable"], 6);
        fs::write(node.path("boot"), "another boot").unwrap();
        assert_eq!(node.json(&["show"])["ledger"], "earlierBoot");
    });
}

#[test]
fn leases_and_wires_that_disagree_are_found_and_put_right() {
    in_namespace(|node| {
        let good = node.lease("good", ended());
        node.wire("good", &good);
        let (success, said) = node.ipam(&["check"]);
        assert!(success && said.contains("leases and pods agree"), "{said}");

        node.lease("gone", ended());
        node.lease("running", Process::current().unwrap());
        node.wire("unknown", "10.44.0.6");
        let differs = node.lease("differs", ended());
        node.wire("differs", "10.44.0.5");
        let (success, said) = node.ipam(&["check"]);
        assert!(!success);
        let expected = [
            "10.44.0.2 is leased to towpath gone eth0 and no link leads there".to_owned(),
            format!("10.44.0.5 leads to towpath differs eth0, which leased {differs}"),
            "10.44.0.6 leads to towpath unknown eth0, which has no lease".to_owned(),
        ];
        assert_eq!(said.lines().collect::<Vec<_>>(), expected);
        assert_eq!(node.json(&["check"])["findings"][0]["kind"], "rowWithoutLink");

        let (success, said) = node.ipam(&["check", "--fix"]);
        assert!(success, "{said}");
        assert!(said.contains("took 10.44.0.2 back from towpath gone eth0"), "{said}");
        assert!(said.contains("entered 10.44.0.6 for towpath unknown eth0"), "{said}");
        let leases = node.json(&["show"])["leases"].to_string();
        for kept in ["10.44.0.1", "10.44.0.3", "10.44.0.5", "10.44.0.6", "default/differs"] {
            assert!(leases.contains(kept), "{kept} is missing: {leases}");
        }
        assert!(node.ipam(&["check"]).0);
    });
}

#[test]
fn a_damaged_ledger_is_named_and_made_anew() {
    in_namespace(|node| {
        let address = node.lease("web", ended());
        node.wire("web", &address);
        let ledger: &Path = &node.path("cni/ledger");
        let mut octets = fs::read(ledger).unwrap();
        octets[40] ^= 1;
        fs::write(ledger, octets).unwrap();
        let (success, said) = node.ipam(&["check"]);
        assert!(!success && said.contains("the ledger is damaged"), "{said}");
        let (success, said) = node.ipam(&["check", "--fix"]);
        assert!(success && said.contains("made the ledger anew"), "{said}");
        assert_eq!(node.json(&["show"])["leases"][0]["pod"], "default/web");
    });
}

#[test]
fn addresses_of_a_wired_pod_are_released_by_force_only() {
    in_namespace(|node| {
        let address = node.lease("web", ended());
        node.wire("web", &address);
        node.lease("db", ended());
        let (success, said) = node.ipam(&["release", &address]);
        assert!(!success && said.contains("--force"), "{said}");
        assert!(node.has_link("web"));
        let (success, said) = node.ipam(&["release", "--force", "towpath/web/eth0"]);
        assert!(success && said.contains("took 10.44.0.1 back"), "{said}");
        assert!(!node.has_link("web"));
        assert!(node.ipam(&["release", "db"]).0);
        let (success, said) = node.ipam(&["release", "db"]);
        assert!(!success && said.contains("db is not leased"), "{said}");
        node.lease("adding", Process::current().unwrap());
        let (success, said) = node.ipam(&["release", "adding"]);
        assert!(!success && said.contains("runs as process"), "{said}");
    });
}
