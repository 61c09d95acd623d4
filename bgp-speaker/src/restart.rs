//! The restarting side of Graceful Restart, as far as the whole speaker is concerned (RFC 4724 section 4.1).
//!
//! After a warm start (an earlier run's routes are still in the kernel) two things wait: a router's own
//! advertisements, until its peers have told it their routes, and the sweep of kernel routes nobody
//! announced again. Both waits are bounded, and a peer that restarts too is not waited for: two routers that
//! restart together must not wait for each other. On a cold start nothing waits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::managed::SessionKey;
use crate::session::Negotiated;
use crate::wire::AfiSafi;

/// Selection_Deferral_Timer: how long a restarted router may hold back its advertisements.
const SELECTION_DEFERRAL: Duration = Duration::from_secs(10);
/// How long kernel routes of an earlier run are kept for peers that do not come back.
const SWEEP: Duration = Duration::from_secs(120);
/// A peer without Graceful Restart sends no End-of-RIB: this long after it came up it has said everything.
const QUIET: Duration = Duration::from_secs(5);

const BOTH: [AfiSafi; 2] = [AfiSafi::Ipv4Unicast, AfiSafi::Ipv6Unicast];

pub(crate) struct WarmStart {
    preserved: Vec<AfiSafi>,
    /// `None` on a cold start and after convergence.
    pending: Option<Pending>,
}

struct Pending {
    started: Instant,
    released: bool,
    /// What each expected peer still owes us.
    peers: BTreeMap<SessionKey, Owes>,
}

enum Owes {
    Session,
    EndOfRib(BTreeSet<AfiSafi>),
    Quiet(Instant),
}

/// What may happen now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Advertise.
    pub(crate) release: bool,
    /// Sweep.
    pub(crate) converged: bool,
}

impl WarmStart {
    pub(crate) fn new(preserved: &[AfiSafi]) -> Self {
        let pending = (!preserved.is_empty()).then(|| Pending {
            started: Instant::now(),
            released: false,
            peers: BTreeMap::new(),
        });
        Self { preserved: preserved.to_vec(), pending }
    }

    /// The restart is not over.
    pub(crate) fn waiting(&self) -> bool {
        self.pending.is_some()
    }

    /// Families with the F bit: what the kernel held at the start; after convergence the kernel always holds ours.
    pub(crate) fn preserved(&self) -> &[AfiSafi] {
        &self.preserved
    }

    /// The FIB has confirmed routes: from now on the kernel holds ours whatever happens to a session. True the
    /// first time on a cold start, when the next OPENs change.
    pub(crate) fn kernel_has_routes(&mut self) -> bool {
        let first = self.pending.is_none() && self.preserved.is_empty();
        if first {
            self.preserved = BOTH.to_vec();
        }
        first
    }

    pub(crate) fn expect(&mut self, keys: impl Iterator<Item = SessionKey>) {
        if let Some(pending) = &mut self.pending {
            for key in keys {
                pending.peers.entry(key).or_insert(Owes::Session);
            }
        }
    }

    pub(crate) fn forget(&mut self, key: SessionKey) {
        if let Some(pending) = &mut self.pending {
            pending.peers.remove(&key);
        }
    }

    pub(crate) fn session_up(&mut self, key: SessionKey, negotiated: &Negotiated) {
        let Some(pending) = &mut self.pending else { return };
        let owes = match &negotiated.graceful_restart {
            Some(peer) if peer.restarting => None,
            Some(_) => Some(Owes::EndOfRib(negotiated.codec.families.iter().copied().collect())),
            None => Some(Owes::Quiet(Instant::now() + QUIET)),
        };
        match owes {
            Some(owes) => pending.peers.insert(key, owes),
            None => pending.peers.remove(&key),
        };
    }

    pub(crate) fn end_of_rib(&mut self, key: SessionKey, family: AfiSafi) {
        let Some(pending) = &mut self.pending else { return };
        if let Some(Owes::EndOfRib(families)) = pending.peers.get_mut(&key) {
            families.remove(&family);
            if families.is_empty() {
                pending.peers.remove(&key);
            }
        }
    }

    /// When [`WarmStart::progress`] must be asked again although nothing happened.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let pending = self.pending.as_ref()?;
        let bound = pending.started + if pending.released { SWEEP } else { SELECTION_DEFERRAL };
        let quiet = pending.peers.values().filter_map(|owes| match owes {
            Owes::Quiet(until) => Some(*until),
            _ => None,
        });
        quiet.chain([bound]).min()
    }

    pub(crate) fn progress(&mut self, now: Instant) -> Progress {
        let Some(pending) = &mut self.pending else { return Progress::default() };
        pending.peers.retain(|_, owes| !matches!(owes, Owes::Quiet(until) if *until <= now));
        let complete = pending.peers.is_empty();
        let release = !pending.released && (complete || now >= pending.started + SELECTION_DEFERRAL);
        pending.released |= release;
        let converged = pending.released && (complete || now >= pending.started + SWEEP);
        if converged {
            self.pending = None;
            self.preserved = BOTH.to_vec();
        }
        Progress { release, converged }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warm(keys: &[u64]) -> WarmStart {
        let mut warm = WarmStart::new(&[AfiSafi::Ipv4Unicast]);
        warm.expect(keys.iter().map(|key| SessionKey(*key)));
        warm
    }

    #[test]
    fn a_cold_start_waits_for_nothing() {
        let mut cold = WarmStart::new(&[]);
        assert!(!cold.waiting());
        assert_eq!(cold.deadline(), None);
        assert_eq!(cold.progress(Instant::now()), Progress::default());
    }

    #[test]
    fn silence_of_a_peer_delays_advertisements_ten_seconds_and_the_sweep_two_minutes() {
        let mut warm = warm(&[1]);
        let start = Instant::now();
        assert_eq!(warm.progress(start + Duration::from_secs(9)), Progress::default());
        assert_eq!(
            warm.progress(start + Duration::from_secs(11)),
            Progress { release: true, converged: false }
        );
        assert_eq!(
            warm.progress(start + Duration::from_secs(121)),
            Progress { release: false, converged: true }
        );
        assert!(!warm.waiting());
    }

    #[test]
    fn a_peer_that_left_the_configuration_is_not_waited_for() {
        let mut warm = warm(&[1]);
        warm.forget(SessionKey(1));
        assert_eq!(warm.progress(Instant::now()), Progress { release: true, converged: true });
    }
}
