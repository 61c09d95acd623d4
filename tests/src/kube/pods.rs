//! Pods that answer, one on every node, and a Service before them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::cluster::Cluster;
use crate::meter::{Pair, Side};
use crate::netns::Netns;
use crate::wait::until;

const NAMESPACE: &str = "default";

/// A DaemonSet of web servers that say their names, and a Service of the cluster's families.
const SERVERS: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: server, namespace: default }
spec:
  selector: { matchLabels: { app: server } }
  template:
    metadata: { labels: { app: server } }
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: server
        image: registry.k8s.io/e2e-test-images/agnhost:2.63.0
        args: [netexec, --http-port=80]
        readinessProbe: { httpGet: { path: /, port: 80 }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: server, namespace: default }
spec:
  ipFamilyPolicy: PreferDualStack
  selector: { app: server }
  ports: [{ port: 80 }]
"#;

/// A running pod.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its name, which is its host name.
    pub name: String,
    /// Number of its node.
    pub node: usize,
    /// Its addresses, one of each family of the cluster.
    pub addresses: Vec<IpAddr>,
}

impl Pod {
    /// Its network namespace, for sockets of a test.
    ///
    /// # Errors
    /// When its node is off.
    pub fn netns(&self, cluster: &Cluster) -> anyhow::Result<Netns> {
        let address = self.addresses.first().context("a pod without an address")?;
        cluster.machine(self.node).pod_netns(&address.to_string())
    }

    /// One end of the meter's traffic.
    ///
    /// # Errors
    /// As [`Pod::netns`].
    pub fn side(&self, cluster: &Cluster) -> anyhow::Result<Side> {
        let v4 = self.addresses.iter().find_map(|ip| if let IpAddr::V4(v4) = ip { Some(*v4) } else { None });
        let v6 = self.addresses.iter().find_map(|ip| if let IpAddr::V6(v6) = ip { Some(*v6) } else { None });
        Ok(Side { netns: self.netns(cluster)?, v4, v6 })
    }

    /// Runs a program in its container, and gives what it prints.
    ///
    /// # Errors
    /// When it fails; with its words.
    pub fn exec(&self, cluster: &Cluster, argv: &[&str]) -> anyhow::Result<String> {
        cluster.kubectl(&[&["--namespace", NAMESPACE, "exec", &self.name, "--"], argv].concat())
    }
}

/// Asks for the servers and their Service. Waits for nothing.
///
/// # Errors
/// What kubectl says.
pub fn start_servers(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.server().apply(SERVERS).map(drop)
}

/// The servers, once one runs on every node.
///
/// # Errors
/// When that does not happen.
pub fn servers(cluster: &Cluster) -> anyhow::Result<Vec<Pod>> {
    cluster.until_rolled_out(NAMESPACE, "daemonset/server")?;
    let list = cluster.server().json(&["get", "pods", "--selector", "app=server"])?;
    let items = list["items"].as_array().context("pods are no list")?;
    // Of a node that was off, the pods of its earlier life may still be listed.
    let alive = items.iter().filter(|item| item["metadata"]["deletionTimestamp"].is_null());
    let mut pods: Vec<Pod> = alive.map(pod).collect::<anyhow::Result<_>>()?;
    pods.sort_by_key(|pod| pod.node);
    Ok(pods)
}

/// The servers of every two nodes, for the meter.
///
/// # Errors
/// As [`servers`].
pub fn pairs(cluster: &Cluster) -> anyhow::Result<Vec<Pair>> {
    let sides: Vec<Side> =
        servers(cluster)?.iter().map(|pod| pod.side(cluster)).collect::<anyhow::Result<_>>()?;
    let pairs = sides
        .iter()
        .enumerate()
        .flat_map(|(index, a)| sides[index + 1..].iter().map(|b| Pair { a: a.clone(), b: b.clone() }));
    Ok(pairs.collect())
}

/// The Service's addresses, one of each family.
///
/// # Errors
/// What kubectl says.
pub fn service(cluster: &Cluster) -> anyhow::Result<Vec<IpAddr>> {
    let service = cluster.server().json(&["get", "service", "server"])?;
    let addresses = service["spec"]["clusterIPs"].as_array().context("a Service without addresses")?;
    addresses.iter().map(|ip| Ok(ip.as_str().unwrap_or_default().parse()?)).collect()
}

/// Waits until everything a pod network is for works: pods of all nodes reach each other in every family, a switch
/// reaches them, and they reach the Service by address and by name.
///
/// # Errors
/// What did not work, with the words of who tried.
pub fn until_connected(cluster: &Cluster, limit: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    let left = || deadline.saturating_duration_since(Instant::now());
    let pods = servers(cluster)?;
    ensure!(
        pods.len() == cluster.machines().len(),
        "{} servers on {} nodes",
        pods.len(),
        cluster.machines().len()
    );
    let all: Vec<IpAddr> = pods.iter().flat_map(|pod| pod.addresses.iter().copied()).collect();
    let pings: Vec<String> =
        all.iter().map(|ip| format!("ping -n -q -c 1 -W 1 {ip} >/dev/null || echo no {ip}")).collect();
    let services = service(cluster)?.into_iter().map(|ip| match ip {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    });
    let names = services.chain(["server.default.svc.cluster.local".to_owned()]);
    let asks: Vec<String> = names
        .map(|name| format!("curl -sf -m 2 http://{name}/hostname >/dev/null || echo no http://{name}"))
        .collect();
    let script = [pings.clone(), asks].concat().join("\n");
    for pod in &pods {
        until(left(), &format!("{} on node{} to reach everything", pod.name, pod.node), || {
            let said = pod.exec(cluster, &["sh", "-c", &script])?;
            ensure!(said.is_empty(), "{}", said.trim());
            Ok(Some(()))
        })?;
    }
    for tor in ["tor1", "tor2"] {
        let Ok(tor) = cluster.lab().find(tor) else { continue };
        until(left(), &format!("{} to reach all pods", tor.name()), || {
            let output = tor.exec(&["sh", "-c", &pings.join("\n")])?;
            ensure!(output.stdout.is_empty(), "{}", output.stdout.trim());
            Ok(Some(()))
        })?;
    }
    Ok(())
}

fn pod(item: &Value) -> anyhow::Result<Pod> {
    let name = item["metadata"]["name"].as_str().context("a pod without a name")?.to_owned();
    let node = item["spec"]["nodeName"].as_str().and_then(|node| node.strip_prefix("node")?.parse().ok());
    let node = node.with_context(|| format!("{name} is on no node"))?;
    let addresses = item["status"]["podIPs"].as_array().into_iter().flatten();
    let addresses = addresses.filter_map(|ip| ip["ip"].as_str()?.parse().ok()).collect();
    Ok(Pod { name, node, addresses })
}
