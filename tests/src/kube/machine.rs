//! One node of the cluster: a machine that can lose its power, with containerd, kubelet and kube-proxy on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::cluster::Proxy;
use super::pki::Pki;
use super::site::Place;
use crate::netns::Netns;
use crate::wait::until;

const BOOT: &str = include_str!("boot.sh");
const INIT: &str = include_str!("machine.sh");
const CONTAINERD: &str = include_str!("containerd.toml");
const KUBELET: &str = include_str!("kubelet.yaml");

/// Programs of the cluster, as its machines see them.
const BIN: &str = "/opt/cluster/bin";

/// Where everybody on a machine reads its boot id; the daemon's container through `/run/towpath`.
pub const BOOT_ID: &str = "/run/towpath/boot-id";

/// Patience for one thing on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Lines of a log that explain why a program ended.
const LAST_LINES: usize = 20;

/// A node of the cluster.
#[derive(Debug)]
pub struct Machine {
    place: Place,
    /// The place it stands in; it outlives a reboot.
    bay: lab::Node,
    /// Its disk, from outside.
    disk: PathBuf,
    /// The cgroup that its pods are in.
    cgroup: String,
}

impl Machine {
    /// Puts onto the disk what it needs to boot and to run containerd.
    pub(crate) fn prepare(disk: &Path) -> anyhow::Result<()> {
        let etc = disk.join("etc/node");
        fs::write(etc.join("boot.sh"), BOOT)?;
        fs::write(etc.join("machine.sh"), INIT)?;
        Ok(fs::write(etc.join("containerd.toml"), CONTAINERD)?)
    }

    /// Puts onto the disk what kubelet and kube-proxy read. `url` is the API server's.
    pub(crate) fn install(
        place: &Place,
        disk: &Path,
        pki: &Pki,
        url: &str,
        proxy: Proxy,
    ) -> anyhow::Result<()> {
        let etc = disk.join("etc/node");
        let kubelet = KUBELET.replace("NAMESERVER", place.families.dns());
        fs::write(etc.join("kubelet.yaml"), kubelet)?;
        fs::copy(pki.path("ca.crt"), etc.join("ca.crt"))?;
        let token = format!("{}-token", place.name());
        pki.kubeconfig_on(&etc.join("kubelet.conf"), url, "/etc/node/ca.crt", &token)?;
        pki.kubeconfig_on(&etc.join("proxy.conf"), url, "/etc/node/ca.crt", "admin-token")?;
        let mode = proxy.word();
        let proxy = format!(
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: {mode}\n\
             hostnameOverride: {}\nclusterCIDR: {}\nclientConnection: {{ kubeconfig: /etc/node/proxy.conf }}\n\
             conntrack: {{ maxPerCore: 0 }}\n",
            place.name(),
            place.families.pods(),
        );
        fs::write(etc.join("proxy.yaml"), proxy)?;
        Ok(())
    }

    pub(crate) fn new(place: Place, bay: lab::Node, disk: PathBuf, cgroup: &str) -> Self {
        Self { place, bay, disk, cgroup: cgroup.to_owned() }
    }

    /// Its number: node 1, 2, ...
    #[must_use]
    pub fn number(&self) -> usize {
        self.place.number
    }

    /// Name of the machine, and of its Node.
    #[must_use]
    pub fn name(&self) -> String {
        self.place.name()
    }

    /// Power on: kernel, addresses, the way to the API server; no program runs yet.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn boot(&self) -> anyhow::Result<()> {
        let cables = self.place.interfaces().len().to_string();
        self.in_bay(&["sh", "/etc/node/boot.sh", &cables, &self.cgroup]).context("booting")?;
        self.run(&["sh", "-ec", &self.place.commands().join("\n")])?;
        Ok(())
    }

    /// Starts containerd and waits until it answers.
    pub(crate) fn start_containerd(&self) -> anyhow::Result<()> {
        self.start("containerd", &format!("{BIN}/containerd --config /etc/node/containerd.toml"))?;
        until(LIMIT, "containerd to answer", || {
            self.check("containerd")?;
            Ok(self.ctr(&["version"]).ok().map(drop))
        })
    }

    /// Gives containerd the images in the file `archive` of the folder that all machines share.
    pub(crate) fn import(&self, archive: &str) -> anyhow::Result<()> {
        self.ctr(&["--namespace", "k8s.io", "images", "import", "--local", archive]).map(drop)
    }

    /// Starts the kubelet.
    ///
    /// # Errors
    /// When the machine is gone.
    pub fn start_kubelet(&self) -> anyhow::Result<()> {
        let (name, addresses) = (self.name(), self.place.addresses().join(","));
        self.start(
            "kubelet",
            &format!(
                "{BIN}/kubelet --config /etc/node/kubelet.yaml --kubeconfig /etc/node/kubelet.conf \
                 --root-dir /var/lib/kubelet --cert-dir /var/lib/kubelet/pki --hostname-override {name} \
                 --node-ip {addresses} -v 2"
            ),
        )
    }

    /// Starts kube-proxy.
    ///
    /// # Errors
    /// When the machine is gone.
    pub fn start_proxy(&self) -> anyhow::Result<()> {
        self.start("kube-proxy", &format!("{BIN}/kube-proxy --config /etc/node/proxy.yaml"))
    }

    /// Kills a program that was started here: `kubelet`, `containerd`, `kube-proxy`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self, program: &str) -> anyhow::Result<()> {
        self.run(&["sh", "-c", &format!("kill -9 $(cat /run/{program}.pid)")]).map(drop)
    }

    /// The power fails: all processes end, and with them the network namespace and whatever was in memory. Its disk and
    /// its cables stay.
    ///
    /// # Errors
    /// When the lab is gone.
    pub fn power_off(&self) -> anyhow::Result<()> {
        let mut script = "inside=$(cat /run/machine)\n".to_owned();
        for interface in self.place.interfaces() {
            // A device dies with its namespace; the socket in the wall does not.
            script += &format!("nsenter -t $inside -n ip link set {interface} netns 1\n");
        }
        // What a runc that dies here had frozen would never end.
        script += "kill -9 $inside\nwhile kill -0 $inside 2>/dev/null; do\n\
                   for state in $(find /sys/fs/cgroup/freezer/$1 -name freezer.state 2>/dev/null); do\n\
                   echo THAWED >$state; done; sleep 0.02; done\nrm /run/machine";
        self.in_bay(&["sh", "-ec", &script, "off", &self.cgroup]).map(drop)
    }

    /// The power returns: a new boot id, a new network namespace, an empty `/run`, and the programs start. Containerd
    /// finds its pods dead, and the kubelet makes them anew.
    ///
    /// # Errors
    /// What did not start.
    pub fn power_on(&self) -> anyhow::Result<()> {
        self.boot()?;
        self.start_containerd()?;
        self.start_kubelet()?;
        self.start_proxy()
    }

    /// Starts `command` (split by a shell), with its output in the log of `program`.
    ///
    /// # Errors
    /// When the machine is gone.
    pub fn start(&self, program: &str, command: &str) -> anyhow::Result<()> {
        // What is not yet a session of its own when the shell ends dies with it.
        let script = format!(
            "rm -f /run/{program}.pid; PATH={BIN}:$PATH; export PATH
             setsid sh -c 'echo $$ >/run/{program}.new; mv /run/{program}.new /run/{program}.pid; exec {command}' \
                 >>/var/log/node/{program}.log 2>&1 </dev/null &
             until [ -e /run/{program}.pid ]; do sleep 0.01; done"
        );
        self.run(&["sh", "-c", &script]).map(drop)
    }

    /// Fails when a program that was started has ended; with what it printed last.
    ///
    /// # Errors
    /// See above.
    pub fn check(&self, program: &str) -> anyhow::Result<()> {
        let alive = format!("kill -0 $(cat /run/{program}.pid)");
        self.run(&["sh", "-c", &alive])
            .map(drop)
            .with_context(|| format!("{program} ended: {}", self.last_words(program)))
    }

    /// What a program printed last: `containerd`, `kubelet`, `kube-proxy`.
    #[must_use]
    pub fn last_words(&self, program: &str) -> String {
        let log = fs::read(self.disk.join(format!("var/log/node/{program}.log"))).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let skipped = text.lines().count().saturating_sub(LAST_LINES);
        let lines: Vec<&str> = text.lines().skip(skipped).collect();
        format!("{program} of {}:\n{}\n", self.name(), lines.join("\n"))
    }

    /// Runs a program on the machine and gives what it prints.
    ///
    /// # Errors
    /// When it fails; with its words.
    pub fn run(&self, argv: &[&str]) -> anyhow::Result<String> {
        self.in_bay(&[&["sh", "/run/enter"], argv].concat())
    }

    /// `ctr` of this machine's containerd.
    ///
    /// # Errors
    /// As [`Machine::run`].
    pub fn ctr(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let ctr = format!("{BIN}/ctr");
        self.run(&[&[ctr.as_str(), "--address", "/run/containerd/containerd.sock"], arguments].concat())
    }

    /// Its network namespace.
    ///
    /// # Errors
    /// When the machine is off.
    pub fn netns(&self) -> anyhow::Result<Netns> {
        Netns::open(&self.root()?.with_file_name("ns").join("net"))
    }

    /// A file of it, from outside, while it is on.
    ///
    /// # Errors
    /// When it is off.
    pub fn path(&self, path: &str) -> anyhow::Result<PathBuf> {
        Ok(self.root()?.join(path.trim_start_matches('/')))
    }

    /// The network namespace of the pod with this address.
    ///
    /// # Errors
    /// When no pod here has it.
    pub fn pod_netns(&self, address: &str) -> anyhow::Result<Netns> {
        let script = "for n in /run/netns/*; do if nsenter --net=$n ip -o addr show | grep -qF \" $1/\"; then basename $n; exit 0; fi; done; exit 1";
        let name = self
            .run(&["sh", "-c", script, "find", address])
            .with_context(|| format!("{}: no pod has the address {address}", self.name()))?;
        Netns::open(&self.path("/run/netns")?.join(name.trim()))
    }

    /// Root of the machine's files, from outside: `/proc/PID/root`.
    fn root(&self) -> anyhow::Result<PathBuf> {
        let bay = self.bay.init_pid()?;
        let inside = self.in_bay(&["cat", "/run/machine"])?;
        let inside = inside.trim();
        // The number inside the lab is not the number here.
        let found = descendants(bay).into_iter().find(|pid| inner_pid(*pid, bay).as_deref() == Some(inside));
        let pid = found.with_context(|| format!("{} is off", self.name()))?;
        Ok(PathBuf::from(format!("/proc/{pid}/root")))
    }

    fn in_bay(&self, argv: &[&str]) -> anyhow::Result<String> {
        let output = self.bay.exec_within(2 * LIMIT, argv)?;
        let words = format!("{}{}", output.stdout, output.stderr);
        ensure!(output.success(), "{}: {argv:?}: {:?}: {words}", self.name(), output.exit);
        Ok(output.stdout)
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn disk(&self) -> &Path {
        &self.disk
    }
}

/// The children of a process and theirs, two deep: a machine's process 1 is the child of the unshare that made it.
fn descendants(pid: u32) -> Vec<u32> {
    let children = |pid: u32| -> Vec<u32> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        lists
            .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect()
    };
    children(pid).into_iter().flat_map(children).collect()
}

/// What `pid` is called in the process namespace whose process 1 is `bay`.
fn inner_pid(pid: u32, bay: u32) -> Option<String> {
    let ids = |pid: u32| -> Option<Vec<String>> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        Some(line.split_whitespace().map(str::to_owned).collect())
    };
    let depth = ids(bay)?.len();
    ids(pid)?.get(depth - 1).cloned()
}
