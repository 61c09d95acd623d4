//! Labs and their nodes as a table or as JSON.

use std::io::Write;

use anyhow::Context;
use serde_json::json;

use super::Format;
use crate::file::hosts;
use crate::start::netns_names;
use crate::start::state::StateDir;
use crate::{Exit, Health, Lab, Node, Status};

pub(super) fn list(only: Option<&str>, format: Format) -> anyhow::Result<()> {
    netns_names::sweep().context("removing names of labs that are gone from /run/netns")?;
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
            writeln!(
                out,
                "{:<16} {:<12} {:<13} {:<32} {:<18} STATE",
                "LAB", "NODE", "KIND", "IMAGE", "IPV4"
            )?;
            for (lab, nodes) in &labs {
                for node in nodes.as_array().into_iter().flatten() {
                    let text =
                        |key: &str| node.get(key).and_then(|value| value.as_str()).unwrap_or("-").to_owned();
                    let (name, kind, image, state) =
                        (text("name"), text("kind"), text("image"), text("state"));
                    let ipv4 = text("ipv4_address");
                    writeln!(out, "{lab:<16} {name:<12} {kind:<13} {image:<32} {ipv4:<18} {state}")?;
                }
            }
        }
    }
    Ok(())
}

fn describe(node: &Node) -> serde_json::Value {
    let state = match node.status() {
        // A device: it is there as long as the lab is.
        _ if !node.spec().kind.has_processes() => "running".to_owned(),
        Ok(status) => state(node, &status),
        Err(_) => "dead".to_owned(),
    };
    let spec = node.spec();
    json!({
        "name": node.name(), "kind": spec.kind.word(), "image": spec.image, "state": state,
        "ipv4_address": hosts::shown(spec, false), "ipv6_address": hosts::shown(spec, true),
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
