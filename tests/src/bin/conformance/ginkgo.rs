//! Ginkgo's JSON report, as far as it is told here.

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// How one spec went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// With what surrounds it.
    pub(crate) name: String,
    /// Ginkgo's word: `passed`, `failed`, `timedout`, `panicked`, ...
    pub(crate) state: String,
    pub(crate) seconds: f64,
    /// First line of the failure.
    pub(crate) why: Option<String>,
}

impl Spec {
    pub(crate) fn passed(&self) -> bool {
        self.state == "passed"
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    #[serde(default)]
    spec_reports: Vec<Report>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    leaf_node_text: String,
    state: String,
    /// Nanoseconds.
    #[serde(default)]
    run_time: u64,
    failure: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    #[serde(default)]
    message: String,
}

/// The specs that ran, sorted by name; what surrounds the specs is one where it failed.
pub(crate) fn specs(report: &[u8]) -> anyhow::Result<Vec<Spec>> {
    let suites: Vec<Suite> = serde_json::from_slice(report).context("Ginkgo's report")?;
    let reports = suites.into_iter().flat_map(|suite| suite.spec_reports);
    let mut specs: Vec<Spec> = reports.filter_map(spec).collect();
    specs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(specs)
}

fn spec(report: Report) -> Option<Spec> {
    let left_out = matches!(report.state.as_str(), "skipped" | "pending");
    if left_out || (report.leaf_node_type != "It" && report.state == "passed") {
        return None;
    }
    let around = report.container_hierarchy_texts.into_iter().flatten();
    let name = around.chain([report.leaf_node_text]).collect::<Vec<_>>().join(" ");
    let failed = report.state != "passed";
    let why = report.failure.filter(|_| failed).map(|failure| failure.message);
    Some(Spec {
        name: if name.is_empty() { report.leaf_node_type } else { name },
        state: report.state,
        seconds: report.run_time as f64 / 1e9,
        why: why.map(|why| why.lines().next().unwrap_or_default().to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_is_told_and_what_surrounds_it_where_it_failed() {
        let report = r#"[{ "SpecReports": [
            { "LeafNodeType": "SynchronizedBeforeSuite", "LeafNodeText": "", "State": "passed", "RunTime": 1 },
            { "LeafNodeType": "It", "LeafNodeText": "works", "ContainerHierarchyTexts": ["[sig] DNS"],
              "State": "passed", "RunTime": 2500000000 },
            { "LeafNodeType": "It", "LeafNodeText": "hangs", "ContainerHierarchyTexts": ["[sig] Services"],
              "State": "timedout", "RunTime": 1, "Failure": { "Message": "no answer\nmore" } },
            { "LeafNodeType": "It", "LeafNodeText": "is not asked", "State": "skipped" },
            { "LeafNodeType": "ReportAfterSuite", "LeafNodeText": "", "State": "failed", "Failure": {} }
        ] }]"#;
        let specs = specs(report.as_bytes()).unwrap();
        let words: Vec<_> =
            specs.iter().map(|spec| (spec.name.as_str(), spec.state.as_str(), spec.why.as_deref())).collect();
        assert_eq!(
            words,
            [
                ("ReportAfterSuite", "failed", Some("")),
                ("[sig] DNS works", "passed", None),
                ("[sig] Services hangs", "timedout", Some("no answer")),
            ]
        );
        assert!((specs[1].seconds - 2.5).abs() < 1e-9);
    }
}
