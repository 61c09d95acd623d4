//! The stages of a node's start, in containerlab's words.
//!
//! A stage is entered when everything it waits for has ended, and ends for the nodes that wait for
//! it after its own `exec` of the phase `on-exit`.

use serde::{Deserialize, Serialize};

/// A stage of a node's start, in the order in which a node goes through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Namespaces, files and the main process.
    Create,
    /// Its ends of the links.
    CreateLinks,
    /// Ends before the node's `exec` runs.
    Configure,
    /// Its `healthcheck` has succeeded.
    Healthy,
    /// Its main process has ended.
    Exit,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [Self::Create, Self::CreateLinks, Self::Configure, Self::Healthy, Self::Exit];

    /// As files spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::CreateLinks => "create-links",
            Self::Configure => "configure",
            Self::Healthy => "healthy",
            Self::Exit => "exit",
        }
    }
}

/// The end of a stage of a node, which another one may wait for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WaitFor {
    /// Whose stage.
    pub node: String,
    /// Which one.
    pub stage: Stage,
}

impl std::fmt::Display for WaitFor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.node, self.stage.name())
    }
}
