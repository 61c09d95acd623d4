//! What is wrong with a configuration, in the words an operator needs: where, what, and what to do.

use std::collections::HashMap;
use std::fmt;

/// One mistake. Sorted by file, line, column.
///
/// Displayed as `fabric.yaml:14: BGPPeer/tor spec.timers.hold: 2s is not allowed; use 0s (off) or at least 3s`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file as it was named, or the empty string when it belongs to no file.
    pub file: String,
    /// Line from 1, when it has one.
    pub line: Option<u32>,
    /// Column from 1, when it has one.
    pub column: Option<u32>,
    /// Kind and name, `BGPPeer/tor`; empty when the document does not say.
    pub resource: String,
    /// The field, `spec.timers.hold`; empty for the whole document or file.
    pub path: String,
    /// The value and the remedy.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.file.is_empty() {
            f.write_str(": ")?;
        }
        match (self.resource.as_str(), self.path.as_str()) {
            ("", "") => {}
            ("", path) => write!(f, "{path}: ")?,
            (resource, "") => write!(f, "{resource}: ")?,
            (resource, path) => write!(f, "{resource} {path}: ")?,
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// The first few of a list, and how many more there are: `a, b, c and 2 more`.
pub fn few(entries: &[impl AsRef<str>], separator: &str) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<&str> = entries.iter().take(SHOWN).map(AsRef::as_ref).collect();
    let shown = shown.join(separator);
    match entries.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A value as a message shows it: short, on one line, never nothing.
pub(crate) fn show(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.is_empty() {
        return "\"\"".into();
    }
    let mut shown = String::new();
    for c in text.chars().take(LONGEST) {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// The known word nearest to what was written, if one is near enough to be meant.
pub(crate) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if written.len() > LONGEST {
        return None;
    }
    let lower = written.to_ascii_lowercase();
    let limit = (written.chars().count() + 1) / 3;
    known
        .into_iter()
        .map(|word| (distance(&lower, &word.to_ascii_lowercase()), word))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Edit distance, with two letters swapped as one edit (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut table = HashMap::new();
    let at = |table: &HashMap<(usize, usize), usize>, i: usize, j: usize| match (i, j) {
        (0, edits) | (edits, 0) => edits,
        place => table.get(&place).copied().unwrap_or_default(),
    };
    for (i, a) in left.iter().enumerate() {
        for (j, b) in right.iter().enumerate() {
            let replaced = at(&table, i, j) + usize::from(a != b);
            let mut edits = replaced.min(at(&table, i, j + 1) + 1).min(at(&table, i + 1, j) + 1);
            if let (Some(i), Some(j)) = (i.checked_sub(1), j.checked_sub(1))
                && left.get(i) == Some(b)
                && right.get(j) == Some(a)
            {
                edits = edits.min(at(&table, i, j) + 1);
            }
            table.insert((i + 1, j + 1), edits);
        }
    }
    at(&table, left.len(), right.len())
}
