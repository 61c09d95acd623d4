//! Prefixes, and the attributes that carry them (RFC 4271 section 4.3, RFC 4760, RFC 2545, RFC 8950).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{AfiSafi, Codec, Nexthop, Nlri};

const AFI_IPV4: u16 = 1;
const AFI_IPV6: u16 = 2;
const SAFI_UNICAST: u8 = 1;

/// AFI and SAFI of a family.
pub(crate) fn numbers(family: AfiSafi) -> (u16, u8) {
    match family {
        AfiSafi::Ipv4Unicast => (AFI_IPV4, SAFI_UNICAST),
        AfiSafi::Ipv6Unicast => (AFI_IPV6, SAFI_UNICAST),
    }
}

/// The family of AFI and SAFI, when it is one we know.
pub(super) fn family(afi: u16, safi: u8) -> Option<AfiSafi> {
    match (afi, safi) {
        (AFI_IPV4, SAFI_UNICAST) => Some(AfiSafi::Ipv4Unicast),
        (AFI_IPV6, SAFI_UNICAST) => Some(AfiSafi::Ipv6Unicast),
        _ => None,
    }
}

/// Why prefixes or the attribute around them cannot be read: the session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

impl Nlri {
    /// Prefixes of one family, in order.
    pub(super) fn decode(family: AfiSafi, octets: &[u8]) -> Result<Self, Unreadable> {
        Ok(match family {
            AfiSafi::Ipv4Unicast => Self::V4(prefixes::<4, _>(octets, |address, length| {
                Ipv4Net::new(Ipv4Addr::from(address), length).ok().map(|net| net.trunc())
            })?),
            AfiSafi::Ipv6Unicast => Self::V6(prefixes::<16, _>(octets, |address, length| {
                Ipv6Net::new(Ipv6Addr::from(address), length).ok().map(|net| net.trunc())
            })?),
        })
    }

    /// The family.
    pub fn family(&self) -> AfiSafi {
        match self {
            Self::V4(_) => AfiSafi::Ipv4Unicast,
            Self::V6(_) => AfiSafi::Ipv6Unicast,
        }
    }

    /// How many prefixes.
    pub fn len(&self) -> usize {
        match self {
            Self::V4(nets) => nets.len(),
            Self::V6(nets) => nets.len(),
        }
    }

    /// No prefix.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The prefixes as [`IpNet`], in order.
    pub fn iter(&self) -> impl Iterator<Item = IpNet> + '_ {
        let (v4, v6): (&[Ipv4Net], &[Ipv6Net]) = match self {
            Self::V4(nets) => (nets, &[]),
            Self::V6(nets) => (&[], nets),
        };
        v4.iter().map(|&net| IpNet::V4(net)).chain(v6.iter().map(|&net| IpNet::V6(net)))
    }

    /// Takes the prefixes of another list; `Err` gives it back when it is of another family.
    pub(super) fn append(&mut self, other: Self) -> Result<(), Self> {
        match (self, other) {
            (Self::V4(mine), Self::V4(theirs)) => mine.extend(theirs),
            (Self::V6(mine), Self::V6(theirs)) => mine.extend(theirs),
            (_, other) => return Err(other),
        }
        Ok(())
    }
}

/// One pass counts and checks, the second fills a vector of exactly that size.
fn prefixes<const WIDTH: usize, Net>(
    octets: &[u8],
    make: impl Fn([u8; WIDTH], u8) -> Option<Net>,
) -> Result<Vec<Net>, Unreadable> {
    let (mut rest, mut count) = (octets, 0);
    while !rest.is_empty() {
        rest = split_prefix::<WIDTH>(rest).ok_or(Unreadable)?.2;
        count += 1;
    }
    let mut nets = Vec::with_capacity(count);
    let mut rest = octets;
    while let Some((length, significant, tail)) = split_prefix::<WIDTH>(rest) {
        let mut address = [0; WIDTH];
        for (to, from) in address.iter_mut().zip(significant) {
            *to = *from;
        }
        nets.push(make(address, length).ok_or(Unreadable)?);
        rest = tail;
    }
    Ok(nets)
}

/// Length in bits, the octets it needs, and what follows; `None` when empty, too long or cut short.
fn split_prefix<const WIDTH: usize>(octets: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&length, rest) = octets.split_first()?;
    let significant = usize::from(length).div_ceil(8);
    if significant > WIDTH {
        return None;
    }
    let (significant, rest) = rest.split_at_checked(significant)?;
    Some((length, significant, rest))
}

/// Octets a prefix takes on the wire.
pub(super) fn wire_len(prefix: &IpNet) -> usize {
    1 + usize::from(prefix.prefix_len()).div_ceil(8)
}

/// Appends a prefix, host bits cleared.
pub(super) fn write(prefix: &IpNet, out: &mut impl bytes::BufMut) {
    let significant = usize::from(prefix.prefix_len()).div_ceil(8);
    out.put_u8(prefix.prefix_len());
    match prefix.network() {
        IpAddr::V4(address) => out.put_slice(address.octets().get(..significant).unwrap_or_default()),
        IpAddr::V6(address) => out.put_slice(address.octets().get(..significant).unwrap_or_default()),
    }
}

/// MP_REACH_NLRI or MP_UNREACH_NLRI of a family this session does not carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OtherFamily {
    pub(super) afi: u16,
    pub(super) safi: u8,
}

/// The family, when the session carries it.
fn negotiated(afi: u16, safi: u8, codec: &Codec) -> Result<AfiSafi, OtherFamily> {
    family(afi, safi).filter(|family| codec.families.contains(family)).ok_or(OtherFamily { afi, safi })
}

/// Reads MP_REACH_NLRI (RFC 4760 section 3).
pub(super) fn mp_reach(
    value: &[u8],
    codec: &Codec,
) -> Result<Result<(Nexthop, Nlri), OtherFamily>, Unreadable> {
    let &[afi_high, afi_low, safi, nexthop_len, ref rest @ ..] = value else { return Err(Unreadable) };
    let (nexthop, rest) = rest.split_at_checked(nexthop_len.into()).ok_or(Unreadable)?;
    // Reserved; it was a count of SNPAs once and is not followed (RFC 4760 section 3).
    let (_, nlri) = rest.split_first().ok_or(Unreadable)?;
    let family = match negotiated(u16::from_be_bytes([afi_high, afi_low]), safi, codec) {
        Ok(family) => family,
        Err(other) => return Ok(Err(other)),
    };
    let nexthop = read_nexthop(family, nexthop, codec).ok_or(Unreadable)?;
    Ok(Ok((nexthop, Nlri::decode(family, nlri)?)))
}

/// Reads MP_UNREACH_NLRI (RFC 4760 section 4).
pub(super) fn mp_unreach(value: &[u8], codec: &Codec) -> Result<Result<Nlri, OtherFamily>, Unreadable> {
    let &[afi_high, afi_low, safi, ref nlri @ ..] = value else { return Err(Unreadable) };
    Ok(match negotiated(u16::from_be_bytes([afi_high, afi_low]), safi, codec) {
        Ok(family) => Ok(Nlri::decode(family, nlri)?),
        Err(other) => Err(other),
    })
}

/// `None`: the length is none that the family may have on this session (RFC 7606 section 7.11).
fn read_nexthop(family: AfiSafi, octets: &[u8], codec: &Codec) -> Option<Nexthop> {
    let ipv6 = family == AfiSafi::Ipv6Unicast || codec.extended_nexthop_v4;
    if family == AfiSafi::Ipv4Unicast
        && let Ok(address) = <[u8; 4]>::try_from(octets)
    {
        return Some(IpAddr::from(address).into());
    }
    let ([first, others @ ..], []) = octets.as_chunks::<16>() else { return None };
    let first = Ipv6Addr::from(*first);
    let second = match others {
        [] => None,
        [second] => Some(Ipv6Addr::from(*second)).filter(Ipv6Addr::is_unicast_link_local),
        _ => return None,
    };
    ipv6.then(|| match second {
        // Speakers without a global address fill its place with `::` or with the link-local one again.
        Some(link_local) if first.is_unspecified() || first.is_unicast_link_local() => {
            IpAddr::from(link_local).into()
        }
        link_local => Nexthop { address: first.into(), link_local },
    })
}

/// An address packets cannot be sent to (RFC 4271 section 6.3, RFC 6890): never a next hop.
pub(super) fn is_martian(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.octets().first() == Some(&0) || v4.is_loopback() || v4.octets() >= [224, 0, 0, 0]
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified() || v6.is_loopback() || v6.is_multicast() || v6.to_ipv4_mapped().is_some()
        }
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    #[test]
    fn prefixes_are_masked_and_never_read_past_their_length() {
        let nlri = |octets: &[u8]| Nlri::decode(AfiSafi::Ipv4Unicast, octets);
        let nets: Vec<String> =
            nlri(&hex!("00 14 0affff 20 0a000001")).unwrap().iter().map(|net| net.to_string()).collect();
        assert_eq!(nets, ["0.0.0.0/0", "10.255.240.0/20", "10.0.0.1/32"]);
        assert_eq!(nlri(&[]), Ok(Nlri::V4(Vec::new())));
        for bad in [&hex!("21 0a00000100") as &[u8], &hex!("ff"), &hex!("18 0a00"), &hex!("08 0a 08")] {
            assert_eq!(nlri(bad), Err(Unreadable));
        }
        let v6 = Nlri::decode(AfiSafi::Ipv6Unicast, &hex!("21 20010db8ff")).unwrap();
        assert_eq!(v6.iter().map(|net| net.to_string()).collect::<Vec<_>>(), ["2001:db8:8000::/33"]);
        assert_eq!(Nlri::decode(AfiSafi::Ipv6Unicast, &[129; 18]), Err(Unreadable));
    }

    #[test]
    fn a_next_hop_has_the_lengths_its_family_allows() {
        let plain = Codec::before_open();
        let extended = Codec { extended_nexthop_v4: true, ..Codec::before_open() };
        let global = hex!("20010db8000000000000000000000001");
        let local = hex!("fe800000000000000000000000000001");
        let none = [0; 16];
        let show = |family, octets: &[u8], codec| {
            read_nexthop(family, octets, codec).map(|n| (n.address.to_string(), n.link_local.is_some()))
        };
        let (v4, v6) = (AfiSafi::Ipv4Unicast, AfiSafi::Ipv6Unicast);
        let expect = |text: &str, both| Some((text.to_owned(), both));
        assert_eq!(show(v6, &global, &plain), expect("2001:db8::1", false));
        assert_eq!(show(v6, &[global, local].concat(), &plain), expect("2001:db8::1", true));
        assert_eq!(show(v6, &[global, global].concat(), &plain), expect("2001:db8::1", false));
        assert_eq!(show(v6, &[none, local].concat(), &plain), expect("fe80::1", false));
        assert_eq!(show(v6, &[local, local].concat(), &plain), expect("fe80::1", false));
        assert_eq!(show(v6, &local, &plain), expect("fe80::1", false));
        assert_eq!(show(v6, &hex!("0a000001"), &plain), None);
        assert_eq!(show(v6, &[0; 48], &plain), None);
        assert_eq!(show(v4, &hex!("0a000001"), &plain), expect("10.0.0.1", false));
        assert_eq!(show(v4, &global, &plain), None, "needs RFC 8950");
        assert_eq!(show(v4, &global, &extended), expect("2001:db8::1", false));
        assert_eq!(show(v4, &[0; 24], &extended), None);
    }

    #[test]
    fn martians_are_no_next_hops() {
        for text in
            ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "ff02::1"]
        {
            assert!(is_martian(text.parse().unwrap()), "{text}");
        }
        for text in ["10.0.0.1", "169.254.0.1", "223.255.255.255", "2001:db8::1", "fe80::1"] {
            assert!(!is_martian(text.parse().unwrap()), "{text}");
        }
    }
}
