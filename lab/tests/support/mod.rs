//! What the tests of running labs share: a topology under a name nobody else uses, and what is
//! left of it afterwards.

#![allow(dead_code, reason = "each test program uses its own part of this")]

pub(crate) mod nobody;
pub(crate) mod written;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::Lab;
use rustix::process::{Pid, Signal};

/// A folder with a topology of this name; the runner of this crate serves as `towpath`.
pub(crate) struct File {
    folder: tempfile::TempDir,
    pub(crate) name: String,
}

impl File {
    pub(crate) fn new(test: &str, topology: &str) -> Self {
        lab::use_program(env!("CARGO_BIN_EXE_towpath-lab"));
        // Names that no other run of this test uses: several may share the machine.
        let name = format!("{test}-{}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        let defaults = "{kind: linux, image: alpine, network-mode: none}";
        let text = format!("name: {name}\ntopology:\n defaults: {defaults}\n{topology}");
        fs::write(folder.path().join("topo.clab.yml"), text).unwrap();
        Self { folder, name }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn up(&self) -> Lab {
        Lab::up(self.path()).unwrap()
    }

    pub(crate) fn state(&self) -> PathBuf {
        Path::new("/run/towpath-labs").join(&self.name)
    }

    pub(crate) fn holder(&self) -> i32 {
        let text = fs::read_to_string(self.state().join("holder.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["pid"].as_i64().unwrap().try_into().unwrap()
    }

    /// What is left of this lab; empty when it is gone.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        leftovers(&self.name)
    }

    /// A number for `sleep` that says whose it is.
    pub(crate) fn marker(&self) -> String {
        format!(
            "3600.{}",
            self.name.bytes().fold(0_u64, |sum, byte| sum * 31 % 1_000_000_007 + u64::from(byte))
        )
    }
}

/// The lab runner as people start it; it is `towpath` in its labs too.
pub(crate) fn runner() -> Command {
    let runner = env!("CARGO_BIN_EXE_towpath-lab");
    let mut command = Command::new(runner);
    command.env("TOWPATH_BIN", runner);
    command
}

/// What the machine still has of lab `name`: processes (helpers by their arguments, programs of nodes
/// by their environment), mounts, names of network namespaces and files. Empty when it is gone.
pub(crate) fn leftovers(name: &str) -> Vec<String> {
    let state = format!("/run/towpath-labs/{name}");
    let programs = format!("CLAB_LABEL_CONTAINERLAB={name}");
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        // A process that ends meanwhile has no files any more.
        let words = |file: &str| {
            let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
            bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
        };
        let (command, env): (Vec<String>, Vec<String>) = (words("cmdline"), words("environ"));
        if command.contains(&state) || env.contains(&programs) {
            left.push(format!("process {}: {}", entry.file_name().display(), command.join(" ")));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let named = |line: &&str| line.contains(&format!("{name}/")) || line.contains(&format!("{name}-"));
    left.extend(mounts.lines().filter(named).map(|line| format!("mount {line}")));
    // The folder is not there on a machine that never named a namespace.
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let netns = entry.file_name().to_string_lossy().into_owned();
        left.extend(netns.starts_with(&format!("clab-{name}-")).then(|| format!("/run/netns/{netns}")));
    }
    left.extend(Path::new(&state).exists().then_some(state));
    left
}

/// Two hosts and a router between them.
pub(crate) const THREE: &str = " nodes:
  a: {exec: [ip addr add 10.1.0.1/31 dev eth1, ip route add 10.2.0.0/31 via 10.1.0.0], env: {COLOUR: blue}}
  r: {exec: [ip addr add 10.1.0.0/31 dev eth1, ip addr add 10.2.0.0/31 dev eth2]}
  b: {exec: [ip addr add 10.2.0.1/31 dev eth1, ip route add 10.1.0.0/31 via 10.2.0.0]}
 links:
 - endpoints: [\"a:eth1\", \"r:eth1\"]
 - endpoints: [\"r:eth2\", \"b:eth1\"]
";

/// A ping is answered within five seconds; a neighbour out of reach until now is asked for once a second.
pub(crate) fn pings(lab: &Lab, from: &str, to: &str) -> bool {
    lab.node(from).exec(&["ping", "-c1", "-w5", "-n", to]).unwrap().success()
}

/// A ping is not answered within a second.
pub(crate) fn deaf(lab: &Lab, from: &str, to: &str) -> bool {
    !lab.node(from).exec(&["ping", "-c1", "-W1", "-n", to]).unwrap().success()
}

pub(crate) fn text(lab: &Lab, node: &str, argv: &[&str]) -> String {
    let output = lab.node(node).exec(argv).unwrap();
    assert!(output.success(), "{argv:?}: {output:?}");
    output.stdout.trim().to_owned()
}

pub(crate) fn kill(pid: i32) {
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}
