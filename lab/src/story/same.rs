//! `same: tables`: RIB, kernel and neighbours hold the same, on every node that runs towpath.
//!
//! In: what each towpath says (`towpath peers`, `towpath routes best|received|advertised`) and what its
//! kernel says over netlink. Out: the differences, none when all agree:
//! - every session is Established, and its other end says so too;
//! - the paths in use equal the kernel's routes, none missing, none left over, with the same next hops;
//! - what a node tells a neighbour (Adj-RIB-Out) equals what that one has from it (Adj-RIB-In), with its
//!   attributes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use ipnet::IpNet;
use meter::kernel::{Route as KernelRoute, routes};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::scene::Scene;
use super::units::count;
use crate::Node;

/// A large table takes a while to print.
const ASK: Duration = Duration::from_secs(20);
/// The protocol number of the routes that towpath installs.
const TOWPATH: u8 = 199;
const MAIN: u32 = 254;
/// Differences of one kind that are named; the others are counted.
const NAMED: usize = 3;

/// One node's tables.
#[derive(Debug, Clone, Default)]
struct Tables {
    name: String,
    peers: Vec<Peer>,
    /// Next hops in use, by prefix; prefixes of its own are left out.
    rib: BTreeMap<IpNet, BTreeSet<IpAddr>>,
    /// Next hops of towpath's routes in the kernel.
    kernel: BTreeMap<IpNet, BTreeSet<IpAddr>>,
    /// What came from each neighbour, and what each is told.
    received: BTreeMap<IpAddr, BTreeMap<IpNet, String>>,
    advertised: BTreeMap<IpAddr, BTreeMap<IpNet, String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Peer {
    neighbor: IpAddr,
    state: String,
    local_endpoint: Option<SocketAddr>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Path {
    prefix: IpNet,
    peer: Option<String>,
    neighbor: Option<IpAddr>,
    nexthop: Option<IpAddr>,
    as_path: String,
    origin: String,
    med: Option<u32>,
    communities: Vec<String>,
    large_communities: Vec<String>,
    best: bool,
    multipath: bool,
}

/// Whether all tables are the same; otherwise where they differ.
pub(super) fn tables(scene: &Scene) -> Result<(), String> {
    let nodes: Vec<Node> = scene.towpaths().collect();
    if nodes.is_empty() {
        return Err("no node runs towpath".to_owned());
    }
    let read = |node: &Node| -> Result<Tables, String> {
        read(scene, node).map_err(|error| format!("{}: {error:#}", node.name()))
    };
    let tables: Vec<Tables> = nodes.iter().map(read).collect::<Result<_, _>>()?;
    let differences = compare(&tables);
    if differences.is_empty() { Ok(()) } else { Err(differences.join("; ")) }
}

fn read(scene: &Scene, node: &Node) -> anyhow::Result<Tables> {
    let mut tables = Tables { name: node.name().to_owned(), ..Tables::default() };
    tables.peers = ask(node, &["peers"])?;
    let best: Vec<Path> = ask(node, &["routes", "best"])?;
    for path in best.iter().filter(|path| path.best || path.multipath) {
        // What it originates has no neighbour, and the kernel's route to it is not ours to install.
        if let (Some(_), Some(nexthop)) = (&path.peer, path.nexthop) {
            tables.rib.entry(path.prefix).or_default().insert(nexthop);
        }
    }
    tables.received = by_neighbor(ask(node, &["routes", "received"])?);
    tables.advertised = by_neighbor(ask(node, &["routes", "advertised"])?);
    let netns = &scene.netns(node.name())?;
    for ipv4 in [true, false] {
        for route in routes(netns, ipv4)?.iter().filter(|route| ours(route)) {
            let prefix =
                IpNet::new(route.destination.0, route.destination.1).context("the kernel's prefix")?;
            tables.kernel.entry(prefix).or_default().extend(route.used().filter_map(|hop| hop.via));
        }
    }
    Ok(tables)
}

fn ours(route: &KernelRoute) -> bool {
    route.protocol == TOWPATH && route.table == MAIN && route.unicast
}

fn ask<T: DeserializeOwned>(node: &Node, words: &[&str]) -> anyhow::Result<T> {
    let argv = [&["towpath"], words, &["-o", "json"]].concat();
    let output = node.exec_within(ASK, &argv)?;
    ensure!(output.success(), "`{}` failed: {}", argv.join(" "), output.stderr.trim());
    serde_json::from_str(&output.stdout)
        .with_context(|| format!("`{}` printed something else", argv.join(" ")))
}

fn by_neighbor(paths: Vec<Path>) -> BTreeMap<IpAddr, BTreeMap<IpNet, String>> {
    let mut tables: BTreeMap<IpAddr, BTreeMap<IpNet, String>> = BTreeMap::new();
    for path in paths {
        if let Some(neighbor) = path.neighbor {
            tables.entry(neighbor).or_default().insert(path.prefix, path.attributes());
        }
    }
    tables
}

impl Path {
    /// Everything that goes over the wire between two ASes, in words that can be compared.
    fn attributes(&self) -> String {
        let nexthop = self.nexthop.map_or_else(|| "-".to_owned(), |nexthop| nexthop.to_string());
        let med = self.med.map_or_else(String::new, |med| format!(" med {med}"));
        let communities = [&self.communities[..], &self.large_communities[..]].concat().join(" ");
        format!("via {nexthop}, AS_PATH {} {}{med} {communities}", self.as_path, self.origin)
            .trim_end()
            .to_owned()
    }
}

fn compare(tables: &[Tables]) -> Vec<String> {
    let mut differences = Vec::new();
    // A session is known by its two addresses; a node that has them the other way round is its other end.
    let mut ends: HashMap<(IpAddr, IpAddr), &Tables> = HashMap::new();
    for node in tables {
        for peer in &node.peers {
            if peer.state != "Established" {
                differences.push(format!("{}: session {} is {}", node.name, peer.neighbor, peer.state));
            } else if let Some(local) = peer.local_endpoint {
                ends.insert((local.ip(), peer.neighbor), node);
            }
        }
        differences.extend(unequal(
            &node.rib,
            &node.kernel,
            |prefix| format!("{}: {prefix}", node.name),
            ["RIB", "kernel"],
        ));
    }
    let nothing = BTreeMap::new();
    for ((local, neighbor), node) in &ends {
        // A neighbour that runs no towpath cannot be asked in this way.
        let Some(other) = ends.get(&(*neighbor, *local)) else {
            if tables.iter().any(|other| other.peers.iter().any(|peer| peer.neighbor == *local)) {
                differences
                    .push(format!("{}: only this end of session {neighbor} is Established", node.name));
            }
            continue;
        };
        let told = node.advertised.get(neighbor).unwrap_or(&nothing);
        let heard = other.received.get(local).unwrap_or(&nothing);
        let name = |prefix: &IpNet| format!("{} to {} ({neighbor}): {prefix}", node.name, other.name);
        differences.extend(unequal(told, heard, name, ["told", "heard"]));
    }
    differences.sort();
    differences
}

/// Where two tables differ: the first few by name, the others counted.
fn unequal<V: PartialEq + Debug>(
    left: &BTreeMap<IpNet, V>,
    right: &BTreeMap<IpNet, V>,
    name: impl Fn(&IpNet) -> String,
    sides: [&str; 2],
) -> Vec<String> {
    let all: BTreeSet<&IpNet> = left.keys().chain(right.keys()).collect();
    let differ: Vec<&IpNet> =
        all.into_iter().filter(|prefix| left.get(prefix) != right.get(prefix)).collect();
    let shown = |value: Option<&V>| value.map_or_else(|| "nothing".to_owned(), |value| format!("{value:?}"));
    let mut words: Vec<String> = differ
        .iter()
        .take(NAMED)
        .map(|prefix| {
            let (left, right) = (shown(left.get(prefix)), shown(right.get(prefix)));
            format!("{}: {} {left}, {} {right}", name(prefix), sides[0], sides[1])
        })
        .collect();
    if let (Some(more), Some(last)) =
        (differ.len().checked_sub(NAMED).filter(|more| *more > 0), words.last_mut())
    {
        last.push_str(&format!(" and {} more prefixes", count(more as u64)));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    /// Two nodes that agree: a announces 10.1.0.0/24 to b.
    fn pair() -> [Tables; 2] {
        let [a, b]: [IpAddr; 2] = ["10.0.0.0".parse().unwrap(), "10.0.0.1".parse().unwrap()];
        let peer = |local: IpAddr, neighbor| Peer {
            neighbor,
            state: "Established".to_owned(),
            local_endpoint: Some(SocketAddr::new(local, 179)),
        };
        let route = |via: IpAddr| BTreeMap::from([(net("10.1.0.0/24"), BTreeSet::from([via]))]);
        let told = BTreeMap::from([(net("10.1.0.0/24"), "via 10.0.0.0, AS_PATH 65001 igp".to_owned())]);
        let first = Tables {
            name: "a".to_owned(),
            peers: vec![peer(a, b)],
            advertised: BTreeMap::from([(b, told.clone())]),
            ..Tables::default()
        };
        let second = Tables {
            name: "b".to_owned(),
            peers: vec![peer(b, a)],
            rib: route(a),
            kernel: route(a),
            received: BTreeMap::from([(a, told)]),
            ..Tables::default()
        };
        [first, second]
    }

    #[test]
    fn tables_that_agree_have_no_differences() {
        assert_eq!(compare(&pair()), [] as [String; 0]);
    }

    #[test]
    fn every_disagreement_is_named() {
        type Break = fn(&mut [Tables; 2]);
        let cases: [(Break, &str); 7] = [
            (|t| t[0].peers[0].state = "Active".to_owned(), "a: session 10.0.0.1 is Active"),
            (
                |t| t[0].peers[0].state = "Active".to_owned(),
                "b: only this end of session 10.0.0.0 is Established",
            ),
            (|t| t[1].kernel.clear(), "b: 10.1.0.0/24: RIB {10.0.0.0}, kernel nothing"),
            (|t| t[1].rib.clear(), "b: 10.1.0.0/24: RIB nothing, kernel {10.0.0.0}"),
            (
                |t| {
                    drop(
                        t[1].kernel.insert(net("10.1.0.0/24"), BTreeSet::from(["10.0.0.9".parse().unwrap()])),
                    )
                },
                "b: 10.1.0.0/24: RIB {10.0.0.0}, kernel {10.0.0.9}",
            ),
            (
                |t| t[1].received.clear(),
                "a to b (10.0.0.1): 10.1.0.0/24: told \"via 10.0.0.0, AS_PATH 65001 igp\", heard nothing",
            ),
            (
                |t| {
                    let told = t[0].advertised.values_mut().next().unwrap();
                    told.extend((0..5).map(|i| (net(&format!("10.2.{i}.0/24")), String::new())));
                },
                "a to b (10.0.0.1): 10.2.2.0/24: told \"\", heard nothing and 2 more prefixes",
            ),
        ];
        for (spoil, expected) in cases {
            let mut tables = pair();
            spoil(&mut tables);
            let found = compare(&tables);
            assert!(found.iter().any(|difference| difference == expected), "{expected}: {found:?}");
        }
    }

    #[test]
    fn the_json_of_towpath_is_read() {
        let text = r#"[{"prefix": "10.1.0.0/24", "peer": "tor", "neighbor": "10.0.0.0", "nexthop": "10.0.0.0",
            "asPath": "65001", "origin": "igp", "localPref": null, "med": 5, "communities": ["65001:1"],
            "largeCommunities": [], "best": true, "multipath": false, "stale": false, "verdict": "best"}]"#;
        let paths: Vec<Path> = serde_json::from_str(text).unwrap();
        assert_eq!(paths[0].attributes(), "via 10.0.0.0, AS_PATH 65001 igp med 5 65001:1");
    }
}
