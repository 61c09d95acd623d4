//! Sessions over real TCP: how they come up, what keeps them down, and what `towpath peers` says about it.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy allows it in test functions only")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bgp_speaker::query::RibView;
use bgp_speaker::status::PeerStatus;
use rustix::process::Signal;
use towpath_tests::agent::{Agent, LIMIT};
use towpath_tests::feeder::message::{Attributes, Message, Notification, announce, notification};
use towpath_tests::feeder::{Config, Connection, Feeder, Received, listen};
use towpath_tests::netns::Netns;
use towpath_tests::rack::{NODE, Rack, asn, document, peer};
use towpath_tests::sandbox::Sandbox;
use towpath_tests::speakers::{Neighbor, Router};
use towpath_tests::wait::until;

/// For what must not happen: long enough for it to happen on a machine like this.
const A_WHILE: Duration = Duration::from_millis(700);
const QUICK: &str = "timers: { connectRetry: 1s, idleHoldMax: 1s }";

fn good(i: u8, prefixes: &[&str]) -> Vec<u8> {
    let prefixes: Vec<_> = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
    announce(&Attributes::new(&[asn(i)], Rack::address(i)), &prefixes)
}

fn ceased(subcode: u8) -> Option<Notification> {
    Some(Notification { code: 6, subcode, data: Vec::new() })
}

fn start(rack: &Rack, peers: &[String]) -> Agent {
    Agent::start(&rack.node, &[("all.yaml", &[NODE, &peers.concat()].concat())], "node").unwrap()
}

/// A BGPPeer `name` of the node or of neighbour 1, who is AS 65101 with id 10.0.1.2.
fn toward(name: &str, address: &str, remote: u32, more: &str) -> String {
    document("BGPPeer", name, &format!("neighbor: {{ address: {address} }}, remoteASN: {remote}, {more}"))
}

/// A daemon in the namespace of neighbour 1.
fn start_other(rack: &Rack, peers: &str) -> Agent {
    let node = document("NodeNetwork", "other", "asn: 65101, routerID: 10.0.1.2");
    Agent::start(rack.neighbor(1), &[("all.yaml", &[node.as_str(), peers].concat())], "other").unwrap()
}

/// Two daemons on one link, each with a peer `p` with these fields.
fn pair(ours: &str, theirs: &str) -> (Rack, Agent, Agent) {
    let rack = Rack::new(1).unwrap();
    let node = start(&rack, &[toward("p", "10.0.1.2", 65101, ours)]);
    let other = start_other(&rack, &toward("p", "10.0.1.1", 65001, theirs));
    (rack, node, other)
}

fn until_reason(agent: &Agent, name: &str, words: &str) -> PeerStatus {
    agent
        .until_peer(name, words, |peer| peer.reason.as_ref().is_some_and(|reason| reason.contains(words)))
        .unwrap()
}

#[test]
fn neighbours_of_a_range_come_go_and_are_forgotten_and_the_limit_holds() {
    let rack = Rack::new(1).unwrap();
    let range = |ranges: &str, max: u8| {
        document(
            "BGPPeer",
            "range",
            &format!("neighbor: {{ listen: {{ ranges: [{ranges}], max: {max} }} }}, remoteASN: external"),
        )
    };
    let agent = start(&rack, &[range("10.0.1.0/24", 3)]);
    let connect = |host: u8, limit: Duration| {
        let address = Ipv4Addr::new(10, 0, 1, host);
        let config = Config::new(65100 + u32::from(host), address);
        Feeder::connect(rack.neighbor(1), Some(address.into()), Rack::node_address(1), &config, limit)
    };
    for host in 11..16 {
        rack.neighbor(1).ip(&format!("address add 10.0.1.{host}/24 dev eth0")).unwrap();
    }
    let count = |agent: &Agent, expected: usize| {
        until(LIMIT, &format!("{expected} dynamic neighbours"), || {
            let peers = agent.peers()?;
            let up = peers.iter().filter(|peer| peer.dynamic && peer.state == "Established").count();
            if (up, peers.len()) == (expected, expected) {
                Ok(Some(()))
            } else {
                anyhow::bail!("{up} of {}", peers.len())
            }
        })
        .unwrap();
    };
    let mut feeders: Vec<Feeder> = (11..14).map(|host| connect(host, LIMIT).unwrap()).collect();
    count(&agent, 3);
    assert!(connect(14, A_WHILE).is_err(), "the fourth of three");
    feeders[2].send(&good(1, &["10.244.9.0/24"])).unwrap();
    agent.until_prefixes(RibView::Received, &["10.244.9.0/24"]).unwrap();
    drop(feeders.pop());
    count(&agent, 2);
    agent.until_prefixes(RibView::Received, &[]).unwrap();
    feeders.push(connect(14, LIMIT).unwrap());
    count(&agent, 3);
    agent.cli_ok(&["status"]).unwrap();

    // A range that shrinks ends what is outside, and nothing else.
    agent.apply("all.yaml", &[NODE, &range("10.0.1.11/32, 10.0.1.14/32", 3)].concat()).unwrap();
    assert_eq!(feeders[1].until_closed(LIMIT).unwrap(), ceased(3));
    count(&agent, 2);
    assert!(!feeders[0].heard().closed && !feeders[2].heard().closed);
    assert!(connect(12, A_WHILE).is_err(), "no longer in a range");
}

#[test]
fn gtsm_lets_in_only_what_comes_from_the_link() {
    let rack = Rack::new(1).unwrap();
    let agent = start(&rack, &[peer(1, "ttl: { security: 1 }")]);
    // Many, because an OPEN may overtake the filter that is set on an accepted connection.
    for _ in 0..50 {
        let mut caller = Connection::dial(rack.neighbor(1), None, Rack::node_address(1), LIMIT).unwrap();
        caller.send(&Rack::config(1).open()).ok();
        assert_eq!(caller.receive(LIMIT).unwrap(), Received::Closed, "TTL 64 is from far away");
    }
    rack.neighbor(1).sysctl("net/ipv4/ip_default_ttl", "255").unwrap();
    let feeder = rack.feeder(1).unwrap();
    agent.until_established("p1").unwrap();
    drop(feeder);
    drop(agent);
    let (_rack, node, other) = pair("ttl: { security: 1 }", "ttl: { security: 1 }");
    node.until_established("p").unwrap();
    other.until_established("p").unwrap();
}

#[test]
fn gtsm_is_the_same_to_frr_and_bird_whoever_connects() {
    for passive in ["Always", "Never"] {
        let rack = Rack::new(1).unwrap();
        let fields = format!("ttl: {{ security: 1 }}, passive: {passive}, {QUICK}");
        let agent = start(&rack, &[toward("p", "10.0.1.2", 65101, &fields)]);
        let mut router = Router::new(65101, Ipv4Addr::new(10, 0, 1, 2));
        let mut neighbor = Neighbor::new("10.0.1.1".parse().unwrap(), 65001);
        neighbor.gtsm = true;
        router.neighbors.push(neighbor);
        for start in [Sandbox::frr, Sandbox::bird] {
            let sandbox = start(rack.neighbor(1), &router).unwrap();
            agent.until_established("p").unwrap();
            drop(sandbox);
            agent.until_peer("p", "down", |peer| peer.state != "Established").unwrap();
        }
    }
}

#[test]
fn a_neighbour_behind_a_router_needs_multihop_on_both_sides() {
    let rack = Rack::new(1).unwrap();
    let far = Netns::fresh().unwrap();
    rack.neighbor(1).link(("eth1", &["10.8.0.1/24"]), &far, ("eth0", &["10.8.0.2/24"])).unwrap();
    rack.neighbor(1).sysctl("net/ipv4/ip_forward", "1").unwrap();
    rack.node.ip("route add 10.8.0.0/24 via 10.0.1.2").unwrap();
    far.ip("route add 10.0.1.0/24 via 10.8.0.1").unwrap();
    let config = |hops: u8| toward("p", "10.8.0.2", 65101, &format!("ttl: {{ multihop: {hops} }}, {QUICK}"));
    let agent = start(&rack, &[config(1)]);
    let listener = listen(&far, "10.8.0.2:179".parse().unwrap()).unwrap();
    let peer = until_reason(&agent, "p", "further away than TTL 1");
    assert_ne!(peer.state, "Established");
    agent.apply("all.yaml", &[NODE, &config(2)].concat()).unwrap();
    let config = Config::new(65101, Ipv4Addr::new(10, 0, 1, 2));
    let feeder = Feeder::establish(Connection::accept(&listener, LIMIT).unwrap(), &config, LIMIT).unwrap();
    agent.until_established("p").unwrap();
    drop(feeder);
}

#[test]
fn passive_says_who_connects() {
    // Only we: a caller is turned away with connection rejected.
    let rack = Rack::new(1).unwrap();
    let agent = start(&rack, &[toward("p", "10.0.1.2", 65101, &format!("passive: Never, {QUICK}"))]);
    let mut caller = Connection::dial(rack.neighbor(1), None, Rack::node_address(1), LIMIT).unwrap();
    let said = caller.receive(LIMIT).unwrap();
    assert_eq!(said, Received::Message(Message::Notification(ceased(5).unwrap())));
    let other = start_other(&rack, &toward("p", "10.0.1.1", 65001, "passive: Always"));
    let ours = agent.until_established("p").unwrap();
    assert_eq!(ours.remote_endpoint, Some("10.0.1.2:179".parse().unwrap()), "we connected");
    drop((agent, other));
    // Nobody: both wait.
    let (_rack, node, other) = pair("passive: Always", "passive: Always");
    let waited = until(A_WHILE, "a session of two that wait", || {
        Ok((node.peer("p")?.state == "Established").then_some(()))
    });
    assert!(waited.is_err());
    assert_eq!(
        (node.peer("p").unwrap().state, other.peer("p").unwrap().state),
        ("Active".into(), "Active".into())
    );
}

#[test]
fn source_interface_and_port_are_those_of_the_configuration() {
    let rack = Rack::new(1).unwrap();
    rack.node.ip("address add 10.0.1.9/24 dev eth1").unwrap();
    rack.node.ip("address add 10.77.0.1/32 dev lo").unwrap();
    rack.neighbor(1).ip("route add 10.77.0.1 via 10.0.1.1").unwrap();
    let at = |port: u16| listen(rack.neighbor(1), SocketAddr::from((Rack::address(1), port))).unwrap();
    let (usual, unusual) = (at(179), at(1790));
    let cases = [
        ("sourceAddress: 10.0.1.9", &usual, "10.0.1.9"),
        ("sourceAddress: kernel", &usual, "10.0.1.1"),
        ("sourceInterface: lo", &usual, "10.77.0.1"),
        ("bindInterface: eth1", &usual, "10.0.1.1"),
        ("sourceAddress: 10.0.1.9, bindInterface: eth1", &unusual, "10.0.1.9"),
    ];
    for (fields, listener, source) in cases {
        let port = listener.local_addr().unwrap().port();
        let spec =
            format!("neighbor: {{ address: 10.0.1.2, port: {port} }}, remoteASN: 65101, {QUICK}, {fields}");
        let agent = start(&rack, &[document("BGPPeer", "p", &spec)]);
        let connection = Connection::accept(listener, LIMIT).unwrap();
        let feeder = Feeder::establish(connection, &Rack::config(1), LIMIT).unwrap();
        let peer = agent.until_established("p").unwrap();
        assert_eq!(peer.local_endpoint.unwrap().ip(), source.parse::<IpAddr>().unwrap(), "{fields}");
        assert_eq!(peer.remote_endpoint.unwrap().port(), port, "{fields}");
        drop(feeder);
    }
    // The node's own port and addresses.
    let listening = document("NetworkConfig", "default", "listen: { port: 1179, addresses: [10.0.1.9] }");
    let agent = start(&rack, &[listening, peer(1, "")]);
    let there = SocketAddr::from(([10, 0, 1, 9], 1179));
    let feeder = Feeder::connect(rack.neighbor(1), None, there, &Rack::config(1), LIMIT).unwrap();
    agent.until_established("p1").unwrap();
    assert!(rack.feeder_within(1, A_WHILE).is_err(), "nobody listens on 179");
    drop(feeder);
}

#[test]
fn as_numbers_are_those_of_the_configuration() {
    let rack = Rack::new(1).unwrap();
    let peer = |remote: &str, more: &str| {
        let spec = format!("neighbor: {{ address: 10.0.1.2 }}, remoteASN: {remote}, passive: Always{more}");
        document("BGPPeer", "p", &spec)
    };
    let id = Ipv4Addr::new(10, 0, 1, 2);
    // remoteASN, further fields, the neighbour's AS; ours if it is accepted.
    let cases = [
        ("65101", "", 65101, Some(65001)),
        ("65101", "", 65102, None),
        ("external", "", 4_200_000_001, Some(65001)),
        ("external", "", 65001, None),
        ("internal", "", 65001, Some(65001)),
        ("internal", "", 65101, None),
        ("any", "", 65001, Some(65001)),
        ("any", "", 65102, Some(65001)),
        ("65101", ", localASN: 4200000009", 65101, Some(4_200_000_009)),
        ("internal", ", localASN: 65500", 65500, Some(65500)),
    ];
    for (remote, more, asn, expected) in cases {
        let name = format!("remoteASN {remote}{more} and {asn}");
        let agent = start(&rack, &[peer(remote, more)]);
        let config = Config::new(asn, id);
        let connect = |limit| Feeder::connect(rack.neighbor(1), None, Rack::node_address(1), &config, limit);
        match expected {
            Some(ours) => {
                let feeder = connect(LIMIT).unwrap();
                let status = agent.until_established("p").unwrap();
                assert_eq!(status.remote_asn, Some(asn), "{name}");
                assert_eq!(status.local_asn, ours, "{name}");
                let wanted = [&[65, 4], u32::to_be_bytes(ours).as_slice()].concat();
                assert!(feeder.peer_open.windows(6).any(|six| six == wanted), "{name}: our OPEN");
            }
            None => {
                let error = format!("{:#}", connect(A_WHILE).unwrap_err());
                assert!(error.contains("code: 2, subcode: 2"), "{name}: {error}");
                until_reason(&agent, "p", "OPEN refused, bad peer AS");
            }
        }
    }
}

#[test]
fn both_connect_at_once_many_times_and_one_session_stays() {
    let (rack, node, other) = pair(QUICK, QUICK);
    for round in 0..15 {
        let (ours, theirs) = until(LIMIT, "one session, the same for both", || {
            let (ours, theirs) = (node.peer("p")?, other.peer("p")?);
            let same = ours.local_endpoint == theirs.remote_endpoint
                && ours.remote_endpoint == theirs.local_endpoint;
            let up = ours.state == "Established" && theirs.state == "Established";
            if up && same { Ok(Some((ours, theirs))) } else { anyhow::bail!("{ours:?}\n{theirs:?}") }
        })
        .unwrap();
        // The loser of a collision is closed, not kept.
        until(LIMIT, "one connection", || {
            let open = String::from_utf8(rack.node.exec(&["ss", "-Htn", "state", "established"])?.stdout)?;
            if open.lines().count() == 1 { Ok(Some(())) } else { anyhow::bail!("{open}") }
        })
        .unwrap();
        let settled = until(Duration::from_millis(150), "a flap", || {
            let now = (node.peer("p")?, other.peer("p")?);
            Ok((now.0.down_count != ours.down_count || now.1.down_count != theirs.down_count).then_some(()))
        });
        assert!(settled.is_err(), "round {round}: the session flapped");
        std::thread::scope(|scope| {
            scope.spawn(|| node.cli_ok(&["bgp", "reset", "p"]).unwrap());
            scope.spawn(|| other.cli_ok(&["bgp", "reset", "p"]).unwrap());
        });
        until(LIMIT, "the reset", || Ok((node.peer("p")?.down_count > ours.down_count).then_some(())))
            .unwrap();
    }
}

#[test]
fn a_neighbour_that_falls_silent_is_given_up_after_the_hold_time() {
    let hold = "timers: { hold: 3s, keepalive: 1s, connectRetry: 1s, idleHoldMax: 1s }";
    let (_rack, node, other) = pair(hold, hold);
    let up = node.until_established("p").unwrap();
    assert_eq!((up.hold_time, up.keepalive), (Some(3), Some(1)));
    other.signal(Signal::STOP).unwrap();
    let down = until_reason(&node, "p", "Hold Timer expired");
    assert_eq!(down.down_count, 1);
    assert_eq!(down.last_error.map(|error| (error.code, error.received)), Some((4, false)));
    other.signal(Signal::CONT).unwrap();
    node.until_established("p").unwrap();
    other.until_established("p").unwrap();
}

#[test]
fn too_many_prefixes_have_the_effect_that_was_configured() {
    let rack = Rack::new(1).unwrap();
    let limit = |action: &str| {
        peer(
            1,
            &format!(
                "{QUICK}, families: [{{ afi: ipv4, safi: unicast, maxPrefix: {{ limit: 3, action: {action} }} }}]"
            ),
        )
    };
    let agent = start(&rack, &[limit("Warn")]);
    let five = ["10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24", "10.244.4.0/24", "10.244.5.0/24"];
    let feeder = rack.feeder(1).unwrap();
    feeder.send(&good(1, &five)).unwrap();
    agent.until_prefixes(RibView::Accepted, &five).unwrap();
    assert!(!feeder.heard().closed && agent.log().contains("more prefixes than maxPrefix.limit"));
    drop(feeder);

    agent.apply("all.yaml", &[NODE, &limit("Block")].concat()).unwrap();
    let feeder = rack.feeder(1).unwrap();
    feeder.send(&good(1, &five)).unwrap();
    agent.until_prefixes(RibView::Accepted, &five[..3]).unwrap();
    // What is there may still change; a place that becomes free is taken again.
    feeder.send(&good(1, &five[..2])).unwrap();
    agent.until_prefixes(RibView::Accepted, &five[..3]).unwrap();
    assert!(!feeder.heard().closed);
    drop(feeder);

    let mut data = vec![0, 1, 1];
    data.extend(3u32.to_be_bytes());
    let too_many = Some(Notification { code: 6, subcode: 1, data });
    agent.apply("all.yaml", &[NODE, &limit("Restart")].concat()).unwrap();
    let feeder = rack.feeder(1).unwrap();
    feeder.send(&good(1, &five)).unwrap();
    assert_eq!(feeder.until_closed(LIMIT).unwrap(), too_many);
    agent.until_prefixes(RibView::Received, &[]).unwrap();
    until_reason(&agent, "p1", "tried again later");
    let feeder = rack.feeder(1).unwrap();
    agent.until_established("p1").unwrap();

    agent.apply("all.yaml", &[NODE, &limit("Down")].concat()).unwrap();
    feeder.send(&good(1, &five)).unwrap();
    assert_eq!(feeder.until_closed(LIMIT).unwrap(), too_many);
    let peer = until_reason(&agent, "p1", "down until `towpath bgp reset`");
    assert_eq!(peer.state, "Idle");
    assert!(rack.feeder_within(1, A_WHILE).is_err());
    agent.cli_ok(&["bgp", "reset", "p1"]).unwrap();
    drop(rack.feeder(1).unwrap());
}

#[test]
fn operators_refresh_reset_shut_down_and_start() {
    let rack = Rack::new(2).unwrap();
    let pods = document("Advertisement", "pods", "source: { static: { cidrs: [10.244.1.0/24] } }");
    let agent = start(&rack, &[peer(1, QUICK), peer(2, ""), pods.clone()]);
    let (one, two) = (rack.feeder(1).unwrap(), rack.feeder(2).unwrap());
    one.until_routes(1, LIMIT).unwrap();
    two.until_routes(1, LIMIT).unwrap();
    agent.cli_ok(&["bgp", "refresh", "p1"]).unwrap();
    until(LIMIT, "everything again", || Ok((one.heard().announced == 2).then_some(()))).unwrap();
    assert_eq!(agent.peer("p1").unwrap().sent.route_refresh, 1, "and the neighbour was asked");

    agent.cli_ok(&["bgp", "reset", "10.0.1.2", "--reason", "new cable"]).unwrap();
    let text = |subcode: u8, text: &str| {
        Some(Notification { code: 6, subcode, data: [&[text.len() as u8], text.as_bytes()].concat() })
    };
    assert_eq!(one.until_closed(LIMIT).unwrap(), text(4, "new cable"));
    let one = rack.feeder(1).unwrap();
    agent.until_established("p1").unwrap();

    agent.cli_ok(&["bgp", "shutdown", "p1", "--reason", "lunch"]).unwrap();
    assert_eq!(one.until_closed(LIMIT).unwrap(), text(2, "lunch"));
    assert!(rack.feeder_within(1, A_WHILE).is_err());
    let shown = agent.cli_ok(&["peers"]).unwrap();
    assert!(shown.contains("administratively shut down: lunch"), "{shown}");
    // An edit that needs a new session does not open what an operator has shut.
    let edited = peer(1, &format!("{QUICK}, gracefulRestart: {{ mode: Disabled }}"));
    agent.apply("all.yaml", &[NODE, &edited, &peer(2, ""), &pods].concat()).unwrap();
    assert!(rack.feeder_within(1, A_WHILE).is_err());
    agent.cli_ok(&["bgp", "start", "p1"]).unwrap();
    drop(rack.feeder(1).unwrap());
    let nobody = agent.cli(&["bgp", "reset", "p7"]).unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("there are: p1, p2"), "{nobody:?}");
    let heard = two.heard();
    assert!(!heard.closed && heard.announced == 1, "the other session saw nothing of it");
}

fn link_local(netns: &Netns, interface: &str) -> String {
    let text = netns.ip(&format!("-6 -o address show dev {interface} scope link")).unwrap();
    let address = text.split_whitespace().nth(3).unwrap();
    address.split('/').next().unwrap().to_owned()
}

#[test]
fn link_local_neighbours_exchange_both_families_over_their_interface() {
    let rack = Rack::new(1).unwrap();
    until(LIMIT, "addresses that are no longer tentative", || {
        let tentative = |netns: &Netns| netns.ip("-6 address show tentative");
        Ok((tentative(&rack.node)? + &tentative(rack.neighbor(1))?).is_empty().then_some(()))
    })
    .unwrap();
    let (ours, theirs) = (link_local(&rack.node, "eth1"), link_local(rack.neighbor(1), "eth0"));
    let families = "families: [{ afi: ipv4, safi: unicast }, { afi: ipv6, safi: unicast }]";
    let session = |address: &str, interface: &str, remote: u32| {
        let spec =
            format!("neighbor: {{ address: '{address}%{interface}' }}, remoteASN: {remote}, {families}");
        document("BGPPeer", "p", &spec)
    };
    let pods = |n: u8| {
        let spec = format!("source: {{ static: {{ cidrs: [10.244.{n}.0/24, 'fd00:244:0:{n}::/64'] }} }}");
        document("Advertisement", "pods", &spec)
    };
    let pool = document("IPPool", "pods", "cidrs: [10.244.0.0/16, 'fd00:244::/48']");
    let node = start(&rack, &[session(&theirs, "eth1", 65101), pods(1)]);
    let other = start_other(&rack, &[session(&ours, "eth0", 65001), pods(2), pool].concat());
    node.until_established("p").unwrap();
    let cases = [(&node, 2, &theirs, "eth1"), (&other, 1, &ours, "eth0")];
    for (agent, n, gateway, interface) in cases {
        until(LIMIT, "routes over the interface", || {
            let routes = agent.installed()?;
            let way = [format!("via {gateway} dev {interface}")];
            let found = [format!("10.244.{n}.0/24"), format!("fd00:244:0:{n}::/64")]
                .iter()
                .all(|prefix| routes.iter().any(|r| r.prefix.to_string() == *prefix && r.nexthops == way));
            if found { Ok(Some(())) } else { anyhow::bail!("{routes:?}") }
        })
        .unwrap();
    }
}

#[test]
fn two_daemons_need_no_ipv4_at_all() {
    let rack = Rack::new(1).unwrap();
    let session = |address: &str, remote: u32| {
        document("BGPPeer", "p", &format!("neighbor: {{ address: '{address}' }}, remoteASN: {remote}"))
    };
    for (netns, interface) in [(&rack.node, "eth1"), (rack.neighbor(1), "eth0")] {
        netns.ip(&format!("-4 address flush dev {interface}")).unwrap();
    }
    let pods = document("Advertisement", "pods", "source: { static: { cidrs: ['fd00:244:0:1::/64'] } }");
    let node = start(&rack, &[session("fd00:1::2", 65101)]);
    let other = start_other(&rack, &[session("fd00:1::1", 65001), pods].concat());
    node.until_established("p").unwrap();
    other.until_established("p").unwrap();
    node.until_prefixes(RibView::Best, &["fd00:244:0:1::/64"]).unwrap();
}

#[test]
fn what_keeps_a_session_down_is_said_in_words() {
    let rack = Rack::new(1).unwrap();
    let at = |name: &str, address: &str, more: &str| toward(name, address, 65101, &format!("{QUICK}{more}"));
    let secret = "\n---\napiVersion: v1\nkind: Secret\nmetadata: { name: key, namespace: towpath-system }\nstringData: { password: wrong }\n";
    let agent = start(
        &rack,
        &[
            at("nobody-listens", "10.0.1.2", ""),
            at("nobody-there", "10.0.1.99", ""),
            at("no-route", "198.51.100.1", ""),
            secret.to_owned(),
        ],
    );
    until_reason(
        &agent,
        "nobody-listens",
        "10.0.1.2:179 refused the connection: no BGP speaker listens there",
    );
    until_reason(&agent, "no-route", "no route to 198.51.100.1:179");
    let shown = agent.cli(&["status"]).unwrap();
    assert_eq!(shown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&shown.stdout).contains("problem   session no-route"), "{shown:?}");
    // A neighbour that is not there, and one without our password: silence for the length of an attempt.
    agent.until_peer("nobody-there", "why", |peer| peer.reason.is_some()).unwrap();
    let with_key = at("nobody-listens", "10.0.1.2", ", auth: { md5SecretRef: { name: key } }");
    agent.apply("all.yaml", &[NODE, &with_key, secret].concat()).unwrap();
    let listener = listen(rack.neighbor(1), "10.0.1.2:179".parse().unwrap()).unwrap();
    until_reason(&agent, "nobody-listens", "probably a wrong password");

    // What the neighbour says is passed on.
    agent.apply("all.yaml", &[NODE, &at("p", "10.0.1.2", "")].concat()).unwrap();
    let mut refusing = Connection::accept(&listener, LIMIT).unwrap();
    refusing.send(&notification(2, 2, &[])).unwrap();
    until_reason(&agent, "p", "OPEN refused, bad peer AS; it expects another AS than our 65001");
    let mut refusing = Connection::accept(&listener, LIMIT).unwrap();
    refusing.send(&notification(6, 2, b"\x0breplacing \x07")).unwrap();
    until_reason(
        &agent,
        "p",
        "the peer ended the session: Cease, administratively shut down: \"replacing  \"",
    );
    let mut leaving = Connection::accept(&listener, LIMIT).unwrap();
    assert!(matches!(leaving.receive(LIMIT).unwrap(), Received::Message(Message::Open { .. })));
    drop(leaving);
    until_reason(&agent, "p", "the connection closed");
}
