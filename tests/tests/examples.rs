//! Every example's story: played with five times the bounds it names, and proved.
//!
//! A story's bounds are what a quiet machine keeps; tests share theirs, hence the slack. The proof plays each failure
//! with towpath's reaction switched off, and must then see the story broken. Proofs run beside each other (nobody
//! measures there); a story that is played has the machine to itself.

use std::path::{Path, PathBuf};
use std::sync::RwLock;

use lab::story::report::Report;
use lab::story::table::{Colours, render};
use lab::story::{Play, Story};
use towpath_tests::two_tor::program;

/// How many times the bounds of a story a test may take.
const SLACK: u32 = 5;

/// Held for writing by what measures.
static MACHINE: RwLock<()> = RwLock::new(());

macro_rules! examples {
    ($($module:ident: $folder:literal),* $(,)?) => {
        $(mod $module {
            #[test]
            fn its_story_holds() {
                super::holds($folder);
            }

            #[test]
            fn every_failure_is_felt_when_towpath_does_not_react() {
                super::is_proved($folder);
            }
        })*

        /// Those whose story is played here.
        const PLAYED: &[&str] = &[$($folder),*];
    };
}

examples! {
    one_router: "one-router",
    two_tor: "two-tor",
    clos: "clos",
    ipv6_only_fabric: "ipv6-only-fabric",
    flat_l2: "flat-l2",
    static_vip: "static-vip",
    two_clusters: "two-clusters",
    multi_vendor: "multi-vendor",
}

/// Played by a test of its own: it takes more than a minute, and every seed is another story.
const PLAYED_ELSEWHERE: &[&str] = &["chaos"];

#[test]
fn every_example_has_its_story_played() {
    let folders = std::fs::read_dir(examples()).expect("examples/ can be listed");
    for folder in folders.map(|entry| entry.expect("an entry").path()) {
        let name = folder.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        assert!(folder.join("expect.yaml").is_file(), "{name} has no expect.yaml");
        assert!(folder.join("README.md").is_file(), "{name} has no README.md");
        assert!(
            PLAYED.contains(&name.as_str()) || PLAYED_ELSEWHERE.contains(&name.as_str()),
            "{name}: add it to the list in this file"
        );
    }
}

fn holds(example: &str) {
    let _alone = MACHINE.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let story = story(example);
    check(&Play::new(&story).slack(SLACK).run().expect("the lab comes up and goes down"));
}

fn is_proved(example: &str) {
    let _beside_others = MACHINE.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let story = story(example);
    check(&Play::new(&story).slack(SLACK).prove().run().expect("the lab comes up and goes down"));
}

fn check(report: &Report) {
    let table = render(report, Colours::Off);
    print!("{table}");
    assert!(report.held(), "{table}");
}

fn story(example: &str) -> Story {
    lab::use_program(program().expect("towpath"));
    Story::read(examples().join(example)).unwrap_or_else(|error| panic!("{error}"))
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}
