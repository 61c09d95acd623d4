//! What a node is: containerlab's `kind`, as far as namespaces can be it.
//!
//! Kinds that need Docker, a vendor's image or another switch are refused with the reason.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::file::fields::{At, did_you_mean};
use crate::file::problem::Findings;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A machine of its own: namespaces, files, a main process.
    Linux,
    /// A bridge and nothing else, in the lab's host namespace or in another node's.
    Bridge,
    /// A network namespace that somebody else made; programs in it see the machine's files.
    ExtContainer,
    /// The lab's host namespace, where top-level bridges and `host:` ends are.
    Host,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Linux, Self::Bridge, Self::ExtContainer, Self::Host];

    /// Its word in the file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Bridge => "bridge",
            Self::ExtContainer => "ext-container",
            Self::Host => "host",
        }
    }

    /// Whether it has processes: a bridge is a device only.
    #[must_use]
    pub fn has_processes(self) -> bool {
        self != Self::Bridge
    }

    /// The kind of the node called `place`, or what is wrong with it.
    pub(crate) fn read(
        place: &str,
        line: usize,
        given: Option<&At>,
        findings: &mut Findings,
    ) -> Option<Self> {
        let Some(given) = given else {
            findings.refuse(line, format!("{place}: no \"kind\"; use `kind: linux`"));
            return None;
        };
        let known = Self::ALL.into_iter().find(|kind| kind.word() == given.text);
        if known.is_none() {
            findings.refuse(given.line, format!("{place}: kind \"{}\" {}", given.text, refusal(&given.text)));
        }
        known
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

fn refusal(kind: &str) -> String {
    match kind {
        "ovs-bridge" => "needs Open vSwitch; use `kind: bridge`".to_owned(),
        "k8s-kind" => "needs Docker and kind; use `kind: linux` nodes, or `kind: ext-container` for a \
                       network namespace that exists"
            .to_owned(),
        other => {
            let hint = match did_you_mean(other, Kind::ALL.map(Kind::word)) {
                remove if remove == "remove it" => "use `kind: linux`".to_owned(),
                meant => return format!("is unknown; {meant}"),
            };
            format!("needs Docker and a vendor's image; {hint}")
        }
    }
}
