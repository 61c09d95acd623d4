//! The proof of a story: with the reaction switched off, every step with events must break its promise.
//!
//! Each step is proved on a lab of its own: up, quietly through the steps before it, and then the step with
//! every towpath stopped at the first event (or with the events of `prove: {first: ...}` done before). A step
//! that holds all the same promises nothing, and fails.

use std::time::Duration;

use super::act::Undo;
use super::play::Play;
use super::read::{Proof, Step};
use super::report::{Outcome, StepReport};
use super::scene::Scene;
use super::step::{Manner, outcome, play_step, settle, skipped};

/// How long everything must hold after the events of `first` before they count as settled.
const SETTLED: Duration = Duration::from_secs(4);

/// Proves every step that can be proved. The time is that of the first lab's coming up.
pub(super) fn run(play: &mut Play<'_>) -> anyhow::Result<(Duration, Vec<StepReport>)> {
    anyhow::ensure!(!play.running, "a proof brings labs up of its own; take the running one down first");
    let story = play.story;
    let mut up = None;
    let mut reports = Vec::new();
    for (index, step) in story.steps.iter().enumerate() {
        let wanted = play.only.as_ref().is_none_or(|only| *only == step.name);
        if !wanted || !step.provable() {
            reports.push(skipped(step));
            continue;
        }
        (play.progress)(&format!("[{}/{}] {}, without reaction", index + 1, story.steps.len(), step.name));
        let scene = Scene::up(story, &mut |_| {})?;
        up.get_or_insert(scene.up);
        let report = prove(play, &scene, index, step);
        scene.down()?;
        (play.progress)(&outcome(&report));
        reports.push(report);
    }
    Ok((up.unwrap_or_default(), reports))
}

fn prove(play: &mut Play<'_>, scene: &Scene, index: usize, step: &Step) -> StepReport {
    let story = play.story;
    let mut undo = Undo::default();
    let mut quiet = Manner {
        slack: play.slack,
        seed: play.seed,
        quiet: true,
        freeze: false,
        prove: false,
        progress: &mut |_| {},
    };
    for before in story.steps.iter().take(index) {
        let report = play_step(scene, story, before, &mut undo, &mut quiet);
        if report.outcome == Outcome::Failed {
            let why = report.error.or_else(|| {
                let check = report.checks.into_iter().find(|check| !check.held)?;
                Some(format!("{}: {}", check.text, check.found.unwrap_or_default()))
            });
            return failed(
                step,
                format!("on the way there, \"{}\": {}", before.name, why.unwrap_or_default()),
            );
        }
    }
    if let Proof::First(events) = &step.proof {
        for event in events {
            (play.progress)(&format!("      first: {event}"));
            if let Err(error) = undo.act(scene, event) {
                return failed(step, format!("first: {event}: {error:#}"));
            }
        }
        settle(scene, step, SETTLED, step.within * play.slack);
    }
    let mut manner = Manner {
        slack: play.slack,
        seed: play.seed,
        quiet: false,
        freeze: matches!(step.proof, Proof::Freeze),
        prove: true,
        progress: &mut play.progress,
    };
    let mut report = play_step(scene, story, step, &mut undo, &mut manner);
    if report.error.is_some() {
        return report; // failed already: nothing was proved
    }
    match report.outcome {
        Outcome::Failed => report.outcome = Outcome::Held,
        _ => {
            report.outcome = Outcome::Failed;
            report.error = Some(
                "everything held although nothing reacted: the step promises too little, or others react"
                    .to_owned(),
            );
        }
    }
    report
}

fn failed(step: &Step, error: String) -> StepReport {
    StepReport { outcome: Outcome::Failed, error: Some(error), ..skipped(step) }
}
