//! What the router keeps of each session: its settings, the way to its task, its place in the RIB.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api::desired::{MaxPrefixAction, Neighbor, Passive, Peer};
use tokio::sync::mpsc::error::TrySendError;
use tracing::{error, warn};

use crate::peer_channel::{PeerCommand, PeerHandle};
use crate::rib::{LimitEvent, LimitKind, OutboundBatch, PeerExport, PeerId, PeerSession, PeerSettings, Rib};
use crate::session::{ConnId, Event, Negotiated, State, StopReason};
use crate::transport;
use crate::wire::AfiSafi;

/// A dynamic neighbour that is not Established is forgotten after this long.
const ABANDONED: Duration = Duration::from_secs(15);

pub(crate) struct Managed {
    pub(crate) id: PeerId,
    /// With the neighbour's own address, also for a listen range.
    pub(crate) peer: Peer,
    /// Accepted from a listen range.
    pub(crate) dynamic: bool,
    handle: PeerHandle,
    pub(crate) established: Option<Box<Negotiated>>,
    /// Its connection.
    connection: Option<ConnId>,
    /// Interface of the last connection.
    pub(crate) ifindex: Option<u32>,
    /// How this peer's UPDATEs are written; empty before the first session.
    pub(crate) export: Option<Arc<PeerExport>>,
    /// `towpath bgp shutdown`.
    pub(crate) shut_down: bool,
    /// Families with stale paths.
    stale: Vec<AfiSafi>,
    /// Families of which the peer has said, in this session, that it sent everything.
    pub(crate) end_of_rib: Vec<AfiSafi>,
}

impl Managed {
    pub(crate) fn new(id: PeerId, peer: Peer, dynamic: bool, handle: PeerHandle) -> Self {
        Self {
            id,
            peer,
            dynamic,
            handle,
            established: None,
            connection: None,
            ifindex: None,
            export: None,
            shut_down: false,
            stale: Vec::new(),
            end_of_rib: Vec::new(),
        }
    }

    /// Hands a command to the task. Its channel is long, and only a task that no longer runs lets it fill.
    pub(crate) fn tell(&self, command: PeerCommand) {
        match self.handle.commands.try_send(command) {
            Ok(()) => {}
            Err(TrySendError::Closed(_)) => {} // the task has ended; the router hears of it from the task set
            Err(TrySendError::Full(command)) => {
                error!(peer = %self.peer.name, ?command, "the session's task takes no commands: this is a bug");
            }
        }
    }

    pub(crate) fn start_after(&self, delay: Duration) {
        let commands = self.handle.commands.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            // Removed meanwhile: nothing to start.
            let _ = commands.send(PeerCommand::Session(Event::Start)).await;
        });
    }

    pub(crate) fn up(&mut self, connection: ConnId, negotiated: Box<Negotiated>, rib: &mut Rib) {
        self.connection = Some(connection);
        self.end_of_rib.clear();
        self.ifindex = negotiated.endpoints.ifindex;
        let local_addresses = match negotiated.endpoints.ifindex {
            // A dump that fails leaves the session's own address, which is enough for its own family.
            Some(ifindex) => transport::interface_addresses(ifindex).unwrap_or_default(),
            None => Vec::new(),
        };
        let session = PeerSession {
            ebgp: negotiated.codec.ebgp,
            local_asn: negotiated.local_asn,
            remote_asn: negotiated.remote_asn,
            router_id: negotiated.remote_router_id,
            local_address: negotiated.endpoints.local.ip(),
            remote_address: negotiated.endpoints.remote.ip(),
            local_addresses: local_addresses.iter().map(ipnet::IpNet::addr).collect(),
            ifindex: negotiated.endpoints.ifindex,
            families: negotiated.codec.families.clone(),
            extended_nexthop_v4: negotiated.codec.extended_nexthop_v4,
            four_octet_as: negotiated.codec.four_octet_as,
            max_message: negotiated.codec.max_message(),
            enhanced_refresh: negotiated.enhanced_refresh,
        };
        rib.peer_up(self.id, session);
        self.export = rib.peer_export(self.id).map(Arc::new);
        self.established = Some(negotiated);
    }

    /// The peer has sent all it has of this family, in the session that is Established.
    pub(crate) fn has_told(&self, family: AfiSafi) -> bool {
        self.established.as_ref().is_some_and(|negotiated| {
            self.end_of_rib.contains(&family) || !negotiated.codec.families.contains(&family)
        })
    }

    /// Says it, and stops the session where `maxPrefix.action` asks for that.
    pub(crate) fn limit_reached(&self, reached: &LimitEvent) {
        let LimitEvent { family, limit, kind, .. } = *reached;
        let action = match kind {
            LimitKind::Near => {
                warn!(peer = %self.peer.name, %family, limit, "close to maxPrefix.limit");
                return;
            }
            LimitKind::Exceeded(action) => action,
        };
        warn!(peer = %self.peer.name, %family, limit, ?action, "more prefixes than maxPrefix.limit");
        let restart = match action {
            MaxPrefixAction::Warn | MaxPrefixAction::Block => return,
            MaxPrefixAction::Restart => true,
            MaxPrefixAction::Down => false,
        };
        self.tell(PeerCommand::Session(Event::Stop(StopReason::MaxPrefix { family, limit, restart })));
    }

    pub(crate) fn down(&mut self, retain: &[AfiSafi]) {
        self.established = None;
        self.connection = None;
        self.stale = retain.to_vec();
    }

    pub(crate) fn stale_swept(&mut self, family: AfiSafi) {
        self.stale.retain(|stale| *stale != family);
    }

    pub(crate) fn start(&self) {
        if self.is_wanted() {
            self.tell(PeerCommand::Session(Event::Start));
        }
    }

    /// The session that is up can take a batch.
    pub(crate) fn ready(&self) -> bool {
        self.connection.is_some_and(|connection| self.handle.appetite.has_asked(connection))
    }

    /// A batch for the session that asked for it; the task drops it if that session has ended meanwhile.
    pub(crate) fn send(&self, batch: Arc<OutboundBatch>) {
        self.handle.appetite.served();
        if let (Some(connection), Some(export)) = (self.connection, &self.export) {
            self.tell(PeerCommand::Outbound(connection, batch, self.id, Arc::clone(export)));
        }
    }

    /// Negotiated families.
    pub(crate) fn families(&self) -> Vec<AfiSafi> {
        self.established.as_ref().map(|negotiated| negotiated.codec.families.clone()).unwrap_or_default()
    }

    /// With `new` settings prefixes are taken that were over a limit before.
    pub(crate) fn limits_widened(&self, new: &Peer) -> bool {
        self.peer.families.iter().zip(&new.families).any(|(old, new)| {
            let (old, new) = (old.max_prefix, new.max_prefix);
            old.action == MaxPrefixAction::Block && (new.limit > old.limit || new.action != old.action)
        })
    }

    pub(crate) fn handle(&self) -> &PeerHandle {
        &self.handle
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.handle.commands.is_closed()
    }

    /// Sessions that ought to be up.
    pub(crate) fn is_wanted(&self) -> bool {
        self.peer.paused.is_none() && !self.shut_down
    }

    /// A dynamic neighbour that went away without a word, or never said one.
    pub(crate) fn is_abandoned(&self) -> bool {
        if !self.dynamic || self.established.is_some() || !self.stale.is_empty() || self.shut_down {
            return false;
        }
        let view = self.handle.view.borrow();
        let quiet = matches!(view.state, State::Idle | State::Connect | State::Active);
        quiet && SystemTime::now().duration_since(view.since).is_ok_and(|age| age > ABANDONED)
    }

    pub(crate) fn is_neighbor(&self, remote: SocketAddr) -> bool {
        match &self.peer.neighbor {
            Neighbor::Address { address, interface } => {
                *address == remote.ip()
                    && match (interface, remote) {
                        (Some(name), SocketAddr::V6(remote)) => {
                            transport::interface_index(name).is_ok_and(|index| index == remote.scope_id())
                        }
                        _ => true,
                    }
            }
            Neighbor::Listen { .. } => false,
        }
    }

    /// By BGPPeer name or neighbour address.
    pub(crate) fn is_called(&self, text: &str) -> bool {
        self.peer.name == text
            || matches!(&self.peer.neighbor, Neighbor::Address { address, .. } if text.parse() == Ok(*address))
    }

    /// This session's settings after its BGPPeer became `new`; `None` when it no longer has a place there.
    pub(crate) fn reconfigured(&self, new: &Peer) -> Option<Peer> {
        match (&new.neighbor, &self.peer.neighbor) {
            (Neighbor::Address { .. }, _) if !self.dynamic => Some(new.clone()),
            (Neighbor::Listen { ranges, .. }, Neighbor::Address { address, .. }) if self.dynamic => {
                ranges.iter().any(|range| range.contains(address)).then(|| Peer {
                    neighbor: self.peer.neighbor.clone(),
                    passive: Passive::Always,
                    ..new.clone()
                })
            }
            _ => None,
        }
    }
}

/// The RIB's part of a peer's settings.
pub(crate) fn settings(peer: &Peer) -> PeerSettings {
    PeerSettings {
        name: peer.name.clone(),
        allow_local_as: peer.allow_local_as,
        enforce_first_as: peer.enforce_first_as,
        next_hop: peer.next_hop,
        families: peer.families.clone(),
    }
}

/// The settings of one neighbour out of a listen range.
pub(crate) fn dynamic_peer(peer: &Peer, remote: SocketAddr) -> Peer {
    Peer {
        neighbor: Neighbor::Address { address: remote.ip(), interface: transport::zone(remote) },
        passive: Passive::Always,
        ..peer.clone()
    }
}
