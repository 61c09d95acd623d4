//! The ledger of this node, found as the plugin finds it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use cni::ipam::{Found, Links, Node, REUSE_DELAY, Store};
use cni::pod;
use cni::ready::{self, Ready};
use cni::spec::config::DEFAULT_STATE_DIR;
use ipnet::IpNet;
use serde_json::Value;

use super::PlaceArgs;

/// `rtm_protocol` of the routes to pods unless the conflist says otherwise.
const ROUTE_PROTOCOL: u8 = 200;

/// An opened ledger and what belongs to it.
pub(super) struct Place {
    pub(super) ledger: Store<Node>,
    /// Blocks to count; none when nobody says which there are.
    pub(super) blocks: Vec<IpNet>,
    pub(super) reuse_delay: Duration,
    route_protocol: u8,
}

impl PlaceArgs {
    pub(super) fn open(self) -> anyhow::Result<Place> {
        let plugin = plugin(&self.conflist)?;
        let path = |key: &str| plugin[key].as_str().map(PathBuf::from);
        let state_dir =
            self.state_dir.or_else(|| path("stateDir")).unwrap_or_else(|| DEFAULT_STATE_DIR.into());
        let boot_id_file =
            self.boot_id_file.or_else(|| path("bootIDFile")).unwrap_or_else(|| ready::BOOT_ID_PATH.into());
        let boot_id = fs::read_to_string(&boot_id_file)
            .with_context(|| format!("reading the boot id from {}", boot_id_file.display()))?;
        let route_protocol = match &plugin["routeProtocol"] {
            Value::Null => ROUTE_PROTOCOL,
            given => given.as_u64().and_then(|number| u8::try_from(number).ok()).ok_or_else(|| {
                anyhow!("{}: routeProtocol {given} is no number of 1 to 255", self.conflist.display())
            })?,
        };
        let blocks = match self.blocks {
            given if !given.is_empty() => given,
            _ => blocks(&plugin, path("readyFile"))?,
        };
        let ledger = Store::open(&state_dir, &boot_id, REUSE_DELAY, Links::of_node(route_protocol));
        Ok(Place { ledger, blocks, reuse_delay: REUSE_DELAY, route_protocol })
    }
}

impl Place {
    /// The pods that are wired.
    pub(super) fn links(&self) -> anyhow::Result<Vec<Found>> {
        let links = pod::links(self.route_protocol).context("listing the pods' links")?;
        Ok(links
            .into_iter()
            .map(|link| Found { attachment: link.attachment, addresses: link.addresses })
            .collect())
    }
}

/// The plugin's object in a conflist; null without one.
fn plugin(conflist: &Path) -> anyhow::Result<Value> {
    let text = match fs::read(conflist) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Value::Null),
        Err(error) => return Err(error).with_context(|| format!("reading {}", conflist.display())),
    };
    let conflist_value: Value =
        serde_json::from_slice(&text).with_context(|| format!("reading {}", conflist.display()))?;
    let plugins = conflist_value["plugins"].as_array().cloned().unwrap_or_default();
    Ok(plugins.into_iter().find(|plugin| plugin["type"] == "towpath-cni").unwrap_or(Value::Null))
}

/// The conflist's blocks, else the daemon's.
fn blocks(plugin: &Value, ready_file: Option<PathBuf>) -> anyhow::Result<Vec<IpNet>> {
    if let Value::Array(blocks) = &plugin["blocks"]
        && !blocks.is_empty()
    {
        return blocks
            .iter()
            .map(|block| {
                let text = block.as_str().unwrap_or_default();
                text.parse().with_context(|| format!("blocks has {block}, which is no prefix"))
            })
            .collect();
    }
    let path = ready_file.unwrap_or_else(|| ready::DEFAULT_PATH.into());
    Ok(Ready::read(&path)?.map(|ready| ready.blocks).unwrap_or_default())
}
