//! What a node still has of pods: nothing, when the last one is gone.

use std::time::Duration;

use cni::ipam::{Links, Store};
use serde_json::Value;

use super::machine::Machine;

impl Machine {
    /// Everything of the plugin that belongs to a pod: wires, routes, host ports, rows of the ledger; and what
    /// containerd keeps, named network namespaces. In words.
    ///
    /// # Errors
    /// When the node cannot be asked.
    pub fn traces_of_pods(&self) -> anyhow::Result<Vec<String>> {
        let mut traces = Vec::new();
        for link in list(&self.json(&["ip", "-json", "link", "show"])?) {
            let name = link["ifname"].as_str().unwrap_or_default();
            if ["tw", "ti"].iter().any(|prefix| name.starts_with(prefix)) {
                traces.push(format!("link {name}"));
            }
        }
        for family in ["-4", "-6"] {
            let routes =
                self.json(&["ip", family, "-json", "route", "show", "table", "all", "proto", "200"])?;
            // The blackhole of the node's block has no pod.
            for route in list(&routes).iter().filter(|route| route["type"] != "blackhole") {
                traces.push(format!("route {route}"));
            }
        }
        traces.extend(self.elements_of_pods()?);
        traces.extend(self.leases()?);
        let names = self.run(&["sh", "-c", "ls /run/netns 2>/dev/null || true"])?;
        traces.extend(names.lines().map(|name| format!("network namespace {name}")));
        Ok(traces)
    }

    /// Rows of the plugin's ledger that count in this boot.
    fn leases(&self) -> anyhow::Result<Vec<String>> {
        let boot_id = self.node.read_file("/proc/sys/kernel/random/boot_id")?;
        // Read as it is: what it would be rebuilt from is not asked for.
        let links = Links { route_protocol: 200, list: |_| Ok(Vec::new()) };
        let ledger = Store::open(&self.state_dir, &boot_id, Duration::from_secs(60), links);
        Ok(ledger.leases()?.iter().map(|lease| format!("lease {lease:?}")).collect())
    }

    /// Elements of the maps and sets in the plugin's table.
    fn elements_of_pods(&self) -> anyhow::Result<Vec<String>> {
        let tables = self.run(&["nft", "list", "tables", "inet"])?;
        if !tables.contains("towpath-cni") {
            return Ok(Vec::new());
        }
        let table = self.json(&["nft", "--json", "list", "table", "inet", "towpath-cni"])?;
        let objects = list(&table["nftables"]);
        let stores = objects.iter().filter_map(|object| object.get("map").or_else(|| object.get("set")));
        let elements = stores.flat_map(|store| {
            list(&store["elem"])
                .iter()
                .map(|element| format!("{}: {element}", store["name"]))
                .collect::<Vec<_>>()
        });
        Ok(elements.collect())
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
