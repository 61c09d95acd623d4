//! The session's table: every event in every state, then the rules of each topic on their own.

mod session_support;

use std::time::{Duration, Instant};

use api::desired::{Neighbor, NextHopMode, Passive, Peer, RemoteAsn, RestartMode, Secret, Source, Ttl};
use bgp_speaker::session::{
    Action, ConfigEffect, ConnId, Direction, DownReason, Event, Session, State, StopReason,
    explain_notification, needs_reset,
};
use bgp_speaker::wire::open::GracefulRestartCapability;
use bgp_speaker::wire::{
    Capability, ErrorCode, Message, MessageError, Notification, Open, RefreshKind, RouteRefresh, Update,
};
use session_support::{V4, V6, endpoints, family, peer, secs, speaker};

const ONE: ConnId = ConnId(1);
const TWO: ConnId = ConnId(2);

/// The peer's OPEN, from 10.0.0.9 in AS 65009: higher than our 10.0.0.1.
fn their_open() -> Open {
    Open {
        asn: 65009,
        hold_time: 90,
        router_id: [10, 0, 0, 9].into(),
        capabilities: vec![
            Capability::MultiProtocol { afi: 1, safi: 1 },
            Capability::MultiProtocol { afi: 2, safi: 1 },
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
            Capability::ExtendedNextHop(vec![(1, 1, 2)]),
            Capability::ExtendedMessage,
            Capability::FourOctetAs(65009),
        ],
    }
}

fn with_restart(mut open: Open, restart_time: u16, families: &[(u16, u8, bool)]) -> Open {
    open.capabilities.push(Capability::GracefulRestart(GracefulRestartCapability {
        restarting: false,
        notification: false,
        restart_time,
        families: families.to_vec(),
    }));
    open
}

fn their_restarting_open() -> Open {
    with_restart(their_open(), 120, &[(1, 1, true), (2, 1, true)])
}

fn notification(code: ErrorCode, subcode: u8) -> Notification {
    Notification { code, subcode, data: Vec::new() }
}

fn code(code: ErrorCode) -> u8 {
    match code {
        ErrorCode::MessageHeader => 1,
        ErrorCode::Open => 2,
        ErrorCode::Update => 3,
        ErrorCode::HoldTimerExpired => 4,
        ErrorCode::FiniteStateMachine => 5,
        ErrorCode::Cease => 6,
        ErrorCode::RouteRefresh => 7,
        ErrorCode::SendHoldTimerExpired => 8,
        ErrorCode::Unknown(code) => code,
    }
}

/// `1:OPEN 1:6/2 1:close connect down retain=[..]`: the number is the connection.
fn words(actions: &[Action]) -> String {
    let word = |action: &Action| match action {
        Action::Connect => "connect".to_owned(),
        Action::AbortConnect => "abort".to_owned(),
        Action::Close(id) => format!("{}:close", id.0),
        Action::Send(id, Message::Open(_)) => format!("{}:OPEN", id.0),
        Action::Send(id, Message::Update(_)) => format!("{}:UPDATE", id.0),
        Action::Send(id, Message::Keepalive) => format!("{}:KEEPALIVE", id.0),
        Action::Send(id, Message::RouteRefresh(r)) => format!("{}:REFRESH({}/{})", id.0, r.afi, r.safi),
        Action::Send(id, Message::Notification(n)) => format!("{}:{}/{}", id.0, code(n.code), n.subcode),
        Action::UseCodec(id, _) => format!("{}:codec", id.0),
        Action::Deliver(_) => "deliver".to_owned(),
        Action::Refresh(_) => "refresh".to_owned(),
        Action::Up(id, _) => format!("{}:up", id.0),
        Action::Down(down) if down.retain.is_empty() => "down".to_owned(),
        Action::Down(down) => format!("down(keeps {})", down.retain.len()),
        Action::SweepStale(family) => format!("sweep({family})"),
    };
    actions.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// One session and its clock.
struct Bench {
    session: Session,
    now: Instant,
}

impl Bench {
    fn new(config: Peer) -> Self {
        Self { session: Session::new(config, speaker(1), 7), now: Instant::now() }
    }
    fn ours() -> Self {
        Self::new(peer(65001, 65009))
    }
    fn raw(&mut self, event: Event) -> Vec<Action> {
        self.session.handle(self.now, event).into_vec()
    }
    fn on(&mut self, event: Event) -> String {
        words(&self.raw(event))
    }
    fn says(&mut self, message: Message) -> String {
        self.on(Event::Message(ONE, message))
    }
    /// Time goes on to the next deadline.
    fn tick(&mut self) -> String {
        self.now = self.now.max(self.session.deadline().expect("a deadline"));
        self.on(Event::Deadline)
    }
    fn wait(&mut self, time: Duration) -> String {
        self.now += time;
        self.on(Event::Deadline)
    }
    fn connected(&mut self, id: ConnId, direction: Direction) -> String {
        self.on(Event::Connected(id, direction, endpoints()))
    }
    fn open_sent(mut self) -> Self {
        self.on(Event::Start);
        assert_eq!(self.connected(ONE, Direction::Outgoing), "1:OPEN");
        self
    }
    fn open_confirm(self, open: Open) -> Self {
        let mut bench = self.open_sent();
        assert_eq!(bench.says(Message::Open(open)), "1:codec 1:KEEPALIVE");
        bench
    }
    fn established(self, open: Open) -> Self {
        let mut bench = self.open_confirm(open);
        assert!(bench.says(Message::Keepalive).starts_with("1:up"));
        bench
    }
    fn in_state(name: &str) -> Self {
        let mut bench = Self::ours();
        match name {
            "Stopped" => {}
            "IdleHold" => {
                bench = bench.open_sent();
                bench.on(Event::Closed(ONE, "reset".into()));
            }
            "Connect" => drop(bench.on(Event::Start)),
            "Active" => {
                bench.on(Event::Start);
                bench.on(Event::ConnectFailed("refused".into()));
            }
            "OpenSent" => bench = bench.open_sent(),
            "OpenConfirm" => bench = bench.open_confirm(their_open()),
            _ => bench = bench.established(their_open()),
        }
        bench
    }
}

fn refresh(afi: u16, kind: RefreshKind) -> Message {
    Message::RouteRefresh(RouteRefresh { afi, safi: 1, kind })
}

#[test]
fn every_event_in_every_state() {
    let states = ["Stopped", "IdleHold", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"];
    let message = |m: Message| Event::Message(ONE, m);
    let bad_as = Message::Open(Open { asn: 65010, ..their_open() });
    let malformed = MessageError { code: ErrorCode::MessageHeader, subcode: 2, data: vec![] };
    // One cell for each state: actions > state afterwards.
    let table: Vec<(&str, u64, Event, &str)> = vec![
        (
            "Start",
            0,
            Event::Start,
            "connect > Connect | connect > Connect | > Connect | connect > Connect | \
             > OpenSent | > OpenConfirm | > Established",
        ),
        (
            "AdminShutdown",
            0,
            Event::Stop(StopReason::AdminShutdown("bye".into())),
            "> Idle | > Idle | abort > Idle | > Idle | \
             1:6/2 1:close > Idle | 1:6/2 1:close > Idle | 1:6/2 1:close down > Idle",
        ),
        (
            "AdminReset",
            0,
            Event::Stop(StopReason::AdminReset(String::new())),
            "> Idle | connect > Connect | abort connect > Connect | connect > Connect | \
             1:6/4 1:close connect > Connect | 1:6/4 1:close connect > Connect | 1:6/4 1:close down connect > Connect",
        ),
        (
            "LinkDown",
            0,
            Event::Stop(StopReason::LinkDown("eth0".into())),
            "> Idle | > Idle | abort > Idle | > Idle | \
             1:close > Idle | 1:close > Idle | 1:close down > Idle",
        ),
        (
            "Connected, ours",
            0,
            Event::Connected(TWO, Direction::Outgoing, endpoints()),
            "2:close > Idle | 2:close > Idle | 2:OPEN > OpenSent | 2:close > Active | \
             2:close > OpenSent | 2:close > OpenConfirm | 2:close > Established",
        ),
        (
            "Connected, theirs",
            0,
            Event::Connected(TWO, Direction::Incoming, endpoints()),
            "2:6/2 2:close > Idle | 2:OPEN > OpenSent | 2:OPEN > OpenSent | 2:OPEN > OpenSent | \
             2:OPEN > OpenSent | 2:OPEN > OpenConfirm | 2:OPEN > Established",
        ),
        (
            "ConnectFailed",
            0,
            Event::ConnectFailed("refused".into()),
            "> Idle | > Idle | > Active | > Active | \
             > OpenSent | > OpenConfirm | > Established",
        ),
        (
            "Closed",
            0,
            Event::Closed(ONE, "end of stream".into()),
            "> Idle | > Idle | > Connect | > Active | \
             > Idle | > Idle | down > Idle",
        ),
        (
            "OPEN, good",
            0,
            message(Message::Open(their_open())),
            "> Idle | > Idle | > Connect | > Active | \
             1:codec 1:KEEPALIVE > OpenConfirm | 1:5/2 1:close > Idle | 1:5/3 1:close down > Idle",
        ),
        (
            "OPEN, bad AS",
            0,
            message(bad_as),
            "> Idle | > Idle | > Connect | > Active | \
             1:2/2 1:close > Idle | 1:5/2 1:close > Idle | 1:5/3 1:close down > Idle",
        ),
        (
            "KEEPALIVE",
            0,
            message(Message::Keepalive),
            "> Idle | > Idle | > Connect | > Active | \
             1:5/1 1:close > Idle | 1:up > Established | > Established",
        ),
        (
            "UPDATE",
            0,
            message(Message::Update(Update::default())),
            "> Idle | > Idle | > Connect | > Active | \
             1:5/1 1:close > Idle | 1:5/2 1:close > Idle | deliver > Established",
        ),
        (
            "ROUTE-REFRESH",
            0,
            message(refresh(1, RefreshKind::Request)),
            "> Idle | > Idle | > Connect | > Active | \
             1:5/1 1:close > Idle | 1:5/2 1:close > Idle | refresh > Established",
        ),
        (
            "NOTIFICATION",
            0,
            message(Message::Notification(notification(ErrorCode::Cease, 2))),
            "> Idle | > Idle | > Connect | > Active | \
             1:close > Idle | 1:close > Idle | 1:close down > Idle",
        ),
        (
            "malformed",
            0,
            Event::Malformed(ONE, malformed),
            "> Idle | > Idle | > Connect | > Active | \
             1:1/2 1:close > Idle | 1:1/2 1:close > Idle | 1:1/2 1:close down > Idle",
        ),
        (
            "RequestRefresh",
            0,
            Event::RequestRefresh,
            "> Idle | > Idle | > Connect | > Active | \
             > OpenSent | > OpenConfirm | 1:REFRESH(1/1) 1:REFRESH(2/1) > Established",
        ),
        (
            "Wrote",
            0,
            Event::Wrote(ONE),
            "> Idle | > Idle | > Connect | > Active | \
             > OpenSent | > OpenConfirm | > Established",
        ),
        (
            "Deadline too early",
            0,
            Event::Deadline,
            "> Idle | > Idle | > Connect | > Active | \
             > OpenSent | > OpenConfirm | > Established",
        ),
        (
            "30 s pass",
            30,
            Event::Deadline,
            "> Idle | connect > Connect | connect > Connect | connect > Connect | \
             > OpenSent | 1:KEEPALIVE > OpenConfirm | 1:KEEPALIVE > Established",
        ),
        (
            "4 min pass",
            240,
            Event::Deadline,
            "> Idle | connect > Connect | connect > Connect | connect > Connect | \
             1:4/0 1:close > Idle | 1:4/0 1:close > Idle | 1:4/0 1:close down > Idle",
        ),
    ];
    for (name, wait, event, expected) in table {
        let cells: Vec<_> = expected.split(" | ").collect();
        assert_eq!(cells.len(), states.len(), "{name}");
        for (state, cell) in states.into_iter().zip(cells) {
            let mut bench = Bench::in_state(state);
            bench.now += secs(wait);
            let actions = bench.on(event.clone());
            let got = format!("{actions} > {:?}", bench.session.state());
            assert_eq!(got.trim_start(), cell, "{name} in {state}");
        }
    }
}

#[test]
fn a_bad_open_is_refused_with_its_subcode() {
    let ibgp = Peer { remote_asn: RemoteAsn::Internal, ..peer(65001, 0) };
    let external = Peer { remote_asn: RemoteAsn::External, ..peer(65001, 0) };
    let any = Peer { remote_asn: RemoteAsn::Any, ..peer(65001, 0) };
    let only_v6 = Peer { families: vec![family(V6)], ..peer(65001, 65009) };
    let number = peer(65001, 65009);
    let open =
        |asn: u32, id: [u8; 4], hold_time| Open { asn, router_id: id.into(), hold_time, ..their_open() };
    let good = [10, 0, 0, 9];
    let bare = Open { capabilities: vec![], ..their_open() };
    let cases: Vec<(&str, &Peer, Open, &str)> = vec![
        ("expected AS", &number, open(65009, good, 90), "1:codec 1:KEEPALIVE"),
        ("other AS", &number, open(65010, good, 90), "1:2/2 1:close"),
        ("AS 0", &any, open(0, good, 90), "1:2/2 1:close"),
        ("internal, our AS", &ibgp, open(65001, good, 90), "1:codec 1:KEEPALIVE"),
        ("internal, other AS", &ibgp, open(65009, good, 90), "1:2/2 1:close"),
        ("external, our AS", &external, open(65001, good, 90), "1:2/2 1:close"),
        ("external, other AS", &external, open(65009, good, 90), "1:codec 1:KEEPALIVE"),
        ("any", &any, open(65001, good, 90), "1:codec 1:KEEPALIVE"),
        ("identifier 0", &number, open(65009, [0; 4], 90), "1:2/3 1:close"),
        ("our identifier, iBGP", &ibgp, open(65001, [10, 0, 0, 1], 90), "1:2/3 1:close"),
        ("our identifier, eBGP", &number, open(65009, [10, 0, 0, 1], 90), "1:codec 1:KEEPALIVE"),
        ("hold 0", &number, open(65009, good, 0), "1:codec 1:KEEPALIVE"),
        ("hold 1", &number, open(65009, good, 1), "1:2/6 1:close"),
        ("hold 2", &number, open(65009, good, 2), "1:2/6 1:close"),
        ("hold 3", &number, open(65009, good, 3), "1:codec 1:KEEPALIVE"),
        ("no capability means IPv4", &number, bare.clone(), "1:codec 1:KEEPALIVE"),
        ("no family in common", &only_v6, bare, "1:2/7 1:close"),
    ];
    for (name, config, open, expected) in cases {
        let mut bench = Bench::new(config.clone()).open_sent();
        assert_eq!(bench.says(Message::Open(open)), expected, "{name}");
    }
    let mut bench = Bench::new(only_v6).open_sent();
    let actions =
        bench.raw(Event::Message(ONE, Message::Open(Open { capabilities: vec![], ..their_open() })));
    let Some(Action::Send(_, Message::Notification(n))) = actions.first() else { panic!("{actions:?}") };
    assert_eq!(n.data, [1, 4, 0, 2, 0, 1], "the family the peer would need");
}

#[test]
fn negotiation_takes_what_both_sides_offer() {
    let bench = Bench::ours().established(their_restarting_open());
    let all = bench.session.negotiated().expect("established").clone();
    assert_eq!((all.hold_time, all.keepalive), (secs(90), secs(30)));
    assert_eq!(all.codec.families, [V4, V6]);
    assert!(all.codec.four_octet_as && all.codec.extended_message && all.codec.extended_nexthop_v4);
    assert!(all.codec.ebgp && all.route_refresh && all.enhanced_refresh);
    let restart = all.graceful_restart.expect("both sides have it");
    assert_eq!(restart.families, [(V4, true), (V6, true)]);
    assert!(restart.helps_us);

    let bench = Bench::ours().established(Open { capabilities: vec![], ..their_open() });
    let none = bench.session.negotiated().expect("established").clone();
    assert_eq!(none.codec.families, [V4]);
    assert!(!none.codec.four_octet_as && !none.codec.extended_message && !none.codec.extended_nexthop_v4);
    assert!(!none.route_refresh && !none.enhanced_refresh && none.graceful_restart.is_none());

    for (ours, theirs, keepalive, hold, interval) in [
        (90, 30, 30, 30, 10),
        (9, 90, 3, 9, 3),
        (90, 90, 10, 90, 10),
        (0, 90, 30, 0, 0),
        (90, 0, 30, 0, 0),
        (90, 90, 0, 90, 30),
        (3, 65535, 1, 3, 1),
    ] {
        let mut config = peer(65001, 65009);
        (config.timers.hold, config.timers.keepalive) = (secs(ours), secs(keepalive));
        let bench = Bench::new(config).established(Open { hold_time: theirs, ..their_open() });
        let n = bench.session.negotiated().expect("established");
        assert_eq!((n.hold_time, n.keepalive), (secs(hold), secs(interval)), "{ours} {theirs} {keepalive}");
    }
}

fn sent_open(actions: &[Action]) -> &Open {
    match actions {
        [Action::Send(_, Message::Open(open)), ..] => open,
        other => panic!("no OPEN: {other:?}"),
    }
}

#[test]
fn the_open_carries_what_the_configuration_asks_for() {
    let open_for = |mode, restarting, forwarding: &[_]| {
        let mut config = peer(4_200_000_001, 65009);
        config.graceful_restart.mode = mode;
        let local = bgp_speaker::session::LocalSpeaker {
            restarting,
            forwarding_preserved: forwarding.to_vec(),
            host_name: "node-1".into(),
            ..speaker(1)
        };
        let mut session = Session::new(config, local, 1);
        let now = Instant::now();
        session.handle(now, Event::Start);
        sent_open(&session.handle(now, Event::Connected(ONE, Direction::Outgoing, endpoints()))).clone()
    };
    let restart = |open: &Open| {
        open.capabilities.iter().find_map(|c| match c {
            Capability::GracefulRestart(gr) => Some((gr.restarting, gr.restart_time, gr.families.clone())),
            _ => None,
        })
    };
    assert_eq!(restart(&open_for(RestartMode::Disabled, true, &[V4])), None);
    assert_eq!(restart(&open_for(RestartMode::Helper, false, &[V4])), Some((false, 120, vec![])));
    let families = vec![(1, 1, true), (2, 1, false)];
    assert_eq!(restart(&open_for(RestartMode::Restarter, true, &[V4])), Some((true, 120, families)));
    let open = open_for(RestartMode::Helper, false, &[]);
    assert!(open.capabilities.contains(&Capability::FourOctetAs(4_200_000_001)));
    assert!(open.capabilities.contains(&Capability::ExtendedNextHop(vec![(1, 1, 2)])));
    assert!(open.capabilities.contains(&Capability::Fqdn { host: "node-1".into(), domain: String::new() }));
}

#[test]
fn forwarding_kept_by_a_process_that_never_stopped_shows_in_the_next_open() {
    let mut session = Session::new(
        peer(65001, 65009),
        bgp_speaker::session::LocalSpeaker { forwarding_preserved: vec![], ..speaker(1) },
        1,
    );
    let f_bits = |actions: &[Action]| -> Vec<bool> {
        let gr = sent_open(actions).capabilities.iter().find_map(|c| match c {
            Capability::GracefulRestart(gr) => Some(gr.families.iter().map(|f| f.2).collect()),
            _ => None,
        });
        gr.unwrap_or_default()
    };
    let now = Instant::now();
    session.handle(now, Event::Start);
    let first = session.handle(now, Event::Connected(ONE, Direction::Outgoing, endpoints()));
    assert_eq!(f_bits(&first), [false, false], "a cold start has nothing in the kernel");
    session.handle(now, Event::Message(ONE, Message::Open(their_open())));
    session.handle(now, Event::Message(ONE, Message::Keepalive));
    session.handle(now, Event::Closed(ONE, "reset".into()));
    let second = session.handle(now, Event::Connected(TWO, Direction::Incoming, endpoints()));
    assert_eq!(f_bits(&second), [true, true], "the peer must not sweep after a lost TCP connection");
}

#[test]
fn keepalives_come_at_three_quarters_to_all_of_their_interval() {
    let mut bench = Bench::ours().established(their_open());
    let mut last = bench.now;
    for _ in 0..100 {
        assert_eq!(bench.tick(), "1:KEEPALIVE");
        let gap = bench.now - last;
        assert!(gap >= Duration::from_millis(22_500) && gap <= secs(30), "{gap:?}");
        last = bench.now;
        assert_eq!(bench.says(Message::Keepalive), "");
        assert_eq!(bench.on(Event::Wrote(ONE)), "");
    }
}

#[test]
fn hold_timer_ends_a_silent_peer_and_any_message_restarts_it() {
    let mut bench = Bench::ours().established(their_open());
    for _ in 0..5 {
        assert_eq!(bench.wait(secs(89)), "1:KEEPALIVE");
        assert_eq!(bench.says(Message::Update(Update::default())), "deliver");
        bench.on(Event::Wrote(ONE));
    }
    assert_eq!(bench.wait(secs(89)), "1:KEEPALIVE");
    assert_eq!(bench.wait(secs(1)), "1:4/0 1:close down");
}

#[test]
fn hold_time_zero_has_no_timers_but_does_not_wait_for_ever_in_open_confirm() {
    let open = Open { hold_time: 0, ..their_open() };
    let bench = Bench::ours().established(open.clone());
    assert_eq!(bench.session.deadline(), None);
    let mut bench = Bench::ours().open_confirm(open);
    assert_eq!(bench.tick(), "1:4/0 1:close");
}

#[test]
fn send_hold_timer_ends_a_peer_that_stopped_reading() {
    let mut bench = Bench::ours().established(their_open());
    let start = bench.now;
    let mut last = String::new();
    while bench.session.state() == State::Established && bench.now < start + secs(3600) {
        last = bench.tick();
        bench.says(Message::Keepalive);
    }
    assert_eq!(last, "1:8/0 1:close down");
    assert_eq!(bench.now - start, secs(480), "eight minutes: more than twice the Hold Time");

    let mut config = peer(65001, 65009);
    config.timers.hold = secs(600);
    let mut bench = Bench::new(config).established(Open { hold_time: 600, ..their_open() });
    bench.on(Event::Wrote(ONE));
    let start = bench.now;
    while bench.session.state() == State::Established && bench.now < start + secs(3600) {
        bench.tick();
        bench.says(Message::Keepalive);
    }
    assert_eq!(bench.now - start, secs(1200), "twice the Hold Time");
}

#[test]
fn retries_double_up_to_their_cap_and_start_over_after_a_stable_session() {
    let within = |wait: Duration, full: u64| wait <= secs(full) && wait >= secs(full) * 3 / 4;
    let mut bench = Bench::ours();
    bench.on(Event::Start);
    for full in [1, 2, 4, 5, 5] {
        bench.on(Event::ConnectFailed("refused".into()));
        let before = bench.now;
        assert_eq!(bench.tick(), "connect");
        assert!(within(bench.now - before, full), "connect retry of {full} s: {:?}", bench.now - before);
    }
    let mut bench = Bench::ours();
    bench.on(Event::Start);
    for (number, full) in (10..).zip([1, 2, 4, 8, 16, 32, 60, 60]) {
        bench.connected(ConnId(number), Direction::Outgoing);
        bench.on(Event::Closed(ConnId(number), "reset".into()));
        let before = bench.now;
        assert_eq!(bench.tick(), "connect");
        assert!(within(bench.now - before, full), "IdleHold of {full} s: {:?}", bench.now - before);
    }
    assert_eq!(bench.connected(ONE, Direction::Outgoing), "1:OPEN");
    bench.says(Message::Open(their_open()));
    bench.says(Message::Keepalive);
    bench.now += secs(31);
    bench.on(Event::Closed(ONE, "reset".into()));
    let before = bench.now;
    assert_eq!(bench.tick(), "connect");
    assert!(within(bench.now - before, 1), "{:?}", bench.now - before);
}

#[test]
fn a_peer_that_refuses_capabilities_is_tried_without_them_and_later_with_them() {
    let codes = |actions: &[Action]| sent_open(actions).capabilities.len();
    let refusal = |subcode, data: &[u8]| {
        Message::Notification(Notification { code: ErrorCode::Open, subcode, data: data.to_vec() })
    };
    let offered = 8;
    let cases: [(&str, Message, usize); 7] = [
        ("unsupported parameter: nothing optional at all", refusal(4, &[]), 0),
        ("unsupported capability, unnamed: families and AS number stay", refusal(7, &[]), 3),
        ("extended message refused", refusal(7, &[6, 0]), offered - 1),
        ("IPv6 refused", refusal(7, &[1, 4, 0, 2, 0, 1]), offered - 1),
        (
            "both families refused: the last stays",
            refusal(7, &[1, 4, 0, 2, 0, 1, 1, 4, 0, 1, 0, 1]),
            offered - 1,
        ),
        ("cut short: as if unnamed", refusal(7, &[64, 200, 1]), 3),
        ("another error changes nothing", refusal(2, &[]), offered),
    ];
    for (name, refusal, expected) in cases {
        let mut bench = Bench::ours();
        bench.on(Event::Start);
        let first = bench.raw(Event::Connected(ONE, Direction::Outgoing, endpoints()));
        assert_eq!(codes(&first), offered);
        assert_eq!(bench.says(refusal), "1:close", "{name}");
        assert_eq!(bench.tick(), "connect", "{name}");
        let second = bench.raw(Event::Connected(TWO, Direction::Outgoing, endpoints()));
        assert_eq!(codes(&second), expected, "{name}");
        bench.on(Event::Closed(TWO, "reset".into()));
        bench.now += secs(600);
        assert_eq!(bench.on(Event::Deadline), "connect", "{name}");
        let third = bench.raw(Event::Connected(ConnId(3), Direction::Outgoing, endpoints()));
        assert_eq!(codes(&third), offered, "{name}");
    }
}

#[test]
fn a_peer_that_refuses_the_short_open_too_gets_the_whole_one_again() {
    let refusal = Notification { code: ErrorCode::Open, subcode: 7, data: vec![] };
    let mut bench = Bench::ours();
    bench.on(Event::Start);
    for (number, expected) in (10..).zip([8, 3, 8, 8, 8]) {
        let id = ConnId(number);
        let actions = bench.raw(Event::Connected(id, Direction::Outgoing, endpoints()));
        assert_eq!(sent_open(&actions).capabilities.len(), expected, "attempt {number}");
        bench.on(Event::Message(id, Message::Notification(refusal.clone())));
        assert_eq!(bench.tick(), "connect");
    }
}

#[test]
fn only_negotiated_refreshes_are_delivered() {
    let mut bench = Bench::ours().established(their_open());
    for (afi, kind, expected) in [
        (1, RefreshKind::Request, "refresh"),
        (2, RefreshKind::Begin, "refresh"),
        (2, RefreshKind::End, "refresh"),
        (1, RefreshKind::Unknown(9), ""),
        (25, RefreshKind::Request, ""),
    ] {
        assert_eq!(bench.says(refresh(afi, kind)), expected, "{afi} {kind:?}");
    }
    let mut bench = Bench::ours().established(Open { capabilities: vec![], ..their_open() });
    assert_eq!(bench.says(refresh(1, RefreshKind::Request)), "");
    assert_eq!(bench.on(Event::RequestRefresh), "");
}

#[test]
fn collision_keeps_the_connection_of_the_higher_identifier() {
    // The peer is 10.0.0.9, we are 10.0.0.1: theirs (2) survives.
    let mut bench = Bench::ours().open_sent();
    assert_eq!(bench.connected(TWO, Direction::Incoming), "2:OPEN");
    assert_eq!(
        bench.on(Event::Message(TWO, Message::Open(their_open()))),
        "1:6/7 1:close 2:codec 2:KEEPALIVE"
    );
    assert_eq!(bench.on(Event::Message(TWO, Message::Keepalive)), "2:up");
    assert!(bench.session.last_down().is_none(), "a lost collision is no failure");

    // Ours has its OPEN first: it waits, unconfirmed, and goes on when theirs is gone.
    let held = || {
        let mut bench = Bench::ours().open_sent();
        bench.connected(TWO, Direction::Incoming);
        assert_eq!(bench.says(Message::Open(their_open())), "1:codec");
        assert_eq!(bench.session.state(), State::OpenSent);
        bench
    };
    let mut bench = held();
    assert_eq!(
        bench.on(Event::Message(TWO, Message::Open(their_open()))),
        "1:6/7 1:close 2:codec 2:KEEPALIVE"
    );
    let mut bench = held();
    assert_eq!(bench.on(Event::Closed(TWO, "reset".into())), "1:codec 1:KEEPALIVE");
    let mut bench = held();
    assert_eq!(bench.says(Message::Keepalive), "");
    assert_eq!(bench.tick(), "2:6/7 2:close 1:codec 1:KEEPALIVE 1:up", "silence ends the wait");
    let mut bench = held();
    let cease = Message::Notification(notification(ErrorCode::Cease, 7));
    assert_eq!(bench.on(Event::Message(ONE, cease)), "1:close", "the other connection is not disturbed");
    assert_eq!(bench.on(Event::Message(TWO, Message::Open(their_open()))), "2:codec 2:KEEPALIVE");
}

#[test]
fn an_accepted_open_ends_our_own_attempt() {
    let mut bench = Bench::ours();
    bench.on(Event::Start);
    bench.connected(TWO, Direction::Incoming);
    let open = Message::Open(their_open());
    assert_eq!(bench.on(Event::Message(TWO, open)), "abort 2:codec 2:KEEPALIVE");
    assert_eq!(bench.connected(ONE, Direction::Outgoing), "1:close", "it opened all the same");
}

#[test]
fn an_attempt_without_answer_is_given_up_while_the_peer_has_connected() {
    let mut bench = Bench::ours();
    bench.on(Event::Start);
    bench.connected(TWO, Direction::Incoming);
    assert_eq!(bench.tick(), "abort");
    assert_eq!(bench.tick(), "2:4/0 2:close", "the large Hold Time of OpenSent");
    assert_eq!(bench.tick(), "connect");
}

#[test]
fn a_peer_that_connects_twice_has_given_its_first_connection_up() {
    let mut bench = Bench::new(Peer { passive: Passive::Always, ..peer(65001, 65009) });
    bench.on(Event::Start);
    bench.connected(ONE, Direction::Incoming);
    assert_eq!(bench.connected(TWO, Direction::Incoming), "2:OPEN 1:6/7 1:close");
    assert_eq!(bench.on(Event::Message(TWO, Message::Open(their_open()))), "2:codec 2:KEEPALIVE");
}

#[test]
fn a_second_connection_in_established_replaces_only_with_graceful_restart() {
    let open = || Event::Message(TWO, Message::Open(their_restarting_open()));
    let mut bench = Bench::ours().established(their_open());
    bench.now += secs(60);
    bench.connected(TWO, Direction::Incoming);
    assert_eq!(bench.on(open()), "2:6/7 2:close");
    assert_eq!(bench.session.state(), State::Established);

    let mut bench = Bench::ours().established(their_restarting_open());
    bench.now += secs(60);
    assert_eq!(bench.connected(TWO, Direction::Incoming), "2:OPEN", "a TCP connection alone ends nothing");
    assert_eq!(bench.on(open()), "1:close down(keeps 2) 2:codec 2:KEEPALIVE");
    assert_eq!(bench.on(Event::Message(TWO, Message::Keepalive)), "2:up");

    let mut bench = Bench::ours().established(their_restarting_open());
    bench.now += secs(1);
    bench.connected(TWO, Direction::Incoming);
    assert_eq!(bench.on(open()), "2:6/7 2:close", "so early it is the rest of a collision");
}

#[test]
fn passive_modes_decide_who_connects() {
    let mut bench = Bench::new(Peer { passive: Passive::Always, ..peer(65001, 65009) });
    assert_eq!(bench.on(Event::Start), "");
    assert_eq!(bench.session.state(), State::Active);
    assert_eq!(bench.connected(ONE, Direction::Incoming), "1:OPEN");
    let mut bench = Bench::new(Peer { passive: Passive::Never, ..peer(65001, 65009) });
    assert_eq!(bench.on(Event::Start), "connect");
    assert_eq!(bench.connected(TWO, Direction::Incoming), "2:6/5 2:close");
    assert_eq!(bench.session.state(), State::Connect);
}

#[test]
fn helper_keeps_stale_paths_until_end_of_rib_or_its_timer() {
    let closed = || Event::Closed(ONE, "reset".into());
    let mut bench = Bench::ours().established(their_restarting_open());
    assert_eq!(bench.on(closed()), "down(keeps 2)");
    let lost = bench.now;
    let mut swept = String::new();
    for _ in 0..100 {
        swept = bench.tick().replace("connect", "").trim().to_owned();
        bench.on(Event::ConnectFailed("refused".into()));
        if !swept.is_empty() {
            break;
        }
    }
    assert_eq!(swept, "sweep(ipv4-unicast) sweep(ipv6-unicast)");
    assert_eq!(bench.now - lost, secs(120), "the peer's Restart Time");

    let mut bench = Bench::ours().established(their_restarting_open());
    bench.on(closed());
    bench.connected(TWO, Direction::Incoming);
    let half = with_restart(their_open(), 120, &[(1, 1, true), (2, 1, false)]);
    bench.on(Event::Message(TWO, Message::Open(half)));
    assert_eq!(bench.on(Event::Message(TWO, Message::Keepalive)), "2:up sweep(ipv6-unicast)");
    let end_of_rib = |family| Message::Update(Update { end_of_rib: Some(family), ..Update::default() });
    assert_eq!(bench.on(Event::Message(TWO, end_of_rib(V6))), "deliver");
    assert_eq!(bench.on(Event::Message(TWO, end_of_rib(V4))), "deliver sweep(ipv4-unicast)");
    assert_eq!(bench.on(Event::Message(TWO, end_of_rib(V4))), "deliver");

    let mut bench = Bench::ours().established(their_restarting_open());
    bench.on(closed());
    bench.connected(TWO, Direction::Incoming);
    bench.on(Event::Message(TWO, Message::Open(their_restarting_open())));
    assert_eq!(bench.on(Event::Message(TWO, Message::Keepalive)), "2:up");
    let back = bench.now;
    let mut actions = String::new();
    for _ in 0..100 {
        actions = bench.tick();
        bench.on(Event::Message(TWO, Message::Keepalive));
        if actions.contains("sweep") {
            break;
        }
    }
    assert!(actions.starts_with("sweep(ipv4-unicast) sweep(ipv6-unicast)"), "{actions}");
    assert_eq!(bench.now - back, secs(360), "stale_path_time without End-of-RIB");
}

#[test]
fn nothing_is_kept_after_a_notification_a_lost_link_or_with_restart_disabled() {
    let cease = Event::Message(ONE, Message::Notification(notification(ErrorCode::Cease, 2)));
    let link_down = || Event::Stop(StopReason::LinkDown("eth0".into()));
    let mut bench = Bench::ours().established(their_restarting_open());
    assert_eq!(bench.on(cease), "1:close down");
    let mut bench = Bench::ours().established(their_restarting_open());
    assert_eq!(bench.on(link_down()), "1:close down");
    let mut bench = Bench::ours().established(their_restarting_open());
    bench.on(Event::Closed(ONE, "reset".into()));
    assert_eq!(bench.on(link_down()), "sweep(ipv4-unicast) sweep(ipv6-unicast)");
    let mut config = peer(65001, 65009);
    config.graceful_restart.mode = RestartMode::Disabled;
    let mut bench = Bench::new(config).established(their_restarting_open());
    assert_eq!(bench.on(Event::Closed(ONE, "reset".into())), "down");
}

#[test]
fn a_stopping_process_says_nothing_to_a_peer_that_keeps_its_routes() {
    for (mode, open, expected) in [
        (RestartMode::Restarter, their_restarting_open(), "1:close down(keeps 2)"),
        (RestartMode::Restarter, with_restart(their_open(), 0, &[]), "1:close down(keeps 2)"),
        (RestartMode::Restarter, their_open(), "1:6/2 1:close down(keeps 2)"),
        (RestartMode::Helper, their_restarting_open(), "1:6/2 1:close down(keeps 2)"),
        (RestartMode::Disabled, their_restarting_open(), "1:6/2 1:close down(keeps 2)"),
    ] {
        let mut config = peer(65001, 65009);
        config.graceful_restart.mode = mode;
        let mut bench = Bench::new(config).established(open);
        assert_eq!(bench.on(Event::Stop(StopReason::ProcessStops)), expected, "{mode:?}");
        assert_eq!(bench.session.deadline(), None);
    }
}

#[test]
fn max_prefix_restarts_or_stays_down_until_reset() {
    let limit = |restart| Event::Stop(StopReason::MaxPrefix { family: V4, limit: 10, restart });
    let mut bench = Bench::ours().established(their_open());
    assert_eq!(bench.on(limit(true)), "1:6/1 1:close down");
    assert_eq!(bench.tick(), "connect");
    let mut bench = Bench::ours().established(their_open());
    assert_eq!(bench.on(limit(false)), "1:6/1 1:close down");
    assert_eq!(bench.session.deadline(), None);
    assert_eq!(bench.on(Event::Start), "", "a link that comes back does not help");
    assert_eq!(bench.connected(TWO, Direction::Incoming), "2:6/5 2:close");
    assert_eq!(bench.on(Event::Stop(StopReason::AdminReset(String::new()))), "connect");
}

#[test]
fn each_field_has_one_effect_and_pausing_is_immediate() {
    use ConfigEffect::{Hot, Reset, Soft};
    let base = peer(65001, 65009);
    type Change = fn(&mut Peer);
    let changes: [(&str, Change, ConfigEffect); 24] = [
        ("nothing", |_| {}, Hot),
        ("name", |p| p.name = "other".into(), Reset),
        (
            "neighbor",
            |p| p.neighbor = Neighbor::Address { address: [192, 0, 2, 8].into(), interface: None },
            Reset,
        ),
        ("port", |p| p.port = 1790, Reset),
        ("local_asn", |p| p.local_asn = 1, Reset),
        ("remote_asn", |p| p.remote_asn = RemoteAsn::Any, Reset),
        ("source", |p| p.source = Source::Interface("lo".into()), Reset),
        ("bind_interface", |p| p.bind_interface = Some("eth0".into()), Reset),
        ("md5", |p| p.md5 = Some(Secret::new("key")), Reset),
        ("ttl", |p| p.ttl = Ttl::Security(1), Reset),
        ("passive", |p| p.passive = Passive::Always, Reset),
        ("gr mode", |p| p.graceful_restart.mode = RestartMode::Helper, Reset),
        ("families", |p| p.families.truncate(1), Reset),
        ("extended next hop", |p| p.families[0].extended_next_hop = false, Reset),
        ("family order", |p| p.families.reverse(), Hot),
        ("max_prefix", |p| p.families[0].max_prefix.limit = 5, Hot),
        ("hold", |p| p.timers.hold = secs(9), Hot),
        ("connect_retry", |p| p.timers.connect_retry = secs(9), Hot),
        ("restart_time", |p| p.graceful_restart.restart_time = secs(9), Hot),
        ("stale_path_time", |p| p.graceful_restart.stale_path_time = secs(9), Hot),
        ("paused", |p| p.paused = Some(String::new()), Hot),
        ("next_hop", |p| p.next_hop = NextHopMode::Keep, Soft),
        ("allow_local_as", |p| p.allow_local_as = 1, Soft),
        ("enforce_first_as", |p| p.enforce_first_as = false, Soft),
    ];
    for (name, change, effect) in changes {
        let mut changed = base.clone();
        change(&mut changed);
        assert_eq!(needs_reset(&base, &changed), effect, "{name}");
        let mut bench = Bench::ours().established(their_open());
        let actions = bench.session.update_config(bench.now, changed);
        assert_eq!(actions.is_empty(), name != "paused", "{name}");
    }
    let mut bench = Bench::ours().established(their_open());
    let paused = Peer { paused: Some("new line card".into()), ..base.clone() };
    let actions = bench.session.update_config(bench.now, paused);
    assert_eq!(words(&actions), "1:6/2 1:close down");
    assert_eq!(bench.on(Event::Start), "", "paused wins");
    assert_eq!(words(&bench.session.update_config(bench.now, base)), "connect");
}

#[test]
fn shorter_limits_shorten_a_wait_that_is_running() {
    let mut bench = Bench::in_state("Active");
    let mut config = peer(65001, 65009);
    config.timers.connect_retry = Duration::from_millis(100);
    bench.session.update_config(bench.now, config);
    assert_eq!(bench.session.deadline(), Some(bench.now + Duration::from_millis(100)));
}

#[test]
fn reasons_read_as_sentences() {
    let plain = peer(65001, 65009);
    let keyed = Peer { md5: Some(Secret::new("k")), ttl: Ttl::Security(1), ..plain.clone() };
    let failed = |text: &str| DownReason::ConnectFailed(text.into());
    let shutdown = Notification { code: ErrorCode::Cease, subcode: 2, data: b"\x05a\x1b[2Jignored".to_vec() };
    let cases: Vec<(DownReason, &Peer, &[&str])> = vec![
        (failed("Connection refused (os error 111)"), &plain, &["192.0.2.9:179 refused"]),
        (failed("No route to host (os error 113)"), &plain, &["no route to 192.0.2.9:179", "TTL 1"]),
        (failed("timed out after 5 s"), &plain, &["no answer", "probably a filter", "TTL 1"]),
        (failed("timed out after 5 s"), &keyed, &["probably a wrong password", "GTSM"]),
        (failed("broken"), &plain, &["failed: broken"]),
        (DownReason::NotificationReceived(shutdown), &plain, &["peer ended", "shut down: \"a [2J"]),
        (DownReason::NotificationSent(notification(ErrorCode::Open, 2)), &plain, &["bad peer AS", "65009"]),
        (
            DownReason::NotificationSent(notification(ErrorCode::HoldTimerExpired, 0)),
            &plain,
            &["we ended", "Hold"],
        ),
        (DownReason::Stopped(StopReason::AdminShutdown("mowing".into())), &plain, &["shut down: mowing"]),
        (DownReason::ConnectionClosed("reset by peer".into()), &plain, &["closed: reset by peer"]),
    ];
    for (reason, config, parts) in cases {
        let text = reason.explain(config);
        for part in parts {
            assert!(text.contains(part), "{part:?} in {text:?}");
        }
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    let limit = Notification { code: ErrorCode::Cease, subcode: 1, data: vec![0, 1, 1, 0, 0, 0, 10] };
    assert_eq!(explain_notification(&limit), "Cease, too many prefixes: more than 10");
    assert_eq!(explain_notification(&notification(ErrorCode::Unknown(77), 3)), "error code 77, subcode 3");
    assert_eq!(explain_notification(&notification(ErrorCode::Update, 99)), "UPDATE refused, subcode 99");
}

#[test]
fn the_session_names_neither_a_runtime_nor_the_clock() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/session");
    for entry in std::fs::read_dir(folder).expect("the session's folder") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("source");
        let production = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in ["tokio", "Instant::now", "SystemTime"] {
            assert!(!production.contains(word), "{} names {word}", path.display());
        }
    }
}
