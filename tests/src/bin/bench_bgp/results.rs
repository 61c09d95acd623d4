//! What was measured: figures by case and contender, their medians and spread.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::Serialize;

use crate::contender::Contender;

/// What is done to a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// A table comes, and goes again.
    Converge,
    /// A table comes, goes and comes, back to back.
    Flap,
    /// 64 peers, each with a share.
    Peers,
    /// From the start of the daemon to its first route.
    Start,
    /// One of two switches: its BGP connection is reset.
    FailoverReset,
    /// One of two switches: its link fails.
    FailoverLink,
    /// Routes and nothing to do.
    Idle,
}

/// The family of routes and sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Family {
    V4,
    V6,
}

/// One table of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    pub(crate) scenario: Scenario,
    pub(crate) routes: usize,
    pub(crate) family: Family,
}

/// Figures of one run, by a name that ends in their unit.
pub(crate) type Sample = Vec<(&'static str, f64)>;

/// Median, smallest and largest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// All figures of all runs.
#[derive(Debug, Default)]
pub(crate) struct Results {
    cases: BTreeMap<Case, BTreeMap<Contender, BTreeMap<&'static str, Vec<f64>>>>,
    /// What each program says it is.
    pub(crate) versions: BTreeMap<Contender, String>,
    /// Runs that came to no end, and differences between what was fed and what was there, in words.
    pub(crate) failures: Vec<String>,
}

/// A whole run, as it goes into a file.
#[derive(Debug, Serialize)]
pub(crate) struct File<'a> {
    /// What the machine is.
    pub(crate) machine: String,
    versions: &'a BTreeMap<Contender, String>,
    failures: &'a [String],
    figures: Vec<Record>,
}

/// A figure of one contender in one case.
#[derive(Debug, Serialize)]
struct Record {
    scenario: Scenario,
    routes: usize,
    family: Family,
    contender: Contender,
    figure: &'static str,
    values: Vec<f64>,
    median: f64,
}

impl Results {
    pub(crate) fn add(&mut self, case: Case, contender: Contender, sample: Sample) {
        let figures = self.cases.entry(case).or_default().entry(contender).or_default();
        for (name, value) in sample {
            figures.entry(name).or_default().push(value);
        }
    }

    pub(crate) fn cases(&self) -> impl Iterator<Item = Case> {
        self.cases.keys().copied()
    }

    /// Who has figures in a case.
    pub(crate) fn contenders(&self, case: Case) -> impl Iterator<Item = Contender> {
        self.cases.get(&case).into_iter().flat_map(BTreeMap::keys).copied()
    }

    pub(crate) fn runs(&self, case: Case, contender: Contender) -> usize {
        let figures = self.cases.get(&case).and_then(|case| case.get(&contender));
        figures.and_then(|figures| figures.values().map(Vec::len).max()).unwrap_or(0)
    }

    pub(crate) fn spread(&self, case: Case, contender: Contender, figure: &str) -> Option<Spread> {
        Spread::of(self.cases.get(&case)?.get(&contender)?.get(figure)?)
    }

    /// Everything, for comparison with other runs.
    pub(crate) fn file(&self, machine: String) -> File<'_> {
        let mut records = Vec::new();
        for (case, contenders) in &self.cases {
            for (contender, figures) in contenders {
                records.extend(figures.iter().map(|(figure, values)| Record {
                    scenario: case.scenario,
                    routes: case.routes,
                    family: case.family,
                    contender: *contender,
                    figure,
                    values: values.clone(),
                    median: Spread::of(values).map_or(f64::NAN, |spread| spread.median),
                }));
            }
        }
        File { machine, versions: &self.versions, failures: &self.failures, figures: records }
    }
}

impl Spread {
    fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let even = sorted.len().is_multiple_of(2);
        let median = if even { (sorted.get(middle - 1)? + upper) / 2.0 } else { upper };
        Some(Self { median, least, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        let of = |values: &[f64]| Spread::of(values).map(|s| (s.median, s.least, s.most));
        assert_eq!(of(&[5.0, 1.0, 3.0]), Some((3.0, 1.0, 5.0)));
        assert_eq!(of(&[4.0, 2.0]), Some((3.0, 2.0, 4.0)));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn figures_are_kept_apart_by_case_and_contender() {
        let case = |routes| Case { scenario: Scenario::Converge, routes, family: Family::V4 };
        let mut results = Results::default();
        for value in [1.0, 2.0, 9.0] {
            results.add(case(10), Contender::Bird, vec![("ms", value), ("MB", value)]);
        }
        results.add(case(20), Contender::Bird, vec![("ms", 7.0)]);
        assert_eq!(results.runs(case(10), Contender::Bird), 3);
        assert_eq!(results.spread(case(10), Contender::Bird, "ms").unwrap().median, 2.0);
        assert_eq!(results.spread(case(20), Contender::Bird, "MB"), None);
        assert_eq!(results.spread(case(10), Contender::Frr, "ms"), None);
        let file = serde_json::to_value(results.file("here".to_owned())).unwrap();
        assert_eq!(file["figures"].as_array().unwrap().len(), 3);
        assert_eq!(file["figures"][0]["contender"], "bird");
        assert_eq!(file["figures"][0]["values"].as_array().unwrap().len(), 3);
    }
}
