//! `towpath status`: one screen, worst news last, exit code = health.

use std::process::ExitCode;

use route_agent::control::{Request, client};
use route_agent::status::AgentStatus;

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
    let mut lines = vec![
        format!(
            "node      {}  AS {}  router id {}{}  up {}",
            status.node,
            status.asn,
            status.router_id,
            if status.transit { "  transit" } else { "" },
            age(status.uptime),
        ),
        format!("config    {}  generation {}", status.config.files.join(", "), status.config.generation),
        format!("sessions  {} of {} established", status.sessions.established, status.sessions.configured),
        format!(
            "kernel    {} IPv4 and {} IPv6 routes, {} next hop groups, {} pending, {} failed, {} foreign, {} blackholes",
            status.fib.routes_v4,
            status.fib.routes_v6,
            status.fib.groups,
            status.fib.pending,
            status.fib.failed.len(),
            status.fib.foreign.len(),
            status.fib.blackholes,
        ),
    ];
    for sysctl in &status.sysctls {
        lines.push(format!("sysctl    {} = {} (was {})", sysctl.name, sysctl.value, sysctl.before));
    }
    for event in &status.fib.events {
        lines.push(format!("repaired  {event}"));
    }
    for problem in &status.problems {
        lines.push(format!("problem   {problem}"));
    }
    lines.push(if status.problems.is_empty() { "healthy".to_owned() } else { "not healthy".to_owned() });
    lines.join("\n") + "\n"
}
