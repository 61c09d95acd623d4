//! Two sessions and a virtual network between them: no socket, no runtime, no real time.
//!
//! `World` carries what the sessions send over modelled TCP connections (an attempt, what the kernel accepts
//! before the program does, streams in order, FIN). The order in which streams deliver is free: either every
//! order is tried, or the clock and a seed decide.

mod session_support;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use api::desired::{Passive, Peer, RestartMode};
use bgp_speaker::session::{
    Action, ConnId, Direction, DownReason, Event, LocalSpeaker, Session, State, StopReason,
};
use bgp_speaker::wire::{
    ErrorCode, Message, MessageError, Notification, Open, RefreshKind, RouteRefresh, Update,
};
use proptest::prelude::*;
use session_support::{V4, V6, endpoints, peer, secs, speaker};

#[derive(Clone, Debug)]
enum Item {
    Syn,
    Accept,
    SynAck,
    Refused,
    Message(Message),
    Fin,
}

#[derive(Clone, Debug)]
struct Node {
    session: Session,
    attempt: Option<u64>,
    open: BTreeSet<u64>,
    /// What the session told its router: ups, downs, sweeps.
    told: Vec<Action>,
}

/// A stream: the connection's number, and the node it leads to.
type Stream = (u64, usize);

#[derive(Clone, Debug)]
struct World {
    now: Instant,
    nodes: [Node; 2],
    streams: BTreeMap<Stream, VecDeque<(Instant, Item)>>,
    next: u64,
    /// Nothing arrives while the link is cut; streams go on afterwards as TCP does.
    cut: bool,
    seed: u64,
}

impl World {
    fn new(configs: [Peer; 2], locals: [LocalSpeaker; 2], seed: u64) -> Self {
        let [config_a, config_b] = configs;
        let [local_a, local_b] = locals;
        let node = |config, local, seed| Node {
            session: Session::new(config, local, seed),
            attempt: None,
            open: BTreeSet::new(),
            told: Vec::new(),
        };
        Self {
            now: Instant::now(),
            nodes: [node(config_a, local_a, seed), node(config_b, local_b, seed + 1)],
            streams: BTreeMap::new(),
            next: 1,
            cut: false,
            seed: seed | 1,
        }
    }

    /// AS 65001 with identifier 10.0.0.1 and AS 65002 with 10.0.0.2, both started.
    fn started(change: impl Fn(usize, &mut Peer)) -> Self {
        let mut configs = [peer(65001, 65002), peer(65002, 65001)];
        for (index, config) in configs.iter_mut().enumerate() {
            change(index, config);
        }
        let mut world = Self::new(configs, [speaker(1), speaker(2)], 3);
        world.event(0, Event::Start);
        world.event(1, Event::Start);
        world
    }

    fn push(&mut self, stream: Stream, item: Item) {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let at = self.now + Duration::from_micros(100 + (self.seed >> 40) % 20_000);
        let queue = self.streams.entry(stream).or_default();
        let at = queue.back().map_or(at, |(last, _)| at.max(*last));
        queue.push_back((at, item));
    }

    fn event(&mut self, node: usize, event: Event) {
        let actions = self.nodes[node].session.handle(self.now, event);
        self.perform(node, actions.into_vec());
    }

    fn perform(&mut self, node: usize, actions: Vec<Action>) {
        let other = 1 - node;
        for action in actions {
            match action {
                Action::Connect => {
                    let id = self.next;
                    self.next += 1;
                    self.nodes[node].attempt = Some(id);
                    self.push((id, other), Item::Syn);
                }
                Action::AbortConnect => self.nodes[node].attempt = None,
                Action::Close(ConnId(id)) => {
                    assert!(self.nodes[node].open.remove(&id), "closed what is not open");
                    self.push((id, other), Item::Fin);
                }
                Action::Send(ConnId(id), message) => {
                    assert!(self.nodes[node].open.contains(&id), "sent on what is not open");
                    self.push((id, other), Item::Message(message));
                    // The socket buffer takes it, unless the peer cannot acknowledge.
                    if !self.cut {
                        self.event(node, Event::Wrote(ConnId(id)));
                    }
                }
                Action::UseCodec(..) | Action::Deliver(_) | Action::Refresh(_) => {}
                told => self.nodes[node].told.push(told),
            }
        }
    }

    /// Delivers the first item of a stream.
    fn deliver(&mut self, stream: Stream) {
        let Some((_, item)) = self.streams.get_mut(&stream).and_then(VecDeque::pop_front) else { return };
        if self.streams.get(&stream).is_some_and(VecDeque::is_empty) {
            self.streams.remove(&stream);
        }
        let (id, node) = stream;
        let back = (id, 1 - node);
        let is_open = self.nodes[node].open.contains(&id);
        match item {
            Item::Syn => {
                self.push(stream, Item::Accept);
                self.push(back, Item::SynAck);
            }
            Item::Accept => {
                self.nodes[node].open.insert(id);
                self.event(node, Event::Connected(ConnId(id), Direction::Incoming, endpoints()));
            }
            Item::SynAck if self.nodes[node].attempt == Some(id) => {
                self.nodes[node].attempt = None;
                self.nodes[node].open.insert(id);
                self.event(node, Event::Connected(ConnId(id), Direction::Outgoing, endpoints()));
            }
            Item::SynAck => self.push(back, Item::Fin),
            Item::Refused if self.nodes[node].attempt == Some(id) => {
                self.nodes[node].attempt = None;
                self.event(node, Event::ConnectFailed("connection refused".into()));
            }
            Item::Message(message) if is_open => self.event(node, Event::Message(ConnId(id), message)),
            Item::Fin if is_open => {
                self.nodes[node].open.remove(&id);
                self.event(node, Event::Closed(ConnId(id), "end of stream".into()));
            }
            Item::Refused | Item::Message(_) | Item::Fin => {}
        }
    }

    /// Lets the clock run, delivering and expiring in order.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..1_000_000 {
            let arrival = self
                .streams
                .iter()
                .filter(|_| !self.cut)
                .filter_map(|(stream, queue)| Some((queue.front()?.0, *stream)))
                .min();
            let timer = (0..2).filter_map(|n| Some((self.nodes[n].session.deadline()?, n))).min();
            match (arrival, timer) {
                (Some((at, stream)), timer) if at <= end && timer.is_none_or(|(t, _)| at <= t) => {
                    self.now = self.now.max(at);
                    self.deliver(stream);
                }
                (_, Some((at, node))) if at <= end => {
                    self.now = self.now.max(at);
                    self.event(node, Event::Deadline);
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("the session spins");
    }

    /// The process ends; with `fin` its kernel closes its connections, without it the machine lost power.
    fn kill(&mut self, node: usize, fin: bool, config: Peer, local: LocalSpeaker) {
        let connections = std::mem::take(&mut self.nodes[node].open);
        self.streams.retain(|(_, to), _| *to != node);
        for id in connections {
            if fin {
                self.push((id, 1 - node), Item::Fin);
            }
        }
        if let Some(id) = self.nodes[1 - node].attempt {
            self.push((id, 1 - node), Item::Refused);
        }
        self.nodes[node].attempt = None;
        self.nodes[node].told.clear();
        self.nodes[node].session = Session::new(config, local, self.seed);
    }

    fn is_one_session(&self) -> bool {
        let [a, b] = &self.nodes;
        a.session.state() == State::Established
            && b.session.state() == State::Established
            && a.open.len() == 1
            && a.open == b.open
            && a.attempt.is_none()
            && b.attempt.is_none()
    }

    fn downs(&self, node: usize) -> Vec<&bgp_speaker::session::Down> {
        let told = self.nodes[node].told.iter();
        told.filter_map(|a| match a {
            Action::Down(down) => Some(down),
            _ => None,
        })
        .collect()
    }

    fn sweeps(&self, node: usize) -> usize {
        self.nodes[node].told.iter().filter(|a| matches!(a, Action::SweepStale(_))).count()
    }

    fn fingerprint(&self) -> u64 {
        // The seed only shifts arrival times, which play no part when every order is tried.
        let order: Vec<_> =
            self.streams.iter().map(|(s, q)| (s, q.iter().map(|i| &i.1).collect::<Vec<_>>())).collect();
        let mut hasher = DefaultHasher::new();
        format!("{:?} {order:?}", self.nodes).hash(&mut hasher);
        hasher.finish()
    }
}

/// Follows every order of deliveries to its end. Returns how many different situations there were.
fn every_order(world: World, check: &impl Fn(&World)) -> usize {
    let mut seen = HashSet::new();
    let mut open = vec![world];
    while let Some(world) = open.pop() {
        if !seen.insert(world.fingerprint()) {
            continue;
        }
        if world.streams.is_empty() {
            check(&world);
        }
        for stream in world.streams.keys() {
            let mut next = world.clone();
            next.deliver(*stream);
            open.push(next);
        }
    }
    seen.len()
}

#[test]
fn simultaneous_opens_end_in_one_session_in_every_order_without_a_flap() {
    let pairs = [
        ("higher identifier starts", [speaker(2), speaker(1)], [65001, 65002]),
        ("lower identifier starts", [speaker(1), speaker(2)], [65001, 65002]),
        ("equal identifiers", [speaker(5), speaker(5)], [65001, 65002]),
        ("iBGP", [speaker(1), speaker(2)], [65001, 65001]),
    ];
    for (name, locals, asns) in pairs {
        for mode in [RestartMode::Disabled, RestartMode::Restarter] {
            let mut configs = [peer(asns[0], asns[1]), peer(asns[1], asns[0])];
            for config in &mut configs {
                config.graceful_restart.mode = mode;
            }
            let mut world = World::new(configs, locals.clone(), 5);
            world.event(0, Event::Start);
            world.event(1, Event::Start);
            let situations = every_order(world, &|end| {
                assert!(end.is_one_session(), "{name}, {mode:?}: {end:#?}");
                for node in 0..2 {
                    assert!(end.downs(node).is_empty(), "{name}, {mode:?}: a session flapped");
                    assert_eq!(end.nodes[node].told.len(), 1, "{name}, {mode:?}: Up once");
                }
            });
            assert!(situations > 100, "{name}: only {situations} situations");
        }
    }
}

#[test]
fn a_passive_side_and_a_side_that_refuses_end_in_one_session_in_every_order() {
    for passive in [Passive::Always, Passive::Never] {
        let world = World::started(|node, config| {
            if node == 1 {
                config.passive = passive;
            }
        });
        let situations = every_order(world, &|end| {
            assert!(end.is_one_session(), "{passive:?}: {end:#?}");
            assert!(end.downs(0).is_empty() && end.downs(1).is_empty(), "{passive:?}");
        });
        assert!(situations > 5, "{passive:?}: only {situations} situations");
    }
}

#[test]
fn a_cut_link_ends_both_sides_by_hold_time_and_both_come_back() {
    for (hold_a, hold_b, hold) in [(90, 90, 90), (9, 90, 9), (90, 3, 3)] {
        let mut world = World::started(|node, config| config.timers.hold = secs([hold_a, hold_b][node]));
        world.run(secs(60));
        assert!(world.is_one_session());
        world.cut = true;
        let cut = world.now;
        // The last message may have come up to a keepalive interval before the cut.
        world.run(secs(hold) * 2 / 3 - secs(1));
        assert_eq!([0, 1].map(|n| world.downs(n).len()), [0, 0], "too early for hold {hold}");
        world.run(secs(hold) / 3 + secs(2));
        for node in 0..2 {
            let downs = world.downs(node);
            let [down] = downs.as_slice() else { panic!("{downs:?}") };
            let expired = Notification { code: ErrorCode::HoldTimerExpired, subcode: 0, data: vec![] };
            assert_eq!(down.reason, DownReason::NotificationSent(expired));
            let (_, when) = world.nodes[node].session.last_down().expect("it went down");
            assert!(when <= cut + secs(hold) + secs(1));
        }
        world.run(secs(600));
        world.cut = false;
        world.run(secs(70));
        assert!(world.is_one_session(), "hold {hold}: {:#?}", world.nodes);
    }
}

#[test]
fn hold_time_zero_stays_up_through_a_cut() {
    let mut world = World::started(|node, config| {
        if node == 0 {
            config.timers.hold = Duration::ZERO;
        }
    });
    world.run(secs(10));
    world.cut = true;
    world.run(secs(100_000));
    assert!(world.is_one_session());
}

#[test]
fn a_session_stays_up_for_a_day() {
    let mut world = World::started(|_, _| {});
    world.run(secs(86_400));
    assert!(world.is_one_session());
    assert!(world.downs(0).is_empty() && world.downs(1).is_empty());
}

fn restarted() -> LocalSpeaker {
    LocalSpeaker { restarting: true, ..speaker(2) }
}

#[test]
fn a_restarted_process_finds_its_routes_kept_until_end_of_rib() {
    let mut world = World::started(|_, _| {});
    world.run(secs(100));
    world.kill(1, true, peer(65002, 65001), restarted());
    world.run(secs(10));
    assert_eq!(world.downs(0)[0].retain, [V4, V6]);
    world.event(1, Event::Start);
    world.run(secs(5));
    assert!(world.is_one_session());
    let negotiated = world.nodes[0].session.negotiated().and_then(|n| n.graceful_restart.clone());
    assert!(negotiated.is_some_and(|gr| gr.restarting));
    assert_eq!(world.sweeps(0), 0, "still waiting for End-of-RIB");
    let id = *world.nodes[1].open.first().expect("one connection");
    let end_of_rib = Update { end_of_rib: Some(V4), ..Update::default() };
    world.push((id, 0), Item::Message(Message::Update(end_of_rib)));
    world.run(secs(1));
    assert_eq!(world.nodes[0].told.last(), Some(&Action::SweepStale(V4)));
    assert_eq!(world.sweeps(0), 1);
}

#[test]
fn a_restarted_process_that_lost_its_routes_has_them_swept_at_once() {
    let mut world = World::started(|_, _| {});
    world.run(secs(100));
    let empty = LocalSpeaker { forwarding_preserved: vec![], ..restarted() };
    world.kill(1, true, peer(65002, 65001), empty);
    world.event(1, Event::Start);
    world.run(secs(5));
    assert!(world.is_one_session());
    assert_eq!(world.sweeps(0), 2);
}

#[test]
fn a_machine_that_lost_power_takes_its_session_over_when_it_returns() {
    let mut world = World::started(|_, _| {});
    world.run(secs(100));
    world.kill(1, false, peer(65002, 65001), restarted());
    world.event(1, Event::Start);
    world.run(secs(5));
    assert!(world.is_one_session(), "long before the Hold Time: {:#?}", world.nodes);
    assert_eq!(world.downs(0)[0].reason, DownReason::Replaced);
    assert_eq!(world.downs(0)[0].retain, [V4, V6]);
}

#[test]
fn a_restart_is_back_in_seconds_without_graceful_restart_too() {
    let mut world = World::started(|_, config| config.graceful_restart.mode = RestartMode::Disabled);
    world.run(secs(100));
    world.kill(1, true, peer(65002, 65001), speaker(2));
    world.event(1, Event::Start);
    world.run(secs(2));
    assert!(world.is_one_session(), "{:#?}", world.nodes);
    assert_eq!(world.downs(0)[0].retain, []);
}

#[derive(Clone, Debug)]
enum Trouble {
    Cut(u64),
    Kill(usize, bool),
    Reset(usize),
    Link(usize),
    Pause(usize, u64),
    Quiet(u64),
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        (0..400u64).prop_map(Trouble::Cut),
        (0..2usize, any::<bool>()).prop_map(|(n, fin)| Trouble::Kill(n, fin)),
        (0..2usize).prop_map(Trouble::Reset),
        (0..2usize).prop_map(Trouble::Link),
        (0..2usize, 0..100u64).prop_map(|(n, t)| Trouble::Pause(n, t)),
        (0..40_000u64).prop_map(Trouble::Quiet),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn after_any_trouble_there_is_one_session(
        seed in any::<u32>(),
        restart in any::<bool>(),
        troubles in proptest::collection::vec(trouble(), 0..12),
    ) {
        let config = |node: usize| {
            let mut config = if node == 0 { peer(65001, 65002) } else { peer(65002, 65001) };
            if !restart { config.graceful_restart.mode = RestartMode::Disabled; }
            config
        };
        let local = |node: usize| speaker(u8::try_from(node + 1).unwrap());
        let mut world = World::new([config(0), config(1)], [local(0), local(1)], seed.into());
        world.event(0, Event::Start);
        world.event(1, Event::Start);
        for trouble in troubles {
            match trouble {
                Trouble::Cut(time) => {
                    world.cut = true;
                    world.run(secs(time));
                    world.cut = false;
                }
                Trouble::Kill(node, fin) => {
                    world.kill(node, fin, config(node), local(node));
                    world.event(node, Event::Start);
                }
                Trouble::Reset(node) => world.event(node, Event::Stop(StopReason::AdminReset(String::new()))),
                Trouble::Link(node) => world.event(node, Event::Stop(StopReason::LinkDown("eth0".into()))),
                Trouble::Pause(node, time) => {
                    world.event(node, Event::Stop(StopReason::AdminShutdown("rest".into())));
                    world.run(secs(time));
                    world.event(node, Event::Start);
                }
                Trouble::Quiet(milliseconds) => world.run(Duration::from_millis(milliseconds)),
            }
        }
        // A half-open OpenSent lasts four minutes, IdleHold at most one.
        world.run(secs(600));
        prop_assert!(world.is_one_session(), "{:#?}", world.nodes);
    }
}

fn message() -> impl Strategy<Value = Message> {
    let open = || Open { asn: 65002, hold_time: 90, router_id: [10, 0, 0, 2].into(), capabilities: vec![] };
    let notification = |(code, subcode, data)| Message::Notification(Notification { code, subcode, data });
    let code = prop_oneof![Just(ErrorCode::Open), Just(ErrorCode::Cease), Just(ErrorCode::Unknown(9))];
    prop_oneof![
        4 => Just(Message::Open(open())),
        1 => (0..4u16).prop_map(move |hold_time| Message::Open(Open { hold_time, ..open() })),
        6 => Just(Message::Keepalive),
        2 => prop_oneof![Just(None), Just(Some(V4)), Just(Some(V6))]
            .prop_map(|end_of_rib| Message::Update(Update { end_of_rib, ..Update::default() })),
        1 => Just(Message::RouteRefresh(RouteRefresh { afi: 1, safi: 1, kind: RefreshKind::Request })),
        1 => (code, 0..12u8, proptest::collection::vec(any::<u8>(), 0..9)).prop_map(notification),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let id = || (1..6u64).prop_map(ConnId);
    let direction = prop_oneof![Just(Direction::Outgoing), Just(Direction::Incoming)];
    let max_prefix = |restart| StopReason::MaxPrefix { family: V4, limit: 1, restart };
    let stop = prop_oneof![
        Just(StopReason::AdminShutdown("x".into())),
        Just(StopReason::Deconfigured),
        Just(StopReason::AdminReset("x".into())),
        Just(StopReason::ConfigurationChange),
        any::<bool>().prop_map(max_prefix),
        Just(StopReason::OutOfResources),
        Just(StopReason::ProcessStops),
        Just(StopReason::LinkDown("x".into())),
    ];
    let malformed = MessageError { code: ErrorCode::Update, subcode: 1, data: vec![] };
    prop_oneof![
        3 => Just(Event::Start),
        1 => stop.prop_map(Event::Stop),
        4 => (id(), direction).prop_map(|(id, d)| Event::Connected(id, d, endpoints())),
        2 => Just(Event::ConnectFailed("x".into())),
        2 => id().prop_map(|id| Event::Closed(id, "x".into())),
        12 => (id(), message()).prop_map(|(id, message)| Event::Message(id, message)),
        1 => id().prop_map(move |id| Event::Malformed(id, malformed.clone())),
        1 => id().prop_map(Event::Wrote),
        1 => Just(Event::RequestRefresh),
        6 => Just(Event::Deadline),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    /// Ups and downs alternate, no more than two connections, and whoever is wanted up waits for something.
    #[test]
    fn no_sequence_of_events_strands_a_session(
        seed in any::<u64>(),
        passive in prop_oneof![Just(Passive::Auto), Just(Passive::Always), Just(Passive::Never)],
        events in proptest::collection::vec((event(), 0..20_000u64), 1..80),
    ) {
        let mut session = Session::new(Peer { passive, ..peer(65001, 65002) }, speaker(1), seed);
        let mut now = Instant::now();
        let (mut wanted, mut attempt, mut up) = (false, false, false);
        let mut open = HashSet::new();
        let mut number = 0;
        for (event, wait) in events {
            now += Duration::from_millis(wait);
            // Numbers are never reused: a Connected gets a fresh one, the others hit recent ones.
            let recent = |ConnId(id): ConnId| ConnId((number + 1_u64).saturating_sub(id));
            let event = match event {
                Event::Connected(_, Direction::Outgoing, _) if !attempt => continue,
                Event::Connected(_, direction, endpoints) => {
                    number += 1;
                    attempt &= direction == Direction::Incoming;
                    open.insert(ConnId(number));
                    Event::Connected(ConnId(number), direction, endpoints)
                }
                Event::ConnectFailed(_) if !attempt => continue,
                Event::ConnectFailed(text) => {
                    attempt = false;
                    Event::ConnectFailed(text)
                }
                Event::Closed(id, text) => {
                    open.remove(&recent(id));
                    Event::Closed(recent(id), text)
                }
                Event::Message(id, _) | Event::Malformed(id, _) if !open.contains(&recent(id)) => continue,
                Event::Message(id, message) => Event::Message(recent(id), message),
                Event::Malformed(id, error) => Event::Malformed(recent(id), error),
                Event::Deadline => {
                    now = now.max(session.deadline().unwrap_or(now));
                    Event::Deadline
                }
                other => other,
            };
            match &event {
                Event::Start => wanted = true,
                Event::Stop(StopReason::AdminShutdown(_) | StopReason::Deconfigured | StopReason::ProcessStops
                    | StopReason::MaxPrefix { restart: false, .. }) => wanted = false,
                _ => {}
            }
            let expires = matches!(event, Event::Deadline);
            for action in session.handle(now, event) {
                match action {
                    Action::Connect => attempt = true,
                    Action::AbortConnect => attempt = false,
                    Action::Close(id) => prop_assert!(open.remove(&id), "closed twice: {:?}", id),
                    Action::Send(id, _) => prop_assert!(open.contains(&id), "sent on a closed {:?}", id),
                    Action::Up(..) => prop_assert!(!std::mem::replace(&mut up, true), "up twice"),
                    Action::Down(_) => prop_assert!(std::mem::replace(&mut up, false), "down twice"),
                    Action::Deliver(_) => prop_assert!(up, "a route while down"),
                    _ => {}
                }
            }
            prop_assert!(open.len() <= 2, "{:?}", open);
            prop_assert_eq!(up, session.state() == State::Established);
if expires {
                prop_assert!(session.deadline().is_none_or(|at| at > now), "an expired timer is not over");
            }
            let waits_for_peer = passive == Passive::Always && session.state() == State::Active;
            let over_limit = session.state() == State::Idle && session.deadline().is_none();
            if wanted && !up && !waits_for_peer && !over_limit {
                prop_assert!(session.deadline().is_some() || attempt, "{:?}", session.state());
            }
        }
    }
}
