//! `make conformance`: the upstream end-to-end tests that every pod network must pass, in the test cluster with towpath and,
//! for comparison, with the reference plugins.
//!
//! Runs `e2e.test` with the specs of `[sig-network]` that are `[Conformance]`, one after the other, on a new cluster per
//! network. Outcomes are kept in a folder, and the page is made of all that are there, so that one network can be run
//! again by itself. Fails when a spec fails with towpath and not with the reference plugins; the page is written all the
//! same.

mod ginkgo;
mod page;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use towpath_tests::kube::{Cluster, Fabric, Options, Proxy, deploy, program};

use ginkgo::Spec;

/// Runs the conformance specs of the network.
#[derive(Parser)]
struct Args {
    /// Which specs: a regular expression, as Ginkgo takes it.
    #[arg(long, default_value = r"\[sig-network\].*\[Conformance\]")]
    focus: String,
    /// Runs this network only; may be given several times. Default: all.
    #[arg(long, value_enum)]
    only: Vec<Network>,
    /// The folder of outcomes; one is replaced when its network runs.
    #[arg(long)]
    results: PathBuf,
    /// The file to write.
    #[arg(long)]
    write: PathBuf,
}

/// What gives pods their network, and Services their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Network {
    /// towpath, kube-proxy with nftables.
    Nftables,
    /// towpath, kube-proxy with iptables.
    Iptables,
    /// The reference plugins, static routes in place of BGP, kube-proxy with nftables.
    Reference,
}

impl Network {
    const ALL: [Self; 3] = [Self::Nftables, Self::Iptables, Self::Reference];

    fn options(self) -> Options {
        let (proxy, fabric) = match self {
            Self::Nftables => (Proxy::Nftables, Fabric::TwoTors),
            Self::Iptables => (Proxy::Iptables, Fabric::TwoTors),
            Self::Reference => (Proxy::Nftables, Fabric::StaticTors),
        };
        Options { proxy, fabric, ..Options::default() }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Nftables => "nftables.json",
            Self::Iptables => "iptables.json",
            Self::Reference => "reference.json",
        }
    }

    fn is_ours(self) -> bool {
        self != Self::Reference
    }
}

/// What came of one network.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    network: Network,
    /// As the specs were chosen.
    focus: String,
    /// Version of the kubelets.
    kubernetes: String,
    /// Version of the container runtime.
    runtime: String,
    nodes: usize,
    /// Sorted by name.
    specs: Vec<Spec>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    fs::create_dir_all(&args.results).with_context(|| format!("making {}", args.results.display()))?;
    let wanted = if args.only.is_empty() { &Network::ALL[..] } else { &args.only };
    for network in wanted {
        let outcome = play(*network, &args.focus)?;
        let path = args.results.join(network.file());
        fs::write(&path, serde_json::to_vec_pretty(&outcome)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    let mut outcomes: Vec<Outcome> = Vec::new();
    for network in Network::ALL {
        let path = args.results.join(network.file());
        match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            text => {
                let text = text.with_context(|| format!("reading {}", path.display()))?;
                outcomes.push(
                    serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?,
                );
            }
        }
    }
    if let Some(other) = outcomes.iter().find(|outcome| outcome.focus != args.focus) {
        bail!("{:?} was run with other specs, {}; run it again", other.network, other.focus);
    }
    fs::write(&args.write, page::page(&outcomes))
        .with_context(|| format!("writing {}", args.write.display()))?;
    let worse = page::worse(&outcomes);
    if !worse.is_empty() {
        bail!("{} specs failed with towpath: {}", worse.len(), worse.join("; "));
    }
    Ok(())
}

/// A cluster with this network, and what its specs came to.
fn play(network: Network, focus: &str) -> anyhow::Result<Outcome> {
    let tests = program("e2e.test").context("run: tests/setup/cluster.sh --e2e")?;
    let cluster = Cluster::with(network.options())?;
    if network.is_ours() {
        deploy::install(&cluster)?;
        cluster.apply(&cluster.fabric_yaml())?;
    } else {
        for machine in cluster.machines() {
            let node = cluster.server().json(&["get", "node", &machine.name()])?;
            let blocks = node["spec"]["podCIDRs"].as_array().context("a Node without podCIDRs")?;
            let blocks: Vec<&str> = blocks.iter().filter_map(|block| block.as_str()).collect();
            machine.use_reference_plugins(&blocks)?;
        }
    }
    cluster.until_ready(true)?;
    cluster.until_rolled_out("kube-system", "deployment/coredns")?;
    let report = cluster.folder().join("report.json");
    let kubectl = program("kubectl")?;
    let kubeconfig = cluster.server().kubeconfig();
    // Its output is the progress; what counts is in the report.
    let status = cluster.server().netns().run(|| {
        Command::new(&tests)
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--kubectl-path={}", kubectl.display()))
            .args(["--provider=skeleton", "--ginkgo.no-color", "--allowed-not-ready-nodes=0"])
            .arg(format!("--ginkgo.focus={focus}"))
            .arg(format!("--ginkgo.json-report={}", report.display()))
            .current_dir(cluster.folder())
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("starting {}", tests.display()))
    })?;
    let report = fs::read(&report);
    let report = report.with_context(|| format!("e2e.test ended with {status} and wrote no report"))?;
    let specs = ginkgo::specs(&report)?;
    if specs.is_empty() {
        bail!("no spec matches {focus}");
    }
    // Something around the specs failed, and the report does not say so.
    if !status.success() && specs.iter().all(Spec::passed) {
        bail!("e2e.test ended with {status}, though all its specs passed");
    }
    let nodes = cluster.server().json(&["get", "nodes"])?;
    let info = &nodes["items"][0]["status"]["nodeInfo"];
    let word = |key: &str| info[key].as_str().unwrap_or("unknown").to_owned();
    Ok(Outcome {
        network,
        focus: focus.to_owned(),
        kubernetes: word("kubeletVersion"),
        runtime: word("containerRuntimeVersion"),
        nodes: cluster.machines().len(),
        specs,
    })
}
