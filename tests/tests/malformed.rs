//! Hostile octets over real TCP: the reaction the RFCs ask for, on that session and no other.
//!
//! Neighbour 1 attacks, neighbour 2 looks on: its session, its routes and what it was told must stay. Which
//! octets deserve what is tabled in full where the decoder is tested; here each class is sent once.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy allows it in test functions only")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bgp_speaker::query::RibView;
use bgp_speaker::status::PeerStatus;
use hex_literal::hex;
use ipnet::IpNet;
use towpath_tests::agent::{Agent, LIMIT};
use towpath_tests::feeder::message::{
    Attributes, Message, Notification, announce, frame, keepalive, open, update,
};
use towpath_tests::feeder::{Connection, Feeder, Received};
use towpath_tests::rack::{NODE, Rack, asn, document, peer};
use towpath_tests::wait::until;

/// Messages without the marker, in hexadecimal, that broke another decoder.
const HOSTILE: &str = include_str!("../../bgp-speaker/tests/hostile.txt");

/// A daemon under attack and its other neighbour.
struct Attacked {
    rack: Rack,
    agent: Agent,
    bystander: Feeder,
    at_first: PeerStatus,
    resident_bytes: u64,
}

impl Attacked {
    fn new() -> Self {
        let rack = Rack::new(2).unwrap();
        let pods = document("Advertisement", "pods", "source: { static: { cidrs: [10.244.1.0/24] } }");
        let families = "families: [{ afi: ipv4, safi: unicast }, { afi: ipv6, safi: unicast }]";
        let config = [NODE.to_owned(), peer(1, families), peer(2, families), pods].concat();
        let agent = Agent::start(&rack.node, &[("all.yaml", &config)], "node").unwrap();
        let bystander = rack.feeder(2).unwrap();
        bystander.until_routes(1, LIMIT).unwrap();
        bystander.send(&good(2, "10.244.200.0/24")).unwrap();
        agent.until_prefixes(RibView::Accepted, &["10.244.200.0/24"]).unwrap();
        let at_first = agent.until_established("p2").unwrap();
        let resident_bytes = agent.resident_bytes().unwrap();
        Self { rack, agent, bystander, at_first, resident_bytes }
    }

    fn connect(&self) -> Connection {
        Connection::dial(self.rack.neighbor(1), None, Rack::node_address(1), LIMIT).unwrap()
    }

    fn attacker(&self) -> Feeder {
        self.rack.feeder(1).unwrap()
    }

    /// Nobody but the attacker may have noticed anything.
    fn finish(self) {
        let now = self.agent.peer("p2").unwrap();
        let line = |peer: &PeerStatus| (peer.state.clone(), peer.down_count, peer.remote_endpoint);
        assert_eq!(line(&now), line(&self.at_first), "the other session");
        self.agent.until_prefixes(RibView::Best, &["10.244.1.0/24", "10.244.200.0/24"]).unwrap();
        let heard = self.bystander.heard();
        assert!(!heard.closed && heard.withdrawn == 0 && heard.announced == 1, "{heard:?}");
        let log = self.agent.log();
        assert!(!log.contains("panicked") && !log.contains("this is a bug"), "{log}");
        let grown = self.agent.resident_bytes().unwrap().saturating_sub(self.resident_bytes);
        assert!(grown < 16 << 20, "memory grew by {} KiB", grown >> 10);
    }
}

/// An UPDATE of neighbour `i` that nothing is wrong with.
fn good(i: u8, prefix: &str) -> Vec<u8> {
    announce(&Attributes::new(&[asn(i)], Rack::address(i)), &[prefix.parse().unwrap()])
}

/// ORIGIN IGP, AS_PATH and NEXT_HOP of neighbour 1: complete.
const MANDATORY: &[u8] = &hex!("40010100" "400206 0201 0000fe4d" "400304 0a000102");
const ORIGIN: &[u8] = &hex!("40010100");
const PATH: &[u8] = &hex!("400206 0201 0000fe4d");
const NEXT_HOP: &[u8] = &hex!("400304 0a000102");
/// 10.244.66.0/24.
const PREFIX: &[u8] = &hex!("18 0af442");

fn refusal(code: u8, subcode: u8, data: &[u8]) -> Notification {
    Notification { code, subcode, data: data.to_vec() }
}

fn expect_open(connection: &mut Connection) {
    let first = connection.receive(LIMIT).unwrap();
    assert!(matches!(first, Received::Message(Message::Open { .. })), "{first:?}");
}

/// The NOTIFICATION that comes next but for KEEPALIVEs, and then nothing.
fn ending(connection: &mut Connection) -> Option<Notification> {
    let mut said = None;
    loop {
        match connection.receive(LIMIT).unwrap() {
            Received::Message(Message::Notification(notification)) => said = Some(notification),
            Received::Message(_) => assert_eq!(said, None, "the NOTIFICATION is the last word"),
            Received::Closed => return said,
            Received::Nothing => panic!("the connection stays open; it said {said:?}"),
        }
    }
}

/// A message with a wrong header, each field given.
fn header(marker: u8, length: u16, kind: u8) -> Vec<u8> {
    let mut octets = vec![marker; 16];
    octets.extend(length.to_be_bytes());
    octets.push(kind);
    octets
}

#[test]
fn framing_errors_are_answered_as_rfc_4271_section_6_1_says_in_every_state() {
    let attacked = Attacked::new();
    let cases = [
        ("a marker with a zero", header(0, 19, 4), refusal(1, 1, &[])),
        ("length 18", header(0xff, 18, 4), refusal(1, 2, &[0, 18])),
        ("length 0", header(0xff, 0, 2), refusal(1, 2, &[0, 0])),
        ("length 4097", header(0xff, 4097, 2), refusal(1, 2, &[0x10, 1])),
        ("length 65535", header(0xff, 65535, 2), refusal(1, 2, &[0xff, 0xff])),
        ("KEEPALIVE of 20 octets", frame(4, &[0]), refusal(1, 2, &[0, 20])),
        ("UPDATE of 22 octets", frame(2, &[0; 3]), refusal(1, 2, &[0, 22])),
        ("OPEN of 28 octets", frame(1, &[0; 9]), refusal(1, 2, &[0, 28])),
        ("NOTIFICATION of 20 octets", frame(3, &[0]), refusal(1, 2, &[0, 20])),
        ("type 0", header(0xff, 19, 0), refusal(1, 3, &[0])),
        ("type 99", header(0xff, 19, 99), refusal(1, 3, &[99])),
    ];
    for (name, octets, expected) in &cases {
        let mut early = attacked.connect();
        expect_open(&mut early);
        early.send(octets).unwrap();
        assert_eq!(ending(&mut early).as_ref(), Some(expected), "{name}, before our OPEN");

        let late = attacked.attacker();
        late.send(octets).unwrap();
        assert_eq!(late.until_closed(LIMIT).unwrap().as_ref(), Some(expected), "{name}, when Established");
    }
    attacked.finish();
}

#[test]
fn open_errors_are_answered_as_rfc_4271_section_6_2_says() {
    let attacked = Attacked::new();
    let raw = |body: &[u8]| frame(1, body);
    let id = "10.0.1.2".parse().unwrap();
    let other_family = [(1, vec![0, 25, 0, 70])];
    let ours = hex!("0104 0001 00 01" "0104 0002 00 01");
    let cases = [
        ("version 3", raw(&hex!("03 fe4d 005a 0a000102 00")), refusal(2, 1, &[0, 4])),
        ("AS 0", raw(&hex!("04 0000 005a 0a000102 00")), refusal(2, 2, &[])),
        ("the wrong AS", open(65_999, 90, id, &[]), refusal(2, 2, &[])),
        ("our own AS", open(65_001, 90, id, &[]), refusal(2, 2, &[])),
        ("identifier 0.0.0.0", raw(&hex!("04 fe4d 005a 00000000 00")), refusal(2, 3, &[])),
        (
            "a parameter that is no capability",
            raw(&hex!("04 fe4d 005a 0a000102 03 0101 00")),
            refusal(2, 4, &[]),
        ),
        ("a hold time of 1 s", open(65_101, 1, id, &[]), refusal(2, 6, &[])),
        ("a hold time of 2 s", open(65_101, 2, id, &[]), refusal(2, 6, &[])),
        ("no family in common", open(65_101, 90, id, &other_family), refusal(2, 7, &ours)),
        ("parameters past the end", raw(&hex!("04 fe4d 005a 0a000102 09 02")), refusal(2, 0, &[])),
        (
            "a capability past its parameter",
            raw(&hex!("04 fe4d 005a 0a000102 04 0202 4605")),
            refusal(2, 0, &[]),
        ),
        ("KEEPALIVE for OPEN", keepalive(), refusal(5, 1, &[])),
        ("UPDATE for OPEN", update(&[], &[], &[]), refusal(5, 1, &[])),
    ];
    for (name, octets, expected) in &cases {
        let mut connection = attacked.connect();
        expect_open(&mut connection);
        connection.send(octets).unwrap();
        let said = ending(&mut connection).unwrap();
        assert_eq!((said.code, said.subcode), (expected.code, expected.subcode), "{name}");
        // RFC 6608 section 3 lets the data of a state machine error name the message.
        if said.code != 5 {
            assert_eq!(said.data, expected.data, "{name}");
        }
    }
    let mut connection = attacked.connect();
    expect_open(&mut connection);
    connection.send(&[Rack::config(1).open(), update(&[], &[], &[])].concat()).unwrap();
    let said = ending(&mut connection).unwrap();
    assert_eq!((said.code, said.subcode), (5, 2), "UPDATE for KEEPALIVE");
    let feeder = attacked.attacker();
    feeder.send(&Rack::config(1).open()).unwrap();
    let said = feeder.until_closed(LIMIT).unwrap().unwrap();
    assert_eq!((said.code, said.subcode), (5, 3), "a second OPEN");
    attacked.finish();
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaction {
    /// The route is taken.
    Accept,
    /// The route is taken without the attribute.
    Discard,
    /// The route is treated as withdrawn.
    Withdraw,
}

#[test]
fn malformed_attributes_withdraw_or_are_dropped_and_the_session_stays() {
    use Reaction::{Accept, Discard, Withdraw};
    let cases: &[(&str, Vec<u8>, Reaction)] = &[
        ("nothing wrong", MANDATORY.to_vec(), Accept),
        ("another order", [NEXT_HOP, PATH, ORIGIN].concat(), Accept),
        ("no ORIGIN", [PATH, NEXT_HOP].concat(), Withdraw),
        ("no AS_PATH", [ORIGIN, NEXT_HOP].concat(), Withdraw),
        ("no NEXT_HOP", [ORIGIN, PATH].concat(), Withdraw),
        ("no attributes", Vec::new(), Withdraw),
        ("ORIGIN 3", [&hex!("400101 03"), PATH, NEXT_HOP].concat(), Withdraw),
        ("ORIGIN of 2 octets", [&hex!("400102 0000"), PATH, NEXT_HOP].concat(), Withdraw),
        ("ORIGIN as optional", [&hex!("c00101 00"), PATH, NEXT_HOP].concat(), Withdraw),
        ("AS_PATH past its end", [ORIGIN, &hex!("400206 0202 0000fe4d"), NEXT_HOP].concat(), Withdraw),
        ("AS_PATH segment type 9", [ORIGIN, &hex!("400206 0901 0000fe4d"), NEXT_HOP].concat(), Withdraw),
        ("NEXT_HOP of 3 octets", [ORIGIN, PATH, &hex!("400303 0a0001")].concat(), Withdraw),
        ("NEXT_HOP 0.0.0.0", [ORIGIN, PATH, &hex!("400304 00000000")].concat(), Withdraw),
        ("MULTI_EXIT_DISC of 3 octets", [MANDATORY, &hex!("800403 000001")].concat(), Withdraw),
        ("LOCAL_PREF from outside", [MANDATORY, &hex!("400504 00000064")].concat(), Discard),
        ("ATOMIC_AGGREGATE of 1 octet", [MANDATORY, &hex!("400601 00")].concat(), Discard),
        ("AGGREGATOR of 3 octets", [MANDATORY, &hex!("c00703 000001")].concat(), Discard),
        ("COMMUNITIES of 5 octets", [MANDATORY, &hex!("c00805 fe4d000100")].concat(), Withdraw),
        ("ORIGINATOR_ID from outside", [MANDATORY, &hex!("800904 0a000001")].concat(), Discard),
        ("CLUSTER_LIST from outside", [MANDATORY, &hex!("800a04 0a000001")].concat(), Discard),
        ("EXTENDED_COMMUNITIES of 9", [MANDATORY, &hex!("c01009 0002fe4d0000000100")].concat(), Withdraw),
        ("AS4_PATH between new speakers", [MANDATORY, &hex!("c01106 0201 0000fe4d")].concat(), Discard),
        ("LARGE_COMMUNITY of 11", [MANDATORY, &hex!("c0200b 0000fde9 00000001 000000")].concat(), Withdraw),
        ("unknown optional transitive", [MANDATORY, &hex!("c06301 07")].concat(), Accept),
        ("a second ORIGIN", [MANDATORY, &hex!("40010102")].concat(), Discard),
        ("an attribute past the end", [MANDATORY, &hex!("c008ff 00")].concat(), Withdraw),
        ("one octet left", [MANDATORY, &hex!("40")].concat(), Withdraw),
    ];
    let attacked = Attacked::new();
    let feeder = attacked.attacker();
    let target: IpNet = "10.244.66.0/24".parse().unwrap();
    for (number, (name, attributes, expected)) in cases.iter().enumerate() {
        let before = attacked.agent.until_established("p1").unwrap().faults;
        feeder.send(&good(1, "10.244.66.0/24")).unwrap();
        feeder.send(&update(&[], attributes, PREFIX)).unwrap();
        // What follows in the stream tells when the UPDATE before it was dealt with.
        let marker = format!("10.244.{}.0/24", 100 + number);
        feeder.send(&good(1, &marker)).unwrap();
        let marker: IpNet = marker.parse().unwrap();
        let received = until(LIMIT, name, || {
            let received = attacked.agent.prefixes(RibView::Received)?;
            Ok(received.contains(&marker).then_some(received))
        })
        .unwrap();
        assert_eq!(received.contains(&target), *expected != Withdraw, "{name}");
        let after = attacked.agent.peer("p1").unwrap().faults;
        let discarded = after.discarded_attributes - before.discarded_attributes;
        let withdrawn = after.treat_as_withdraw - before.treat_as_withdraw;
        assert_eq!((discarded > 0, withdrawn > 0), (*expected == Discard, *expected == Withdraw), "{name}");
    }
    assert!(!feeder.heard().closed);
    assert_eq!(attacked.agent.peer("p1").unwrap().down_count, 0);
    drop(feeder);
    attacked.agent.until_prefixes(RibView::Received, &["10.244.200.0/24"]).unwrap();
    attacked.finish();
}

#[test]
fn updates_that_cannot_be_read_end_the_session_with_their_subcode() {
    let cases: &[(&str, Vec<u8>, Notification)] = &[
        ("withdrawn routes past the end", frame(2, &hex!("0005 0000")), refusal(3, 1, &[])),
        ("attributes past the end", frame(2, &hex!("0000 0001")), refusal(3, 1, &[])),
        ("withdrawn /33", update(&hex!("21 0a00000000"), &[], &[]), refusal(3, 10, &[])),
        ("announced /33", update(&[], MANDATORY, &hex!("21 0a00000000")), refusal(3, 10, &[])),
        (
            "unknown well-known attribute",
            update(&[], &[MANDATORY, &hex!("406301 07")].concat(), PREFIX),
            refusal(3, 2, &hex!("406301 07")),
        ),
        (
            "MP_REACH_NLRI of 4 octets",
            update(&[], &[MANDATORY, &hex!("800e04 00020100")].concat(), PREFIX),
            refusal(3, 9, &hex!("800e04 00020100")),
        ),
        (
            "MP_UNREACH_NLRI with a /129",
            update(&[], &[MANDATORY, &hex!("800f04 0002 01 81")].concat(), PREFIX),
            refusal(3, 9, &hex!("800f04 00020181")),
        ),
        (
            "MP_UNREACH_NLRI twice",
            update(&[], &[MANDATORY, &hex!("800f03 000201 800f03 000201")].concat(), PREFIX),
            refusal(3, 1, &[]),
        ),
    ];
    let attacked = Attacked::new();
    for (number, (name, octets, expected)) in cases.iter().enumerate() {
        let feeder = attacked.attacker();
        feeder.send(&good(1, "10.244.66.0/24")).unwrap();
        feeder.send(octets).unwrap();
        assert_eq!(feeder.until_closed(LIMIT).unwrap().as_ref(), Some(expected), "{name}");
        // Its routes go with the session: no Graceful Restart was agreed.
        attacked.agent.until_prefixes(RibView::Received, &["10.244.200.0/24"]).unwrap();
        let peer = attacked.agent.until_peer("p1", "down", |peer| peer.state != "Established").unwrap();
        assert_eq!(peer.down_count, 1 + number as u64, "{name}");
        assert!(peer.reason.unwrap().starts_with("we ended the session: UPDATE refused"), "{name}");
    }
    attacked.finish();
}

#[test]
fn messages_that_broke_another_speaker_do_not_break_this_one() {
    let attacked = Attacked::new();
    let mut feeder = attacked.attacker();
    for (number, line) in HOSTILE.lines().enumerate() {
        let octets: Vec<u8> =
            (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect();
        let hostile = [&[0xff; 16], octets.as_slice()].concat();
        // A message that was not cut right would swallow what follows, and the marker would not come.
        let marker: IpNet = format!("10.244.{}.0/24", 2 + number).parse().unwrap();
        feeder.send(&[hostile, good(1, &marker.to_string())].concat()).unwrap();
        let ended = until(LIMIT, line, || {
            let heard = feeder.heard();
            if heard.closed {
                let said = heard.notification.clone();
                assert!(said.as_ref().is_some_and(|said| matches!(said.code, 1 | 3)), "{line}: {said:?}");
                return Ok(Some(true));
            }
            drop(heard);
            let received = attacked.agent.prefixes(RibView::Received)?;
            Ok(received.contains(&marker).then_some(false))
        })
        .unwrap();
        if ended {
            feeder = attacked.attacker();
        }
    }
    drop(feeder);
    attacked.agent.until_prefixes(RibView::Received, &["10.244.200.0/24"]).unwrap();
    attacked.finish();
}

/// xorshift64*: the same seed gives the same attack.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit
    }

    fn octets(&mut self, most: usize) -> Vec<u8> {
        (0..=self.below(most)).map(|_| self.next() as u8).collect()
    }
}

#[test]
fn garbage_for_some_seconds_neither_stops_nor_swells_the_daemon() {
    let attacked = Attacked::new();
    let mut random = Random(0x70_77_70_61_74_68);
    let until = Instant::now() + Duration::from_secs(6);
    let mut attacks = 0u32;
    while Instant::now() < until {
        attacks += 1;
        let mut octets = match random.below(4) {
            0 => random.octets(4000),
            1 => frame(random.below(7) as u8, &random.octets(300)),
            2 => [Rack::config(1).open(), keepalive(), frame(2, &random.octets(300))].concat(),
            _ => [Rack::config(1).open(), keepalive(), good(1, "10.244.66.0/24").repeat(20)].concat(),
        };
        for _ in 0..random.below(4) {
            let at = random.below(octets.len());
            octets[at] = random.next() as u8;
        }
        let mut connection = attacked.connect();
        // The daemon may have had enough of us after the first octets.
        if connection.send(&octets).is_ok() && random.below(2) == 0 {
            connection.receive(Duration::from_millis(5)).ok();
        }
    }
    assert!(attacks > 100, "only {attacks} attacks in 6 s");
    // The attacker's own session comes up as soon as it behaves.
    let feeder = attacked.attacker();
    feeder.until_routes(1, LIMIT).unwrap();
    drop(feeder);
    attacked.agent.until_prefixes(RibView::Received, &["10.244.200.0/24"]).unwrap();
    let status = attacked.agent.status().unwrap();
    assert_eq!(status.fib.failed_count, 0, "{status:?}");
    attacked.finish();
}

#[test]
fn strangers_are_turned_away() {
    let attacked = Attacked::new();
    attacked.rack.neighbor(1).ip("address add 10.0.1.77/24 dev eth0").unwrap();
    let node: SocketAddr = Rack::node_address(1);
    for _ in 0..50 {
        let stranger = "10.0.1.77".parse().unwrap();
        let mut connection =
            Connection::dial(attacked.rack.neighbor(1), Some(stranger), node, LIMIT).unwrap();
        connection.send(&Rack::config(1).open()).ok();
        assert_eq!(connection.receive(LIMIT).unwrap(), Received::Closed, "nothing is told to a stranger");
    }
    assert_eq!(attacked.agent.peers().unwrap().len(), 2);
    attacked.finish();
}
