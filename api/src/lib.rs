//! What an operator can say: towpath's resources, one Rust definition each for YAML files and CRDs.
//!
//! In: YAML text (files, folders, multi-document). Out: a [`DesiredState`], checked and complete, or a
//! list of [`Problem`]s that name file, line, path, value and remedy. No I/O beyond reading the files it
//! is given; no tokio; never talks to a kernel or a peer.
//!
//! ```text
//! files ─ file ─────► Documents ─┐           ┌─ build ─► DesiredState, or Finding ─ file ─► Problem
//!         (tree, schema, lines)  ├─► Object ─┤  (defaults, rules, this node)
//! JSON ── cluster ───────────────┘           └─ settle ► DesiredState, and a Verdict on each object
//! ```

pub mod advertisement;
pub mod bgp;
pub mod build;
mod cel;
pub mod cluster;
pub mod crd;
pub mod desired;
pub mod file;
pub mod network;
mod problem;
pub mod status;
pub mod watch;
pub mod words;

pub use desired::DesiredState;
pub use file::{Documents, load};
pub use problem::{Problem, few};
