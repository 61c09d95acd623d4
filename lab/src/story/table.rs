//! A played story as a table for people: each step with what was done, what came true and when, and what
//! happened to the traffic; the last lines say what broke first.
//!
//! In: a [`Report`]. Out: text, with colours where the reader is a terminal that wants them.

use std::io::IsTerminal;

use super::columns::{Align, columns};
use super::report::{Mode, Outcome, Report, StepReport, TrafficReport};
use super::units::{count, counted, span};
use super::verdict;

/// Longest text that is aligned; a longer one pushes what follows to the right.
const LIMIT: usize = 72;

/// Whether the table is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// Plain text.
    Off,
    /// ANSI escapes.
    On,
}

impl Colours {
    /// On for a terminal, unless `NO_COLOR` is set and not empty (no-color.org) or `TERM` is `dumb`.
    pub fn of(stream: &impl IsTerminal) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        if stream.is_terminal() && !unwanted && !dumb { Self::On } else { Self::Off }
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::On => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Off => text.to_owned(),
        }
    }
}

/// What stands before a line: four letters, so that all lines begin in one column.
#[derive(Clone, Copy)]
enum Word {
    Ok,
    Fail,
    Skip,
    /// Not held, as a proof wants it.
    Broke,
    None,
}

impl Word {
    fn of(held: bool, mode: Mode) -> Self {
        match (held, mode) {
            (true, _) => Self::Ok,
            (false, Mode::Play) => Self::Fail,
            (false, Mode::Prove) => Self::Broke,
        }
    }

    fn show(self, colours: Colours) -> String {
        match self {
            Self::Ok => colours.paint("32", "ok   "),
            Self::Fail => colours.paint("1;31", "FAIL "),
            Self::Skip => colours.paint("33", "skip "),
            Self::Broke => colours.paint("36", "broke"),
            Self::None => "     ".to_owned(),
        }
    }
}

/// The whole report as text; ends with a line break.
#[must_use]
pub fn render(report: &Report, colours: Colours) -> String {
    let mut lines = vec![colours.paint("1", &header(report)), String::new()];
    for step in &report.steps {
        lines.extend(step_lines(step, report, colours));
    }
    lines.push(String::new());
    lines.extend(summary(report, colours));
    lines.join("\n") + "\n"
}

fn header(report: &Report) -> String {
    let mut facts = Vec::new();
    if report.mode == Mode::Prove {
        facts.push("proof: at the events nobody reacts, and what was promised must break".to_owned());
    }
    if report.slack != 1 {
        facts.push(format!("slack {}", report.slack));
    }
    facts.extend(report.seed.map(|seed| format!("seed {seed}")));
    let how = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join("; ")) };
    format!("lab {}: {}{how}", report.lab, report.file.display())
}

fn step_lines(step: &StepReport, report: &Report, colours: Colours) -> Vec<String> {
    let word = match step.outcome {
        Outcome::Held => Word::Ok,
        Outcome::Failed => Word::Fail,
        Outcome::Skipped => Word::Skip,
    };
    let mut lines = vec![format!("{} {}{}", word.show(colours), step.name, took(step, report.mode))];
    if step.outcome == Outcome::Skipped {
        return lines;
    }
    let body = events(step).into_iter().chain(checks(step, report.mode)).chain(traffic(step, report.mode));
    lines.extend(body.map(|(word, text)| format!("      {} {text}", word.show(colours))));
    if let Some(error) = &step.error {
        lines.push(format!("      {} {}", Word::Fail.show(colours), plain(error)));
    }
    lines
}

fn took(step: &StepReport, mode: Mode) -> String {
    match (step.outcome, mode) {
        (Outcome::Skipped, _) => String::new(),
        (Outcome::Held, Mode::Prove) if !step.events.is_empty() => {
            format!(": breaks when nobody reacts ({})", span(step.took))
        }
        _ => format!(" ({})", span(step.took)),
    }
}

fn events(step: &StepReport) -> Vec<(Word, String)> {
    let Some(first) = step.events.first() else { return Vec::new() };
    let row = |event: &super::report::EventReport| {
        vec![format!("+{}", span(event.at.saturating_sub(first.at))), event.text.clone()]
    };
    let rows: Vec<_> = step.events.iter().map(row).collect();
    columns(&rows, &[Align::Right, Align::Left], LIMIT).into_iter().map(|line| (Word::None, line)).collect()
}

fn checks(step: &StepReport, mode: Mode) -> Vec<(Word, String)> {
    let rows: Vec<Vec<String>> = step
        .checks
        .iter()
        .map(|check| {
            let when = match (check.held, check.after) {
                (true, Some(after)) => format!("after {}", span(after)),
                (true, None) => String::new(),
                (false, _) => {
                    let found = check.found.as_deref().unwrap_or("did not come true");
                    format!("line {}: {}", check.line, plain(found))
                }
            };
            vec![check.text.clone(), when]
        })
        .collect();
    let words = step.checks.iter().map(|check| Word::of(check.held, mode));
    words.zip(columns(&rows, &[Align::Left, Align::Left], LIMIT)).collect()
}

/// A table of the classes; under each that broke, the flows that suffered most.
fn traffic(step: &StepReport, mode: Mode) -> Vec<(Word, String)> {
    if step.traffic.is_empty() {
        return Vec::new();
    }
    let head =
        ["traffic", "flows", "sent", "lost", "allowed", "outage", "allowed"].map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(head).chain(step.traffic.iter().map(class)).collect();
    let [name, number] = [Align::Left, Align::Right];
    let mut lines =
        columns(&rows, &[name, number, number, number, number, number, number], LIMIT).into_iter();
    let mut out: Vec<_> = lines.next().into_iter().map(|head| (Word::None, head)).collect();
    for (class, line) in step.traffic.iter().zip(lines) {
        out.push((Word::of(class.held, mode), line));
        if !class.held && mode == Mode::Play {
            out.extend(class.worst.iter().take(3).map(|flow| (Word::None, format!("  {flow}"))));
            let more = class.worst.len().saturating_sub(3) as u64;
            if more > 0 {
                out.push((Word::None, format!("  and {} more", count(more))));
            }
        }
    }
    out
}

fn class(class: &TrafficReport) -> Vec<String> {
    let dash = || "-".to_owned();
    // TCP hides its losses: such a class is judged by outages alone.
    let counts = class.sent > 0;
    vec![
        class.class.clone(),
        count(class.flows as u64),
        if counts { count(class.sent) } else { dash() },
        if counts { count(class.lost) } else { dash() },
        class.allowed_lost.map_or_else(dash, count),
        span(class.longest_outage),
        class.allowed_outage.map_or_else(dash, span),
    ]
}

/// What a program printed, on one line and without what a terminal would obey.
fn plain(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" | ").replace(char::is_control, "\u{fffd}")
}

fn summary(report: &Report, colours: Colours) -> Vec<String> {
    let steps = |of: &dyn Fn(&StepReport) -> bool| report.steps.iter().filter(|step| of(step)).count() as u64;
    let failed = steps(&|step| step.outcome == Outcome::Failed);
    let skipped = steps(&|step| step.outcome == Outcome::Skipped);
    let held = steps(&|step| step.outcome == Outcome::Held);
    let proved = match report.mode {
        Mode::Prove => steps(&|step| step.outcome == Outcome::Held && !step.events.is_empty()),
        Mode::Play => 0,
    };
    let time = format!("in {}; the lab was up after {}", span(report.took), span(report.up));
    let kept = match proved {
        0 => format!("{} held", counted(held, "step")),
        _ => format!("{} proved, {} held", counted(proved, "step"), count(held - proved)),
    };
    let skipped = if skipped > 0 { format!(", {} skipped", count(skipped)) } else { String::new() };
    if report.held() {
        return vec![colours.paint("1;32", &format!("{kept}{skipped}, {time}"))];
    }
    let head = format!("{} failed, {kept}{skipped}, {time}", counted(failed, "step"));
    let mut lines = vec![colours.paint("1;31", &head)];
    let broken = report.steps.iter().find_map(|step| Some((step, verdict::failure(step, report.mode)?)));
    match broken {
        Some((step, first)) => {
            lines.push(format!("first broken, in \"{}\":", step.name));
            lines.push(format!("{}:{}: {}", report.file.display(), first.line, plain(&first.text)));
        }
        None => lines.push("no step was played".to_owned()),
    }
    lines
}
