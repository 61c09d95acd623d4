//! OPEN x OPEN -> [`Negotiated`], or the NOTIFICATION that says why not (RFC 4271 section 6.2).

use std::time::Duration;

use api::desired::{Peer, RemoteAsn, RestartMode};

use super::{Endpoints, Negotiated, PeerRestart};
use crate::wire::{AfiSafi, Capability, Codec, ErrorCode, Notification, Open, numbers};

/// OPEN error subcodes (RFC 4271 section 6.2, RFC 5492 section 5).
const BAD_PEER_AS: u8 = 2;
const BAD_BGP_IDENTIFIER: u8 = 3;
const UNACCEPTABLE_HOLD_TIME: u8 = 6;
const UNSUPPORTED_CAPABILITY: u8 = 7;

/// Compares the OPEN we sent on a connection with the one that came back.
///
/// # Errors
/// The NOTIFICATION to answer with: wrong AS (2/2), bad BGP Identifier (2/3), Hold Time of one or two seconds
/// (2/6), no family in common (2/7 with the families we miss).
pub(super) fn negotiate(
    config: &Peer,
    sent: &Open,
    received: &Open,
    endpoints: Endpoints,
) -> Result<Negotiated, Notification> {
    let refuse = |subcode, data| Err(Notification { code: ErrorCode::Open, subcode, data });
    if !asn_accepted(config, received.asn) {
        return refuse(BAD_PEER_AS, Vec::new());
    }
    let ebgp = received.asn != config.local_asn;
    // RFC 6286: unique within an AS, so only an iBGP peer may not share ours.
    if received.router_id.is_unspecified() || (!ebgp && received.router_id == sent.router_id) {
        return refuse(BAD_BGP_IDENTIFIER, Vec::new());
    }
    if matches!(received.hold_time, 1 | 2) {
        return refuse(UNACCEPTABLE_HOLD_TIME, Vec::new());
    }
    let families = common_families(sent, received);
    if families.is_empty() {
        return refuse(UNSUPPORTED_CAPABILITY, missing_families(config));
    }

    let both = |capability: &Capability| {
        sent.capabilities.contains(capability) && received.capabilities.contains(capability)
    };
    let hold_time = Duration::from_secs(sent.hold_time.min(received.hold_time).into());
    let route_refresh = both(&Capability::RouteRefresh);
    let ipv4 = families.contains(&AfiSafi::Ipv4Unicast);
    Ok(Negotiated {
        codec: Codec {
            four_octet_as: four_octet_as(sent) && four_octet_as(received),
            extended_message: both(&Capability::ExtendedMessage),
            extended_nexthop_v4: ipv4 && extended_nexthop_v4(sent) && extended_nexthop_v4(received),
            ebgp,
            families: families.clone(),
        },
        endpoints,
        local_asn: config.local_asn,
        remote_asn: received.asn,
        remote_router_id: received.router_id,
        hold_time,
        keepalive: keepalive(config.timers.keepalive, hold_time),
        route_refresh,
        // The markers of RFC 7313 frame an answer to a request of RFC 2918: useless alone.
        enhanced_refresh: route_refresh && both(&Capability::EnhancedRouteRefresh),
        graceful_restart: graceful_restart(config, sent, received, &families),
        sent: sent.capabilities.clone(),
        received: received.capabilities.clone(),
    })
}

fn asn_accepted(config: &Peer, asn: u32) -> bool {
    // RFC 7607: AS 0 is nobody.
    asn != 0
        && match config.remote_asn {
            RemoteAsn::Number(expected) => asn == expected,
            RemoteAsn::External => asn != config.local_asn,
            RemoteAsn::Internal => asn == config.local_asn,
            RemoteAsn::Any => true,
        }
}

/// Families in an OPEN; without the Multiprotocol capability a speaker means IPv4 unicast (RFC 4760 section 8).
fn families_of(open: &Open) -> Vec<(u16, u8)> {
    let named: Vec<_> = open
        .capabilities
        .iter()
        .filter_map(|c| match c {
            Capability::MultiProtocol { afi, safi } => Some((*afi, *safi)),
            _ => None,
        })
        .collect();
    if named.is_empty() { vec![numbers(AfiSafi::Ipv4Unicast)] } else { named }
}

fn common_families(sent: &Open, received: &Open) -> Vec<AfiSafi> {
    let (ours, theirs) = (families_of(sent), families_of(received));
    [AfiSafi::Ipv4Unicast, AfiSafi::Ipv6Unicast]
        .into_iter()
        .filter(|family| ours.contains(&numbers(*family)) && theirs.contains(&numbers(*family)))
        .collect()
}

/// Our Multiprotocol capabilities as they stand in an OPEN: what the peer would need.
fn missing_families(config: &Peer) -> Vec<u8> {
    let tlv = |family| {
        let (afi, safi) = numbers(family);
        let [high, low] = afi.to_be_bytes();
        [1, 4, high, low, 0, safi]
    };
    config.families.iter().flat_map(|family| tlv(family.afi_safi)).collect()
}

/// At most a third of the Hold Time in force (RFC 4271 section 4.4), off with it.
fn keepalive(configured: Duration, hold_time: Duration) -> Duration {
    let third = hold_time / 3;
    if configured.is_zero() { third } else { configured.min(third) }
}

fn four_octet_as(open: &Open) -> bool {
    open.capabilities.iter().any(|c| matches!(c, Capability::FourOctetAs(_)))
}

fn extended_nexthop_v4(open: &Open) -> bool {
    open.capabilities
        .iter()
        .any(|c| matches!(c, Capability::ExtendedNextHop(tuples) if tuples.contains(&(1, 1, 2))))
}

fn graceful_restart(
    config: &Peer,
    sent: &Open,
    received: &Open,
    negotiated: &[AfiSafi],
) -> Option<PeerRestart> {
    // RFC 4724 section 3: of several instances only the last counts.
    let last = |open: &Open| {
        open.capabilities.iter().rev().find_map(|c| match c {
            Capability::GracefulRestart(gr) => Some(gr.clone()),
            _ => None,
        })
    };
    let ours = last(sent)?;
    let theirs = last(received)?;
    let listed = |family: &AfiSafi| {
        let (afi, safi) = numbers(*family);
        theirs.families.iter().find(|f| (f.0, f.1) == (afi, safi)).map(|f| (*family, f.2))
    };
    Some(PeerRestart {
        restarting: theirs.restarting,
        restart_time: Duration::from_secs(theirs.restart_time.into()),
        families: negotiated.iter().filter_map(listed).collect(),
        // The capability alone, even without families, says that the peer helps.
        helps_us: config.graceful_restart.mode == RestartMode::Restarter && !ours.families.is_empty(),
    })
}
