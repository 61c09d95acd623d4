//! Path attributes: decoded values over one canonical block of octets.
//!
//! The block holds the attributes that travel with a route, in type order, AS numbers in four octets, the
//! Partial bit set on unknown transitive ones, and without NEXT_HOP, MP_REACH_NLRI, MP_UNREACH_NLRI, AS4_PATH
//! and AS4_AGGREGATOR. Two routes have equal attributes exactly when their blocks are equal, so a block is
//! what the RIB interns and what the encoder copies from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{AsPath, AttributesBuilder, zetta};

/// Attribute type codes (IANA registry "BGP Path Attributes").
pub mod code {
    /// RFC 4271
    pub const ORIGIN: u8 = 1;
    /// RFC 4271
    pub const AS_PATH: u8 = 2;
    /// RFC 4271
    pub const NEXT_HOP: u8 = 3;
    /// RFC 4271
    pub const MULTI_EXIT_DISC: u8 = 4;
    /// RFC 4271
    pub const LOCAL_PREF: u8 = 5;
    /// RFC 4271
    pub const ATOMIC_AGGREGATE: u8 = 6;
    /// RFC 4271
    pub const AGGREGATOR: u8 = 7;
    /// RFC 1997
    pub const COMMUNITIES: u8 = 8;
    /// RFC 4456
    pub const ORIGINATOR_ID: u8 = 9;
    /// RFC 4456
    pub const CLUSTER_LIST: u8 = 10;
    /// RFC 4760
    pub const MP_REACH_NLRI: u8 = 14;
    /// RFC 4760
    pub const MP_UNREACH_NLRI: u8 = 15;
    /// RFC 4360
    pub const EXTENDED_COMMUNITIES: u8 = 16;
    /// RFC 6793
    pub const AS4_PATH: u8 = 17;
    /// RFC 6793
    pub const AS4_AGGREGATOR: u8 = 18;
    /// RFC 8092
    pub const LARGE_COMMUNITY: u8 = 32;
    /// RFC 9234
    pub const OTC: u8 = 35;
}

/// Attribute flags (RFC 4271 section 4.3).
pub(super) mod flag {
    pub(in crate::wire) const OPTIONAL: u8 = 0x80;
    pub(in crate::wire) const TRANSITIVE: u8 = 0x40;
    pub(in crate::wire) const PARTIAL: u8 = 0x20;
    pub(in crate::wire) const EXTENDED_LENGTH: u8 = 0x10;
}

/// ORIGIN (RFC 4271 section 5.1.1); the order is the order of preference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// 0
    #[default]
    Igp,
    /// 1
    Egp,
    /// 2
    Incomplete,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Igp => "igp",
            Self::Egp => "egp",
            Self::Incomplete => "incomplete",
        })
    }
}

/// Next hop of a route as carried on the wire (RFC 4271 5.1.3, RFC 2545, RFC 8950).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nexthop {
    /// The global next hop, or the link-local one where that is all there is.
    pub address: IpAddr,
    /// Second, link-local address of a 32-octet next hop.
    pub link_local: Option<Ipv6Addr>,
}

impl From<IpAddr> for Nexthop {
    fn from(address: IpAddr) -> Self {
        Self { address, link_local: None }
    }
}

/// Attributes of a route without its next hop: a canonical block and the values the decision needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathAttributes {
    block: Box<[u8]>,
    summary: Summary,
}

/// The values the decision process reads, kept beside the block so that it is not walked again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Summary {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH length for the decision: an AS_SET counts one, confederation segments none (RFC 4271 9.1.2.2 a).
    pub as_path_len: u16,
    /// First AS of the AS_PATH (0 when empty or begun by a set): the neighbour AS for MED and multipath.
    pub neighbor_as: u32,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
}

impl Summary {
    /// Takes what the decision needs from one checked attribute of the block.
    fn take(&mut self, attribute: RawAttribute<'_>) {
        match attribute.code {
            code::ORIGIN => self.origin = zetta::origin(attribute.value).unwrap_or_default(),
            code::AS_PATH => {
                let path = AsPath::new(attribute.value);
                self.as_path_len = u16::try_from(path.length()).unwrap_or(u16::MAX);
                self.neighbor_as = path.first().unwrap_or(0);
            }
            code::MULTI_EXIT_DISC => self.med = zetta::med(attribute.value),
            code::LOCAL_PREF => self.local_pref = zetta::local_pref(attribute.value),
            _ => {}
        }
    }
}

/// One attribute as octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawAttribute<'a> {
    /// Flags; without the Extended Length bit, which is the writer's business.
    pub flags: u8,
    /// Type code.
    pub code: u8,
    /// Value; at most 65535 octets.
    pub value: &'a [u8],
}

impl RawAttribute<'_> {
    /// Octets it takes on the wire.
    pub(super) fn wire_len(&self) -> usize {
        self.value.len() + if self.value.len() > 255 { 4 } else { 3 }
    }

    /// Appends it, with a length of two octets only where one does not do.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match u8::try_from(self.value.len()) {
            Ok(length) => out.extend([self.flags, self.code, length]),
            Err(_) => {
                // Every value here was read from, or is refused without, a length of two octets.
                let [high, low] = u16::try_from(self.value.len()).unwrap_or(u16::MAX).to_be_bytes();
                out.extend([self.flags | flag::EXTENDED_LENGTH, self.code, high, low]);
            }
        }
        out.extend_from_slice(self.value);
    }
}

/// Splits the first attribute off; `None` when empty or cut short.
pub(super) fn split_attribute(octets: &[u8]) -> Option<(RawAttribute<'_>, &[u8])> {
    let (&[flags, code], rest) = octets.split_first_chunk::<2>()?;
    let (length, rest) = if flags & flag::EXTENDED_LENGTH == 0 {
        let (&length, rest) = rest.split_first()?;
        (usize::from(length), rest)
    } else {
        let (length, rest) = rest.split_first_chunk::<2>()?;
        (usize::from(u16::from_be_bytes(*length)), rest)
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((RawAttribute { flags: flags & !flag::EXTENDED_LENGTH, code, value }, rest))
}

/// Type code known to this speaker, so that flags and value were checked.
pub(super) fn is_known(attribute: u8) -> bool {
    super::validate::category(attribute).is_some()
}

impl PathAttributes {
    /// The block of `attributes`, which are checked, in type order, each type once.
    pub(super) fn from_sorted<'a>(
        attributes: impl Iterator<Item = RawAttribute<'a>> + Clone,
    ) -> PathAttributes {
        let mut block = Vec::with_capacity(attributes.clone().map(|attribute| attribute.wire_len()).sum());
        let mut summary = Summary::default();
        for attribute in attributes {
            attribute.write(&mut block);
            summary.take(attribute);
        }
        Self { block: block.into_boxed_slice(), summary }
    }

    /// The canonical octets.
    pub fn block(&self) -> &[u8] {
        &self.block
    }

    /// What the decision process reads.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Every attribute, in type order.
    pub fn iter(&self) -> impl Iterator<Item = RawAttribute<'_>> + Clone {
        let mut rest: &[u8] = &self.block;
        std::iter::from_fn(move || {
            let (attribute, tail) = split_attribute(rest)?;
            rest = tail;
            Some(attribute)
        })
    }

    /// Value of the attribute with this type code.
    fn find(&self, code: u8) -> Option<&[u8]> {
        self.iter().take_while(|a| a.code <= code).find(|a| a.code == code).map(|a| a.value)
    }

    /// Values of fixed size under this type code; none when it is absent.
    fn chunks<const SIZE: usize>(&self, code: u8) -> &[[u8; SIZE]] {
        self.find(code).unwrap_or_default().as_chunks().0
    }

    /// ORIGIN.
    pub fn origin(&self) -> Origin {
        self.summary.origin
    }

    /// AS_PATH.
    pub fn as_path(&self) -> AsPath<'_> {
        AsPath::new(self.find(code::AS_PATH).unwrap_or_default())
    }

    /// MULTI_EXIT_DISC.
    pub fn med(&self) -> Option<u32> {
        self.summary.med
    }

    /// LOCAL_PREF.
    pub fn local_pref(&self) -> Option<u32> {
        self.summary.local_pref
    }

    /// ATOMIC_AGGREGATE is present.
    pub fn atomic_aggregate(&self) -> bool {
        self.find(code::ATOMIC_AGGREGATE).is_some()
    }

    /// AGGREGATOR: AS number and BGP Identifier.
    pub fn aggregator(&self) -> Option<(u32, Ipv4Addr)> {
        let &[a, b, c, d, ref address @ ..] = self.find(code::AGGREGATOR)? else { return None };
        Some((u32::from_be_bytes([a, b, c, d]), Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?)))
    }

    /// COMMUNITIES, in the order received.
    pub fn communities(&self) -> impl Iterator<Item = u32> {
        self.chunks(code::COMMUNITIES).iter().map(|octets| u32::from_be_bytes(*octets))
    }

    /// LARGE_COMMUNITY: global administrator and two local parts; no duplicates.
    pub fn large_communities(&self) -> impl Iterator<Item = [u32; 3]> {
        self.chunks::<12>(code::LARGE_COMMUNITY).iter().map(|&[a, b, c, d, e, f, g, h, i, j, k, l]| {
            [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_be_bytes)
        })
    }

    /// EXTENDED_COMMUNITIES as octets.
    pub fn ext_communities(&self) -> impl Iterator<Item = [u8; 8]> {
        self.chunks(code::EXTENDED_COMMUNITIES).iter().copied()
    }

    /// ORIGINATOR_ID.
    pub fn originator_id(&self) -> Option<Ipv4Addr> {
        self.chunks::<4>(code::ORIGINATOR_ID).first().map(|octets| Ipv4Addr::from(*octets))
    }

    /// CLUSTER_LIST, the nearest cluster first.
    pub fn cluster_list(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.chunks::<4>(code::CLUSTER_LIST).iter().map(|octets| Ipv4Addr::from(*octets))
    }

    /// OTC: Only to Customer (RFC 9234).
    pub fn otc(&self) -> Option<u32> {
        self.chunks::<4>(code::OTC).first().map(|octets| u32::from_be_bytes(*octets))
    }

    /// Transitive attributes we do not know, kept for others.
    pub fn unknown(&self) -> impl Iterator<Item = RawAttribute<'_>> {
        self.iter().filter(|attribute| !is_known(attribute.code))
    }

    /// A changed copy starts here.
    pub fn to_builder(&self) -> AttributesBuilder {
        AttributesBuilder::from(self)
    }
}
