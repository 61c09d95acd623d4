//! What pods leave on a node: all of it a line each, to be compared with what was there before them.

use anyhow::Context;

use super::machine::Machine;
use crate::cni::Remains;

/// Folders where plugins, and libcni for them, leave files; and the names of network namespaces.
const FILES: &str =
    "find /var/lib/towpath /var/lib/cni /run/towpath /run/netns /etc/cni /opt/cni -printf '%p\\n'";

/// How a neighbour's line ends.
const NEIGHBOR: [&str; 8] =
    ["REACHABLE", "STALE", "DELAY", "PROBE", "FAILED", "INCOMPLETE", "NOARP", "PERMANENT"];

impl Machine {
    /// Links, addresses, routes, rules, queueing disciplines, nf_tables rules and elements; leases; files of the plugins,
    /// and network namespaces. Not neighbours and counters, which change by themselves.
    ///
    /// # Errors
    /// When the machine is off, or one of its programs fails.
    pub fn traces(&self) -> anyhow::Result<Vec<String>> {
        let remains = Remains::of(&self.netns()?, "kernel")?;
        let lasting = remains.lines().filter(|line| !NEIGHBOR.iter().any(|state| line.ends_with(state)));
        let mut traces: Vec<String> = lasting.map(without_counter).collect();
        let files = self.run(&["sh", "-c", FILES])?;
        traces.extend(files.lines().map(|path| format!("file {path}")));
        let shown = self.run(&["towpath", "ipam", "show", "-o", "json"])?;
        let shown: serde_json::Value = serde_json::from_str(&shown).context("`towpath ipam show`")?;
        let leases = shown["leases"].as_array().context("`towpath ipam show` has no leases")?;
        traces.extend(leases.iter().map(|lease| format!("lease {lease}")));
        traces.sort();
        Ok(traces)
    }
}

/// A line of nft without the numbers of its counter.
fn without_counter(line: &str) -> String {
    let Some((before, after)) = line.split_once("counter packets ") else { return line.to_owned() };
    let after: Vec<&str> = after.splitn(4, ' ').collect();
    format!("{before}counter {}", after.get(3).unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use super::without_counter;

    #[test]
    fn what_was_counted_makes_no_difference() {
        let line = |count| format!("fib saddr . iif oif 0 counter packets {count} bytes 7{count} drop");
        assert_eq!(without_counter(&line(1)), without_counter(&line(20)));
        assert_eq!(without_counter(&line(1)), "fib saddr . iif oif 0 counter drop");
        assert_eq!(without_counter("counter packets 1 bytes 2"), "counter ");
        assert_eq!(without_counter("jump services"), "jump services");
    }
}
