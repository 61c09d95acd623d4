//! Messages for several peers, written once: octets, and the places in them where each has its own next hop.
//!
//! In: pieces, as somebody writes them for one peer. Out: the pieces another peer wants, in the order they were written,
//! with its next hops in the places.

use std::ops::Range;

use bytes::BytesMut;

use super::{AfiSafi, Nexthop, encode};

/// A speaker's own next hops on one session, by family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnNexthops {
    /// For IPv4 prefixes; an IPv6 one where RFC 8950 was negotiated.
    pub v4: Option<Nexthop>,
    /// For IPv6 prefixes.
    pub v6: Option<Nexthop>,
}

impl OwnNexthops {
    /// The one for a family.
    pub fn of(&self, family: AfiSafi) -> Option<Nexthop> {
        match family {
            AfiSafi::Ipv4Unicast => self.v4,
            AfiSafi::Ipv6Unicast => self.v6,
        }
    }

    /// Whether messages differ in octets of next hops only, not in their number.
    fn as_long_as(&self, other: &Self) -> bool {
        let length = |nexthop: Option<Nexthop>| {
            nexthop.map(|nexthop| (nexthop.address.is_ipv4(), nexthop.link_local.is_some()))
        };
        length(self.v4) == length(other.v4) && length(self.v6) == length(other.v6)
    }
}

/// Places of next hops in octets.
pub type Places = Vec<(usize, AfiSafi)>;

/// What was written.
#[derive(Debug)]
pub struct Template {
    own: OwnNexthops,
    octets: BytesMut,
    places: Places,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
struct Piece {
    octets: Range<usize>,
    places: Range<usize>,
    messages: usize,
}

impl Template {
    /// Empty, for what is written with these next hops.
    pub fn new(own: OwnNexthops) -> Self {
        Self { own, octets: BytesMut::new(), places: Places::new(), pieces: Vec::new() }
    }

    /// Takes a piece: `write` appends octets and the places of own next hops in them, and returns how many messages that
    /// were.
    pub fn piece(&mut self, write: impl FnOnce(&mut BytesMut, &mut Places) -> usize) {
        let (octets, places) = (self.octets.len(), self.places.len());
        let messages = write(&mut self.octets, &mut self.places);
        self.pieces.push(Piece {
            octets: octets..self.octets.len(),
            places: places..self.places.len(),
            messages,
        });
    }

    /// Whether [`Template::copy`] can write for a peer to which we have these next hops.
    pub fn fits(&self, own: &OwnNexthops) -> bool {
        self.own.as_long_as(own)
    }

    /// Appends the pieces for which `wanted` holds, by number and how many messages they are, to `out`. `own` must
    /// [fit](Self::fits).
    pub fn copy(&self, own: &OwnNexthops, out: &mut BytesMut, mut wanted: impl FnMut(usize, usize) -> bool) {
        out.reserve(self.octets.len());
        let nexthops =
            [own.v4, own.v6].map(|nexthop| nexthop.map(encode::nexthop_octets).unwrap_or_default());
        for (number, piece) in self.pieces.iter().enumerate() {
            if !wanted(number, piece.messages) {
                continue;
            }
            let start = out.len();
            out.extend_from_slice(self.octets.get(piece.octets.clone()).unwrap_or_default());
            if *own == self.own {
                continue;
            }
            for (at, family) in self.places.get(piece.places.clone()).unwrap_or_default() {
                let (octets, length) = &nexthops[usize::from(*family == AfiSafi::Ipv6Unicast)];
                let at = start + at - piece.octets.start;
                if let (Some(place), Some(octets)) = (out.get_mut(at..at + length), octets.get(..*length)) {
                    place.copy_from_slice(octets);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::wire::tests::codec;
    use crate::wire::update::encode_reach;
    use crate::wire::{AttributesBuilder, ExportRules, MAX_MESSAGE};

    #[test]
    fn a_copy_for_another_peer_is_what_would_have_been_written_for_it() {
        let nexthop = |address: &str, link_local: Option<&str>| Nexthop {
            address: address.parse().unwrap(),
            link_local: link_local.map(|address| address.parse().unwrap()),
        };
        let own = |v4, v6| OwnNexthops { v4: Some(v4), v6: Some(v6) };
        let pairs = [
            [
                own(nexthop("10.0.0.1", None), nexthop("2001:db8::1", None)),
                own(nexthop("10.0.9.1", None), nexthop("2001:db8:9::1", None)),
            ],
            [
                own(nexthop("2001:db8::1", None), nexthop("2001:db8::1", Some("fe80::1"))),
                own(nexthop("2001:db8:9::1", None), nexthop("2001:db8:9::1", Some("fe80::9"))),
            ],
        ];
        let v4: Vec<ipnet::IpNet> =
            (0..2000u32).map(|n| ipnet::IpNet::new(IpAddr::V4((n << 8).into()), 24).unwrap()).collect();
        let v6 = vec!["2001:db8:a::/48".parse().unwrap()];
        let attributes = AttributesBuilder::default().as_path(&[1]).med(Some(7)).build().unwrap();
        let write = |own: &OwnNexthops, number: usize, out: &mut BytesMut, places: &mut Places| {
            let (family, prefixes) = [(AfiSafi::Ipv4Unicast, &v4), (AfiSafi::Ipv6Unicast, &v6)][number % 2];
            let nexthop = own.of(family).unwrap();
            encode_reach(
                &attributes,
                &ExportRules::external(65000),
                &nexthop,
                prefixes,
                &codec(),
                out,
                places,
            )
            .unwrap()
        };
        for [made_for, other] in pairs {
            let mut template = Template::new(made_for);
            (0..4).for_each(|number| template.piece(|out, places| write(&made_for, number, out, places)));
            for own in [made_for, other] {
                assert!(template.fits(&own));
                let (mut copied, mut expected, mut messages) = (BytesMut::new(), BytesMut::new(), 0);
                template.copy(&own, &mut copied, |number, count| {
                    messages += if number == 1 { 0 } else { count };
                    number != 1
                });
                let written: usize = [0, 2, 3]
                    .iter()
                    .map(|number| write(&own, *number, &mut expected, &mut Places::new()))
                    .sum();
                assert_eq!(messages, written);
                assert_eq!(copied, expected, "{own:?}");
                assert!(copied.len() > MAX_MESSAGE, "more than one message a piece");
            }
        }
        let [[short, _], [long, _]] = pairs;
        assert!(!Template::new(short).fits(&long) && !Template::new(long).fits(&short));
    }
}
