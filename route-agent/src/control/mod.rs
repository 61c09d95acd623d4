//! The control socket: how the command talks to the daemon of this node.
//!
//! One JSON request a line, one JSON answer a line, over a unix socket; no API server involved, because a
//! broken control plane is when it is needed. The JSON is what `-o json` prints and is kept stable.

pub mod client;
pub mod server;

use bgp_speaker::query::RibView;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A question or an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "camelCase")]
pub enum Request {
    /// Everything on one screen.
    Status,
    /// What probes ask for; answered at once, whatever else goes on.
    Health,
    /// Every session.
    Peers,
    /// Routes of a RIB.
    Routes {
        /// Which RIB.
        view: RibView,
        /// Only this prefix.
        prefix: Option<IpNet>,
        /// Only this peer, by name or address.
        peer: Option<String>,
    },
    /// Routes of ours in the kernel.
    Installed {
        /// Only this prefix.
        prefix: Option<IpNet>,
    },
    /// Lets no new pods start on this node, or lets them again.
    Drain {
        /// End a drain.
        #[serde(default)]
        undo: bool,
    },
    /// Acts on sessions.
    Peer {
        /// BGPPeer name or neighbour address.
        peer: String,
        /// What to do.
        action: PeerVerb,
        /// RFC 9003 text for the peer's operator.
        #[serde(default)]
        reason: String,
    },
}

/// What `towpath bgp` can do to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PeerVerb {
    /// Everything is asked for and sent again.
    Refresh,
    /// Cease 6/4, then again.
    Reset,
    /// Cease 6/2, down until `start`.
    Shutdown,
    /// Ends a shutdown.
    Start,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer<T = serde_json::Value> {
    /// It worked; what was asked for.
    Ok(T),
    /// It did not; why, and what to do.
    Error(String),
}

impl<T: Serialize> Answer<T> {
    /// As it crosses the socket.
    ///
    /// # Errors
    /// A value that JSON has no word for.
    pub fn line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}
