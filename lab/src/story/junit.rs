//! Played stories as JUnit XML, for what collects test results.
//!
//! A story is a `testsuite`, a step a `testcase`. The file is valid against both schemas in use: the one
//! of Ant's reports (which wants `hostname`, `timestamp` and a `system-out`) and the one of Jenkins'
//! xunit plugin.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::report::{Mode, Outcome, Report, StepReport};
use super::table::{self, Colours};
use super::verdict;
use crate::xml::Element;

/// The document for stories whose play began at `began`, one after the other.
#[must_use]
pub fn render(reports: &[Report], began: SystemTime) -> String {
    let mut at = began;
    let mut suites = Element::new("testsuites");
    for (id, report) in reports.iter().enumerate() {
        suites.push(suite(report, id, at));
        at += report.took;
    }
    suites.to_string()
}

fn suite(report: &Report, id: usize, began: SystemTime) -> Element {
    let of = |outcome: Outcome| report.steps.iter().filter(|step| step.outcome == outcome).count();
    let suite = Element::new("testsuite")
        .with("name", &report.lab)
        .with("package", "towpath.lab")
        .with("id", id)
        .with("hostname", "localhost")
        .with("timestamp", timestamp(began))
        .with("tests", report.steps.len())
        .with("failures", of(Outcome::Failed))
        .with("errors", 0)
        .with("skipped", of(Outcome::Skipped))
        .with("time", seconds(report.took));
    suite
        .child(properties(report))
        .children(report.steps.iter().map(|step| case(step, report)))
        .child(Element::new("system-out").text(table::render(report, Colours::Off)))
        .child(Element::new("system-err"))
}

fn properties(report: &Report) -> Element {
    let property =
        |name: &str, value: String| Element::new("property").with("name", name).with("value", value);
    let mode = match report.mode {
        Mode::Play => "play",
        Mode::Prove => "prove",
    };
    Element::new("properties")
        .child(property("file", report.file.display().to_string()))
        .child(property("mode", mode.to_owned()))
        .child(property("slack", report.slack.to_string()))
        .children(report.seed.map(|seed| property("seed", seed.to_string())))
}

fn case(step: &StepReport, report: &Report) -> Element {
    let case = Element::new("testcase")
        .with("classname", format!("lab.{}", report.lab))
        .with("name", &step.name)
        .with("time", seconds(step.took));
    if step.outcome == Outcome::Skipped {
        return case.child(Element::new("skipped"));
    }
    let Some(failure) = verdict::failure(step, report.mode) else { return case };
    let located =
        |broken: &verdict::Broken| format!("{}:{}: {}", report.file.display(), broken.line, broken.text);
    let kind = match report.mode {
        Mode::Play => "broken",
        Mode::Prove => "not proved",
    };
    let body: Vec<String> = verdict::broken(step).iter().map(located).collect();
    case.child(
        Element::new("failure").with("message", located(&failure)).with("type", kind).text(body.join("\n")),
    )
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

/// ISO 8601 in UTC, to the second and without a zone, as the schema has it.
fn timestamp(time: SystemTime) -> String {
    // A clock before 1970 is a clock that was never set.
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of year 0, in eras of 400 years that begin there: leap days then come last
    // (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_077_926_399, "2004-02-27T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (1_795_274_347, "2026-11-21T15:19:07"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
