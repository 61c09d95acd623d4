//! What the RIB wants a peer to be told, as octets.

use bytes::BytesMut;
use ipnet::IpNet;
use tracing::warn;

use crate::rib::{OutboundUpdate, PeerExport};
use crate::status::Messages;
use crate::wire::export::ExportRules;
use crate::wire::update::{encode_end_of_rib, encode_reach, encode_unreach};
use crate::wire::{self, AfiSafi, Codec, Message, RefreshKind, RouteRefresh};

/// Appends the messages of a batch; returns how many of each type.
pub(crate) fn encode_all(
    updates: &[OutboundUpdate],
    export: &PeerExport,
    codec: &Codec,
    out: &mut BytesMut,
) -> Messages {
    let mut messages = Messages::default();
    for update in updates {
        let count = encode(update, export, codec, out) as u64;
        match update {
            OutboundUpdate::RefreshMark { .. } => messages.route_refresh += count,
            _ => messages.update += count,
        }
    }
    messages
}

/// Appends the messages of one update; returns how many.
///
/// Routes that cannot be said to this peer (attributes longer than its largest message) are withdrawn
/// instead, so that it does not go on using an older version of them.
fn encode(update: &OutboundUpdate, export: &PeerExport, codec: &Codec, out: &mut BytesMut) -> usize {
    let result = match update {
        OutboundUpdate::Reach { attributes, nexthop, keep_med, prepend, prefixes } => {
            let Some(family) = prefixes.first().map(family_of) else { return 0 };
            let Some(nexthop) = export.nexthop(family, *nexthop) else {
                warn!(%family, "no next hop of ours for this family");
                return withdraw(family, prefixes, codec, out);
            };
            encode_reach(attributes, &rules(export, *keep_med, *prepend), &nexthop, prefixes, codec, out)
                .or_else(|error| {
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

    #[test]
    fn the_marks_of_a_refresh_count_as_route_refreshes() {
        let mark = |begin| OutboundUpdate::RefreshMark { family: AfiSafi::Ipv4Unicast, begin };
        let prefixes = vec!["10.0.0.0/8".parse().unwrap()];
        let batch = [
            mark(true),
            OutboundUpdate::Unreach { family: AfiSafi::Ipv4Unicast, prefixes },
            mark(false),
            OutboundUpdate::EndOfRib(AfiSafi::Ipv4Unicast),
        ];
        let export =
            PeerExport { ebgp: true, local_asn: 1, default_local_pref: 100, own_v4: None, own_v6: None };
        let messages = encode_all(&batch, &export, &Codec::before_open(), &mut BytesMut::new());
        assert_eq!(messages, Messages { update: 2, route_refresh: 2, ..Messages::default() });
    }
}
