//! What an UPDATE says of its prefixes, in a form of its own: equal for equal paths, whatever the order and the
//! lengths in which a speaker writes attributes and communities.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{self, Attributes};

const ORIGIN: u8 = 1;
const AS_PATH: u8 = 2;
const NEXT_HOP: u8 = 3;
const MED: u8 = 4;
const COMMUNITIES: u8 = 8;
const MP_REACH: u8 = 14;
const LARGE_COMMUNITIES: u8 = 32;
const AS_SEQUENCE: u8 = 2;

/// A path, communities sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Path {
    /// ORIGIN; 0 is IGP.
    pub origin: Option<u8>,
    /// AS numbers of the sequences; a set makes the path one of [`Path::others`].
    pub as_path: Vec<u32>,
    /// NEXT_HOP, or the global one of MP_REACH_NLRI.
    pub next_hop: Option<IpAddr>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// Standard communities.
    pub communities: Vec<u32>,
    /// Large communities.
    pub large_communities: Vec<[u32; 3]>,
    /// Attributes of other types, or that are not as they should be: type and value.
    pub others: Vec<(u8, Vec<u8>)>,
}

impl Path {
    /// Reads the attributes of an UPDATE.
    #[must_use]
    pub fn read(attributes: &[u8]) -> Self {
        let mut path = Self::default();
        for (kind, value) in message::attributes(attributes) {
            if path.take(kind, value).is_none() {
                path.others.push((kind, value.to_vec()));
            }
        }
        path.communities.sort_unstable();
        path.large_communities.sort_unstable();
        path
    }

    /// What a neighbour of another AS gets to hear of a path that came with these attributes: `local_as` in front,
    /// `next_hop` in place of the old one.
    #[must_use]
    pub fn passed_on(attributes: &Attributes, local_as: u32, next_hop: IpAddr) -> Self {
        let mut communities = attributes.communities.clone();
        communities.sort_unstable();
        communities.dedup();
        let mut large_communities = attributes.large_communities.clone();
        large_communities.sort_unstable();
        Self {
            origin: Some(0),
            as_path: [&[local_as], attributes.as_path.as_slice()].concat(),
            next_hop: Some(next_hop),
            med: None,
            communities,
            large_communities,
            others: Vec::new(),
        }
    }

    /// `None`: not as it should be.
    fn take(&mut self, kind: u8, value: &[u8]) -> Option<()> {
        let words = |value: &[u8]| -> Option<Vec<u32>> {
            let words = value.chunks_exact(4);
            words.remainder().is_empty().then(|| words.map(word).collect())
        };
        match kind {
            ORIGIN => self.origin = Some(*value.first()?),
            AS_PATH => {
                let mut rest = value;
                while let Some((&[AS_SEQUENCE, count], numbers)) = rest.split_first_chunk::<2>() {
                    let (numbers, behind) = numbers.split_at_checked(usize::from(count) * 4)?;
                    self.as_path.extend(words(numbers)?);
                    rest = behind;
                }
                return rest.is_empty().then_some(());
            }
            NEXT_HOP => self.next_hop = Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
            MED => self.med = Some(u32::from_be_bytes(value.try_into().ok()?)),
            COMMUNITIES => self.communities = words(value)?,
            LARGE_COMMUNITIES => {
                let words = words(value)?;
                let triples = words.chunks_exact(3);
                self.large_communities = triples.map(|triple| [triple[0], triple[1], triple[2]]).collect();
            }
            // AFI, SAFI, length of the next hop, next hop. A link-local one may follow the global one.
            MP_REACH => {
                self.next_hop = Some(Ipv6Addr::from(<[u8; 16]>::try_from(value.get(4..20)?).ok()?).into());
            }
            _ => return None,
        }
        Some(())
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AS path {:?}", self.as_path)?;
        if let Some(next_hop) = self.next_hop {
            write!(f, " via {next_hop}")?;
        }
        write!(f, ", communities {:x?}, large {:?}", self.communities, self.large_communities)?;
        write!(f, ", origin {:?}, MED {:?}, others {:?}", self.origin, self.med, self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feeder::message::Message;

    fn sent(attributes: &Attributes, prefix: &str) -> Path {
        match message::decode(&message::announce(attributes, &[prefix.parse().unwrap()])).unwrap() {
            Message::Update(update) => Path::read(&update.attributes),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_path_that_is_passed_on_is_the_one_that_came_with_one_more_as() {
        for (from, to, prefix) in
            [("10.0.0.1", "10.0.1.1", "20.0.0.0/8"), ("fd00::1", "fd00:1::1", "2a00::/16")]
        {
            let mut came = Attributes::new(&[65_001, 7, 4_200_000_001], from.parse().unwrap());
            came.communities = vec![9, 3];
            came.large_communities = vec![[5, 6, 7], [1, 2, 3]];
            let expected = Path::passed_on(&came, 65_000, to.parse().unwrap());
            let mut left = came.clone();
            (left.as_path, left.next_hop) = (vec![65_000, 65_001, 7, 4_200_000_001], to.parse().unwrap());
            left.communities.reverse();
            assert_eq!(sent(&left, prefix), expected);
            assert_ne!(sent(&came, prefix), expected);
            left.communities.pop();
            assert_ne!(sent(&left, prefix), expected);
        }
    }

    #[test]
    fn what_is_unknown_or_broken_is_kept_as_it_came() {
        let path = Path::read(&[0x40, 1, 1, 2, 0x40, 2, 3, 2, 9, 0, 0xc0, 199, 1, 42]);
        assert_eq!(path.origin, Some(2));
        assert_eq!(path.others, [(2, vec![2, 9, 0]), (199, vec![42])]);
    }
}
