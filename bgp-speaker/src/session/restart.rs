//! Graceful Restart, the helper's side (RFC 4724 section 4.2): which families are stale and until when.
//!
//! The restarting side is only bits in our OPEN (`capabilities.rs`); deferring route selection is the router's.
//!
//! RFC 4724 deletes what is still stale when the peer goes away a second time. A speaker that crashes in a
//! loop would then take its traffic down although its kernel forwards on, so here such paths stay, and the
//! Restart Timer starts anew; the whole series may last no longer than `stale_path_time` from the first loss.

use std::time::Instant;

use api::desired::GracefulRestart;

use super::PeerRestart;
use super::deadlines::{after, due};
use crate::wire::AfiSafi;

/// The stale paths of one peer, as far as the session keeps account of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Stale {
    families: Vec<AfiSafi>,
    /// First loss of the series that has not ended with End-of-RIB yet.
    since: Option<Instant>,
    /// Restart Timer while the session is down, bound of `stale_path_time` once it is back.
    pub(super) deadline: Option<Instant>,
}

impl Stale {
    /// The connection of an Established session closed without NOTIFICATION. Returns the families to retain.
    pub(super) fn lost(
        &mut self,
        now: Instant,
        peer: Option<&PeerRestart>,
        config: &GracefulRestart,
    ) -> Vec<AfiSafi> {
        let Some(peer) = peer else {
            self.forget();
            return Vec::new();
        };
        let since = *self.since.get_or_insert(now);
        let bound = after(since, config.stale_path_time.max(peer.restart_time));
        let deadline = after(now, peer.restart_time).min(bound);
        if deadline <= now || peer.families.is_empty() {
            self.forget();
            return Vec::new();
        }
        self.families = peer.families.iter().map(|(family, _)| *family).collect();
        self.deadline = Some(deadline);
        self.families.clone()
    }

    /// The session is Established again. Returns the families to sweep at once: those the peer no longer
    /// lists or for which it lost its forwarding state.
    pub(super) fn back(
        &mut self,
        now: Instant,
        peer: Option<&PeerRestart>,
        config: &GracefulRestart,
    ) -> Vec<AfiSafi> {
        let preserved = |family: &AfiSafi| peer.is_some_and(|p| p.families.contains(&(*family, true)));
        let (kept, gone) = std::mem::take(&mut self.families).into_iter().partition(preserved);
        self.families = kept;
        self.deadline = Some(after(now, config.stale_path_time));
        self.settle();
        gone
    }

    /// End-of-RIB. True when paths of this family were stale: they are to be swept.
    pub(super) fn end_of_rib(&mut self, family: AfiSafi) -> bool {
        let before = self.families.len();
        self.families.retain(|stale| *stale != family);
        let swept = self.families.len() < before;
        self.settle();
        swept
    }

    /// The families to sweep if the time is over.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<AfiSafi> {
        if due(self.deadline, now) { self.abandon() } else { Vec::new() }
    }

    /// The families to sweep now that the peer is not waited for any more.
    pub(super) fn abandon(&mut self) -> Vec<AfiSafi> {
        let families = std::mem::take(&mut self.families);
        self.forget();
        families
    }

    /// All paths of the peer are gone anyway.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    fn settle(&mut self) {
        if self.families.is_empty() {
            self.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::desired::RestartMode;
    use std::time::Duration;

    const V4: AfiSafi = AfiSafi::Ipv4Unicast;
    const V6: AfiSafi = AfiSafi::Ipv6Unicast;

    fn config(stale: u64) -> GracefulRestart {
        GracefulRestart {
            mode: RestartMode::Helper,
            restart_time: Duration::from_secs(120),
            stale_path_time: Duration::from_secs(stale),
        }
    }

    fn peer(restart_time: u64, families: &[(AfiSafi, bool)]) -> PeerRestart {
        PeerRestart {
            restarting: false,
            restart_time: Duration::from_secs(restart_time),
            families: families.to_vec(),
            helps_us: false,
        }
    }

    #[test]
    fn families_not_preserved_or_not_listed_are_swept_at_once() {
        let now = Instant::now();
        for (listed, gone) in [
            (vec![(V4, true), (V6, true)], vec![]),
            (vec![(V4, true), (V6, false)], vec![V6]),
            (vec![(V6, true)], vec![V4]),
            (vec![], vec![V4, V6]),
        ] {
            let mut stale = Stale::default();
            stale.lost(now, Some(&peer(120, &[(V4, true), (V6, true)])), &config(360));
            assert_eq!(stale.back(now, Some(&peer(120, &listed)), &config(360)), gone, "{listed:?}");
            assert_eq!(stale.deadline.is_some(), gone.len() < 2);
        }
        let mut stale = Stale::default();
        stale.lost(now, Some(&peer(120, &[(V4, true)])), &config(360));
        assert_eq!(stale.back(now, None, &config(360)), [V4], "the peer came back without the capability");
    }

    #[test]
    fn a_crash_loop_keeps_paths_but_not_longer_than_the_stale_path_time() {
        let start = Instant::now();
        let restarts = peer(120, &[(V4, true)]);
        let mut stale = Stale::default();
        for second in [0, 60, 120, 180, 240, 300] {
            let now = start + Duration::from_secs(second);
            assert_eq!(stale.lost(now, Some(&restarts), &config(360)), [V4], "at {second} s");
            stale.back(now + Duration::from_secs(5), Some(&restarts), &config(360));
        }
        let late = start + Duration::from_secs(350);
        assert_eq!(stale.lost(late, Some(&restarts), &config(360)), [V4]);
        assert_eq!(stale.deadline, Some(start + Duration::from_secs(360)));
        assert_eq!(stale.expire(start + Duration::from_secs(360)), [V4]);
        assert_eq!(stale.deadline, None);
    }

    #[test]
    fn end_of_rib_ends_the_series() {
        let start = Instant::now();
        let restarts = peer(120, &[(V4, true)]);
        let mut stale = Stale::default();
        stale.lost(start, Some(&restarts), &config(360));
        stale.back(start, Some(&restarts), &config(360));
        assert!(stale.end_of_rib(V4));
        assert!(!stale.end_of_rib(V4), "nothing is stale any more");
        let later = start + Duration::from_secs(1000);
        assert_eq!(stale.lost(later, Some(&restarts), &config(360)), [V4]);
        assert_eq!(stale.deadline, Some(later + Duration::from_secs(120)));
    }

    #[test]
    fn a_restart_time_of_zero_keeps_nothing() {
        let mut stale = Stale::default();
        assert_eq!(stale.lost(Instant::now(), Some(&peer(0, &[(V4, true)])), &config(0)), []);
        assert_eq!(stale.deadline, None);
    }
}
