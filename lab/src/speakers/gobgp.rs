//! GoBGP: the JSON of `gobgp`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context;
use serde_json::Value;

use super::{Path, Run, Session, Table, json};

/// Attribute types of RFC 4271 and RFC 4760.
const AS_PATH: u64 = 2;
const NEXT_HOP: u64 = 3;
const MP_REACH_NLRI: u64 = 14;
/// AS_PATH segment types that are unordered.
const AS_SETS: [u64; 2] = [1, 4];

pub(super) fn sessions(run: Run<'_>) -> anyhow::Result<BTreeMap<IpAddr, Session>> {
    let neighbors = json(run, &["gobgp", "neighbor", "-j"])?;
    let mut sessions = BTreeMap::new();
    // Without any neighbour it prints null.
    for neighbor in neighbors.as_array().into_iter().flatten() {
        let address = neighbor.pointer("/state/neighbor_address").and_then(Value::as_str);
        let address = address.context("a neighbour of GoBGP without an address")?;
        let address = address.split('%').next().unwrap_or(address);
        let address = address.parse().with_context(|| format!("GoBGP's neighbour {address}"))?;
        let state = state(neighbor.pointer("/state/session_state").and_then(Value::as_u64));
        // Why a session ended is in its log only.
        sessions.insert(address, Session { name: None, state: state.to_owned(), last_error: None });
    }
    Ok(sessions)
}

/// The numbers of its API.
fn state(number: Option<u64>) -> &'static str {
    match number {
        Some(1) => "Idle",
        Some(2) => "Connect",
        Some(3) => "Active",
        Some(4) => "OpenSent",
        Some(5) => "OpenConfirm",
        Some(6) => "Established",
        _ => "Unknown",
    }
}

pub(super) fn routes(run: Run<'_>, v6: bool) -> anyhow::Result<Table> {
    let family = if v6 { "ipv6" } else { "ipv4" };
    let answer = json(run, &["gobgp", "global", "rib", "-a", family, "-j"])?;
    let mut table = Table::new();
    for (prefix, paths) in answer.as_object().context("GoBGP lists its routes in another form")? {
        let prefix = prefix.parse().with_context(|| format!("GoBGP's prefix {prefix}"))?;
        table.insert(prefix, paths.as_array().into_iter().flatten().map(path).collect());
    }
    Ok(table)
}

fn path(value: &Value) -> Path {
    let attributes = value.get("attrs").and_then(Value::as_array).into_iter().flatten();
    let mut path =
        Path { best: value.get("best").and_then(Value::as_bool).unwrap_or(false), ..Path::default() };
    for attribute in attributes {
        match attribute.get("type").and_then(Value::as_u64) {
            Some(AS_PATH) => path.as_path = as_path(attribute),
            Some(NEXT_HOP | MP_REACH_NLRI) => {
                let hop = attribute.get("nexthop").and_then(Value::as_str).and_then(|hop| hop.parse().ok());
                // What it originates has the unspecified address here.
                path.next_hops = hop.into_iter().filter(|hop: &IpAddr| !hop.is_unspecified()).collect();
            }
            _ => {}
        }
    }
    path
}

fn as_path(attribute: &Value) -> String {
    let mut words = Vec::new();
    for segment in attribute.get("as_paths").and_then(Value::as_array).into_iter().flatten() {
        let numbers = segment.get("asns").and_then(Value::as_array).into_iter().flatten();
        let numbers: Vec<String> = numbers.map(Value::to_string).collect();
        if segment.get("segment_type").and_then(Value::as_u64).is_some_and(|kind| AS_SETS.contains(&kind)) {
            words.push(format!("{{{}}}", numbers.join(",")));
        } else {
            words.extend(numbers);
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_gobgp_is_read() {
        let run = |argv: &[&str]| {
            Ok(match argv[1..].join(" ").as_str() {
                "neighbor -j" => {
                    r#"[{"state": {"neighbor_address": "10.0.0.1", "session_state": 6}},
                        {"state": {"neighbor_address": "fe80::1%eth0", "session_state": 3}}]"#
                }
                "global rib -a ipv4 -j" => {
                    r#"{"10.1.0.0/16": [{"best": true, "attrs": [{"type": 1, "value": 0},
                        {"type": 2, "as_paths": [{"segment_type": 2, "num": 2, "asns": [65001, 65009]},
                                                 {"segment_type": 1, "num": 1, "asns": [7]}]},
                        {"type": 3, "nexthop": "10.0.0.1"}]}],
                        "10.2.0.0/16": [{"attrs": [{"type": 3, "nexthop": "0.0.0.0"}]}]}"#
                }
                "global rib -a ipv6 -j" => {
                    r#"{"fd00::/32": [{"best": true, "attrs": [{"type": 14, "nexthop": "fd00::1"}]}]}"#
                }
                other => anyhow::bail!("no such command: {other}"),
            }
            .to_owned())
        };
        let found = sessions(&run).unwrap();
        assert!(found[&"10.0.0.1".parse::<IpAddr>().unwrap()].established());
        assert_eq!(found[&"fe80::1".parse::<IpAddr>().unwrap()].state, "Active");
        let table = routes(&run, false).unwrap();
        let first = &table[&"10.1.0.0/16".parse().unwrap()][0];
        assert_eq!(first.as_path, "65001 65009 {7}");
        assert_eq!(first.next_hops, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert!(first.best);
        assert_eq!(table[&"10.2.0.0/16".parse().unwrap()], [Path::default()]);
        let table = routes(&run, true).unwrap();
        assert_eq!(table[&"fd00::/32".parse().unwrap()][0].next_hops, ["fd00::1".parse::<IpAddr>().unwrap()]);
    }
}
