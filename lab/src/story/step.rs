//! One step of a story, from its traffic to its verdict.
//!
//! In: the lab, the step and the [`Manner`] it is played in. Out: a [`StepReport`]; whatever goes wrong is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meter::counters::Interfaces;

use super::act::Undo;
use super::check::{Check, Expectation};
use super::event::{Event, Verb};
use super::flows::{Ended, Flows};
use super::look::{self, Look};
use super::observe::{Observers, Seen};
use super::read::{Step, Story};
use super::report::{CheckReport, EventReport, Outcome, StepReport, Timeline};
use super::scene::{Scene, disturbed, is_slow};

/// How long flows run before the events, and after everything holds.
const STEADY: Duration = Duration::from_millis(500);
/// How long flows may take to get through at all, and to reach the place of the event.
const WARM_UP: Duration = Duration::from_secs(15);
/// Between two looks at the lab.
const PAUSE: Duration = Duration::from_millis(50);
/// Buckets of a timeline.
const BUCKETS: u32 = 400;
const SHORTEST_BUCKET: Duration = Duration::from_millis(5);

/// How one step is played.
pub(super) struct Manner<'p> {
    pub(super) slack: u32,
    pub(super) seed: u64,
    /// Only to get to a later step: no traffic, no bounds.
    pub(super) quiet: bool,
    /// Every towpath is stopped right before the first event.
    pub(super) freeze: bool,
    /// What was promised must break: no longer than that shows.
    pub(super) prove: bool,
    pub(super) progress: &'p mut dyn FnMut(&str),
}

/// Plays one step to its end; whatever goes wrong is in the report.
pub(super) fn play_step(
    scene: &Scene,
    story: &Story,
    step: &Step,
    undo: &mut Undo,
    manner: &mut Manner<'_>,
) -> StepReport {
    let mut report = skipped(step);
    report.began = scene.clock();
    report.outcome = Outcome::Held;
    if let Err(error) = try_step(scene, story, step, undo, manner, &mut report) {
        report.error = Some(format!("{error:#}"));
    }
    report.took = scene.clock() - report.began;
    let held = report.error.is_none()
        && report.checks.iter().all(|check| check.held)
        && report.traffic.iter().all(|traffic| traffic.held);
    report.outcome = if held { Outcome::Held } else { Outcome::Failed };
    report
}

fn try_step(
    scene: &Scene,
    story: &Story,
    step: &Step,
    undo: &mut Undo,
    manner: &mut Manner<'_>,
    report: &mut StepReport,
) -> anyhow::Result<()> {
    let processes = scene.processes()?;
    let before = look::counters(scene)?;
    let classes = step.traffic.iter().filter(|_| !manner.quiet).filter_map(|class| story.classes.get(class));
    let flows = Flows::start(scene, classes, WARM_UP)?;
    let observers =
        (!step.events.is_empty() && !manner.quiet).then(|| Observers::start(scene)).transpose()?;
    if !step.traffic.is_empty() && !manner.quiet {
        run_steady(scene, step, &flows, &before)?;
    }
    let frozen = if manner.freeze { freeze(scene, step)? } else { BTreeSet::new() };
    for event in &step.events {
        do_event(scene, event, undo, manner, report)?;
    }
    let after = scene.clock();
    let from = if step.events.is_empty() { report.began } else { after };
    let mut flows = Some(flows);
    let mut ended: Option<Ended> = None;
    if manner.prove && !step.lost.is_empty() {
        // Long enough for every bound to break, if it does.
        let longest =
            step.lost.values().filter_map(|bound| bound.times(manner.slack).outage).max().unwrap_or_default();
        pause((2 * longest + STEADY).max(Duration::from_secs(2)));
        ended = end_traffic(flows.take(), step, manner, report)?;
        if report.traffic.iter().any(|traffic| !traffic.held) {
            // The lab may serve the next proof: whoever still looked on would be in its way.
            return observers.map_or(Ok(()), |observers| observers.stop().map(drop));
        }
    }
    let slack = if manner.prove { 1 } else { manner.slack };
    let traffic = flows.as_ref().map(|flows| (flows, &before));
    let proves = |one: &&Expectation| !manner.prove || proves(scene, &one.check, &frozen);
    let expect: Vec<&Expectation> = step.expect.iter().filter(proves).collect();
    anyhow::ensure!(
        !manner.prove || !expect.is_empty() || !step.lost.is_empty(),
        "nothing can be proved: all that is expected is told by programs that are frozen; expect routes, pings or bounds"
    );
    report.checks = await_all(scene, &expect, traffic, &frozen, from, step.within * slack);
    if !step.traffic.is_empty() && !manner.quiet && flows.is_some() {
        pause(STEADY);
    }
    if let Some(flows) = flows {
        ended = end_traffic(Some(flows), step, manner, report)?;
    }
    let to = scene.clock();
    if let Some(observers) = observers {
        let first = report.events.first().map_or(after, |event| event.at);
        report.timeline = Some(timeline(first.saturating_sub(STEADY), to, observers.stop()?, ended.as_ref()));
    }
    let fallen = scene.fallen(&processes, &disturbed(&step.events, &story.topology))?;
    anyhow::ensure!(fallen.is_empty(), "{}", fallen.join("; "));
    Ok(())
}

fn end_traffic(
    flows: Option<Flows>,
    step: &Step,
    manner: &Manner<'_>,
    report: &mut StepReport,
) -> anyhow::Result<Option<Ended>> {
    let Some(flows) = flows else { return Ok(None) };
    let ended = flows.stop(&step.lost, manner.slack)?;
    report.traffic.clone_from(&ended.reports);
    Ok(Some(ended))
}

fn do_event(
    scene: &Scene,
    event: &Event,
    undo: &mut Undo,
    manner: &mut Manner<'_>,
    report: &mut StepReport,
) -> anyhow::Result<()> {
    let mut tell = |text: String| {
        (manner.progress)(&format!("      {text}"));
        report.events.push(EventReport { at: scene.clock(), text });
    };
    match event {
        Event::Random(random) => super::random::play(scene, random, manner.seed, undo, &mut tell),
        event => {
            // Told first: what follows is measured from here.
            tell(event.to_string());
            undo.act(scene, event)
        }
    }
}

/// Whether the check can show in a proof that nobody reacted.
fn proves(scene: &Scene, check: &Check, frozen: &BTreeSet<String>) -> bool {
    match check {
        // A program that is frozen tells nothing, whatever happened.
        Check::Sessions { node: Some(node), .. } => !frozen.contains(node),
        Check::Sessions { node: None, .. } => scene.speakers().any(|(node, _)| !frozen.contains(node.name())),
        Check::Same => frozen.is_empty(),
        Check::Command { node, argv, .. } => {
            !(frozen.contains(node) && argv.first().is_some_and(|program| program.ends_with("towpath")))
        }
        // What passed before the event says nothing about the time after it.
        Check::Paths { .. } => false,
        Check::Route(_) | Check::Ping { .. } | Check::Transfer { .. } => true,
    }
}

/// Stops every towpath in its tracks: what happens next, happens without us. Gives the nodes.
fn freeze(scene: &Scene, step: &Step) -> anyhow::Result<BTreeSet<String>> {
    let killed: Vec<&str> = step
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Node { verb: Verb::Die | Verb::Kill | Verb::Restart | Verb::Stop, node } => {
                Some(node.as_str())
            }
            _ => None,
        })
        .collect();
    let mut frozen = BTreeSet::new();
    for node in scene.towpaths().filter(|node| !killed.contains(&node.name())) {
        // One that was killed by an earlier step is as silent as it gets.
        if node.status()?.pid.is_some() {
            node.kill(rustix::process::Signal::STOP)?;
        }
        frozen.insert(node.name().to_owned());
    }
    Ok(frozen)
}

/// Lets the flows run, and makes sure that those who may feel an event are where it happens.
fn run_steady(
    scene: &Scene,
    step: &Step,
    flows: &Flows,
    before: &BTreeMap<String, Interfaces>,
) -> anyhow::Result<()> {
    pause(STEADY);
    if !step.lost.values().any(|bound| bound.allows_loss()) {
        return Ok(());
    }
    let hit = step.events.iter().filter_map(|event| match event {
        Event::Node { verb: Verb::Die | Verb::Isolate, node } => Some(node.as_str()),
        Event::LinkDown(end) | Event::Loss { end, .. } => end.split_once(':').map(|(node, _)| node),
        _ => None,
    });
    let total: u64 = step.traffic.iter().map(|class| flows.sent(class, scene.clock())).sum();
    for node in hit {
        let passed = look::passed(scene, node, before)?;
        anyhow::ensure!(
            passed >= (total / 100).max(20),
            "not tested: of about {total} packets sent before the event, {passed} passed {node}; more flows, or other ones, would"
        );
    }
    Ok(())
}

/// Looks again and again until everything holds at once, or the time is over.
fn await_all(
    scene: &Scene,
    expect: &[&Expectation],
    traffic: Option<(&Flows, &BTreeMap<String, Interfaces>)>,
    frozen: &BTreeSet<String>,
    from: Duration,
    within: Duration,
) -> Vec<CheckReport> {
    let mut reports: Vec<CheckReport> = expect.iter().map(|one| unheld(one)).collect();
    // What takes long is looked at when the rest holds, and then once more if something changed meanwhile.
    let (slow, quick): (Vec<usize>, Vec<usize>) =
        (0..expect.len()).partition(|index| expect.get(*index).is_some_and(|one| is_slow(&one.check)));
    loop {
        let late = scene.clock() >= from + within;
        let mut look = Look::new(scene, traffic, frozen);
        let mut all = true;
        for index in quick.iter().chain(&slow) {
            let (Some(expectation), Some(report)) = (expect.get(*index), reports.get_mut(*index)) else {
                continue;
            };
            if slow.contains(index) && !all && !late {
                break;
            }
            match look.at(&expectation.check) {
                Ok(()) => {
                    report.held = true;
                    report.after.get_or_insert_with(|| scene.clock().saturating_sub(from));
                    report.found = None;
                }
                Err(found) => {
                    all = false;
                    *report = CheckReport { found: Some(found), ..unheld(expectation) };
                }
            }
        }
        if all || late {
            return reports;
        }
        pause(PAUSE);
    }
}

/// Waits until what the step expects has held for `steady` without a break; a step may also expect what
/// only its events bring about, and then the time is over after `within`, and false the answer.
pub(super) fn settle(scene: &Scene, step: &Step, steady: Duration, within: Duration) -> bool {
    let end = scene.clock() + within.max(steady);
    let mut since = scene.clock();
    let none = BTreeSet::new();
    while scene.clock() < end && scene.clock().saturating_sub(since) < steady {
        let mut look = Look::new(scene, None, &none);
        if !step.expect.iter().all(|expectation| look.at(&expectation.check).is_ok()) {
            since = scene.clock();
        }
        pause(PAUSE);
    }
    scene.clock().saturating_sub(since) >= steady
}

fn unheld(expectation: &Expectation) -> CheckReport {
    CheckReport {
        text: expectation.check.to_string(),
        line: expectation.line,
        held: false,
        after: None,
        found: Some("not looked at: something else did not hold".to_owned()),
    }
}

fn timeline(from: Duration, to: Duration, seen: Seen, ended: Option<&Ended>) -> Timeline {
    let bucket = (to.saturating_sub(from) / BUCKETS).max(SHORTEST_BUCKET);
    let within = |at: Duration| at >= from && at <= to;
    Timeline {
        from,
        to,
        packets: ended.map_or_else(Vec::new, |ended| ended.series(from, to, bucket)),
        sessions: seen.sessions.into_iter().filter(|change| within(change.at)).collect(),
        routes: seen.routes.into_iter().filter(|change| within(change.at)).collect(),
    }
}

pub(super) fn skipped(step: &Step) -> StepReport {
    StepReport {
        name: step.name.clone(),
        line: step.line,
        outcome: Outcome::Skipped,
        began: Duration::ZERO,
        took: Duration::ZERO,
        events: Vec::new(),
        checks: Vec::new(),
        traffic: Vec::new(),
        timeline: None,
        error: None,
    }
}

/// The line that ends a step's progress.
pub(super) fn outcome(report: &StepReport) -> String {
    let seconds = report.took.as_secs_f64();
    match report.outcome {
        Outcome::Held => format!("      held, {seconds:.1} s"),
        Outcome::Skipped => "      skipped".to_owned(),
        Outcome::Failed => format!("      FAILED, {seconds:.1} s"),
    }
}

/// A stretch of time in which traffic runs: what is measured is that nothing happens meanwhile.
fn pause(time: Duration) {
    std::thread::sleep(time);
}
