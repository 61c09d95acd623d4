//! What is wrong with a topology file: every problem with its line, all of them at once.

use std::fmt;
use std::path::{Path, PathBuf};

/// One mistake: where, what, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line in the file, counted from 1; 0 when the whole file is meant.
    pub line: usize,
    /// What is wrong and the remedy, in one sentence.
    pub text: String,
}

/// A file that cannot be used. Displays one line per problem, `file:line: text`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FileError {
    /// The topology file.
    pub file: PathBuf,
    /// Everything found, in the order of the lines; never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", located(&self.file, problem))?;
        }
        Ok(())
    }
}

/// `file:line: text`, or `file: text` when no line is to blame.
pub(crate) fn located(file: &Path, problem: &Problem) -> String {
    match problem.line {
        0 => format!("{}: {}", file.display(), problem.text),
        line => format!("{}:{line}: {}", file.display(), problem.text),
    }
}

/// Collects problems (the file is refused) and warnings (the file is used all the same).
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
}

impl Findings {
    pub(crate) fn refuse(&mut self, line: usize, text: impl Into<String>) {
        self.problems.push(Problem { line, text: text.into() });
    }

    pub(crate) fn warn(&mut self, line: usize, text: impl Into<String>) {
        self.warnings.push(Problem { line, text: text.into() });
    }
}

/// The known word nearest to `word`, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        // Of a word as short as the distance nothing would be left.
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4 && *distance < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, over bytes: the words compared are keywords.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let cost = diagonal + usize::from(x != y);
            diagonal = *cell;
            left = cost.min(*cell + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_offered_only_when_it_is_near() {
        let cases = [
            ("biinds", Some("binds")),
            ("bind", Some("binds")),
            ("quux", None),
            ("exec", Some("exec")),
            ("Labels", Some("labels")),
            ("b", Some("B")),
            ("c", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, ["binds", "exec", "image", "labels", "a", "B"]), expected, "{word}");
        }
    }
}
