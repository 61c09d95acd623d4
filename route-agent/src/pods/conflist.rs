//! The CNI conflist: what container runtimes are told about this node's network. Text only.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use api::desired::Install;
use ipnet::IpNet;
use serde_json::{Map, Value, json};

/// Name of the file in the runtimes' configuration folder; they take the first by name.
pub const FILE: &str = "10-towpath.conflist";
/// The one before it. Runtimes read names that end in `.conf`, `.conflist` and `.json` only.
pub const PREVIOUS: &str = "10-towpath.conflist~";

/// What the conflist says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflist<'a> {
    /// This node's pod blocks, not empty.
    pub blocks: &'a [IpNet],
    /// The node's own addresses.
    pub node_addresses: &'a [IpAddr],
    /// Where the daemon says whether the node is ready; absolute. `None`: there is no daemon.
    pub ready_file: Option<&'a Path>,
    /// Where the plugin keeps its leases; absolute.
    pub state_dir: &'a Path,
    /// Where the boot id is read.
    pub boot_id_file: &'a Path,
    /// Table and protocol number of pod routes.
    pub install: Option<&'a Install>,
}

impl Conflist<'_> {
    /// The text. Keys whose value is the plugin's own default are left out.
    pub fn text(&self) -> String {
        let mut plugin = Map::from_iter([
            ("type".to_owned(), json!("towpath-cni")),
            ("blocks".to_owned(), json!(self.blocks)),
        ]);
        let mut given = |key: &str, value: Value| plugin.insert(key.to_owned(), value);
        if !self.node_addresses.is_empty() {
            given("nodeAddresses", json!(self.node_addresses));
        }
        if let Some(file) = self.ready_file {
            given("readyFile", json!(file));
        }
        if self.state_dir != Path::new(cni::spec::config::DEFAULT_STATE_DIR) {
            given("stateDir", json!(self.state_dir));
        }
        if self.boot_id_file != Path::new(cni::ready::BOOT_ID_PATH) {
            given("bootIDFile", json!(self.boot_id_file));
        }
        if let Some(install) = self.install {
            if install.table != MAIN_TABLE {
                given("routeTable", json!(install.table));
            }
            if install.local_protocol != POD_PROTOCOL {
                given("routeProtocol", json!(install.local_protocol));
            }
        }
        let capabilities = ["ips", "mac", "portMappings", "bandwidth", "ipRanges", "dns"];
        given("capabilities", capabilities.into_iter().map(|name| (name.to_owned(), json!(true))).collect());
        // Older runtimes read the first version key, newer ones the list.
        let conflist = json!({
            "cniVersion": "1.0.0",
            "cniVersions": ["1.0.0", "1.1.0"],
            "name": "towpath",
            "plugins": [plugin],
        });
        format!("{conflist:#}\n")
    }
}

/// The plugin's own default.
const MAIN_TABLE: u32 = 254;
/// The plugin's own default.
const POD_PROTOCOL: u8 = 200;

/// Configurations of others that runtimes would take before ours, by name.
pub fn before_ours(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| is_read(path)).collect();
    paths.retain(|path| path.file_name().is_some_and(|name| name < FILE));
    paths.sort();
    paths
}

/// Whether a runtime would read a file of this name.
pub fn is_read(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "conf" || extension == "conflist" || extension == "json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_node_needs_few_words() {
        let blocks = ["10.244.3.0/24".parse().unwrap(), "fd00:244:3::/64".parse().unwrap()];
        let install = Install {
            metric: 20,
            table: 254,
            max_paths: 8,
            protocol: 199,
            local_protocol: 200,
            advertise_after_install: false,
        };
        let plain = Conflist {
            blocks: &blocks,
            node_addresses: &["192.0.2.1".parse().unwrap()],
            ready_file: Some(Path::new("/run/towpath/ready")),
            state_dir: Path::new("/var/lib/towpath"),
            boot_id_file: Path::new("/proc/sys/kernel/random/boot_id"),
            install: Some(&install),
        };
        let expected = json!({
            "cniVersion": "1.0.0",
            "cniVersions": ["1.0.0", "1.1.0"],
            "name": "towpath",
            "plugins": [{
                "type": "towpath-cni",
                "blocks": ["10.244.3.0/24", "fd00:244:3::/64"],
                "nodeAddresses": ["192.0.2.1"],
                "readyFile": "/run/towpath/ready",
                "capabilities": {
                    "ips": true, "mac": true, "portMappings": true, "bandwidth": true, "ipRanges": true, "dns": true
                },
            }],
        });
        assert_eq!(serde_json::from_str::<Value>(&plain.text()).unwrap(), expected);
        let other = Install { table: 100, local_protocol: 211, ..install };
        let moved = Conflist {
            node_addresses: &[],
            ready_file: None,
            state_dir: Path::new("/srv/towpath"),
            boot_id_file: Path::new("/tmp/boot"),
            install: Some(&other),
            ..plain
        };
        let moved: Value = serde_json::from_str(&moved.text()).unwrap();
        let plugin = &moved["plugins"][0];
        let keys: Vec<&String> = plugin.as_object().unwrap().keys().collect();
        let all = ["blocks", "bootIDFile", "capabilities", "routeProtocol", "routeTable", "stateDir", "type"];
        assert_eq!(keys, all);
        assert_eq!((&plugin["routeTable"], &plugin["routeProtocol"]), (&json!(100), &json!(211)));
    }

    #[test]
    fn what_runtimes_take_before_ours_is_found() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "05-cilium.conflist",
            "10-calico.conf",
            "10-towpath.conflist",
            "10-towpath.conflist~",
            "99-x.conf",
            "00-note.txt",
        ] {
            std::fs::write(folder.path().join(name), "{}").unwrap();
        }
        let names: Vec<String> = before_ours(folder.path())
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["05-cilium.conflist", "10-calico.conf"]);
        assert!(before_ours(Path::new("/nonexistent")).is_empty());
    }
}
