//! What a peer is told next: walks of the table, then the log of its update group, in batches.
//!
//! A batch is made once and handed to every peer of the group that comes by the same place, as the same `Arc`, so
//! that its octets can be made once too. With 64 peers that exchange 64,000 routes the daemon
//! works a third of the time.

use std::net::IpAddr;
use std::sync::Arc;

use super::adj_out::{CachedBatch, Member, Place, UpdateGroup, Walk, WalkEnd};
use super::batch::{BatchBuilder, OutboundBatch};
use super::export::{Announcement, Exporter, OutboundNexthop, OutboundUpdate};
use super::originate::Origination;
use super::path::{LOCAL, NOBODY, Path};
use super::table::Entry;
use super::{PeerId, PrefixId, Rib};
use crate::wire::AfiSafi;
use ipnet::IpNet;

/// What comes next for one peer.
enum Step {
    Say(Vec<OutboundUpdate>),
    Batch(Place, u64),
    Nothing,
}

impl Walk {
    /// Something of it has been told.
    pub(crate) fn begun(&self) -> bool {
        self.begin_marked || self.next > 0
    }
}

impl Member {
    fn step(&mut self, log_end: u64) -> Step {
        while let Some(walk) = self.walks.front_mut() {
            if !walk.owed.is_empty() {
                return Step::Say(withdrawals(std::mem::take(&mut walk.owed)));
            }
            if walk.end == WalkEnd::Refresh && !walk.begin_marked {
                walk.begin_marked = true;
                return Step::Say(marks(walk, true));
            }
            if walk.next < walk.until {
                return Step::Batch(Place::Walk(walk.next, walk.families), walk.until.into());
            }
            let said = match walk.end {
                WalkEnd::Silent => Vec::new(),
                WalkEnd::EndOfRib => walk.families.iter().map(OutboundUpdate::EndOfRib).collect(),
                WalkEnd::Refresh => marks(walk, false),
            };
            self.walks.pop_front();
            if !said.is_empty() {
                return Step::Say(said);
            }
        }
        if self.log < log_end { Step::Batch(Place::Log(self.log), log_end) } else { Step::Nothing }
    }

    fn advance(&mut self, to: Place) {
        match to {
            Place::Log(number) => self.log = number,
            Place::Walk(next, _) => {
                if let Some(walk) = self.walks.front_mut() {
                    walk.next = next;
                }
            }
        }
    }
}

fn marks(walk: &Walk, begin: bool) -> Vec<OutboundUpdate> {
    walk.families.iter().map(|family| OutboundUpdate::RefreshMark { family, begin }).collect()
}

fn withdrawals(prefixes: Vec<IpNet>) -> Vec<OutboundUpdate> {
    let (v4, v6): (Vec<_>, Vec<_>) = prefixes.into_iter().partition(|prefix| prefix.addr().is_ipv4());
    [(AfiSafi::Ipv4Unicast, v4), (AfiSafi::Ipv6Unicast, v6)]
        .into_iter()
        .filter(|(_, prefixes)| !prefixes.is_empty())
        .map(|(family, prefixes)| OutboundUpdate::Unreach { family, prefixes })
        .collect()
}

impl Rib {
    /// What `peer` is to be told next, or `None` when it has been told everything: of the batch,
    /// [`OutboundBatch::for_peer`]. `budget` is the number of prefixes looked at for one batch; use the same for all
    /// peers, so that they share batches. The peer counts as told once this returns.
    pub fn next_updates(&mut self, peer: PeerId, budget: usize) -> Option<Arc<OutboundBatch>> {
        if self.held {
            return None;
        }
        let at = self.peer(peer)?.group?;
        loop {
            let group = self.groups.get_mut(at)?.as_mut()?;
            let log_end = group.log_end();
            let member = group.member(peer.0)?;
            let (from, end) = match member.step(log_end) {
                Step::Say(updates) => {
                    group.forget_batches();
                    return Some(Arc::new(OutboundBatch::for_all(updates)));
                }
                Step::Batch(from, end) => (from, end),
                Step::Nothing => {
                    group.forget_batches();
                    return None;
                }
            };
            let cached = group.cached(from, peer.0).map(|batch| (batch.to, Arc::clone(&batch.updates)));
            let (to, updates) = match cached {
                Some(batch) => batch,
                None => self.make_batch(at, peer, from, end, budget.max(1))?,
            };
            let group = self.groups.get_mut(at)?.as_mut()?;
            group.member(peer.0)?.advance(to);
            let gone = group.compact();
            group.forget_batches();
            gone.into_iter().for_each(|id| self.free_if_gone(id));
            if updates.for_peer(peer).next().is_some() {
                return Some(updates);
            }
        }
    }

    fn make_batch(
        &mut self,
        at: usize,
        peer: PeerId,
        from: Place,
        end: u64,
        budget: usize,
    ) -> Option<(Place, Arc<OutboundBatch>)> {
        let group = self.groups.get(at)?.as_ref()?;
        let mut batch = BatchBuilder::default();
        let budget = u32::try_from(budget).unwrap_or(u32::MAX);
        let to = match from {
            Place::Log(first) => {
                let to = first.saturating_add(budget.into()).min(end);
                for (id, before) in (first..to).filter_map(|number| group.read(number)) {
                    self.tell(group, peer, id, before, &mut batch);
                }
                Place::Log(to)
            }
            Place::Walk(first, families) => {
                let to = first.saturating_add(budget).min(u32::try_from(end).unwrap_or(u32::MAX));
                for id in (first..to).map(PrefixId) {
                    if self.table.get(id).is_some_and(|entry| families.contains(entry.family())) {
                        self.tell(group, peer, id, NOBODY, &mut batch);
                    }
                }
                Place::Walk(to, families)
            }
        };
        for member in &group.members {
            if self.remote_address(member.peer).is_some_and(|address| batch.given.contains(&address)) {
                batch.involved.add(member.peer);
            }
        }
        let (updates, involved) = batch.finish(&self.attributes);
        let updates = Arc::new(updates);
        if !involved.contains(peer.0) {
            let made = CachedBatch { from, to, updates: Arc::clone(&updates), involved };
            self.groups.get_mut(at)?.as_mut()?.keep(made);
        }
        Some((to, updates))
    }

    /// Adds one prefix to a batch as `peer` and those not involved in it are to see it; `before`: from whom came what they
    /// may hold.
    fn tell(&self, group: &UpdateGroup, peer: PeerId, id: PrefixId, before: u16, batch: &mut BatchBuilder) {
        let prefix = self.table.prefix(id);
        let Some((best, announcement, origination)) = self.announced(group, id, &prefix) else {
            return batch.withdraw(before, prefix);
        };
        if origination.is_some_and(|origination| origination.peers.is_some()) {
            batch.involved.add_everybody();
        }
        if let OutboundNexthop::Given(nexthop) = announcement.nexthop
            && !batch.given.contains(&nexthop.address)
        {
            batch.given.push(nexthop.address);
        }
        let prepend = origination.map_or(0, |origination| origination.attributes.prepend);
        match self.for_peer(group, peer, announcement, origination) {
            Some(announcement) => batch.announce(announcement, prepend, best.peer, before, prefix),
            None => batch.withdraw(before, prefix),
        }
    }

    /// How a prefix is announced to a peer, if it is, with further prepends.
    pub(crate) fn told(
        &self,
        group: &UpdateGroup,
        peer: PeerId,
        id: PrefixId,
        prefix: &IpNet,
    ) -> Option<(Announcement, u8)> {
        let (best, announcement, origination) = self.announced(group, id, prefix)?;
        if best.peer == peer.0 {
            return None; // its own route
        }
        let announcement = self.for_peer(group, peer, announcement, origination)?;
        Some((announcement, origination.map_or(0, |origination| origination.attributes.prepend)))
    }

    /// How a prefix is announced to a group, if it is.
    pub(crate) fn announced(
        &self,
        group: &UpdateGroup,
        id: PrefixId,
        prefix: &IpNet,
    ) -> Option<(Path, Announcement, Option<&Origination>)> {
        let entry = self.table.entry(id);
        let best = entry.best().filter(|_| !entry.is(Entry::UNCONFIRMED))?;
        let announcement = self.exporter().announce(&group.key, entry.family(), best)?;
        let origination = if best.peer == LOCAL { self.originated.get(prefix) } else { None };
        Some((best, announcement, origination))
    }

    /// What is different for one peer: a route may be meant for others, and its own address is no next hop for it.
    pub(crate) fn for_peer(
        &self,
        group: &UpdateGroup,
        peer: PeerId,
        mut announcement: Announcement,
        origination: Option<&Origination>,
    ) -> Option<Announcement> {
        if let Some(names) = origination.and_then(|origination| origination.peers.as_ref())
            && !self.peer(peer).is_some_and(|state| names.contains(&state.settings.name))
        {
            return None;
        }
        if let OutboundNexthop::Given(nexthop) = announcement.nexthop
            && self.remote_address(peer.0) == Some(nexthop.address)
        {
            announcement.nexthop = OutboundNexthop::Own;
        }
        let has_nexthop =
            announcement.nexthop != OutboundNexthop::Own || group.key.has_own(announcement.family);
        has_nexthop.then_some(announcement)
    }

    pub(crate) fn exporter(&self) -> Exporter<'_> {
        Exporter { attributes: &self.attributes, peers: &self.peers, transit: self.config.transit }
    }

    fn remote_address(&self, peer: u16) -> Option<IpAddr> {
        self.peer(PeerId(peer))?.session.as_ref().map(|session| session.remote_address)
    }

    /// Has the peer something to be told?
    pub fn has_updates(&self, peer: PeerId) -> bool {
        let group =
            self.peer(peer).and_then(|state| state.group).and_then(|at| self.groups.get(at)?.as_ref());
        !self.held
            && group.is_some_and(|group| {
                let behind = |member: &Member| !member.walks.is_empty() || member.log < group.log_end();
                group.members.iter().any(|member| member.peer == peer.0 && behind(member))
            })
    }

    /// All peers that have something to be told.
    pub fn ready_peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        let groups = self.groups.iter().flatten().filter(|_| !self.held);
        groups.flat_map(|group| {
            let end = group.log_end();
            let behind = move |member: &&Member| !member.walks.is_empty() || member.log < end;
            group.members.iter().filter(behind).map(|member| PeerId(member.peer))
        })
    }

    /// Nothing is sent until [`Rib::release`]: after a restart, the routes of the peers are awaited first
    /// (RFC 4724 section 4.1).
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// Ends [`Rib::hold`]: what came in meanwhile is told before End-of-RIB.
    pub fn release(&mut self) {
        self.held = false;
        let until = self.table.end();
        let mut gone = Vec::new();
        for group in self.groups.iter_mut().flatten() {
            let end = group.log_end();
            for member in &mut group.members {
                if let Some(walk) = member.walks.front_mut().filter(|walk| walk.fresh && !walk.begun()) {
                    walk.until = until;
                    member.log = end;
                }
            }
            gone.extend(group.compact());
        }
        gone.into_iter().for_each(|id| self.free_if_gone(id));
    }
}
