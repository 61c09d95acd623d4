//! OpenBGPD: the JSON of `bgpctl`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context;
use ipnet::IpNet;
use serde_json::Value;

use super::{Path, Run, Session, Table, json};

pub(super) fn sessions(run: Run<'_>) -> anyhow::Result<BTreeMap<IpAddr, Session>> {
    let answer = json(run, &["bgpctl", "-j", "show", "neighbor"])?;
    let neighbors = answer.get("neighbors").and_then(Value::as_array);
    let mut sessions = BTreeMap::new();
    for neighbor in neighbors.into_iter().flatten() {
        let text = |field: &str| neighbor.get(field).and_then(Value::as_str);
        let address = text("remote_addr").context("a neighbour of OpenBGPD without an address")?;
        // A template for any number of neighbours is written as a prefix.
        let Ok(address) = address.split('%').next().unwrap_or(address).parse() else { continue };
        let state = text("state").context("a neighbour of OpenBGPD without a state")?.to_owned();
        let last_error =
            ["last_shutdown_reason", "last_error_received", "last_error_sent"].into_iter().find_map(text);
        sessions.insert(address, Session { name: None, state, last_error: last_error.map(str::to_owned) });
    }
    Ok(sessions)
}

pub(super) fn routes(run: Run<'_>, v6: bool) -> anyhow::Result<Table> {
    let family = if v6 { "inet6" } else { "inet" };
    let answer = json(run, &["bgpctl", "-j", "show", "rib", family])?;
    let mut table = Table::new();
    for route in answer.get("rib").and_then(Value::as_array).into_iter().flatten() {
        let text = |field: &str| route.get(field).and_then(Value::as_str);
        let prefix = text("prefix").context("a route of OpenBGPD without a prefix")?;
        let prefix: IpNet = prefix.parse().with_context(|| format!("OpenBGPD's prefix {prefix}"))?;
        let next_hop: Option<IpAddr> = text("exit_nexthop").and_then(|hop| hop.parse().ok());
        table.entry(prefix).or_default().push(Path {
            // What it originates has the unspecified address here.
            next_hops: next_hop.into_iter().filter(|hop| !hop.is_unspecified()).collect(),
            as_path: text("aspath").unwrap_or_default().to_owned(),
            best: route.get("best").and_then(Value::as_bool).unwrap_or(false),
        });
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_bgpctl_is_read() {
        let run = |argv: &[&str]| {
            Ok(match argv[3..].join(" ").as_str() {
                "neighbor" => {
                    r#"{"neighbors": [{"remote_addr": "10.0.0.1", "state": "Established"},
                        {"remote_addr": "10.9.0.0/16", "state": "None"},
                        {"remote_addr": "fd00::1", "state": "Idle", "last_error_received": "Cease, administratively down"}]}"#
                }
                "rib inet" => {
                    r#"{"rib": [{"prefix": "10.1.0.0/16", "aspath": "65001 65009", "exit_nexthop": "10.0.0.1", "best": true},
                        {"prefix": "10.1.0.0/16", "aspath": "", "exit_nexthop": "0.0.0.0"}]}"#
                }
                "rib inet6" => r#"{"rib": []}"#,
                other => anyhow::bail!("no such command: {other}"),
            }
            .to_owned())
        };
        let found = sessions(&run).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found[&"10.0.0.1".parse::<IpAddr>().unwrap()].established());
        let idle = &found[&"fd00::1".parse::<IpAddr>().unwrap()];
        assert_eq!(idle.last_error.as_deref(), Some("Cease, administratively down"));
        let paths = &routes(&run, false).unwrap()[&"10.1.0.0/16".parse().unwrap()];
        assert_eq!(paths[0].next_hops, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert!(paths[0].best && paths[0].as_path == "65001 65009");
        assert_eq!(paths[1], Path::default());
        assert!(routes(&run, true).unwrap().is_empty());
    }
}
