//! docs/conformance.md: which spec passes with which network.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::ginkgo::Spec;
use crate::{Network, Outcome};

impl Network {
    /// Heading of its column.
    fn heading(self) -> &'static str {
        match self {
            Self::Nftables => "towpath, nftables",
            Self::Iptables => "towpath, iptables",
            Self::Reference => "reference, nftables",
        }
    }

    /// What the cluster was made of.
    fn words(self) -> &'static str {
        match self {
            Self::Nftables => {
                "towpath as its manifest installs it, two switches that speak BGP; kube-proxy in nftables mode"
            }
            Self::Iptables => "the same; kube-proxy in iptables mode",
            Self::Reference => {
                "ptp, host-local and portmap; static routes in the switches, nothing of towpath; kube-proxy in nftables mode"
            }
        }
    }
}

/// The page.
pub(crate) fn page(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "# Conformance\n\nThe upstream end-to-end tests in the [test cluster](test-cluster.md), as `make conformance` ran them \
         last and wrote this page. ",
    );
    let mut line = |words: std::fmt::Arguments<'_>| {
        writeln!(text, "{words}").expect("a String takes everything");
    };
    if let Some(outcome) = outcomes.first() {
        let Outcome { kubernetes, runtime, nodes, focus, .. } = outcome;
        line(format_args!(
            "Kubernetes {kubernetes}, {runtime}, {nodes} nodes, dual stack. Specs: `{focus}`."
        ));
    }
    line(format_args!(
        "\nEach column is a run on a new cluster, one spec after the other. What fails with the reference plugins too is the \
         machine's fault; what fails with towpath alone is towpath's."
    ));
    line(format_args!("\n| column | cluster | pass | minutes |\n| --- | --- | --- | --- |"));
    for outcome in outcomes {
        let passed = outcome.specs.iter().filter(|spec| spec.passed()).count();
        let minutes = outcome.specs.iter().map(|spec| spec.seconds).sum::<f64>() / 60.0;
        let (heading, words, all) = (outcome.network.heading(), outcome.network.words(), outcome.specs.len());
        line(format_args!("| {heading} | {words} | **{passed} of {all}** | {minutes:.0} |"));
    }
    let headings: Vec<&str> = outcomes.iter().map(|outcome| outcome.network.heading()).collect();
    let rules = " --- |".repeat(outcomes.len());
    line(format_args!("\nSeconds of what passed:\n\n| spec | {} |\n| --- |{rules}", headings.join(" | ")));
    for name in names(outcomes) {
        let cells: Vec<String> = outcomes.iter().map(|outcome| cell(find(outcome, name))).collect();
        line(format_args!("| {} | {} |", escaped(name), cells.join(" | ")));
    }
    text
}

/// Specs that fail with towpath and not with the reference plugins, each with its column.
pub(crate) fn worse(outcomes: &[Outcome]) -> Vec<String> {
    let reference = outcomes.iter().find(|outcome| !outcome.network.is_ours());
    let fails_there = |spec: &Spec| {
        reference.and_then(|reference| find(reference, &spec.name)).is_some_and(|there| !there.passed())
    };
    let ours = outcomes.iter().filter(|outcome| outcome.network.is_ours());
    let failed = ours.flat_map(|outcome| outcome.specs.iter().map(move |spec| (outcome.network, spec)));
    failed
        .filter(|(_, spec)| !spec.passed() && !fails_there(spec))
        .map(|(network, spec)| format!("{}: {}", network.heading(), spec.name))
        .collect()
}

fn names(outcomes: &[Outcome]) -> BTreeSet<&str> {
    outcomes.iter().flat_map(|outcome| &outcome.specs).map(|spec| spec.name.as_str()).collect()
}

fn find<'a>(outcome: &'a Outcome, name: &str) -> Option<&'a Spec> {
    outcome.specs.iter().find(|spec| spec.name == name)
}

fn cell(spec: Option<&Spec>) -> String {
    match spec {
        None => "did not run".to_owned(),
        Some(spec) if spec.passed() => format!("{:.0}", spec.seconds),
        Some(spec) => {
            let why = spec.why.iter().map(|why| format!(": {why}")).collect::<String>();
            escaped(&format!("**{}**{why}", spec.state))
        }
    }
}

/// As a cell of a table takes it.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(network: Network, states: &[(&str, &str)]) -> Outcome {
        let spec = |(name, state): &(&str, &str)| Spec {
            name: (*name).to_owned(),
            state: (*state).to_owned(),
            seconds: 90.0,
            why: (*state != "passed").then(|| "a|b".to_owned()),
        };
        Outcome {
            network,
            focus: "DNS".to_owned(),
            kubernetes: "v1".to_owned(),
            runtime: "containerd://2".to_owned(),
            nodes: 3,
            specs: states.iter().map(spec).collect(),
        }
    }

    #[test]
    fn one_table_tells_what_passes_where() {
        let outcomes = [
            outcome(Network::Nftables, &[("one", "passed"), ("two", "failed"), ("three", "failed")]),
            outcome(Network::Reference, &[("one", "passed"), ("two", "failed")]),
        ];
        let text = page(&outcomes);
        assert!(
            text.contains("| spec | towpath, nftables | reference, nftables |\n| --- | --- | --- |\n"),
            "{text}"
        );
        assert!(text.contains("| one | 90 | 90 |\n"), "{text}");
        assert!(text.contains("| three | **failed**: a\\|b | did not run |\n"), "{text}");
        assert!(text.contains("kube-proxy in nftables mode | **1 of 3** | 4 |"), "{text}");
    }

    #[test]
    fn only_what_the_reference_passes_is_held_against_towpath() {
        let ours = outcome(Network::Iptables, &[("one", "passed"), ("two", "failed"), ("three", "timedout")]);
        let reference =
            outcome(Network::Reference, &[("one", "failed"), ("two", "failed"), ("three", "passed")]);
        assert_eq!(worse(&[ours.clone(), reference]), ["towpath, iptables: three"]);
        // Without the comparison every failure counts.
        assert_eq!(worse(&[ours]).len(), 2);
    }
}
