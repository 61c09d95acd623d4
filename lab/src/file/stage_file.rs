//! `stages` in a topology file: read from one level, merged, and checked for the whole lab.
//!
//! Waits that can never end are refused here: for a node that does not exist, for `healthy` of a
//! node without healthcheck, for `exit` of one without a command, and in a circle. Circles are
//! judged stage by stage: `a` may wait for `b` and `b` for another stage of `a`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::file::fields::{At, Fields, did_you_mean, mapping, sequence, text};
use crate::file::problem::Findings;
use crate::file::stage::{Phase, Stage, StageExec, StageSpec, Target, WaitFor};
use crate::file::topology::{Network, NodeSpec};
use crate::file::words;
use crate::file::yaml::Yaml;

/// What one level says of one stage.
#[derive(Debug, Clone, Default)]
pub(crate) struct StageFields {
    line: usize,
    wait_for: Vec<(usize, WaitFor)>,
    exec: Vec<(At, Target, Phase)>,
}

/// A `wait-for` of a node, with its line.
#[derive(Debug)]
pub(crate) struct Wait {
    line: usize,
    waiter: WaitFor,
    awaited: WaitFor,
}

/// `stages` of one level.
pub(crate) fn read(name: &str, yaml: &Yaml, findings: &mut Findings) -> BTreeMap<Stage, StageFields> {
    let mut stages = BTreeMap::new();
    for (key, value) in mapping(name, yaml, findings) {
        let known = Stage::ALL.map(Stage::name);
        match Stage::of(&key.text) {
            Some(stage) => {
                stages.insert(stage, one(&format!("{name} {}", key.text), key.line, value, findings));
            }
            None => {
                let hint = did_you_mean(&key.text, known);
                findings.refuse(key.line, format!("{name}: unknown stage \"{}\"; {hint}", key.text));
            }
        }
    }
    stages
}

fn one(name: &str, line: usize, yaml: &Yaml, findings: &mut Findings) -> StageFields {
    let mut fields = StageFields { line, ..StageFields::default() };
    for (key, value) in mapping(name, yaml, findings) {
        match key.text.as_str() {
            "wait-for" => {
                let items = sequence(&format!("{name} wait-for"), value, findings);
                fields.wait_for = items.iter().filter_map(|item| wait(name, item, findings)).collect();
            }
            "exec" => {
                let items = sequence(&format!("{name} exec"), value, findings);
                fields.exec = items.iter().filter_map(|item| command(name, item, findings)).collect();
            }
            other => {
                let hint = did_you_mean(other, ["wait-for", "exec"]);
                findings.refuse(key.line, format!("{name}: unknown field \"{other}\"; {hint}"));
            }
        }
    }
    fields
}

/// The texts of a small mapping whose keys are all known.
fn texts<'y>(name: &str, yaml: &'y Yaml, known: &[&str], findings: &mut Findings) -> BTreeMap<&'y str, At> {
    let mut texts = BTreeMap::new();
    for (key, value) in mapping(name, yaml, findings) {
        if !known.contains(&key.text.as_str()) {
            let hint = did_you_mean(&key.text, known.iter().copied());
            findings.refuse(key.line, format!("{name}: unknown field \"{}\"; {hint}", key.text));
        } else if let Some(value) = text(&format!("{name} {}", key.text), value, findings) {
            texts.insert(key.text.as_str(), value);
        }
    }
    texts
}

fn wait(stage: &str, yaml: &Yaml, findings: &mut Findings) -> Option<(usize, WaitFor)> {
    let name = format!("{stage} wait-for");
    let problems = findings.problems.len();
    let given = texts(&name, yaml, &["node", "stage"], findings);
    let (Some(node), Some(awaited)) = (given.get("node"), given.get("stage")) else {
        if findings.problems.len() == problems {
            findings.refuse(yaml.line, format!("{name} needs \"node\" and \"stage\""));
        }
        return None;
    };
    let Some(stage) = Stage::of(&awaited.text) else {
        let known = Stage::ALL.map(Stage::name);
        let hint =
            did_you_mean(&awaited.text, known).replace("remove it", &format!("use {}", known.join(", ")));
        findings.refuse(awaited.line, format!("{name}: there is no stage \"{}\"; {hint}", awaited.text));
        return None;
    };
    Some((node.line, WaitFor { node: node.text.clone(), stage }))
}

fn command(stage: &str, yaml: &Yaml, findings: &mut Findings) -> Option<(At, Target, Phase)> {
    let name = format!("{stage} exec");
    let problems = findings.problems.len();
    let given = texts(&name, yaml, &["command", "target", "phase"], findings);
    let target = match given.get("target").map(|at| (at.text.as_str(), at.line)) {
        None | Some(("container", _)) => Target::Container,
        Some(("host", _)) => Target::Host,
        Some((other, line)) => {
            findings.refuse(line, format!("{name}: target \"{other}\" is unknown; use container or host"));
            return None;
        }
    };
    let phase = match given.get("phase").map(|at| (at.text.as_str(), at.line)) {
        None | Some(("on-enter", _)) => Phase::OnEnter,
        Some(("on-exit", _)) => Phase::OnExit,
        Some((other, line)) => {
            findings.refuse(line, format!("{name}: phase \"{other}\" is unknown; use on-enter or on-exit"));
            return None;
        }
    };
    match given.get("command") {
        Some(command) => Some((command.clone(), target, phase)),
        None => {
            if findings.problems.len() == problems {
                findings.refuse(yaml.line, format!("{name} needs a \"command\""));
            }
            None
        }
    }
}

/// The stages of `node`: those of all levels, appended from `defaults` to the node itself.
pub(crate) fn merged(
    node: &str,
    levels: &[&Fields],
    has_healthcheck: bool,
    magic: &dyn Fn(&str) -> String,
    waits: &mut Vec<Wait>,
    findings: &mut Findings,
) -> BTreeMap<Stage, StageSpec> {
    let mut stages: BTreeMap<Stage, StageSpec> = BTreeMap::new();
    for (stage, fields) in levels.iter().rev().flat_map(|level| &level.stages) {
        let stage = *stage;
        let place = format!("node {node}: stage {}", stage.name());
        if stage == Stage::Healthy && !has_healthcheck {
            findings.refuse(
                fields.line,
                format!("{place}: the node has no \"healthcheck\", so it never ends; add one"),
            );
        }
        let spec = stages.entry(stage).or_default();
        for (line, awaited) in &fields.wait_for {
            let waiter = WaitFor { node: node.to_owned(), stage };
            waits.push(Wait { line: *line, waiter, awaited: awaited.clone() });
            spec.wait_for.push(awaited.clone());
        }
        for (command, target, phase) in &fields.exec {
            if (stage, *target, *phase) == (Stage::Create, Target::Container, Phase::OnEnter) {
                let remedy = "use \"phase: on-exit\" or \"target: host\"";
                findings.refuse(command.line, format!("{place}: the node does not exist yet; {remedy}"));
            }
            match words::split(&magic(&command.text)) {
                Ok(argv) if argv.is_empty() => {}
                Ok(argv) => spec.exec.push(StageExec { argv, target: *target, phase: *phase }),
                Err(text) => findings.refuse(command.line, format!("{place}: exec: {text}; close it")),
            }
        }
    }
    stages
}

/// Every wait must be able to end. `known` are the names of all nodes, refused ones included.
pub(crate) fn check(
    waits: &[Wait],
    nodes: &BTreeMap<String, NodeSpec>,
    known: &BTreeMap<String, usize>,
    findings: &mut Findings,
) {
    for Wait { line, waiter, awaited } in waits {
        let place = format!("node {}: stage {}: wait-for", waiter.node, waiter.stage.name());
        let Some(node) = nodes.get(&awaited.node) else {
            if !known.contains_key(&awaited.node) {
                let hint = did_you_mean(&awaited.node, known.keys().map(String::as_str));
                findings.refuse(*line, format!("{place} names no node \"{}\"; {hint}", awaited.node));
            }
            continue;
        };
        let never = match awaited.stage {
            Stage::Healthy if node.healthcheck.is_none() => "has no \"healthcheck\"; add one",
            Stage::Exit if node.command.is_empty() => "has no command that could end; give it a \"cmd\"",
            _ => continue,
        };
        findings.refuse(*line, format!("{place} {awaited} never ends: node {} {never}", awaited.node));
    }
    circles(waits, nodes, findings);
}

fn circles(waits: &[Wait], nodes: &BTreeMap<String, NodeSpec>, findings: &mut Findings) {
    let mut told: BTreeSet<&WaitFor> = BTreeSet::new();
    for Wait { line, waiter, awaited } in waits {
        let Some(path) = path(awaited, waiter, waits, nodes) else { continue };
        // Once for each circle, not once for each wait in it.
        if told.contains(waiter) {
            continue;
        }
        told.extend(waits.iter().map(|wait| &wait.waiter).filter(|stage| path.contains(stage)));
        let chain: Vec<String> = path.iter().map(ToString::to_string).collect();
        findings.refuse(
            *line,
            format!(
                "node {}: stage {}: wait-for leads in a circle: {waiter} waits for {}; remove one of them",
                waiter.node,
                waiter.stage.name(),
                chain.join(", that for ")
            ),
        );
    }
}

/// From the end of the stage `from` to that of `to`, over all that it depends on.
fn path(
    from: &WaitFor,
    to: &WaitFor,
    waits: &[Wait],
    nodes: &BTreeMap<String, NodeSpec>,
) -> Option<Vec<WaitFor>> {
    let mut came: BTreeMap<WaitFor, Option<WaitFor>> = BTreeMap::from([(from.clone(), None)]);
    let mut queue = VecDeque::from([from.clone()]);
    while let Some(stage) = queue.pop_front() {
        if stage == *to {
            let mut path = Vec::new();
            let mut at = Some(stage);
            while let Some(stage) = at {
                at = came.get(&stage).cloned().flatten();
                path.push(stage);
            }
            path.reverse();
            return Some(path);
        }
        let waited = waits.iter().filter(|wait| wait.waiter == stage).map(|wait| wait.awaited.clone());
        let before = Stage::ALL.into_iter().rev().find(|other| *other < stage.stage);
        let before = before.map(|before| WaitFor { node: stage.node.clone(), stage: before });
        let network = match nodes.get(&stage.node).map(|node| &node.network) {
            Some(Network::Container(other)) if stage.stage == Stage::Create => {
                Some(WaitFor { node: other.clone(), stage: Stage::Create })
            }
            _ => None,
        };
        for next in waited.chain(before).chain(network) {
            if !came.contains_key(&next) {
                came.insert(next.clone(), Some(stage.clone()));
                queue.push_back(next);
            }
        }
    }
    None
}
