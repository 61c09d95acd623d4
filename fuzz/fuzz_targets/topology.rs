//! Any bytes as a topology file, variables and their substitution included: an answer, never a
//! panic, a loop or unbounded memory.
#![no_main]

use std::path::Path;

use lab::Topology;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lookup = |name: &str| match name {
        "IMG" => Some("alpine:3".to_owned()),
        "D" => Some("{kind: linux, image: alpine, network-mode: none}".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    match Topology::parse(text, Path::new("/fuzz/topo.clab.yml"), &lookup) {
        Err(error) => {
            assert!(!error.problems.is_empty(), "refused without a reason");
            assert!(error.problems.is_sorted(), "not in the order of the lines");
        }
        Ok(topology) => {
            for node in topology.nodes.keys() {
                assert!(topology.nodes.contains_key(&topology.network_owner(node)), "a network of nobody");
            }
        }
    }
});
