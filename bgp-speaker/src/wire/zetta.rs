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
