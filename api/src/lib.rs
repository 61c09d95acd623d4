//! What an operator can say: towpath's resources, one Rust definition each for YAML files and CRDs.
//!
//! In: YAML text (files, folders, multi-document). Out: a [`DesiredState`], checked and complete, or a
//! list of [`Problem`]s that name file, line, path, value and remedy. No I/O beyond reading the files it
//! is given; no tokio; never talks to a kernel or a peer.

pub mod desired;

pub use desired::DesiredState;
