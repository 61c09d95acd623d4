//! docs/interop.md: the matrix as a page.
//!
//! The page follows from the rows, the columns, the exceptions and the versions of the programs alone.
//! [`write()`] makes it, and only when every cell was played just before and came out as declared; the test
//! below compares the page in docs/ with what the code says today.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, bail, ensure};

use super::Program;
use super::exceptions::{Exception, exception};
use super::matrix::{Outcome, Played, result_file};
use super::rows::ROWS;
use crate::netns::Netns;
use crate::sandbox::Sandbox;

const HEAD: &str = "\
# Interoperability

What a BGP session of towpath can do with routers of other projects. Every cell is a test: towpath in the middle, the
other program around it, each in a network namespace of its own, on a real kernel. In all of them towpath is the built
program with a configuration file, and the other program is the package of Debian 12 as it comes.

Written by `make interop`, which plays every cell and writes this page only when each came out as declared. By hand it
is not edited: `make test` compares it with the rows, columns and exceptions in `tests/src/interop/`.
";

/// The page.
///
/// `versions` are those of [`Program::ALL`], in that order.
///
/// # Errors
/// When there are not as many versions as programs.
pub fn page(versions: &[String]) -> anyhow::Result<String> {
    ensure!(versions.len() == Program::ALL.len(), "{versions:?} for {:?}", Program::ALL);
    let mut text = String::from(HEAD);
    writeln!(text, "\n| program | version | tests |\n| --- | --- | --- |")?;
    for (program, version) in Program::ALL.iter().zip(versions) {
        writeln!(text, "| {} | {version} | `tests/tests/{}.rs` |", program.name(), program.column())?;
    }
    let names: Vec<&str> = Program::ALL.iter().map(|program| program.name()).collect();
    writeln!(
        text,
        "\n| | RFC | {} | test |\n| --- | --- |{} --- |",
        names.join(" | "),
        " --- |".repeat(names.len())
    )?;
    let mut notes: Vec<&Exception> = Vec::new();
    for row in ROWS {
        write!(text, "| {} | {} |", row.title, row.rfc)?;
        for program in Program::ALL {
            match exception(*program, row.name) {
                None => write!(text, " works |")?,
                Some(exception) => {
                    // One note per reason, however many cells have it.
                    let number = notes.iter().position(|note| note.reason == exception.reason);
                    let number = number.unwrap_or_else(|| {
                        notes.push(exception);
                        notes.len() - 1
                    });
                    write!(text, " {} [{}] |", word(exception.outcome), number + 1)?;
                }
            }
        }
        writeln!(text, " `{}` |", row.name)?;
    }
    if !notes.is_empty() {
        writeln!(text, "\n## Notes\n")?;
    }
    for (index, note) in notes.iter().enumerate() {
        writeln!(text, "{}. {}: {}.", index + 1, note.program.name(), note.reason)?;
    }
    Ok(text)
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Works => "works",
        Outcome::NotSupported => "not supported there",
        Outcome::Fails => "fails",
    }
}

/// What is wrong with the outcomes in `folder`: cells that were not played, or not as declared.
///
/// # Errors
/// When an outcome cannot be read.
pub fn unproven(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (program, row) in Program::ALL.iter().flat_map(|program| ROWS.iter().map(move |row| (program, row))) {
        let path = result_file(folder, *program, row);
        let cell = format!("{}, {}", program.name(), row.name);
        if !path.exists() {
            wrong.push(format!("{cell}: was not played"));
            continue;
        }
        let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let played: Played =
            serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))?;
        if !played.expected {
            let error = played.error.unwrap_or_else(|| "it holds, but is declared otherwise".to_owned());
            wrong.push(format!("{cell}: {} after {:.1?}: {error}", word(played.outcome), played.elapsed));
        }
    }
    Ok(wrong)
}

/// Writes the page to `path` from the outcomes in `folder` and the programs on this machine.
///
/// # Errors
/// When a cell was not played or did not come out as declared.
pub fn write(folder: &Path, path: &Path) -> anyhow::Result<()> {
    let wrong = unproven(folder)?;
    if !wrong.is_empty() {
        bail!(
            "{} is not written: {} cells are not as declared:\n{}",
            path.display(),
            wrong.len(),
            wrong.join("\n")
        );
    }
    let versions =
        Program::ALL.iter().map(|program| version(*program)).collect::<anyhow::Result<Vec<_>>>()?;
    std::fs::write(path, page(&versions)?).with_context(|| format!("writing {}", path.display()))
}

/// The version a program prints: the first word with a number and a dot.
fn version(program: Program) -> anyhow::Result<String> {
    let sandbox = Sandbox::start(&Netns::fresh()?, &[], &[], &["sleep", "infinity"])?;
    let output = sandbox.exec(program.version_command())?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    let found = text.split_whitespace().find(number);
    found.map(str::to_owned).with_context(|| format!("{:?} printed {text:?}", program.version_command()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_what_the_code_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/interop.md");
        let text = std::fs::read_to_string(path).unwrap();
        let versions: Vec<String> = Program::ALL
            .iter()
            .map(|program| {
                let start = format!("| {} | ", program.name());
                let line = text.lines().find_map(|line| line.strip_prefix(&start));
                line.and_then(|line| line.split(' ').next()).unwrap_or("missing").to_owned()
            })
            .collect();
        let page = page(&versions).unwrap();
        for (number, (written, expected)) in text.lines().zip(page.lines()).enumerate() {
            assert_eq!(written, expected, "docs/interop.md:{}: run: make interop", number + 1);
        }
        assert_eq!(text.lines().count(), page.lines().count(), "docs/interop.md: run: make interop");
    }

    #[test]
    fn a_cell_that_was_not_played_or_failed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(unproven(folder.path()).unwrap().len(), Program::ALL.len() * ROWS.len());
        for (index, program) in Program::ALL.iter().enumerate() {
            for (row_index, row) in ROWS.iter().enumerate() {
                let fails = (index, row_index) == (0, 0);
                let played = Played {
                    outcome: if fails { Outcome::Fails } else { Outcome::Works },
                    expected: !fails,
                    error: fails.then(|| "no session".to_owned()),
                    elapsed: std::time::Duration::from_secs(1),
                };
                let text = serde_json::to_vec(&played).unwrap();
                std::fs::write(result_file(folder.path(), *program, row), text).unwrap();
            }
        }
        let wrong = unproven(folder.path()).unwrap();
        assert_eq!(wrong, [format!("FRR, {}: fails after 1.0s: no session", ROWS[0].name)]);
    }
}
