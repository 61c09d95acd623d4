//! What the daemon writes back to the API server.
//!
//! ```text
//!  speaker, fib, pods, verdicts --facts--> status --pace--> NodeNetwork.status   (each node its own)
//!                                  |-----> node ----------> Node: NetworkUnavailable
//!                                  '-----> notice --series--> Events
//!  all NodeNetworks --tally--> verdict --> status of BGPPeers and other shared resources (who has the Lease)
//! ```
//! In: what the daemon knows of itself, and how resources were judged. Out: status, a condition, Events. An API server
//! that does not answer delays all of it and changes nothing else. No password ever passes through here: sessions are
//! read from their status, objects from their verdicts.

mod conditions;
mod facts;
mod leader;
mod lease;
mod node;
mod notice;
mod overview;
mod own;
mod pace;
mod recorder;
mod series;
mod server;
mod status;
mod tally;
#[cfg(test)]
mod tests;
mod verdict;

use bgp_speaker::SpeakerHandle;
use tokio::sync::{mpsc, watch};

use super::client::Api;
use crate::config::Loaded;
use crate::fib::run::FibHandle;
use crate::pods::PodsHandle;

use own::Own;
use server::Server;

/// Reports on `node`, and takes part in electing the one that reports for the cluster. Runs until the configuration
/// channel closes. When it is dropped, one request may still be under way; `unfinished` is held until it is not.
///
/// # Errors
/// A part of the daemon that it asks has ended; never because of the API server.
pub(crate) async fn run(
    api: Api,
    node: String,
    loaded: watch::Receiver<Loaded>,
    speaker: SpeakerHandle,
    fib: FibHandle,
    pods: PodsHandle,
    unfinished: mpsc::Sender<()>,
) -> anyhow::Result<()> {
    let server = Server::new(api.client(), api.namespace());
    let own = Own { server: server.clone(), node: node.clone(), loaded: loaded.clone(), speaker, fib, pods };
    tokio::select! {
        outcome = own.run() => outcome,
        () = leader::run(server, node, loaded, unfinished) => Ok(()),
    }
}
