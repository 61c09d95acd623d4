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

    /// The stage of that name, as files spell it.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }

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

/// What a file says of one stage of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageSpec {
    /// What must have ended before it is entered.
    pub wait_for: Vec<WaitFor>,
    /// Commands of the stage.
    pub exec: Vec<StageExec>,
}

/// A command of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageExec {
    /// The command and its arguments.
    pub argv: Vec<String>,
    /// Where it runs.
    pub target: Target,
    /// When it runs.
    pub phase: Phase,
}

/// Where a command of a stage runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// In the node.
    Container,
    /// Among the machine's files, in the network of the lab's own host.
    Host,
}

/// When a command of a stage runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Once what the stage waits for has ended, before its work.
    OnEnter,
    /// After its work, before those that wait for the stage go on.
    OnExit,
}

impl std::fmt::Display for WaitFor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.node, self.stage.name())
    }
}
