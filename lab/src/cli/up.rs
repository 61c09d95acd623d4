//! Labs as a whole: up, down, checked.

use std::path::Path;

use anyhow::bail;

use super::lab_name;
use crate::Lab;
use crate::file::topology::Topology;
use crate::lab::take_down_by_name;
use crate::start::netns_names;
use crate::start::state::StateDir;

pub(super) fn up(path: &Path, reconfigure: bool) -> anyhow::Result<()> {
    let topology = Topology::read(path)?;
    for warning in &topology.warnings {
        eprintln!("warning: {warning}");
    }
    if let Ok(running) = Lab::running(&topology.name) {
        if reconfigure {
            take_down_by_name(&topology.name)?;
        } else if *running.topology() == topology {
            println!("lab {} is running already", topology.name);
            return Ok(());
        } else {
            bail!("lab {} is running and its file has changed; bring it up anew with -c", topology.name);
        }
    }
    let started = std::time::Instant::now();
    let lab = Lab::up_with(path, |text| eprintln!("{text}"))?;
    let (nodes, links) = (lab.topology().nodes.len(), lab.topology().links.len());
    println!(
        "lab {} is up: {nodes} nodes, {links} links, {:.1} s",
        topology.name,
        started.elapsed().as_secs_f32()
    );
    Ok(lab.detach()?)
}

pub(super) fn down(lab: &str, all: bool) -> anyhow::Result<()> {
    let labs = if all { StateDir::all()?.iter().map(StateDir::lab).collect() } else { vec![lab_name(lab)?] };
    let mut failures = Vec::new();
    for lab in labs {
        match take_down_by_name(&lab) {
            Ok(()) => println!("lab {lab} is down"),
            Err(error) => failures.push(error.to_string()),
        }
    }
    if let Err(error) = netns_names::sweep() {
        failures.push(format!("removing names of labs that are gone from /run/netns: {error}"));
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("\n")) }
}

pub(super) fn check(path: &Path) -> anyhow::Result<()> {
    let topology = Topology::read(path)?;
    for warning in &topology.warnings {
        eprintln!("warning: {warning}");
    }
    let (nodes, links) = (topology.nodes.len(), topology.links.len());
    println!("{}: lab {}, {nodes} nodes, {links} links", topology.file.display(), topology.name);
    Ok(())
}
