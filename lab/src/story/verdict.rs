//! What of a step did not hold, in sentences: the same ones in the table, in JUnit and in the summary.

use super::report::{CheckReport, Mode, Outcome, StepReport, TrafficReport};
use super::units::{counted, span};

/// One promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Line of the story's file.
    pub(crate) line: usize,
    /// What was promised and what was there instead.
    pub(crate) text: String,
}

/// What did not hold in a step, the most telling first: an event that could not be done, then the traffic,
/// which breaks at the event, then the expectations in the file's order.
pub(crate) fn broken(step: &StepReport) -> Vec<Broken> {
    let at_step = |text: String| Broken { line: step.line, text };
    let error = step.error.iter().map(|error| at_step(error.clone()));
    let traffic = step.traffic.iter().filter(|class| !class.held).map(|class| at_step(lost(class)));
    let checks = step.checks.iter().filter(|check| !check.held);
    let checks = checks.map(|check| Broken { line: check.line, text: missed(check) });
    error.chain(traffic).chain(checks).collect()
}

/// Why a step counts as failed; `None` if it does not.
pub(crate) fn failure(step: &StepReport, mode: Mode) -> Option<Broken> {
    match (step.outcome, mode) {
        (Outcome::Held | Outcome::Skipped, _) => None,
        (Outcome::Failed, Mode::Prove) if step.error.is_none() => Some(Broken {
            line: step.line,
            text: "everything held although nobody reacted: this step proves nothing".to_owned(),
        }),
        (Outcome::Failed, _) => {
            let first = broken(step).into_iter().next();
            let unknown = || Broken { line: step.line, text: "failed without a reason".to_owned() };
            Some(first.unwrap_or_else(unknown))
        }
    }
}

fn missed(check: &CheckReport) -> String {
    match &check.found {
        Some(found) => format!("{}: {}", check.text, found.trim()),
        None => format!("{}: did not come true", check.text),
    }
}

fn lost(class: &TrafficReport) -> String {
    let mut facts = Vec::new();
    if let Some(allowed) = class.allowed_lost
        && class.lost > allowed
    {
        facts.push(format!("{} lost, {allowed} allowed", counted(class.lost, "packet")));
    }
    if let Some(allowed) = class.allowed_outage
        && class.longest_outage > allowed
    {
        facts.push(format!("an outage of {}, {} allowed", span(class.longest_outage), span(allowed)));
    }
    // Within every bound and yet not held: it was no traffic to speak of.
    if facts.is_empty() {
        facts.push(class.worst.first().cloned().unwrap_or_else(|| {
            format!("{} sent over {}", counted(class.sent, "packet"), counted(class.flows as u64, "flow"))
        }));
    }
    format!("traffic {}: {}", class.class, facts.join("; "))
}
