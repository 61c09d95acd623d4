//! The reference plugins as a node's pod network, and a stopwatch around whatever plugin a node calls.
//!
//! A runtime takes the first conflist by name, so that both come before what is there already, `10-towpath.conflist`,
//! which its daemon would put right if it were changed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::machine::Machine;

/// Where runtimes look for networks.
const CONF_DIR: &str = "etc/cni/net.d";
const REFERENCE: &str = "05-reference.conflist";
const TIMED: &str = "00-timed.conflist";
const TIMES: &str = "/run/cni-times";

/// Calls the plugin that it is named after and notes command, exit status, and in microseconds when and how long: the plugin's
/// process from its fork to its end, on the machine's clock. bash has that clock without starting another program.
const STOPWATCH: &str = r#"#!/bin/bash
LC_ALL=C
start=${EPOCHREALTIME/./}
"${0%-timed}"
status=$?
end=${EPOCHREALTIME/./}
echo "$CNI_COMMAND $status $start $((end - start))" >>/run/cni-times
exit $status
"#;

/// One call of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `CNI_COMMAND`.
    pub command: String,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// When its process was started.
    pub at: SystemTime,
    /// From then to its end.
    pub took: Duration,
}

impl Machine {
    /// From now on pods get their network from ptp, host-local and portmap, with addresses of these prefixes, one of a
    /// family.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn use_reference_plugins(&self, prefixes: &[&str]) -> anyhow::Result<()> {
        self.write_conflist(REFERENCE, &conflist(prefixes))
    }

    /// From now on the first plugin of the node's network is timed.
    ///
    /// # Errors
    /// When there is no network yet, or the disk cannot be written.
    pub fn time_plugin(&self) -> anyhow::Result<()> {
        let folder = self.disk().join(CONF_DIR);
        let entries = fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()?;
        let mut lists: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
        lists.retain(|path| path.extension().is_some_and(|extension| extension == "conflist"));
        let first = lists.into_iter().min();
        let first = first.with_context(|| format!("{} has no network yet", self.name()))?;
        let mut list: Value = serde_json::from_slice(&fs::read(&first)?)
            .with_context(|| format!("reading {}", first.display()))?;
        let plugin = list["plugins"][0]["type"].as_str().context("a network without plugins")?;
        let timed = format!("{plugin}-timed");
        let program = self.disk().join("opt/cni/bin").join(&timed);
        fs::write(&program, STOPWATCH)?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        list["plugins"][0]["type"] = json!(timed);
        self.write_conflist(TIMED, &list)
    }

    /// What was timed so far.
    ///
    /// # Errors
    /// When the machine is off, or the words are not the stopwatch's.
    pub fn timed_calls(&self) -> anyhow::Result<Vec<Call>> {
        let text = self.run(&["sh", "-c", &format!("cat {TIMES} 2>/dev/null || true")])?;
        text.lines().map(|line| call(line).with_context(|| format!("{TIMES}: {line:?}"))).collect()
    }

    /// By rename: containerd reads the folder whenever a file of it changes.
    fn write_conflist(&self, name: &str, list: &Value) -> anyhow::Result<()> {
        let folder = self.disk().join(CONF_DIR);
        fs::create_dir_all(&folder)?;
        let new = folder.join(format!("{name}.new"));
        fs::write(&new, format!("{list:#}\n"))?;
        fs::rename(&new, folder.join(name)).with_context(|| format!("writing {name} of {}", self.name()))
    }
}

/// ptp with host-local, then portmap.
fn conflist(prefixes: &[&str]) -> Value {
    let ranges: Vec<Value> = prefixes.iter().map(|prefix| json!([{ "subnet": prefix }])).collect();
    let routes: Vec<Value> = prefixes
        .iter()
        .map(|prefix| json!({ "dst": if prefix.contains(':') { "::/0" } else { "0.0.0.0/0" } }))
        .collect();
    let ipam = json!({ "type": "host-local", "ranges": ranges, "routes": routes });
    let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    json!({ "cniVersion": "1.0.0", "name": "reference", "plugins": [{ "type": "ptp", "ipam": ipam }, portmap] })
}

fn call(line: &str) -> anyhow::Result<Call> {
    let words: Vec<&str> = line.split(' ').collect();
    ensure!(words.len() == 4, "not four words");
    Ok(Call {
        command: words[0].to_owned(),
        succeeded: words[1] == "0",
        at: SystemTime::UNIX_EPOCH + Duration::from_micros(words[2].parse()?),
        took: Duration::from_micros(words[3].parse()?),
    })
}
