//! `towpath ipam check`: what is wrong with the leases, and with `--fix` what was done about it.

use std::process::ExitCode;

use cni::commands;
use cni::ipam::{Condition, Finding, Found, Lease, audit};
use serde_json::json;

use super::place::Place;
use super::show::{remark, word};
use crate::cli::Output;

pub(super) fn run(place: &Place, fix: bool, output: Output) -> anyhow::Result<ExitCode> {
    let mut done: Vec<String> = Vec::new();
    let mut failed: Vec<String> = Vec::new();
    let (mut condition, mut findings) = look(place)?;
    if fix && condition == Condition::Damaged {
        place.ledger.recover()?;
        done.push("made the ledger anew from the kernel's links".to_owned());
        findings = look(place)?.1;
    }
    if fix {
        for finding in &findings {
            match repair(place, finding) {
                Ok(words) => done.push(words),
                Err(words) => failed.push(words),
            }
        }
        (condition, findings) = look(place)?;
    }
    let is_wrong = condition == Condition::Damaged || !findings.is_empty();
    match output {
        Output::Json => {
            let findings: Vec<_> = findings
                .iter()
                .map(|finding| json!({ "kind": finding.kind(), "text": finding.to_string() }))
                .collect();
            let report =
                json!({ "ledger": word(condition), "findings": findings, "done": done, "failed": failed });
            println!("{}", serde_json::to_string_pretty(&report)?);
        }
        Output::Table => {
            done.iter().for_each(|words| println!("{words}"));
            failed.iter().for_each(|words| eprintln!("{words}"));
            remark(condition).into_iter().for_each(|words| println!("{words}"));
            findings.iter().for_each(|finding| println!("{finding}"));
            if !is_wrong {
                println!("leases and pods agree");
            }
        }
    }
    Ok(if is_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What is wrong at two looks: in between, an ADD or DEL that was under way at the first has gone on.
fn look(place: &Place) -> anyhow::Result<(Condition, Vec<Finding>)> {
    let (_, first) = look_once(place)?;
    let (condition, mut second) = look_once(place)?;
    second.retain(|finding| first.contains(finding));
    Ok((condition, second))
}

fn look_once(place: &Place) -> anyhow::Result<(Condition, Vec<Finding>)> {
    // The links first: an ADD has its row before its link.
    let links = place.links()?;
    let (condition, rows) = place.ledger.view(|ledger, condition| (condition, ledger.leases()))?;
    let is_running = |lease: &Lease| lease.process.is_some_and(|process| process.is_alive());
    Ok((condition, audit(&links, &rows, is_running)))
}

/// Puts one finding right, and says in words what was done or why it was not.
fn repair(place: &Place, finding: &Finding) -> Result<String, String> {
    match finding {
        Finding::RowWithoutLink(lease) | Finding::Unfinished(lease) => {
            collect(place, &lease.attachment, Some(lease))?;
            Ok(format!("took {} back from {}", lease.addresses, lease.attachment))
        }
        Finding::LinkWithoutRow(link) if link.addresses.is_empty() => {
            collect(place, &link.attachment, None)?;
            Ok(format!("removed what an ADD of {} left", link.attachment))
        }
        Finding::LinkWithoutRow(link) | Finding::Differs { link, .. } => adopt(place, link),
        Finding::Doubled { address, holders } => Err(format!(
            "{address}: delete all but one of these pods: {}",
            holders.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        )),
    }
}

fn collect(place: &Place, attachment: &cni::Attachment, seen: Option<&Lease>) -> Result<(), String> {
    let failures = commands::collect(&place.ledger, attachment, seen);
    if failures.is_empty() {
        return Ok(());
    }
    Err(failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

fn adopt(place: &Place, link: &Found) -> Result<String, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", link.attachment);
    let turn = place.ledger.attachment_lock(&link.attachment, super::release::TURN_DEADLINE);
    let _turn = turn.map_err(|error| failed(&error))?;
    // It may have been deleted since.
    let links = place.links().map_err(|error| failed(&error))?;
    if !links.contains(link) {
        return Ok(format!("{} changed meanwhile", link.attachment));
    }
    place.ledger.adopt(link.clone()).map_err(|error| failed(&error))?;
    Ok(format!("entered {} for {}, as it is wired", link.addresses, link.attachment))
}
