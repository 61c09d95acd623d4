//! A ToR of `two-tor` dies, loses a cable, comes back: how many packets many flows lose.
//!
//! The bounds are five times those of the benchmark (`bench-failover`), because tests share the machine. Each loss
//! is run once more with every daemon frozen at the event, and must then break the bound.

use std::time::Duration;

use towpath_tests::failover::{Reaction, carrier_loss, carrier_return, tor_death, tor_return};
use towpath_tests::two_tor::{self, TwoTor};

const TOR_DEATH: Duration = Duration::from_millis(5 * 50);
const CARRIER: Duration = Duration::from_millis(5 * 20);

fn racks(name: &str) -> TwoTor {
    lab::use_program(two_tor::program().expect("towpath"));
    TwoTor::up(name).expect("two-tor comes up")
}

#[test]
fn a_tor_dies_and_no_flow_pauses_for_long_and_nothing_is_lost_when_it_returns() {
    let racks = racks("failover-death");
    let death = tor_death(&racks, Reaction::Running).expect("tor1 dies");
    print!("death: {death}");
    assert!(death.lost() > 0, "the death must be felt, or nothing was tested");
    assert!(death.longest_outage() <= TOR_DEATH, "{death}");
    let back = tor_return(&racks).expect("tor1 returns");
    print!("return: {back}");
    assert_eq!(back.lost(), 0, "{back}");
}

#[test]
fn the_death_of_a_tor_breaks_the_bound_when_towpath_is_frozen() {
    let racks = racks("failover-death-frozen");
    let death = tor_death(&racks, Reaction::Frozen).expect("tor1 dies");
    assert!(death.longest_outage() > TOR_DEATH, "somebody else reacted: {death}");
}

#[test]
fn a_lost_carrier_is_acted_on_at_once_and_its_return_loses_nothing() {
    let racks = racks("failover-carrier");
    let loss = carrier_loss(&racks, Reaction::Running).expect("the cable is cut");
    print!("carrier loss: {loss}");
    assert!(loss.longest_outage() <= CARRIER, "{loss}");
    let back = carrier_return(&racks).expect("the cable is back");
    print!("carrier return: {back}");
    assert_eq!(back.lost(), 0, "{back}");
}

#[test]
fn a_lost_carrier_breaks_the_bound_when_towpath_is_frozen() {
    let racks = racks("failover-carrier-frozen");
    let loss = carrier_loss(&racks, Reaction::Frozen).expect("the cable is cut");
    assert!(loss.longest_outage() > CARRIER, "somebody else reacted: {loss}");
}
