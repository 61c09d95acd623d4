//! Peers come and go: their numbers, settings, sessions, and the update group each belongs to.

use std::collections::VecDeque;

use ipnet::IpNet;

use super::adj_out::{Member, UpdateGroup, Walk, WalkEnd};
use super::export::{Exporter, GroupKey, PeerExport, peer_export};
use super::path::{LOCAL, NOBODY};
use super::peer::{FamilySet, PeerSession, PeerSettings, PeerState};
use super::table::Entry;
use super::{PeerId, PrefixId, Rib};
use crate::wire::AfiSafi;

/// What a change of settings did to a peer's routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettingsEffect {
    /// Its received paths were judged again.
    pub reimported: bool,
    /// It will be told everything again, by other rules.
    pub reexported: bool,
}

impl Rib {
    /// A peer, down at first. `None` when there are 65,533 already.
    pub fn add_peer(&mut self, settings: PeerSettings) -> Option<PeerId> {
        let vacant = self.peers.iter().position(Option::is_none);
        let at = vacant.unwrap_or(self.peers.len());
        let number = u16::try_from(at).ok().filter(|number| *number < LOCAL)?;
        if vacant.is_none() {
            self.peers.push(None);
        }
        self.peers[at] = Some(PeerState::new(settings));
        Some(PeerId(number))
    }

    /// Changes a peer's settings, but for its name, which is its identity; only what depends on a changed field is done again.
    pub fn update_peer(&mut self, peer: PeerId, settings: PeerSettings) -> SettingsEffect {
        let Some(state) = self.peer_mut(peer) else { return SettingsEffect::default() };
        let old = std::mem::replace(&mut state.settings, settings);
        let new = &state.settings;
        let reimported =
            (old.allow_local_as, old.enforce_first_as) != (new.allow_local_as, new.enforce_first_as);
        let reexported = state.up && old.next_hop != new.next_hop;
        if reimported {
            self.reimport(Some(peer));
        }
        if reexported {
            self.regroup(peer);
        }
        SettingsEffect { reimported, reexported }
    }

    /// Forgets a peer and every path of it.
    pub fn remove_peer(&mut self, peer: PeerId) {
        self.peer_down(peer, &[]);
        for family in [AfiSafi::Ipv4Unicast, AfiSafi::Ipv6Unicast] {
            self.sweep_stale(peer, family);
        }
        if let Some(place) = self.peers.get_mut(usize::from(peer.0)) {
            *place = None;
        }
    }

    /// The session is Established: the peer will be told everything, then End-of-RIB for each family. Stale paths
    /// of its last session stay until [`Rib::sweep_stale`].
    pub fn peer_up(&mut self, peer: PeerId, session: PeerSession) {
        self.peer_down(peer, &[]);
        let families: FamilySet = session.families.iter().collect();
        let Some(state) = self.peer_mut(peer) else { return };
        state.up = true;
        let stale = state.stale;
        if state.session.replace(session).is_some() && !stale.is_empty() {
            // Stale paths now resolve and compare as paths of the new session.
            self.reimport(Some(peer));
            self.reselect_peer(peer);
        }
        let walk = Walk { families, end: WalkEnd::EndOfRib, fresh: true, ..Walk::default() };
        self.join(peer, walk);
    }

    fn reselect_peer(&mut self, peer: PeerId) {
        for id in (0..self.table.end()).map(PrefixId) {
            if self.table.get(id).is_some() && self.table.path(id, peer.0).is_some() {
                self.reselect(id, self.best(id), true);
            }
        }
    }

    /// The peer asks for everything of a family again (RFC 2918), bracketed where RFC 7313 was negotiated.
    pub fn refresh_request(&mut self, peer: PeerId, family: AfiSafi) {
        let Some(state) = self.peer(peer) else { return };
        let (Some(group), Some(session)) = (state.group, &state.session) else { return };
        let end = if session.enhanced_refresh { WalkEnd::Refresh } else { WalkEnd::Silent };
        let families = FamilySet::from_iter([&family]);
        let until = self.table.end();
        let group = self.groups.get_mut(group).and_then(Option::as_mut);
        if let Some(member) = group.and_then(|group| group.member(peer.0)) {
            // One that has not begun answers this request as well.
            let waiting = |walk: &Walk| walk.end == end && walk.families == families && !walk.begun();
            if !member.walks.iter().any(waiting) {
                member.walks.push_back(Walk { families, until, end, ..Walk::default() });
            }
        }
    }

    /// How messages to this peer are written; `None` while it is down.
    pub fn peer_export(&self, peer: PeerId) -> Option<PeerExport> {
        self.peer(peer).filter(|state| state.up)?.session.as_ref().map(peer_export)
    }

    /// Puts a peer that is up into the group of its like, with a walk of the table to begin with.
    fn join(&mut self, peer: PeerId, walk: Walk) {
        let Some(state) = self.peer(peer) else { return };
        let Some(key) = state.session.as_ref().map(|session| GroupKey::new(state, session)) else { return };
        let existing =
            self.groups.iter().position(|group| group.as_ref().is_some_and(|group| group.key == key));
        let at = match existing {
            Some(at) => at,
            None => self.new_group(key),
        };
        let until = self.table.end();
        if let Some(group) = self.groups.get_mut(at).and_then(Option::as_mut) {
            let log = group.log_end();
            group.members.push(Member { peer: peer.0, log, walks: VecDeque::from([Walk { until, ..walk }]) });
            self.with_peer(peer, |state| state.group = Some(at));
        }
    }

    fn new_group(&mut self, key: GroupKey) -> usize {
        let mut group = UpdateGroup::new(key);
        let exporter =
            Exporter { attributes: &self.attributes, peers: &self.peers, transit: self.config.transit };
        for id in (0..self.table.end()).map(PrefixId) {
            let Some(entry) = self.table.get(id).filter(|entry| !entry.is(Entry::UNCONFIRMED)) else {
                continue;
            };
            let told =
                entry.best().filter(|best| exporter.announce(&group.key, entry.family(), *best).is_some());
            group.preset(id, told.map_or(NOBODY, |best| best.peer));
        }
        match self.groups.iter().position(Option::is_none) {
            Some(at) => {
                self.groups[at] = Some(group);
                at
            }
            None => {
                self.groups.push(Some(group));
                self.groups.len() - 1
            }
        }
    }

    /// Takes a peer out of its group; a group without peers goes, and with it what its log kept alive.
    pub(crate) fn leave(&mut self, peer: PeerId) {
        let Some(at) = self.peer_mut(peer).and_then(|state| state.group.take()) else { return };
        let Some(group) = self.groups.get_mut(at).and_then(Option::as_mut) else { return };
        group.members.retain(|member| member.peer != peer.0);
        let gone = group.compact();
        group.forget_batches();
        if group.members.is_empty() {
            self.groups[at] = None;
        }
        gone.into_iter().for_each(|id| self.free_if_gone(id));
    }

    /// Moves a peer to another group: it is told everything by the new rules, and what only the old ones told it
    /// is withdrawn.
    fn regroup(&mut self, peer: PeerId) {
        let Some(old) = self.peer(peer).and_then(|state| state.group) else { return };
        let Some(group) = self.groups.get_mut(old).and_then(Option::as_mut) else { return };
        let mut walk = Walk { families: group.key.families(), ..Walk::default() };
        let initial = |walk: &Walk| walk.end == WalkEnd::EndOfRib;
        if group.member(peer.0).is_some_and(|member| member.walks.iter().any(initial)) {
            walk.end = WalkEnd::EndOfRib;
        }
        if let Some(member) = group.member(peer.0) {
            walk.owed.extend(member.walks.drain(..).flat_map(|walk| walk.owed));
        }
        let told: Vec<PrefixId> = (0..self.table.end())
            .map(PrefixId)
            .filter(|id| ![NOBODY, peer.0].contains(&group.held_by_anyone(*id)))
            .collect();
        let owed: Vec<_> = told.iter().map(|id| (*id, self.table.prefix(*id))).collect();
        self.leave(peer);
        self.join(peer, walk);
        let Some(at) = self.peer(peer).and_then(|state| state.group) else { return };
        let Some(group) = self.groups.get(at).and_then(Option::as_ref) else { return };
        let still_told = |id: PrefixId, prefix: &IpNet| {
            self.table.get(id).is_some() && self.told(group, peer, id, prefix).is_some()
        };
        let owed: Vec<_> = owed
            .into_iter()
            .filter(|(id, prefix)| !still_told(*id, prefix))
            .map(|(_, prefix)| prefix)
            .collect();
        let Some(group) = self.groups.get_mut(at).and_then(Option::as_mut) else { return };
        if let Some(walk) = group.member(peer.0).and_then(|member| member.walks.front_mut()) {
            walk.owed.extend(owed);
        }
    }
}
