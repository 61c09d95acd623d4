//! The chaos example: a minute of random events, after which RIB, kernel and neighbours agree everywhere.
//!
//! `SEED` is played by `make test`; `make test-chaos` plays as many other seeds as TOWPATH_CHAOS_SEEDS says,
//! in a row, from TOWPATH_CHAOS_FIRST on. A failing seed is named and can be played again:
//! `towpath lab test examples/chaos --seed N`.

use std::path::Path;

use lab::story::table::{Colours, render};
use lab::story::{Play, Story};
use towpath_tests::two_tor::program;

/// The one that every run of the tests plays.
const SEED: u64 = 1;
/// How many times the bounds of the story a test may take.
const SLACK: u32 = 5;

/// A number from the environment; without it, `otherwise`.
fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => otherwise,
    }
}

#[test]
fn after_a_minute_of_chaos_all_tables_agree() {
    lab::use_program(program().expect("towpath"));
    let first = number("TOWPATH_CHAOS_FIRST", SEED);
    let count = number("TOWPATH_CHAOS_SEEDS", 1);
    assert!(count > 0, "TOWPATH_CHAOS_SEEDS=0 plays nothing");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/chaos");
    let story = Story::read(&folder).expect("the story of chaos");
    let mut failed = Vec::new();
    for seed in first..first + count {
        let report = Play::new(&story).slack(SLACK).seed(seed).run().expect("a lab to play on");
        println!("seed {seed}: {}", if report.held() { "held" } else { "FAILED" });
        if !report.held() {
            println!("{}", render(&report, Colours::Off));
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "play again with `towpath lab test examples/chaos --seed N`: {failed:?}");
}
