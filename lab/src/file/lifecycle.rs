//! How a node's main process lives: its health check, when it is run again, and their fields.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::file::fields::{At, did_you_mean, mapping, sequence, text};
use crate::file::problem::Findings;
use crate::file::yaml::{Value, Yaml};
use crate::node::reaper::Exit;

/// A command that says whether a node works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// Succeeds while the node is healthy.
    pub argv: Vec<String>,
    /// Between the end of one check and the next.
    pub interval: Duration,
    /// A check that takes longer has failed.
    pub timeout: Duration,
    /// So many failures in a row make the node unhealthy.
    pub retries: u32,
    /// Failures so soon after the start do not count.
    pub start_period: Duration,
}

/// Whether a main process that ended is run again; a second later, its links untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// However it ended: `always`, `unless-stopped`, and what holds when a file says nothing.
    Always,
    /// After a failure, at most so often.
    OnFailure(Option<u32>),
    /// Never.
    No,
}

impl RestartPolicy {
    /// Whether a process that ended like this is run again, having been so `restarts` times.
    pub(crate) fn again(self, exit: Option<Exit>, restarts: u32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure(most) => exit != Some(Exit::Code(0)) && most.is_none_or(|most| restarts < most),
            Self::No => false,
        }
    }

    pub(crate) fn read(place: &str, at: &At, findings: &mut Findings) -> Self {
        match at.text.to_ascii_lowercase().as_str() {
            "always" | "unless-stopped" => Self::Always,
            "no" => Self::No,
            "on-failure" => Self::OnFailure(None),
            other => {
                let most = other.strip_prefix("on-failure:").and_then(|most| most.parse().ok());
                if most.is_none() {
                    findings.refuse(
                        at.line,
                        format!(
                            "{place}: restart-policy \"{}\" is unknown; use always, unless-stopped, \
                             on-failure, on-failure:TIMES or \"no\"",
                            at.text
                        ),
                    );
                }
                Self::OnFailure(most)
            }
        }
    }
}

/// A number of seconds, which files write without a unit.
pub(crate) fn seconds(name: &str, at: &At, findings: &mut Findings) -> Option<Duration> {
    Some(Duration::from_secs(number(name, at, "whole seconds without a unit", findings)?.into()))
}

fn number(name: &str, at: &At, what: &str, findings: &mut Findings) -> Option<u32> {
    let number = at.text.parse().ok().filter(|number| *number <= 86_400);
    if number.is_none() {
        findings.refuse(at.line, format!("{name} {} is not possible; write {what}, up to 86400", at.text));
    }
    number
}

/// `healthcheck`; `None` also for a test `NONE`, which switches that of an image off.
///
/// What is absent or 0 is Docker's default.
pub(crate) fn healthcheck(name: &str, yaml: &Yaml, findings: &mut Findings) -> Option<Healthcheck> {
    let known = ["test", "interval", "timeout", "retries", "start-period"];
    let mut check = Healthcheck {
        argv: Vec::new(),
        interval: Duration::from_secs(30),
        timeout: Duration::from_secs(30),
        retries: 3,
        start_period: Duration::ZERO,
    };
    let mut off = false;
    for (key, value) in mapping(name, yaml, findings) {
        let place = format!("{name} {}", key.text);
        if key.text == "test" {
            let words: Vec<String> = sequence(&place, value, findings)
                .iter()
                // An argument may be empty.
                .filter_map(|word| match &word.value {
                    Value::Scalar(text) => Some(text.clone()),
                    _ => text(&place, word, findings).map(|at| at.text),
                })
                .collect();
            match test(&words) {
                None if !matches!(value.value, Value::Seq(_) | Value::Null) => {} // said already
                Some(argv) => (off, check.argv) = (argv.is_empty(), argv),
                None => findings.refuse(
                    value.line,
                    format!(
                        "{place} does not begin with CMD, CMD-SHELL or NONE; write [CMD-SHELL, test -e /ok]"
                    ),
                ),
            }
            continue;
        }
        if !known.contains(&key.text.as_str()) {
            let hint = did_you_mean(&key.text, known);
            findings.refuse(key.line, format!("{name}: unknown field \"{}\"; {hint}", key.text));
            continue;
        }
        let Some(given) = text(&place, value, findings).filter(|at| at.text != "0") else { continue };
        if key.text == "retries" {
            check.retries = number(&place, &given, "a whole number", findings).unwrap_or(check.retries);
            continue;
        }
        let Some(time) = seconds(&place, &given, findings) else { continue };
        match key.text.as_str() {
            "interval" => check.interval = time,
            "timeout" => check.timeout = time,
            _ => check.start_period = time,
        }
    }
    if check.argv.is_empty() && !off {
        if !mapping(name, yaml, &mut Findings::default()).iter().any(|(key, _)| key.text == "test") {
            findings.refuse(yaml.line, format!("{name} needs a \"test\"; write [CMD-SHELL, test -e /ok]"));
        }
        return None;
    }
    (!off).then_some(check)
}

/// Docker's forms; empty for `NONE`.
fn test(words: &[String]) -> Option<Vec<String>> {
    match words {
        [form] if form == "NONE" => Some(Vec::new()),
        [form, argv @ ..] if form == "CMD" && !argv.is_empty() => Some(argv.to_vec()),
        [form, line] if form == "CMD-SHELL" => Some(["/bin/sh", "-c", line].map(str::to_owned).to_vec()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_policy_looks_at_how_often_and_how_a_process_ended() {
        let (fine, failed, killed) = (Some(Exit::Code(0)), Some(Exit::Code(1)), Some(Exit::Signal(9)));
        let cases = [
            (RestartPolicy::Always, fine, 100, true),
            (RestartPolicy::No, failed, 0, false),
            (RestartPolicy::OnFailure(None), fine, 0, false),
            (RestartPolicy::OnFailure(None), failed, 100, true),
            (RestartPolicy::OnFailure(Some(2)), killed, 1, true),
            (RestartPolicy::OnFailure(Some(2)), killed, 2, false),
        ];
        for (policy, exit, restarts, expected) in cases {
            assert_eq!(policy.again(exit, restarts), expected, "{policy:?} {exit:?} {restarts}");
        }
    }

    #[test]
    fn a_health_test_has_dockers_forms() {
        let words = |text: &str| -> Vec<String> { text.split('|').map(str::to_owned).collect() };
        assert_eq!(test(&words("CMD|true|x")).unwrap(), ["true", "x"]);
        assert_eq!(test(&words("CMD-SHELL|test -e /ok")).unwrap(), ["/bin/sh", "-c", "test -e /ok"]);
        assert_eq!(test(&words("NONE")).unwrap(), [] as [String; 0]);
        for bad in ["true", "CMD", "CMD-SHELL", "CMD-SHELL|a|b", ""] {
            assert!(test(&words(bad)).is_none(), "{bad}");
        }
    }
}
