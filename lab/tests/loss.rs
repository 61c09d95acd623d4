//! Cables that lose packets.
//!
//! Need root, as labs of the daemon do.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod support;

use lab::{Lab, LabError, Loss};
use support::{File, THREE, deaf, pings, runner, text};

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
        assert!(deaf(&lab, "a", "10.1.0.0") && deaf(&lab, "r", "10.1.0.1"));
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

fn netem(file: &File, args: &[&str]) -> (bool, String) {
    let lab = ["netem", args[0], "--lab", &file.name];
    let output = runner().args(lab).args(&args[1..]).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// On a kernel with netem this shows that netem works, on one without that people are told so.
#[test]
fn netem_is_used_where_the_kernel_has_it_and_loss_works_without() {
    let file = File::new("netem", THREE);
    let lab = file.up();
    let module = text(&lab, "a", &["sh", "-c", "modprobe -n sch_netem 2>/dev/null && echo yes || echo no"]);
    let (delayed, said) = netem(&file, &["set", "a", "eth1", "--delay", "30ms", "--jitter", "1ms"]);
    let by = if delayed {
        assert!(said.contains("30ms") && said.contains("netem"), "{said}");
        let ping = text(&lab, "a", &["ping", "-c1", "-n", "10.1.0.0"]);
        let time = ping.split("time=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        assert!(time.parse::<f64>().unwrap() > 25.0, "{ping}");
        "netem"
    } else {
        assert_eq!(module, "no", "{said}");
        assert!(said.contains("CONFIG_NET_SCH_NETEM") && said.contains("--loss"), "{said}");
        "rule"
    };

    // containerlab's spelling of the same command.
    let (set, said) = netem(&file, &["set", "-n", "a", "-i", "eth1", "--loss", "100"]);
    assert!(set && said.contains("100 %") && said.trim_end().ends_with(by), "{said}");
    assert!(deaf(&lab, "a", "10.1.0.0"));
    // Only what `a` sends is lost: neighbours stay known, so one way can be seen by itself.
    let heard =
        || text(&lab, "a", &["cat", "/sys/class/net/eth1/statistics/rx_packets"]).parse::<u64>().unwrap();
    let before = heard();
    assert!(deaf(&lab, "r", "10.1.0.1"));
    assert!(heard() > before);

    let (_, shown) = netem(&file, &["show", "r"]);
    assert!(shown.contains("r:eth1") && shown.contains("r:eth2") && !shown.contains("100 %"), "{shown}");
    assert!(netem(&file, &["show", "a"]).1.contains("100 %"));
    for _ in 0..2 {
        assert!(netem(&file, &["reset", "a", "eth1"]).0);
        assert!(pings(&lab, "a", "10.1.0.0"));
    }
    assert!(!netem(&file, &["show", "a"]).1.contains("100 %"));

    for (args, expected) in [
        (&["set", "a", "eth1"][..], "nothing to set"),
        (&["set", "a", "eth1", "--jitter", "1ms"], "needs a delay"),
        (&["set", "a", "eth1", "--loss", "101"], "0 to 100"),
        (&["set", "a", "eth1", "--delay", "5"], "is no time"),
        (&["set", "a", "eth9", "--loss", "1"], "no link end a:eth9"),
        (&["show", "z"], "no node z"),
    ] {
        let (done, said) = netem(&file, args);
        assert!(!done && said.contains(expected), "{args:?}: {said}");
    }
}
