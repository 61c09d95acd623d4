//! What a played story looks like: the table, JUnit, JSON and the pictures, beside golden files.
//!
//! `UPDATE_GOLDEN=1 cargo test -p towpath-lab --test report` writes the files anew; look at the pictures
//! (`rsvg-convert FILE.svg -o FILE.png`) before committing them.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers included")]

#[path = "support/golden.rs"]
mod golden;

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use golden::golden;
use lab::story::report::{
    Bucket, CheckReport, EventReport, Mode, Outcome, PacketSeries, Report, RouteChange, SessionChange,
    StepReport, Timeline, TrafficReport,
};
use lab::story::table::{self, Colours};
use lab::story::{junit, timeline};

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn check(line: usize, text: &str, outcome: Result<u64, &str>) -> CheckReport {
    CheckReport {
        text: text.to_owned(),
        line,
        held: outcome.is_ok(),
        after: outcome.ok().map(ms),
        found: outcome.err().map(str::to_owned),
    }
}

fn class(name: &str, lost: u64, outage: u64, held: bool) -> TrafficReport {
    TrafficReport {
        class: name.to_owned(),
        flows: 16,
        sent: 14_960,
        lost,
        longest_outage: ms(outage),
        allowed_lost: Some(50),
        allowed_outage: Some(ms(50)),
        held,
        worst: vec![],
    }
}

fn step(name: &str, line: usize, outcome: Outcome, began: u64, took: u64) -> StepReport {
    StepReport {
        name: name.to_owned(),
        line,
        outcome,
        began: ms(began),
        took: ms(took),
        events: vec![],
        checks: vec![],
        traffic: vec![],
        timeline: None,
        error: None,
    }
}

fn report(mode: Mode, steps: Vec<StepReport>) -> Report {
    Report {
        lab: "two-tor".to_owned(),
        file: PathBuf::from("examples/two-tor/expect.yaml"),
        mode,
        slack: 1,
        seed: None,
        up: ms(812),
        took: ms(21_460),
        steps,
    }
}

fn event(at: u64, text: &str) -> EventReport {
    EventReport { at: ms(at), text: text.to_owned() }
}

/// A step that holds, one that does not in every way, one that could not be done, one that is skipped.
fn failing() -> Report {
    let mut up = step("everything is up", 12, Outcome::Held, 812, 1_340);
    up.checks = vec![
        check(14, "node1: 4 sessions Established", Ok(1_204)),
        check(15, "node1: 10.244.2.0/24 over 2 next hops", Ok(1_339)),
    ];
    let mut death = step("a ToR dies", 21, Outcome::Failed, 2_200, 10_450);
    death.events = vec![event(2_700, "tor1 dies"), event(4_700, "node1:eth1 loses its link")];
    let mut lossy = class("pods", 403, 9_870, false);
    lossy.worst = (1..=5)
        .map(|flow| {
            format!("10.244.1.10 > 10.244.2.10 flow {flow}: {} lost, silent for 9.{flow} s", 90 - flow)
        })
        .collect();
    let mut tcp = class("web & api", 0, 12, true);
    (tcp.sent, tcp.allowed_lost) = (0, None);
    death.traffic = vec![lossy, tcp];
    death.checks = vec![
        check(27, "node1: 10.244.2.0/24 over 1 next hop", Ok(12)),
        check(28, "pod1a pings 10.244.2.10", Err("no answer:\n2 packets transmitted, 0 received")),
        check(29, "node2: `towpath status` prints \"1 of 4 <up>\"", Err("exit 1, \"0 of 4\"\x1b[0m")),
    ];
    let mut edit = step("the hold time changes", 33, Outcome::Failed, 12_700, 20);
    edit.error = Some("edit node1 /etc/towpath/towpath.yaml: \"hold: 9s\" is not in it".to_owned());
    let mut report =
        report(Mode::Play, vec![up, death, edit, step("the ToR is back", 40, Outcome::Skipped, 0, 0)]);
    (report.slack, report.seed) = (2, Some(7));
    report
}

/// One step breaks as it must, one holds although nobody reacts.
fn proof() -> Report {
    let mut up = step("everything is up", 12, Outcome::Held, 812, 1_340);
    up.checks = vec![check(14, "node1: 4 sessions Established", Ok(1_204))];
    let mut death = step("a ToR dies", 21, Outcome::Held, 2_200, 10_450);
    death.events = vec![event(2_700, "every towpath is frozen"), event(2_701, "tor1 dies")];
    death.checks = vec![check(27, "node1: 10.244.2.0/24 over 1 next hop", Err("2 next hops"))];
    death.traffic = vec![class("pods", 4_031, 9_870, false)];
    let mut cable = step("a cable is pulled", 33, Outcome::Failed, 15_000, 700);
    cable.events = vec![event(15_100, "node1:eth1 loses its link")];
    cable.checks = vec![check(35, "node1: 10.244.2.0/24 over 1 next hop", Ok(1))];
    report(Mode::Prove, vec![up, death, cable])
}

#[test]
fn the_table_says_what_held_and_what_broke_first() {
    golden("failing.txt", &table::render(&failing(), Colours::Off));
    golden("proof.txt", &table::render(&proof(), Colours::Off));
    let mut held = failing();
    held.steps.truncate(1);
    let text = table::render(&held, Colours::On);
    assert!(text.contains("\x1b[1;32m1 step held, in 21.5 s"), "{text}");
}

#[test]
fn a_story_of_which_nothing_was_played_has_not_held() {
    let text = table::render(&report(Mode::Play, vec![]), Colours::Off);
    assert!(text.contains("0 steps failed, 0 steps held") && text.contains("no step was played"), "{text}");
}

#[test]
fn junit_has_a_testcase_for_each_step() {
    let began = UNIX_EPOCH + Duration::from_secs(1_795_274_347);
    golden("failing.xml", &junit::render(&[failing(), proof()], began));
}

#[test]
fn json_gives_times_in_milliseconds() {
    let mut report = failing();
    report.steps[1].timeline = Some(Timeline {
        from: ms(2_200),
        to: ms(3_200),
        packets: vec![PacketSeries {
            class: "pods".to_owned(),
            bucket: Duration::from_micros(2_500),
            buckets: vec![Bucket { sent: 3, lost: 1 }],
        }],
        sessions: vec![session(2_704, "node1", "tor1-v4", "Idle")],
        routes: vec![route(2_705, "node1", "10.244.2.0/24", 1)],
    });
    golden("failing.json", &(serde_json::to_string_pretty(&report).unwrap() + "\n"));
}

fn session(at: u64, node: &str, neighbor: &str, state: &str) -> SessionChange {
    SessionChange {
        at: ms(at),
        node: node.to_owned(),
        neighbor: neighbor.to_owned(),
        state: state.to_owned(),
    }
}

fn route(at: u64, node: &str, prefix: &str, nexthops: usize) -> RouteChange {
    RouteChange { at: ms(at), node: node.to_owned(), prefix: prefix.to_owned(), nexthops }
}

/// A steady class that loses everything between two times, `per_bucket` packets every 5 ms.
fn packets(class: &str, buckets: u64, per_bucket: u64, lost: std::ops::Range<u64>) -> PacketSeries {
    let bucket = |index: u64| {
        let all = lost.contains(&index);
        Bucket { sent: per_bucket, lost: if all { per_bucket.div_ceil(2) } else { 0 } }
    };
    PacketSeries { class: class.to_owned(), bucket: ms(5), buckets: (0..buckets).map(bucket).collect() }
}

/// `step` with its events' words and times from its begin.
fn with_events(mut step: StepReport, events: &[(u64, &str)]) -> StepReport {
    step.events = events.iter().map(|(at, text)| event(*at, text)).collect();
    step
}

/// Four classes; a switch dies and returns: twelve sessions, twenty routes.
fn busy() -> StepReport {
    let events = [(1_500, "tor1 dies"), (2_400, "tor1 returns"), (2_410, "loss of 30 % at tor2:eth1 ends")];
    let mut step = with_events(step("A ToR dies and returns", 21, Outcome::Failed, 1_000, 2_800), &events);
    step.traffic = vec![
        class("pods", 8, 11, true),
        class("services", 0, 1, true),
        class("ipv6 only", 30, 46, true),
        class("storage-replication-between-racks", 403, 91, false),
    ];
    let mut timeline = Timeline {
        from: ms(1_000),
        to: ms(3_800),
        packets: vec![
            packets("pods", 560, 5, 100..102),
            packets("services", 560, 7, 0..0),
            packets("ipv6 only", 560, 10, 100..109),
            packets("storage-replication-between-racks", 560, 40, 100..120),
        ],
        ..Timeline::default()
    };
    for node in 1..=6 {
        for family in ["v4", "v6"] {
            let (name, neighbor) = (format!("node{node}"), format!("tor1-{family}"));
            let states = [
                (1_000, "Established"),
                (1_504 + 3 * node, "Idle"),
                (2_500, "OpenSent"),
                (2_560 + 20 * node, "Established"),
            ];
            timeline.sessions.extend(states.map(|(at, state)| session(at, &name, &neighbor, state)));
        }
    }
    for node in 1..=5 {
        for other in 1..=4 {
            let (name, prefix) = (format!("node{node}"), format!("10.244.{other}.0/24"));
            let states = [(1_000, 2), (1_506 + 9 * node * other, 1), (2_600 + 30 * node + 9 * other, 2)];
            timeline.routes.extend(states.map(|(at, nexthops)| route(at, &name, &prefix, nexthops)));
        }
    }
    timeline.routes.extend([route(1_000, "tor2", "10.9.0.0/16", 1), route(1_510, "tor2", "10.9.0.0/16", 0)]);
    step.timeline = Some(timeline);
    step
}

/// 5,000 routes and random events for a minute.
fn storm() -> StepReport {
    let events: Vec<(u64, String)> = (0..110)
        .map(|index| {
            (
                5_000 + index * 530,
                format!(
                    "{} {}",
                    ["link down", "pause", "kill"][index as usize % 3],
                    ["r1:eth1", "r2", "r3:eth2", "r4"][index as usize % 4]
                ),
            )
        })
        .collect();
    let events: Vec<(u64, &str)> = events.iter().map(|(at, text)| (*at, text.as_str())).collect();
    let mut step = with_events(step("a minute of random events", 9, Outcome::Failed, 4_000, 70_000), &events);
    let mut timeline = Timeline {
        from: ms(4_000),
        to: ms(70_000),
        packets: vec![packets("routers", 13_200, 4, 400..900)],
        ..Timeline::default()
    };
    for router in 1..=8 {
        for neighbor in 1..=4 {
            let (name, neighbor) = (format!("r{router}"), format!("r{neighbor}"));
            timeline.sessions.push(session(4_000, &name, &neighbor, "Established"));
            for flap in 0..(router * 3) {
                let at = 6_000 + flap * 2_500 + router * 130;
                timeline.sessions.push(session(at, &name, &neighbor, "Idle"));
                timeline.sessions.push(session(at + 900, &name, &neighbor, "Established"));
            }
        }
        for prefix in 0..600 {
            let prefix = format!("10.{router}.{}.{}/32", prefix / 256, prefix % 256);
            let group = prefix.len() as u64;
            timeline.routes.push(route(4_000, &format!("r{}", 9 - router), &prefix, 2));
            timeline.routes.push(route(
                6_000 + 700 * router + group,
                &format!("r{}", 9 - router),
                &prefix,
                1,
            ));
            timeline.routes.push(route(9_000 + 900 * group, &format!("r{}", 9 - router), &prefix, 2));
        }
    }
    step.timeline = Some(timeline);
    step
}

/// Fifty milliseconds around an event in a step of twelve seconds, with nothing known before.
fn brief() -> StepReport {
    let mut step = with_events(
        step("A cable of node1 & pod <a> is pulled", 30, Outcome::Held, 0, 12_000),
        &[(600, "node1:eth1 loses its link")],
    );
    step.traffic = vec![class("pods", 3, 14, true)];
    let mut packets = packets("pods", 2_400, 5, 120..122);
    packets.buckets[120].lost = 1;
    let sessions = vec![session(618, "node1", "tor1-v4", "Idle")];
    step.timeline =
        Some(Timeline { from: ms(0), to: ms(12_000), packets: vec![packets], sessions, routes: vec![] });
    step
}

#[test]
fn timelines_are_drawn_as_they_were_looked_at() {
    for (name, step) in [("busy", busy()), ("storm", storm()), ("brief", brief())] {
        let report = report(Mode::Play, vec![]);
        let svg = timeline::render(&report, &step).unwrap();
        golden(&format!("timeline-{name}.svg"), &svg);
    }
    assert_eq!(timeline::render(&failing(), &step("x", 1, Outcome::Held, 0, 1)), None);
}
