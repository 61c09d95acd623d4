//! The proof of a story: with the reaction switched off, every step with events must break its promise.
//!
//! A step is proved with every towpath stopped at the first event (or with the events of `prove: {first: ...}` done
//! before). A step that holds all the same promises nothing, and fails. Afterwards the reaction is let loose: once
//! everything the step expects holds again, the lab is where the story would have it, and the next step is proved in
//! it. A lab that does not come to rest is taken down, and the next step gets one of its own, led quietly through the
//! steps before.

use std::time::Duration;

use rustix::process::Signal;

use super::act::Undo;
use super::check::Check;
use super::event::Event;
use super::play::Play;
use super::read::{Proof, Step, Story};
use super::report::{Outcome, StepReport};
use super::scene::Scene;
use super::step::{Manner, outcome, play_step, settle, skipped};

/// How long everything must hold after the events of `first` before they count as settled.
const SETTLED: Duration = Duration::from_secs(4);
/// The same after the reaction was let loose: what may still come is the work of a moment.
const AT_REST: Duration = Duration::from_secs(2);
/// How long that may take at most; a lab of its own for the next step takes about as long.
const REST_LIMIT: Duration = Duration::from_secs(30);

/// A lab, and how many steps of the story it has been taken through.
struct Stage {
    scene: Scene,
    undo: Undo,
    taken: usize,
}

/// Proves every step that can be proved. The time is that of the first lab's coming up.
pub(super) fn run(play: &mut Play<'_>) -> anyhow::Result<(Duration, Vec<StepReport>)> {
    anyhow::ensure!(!play.running, "a proof brings labs up of its own; take the running one down first");
    let story = play.story;
    let mut up = None;
    let mut stage: Option<Stage> = None;
    let mut reports = Vec::new();
    for (index, step) in story.steps.iter().enumerate() {
        let wanted = play.only.as_ref().is_none_or(|only| *only == step.name);
        if !wanted || !step.provable() {
            reports.push(skipped(step));
            continue;
        }
        (play.progress)(&format!("[{}/{}] {}, without reaction", index + 1, story.steps.len(), step.name));
        let mut here = match stage.take() {
            Some(stage) => stage,
            None => {
                let scene = Scene::up(story, &mut |_| {})?;
                up.get_or_insert(scene.up);
                Stage { scene, undo: Undo::default(), taken: 0 }
            }
        };
        let report = match here.advance(play, index) {
            Ok(()) => here.prove(play, step),
            Err(error) => failed(step, error),
        };
        (play.progress)(&outcome(&report));
        let more = story.steps.iter().skip(index + 1).any(Step::provable) && play.only.is_none();
        if more && report.outcome == Outcome::Held && here.recover(step)? {
            here.taken = index + 1;
            stage = Some(here);
        } else {
            here.scene.down()?;
        }
        reports.push(report);
    }
    if let Some(stage) = stage {
        stage.scene.down()?;
    }
    Ok((up.unwrap_or_default(), reports))
}

impl Stage {
    /// Takes the steps before `index` that have not been taken yet, quietly; an error says which did not hold.
    fn advance(&mut self, play: &Play<'_>, index: usize) -> Result<(), String> {
        let story = play.story;
        let mut quiet = Manner {
            slack: play.slack,
            seed: play.seed,
            quiet: true,
            freeze: false,
            prove: false,
            progress: &mut |_| {},
        };
        for before in story.steps.iter().take(index).skip(self.taken) {
            let report = play_step(&self.scene, story, before, &mut self.undo, &mut quiet);
            if report.outcome == Outcome::Failed {
                let why = report.error.or_else(|| {
                    let check = report.checks.into_iter().find(|check| !check.held)?;
                    Some(format!("{}: {}", check.text, check.found.unwrap_or_default()))
                });
                return Err(format!("on the way there, \"{}\": {}", before.name, why.unwrap_or_default()));
            }
        }
        self.taken = index;
        Ok(())
    }

    fn prove(&mut self, play: &mut Play<'_>, step: &Step) -> StepReport {
        let story: &Story = play.story;
        if let Proof::First(events) = &step.proof {
            for event in events {
                (play.progress)(&format!("      first: {event}"));
                if let Err(error) = self.undo.act(&self.scene, event) {
                    return failed(step, format!("first: {event}: {error:#}"));
                }
            }
            // Not held is an answer too: the step may expect what only its events bring about.
            settle(&self.scene, step, SETTLED, step.within * play.slack);
        }
        let (slack, seed) = (play.slack, play.seed);
        let mut manner = Manner {
            slack,
            seed,
            quiet: false,
            freeze: matches!(step.proof, Proof::Freeze),
            prove: true,
            progress: &mut play.progress,
        };
        let mut report = play_step(&self.scene, story, step, &mut self.undo, &mut manner);
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

    /// Lets the reaction loose and waits until what the step expects holds; false: this lab proves no more.
    fn recover(&mut self, step: &Step) -> anyhow::Result<bool> {
        match &step.proof {
            Proof::Freeze => {
                for node in self.scene.towpaths() {
                    // One that the story itself has paused stays so.
                    if node.status()?.pid.is_some() && !self.undo.has_paused(node.name()) {
                        node.kill(Signal::CONT)?;
                    }
                }
            }
            Proof::First(events) if events.iter().all(|event| matches!(event, Event::Edit { .. })) => {
                if !self.undo.restore_files(&self.scene).is_empty() {
                    return Ok(false);
                }
            }
            Proof::First(_) | Proof::None { .. } => return Ok(false),
        }
        // Which ways flows take says nothing while there are none.
        let lasting = step.expect.iter().filter(|one| !matches!(one.check, Check::Paths { .. }));
        let lasting = Step { expect: lasting.cloned().collect(), ..step.clone() };
        Ok(!lasting.expect.is_empty() && settle(&self.scene, &lasting, AT_REST, REST_LIMIT))
    }
}

fn failed(step: &Step, error: String) -> StepReport {
    StepReport { outcome: Outcome::Failed, error: Some(error), ..skipped(step) }
}
