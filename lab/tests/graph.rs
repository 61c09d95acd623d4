//! A lab as a picture and as text, beside golden files; `UPDATE_GOLDEN=1` writes them anew. Look at the
//! pictures (`rsvg-convert FILE.svg -o FILE.png`) before committing them.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers included")]

#[path = "support/golden.rs"]
mod golden;

use std::path::Path;

use golden::golden;
use lab::Topology;
use lab::graph::{Graph, Session};

/// A graph of routers, hosts and links, each link with a /31 of its own.
fn graph(lab: &str, nodes: &[(String, &str)], links: &[(String, String)]) -> Graph {
    let mut text =
        format!("name: {lab}\ntopology:\n defaults: {{kind: linux, network-mode: none}}\n nodes:\n");
    let mut ports = std::collections::BTreeMap::<&str, usize>::new();
    let mut execs = std::collections::BTreeMap::<&str, Vec<String>>::new();
    let mut ends = String::new();
    for (index, (a, b)) in links.iter().enumerate() {
        let mut end = |node, host| {
            let port = ports.entry(node).or_default();
            *port += 1;
            let address = format!("ip addr add 10.0.{index}.{host}/31 dev eth{port}");
            execs.entry(node).or_default().push(address);
            format!("{node}:eth{port}")
        };
        let (a, b) = (end(a, 0), end(b, 1));
        ends += &format!("  - endpoints: [\"{a}\", \"{b}\"]\n");
    }
    for (name, image) in nodes {
        let exec = execs.remove(name.as_str()).unwrap_or_default().join(", ");
        text += &format!("  {name}: {{image: {image}, exec: [{exec}]}}\n");
    }
    text += &format!(" links:\n{ends}");
    Graph::of(&Topology::parse(&text, Path::new("/t/topo.clab.yml"), &|_| None).unwrap())
}

/// What a running lab would add: AS numbers, sessions over all links between routers, a prefix each.
fn live(mut graph: Graph) -> Graph {
    graph.live = true;
    for (index, node) in graph.nodes.iter_mut().enumerate().filter(|(_, node)| node.program.is_some()) {
        node.asn = Some(65_000 + index as u32);
        node.originates = vec![format!("10.244.{index}.0/24").parse().unwrap()];
    }
    for (index, link) in graph.links.iter().enumerate() {
        let nodes = link.ends.map(|(node, _)| node);
        if nodes.iter().all(|node| graph.nodes[*node].program.is_some()) {
            let address = link
                .ends
                .map(|(node, interface)| Some(graph.nodes[node].interfaces[interface].addresses[0].addr()));
            let states = [Some("Established".to_owned()), Some("Established".to_owned())];
            graph.sessions.push(Session { nodes, addresses: address, states, link: Some(index) });
        }
    }
    graph
}

fn rack() -> Graph {
    let node = |name: &str, image| (name.to_owned(), image);
    let nodes = [
        node("tor1", "towpath"),
        node("tor2", "frrouting/frr"),
        node("node1", "towpath"),
        node("node2", "towpath"),
        node("pod1", "alpine"),
        node("pod2", "alpine"),
    ];
    let link = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let links = [
        link("tor1", "node1"),
        link("tor1", "node2"),
        link("tor2", "node1"),
        link("tor2", "node2"),
        link("node1", "pod1"),
        link("node2", "pod2"),
        link("tor1", "tor2"),
    ];
    let mut graph = live(graph("rack", &nodes, &links));
    // A cable without carrier, a session that only one end calls Established, one over several links, a stray.
    let cut = graph.links[2].ends;
    for (node, interface) in cut {
        graph.nodes[node].interfaces[interface].up = false;
    }
    let find = |graph: &Graph, name: &str| graph.nodes.iter().position(|node| node.name == name).unwrap();
    let broken = graph.sessions.iter().position(|session| session.link == Some(2)).unwrap();
    graph.sessions[broken].states = [Some("Active".to_owned()), Some("Idle".to_owned())];
    let half = graph.sessions.iter().position(|session| session.link == Some(1)).unwrap();
    graph.sessions[half].states[1] = Some("OpenConfirm".to_owned());
    let (node1, node2) = (find(&graph, "node1"), find(&graph, "node2"));
    graph.nodes[node1].originates = (0..9).map(|i| format!("10.1.{i}.0/24").parse().unwrap()).collect();
    graph.nodes[node2].runs = false;
    graph.sessions.push(Session {
        nodes: [node1, node2],
        addresses: [Some("fd00::1".parse().unwrap()), Some("fd00::2".parse().unwrap())],
        states: [Some("Established".to_owned()), None],
        link: None,
    });
    graph.strays.push((node1, "192.0.2.1".parse().unwrap(), "Connect".to_owned()));
    graph.problems.push("tor2: `vtysh` did not answer within 3 s".to_owned());
    graph
}

#[test]
fn a_rack_with_everything_that_can_be_wrong() {
    let graph = rack();
    golden("graph-rack.svg", &graph.svg());
    golden("graph-rack.txt", &graph.text());
    golden("graph-rack.dot", &graph.dot());
    golden("graph-rack.mmd", &graph.mermaid());
}

#[test]
fn forty_nodes_in_four_layers() {
    let mut nodes = Vec::new();
    let mut links = Vec::new();
    for spine in 1..=4 {
        nodes.push((format!("spine{spine}"), "towpath"));
    }
    for tor in 1..=8 {
        nodes.push((format!("tor{tor}"), "towpath"));
        links.extend((1..=4).map(|spine| (format!("spine{spine}"), format!("tor{tor}"))));
    }
    for node in 1..=14 {
        nodes.push((format!("node{node}"), "towpath"));
        let rack = (node - 1) / 4;
        links.extend([1, 2].map(|side| (format!("tor{}", 2 * rack + side), format!("node{node}"))));
        nodes.push((format!("pod{node}"), "alpine"));
        links.push((format!("node{node}"), format!("pod{node}")));
    }
    assert_eq!(nodes.len(), 40);
    golden("graph-forty.svg", &live(graph("forty", &nodes, &links)).svg());
}

#[test]
fn a_ring_is_drawn_as_one() {
    let nodes: Vec<(String, &str)> = (1..=6).map(|index| (format!("r{index}"), "towpath")).collect();
    let links: Vec<(String, String)> =
        (1..=6).map(|index| (format!("r{index}"), format!("r{}", index % 6 + 1))).collect();
    golden("graph-ring.svg", &live(graph("ring", &nodes, &links)).svg());
}
