//! Properties of the RIB as its users see it: a FIB that takes events and confirms them late, and peers that
//! remember what they were told.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod rib_support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::desired::{Attributes, NextHopMode};
use bgp_speaker::rib::{
    NexthopSet, Origination, OutboundUpdate, Output, PeerId, PeerSettings, PrefixId, Rib, RibConfig,
    RibEvent, Source,
};
use bgp_speaker::wire::Nexthop;
use ipnet::IpNet;
use proptest::prelude::*;
use rib_support::{NUMBERS, V4, V6, config, prefix, reach, rib_with, session, settings, unreach};

/// Attribute octets, next hop, whether MED is sent, further prepends.
type Route = (Vec<u8>, Nexthop, bool, u8);

/// What a peer has been told, by replaying it.
#[derive(Clone, Debug, Default)]
struct Told {
    routes: BTreeMap<IpNet, Route>,
    end_of_rib: usize,
}

impl Told {
    /// Takes one batch; false when there is none.
    fn pull(&mut self, rib: &mut Rib, peer: PeerId, budget: usize) -> bool {
        let Some(updates) = rib.next_updates(peer, budget) else { return false };
        let export = rib.peer_export(peer).unwrap();
        for update in updates.for_peer(peer) {
            match update {
                OutboundUpdate::Reach { attributes, nexthop, keep_med, prepend, prefixes } => {
                    for prefix in prefixes {
                        let family = if prefix.addr().is_ipv4() { V4 } else { V6 };
                        let nexthop = export.nexthop(family, *nexthop).unwrap();
                        let route = (attributes.block().to_vec(), nexthop, *keep_med, *prepend);
                        self.routes.insert(*prefix, route);
                    }
                }
                OutboundUpdate::Unreach { prefixes, .. } => prefixes.iter().for_each(|prefix| {
                    self.routes.remove(prefix);
                }),
                OutboundUpdate::EndOfRib(_) => self.end_of_rib += 1,
                OutboundUpdate::RefreshMark { .. } => (),
            }
        }
        true
    }
}

/// Export of the Loc-RIB as a reader of the RFC would write it, from public views only.
fn export(rib: &Rib, numbers: &BTreeMap<PeerId, u8>, to: PeerId) -> BTreeMap<IpNet, Route> {
    let session_to = session(numbers[&to]);
    let name = format!("peer-{}", numbers[&to]);
    let own = |prefix: &IpNet| match prefix {
        IpNet::V4(_) => session_to.local_address,
        IpNet::V6(_) => session_to.local_addresses[0],
    };
    let mut routes = BTreeMap::new();
    for best in rib.best_routes().filter(|best| best.confirmed) {
        let prefix = best.route.prefix;
        let block = best.route.attributes.block().to_vec();
        let nexthop = |address| Nexthop { address, link_local: None };
        match best.route.source {
            Source::Local => {
                let origination = &rib.originated()[&prefix];
                if origination.peers.as_ref().is_none_or(|names| names.contains(&name)) {
                    routes
                        .insert(prefix, (block, nexthop(own(&prefix)), true, origination.attributes.prepend));
                }
            }
            Source::Peer(from) => {
                let from_ebgp = session(numbers[&from]).ebgp;
                let no_advertise = block.windows(4).any(|octets| octets == [0xff, 0xff, 0xff, 0x02]);
                if from == to || !rib.config().transit || no_advertise || !from_ebgp && !session_to.ebgp {
                    continue;
                }
                let address =
                    if session_to.ebgp { own(&prefix) } else { best.route.nexthop.unwrap().address };
                routes.insert(prefix, (block, nexthop(address), !session_to.ebgp, 0));
            }
        }
    }
    routes
}

/// A FIB that holds what it was told, by number, and confirms when asked.
#[derive(Default)]
struct Fib {
    routes: BTreeMap<PrefixId, (IpNet, Vec<IpAddr>)>,
    unconfirmed: Option<u64>,
    /// Told since the last confirmation, as it was then.
    confirmed: BTreeMap<PrefixId, (IpNet, Vec<IpAddr>)>,
}

fn addresses(set: &NexthopSet) -> Vec<IpAddr> {
    set.iter().map(|nexthop| nexthop.address).collect()
}

impl Fib {
    fn take(&mut self, rib: &mut Rib, limit: usize) -> bool {
        let Some(event) = rib.next_event(limit) else { return false };
        if let RibEvent::Changes { seq, changes } = event {
            assert!(changes.len() <= limit);
            self.unconfirmed = Some(seq);
            for change in changes {
                let held = self.routes.get(&change.id).or(self.confirmed.get(&change.id));
                assert!(
                    held.is_none_or(|held| held.0 == change.prefix),
                    "a number was reused before confirmation"
                );
                match change.nexthops {
                    Some(set) => drop(self.routes.insert(change.id, (change.prefix, addresses(&set)))),
                    None => drop(self.routes.remove(&change.id)),
                }
            }
        }
        true
    }
    fn confirm(&mut self, rib: &mut Rib) {
        if let Some(seq) = self.unconfirmed.take() {
            self.confirmed = self.routes.clone();
            rib.installed(seq, &[]);
        }
    }
    fn drain(&mut self, rib: &mut Rib) {
        while self.take(rib, 3) {}
        self.confirm(rib);
    }
    fn by_prefix(&self) -> BTreeMap<IpNet, Vec<IpAddr>> {
        self.routes.values().cloned().collect()
    }
}

#[derive(Clone, Debug)]
enum Happening {
    Announce { peer: u8, prefixes: Vec<u8>, variant: u8 },
    Withdraw { peer: u8, prefixes: Vec<u8> },
    Down { peer: u8, retain: bool },
    Up { peer: u8 },
    Sweep { peer: u8 },
    Refresh { peer: u8 },
    Originate(Vec<(u8, u8)>),
    Nexthop { peer: u8, reachable: bool },
    Transit(bool),
    NextHopMode { peer: u8, own: bool },
    Pull { peer: u8 },
    TakeEvent,
    Confirm,
    Resend,
    Hold(bool),
    Install { max_paths: u16, wait: bool },
}

fn happening() -> impl Strategy<Value = Happening> {
    let peer = || (0..NUMBERS.len()).prop_map(|at| NUMBERS[at]);
    let prefixes = || proptest::collection::vec(0..12u8, 1..4);
    prop_oneof![
        8 => (peer(), prefixes(), 0..9u8)
            .prop_map(|(peer, prefixes, variant)| Happening::Announce { peer, prefixes, variant }),
        5 => (peer(), prefixes()).prop_map(|(peer, prefixes)| Happening::Withdraw { peer, prefixes }),
        1 => (peer(), any::<bool>()).prop_map(|(peer, retain)| Happening::Down { peer, retain }),
        2 => peer().prop_map(|peer| Happening::Up { peer }),
        1 => peer().prop_map(|peer| Happening::Sweep { peer }),
        1 => peer().prop_map(|peer| Happening::Refresh { peer }),
        1 => proptest::collection::vec((0..12u8, 0..4u8), 0..4).prop_map(Happening::Originate),
        1 => (peer(), any::<bool>()).prop_map(|(peer, reachable)| Happening::Nexthop { peer, reachable }),
        1 => any::<bool>().prop_map(Happening::Transit),
        1 => (peer(), any::<bool>()).prop_map(|(peer, own)| Happening::NextHopMode { peer, own }),
        12 => peer().prop_map(|peer| Happening::Pull { peer }),
        6 => Just(Happening::TakeEvent),
        4 => Just(Happening::Confirm),
        1 => Just(Happening::Resend),
        1 => any::<bool>().prop_map(Happening::Hold),
        1 => (1..4u16, any::<bool>()).prop_map(|(max_paths, wait)| Happening::Install { max_paths, wait }),
    ]
}

/// The RIB with its models on both sides.
struct World {
    rib: Rib,
    ids: BTreeMap<u8, PeerId>,
    told: BTreeMap<u8, Told>,
    up: BTreeSet<u8>,
    fib: Fib,
}

impl World {
    fn new(config: RibConfig) -> Self {
        let (rib, ids) = rib_with(config);
        let told = NUMBERS.into_iter().map(|number| (number, Told::default())).collect();
        Self { rib, ids, told, up: NUMBERS.into(), fib: Fib::default() }
    }

    fn happen(&mut self, happening: &Happening) {
        let rib = &mut self.rib;
        match happening {
            Happening::Announce { peer, prefixes, variant } => prefixes.iter().for_each(|number| {
                rib.apply(self.ids[peer], reach(*peer, prefix(*number), *variant), &mut Output::default());
            }),
            Happening::Withdraw { peer, prefixes } => prefixes.iter().for_each(|number| {
                rib.apply(self.ids[peer], unreach(prefix(*number)), &mut Output::default());
            }),
            Happening::Down { peer, retain } => {
                rib.peer_down(self.ids[peer], if *retain { &[V4, V6] } else { &[] });
                self.up.remove(peer);
                self.told.insert(*peer, Told::default());
            }
            Happening::Up { peer } => {
                if self.up.insert(*peer) {
                    rib.peer_up(self.ids[peer], session(*peer));
                }
            }
            Happening::Sweep { peer } => {
                rib.sweep_stale(self.ids[peer], V4);
                rib.sweep_stale(self.ids[peer], V6);
            }
            Happening::Refresh { peer } => rib.refresh_request(self.ids[peer], V4),
            Happening::Originate(list) => {
                let audience =
                    |kind: u8| (kind % 2 == 1).then(|| vec!["peer-1".to_owned(), "peer-8".to_owned()]);
                let attributes = |kind: u8| Attributes { prepend: kind / 2, ..Attributes::default() };
                let routes = list.iter().map(|(number, kind)| {
                    (prefix(*number), Origination { attributes: attributes(*kind), peers: audience(*kind) })
                });
                rib.set_originated(routes.collect()).unwrap();
            }
            Happening::Nexthop { peer, reachable } => {
                let address = session(*peer).remote_address;
                let known = rib.nexthops().into_iter().find(|nexthop| nexthop.address == address);
                if let Some(nexthop) = known {
                    rib.nexthop_changed(nexthop, *reachable);
                }
            }
            Happening::Transit(transit) => rib.set_import(*transit, vec!["172.16.0.0/16".parse().unwrap()]),
            Happening::NextHopMode { peer, own } => {
                // Towards eBGP both say the same, but the peer changes its group.
                let next_hop = if *own && *peer < 8 { NextHopMode::SelfAddress } else { NextHopMode::Auto };
                rib.update_peer(self.ids[peer], PeerSettings { next_hop, ..settings(*peer) });
            }
            Happening::Pull { peer } => self.pull(*peer),
            Happening::TakeEvent => drop(self.fib.take(rib, 2)),
            Happening::Confirm => self.fib.confirm(rib),
            Happening::Resend => rib.resend(),
            Happening::Install { max_paths, wait } => {
                // Only ever turned off: turned on, it says nothing of what was decided before.
                let wait = *wait && rib.config().advertise_after_install;
                rib.set_install(*max_paths, wait);
            }
            Happening::Hold(true) => rib.hold(),
            Happening::Hold(false) => rib.release(),
        }
    }

    /// With `advertise_after_install`, what a peer learns now must be confirmed, just as it is told.
    fn pull(&mut self, number: u8) {
        let before = self.told[&number].routes.clone();
        self.told.get_mut(&number).unwrap().pull(&mut self.rib, self.ids[&number], 2);
        let news =
            self.told[&number].routes.iter().filter(|(prefix, route)| before.get(*prefix) != Some(route));
        for (prefix, _) in news.filter(|_| self.rib.config().advertise_after_install) {
            let local = self.rib.originated().contains_key(prefix);
            let best = self.rib.best_routes().find(|best| best.route.prefix == *prefix);
            let nexthop = best.and_then(|best| best.route.nexthop).map(|nexthop| nexthop.address);
            let confirmed =
                self.fib.confirmed.values().find(|route| route.0 == *prefix).map(|route| &route.1);
            assert!(
                local || confirmed.zip(nexthop).is_some_and(|(set, nexthop)| set.contains(&nexthop)),
                "peer-{number} was told {prefix} by {nexthop:?}, confirmed is {confirmed:?}"
            );
        }
    }

    fn settle(&mut self) {
        self.rib.release();
        self.fib.drain(&mut self.rib);
        let numbers: BTreeMap<PeerId, u8> = self.ids.iter().map(|(number, id)| (*id, *number)).collect();
        for number in &self.up {
            let (id, told) = (self.ids[number], self.told.get_mut(number).unwrap());
            while told.pull(&mut self.rib, id, 3) {}
            assert!(!self.rib.has_updates(id));
            assert_eq!(told.end_of_rib, 2, "peer-{number}: one End-of-RIB a family");
            assert_eq!(
                told.routes,
                export(&self.rib, &numbers, id),
                "peer-{number} was told what export says"
            );
            let shown = self.rib.advertised(id).map(|view| {
                (view.prefix, (view.attributes.block().to_vec(), view.nexthop, view.keep_med, view.prepend))
            });
            assert_eq!(told.routes, shown.collect(), "peer-{number} was told what is shown");
        }
        let forwarded = self
            .rib
            .best_routes()
            .filter_map(|best| Some((best.route.prefix, addresses(best.nexthops.as_ref()?))));
        assert_eq!(self.fib.by_prefix(), forwarded.collect(), "the FIB was told the Loc-RIB");
        let counts = self.rib.counts();
        for number in &self.up {
            let id = self.ids[number];
            let told = self.told[number].routes.len();
            let counted = counts[usize::from(id.0)];
            assert_eq!(told, (counted[0].advertised + counted[1].advertised) as usize);
            assert_eq!(counted[0].received, self.rib.received_count(id, V4));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn what_peers_were_told_equals_export_of_the_loc_rib(
        happenings in proptest::collection::vec(happening(), 1..80),
        advertise_after_install in any::<bool>(),
    ) {
        let mut world = World::new(RibConfig { advertise_after_install, ..config() });
        for happening in &happenings {
            world.happen(happening);
        }
        world.settle();
        // Everything goes: no path, block, set or number is left behind.
        world.rib.set_originated(BTreeMap::new()).unwrap();
        for number in NUMBERS {
            world.rib.remove_peer(world.ids[&number]);
            let left = world.rib.received(Some(world.ids[&number])).count();
            prop_assert_eq!(left, 0);
        }
        world.fib.drain(&mut world.rib);
        prop_assert_eq!(world.rib.sizes(), (0, 0, 0));
        prop_assert!(world.fib.routes.is_empty());
    }

    #[test]
    fn the_rib_is_the_same_for_every_arrival_order(
        (list, turned) in proptest::collection::btree_map((0..4usize, 0..6u8), 0..8u8, 1..20)
            .prop_map(|map| map.into_iter().collect::<Vec<_>>())
            .prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
        noise in proptest::collection::vec((0..4usize, 0..6u8, 0..8u8), 0..10),
    ) {
        let build = |noise: &[(usize, u8, u8)], list: &[((usize, u8), u8)]| {
            let (mut rib, ids) = rib_with(config());
            let mut apply = |at: usize, update| rib.apply(ids[&NUMBERS[at]], update, &mut Output::default());
            // What was announced before and withdrawn since must leave no trace.
            noise.iter().for_each(|(at, net, variant)| apply(*at, reach(NUMBERS[*at], prefix(*net), *variant)));
            noise.iter().for_each(|(at, net, _)| apply(*at, unreach(prefix(*net))));
            list.iter().for_each(|((at, net), variant)| apply(*at, reach(NUMBERS[*at], prefix(*net), *variant)));
            let best: BTreeMap<_, _> = rib
                .best_routes()
                .map(|best| (best.route.prefix, (best.route.source, best.route.attributes, best.nexthops)))
                .collect();
            let all: BTreeMap<_, _> =
                rib.received(None).map(|view| ((view.prefix, view.source), view.state)).collect();
            (best, all)
        };
        prop_assert_eq!(build(&noise, &list), build(&[], &turned));
    }
}
