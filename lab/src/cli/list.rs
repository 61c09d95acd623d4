//! Labs and their nodes as a table or as JSON.

use std::io::Write;

use serde_json::json;

use super::Format;
use crate::state::StateDir;
use crate::{Exit, Health, Lab, Node, Status};

pub(super) fn list(only: Option<&str>, format: Format) -> anyhow::Result<()> {
    let mut labs = serde_json::Map::new();
    for state in StateDir::all()? {
        let name = state.lab();
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let nodes = match Lab::running(&name) {
            Ok(lab) => lab.nodes().map(|node| describe(&node)).collect(),
            Err(_) => {
                vec![json!({"name": "-", "kind": "-", "image": "-", "state": "left behind, run `lab down`"})]
            }
        };
        labs.insert(name, nodes.into());
    }
    let mut out = std::io::stdout().lock();
    match format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&labs)?)?,
        Format::Table => {
            writeln!(out, "{:<16} {:<12} {:<8} {:<32} STATE", "LAB", "NODE", "KIND", "IMAGE")?;
            for (lab, nodes) in &labs {
                for node in nodes.as_array().into_iter().flatten() {
                    let text =
                        |key: &str| node.get(key).and_then(|value| value.as_str()).unwrap_or("-").to_owned();
                    let (name, kind, image, state) =
                        (text("name"), text("kind"), text("image"), text("state"));
                    writeln!(out, "{lab:<16} {name:<12} {kind:<8} {image:<32} {state}")?;
                }
            }
        }
    }
    Ok(())
}

fn describe(node: &Node) -> serde_json::Value {
    let state = node.status().map_or_else(|_| "dead".to_owned(), |status| state(node, &status));
    let spec = node.spec();
    json!({
        "name": node.name(), "kind": spec.kind, "image": spec.image, "state": state,
        "container": spec.container, "pid": node.init_pid().ok(),
    })
}

fn state(node: &Node, status: &Status) -> String {
    let idle = node.spec().command.is_empty();
    match (status.pid, status.health) {
        (Some(_), Some(Health::Healthy)) => "healthy".to_owned(),
        (Some(_), Some(Health::Unhealthy)) => "unhealthy".to_owned(),
        (None, Some(Health::Healthy)) if idle => "healthy".to_owned(),
        (None, Some(Health::Unhealthy)) if idle => "unhealthy".to_owned(),
        (Some(_), _) => "running".to_owned(),
        (None, _) if idle => "running".to_owned(),
        (None, _) if status.suspended => "stopped".to_owned(),
        (None, _) if status.finished => {
            format!("exited ({})", status.last_exit.map_or(0, Exit::shell_code))
        }
        (None, _) => format!("restarting, {} starts", status.starts),
    }
}
