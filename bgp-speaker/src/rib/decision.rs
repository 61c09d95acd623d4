//! Which path of a prefix is best, and which others carry traffic beside it (RFC 4271 section 9.1.2.2).
//!
//! In: the usable paths of one prefix. Out: the best and the multipath set. Every step keeps or drops paths by
//! looking at all that are left, so the answer does not depend on the order of arrival. MED is compared among
//! paths of the same neighbour AS only.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use smallvec::SmallVec;

use super::FibNexthop;
use crate::wire::Origin;

/// What the decision reads of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Originated by this node.
    pub local: bool,
    /// LOCAL_PREF; 100 for a path of an eBGP peer or without one.
    pub local_pref: u32,
    /// AS_PATH length.
    pub as_path_len: u16,
    /// ORIGIN.
    pub origin: Origin,
    /// First AS of the path; MED is compared when it is equal.
    pub neighbor_as: u32,
    /// MULTI_EXIT_DISC, 0 when missing (RFC 4271 section 9.1.2.2 c).
    pub med: u32,
    /// Learned from a peer of another AS.
    pub ebgp: bool,
    /// The peer's BGP Identifier.
    pub router_id: Ipv4Addr,
    /// The peer's address.
    pub peer_address: IpAddr,
    /// Where its packets go.
    pub nexthop: FibNexthop,
}

/// A step of the decision; a path is not best because of the first step that dropped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A path originated here exists.
    LocalOrigin,
    /// A path with higher LOCAL_PREF exists.
    LocalPref,
    /// A path with a shorter AS_PATH exists.
    AsPathLength,
    /// A path with a lower ORIGIN exists.
    Origin,
    /// A path of the same neighbour AS with a lower MED exists.
    Med,
    /// A path of an eBGP peer exists.
    EbgpOverIbgp,
    /// Equal so far; a peer with a lower BGP Identifier exists.
    RouterId,
    /// Equal so far; a peer with a lower address exists.
    PeerAddress,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LocalOrigin => "another is originated here",
            Self::LocalPref => "lower LOCAL_PREF",
            Self::AsPathLength => "longer AS_PATH",
            Self::Origin => "higher ORIGIN",
            Self::Med => "higher MED",
            Self::EbgpOverIbgp => "learned by iBGP",
            Self::RouterId => "higher router id",
            Self::PeerAddress => "higher peer address",
        })
    }
}

/// Positions in the candidates given.
type Positions = SmallVec<[usize; 8]>;

/// The outcome for one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The best path.
    pub best: usize,
    /// The paths that carry traffic: the best first, each with another next hop, at most `max_paths`.
    pub multipath: SmallVec<[usize; 8]>,
}

/// Decides among `candidates`; `None` when there are none.
///
/// Multipath is "relaxed": paths equal up to and including the eBGP step are used together even when their
/// neighbour AS differs. Which of more than `max_paths` are used follows the order of the last two steps.
pub fn decide(candidates: &[Candidate], max_paths: u16) -> Option<Decision> {
    if let [only] = candidates {
        let multipath = if only.local { SmallVec::new() } else { SmallVec::from_slice(&[0]) };
        return Some(Decision { best: 0, multipath });
    }
    let mut equal = equal_paths(candidates, |_, _| ());
    equal
        .sort_by_key(|at| (candidates[*at].router_id, candidates[*at].peer_address, candidates[*at].nexthop));
    let best = *equal.first()?;
    let mut multipath = Positions::new();
    for at in equal {
        let used = |other: &usize| candidates[*other].nexthop == candidates[at].nexthop;
        if multipath.len() < usize::from(max_paths.max(1))
            && !candidates[at].local
            && !multipath.iter().any(used)
        {
            multipath.push(at);
        }
    }
    Some(Decision { best, multipath })
}

/// For each candidate the step at which it lost; `None` for the best.
pub fn explain(candidates: &[Candidate]) -> Vec<Option<Step>> {
    let mut lost = vec![None; candidates.len()];
    let mut left = equal_paths(candidates, |at, step| lost[at] = Some(step));
    keep_least(candidates, &mut left, |path| path.router_id, |at| lost[at] = Some(Step::RouterId));
    keep_least(candidates, &mut left, |path| path.peer_address, |at| lost[at] = Some(Step::PeerAddress));
    lost
}

/// The steps up to where multipath begins, one line each.
fn equal_paths(candidates: &[Candidate], mut dropped: impl FnMut(usize, Step)) -> Positions {
    use std::cmp::Reverse;
    let mut left: Positions = (0..candidates.len()).collect();
    keep_least(candidates, &mut left, |path| !path.local, |at| dropped(at, Step::LocalOrigin));
    keep_least(candidates, &mut left, |path| Reverse(path.local_pref), |at| dropped(at, Step::LocalPref));
    keep_least(candidates, &mut left, |path| path.as_path_len, |at| dropped(at, Step::AsPathLength));
    keep_least(candidates, &mut left, |path| path.origin, |at| dropped(at, Step::Origin));
    keep_least_med(candidates, &mut left, |at| dropped(at, Step::Med));
    keep_least(candidates, &mut left, |path| !path.ebgp, |at| dropped(at, Step::EbgpOverIbgp));
    left
}

fn keep_least<K: Ord>(
    candidates: &[Candidate],
    left: &mut Positions,
    key: impl Fn(&Candidate) -> K,
    mut dropped: impl FnMut(usize),
) {
    let Some(least) = left.iter().map(|at| key(&candidates[*at])).min() else { return };
    left.retain(|at| {
        let keep = key(&candidates[*at]) == least;
        if !keep {
            dropped(*at);
        }
        keep
    });
}

fn keep_least_med(candidates: &[Candidate], left: &mut Positions, mut dropped: impl FnMut(usize)) {
    let among = left.clone();
    left.retain(|at| {
        let path = &candidates[*at];
        let beaten = among.iter().map(|other| &candidates[*other]);
        let keep =
            !beaten.into_iter().any(|other| other.neighbor_as == path.neighbor_as && other.med < path.med);
        if !keep {
            dropped(*at);
        }
        keep
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn base(last: u8) -> Candidate {
        let address = IpAddr::from([10, 0, 0, last]);
        Candidate {
            local: false,
            local_pref: 100,
            as_path_len: 2,
            origin: Origin::Igp,
            neighbor_as: 65001,
            med: 0,
            ebgp: true,
            router_id: Ipv4Addr::new(192, 0, 2, last),
            peer_address: address,
            nexthop: FibNexthop { address, ifindex: None, recursive: false },
        }
    }

    type Change = fn(&mut Candidate);

    #[test]
    fn each_step_decides_when_all_before_it_are_equal() {
        // The second candidate would win by every later step; the first wins by the step named.
        let cases: &[(Step, Change, Change)] = &[
            (Step::LocalOrigin, |a| a.local = true, |b| b.local_pref = 500),
            (Step::LocalPref, |a| a.local_pref = 200, |b| b.as_path_len = 0),
            (Step::AsPathLength, |a| a.origin = Origin::Incomplete, |b| b.as_path_len = 3),
            (Step::Origin, |a| a.med = 9, |b| b.origin = Origin::Egp),
            (Step::Med, |a| a.ebgp = false, |b| b.med = 1),
            (Step::EbgpOverIbgp, |_| (), |b| b.ebgp = false),
            (Step::RouterId, |_| (), |_| ()),
            (
                Step::PeerAddress,
                |a| a.peer_address = IpAddr::from([10, 0, 0, 1]),
                |b| b.router_id = base(9).router_id,
            ),
        ];
        for (step, winner, loser) in cases {
            let late = matches!(step, Step::RouterId | Step::PeerAddress);
            let (mut a, mut b) = if late { (base(5), base(9)) } else { (base(9), base(5)) };
            if *step == Step::PeerAddress {
                a.router_id = base(9).router_id;
            }
            winner(&mut a);
            loser(&mut b);
            for (order, best) in [([a, b], 0), ([b, a], 1)] {
                let decision = decide(&order, 1).unwrap();
                assert_eq!(decision.best, best, "{step:?}");
                let mut why = [Some(*step); 2];
                why[best] = None;
                assert_eq!(explain(&order), why, "{step:?}");
            }
        }
    }

    #[test]
    fn med_is_compared_within_a_neighbour_as_only() {
        // The textbook case: compared in pairs, the winner would depend on the order.
        let (mut a, mut b, mut c) = (base(1), base(2), base(3));
        (a.neighbor_as, a.med, a.router_id) = (65001, 10, base(3).router_id);
        (b.neighbor_as, b.med, b.router_id) = (65002, 5, base(2).router_id);
        (c.neighbor_as, c.med, c.router_id) = (65001, 5, base(9).router_id);
        for order in [[a, b, c], [c, b, a], [b, a, c], [c, a, b]] {
            let best = order[decide(&order, 1).unwrap().best];
            assert_eq!(best, b);
        }
        assert_eq!(explain(&[a, b, c]), [Some(Step::Med), None, Some(Step::RouterId)]);
    }

    #[test]
    fn multipath_takes_equal_paths_with_different_next_hops() {
        let set = |order: &[Candidate], max: u16| {
            let decision = decide(order, max).unwrap();
            decision.multipath.iter().map(|at| order[*at].nexthop.address).collect::<Vec<_>>()
        };
        let hop = |last: u8| IpAddr::from([10, 0, 0, last]);
        let change = |last: u8, change: Change| {
            let mut candidate = base(last);
            change(&mut candidate);
            candidate
        };
        let cases: &[(&str, Vec<Candidate>, u16, Vec<IpAddr>)] = &[
            ("two equal", vec![base(2), base(1)], 8, vec![hop(1), hop(2)]),
            (
                "another neighbour AS",
                vec![base(1), change(2, |c| c.neighbor_as = 65009)],
                8,
                vec![hop(1), hop(2)],
            ),
            ("a longer path", vec![base(1), change(2, |c| c.as_path_len = 3)], 8, vec![hop(1)]),
            ("a higher MED", vec![base(1), change(2, |c| c.med = 3)], 8, vec![hop(1)]),
            ("iBGP beside eBGP", vec![base(1), change(2, |c| c.ebgp = false)], 8, vec![hop(1)]),
            ("the same next hop", vec![base(1), change(2, |c| c.nexthop = base(1).nexthop)], 8, vec![hop(1)]),
            ("more than allowed", vec![base(3), base(1), base(2)], 2, vec![hop(1), hop(2)]),
            ("originated here", vec![base(1), change(2, |c| c.local = true)], 8, vec![]),
        ];
        for (name, order, max, expected) in cases {
            assert_eq!(set(order, *max), *expected, "{name}");
            let mut turned = order.clone();
            turned.reverse();
            assert_eq!(set(&turned, *max), *expected, "{name}, turned round");
        }
    }

    /// Values that tie often; the peer address is `last`, since a peer has one path of a prefix.
    fn any_candidate(last: u8) -> impl Strategy<Value = Candidate> {
        (0..3u32, 0..3u16, 0..3u32, 0..3u32, any::<bool>(), 1..5u8, 1..5u8).prop_map(
            move |(local_pref, as_path_len, neighbor_as, med, ebgp, router, hop)| Candidate {
                local_pref,
                as_path_len,
                neighbor_as,
                med,
                ebgp,
                router_id: base(router).router_id,
                nexthop: base(hop).nexthop,
                ..base(last)
            },
        )
    }

    proptest! {
        #[test]
        fn the_decision_does_not_depend_on_order(
            (list, turned) in (1..7u8)
                .prop_flat_map(|count| (0..count).map(any_candidate).collect::<Vec<_>>())
                .prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
            max in 1..4u16,
        ) {
            let values = |order: &[Candidate]| {
                let decision = decide(order, max).unwrap();
                let hops: Vec<_> = decision.multipath.iter().map(|at| order[*at].nexthop).collect();
                (order[decision.best], hops)
            };
            prop_assert_eq!(values(&list), values(&turned));
        }
    }
}
