//! BGPPeer to [`Peer`]: this node's sessions.

mod mesh;
mod neighbor;
mod session;

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::node::Identity;
use super::{Finding, Object, Report, Spec, selector, values};
use crate::bgp::{self, BGPPeerSpec, SecretRef};
use crate::desired::{Neighbor, NextHopMode, Passive, Peer, RemoteAsn, Secret, Source};
use crate::problem::{nearest, show};
use crate::words::IntOrText;

const BGP_PORT: u16 = 179;
const DEFAULT_NAMESPACE: &str = "towpath-system";
/// Linux' TCP_MD5SIG_MAXKEYLEN.
const MD5_MAX: usize = 80;
/// RFC 9003.
const REASON_MAX: usize = 255;

/// What the BGPPeers come to on this node.
pub(super) struct Sessions {
    /// Sorted by name.
    pub(super) peers: Vec<Peer>,
    /// What hardly was meant.
    pub(super) notes: Vec<String>,
}

/// The peers of this node. Those of other nodes are checked and left out.
pub(super) fn peers(
    objects: &[&Object],
    identity: &Identity,
    own_namespace: &str,
    findings: &mut Vec<Finding>,
) -> Sessions {
    let mut peers: Vec<(usize, Peer)> = Vec::new();
    let mut notes = Vec::new();
    let mut selected = false;
    for (index, object) in objects.iter().enumerate() {
        let Spec::BGPPeer(spec) = &object.spec else { continue };
        let mut report = Report { object: index, findings };
        let ours = selector::selects(
            &mut report,
            "spec.nodeSelector",
            spec.node_selector.as_ref(),
            &identity.labels,
        );
        selected |= ours;
        let password = password(&mut report, spec, own_namespace, objects);
        let Some(peer) = peer(&mut report, &object.name, spec, identity, password) else { continue };
        if let Some(nodes) = &spec.neighbor.nodes {
            let (sessions, lines) = mesh::sessions(&mut report, spec, nodes, &peer, identity);
            selected |= !sessions.is_empty();
            peers.extend(sessions.into_iter().map(|peer| (index, peer)));
            notes.extend(lines);
        } else if ours {
            fits_node(&mut report, &peer, identity);
            peers.push((index, peer));
        }
    }
    neighbor::clashes(&peers, findings);
    let mut peers: Vec<Peer> = peers.into_iter().map(|(_, peer)| peer).collect();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    if !selected && (identity.in_cluster || !identity.node.pod_blocks.is_empty()) {
        notes.push("no BGPPeer selects this node: its pods reach only pods of this node".to_owned());
    }
    Sessions { peers, notes }
}

/// All fields are read before the first refusal ends it, so that one run names every mistake.
fn peer(
    report: &mut Report<'_>,
    name: &str,
    spec: &BGPPeerSpec,
    identity: &Identity,
    password: Option<Option<Secret>>,
) -> Option<Peer> {
    let neighbor = neighbor::neighbor(report, &spec.neighbor);
    let remote_asn = remote_asn(report, spec);
    let local_asn = match &spec.local_asn {
        Some(asn) => values::asn(report, "spec.localASN", asn),
        None => Some(identity.node.asn),
    };
    let source = source(report, spec, neighbor.as_ref());
    let bind_interface = optional(spec.bind_interface.as_deref(), |name| {
        values::interface(report, "spec.bindInterface", name)
    });
    let timers = session::timers(report, spec.timers.as_ref());
    let ttl = session::ttl(report, spec.ttl.as_ref(), neighbor.as_ref());
    let passive = passive(report, spec);
    let graceful_restart =
        session::graceful_restart(report, spec.graceful_restart.as_ref(), identity.transit);
    let families = session::families(report, &spec.families, neighbor.as_ref());
    let next_hop = next_hop(report, spec);
    let paused = paused(report, spec);
    let listening = identity.listen.as_ref().filter(|_| spec.neighbor.nodes.is_some());
    if spec.neighbor.nodes.is_some() {
        mesh::check(report, spec);
    }
    Some(Peer {
        name: name.into(),
        neighbor: neighbor?,
        port: spec.neighbor.port.or(listening.map(|listen| listen.port)).unwrap_or(BGP_PORT),
        local_asn: local_asn?,
        remote_asn: remote_asn?,
        source: source?,
        bind_interface: bind_interface?,
        md5: password?,
        timers: timers?,
        ttl: ttl?,
        passive: passive?,
        graceful_restart: graceful_restart?,
        families: families?,
        next_hop: next_hop?,
        allow_local_as: spec.allow_local_as.unwrap_or(0),
        enforce_first_as: spec.enforce_first_as.unwrap_or(true),
        paused: paused?,
    })
}

/// Absent is fine, refused is not: `Some(None)` against `None`.
fn optional<T, U>(given: Option<T>, read: impl FnOnce(T) -> Option<U>) -> Option<Option<U>> {
    given.map_or(Some(None), |given| read(given).map(Some))
}

fn remote_asn(report: &mut Report<'_>, spec: &BGPPeerSpec) -> Option<RemoteAsn> {
    const WORDS: [&str; 3] = ["external", "internal", "any"];
    let Some(written) = &spec.remote_asn else {
        return match spec.neighbor.nodes {
            // Each node's own takes its place.
            Some(_) => Some(RemoteAsn::Any),
            None => report.refuse("spec.remoteASN", "is missing; give a number, external, internal or any"),
        };
    };
    let IntOrText::Text(text) = written else {
        return values::asn(report, "spec.remoteASN", written).map(RemoteAsn::Number);
    };
    match text.as_str() {
        "external" => Some(RemoteAsn::External),
        "internal" => Some(RemoteAsn::Internal),
        "any" => Some(RemoteAsn::Any),
        text if text.starts_with(|c: char| c.is_ascii_digit()) => {
            values::asn(report, "spec.remoteASN", written).map(RemoteAsn::Number)
        }
        text => {
            let remedy = match nearest(text, WORDS) {
                Some(word) => format!("did you mean {word}?"),
                None => "use a number, external, internal or any".into(),
            };
            report.refuse("spec.remoteASN", format!("{} is not allowed; {remedy}", show(text)))
        }
    }
}

fn source(report: &mut Report<'_>, spec: &BGPPeerSpec, neighbor: Option<&Neighbor>) -> Option<Source> {
    let literal = match (spec.source_address.as_deref(), spec.source_interface.as_deref()) {
        (Some(_), Some(_)) => {
            return report.refuse("spec.sourceInterface", "is given beside sourceAddress; keep one");
        }
        (None, Some(name)) => {
            return values::interface(report, "spec.sourceInterface", name).map(Source::Interface);
        }
        (None | Some("auto" | "kernel"), None) => return Some(Source::Kernel),
        // Refused with what can be said of it there.
        (Some(_), None) if spec.neighbor.nodes.is_some() => return Some(Source::Kernel),
        (Some(literal), None) => literal,
    };
    if literal.parse::<IpAddr>().is_err() {
        return report.refuse(
            "spec.sourceAddress",
            format!("{} is not allowed; use auto, kernel or an address", show(literal)),
        );
    }
    let address = values::address(report, "spec.sourceAddress", literal)?;
    let fits = match neighbor {
        Some(Neighbor::Address { address: theirs, .. }) => theirs.is_ipv4() == address.is_ipv4(),
        Some(Neighbor::Listen { ranges, .. }) => {
            ranges.iter().all(|range| range.addr().is_ipv4() == address.is_ipv4())
        }
        None => true,
    };
    if !fits {
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        return report.refuse(
            "spec.sourceAddress",
            format!("{address} is {family}, the neighbour is not; use an address of its family"),
        );
    }
    Some(Source::Address(address))
}

/// The namespace of a Secret or of a reference to it, which may leave it out.
pub(super) fn namespace(given: Option<&str>) -> &str {
    given.unwrap_or(DEFAULT_NAMESPACE)
}

/// `Some(None)` when none is asked for.
fn password(
    report: &mut Report<'_>,
    spec: &BGPPeerSpec,
    own_namespace: &str,
    objects: &[&Object],
) -> Option<Option<Secret>> {
    let reference = spec.auth.as_ref().and_then(|auth| auth.md5_secret_ref.as_ref());
    optional(reference, |reference| {
        let wanted = reference.namespace.as_deref().unwrap_or(own_namespace);
        md5(report, reference, wanted, objects)
    })
}

/// `wanted`: the Secret's namespace.
fn md5(report: &mut Report<'_>, reference: &SecretRef, wanted: &str, objects: &[&Object]) -> Option<Secret> {
    const PATH: &str = "spec.auth.md5SecretRef";
    let named = || {
        let all = objects.iter().enumerate();
        all.filter(|(_, object)| object.spec.kind() == "Secret" && object.name == reference.name)
    };
    let found = named().find(|(_, object)| namespace(object.namespace.as_deref()) == wanted);
    let Some((index, secret)) = found else {
        let name = show(&reference.name);
        let message = match named().next() {
            Some((_, other)) => {
                let there = namespace(other.namespace.as_deref());
                format!(
                    "there is no Secret {name} in namespace {}; one is in {}: name that",
                    show(wanted),
                    show(there)
                )
            }
            None => format!(
                "there is no Secret {name} in namespace {}; add it beside this resource",
                show(wanted)
            ),
        };
        return report.misses(&format!("{PATH}.name"), message);
    };
    // A Secret that was refused has been reported itself.
    let Spec::Secret(entries) = &secret.spec else { return None };
    let key = reference.key.as_deref().unwrap_or("password");
    let Some(password) = entries.get(key) else {
        let keys: Vec<String> = entries.keys().map(|key| show(key)).collect();
        let known =
            if keys.is_empty() { "it has none".into() } else { format!("it has {}", keys.join(", ")) };
        return report.needs(
            index,
            &format!("{PATH}.key"),
            format!("Secret {} has no key {}; {known}", show(&secret.name), show(key)),
        );
    };
    let fault = match password.expose() {
        [] => "is empty; give 1 to 80 octets",
        [.., b'\n' | b'\r'] => {
            "ends with a line break, which would be part of the password; remove it (printf instead of echo)"
        }
        octets if octets.len() > MD5_MAX => "is too long for TCP MD5; give at most 80 octets",
        _ => return Some(password.clone()),
    };
    let message = format!("{} of Secret {} {fault}", show(key), show(&secret.name));
    report.needs(index, &format!("{PATH}.key"), message)
}

fn passive(report: &mut Report<'_>, spec: &BGPPeerSpec) -> Option<Passive> {
    match (spec.passive, &spec.neighbor.listen) {
        (Some(bgp::Passive::Never), Some(_)) => {
            report.refuse("spec.passive", "Never is not allowed with neighbor.listen; use Auto")
        }
        (Some(bgp::Passive::Always), _) | (_, Some(_)) => Some(Passive::Always),
        (Some(bgp::Passive::Never), None) => Some(Passive::Never),
        (Some(bgp::Passive::Auto) | None, None) => Some(Passive::Auto),
    }
}

fn next_hop(report: &mut Report<'_>, spec: &BGPPeerSpec) -> Option<NextHopMode> {
    let mode = spec.next_hop.unwrap_or(bgp::NextHop::Auto);
    match (mode, spec.next_hop_address.as_deref()) {
        (bgp::NextHop::Address, Some(text)) => {
            values::address(report, "spec.nextHopAddress", text).map(NextHopMode::Address)
        }
        (bgp::NextHop::Address, None) => {
            report.refuse("spec.nextHop", "Address needs an address; give nextHopAddress")
        }
        (_, Some(_)) => report
            .refuse("spec.nextHopAddress", "is used only with nextHop: Address; add that, or remove this"),
        (bgp::NextHop::Auto, None) => Some(NextHopMode::Auto),
        (bgp::NextHop::SelfAddress, None) => Some(NextHopMode::SelfAddress),
        (bgp::NextHop::Keep, None) => Some(NextHopMode::Keep),
    }
}

fn paused(report: &mut Report<'_>, spec: &BGPPeerSpec) -> Option<Option<String>> {
    let reason = spec.pause_reason.as_deref().unwrap_or_default();
    if reason.len() > REASON_MAX {
        let message = format!("{} octets are too many; RFC 9003 carries at most {REASON_MAX}", reason.len());
        return report.refuse("spec.pauseReason", message);
    }
    Some(spec.paused.unwrap_or(false).then(|| reason.to_owned()))
}

/// What a session of this node needs from the rest of its configuration.
fn fits_node(report: &mut Report<'_>, peer: &Peer, identity: &Identity) {
    if identity.listen.is_none() && peer.passive == Passive::Always {
        let path = if matches!(peer.neighbor, Neighbor::Listen { .. }) {
            "spec.neighbor.listen"
        } else {
            "spec.passive"
        };
        report.clashes(
            identity.config,
            path,
            "waits for connections, but NetworkConfig's listen.port is 0; give it a port",
        );
    }
    if let Neighbor::Address { address, .. } = &peer.neighbor
        && identity.node.addresses.contains(address)
    {
        let message = format!("{address} is this node's own; leave the node out with nodeSelector");
        report.clashes(identity.addresses_from, "spec.neighbor.address", message);
    }
}

/// Names of all peers, also those refused and those of other nodes, to resolve references.
pub(super) fn names<'a>(objects: &[&'a Object]) -> BTreeSet<&'a str> {
    objects
        .iter()
        .filter(|object| object.spec.kind() == "BGPPeer")
        .map(|object| object.name.as_str())
        .collect()
}
