//! What a running lab says of itself: addresses and carrier of each node, sessions, what is announced.
//!
//! All nodes are asked at once, with little patience: a frozen program must not hide the others.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use ipnet::IpNet;
use serde_json::Value;

use super::{Graph, Session, is_link_local};
use crate::file::links::device_name;
use crate::lab::Lab;
use crate::running::Node;
use crate::speakers::{self, Speaker};

const PATIENCE: Duration = Duration::from_secs(3);

/// One node's answers.
#[derive(Default)]
struct Facts {
    runs: bool,
    /// By the kernel's name: addresses, and whether it has carrier.
    interfaces: BTreeMap<String, (Vec<IpNet>, bool)>,
    sessions: Vec<(IpAddr, String)>,
    originates: Vec<IpNet>,
    /// Our AS, and those of the neighbours.
    asn: Option<u32>,
    neighbor_asns: Vec<(IpAddr, u32)>,
    problems: Vec<String>,
}

pub(super) fn learn(graph: &mut Graph, lab: &Lab) {
    let facts: Vec<Facts> = std::thread::scope(|scope| {
        let ask = |node: &super::Node| {
            let node = lab.find(&node.name);
            scope.spawn(move || node.map_or_else(|error| gone(&error), |node| ask(&node)))
        };
        let threads: Vec<_> = graph.nodes.iter().map(ask).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| gone(&"asking it panicked")))
            .collect()
    });
    for (node, facts) in graph.nodes.iter_mut().zip(&facts) {
        node.runs = facts.runs;
        node.asn = facts.asn;
        node.originates.clone_from(&facts.originates);
        graph.problems.extend(facts.problems.iter().map(|problem| format!("{}: {problem}", node.name)));
        if !facts.interfaces.is_empty() {
            interfaces(node, &facts.interfaces);
        }
    }
    for (index, facts) in facts.iter().enumerate() {
        for (address, state) in &facts.sessions {
            session(graph, index, *address, state);
        }
        for (address, asn) in &facts.neighbor_asns {
            if let Some((node, _)) = owner(graph, index, *address) {
                graph.nodes[node].asn.get_or_insert(*asn);
            }
        }
    }
    graph.sessions.sort_by_key(|session| (session.nodes, session.link, session.family()));
}

fn gone(error: &dyn std::fmt::Display) -> Facts {
    Facts { problems: vec![error.to_string()], ..Facts::default() }
}

fn ask(node: &Node) -> Facts {
    let mut facts = Facts::default();
    match node.status() {
        Ok(status) => facts.runs = node.spec().command.is_empty() || status.pid.is_some(),
        Err(error) => return gone(&error),
    }
    let mut keep =
        |outcome: anyhow::Result<()>| facts.problems.extend(outcome.err().map(|error| format!("{error:#}")));
    let run = |argv: &[&str]| -> anyhow::Result<String> {
        let output = node.exec_within(PATIENCE, argv)?;
        ensure!(output.success(), "`{}` failed: {}", argv.join(" "), output.stderr.trim());
        Ok(output.stdout)
    };
    keep(addresses(&run).map(|found| facts.interfaces = found));
    let Some(speaker) = Speaker::of(node.spec()).filter(|_| facts.runs) else { return facts };
    let sessions = speaker.sessions(&run).map(|sessions| {
        facts.sessions = sessions.into_iter().map(|(address, session)| (address, session.state)).collect();
    });
    // A program that does not answer would only be waited for again.
    let answers = sessions.is_ok();
    keep(sessions);
    if answers {
        for v6 in [false, true] {
            keep(speaker.routes(&run, v6).map(|table| facts.originates.extend(own(table))));
        }
        if speaker == Speaker::Towpath {
            keep(asns(&run, &mut facts.asn, &mut facts.neighbor_asns));
        }
    }
    facts
}

/// What a node announces as its own: paths that nobody told it.
fn own(table: speakers::Table) -> impl Iterator<Item = IpNet> {
    let own = |paths: &[speakers::Path]| {
        paths.iter().any(|path| path.next_hops.is_empty() && path.as_path.is_empty())
    };
    table.into_iter().filter(move |(_, paths)| own(paths)).map(|(prefix, _)| prefix)
}

fn addresses(run: speakers::Run<'_>) -> anyhow::Result<BTreeMap<String, (Vec<IpNet>, bool)>> {
    let text = run(&["ip", "-json", "addr", "show"])?;
    let list: Vec<Value> = serde_json::from_str(&text).context("`ip -json addr show` printed no list")?;
    let interface = |entry: &Value| {
        let name = entry["ifname"].as_str()?.to_owned();
        let flags = entry["flags"].as_array()?;
        let carrier = flags.iter().any(|flag| flag == "LOWER_UP") && flags.iter().any(|flag| flag == "UP");
        let address = |info: &Value| {
            let address: IpAddr = info["local"].as_str()?.parse().ok()?;
            IpNet::new(address, u8::try_from(info["prefixlen"].as_u64()?).ok()?).ok()
        };
        let addresses = entry["addr_info"].as_array()?.iter().filter_map(address);
        Some((name, (addresses.filter(|net| !net.addr().is_loopback()).collect(), carrier)))
    };
    Ok(list.iter().filter_map(interface).collect())
}

fn asns(
    run: speakers::Run<'_>,
    own: &mut Option<u32>,
    neighbors: &mut Vec<(IpAddr, u32)>,
) -> anyhow::Result<()> {
    let text = run(&["towpath", "peers", "-o", "json"])?;
    let peers: Vec<Value> = serde_json::from_str(&text).context("`towpath peers` printed no list")?;
    let number = |peer: &Value, key: &str| peer[key].as_u64().and_then(|asn| u32::try_from(asn).ok());
    for peer in &peers {
        *own = own.or(number(peer, "localAsn"));
        let address = peer["neighbor"].as_str().and_then(|address| address.parse().ok());
        neighbors.extend(address.zip(number(peer, "remoteAsn")));
    }
    Ok(())
}

/// Puts the kernel's addresses in the place of those the file promised.
fn interfaces(node: &mut super::Node, found: &BTreeMap<String, (Vec<IpNet>, bool)>) {
    for interface in &mut node.interfaces {
        interface.addresses.clear();
        interface.up = false;
    }
    for (device, (addresses, up)) in found {
        let known = node.interfaces.iter().position(|interface| device_name(&interface.name) == *device);
        if known.is_none() && addresses.iter().all(|net| is_link_local(net.addr())) {
            continue;
        }
        let index = known.unwrap_or_else(|| node.interface(device));
        let interface = &mut node.interfaces[index];
        let (local, global): (Vec<IpNet>, Vec<IpNet>) =
            addresses.iter().copied().partition(|net| net.addr().is_ipv6() && is_link_local(net.addr()));
        interface.addresses = global;
        interface.link_local = local.iter().map(IpNet::addr).collect();
        interface.up = *up;
    }
}

/// The node that `address` belongs to as seen from `from`, and the link to it if it is on one.
fn owner(graph: &Graph, from: usize, address: IpAddr) -> Option<(usize, Option<usize>)> {
    let has = |node: usize, interface: usize| {
        let interface = &graph.nodes[node].interfaces[interface];
        interface.link_local.contains(&address) || interface.addresses.iter().any(|net| net.addr() == address)
    };
    let linked = graph.links_of(from).find(|(_, other, interface, _)| has(*other, *interface));
    if let Some((_, other, _, link)) = linked {
        return Some((other, Some(link)));
    }
    let far = (0..graph.nodes.len()).filter(|node| *node != from && !is_link_local(address));
    let mut far =
        far.filter(|node| (0..graph.nodes[*node].interfaces.len()).any(|interface| has(*node, interface)));
    far.next().map(|node| (node, None))
}

/// Enters what `from` says of its neighbour at `address`, beside what the other end has said.
fn session(graph: &mut Graph, from: usize, address: IpAddr, state: &str) {
    let Some((to, link)) = owner(graph, from, address) else {
        graph.strays.push((from, address, state.to_owned()));
        return;
    };
    let (mine, other) = if from < to { (0, 1) } else { (1, 0) };
    let nodes = [from.min(to), from.max(to)];
    let open = graph.sessions.iter_mut().find(|session| {
        let family = session.addresses.iter().flatten().all(|known| known.is_ipv6() == address.is_ipv6());
        (session.nodes, session.link) == (nodes, link) && family && session.states[mine].is_none()
    });
    let session = match open {
        Some(session) => session,
        None => {
            graph.sessions.push(Session { nodes, addresses: [None, None], states: [None, None], link });
            let last = graph.sessions.len() - 1;
            &mut graph.sessions[last]
        }
    };
    session.states[mine] = Some(state.to_owned());
    session.addresses[other] = Some(address);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::topology::Topology;

    fn graph() -> Graph {
        let defaults = "{kind: linux, image: alpine, network-mode: none}";
        let text = format!(
            "name: t\ntopology:\n defaults: {defaults}\n nodes:\n  a: {{exec: [ip addr add 10.0.0.0/31 dev e1, ip addr add 10.9.0.1/32 dev lo]}}\n  b: {{exec: [ip addr add 10.0.0.1/31 dev e1]}}\n  c: {{exec: [ip addr add 10.9.0.3/32 dev lo]}}\n links:\n  - endpoints: [\"a:e1\", \"b:e1\"]\n"
        );
        Graph::of(&Topology::parse(&text, "t.clab.yml".as_ref(), &|_| None).unwrap())
    }

    #[test]
    fn both_ends_of_a_session_are_put_together() {
        let mut graph = graph();
        let tell = |graph: &mut Graph, from, address: &str, state| {
            session(graph, from, address.parse().unwrap(), state)
        };
        tell(&mut graph, 0, "10.0.0.1", "Established");
        tell(&mut graph, 1, "10.0.0.0", "OpenConfirm");
        tell(&mut graph, 2, "10.9.0.1", "Active");
        tell(&mut graph, 2, "10.7.7.7", "Idle");
        let seen: Vec<_> = graph
            .sessions
            .iter()
            .map(|session| (session.nodes, session.link, session.state(), session.established()))
            .collect();
        assert_eq!(seen, [([0, 1], Some(0), "OpenConfirm", false), ([0, 2], None, "Active", false)]);
        assert_eq!(graph.strays, [(2, "10.7.7.7".parse().unwrap(), "Idle".to_owned())]);
    }

    #[test]
    fn addresses_and_carrier_are_read_from_ip() {
        let text = r#"[{"ifname": "eth1", "flags": ["BROADCAST", "UP", "LOWER_UP"], "addr_info": [
            {"local": "10.0.0.9", "prefixlen": 31}, {"local": "fe80::1", "prefixlen": 64}]},
            {"ifname": "e1", "flags": ["UP"], "addr_info": []}]"#;
        let found = addresses(&|_: &[&str]| Ok(text.to_owned())).unwrap();
        let mut graph = graph();
        interfaces(&mut graph.nodes[1], &found);
        let e1 = &graph.nodes[1].interfaces[0];
        assert_eq!((e1.name.as_str(), e1.addresses.len(), e1.up), ("e1", 0, false));
        let eth1 = &graph.nodes[1].interfaces[1];
        assert_eq!((eth1.addresses.len(), eth1.link_local.len(), eth1.up), (1, 1, true));
    }
}
