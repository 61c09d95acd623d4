//! The tables as Markdown.

use std::fmt::Write as _;

use crate::contender::Contender;
use crate::results::{Case, Family, Results, Scenario, Spread};

impl Case {
    pub(crate) fn title(self) -> String {
        let family = match self.family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        let Self { scenario, routes, .. } = self;
        match scenario {
            Scenario::Converge => format!("{routes} {family} routes come and go"),
            Scenario::Flap => format!("{routes} {family} routes come, go and come again, back to back"),
            Scenario::Peers => format!("64 peers, {routes} {family} routes in all, everyone gets everyone's"),
            Scenario::Start => format!("From the start to the first {family} route"),
            Scenario::FailoverReset => {
                format!("{routes} {family} routes by two switches, one loses its TCP connection")
            }
            Scenario::FailoverLink => format!("{routes} {family} routes by two switches, one loses its link"),
            Scenario::Idle => format!("{routes} {family} routes and nothing to do"),
        }
    }
}

/// Columns of a scenario.
fn figures(scenario: Scenario) -> &'static [&'static str] {
    match scenario {
        Scenario::Converge => &[
            "receiver ms",
            "kernel ms",
            "withdraw receiver ms",
            "withdraw kernel ms",
            "CPU s",
            "withdraw CPU s",
            "RSS idle MB",
            "RSS peak MB",
            "B/route",
            "RSS after MB",
            "bench CPU %",
            "others' CPU s",
        ],
        Scenario::Flap => &["receiver ms", "told", "CPU s", "others' CPU s"],
        Scenario::Peers => &[
            "all peers ms",
            "kernel ms",
            "CPU s",
            "bench CPU s",
            "RSS idle MB",
            "RSS peak MB",
            "others' CPU s",
        ],
        Scenario::Start => &["Established ms", "first kernel route ms"],
        Scenario::FailoverReset | Scenario::FailoverLink => &[
            "first prefix ms",
            "last prefix ms",
            "packets lost",
            "probe ms",
            "first notice ms",
            "last notice ms",
            "notices",
            "CPU s",
            "others' CPU s",
        ],
        Scenario::Idle => &["CPU ms in 10 s", "RSS MB", "others' CPU s"],
    }
}

/// One table: a row for each contender, a column for each figure.
pub(crate) fn table(case: Case, results: &Results) -> String {
    let columns = figures(case.scenario);
    let mut text = format!("#### {}\n\n| daemon | runs |", case.title());
    columns.iter().for_each(|name| text.push_str(&format!(" {name} |")));
    text.push_str(&format!("\n|---|---|{}\n", "---|".repeat(columns.len())));
    for contender in results.contenders(case) {
        row(&mut text, case, contender, columns, results).expect("a String takes everything");
    }
    text
}

fn row(
    text: &mut String,
    case: Case,
    contender: Contender,
    columns: &[&str],
    results: &Results,
) -> std::fmt::Result {
    write!(text, "| {} | {} |", contender.name(), results.runs(case, contender))?;
    for name in columns {
        match results.spread(case, contender, name) {
            Some(spread) => write!(text, " {} |", shown(spread))?,
            None => write!(text, " - |")?,
        }
    }
    writeln!(text)
}

/// Median (smallest-largest), with as many digits as the median deserves.
pub(crate) fn shown(spread: Spread) -> String {
    let Spread { median, least, most } = spread;
    let digits = if median < 1.0 {
        3
    } else if median < 10.0 {
        2
    } else if median < 100.0 {
        1
    } else {
        0
    };
    if least == most {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} ({least:.digits$}-{most:.digits$})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_row_for_each_contender_and_a_dash_for_what_it_lacks() {
        let case = Case { scenario: Scenario::Converge, routes: 1000, family: Family::V6 };
        let mut results = Results::default();
        for value in [10.0, 20.0, 30.0] {
            results.add(case, Contender::Gobgp, vec![("receiver ms", value)]);
        }
        results.add(case, Contender::Limit, vec![("kernel ms", 1.25)]);
        let text = table(case, &results);
        assert!(text.starts_with("#### 1000 IPv6 routes come and go\n"), "{text}");
        assert!(text.contains("\n| GoBGP | 3 | 20.0 (10.0-30.0) | - |"), "{text}");
        assert!(text.contains("\n| kernel limit | 1 | - | 1.25 |"), "{text}");
    }
}
