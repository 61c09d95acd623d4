//! Path attributes: decoded values over one canonical block of octets.
//!
//! The block holds the attributes that travel with a route, in type order, AS numbers in four octets, the
//! Partial bit set on unknown transitive ones, and without NEXT_HOP, MP_REACH_NLRI, MP_UNREACH_NLRI, AS4_PATH
//! and AS4_AGGREGATOR. Two routes have equal attributes exactly when their blocks are equal, so a block is
//! what the RIB interns and what the encoder copies from.

use std::net::{IpAddr, Ipv6Addr};

/// ORIGIN (RFC 4271 section 5.1.1); the order is the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// 0
    Igp,
    /// 1
    Egp,
    /// 2
    Incomplete,
}

/// Next hop of a route as carried on the wire (RFC 4271 5.1.3, RFC 2545, RFC 8950).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nexthop {
    /// The global next hop, or the link-local one where that is all there is.
    pub address: IpAddr,
    /// Second, link-local address of a 32-octet next hop.
    pub link_local: Option<Ipv6Addr>,
}

/// Attributes of a route without its next hop: a canonical block and the values the decision needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathAttributes {
    block: Box<[u8]>,
    summary: Summary,
}

/// The values the decision process reads, kept beside the block so that it is not walked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Summary {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH length for the decision: an AS_SET counts one, confederation segments none (RFC 4271 9.1.2.2 a).
    pub as_path_len: u16,
    /// First AS of the AS_PATH (0 when empty): the neighbour AS for MED and multipath.
    pub neighbor_as: u32,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
}

impl PathAttributes {
    /// The canonical block.
    pub fn block(&self) -> &[u8] {
        &self.block
    }
    /// The values the decision reads.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
    /// AS_PATH.
    pub fn as_path(&self) -> AsPath<'_> {
        AsPath { octets: attribute(&self.block, 2).unwrap_or_default() }
    }
}

/// AS_PATH over its octets.
pub struct AsPath<'a> {
    octets: &'a [u8],
}

impl AsPath<'_> {
    /// How often `asn` stands in it.
    pub fn contains_count(&self, asn: u32) -> usize {
        let mut rest = self.octets;
        let mut count = 0;
        while let [_, length, tail @ ..] = rest {
            let (asns, after) = tail.split_at(tail.len().min(usize::from(*length) * 4));
            count += asns.chunks_exact(4).filter(|octets| **octets == asn.to_be_bytes()).count();
            rest = after;
        }
        count
    }
}

fn attribute(mut block: &[u8], code: u8) -> Option<&[u8]> {
    while let [flags, kind, tail @ ..] = block {
        let (length, tail) = match tail {
            [high, low, tail @ ..] if flags & 0x10 != 0 => {
                (usize::from(*high) << 8 | usize::from(*low), tail)
            }
            [length, tail @ ..] => (usize::from(*length), tail),
            [] => return None,
        };
        let value = tail.get(..length)?;
        if *kind == code {
            return Some(value);
        }
        block = tail.get(length..)?;
    }
    None
}

/// Makes a block for a route we originate, or a changed copy of one.
#[derive(Clone, Debug, Default)]
pub struct AttributesBuilder {
    path: Vec<u32>,
    origin: u8,
    med: Option<u32>,
    local_pref: Option<u32>,
    communities: Vec<u32>,
    large: Vec<[u32; 3]>,
}

impl AttributesBuilder {
    /// ORIGIN.
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origin = origin as u8;
        self
    }
    /// AS_PATH of one AS_SEQUENCE.
    pub fn as_path(mut self, path: &[u32]) -> Self {
        self.path = path.to_vec();
        self
    }
    /// MULTI_EXIT_DISC.
    pub fn med(mut self, med: Option<u32>) -> Self {
        self.med = med;
        self
    }
    /// LOCAL_PREF.
    pub fn local_pref(mut self, local_pref: Option<u32>) -> Self {
        self.local_pref = local_pref;
        self
    }
    /// COMMUNITIES.
    pub fn communities(mut self, communities: &[u32]) -> Self {
        self.communities = communities.to_vec();
        self
    }
    /// LARGE_COMMUNITY.
    pub fn large_communities(mut self, large: &[[u32; 3]]) -> Self {
        self.large = large.to_vec();
        self
    }
    /// The attributes.
    pub fn build(self) -> Result<PathAttributes, super::EncodeError> {
        let mut block = Vec::new();
        let mut put = |flags: u8, kind: u8, value: &[u8]| {
            block.extend([flags | 0x10, kind]);
            block.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
            block.extend(value);
        };
        put(0x40, 1, &[self.origin]);
        let mut path = Vec::new();
        for part in self.path.chunks(255) {
            path.extend([2, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
            path.extend(part.iter().flat_map(|asn| asn.to_be_bytes()));
        }
        put(0x40, 2, &path);
        if let Some(med) = self.med {
            put(0x80, 4, &med.to_be_bytes());
        }
        if let Some(local_pref) = self.local_pref {
            put(0x40, 5, &local_pref.to_be_bytes());
        }
        if !self.communities.is_empty() {
            put(0xc0, 8, &self.communities.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<_>>());
        }
        if !self.large.is_empty() {
            let octets = self.large.iter().flatten();
            put(0xc0, 32, &octets.flat_map(|part| part.to_be_bytes()).collect::<Vec<_>>());
        }
        let origin = match self.origin {
            0 => Origin::Igp,
            1 => Origin::Egp,
            _ => Origin::Incomplete,
        };
        Ok(PathAttributes {
            block: block.into(),
            summary: Summary {
                origin,
                as_path_len: u16::try_from(self.path.len()).unwrap_or(u16::MAX),
                neighbor_as: self.path.first().copied().unwrap_or(0),
                local_pref: self.local_pref,
                med: self.med,
            },
        })
    }
}
