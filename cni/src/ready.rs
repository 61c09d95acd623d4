//! The ready file (`/run/towpath/ready`): what the daemon tells the plugin.
//!
//! The daemon writes it whole, by rename; STATUS answers from it, ADD takes blocks and MTU from it where the
//! conflist is silent. A file of another boot says nothing about this one. Without a daemon there is no such file
//! and the conflist names none.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Where the daemon writes it unless told otherwise.
pub const DEFAULT_PATH: &str = "/run/towpath/ready";
/// Where the kernel tells the boot id.
pub const BOOT_ID_PATH: &str = "/proc/sys/kernel/random/boot_id";

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    /// The boot in which it was written.
    #[serde(rename = "bootID")]
    pub boot_id: String,
    /// Whether pods may start here.
    pub state: State,
    /// Why, in words, for the person who reads STATUS.
    #[serde(default)]
    pub reason: String,
    /// The node's blocks of pod addresses.
    #[serde(default)]
    pub blocks: Vec<IpNet>,
    /// The node's own addresses: source of what the node sends to its pods, one of each family.
    #[serde(default)]
    pub node_addresses: Vec<IpAddr>,
    /// MTU of the pods' interfaces in octets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// Whether pods may start on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Routes are in place; stays so for the rest of the boot unless the node is drained.
    Ready,
    /// Before the first convergence since boot.
    Converging,
    /// An operator takes the node out of service.
    Drained,
}

/// A ready file that is there and cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// The system's answer.
    #[error("reading {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not what the daemon writes.
    #[error("{}: {source}; the daemon writes it anew when it is restarted", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl Ready {
    /// Reads the file. `None`: there is none.
    ///
    /// # Errors
    /// [`ReadyError`].
    pub fn read(path: &Path) -> Result<Option<Self>, ReadyError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ReadyError::Io { path: path.to_owned(), source }),
        };
        let parsed = serde_json::from_str(&text);
        parsed.map(Some).map_err(|source| ReadyError::Malformed { path: path.to_owned(), source })
    }

    /// The text to write: one JSON object and a line feed.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string(self).expect("strings and numbers are always JSON");
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemon_writes_is_what_the_plugin_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready");
        assert_eq!(Ready::read(&path).unwrap(), None);
        let ready = Ready {
            boot_id: "b00t".to_owned(),
            state: State::Converging,
            reason: "2 of 3 sessions are up".to_owned(),
            blocks: vec!["10.244.3.0/24".parse().unwrap(), "fd00:244:3::/64".parse().unwrap()],
            node_addresses: vec!["192.0.2.1".parse().unwrap()],
            mtu: Some(9000),
        };
        std::fs::write(&path, ready.to_text()).unwrap();
        assert_eq!(
            ready.to_text(),
            "{\"bootID\":\"b00t\",\"state\":\"Converging\",\"reason\":\"2 of 3 sessions are up\",\
             \"blocks\":[\"10.244.3.0/24\",\"fd00:244:3::/64\"],\"nodeAddresses\":[\"192.0.2.1\"],\"mtu\":9000}\n"
        );
        assert_eq!(Ready::read(&path).unwrap(), Some(ready));
    }

    #[test]
    fn a_newer_daemon_may_say_more_and_half_a_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready");
        std::fs::write(&path, r#"{"bootID": "b", "state": "Ready", "later": [1]}"#).unwrap();
        let ready = Ready::read(&path).unwrap().unwrap();
        assert_eq!((ready.state, ready.blocks.len(), ready.mtu), (State::Ready, 0, None));
        std::fs::write(&path, r#"{"bootID": "b","#).unwrap();
        let error = Ready::read(&path).unwrap_err().to_string();
        assert!(error.contains(&*path.to_string_lossy()) && error.contains("EOF"), "{error}");
    }
}
