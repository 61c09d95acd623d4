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
        format!("config    {}  generation {}", status.config.files.join(", "), status.config.generation),
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
    for change in &fib.sysctls {
        lines.push(format!("sysctl    {} = {} (was {})", change.path, change.new, change.old));
    }
    for repair in &fib.repairs {
        lines.push(format!("repaired  {} {}, {} ago", repair.what, repair.who, age(repair.age_ms / 1000)));
    }
    for problem in &status.problems {
        lines.push(format!("problem   {problem}"));
    }
    lines.push(if status.problems.is_empty() { "healthy".to_owned() } else { "not healthy".to_owned() });
    lines.join("\n") + "\n"
}
