//! The status of resources that all nodes share, as one daemon writes it for all: verdicts and counts. Pure.

use api::build::Verdict;
use api::few;
use api::status::{BGPPeerStatus, SessionCounts};
use api::words::{Condition, Status};

use super::conditions::Judgement;
use super::tally::Sum;

/// Whether a resource is in force as it stands.
fn accepted(verdict: &Verdict) -> Judgement {
    if verdict.is_refused() {
        let message = format!("{}; {}", few(verdict.problems(), "; "), verdict.in_force());
        Judgement::new("Accepted", false, "Invalid", message)
    } else {
        Judgement::new("Accepted", true, "Accepted", verdict.in_force())
    }
}

/// The status of a kind that has conditions alone.
pub(super) fn plain(verdict: &Verdict, generation: i64, earlier: &[Condition], now: &str) -> Status {
    let mut conditions = vec![accepted(verdict).since(earlier, Some(generation), now)];
    if let Verdict::Unresolved { .. } = verdict {
        conditions.push(references(verdict).since(earlier, Some(generation), now));
    }
    Status { observed_generation: Some(generation), conditions }
}

/// The status of a BGPPeer; `sum`: what the nodes report of it, if any does.
pub(super) fn bgp_peer(
    verdict: &Verdict,
    generation: i64,
    sum: Option<&Sum>,
    earlier: &[Condition],
    now: &str,
) -> BGPPeerStatus {
    let sum = sum.copied().unwrap_or_default();
    let judged = [accepted(verdict), references(verdict), matched(&sum), established(&sum)];
    BGPPeerStatus {
        observed_generation: Some(generation),
        conditions: judged
            .into_iter()
            .map(|judgement| judgement.since(earlier, Some(generation), now))
            .collect(),
        nodes: Some(sum.nodes),
        sessions: Some(sum.sessions),
    }
}

fn references(verdict: &Verdict) -> Judgement {
    match verdict {
        Verdict::Unresolved { problems } => {
            Judgement::new("ReferencesResolved", false, "ReferenceMissing", few(problems, "; "))
        }
        Verdict::Accepted | Verdict::Refused { .. } => {
            Judgement::new("ReferencesResolved", true, "Resolved", "what it names is there")
        }
    }
}

fn matched(sum: &Sum) -> Judgement {
    if sum.nodes > 0 {
        Judgement::new("NodesMatched", true, "Matched", format!("{} nodes", sum.nodes))
    } else {
        Judgement::new(
            "NodesMatched",
            false,
            "NoNodes",
            "no node has it: spec.nodeSelector selects none on which towpath runs, or the resource is not in force",
        )
    }
}

fn established(sum: &Sum) -> Judgement {
    let SessionCounts { desired, established, .. } = sum.sessions;
    let silent = match sum.silent {
        0 => String::new(),
        silent => format!("; {silent} nodes have not been heard of for 15 min"),
    };
    if desired == 0 {
        Judgement::unknown("Established", "NoSessions", "no session is wanted: paused, or neighbours connect")
    } else if established == desired {
        Judgement::new("Established", true, "AllEstablished", format!("{desired} of {desired} sessions"))
    } else {
        let message = format!("{established} of {desired} sessions{silent}");
        Judgement::new("Established", false, "SessionsDown", message)
    }
}

#[cfg(test)]
mod tests {
    use api::words::ConditionStatus;

    use super::*;

    fn sum(nodes: i64, desired: i64, established: i64) -> Sum {
        Sum { nodes, sessions: SessionCounts { desired, established, degraded: 0 }, silent: 0 }
    }

    fn reasons(conditions: &[Condition]) -> Vec<(&str, ConditionStatus, &str)> {
        let line = |condition: &Condition| {
            let Condition { kind, status, reason, .. } = condition;
            (kind.clone().leak() as &str, *status, reason.clone().leak() as &str)
        };
        conditions.iter().map(line).collect()
    }

    #[test]
    fn a_bgp_peers_conditions_tell_verdict_references_nodes_and_sessions() {
        use ConditionStatus::{False, True, Unknown};
        let refused = Verdict::Refused {
            problems: vec!["spec.timers.hold: 2s is not allowed; use 0s (off) or at least 3s".into()],
            last_good_in_force: true,
        };
        let unresolved = Verdict::Unresolved { problems: vec!["spec.auth.md5SecretRef.name: no".into()] };
        // Verdict, what the nodes say, the four conditions.
        type Row<'a> = (Verdict, Option<Sum>, [(ConditionStatus, &'a str); 4]);
        let rows: [Row<'_>; 4] = [
            (
                Verdict::Accepted,
                Some(sum(3, 6, 6)),
                [(True, "Accepted"), (True, "Resolved"), (True, "Matched"), (True, "AllEstablished")],
            ),
            (
                refused,
                Some(sum(3, 6, 5)),
                [(False, "Invalid"), (True, "Resolved"), (True, "Matched"), (False, "SessionsDown")],
            ),
            (
                unresolved,
                None,
                [
                    (True, "Accepted"),
                    (False, "ReferenceMissing"),
                    (False, "NoNodes"),
                    (Unknown, "NoSessions"),
                ],
            ),
            (
                Verdict::Accepted,
                Some(sum(2, 0, 0)),
                [(True, "Accepted"), (True, "Resolved"), (True, "Matched"), (Unknown, "NoSessions")],
            ),
        ];
        for (verdict, sum, expected) in rows {
            let status = bgp_peer(&verdict, 7, sum.as_ref(), &[], "2026-01-01T00:00:00Z");
            let kinds = ["Accepted", "ReferencesResolved", "NodesMatched", "Established"];
            let expected: Vec<_> = kinds
                .into_iter()
                .zip(expected)
                .map(|(kind, (status, reason))| (kind, status, reason))
                .collect();
            assert_eq!(reasons(&status.conditions), expected, "{verdict:?}");
            assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(7)));
        }
    }

    #[test]
    fn a_refused_object_says_field_value_remedy_and_what_is_in_force() {
        let refused = |last_good_in_force| {
            let verdict = Verdict::Refused { problems: vec!["spec.cidrs[0]: no".into()], last_good_in_force };
            plain(&verdict, 1, &[], "now").conditions.remove(0).message
        };
        assert_eq!(refused(true), "spec.cidrs[0]: no; its last good version stays in force");
        assert_eq!(refused(false), "spec.cidrs[0]: no; it is left out");
    }

    #[test]
    fn the_time_of_a_transition_moves_with_the_status_alone() {
        let status =
            |verdict: &Verdict, earlier: &[Condition], now| plain(verdict, 1, earlier, now).conditions;
        let refused =
            |problem: &str| Verdict::Refused { problems: vec![problem.to_owned()], last_good_in_force: true };
        let first = status(&Verdict::Accepted, &[], "1");
        let second = status(&refused("a"), &first, "2");
        let third = status(&refused("b"), &second, "3");
        let times: Vec<&str> = [&first, &second, &third]
            .iter()
            .map(|conditions| conditions[0].last_transition_time.as_str())
            .collect();
        assert_eq!(times, ["1", "2", "2"]);
        assert_ne!(second[0].message, third[0].message);
    }
}
