//! What is remembered of each pod: one JSON file, in a folder that a reboot empties.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::conflist::Conflist;

/// A pod: what was asked for it, and what came of it. DEL and CHECK need both, whatever the files say by then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) container_id: String,
    pub(super) netns: PathBuf,
    pub(super) ifname: String,
    pub(super) conflist: Conflist,
    /// By capability.
    pub(super) wanted: Map<String, Value>,
    /// Absent while the plugins run, and after their making was interrupted.
    pub(super) result: Option<Value>,
}

impl Record {
    /// The addresses of the result, without prefix lengths.
    pub(super) fn addresses(&self) -> Vec<String> {
        let ips = self.result.as_ref().and_then(|result| result.get("ips")).and_then(Value::as_array);
        let addresses = ips.into_iter().flatten().filter_map(|ip| ip.get("address")?.as_str());
        addresses.map(|address| address.split('/').next().unwrap_or(address).to_owned()).collect()
    }
}

/// All pods made here.
pub(super) struct Records<'r> {
    folder: &'r Path,
}

impl<'r> Records<'r> {
    pub(super) fn new(folder: &'r Path) -> Self {
        Self { folder }
    }

    /// `None`: there is no such pod.
    pub(super) fn read(&self, name: &str) -> anyhow::Result<Option<Record>> {
        let file = self.file(name);
        match std::fs::read_to_string(&file) {
            Ok(text) => {
                let record = serde_json::from_str(&text);
                Ok(Some(record.with_context(|| format!("{} is damaged; remove it", file.display()))?))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
        }
    }

    /// Whole or not at all.
    pub(super) fn write(&self, record: &Record) -> anyhow::Result<()> {
        let file = self.file(&record.name);
        let draft = file.with_extension("draft");
        let write = || {
            std::fs::create_dir_all(self.folder)?;
            std::fs::write(&draft, serde_json::to_vec_pretty(record)?)?;
            std::fs::rename(&draft, &file)
        };
        write().with_context(|| format!("writing {}", file.display()))
    }

    pub(super) fn forget(&self, name: &str) -> anyhow::Result<()> {
        let file = self.file(name);
        std::fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))
    }

    /// By name.
    pub(super) fn all(&self) -> anyhow::Result<Vec<Record>> {
        let entries = match std::fs::read_dir(self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", self.folder.display())),
        };
        let names = entries.filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            Some(name.strip_suffix(".json")?.to_owned())
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        // One that goes between the listing and the reading is gone.
        names.iter().filter_map(|name| self.read(name).transpose()).collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }
}

/// 32 hexadecimal digits, the same for a name until the next boot: FNV-1a over both.
pub(super) fn container_id(name: &str) -> anyhow::Result<String> {
    const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
    let boot = std::fs::read_to_string(BOOT_ID).with_context(|| format!("reading {BOOT_ID}"))?;
    Ok(hashed(&format!("{}/{name}", boot.trim())))
}

fn hashed(text: &str) -> String {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = text.bytes().fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(name: &str) -> Record {
        Record {
            name: name.to_owned(),
            container_id: hashed(name),
            netns: "/run/netns/a".into(),
            ifname: "eth0".to_owned(),
            conflist: Conflist::loopback("1.0.0"),
            wanted: Map::new(),
            result: Some(json!({"ips": [{"address": "10.0.0.1/32"}, {"address": "fd00::1/128"}]})),
        }
    }

    #[test]
    fn records_are_written_read_listed_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("pods");
        let records = Records::new(&folder);
        assert!(records.all().unwrap().is_empty());
        assert!(records.read("b").unwrap().is_none());
        records.write(&record("b")).unwrap();
        records.write(&record("a")).unwrap();
        assert_eq!(records.all().unwrap(), [record("a"), record("b")]);
        assert_eq!(records.read("a").unwrap().unwrap().addresses(), ["10.0.0.1", "fd00::1"]);
        records.forget("b").unwrap();
        assert_eq!(records.all().unwrap(), [record("a")]);
    }

    #[test]
    fn ids_are_words_and_differ_by_name() {
        assert_eq!(hashed(""), "6c62272e07bb014262b821756295c58d");
        assert_eq!(hashed("a"), "d228cb696f1a8caf78912b704e4a8964");
        assert_eq!(container_id("pod1").unwrap(), container_id("pod1").unwrap());
        assert_ne!(container_id("pod1").unwrap(), container_id("pod2").unwrap());
    }
}
