//! All nodes at a glance, from their `Node` and `NodeNetwork` objects: `kubectl towpath status` and `peers`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Context, bail};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::super::table;
use super::Asked;

/// Nodes write every five minutes at least, ten after many changes in a row; then one write may be lost.
const SILENT_AFTER_SECONDS: i64 = 20 * 60;

/// What a node wrote, as far as it is shown.
#[derive(Debug, Default, PartialEq, Eq)]
struct Row {
    name: String,
    asn: Option<i64>,
    router_id: Option<String>,
    established: i64,
    desired: i64,
    pods: Option<i64>,
    /// Empty: all is well.
    problem: String,
}

/// `status` or `peers` without `--node`; every other command needs one.
pub(super) fn run(asked: &Asked) -> anyhow::Result<ExitCode> {
    let (command, json) = match shape(&asked.command)? {
        Some(shape) => shape,
        None => bail!("{}: which node? add --node NODE", asked.command.join(" ")),
    };
    let list = asked.output(&["get", "nodes,nodenetworks.towpath.io", "--output=json"])?;
    let list: Value = serde_json::from_slice(&list).context("what kubectl get prints is not JSON")?;
    let now = Timestamp::now();
    let rows = rows(&list, now);
    let sessions = peers(&list);
    match (command, json) {
        (Of::Status, false) => print!("{}", screen(&rows)),
        (Of::Status, true) => println!("{:#}", as_json(&rows)),
        (Of::Peers, false) => print!("{}", peer_table(&sessions, now)),
        (Of::Peers, true) => println!("{:#}", Value::from(sessions)),
    }
    let well = rows.iter().all(|row| row.problem.is_empty());
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Status,
    Peers,
}

/// The command and whether as JSON; none when it needs a node's daemon.
fn shape(command: &[String]) -> anyhow::Result<Option<(Of, bool)>> {
    let mut words = command.iter().map(String::as_str);
    let of = match words.next() {
        Some("status") => Of::Status,
        Some("peers") => Of::Peers,
        _ => return Ok(None),
    };
    let rest: Vec<&str> = words.collect();
    let json = match rest.as_slice() {
        [] | ["-o" | "--output", "table"] | ["-otable" | "--output=table"] => false,
        ["-o" | "--output", "json"] | ["-ojson" | "--output=json"] => true,
        other => {
            bail!("{}: for all nodes there is only -o table or -o json; or add --node NODE", other.join(" "))
        }
    };
    Ok(Some((of, json)))
}

/// Objects of a kind in a list of several, by name.
fn named<'a>(list: &'a Value, kind: &str) -> BTreeMap<&'a str, &'a Value> {
    let items = list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .filter(|item| item.get("kind").and_then(Value::as_str) == Some(kind))
        .filter_map(|item| Some((text(item, "/metadata/name")?, item)))
        .collect()
}

fn text<'a>(object: &'a Value, path: &str) -> Option<&'a str> {
    object.pointer(path)?.as_str()
}

fn number(object: &Value, path: &str) -> Option<i64> {
    object.pointer(path)?.as_i64()
}

fn time(object: &Value, path: &str) -> Option<Timestamp> {
    let time: Time = serde_json::from_value(object.pointer(path)?.clone()).ok()?;
    Some(time.0)
}

/// One row for each node, and for each NodeNetwork whose Node is gone.
fn rows(list: &Value, now: Timestamp) -> Vec<Row> {
    let nodes = named(list, "Node");
    let networks = named(list, "NodeNetwork");
    let names: BTreeSet<&str> = nodes.keys().chain(networks.keys()).copied().collect();
    names
        .into_iter()
        .map(|name| match networks.get(name) {
            None => Row {
                name: name.to_owned(),
                problem: "no NodeNetwork: no daemon of towpath has run here".to_owned(),
                ..Row::default()
            },
            Some(network) => Row {
                name: name.to_owned(),
                asn: number(network, "/status/asn"),
                router_id: text(network, "/status/routerID").map(str::to_owned),
                established: number(network, "/status/sessions/established").unwrap_or_default(),
                desired: number(network, "/status/sessions/desired").unwrap_or_default(),
                pods: number(network, "/status/cni/pods"),
                problem: problem(network, now, nodes.contains_key(name)),
            },
        })
        .collect()
}

/// The first thing that is wrong with a node, in words; empty when nothing is.
fn problem(network: &Value, now: Timestamp, node_exists: bool) -> String {
    if !node_exists {
        return "there is no Node of this name any more".to_owned();
    }
    let Some(heard) = time(network, "/status/lastHeartbeatTime") else {
        return "the daemon has not reported yet".to_owned();
    };
    let silent = now.as_second() - heard.as_second();
    if silent > SILENT_AFTER_SECONDS {
        return format!("silent for {}", table::age(silent.unsigned_abs()));
    }
    let conditions = network.pointer("/status/conditions").and_then(Value::as_array);
    let conditions = conditions.map(Vec::as_slice).unwrap_or_default();
    // Every condition of ours says that something is well; Ready sums up, so the others name the reason better.
    let not_true = |condition: &&Value| text(condition, "/status").is_some_and(|status| status != "True");
    let is_ready = |condition: &&Value| text(condition, "/type") == Some("Ready");
    let worst = conditions.iter().filter(not_true).find(|condition| !is_ready(condition));
    let worst = worst.or_else(|| conditions.iter().filter(not_true).find(is_ready));
    worst.map_or_else(String::new, |condition| {
        let name = text(condition, "/type").unwrap_or_default();
        match text(condition, "/message").filter(|message| !message.is_empty()) {
            Some(message) => format!("{name}: {message}"),
            None => format!("{name}: {}", text(condition, "/reason").unwrap_or("not so")),
        }
    })
}

fn screen(rows: &[Row]) -> String {
    let well = rows.iter().filter(|row| row.problem.is_empty()).count();
    let sum = |of: fn(&Row) -> i64| rows.iter().map(of).sum::<i64>();
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
            vec![
                row.name.clone(),
                or_dash(row.asn.map(|asn| asn.to_string())),
                or_dash(row.router_id.clone()),
                format!("{}/{}", row.established, row.desired),
                or_dash(row.pods.map(|pods| pods.to_string())),
                row.problem.clone(),
            ]
        })
        .collect();
    format!(
        "nodes     {well} of {} well\nsessions  {} of {} established\n\n{}",
        rows.len(),
        sum(|row| row.established),
        sum(|row| row.desired),
        table::render(&["NODE", "ASN", "ROUTER-ID", "SESSIONS", "PODS", "PROBLEM"], &cells)
    )
}

fn as_json(rows: &[Row]) -> Value {
    let rows = rows.iter().map(|row| {
        json!({
            "node": row.name,
            "asn": row.asn,
            "routerID": row.router_id,
            "sessions": { "established": row.established, "desired": row.desired },
            "pods": row.pods,
            "problem": row.problem,
        })
    });
    rows.collect()
}

/// Every session of every node as its NodeNetwork has it, with the node's name.
fn peers(list: &Value) -> Vec<Value> {
    let mut sessions = Vec::new();
    for (node, network) in named(list, "NodeNetwork") {
        let peers = network.pointer("/status/peers").and_then(Value::as_array);
        for peer in peers.map(Vec::as_slice).unwrap_or_default() {
            let mut session = json!({ "node": node });
            if let (Some(session), Some(peer)) = (session.as_object_mut(), peer.as_object()) {
                session.extend(peer.clone());
            }
            sessions.push(session);
        }
    }
    sessions
}

fn peer_table(sessions: &[Value], now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = sessions
        .iter()
        .map(|session| {
            let cell = |path: &str| text(session, path).unwrap_or("-").to_owned();
            let since = time(session, "/since").map_or_else(
                || "-".to_owned(),
                |at| table::age((now.as_second() - at.as_second()).max(0).unsigned_abs()),
            );
            vec![
                cell("/node"),
                cell("/peer"),
                cell("/neighbor"),
                number(session, "/remoteASN").map_or_else(|| "-".to_owned(), |asn| asn.to_string()),
                cell("/state"),
                since,
                text(session, "/reason").unwrap_or_default().to_owned(),
            ]
        })
        .collect();
    table::render(&["NODE", "PEER", "NEIGHBOR", "ASN", "STATE", "SINCE", "REASON"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, heartbeat: &str, conditions: Value) -> Value {
        json!({
            "kind": "NodeNetwork",
            "metadata": { "name": name },
            "status": {
                "asn": 65001, "routerID": "10.0.0.1",
                "sessions": { "desired": 2, "established": 1, "degraded": 0 },
                "cni": { "ready": true, "pods": 7 },
                "conditions": conditions,
                "lastHeartbeatTime": heartbeat,
                "peers": [{
                    "peer": "tor", "neighbor": "10.0.0.2", "state": "Active", "since": "2026-01-01T11:59:00Z",
                    "reason": "connection refused", "downCount": 1
                }]
            }
        })
    }

    fn node(name: &str) -> Value {
        json!({ "kind": "Node", "metadata": { "name": name } })
    }

    fn now() -> Timestamp {
        "2026-01-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn each_node_has_a_row_that_names_the_first_thing_that_is_wrong() {
        let condition = |name: &str, status: &str, message: &str| json!({ "type": name, "status": status, "reason": "Why", "message": message });
        let ready = condition("Ready", "True", "");
        let cases = [
            ("all is well", json!([ready]), "2026-01-01T11:55:00Z", ""),
            (
                "the reason, not the sum",
                json!([condition("Ready", "False", "no"), condition("PeersUp", "False", "1 of 2")]),
                "2026-01-01T11:55:00Z",
                "PeersUp: 1 of 2",
            ),
            (
                "nothing but the sum",
                json!([condition("Ready", "Unknown", "")]),
                "2026-01-01T11:55:00Z",
                "Ready: Why",
            ),
            ("silence", json!([ready]), "2026-01-01T10:00:00Z", "silent for 2h0m"),
            ("no report", json!([]), "", "the daemon has not reported yet"),
        ];
        for (case, conditions, heartbeat, problem) in cases {
            let list = json!({ "items": [node("a"), network("a", heartbeat, conditions)] });
            let rows = rows(&list, now());
            assert_eq!(rows.len(), 1, "{case}");
            assert_eq!(rows[0].problem, problem, "{case}");
        }
    }

    #[test]
    fn nodes_without_a_daemon_and_daemons_without_a_node_are_named() {
        let list = json!({ "items": [node("bare"), network("gone", "2026-01-01T11:59:59Z", json!([]))] });
        let rows = rows(&list, now());
        assert!(rows[0].name == "bare" && rows[0].problem.contains("no daemon"), "{rows:?}");
        assert!(rows[1].name == "gone" && rows[1].problem.contains("no Node"), "{rows:?}");
        let screen = screen(&rows);
        assert!(screen.starts_with("nodes     0 of 2 well\nsessions  1 of 2 established\n"), "{screen}");
    }

    #[test]
    fn sessions_of_all_nodes_stand_in_one_table() {
        let list = json!({ "items": [network("a", "", json!([])), node("a"), network("b", "", json!([]))] });
        let table = peer_table(&peers(&list), now());
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        let words: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(words, ["a", "tor", "10.0.0.2", "-", "Active", "1m0s", "connection", "refused"]);
    }

    #[test]
    fn only_what_needs_no_daemon_does_without_a_node() {
        let shape_of = |line: &str| shape(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(shape_of("status").unwrap(), Some((Of::Status, false)));
        assert_eq!(shape_of("peers -o json").unwrap(), Some((Of::Peers, true)));
        assert_eq!(shape_of("routes best").unwrap(), None);
        assert!(shape_of("peers --watch").unwrap_err().to_string().contains("--node"));
    }
}
