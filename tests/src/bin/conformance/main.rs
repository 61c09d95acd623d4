//! `make conformance`: the upstream end-to-end tests that every pod network must pass, against towpath in the test cluster.
//!
//! Runs `e2e.test` with the specs of `[sig-network]` that are `[Conformance]`, one after the other, and writes the outcome
//! of each into a Markdown file. Fails when one does; the file is written all the same.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use serde::Deserialize;
use towpath_tests::kube::{Cluster, Options, Proxy, deploy, program};

/// Runs the conformance specs of the network against towpath.
#[derive(Parser)]
struct Args {
    /// Which specs: a regular expression, as Ginkgo takes it.
    #[arg(long, default_value = r"\[sig-network\].*\[Conformance\]")]
    focus: String,
    /// kube-proxy with iptables instead of nftables.
    #[arg(long)]
    iptables: bool,
    /// The file to write.
    #[arg(long)]
    write: PathBuf,
}

/// Ginkgo's JSON report, as far as it is told here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    #[serde(default)]
    spec_reports: Vec<Spec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    leaf_node_text: String,
    state: String,
    /// Nanoseconds.
    #[serde(default)]
    run_time: u64,
    failure: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    #[serde(default)]
    message: String,
}

impl Spec {
    fn name(&self) -> String {
        let around = self.container_hierarchy_texts.iter().flatten().map(String::as_str);
        around.chain([self.leaf_node_text.as_str()]).collect::<Vec<_>>().join(" ")
    }

    /// A spec that ran; what surrounds the specs counts where it failed.
    fn counts(&self) -> bool {
        self.state != "skipped" && self.state != "pending" && (self.leaf_node_type == "It" || self.failed())
    }

    fn failed(&self) -> bool {
        self.state != "passed" && self.state != "skipped" && self.state != "pending"
    }
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
    let tests = program("e2e.test").context("run: tests/setup/cluster.sh --e2e")?;
    let proxy = if args.iptables { Proxy::Iptables } else { Proxy::Nftables };
    let cluster = Cluster::with(Options { proxy, ..Options::default() })?;
    deploy::install(&cluster)?;
    cluster.apply(&cluster.fabric_yaml())?;
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
            .arg(format!("--ginkgo.focus={}", args.focus))
            .arg(format!("--ginkgo.json-report={}", report.display()))
            .current_dir(cluster.folder())
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("starting {}", tests.display()))
    })?;
    let text = std::fs::read_to_string(&report)
        .with_context(|| format!("e2e.test ended with {status} and wrote no report"))?;
    let suites: Vec<Suite> = serde_json::from_str(&text).context("Ginkgo's report")?;
    let mut specs: Vec<&Spec> =
        suites.iter().flat_map(|suite| &suite.spec_reports).filter(|spec| spec.counts()).collect();
    specs.sort_by_key(|spec| spec.name());
    if specs.is_empty() {
        bail!("no spec matches {}", args.focus);
    }
    write(&args.write, &args.focus, proxy, &cluster, &specs)?;
    let failed: Vec<String> = specs.iter().filter(|spec| spec.failed()).map(|spec| spec.name()).collect();
    if !failed.is_empty() || !status.success() {
        bail!("{} of {} specs failed ({status}): {}", failed.len(), specs.len(), failed.join("; "));
    }
    Ok(())
}

fn write(path: &Path, focus: &str, proxy: Proxy, cluster: &Cluster, specs: &[&Spec]) -> anyhow::Result<()> {
    let nodes = cluster.server().json(&["get", "nodes"])?;
    let info = &nodes["items"][0]["status"]["nodeInfo"];
    let word = |key: &str| info[key].as_str().unwrap_or("unknown").to_owned();
    let passed = specs.iter().filter(|spec| !spec.failed()).count();
    let time: Duration = specs.iter().map(|spec| Duration::from_nanos(spec.run_time)).sum();
    let mut text = format!(
        "# Conformance\n\nThe upstream end-to-end tests against towpath in the test cluster, as `make conformance` ran them last: \
         Kubernetes {}, {}, kube-proxy in {proxy:?} mode, {} nodes, dual stack, two switches that speak BGP. Specs: `{focus}`.\n\n\
         **{passed} of {} pass**, one after the other in {:.0} min.\n\n| spec | outcome | seconds |\n| --- | --- | --- |\n",
        word("kubeletVersion"),
        word("containerRuntimeVersion"),
        cluster.machines().len(),
        specs.len(),
        time.as_secs_f64() / 60.0,
    );
    for spec in specs {
        let failure = spec.failure.as_ref().filter(|_| spec.failed());
        let why = failure.map(|failure| format!(": {}", failure.message.lines().next().unwrap_or_default()));
        let outcome = format!("{}{}", spec.state, why.unwrap_or_default()).replace('|', "\\|");
        let seconds = Duration::from_nanos(spec.run_time).as_secs_f64();
        // A String takes everything.
        let _ = writeln!(text, "| {} | {outcome} | {seconds:.0} |", spec.name().replace('|', "\\|"));
    }
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
