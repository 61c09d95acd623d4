//! The pure FIB against a model of the kernel that refuses, forgets and is meddled with.
//!
//! Whatever happens on the way: once it stops, the kernel holds exactly what is wanted, foreign routes
//! are as they were, and no nexthop object was ever deleted under a route.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::desired::Install;
use bgp_speaker::rib::{BestChange, FibNexthop, NexthopSet, PrefixId};
use ipnet::IpNet;
use proptest::prelude::*;
use route_agent::fib::{BLACKHOLE_METRIC, Fib, Hop, Note, Refusal, Request, RouteKey};
use route_agent::kernel::dump::Snapshot;
use route_agent::kernel::{KernelRoute, NexthopObject, RTN_BLACKHOLE, RTN_UNICAST};

const OURS: u8 = 199;
const LOCAL: u8 = 200;
const FOREIGN: u8 = 4;
const PREFIXES: usize = 10;
const NEXTHOPS: usize = 4;
const LINKS: u32 = 3;

fn install() -> Install {
    Install {
        metric: 20,
        table: 254,
        max_paths: 8,
        protocol: OURS,
        local_protocol: LOCAL,
        advertise_after_install: false,
    }
}

fn prefix(index: usize) -> IpNet {
    if index.is_multiple_of(3) {
        format!("2001:db8:{index}::/48").parse().unwrap()
    } else {
        format!("10.{index}.0.0/16").parse().unwrap()
    }
}

/// IPv6 throughout, so that any set serves any prefix. Two next hops share a link.
fn nexthop(index: usize) -> FibNexthop {
    let address: IpAddr = format!("fe80::{}", index + 1).parse().unwrap();
    FibNexthop { address, ifindex: Some(u32::try_from(index).unwrap() % LINKS + 1), recursive: false }
}

/// The set whose members are the bits of `bits`.
fn set(bits: u8) -> Arc<NexthopSet> {
    Arc::new((0..NEXTHOPS).filter(|index| bits >> index & 1 == 1).map(nexthop).collect())
}

#[derive(Debug, Default)]
struct Kernel {
    hops: BTreeMap<u32, Hop>,
    groups: BTreeMap<u32, BTreeSet<u32>>,
    routes: BTreeMap<IpNet, (u8, Option<u32>)>,
    blackholes: BTreeSet<IpNet>,
    links_down: BTreeSet<u32>,
    /// One bit a request: refuse it.
    refuse: u64,
    messages: usize,
}

impl Kernel {
    fn apply(&mut self, request: &Request) -> Result<(), i32> {
        self.messages += 1;
        let refuse = self.refuse & 1 == 1;
        self.refuse >>= 1;
        if refuse {
            return Err(libc::ENOMEM);
        }
        match request {
            Request::Nexthop { id, hop, replace } => {
                let exists = self.hops.contains_key(id) || self.groups.contains_key(id);
                match (exists, replace) {
                    (true, false) => return Err(libc::EEXIST),
                    (false, true) => return Err(libc::ENOENT),
                    _ if self.links_down.contains(&hop.ifindex) => return Err(libc::ENETDOWN),
                    _ => self.hops.insert(*id, *hop),
                };
            }
            Request::Group { id, members, replace } => {
                let exists = self.hops.contains_key(id) || self.groups.contains_key(id);
                match (exists, replace) {
                    (true, false) => return Err(libc::EEXIST),
                    (false, true) => return Err(libc::ENOENT),
                    _ if members.iter().any(|member| !self.hops.contains_key(member)) => {
                        return Err(libc::EINVAL);
                    }
                    _ => self.groups.insert(*id, members.iter().copied().collect()),
                };
            }
            Request::DeleteNexthop { id } => {
                let users = self.routes.values().filter(|(_, used)| *used == Some(*id)).count();
                assert_eq!(users, 0, "group {id} deleted under routes");
                let containing = self.groups.values().filter(|members| members.contains(id)).count();
                assert_eq!(containing, 0, "nexthop {id} deleted under groups");
                if self.hops.remove(id).is_none() && self.groups.remove(id).is_none() {
                    return Err(libc::ENOENT);
                }
            }
            Request::Route { key, group, replace } => {
                if !self.groups.contains_key(group) {
                    return Err(libc::EINVAL);
                }
                match (self.routes.get(&key.prefix), replace) {
                    (Some(_), false) => return Err(libc::EEXIST),
                    (None, true) => return Err(libc::ENOENT),
                    (Some((protocol, _)), true) => {
                        assert_eq!(*protocol, OURS, "a foreign route was replaced")
                    }
                    (None, false) => {}
                }
                self.routes.insert(key.prefix, (key.protocol, Some(*group)));
            }
            Request::DeleteRoute { key, blackhole: false } => {
                if self.routes.get(&key.prefix).is_none_or(|(protocol, _)| *protocol != key.protocol) {
                    return Err(libc::ESRCH);
                }
                self.routes.remove(&key.prefix);
            }
            Request::Blackhole { key } => {
                if !self.blackholes.insert(key.prefix) {
                    return Err(libc::EEXIST);
                }
            }
            Request::DeleteRoute { key, blackhole: true } => {
                if !self.blackholes.remove(&key.prefix) {
                    return Err(libc::ESRCH);
                }
            }
        }
        Ok(())
    }

    /// What the kernel does, silently, when nexthop objects go.
    fn lose(&mut self, gone: impl Fn(u32, &Hop) -> bool) {
        let lost: Vec<u32> =
            self.hops.iter().filter(|(id, hop)| gone(**id, hop)).map(|(id, _)| *id).collect();
        for id in lost {
            self.hops.remove(&id);
            for members in self.groups.values_mut() {
                members.remove(&id);
            }
        }
        self.groups.retain(|_, members| !members.is_empty());
        let groups = &self.groups;
        self.routes.retain(|_, (_, group)| group.is_none_or(|group| groups.contains_key(&group)));
    }

    fn objects(&self) -> Vec<NexthopObject> {
        let object = |id: &u32, hop, members| NexthopObject { id: *id, protocol: OURS, hop, members };
        let hops = self.hops.iter().map(|(id, hop)| object(id, Some(*hop), Default::default()));
        let groups =
            self.groups.iter().map(|(id, members)| object(id, None, members.iter().copied().collect()));
        hops.chain(groups).collect()
    }

    fn route(&self, prefix: &IpNet) -> Option<KernelRoute> {
        let (protocol, nexthop_id) = *self.routes.get(prefix)?;
        Some(KernelRoute { protocol, nexthop_id, ..route(*prefix, 20, RTN_UNICAST) })
    }

    fn snapshot(&self) -> Snapshot {
        let ours = self.routes.iter().filter(|(_, (protocol, _))| *protocol == OURS);
        let mut routes: Vec<KernelRoute> = ours.filter_map(|(prefix, _)| self.route(prefix)).collect();
        routes.extend(self.blackholes.iter().map(|prefix| route(*prefix, BLACKHOLE_METRIC, RTN_BLACKHOLE)));
        Snapshot { nexthops: self.objects(), routes, ..Snapshot::default() }
    }
}

fn route(prefix: IpNet, metric: u32, kind: u8) -> KernelRoute {
    KernelRoute { prefix, table: 254, metric, protocol: LOCAL, kind, tos: 0, nexthop_id: None, ifindex: None }
}

#[derive(Clone, Debug)]
enum Step {
    /// Several changes of the RIB in one batch.
    Want(Vec<(usize, Option<u8>)>),
    Down(usize),
    Settled,
    Link(u32, bool),
    /// `ip route del`, whatever is there.
    DeleteRoute(usize),
    /// `ip route add proto static`, if there is room; (true) `replace`.
    AddForeign(usize, bool),
    /// `ip route replace proto 199`.
    ReplaceAsOurs(usize),
    DeleteObject(usize),
    Refuse(u64),
    Plan(usize),
    Outcome,
    LoseOutcome,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let change = (0..PREFIXES, proptest::option::weighted(0.8, 1u8..(1 << NEXTHOPS)));
    prop_oneof![
        6 => proptest::collection::vec(change, 1..8).prop_map(Step::Want),
        1 => (0..NEXTHOPS).prop_map(Step::Down),
        2 => Just(Step::Settled),
        3 => (1..=LINKS, any::<bool>()).prop_map(|(link, up)| Step::Link(link, up)),
        1 => (0..PREFIXES).prop_map(Step::DeleteRoute),
        1 => (0..PREFIXES, any::<bool>()).prop_map(|(at, replace)| Step::AddForeign(at, replace)),
        1 => (0..PREFIXES).prop_map(Step::ReplaceAsOurs),
        1 => (0..8usize).prop_map(Step::DeleteObject),
        1 => any::<u64>().prop_map(|bits| Step::Refuse(bits & 0x3f)),
        6 => (1..20usize).prop_map(Step::Plan),
        6 => Just(Step::Outcome),
        1 => Just(Step::LoseOutcome),
        1 => Just(Step::Restart),
    ]
}

struct World {
    fib: Fib,
    kernel: Kernel,
    desired: BTreeMap<usize, u8>,
    told: BTreeMap<FibNexthop, bool>,
    /// What the kernel refused, of each batch whose outcome is not known yet.
    flights: VecDeque<Vec<(usize, Refusal)>>,
    now: Instant,
    seq: u64,
    confirmed: u64,
    verify: bool,
    resync: bool,
    holding: bool,
}

impl World {
    fn new() -> Self {
        Self {
            fib: Fib::new(install()),
            kernel: Kernel::default(),
            desired: BTreeMap::new(),
            told: BTreeMap::new(),
            flights: VecDeque::new(),
            now: Instant::now(),
            seq: 0,
            confirmed: 0,
            verify: false,
            resync: false,
            holding: false,
        }
    }

    /// All prefixes over both of two next hops, in the kernel.
    fn two_way() -> Self {
        let mut world = Self::new();
        world.desired = (0..PREFIXES).map(|index| (index, 0b11)).collect();
        world.changes(0..PREFIXES);
        world.settle();
        world
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            self.outcome();
            self.notes();
            self.plan(8192);
        }
    }

    fn changes(&mut self, prefixes: impl IntoIterator<Item = usize>) {
        let change = |index: usize| BestChange {
            id: PrefixId(u32::try_from(index).unwrap()),
            prefix: prefix(index),
            nexthops: self.desired.get(&index).map(|bits| set(*bits)),
        };
        let changes = prefixes.into_iter().map(change).collect();
        self.seq += 1;
        self.fib.changes(self.now, self.seq, changes);
    }

    fn resolve(&mut self) {
        let nexthops: Vec<FibNexthop> = self.fib.nexthops().collect();
        for nexthop in nexthops {
            let hop = hop_of(&nexthop);
            self.fib.resolved(&nexthop, (!self.kernel.links_down.contains(&hop.ifindex)).then_some(hop));
        }
        self.fib.take_unresolved();
    }

    fn notes(&mut self) {
        self.resolve();
        for note in self.fib.take_notes() {
            match note {
                Note::Installed { seq, .. } => {
                    assert!(seq > self.confirmed && seq <= self.seq, "confirmations go forward");
                    self.confirmed = seq;
                }
                Note::NexthopChanged(nexthop, reachable) => {
                    self.told.insert(nexthop, reachable);
                }
                Note::Resend => {
                    self.fib.resent(false);
                    let all: Vec<usize> = self.desired.keys().copied().collect();
                    self.changes(all);
                    self.fib.resent(true);
                }
                Note::Reassert(named) => {
                    let index = (0..PREFIXES).find(|index| prefix(*index) == named).unwrap();
                    if self.desired.contains_key(&index) {
                        self.changes([index]);
                    }
                }
                Note::Inspect(prefix) => {
                    let route = self.kernel.route(&prefix);
                    self.fib.inspected(prefix, route.as_ref());
                }
                Note::Verify => self.verify = true,
                Note::Resync => self.resync = true,
            }
        }
        self.resolve();
    }

    fn plan(&mut self, limit: usize) {
        self.notes();
        if !self.flights.is_empty() {
            if !self.resync && !self.verify {
                let requests = self.fib.plan_ahead(limit);
                self.write(&requests);
            }
            return;
        }
        if std::mem::take(&mut self.resync) {
            self.fib.restart(install(), &self.kernel.snapshot());
            return self.notes();
        }
        if std::mem::take(&mut self.verify) {
            self.fib.reconcile(&self.kernel.objects());
        }
        let requests = self.fib.plan(self.now, limit);
        self.write(&requests);
    }

    fn write(&mut self, requests: &[Request]) {
        if requests.is_empty() {
            return;
        }
        let mut refused = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            if let Err(errno) = self.kernel.apply(request) {
                refused.push((index, Refusal { errno, text: String::new() }));
            }
        }
        self.flights.push_back(refused);
    }

    fn outcome(&mut self) {
        if let Some(refused) = self.flights.pop_front() {
            self.fib.applied(self.now, Some(refused));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Want(changes) => {
                let changes: BTreeMap<usize, Option<u8>> = changes.into_iter().collect();
                for (index, bits) in &changes {
                    match bits {
                        Some(bits) => self.desired.insert(*index, *bits),
                        None => self.desired.remove(index),
                    };
                }
                self.changes(changes.into_keys());
            }
            Step::Down(index) => {
                self.holding = true;
                self.fib.nexthops_down(&[nexthop(index)]);
            }
            Step::Settled => {
                self.holding = false;
                self.fib.nexthops_settled();
            }
            Step::Link(link, up) => self.link(link, up),
            Step::DeleteRoute(index) => {
                if let Some(route) = self.kernel.route(&prefix(index)) {
                    self.kernel.routes.remove(&route.prefix);
                    self.fib.route_gone(self.now, &route, "test");
                }
            }
            Step::AddForeign(index, replace) => self.meddle(index, replace, FOREIGN),
            Step::ReplaceAsOurs(index) => {
                if self.kernel.routes.get(&prefix(index)).is_some_and(|(protocol, _)| *protocol == OURS) {
                    self.meddle(index, true, OURS);
                }
            }
            Step::DeleteObject(nth) => self.delete_object(nth),
            Step::Refuse(bits) => self.kernel.refuse = bits,
            Step::Plan(limit) => self.plan(limit),
            Step::Outcome => self.outcome(),
            Step::LoseOutcome => {
                if self.flights.pop_front().is_some() {
                    self.fib.applied(self.now, None);
                }
            }
            Step::Restart => self.resync = true,
        }
        self.notes();
    }

    fn meddle(&mut self, index: usize, replace: bool, protocol: u8) {
        let prefix = prefix(index);
        if self.kernel.routes.contains_key(&prefix) && !replace {
            return;
        }
        if self.kernel.routes.insert(prefix, (protocol, None)).is_some() {
            let route = self.kernel.route(&prefix).unwrap();
            self.fib.route_replaced(self.now, &route, "test");
        }
    }

    fn delete_object(&mut self, nth: usize) {
        let ids: Vec<u32> = self.kernel.hops.keys().chain(self.kernel.groups.keys()).copied().collect();
        let Some(id) = ids.get(nth).copied() else { return };
        if self.kernel.groups.remove(&id).is_none() {
            self.kernel.lose(|lost, _| lost == id);
        } else {
            self.kernel.lose(|_, _| false);
        }
        self.fib.nexthop_gone(self.now, id, "test");
    }

    fn link(&mut self, link: u32, up: bool) {
        if up && self.kernel.links_down.remove(&link) {
            self.fib.try_again(self.now);
        } else if !up && self.kernel.links_down.insert(link) {
            self.kernel.lose(|_, hop| hop.ifindex == link);
            self.fib.link_lost(link);
            self.verify = true;
        }
    }

    /// Lets everything come to rest, with nothing refused and no one meddling.
    fn heal(&mut self) {
        self.kernel.refuse = 0;
        for link in 1..=LINKS {
            self.link(link, true);
        }
        for index in 0..PREFIXES {
            let foreign = self.kernel.route(&prefix(index)).filter(|route| route.protocol == FOREIGN);
            if let Some(route) = foreign {
                self.kernel.routes.remove(&route.prefix);
                self.fib.route_gone(self.now, &route, "test");
            }
        }
        if self.holding {
            self.step(Step::Settled);
        }
        self.fib.converged();
        for _ in 0..400 {
            self.outcome();
            self.notes();
            self.plan(50);
            self.now += Duration::from_secs(1);
        }
        self.outcome();
        self.notes();
    }

    fn check(&self) {
        let status = self.fib.status(self.now);
        for index in 0..PREFIXES {
            let wanted: Option<BTreeSet<Hop>> =
                self.desired.get(&index).map(|bits| set(*bits).iter().map(hop_of).collect());
            assert_eq!(self.hops_of(index), wanted, "prefix {index}: {status:#?}");
        }
        let used: BTreeSet<u32> = self.kernel.routes.values().filter_map(|(_, group)| *group).collect();
        assert_eq!(used, self.kernel.groups.keys().copied().collect(), "every group is used");
        let members: BTreeSet<u32> = self.kernel.groups.values().flatten().copied().collect();
        assert_eq!(members, self.kernel.hops.keys().copied().collect(), "every nexthop is used");
        assert_eq!(self.confirmed, self.seq, "everything is confirmed");
        assert!(self.told.values().all(|reachable| *reachable), "next hops are back: {:?}", self.told);
        assert!(status.converged, "{status:#?}");
        assert_eq!(status.routes_v4 + status.routes_v6, self.kernel.routes.len() as u64, "{status:#?}");
    }

    fn hops_of(&self, index: usize) -> Option<BTreeSet<Hop>> {
        let (_, group) = self.kernel.routes.get(&prefix(index))?;
        let members = self.kernel.groups.get(&(*group)?)?;
        Some(members.iter().filter_map(|id| self.kernel.hops.get(id).copied()).collect())
    }
}

fn hop_of(nexthop: &FibNexthop) -> Hop {
    Hop { gateway: nexthop.address, ifindex: nexthop.ifindex.unwrap(), onlink: false }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_installed_becomes_desired(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.heal();
        world.check();
    }
}

#[test]
fn a_set_that_all_routes_leave_costs_one_group_replace() {
    let mut world = World::two_way();
    let before = world.kernel.messages;
    world.desired = (0..PREFIXES).map(|index| (index, 0b01)).collect();
    world.changes(0..PREFIXES);
    world.settle();
    // The group, and the nexthop nobody uses any more.
    assert_eq!(world.kernel.messages - before, 2);
    world.fib.converged();
    world.settle();
    world.check();
}

#[test]
fn a_neighbour_that_goes_is_out_of_every_group_before_the_changes_come() {
    let mut world = World::two_way();
    let before = world.kernel.messages;
    world.step(Step::Down(1));
    world.settle();
    assert!(world.kernel.groups.values().all(|members| members.len() == 1));
    // The changes come in pieces: none of them costs a message.
    for index in 0..PREFIXES {
        world.desired.insert(index, 0b01);
        world.changes([index]);
        world.settle();
    }
    world.step(Step::Settled);
    world.settle();
    assert_eq!(world.kernel.messages - before, 2);
    world.fib.converged();
    world.settle();
    world.check();
}

#[test]
fn routes_found_at_start_are_claimed_without_a_message_and_the_rest_is_swept() {
    let mut world = World::new();
    world.kernel = World::two_way().kernel;
    world.kernel.messages = 0;
    world.fib.adopt(&world.kernel.snapshot());
    world.desired = (0..PREFIXES - 1).map(|index| (index, 0b11)).collect();
    world.changes(0..PREFIXES - 1);
    world.settle();
    assert_eq!(world.kernel.messages, 0, "claimed");
    assert_eq!(world.fib.status(world.now).unclaimed, 1);
    world.fib.converged();
    world.settle();
    assert_eq!(world.kernel.messages, 1, "the one nobody wants is removed");
    world.check();
}

#[test]
fn blackholes_are_level_triggered_and_come_back() {
    let mut world = World::new();
    world.kernel.blackholes.insert(prefix(1));
    world.fib.adopt(&world.kernel.snapshot());
    world.settle();
    assert!(world.kernel.blackholes.contains(&prefix(1)), "kept until someone says what is wanted");
    world.fib.set_blackholes([prefix(2), prefix(3)].into());
    world.settle();
    assert_eq!(world.kernel.blackholes, [prefix(2), prefix(3)].into());
    world.kernel.blackholes.remove(&prefix(2));
    let gone = route(prefix(2), BLACKHOLE_METRIC, RTN_BLACKHOLE);
    world.fib.route_gone(world.now, &gone, "ip (process 7)");
    world.settle();
    assert_eq!(world.kernel.blackholes, [prefix(2), prefix(3)].into());
    assert_eq!(world.fib.status(world.now).repairs[0].who, "ip (process 7)");
}

#[test]
fn a_route_of_ours_under_a_former_metric_is_removed_with_the_sweep() {
    let mut world = World::new();
    world.kernel.routes.insert(prefix(1), (OURS, None));
    let mut snapshot = world.kernel.snapshot();
    snapshot.routes[0].metric = 21;
    world.fib.adopt(&snapshot);
    assert_eq!(world.fib.plan(world.now, 10), []);
    world.fib.converged();
    let key = RouteKey { prefix: prefix(1), table: 254, metric: 21, protocol: OURS };
    assert_eq!(world.fib.plan(world.now, 10), [Request::DeleteRoute { key, blackhole: false }]);
}

#[test]
fn a_blackhole_of_ours_under_a_former_protocol_makes_room_for_the_new_one() {
    let mut world = World::new();
    world.kernel.blackholes.insert(prefix(1));
    world.fib.adopt(&world.kernel.snapshot());
    world.fib.set_blackholes([prefix(1)].into());
    world.settle();
    let install = Install { protocol: OURS + 10, local_protocol: LOCAL + 10, ..install() };
    world.fib.restart(install, &world.kernel.snapshot());
    let key = |protocol| RouteKey { prefix: prefix(1), table: 254, metric: BLACKHOLE_METRIC, protocol };
    assert_eq!(
        world.fib.plan(world.now, 10),
        [
            Request::DeleteRoute { key: key(LOCAL), blackhole: true },
            Request::Blackhole { key: key(LOCAL + 10) }
        ]
    );
}

#[test]
fn a_route_the_dump_names_twice_is_adopted_once_and_not_swept() {
    let hop = Hop { gateway: nexthop(0).address, ifindex: 1, onlink: false };
    let object = |id, hop: Option<Hop>, members: &[u32]| NexthopObject {
        id,
        protocol: OURS,
        hop,
        members: members.iter().copied().collect(),
    };
    let route = |index, metric| KernelRoute {
        prefix: prefix(index),
        table: 254,
        metric,
        protocol: OURS,
        kind: RTN_UNICAST,
        tos: 0,
        nexthop_id: Some(2),
        ifindex: None,
    };
    let snapshot = Snapshot {
        nexthops: vec![object(1, Some(hop), &[]), object(2, None, &[1])],
        // In use and under a former metric, both twice; and one with a type of service, which we never make.
        routes: vec![
            route(1, 20),
            route(2, 30),
            route(1, 20),
            route(2, 30),
            KernelRoute { tos: 8, ..route(4, 20) },
        ],
        ..Snapshot::default()
    };
    let mut fib = Fib::new(install());
    let now = Instant::now();
    fib.adopt(&snapshot);
    assert_eq!(fib.status(now).routes_v4, 2);
    fib.changes(now, 1, vec![BestChange { id: PrefixId(0), prefix: prefix(1), nexthops: Some(set(1)) }]);
    for nexthop in fib.take_unresolved() {
        fib.resolved(&nexthop, Some(hop));
    }
    fib.converged();
    let requests = fib.plan(now, 100);
    let key = RouteKey { prefix: prefix(2), table: 254, metric: 30, protocol: OURS };
    assert_eq!(requests, [Request::DeleteRoute { key, blackhole: false }]);
}

#[test]
fn of_two_batches_on_their_way_each_is_confirmed_with_its_own_outcome() {
    let mut world = World::two_way();
    let before = world.confirmed;
    for index in [1, 2] {
        world.desired.remove(&index);
        world.changes([index]);
        world.plan(1);
        world.notes();
    }
    assert_eq!((world.flights.len(), world.confirmed), (2, before));
    for landed in [1, 2] {
        world.outcome();
        world.notes();
        assert_eq!(world.confirmed, before + landed);
    }
    world.fib.converged();
    world.settle();
    world.check();
}

#[test]
fn a_route_that_another_kept_out_counts_as_foreign_until_it_is_in_the_kernel() {
    let mut world = World::new();
    world.meddle(1, false, FOREIGN);
    world.desired.insert(1, 0b01);
    world.changes([1]);
    world.settle();
    let counts = |world: &World| {
        let status = world.fib.status(world.now);
        (status.foreign_count, status.pending, status.routes_v4)
    };
    assert_eq!(counts(&world), (1, 0, 0));
    let foreign = world.kernel.route(&prefix(1)).unwrap();
    world.kernel.routes.remove(&foreign.prefix);
    world.fib.route_gone(world.now, &foreign, "ip (process 7)");
    assert_eq!(counts(&world), (1, 0, 0), "there is room for it, but it is not there");
    world.plan(10);
    assert_eq!(counts(&world), (1, 0, 0), "on its way");
    world.outcome();
    assert_eq!(counts(&world), (0, 0, 1));
}

#[test]
fn what_waits_for_others_neither_delays_the_end_nor_stops_the_comparison() {
    let mut fib = Fib::new(install());
    let now = Instant::now();
    fib.adopt(&Snapshot::default());
    fib.changes(now, 1, vec![BestChange { id: PrefixId(0), prefix: prefix(1), nexthops: Some(set(1)) }]);
    for nexthop in fib.take_unresolved() {
        fib.resolved(&nexthop, None);
    }
    assert!(!fib.is_quiet(), "it has not had its turn");
    assert!(fib.plan(now, 100).is_empty());
    assert!(fib.is_quiet(), "it waits for a next hop that leads nowhere");
    assert!(!fib.status(now).converged);
    let found_on_others = KernelRoute {
        prefix: prefix(2),
        table: 254,
        metric: BLACKHOLE_METRIC,
        protocol: LOCAL,
        kind: RTN_BLACKHOLE,
        tos: 0,
        nexthop_id: None,
        ifindex: None,
    };
    assert_eq!(fib.audit(&[]), 0);
    assert_eq!(fib.audit(&[found_on_others]), 1, "blackholes are compared too");
}
