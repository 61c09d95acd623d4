//! What holds on this node: the configuration's word, where it is silent that of the daemon's ready file, and the
//! kernel's where both are.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use crate::ready::{Ready, State};
use crate::spec::{CniError, Code, NetworkConf, StatePlace};

/// A network's settings on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Blocks of pod addresses, at least one.
    pub(super) blocks: Vec<IpNet>,
    /// The node's own addresses; may be empty.
    pub(super) node_addresses: Vec<IpAddr>,
    /// MTU of the pods' interfaces. `None`: nobody says, the uplink's is taken.
    pub(super) mtu_bytes: Option<u32>,
    /// `rtm_protocol` of the pod routes.
    pub(super) route_protocol: u8,
    /// This boot.
    pub(super) boot_id: String,
    /// Why the daemon does not want pods to start now; `None` when it does, and where there is no daemon.
    pub(super) not_ready: Option<String>,
    /// An operator takes the node out of service.
    pub(super) drained: bool,
}

impl Node {
    /// Puts configuration and ready file together.
    ///
    /// # Errors
    /// 5: the boot id cannot be read. 7: nobody says which blocks to use. 11: the daemon has yet to say it.
    pub(super) fn read(conf: &NetworkConf, place: &StatePlace) -> Result<Self, CniError> {
        let boot_id = boot_id(&place.boot_id_file)?;
        let (ready, not_ready) = match &conf.ready_file {
            None => (None, None),
            Some(path) => of_this_boot(path, &boot_id),
        };
        let drained = ready.as_ref().is_some_and(|ready| ready.state == State::Drained);
        let (blocks, node_addresses, mtu) =
            ready.map(|ready| (ready.blocks, ready.node_addresses, ready.mtu)).unwrap_or_default();
        let node = Self {
            blocks: if conf.blocks.is_empty() { blocks } else { conf.blocks.clone() },
            node_addresses: if conf.node_addresses.is_empty() {
                node_addresses
            } else {
                conf.node_addresses.clone()
            },
            mtu_bytes: conf.mtu_bytes.or(mtu),
            route_protocol: place.route_protocol,
            boot_id,
            not_ready,
            drained,
        };
        if !node.blocks.is_empty() {
            return Ok(node);
        }
        Err(match node.not_ready {
            Some(reason) => {
                CniError::new(Code::TryAgainLater, format!("no blocks of addresses yet: {reason}"))
            }
            None => CniError::new(
                Code::InvalidConfig,
                "blocks is missing: set it, as in \"blocks\": [\"10.244.3.0/24\", \"fd00:244:3::/64\"]",
            ),
        })
    }
}

/// This boot's id.
///
/// # Errors
/// 5.
pub(super) fn boot_id(path: &Path) -> Result<String, CniError> {
    let failed = |problem: String| {
        CniError::new(Code::Io, format!("reading the boot id from {}: {problem}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    match text.trim() {
        "" => Err(failed("the file is empty".to_owned())),
        id => Ok(id.to_owned()),
    }
}

/// What the ready file says if it was written in this boot, and why pods should not start, if so.
fn of_this_boot(path: &Path, boot_id: &str) -> (Option<Ready>, Option<String>) {
    let shown = path.display();
    match Ready::read(path) {
        Err(error) => (None, Some(error.to_string())),
        Ok(None) => (None, Some(format!("the towpath daemon has not written {shown} yet; is it running?"))),
        Ok(Some(ready)) if ready.boot_id != boot_id => {
            (None, Some(format!("{shown} is of an earlier boot; is the towpath daemon running?")))
        }
        Ok(Some(ready)) => {
            let state = match ready.state {
                State::Ready => None,
                State::Converging => Some("the node has not learned its routes since boot"),
                State::Drained => Some("the node is drained"),
            };
            let reason = state.map(|state| match ready.reason.as_str() {
                "" => state.to_owned(),
                reason => format!("{state}: {reason}"),
            });
            (Some(ready), reason)
        }
    }
}
