//! FRR: the JSON of `vtysh`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context;
use serde_json::Value;

use super::{Path, Run, Session, Table, json};

pub(super) fn sessions(run: Run<'_>) -> anyhow::Result<BTreeMap<IpAddr, Session>> {
    let neighbors = json(run, &["vtysh", "-c", "show bgp neighbors json"])?;
    let neighbors = neighbors.as_object().context("FRR lists its neighbours in another form")?;
    let sessions = neighbors.iter().filter_map(|(address, neighbor)| {
        let text = |field: &str| neighbor.get(field).and_then(Value::as_str).map(str::to_owned);
        let last_error = text("lastNotificationReason").or_else(|| text("lastResetDueTo"));
        Some((address.parse().ok()?, Session { name: None, state: text("bgpState")?, last_error }))
    });
    Ok(sessions.collect())
}

pub(super) fn routes(run: Run<'_>, v6: bool) -> anyhow::Result<Table> {
    let family = if v6 { "ipv6" } else { "ipv4" };
    let answer = json(run, &["vtysh", "-c", &format!("show bgp {family} unicast json")])?;
    let mut table = Table::new();
    // Without any route FRR prints an empty object.
    for (prefix, paths) in answer.get("routes").and_then(Value::as_object).into_iter().flatten() {
        let prefix = prefix.parse().with_context(|| format!("FRR's prefix {prefix}"))?;
        table.insert(prefix, paths.as_array().into_iter().flatten().map(path).collect());
    }
    Ok(table)
}

fn path(value: &Value) -> Path {
    let hops = value.get("nexthops").and_then(Value::as_array).into_iter().flatten();
    let hops = hops.filter_map(|hop| hop.get("ip")?.as_str()?.parse().ok());
    Path {
        // What FRR originates has the unspecified address here.
        next_hops: hops.filter(|hop: &IpAddr| !hop.is_unspecified()).collect(),
        as_path: value.get("path").and_then(Value::as_str).unwrap_or_default().to_owned(),
        best: value.get("bestpath").and_then(Value::as_bool).unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_vtysh_is_read() {
        let run = |argv: &[&str]| {
            Ok(match argv[2] {
                "show bgp neighbors json" => {
                    r#"{"10.0.0.1": {"bgpState": "Established", "lastResetDueTo": "Interface down"}, "fe80::1": {"bgpState": "Idle"}}"#
                }
                "show bgp ipv4 unicast json" => {
                    r#"{"routes": {"10.1.0.0/16": [
                        {"bestpath": true, "path": "65001 65009", "nexthops": [{"ip": "10.0.0.1"}]},
                        {"path": "", "nexthops": [{"ip": "0.0.0.0"}]}]}}"#
                }
                "show bgp ipv6 unicast json" => "{}",
                other => anyhow::bail!("no such command: {other}"),
            }
            .to_owned())
        };
        let found = sessions(&run).unwrap();
        assert_eq!(found.len(), 2);
        let first = &found[&"10.0.0.1".parse::<IpAddr>().unwrap()];
        assert!(first.established());
        assert_eq!(first.last_error.as_deref(), Some("Interface down"));
        let table = routes(&run, false).unwrap();
        let paths = &table[&"10.1.0.0/16".parse().unwrap()];
        assert_eq!(paths[0].next_hops, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert!(paths[0].best && paths[0].as_path == "65001 65009");
        assert!(!paths[1].best && paths[1].next_hops.is_empty());
        assert!(routes(&run, true).unwrap().is_empty());
    }
}
