//! towpath-cni on a node of its own, and what a test asks it again and again.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use cni::ipam::node::Links;
use cni::ipam::{Lease, Store};
use serde_json::{Value, json};

use super::{Failure, Node, Pod, Refusal, Remains, Runtime};

/// A node, and a network whose only plugin is ours.
#[derive(Debug)]
pub struct Towpath {
    /// Where it runs.
    pub node: Node,
    /// Who calls it.
    pub runtime: Runtime,
}

impl Towpath {
    /// A node with namespaces for `pods` pods and these blocks.
    ///
    /// # Errors
    /// Without the rights to make namespaces, and when the plugin is not built.
    pub fn new(pods: usize, blocks: &[&str]) -> anyhow::Result<Self> {
        Self::with_state_in(&std::env::temp_dir(), pods, blocks)
    }

    /// As [`Towpath::new`], with the state folder below `parent`.
    ///
    /// # Errors
    /// As [`Towpath::new`].
    pub fn with_state_in(parent: &Path, pods: usize, blocks: &[&str]) -> anyhow::Result<Self> {
        let node = Node::new(pods, parent)?;
        let conf = json!({
            "type": "towpath-cni",
            "blocks": blocks,
            "stateDir": node.state(),
            "bootIDFile": node.state().join("boot_id"),
            "capabilities": {"portMappings": true, "bandwidth": true},
        });
        let plugin = super::plugin()?;
        let folder = plugin.parent().context("the plugin's folder")?;
        let runtime = Runtime::new(folder, "1.1.0", "kube", vec![conf]);
        let towpath = Self { node, runtime };
        towpath.boot("first")?;
        Ok(towpath)
    }

    /// Gives the node this boot id. What a boot does to namespaces is the caller's to do.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn boot(&self, id: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.node.state().join("boot_id"), format!("{id}\n"))?)
    }

    /// Container `id` in the node's pod namespace of that number.
    #[must_use]
    pub fn pod(&self, number: usize, id: impl Into<String>) -> Pod {
        let netns = self.node.pods.get(number).map(crate::netns::Netns::path);
        Pod::new(id, &netns.unwrap_or_default())
    }

    /// Calls the plugin from inside the node.
    ///
    /// # Errors
    /// The call's.
    pub fn call<T: Send>(
        &self,
        work: impl FnOnce(&Runtime) -> Result<T, Failure> + Send,
    ) -> anyhow::Result<T> {
        self.node.netns.run(|| Ok(work(&self.runtime)?))
    }

    /// What the plugin refuses, from inside the node.
    ///
    /// # Errors
    /// When it succeeds, or fails without an error object.
    pub fn refusal<T: Send + std::fmt::Debug>(
        &self,
        work: impl FnOnce(&Runtime) -> Result<T, Failure> + Send,
    ) -> anyhow::Result<Refusal> {
        self.node.netns.run(|| match work(&self.runtime) {
            Err(Failure::Refused(refusal)) => Ok(refusal),
            Err(Failure::Broken(error)) => Err(error),
            Ok(result) => bail!("not refused: {result:?}"),
        })
    }

    /// The rows that count on this boot.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn leases(&self) -> anyhow::Result<Vec<Lease>> {
        let boot_id = std::fs::read_to_string(self.node.state().join("boot_id"))?;
        let list = |_| Err("the log is read as it is, not made anew".to_owned());
        let links = Links { route_protocol: 200, list };
        Ok(Store::open(&self.node.state(), boot_id.trim(), Duration::ZERO, links).leases()?)
    }

    /// Adds pods until no address is left, expects `count` to succeed and the next one to be told to try again
    /// later, checks that no address came twice, and deletes them all.
    ///
    /// # Errors
    /// Naming what is wrong; as a test, after which the node is not used further.
    pub fn expect_room_for(&self, count: usize, first_namespace: usize) -> anyhow::Result<()> {
        let pods: Vec<Pod> =
            (0..=count).map(|n| self.pod(first_namespace + n, format!("room-{n}"))).collect();
        let (last, fitting) = pods.split_last().context("no pods")?;
        let mut seen = BTreeSet::new();
        for pod in fitting {
            let result = self.call(|runtime| runtime.add(pod)).with_context(|| pod.container_id.clone())?;
            for address in addresses(&result)? {
                ensure!(seen.insert(address), "{address} was given twice: {seen:?}");
            }
        }
        let refusal = self.refusal(|runtime| runtime.add(last))?;
        ensure!(refusal.code == 11, "room for more than {count}: {refusal}");
        pods.iter().try_for_each(|pod| self.call(|runtime| runtime.del(pod, None)))
    }

    /// Expects the kernel as in `before` and no row. Of the plugin's table, which stays on a node, parts that were in
    /// `before` may be missing: host ports are added to it when the first pod has one.
    ///
    /// # Errors
    /// With what is there beyond, or gone.
    pub fn expect_nothing_left(&self, before: &Remains) -> anyhow::Result<()> {
        let (now, rules) = (self.node.remains()?, |line: &str| line.contains(" nft: "));
        let (added, gone) = (now.added_to(before), before.added_to(&now).filter(|line| !rules(line)));
        let clean = added.lines().chain(gone.lines()).next().is_none();
        ensure!(clean, "left in the kernel:\n{added}and gone from it:\n{gone}");
        let leases = self.leases()?;
        ensure!(leases.is_empty(), "rows left: {leases:?}");
        Ok(())
    }
}

/// The addresses of a result.
///
/// # Errors
/// When it is not a CNI result.
pub fn addresses(result: &Value) -> anyhow::Result<Vec<IpAddr>> {
    let ips = result["ips"].as_array().with_context(|| format!("no ips in {result}"))?;
    ips.iter()
        .map(|ip| {
            let text = ip["address"].as_str().with_context(|| format!("no address in {ip}"))?;
            let (address, _length) = text.split_once('/').with_context(|| format!("no length in {text}"))?;
            Ok(address.parse()?)
        })
        .collect()
}

/// Capability arguments for everything we do in the kernel: two host ports from `port` on, and both rates limited.
#[must_use]
pub fn ports_and_bandwidth(port: u16) -> Value {
    json!({
        "portMappings": [
            {"hostPort": port, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": port, "containerPort": 53, "protocol": "udp"},
        ],
        "bandwidth": {
            "ingressRate": 100_000_000, "ingressBurst": 10_000_000,
            "egressRate": 50_000_000, "egressBurst": 5_000_000,
        },
    })
}
