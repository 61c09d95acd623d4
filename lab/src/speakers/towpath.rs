//! towpath: the JSON of `towpath peers` and `towpath routes`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context;
use ipnet::IpNet;
use serde_json::Value;

use super::{Path, Run, Session, Table, json};

pub(super) fn sessions(run: Run<'_>) -> anyhow::Result<BTreeMap<IpAddr, Session>> {
    let peers = json(run, &["towpath", "peers", "-o", "json"])?;
    let mut sessions = BTreeMap::new();
    for peer in peers.as_array().context("`towpath peers` prints no list")? {
        let text = |field: &str| peer.get(field).and_then(Value::as_str);
        // A listen range without a session has no neighbour.
        let Some(neighbor) = text("neighbor") else { continue };
        let address = neighbor.parse().with_context(|| format!("towpath's neighbour {neighbor}"))?;
        let state = text("state").context("a peer without a state")?.to_owned();
        sessions.insert(
            address,
            Session {
                name: text("peer").map(str::to_owned),
                state,
                last_error: text("reason").map(str::to_owned),
            },
        );
    }
    Ok(sessions)
}

pub(super) fn routes(run: Run<'_>, v6: bool) -> anyhow::Result<Table> {
    let mut table = Table::new();
    // What we originate is in the Loc-RIB only.
    for (view, originated) in [("accepted", false), ("best", true)] {
        let routes = json(run, &["towpath", "routes", view, "-o", "json"])?;
        for route in routes.as_array().context("`towpath routes` prints no list")? {
            let text = |field: &str| route.get(field).and_then(Value::as_str);
            let prefix = text("prefix").context("a route without a prefix")?;
            let prefix: IpNet = prefix.parse().with_context(|| format!("towpath's prefix {prefix}"))?;
            if prefix.addr().is_ipv6() != v6 || text("peer").is_none() != originated {
                continue;
            }
            let next_hop = text("nexthop").filter(|_| !originated);
            table.entry(prefix).or_default().push(Path {
                next_hops: next_hop.and_then(|hop| hop.parse().ok()).into_iter().collect(),
                as_path: text("asPath").unwrap_or_default().to_owned(),
                best: route.get("best").and_then(Value::as_bool).unwrap_or(false),
            });
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_towpath_is_read() {
        let run = |argv: &[&str]| {
            Ok(match argv[1..3].join(" ").as_str() {
                "peers -o" => r#"[{"peer": "tor", "neighbor": "fe80::1", "state": "Active", "reason": "no answer"}]"#,
                "routes accepted" => {
                    r#"[{"prefix": "10.1.0.0/16", "peer": "tor", "nexthop": "10.0.0.1", "asPath": "65001 65009", "best": true},
                        {"prefix": "fd00::/32", "peer": "tor", "nexthop": "fe80::1", "asPath": "65001", "best": true}]"#
                }
                "routes best" => {
                    r#"[{"prefix": "10.1.0.0/16", "peer": "tor", "nexthop": "10.0.0.1", "asPath": "65001 65009", "best": true},
                        {"prefix": "10.2.0.0/16", "peer": null, "nexthop": null, "asPath": "", "best": true}]"#
                }
                other => anyhow::bail!("no such command: {other}"),
            }
            .to_owned())
        };
        let session = &sessions(&run).unwrap()[&"fe80::1".parse::<IpAddr>().unwrap()];
        assert!(!session.established());
        assert_eq!(session.last_error.as_deref(), Some("no answer"));
        let table = routes(&run, false).unwrap();
        let path = |next_hops: &[&str], as_path: &str| Path {
            next_hops: next_hops.iter().map(|hop| hop.parse().unwrap()).collect(),
            as_path: as_path.to_owned(),
            best: true,
        };
        assert_eq!(table[&"10.1.0.0/16".parse().unwrap()], [path(&["10.0.0.1"], "65001 65009")]);
        assert_eq!(table[&"10.2.0.0/16".parse().unwrap()], [path(&[], "")]);
        assert_eq!(table.len(), 2);
    }
}
