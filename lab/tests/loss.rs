//! Cables that lose packets.
//!
//! Need root, as labs of the daemon do.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod support;

use lab::{Lab, LabError, Loss};
use support::{File, THREE, pings, text};

fn percent(percent: f64) -> Loss {
    Loss::percent(percent).unwrap()
}

/// Share of 500 pings from `a` to its router that were not answered, in percent.
fn lost(lab: &Lab) -> f64 {
    let ping = ["ping", "-q", "-n", "-A", "-c500", "-W1", "10.1.0.0"];
    let output = lab.node("a").exec(&ping).unwrap().stdout;
    let before = output.split("% packet loss").next().unwrap();
    before.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_cable_that_loses_all_carries_nothing_either_way_and_is_whole_again() {
    let file = File::new("loss-all", THREE);
    let lab = file.up();
    assert!(pings(&lab, "a", "10.1.0.0"));
    // From either end, and repeated: it is the same cable.
    for end in ["a:eth1", "r:eth1", "a:eth1"] {
        lab.set_loss(end, percent(100.0)).unwrap();
        assert!(!pings(&lab, "a", "10.1.0.0") && !pings(&lab, "r", "10.1.0.1"));
    }
    assert!(pings(&lab, "r", "10.2.0.1"), "another cable of the same node is whole");
    // The carrier stays: it is loss, not a pulled cable.
    assert_eq!(text(&lab, "a", &["cat", "/sys/class/net/eth1/carrier"]), "1");
    for _ in 0..2 {
        lab.clear_loss("r:eth1").unwrap();
        assert!(pings(&lab, "a", "10.1.0.0") && pings(&lab, "r", "10.1.0.1"));
    }
    assert!(matches!(lab.set_loss("a:eth9", percent(1.0)), Err(LabError::UnknownEnd { .. })));
}

#[test]
fn a_share_of_the_packets_is_lost_each_way() {
    let file = File::new("loss-share", THREE);
    let lab = file.up();
    assert!(lost(&lab) == 0.0);
    lab.set_loss("a:eth1", percent(30.0)).unwrap();
    // 1 - 0.7 * 0.7 = 51 %, and with 500 pings a standard deviation of 2.2 %.
    let share = lost(&lab);
    assert!((40.0..62.0).contains(&share), "{share} %");
    lab.set_loss("a:eth1", percent(2.5)).unwrap();
    let share = lost(&lab);
    assert!((0.5..11.0).contains(&share), "{share} %, not about 5 %");
}
