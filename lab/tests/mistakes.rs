//! Mistakes people make in topology files: each gets one message, with its line and a remedy.
//!
//! `mistakes.txt` is the table: a title, the file, and behind `=>` what is said about it. Files that
//! are no text are below.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod support;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use lab::{FileError, Topology};
use support::{leftovers, runner};

struct Row {
    title: String,
    file: String,
    message: String,
}

fn table() -> Vec<Row> {
    let text = include_str!("mistakes.txt");
    let blocks = text.split("\n### ").skip(1);
    let row = |block: &str| {
        let (title, rest) = block.split_once('\n').unwrap();
        let (file, message) = rest.split_once("\n=> ").unwrap_or_else(|| panic!("{title}: no =>"));
        Row { title: title.to_owned(), file: format!("{file}\n"), message: message.trim_end().to_owned() }
    };
    blocks.map(row).collect()
}

fn parse(text: &str) -> Result<Topology, FileError> {
    Topology::parse(text, Path::new("/lab/topo.clab.yml"), &|_| None)
}

/// What is said, without the file's name.
fn said(error: &FileError) -> String {
    let lines = error.to_string();
    lines
        .lines()
        .map(|line| line.strip_prefix("/lab/topo.clab.yml:").unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn every_mistake_has_one_message_with_line_and_remedy() {
    let rows = table();
    assert!(rows.len() >= 100, "only {} mistakes", rows.len());
    let mut wrong = String::new();
    for Row { title, file, message } in rows {
        let said = match parse(&file) {
            Ok(_) => "nothing".to_owned(),
            Err(error) => said(&error),
        };
        if said != message {
            write!(wrong, "\n### {title}\n{file}=> {said}\nnot {message}\n").unwrap();
        }
        // `LINE: what; remedy`, or a question that holds it.
        let one = message.lines().count() == 1;
        if !one || !message.contains("; ") || message.starts_with("0:") {
            write!(wrong, "\n### {title}\nis not one message with a line and a remedy: {message}\n").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn files_that_are_no_text_or_too_much_of_it_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let two_bytes: Vec<u8> = "name: x".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let deep = |opening: &str| ["name: x\ntopology: ", &opening.repeat(100_000)].concat().into_bytes();
    let steps: String = (0..3000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let cases = [
        (file("latin1", b"name: x\n# gr\xf6\xdfe\n"), "line 2 is not UTF-8; save the file as UTF-8 text"),
        (file("utf16", &[&[0xff, 0xfe], &two_bytes[..]].concat()), "line 1 is not UTF-8; save the file"),
        (
            file("nul", b"name: x\ntopology: {nodes: {a\0: }}\n"),
            ":2: not YAML: found unprintable character; remove it",
        ),
        (file("lists", &deep("[")), ":2: not YAML: recursion limit exceeded; nest less deep"),
        (file("maps", &deep("{a: ")), ":2: the file nests or repeats too much"),
        (file("steps", steps.as_bytes()), ":65: the file nests or repeats too much"),
        (PathBuf::from("/dev/zero"), "more than 8 MiB, which is no topology; name another file"),
        (
            folder.path().join("missing.clab.yml"),
            "cannot be read: No such file or directory (os error 2); correct",
        ),
        (folder.path().to_owned(), "this folder holds no *.clab.yml; name the topology file"),
    ];
    for (path, expected) in cases {
        let error = Topology::read(&path).unwrap_err().to_string();
        assert!(error.contains(expected) && error.lines().count() == 1, "{}: {error}", path.display());
    }
}

#[test]
fn files_of_other_systems_are_good_files() {
    let text = "name: x\ntopology:\n  nodes:\n    a: {kind: linux, image: alpine, network-mode: none}\n";
    for same in [text.replace('\n', "\r\n"), format!("\u{feff}{text}"), text.trim_end().to_owned()] {
        assert_eq!(parse(&same).map(|topology| topology.nodes.len()), Ok(1), "{same:?}");
    }
}

/// The command says the same, ends with 1, and has started nothing.
#[test]
fn a_mistake_ends_check_and_up_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let lab = format!("mistake-{}", std::process::id());
    for Row { title, file, message } in table().into_iter().step_by(8) {
        let path = folder.path().join("topo.clab.yml");
        fs::write(&path, file.replacen("name: x\n", &format!("name: {lab}\n"), 1)).unwrap();
        for command in ["check", "up"] {
            let output = runner().args([command, path.to_str().unwrap()]).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{command}: {title}: {said}");
            let mistakes: Vec<&str> = said.lines().filter(|line| !line.starts_with("warning: ")).collect();
            assert_eq!(mistakes.len(), 1, "{command}: {title}: {said}");
            let expected = message.replace("/lab/", &format!("{}/", folder.path().display()));
            let expected = expected.replace("-x-", &format!("-{lab}-"));
            assert!(said.contains(&format!("topo.clab.yml:{expected}")), "{command}: {title}: {said}");
        }
        assert_eq!(leftovers(&lab), [] as [String; 0], "{title}");
    }
}
