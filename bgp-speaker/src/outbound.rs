//! What the RIB wants a peer to be told, as octets.

use bytes::BytesMut;
use ipnet::IpNet;
use tracing::warn;

use crate::rib::{OutboundUpdate, PeerExport};
use crate::wire::export::ExportRules;
use crate::wire::update::{encode_end_of_rib, encode_reach, encode_unreach};
use crate::wire::{self, AfiSafi, Codec, Message, RefreshKind, RouteRefresh};

/// Appends the messages of one update; returns how many.
///
/// Routes that cannot be said to this peer (attributes longer than its largest message) are withdrawn
/// instead, so that it does not go on using an older version of them.
pub(crate) fn encode(
    update: &OutboundUpdate,
    export: &PeerExport,
    codec: &Codec,
    out: &mut BytesMut,
) -> usize {
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
