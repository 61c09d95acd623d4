//! Plays a story: brings the lab up, takes the steps in their order, and reports what held.

use std::time::{Duration, Instant};

use super::act::Undo;
use super::event::Event;
use super::read::Story;
use super::report::{Mode, Outcome, Report, StepReport};
use super::scene::Scene;
use super::step::{Manner, outcome, play_step, skipped};

/// A story about to be played.
pub struct Play<'s> {
    pub(super) story: &'s Story,
    pub(super) slack: u32,
    pub(super) seed: u64,
    pub(super) mode: Mode,
    pub(super) only: Option<String>,
    pub(super) running: bool,
    pub(super) keep: bool,
    pub(super) progress: Box<dyn FnMut(&str) + 's>,
}

impl<'s> Play<'s> {
    /// As people run it: slack 1, seed 1, a lab of its own.
    #[must_use]
    pub fn new(story: &'s Story) -> Self {
        Self {
            story,
            slack: 1,
            seed: 1,
            mode: Mode::Play,
            only: None,
            running: false,
            keep: false,
            progress: Box::new(|_| {}),
        }
    }

    /// Times and bounds may be this many times what the file says; 0 lost stays 0.
    #[must_use]
    pub fn slack(self, slack: u32) -> Self {
        Self { slack: slack.max(1), ..self }
    }

    /// Seed of random events.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// With the reaction switched off: every step with events must break what it promises.
    #[must_use]
    pub fn prove(self) -> Self {
        Self { mode: Mode::Prove, ..self }
    }

    /// Only this step; those before it only bring the lab into its state.
    #[must_use]
    pub fn only(self, step: impl Into<String>) -> Self {
        Self { only: Some(step.into()), ..self }
    }

    /// On the lab that is up already; it stays up, and what the story disturbed is put in order.
    #[must_use]
    pub fn on_running_lab(self) -> Self {
        Self { running: true, ..self }
    }

    /// The lab stays up, as the story left it.
    #[must_use]
    pub fn keep(self) -> Self {
        Self { keep: true, ..self }
    }

    /// Is told what happens, a line each.
    #[must_use]
    pub fn progress(self, progress: impl FnMut(&str) + 's) -> Self {
        Self { progress: Box::new(progress), ..self }
    }

    /// Plays it.
    ///
    /// # Errors
    /// When the lab does not come up or go down. What did not hold is in the report.
    pub fn run(mut self) -> anyhow::Result<Report> {
        if let Some(only) = &self.only
            && !self.story.steps.iter().any(|step| step.name == *only)
        {
            let names: Vec<&str> = self.story.steps().collect();
            anyhow::bail!("the story has no step \"{only}\"; it has: {}", names.join(", "));
        }
        let began = Instant::now();
        let (up, steps) = match self.mode {
            Mode::Play => self.play()?,
            Mode::Prove => super::prove::run(&mut self)?,
        };
        Ok(Report {
            lab: self.story.topology.name.clone(),
            file: self.story.file.clone(),
            mode: self.mode,
            slack: self.slack,
            seed: Some(self.seed).filter(|_| self.story.is_random()),
            up,
            took: began.elapsed(),
            steps,
        })
    }

    fn play(&mut self) -> anyhow::Result<(Duration, Vec<StepReport>)> {
        let scene = match self.running {
            true => Scene::running(self.story)?,
            false => Scene::up(self.story, &mut self.progress)?,
        };
        let mut undo = Undo::default();
        let mut reports: Vec<StepReport> = Vec::new();
        let mut over = false;
        for (number, step) in (1..).zip(&self.story.steps) {
            if over {
                reports.push(skipped(step));
                continue;
            }
            let last = self.only.as_ref() == Some(&step.name);
            (self.progress)(&format!("[{number}/{}] {}", self.story.steps.len(), step.name));
            let mut manner = Manner {
                slack: self.slack,
                seed: self.seed,
                quiet: self.only.is_some() && !last,
                freeze: false,
                prove: false,
                progress: &mut self.progress,
            };
            let report = play_step(&scene, self.story, step, &mut undo, &mut manner);
            over = last || report.outcome == Outcome::Failed;
            (self.progress)(&outcome(&report));
            reports.push(report);
        }
        let up = scene.up;
        self.end(scene, &mut undo)?;
        Ok((up, reports))
    }

    fn end(&mut self, scene: Scene, undo: &mut Undo) -> anyhow::Result<()> {
        if self.running {
            let failures = undo.undo(&scene);
            anyhow::ensure!(failures.is_empty(), "{}", failures.join("\n"));
            return Ok(());
        }
        if self.keep { scene.keep() } else { scene.down() }
    }
}

impl Story {
    /// Whether it has random events.
    fn is_random(&self) -> bool {
        self.steps.iter().flat_map(|step| &step.events).any(|event| matches!(event, Event::Random(_)))
    }
}
