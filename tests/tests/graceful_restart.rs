//! The daemon of a node dies and returns under traffic: with towpath, FRR and BIRD as ToRs that help, no
//! packet may be lost, and no route may leave the kernel.
//!
//! Needs root, and the programs in TOWPATH_BIN and TOWPATH_TOOLS (`make labs` sets both).

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy allows it in test functions only")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustix::process::Signal;
use towpath_tests::agent::{Agent, LIMIT};
use towpath_tests::fabric::{Fabric, Tor};
use towpath_tests::feeder::message::{self, Attributes, Message};
use towpath_tests::feeder::{self, Connection, Feeder, Received};
use towpath_tests::kernel::{Kind, Notice, Recorder, Snapshot};
use towpath_tests::meter::{Meter, Plan, Report};
use towpath_tests::netns::Netns;
use towpath_tests::rack::{self, NODE, Rack, document, peer};
use towpath_tests::wait::until;

const PATIENCE: Duration = Duration::from_secs(30);

/// 16 flows: both families, both directions.
fn traffic(fabric: &Fabric) -> Meter {
    Meter::start(&[fabric.pair().unwrap()], Plan { flows: 4, ..Plan::default() }).unwrap()
}

fn lossless(report: &Report) {
    assert!(report.flows.len() >= 16 && report.sent() > 10_000, "{report}");
    assert_eq!(report.lost(), 0, "{report}");
}

/// kill -9 of node1's daemon; returns when both ToRs have noticed.
fn kill(fabric: &Fabric) {
    fabric.racks.lab.node("node1").kill(Signal::KILL).unwrap();
    for tor in [1, 2] {
        until(PATIENCE, &format!("tor{tor} to lose node1"), || {
            let sessions = fabric.sessions_with_node1(tor)?;
            Ok((sessions.len() == 2 && !sessions.contains(&true)).then_some(()))
        })
        .unwrap();
    }
}

/// Nothing that forwards was taken away: no route of ours deleted, and so none added again.
fn routes_stayed(notices: &[Notice]) {
    let ours = |notice: &&Notice| matches!(notice.protocol, Some(199 | 200));
    assert_eq!(Notice::readded(notices), []);
    let deleted: Vec<_> =
        notices.iter().filter(ours).filter(|notice| notice.kind == Kind::DelRoute).collect();
    assert!(deleted.is_empty(), "{deleted:?}");
}

fn killed_and_started_again(tor: Tor) {
    let fabric = Fabric::up(tor).unwrap();
    let meter = traffic(&fabric);
    let recorder = Recorder::start(&fabric.netns("node1").unwrap()).unwrap();
    kill(&fabric);
    fabric.racks.lab.node("node1").start().unwrap();
    fabric.until_converged("node1").unwrap();
    a_second_more(&meter);
    let notices = recorder.stop().unwrap();
    let report = meter.stop().unwrap();
    println!("{tor:?}: {report}{:?}", Notice::tally(&notices));
    lossless(&report);
    routes_stayed(&notices);
}

#[test]
fn a_daemon_killed_and_started_again_loses_no_packet_with_our_own_tors() {
    killed_and_started_again(Tor::Towpath);
}

#[test]
fn a_daemon_killed_and_started_again_loses_no_packet_with_frr_as_tor() {
    killed_and_started_again(Tor::Frr);
}

#[test]
fn a_daemon_killed_and_started_again_loses_no_packet_with_bird_as_tor() {
    killed_and_started_again(Tor::Bird);
}

/// Lets the traffic run on for a second, so that a loss would be seen.
fn a_second_more(meter: &Meter) {
    let end = meter.elapsed() + Duration::from_secs(1);
    until(PATIENCE, "a second of traffic", || Ok((meter.elapsed() >= end).then_some(()))).unwrap();
}

#[test]
fn five_deaths_in_a_row_lose_no_packet() {
    let fabric = Fabric::up(Tor::Towpath).unwrap();
    let meter = traffic(&fabric);
    let recorder = Recorder::start(&fabric.netns("node1").unwrap()).unwrap();
    for _ in 0..5 {
        // Neither the ToRs nor the new daemon get the time to finish anything.
        fabric.racks.lab.node("node1").kill(Signal::KILL).unwrap();
        fabric.racks.lab.node("node1").start().unwrap();
        until(PATIENCE, "a session of the new daemon", || {
            let status = fabric.racks.ask("node1", &["status"])?;
            Ok((status["sessions"]["established"] != 0).then_some(()))
        })
        .unwrap();
    }
    fabric.until_converged("node1").unwrap();
    a_second_more(&meter);
    routes_stayed(&recorder.stop().unwrap());
    let report = meter.stop().unwrap();
    println!("{report}");
    lossless(&report);
}

/// A ToR only helps: it does not ask its nodes to keep its routes. They leave it in the moment it dies,
/// which costs nothing while its kernel forwards on, and come back to it.
#[test]
fn nodes_leave_a_tor_that_restarts_at_once_and_return_to_it() {
    let fabric = Fabric::up(Tor::Towpath).unwrap();
    let meter = traffic(&fabric);
    let killed = Instant::now();
    fabric.racks.lab.node("tor1").kill(Signal::KILL).unwrap();
    for (prefix, other) in
        [("10.244.2.0/24", "via 10.0.21.0 dev eth2"), ("fd00:244:2::/64", "via fd00:0:21::1 dev eth2")]
    {
        until(PATIENCE, "node1 to use tor2 alone", || {
            let found = fabric.racks.nexthops("node1", prefix)?.unwrap_or_default();
            anyhow::ensure!(found == [other], "{prefix} has {found:?}");
            Ok(Some(()))
        })
        .unwrap();
    }
    assert!(killed.elapsed() < Duration::from_secs(2), "it took {:?}", killed.elapsed());
    fabric.racks.lab.node("tor1").start().unwrap();
    fabric.until_converged("node1").unwrap();
    fabric.until_converged("node2").unwrap();
    a_second_more(&meter);
    let report = meter.stop().unwrap();
    println!("{report}");
    lossless(&report);
}

/// Graceful Restart as a neighbour says it (RFC 4724 section 3): the flags and each (AFI, F bit).
type RestartWords = (u8, Vec<(u16, bool)>);

/// The capability out of the body of an OPEN.
fn restart_capability(open: &[u8]) -> Option<RestartWords> {
    let mut parameters = &open[10..];
    while let [2, length, rest @ ..] = parameters {
        let (mut capabilities, after) = rest.split_at(usize::from(*length));
        while let [code, length, rest @ ..] = capabilities {
            let (value, next) = rest.split_at(usize::from(*length));
            if *code == 64 {
                let families = value[2..].chunks_exact(4);
                let family = |f: &[u8]| (u16::from_be_bytes([f[0], f[1]]), f[3] & 0x80 != 0);
                return Some((value[0] >> 4, families.map(family).collect()));
            }
            capabilities = next;
        }
        parameters = after;
    }
    None
}

/// A neighbour that keeps our routes while we restart: Restart Time 120 s, its own state preserved.
fn helper(rack: &Rack, i: u8) -> Feeder {
    let mut config = Rack::config(i);
    config.capabilities.push((64, vec![0, 120, 0, 1, 1, 0x80, 0, 2, 1, 0x80]));
    Feeder::connect(rack.neighbor(i), None, Rack::node_address(i), &config, LIMIT).unwrap()
}

const BOTH: &str = "families: [{ afi: ipv4, safi: unicast }, { afi: ipv6, safi: unicast }]";
const END_OF_RIB_V4: &[u8] = &[0, 0, 0, 0];
/// MP_UNREACH_NLRI without a prefix.
const END_OF_RIB_V6: &[u8] = &[0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1];

fn announce(feeder: &Feeder, i: u8, prefixes: &[&str]) {
    let prefixes: Vec<IpNet> = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
    let attributes = Attributes::new(&[rack::asn(i)], Rack::address(i));
    feeder.send(&message::announce(&attributes, &prefixes)).unwrap();
}

fn end_of_ribs(feeder: &Feeder) {
    feeder.send(&message::frame(2, END_OF_RIB_V4)).unwrap();
    feeder.send(&message::frame(2, END_OF_RIB_V6)).unwrap();
}

/// Routes of ours that the kernel has for IPv4, blackholes left out.
fn learned(netns: &Netns) -> BTreeSet<IpNet> {
    let text = netns.ip("-4 route show table main proto 199").unwrap();
    text.lines().map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect()
}

fn until_learned(netns: &Netns, prefixes: &[&str]) {
    let wanted: BTreeSet<IpNet> = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
    until(LIMIT, &format!("exactly {prefixes:?} in the kernel"), || {
        let found = learned(netns);
        anyhow::ensure!(found == wanted, "there are {found:?}");
        Ok(Some(()))
    })
    .unwrap();
}

fn node(peers: &[String]) -> String {
    let pods = document("Advertisement", "pods", "source: { static: { cidrs: [10.244.200.0/24] } }");
    [NODE, &pods, &peers.concat()].concat()
}

#[test]
fn the_first_open_says_whether_the_kernel_has_routes_of_an_earlier_run() {
    let rack = Rack::new(1).unwrap();
    let mut agent = Agent::start(&rack.node, &[("a.yaml", &node(&[peer(1, BOTH)]))], "node").unwrap();
    let feeder = helper(&rack, 1);
    assert_eq!(restart_capability(&feeder.peer_open), Some((0, vec![(1, false), (2, false)])), "cold");
    announce(&feeder, 1, &["10.244.1.0/24"]);
    until_learned(&rack.node, &["10.244.1.0/24"]);
    agent.kill9().unwrap();
    agent.start_again().unwrap();
    let feeder = helper(&rack, 1);
    assert_eq!(restart_capability(&feeder.peer_open), Some((8, vec![(1, true), (2, false)])), "warm");
    announce(&feeder, 1, &["10.244.1.0/24"]);
    end_of_ribs(&feeder);
    until(LIMIT, "the restart to be over", || Ok(agent.status()?.fib.converged.then_some(()))).unwrap();
    drop(feeder);
    // A session that comes back although nobody restarted: the kernel had our routes all the time.
    let feeder = helper(&rack, 1);
    assert_eq!(restart_capability(&feeder.peer_open), Some((0, vec![(1, true), (2, true)])), "running");
}

#[test]
fn a_cold_start_holds_nothing_back() {
    let rack = Rack::new(3).unwrap();
    let router = document("NetworkConfig", "default", "transit: true");
    // Neighbour 3 never comes.
    let text = node(&[router, peer(1, ""), peer(2, ""), peer(3, "")]);
    let _agent = Agent::start(&rack.node, &[("a.yaml", &text)], "node").unwrap();
    let receiver = helper(&rack, 2);
    let started = Instant::now();
    let first = receiver.until_routes(1, LIMIT).unwrap();
    assert!(first.saturating_duration_since(started) < Duration::from_millis(500), "our own prefix");
    let feeder = helper(&rack, 1);
    let started = Instant::now();
    announce(&feeder, 1, &["10.244.1.0/24"]);
    let second = receiver.until_routes(2, LIMIT).unwrap();
    let took = second.saturating_duration_since(started);
    assert!(took < Duration::from_millis(500), "a route passed on took {took:?}");
}

#[test]
fn sigterm_closes_without_a_word_where_the_neighbour_keeps_our_routes() {
    let rack = Rack::new(2).unwrap();
    let text = node(&[peer(1, ""), peer(2, "")]);
    let mut agent = Agent::start(&rack.node, &[("a.yaml", &text)], "node").unwrap();
    let (keeps, forgets) = (helper(&rack, 1), rack.feeder(2).unwrap());
    announce(&keeps, 1, &["10.244.1.0/24"]);
    announce(&forgets, 2, &["10.244.2.0/24"]);
    keeps.until_routes(1, LIMIT).unwrap();
    until_learned(&rack.node, &["10.244.1.0/24", "10.244.2.0/24"]);
    let recorder = Recorder::start(&rack.node).unwrap();
    agent.sigterm().unwrap();
    assert_eq!(keeps.until_closed(LIMIT).unwrap(), None);
    assert_eq!(keeps.heard().withdrawn, 0);
    assert_eq!(keeps.heard().routes.len(), 1);
    let cease = forgets.until_closed(LIMIT).unwrap().unwrap();
    assert_eq!((cease.code, cease.subcode), (6, 2));
    let notices = recorder.stop().unwrap();
    assert!(notices.iter().all(|notice| !matches!(notice.protocol, Some(199 | 200))), "{notices:?}");
    until_learned(&rack.node, &["10.244.1.0/24", "10.244.2.0/24"]);
}

#[test]
fn what_nobody_announces_again_is_swept_after_every_end_of_rib_and_not_before() {
    let rack = Rack::new(2).unwrap();
    let text = node(&[peer(1, ""), peer(2, "")]);
    let mut agent = Agent::start(&rack.node, &[("a.yaml", &text)], "node").unwrap();
    let all = ["10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24"];
    let feeder = helper(&rack, 1);
    announce(&feeder, 1, &all);
    until_learned(&rack.node, &all);
    agent.kill9().unwrap();
    drop(feeder);
    let recorder = Recorder::start(&rack.node).unwrap();
    agent.start_again().unwrap();

    let first = helper(&rack, 1);
    announce(&first, 1, &all[..2]);
    until(LIMIT, "two routes to be claimed", || Ok((agent.status()?.fib.unclaimed == 1).then_some(())))
        .unwrap();
    end_of_ribs(&first);
    // Neighbour 2 has not come back yet: it may be the one who announces the third route.
    let second = helper(&rack, 2);
    announce(&second, 2, &["10.244.4.0/24"]);
    until_learned(&rack.node, &["10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24", "10.244.4.0/24"]);
    assert_eq!(agent.status().unwrap().fib.unclaimed, 1);
    end_of_ribs(&second);
    until_learned(&rack.node, &["10.244.1.0/24", "10.244.2.0/24", "10.244.4.0/24"]);
    let notices = recorder.stop().unwrap();
    let touched: Vec<_> = notices
        .iter()
        .filter(|notice| notice.protocol == Some(199))
        .filter_map(|notice| Some((notice.kind, notice.destination?.0.to_string())))
        .collect();
    assert_eq!(
        touched,
        [(Kind::NewRoute, "10.244.4.0".to_owned()), (Kind::DelRoute, "10.244.3.0".to_owned())]
    );
}

/// A helper drops what it kept of ours at our End-of-RIB, so that must not come before our own prefixes; and
/// this node, which has learned nothing, must say that its kernel forwards.
#[test]
fn the_first_update_of_a_warm_start_announces_our_own_prefixes() {
    let rack = Rack::new(1).unwrap();
    let active = document("BGPPeer", "p1", "neighbor: { address: 10.0.1.2 }, remoteASN: 65101");
    let mut agent = Agent::start(&rack.node, &[("a.yaml", &node(&[active]))], "node").unwrap();
    until(LIMIT, "the blackhole", || Ok((agent.status()?.fib.blackholes == 1).then_some(()))).unwrap();
    agent.kill9().unwrap();
    let listener = feeder::listen(rack.neighbor(1), (Rack::address(1), 179).into()).unwrap();
    listener.set_nonblocking(false).unwrap();
    let mut config = Rack::config(1);
    config.capabilities.push((64, vec![0, 120, 0, 1, 1, 0x80]));
    for start in 1..=10 {
        // The daemon calls, so the session is up as early as it can be.
        let (listener, config) = (listener.try_clone().unwrap(), config.clone());
        let first_update = std::thread::spawn(move || {
            let mut connection = Connection::new(listener.accept().unwrap().0);
            connection.send(&[config.open(), message::keepalive()].concat()).unwrap();
            loop {
                match connection.receive(LIMIT).unwrap() {
                    Received::Message(Message::Open { body, .. }) => {
                        assert_eq!(restart_capability(&body), Some((8, vec![(1, true)])));
                    }
                    Received::Message(Message::Update(update)) => return update.announced,
                    Received::Message(Message::Keepalive) => {}
                    other => panic!("{other:?}"),
                }
            }
        });
        agent.start_again().unwrap();
        assert_eq!(first_update.join().unwrap(), ["10.244.200.0/24".parse().unwrap()], "start {start}");
        agent.kill9().unwrap();
    }
}

/// The documented sysctls, and what the kernel derives from them: with forwarding on, each interface forwards,
/// redirects are refused, and an interface that routes IPv6 has anycast addresses (type 4).
fn documented(line: &str) -> bool {
    const SYSCTLS: &[&str] = &[
        "net/ipv4/nexthop_compat_mode",
        "net/ipv4/fib_multipath_hash_policy",
        "net/ipv6/fib_multipath_hash_policy",
        "net/ipv4/ip_forward",
        "net/ipv4/conf/all/accept_redirects",
    ];
    match line.strip_prefix("sysctl ").and_then(|line| line.split_once(" = ")) {
        Some((name, _)) => {
            let forwarding = name.starts_with("net/ipv") && name.ends_with("/forwarding");
            let accept_ra = name.starts_with("net/ipv6/conf/") && name.ends_with("/accept_ra");
            SYSCTLS.contains(&name) || forwarding || accept_ra
        }
        None => line.starts_with("route6 ") && line.contains(r#""type":"4""#),
    }
}

#[test]
fn a_whole_life_of_the_daemon_changes_nothing_that_is_not_its_own() {
    let rack = Rack::new(2).unwrap();
    for command in [
        "route add 10.244.7.0/24 via 10.0.1.2 proto static",
        "route add 192.0.2.0/24 via 10.0.1.2 table 77",
        "rule add from 10.9.9.9 table 77",
        "nexthop add id 7 via 10.0.2.2 dev eth2",
        "route add 198.51.100.0/24 nhid 7 proto bird",
        "-6 route add fd00:244:7::/64 via fd00:1::2 proto static metric 20",
        "-6 route add blackhole fd00:77::/32 proto bgp",
    ] {
        rack.node.ip(command).unwrap();
    }
    // Only changes how the kernel shows a route on a nexthop object: without the object's content.
    rack.node.sysctl("net/ipv4/nexthop_compat_mode", "0").unwrap();
    // The kernel adds link-local addresses and their routes in its own time.
    let settled = || {
        let text = rack.node.ip("-6 address show scope link").unwrap();
        Ok((text.matches("fe80::").count() == 2 && !text.contains("tentative")).then_some(()))
    };
    until(LIMIT, "link-local addresses", settled).unwrap();
    let before = Snapshot::take(&rack.node).unwrap();

    let text = node(&[peer(1, BOTH), peer(2, BOTH)]);
    let mut agent = Agent::start(&rack.node, &[("a.yaml", &text)], "node").unwrap();
    let live = |agent: &Agent| {
        let (first, second) = (helper(&rack, 1), helper(&rack, 2));
        announce(&first, 1, &["10.244.1.0/24", "10.244.2.0/24"]);
        announce(&second, 2, &["10.244.1.0/24", "10.244.3.0/24"]);
        end_of_ribs(&first);
        end_of_ribs(&second);
        until_learned(&rack.node, &["10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24"]);
        until(LIMIT, "convergence", || Ok(agent.status()?.fib.converged.then_some(()))).unwrap();
        (first, second)
    };
    let sessions = live(&agent);
    agent.kill9().unwrap();
    drop(sessions);
    agent.start_again().unwrap();
    let sessions = live(&agent);
    agent.sigterm().unwrap();
    drop(sessions);

    let after = Snapshot::take(&rack.node).unwrap();
    let ours = |line: &str| line.contains(r#""protocol":"199""#) || line.contains(r#""protocol":"200""#);
    assert!(after.lines().filter(|line| ours(line)).count() >= 8, "routes and next hops of ours stay");
    let [before, after] = [before, after].map(|snapshot| snapshot.filter(|l| !ours(l) && !documented(l)));
    let diff = before.diff(&after);
    assert!(diff.is_empty(), "{diff}");
}
