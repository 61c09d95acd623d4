//! What must hold: ratios within one run, and whether they do.

use std::fmt::Write as _;

use crate::contender::Contender::{self, Bird, Frr, Limit, Towpath};
use crate::peers::{PEERS, SHARE};
use crate::results::{Case, Family, Results, Scenario};

/// One condition on one ratio. A row of the list has one or more.
struct Condition {
    row: u8,
    metric: String,
    must: Option<f64>,
    aim: Option<f64>,
    /// What towpath's figure is divided by, in words.
    beside: &'static str,
    measured: Option<f64>,
    unit: &'static str,
}

/// The table, and how many conditions are missed or were not measured.
pub(crate) fn table(results: &Results) -> (String, usize, usize) {
    let conditions = conditions(results);
    let mut text = String::from(
        "| # | metric | beside | must | aim | measured | held |\n|---|---|---|---|---|---|---|\n",
    );
    let (mut missed, mut unknown) = (0, 0);
    for condition in &conditions {
        let Condition { row, metric, must, aim, beside, measured, unit } = condition;
        let words = |bound: &Option<f64>| {
            bound.map_or_else(|| "-".to_owned(), |b| format!("<= {}{unit}", (b * 100.0).round() / 100.0))
        };
        let (value, verdict) = match measured {
            None => {
                unknown += 1;
                ("-".to_owned(), "not measured")
            }
            Some(value) => {
                let within = |bound: &Option<f64>| bound.is_some_and(|bound| *value <= bound);
                let word = match (must, aim) {
                    (_, aim) if within(aim) => "aim",
                    (must, _) if within(must) => "must",
                    (Some(_), _) => {
                        missed += 1;
                        "**missed**"
                    }
                    (None, _) => "not the aim",
                };
                (format!("{value:.3}{unit}"), word)
            }
        };
        let (must, aim) = (words(must), words(aim));
        writeln!(text, "| {row} | {metric} | {beside} | {must} | {aim} | {value} | {verdict} |")
            .expect("a String takes everything");
    }
    (text, missed, unknown)
}

/// All rows, in their order.
fn conditions(results: &Results) -> Vec<Condition> {
    let median =
        |case: Case, who: Contender, figure: &str| results.spread(case, who, figure).map(|s| s.median);
    let ratio = |case: Case, figure: &str, whose: Contender| {
        Some(median(case, Towpath, figure)? / median(case, whose, figure)?)
    };
    let v4 = |routes| Case { scenario: Scenario::Converge, routes, family: Family::V4 };
    let mut all = Vec::new();
    let mut condition = |row, metric: &str, beside, must, aim, measured, unit| {
        all.push(Condition { row, metric: metric.to_owned(), must, aim, beside, measured, unit });
    };
    for (row, routes, of_frr, of_bird) in [(1, 100_000, 0.15, 0.35), (2, 500_000, 0.12, 0.36)] {
        let metric = format!("first UPDATE to last kernel route, {routes}");
        let beside = |whose| ratio(v4(routes), "kernel ms", whose);
        condition(row, &metric, "FRR", Some(of_frr), None, beside(Frr), "x");
        condition(row, &metric, "BIRD", Some(of_bird), None, beside(Bird), "x");
        condition(row, &metric, "kernel limit", None, Some(1.25), beside(Limit), "x");
    }
    for (routes, must) in [(100_000, 0.15), (500_000, 0.1)] {
        let metric = format!("first UPDATE to the receiver's last route, {routes}");
        condition(3, &metric, "BIRD", Some(must), None, ratio(v4(routes), "receiver ms", Bird), "x");
    }
    let withdraw = |whose| ratio(v4(100_000), "withdraw kernel ms", whose);
    condition(4, "withdraw all from the kernel, 100000", "BIRD", Some(0.4), None, withdraw(Bird), "x");
    condition(
        4,
        "withdraw all from the kernel, 100000",
        "kernel limit",
        None,
        Some(1.25),
        withdraw(Limit),
        "x",
    );
    condition(5, "CPU per route, 100000", "BIRD", Some(0.5), None, ratio(v4(100_000), "CPU s", Bird), "x");
    condition(
        6,
        "bytes per route, 500000",
        "BIRD",
        Some(0.6),
        Some(0.45),
        ratio(v4(500_000), "B/route", Bird),
        "x",
    );
    condition(
        7,
        "RSS with sessions up and no routes",
        "BIRD",
        Some(1.5),
        Some(1.0),
        ratio(v4(500_000), "RSS idle MB", Bird),
        "x",
    );
    let kept = || {
        let of = |figure| median(v4(500_000), Towpath, figure);
        let (idle, peak, after) = (of("RSS idle MB")?, of("RSS peak MB")?, of("RSS after MB")?);
        Some((after - idle) / (peak - idle))
    };
    condition(7, "RSS kept after withdrawing 500000", "its own growth", Some(0.3), Some(0.1), kept(), "x");
    let of = |scenario, routes| Case { scenario, routes, family: Family::V4 };
    let reset = |routes| of(Scenario::FailoverReset, routes);
    let last = "last prefix ms";
    let metric = "fail-over of 10000 ECMP routes, TCP reset, by packets";
    condition(8, metric, "BIRD", Some(0.2), None, ratio(reset(10_000), last, Bird), "x");
    let own = median(reset(10_000), Towpath, last);
    condition(8, metric, "-", Some(6.0), median(reset(10_000), Towpath, "probe ms"), own, " ms");
    let growth = median(reset(100_000), Towpath, last).zip(own).map(|(large, small)| large / small);
    condition(9, "fail-over of 100000 routes, TCP reset", "of 10000", Some(1.5), Some(1.0), growth, "x");
    let peers = of(Scenario::Peers, usize::from(PEERS) * SHARE);
    let faster =
        [Frr, Bird].into_iter().filter_map(|who| ratio(peers, "all peers ms", who)).max_by(f64::total_cmp);
    condition(10, "64 peers x 1000, all complete", "faster of FRR and BIRD", Some(0.25), None, faster, "x");
    let start = ratio(of(Scenario::Start, 1), "first kernel route ms", Bird);
    condition(11, "start to first route in the kernel", "BIRD", Some(1.0), None, start, "x");
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missed_held_reached_or_not_measured_is_said() {
        let v4 = |routes| Case { scenario: Scenario::Converge, routes, family: Family::V4 };
        let mut results = Results::default();
        let mut add = |case, who, figure, value| results.add(case, who, vec![(figure, value)]);
        for (who, value) in [(Towpath, 30.0), (Frr, 100.0), (Bird, 100.0), (Limit, 20.0)] {
            add(v4(100_000), who, "kernel ms", value);
        }
        for (figure, value) in [("RSS idle MB", 5.0), ("RSS peak MB", 105.0), ("RSS after MB", 10.0)] {
            add(v4(500_000), Towpath, figure, value);
        }
        let case = |scenario, routes| Case { scenario, routes, family: Family::V4 };
        for (routes, who, value) in [(10_000, Towpath, 0.5), (10_000, Bird, 30.0), (100_000, Towpath, 1.0)] {
            let figures = vec![("last prefix ms", value), ("probe ms", 0.3)];
            results.add(case(Scenario::FailoverReset, routes), who, figures);
        }
        for (who, value) in [(Towpath, 600.0), (Frr, 2000.0), (Bird, 4000.0)] {
            results.add(case(Scenario::Peers, 64_000), who, vec![("all peers ms", value)]);
        }
        let (text, missed, unknown) = table(&results);
        for row in [
            "| BIRD | <= 0.2x | - | 0.017x | must |",
            "| - | <= 6 ms | <= 0.3 ms | 0.500 ms | must |",
            "| of 10000 | <= 1.5x | <= 1x | 2.000x | **missed** |",
            "| faster of FRR and BIRD | <= 0.25x | - | 0.300x | **missed** |",
            "| 11 | start to first route in the kernel | BIRD | <= 1x | - | - | not measured |",
        ] {
            assert!(text.contains(row), "{row}: {text}");
        }
        let all = "first UPDATE to last kernel route, 100000";
        assert!(
            text.contains(&format!("| 1 | {all} | FRR | <= 0.15x | - | 0.300x | **missed** |")),
            "{text}"
        );
        assert!(text.contains(&format!("| 1 | {all} | BIRD | <= 0.35x | - | 0.300x | must |")), "{text}");
        assert!(
            text.contains(&format!("| 1 | {all} | kernel limit | - | <= 1.25x | 1.500x | not the aim |")),
            "{text}"
        );
        assert!(text.contains("| its own growth | <= 0.3x | <= 0.1x | 0.050x | aim |"), "{text}");
        assert_eq!((missed, unknown), (3, conditions(&results).len() - 8));
    }
}
