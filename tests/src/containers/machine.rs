//! One node: its containerd, spoken to as a kubelet does, and its kernel.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use lab::Node;
use serde_json::{Value, json};

use super::cluster::Runtime;
use super::image;
use crate::wait::until;

/// Patience for one answer of containerd on a slow machine.
const LIMIT: Duration = Duration::from_secs(60);

/// How much of a log is shown when a test fails.
const LAST_LINES: usize = 20;

const SOCKET: &str = "/run/containerd/containerd.sock";
const CONFLIST: &str = "/etc/cni/net.d/10-towpath.conflist";
const PID_FILE: &str = "/run/containerd.pid";

/// The configuration of both versions: containerd 2 reads that of 1.6, too.
const CONFIG: &str = r#"
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "IMAGE"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    # The test's folder may itself be on an overlay, which cannot be a layer of another one.
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
"#;

/// A node that runs containerd. Dropping it ends containerd.
#[derive(Debug)]
pub struct Machine {
    /// 1 or 2.
    pub number: usize,
    /// The node of the lab.
    pub node: Node,
    /// The cgroup all pods are in.
    pub(super) cgroup: String,
    /// The plugin's state folder, from outside.
    pub(super) state_dir: PathBuf,
    runtime: Runtime,
    log: PathBuf,
    running: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Machine {
    /// Puts containerd's configuration onto a node's disk.
    ///
    /// # Errors
    /// When the disk is full.
    pub(super) fn install(disk: &Path) -> anyhow::Result<()> {
        Ok(fs::write(disk.join("etc/node/containerd.toml"), CONFIG.replace("IMAGE", image::NAME))?)
    }

    /// Node `number` as the lab started it. Links are to be shared with what containerd mounts.
    pub(super) fn new(
        number: usize,
        node: Node,
        runtime: Runtime,
        cgroup: &str,
        disk: &Path,
    ) -> anyhow::Result<Self> {
        let machine = Self {
            number,
            node,
            cgroup: format!("/{cgroup}"),
            state_dir: disk.join("var/lib/towpath"),
            runtime,
            log: disk.join("containerd.log"),
            running: None,
        };
        machine.run(&["mount", "--make-rshared", "/"])?;
        Ok(machine)
    }

    /// Starts containerd and waits until it answers.
    ///
    /// # Errors
    /// When it ends, or does not answer within a minute; with what it printed.
    pub fn start_containerd(&mut self) -> anyhow::Result<()> {
        let (folder, program) = match self.runtime {
            Runtime::Containerd1 => ("", "/usr/bin/containerd"),
            // Its shim is looked for on PATH.
            Runtime::Containerd2 => ("/opt/containerd:", "/opt/containerd/containerd"),
        };
        let command = format!(
            "export PATH={folder}$PATH; echo $$ >{PID_FILE}; exec {program} --config /etc/node/containerd.toml"
        );
        let log = File::options().create(true).append(true).open(&self.log)?;
        let node = self.node.clone();
        self.running = Some(std::thread::spawn(move || {
            let null = File::open("/dev/null")?;
            let exit = node.exec_on(&["sh", "-c", &command], [null.as_fd(), log.as_fd(), log.as_fd()])?;
            bail!("containerd ended: {exit:?}")
        }));
        until(LIMIT, "containerd to answer", || {
            if self.running.as_ref().is_some_and(JoinHandle::is_finished) {
                let ended = self.running.take().map(JoinHandle::join);
                bail!("{ended:?}: {}", self.last_words());
            }
            Ok(self.cri("Version", &json!({})).ok().map(|_| ()))
        })
    }

    /// Kills containerd as the kernel would. Its shims, and so the containers, live on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_containerd(&mut self) -> anyhow::Result<()> {
        let running = self.running.take().context("containerd does not run")?;
        self.run(&["sh", "-c", &format!("kill -9 $(cat {PID_FILE})")])?;
        ensure!(running.join().is_ok(), "the thread that runs containerd died");
        Ok(())
    }

    /// Whether containerd says that pods can have a network, and its words where it says no.
    ///
    /// # Errors
    /// containerd's words.
    pub fn network_ready(&self) -> anyhow::Result<Result<(), String>> {
        let status = self.cri("Status", &json!({}))?;
        let conditions = status["status"]["conditions"].as_array();
        let condition =
            conditions.into_iter().flatten().find(|condition| condition["type"] == "NetworkReady");
        let condition = condition.with_context(|| format!("no NetworkReady in {status}"))?;
        let message = condition["message"].as_str().unwrap_or_default();
        Ok(if condition["status"] == true { Ok(()) } else { Err(message.to_owned()) })
    }

    /// Gives containerd the image in the file `archive` of the node.
    pub(super) fn import(&self, archive: &Path) -> anyhow::Result<()> {
        let archive = archive.to_str().context("the archive's path is no text")?;
        self.run(&["ctr", "--namespace", "k8s.io", "images", "import", "--snapshotter", "native", archive])?;
        Ok(())
    }

    /// Sends one request of the Container Runtime Interface.
    ///
    /// # Errors
    /// containerd's words.
    pub fn cri(&self, method: &str, request: &Value) -> anyhow::Result<Value> {
        let answer = self.run(&["/opt/containerd/cri", SOCKET, method, &request.to_string()])?;
        serde_json::from_str(&answer).with_context(|| format!("the answer to {method}: {answer}"))
    }

    /// Runs a program on the node and gives what it prints.
    ///
    /// # Errors
    /// When it fails; with its words.
    pub fn run(&self, argv: &[&str]) -> anyhow::Result<String> {
        let output = self.node.exec_within(3 * LIMIT, argv)?;
        let words = format!("{}{}", output.stdout, output.stderr);
        ensure!(output.success(), "node{}: {argv:?}: {:?}: {words}", self.number, output.exit);
        Ok(output.stdout)
    }

    /// Runs a program of the node that prints JSON.
    ///
    /// # Errors
    /// When it fails, or prints something else.
    pub fn json(&self, argv: &[&str]) -> anyhow::Result<Value> {
        let text = self.run(argv)?;
        // iproute2 prints nothing at all where a list is empty.
        let text = if text.trim().is_empty() { "[]" } else { &text };
        serde_json::from_str(text).with_context(|| format!("{argv:?}: {text}"))
    }

    /// Calls the plugin's ADD without a runtime that would remember it.
    ///
    /// # Errors
    /// The plugin's words.
    pub fn add(&self, container_id: &str, netns: &str) -> anyhow::Result<()> {
        let conflist: Value = serde_json::from_str(&self.node.read_file(CONFLIST)?)?;
        let mut config = conflist["plugins"][0].clone();
        config["name"] = conflist["name"].clone();
        config["cniVersion"] = json!("1.1.0");
        let call = format!(
            "CNI_COMMAND=ADD CNI_CONTAINERID={container_id} CNI_NETNS={netns} CNI_IFNAME=eth0 \
             CNI_PATH=/opt/cni/bin /opt/cni/bin/towpath-cni <<'END'\n{config}\nEND"
        );
        self.run(&["sh", "-c", &call]).map(|_| ())
    }

    /// Whether the kernel has a route to exactly `prefix` over another node.
    pub(super) fn has_route(&self, prefix: &str) -> anyhow::Result<Option<()>> {
        let family = if prefix.contains(':') { "-6" } else { "-4" };
        let routes = self.json(&["ip", family, "-json", "route", "show", "proto", "199", "exact", prefix])?;
        Ok(routes.as_array().filter(|routes| !routes.is_empty()).map(|_| ()))
    }

    /// What containerd and the daemon printed last, for the person who reads a failure.
    #[must_use]
    pub fn last_words(&self) -> String {
        let logs = [("containerd", self.log.as_path()), ("towpath", self.node.log())];
        let words = logs.map(|(program, log)| {
            let text = fs::read_to_string(log).unwrap_or_default();
            let skipped = text.lines().count().saturating_sub(LAST_LINES);
            let lines: Vec<&str> = text.lines().skip(skipped).collect();
            format!("{program} of node{}:\n{}\n", self.number, lines.join("\n"))
        });
        words.concat()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Processes of a lab end with the lab; the thread that waits for containerd should end as well.
        if self.running.is_some()
            && let Err(error) = self.kill_containerd()
        {
            eprintln!("node{}: ending containerd: {error:#}", self.number);
        }
    }
}
