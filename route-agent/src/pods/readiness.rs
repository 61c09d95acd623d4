//! Whether pods may start on this node: once it has converged, for the rest of the boot, unless it is drained.
//!
//! Converged means that every configured session has sent its routes and the kernel has them. A peer that does not
//! come must not keep a node out of service for ever, so the wait has a limit. What comes later, be it the loss of
//! every session, takes nothing back: a runtime makes a node NotReady on any error of STATUS, and evicts its pods.
//! Pure: status and time in, a verdict out.

use std::time::Duration;

use bgp_speaker::status::SessionBrief;

use crate::fib::status::FibStatus;

/// How long sessions are waited for after the start of the daemon.
pub(crate) const SESSIONS_LIMIT: Duration = Duration::from_secs(30);
/// How long the kernel's routes are waited for.
const KERNEL_LIMIT: Duration = Duration::from_secs(60);
/// A peer that does not say End-of-RIB has sent its routes this long after the session came up.
const QUIET: Duration = Duration::from_secs(5);

/// What convergence is judged by.
pub(crate) struct Seen<'a> {
    pub(crate) sessions: &'a [SessionBrief],
    pub(crate) fib: &'a FibStatus,
    /// Since the daemon started.
    pub(crate) running: Duration,
    /// Since 1970.
    pub(crate) now: Duration,
}

/// Whether this node has converged.
///
/// # Errors
/// What is still waited for, in words.
pub(crate) fn converged(seen: &Seen<'_>) -> Result<(), String> {
    let wanted = || seen.sessions.iter().filter(|session| session.wanted);
    let silent: Vec<&SessionBrief> = wanted().filter(|session| !has_told(session, seen.now)).collect();
    if let Some(first) = silent.first()
        && seen.running < SESSIONS_LIMIT
    {
        return Err(format!(
            "{} of {} sessions have not sent their routes, {} ({}) is {}; they are waited for until {} s after the start",
            silent.len(),
            wanted().count(),
            first.peer,
            first.neighbor,
            first.state,
            SESSIONS_LIMIT.as_secs()
        ));
    }
    // Routes that lead nowhere, or that the kernel refuses, are not a matter of time.
    let pending = seen.fib.pending.saturating_sub(seen.fib.waiting);
    if pending > 0 && seen.running < KERNEL_LIMIT {
        return Err(format!("{pending} routes are not in the kernel yet"));
    }
    Ok(())
}

fn has_told(session: &SessionBrief, now: Duration) -> bool {
    let since = Duration::from_secs(session.since);
    session.state == "Established" && (session.told || now.saturating_sub(since) > QUIET)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000_000);

    fn session(state: &str, since: u64, told: bool) -> SessionBrief {
        SessionBrief {
            peer: "tor1".to_owned(),
            neighbor: "10.1.1.0".parse().unwrap(),
            wanted: true,
            state: state.to_owned(),
            since,
            local_endpoint: None,
            told,
        }
    }

    fn verdict(sessions: &[SessionBrief], pending: u64, waiting: u64, running: u64) -> Result<(), String> {
        let fib = FibStatus { pending, waiting, ..FibStatus::default() };
        converged(&Seen { sessions, fib: &fib, running: Duration::from_secs(running), now: NOW })
    }

    #[test]
    fn a_node_has_converged_when_its_peers_have_spoken_and_the_kernel_has_it() {
        let recent = NOW.as_secs() - 1;
        let told = session("Established", recent, true);
        let telling = session("Established", recent, false);
        let quiet = session("Established", recent - 5, false);
        let absent = session("Active", recent - 100, false);
        let paused = SessionBrief { wanted: false, ..absent.clone() };
        // Name, sessions, pending and waiting routes, seconds since the start, verdict.
        type Case<'a> = (&'a str, &'a [SessionBrief], (u64, u64), u64, bool);
        let cases: &[Case<'_>] = &[
            ("no peers", &[], (0, 0), 0, true),
            ("peers nobody waits for", &[paused], (0, 0), 0, true),
            ("End-of-RIB", std::slice::from_ref(&told), (0, 0), 0, true),
            ("one of two is telling", &[told.clone(), telling], (0, 0), 1, false),
            ("one without End-of-RIB has been up for long", &[told.clone(), quiet], (0, 0), 1, true),
            ("one of two is absent", &[told.clone(), absent.clone()], (0, 0), 29, false),
            ("absent for too long", &[told.clone(), absent], (0, 0), 30, true),
            ("the kernel is behind", std::slice::from_ref(&told), (5, 2), 1, false),
            ("routes that lead nowhere", std::slice::from_ref(&told), (5, 5), 1, true),
            ("the kernel never catches up", std::slice::from_ref(&told), (5, 0), 60, true),
        ];
        for (name, sessions, (pending, waiting), running, expected) in cases {
            let verdict = verdict(sessions, *pending, *waiting, *running);
            assert_eq!(verdict.is_ok(), *expected, "{name}: {verdict:?}");
        }
    }

    #[test]
    fn what_is_waited_for_is_said() {
        let sessions = [session("Established", 0, true), session("Active", 0, false)];
        assert_eq!(
            verdict(&sessions, 0, 0, 10).unwrap_err(),
            "1 of 2 sessions have not sent their routes, tor1 (10.1.1.0) is Active; they are waited for until 30 s after the start"
        );
        assert_eq!(verdict(&[], 3, 0, 10).unwrap_err(), "3 routes are not in the kernel yet");
    }
}
