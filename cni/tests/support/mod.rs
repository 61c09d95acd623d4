//! A node, its pods, and a plugin called as a container runtime calls it. Everything is in network namespaces and
//! temporary folders of the test's own, and goes with them.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

pub mod chain;

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use meter::netns::Netns;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The program under test: `TOWPATH_CNI`, else this build's own.
pub fn plugin() -> PathBuf {
    std::env::var_os("TOWPATH_CNI").map_or_else(|| env!("CARGO_BIN_EXE_towpath-cni").into(), PathBuf::from)
}

/// A network namespace that plays a node, with a state folder and a boot id of its own.
pub struct Node {
    pub netns: Netns,
    folder: TempDir,
}

/// A network namespace that plays a pod.
pub struct Pod {
    pub netns: Netns,
    /// `CNI_CONTAINERID`.
    pub id: String,
    /// Keeps the path alive.
    _file: File,
    /// `CNI_NETNS`.
    pub path: String,
}

/// One call of a plugin, being put together.
#[derive(Clone)]
pub struct Call {
    plugin: PathBuf,
    variables: Vec<(String, String)>,
    stdin: Vec<u8>,
}

/// What the plugin answered.
#[derive(Debug)]
pub struct Answer {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Node {
    /// A node whose only link is lo, with an address of each family there.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("boot_id"), "boot-1\n").unwrap();
        let netns = Netns::fresh().unwrap();
        for address in ["192.0.2.1/32", "2001:db8::1/128"] {
            netns.ip(&format!("address add {address} dev lo nodad")).unwrap();
        }
        // The kernel takes an IPv6 address into use in its own time, even without detecting duplicates.
        let local =
            || netns.ip("-6 route show table local").map(|text| text.contains("2001:db8::1").then_some(()));
        meter::wait::until(Duration::from_secs(10), "the node's IPv6 address", local).unwrap();
        Self { netns, folder }
    }

    /// The folder that `stateDir` of [`Node::config`] names.
    pub fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A file beside the state folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A configuration of the plugin for this node: name, version, folders, and `keys` over them.
    pub fn config(&self, version: &str, keys: Value) -> Value {
        let mut config = json!({
            "cniVersion": version,
            "name": "net",
            "type": "towpath-cni",
            "stateDir": self.state_dir(),
            "bootIDFile": self.path("boot_id"),
        });
        for (key, value) in keys.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }

    /// A pod on this node: a namespace with nothing but lo, which is down.
    pub fn pod(&self, id: &str) -> Pod {
        let netns = Netns::fresh().unwrap();
        netns.ip("link set lo down").unwrap();
        let file = netns.run(|| Ok(File::open("/proc/thread-self/ns/net")?)).unwrap();
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        Pod { netns, id: id.to_owned(), _file: file, path }
    }

    /// Runs the call on this node.
    pub fn run(&self, call: &Call) -> Answer {
        self.netns.run(|| Ok(call.run_here())).unwrap()
    }

    /// Runs `command` for the pod's eth0 with this configuration.
    pub fn call(&self, command: &str, pod: &Pod, config: &Value) -> Answer {
        self.run(&Call::new(command).pod(pod, "eth0").config(config))
    }

    /// All of the node that a plugin could touch: links, addresses, routes, neighbours, rules, files. Counters and
    /// lifetimes are left out.
    pub fn remains(&self) -> String {
        let mut files: Vec<String> = Vec::new();
        list(self.folder.path(), &mut files);
        files.sort();
        format!("{}{}", remains(&self.netns), files.join("\n"))
    }
}

impl Pod {
    /// All of the pod that a plugin could touch.
    pub fn remains(&self) -> String {
        remains(&self.netns)
    }
}

/// Links, addresses, routes, neighbours and rules of a namespace.
pub fn remains(netns: &Netns) -> String {
    let mut text = String::new();
    for arguments in [
        "-o link",
        "-o address",
        "-4 route show table all",
        "-6 route show table all",
        "neigh show nud permanent",
    ] {
        text += &netns.ip(arguments).unwrap();
    }
    // What the kernel notices in its own time: carriers, and addresses that nobody else has.
    for settling in ["NO-CARRIER,", " tentative", " linkdown"] {
        text = text.replace(settling, "");
    }
    text = text.replace("state DOWN", "state UP");
    // So are the routes it makes of addresses and links by itself; what they are made of is listed.
    text =
        text.lines().filter(|line| !line.contains("proto kernel")).map(|line| format!("{line}\n")).collect();
    let rules = netns.exec(&["nft", "list", "ruleset"]).unwrap();
    assert!(rules.status.success(), "{rules:?}");
    text + &String::from_utf8(rules.stdout).unwrap()
}

fn list(folder: &Path, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        files.push(path.display().to_string());
        if path.is_dir() {
            list(&path, files);
        }
    }
}

impl Call {
    /// A call of the program under test, with a `CNI_PATH`.
    pub fn new(command: &str) -> Self {
        Self { plugin: plugin(), variables: Vec::new(), stdin: Vec::new() }
            .variable("CNI_COMMAND", command)
            .variable("CNI_PATH", "/opt/cni/bin")
    }

    /// Another program.
    pub fn of(mut self, plugin: &Path) -> Self {
        plugin.clone_into(&mut self.plugin);
        self
    }

    /// Sets a variable; the empty text removes it.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.variables.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Container id, namespace and interface.
    pub fn pod(self, pod: &Pod, ifname: &str) -> Self {
        self.variable("CNI_CONTAINERID", &pod.id)
            .variable("CNI_NETNS", &pod.path)
            .variable("CNI_IFNAME", ifname)
    }

    /// The configuration.
    pub fn config(self, config: &Value) -> Self {
        self.stdin(config.to_string().as_bytes())
    }

    /// Standard input.
    pub fn stdin(mut self, stdin: &[u8]) -> Self {
        stdin.clone_into(&mut self.stdin);
        self
    }

    /// Starts the program in the namespace of this thread; it waits for its standard input.
    pub fn spawn(&self) -> Child {
        let mut command = Command::new(&self.plugin);
        command.env_clear().envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.plugin.display()))
    }

    fn run_here(&self) -> Answer {
        let started = Instant::now();
        let mut child = self.spawn();
        let mut stdin = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            scope.spawn(move || match stdin.write_all(&self.stdin) {
                // A plugin that refuses early does not read to the end.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
                written => written.unwrap(),
            });
            child.wait_with_output().unwrap()
        });
        Answer {
            success: output.status.success(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            took: started.elapsed(),
        }
    }
}

impl Answer {
    /// The result of a command that must succeed and has one.
    #[track_caller]
    pub fn result(&self) -> Value {
        assert!(self.success, "{}{}", self.stdout, self.stderr);
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {:?}", self.stdout))
    }

    /// A command that must succeed and say nothing.
    #[track_caller]
    pub fn silent(&self) {
        assert!(self.success, "{}{}", self.stdout, self.stderr);
        assert_eq!((self.stdout.as_str(), self.stderr.as_str()), ("", ""));
    }

    /// Code and message of a command that must fail, as the specification has errors.
    #[track_caller]
    pub fn refusal(&self) -> (u64, String) {
        assert!(!self.success, "not refused: {}", self.stdout);
        let error: Value = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {:?} {:?}", self.stdout, self.stderr));
        assert!(error["cniVersion"].is_string(), "{error}");
        let msg = error["msg"].as_str().unwrap_or_else(|| panic!("{error}"));
        assert!(!msg.is_empty() && self.stderr.is_empty(), "{error} {}", self.stderr);
        (error["code"].as_u64().unwrap(), msg.to_owned())
    }
}
