//! The table of keys as Markdown, kept equal to `docs/stories.md` by a test.

use std::fmt::Write;
use std::path::Path;

use super::keys::{FILE, Section, Takes};

const BEGIN: &str = "<!-- keys -->\n";
const END: &str = "<!-- /keys -->";

/// A table for each section, in the order in which they are met.
fn markdown() -> String {
    let mut text = String::new();
    let mut waiting: Vec<&Section> = vec![&FILE];
    let mut known = Vec::new();
    while let Some(section) = waiting.pop() {
        if known.contains(&section.name) {
            continue;
        }
        known.push(section.name);
        let one = if section.one { " Exactly one of:" } else { "" };
        writeln!(text, "\n### {}\n\n{}{one}\n\n| key | takes | |\n|---|---|---|", section.name, section.doc)
            .unwrap();
        let mut below = Vec::new();
        for key in section.keys {
            let needed = if key.required { " **needed**" } else { "" };
            writeln!(text, "| `{}` | {}{needed} | {} |", key.name, takes(&key.takes, &mut below), key.doc)
                .unwrap();
        }
        waiting.extend(below.into_iter().rev());
    }
    text
}

fn takes(takes_: &Takes, below: &mut Vec<&'static Section>) -> String {
    match takes_ {
        Takes::Text => "text".to_owned(),
        Takes::Node => "node".to_owned(),
        Takes::Place => "node or NODE/NETNS".to_owned(),
        Takes::End => "NODE:INTERFACE".to_owned(),
        Takes::Class => "class".to_owned(),
        Takes::Address => "address".to_owned(),
        Takes::Prefix => "prefix".to_owned(),
        Takes::Time => "time".to_owned(),
        Takes::Count => "number".to_owned(),
        Takes::Percent => "percentage".to_owned(),
        Takes::Words(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Takes::Section(section) => {
            below.push(section);
            format!("[{0}](#{0})", section.name)
        }
        Takes::List(item) => format!("list of {}", takes(item, below)),
        Takes::Named(value) => format!("by name: {}", takes(value, below)),
        Takes::Either(choices) => {
            choices.iter().map(|choice| takes(choice, below)).collect::<Vec<_>>().join(" or ")
        }
    }
}

fn page() -> (std::path::PathBuf, String) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/stories.md");
    let text = std::fs::read_to_string(&file).unwrap();
    (file, text)
}

#[test]
fn the_page_has_every_key_as_the_reader_has_it() {
    let (file, text) = page();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    let ours = markdown();
    if std::env::var_os("TOWPATH_WRITE_DOCS").is_some() {
        std::fs::write(&file, format!("{before}{BEGIN}{ours}{END}{after}")).unwrap();
        return;
    }
    assert!(written == ours, "docs/stories.md is behind; run this test once with TOWPATH_WRITE_DOCS=1");
}

#[test]
fn the_example_of_the_page_is_a_story() {
    let (file, text) = page();
    let block = |start: &str| {
        let (_, rest) = text.split_once(start).unwrap();
        rest.split_once("```").unwrap().0.to_owned()
    };
    let topology = block("```yaml\n# topo.clab.yml\n");
    let topology =
        crate::Topology::parse(&topology, &file, &|_| None).unwrap_or_else(|error| panic!("{error}"));
    let story = super::Story::parse(&block("```yaml\n# expect.yaml\n"), &file, topology);
    assert_eq!(story.unwrap_or_else(|error| panic!("{error}")).steps().count(), 5);
}
