//! The cluster: a lab, a control plane on one of its nodes, machines in the others.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lab::Lab;
use serde_json::Value;

use super::api_server::{self, ApiServer, Families};
use super::machine::Machine;
use super::program::{self, Program};
use super::site;
use crate::cgroups::Cgroups;
use crate::netns::Netns;
use crate::wait::until;

const DNS: &str = include_str!("dns.yaml");

/// The image of the process that holds a pod's namespaces, as containerd.toml names it.
const PAUSE: &str = "registry.k8s.io/pause:3.10.2";

/// Where the machines find what is put into the folder of images.
const IMAGES: &str = "/opt/images";

/// Patience for nodes and pods on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(240);

/// Distinguishes the clusters of one program.
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// How the machines are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fabric {
    /// Every machine hangs on two switches, which speak BGP and forward between all of them.
    #[default]
    TwoTors,
    /// As [`Fabric::TwoTors`], but the switches and the control plane speak no BGP: they have static routes to the nodes'
    /// pods. Nothing of towpath runs unless a test installs it.
    StaticTors,
    /// All machines are on one segment, and nobody else is.
    Flat,
}

/// How kube-proxy brings Services about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Proxy {
    /// nf_tables.
    #[default]
    Nftables,
    /// iptables.
    Iptables,
}

impl Proxy {
    /// As kube-proxy's configuration spells it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        }
    }
}

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many nodes it has, beside the control plane.
    pub nodes: usize,
    /// Its address families.
    pub families: Families,
    /// How its machines are connected.
    pub fabric: Fabric,
    /// The mode of kube-proxy.
    pub proxy: Proxy,
    /// Whether [`ApiServer::audit`] works.
    pub audit: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 3,
            families: Families::default(),
            fabric: Fabric::default(),
            proxy: Proxy::default(),
            audit: false,
        }
    }
}

/// A running cluster; see [`crate::kube`].
#[derive(Debug)]
pub struct Cluster {
    options: Options,
    machines: Vec<Machine>,
    /// kube-controller-manager and kube-scheduler.
    controllers: Vec<Program>,
    server: ApiServer,
    lab: Option<Lab>,
    cgroups: Cgroups,
    name: String,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Three nodes behind two switches, both families. The nodes are registered and NotReady, because nothing gives
    /// their pods a network yet.
    ///
    /// # Errors
    /// What is missing, or did not start.
    pub fn up() -> anyhow::Result<Self> {
        Self::with(Options::default())
    }

    /// As [`Cluster::up`].
    ///
    /// # Errors
    /// As there.
    pub fn with(options: Options) -> anyhow::Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::named(&format!("kube-{}-{number}", std::process::id()), options)
    }

    /// As [`Cluster::with`], under this name among the labs.
    ///
    /// # Errors
    /// As there.
    pub fn named(name: &str, options: Options) -> anyhow::Result<Self> {
        let start = Instant::now();
        let folder = tempfile::Builder::new().prefix("towpath-kube-").tempdir()?;
        lay_out(folder.path(), name, &options)?;
        // Before the lab, so that they go after it when something below fails.
        let cgroups = Cgroups::of(name, folder.path())?;
        let lab = Lab::up(folder.path().join("topo.clab.yml"))?;
        // A command of the topology that failed is one of them.
        ensure!(lab.warnings().is_empty(), "{name}: {}", lab.warnings().join("; "));
        let netns = Netns::open(&lab.node("cp").netns_path()?)?;
        let nodes = 1..=options.nodes;
        let tokens = nodes
            .map(|node| format!("node{node}-token,system:node:node{node},1{node},\"system:nodes\""))
            .chain([
                "kcm-token,system:kube-controller-manager,2".to_owned(),
                "scheduler-token,system:kube-scheduler,3".to_owned(),
            ])
            .collect();
        let server = api_server::Options {
            audit: options.audit,
            tokens,
            families: options.families,
            ..api_server::Options::default()
        };
        let machines = machines(&lab, folder.path(), name, &options);
        // The API server takes a while, and so do the images: both at once.
        let server = std::thread::scope(|scope| -> anyhow::Result<ApiServer> {
            let booting: Vec<_> = machines
                .iter()
                .map(|machine| {
                    scope.spawn(|| {
                        machine.boot()?;
                        // Its configuration comes later, and containerd reads none of that.
                        machine.start_containerd()?;
                        machine.import(&format!("{IMAGES}/image.tar"))
                    })
                })
                .collect();
            let server = ApiServer::in_netns(&netns, server)?;
            for machine in booting {
                machine.join().map_err(|_| anyhow::anyhow!("the thread of a machine died"))??;
            }
            Ok(server)
        })?;
        let mut cluster = Self {
            options,
            machines,
            controllers: Vec::new(),
            server,
            lab: Some(lab),
            cgroups,
            name: name.to_owned(),
            folder,
        };
        cluster.start_controllers()?;
        cluster.start_nodes()?;
        eprintln!("a cluster of {} nodes: {:.1?}", cluster.machines.len(), start.elapsed());
        Ok(cluster)
    }

    fn start_controllers(&mut self) -> anyhow::Result<()> {
        let netns = self.server.netns().clone();
        let families = self.options.families;
        let pki = self.server.pki();
        let path = |file: &str| self.folder.path().join(file);
        let (kcm, scheduler) = (path("kcm.conf"), path("scheduler.conf"));
        pki.kubeconfig(&kcm, &self.server.url(), "kcm-token")?;
        pki.kubeconfig(&scheduler, &self.server.url(), "scheduler-token")?;
        let mut arguments = vec![
            format!("--kubeconfig={}", kcm.display()),
            "--allocate-node-cidrs".to_owned(),
            format!("--cluster-cidr={}", families.pods()),
            format!("--service-cluster-ip-range={}", families.services()),
            format!("--service-account-private-key-file={}", pki.path("sa.key")),
            format!("--root-ca-file={}", pki.path("ca.crt")),
            "--use-service-account-credentials".to_owned(),
            "--leader-elect=false".to_owned(),
            "--node-monitor-grace-period=20s".to_owned(),
        ];
        // Of a single family the size has another name.
        arguments.extend(match families {
            Families::Dual => {
                vec!["--node-cidr-mask-size-ipv4=24".to_owned(), "--node-cidr-mask-size-ipv6=64".to_owned()]
            }
            Families::V4 => vec!["--node-cidr-mask-size=24".to_owned()],
            Families::V6 => vec!["--node-cidr-mask-size=64".to_owned()],
        });
        let log = path("kube-controller-manager.log");
        let kcm = Program::start(&netns, "kube-controller-manager", &arguments, &log)?;
        let arguments = [format!("--kubeconfig={}", scheduler.display()), "--leader-elect=false".to_owned()];
        let log = path("kube-scheduler.log");
        let scheduler = Program::start(&netns, "kube-scheduler", &arguments, &log)?;
        self.controllers = vec![kcm, scheduler];
        Ok(())
    }

    /// Kubelets, kube-proxies and the cluster's name server.
    fn start_nodes(&mut self) -> anyhow::Result<()> {
        for machine in &self.machines {
            let (place, disk) = (machine.place(), machine.disk());
            let (pki, url) = (self.server.pki(), self.server.url());
            Machine::install(place, disk, pki, &url, self.options.proxy)?;
            machine.start_kubelet()?;
            machine.start_proxy()?;
        }
        self.server.apply(&DNS.replace("NAMESERVER", self.options.families.dns()))?;
        for machine in &self.machines {
            until(LIMIT, &format!("{} to register", machine.name()), || {
                machine.check("kubelet")?;
                let node = self.server.json(&["get", "node", &machine.name()])?;
                let blocks = node["spec"]["podCIDRs"].as_array().cloned().unwrap_or_default();
                self.lead_to(machine, &blocks)?;
                Ok((!blocks.is_empty()).then_some(()))
            })?;
        }
        Ok(())
    }

    /// Tells those who are told by nobody else where a machine's pods are.
    fn lead_to(&self, machine: &Machine, blocks: &[Value]) -> anyhow::Result<()> {
        for block in blocks.iter().filter_map(Value::as_str) {
            for (who, command) in machine.place().static_routes(block) {
                let output = self.lab().node(&who).exec(&["sh", "-c", &command])?;
                ensure!(output.success(), "{who}: {command}: {}", output.stderr);
            }
        }
        Ok(())
    }

    /// The API server, with kubectl.
    #[must_use]
    pub fn server(&self) -> &ApiServer {
        &self.server
    }

    /// The API server, to kill it.
    pub fn server_mut(&mut self) -> &mut ApiServer {
        &mut self.server
    }

    /// kubectl as an administrator: [`ApiServer::kubectl`].
    ///
    /// # Errors
    /// As there.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.server.kubectl(arguments)
    }

    /// `kubectl apply` of this text: [`ApiServer::apply`].
    ///
    /// # Errors
    /// As there.
    pub fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        self.server.apply(yaml).map(drop)
    }

    /// Node 1, 2, ...
    ///
    /// # Panics
    /// For a number there is none of.
    #[must_use]
    pub fn machine(&self, number: usize) -> &Machine {
        &self.machines[number - 1]
    }

    /// All nodes.
    #[must_use]
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// The lab: `tor1`, `tor2`, `cp`, and the places the machines stand in.
    ///
    /// # Panics
    /// Never: it is there until the value is dropped.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        self.lab.as_ref().expect("it is there until the value is dropped")
    }

    /// What it is made of.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The `BGPPeer`s of the switches, the `IPPool` of the pods and the `Advertisement` of the machines' own addresses.
    #[must_use]
    pub fn fabric_yaml(&self) -> String {
        let families = self.options.families;
        [&site::peers_yaml(families), site::pool_yaml(), &site::advertisement_yaml(families)].join("---\n")
    }

    /// Gives every node the images of an archive in the form of `docker save`.
    ///
    /// # Errors
    /// When it cannot be read, or containerd refuses it.
    pub fn import(&self, archive: &Path) -> anyhow::Result<()> {
        let name = archive.file_name().and_then(|name| name.to_str()).context("the archive has no name")?;
        fs::copy(archive, self.folder.path().join("images").join(name))
            .with_context(|| format!("copying {}", archive.display()))?;
        self.machines.iter().try_for_each(|machine| machine.import(&format!("{IMAGES}/{name}")))
    }

    /// From now on `pause`, of which every pod has one, is a program of a megabyte: hundreds of the image's own, which is
    /// the one with all of Kubernetes' tests, would keep the machine busy.
    ///
    /// # Errors
    /// As [`Cluster::import`], or when `make setup` has not run to its end.
    pub fn use_small_pause(&self) -> anyhow::Result<()> {
        let archive = self.folder.path().join("pause.tar");
        crate::containers::image::write(&archive, PAUSE)?;
        self.import(&archive)
    }

    /// Waits until every node says of itself that it is Ready, or that it is not.
    ///
    /// # Errors
    /// When that does not happen; with the nodes' words.
    pub fn until_ready(&self, ready: bool) -> anyhow::Result<()> {
        let wanted = if ready { "True" } else { "False" };
        until(LIMIT, &format!("all nodes to have Ready={wanted}"), || {
            let nodes = self.server.json(&["get", "nodes"])?;
            let nodes = nodes["items"].as_array().context("nodes are no list")?;
            let words: Vec<String> = nodes.iter().filter_map(|node| not_as(node, wanted)).collect();
            ensure!(words.is_empty(), "{}", words.join("; "));
            Ok((nodes.len() == self.machines.len()).then_some(()))
        })
    }

    /// Waits until all pods of a Deployment or DaemonSet are there, of its latest version, and ready.
    ///
    /// # Errors
    /// When that does not happen; with what kubectl and the nodes say.
    pub fn until_rolled_out(&self, namespace: &str, what: &str) -> anyhow::Result<()> {
        let timeout = format!("--timeout={}s", LIMIT.as_secs());
        let rolled = self.kubectl(&["--namespace", namespace, "rollout", "status", what, &timeout]);
        rolled.map(drop).with_context(|| {
            self.kubectl(&["get", "pods,events", "--all-namespaces", "-o", "wide"])
                .unwrap_or_else(|error| format!("{error:#}"))
        })
    }

    /// The folder of this cluster, with its logs.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

/// A node whose condition Ready is another, in words.
fn not_as(node: &Value, wanted: &str) -> Option<String> {
    let conditions = node["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let status = ready.and_then(|ready| ready["status"].as_str()).unwrap_or("unknown");
    let message = ready.and_then(|ready| ready["message"].as_str()).unwrap_or_default();
    (status != wanted).then(|| format!("{}: Ready={status}: {message}", node["metadata"]["name"]))
}

/// Writes the lab's file, its configuration and the machines' disks.
fn lay_out(folder: &Path, name: &str, options: &Options) -> anyhow::Result<()> {
    let programs = program::folder()?;
    let text = programs.to_str().context("the path of the programs is no text")?;
    fs::write(folder.join("topo.clab.yml"), site::topology(name, options, text))?;
    for tor in [1, 2] {
        let config = folder.join(format!("tor{tor}"));
        fs::create_dir(&config)?;
        fs::write(config.join("towpath.yaml"), site::tor_yaml(tor, options.families))?;
    }
    for place in site::places(options) {
        for path in site::DISK {
            fs::create_dir_all(folder.join(place.name()).join(&path[1..]))?;
        }
        let etc = folder.join(place.name()).join("etc");
        fs::write(etc.join("towpath/towpath.yaml"), site::control_plane_yaml(options.families))?;
        Machine::prepare(&folder.join(place.name()))?;
        // As the packages of Kubernetes install them.
        let plugins = folder.join(place.name()).join("opt/cni/bin");
        fs::create_dir(&plugins)?;
        for plugin in ["loopback", "ptp", "host-local", "portmap"] {
            fs::copy(program::program(plugin)?, plugins.join(plugin))?;
        }
    }
    let images = folder.join("images");
    fs::create_dir(&images)?;
    let image = programs.join("image.tar");
    fs::hard_link(&image, images.join("image.tar"))
        .or_else(|_| fs::copy(&image, images.join("image.tar")).map(drop))
        .with_context(|| format!("{}: no such image; run: make setup", image.display()))
}

fn machines(lab: &Lab, folder: &Path, name: &str, options: &Options) -> Vec<Machine> {
    let nodes = site::places(options).into_iter().filter(|place| place.number != site::CONTROL_PLANE);
    let machine = |place: site::Place| {
        let (bay, disk) = (lab.node(&place.name()), folder.join(place.name()));
        Machine::new(place, bay, disk, name)
    };
    nodes.map(machine).collect()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for machine in &self.machines {
                eprintln!("{}{}", machine.last_words("containerd"), machine.last_words("kubelet"));
            }
        }
        self.controllers.clear();
        self.machines.clear();
        if let Some(Err(error)) = self.lab.take().map(|lab| self.cgroups.ending(|| lab.down())) {
            eprintln!("taking {} down: {error}", self.name);
        }
    }
}
