//! A lab comes up: its state on disk, its process 1, and what that makes of the plan.

pub(crate) mod board;
pub(crate) mod bring_up;
pub(crate) mod commands;
pub(crate) mod eth0;
pub(crate) mod helper;
pub(crate) mod holder;
pub(crate) mod host;
pub(crate) mod netns_names;
pub(crate) mod outside;
pub(crate) mod schedule;
pub(crate) mod state;
pub(crate) mod wires;
