//! The router's answers to `towpath peers` and `towpath routes`.

use std::net::{IpAddr, Ipv4Addr};

use api::desired::{Neighbor, RemoteAsn, RestartMode};

use crate::managed::Managed;
use crate::query::{RibQuery, RibView, RouteStatus};
use crate::rib::{AdvertisedView, Counts, PathState, PeerId, RouteView, Source};
use crate::session::{Negotiated, State};
use crate::speaker::Router;
use crate::status::{
    Capabilities, FamilyStatus, PeerStatus, SessionBrief, capability_names, epoch_seconds, last_error,
};
use crate::wire::{AfiSafi, PathAttributes};

impl Router {
    /// Every session, sorted by name and neighbour.
    pub(crate) fn peer_statuses(&self) -> Vec<PeerStatus> {
        let counts = self.rib.counts();
        let mut peers: Vec<PeerStatus> = self
            .sessions
            .values()
            .map(|managed| {
                peer_status(managed, counts.get(usize::from(managed.id.0)).copied().unwrap_or_default())
            })
            .collect();
        peers.sort_by(|a, b| (&a.peer, a.neighbor).cmp(&(&b.peer, b.neighbor)));
        peers
    }

    /// Every session in brief, sorted like [`Router::peer_statuses`].
    pub(crate) fn session_briefs(&self) -> Vec<SessionBrief> {
        let mut briefs: Vec<SessionBrief> = self.sessions.values().map(brief).collect();
        briefs.sort_by(|a, b| (&a.peer, a.neighbor).cmp(&(&b.peer, b.neighbor)));
        briefs
    }

    /// Routes of one RIB, in no particular order but grouped by prefix.
    pub(crate) fn routes(&self, query: &RibQuery) -> Vec<RouteStatus> {
        let wanted = |managed: &Managed| query.peer.as_ref().is_none_or(|peer| managed.is_called(peer));
        let peers: Vec<&Managed> = self.sessions.values().filter(|managed| wanted(managed)).collect();
        if query.view == RibView::Advertised {
            return peers
                .iter()
                .flat_map(|managed| self.rib.advertised(managed.id).map(move |view| (managed, view)))
                .filter(|(_, view)| query.prefix.is_none_or(|prefix| prefix == view.prefix))
                .map(|(managed, view)| advertised(managed, &view))
                .collect();
        }
        let views: Vec<RouteView> = match (query.prefix, query.view) {
            (Some(prefix), _) => self.rib.paths(&prefix),
            (None, RibView::Best) => self.rib.all_paths().collect(),
            (None, _) => match peers.as_slice() {
                [only] if query.peer.is_some() => self.rib.received(Some(only.id)).collect(),
                _ => self.rib.received(None).collect(),
            },
        };
        let of_wanted_peer = |source: &Source| match source {
            Source::Local => query.peer.is_none(),
            Source::Peer(id) => peers.iter().any(|managed| managed.id == *id),
        };
        views
            .into_iter()
            .filter(|view| of_wanted_peer(&view.source) && in_view(query.view, view))
            .map(|view| self.route(&view))
            .collect()
    }

    fn route(&self, view: &RouteView) -> RouteStatus {
        let managed = match view.source {
            Source::Local => None,
            Source::Peer(id) => self.by_id(id),
        };
        RouteStatus {
            prefix: view.prefix,
            peer: managed.map(|managed| managed.peer.name.clone()),
            neighbor: managed.and_then(neighbor),
            nexthop: view.nexthop.map(|nexthop| nexthop.address),
            best: view.state == PathState::Best,
            multipath: view.state == PathState::Multipath,
            stale: view.stale,
            verdict: view.state.to_string(),
            ..attributes(&view.attributes)
        }
    }

    fn by_id(&self, id: PeerId) -> Option<&Managed> {
        self.sessions.values().find(|managed| managed.id == id)
    }
}

fn in_view(view: RibView, route: &RouteView) -> bool {
    match view {
        RibView::Received => route.source != Source::Local,
        RibView::Accepted => route.source != Source::Local && !matches!(route.state, PathState::Rejected(_)),
        RibView::Best => matches!(route.state, PathState::Best | PathState::Multipath),
        RibView::Advertised => false,
    }
}

fn advertised(managed: &Managed, view: &AdvertisedView) -> RouteStatus {
    let mut status = attributes(&view.attributes);
    let ebgp = managed.export.as_ref().is_some_and(|export| export.ebgp);
    if ebgp {
        let own = managed.peer.local_asn.to_string();
        let times = 1 + usize::from(view.prepend);
        status.as_path = [vec![own; times].join(" "), status.as_path].join(" ").trim_end().to_owned();
        status.local_pref = None;
    }
    if !view.keep_med {
        status.med = None;
    }
    RouteStatus {
        prefix: view.prefix,
        peer: Some(managed.peer.name.clone()),
        neighbor: neighbor(managed),
        nexthop: Some(view.nexthop.address),
        verdict: "advertised".to_owned(),
        ..status
    }
}

/// A route with what its attributes say, and nothing else yet.
fn attributes(attributes: &PathAttributes) -> RouteStatus {
    RouteStatus {
        prefix: ipnet::IpNet::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        peer: None,
        neighbor: None,
        nexthop: None,
        as_path: attributes.as_path().to_string(),
        origin: attributes.origin().to_string().to_ascii_lowercase(),
        local_pref: attributes.local_pref(),
        med: attributes.med(),
        communities: attributes.communities().map(|c| format!("{}:{}", c >> 16, c & 0xffff)).collect(),
        large_communities: attributes.large_communities().map(|[a, b, c]| format!("{a}:{b}:{c}")).collect(),
        ext_communities: attributes.ext_communities().map(|octets| hex(&octets)).collect(),
        unknown_attributes: attributes
            .unknown()
            .map(|raw| format!("{} {:#04x} {}", raw.code, raw.flags, hex(raw.value)))
            .collect(),
        aggregator: attributes.aggregator(),
        best: false,
        multipath: false,
        stale: false,
        verdict: String::new(),
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn neighbor(managed: &Managed) -> Option<IpAddr> {
    match managed.peer.neighbor {
        Neighbor::Address { address, .. } => Some(address),
        Neighbor::Listen { .. } => None,
    }
}

fn brief(managed: &Managed) -> SessionBrief {
    let view = managed.handle().view.borrow();
    let families = &managed.peer.families;
    SessionBrief {
        peer: managed.peer.name.clone(),
        neighbor: neighbor(managed).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        wanted: managed.is_wanted() && !managed.dynamic,
        state: format!("{:?}", view.state),
        since: epoch_seconds(view.since),
        local_endpoint: view.negotiated.as_ref().map(|negotiated| negotiated.endpoints.local),
        told: !families.is_empty() && families.iter().all(|family| managed.has_told(family.afi_safi)),
    }
}

fn peer_status(managed: &Managed, counts: [Counts; 2]) -> PeerStatus {
    let SessionBrief { peer, neighbor, state, since, local_endpoint, .. } = brief(managed);
    let view = managed.handle().view.borrow();
    let negotiated = view.negotiated.as_ref();
    let (received, sent) = managed.handle().counters.messages();
    let configured = match managed.peer.remote_asn {
        RemoteAsn::Number(asn) => Some(asn),
        RemoteAsn::Internal => Some(managed.peer.local_asn),
        RemoteAsn::External | RemoteAsn::Any => None,
    };
    PeerStatus {
        peer,
        neighbor,
        dynamic: managed.dynamic,
        state,
        since,
        local_asn: managed.peer.local_asn,
        remote_asn: negotiated.map(|negotiated| negotiated.remote_asn).or(configured),
        remote_router_id: negotiated.map(|negotiated| negotiated.remote_router_id),
        local_endpoint,
        remote_endpoint: negotiated.map(|negotiated| negotiated.endpoints.remote),
        hold_time: negotiated.map(|negotiated| negotiated.hold_time.as_secs()),
        keepalive: negotiated.map(|negotiated| negotiated.keepalive.as_secs()),
        reason: view.reason.clone(),
        last_error: view.cause.as_ref().and_then(last_error),
        down_count: view.downs,
        paused: !managed.is_wanted(),
        capabilities: negotiated.map_or_else(Capabilities::default, |negotiated| Capabilities {
            sent: capability_names(&negotiated.sent),
            received: capability_names(&negotiated.received),
        }),
        graceful_restart: graceful_restart(managed, view.state, negotiated),
        families: families(managed, counts),
        received,
        sent,
        faults: managed.handle().counters.faults(),
    }
}

fn graceful_restart(managed: &Managed, state: State, negotiated: Option<&Negotiated>) -> String {
    let ours = match managed.peer.graceful_restart.mode {
        RestartMode::Disabled => return "off".to_owned(),
        RestartMode::Helper => "helper",
        RestartMode::Restarter => "both",
    };
    match (state, negotiated.map(|negotiated| &negotiated.graceful_restart)) {
        (State::Established, Some(None)) => "not offered".to_owned(),
        (State::Established, Some(Some(peer))) if peer.helps_us => format!("{ours}, peer keeps ours"),
        _ => ours.to_owned(),
    }
}

fn families(managed: &Managed, counts: [Counts; 2]) -> Vec<FamilyStatus> {
    managed
        .peer
        .families
        .iter()
        .map(|family| {
            let counts = match family.afi_safi {
                AfiSafi::Ipv4Unicast => counts[0],
                AfiSafi::Ipv6Unicast => counts[1],
            };
            FamilyStatus {
                family: family.afi_safi.to_string(),
                received: counts.received,
                accepted: counts.accepted,
                stale: counts.stale,
                advertised: counts.advertised,
                limit: family.max_prefix.limit,
                end_of_rib: managed.has_told(family.afi_safi),
            }
        })
        .collect()
}
