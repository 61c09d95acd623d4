//! What a played story came to: the boundary between what plays a story and what shows the outcome.
//!
//! All times are counted from the start of the story. The JSON form of [`Report`] is what
//! `towpath lab test --json` writes; its names are stable, and times are milliseconds to a thousandth.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// How the story was played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// As people run it.
    Play,
    /// Every reaction of towpath switched off at the events: what was promised must break.
    Prove,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Everything promised held; in [`Mode::Prove`]: something broke, as it must.
    Held,
    /// Something promised did not hold; in [`Mode::Prove`]: everything held although nobody reacted.
    Failed,
    /// Not played: an earlier step failed, or it has no failure to prove.
    Skipped,
}

/// A whole story.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Name of the lab.
    pub lab: String,
    /// The story's file.
    pub file: PathBuf,
    /// How it was played.
    pub mode: Mode,
    /// Outages and times were allowed to be this many times what the file says.
    pub slack: u32,
    /// Seed of the random events, to play the same again.
    pub seed: Option<u64>,
    /// How long the lab took to come up, links and `exec` included.
    #[serde(rename = "up_ms", serialize_with = "milliseconds")]
    pub up: Duration,
    /// How long everything took.
    #[serde(rename = "took_ms", serialize_with = "milliseconds")]
    pub took: Duration,
    /// The steps, in the file's order.
    pub steps: Vec<StepReport>,
}

impl Report {
    /// Whether no step failed and at least one was played.
    #[must_use]
    pub fn held(&self) -> bool {
        self.steps.iter().all(|step| step.outcome != Outcome::Failed)
            && self.steps.iter().any(|step| step.outcome == Outcome::Held)
    }
}

/// One step of a story.
#[derive(Debug, Clone, Serialize)]
pub struct StepReport {
    /// As the file calls it.
    pub name: String,
    /// Line of the file it begins in.
    pub line: usize,
    /// What became of it.
    pub outcome: Outcome,
    /// When it began.
    #[serde(rename = "began_ms", serialize_with = "milliseconds")]
    pub began: Duration,
    /// How long it took.
    #[serde(rename = "took_ms", serialize_with = "milliseconds")]
    pub took: Duration,
    /// What was done to the lab, in order.
    pub events: Vec<EventReport>,
    /// What was expected of it.
    pub checks: Vec<CheckReport>,
    /// What happened to the traffic meanwhile.
    pub traffic: Vec<TrafficReport>,
    /// What happened around the events; only where there was an event.
    pub timeline: Option<Timeline>,
    /// Why it failed, where that is no check and no traffic: an event that could not be done, a lab that is gone.
    pub error: Option<String>,
}

/// Something done to the lab.
#[derive(Debug, Clone, Serialize)]
pub struct EventReport {
    /// When.
    #[serde(rename = "at_ms", serialize_with = "milliseconds")]
    pub at: Duration,
    /// In words: `tor1 dies`.
    pub text: String,
}

/// One expectation.
#[derive(Debug, Clone, Serialize)]
pub struct CheckReport {
    /// In words: `node1: 10.244.2.0/24 over 2 next hops`.
    pub text: String,
    /// Line of the file.
    pub line: usize,
    /// Whether it came true in time.
    pub held: bool,
    /// How long after the last event, or after the step's begin, it came true.
    #[serde(rename = "after_ms", serialize_with = "optional_milliseconds")]
    pub after: Option<Duration>,
    /// What was there instead, where it did not hold.
    pub found: Option<String>,
}

/// One class of flows during a step.
#[derive(Debug, Clone, Serialize)]
pub struct TrafficReport {
    /// Its name in the file.
    pub class: String,
    /// Flows in it.
    pub flows: usize,
    /// Packets sent, all flows; 0 for a class of TCP flows, which are judged by outages alone.
    pub sent: u64,
    /// Packets lost, all flows.
    pub lost: u64,
    /// The longest outage of any flow.
    #[serde(rename = "longest_outage_ms", serialize_with = "milliseconds")]
    pub longest_outage: Duration,
    /// Packets that may be lost, all flows.
    pub allowed_lost: Option<u64>,
    /// The longest outage a flow may have, slack included.
    #[serde(rename = "allowed_outage_ms", serialize_with = "optional_milliseconds")]
    pub allowed_outage: Option<Duration>,
    /// Whether both were kept.
    pub held: bool,
    /// The flows that suffered, the worst first, a line each.
    pub worst: Vec<String>,
}

/// What was seen around the events of a step.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Timeline {
    /// From when to when.
    #[serde(rename = "from_ms", serialize_with = "milliseconds")]
    pub from: Duration,
    /// End of it.
    #[serde(rename = "to_ms", serialize_with = "milliseconds")]
    pub to: Duration,
    /// Packets, a series for each class.
    pub packets: Vec<PacketSeries>,
    /// Sessions that changed; an entry at or before `from` is the state there was before.
    pub sessions: Vec<SessionChange>,
    /// Kernel routes that changed; an entry at or before `from` is what there was before.
    pub routes: Vec<RouteChange>,
}

/// Packets of one class over time.
#[derive(Debug, Clone, Serialize)]
pub struct PacketSeries {
    /// Name of the class.
    pub class: String,
    /// How long one bucket is.
    #[serde(rename = "bucket_ms", serialize_with = "milliseconds")]
    pub bucket: Duration,
    /// Packets by the time they were sent, from the timeline's begin.
    pub buckets: Vec<Bucket>,
}

/// Packets sent within one stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Sent.
    pub sent: u64,
    /// Of these, lost.
    pub lost: u64,
}

/// A session that changed its state; the first entry of one is what it was when the watching began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionChange {
    /// When it was seen.
    #[serde(rename = "at_ms", serialize_with = "milliseconds")]
    pub at: Duration,
    /// The node that told.
    pub node: String,
    /// The neighbour, as that node calls it.
    pub neighbor: String,
    /// The new state.
    pub state: String,
}

/// A route that changed in a node's kernel; the first entry of one is what it was when the watching began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteChange {
    /// When the kernel announced it.
    #[serde(rename = "at_ms", serialize_with = "milliseconds")]
    pub at: Duration,
    /// The node.
    pub node: String,
    /// The prefix.
    pub prefix: String,
    /// How many next hops it has now; 0: it is gone.
    pub nexthops: usize,
}

fn milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((time.as_secs_f64() * 1_000_000.0).round() / 1_000.0)
}

fn optional_milliseconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => milliseconds(time, serializer),
        None => serializer.serialize_none(),
    }
}
