//! Writing UPDATEs: as many prefixes to a message as fit, as many messages as needed.

use std::net::IpAddr;

use bytes::{BufMut, BytesMut};
use ipnet::IpNet;

use super::attributes::{code, flag};
use super::export::Exported;
use super::frame::Kind;
use super::{AfiSafi, Codec, EncodeError, ExportRules, HEADER_LEN, Nexthop, Nlri, PathAttributes, Places};
use super::{Update, framed, nlri, patch_u16};

/// Header and the two length fields of an UPDATE.
const EMPTY_UPDATE: usize = HEADER_LEN + 4;
/// Flags, type, a length of two octets, AFI and SAFI.
const MP_HEAD: usize = 4 + 3;

fn family_of(prefix: &IpNet) -> AfiSafi {
    match prefix {
        IpNet::V4(_) => AfiSafi::Ipv4Unicast,
        IpNet::V6(_) => AfiSafi::Ipv6Unicast,
    }
}

/// Longest prefix of a family on the wire.
fn longest_prefix(family: AfiSafi) -> usize {
    match family {
        AfiSafi::Ipv4Unicast => 5,
        AfiSafi::Ipv6Unicast => 17,
    }
}

fn one_family(family: AfiSafi, prefixes: &[IpNet]) -> Result<(), EncodeError> {
    match prefixes.iter().find(|prefix| family_of(prefix) != family) {
        Some(&prefix) => Err(EncodeError::OtherFamily { prefix, family }),
        None => Ok(()),
    }
}

/// Appends the UPDATEs that announce `prefixes`, all of the family of the first, and returns how many; to `places`, where
/// in them the next hop stands.
///
/// IPv4 with an IPv4 next hop goes into the fields of RFC 4271, all else into MP_REACH_NLRI, which comes
/// first (RFC 7606 section 5.1).
///
/// # Errors
/// [`EncodeError::AttributesTooLong`] when the attributes leave no room for a prefix: the caller withdraws
/// the routes. [`EncodeError::NexthopFamily`] and [`EncodeError::OtherFamily`] for arguments that no session
/// or no message can carry. Nothing has been written then.
pub fn encode_reach(
    attributes: &PathAttributes,
    rules: &ExportRules,
    nexthop: &Nexthop,
    prefixes: &[IpNet],
    codec: &Codec,
    out: &mut BytesMut,
    places: &mut Places,
) -> Result<usize, EncodeError> {
    let Some(family) = prefixes.first().map(family_of) else { return Ok(0) };
    one_family(family, prefixes)?;
    let nexthop = WireNexthop::new(nexthop, family, codec)?;
    let exported = rules.apply(attributes, nexthop.legacy(), codec.four_octet_as);
    let place = exported.place(code::NEXT_HOP);
    let octets = octets(&exported)?;
    let max = codec.max_message();
    let fixed = EMPTY_UPDATE + octets.len() + nexthop.mp_overhead();
    let too_long = EncodeError::AttributesTooLong { length: octets.len(), max };
    let room = max.checked_sub(fixed).filter(|&room| room >= longest_prefix(family)).ok_or(too_long)?;
    let mut messages = 0;
    let mut rest = prefixes;
    while !rest.is_empty() {
        let (batch, length, tail) = split_batch(rest, room);
        framed(out, Kind::Update, max, |out| {
            out.put_u16(0);
            let attributes = out.len();
            out.put_u16(0);
            // Of MP_REACH_NLRI behind its head and a length; else where the attribute says.
            places.push((out.len() + place.unwrap_or(MP_HEAD + 1), family));
            nexthop.write_mp_reach(family, batch, length, out);
            out.put_slice(&octets);
            close(out, attributes);
            if nexthop.legacy().is_some() {
                write_all(batch, out);
            }
            Ok(())
        })?;
        messages += 1;
        rest = tail;
    }
    Ok(messages)
}

/// Appends the UPDATEs that withdraw `prefixes` of `family`, and returns how many.
///
/// # Errors
/// [`EncodeError::OtherFamily`]; nothing has been written then.
pub fn encode_unreach(
    family: AfiSafi,
    prefixes: &[IpNet],
    codec: &Codec,
    out: &mut BytesMut,
) -> Result<usize, EncodeError> {
    one_family(family, prefixes)?;
    let max = codec.max_message();
    let mut messages = 0;
    let mut rest = prefixes;
    while !rest.is_empty() {
        let room = match family {
            AfiSafi::Ipv4Unicast => max - EMPTY_UPDATE,
            AfiSafi::Ipv6Unicast => max - EMPTY_UPDATE - MP_HEAD,
        };
        let (batch, length, tail) = split_batch(rest, room);
        framed(out, Kind::Update, max, |out| {
            if family == AfiSafi::Ipv4Unicast {
                let withdrawn = out.len();
                out.put_u16(0);
                write_all(batch, out);
                close(out, withdrawn);
                out.put_u16(0);
            } else {
                out.put_u16(0);
                let attributes = out.len();
                out.put_u16(0);
                mp_head(code::MP_UNREACH_NLRI, family, length, out);
                write_all(batch, out);
                close(out, attributes);
            }
            Ok(())
        })?;
        messages += 1;
        rest = tail;
    }
    Ok(messages)
}

/// Appends the End-of-RIB marker of a family (RFC 4724 section 2).
pub fn encode_end_of_rib(family: AfiSafi, out: &mut BytesMut) {
    let (afi, safi) = nlri::numbers(family);
    out.put_bytes(0xff, 16);
    match family {
        AfiSafi::Ipv4Unicast => out.put_slice(&[0, 23, Kind::Update.code(), 0, 0, 0, 0]),
        AfiSafi::Ipv6Unicast => {
            out.put_slice(&[0, 29, Kind::Update.code(), 0, 0, 0, 6]);
            out.put_slice(&[flag::OPTIONAL, code::MP_UNREACH_NLRI, 3]);
            out.put_u16(afi);
            out.put_u8(safi);
        }
    }
}

/// One [`Update`] as one message, for tests and tools; routes go out through the functions above.
pub(super) fn encode_update(update: &Update, codec: &Codec, out: &mut BytesMut) -> Result<(), EncodeError> {
    if let Some(family) = update.end_of_rib {
        encode_end_of_rib(family, out);
        return Ok(());
    }
    // A message that says nothing would be read as an End-of-RIB.
    if update.reach.is_empty() && update.unreach.is_empty() {
        return Err(EncodeError::NotOneUpdate);
    }
    let (withdrawn, mp_withdrawn) =
        one_each(update.unreach.iter(), |nlri| nlri.family() == AfiSafi::Ipv4Unicast)?;
    let legacy =
        |reach: &super::Reach| reach.nexthop.address.is_ipv4() && reach.nlri.family() == AfiSafi::Ipv4Unicast;
    let (announced, mp_announced) = one_each(update.reach.iter(), |reach| legacy(reach))?;
    let list = |nlri: Option<&Nlri>| nlri.map(|nlri| nlri.iter().collect::<Vec<_>>()).unwrap_or_default();
    let (withdrawn, mp_withdrawn_prefixes) = (list(withdrawn), list(mp_withdrawn));
    let announced_prefixes = list(announced.map(|reach| &reach.nlri));
    let mp_announced_prefixes = list(mp_announced.map(|reach| &reach.nlri));

    let wire_nexthop = |reach: &super::Reach| WireNexthop::new(&reach.nexthop, reach.nlri.family(), codec);
    let legacy_nexthop = announced.map(wire_nexthop).transpose()?.and_then(|nexthop| nexthop.legacy());
    let mp_nexthop = mp_announced.map(wire_nexthop).transpose()?;
    let octets = match update.attributes.as_ref().filter(|_| !update.reach.is_empty()) {
        Some(attributes) => {
            octets(&ExportRules::default().apply(attributes, legacy_nexthop, codec.four_octet_as))?
        }
        None => Vec::new(),
    };
    framed(out, Kind::Update, codec.max_message(), |out| {
        let start = out.len();
        out.put_u16(0);
        write_all(&withdrawn, out);
        close(out, start);
        let start = out.len();
        out.put_u16(0);
        if let Some((nexthop, reach)) = mp_nexthop.zip(mp_announced) {
            let length = total_len(&mp_announced_prefixes);
            nexthop.write_mp_reach(reach.nlri.family(), &mp_announced_prefixes, length, out);
        }
        if let Some(nlri) = mp_withdrawn {
            mp_head(code::MP_UNREACH_NLRI, nlri.family(), total_len(&mp_withdrawn_prefixes), out);
            write_all(&mp_withdrawn_prefixes, out);
        }
        out.put_slice(&octets);
        close(out, start);
        write_all(&announced_prefixes, out);
        Ok(())
    })
}

/// At most one entry for the fields of RFC 4271 and one for the attributes of RFC 4760.
fn one_each<'a, T>(
    entries: impl Iterator<Item = &'a T>,
    legacy: impl Fn(&T) -> bool,
) -> Result<(Option<&'a T>, Option<&'a T>), EncodeError> {
    let (mut first, mut second) = (None, None);
    for entry in entries {
        let place = if legacy(entry) { &mut first } else { &mut second };
        if place.replace(entry).is_some() {
            return Err(EncodeError::NotOneUpdate);
        }
    }
    Ok((first, second))
}

/// A next hop in the form the session carries it.
#[derive(Clone, Copy)]
enum WireNexthop {
    Legacy([u8; 4]),
    /// One address, or the global and the link-local one.
    Mp([u8; 32], u8),
}

impl WireNexthop {
    fn new(nexthop: &Nexthop, family: AfiSafi, codec: &Codec) -> Result<Self, EncodeError> {
        match (nexthop.address, family) {
            (IpAddr::V4(address), AfiSafi::Ipv4Unicast) => Ok(Self::Legacy(address.octets())),
            (IpAddr::V6(_), _) if family == AfiSafi::Ipv6Unicast || codec.extended_nexthop_v4 => {
                let (octets, length) = nexthop_octets(*nexthop);
                Ok(Self::Mp(octets, length as u8))
            }
            (address, _) => Err(EncodeError::NexthopFamily { nexthop: address, family }),
        }
    }

    fn legacy(self) -> Option<[u8; 4]> {
        match self {
            Self::Legacy(octets) => Some(octets),
            Self::Mp(..) => None,
        }
    }

    /// Octets of MP_REACH_NLRI without its prefixes.
    fn mp_overhead(self) -> usize {
        match self {
            Self::Legacy(_) => 0,
            Self::Mp(_, length) => MP_HEAD + 2 + usize::from(length),
        }
    }

    /// Nothing for a next hop that goes into NEXT_HOP.
    fn write_mp_reach(self, family: AfiSafi, prefixes: &[IpNet], length: usize, out: &mut BytesMut) {
        let Self::Mp(octets, nexthop_len) = self else { return };
        mp_head(code::MP_REACH_NLRI, family, 2 + usize::from(nexthop_len) + length, out);
        out.put_u8(nexthop_len);
        out.put_slice(octets.get(..nexthop_len.into()).unwrap_or_default());
        out.put_u8(0);
        write_all(prefixes, out);
    }
}

/// A next hop as NEXT_HOP and MP_REACH_NLRI carry it, and how many octets of these it is: 4, 16, or 32.
pub(super) fn nexthop_octets(nexthop: Nexthop) -> ([u8; 32], usize) {
    let mut octets = [0; 32];
    let mut length = 0;
    let mut put = |part: &[u8]| {
        if let Some(place) = octets.get_mut(length..length + part.len()) {
            place.copy_from_slice(part);
            length += part.len();
        }
    };
    match nexthop.address {
        IpAddr::V4(address) => put(&address.octets()),
        IpAddr::V6(address) => put(&address.octets()),
    }
    if let Some(address) = nexthop.link_local {
        put(&address.octets());
    }
    (octets, length)
}

/// Attribute header, AFI and SAFI; `length` octets follow. A length of two octets always, as other speakers
/// write it: the room for prefixes is then the same in every message. [`framed`] refuses what is too long.
fn mp_head(code: u8, family: AfiSafi, length: usize, out: &mut BytesMut) {
    let (afi, safi) = nlri::numbers(family);
    out.put_slice(&[flag::OPTIONAL | flag::EXTENDED_LENGTH, code]);
    out.put_u16(u16::try_from(length + 3).unwrap_or(u16::MAX));
    out.put_u16(afi);
    out.put_u8(safi);
}

fn octets(exported: &Exported<'_>) -> Result<Vec<u8>, EncodeError> {
    match exported.too_long() {
        Some((code, length)) => Err(EncodeError::AttributeTooLong { code, length }),
        None => Ok(exported.write()),
    }
}

/// As many prefixes as fit in `room`, their octets, and the rest. Takes at least one, so callers' loops end.
fn split_batch(prefixes: &[IpNet], room: usize) -> (&[IpNet], usize, &[IpNet]) {
    let (mut count, mut length) = (0, 0);
    for prefix in prefixes {
        let next = length + nlri::wire_len(prefix);
        if next > room && count > 0 {
            break;
        }
        (count, length) = (count + 1, next);
    }
    let (batch, rest) = prefixes.split_at_checked(count).unwrap_or((prefixes, &[]));
    (batch, length, rest)
}

fn total_len(prefixes: &[IpNet]) -> usize {
    prefixes.iter().map(nlri::wire_len).sum()
}

fn write_all(prefixes: &[IpNet], out: &mut BytesMut) {
    for prefix in prefixes {
        nlri::write(prefix, out);
    }
}

/// Fills the length field reserved at `at` with the octets written after it; [`framed`] refuses what is
/// too long for it.
fn close(out: &mut BytesMut, at: usize) {
    let length = u16::try_from(out.len() - at - 2).unwrap_or(u16::MAX);
    patch_u16(out, at, length);
}
