//! Every way through `examples/clos` carries flows: each flow is seen at the routers it passes.
//!
//! The story looks at interfaces, which shows that every router is used. Here every forwarding router notes the source
//! port of each flow it sees, so that the whole way of a flow is known: all eight, both ways, in both families.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use lab::story::table::{Colours, render};
use lab::story::{Play, Story};
use lab::{Lab, Node};
use meter::netns::Netns;
use meter::{Meter, Pair, Plan, Side};
use towpath_tests::two_tor::program;

/// Each flow passes one of each row.
const STAGES: [[&str; 2]; 3] = [["tor1a", "tor1b"], ["spine1", "spine2"], ["tor2a", "tor2b"]];
/// With this many flows a way that works stays empty once in three million runs.
const FLOWS: usize = 128;

/// Source address and port: a flow of the meter.
type Flow = (IpAddr, u16);

#[test]
fn every_way_between_the_racks_carries_flows() {
    lab::use_program(program().expect("towpath"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/clos");
    let story = Story::read(folder).unwrap_or_else(|error| panic!("{error}"));
    let first = story.steps().next().expect("a step").to_owned();
    let report = Play::new(&story).slack(5).only(first).keep().run().expect("clos comes up");
    assert!(report.held(), "{}", render(&report, Colours::Off));
    let clos = Kept(Some(Lab::running("clos").expect("clos is up")));
    let lab = clos.0.as_ref().expect("it is down only in the end");
    for router in STAGES.as_flattened() {
        watch(&lab.node(router));
    }

    let pair = Pair { a: pod(lab, 1), b: pod(lab, 3) };
    let meter = Meter::start(&[pair], Plan { flows: FLOWS, rate: 20, ..Plan::default() }).expect("flows");
    let report = meter.stop().expect("a report");
    assert_eq!(report.lost(), 0, "{report}");

    let mut ways: BTreeMap<Flow, Vec<&str>> = BTreeMap::new();
    for router in STAGES.as_flattened() {
        for flow in seen(&lab.node(router)) {
            ways.entry(flow).or_default().push(router);
        }
    }
    drop(clos);
    let mut used: BTreeMap<IpAddr, BTreeSet<Vec<&str>>> = BTreeMap::new();
    for ((from, port), way) in ways {
        let one_of_each =
            way.len() == 3 && way.iter().zip(STAGES).all(|(router, stage)| stage.contains(router));
        assert!(one_of_each, "{from} port {port} went through {way:?}");
        used.entry(from).or_default().insert(way);
    }
    assert_eq!(used.len(), 4, "two pods, two families: {used:?}");
    for (from, ways) in used {
        assert_eq!(ways.len(), 8, "flows from {from} take only {ways:?}");
    }
}

/// A lab that a story left up; taken down also when the test fails.
struct Kept(Option<Lab>);

impl Drop for Kept {
    fn drop(&mut self) {
        let down = self.0.take().map_or(Ok(()), Lab::down);
        assert!(down.is_ok() || std::thread::panicking(), "clos does not go: {down:?}");
    }
}

fn pod(lab: &Lab, number: u8) -> Side {
    let pod = lab.node(&format!("node{number}")).netns(&format!("pod{number}"));
    Side {
        netns: Netns::open(&pod.netns_path().expect("the pod is there")).expect("its network"),
        v4: Some(Ipv4Addr::new(10, 244, number, 10)),
        v6: Some(format!("fd00:244:{number}::10").parse::<Ipv6Addr>().expect("an address")),
    }
}

/// Notes every flow that the router forwards.
fn watch(router: &Node) {
    let rules = "table inet seen {
        set v4 { type ipv4_addr . inet_service; flags dynamic; size 65535; }
        set v6 { type ipv6_addr . inet_service; flags dynamic; size 65535; }
        chain forward {
            type filter hook forward priority 0;
            udp dport 9200 add @v4 { ip saddr . udp sport }
            udp dport 9200 add @v6 { ip6 saddr . udp sport }
        }
    }";
    run(router, &["nft", rules]);
}

fn seen(router: &Node) -> BTreeSet<Flow> {
    let mut flows = BTreeSet::new();
    for set in ["v4", "v6"] {
        let text = run(router, &["nft", "-j", "list", "set", "inet", "seen", set]);
        let listed: serde_json::Value = serde_json::from_str(&text).expect("JSON of nft");
        let items = listed["nftables"].as_array().expect("a list");
        let set = items.iter().find_map(|item| item.get("set")).expect("the set");
        for element in set["elem"].as_array().into_iter().flatten() {
            let key = element.get("elem").map_or(element, |element| &element["val"]);
            let (address, port) = (key["concat"][0].as_str(), key["concat"][1].as_u64());
            let address = address.expect("an address").parse().expect("an address");
            flows.insert((address, u16::try_from(port.expect("a port")).expect("a port")));
        }
    }
    flows
}

fn run(router: &Node, argv: &[&str]) -> String {
    let output = router.exec(argv).expect("the router runs");
    assert!(output.success(), "{}: {argv:?}: {}", router.name(), output.stderr);
    output.stdout
}
