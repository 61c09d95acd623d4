//! Who this speaker talks to: sessions come from the configuration or from a listen range, and go.
//!
//! In: desired states, accepted connections, operators' actions, links that went down or came back. Out: peer tasks
//! started and told, peers added to and removed from the RIB. A part of the router task, which owns all of it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::DesiredState;
use api::desired::{Neighbor, Peer};
use ipnet::IpNet;
use tokio::net::TcpStream;
use tracing::{debug, error, info, warn};

use crate::handle::PeerAction;
use crate::managed::{Managed, dynamic_peer, settings};
use crate::peer;
use crate::peer_channel::{Appetite, PeerCommand, SessionKey};
use crate::session::{ConfigEffect, Event, LocalSpeaker, StopReason, needs_reset};
use crate::speaker::Router;
use crate::transport::ListenKey;

/// A peer's task that panicked starts again after this long.
const AFTER_PANIC: Duration = Duration::from_secs(10);

impl Router {
    pub(crate) fn configure(&mut self, desired: Arc<DesiredState>) -> Vec<String> {
        let previous = std::mem::replace(&mut self.desired, Arc::clone(&desired));
        self.rib.set_identity(desired.node.asn, desired.node.router_id);
        self.rib.set_import(desired.transit, desired.pod_ranges.clone());
        let after_install = self.fib.is_some() && desired.install.advertise_after_install;
        self.rib.set_install(desired.install.max_paths, after_install);
        // A new router id or name is part of every OPEN.
        let identity_changed =
            (previous.node.router_id, &previous.node.name) != (desired.node.router_id, &desired.node.name);
        // A session shut down by an operator stays so when an edit replaces it.
        let shut_down: BTreeSet<String> = self
            .sessions
            .values()
            .filter(|managed| managed.shut_down)
            .map(|managed| managed.peer.name.clone())
            .collect();
        let keys: Vec<SessionKey> = self.sessions.keys().copied().collect();
        for key in keys {
            let Some(managed) = self.sessions.get(&key) else { continue };
            let Some(new) = desired.peers.iter().find(|peer| peer.name == managed.peer.name) else {
                self.remove(key, Some(StopReason::Deconfigured));
                continue;
            };
            let Some(new) = managed.reconfigured(new) else {
                self.remove(key, Some(StopReason::Deconfigured)); // no longer in a listen range
                continue;
            };
            match needs_reset(&managed.peer, &new) {
                ConfigEffect::Reset => self.remove(key, Some(StopReason::ConfigurationChange)),
                _ if identity_changed => self.remove(key, Some(StopReason::ConfigurationChange)),
                effect => self.reconfigure(key, new, effect),
            }
        }
        // Keys before sessions: a connection that comes at once must find its key.
        let problems = self.listeners.configure(desired.listen.as_ref(), &listen_keys(&desired.peers));
        for peer in &desired.peers {
            let running = self.sessions.values().any(|managed| managed.peer.name == peer.name);
            if !running
                && matches!(peer.neighbor, Neighbor::Address { .. })
                && let Some(managed) =
                    self.add(peer.clone(), false).and_then(|key| self.sessions.get_mut(&key))
            {
                managed.shut_down = shut_down.contains(&peer.name);
                managed.start();
            }
        }
        let open_ended =
            |peer: &Peer| peer.paused.is_none() && matches!(peer.neighbor, Neighbor::Listen { .. });
        self.warm.expect(
            self.sessions.iter().filter(|(_, managed)| managed.is_wanted()).map(|(key, _)| *key),
            desired.peers.iter().any(open_ended),
        );
        self.warm_progress();
        problems
    }

    fn reconfigure(&mut self, key: SessionKey, new: Peer, effect: ConfigEffect) {
        let Some(managed) = self.sessions.get_mut(&key) else { return };
        if managed.peer == new {
            return;
        }
        info!(peer = %new.name, ?effect, "peer changed");
        let more_allowed = managed.limits_widened(&new);
        managed.peer = new.clone();
        managed.tell(PeerCommand::Configure(Box::new(new)));
        if more_allowed {
            // What was over the limit before is not here: it must be said again.
            managed.tell(PeerCommand::Session(Event::RequestRefresh));
        }
        let effect = self.rib.update_peer(managed.id, settings(&managed.peer));
        if effect.reexported {
            managed.export = self.rib.peer_export(managed.id).map(Arc::new);
        }
    }

    /// Makes a session, which waits for its start. `None` when the RIB takes no more peers.
    fn add(&mut self, peer: Peer, dynamic: bool) -> Option<SessionKey> {
        let Some(id) = self.rib.add_peer(settings(&peer)) else {
            error!(peer = %peer.name, "no room for another peer");
            return None;
        };
        let key = SessionKey(self.next_key);
        self.next_key += 1;
        let (handle, task) = peer::prepare(
            key,
            peer.clone(),
            self.local_speaker(),
            self.events.clone(),
            Appetite::new(Arc::clone(&self.appetites)),
        );
        self.tasks.spawn(task);
        let managed = Managed::new(id, peer, dynamic, handle);
        self.sessions.insert(key, managed);
        Some(key)
    }

    /// Ends a session; its task writes the last words on its own.
    pub(crate) fn remove(&mut self, key: SessionKey, stop: Option<StopReason>) {
        let Some(managed) = self.sessions.remove(&key) else { return };
        if let Some(reason) = stop {
            managed.tell(PeerCommand::Session(Event::Stop(reason)));
        }
        self.rib.remove_peer(managed.id);
        self.warm.forget(key);
    }

    pub(crate) fn local_speaker(&self) -> LocalSpeaker {
        LocalSpeaker {
            router_id: self.desired.node.router_id,
            host_name: self.desired.node.name.clone(),
            restarting: self.warm.waiting(),
            forwarding_preserved: self.warm.preserved().to_vec(),
        }
    }

    pub(crate) fn incoming(&mut self, stream: TcpStream) {
        let Ok(remote) = stream.peer_addr() else { return };
        let known = self.sessions.values().find(|managed| managed.is_neighbor(remote));
        let peer = known.map(|managed| &managed.peer);
        let peer =
            peer.or_else(|| self.desired.peers.iter().find(|peer| listen_match(peer, remote.ip()).is_some()));
        if let Some(peer) = peer
            && peer.md5.is_some()
            && !self.listeners.demands_key(remote.ip())
        {
            // The kernel refused the key, so this connection may be anybody's.
            warn!(peer = %peer.name, neighbor = %remote.ip(), "connection without a password refused");
            return;
        }
        if let Some(managed) = known {
            managed.tell(PeerCommand::Incoming(stream));
            return;
        }
        let range =
            self.desired.peers.iter().find_map(|peer| listen_match(peer, remote.ip()).map(|max| (peer, max)));
        let Some((peer, max)) = range else {
            debug!(neighbor = %remote.ip(), "connection from nobody we know refused");
            return;
        };
        let used = self
            .sessions
            .values()
            .filter(|managed| managed.dynamic && managed.peer.name == peer.name)
            .count();
        if used >= max as usize {
            warn!(peer = %peer.name, neighbor = %remote.ip(), max, "connection refused: neighbor.listen.max is reached");
            return;
        }
        let key = self.add(dynamic_peer(peer, remote), true);
        if let Some(managed) = key.and_then(|key| self.sessions.get(&key)) {
            managed.start();
            managed.tell(PeerCommand::Incoming(stream));
        }
    }

    pub(crate) fn to_sessions_on(&self, ifindex: u32, event: impl Fn() -> Event) {
        let affected = |managed: &&Managed| managed.ifindex == Some(ifindex) && managed.is_wanted();
        for managed in self.sessions.values().filter(affected) {
            managed.tell(PeerCommand::Session(event()));
        }
    }

    pub(crate) fn act(&mut self, peer: &str, action: &PeerAction) -> usize {
        let mut count = 0;
        for managed in self.sessions.values_mut().filter(|managed| managed.is_called(peer)) {
            count += 1;
            match action {
                PeerAction::Refresh => {
                    managed.tell(PeerCommand::Session(Event::RequestRefresh));
                    for family in managed.families() {
                        self.rib.refresh_request(managed.id, family);
                    }
                }
                PeerAction::Reset(text) => {
                    managed.shut_down = false;
                    managed.tell(PeerCommand::Session(Event::Stop(StopReason::AdminReset(text.clone()))));
                }
                PeerAction::Shutdown(text) => {
                    managed.shut_down = true;
                    managed.tell(PeerCommand::Session(Event::Stop(StopReason::AdminShutdown(text.clone()))));
                }
                PeerAction::Start => {
                    managed.shut_down = false;
                    managed.tell(PeerCommand::Session(Event::Start));
                }
            }
        }
        count
    }

    /// For the next OPEN of every session.
    pub(crate) fn tell_local_speaker(&self) {
        let local = self.local_speaker();
        for managed in self.sessions.values() {
            managed.tell(PeerCommand::Local(Box::new(local.clone())));
        }
    }

    pub(crate) fn tidy(&mut self) {
        // An address that was not there yet, a port or a key that was refused: it may work now.
        self.listeners.configure(self.desired.listen.as_ref(), &listen_keys(&self.desired.peers));
        let idle: Vec<SessionKey> =
            self.sessions.iter().filter(|(_, managed)| managed.is_abandoned()).map(|(key, _)| *key).collect();
        for key in idle {
            self.remove(key, None);
        }
    }

    pub(crate) fn task_ended(
        &mut self,
        ended: Result<(tokio::task::Id, SessionKey), tokio::task::JoinError>,
    ) {
        let Err(error) = ended else { return };
        let key = self.sessions.iter().find(|(_, managed)| managed.is_finished()).map(|(key, _)| *key);
        let Some(key) = key else { return };
        let Some(managed) = self.sessions.get(&key) else { return };
        let (peer, dynamic) = (managed.peer.clone(), managed.dynamic);
        error!(peer = %peer.name, %error, "a session's task failed: this is a bug; the session starts again");
        self.remove(key, None);
        if !dynamic {
            // Not at once: whatever made the task fail may come again.
            let key = self.add(peer, false);
            if let Some(managed) = key.and_then(|key| self.sessions.get(&key)) {
                managed.start_after(AFTER_PANIC);
            }
        }
    }
}

/// MD5 keys of everybody who may call.
fn listen_keys(peers: &[Peer]) -> Vec<ListenKey> {
    let mut keys = Vec::new();
    for peer in peers {
        let Some(key) = &peer.md5 else { continue };
        let neighbors = match &peer.neighbor {
            Neighbor::Address { address, .. } => vec![IpNet::from(*address)],
            Neighbor::Listen { ranges, .. } => ranges.clone(),
        };
        keys.extend(neighbors.into_iter().map(|neighbor| ListenKey { neighbor, key: key.clone() }));
    }
    keys
}

/// The session limit of a listen peer whose ranges hold `address`.
fn listen_match(peer: &Peer, address: IpAddr) -> Option<u32> {
    match &peer.neighbor {
        Neighbor::Listen { ranges, max }
            if peer.paused.is_none() && ranges.iter().any(|range| range.contains(&address)) =>
        {
            Some(*max)
        }
        _ => None,
    }
}
