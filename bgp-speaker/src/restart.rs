//! The restarting side of Graceful Restart, as far as the whole speaker is concerned (RFC 4724 section 4.1).
//!
//! After a warm start (an earlier run's routes are still in the kernel) two things wait. Advertisements wait until
//! this node's own prefixes are known and, on a router, until its peers have told it their routes and the
//! kernel has them: End-of-RIB says that everything was said. The sweep of kernel routes nobody announced
//! again waits for every peer. Both waits are bounded. For advertisements a peer that restarts too is not waited
//! for, or two routers that restart together would wait for each other. On a cold start nothing waits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::peer_channel::SessionKey;
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
    /// The first whole set of this node's own prefixes has come.
    originated: bool,
    /// Neighbours may call that nobody can name: the bounds alone end the waits.
    open_ended: bool,
    released: bool,
    /// Everybody ever expected: a later configuration does not make us wait for them again.
    known: BTreeSet<SessionKey>,
    /// What each expected peer still owes us.
    peers: BTreeMap<SessionKey, Owes>,
}

enum Owes {
    Session,
    EndOfRib { families: BTreeSet<AfiSafi>, restarting: bool },
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
            originated: false,
            open_ended: false,
            released: false,
            known: BTreeSet::new(),
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

    /// Who is configured; `open_ended` when listen ranges are.
    pub(crate) fn expect(&mut self, keys: impl Iterator<Item = SessionKey>, open_ended: bool) {
        if let Some(pending) = &mut self.pending {
            pending.open_ended = open_ended;
            for key in keys {
                if pending.known.insert(key) {
                    pending.peers.insert(key, Owes::Session);
                }
            }
        }
    }

    pub(crate) fn originated(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.originated = true;
        }
    }

    pub(crate) fn forget(&mut self, key: SessionKey) {
        if let Some(pending) = &mut self.pending {
            pending.peers.remove(&key);
        }
    }

    pub(crate) fn session_up(&mut self, key: SessionKey, negotiated: &Negotiated) {
        let Some(pending) = &mut self.pending else { return };
        pending.known.insert(key);
        let owes = match &negotiated.graceful_restart {
            Some(peer) => Owes::EndOfRib {
                families: negotiated.codec.families.iter().copied().collect(),
                restarting: peer.restarting,
            },
            None => Owes::Quiet(Instant::now() + QUIET),
        };
        pending.peers.insert(key, owes);
    }

    pub(crate) fn session_down(&mut self, key: SessionKey) {
        if let Some(owes) = self.pending.as_mut().and_then(|pending| pending.peers.get_mut(&key)) {
            *owes = Owes::Session;
        }
    }

    /// The peer is still telling.
    pub(crate) fn updates(&mut self, key: SessionKey) {
        if let Some(Owes::Quiet(until)) =
            self.pending.as_mut().and_then(|pending| pending.peers.get_mut(&key))
        {
            *until = Instant::now() + QUIET;
        }
    }

    pub(crate) fn end_of_rib(&mut self, key: SessionKey, family: AfiSafi) {
        let Some(pending) = &mut self.pending else { return };
        if let Some(Owes::EndOfRib { families, .. }) = pending.peers.get_mut(&key) {
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

    /// `selects`: this speaker advertises what it learns; `fib_settled`: the kernel has all that was learned.
    pub(crate) fn progress(&mut self, now: Instant, selects: bool, fib_settled: bool) -> Progress {
        let Some(pending) = &mut self.pending else { return Progress::default() };
        pending.peers.retain(|_, owes| !matches!(owes, Owes::Quiet(until) if *until <= now));
        let told = pending.peers.values().all(|owes| matches!(owes, Owes::EndOfRib { restarting: true, .. }));
        let ready = pending.originated && (!selects || (told && !pending.open_ended && fib_settled));
        let release = !pending.released && (ready || now >= pending.started + SELECTION_DEFERRAL);
        pending.released |= release;
        let complete = pending.peers.is_empty() && !pending.open_ended;
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

    const KEY: SessionKey = SessionKey(1);

    fn warm() -> WarmStart {
        let mut warm = WarmStart::new(&[AfiSafi::Ipv4Unicast]);
        warm.expect([KEY].into_iter(), false);
        warm
    }

    fn owes(warm: &mut WarmStart, owes: Owes) {
        warm.pending.as_mut().unwrap().peers.insert(KEY, owes);
    }

    fn both() -> BTreeSet<AfiSafi> {
        BOTH.into_iter().collect()
    }

    #[test]
    fn a_cold_start_waits_for_nothing() {
        let mut cold = WarmStart::new(&[]);
        assert!(!cold.waiting());
        assert_eq!(cold.deadline(), None);
        assert_eq!(cold.progress(Instant::now(), true, true), Progress::default());
    }

    #[test]
    fn silence_of_a_peer_delays_advertisements_ten_seconds_and_the_sweep_two_minutes() {
        let mut warm = warm();
        warm.originated();
        let start = Instant::now();
        let at =
            |warm: &mut WarmStart, seconds| warm.progress(start + Duration::from_secs(seconds), true, true);
        assert_eq!(at(&mut warm, 9), Progress::default());
        assert_eq!(at(&mut warm, 11), Progress { release: true, converged: false });
        assert_eq!(at(&mut warm, 121), Progress { release: false, converged: true });
        assert!(!warm.waiting());
    }

    #[test]
    fn a_node_that_only_originates_waits_for_its_own_prefixes_and_for_nobody_else() {
        let mut warm = warm();
        assert_eq!(warm.progress(Instant::now(), false, true), Progress::default());
        warm.originated();
        assert_eq!(warm.progress(Instant::now(), false, true), Progress { release: true, converged: false });
    }

    #[test]
    fn a_router_advertises_only_what_the_kernel_has() {
        let mut warm = warm();
        warm.originated();
        owes(&mut warm, Owes::EndOfRib { families: both(), restarting: false });
        BOTH.into_iter().for_each(|family| warm.end_of_rib(KEY, family));
        assert_eq!(warm.progress(Instant::now(), true, false), Progress::default());
        assert_eq!(warm.progress(Instant::now(), true, true), Progress { release: true, converged: true });
    }

    #[test]
    fn a_peer_that_restarts_too_delays_the_sweep_but_not_the_advertisements() {
        let mut warm = warm();
        warm.originated();
        owes(&mut warm, Owes::EndOfRib { families: both(), restarting: true });
        assert_eq!(warm.progress(Instant::now(), true, true), Progress { release: true, converged: false });
    }

    #[test]
    fn neighbours_nobody_can_name_are_given_the_whole_time() {
        let mut warm = WarmStart::new(&[AfiSafi::Ipv4Unicast]);
        warm.expect(std::iter::empty(), true);
        warm.originated();
        assert_eq!(warm.progress(Instant::now(), true, true), Progress::default());
    }

    #[test]
    fn a_peer_that_has_told_everything_is_not_expected_again_by_a_reload() {
        let mut warm = warm();
        warm.originated();
        warm.forget(KEY);
        warm.expect([KEY].into_iter(), false);
        assert_eq!(warm.progress(Instant::now(), true, true), Progress { release: true, converged: true });
    }

    #[test]
    fn a_peer_without_graceful_restart_has_told_everything_when_it_falls_silent() {
        let mut warm = warm();
        warm.originated();
        owes(&mut warm, Owes::Quiet(Instant::now()));
        warm.updates(KEY);
        assert_eq!(warm.progress(Instant::now() + QUIET / 2, true, true), Progress::default());
        let later = warm.progress(Instant::now() + QUIET * 2, true, true);
        assert_eq!(later, Progress { release: true, converged: true });
    }
}
