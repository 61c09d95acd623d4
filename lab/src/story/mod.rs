//! The story of a lab: `expect.yaml` beside the topology, played by `towpath lab test`.
//!
//! ```text
//! expect.yaml -> keys (what may be said) -> read -> Story
//! Story -> play, prove -> step by step: scene (the lab), flows (traffic), act (events), look (expectations),
//!       observe (timeline)
//!       -> Report -> table, junit, timeline
//! ```
//!
//! A step starts its traffic, does its events, and looks until everything it expects holds at once. Then it
//! lets the traffic run on for a moment and judges it. [`Play::prove`] does the same with the reaction of
//! every towpath switched off, and then what the step promises must break.

mod act;
mod check;
mod class;
pub(crate) mod columns;
mod event;
mod flows;
mod given;
pub mod junit;
mod keys;
mod look;
mod observe;
mod play;
mod prove;
mod random;
mod read;
#[cfg(test)]
mod reference;
pub mod report;
mod same;
mod scene;
pub mod schema;
mod step;
pub mod table;
pub mod timeline;
mod units;
mod verdict;

pub use play::Play;
pub use read::{FILE_NAME, Story};
