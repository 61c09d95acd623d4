//! Resources in YAML files and folders, read without a cluster.
//!
//! In: paths, or text. Out: [`Documents`], and from them a [`DesiredState`] or every [`Problem`] at once.
//! Each text is parsed into a tree that knows its lines; the tree is walked against the schema the CRDs are
//! made of and then handed to serde, so that values and positions come from one reading and cannot differ.

mod check;
mod document;
mod scalar;
mod tree;
mod unimplemented;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

pub(crate) use self::check::{Unknown, check};
use self::document::{Document, Read};
pub(crate) use self::document::{KINDS, document_schema, typed};
use crate::build::{self, Finding};
use crate::desired::DesiredState;
use crate::problem::Problem;

/// Largest file that is read.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Documents of any number of files, and what was wrong with them so far.
#[derive(Debug, Default)]
pub struct Documents {
    documents: Vec<Document>,
    problems: Vec<Problem>,
    files: BTreeSet<PathBuf>,
    /// The files' bytes, one YAML stream.
    stream: Vec<u8>,
    /// Something was not read, so that what is missing may be in there.
    incomplete: bool,
}

/// Reads `paths` (files, or folders of `*.yaml` and `*.yml`) and builds what `node` must do.
///
/// # Errors
/// Every problem of every file, sorted by file and line.
pub fn load(paths: &[PathBuf], node: &str) -> Result<DesiredState, Vec<Problem>> {
    read(paths).build(node)
}

/// Reads `paths`: files, or folders of `*.yaml` and `*.yml`, sorted, without subfolders and hidden files.
/// What cannot be read is reported by [`Documents::build`].
pub fn read(paths: &[PathBuf]) -> Documents {
    let mut documents = Documents::default();
    for path in paths {
        documents.add_path(path);
    }
    documents
}

/// Plain scalars of `text`, keys too, that a YAML 1.1 reader takes for something else, with their lines.
pub fn ambiguous_scalars(text: &str) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    tree::parse(text).documents.iter().for_each(|document| document.traps(&mut found));
    found
}

impl Documents {
    /// Adds the documents of one file's bytes; `file` is its name in problems.
    pub fn add(&mut self, file: &str, bytes: &[u8]) {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
            Err(error) => {
                let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
                let mut problem = whole_file(file, "is not UTF-8 text; save it as UTF-8");
                problem.line = u32::try_from(line).ok();
                self.lose(problem);
                return;
            }
        };
        let parsed = tree::parse(text);
        self.incomplete |= !parsed.complete;
        for node in parsed.documents {
            match Document::read(file, node, &mut self.problems) {
                Read::Document(document) => self.documents.push(*document),
                Read::Refused => self.incomplete = true,
                Read::Empty => {}
            }
        }
        self.problems.extend(parsed.faults.into_iter().map(|fault| Problem {
            line: Some(fault.place.line),
            column: Some(fault.place.column),
            ..whole_file(file, fault.message)
        }));
    }

    /// All files that were read, as one stream: exactly the bytes that [`Documents::build`] judges.
    pub fn stream(&self) -> &[u8] {
        &self.stream
    }

    /// The state `node` must have.
    ///
    /// # Errors
    /// Every problem, sorted by file and line.
    pub fn build(&self, node: &str) -> Result<DesiredState, Vec<Problem>> {
        let objects: Vec<_> = self.documents.iter().map(|document| document.object.clone()).collect();
        let mut problems = self.problems.clone();
        let built = build::build(&objects, node);
        if let Err(findings) = &built {
            problems.extend(findings.iter().filter_map(|finding| self.problem(finding)));
        }
        problems.sort();
        problems.dedup();
        match built {
            Ok(state) if problems.is_empty() => Ok(state),
            _ => Err(problems),
        }
    }

    /// A finding with its place, unless it follows from what was refused before.
    fn problem(&self, finding: &Finding) -> Option<Problem> {
        let document = self.documents.get(finding.object)?;
        if document.follows_from_refusal(&finding.path) || (finding.missing && self.incomplete) {
            return None;
        }
        let other = finding.other.and_then(|other| self.documents.get(other));
        let message = match other {
            Some(other) => format!("{} (first in {})", finding.message, other.position(&finding.path)),
            None => finding.message.clone(),
        };
        Some(document.problem(&finding.path, message))
    }

    fn lose(&mut self, problem: Problem) {
        self.incomplete = true;
        self.problems.push(problem);
    }

    fn add_path(&mut self, path: &Path) {
        let name = path.display().to_string();
        if !path.is_dir() {
            return self.add_file(path);
        }
        match yaml_files(path) {
            Ok(files) if files.is_empty() => {
                self.problems
                    .push(whole_file(&name, "the folder has no *.yaml or *.yml file; put one there"));
            }
            Ok(files) => files.iter().for_each(|file| self.add_file(file)),
            Err(error) => self.lose(whole_file(&name, format!("cannot be read: {error}"))),
        }
    }

    fn add_file(&mut self, path: &Path) {
        // A folder and a file in it may both be named: each file counts once.
        if !self.files.insert(path.canonicalize().unwrap_or_else(|_| path.to_owned())) {
            return;
        }
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        match File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)) {
            Err(error) => self.lose(whole_file(&name, format!("cannot be read: {error}"))),
            Ok(_) if bytes.len() as u64 > MAX_BYTES => {
                self.lose(whole_file(&name, "is larger than 4 MiB; split it"));
            }
            Ok(_) => {
                self.add(&name, &bytes);
                let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
                self.stream.extend_from_slice(text);
                // The end of a document, after which directives and a first document without `---` may follow.
                self.stream.extend_from_slice(b"\n...\n");
            }
        }
    }
}

fn whole_file(file: &str, message: impl Into<String>) -> Problem {
    Problem {
        file: file.into(),
        line: None,
        column: None,
        resource: String::new(),
        path: String::new(),
        message: message.into(),
    }
}

/// The files that count: of a folder its `*.yaml` and `*.yml`, sorted, without what editors leave behind; a file as it is.
///
/// # Errors
/// When the folder cannot be read.
pub fn yaml_files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let folder = path;
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Editors leave `.name.yaml.swp`, `#name.yaml#`, `name.yaml~`, `.#name.yaml`.
        let yaml = name.ends_with(".yaml") || name.ends_with(".yml");
        if yaml && !name.starts_with(['.', '#']) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
