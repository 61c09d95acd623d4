//! What is ours comes back when others take it away; what is not ours is left alone; what the kernel does by
//! itself when links and addresses go is made good when they return.
//!
//! Needs root, and the program in TOWPATH_BIN (`make labs` sets it).

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy allows it in test functions only")]

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustix::process::Signal;
use serde_json::Value;
use towpath_tests::agent::{Agent, LIMIT};
use towpath_tests::feeder::Feeder;
use towpath_tests::feeder::message::{self, Attributes};
use towpath_tests::kernel::{Kind, Recorder, Snapshot};
use towpath_tests::netns::Netns;
use towpath_tests::rack::{self, NODE, Rack, document, peer};
use towpath_tests::wait::until;

const BOTH: &str = "families: [{ afi: ipv4, safi: unicast }, { afi: ipv6, safi: unicast }]";
const SHARED: [&str; 2] = ["10.244.1.0/24", "fd00:244:0:1::/64"];
const ALONE: &str = "10.244.2.0/24";

/// A node with two neighbours that both announce [`SHARED`]; the first announces [`ALONE`] as well.
struct Scene {
    // Sessions end before the daemon, the daemon before the namespaces.
    first: Feeder,
    _second: Feeder,
    agent: Agent,
    rack: Rack,
}

fn advertised(cidrs: &str) -> String {
    document("Advertisement", "pods", &format!("source: {{ static: {{ cidrs: [{cidrs}] }} }}"))
}

impl Scene {
    fn new() -> Self {
        let rack = Rack::new(2).unwrap();
        let text = [NODE, &advertised("10.244.200.0/24"), &peer(1, BOTH), &peer(2, BOTH)].concat();
        let agent = Agent::start(&rack.node, &[("a.yaml", &text)], "node").unwrap();
        let (first, second) = (rack.feeder(1).unwrap(), rack.feeder(2).unwrap());
        announce(&first, 1, &SHARED);
        announce(&first, 1, &[ALONE]);
        announce(&second, 2, &SHARED);
        let scene = Self { first, _second: second, agent, rack };
        scene.until_whole(LIMIT);
        scene
    }

    fn netns(&self) -> &Netns {
        &self.rack.node
    }

    /// Waits until the kernel has all routes of ours with all their next hops, and the blackhole.
    fn until_whole(&self, limit: Duration) {
        let both = |family: u8| match family {
            4 => vec!["10.0.1.2 eth1".to_owned(), "10.0.2.2 eth2".to_owned()],
            _ => vec!["fd00:1::2 eth1".to_owned(), "fd00:2::2 eth2".to_owned()],
        };
        let wanted = BTreeMap::from([
            (SHARED[0].parse().unwrap(), both(4)),
            (SHARED[1].parse().unwrap(), both(6)),
            (ALONE.parse().unwrap(), vec!["10.0.1.2 eth1".to_owned()]),
            ("10.244.200.0/24".parse().unwrap(), vec!["blackhole".to_owned()]),
        ]);
        until(limit, "everything in the kernel", || {
            let found = ours(self.netns())?;
            anyhow::ensure!(found == wanted, "there are {found:?}");
            Ok(Some(()))
        })
        .unwrap();
    }

    fn repairs(&self) -> Vec<String> {
        self.agent.status().unwrap().fib.repairs.into_iter().map(|repair| repair.what).collect()
    }

    fn ip(&self, arguments: &str) -> String {
        self.netns().ip(arguments).unwrap()
    }
}

fn announce(feeder: &Feeder, i: u8, prefixes: &[&str]) {
    for prefix in prefixes {
        let prefix: IpNet = prefix.parse().unwrap();
        let next_hop = match prefix {
            IpNet::V4(_) => Rack::address(i),
            IpNet::V6(_) => format!("fd00:{i}::2").parse().unwrap(),
        };
        feeder.send(&message::announce(&Attributes::new(&[rack::asn(i)], next_hop), &[prefix])).unwrap();
    }
}

/// Our routes in the kernel as `ip` shows them: gateway and interface of each next hop, sorted.
fn ours(netns: &Netns) -> anyhow::Result<BTreeMap<IpNet, Vec<String>>> {
    let list = |question: &str| -> anyhow::Result<Vec<Value>> {
        let text = netns.ip(&format!("-json {question}"))?;
        Ok(serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text })?)
    };
    let mut found = BTreeMap::new();
    for (family, protocol) in [("-4", 199), ("-6", 199), ("-4", 200), ("-6", 200)] {
        let routes = list(&format!("{family} route show table main proto {protocol}"))?;
        // After the routes: an object may go with its last route, a route's object cannot be missing.
        let objects = list("nexthop show")?;
        let object = |id: &Value| objects.iter().find(|object| object["id"] == *id);
        for route in routes.iter().filter(|route| route.get("dst").is_some()) {
            let members = object(&route["nhid"]).and_then(|group| group["group"].as_array());
            let hop = |member: &Value| {
                let hop = object(&member["id"])?;
                Some(format!("{} {}", hop["gateway"].as_str()?, hop["dev"].as_str()?))
            };
            let mut hops: Vec<String> = members.into_iter().flatten().filter_map(hop).collect();
            if route["type"] == "blackhole" {
                hops.push("blackhole".to_owned());
            }
            hops.sort();
            found.insert(route["dst"].as_str().unwrap_or_default().parse()?, hops);
        }
    }
    Ok(found)
}

#[test]
fn what_others_delete_of_ours_is_back_within_a_second_and_named() {
    let scene = Scene::new();
    let installed = scene.agent.installed().unwrap();
    let group = |prefix: &str| {
        let prefix: IpNet = prefix.parse().unwrap();
        installed.iter().find(|route| route.prefix == prefix).unwrap().group.unwrap()
    };
    let (shared, alone) = (group(SHARED[0]), group(ALONE));
    let objects: Vec<Value> = serde_json::from_str(&scene.ip("-json nexthop show")).unwrap();
    let hop = objects.iter().find(|object| object["gateway"] == "10.0.2.2").unwrap()["id"].as_u64().unwrap();
    // what is done, what the status names
    let cases = [
        (format!("route del {}", SHARED[0]), format!("route {}", SHARED[0])),
        (format!("-6 route del {}", SHARED[1]), format!("route {}", SHARED[1])),
        (format!("nexthop del id {alone}"), format!("nexthop group {alone}")),
        (format!("nexthop del id {shared}"), format!("nexthop group {shared}")),
        (format!("nexthop del id {hop}"), format!("nexthop {hop}")),
        ("route del blackhole 10.244.200.0/24".to_owned(), "blackhole 10.244.200.0/24".to_owned()),
        ("-4 route flush proto 199".to_owned(), format!("route {ALONE}")),
        ("-6 route flush proto 199".to_owned(), format!("route {}", SHARED[1])),
    ];
    for (command, named) in cases {
        let before = scene.agent.status().unwrap().fib.repaired;
        scene.ip(&command);
        let done = Instant::now();
        until(LIMIT, &format!("{named} to be repaired"), || {
            Ok((scene.agent.status()?.fib.repaired > before).then_some(()))
        })
        .unwrap();
        scene.until_whole(Duration::from_secs(1).saturating_sub(done.elapsed()));
        assert!(scene.repairs().contains(&named), "{command}: {named} is not in {:?}", scene.repairs());
    }
    let screen = String::from_utf8(scene.agent.cli(&["status"]).unwrap().stdout).unwrap();
    assert!(screen.contains("repaired  blackhole 10.244.200.0/24"), "{screen}");
}

#[test]
fn a_foreign_route_with_our_key_is_left_alone_and_ours_follows_when_it_goes() {
    let scene = Scene::new();
    for (family, prefix, gateway) in
        [("-4", "10.244.9.0/24", "10.0.2.2"), ("-6", "fd00:244:0:9::/64", "fd00:2::2")]
    {
        scene.ip(&format!("{family} route add {prefix} via {gateway} metric 20 proto static"));
        let shown = || scene.ip(&format!("{family} -N route show {prefix}"));
        let foreign = shown();
        announce(&scene.first, 1, &[prefix]);
        let prefix: IpNet = prefix.parse().unwrap();
        until(LIMIT, "the foreign route to be reported", || {
            let fib = scene.agent.status()?.fib;
            let line = fib.foreign.iter().find(|foreign| foreign.prefix == prefix);
            // RTPROT_STATIC
            anyhow::ensure!(line.is_some_and(|line| line.protocol == Some(4)), "{prefix}: {fib:?}");
            Ok(Some(()))
        })
        .unwrap();
        assert_eq!(shown(), foreign, "untouched");
        let status = scene.agent.cli(&["status"]).unwrap();
        assert_eq!(status.status.code(), Some(1));
        assert!(
            String::from_utf8_lossy(&status.stdout).contains(&format!("{prefix}: a route that is not ours"))
        );
        scene.ip(&format!("{family} route del {prefix} proto static"));
        until(LIMIT, "our route in its place", || {
            Ok(ours(scene.netns())?.contains_key(&prefix).then_some(()))
        })
        .unwrap();
        assert_eq!(scene.agent.status().unwrap().fib.foreign_count, 0);
    }
}

#[test]
fn blackholes_no_longer_originated_go_at_the_start_and_the_others_are_not_touched() {
    let rack = Rack::new(1).unwrap();
    let text = |cidrs: &str| [NODE, &advertised(cidrs), &peer(1, "")].concat();
    let before = text("10.244.200.0/24, 10.244.201.0/24, 'fd00:244:0:200::/64', 'fd00:244:0:201::/64'");
    let mut agent = Agent::start(&rack.node, &[("a.yaml", &before)], "node").unwrap();
    until(LIMIT, "four blackholes", || Ok((ours(&rack.node)?.len() == 4).then_some(()))).unwrap();
    agent.sigterm().unwrap();
    assert_eq!(ours(&rack.node).unwrap().len(), 4);
    // A blackhole of somebody else.
    rack.node.ip("route add blackhole 10.244.202.0/24").unwrap();
    agent.write("a.yaml", &text("10.244.200.0/24, 'fd00:244:0:200::/64'")).unwrap();
    let recorder = Recorder::start(&rack.node).unwrap();
    agent.start_again().unwrap();
    until(LIMIT, "two blackholes", || Ok((ours(&rack.node)?.len() == 2).then_some(()))).unwrap();
    let routes: Vec<_> = recorder
        .stop()
        .unwrap()
        .into_iter()
        .filter_map(|notice| Some((notice.kind, notice.destination?.0.to_string())))
        .collect();
    let gone = |address: &str| (Kind::DelRoute, address.to_owned());
    assert_eq!(routes.len(), 2, "{routes:?}");
    assert!(
        routes.contains(&gone("10.244.201.0")) && routes.contains(&gone("fd00:244:0:201::")),
        "{routes:?}"
    );
}

/// `ip -batch`: many changes in a moment.
fn batch(netns: &Netns, lines: &str) {
    netns
        .run(|| {
            let mut ip =
                std::process::Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn()?;
            ip.stdin.take().unwrap().write_all(lines.as_bytes())?;
            anyhow::ensure!(ip.wait()?.success(), "ip -batch");
            Ok(())
        })
        .unwrap();
}

#[test]
fn lost_notifications_end_in_a_full_reading_and_equality() {
    let scene = Scene::new();
    scene.agent.signal(Signal::STOP).unwrap();
    let mut lines = String::new();
    for number in 0..120_000_u32 {
        let address = std::net::Ipv4Addr::from(0x0b00_0000 + number * 256);
        lines.push_str(&format!("route add blackhole {address}/24 proto static\n"));
    }
    batch(scene.netns(), &lines);
    // Nobody hears of this any more.
    scene.ip("-4 route flush proto 199");
    scene.ip(&format!("-6 route del {}", SHARED[1]));
    scene.ip("route del blackhole 10.244.200.0/24");
    scene.agent.signal(Signal::CONT).unwrap();
    until(LIMIT, "a resync", || Ok((scene.agent.status()?.fib.resyncs > 0).then_some(()))).unwrap();
    scene.until_whole(LIMIT);
    until(LIMIT, "convergence", || Ok(scene.agent.status()?.fib.converged.then_some(()))).unwrap();
    let foreign = scene.ip("-4 route show proto static");
    assert_eq!(foreign.lines().count(), 120_000, "none of the others' routes is gone");
}

#[test]
fn carrier_and_addresses_that_return_bring_everything_back() {
    let mut scene = Scene::new();
    let one = |family: u8| match family {
        4 => vec!["10.0.2.2 eth2".to_owned()],
        _ => vec!["fd00:2::2 eth2".to_owned()],
    };
    let before = Snapshot::take(scene.netns()).unwrap();
    let rest = |scene: &Scene| {
        until(LIMIT, "the other neighbour alone", || {
            let found = ours(scene.netns())?;
            let hops = |prefix: &str| found.get(&prefix.parse().unwrap()).cloned();
            let right = hops(SHARED[0]) == Some(one(4)) && hops(SHARED[1]) == Some(one(6));
            anyhow::ensure!(right && hops(ALONE).is_none(), "there are {found:?}");
            Ok(Some(()))
        })
        .unwrap();
    };
    let back = |scene: &mut Scene| {
        scene.first = scene.rack.feeder(1).unwrap();
        announce(&scene.first, 1, &SHARED);
        announce(&scene.first, 1, &[ALONE]);
        scene.until_whole(LIMIT);
    };

    scene.rack.neighbor(1).ip("link set eth0 down").unwrap();
    rest(&scene);
    let peer = scene.agent.until_peer("p1", "down", |peer| peer.state != "Established").unwrap();
    assert!(peer.reason.as_deref().unwrap_or_default().contains("link"), "{:?}", peer.reason);
    scene.rack.neighbor(1).ip("link set eth0 up").unwrap();
    // IPv6 addresses of an interface that goes down are gone.
    scene.rack.neighbor(1).ip("address replace fd00:1::2/64 dev eth0 nodad").unwrap();
    back(&mut scene);

    scene.ip("address del 10.0.1.1/24 dev eth1");
    // The neighbour is still on that link, which is all a next hop needs; only the kernel must be told so.
    let onlink = || {
        Ok::<_, anyhow::Error>(
            scene.ip("nexthop show").contains("via 10.0.1.2 dev eth1 scope link proto 199 onlink"),
        )
    };
    until(LIMIT, "an on-link next hop", || Ok(onlink()?.then_some(()))).unwrap();
    scene.until_whole(LIMIT);
    scene.ip("address add 10.0.1.1/24 dev eth1");
    until(LIMIT, "an ordinary next hop", || Ok((!onlink()?).then_some(()))).unwrap();
    scene.until_whole(LIMIT);
    assert_eq!(scene.agent.peer("p1").unwrap().down_count, 1, "the session outlived its address");

    // Equal to before, but for the numbers of nexthop objects.
    let foreign = |snapshot: &Snapshot| {
        snapshot.filter(|line| !line.contains(r#""protocol":"199""#) && !line.starts_with("link "))
    };
    let diff = foreign(&before).diff(&foreign(&Snapshot::take(scene.netns()).unwrap()));
    assert!(diff.is_empty(), "{diff}");
}
