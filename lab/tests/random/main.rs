//! Random topologies come up as written and go away clean.
//!
//! A seed makes a topology of up to 30 nodes ([`description`]); a model works out from it what every
//! node must see ([`model`]); the nodes are asked what they see ([`seen`]). A failure prints its seed
//! and the file; `TOWPATH_SEED=<seed>` plays that one again.
//!
//! Needs root, as labs of the daemon do.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "these are tests, their helpers included")]

mod description;
mod model;
mod seen;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use lab::Lab;

use description::{FILES, Random, describe};

const TOPOLOGIES: u64 = 100;

/// Labs that are up at once: starting nodes waits more than it computes.
const AT_ONCE: usize = 4;

#[test]
fn random_topologies_come_up_as_written_and_go_away_clean() {
    lab::use_program(env!("CARGO_BIN_EXE_towpath-lab"));
    let (first, end) = match std::env::var("TOWPATH_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("TOWPATH_SEED is a number");
            (seed, seed + 1)
        }
        Err(_) => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            (now.as_secs(), now.as_secs() + TOPOLOGIES)
        }
    };
    let next = AtomicU64::new(first);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    if catch_unwind(AssertUnwindSafe(|| play(seed))).is_err() {
                        failures.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "failed: {failures:?}; play one again with TOWPATH_SEED={}", failures[0]);
}

fn play(seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    for file in 0..FILES {
        fs::write(folder.path().join(file.to_string()), file.to_string()).unwrap();
    }
    let name = format!("random-{}-{seed}", std::process::id());
    let description = describe(&name, &mut Random(seed));
    let text = description.text(folder.path());
    let file = folder.path().join("topo.clab.yml");
    fs::write(&file, &text).unwrap();
    let told = |what: &str| format!("seed {seed}: {what}\n{text}");

    let lab = Lab::up(&file).unwrap_or_else(|error| panic!("{}", told(&error.to_string())));
    let warnings: Vec<_> = lab.warnings().iter().filter(|warning| !warning.contains("no group")).collect();
    assert!(warnings.is_empty(), "{}", told(&format!("{warnings:?}")));
    let seen = seen::look(&lab);
    assert_eq!(seen.len(), description.nodes.len());
    for (index, node) in description.nodes.iter().enumerate() {
        let expected = model::expect(&description, index, folder.path());
        let seen = &seen[&node.name];
        // What a node adds to the others' settings is not a promise.
        let mut seen_sysctls = seen.sysctls.clone();
        seen_sysctls.retain(|key, _| expected.sysctls.contains_key(key));
        let what = |what: &str| told(&format!("node {}: {what}", node.name));
        assert_eq!(seen.hostname, expected.hostname, "{}", what("hostname"));
        assert_eq!(seen.interfaces, expected.interfaces, "{}", what("interfaces"));
        assert_eq!(seen.addresses, expected.addresses, "{}", what("management addresses"));
        assert_eq!(seen.gateways, expected.gateways, "{}", what("default routes"));
        // Long names and host names stand there too.
        let mut seen_hosts = seen.hosts.clone();
        seen_hosts.retain(|name, _| expected.hosts.contains_key(name));
        assert_eq!(seen_hosts, expected.hosts, "{}", what("/etc/hosts"));
        assert_eq!(seen.env, expected.env, "{}", what("env"));
        assert_eq!(seen.order, expected.order, "{}", what("order of exec"));
        assert_eq!(seen.binds, expected.binds, "{}", what("binds"));
        assert_eq!(seen_sysctls, expected.sysctls, "{}", what("sysctls"));
        assert_eq!(seen.command, expected.command, "{}", what("main process"));
    }
    lab.down().unwrap();
    let left = support::leftovers(&name);
    assert!(left.is_empty(), "{}", told(&format!("left behind: {left:?}")));
}
