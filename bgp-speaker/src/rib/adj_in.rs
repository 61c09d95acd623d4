//! Adj-RIB-In: what peers announced, with the verdict of import.
//!
//! A rejected path is kept and counted like any other, so that it can be shown with its reason and comes into
//! use when the reason goes. Paths of a restarting peer stay as stale ones (RFC 4724 section 4.2); a route
//! refresh marks and sweeps in the same way (RFC 7313 section 4).

use std::sync::Arc;

use api::desired::{MaxPrefix, MaxPrefixAction};
use ipnet::IpNet;
use smallvec::SmallVec;

use super::intern::AttrId;
use super::path::{LOCAL, Path, Verdict};
use super::peer::{FamilySet, PeerState, slot};
use super::{LimitEvent, LimitKind, Output, PeerId, PrefixId, Rib};
use crate::wire::{AfiSafi, Nexthop, Nlri, PathAttributes, Update};

impl Rib {
    /// Takes what a peer announced and withdrew. Ignored for a peer that is not up.
    pub fn apply(&mut self, peer: PeerId, update: Update, output: &mut Output) {
        if !self.peer(peer).is_some_and(|state| state.up) {
            return;
        }
        for nlri in &update.unreach {
            // One that is named twice is gone the second time.
            for id in self.find_all(nlri).into_iter().flatten() {
                self.withdraw(peer, id);
            }
        }
        let Some(attributes) = update.attributes.map(Arc::new) else { return };
        for reach in &update.reach {
            self.announce(peer, &attributes, &reach.nexthop, &reach.nlri, output);
        }
    }

    fn announce(
        &mut self,
        peer: PeerId,
        attributes: &Arc<PathAttributes>,
        nexthop: &Nexthop,
        nlri: &Nlri,
        output: &mut Output,
    ) {
        let family = family_of(nlri);
        let number = self.attributes.acquire(attributes, nexthop);
        let of_path = self.path_verdict(peer, number);
        if let Some(state) = self.peer_mut(peer)
            && let Some(resolved) = state.session.as_ref().map(|session| session.resolve(nexthop))
        {
            state.saw_nexthop(resolved, family);
        }
        let alone = self.alone(Path::new(number, peer.0, of_path));
        let mut found = self.find_all(nlri).into_iter();
        each_prefix(nlri, |prefix| {
            // Not found: perhaps since, if it is named twice.
            let known = found.next().flatten().or_else(|| self.table.find(&prefix));
            let held = known.is_some_and(|id| self.table.path(id, peer.0).is_some());
            if !held && !self.count_one_more(peer, family, output) {
                return;
            }
            let id = known.unwrap_or_else(|| self.table.insert(&prefix));
            let before = self.best(id);
            let verdict = self.verdict(of_path, &prefix);
            self.attributes.add(number);
            if let Some(old) = self.table.set_path(id, Path::new(number, peer.0, verdict)) {
                self.attributes.release(old.attributes);
            }
            if verdict == of_path && self.table.entry(id).has_one_path() {
                self.select_alone(id, before, alone);
            } else {
                self.reselect(id, before, false);
            }
        });
        self.release_alone(alone);
        self.attributes.release(number);
    }

    /// Looks all prefixes of an UPDATE up before the first is changed: the processor then waits for many of them at a
    /// time, not for one after the other.
    fn find_all(&self, nlri: &Nlri) -> SmallVec<[Option<PrefixId>; 16]> {
        let mut found = SmallVec::new();
        each_prefix(nlri, |prefix| found.push(self.table.find(&prefix)));
        found
    }

    /// Counts a new prefix of a peer; false when the limit keeps it out.
    fn count_one_more(&mut self, peer: PeerId, family: AfiSafi, output: &mut Output) -> bool {
        let Some(state) = self.peer_mut(peer) else { return false };
        let limit = max_prefix(state, family);
        let count = &mut state.received[slot(family)];
        let Some(MaxPrefix { limit, warn_at, action }) = limit else {
            *count += 1;
            return true;
        };
        let mut tell = |kind| output.limits.push(LimitEvent { peer, family, limit, kind });
        if *count >= limit {
            // Told when the limit is passed, not for each prefix above it.
            if !state.exceeded[slot(family)] {
                tell(LimitKind::Exceeded(action));
                state.exceeded[slot(family)] = true;
            }
            if action != MaxPrefixAction::Warn {
                return false;
            }
        }
        *count += 1;
        if !state.warned[slot(family)] && near(*count, limit, warn_at) {
            tell(LimitKind::Near);
            state.warned[slot(family)] = true;
        }
        true
    }

    fn count_one_less(&mut self, peer: u16, family: AfiSafi) {
        let Some(state) = self.peer_mut(PeerId(peer)) else { return };
        let limit = max_prefix(state, family);
        let count = &mut state.received[slot(family)];
        *count = count.saturating_sub(1);
        if let Some(MaxPrefix { limit, warn_at, .. }) = limit {
            state.exceeded[slot(family)] &= *count >= limit;
            state.warned[slot(family)] &= near(*count, limit, warn_at);
        }
    }

    fn withdraw(&mut self, peer: PeerId, id: PrefixId) {
        if self.table.get(id).is_some() {
            self.remove_path(id, peer.0);
        }
    }

    /// Removes a peer's path, if it has one.
    pub(crate) fn remove_path(&mut self, id: PrefixId, peer: u16) {
        let before = self.best(id);
        let Some(path) = self.table.remove_path(id, peer) else { return };
        let family = self.table.entry(id).family();
        self.count_one_less(peer, family);
        self.reselect(id, before, false);
        self.attributes.release(path.attributes);
    }

    /// The part of the verdict that is the same for all prefixes of a path.
    fn path_verdict(&self, peer: PeerId, number: AttrId) -> Verdict {
        let Some((state, session)) = self.peer(peer).and_then(|state| Some((state, state.session.as_ref()?)))
        else {
            return Verdict::Filtered;
        };
        let path = self.attributes.attributes(number).as_path();
        let nexthop = self.attributes.nexthop(number);
        let own = |asn| path.contains_count(asn) > usize::from(state.settings.allow_local_as);
        let first = self.attributes.attributes(number).summary().neighbor_as;
        if own(session.local_asn) || own(self.config.local_asn) {
            Verdict::OwnAs
        } else if session.ebgp && state.settings.enforce_first_as && first != session.remote_asn {
            Verdict::FirstAs
        } else if session.is_own(nexthop.address)
            || nexthop.link_local.is_some_and(|own| session.is_own(own.into()))
        {
            Verdict::OwnNexthop
        } else {
            Verdict::Accepted
        }
    }

    fn verdict(&self, of_path: Verdict, prefix: &IpNet) -> Verdict {
        match of_path {
            Verdict::Accepted => self.filter.verdict(prefix, |prefix| self.originated.covers(prefix)),
            rejected => rejected,
        }
    }

    /// Judges received paths again, all or one peer's, after what the verdict depends on changed.
    pub(crate) fn reimport(&mut self, peer: Option<PeerId>) {
        for id in (0..self.table.end()).map(PrefixId) {
            if self.table.get(id).is_none() {
                continue;
            }
            let prefix = self.table.prefix(id);
            let of_interest = |path: &Path| path.peer != LOCAL && peer.is_none_or(|peer| path.peer == peer.0);
            let paths: SmallVec<[Path; 4]> = self.table.paths(id).filter(of_interest).collect();
            for path in paths {
                let verdict = self.verdict(self.path_verdict(PeerId(path.peer), path.attributes), &prefix);
                if verdict != path.verdict() {
                    let before = self.best(id);
                    self.table.set_path(id, path.with_verdict(verdict));
                    self.reselect(id, before, false);
                }
            }
        }
    }

    /// Changes what every peer's import looks at.
    pub fn set_import(&mut self, transit: bool, pod_ranges: Vec<IpNet>) {
        let before =
            (self.config.transit, std::mem::replace(&mut self.config.pod_ranges, pod_ranges.clone()));
        if before == (transit, pod_ranges.clone()) {
            return;
        }
        self.config.transit = transit;
        self.filter = crate::filter::ImportFilter { transit, pod_ranges };
        self.reimport(None);
        if before.0 != transit {
            for id in (0..self.table.end()).map(PrefixId) {
                let waits = |entry: &super::table::Entry| entry.is(super::table::Entry::UNCONFIRMED);
                if self.table.get(id).is_some_and(|entry| !waits(entry)) {
                    self.mark(id);
                }
            }
        }
    }

    /// Another AS number or BGP Identifier of this node: loops are looked for anew.
    pub fn set_identity(&mut self, local_asn: u32, router_id: std::net::Ipv4Addr) {
        if (self.config.local_asn, self.config.router_id) != (local_asn, router_id) {
            self.config.local_asn = local_asn;
            self.config.router_id = router_id;
            self.reimport(None);
        }
    }

    /// Paths of this family that the peer did not announce again since it went down are removed.
    pub fn sweep_stale(&mut self, peer: PeerId, family: AfiSafi) {
        if self.peer(peer).is_some_and(|state| state.stale.contains(family)) {
            self.remove_paths(peer, family, Path::stale);
            self.with_peer(peer, |state| state.stale.remove(family));
        }
    }

    /// Beginning of Route Refresh: what is not announced again until the end will go.
    pub fn refresh_begin(&mut self, peer: PeerId, family: AfiSafi) {
        if self.peer(peer).is_some_and(|state| state.up) {
            self.change_paths(peer, family, Path::with_unrefreshed);
            self.with_peer(peer, |state| state.refreshing.insert(family));
        }
    }

    /// End of Route Refresh. One without a beginning is ignored.
    pub fn refresh_end(&mut self, peer: PeerId, family: AfiSafi) {
        if self.peer(peer).is_some_and(|state| state.refreshing.contains(family)) {
            self.remove_paths(peer, family, Path::unrefreshed);
            self.with_peer(peer, |state| state.refreshing.remove(family));
        }
    }

    /// The session is down: its paths go, but for those of `retain`, which become stale. Paths that were stale
    /// already stay: RFC 4724 section 4.2 would delete them, but a peer in a crash loop forwards all the while, and
    /// the session bounds how long all of this may last.
    ///
    /// The next hops that went with it come first in [`Rib::next_event`], so that the FIB can take them out of
    /// its groups before it is told of a single prefix.
    pub fn peer_down(&mut self, peer: PeerId, retain: &[AfiSafi]) {
        self.peer_lost(peer, retain);
        self.peer_left(peer, retain);
    }

    /// The first half of [`Rib::peer_down`]: only what the FIB must hear at once, whatever the number of routes.
    pub fn peer_lost(&mut self, peer: PeerId, retain: &[AfiSafi]) {
        if self.peer(peer).is_some_and(|state| state.up) {
            self.nexthops_down(peer, retain.iter().collect());
        }
    }

    /// The second half: the walk over all prefixes (20 ms for 100,000).
    pub fn peer_left(&mut self, peer: PeerId, retain: &[AfiSafi]) {
        let retain: FamilySet = retain.iter().collect();
        if !self.peer(peer).is_some_and(|state| state.up) {
            return;
        }
        self.leave(peer);
        for family in [AfiSafi::Ipv4Unicast, AfiSafi::Ipv6Unicast] {
            if retain.contains(family) {
                self.change_paths(peer, family, Path::with_stale);
            } else {
                self.remove_paths(peer, family, |_| true);
            }
        }
        self.with_peer(peer, |state| {
            state.up = false;
            state.refreshing = FamilySet::default();
            state.stale = retain;
            state.nexthops.retain(|seen| seen.1.intersects(retain));
        });
        if self.config.fib {
            self.fib.settle_at = Some(self.fib.tail());
        }
    }

    /// Next hops only this peer's routes used.
    fn nexthops_down(&mut self, peer: PeerId, retain: FamilySet) {
        let Some(state) = self.peer(peer).filter(|_| self.config.fib) else { return };
        let others = || self.peers.iter().enumerate().filter(|(at, _)| *at != usize::from(peer.0));
        let used_elsewhere = |nexthop| {
            let mut states = others().filter_map(|(_, state)| state.as_ref());
            states.any(|state| state.nexthops.iter().any(|seen| seen.0 == nexthop))
        };
        let gone = state.nexthops.iter().filter(|seen| !seen.1.intersects(retain)).map(|seen| seen.0);
        let gone: Vec<_> = gone.filter(|nexthop| !used_elsewhere(*nexthop)).collect();
        self.fib.down.extend(gone);
    }

    fn remove_paths(&mut self, peer: PeerId, family: AfiSafi, which: impl Fn(Path) -> bool) {
        for id in (0..self.table.end()).map(PrefixId) {
            if self.peer(peer).is_none_or(|state| state.received[slot(family)] == 0) {
                return;
            }
            let of_family = self.table.get(id).is_some_and(|entry| entry.family() == family);
            if of_family && self.table.path(id, peer.0).is_some_and(&which) {
                self.remove_path(id, peer.0);
            }
        }
    }

    fn change_paths(&mut self, peer: PeerId, family: AfiSafi, change: impl Fn(Path) -> Path) {
        for id in (0..self.table.end()).map(PrefixId) {
            if self.table.get(id).is_some_and(|entry| entry.family() == family)
                && let Some(path) = self.table.path(id, peer.0)
            {
                self.table.set_path(id, change(path));
            }
        }
    }

    pub(crate) fn peer(&self, peer: PeerId) -> Option<&PeerState> {
        self.peers.get(usize::from(peer.0))?.as_ref()
    }
    pub(crate) fn peer_mut(&mut self, peer: PeerId) -> Option<&mut PeerState> {
        self.peers.get_mut(usize::from(peer.0))?.as_mut()
    }
    pub(crate) fn with_peer(&mut self, peer: PeerId, change: impl FnOnce(&mut PeerState)) {
        if let Some(state) = self.peer_mut(peer) {
            change(state);
        }
    }
}

fn max_prefix(state: &PeerState, family: AfiSafi) -> Option<MaxPrefix> {
    state.settings.families.iter().find(|entry| entry.afi_safi == family).map(|entry| entry.max_prefix)
}

fn near(count: u32, limit: u32, warn_at: u8) -> bool {
    u64::from(count) * 100 >= u64::from(limit) * u64::from(warn_at)
}

fn family_of(nlri: &Nlri) -> AfiSafi {
    match nlri {
        Nlri::V4(_) => AfiSafi::Ipv4Unicast,
        Nlri::V6(_) => AfiSafi::Ipv6Unicast,
    }
}

fn each_prefix(nlri: &Nlri, mut act: impl FnMut(IpNet)) {
    match nlri {
        Nlri::V4(prefixes) => prefixes.iter().for_each(|prefix| act(IpNet::V4(*prefix))),
        Nlri::V6(prefixes) => prefixes.iter().for_each(|prefix| act(IpNet::V6(*prefix))),
    }
}
