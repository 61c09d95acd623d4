//! The only file that names `zettabgp`: its value types and decoders, each behind a length check of ours.
//!
//! Its message, OPEN, AS_PATH, AGGREGATOR and MP_REACH_NLRI code is not used: it panics or loops on hostile
//! octets. What is called here was read: it does not, once the length is right.

use zettabgp::prelude::{
    BgpAttrOrigin, BgpCommunity, BgpExtCommunity, BgpLargeCommunity, BgpLocalpref, BgpMED, BgpOrigin,
};

use super::Origin;

/// ORIGIN; `None` unless it is one octet with a defined value.
pub(super) fn origin(value: &[u8]) -> Option<Origin> {
    let checked: &[u8; 1] = value.try_into().ok()?;
    Some(match BgpOrigin::decode_from(checked).ok()?.value {
        BgpAttrOrigin::Igp => Origin::Igp,
        BgpAttrOrigin::Egp => Origin::Egp,
        BgpAttrOrigin::Incomplete => Origin::Incomplete,
    })
}

/// MULTI_EXIT_DISC; `None` unless it is four octets.
pub(super) fn med(value: &[u8]) -> Option<u32> {
    let checked: &[u8; 4] = value.try_into().ok()?;
    Some(BgpMED::decode_from(checked).ok()?.value)
}

/// LOCAL_PREF; `None` unless it is four octets.
pub(super) fn local_pref(value: &[u8]) -> Option<u32> {
    let checked: &[u8; 4] = value.try_into().ok()?;
    Some(BgpLocalpref::decode_from(checked).ok()?.value)
}

/// A community as people write it: `65001:100`, or the name of a well-known one (`no-export`).
pub fn community_text(value: u32) -> String {
    match value {
        0xffff_0000 => "graceful-shutdown".into(),
        0xffff_0006 => "llgr-stale".into(),
        0xffff_0007 => "no-llgr".into(),
        0xffff_029a => "blackhole".into(),
        // zettabgp writes no_export; the registry and other speakers write a hyphen.
        other => BgpCommunity::new(other).to_string().replace('_', "-"),
    }
}

/// A large community as people write it: `65001:1:2` (RFC 8092 section 4).
pub fn large_community_text([ga, ldp1, ldp2]: [u32; 3]) -> String {
    BgpLargeCommunity { ga, ldp1, ldp2 }.to_string()
}

/// An extended community as people write it.
pub fn ext_community_text(octets: [u8; 8]) -> String {
    match BgpExtCommunity::decode_from(&octets) {
        Ok(community) => community.to_string(),
        Err(_) => octets.iter().map(|octet| format!("{octet:02x}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use bytes::BytesMut;
    use ipnet::{IpNet, Ipv4Net};
    use proptest::prelude::*;
    use zettabgp::BgpMessage;
    use zettabgp::prelude::*;

    use super::*;
    use crate::wire::Places;
    use crate::wire::tests::{attributes, codec};
    use crate::wire::update::encode_reach;
    use crate::wire::{ExportRules, HEADER_LEN, Nexthop, PathAttributes};

    /// What both decoders must agree on, as text.
    fn ours(attributes: &PathAttributes) -> Vec<String> {
        // zettabgp keeps communities in sets.
        let sorted = |values: Vec<String>| values.into_iter().collect::<std::collections::BTreeSet<_>>();
        let mut out = vec![
            attributes.origin().to_string(),
            format!("{:?}", attributes.as_path().asns().collect::<Vec<_>>()),
            format!("{:?}", attributes.med()),
            format!("{:?}", attributes.local_pref()),
        ];
        let plain = attributes.communities().map(|value| BgpCommunity::new(value).to_string()).collect();
        let large = attributes.large_communities().map(large_community_text).collect();
        let ext = attributes.ext_communities().map(ext_community_text).collect();
        out.extend([plain, large, ext].map(|values| format!("{:?}", sorted(values))));
        out
    }

    fn theirs(items: &[BgpAttrItem]) -> Vec<String> {
        let mut out = vec![String::new(); 7];
        out[1] = "[]".into();
        out[2] = "None".into();
        out[3] = "None".into();
        out[4..].fill("{}".into());
        let sorted = |values: Vec<String>| {
            format!("{:?}", values.into_iter().collect::<std::collections::BTreeSet<_>>())
        };
        for item in items {
            match item {
                BgpAttrItem::Origin(origin) => out[0] = origin.to_string(),
                BgpAttrItem::ASPath(path) => {
                    let asns = path.value.iter().flat_map(|segment| match segment {
                        BgpASitem::Seq(seq) => seq.value.iter().map(|asn| asn.value).collect::<Vec<_>>(),
                        BgpASitem::Set(set) => set.value.iter().map(|asn| asn.value).collect(),
                    });
                    out[1] = format!("{:?}", asns.collect::<Vec<_>>());
                }
                BgpAttrItem::MED(med) => out[2] = format!("{:?}", Some(med.value)),
                BgpAttrItem::LocalPref(pref) => out[3] = format!("{:?}", Some(pref.value)),
                BgpAttrItem::CommunityList(list) => {
                    out[4] = sorted(list.value.iter().map(|c| c.to_string()).collect())
                }
                BgpAttrItem::LargeCommunityList(list) => {
                    out[5] = sorted(list.value.iter().map(|c| c.to_string()).collect());
                }
                BgpAttrItem::ExtCommunityList(list) => {
                    out[6] = sorted(list.value.iter().map(|c| c.to_string()).collect());
                }
                _ => {}
            }
        }
        out
    }

    fn net() -> impl Strategy<Value = IpNet> {
        (any::<[u8; 4]>(), 0..=32_u8)
            .prop_map(|(octets, length)| IpNet::V4(Ipv4Net::new(octets.into(), length).unwrap().trunc()))
    }

    proptest! {
        #[test]
        fn well_formed_updates_are_read_alike(
            attributes in attributes(),
            nets in proptest::collection::vec(net(), 1..50),
        ) {
            let mut out = BytesMut::new();
            let nexthop = Nexthop::from(std::net::IpAddr::from([10, 0, 0, 1]));
            let (rules, mut places) = (ExportRules::default(), Places::new());
            encode_reach(&attributes, &rules, &nexthop, &nets, &codec(), &mut out, &mut places).unwrap();

            let mut params =
                BgpSessionParams::new(65001, 90, BgpTransportMode::IPv4, Ipv4Addr::LOCALHOST, Vec::new());
            params.fuzzy_pathid = false;
            let mut message = BgpUpdateMessage::new();
            message.decode_from(&params, &out[HEADER_LEN..]).unwrap();

            prop_assert_eq!(ours(&attributes), theirs(&message.attrs));
            let BgpAddrs::IPV4U(addresses) = &message.updates else { panic!("no IPv4 prefixes") };
            let read: Vec<String> = addresses.iter().map(|a| format!("{}/{}", a.addr, a.prefixlen)).collect();
            let sent: Vec<String> = nets.iter().map(|net| net.to_string()).collect();
            prop_assert_eq!(read, sent);
        }
    }

    #[test]
    fn a_wrong_length_never_reaches_the_decoder() {
        for length in (0..9).filter(|&length| length != 4) {
            assert_eq!((med(&vec![0; length]), local_pref(&vec![0; length])), (None, None));
        }
        assert_eq!((origin(&[]), origin(&[0, 0]), origin(&[3])), (None, None, None));
        assert_eq!(origin(&[2]), Some(Origin::Incomplete));
        assert_eq!((med(&[0, 0, 1, 0]), local_pref(&[0, 0, 0, 9])), (Some(256), Some(9)));
    }

    #[test]
    fn communities_are_written_as_people_write_them() {
        assert_eq!(community_text(0xfde9_0064), "65001:100");
        assert_eq!(community_text(0xffff_ff01), "no-export");
        assert_eq!(community_text(0xffff_0000), "graceful-shutdown");
        assert_eq!(large_community_text([65001, 1, 2]), "65001:1:2");
        assert_eq!(ext_community_text([0, 2, 0xfd, 0xe9, 0, 0, 0, 7]), "ext-target:65001:7");
    }
}
