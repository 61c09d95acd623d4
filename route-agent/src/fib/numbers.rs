//! The protocol numbers under which routes of ours may be in the kernel.
//!
//! Those in use, and those of earlier configurations until what carries them has been removed; also across
//! a restart, for which the numbers are kept in a file.

use std::collections::BTreeSet;
use std::path::Path;

use api::desired::Install;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::state;

/// See the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    learned: BTreeSet<u8>,
    local: BTreeSet<u8>,
}

impl Numbers {
    /// Those of one configuration.
    pub fn of(install: &Install) -> Self {
        Self { learned: [install.protocol].into(), local: [install.local_protocol].into() }
    }

    /// Those kept in `file`; none when there is no file, or one that cannot be read.
    pub fn load(file: &Path) -> Self {
        state::read_json(file).map_or_else(
            |error| {
                warn!(%error, file = %file.display(), "protocol numbers of earlier runs are unknown; look for routes that nobody removes");
                Self::default()
            },
            Option::unwrap_or_default,
        )
    }

    /// Keeps them in `file` for the next start.
    pub fn save(&self, file: &Path) {
        if let Err(error) = state::write_json(file, self) {
            warn!(%error, file = %file.display(), "protocol numbers could not be kept for the next start");
        }
    }

    /// Takes those of another in.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.learned.extend(&other.learned);
        self.local.extend(&other.local);
        self
    }

    /// Each number once.
    pub fn all(&self) -> Vec<u8> {
        self.learned.union(&self.local).copied().collect()
    }

    /// Numbers of what BGP installed.
    pub fn learned(&self) -> &BTreeSet<u8> {
        &self.learned
    }

    /// What BGP installed under this number is, or was, ours.
    pub(super) fn is_learned(&self, protocol: u8) -> bool {
        self.learned.contains(&protocol)
    }

    /// Blackholes under this number are, or were, ours; its other routes belong to the CNI plugin.
    pub(super) fn is_local(&self, protocol: u8) -> bool {
        self.local.contains(&protocol)
    }
}
