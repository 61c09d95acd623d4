//! The cells of the interoperability matrix: which are not expected to work and why, and what came of each.
//!
//! A cell that is declared as not supported is not played; one that is declared as failing is played and
//! has to fail, so that a declaration does not outlive its reason. With [`RESULTS`] in the environment each
//! test leaves its outcome there for [`table`](super::table).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::Program;
use super::exceptions::exception;
use super::rows::{ROWS, Row};

/// Names the folder for outcomes.
pub const RESULTS: &str = "TOWPATH_INTEROP_RESULTS";

/// What a cell is, by declaration or by its test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The scenario holds.
    Works,
    /// The other program has no way to do this; the scenario is not played.
    NotSupported,
    /// The other program does it wrongly; the scenario is played and must fail.
    Fails,
}

/// What came of one cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Played {
    /// How it was.
    pub outcome: Outcome,
    /// Whether that is what was declared.
    pub expected: bool,
    /// The error, where there was one.
    pub error: Option<String>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Plays one cell and leaves its outcome.
///
/// # Errors
/// When the scenario fails that should hold, or holds though declared as failing.
pub fn play(program: Program, name: &str) -> anyhow::Result<()> {
    let row = ROWS.iter().find(|row| row.name == name).with_context(|| format!("no row {name}"))?;
    let declared = exception(program, name);
    let begin = Instant::now();
    let result = match declared {
        Some(exception) if exception.outcome == Outcome::NotSupported => {
            println!("not supported by {program:?}: {}", exception.reason);
            None
        }
        _ => Some((row.scenario)(program)),
    };
    let outcome = match &result {
        None => Outcome::NotSupported,
        Some(Ok(())) => Outcome::Works,
        Some(Err(_)) => Outcome::Fails,
    };
    let expected = outcome == declared.map_or(Outcome::Works, |exception| exception.outcome);
    let error = result.and_then(Result::err);
    let played = Played {
        outcome,
        expected,
        error: error.as_ref().map(|error| format!("{error:#}")),
        elapsed: begin.elapsed(),
    };
    if let Some(folder) = std::env::var_os(RESULTS) {
        let path = result_file(Path::new(&folder), program, row);
        std::fs::write(&path, serde_json::to_vec_pretty(&played)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    match error {
        _ if expected => Ok(()),
        Some(error) => Err(error),
        None => bail!("{name} is declared as failing with {program:?} and holds: remove its Exception"),
    }
}

/// Where the outcome of one cell is left.
pub fn result_file(folder: &Path, program: Program, row: &Row) -> PathBuf {
    folder.join(format!("{}.{}.json", program.column(), row.name))
}

impl Program {
    /// All columns, in the order of the table.
    pub const ALL: &[Self] = &[Self::Frr, Self::Bird, Self::Gobgp, Self::Openbgpd, Self::Exabgp];

    /// What its project calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Frr => "FRR",
            Self::Bird => "BIRD",
            Self::Gobgp => "GoBGP",
            Self::Openbgpd => "OpenBGPD",
            Self::Exabgp => "ExaBGP",
        }
    }

    /// Name of the file with its tests, in tests/tests.
    pub fn column(self) -> &'static str {
        match self {
            Self::Frr => "interop_frr",
            Self::Bird => "interop_bird",
            Self::Gobgp => "interop_gobgp",
            Self::Openbgpd => "interop_openbgpd",
            Self::Exabgp => "interop_exabgp",
        }
    }

    /// The command that prints its version.
    pub fn version_command(self) -> &'static [&'static str] {
        match self {
            Self::Frr => &["/usr/lib/frr/bgpd", "--version"],
            Self::Bird => &["bird", "--version"],
            Self::Gobgp => &["gobgpd", "--version"],
            Self::Openbgpd => &["bgpd", "-V"],
            Self::Exabgp => &["exabgp", "--version"],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::interop::exceptions::EXCEPTIONS;

    #[test]
    fn rows_have_names_of_their_own_and_exceptions_name_rows() {
        let names: BTreeSet<&str> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len());
        for exception in EXCEPTIONS {
            assert!(names.contains(exception.row), "{exception:?}");
            assert!(exception.outcome != Outcome::Works && !exception.reason.is_empty(), "{exception:?}");
        }
        let cells: BTreeSet<_> = EXCEPTIONS.iter().map(|e| (e.program.column(), e.row)).collect();
        assert_eq!(cells.len(), EXCEPTIONS.len(), "a cell has two exceptions");
    }

    #[test]
    fn every_column_has_its_tests() {
        for program in Program::ALL {
            let path = format!("{}/tests/{}.rs", env!("CARGO_MANIFEST_DIR"), program.column());
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(&format!("interop_column!(Program::{program:?})")), "{path}: {text}");
        }
    }
}
