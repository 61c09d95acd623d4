//! The network configuration of a node: which file counts, and what of it a runtime needs to know.
//!
//! Container runtimes take the first file by name that they can read; so does this.
//! Source: CNI specification 1.1, section 1; go-cni and libcni for the choice of the file.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Versions of the specification that are spoken here, oldest first.
pub(super) const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// How often it is looked, by somebody who waits.
const INTERVAL: Duration = Duration::from_millis(20);

/// Endings of configurations; a file of the first kinds is one plugin's.
const ENDINGS: [&str; 3] = ["conf", "json", "conflist"];

/// A chain of plugins, as its file describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Conflist {
    /// The file it was read from.
    pub(super) file: PathBuf,
    /// Name of the network.
    pub(super) name: String,
    /// The highest version that both sides speak.
    pub(super) version: String,
    pub(super) disable_check: bool,
    /// Each plugin's object, as it stands in the file.
    pub(super) plugins: Vec<Map<String, Value>>,
}

impl Conflist {
    /// The configuration of `folder`, as soon as there is one of which `ready` holds.
    ///
    /// # Errors
    /// After `patience`: what was wrong with it then.
    pub(super) fn wait(
        folder: &Path,
        patience: Duration,
        ready: impl Fn(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let began = Instant::now();
        loop {
            let late = began.elapsed() >= patience;
            let found = match Self::first(folder) {
                Ok(Some(conflist)) => ready(&conflist).map(|()| conflist),
                Ok(None) => Err(anyhow::anyhow!("there is no network configuration in {}", folder.display())),
                Err(error) => Err(error),
            };
            match found {
                Ok(conflist) => return Ok(conflist),
                Err(error) if late => {
                    return Err(error.context(format!(
                        "not ready for pods after {patience:?}; `towpath status` says what the node waits for"
                    )));
                }
                Err(_) => std::thread::sleep(INTERVAL),
            }
        }
    }

    /// The first file by name that can be used. An error when there are files, and none can.
    fn first(folder: &Path) -> anyhow::Result<Option<Self>> {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", folder.display())),
        };
        let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|file| ending(file).is_some());
        files.sort();
        let mut fault = None;
        for file in files {
            match Self::read(&file) {
                Ok(conflist) => return Ok(Some(conflist)),
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        fault.map_or(Ok(None), Err)
    }

    fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        Self::parse(&text, file).with_context(|| file.display().to_string())
    }

    fn parse(text: &str, file: &Path) -> anyhow::Result<Self> {
        let mut given: Map<String, Value> = serde_json::from_str(text).context("is no JSON object")?;
        let name = given.get("name").and_then(Value::as_str).context("has no \"name\"; add it")?.to_owned();
        let version = common_version(&given)?;
        let disable_check = given.get("disableCheck").is_some_and(|value| value == &json!(true));
        let plugins = if ending(file) == Some("conflist") {
            let list = given.remove("plugins").context("has no \"plugins\"; add the chain")?;
            serde_json::from_value(list).context("\"plugins\" must be a list of objects")?
        } else {
            vec![given]
        };
        ensure!(!plugins.is_empty(), "\"plugins\" is empty; add at least one plugin");
        Ok(Self { file: file.to_owned(), name, version, disable_check, plugins })
    }

    /// What runtimes call first: `lo` of the sandbox comes up.
    pub(super) fn loopback(version: &str) -> Self {
        let plugin = Map::from_iter([("type".to_owned(), json!("loopback"))]);
        Self {
            file: PathBuf::new(),
            name: "cni-loopback".to_owned(),
            version: version.to_owned(),
            disable_check: false,
            plugins: vec![plugin],
        }
    }

    /// Each of the wanted capabilities must be taken by a plugin, or it would be lost without a word.
    pub(super) fn takes(&self, wanted: &Map<String, Value>) -> anyhow::Result<()> {
        for capability in wanted.keys() {
            ensure!(
                self.plugins.iter().any(|plugin| has(plugin, capability)),
                "{}: no plugin of network {} has the capability \"{capability}\"; add `\"capabilities\": {{\"{capability}\": true}}` to the one that shall take it",
                self.file.display(),
                self.name
            );
        }
        Ok(())
    }

    /// Whether plugins of this network know `since` and what came with it.
    pub(super) fn is_since(&self, since: &str) -> bool {
        rank(&self.version) >= rank(since)
    }
}

/// Whether a plugin's object names the capability.
pub(super) fn has(plugin: &Map<String, Value>, capability: &str) -> bool {
    plugin.get("capabilities").and_then(|all| all.get(capability)).is_some_and(|one| one == &json!(true))
}

fn common_version(given: &Map<String, Value>) -> anyhow::Result<String> {
    let single = given.get("cniVersion").and_then(Value::as_str);
    let several = given.get("cniVersions").and_then(Value::as_array).into_iter().flatten();
    let offered: Vec<&str> = several.filter_map(Value::as_str).chain(single).collect();
    ensure!(!offered.is_empty(), "has no \"cniVersion\"; add one of {}", VERSIONS.join(", "));
    let common = offered.iter().filter(|version| rank(version).is_some()).max_by_key(|version| rank(version));
    let none = || {
        format!("cniVersion {} is not spoken here; use one of {}", offered.join(", "), VERSIONS.join(", "))
    };
    Ok((*common.with_context(none)?).to_owned())
}

fn rank(version: &str) -> Option<usize> {
    VERSIONS.iter().position(|known| *known == version)
}

fn ending(file: &Path) -> Option<&'static str> {
    let ending = file.extension()?;
    ENDINGS.into_iter().find(|known| ending == *known)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn conflist(name: &str, versions: &str) -> String {
        format!(r#"{{"name": "{name}", {versions}, "plugins": [{{"type": "a"}}]}}"#)
    }

    #[test]
    fn the_first_file_by_name_that_can_be_read_counts() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let first = || Conflist::wait(folder.path(), NOW, |_| Ok(())).map(|conflist| conflist.name);
        let error = format!("{:#}", first().unwrap_err());
        assert!(error.contains("towpath status") && error.contains("no network configuration"), "{error}");
        file("00-a.conflist~", &conflist("previous", r#""cniVersion": "1.0.0""#));
        assert!(first().is_err(), "no ending of a configuration");
        file("05-broken.conflist", "{");
        assert!(format!("{:#}", first().unwrap_err()).contains("05-broken.conflist"));
        file("20-b.conflist", &conflist("b", r#""cniVersion": "1.0.0""#));
        assert_eq!(first().unwrap(), "b");
        file("10-a.conf", r#"{"cniVersion": "0.4.0", "name": "a", "type": "bridge"}"#);
        assert_eq!(first().unwrap(), "a");
    }

    #[test]
    fn a_configuration_that_comes_late_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("net.d");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                Conflist::wait(&missing, Duration::from_secs(20), |conflist| {
                    anyhow::ensure!(conflist.name == "late", "not this one");
                    Ok(())
                })
            });
            std::fs::create_dir(&missing).unwrap();
            std::fs::write(missing.join("20.conflist"), conflist("other", r#""cniVersion": "1.0.0""#))
                .unwrap();
            std::fs::write(missing.join("draft"), conflist("late", r#""cniVersion": "1.0.0""#)).unwrap();
            std::fs::rename(missing.join("draft"), missing.join("10.conflist")).unwrap();
            assert_eq!(waiting.join().unwrap().unwrap().name, "late");
        });
    }

    #[test]
    fn the_highest_common_version_is_spoken() {
        let rows = [
            (r#""cniVersion": "0.4.0""#, Ok("0.4.0")),
            (r#""cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"]"#, Ok("1.1.0")),
            (r#""cniVersion": "1.0.0", "cniVersions": ["0.4.0", "2.0.0"]"#, Ok("1.0.0")),
            (r#""cniVersion": "2.0.0""#, Err("cniVersion 2.0.0 is not spoken here; use one of 0.3.0, ")),
            (r#""other": 1"#, Err("has no \"cniVersion\"")),
        ];
        for (versions, expected) in rows {
            let read = Conflist::parse(&conflist("n", versions), Path::new("x.conflist"));
            match expected {
                Ok(version) => assert_eq!(read.unwrap().version, version, "{versions}"),
                Err(words) => assert!(read.unwrap_err().to_string().starts_with(words), "{versions}"),
            }
        }
    }

    #[test]
    fn what_no_plugin_takes_is_refused() {
        let text = r#"{"cniVersion": "1.0.0", "name": "n",
            "plugins": [{"type": "a", "capabilities": {"ips": true, "mac": false}}, {"type": "b"}]}"#;
        let conflist = Conflist::parse(text, Path::new("/etc/cni/net.d/x.conflist")).unwrap();
        let wanted = |name: &str| Map::from_iter([(name.to_owned(), json!([]))]);
        assert!(conflist.takes(&wanted("ips")).is_ok());
        for name in ["mac", "portMappings"] {
            let error = conflist.takes(&wanted(name)).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("x.conflist"), "{error}");
        }
    }
}
