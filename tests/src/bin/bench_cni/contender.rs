//! Who is measured: each a way to add and delete a pod on a node of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use towpath_tests::cni::{Node, Pod, Runtime, plugin, ports_and_bandwidth, reference_plugins};
use towpath_tests::netns::Netns;
use towpath_tests::tools;

/// A contender's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    OursV4,
    OursCrowded,
    FloorV4,
    PtpV4,
    OursDual,
    FloorDual,
    PtpDual,
    OursFull,
    PtpFull,
}

impl Who {
    /// In the order of their turns: those that are compared follow each other.
    pub(crate) const ALL: [Self; 9] = [
        Self::OursV4,
        Self::OursCrowded,
        Self::FloorV4,
        Self::PtpV4,
        Self::OursDual,
        Self::FloorDual,
        Self::PtpDual,
        Self::OursFull,
        Self::PtpFull,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OursV4 => "towpath-cni, IPv4",
            Self::OursCrowded => "towpath-cni, IPv4, crowded node",
            Self::FloorV4 => "floor, IPv4",
            Self::PtpV4 => "ptp + host-local, IPv4",
            Self::OursDual => "towpath-cni, dual stack",
            Self::FloorDual => "floor, dual stack",
            Self::PtpDual => "ptp + host-local, dual stack",
            Self::OursFull => "towpath-cni, IPv4, host ports, bandwidth",
            Self::PtpFull => "ptp + host-local, portmap, bandwidth",
        }
    }

    /// Whether it is also measured with many calls at once.
    pub(crate) fn runs_at_once(self) -> bool {
        matches!(self, Self::OursV4 | Self::OursDual | Self::PtpV4)
    }

    fn blocks(self) -> &'static [&'static str] {
        match self {
            Self::OursDual | Self::FloorDual | Self::PtpDual => &["10.88.0.0/16", "fd00:88::/64"],
            _ => &["10.88.0.0/16"],
        }
    }
}

/// How a pod is added.
#[derive(Debug)]
enum Way {
    Chain(Runtime),
    /// The floor program, with a pod's addresses as arguments: these networks' parts before the last.
    Program(PathBuf, &'static [&'static str]),
}

/// A node and a way to add pods to it.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) who: Who,
    pub(crate) node: Node,
    way: Way,
    capabilities: Value,
    _router: Netns,
}

impl Contender {
    pub(crate) fn new(who: Who, state: &Path) -> anyhow::Result<Self> {
        let (node, router) = super::node_with_uplink(state)?;
        let mut capabilities = json!({});
        let way = match who {
            Who::FloorV4 => Way::Program(floor("floor-attach")?, &["10.88.0."]),
            Who::FloorDual => Way::Program(floor("floor-attach")?, &["10.88.0.", "fd00:88::"]),
            Who::OursV4 | Who::OursCrowded | Who::OursDual | Who::OursFull => {
                let declared = json!({"portMappings": true, "bandwidth": true});
                let conf = json!({
                    "type": "towpath-cni", "blocks": who.blocks(), "stateDir": node.state(), "capabilities": declared,
                });
                let folder = plugin()?.parent().context("the plugin's folder")?.to_owned();
                Way::Chain(Runtime::new(&folder, "1.0.0", "bench", vec![conf]))
            }
            Who::PtpV4 | Who::PtpDual => Way::Chain(reference(vec![ptp(who, &node)])?),
            Who::PtpFull => {
                let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
                let bandwidth = json!({"type": "bandwidth", "capabilities": {"bandwidth": true}});
                let mut runtime = reference(vec![ptp(who, &node), portmap, bandwidth])?;
                runtime.environment = iptables(&node.state())?;
                Way::Chain(runtime)
            }
        };
        if matches!(who, Who::OursFull | Who::PtpFull) {
            capabilities = ports_and_bandwidth(0);
        }
        Ok(Self { who, node, way, capabilities, _router: router })
    }

    /// A pod for this contender; `number` tells it from others that live at the same time.
    pub(crate) fn pod(&self, id: String, netns: &Netns, number: usize) -> Pod {
        let mut pod = Pod { capabilities: self.capabilities.clone(), ..Pod::new(id, &netns.path()) };
        if let Way::Program(_, networks) = &self.way {
            let addresses = networks.iter().map(|network| format!("{network}{}", number + 1));
            pod.args = addresses.collect::<Vec<_>>().join(" ");
        }
        let mappings = pod.capabilities["portMappings"].as_array_mut();
        for mapping in mappings.into_iter().flatten() {
            mapping["hostPort"] = json!(20_000 + number);
        }
        pod
    }

    /// Adds a pod from inside the node; the result, where the way has one.
    pub(crate) fn add(&self, pod: &Pod) -> anyhow::Result<Option<Value>> {
        match &self.way {
            Way::Chain(runtime) => Ok(Some(runtime.add(pod).with_context(|| self.who.name())?)),
            Way::Program(program, _) => run(program, "ADD", pod).map(|()| None),
        }
    }

    /// Deletes it again.
    pub(crate) fn del(&self, pod: &Pod, result: Option<&Value>) -> anyhow::Result<()> {
        match &self.way {
            Way::Chain(runtime) => runtime.del(pod, result).with_context(|| self.who.name()),
            Way::Program(program, _) => run(program, "DEL", pod),
        }
    }
}

/// Where the floor's programs are: beside the plugin, built as it is.
pub(crate) fn floor(name: &str) -> anyhow::Result<PathBuf> {
    let path = plugin()?.with_file_name(name);
    ensure!(path.exists(), "{}: not built; run: make bench-cni", path.display());
    Ok(path)
}

fn run(program: &Path, command: &str, pod: &Pod) -> anyhow::Result<()> {
    // Pipes as a plugin gets them.
    let output = Command::new(program)
        .args(pod.args.split_whitespace())
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", &pod.container_id)
        .env("CNI_NETNS", &pod.netns)
        .env("CNI_IFNAME", &pod.ifname)
        .stdin(Stdio::piped())
        .output()
        .with_context(|| format!("starting {}", program.display()))?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} {command}: {words}", program.display());
    Ok(())
}

fn reference(plugins: Vec<Value>) -> anyhow::Result<Runtime> {
    Ok(Runtime::new(&reference_plugins()?, "1.0.0", "bench", plugins))
}

fn ptp(who: Who, node: &Node) -> Value {
    let ranges: Vec<Value> = who.blocks().iter().map(|block| json!([{"subnet": block}])).collect();
    let defaults = ["0.0.0.0/0", "::/0"].iter().take(ranges.len());
    let routes: Vec<Value> = defaults.map(|dst| json!({"dst": dst})).collect();
    let ipam = json!({"type": "host-local", "dataDir": node.state(), "ranges": ranges, "routes": routes});
    json!({"type": "ptp", "ipam": ipam})
}

/// portmap runs iptables, which is unpacked beside the plugins: a PATH with it, and where its parts are.
fn iptables(state: &Path) -> anyhow::Result<Vec<(&'static str, String)>> {
    let packages = tools::folder()?;
    let folder = state.join("sbin");
    std::fs::create_dir(&folder)?;
    for name in ["iptables", "ip6tables"] {
        std::os::unix::fs::symlink(packages.join("usr/sbin/xtables-nft-multi"), folder.join(name))?;
    }
    let libraries = std::fs::read_dir(packages.join("usr/lib"))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.join("xtables").is_dir())
        .context("iptables is not unpacked; run: make setup")?;
    let path = std::env::var("PATH").unwrap_or_default();
    Ok(vec![
        ("PATH", format!("{}:{path}", folder.display())),
        ("LD_LIBRARY_PATH", libraries.display().to_string()),
        ("XTABLES_LIBDIR", libraries.join("xtables").display().to_string()),
    ])
}
