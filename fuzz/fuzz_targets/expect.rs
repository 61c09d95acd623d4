//! Any bytes as the story of a lab: an answer, never a panic, a loop or unbounded memory.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use lab::Topology;
use lab::story::Story;
use libfuzzer_sys::fuzz_target;

/// The topology that stories are about, with the names of the two-tor example.
static TOPOLOGY: LazyLock<Topology> = LazyLock::new(|| {
    let nodes = ["tor1", "tor2", "node1", "node2", "pod1a", "pod2a"];
    let nodes: String = nodes.iter().map(|name| format!("  {name}:\n")).collect();
    let text = format!(
        "name: fuzz\ntopology:\n defaults: {{kind: linux, image: towpath, network-mode: none}}\n nodes:\n{nodes}\
         \x20links:\n - endpoints: [\"tor1:eth1\", \"node1:eth1\"]\n - endpoints: [\"tor2:eth1\", \"node1:eth2\"]\n\
         \x20- endpoints: [\"node1:eth3\", \"pod1a:eth0\"]\n - endpoints: [\"node2:eth3\", \"pod2a:eth0\"]\n"
    );
    Topology::parse(&text, Path::new("/fuzz/topo.clab.yml"), &|_| None).expect("the topology is good")
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = Story::parse(text, Path::new("/fuzz/expect.yaml"), TOPOLOGY.clone()) {
        assert!(!error.problems.is_empty(), "refused without a reason");
        assert!(error.problems.is_sorted(), "not in the order of the lines");
    }
});
