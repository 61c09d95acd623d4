//! Hostile octets over real TCP: the reaction the RFCs ask for, on that session only.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy allows it in test functions only")]

use towpath_tests::agent::Agent;
use towpath_tests::rack::{NODE, Rack, peer};

#[test]
fn a_session_comes_up() {
    let rack = Rack::new(2).unwrap();
    let config = [NODE.to_owned(), peer(1, ""), peer(2, "")].concat();
    let agent = Agent::start(&rack.node, &[("all.yaml", &config)], "node").unwrap();
    let one = rack.feeder(1).unwrap();
    agent.until_established("p1").unwrap();
    drop(one);
}
