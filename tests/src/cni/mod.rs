//! What a container runtime is to a CNI plugin, a node with pods to call it for, and what is left on both.
//!
//! ```text
//!   Runtime ── Call (environment, stdin) ──> a plugin's process ──> Answer
//!           <── result of the chain, or the plugin's refusal ──
//!   Node    namespaces of a node and of its pods, a state folder, Remains: what the kernel holds
//!   Towpath a node whose network is towpath-cni alone
//!   tracee  the same Call stopped at every system call, and killed at one of them
//! ```
//!
//! Only `Towpath` knows towpath-cni: the reference plugins are called the same way. A plugin runs in the network
//! namespace of the thread that calls it, so a thread enters the node's first ([`Netns::enter`]).
//!
//! [`Netns::enter`]: crate::netns::Netns::enter

mod call;
mod node;
mod runtime;
mod towpath;
pub mod tracee;

pub use call::{Answer, Call};
pub use node::{Node, Remains};
pub use runtime::{Failure, Pod, Refusal, Runtime};
pub use towpath::{Towpath, addresses, ports_and_bandwidth};

use std::path::PathBuf;

use anyhow::{Context, ensure};

/// The plugin as it is installed: `TOWPATH_CNI`, which the Makefile sets.
///
/// # Errors
/// When it is not set or not built.
pub fn plugin() -> anyhow::Result<PathBuf> {
    let path =
        std::env::var_os("TOWPATH_CNI").context("TOWPATH_CNI is not set; run: make plugin, or make labs")?;
    let path = PathBuf::from(path);
    ensure!(path.exists(), "TOWPATH_CNI={}: not there; run: make plugin", path.display());
    Ok(path)
}

/// The folder with the reference plugins.
///
/// # Errors
/// When `make setup` has not run to its end.
pub fn reference_plugins() -> anyhow::Result<PathBuf> {
    let folder = crate::tools::folder()?.join("usr/lib/cni");
    ensure!(folder.join("ptp").exists(), "{}: no reference plugins; run: make setup", folder.display());
    Ok(folder)
}
