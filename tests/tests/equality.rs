//! A large table with everything that happens to it: at the end the RIB, the kernel and the next router hold
//! the same.
//!
//! Two neighbours announce overlapping parts of 100,000 prefixes to a router, which installs them and passes
//! them on to a third. Twenty rounds of random changes follow, from a fixed seed: withdrawals, announcements
//! with other attributes, a session lost with all its routes. Needs root, and the program in TOWPATH_BIN
//! (`make labs` sets it).

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy allows it in test functions only")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bgp_speaker::query::RibView;
use ipnet::IpNet;
use serde_json::Value;
use towpath_tests::agent::Agent;
use towpath_tests::feeder::message::{self, Attributes};
use towpath_tests::feeder::{Feeder, load};
use towpath_tests::netns::Netns;
use towpath_tests::rack::{self, NODE, Rack, document, peer};
use towpath_tests::wait::until;

const PREFIXES: usize = 100_000;
const ROUNDS: u64 = 20;
const SEED: u64 = 0x7470_7001;
const PATIENCE: Duration = Duration::from_secs(40);

/// A neighbour that announces, and what it says at present.
struct Source {
    i: u8,
    feeder: Feeder,
    table: BTreeMap<IpNet, Attributes>,
}

impl Source {
    fn announce(&mut self, attributes: &Attributes, prefixes: &[IpNet]) {
        self.feeder.send(&message::announce(attributes, prefixes)).unwrap();
        self.table.extend(prefixes.iter().map(|prefix| (*prefix, attributes.clone())));
    }

    fn withdraw(&mut self, prefixes: &[IpNet]) {
        self.feeder.send(&message::withdraw(prefixes)).unwrap();
        prefixes.iter().for_each(|prefix| drop(self.table.remove(prefix)));
    }
}

/// xorshift64*: the same rounds each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % limit
    }
}

/// The paths in use by RFC 4271 section 9.1 and multipath: the shortest AS_PATHs, whichever neighbour.
fn expected(sources: &[Source]) -> BTreeMap<IpNet, BTreeSet<String>> {
    let mut best: BTreeMap<IpNet, (usize, BTreeSet<String>)> = BTreeMap::new();
    for source in sources {
        let gateway = Rack::address(source.i).to_string();
        for (prefix, attributes) in &source.table {
            let length = attributes.as_path.len();
            let entry = best.entry(*prefix).or_insert((length, BTreeSet::new()));
            if length < entry.0 {
                *entry = (length, BTreeSet::new());
            }
            if length == entry.0 {
                entry.1.insert(gateway.clone());
            }
        }
    }
    best.into_iter().map(|(prefix, (_, gateways))| (prefix, gateways)).collect()
}

/// Gateways of our routes in the kernel, as `ip` tells them.
fn kernel(netns: &Netns) -> anyhow::Result<BTreeMap<IpNet, BTreeSet<String>>> {
    let list = |question: &str| -> anyhow::Result<Vec<Value>> {
        let text = netns.ip(&format!("-json {question}"))?;
        Ok(serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text })?)
    };
    let routes = list("-4 route show table main proto 199")?;
    let objects: HashMap<u64, Value> = list("nexthop show")?
        .into_iter()
        .filter_map(|object| Some((object["id"].as_u64()?, object)))
        .collect();
    let gateways = |route: &Value| -> BTreeSet<String> {
        let members = route["nhid"].as_u64().and_then(|id| objects.get(&id)?["group"].as_array());
        let hop =
            |member: &Value| objects.get(&member["id"].as_u64()?)?["gateway"].as_str().map(str::to_owned);
        members.into_iter().flatten().filter_map(hop).collect()
    };
    let entry = |route: &Value| Ok((route["dst"].as_str().unwrap_or_default().parse()?, gateways(route)));
    routes.iter().map(entry).collect()
}

/// The first few entries in which two tables differ.
fn differences<V: PartialEq + std::fmt::Debug>(
    left: &BTreeMap<IpNet, V>,
    right: &BTreeMap<IpNet, V>,
) -> Vec<String> {
    let all: BTreeSet<&IpNet> = left.keys().chain(right.keys()).collect();
    let differ = all.into_iter().filter(|prefix| left.get(prefix) != right.get(prefix));
    differ
        .take(5)
        .map(|prefix| format!("{prefix}: {:?}, {:?}", left.get(prefix), right.get(prefix)))
        .collect()
}

#[test]
fn after_twenty_random_rounds_rib_kernel_and_receiver_hold_the_same() {
    let rack = Rack::new(3).unwrap();
    let router = document("NetworkConfig", "default", "transit: true");
    let text = [NODE, &router, &peer(1, ""), &peer(2, ""), &peer(3, "")].concat();
    let agent = Agent::start(&rack.node, &[("a.yaml", &text)], "node").unwrap();
    let receiver = rack.feeder(3).unwrap();
    let mut random = Random(SEED);
    let groups = load::internet(PREFIXES, SEED, rack::asn(1), Rack::address(1));
    let prefixes: Vec<IpNet> = groups.iter().flat_map(|group| group.prefixes.iter().copied()).collect();
    let mut sources = Vec::new();
    for i in [1, 2] {
        let mut source = Source { i, feeder: rack.feeder(i).unwrap(), table: BTreeMap::new() };
        for group in &groups {
            // The second neighbour has two thirds, half of those as good as the first one's.
            let choice = random.below(3);
            if i == 1 || choice > 0 {
                let mut attributes = group.attributes.clone();
                attributes.next_hop = Rack::address(i);
                attributes.as_path[0] = rack::asn(i);
                if i == 2 && choice == 2 {
                    attributes.as_path.push(64_999);
                }
                source.announce(&attributes, &group.prefixes);
            }
        }
        sources.push(source);
    }

    for round in 0..ROUNDS {
        let source = &mut sources[random.below(2) as usize];
        let from = random.below(PREFIXES as u64) as usize;
        let size = 1 + random.below(5000) as usize;
        let chosen: Vec<IpNet> = prefixes.iter().cycle().skip(from).take(size).copied().collect();
        match random.below(8) {
            0..3 => source.withdraw(&chosen),
            3..7 => {
                let length = 2 + random.below(4);
                let mut path = vec![rack::asn(source.i)];
                path.extend((0..length).map(|_| 1000 + random.below(1000) as u32));
                let mut attributes = Attributes::new(&path, Rack::address(source.i));
                attributes.communities = vec![random.below(1 << 31) as u32];
                source.announce(&attributes, &chosen);
            }
            _ => {
                let half = prefixes.iter().skip(from % 2).step_by(2).copied().collect::<Vec<_>>();
                source.withdraw(&half);
            }
        }
        // Once in the middle of everything: all routes of a neighbour go at once, and some come back.
        if round == ROUNDS / 2 {
            let source = &mut sources[0];
            let kept: Vec<(IpNet, Attributes)> =
                std::mem::take(&mut source.table).into_iter().step_by(3).collect();
            let name = format!("p{}", source.i);
            let downs = agent.peer(&name).unwrap().down_count;
            source.feeder.send(&message::notification(6, 4, &[])).unwrap();
            agent.until_peer(&name, "down", |peer| peer.down_count > downs).unwrap();
            source.feeder = rack.feeder(source.i).unwrap();
            for (prefix, attributes) in kept {
                source.announce(&attributes, &[prefix]);
            }
        }
    }

    let wanted = expected(&sources);
    println!("{} of {PREFIXES} prefixes are left", wanted.len());
    receiver.until_routes(wanted.len(), PATIENCE).unwrap();
    until(PATIENCE, "the kernel to have everything", || {
        let fib = agent.status()?.fib;
        anyhow::ensure!(fib.converged && fib.routes_v4 == wanted.len() as u64, "{fib:?}");
        Ok(Some(()))
    })
    .unwrap();

    let mut rib: BTreeMap<IpNet, BTreeSet<String>> = BTreeMap::new();
    let mut paths: BTreeMap<IpNet, String> = BTreeMap::new();
    for route in agent.routes(RibView::Best, None).unwrap() {
        rib.entry(route.prefix).or_default().insert(route.nexthop.unwrap().to_string());
        if route.best {
            paths.insert(
                route.prefix,
                format!("{} {:?} {:?}", route.as_path, route.communities, route.large_communities),
            );
        }
    }
    assert_eq!(differences(&rib, &wanted), [] as [String; 0], "RIB and what was announced");
    let fib = kernel(&rack.node).unwrap();
    assert_eq!(differences(&fib, &wanted), [] as [String; 0], "kernel and what was announced");
    let heard = receiver.heard();
    let told: BTreeMap<IpNet, u64> = heard.routes.iter().map(|(prefix, digest)| (*prefix, *digest)).collect();
    assert!(told.keys().eq(wanted.keys()), "the receiver's prefixes");
    // Equal attributes in the RIB are equal attributes at the receiver, and different ones different.
    let mut seen: HashMap<&str, u64> = HashMap::new();
    for (prefix, digest) in &told {
        let known = *seen.entry(&paths[prefix]).or_insert(*digest);
        assert_eq!(known, *digest, "{prefix}: {}", paths[prefix]);
    }
    let digests: BTreeSet<u64> = seen.values().copied().collect();
    assert_eq!(digests.len(), seen.len(), "as many attribute sets at the receiver as in the RIB");
}
