//! What the RIB wants a peer to be told, as octets.

use bytes::BytesMut;
use ipnet::IpNet;
use tracing::warn;

use crate::rib::{OutboundBatch, OutboundNexthop, OutboundUpdate, PeerExport, PeerId};
use crate::status::Messages;
use crate::wire::export::ExportRules;
use crate::wire::update::{encode_end_of_rib, encode_reach, encode_unreach};
use crate::wire::{self, AfiSafi, Codec, Message, Places, RefreshKind, RouteRefresh, Template};

/// Appends the messages of a batch that are for `peer`; returns how many of each type. They are written once for all
/// peers of the group, by whoever comes first, and copied with the other peers' next hops.
pub(crate) fn encode_all(
    batch: &OutboundBatch,
    peer: PeerId,
    export: &PeerExport,
    codec: &Codec,
    out: &mut BytesMut,
) -> Messages {
    let mut messages = Messages::default();
    let mut count = |update: &OutboundUpdate, written: usize| match update {
        OutboundUpdate::RefreshMark { .. } => messages.route_refresh += written as u64,
        _ => messages.update += written as u64,
    };
    let template = batch.octets.get_or_init(|| {
        let mut template = Template::new(export.own);
        for update in batch.updates() {
            template.piece(|out, places| encode(update, export, codec, out, places));
        }
        template
    });
    if template.fits(&export.own) {
        template.copy(&export.own, out, |number, written| {
            let update = batch.update_for(number, peer);
            update.map(|update| count(update, written)).is_some()
        });
    } else {
        for update in batch.for_peer(peer) {
            count(update, encode(update, export, codec, out, &mut Places::new()));
        }
    }
    messages
}

/// Appends the messages of one update, and where in them our own next hop stands; returns how many.
///
/// Routes that cannot be said to this peer (attributes longer than its largest message) are withdrawn
/// instead, so that it does not go on using an older version of them.
fn encode(
    update: &OutboundUpdate,
    export: &PeerExport,
    codec: &Codec,
    out: &mut BytesMut,
    places: &mut Places,
) -> usize {
    let result = match update {
        OutboundUpdate::Reach { attributes, nexthop, keep_med, prepend, prefixes } => {
            let Some(family) = prefixes.first().map(family_of) else { return 0 };
            let Some(written) = export.nexthop(family, *nexthop) else {
                warn!(%family, "no next hop of ours for this family");
                return withdraw(family, prefixes, codec, out);
            };
            let (before, rules) = (places.len(), rules(export, *keep_med, *prepend));
            let result = encode_reach(attributes, &rules, &written, prefixes, codec, out, places);
            if result.is_err() || *nexthop != OutboundNexthop::Own {
                places.truncate(before);
            }
            result.or_else(|error| {
                warn!(prefix = %prefixes[0], count = prefixes.len(), %error, "not announced");
                Ok(withdraw(family, prefixes, codec, out))
            })
        }
        OutboundUpdate::Unreach { family, prefixes } => encode_unreach(*family, prefixes, codec, out),
        OutboundUpdate::EndOfRib(family) => {
            encode_end_of_rib(*family, out);
            Ok(1)
        }
        OutboundUpdate::RefreshMark { family, begin } => {
            let kind = if *begin { RefreshKind::Begin } else { RefreshKind::End };
            wire::encode(&Message::RouteRefresh(RouteRefresh::new(*family, kind)), codec, out).map(|()| 1)
        }
    };
    result.unwrap_or_else(|error| {
        warn!(%error, "message could not be written");
        0
    })
}

fn withdraw(family: AfiSafi, prefixes: &[IpNet], codec: &Codec, out: &mut BytesMut) -> usize {
    encode_unreach(family, prefixes, codec, out).unwrap_or_else(|error| {
        warn!(%error, "withdrawal could not be written");
        0
    })
}

fn rules(export: &PeerExport, keep_med: bool, prepend: u8) -> ExportRules {
    let base = if export.ebgp {
        ExportRules::external(export.local_asn)
    } else {
        ExportRules { default_local_pref: Some(export.default_local_pref), ..ExportRules::internal() }
    };
    ExportRules { prepend_count: base.prepend_count.saturating_add(prepend), strip_med: !keep_med, ..base }
}

fn family_of(prefix: &IpNet) -> AfiSafi {
    match prefix {
        IpNet::V4(_) => AfiSafi::Ipv4Unicast,
        IpNet::V6(_) => AfiSafi::Ipv6Unicast,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::OwnNexthops;

    #[test]
    fn the_marks_of_a_refresh_count_as_route_refreshes() {
        let mark = |begin| OutboundUpdate::RefreshMark { family: AfiSafi::Ipv4Unicast, begin };
        let prefixes = vec!["10.0.0.0/8".parse().unwrap()];
        let batch = OutboundBatch::for_all(vec![
            mark(true),
            OutboundUpdate::Unreach { family: AfiSafi::Ipv4Unicast, prefixes },
            mark(false),
            OutboundUpdate::EndOfRib(AfiSafi::Ipv4Unicast),
        ]);
        let export = PeerExport {
            ebgp: true,
            local_asn: 1,
            default_local_pref: 100,
            own: OwnNexthops { v4: None, v6: None },
        };
        let messages = encode_all(&batch, PeerId(0), &export, &Codec::before_open(), &mut BytesMut::new());
        assert_eq!(messages, Messages { update: 2, route_refresh: 2, ..Messages::default() });
    }
}
