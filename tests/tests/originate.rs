//! What a node announces and why, and what it takes: advertisements, and the safe import and export.
//!
//! What a neighbour is told is compared by the digest of its attributes, which the feeder computes from an
//! encoder of its own.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy allows it in test functions only")]

use bgp_speaker::query::RibView;
use ipnet::IpNet;
use towpath_tests::agent::{Agent, LIMIT};
use towpath_tests::feeder::message::{Attributes, Message, announce, decode};
use towpath_tests::feeder::{Config, Feeder};
use towpath_tests::rack::{NODE, Rack, asn, document, peer};
use towpath_tests::wait::until;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn good(i: u8, prefixes: &[&str]) -> Vec<u8> {
    let prefixes: Vec<IpNet> = prefixes.iter().map(|prefix| net(prefix)).collect();
    announce(&Attributes::new(&[asn(i)], Rack::address(i)), &prefixes)
}

fn advertise(spec: &str) -> String {
    document("Advertisement", "ad", spec)
}

/// A node with two eBGP neighbours.
fn two(more: &str) -> (Rack, Agent, Feeder, Feeder) {
    let rack = Rack::new(2).unwrap();
    let config = [NODE.to_owned(), peer(1, ""), peer(2, ""), more.to_owned()].concat();
    let agent = Agent::start(&rack.node, &[("all.yaml", &config)], "node").unwrap();
    let (one, two) = (rack.feeder(1).unwrap(), rack.feeder(2).unwrap());
    (rack, agent, one, two)
}

fn until_told(feeder: &Feeder, expected: &[&str]) {
    let mut wanted: Vec<IpNet> = expected.iter().map(|prefix| net(prefix)).collect();
    wanted.sort();
    until(LIMIT, &format!("exactly {expected:?} to be announced"), || {
        let mut told: Vec<IpNet> = feeder.heard().routes.keys().copied().collect();
        told.sort();
        if told == wanted { Ok(Some(())) } else { anyhow::bail!("told: {told:?}") }
    })
    .unwrap();
}

/// The digest of a route with these attributes.
fn digest(attributes: &Attributes) -> u64 {
    match decode(&announce(attributes, &[net("10.0.0.0/8")])).unwrap() {
        Message::Update(update) => update.digest,
        other => panic!("{other:?}"),
    }
}

fn until_digest(feeder: &Feeder, prefix: &str, attributes: &Attributes) {
    until(LIMIT, &format!("{prefix} with {attributes:?}"), || {
        let heard = feeder.heard();
        let told = heard.routes.get(&net(prefix)).copied();
        if told == Some(digest(attributes)) { Ok(Some(())) } else { anyhow::bail!("{heard:?}") }
    })
    .unwrap();
}

fn blackhole(rack: &Rack, prefix: &str) -> bool {
    rack.node.ip(&format!("route show table all exact {prefix}")).unwrap().contains("blackhole")
}

#[test]
fn a_static_prefix_is_announced_over_a_blackhole_that_goes_with_it() {
    let (rack, agent, one, two) = two("");
    agent.apply("ad.yaml", &advertise("source: { static: { cidrs: [10.244.1.0/24] } }")).unwrap();
    for (i, feeder) in [(1, &one), (2, &two)] {
        until_told(feeder, &["10.244.1.0/24"]);
        let attributes = Attributes::new(&[65001], Rack::node_address(i).ip());
        until_digest(feeder, "10.244.1.0/24", &attributes);
    }
    until(LIMIT, "the blackhole", || Ok(blackhole(&rack, "10.244.1.0/24").then_some(()))).unwrap();
    agent.remove("ad.yaml").unwrap();
    until_told(&one, &[]);
    until_told(&two, &[]);
    until(LIMIT, "no blackhole", || Ok((!blackhole(&rack, "10.244.1.0/24")).then_some(()))).unwrap();
}

#[test]
fn require_route_announces_only_while_another_has_the_route() {
    let (rack, agent, one, two) = two("");
    let prefix = "10.244.5.0/24";
    agent
        .apply("ad.yaml", &advertise("source: { static: { cidrs: [10.244.5.0/24], requireRoute: true } }"))
        .unwrap();
    // What we learned ourselves is no reason to announce it as ours.
    one.send(&good(1, &[prefix])).unwrap();
    until(LIMIT, "the learned route", || {
        Ok(rack.node.ip(&format!("route show {prefix}"))?.contains("proto 199").then_some(()))
    })
    .unwrap();
    rack.node.ip("link add pods type veth peer name pods1").unwrap();
    rack.node.ip("link set pods1 up").unwrap();
    rack.node.ip("link set pods up").unwrap();
    for _ in 0..2 {
        until_told(&two, &[]);
        rack.node.ip("route add 10.244.4.0/22 dev pods").unwrap();
        rack.node.ip(&format!("route add {prefix} dev pods metric 9")).unwrap();
        until_told(&two, &[prefix]);
        rack.node.ip(&format!("route del {prefix} dev pods metric 9")).unwrap();
        until_told(&two, &[]);
        rack.node.ip("route del 10.244.4.0/22 dev pods").unwrap();
    }
    rack.node.ip(&format!("route add {prefix} dev pods metric 9")).unwrap();
    until_told(&two, &[prefix]);
    // The kernel says nothing of routes that go with their interface.
    rack.node.ip("link del pods").unwrap();
    until_told(&two, &[]);
    assert!(!blackhole(&rack, prefix));
}

#[test]
fn addresses_of_interfaces_are_announced_while_they_are_there() {
    let (rack, agent, one, _two) = two("");
    rack.node.ip("address add 10.55.0.1/32 dev lo").unwrap();
    agent.apply("ad.yaml", &advertise("source: { interfaces: { names: [lo, vip0] } }")).unwrap();
    until_told(&one, &["10.55.0.1/32"]);
    rack.node.ip("address add 10.55.0.2/24 dev lo").unwrap();
    until_told(&one, &["10.55.0.1/32", "10.55.0.2/32"]);
    rack.node.ip("address del 10.55.0.1/32 dev lo").unwrap();
    until_told(&one, &["10.55.0.2/32"]);
    // An interface that comes later, and goes.
    rack.node.ip("link add vip0 type veth peer name vip1").unwrap();
    rack.node.ip("address add 10.56.0.9/32 dev vip0").unwrap();
    until_told(&one, &["10.55.0.2/32", "10.56.0.9/32"]);
    rack.node.ip("link set vip0 name other").unwrap();
    until_told(&one, &["10.55.0.2/32"]);
    rack.node.ip("link set other name vip0").unwrap();
    until_told(&one, &["10.55.0.2/32", "10.56.0.9/32"]);
    rack.node.ip("link del vip0").unwrap();
    until_told(&one, &["10.55.0.2/32"]);
}

#[test]
fn attributes_reach_external_and_internal_neighbours_as_each_may_see_them() {
    let rack = Rack::new(2).unwrap();
    let internal = document(
        "BGPPeer",
        "p2",
        "neighbor: { address: 10.0.2.2 }, remoteASN: internal, passive: Always, nextHop: Self",
    );
    let config = [NODE.to_owned(), peer(1, ""), internal].concat();
    let agent = Agent::start(&rack.node, &[("all.yaml", &config)], "node").unwrap();
    let one = rack.feeder(1).unwrap();
    let same_as = Config::new(65001, "10.0.2.2".parse().unwrap());
    let two = Feeder::connect(rack.neighbor(2), None, Rack::node_address(2), &same_as, LIMIT).unwrap();
    let prefix = "10.244.1.0/24";
    let with = |attributes: &str| {
        let spec = format!("source: {{ static: {{ cidrs: [{prefix}] }} }}, attributes: {{ {attributes} }}");
        agent.apply("ad.yaml", &advertise(&spec)).unwrap();
    };
    let mut external = Attributes::new(&[65001], Rack::node_address(1).ip());
    let mut inside = Attributes::new(&[], Rack::node_address(2).ip());
    let local_pref = |value: u32| [&[0x40, 5, 4], value.to_be_bytes().as_slice()].concat();
    inside.raw = local_pref(100);
    with("");
    until_digest(&one, prefix, &external);
    until_digest(&two, prefix, &inside);

    with("communities: ['65001:100', no-peer], largeCommunities: ['65001:1:100'], med: 77, localPref: 250");
    for attributes in [&mut external, &mut inside] {
        attributes.communities = vec![65001 << 16 | 100, 0xffff_ff04];
        attributes.large_communities = vec![[65001, 1, 100]];
        attributes.med = Some(77);
    }
    inside.raw = local_pref(250);
    until_digest(&one, prefix, &external);
    until_digest(&two, prefix, &inside);

    with("prepend: { count: 3 }");
    until_digest(&one, prefix, &Attributes::new(&[65001; 4], Rack::node_address(1).ip()));
    // Inside the AS nothing is prepended.
    let mut plain = Attributes::new(&[], Rack::node_address(2).ip());
    plain.raw = local_pref(100);
    until_digest(&two, prefix, &plain);

    // no-export stays inside... of the neighbour's AS: it is his to keep, and ours to send.
    with("communities: [no-export]");
    let mut kept = Attributes::new(&[65001], Rack::node_address(1).ip());
    kept.communities = vec![0xffff_ff01];
    until_digest(&one, prefix, &kept);
}

#[test]
fn peers_and_nodes_are_selected() {
    let (_rack, agent, one, two) = two("");
    let source = "source: { static: { cidrs: [10.244.1.0/24] } }";
    agent.apply("ad.yaml", &advertise(&format!("{source}, peers: [p2]"))).unwrap();
    until_told(&two, &["10.244.1.0/24"]);
    until_told(&one, &[]);
    agent.apply("ad.yaml", &advertise(&format!("{source}, peers: [p1]"))).unwrap();
    until_told(&one, &["10.244.1.0/24"]);
    until_told(&two, &[]);
    agent.apply("ad.yaml", &advertise(&format!("{source}, all: false"))).unwrap();
    until_told(&one, &[]);
    agent.apply("ad.yaml", &advertise(source)).unwrap();
    until_told(&one, &["10.244.1.0/24"]);
    until_told(&two, &["10.244.1.0/24"]);
    let on = |label: &str| advertise(&format!("{source}, nodeSelector: {{ matchLabels: {{ {label} }} }}"));
    agent.apply("ad.yaml", &on("rack: r1")).unwrap();
    until_told(&one, &[]);
    agent.apply("ad.yaml", &on("kubernetes.io/hostname: node")).unwrap();
    until_told(&one, &["10.244.1.0/24"]);
    // The session of a peer that no longer selects this node ends.
    let elsewhere = peer(2, "nodeSelector: { matchLabels: { rack: r9 } }");
    agent.apply("all.yaml", &[NODE.to_owned(), peer(1, ""), elsewhere].concat()).unwrap();
    assert_eq!(two.until_closed(LIMIT).unwrap().map(|said| (said.code, said.subcode)), Some((6, 3)));
    assert!(!one.heard().closed);
}

#[test]
fn a_node_takes_defaults_and_pod_ranges_and_passes_nothing_on() {
    let (_rack, agent, one, two) = two(&advertise("source: { static: { cidrs: [10.244.1.0/24] } }"));
    until_told(&two, &["10.244.1.0/24"]);
    let sent = [
        "0.0.0.0/0",
        "10.244.9.0/24",
        "10.244.0.0/16",
        "10.244.1.0/24",
        "10.244.1.128/25",
        "10.0.0.0/8",
        "192.0.2.0/24",
        "127.0.0.0/8",
        "224.0.0.0/4",
        "169.254.0.0/16",
    ];
    one.send(&good(1, &sent)).unwrap();
    agent.until_prefixes(RibView::Received, &sent).unwrap();
    agent.until_prefixes(RibView::Accepted, &["0.0.0.0/0", "10.244.0.0/16", "10.244.9.0/24"]).unwrap();
    let learned = |agent: &Agent| {
        let mut prefixes: Vec<IpNet> =
            agent.installed().unwrap().into_iter().filter(|r| r.protocol == 199).map(|r| r.prefix).collect();
        prefixes.sort();
        prefixes
    };
    until(LIMIT, "the accepted routes in the kernel", || {
        Ok((learned(&agent) == [net("0.0.0.0/0"), net("10.244.0.0/16"), net("10.244.9.0/24")]).then_some(()))
    })
    .unwrap();
    // Whatever was taken, the other neighbour was told of our own prefix only.
    agent.cli_ok(&["bgp", "refresh", "p2"]).unwrap();
    until(LIMIT, "the refresh", || Ok((two.heard().announced == 2).then_some(()))).unwrap();
    until_told(&two, &["10.244.1.0/24"]);
    until_told(&one, &["10.244.1.0/24"]);
}

#[test]
fn a_router_takes_what_can_be_routed_and_passes_it_on() {
    let transit = document("NetworkConfig", "default", "transit: true");
    let (_rack, agent, one, two) = two(&transit);
    one.send(&good(1, &["0.0.0.0/0", "10.244.9.0/24", "192.0.2.0/24", "127.0.0.0/8", "224.0.0.0/4"]))
        .unwrap();
    until_told(&two, &["0.0.0.0/0", "10.244.9.0/24", "192.0.2.0/24"]);
    let passed_on = Attributes::new(&[65001, asn(1)], Rack::node_address(2).ip());
    until_digest(&two, "192.0.2.0/24", &passed_on);
    // NO_EXPORT and NO_ADVERTISE are heeded, loops are not taken.
    let mut kept = Attributes::new(&[asn(1)], Rack::address(1));
    for (prefix, community) in [("198.18.1.0/24", 0xffff_ff01), ("198.18.2.0/24", 0xffff_ff02)] {
        kept.communities = vec![community];
        one.send(&announce(&kept, &[net(prefix)])).unwrap();
    }
    let looped = Attributes::new(&[asn(1), 65001], Rack::address(1));
    one.send(&announce(&looped, &[net("198.18.3.0/24")])).unwrap();
    one.send(&good(1, &["198.18.4.0/24"])).unwrap();
    until_told(&two, &["0.0.0.0/0", "10.244.9.0/24", "192.0.2.0/24", "198.18.4.0/24"]);
    agent
        .until_prefixes(
            RibView::Best,
            &[
                "0.0.0.0/0",
                "10.244.9.0/24",
                "192.0.2.0/24",
                "198.18.1.0/24",
                "198.18.2.0/24",
                "198.18.4.0/24",
            ],
        )
        .unwrap();
    until_told(&one, &[]);
    drop(one);
    until_told(&two, &[]);
}
