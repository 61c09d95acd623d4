//! `towpath status`: one screen, worst news last, exit code = health.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use cni::ready::State;
use ipnet::IpNet;
use route_agent::control::{Request, client};
use route_agent::pods::PodsStatus;
use route_agent::status::{AgentStatus, ConfigStatus};

use super::table::age;
use super::{Connection, Output};

pub(super) fn run(connection: &Connection) -> anyhow::Result<ExitCode> {
    let status: AgentStatus = client::ask(&connection.socket, &Request::Status)?;
    match connection.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&status)?),
        Output::Table => print!("{}", screen(&status)),
    }
    Ok(if status.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn screen(status: &AgentStatus) -> String {
    if status.waiting {
        return format!(
            "node      {}  up {}\nwaiting   {}\nnot healthy\n",
            status.node,
            age(status.uptime),
            status.problems.join("; ")
        );
    }
    let fib = &status.fib;
    let mut lines = vec![
        format!(
            "node      {}  AS {}  router id {}{}  up {}",
            status.node,
            status.asn,
            status.router_id,
            if status.transit { "  transit" } else { "" },
            age(status.uptime),
        ),
        format!("config    {}  generation {}", origin(&status.config), status.config.generation),
        format!("sessions  {} of {} established", status.sessions.established, status.sessions.configured),
        format!(
            "kernel    {} IPv4 and {} IPv6 routes, {} next hop groups, {} blackholes; {} pending, {} refused, {} foreign",
            fib.routes_v4,
            fib.routes_v6,
            fib.groups,
            fib.blackholes,
            fib.pending,
            fib.failed_count,
            fib.foreign_count,
        ),
    ];
    lines.extend(status.pods.iter().filter(|pods| concerns(pods)).flat_map(pod_lines));
    for change in &fib.sysctls {
        lines.push(format!("sysctl    {} = {} (was {})", change.path, change.new, change.old));
    }
    for repair in &fib.repairs {
        lines.push(format!("repaired  {} {}, {} ago", repair.what, repair.who, age(repair.age_ms / 1000)));
    }
    for note in &status.notes {
        lines.push(format!("note      {note}"));
    }
    for problem in &status.problems {
        lines.push(format!("problem   {problem}"));
    }
    lines.push(if status.problems.is_empty() { "healthy".to_owned() } else { "not healthy".to_owned() });
    lines.join("\n") + "\n"
}

/// Where the configuration comes from.
fn origin(config: &ConfigStatus) -> String {
    let Some(cluster) = &config.cluster else { return config.files.join(", ") };
    let mut origin = format!("API server {}", cluster.servers.join(", "));
    if !cluster.synced {
        origin += ", not read yet: as kept on disk";
    }
    if let Some(since) = cluster.away_since {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        origin += &format!(", away for {}", age(now.saturating_sub(since)));
    }
    origin
}

/// A router has nothing to say about pods.
fn concerns(pods: &PodsStatus) -> bool {
    !pods.blocks.is_empty() || pods.pods > 0 || pods.state == State::Drained
}

fn pod_lines(pods: &PodsStatus) -> [String; 2] {
    let list = |prefixes: &[IpNet]| prefixes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let blocks = if pods.blocks.is_empty() { "no blocks".to_owned() } else { list(&pods.blocks) };
    let outside = match pods.outside.as_slice() {
        [] => String::new(),
        [first @ .., _, _] if first.len() > 2 => {
            format!(", outside of them {} addresses: {}, ...", pods.outside.len(), list(&first[..2]))
        }
        outside => format!(", outside of them {}", list(outside)),
    };
    let state = match (pods.state, &pods.conflist) {
        (State::Ready, Some(path)) => format!("ready, {}", path.display()),
        (State::Ready, None) => "ready, no conflist".to_owned(),
        (State::Converging, _) => format!("converging: {}", pods.reason),
        (State::Drained, _) => format!("drained; {}", pods.reason),
    };
    let mtu = pods.mtu.map(|mtu| format!(", MTU {mtu}")).unwrap_or_default();
    [format!("pods      {} in {blocks}{outside}", pods.pods), format!("cni       {state}{mtu}")]
}
