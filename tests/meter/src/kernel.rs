//! The kernel's network state as text, to show that nothing was changed that is not ours, and a
//! recorder of route notifications, to show that no route was deleted and added again.
//!
//! A [`Snapshot`] is a set of lines such as `route {"dev":"eth0","dst":"default",...}`; what changes
//! by itself (counters, ages, timers) is left out, so two snapshots of an idle namespace are equal.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::netns::Netns;

mod monitor;
mod routes;

pub use monitor::{Kind, Notice, Recorder, Tally};
pub use routes::{Hop, Lookup, Route, request_socket, routes};

/// What `ip` is asked for, with the word its lines start with.
const QUESTIONS: &[(&str, &str)] = &[
    ("route", "-4 route show table all"),
    ("route6", "-6 route show table all"),
    ("rule", "-4 rule show"),
    ("rule6", "-6 rule show"),
    ("link", "link show"),
    ("address", "address show"),
    ("nexthop", "nexthop show"),
    ("neighbour", "neighbour show nud permanent"),
];

/// Fields that change without anybody's doing.
const VOLATILE: &[&str] = &[
    "expires",
    "used",
    "age",
    "cacheinfo",
    "stats",
    "stats64",
    "refcnt",
    "valid_life_time",
    "preferred_life_time",
];

/// Sysctls that count or time things, or that hand out a new value at each reading.
const VOLATILE_SYSCTLS: &[&str] =
    &["nf_conntrack_count", "flush", "stable_secret", "ip_local_reserved_ports", "dev_weight_rx_bias"];

/// The state of one namespace. Differences are computed line by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Reads routes (all tables), rules, links, addresses, nexthop objects, permanent neighbours and
    /// all `net.*` sysctls.
    ///
    /// # Errors
    /// When `ip` fails or prints what is not JSON.
    pub fn take(netns: &Netns) -> anyhow::Result<Self> {
        let mut lines = BTreeSet::new();
        for (name, question) in QUESTIONS {
            // Numbers instead of names: the names in /etc/iproute2 differ between machines.
            let text = netns.ip(&format!("-json -details -N {question}"))?;
            let text = if text.trim().is_empty() { "[]" } else { &text };
            let items: Vec<Value> =
                serde_json::from_str(text).with_context(|| format!("the output of: ip {question}"))?;
            lines.extend(items.into_iter().filter_map(strip).map(|item| format!("{name} {item}")));
        }
        netns.run(|| sysctls(Path::new("/proc/sys/net"), "net", &mut lines))?;
        Ok(Self(lines))
    }

    /// Only the lines for which `keep` is true: for example without the routes of one protocol.
    #[must_use]
    pub fn filter(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|line| keep(line)).cloned().collect())
    }

    /// The lines, sorted.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// What `later` has lost and gained. Empty when both are equal.
    pub fn diff(&self, later: &Self) -> Diff {
        Diff {
            removed: self.0.difference(&later.0).cloned().collect(),
            added: later.0.difference(&self.0).cloned().collect(),
        }
    }
}

/// The difference of two snapshots; a changed thing is one line removed and one added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// Lines only the earlier one had.
    pub removed: Vec<String>,
    /// Lines only the later one has.
    pub added: Vec<String>,
}

impl Diff {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.removed.iter().try_for_each(|line| writeln!(f, "- {line}"))?;
        self.added.iter().try_for_each(|line| writeln!(f, "+ {line}"))
    }
}

/// Drops volatile fields at every depth; `None` for an object that has nothing else. (`ip` prints
/// `{}` for what a filter hides.)
fn strip(value: Value) -> Option<Value> {
    let stripped = strip_fields(value);
    let empty = stripped.as_object().is_some_and(serde_json::Map::is_empty);
    (!empty).then_some(stripped)
}

fn strip_fields(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(name, _)| !VOLATILE.contains(&name.as_str()));
            Value::Object(kept.map(|(name, value)| (name, strip_fields(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(strip_fields).collect()),
        other => other,
    }
}

/// One line per readable file under /proc/sys/net, which shows the namespace of the reading thread.
fn sysctls(folder: &Path, name: &str, lines: &mut BTreeSet<String>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let Ok(part) = entry.file_name().into_string() else {
            bail!("a sysctl with a strange name in {name}")
        };
        if VOLATILE_SYSCTLS.contains(&part.as_str()) {
            continue;
        }
        let name = format!("{name}/{part}");
        if entry.file_type()?.is_dir() {
            // An interface that disappears while we look has no sysctls to compare.
            match sysctls(&entry.path(), &name, lines) {
                Err(_) if !entry.path().exists() => {}
                result => result?,
            }
        } else if let Ok(value) = std::fs::read_to_string(entry.path()) {
            // Those that cannot be read are write-only commands or need a key set first.
            lines.insert(format!("sysctl {name} = {}", value.trim_end().replace('\n', " | ")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_shows_each_kind_of_change_and_nothing_else() {
        let netns = Netns::fresh().unwrap();
        let other = Netns::fresh().unwrap();
        netns.link(("eth1", &["10.9.0.1/24"]), &other, ("eth1", &["10.9.0.2/24"])).unwrap();
        // The kernel adds the link-local address and its routes in its own time.
        netns.sysctl("net/ipv6/conf/eth1/disable_ipv6", "1").unwrap();
        let before = Snapshot::take(&netns).unwrap();
        let again = before.diff(&Snapshot::take(&netns).unwrap());
        assert!(again.is_empty(), "{again}");

        // name, change, undo, a line of the difference starts with
        let changes: &[(&str, &str, &str, &str)] = &[
            ("route", "route add 10.77.0.0/16 via 10.9.0.2 proto 199", "route del 10.77.0.0/16", "route {"),
            ("rule", "rule add from 10.1.1.1 table 77", "rule del from 10.1.1.1 table 77", "rule {"),
            ("nexthop", "nexthop add id 7 via 10.9.0.2 dev eth1", "nexthop del id 7", "nexthop {"),
            ("mtu", "link set eth1 mtu 1400", "link set eth1 mtu 1500", "link {"),
            ("address", "address add 10.8.0.1/32 dev eth1", "address del 10.8.0.1/32 dev eth1", "address {"),
        ];
        for (name, change, undo, start) in changes {
            netns.ip(change).unwrap();
            let diff = before.diff(&Snapshot::take(&netns).unwrap());
            assert!(diff.added.iter().any(|line| line.starts_with(start)), "{name}: {diff}");
            netns.ip(undo).unwrap();
            let diff = before.diff(&Snapshot::take(&netns).unwrap());
            assert!(diff.is_empty(), "{name} undone: {diff}");
        }
        netns.sysctl("net/ipv4/conf/eth1/rp_filter", "2").unwrap();
        let diff = before.diff(&Snapshot::take(&netns).unwrap());
        assert_eq!(diff.added, ["sysctl net/ipv4/conf/eth1/rp_filter = 2"], "{diff}");
        let ours = |line: &str| !line.contains("rp_filter");
        assert_eq!(before.filter(ours), Snapshot::take(&netns).unwrap().filter(ours));
    }

    #[test]
    fn volatile_fields_are_dropped_at_every_depth() {
        let value = serde_json::json!({"dst": "1", "expires": 9, "nexthops": [{"dev": "a", "used": 1}]});
        assert_eq!(strip(value).unwrap(), serde_json::json!({"dst": "1", "nexthops": [{"dev": "a"}]}));
        assert_eq!(strip(serde_json::json!({"age": 1})), None);
    }
}
