//! Which free address is next: a circular cursor through the blocks, addresses that rest left out while others are
//! free.
//!
//! Blocks are intervals of numbers and are never listed, so a /64 costs what its leased addresses cost. Network and
//! broadcast addresses (IPv4, /30 and shorter) and the subnet-router anycast address (IPv6, /126 and shorter; RFC
//! 4291 section 2.6.1) are not part of them. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::spec::IpRange;

/// One of the two address families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    pub(super) fn address(self, number: u128) -> IpAddr {
        match self {
            // Numbers of this family come from its addresses: the upper bits are zero.
            Self::V4 => Ipv4Addr::from(number as u32).into(),
            Self::V6 => Ipv6Addr::from(number).into(),
        }
    }

    pub(super) fn has(self, block: &IpNet) -> bool {
        Self::of(block.addr()) == self
    }
}

/// An address as a number of its family.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// The numbers of a block that a pod can have, both ends included.
pub(super) fn usable(block: &IpNet) -> (u128, u128) {
    let (first, last) = (number(block.network()), number(block.broadcast()));
    match block {
        IpNet::V4(v4) if v4.prefix_len() <= 30 => (first + 1, last - 1),
        IpNet::V6(v6) if v6.prefix_len() <= 126 => (first + 1, last),
        _ => (first, last),
    }
}

/// Where addresses of one family may be chosen: intervals, both ends included, in the order of the blocks.
pub(super) struct Spans(Vec<(u128, u128)>);

impl Spans {
    /// The usable parts of a family's blocks, cut down to its ranges if it has any.
    pub(super) fn new(family: Family, blocks: &[IpNet], ranges: &[IpRange]) -> Self {
        let blocks = blocks.iter().filter(|block| family.has(block)).map(usable);
        let ranges: Vec<_> = ranges
            .iter()
            .filter(|range| Family::of(range.first) == family)
            .map(|range| (number(range.first), number(range.last)))
            .collect();
        if ranges.is_empty() {
            return Self(blocks.collect());
        }
        let cut = |(first, last): (u128, u128)| {
            ranges.iter().map(move |&(lowest, highest)| (first.max(lowest), last.min(highest)))
        };
        Self(blocks.flat_map(cut).filter(|(first, last)| first <= last).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contain(&self, number: u128) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&number))
    }

    /// The first number behind `cursor`, round the end if need be, that is not in `avoid` (in order).
    fn first_free(&self, cursor: Option<u128>, avoid: &[u128]) -> Option<u128> {
        let inside = |cursor: u128| self.0.iter().position(|&(first, last)| (first..=last).contains(&cursor));
        let Some((cursor, at)) = cursor.and_then(|cursor| Some((cursor, inside(cursor)?))) else {
            return self.0.iter().find_map(|&span| free_within(span, avoid));
        };
        let (first, last) = self.0[at];
        // The cursor's own interval comes first from behind the cursor, and last up to it.
        let behind = cursor.checked_add(1).filter(|&next| next <= last).map(|next| (next, last));
        let (before, after) = self.0.split_at(at);
        let rest = after[1..].iter().chain(before).copied();
        behind.into_iter().chain(rest).chain([(first, cursor)]).find_map(|span| free_within(span, avoid))
    }
}

fn free_within((first, last): (u128, u128), avoid: &[u128]) -> Option<u128> {
    let mut candidate = first;
    for &taken in &avoid[avoid.partition_point(|&taken| taken < first)..] {
        if taken > candidate {
            break;
        }
        if taken == candidate {
            candidate = candidate.checked_add(1)?;
        }
    }
    (candidate <= last).then_some(candidate)
}

/// What is not, or not gladly, handed out.
#[derive(Default)]
pub(super) struct Used {
    /// In somebody's hands.
    pub(super) taken: Vec<u128>,
    /// Free, but released a short time ago: with the time of release.
    pub(super) resting: Vec<(u128, u64)>,
}

/// The next address: one of `preferred` if it is free, else the first free one behind the cursor, else the one that
/// has rested longest.
pub(super) fn choose(
    spans: &Spans,
    used: &Used,
    cursor: Option<u128>,
    preferred: impl IntoIterator<Item = u128>,
) -> Option<u128> {
    let mut avoid: Vec<u128> = used.taken.clone();
    avoid.extend(used.resting.iter().map(|(number, _)| number));
    avoid.sort_unstable();
    let is_free = |number: &u128| spans.contain(*number) && avoid.binary_search(number).is_err();
    preferred.into_iter().find(is_free).or_else(|| spans.first_free(cursor, &avoid)).or_else(|| {
        let untaken = |number: u128| spans.contain(number) && !used.taken.contains(&number);
        let rested = used.resting.iter().filter(|(number, _)| untaken(*number));
        rested.min_by_key(|(_, since)| since).map(|(number, _)| *number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(blocks: &[&str]) -> Spans {
        let blocks: Vec<IpNet> = blocks.iter().map(|block| block.parse().unwrap()).collect();
        Spans::new(Family::of(blocks[0].addr()), &blocks, &[])
    }

    fn next(
        blocks: &[&str],
        cursor: Option<&str>,
        taken: &[&str],
        resting: &[(&str, u64)],
    ) -> Option<String> {
        let parse = |text: &&str| number(text.parse().unwrap());
        let used = Used {
            taken: taken.iter().map(parse).collect(),
            resting: resting.iter().map(|(address, since)| (parse(address), *since)).collect(),
        };
        let family = Family::of(blocks[0].parse::<IpNet>().unwrap().addr());
        choose(&spans(blocks), &used, cursor.as_ref().map(parse), [])
            .map(|number| family.address(number).to_string())
    }

    #[test]
    fn the_next_address_follows_the_cursor_and_leaves_out_what_no_pod_can_have() {
        let free = |blocks: &[&str], cursor, taken: &[&str]| next(blocks, cursor, taken, &[]);
        assert_eq!(free(&["10.0.0.0/24"], None, &[]).unwrap(), "10.0.0.1");
        assert_eq!(free(&["10.0.0.0/24"], Some("10.0.0.7"), &[]).unwrap(), "10.0.0.8");
        assert_eq!(free(&["10.0.0.0/24"], Some("10.0.0.254"), &["10.0.0.1"]).unwrap(), "10.0.0.2");
        assert_eq!(free(&["10.0.0.0/30"], Some("10.0.0.1"), &["10.0.0.2"]).unwrap(), "10.0.0.1");
        assert_eq!(free(&["10.0.0.0/30"], None, &["10.0.0.2", "10.0.0.1"]), None);
        assert_eq!(free(&["10.0.0.0/31"], None, &[]).unwrap(), "10.0.0.0");
        assert_eq!(free(&["10.0.0.4/32"], None, &[]).unwrap(), "10.0.0.4");
        assert_eq!(free(&["10.0.0.0/30", "10.9.0.0/30"], Some("10.0.0.2"), &[]).unwrap(), "10.9.0.1");
        assert_eq!(free(&["10.0.0.0/30", "10.9.0.0/30"], Some("10.9.0.2"), &[]).unwrap(), "10.0.0.1");
        assert_eq!(free(&["10.0.0.0/30"], Some("192.0.2.1"), &[]).unwrap(), "10.0.0.1");
        assert_eq!(free(&["fd00::/64"], None, &[]).unwrap(), "fd00::1");
        assert_eq!(free(&["fd00::/64"], Some("fd00::ffff:ffff:ffff:ffff"), &["fd00::1"]).unwrap(), "fd00::2");
        assert_eq!(free(&["fd00::/127"], None, &[]).unwrap(), "fd00::");
        assert_eq!(free(&["::/0"], None, &["::1"]).unwrap(), "::2");
        let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_eq!(free(&[&format!("{last}/128")], Some(last), &[last]), None);
    }

    #[test]
    fn an_address_rests_while_others_are_free_and_the_longest_rested_comes_first() {
        let resting = [("10.0.0.1", 50), ("10.0.0.2", 40)];
        assert_eq!(next(&["10.0.0.0/29"], None, &[], &resting).unwrap(), "10.0.0.3");
        assert_eq!(next(&["10.0.0.0/30"], None, &[], &resting).unwrap(), "10.0.0.2");
        assert_eq!(next(&["10.0.0.0/30"], None, &["10.0.0.2"], &resting).unwrap(), "10.0.0.1");
    }

    #[test]
    fn ranges_cut_blocks_down() {
        let range =
            |first: &str, last: &str| IpRange { first: first.parse().unwrap(), last: last.parse().unwrap() };
        let block: IpNet = "10.0.0.0/24".parse().unwrap();
        let cut = |ranges: &[IpRange]| Spans::new(Family::V4, &[block], ranges);
        let within = cut(&[range("10.0.0.16", "10.0.0.17"), range("fd00::1", "fd00::9")]);
        assert_eq!(choose(&within, &Used::default(), None, []), Some(number("10.0.0.16".parse().unwrap())));
        assert!(!within.contain(number("10.0.0.18".parse().unwrap())));
        assert!(cut(&[range("10.0.1.0", "10.0.1.255")]).is_empty());
        assert!(!cut(&[range("10.0.0.0", "10.0.0.255")]).contain(number("10.0.0.0".parse().unwrap())));
    }
}
