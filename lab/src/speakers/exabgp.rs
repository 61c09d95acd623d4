//! ExaBGP: the text of `exabgpcli`.
//!
//! It has no RIB: every path it received is there, and is its best one. The pipes of `exabgpcli` must
//! exist, and serve one caller at a time.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context;
use ipnet::IpNet;

use super::{Path, Run, Session, Table};

pub(super) fn sessions(run: Run<'_>) -> anyhow::Result<BTreeMap<IpAddr, Session>> {
    read_sessions(&run(&["exabgpcli", "show", "neighbor", "extensive"])?)
}

pub(super) fn routes(run: Run<'_>, v6: bool) -> anyhow::Result<Table> {
    read_routes(&run(&["exabgpcli", "show", "adj-rib", "in", "extensive"])?, v6)
}

/// A block for each neighbour, begun by `Neighbor ADDRESS`, of indented fields.
fn read_sessions(text: &str) -> anyhow::Result<BTreeMap<IpAddr, Session>> {
    let mut sessions = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["Neighbor", address] => {
                current = Some(address.parse().with_context(|| format!("ExaBGP's neighbour {address}"))?);
            }
            ["state", name] => {
                let address = current.context("ExaBGP shows a state before a neighbour")?;
                sessions.insert(address, Session { name: None, state: state(name), last_error: None });
            }
            _ => {}
        }
    }
    Ok(sessions)
}

/// Its names are those of RFC 4271 in capital letters.
fn state(name: &str) -> String {
    match name {
        "IDLE" => "Idle",
        "CONNECT" => "Connect",
        "ACTIVE" => "Active",
        "OPENSENT" => "OpenSent",
        "OPENCONFIRM" => "OpenConfirm",
        "ESTABLISHED" => "Established",
        other => other,
    }
    .to_owned()
}

/// `neighbor ... ipv4 unicast PREFIX next-hop ADDRESS origin igp as-path [ NUMBERS ] ...`.
fn read_routes(text: &str, v6: bool) -> anyhow::Result<Table> {
    let family = if v6 { " ipv6 unicast " } else { " ipv4 unicast " };
    let mut table = Table::new();
    for line in text.lines() {
        let Some((_, route)) = line.split_once(family) else { continue };
        let mut words = route.split_whitespace();
        let prefix = words.next().unwrap_or_default();
        let prefix: IpNet = prefix.parse().with_context(|| format!("ExaBGP's route: {line}"))?;
        let next_hop = words.skip_while(|word| *word != "next-hop").nth(1);
        let as_path = route.split_once("as-path [").and_then(|(_, rest)| rest.split_once(']'));
        table.entry(prefix).or_default().push(Path {
            next_hops: next_hop.and_then(|hop| hop.parse().ok()).into_iter().collect(),
            as_path: as_path.map_or("", |(numbers, _)| numbers.trim()).to_owned(),
            best: true,
        });
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_exabgpcli_is_read() {
        let text = "Neighbor 10.0.1.1\n\n  Session                         Local\n   \
            local                       10.0.1.3\n   state                    ESTABLISHED\n\n   \
            AS                             65003           65001\n\nNeighbor fd00::1\n   state  OPENSENT\n";
        let sessions = read_sessions(text).unwrap();
        assert!(sessions[&"10.0.1.1".parse::<IpAddr>().unwrap()].established());
        assert_eq!(sessions[&"fd00::1".parse::<IpAddr>().unwrap()].state, "OpenSent");

        let text = "neighbor 10.0.1.1 local-ip 10.0.1.3 local-as 65003 peer-as 65001 router-id 3.3.3.3 \
            family-allowed in-open ipv4 unicast 10.2.0.0/16 next-hop 10.0.1.1 origin igp as-path [ 65001 65002 ]\n\
            neighbor fd00::1 local-ip fd00::3 local-as 65003 peer-as 65001 router-id 3.3.3.3 \
            family-allowed in-open ipv6 unicast fd00:2::/32 next-hop fd00::1 origin igp\n";
        let table = read_routes(text, false).unwrap();
        assert_eq!(table.len(), 1);
        let path = &table[&"10.2.0.0/16".parse().unwrap()][0];
        assert_eq!(path.as_path, "65001 65002");
        assert_eq!(path.next_hops, ["10.0.1.1".parse::<IpAddr>().unwrap()]);
        let table = read_routes(text, true).unwrap();
        assert_eq!(table[&"fd00:2::/32".parse().unwrap()][0].as_path, "");
    }
}
