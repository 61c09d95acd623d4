//! From the daemon's facts to `NodeNetwork.status`, and what of it is worth a write.
//!
//! Attempts of a session that is down change its state and reason every few seconds, counts follow the fabric, pods
//! come and go: all of that is written, but none of it is a transition. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use api::desired::{Neighbor, Peer};
use api::status::{
    BGPPeerCounts, CniStatus, FibCounts, NodeFamilyStatus, NodeNetworkStatus, NodePeerStatus, PeerError,
    SessionCounts, Uplink,
};
use api::words::{Condition, ConditionStatus};
use bgp_speaker::status::{FamilyStatus, PeerStatus};
use k8s_openapi::jiff::Timestamp;

use super::conditions;
use super::facts::{self, Facts, bgp_peer};
use super::pace::News;
use crate::kernel::resolve::Topology;

/// Sessions listed; the counts are complete.
const PEERS_LISTED: usize = 200;
/// Interfaces listed.
const UPLINKS_LISTED: usize = 32;

/// The status as of `now`; `earlier` are the conditions written last.
pub(super) fn status(facts: &Facts<'_>, earlier: &[Condition], now: Timestamp) -> NodeNetworkStatus {
    let node = &facts.desired.node;
    let now = time(now);
    let judged = conditions::judge(facts);
    NodeNetworkStatus {
        observed_generation: facts.generation,
        conditions: judged
            .into_iter()
            .map(|judgement| judgement.since(earlier, facts.generation, &now))
            .collect(),
        router_id: Some(node.router_id.to_string()),
        asn: Some(node.asn.into()),
        addresses: node.addresses.iter().map(ToString::to_string).collect(),
        pod_cidrs: node.pod_blocks.iter().map(ToString::to_string).collect(),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        uplinks: uplinks(facts),
        sessions: Some(sum(facts.peers.iter())),
        bgp_peers: by_peer(facts),
        peers: sessions(facts),
        fib: Some(FibCounts {
            routes: signed(facts.fib.routes_v4 + facts.fib.routes_v6),
            nexthop_groups: signed(facts.fib.groups),
            drift: signed(facts.fib.drift),
        }),
        cni: facts.pods.map(|pods| {
            let ready = conditions::ready(Some(pods));
            let is_ready = ready.status == ConditionStatus::True;
            CniStatus {
                ready: is_ready,
                reason: if is_ready { String::new() } else { ready.message },
                pods: pods.pods as i64,
            }
        }),
        last_heartbeat_time: Some(now),
    }
}

/// What `now` has that `written` has not.
pub(super) fn news(written: &NodeNetworkStatus, now: &NodeNetworkStatus) -> News {
    if essence(written) != essence(now) {
        News::Transition
    } else if counts(written).into_iter().zip(counts(now)).any(|(old, new)| moved(old, new)) {
        News::Counts
    } else {
        News::None
    }
}

/// Without what moves while nothing happens.
fn essence(status: &NodeNetworkStatus) -> NodeNetworkStatus {
    let mut essence = NodeNetworkStatus { last_heartbeat_time: None, fib: None, ..status.clone() };
    for condition in &mut essence.conditions {
        condition.last_transition_time.clear();
        // Which resource is refused, and why, is the news; elsewhere sentences carry counts.
        if condition.kind != "ConfigurationAccepted" {
            condition.message.clear();
        }
    }
    for peer in &mut essence.peers {
        if peer.state != "Established" {
            peer.state.clear();
            peer.remote_asn = None;
        }
        peer.since.clear();
        peer.reason = None;
        peer.families.clear();
    }
    if let Some(cni) = &mut essence.cni {
        cni.pods = 0;
        cni.reason.clear();
    }
    essence
}

fn counts(status: &NodeNetworkStatus) -> Vec<i64> {
    let families = status.peers.iter().flat_map(|peer| &peer.families);
    let mut counts: Vec<i64> =
        families.flat_map(|family| [family.received, family.accepted, family.advertised]).collect();
    counts.push(status.fib.map_or(0, |fib| fib.routes));
    counts.push(status.fib.map_or(0, |fib| fib.drift));
    counts.push(status.cni.as_ref().map_or(0, |cni| cni.pods));
    counts
}

/// By more than a twentieth.
fn moved(old: i64, new: i64) -> bool {
    (new - old).abs() * 20 > old.abs()
}

/// Counts of some sessions. One that a neighbour opened is desired while it is up.
fn sum<'a>(peers: impl Iterator<Item = &'a PeerStatus>) -> SessionCounts {
    let mut counts = SessionCounts::default();
    for peer in peers.filter(|peer| peer.is_wanted() || (peer.dynamic && peer.is_established())) {
        counts.desired += 1;
        counts.established += i64::from(peer.is_established());
        counts.degraded += i64::from(facts::degraded(peer));
    }
    counts
}

fn by_peer(facts: &Facts<'_>) -> Vec<BGPPeerCounts> {
    let mut groups: BTreeMap<&str, Vec<&PeerStatus>> =
        facts.desired.peers.iter().map(|peer| (bgp_peer(&peer.name), Vec::new())).collect();
    for peer in facts.peers {
        groups.entry(bgp_peer(&peer.peer)).or_default().push(peer);
    }
    let counts = |(name, peers): (&str, Vec<&PeerStatus>)| {
        let SessionCounts { desired, established, degraded } = sum(peers.into_iter());
        BGPPeerCounts { name: name.to_owned(), desired, established, degraded }
    };
    groups.into_iter().map(counts).collect()
}

fn sessions(facts: &Facts<'_>) -> Vec<NodePeerStatus> {
    let configured: BTreeMap<&str, &Peer> =
        facts.desired.peers.iter().map(|peer| (peer.name.as_str(), peer)).collect();
    let mut sorted: Vec<&PeerStatus> = facts.peers.iter().collect();
    sorted.sort_by_key(|peer| (peer.is_established(), peer.peer.as_str(), peer.neighbor));
    let mut keys = BTreeSet::new();
    let listed = sorted
        .into_iter()
        .map(|peer| session(peer, configured.get(peer.peer.as_str()).copied(), facts.topology));
    // The API server refuses a list with one key twice; a speaker has no session twice either.
    listed.filter(|peer| keys.insert((peer.peer.clone(), peer.neighbor.clone()))).take(PEERS_LISTED).collect()
}

fn session(peer: &PeerStatus, config: Option<&Peer>, topology: &Topology) -> NodePeerStatus {
    let zone = zone(peer, config, topology);
    let neighbor = match &zone {
        Some(zone) => format!("{}%{zone}", peer.neighbor),
        None => peer.neighbor.to_string(),
    };
    let since = i64::try_from(peer.since).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    NodePeerStatus {
        peer: peer.peer.clone(),
        neighbor,
        interface: zone.or_else(|| config.and_then(|config| config.bind_interface.clone())),
        remote_asn: peer.remote_asn.map(Into::into),
        state: peer.state.clone(),
        paused: peer.paused,
        since: time(since.unwrap_or(Timestamp::UNIX_EPOCH)),
        reason: peer.reason.clone(),
        last_error: peer.last_error.as_ref().map(|error| PeerError {
            code: error.code.into(),
            subcode: error.subcode.into(),
            text: format!("{} by {}", error.text, if error.received { "the peer" } else { "us" }),
        }),
        down_count: signed(peer.down_count),
        families: peer.families.iter().map(family).collect(),
    }
}

fn family(family: &FamilyStatus) -> NodeFamilyStatus {
    NodeFamilyStatus {
        family: family.family.clone(),
        received: family.received.into(),
        accepted: family.accepted.into(),
        advertised: family.advertised.into(),
        limit: family.limit.into(),
    }
}

/// The interface of a link-local neighbour.
fn zone(peer: &PeerStatus, config: Option<&Peer>, topology: &Topology) -> Option<String> {
    if let Some(Neighbor::Address { interface: Some(interface), .. }) = config.map(|config| &config.neighbor)
    {
        return Some(interface.clone());
    }
    let IpAddr::V6(address) = peer.neighbor else { return None };
    let Some(SocketAddr::V6(ours)) = peer.local_endpoint else { return None };
    address.is_unicast_link_local().then(|| topology.link(ours.scope_id()).map(|link| link.name.clone()))?
}

/// The links that sessions run over, or would. A session between loopback addresses says nothing about links.
fn uplinks(facts: &Facts<'_>) -> Vec<Uplink> {
    let running = facts.peers.iter().filter_map(|peer| {
        let local = peer.local_endpoint?;
        let scope = match local {
            SocketAddr::V6(local) => local.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        facts.topology.interface_of(local.ip(), scope)
    });
    let configured = facts.desired.peers.iter().filter_map(|peer| match &peer.neighbor {
        Neighbor::Address { interface: Some(name), .. } => {
            facts.topology.links().find(|link| link.name == *name).map(|link| link.index)
        }
        Neighbor::Address { address, interface: None } => facts.topology.towards(*address),
        Neighbor::Listen { .. } => None,
    });
    let indices: BTreeSet<u32> = running.chain(configured).collect();
    let links = indices.into_iter().filter_map(|index| facts.topology.link(index));
    let mut uplinks: Vec<Uplink> = links
        .filter(|link| link.name != "lo")
        .map(|link| Uplink { name: link.name.clone(), mtu: link.mtu_bytes.into(), carrier: link.usable })
        .collect();
    uplinks.sort_by(|a, b| a.name.cmp(&b.name));
    uplinks.truncate(UPLINKS_LISTED);
    uplinks
}

/// RFC 3339, whole seconds, UTC.
pub(super) fn time(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// Counters end at 2^63 in JSON schemas.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
