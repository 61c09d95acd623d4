//! What a peer is told next: walks of the table, then the log of its update group, in batches.
//!
//! A batch is made once and handed to every peer of the group that comes by the same place, as the same `Arc`, so
//! that its octets can be made once too. Only a peer whose own routes are in it gets a batch of its own.

use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::adj_out::{CachedBatch, Involved, Member, Place, UpdateGroup, Walk, WalkEnd};
use super::export::{Announcement, Exporter, OutboundNexthop, OutboundUpdate};
use super::path::{LOCAL, NOBODY, SEVERAL};
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

/// Updates of one batch: prefixes with equal attributes together. A prefix is in a batch once, so the order of
/// updates in it does not matter.
#[derive(Default)]
pub(crate) struct Batch {
    unreach: Vec<IpNet>,
    reach: Vec<((Announcement, u8), Vec<IpNet>)>,
    index: FxHashMap<(Announcement, u8), usize>,
    involved: Involved,
    /// Next hops passed on: a peer is never given its own address as one (RFC 4271 section 5.1.3).
    given: SmallVec<[IpAddr; 4]>,
}

impl Batch {
    fn announce(&mut self, announcement: Announcement, prepend: u8, prefix: IpNet) {
        let key = (announcement, prepend);
        let at = *self.index.entry(key).or_insert_with(|| {
            self.reach.push((key, Vec::new()));
            self.reach.len() - 1
        });
        self.reach[at].1.push(prefix);
    }
}

impl Rib {
    /// What `peer` is to be told next, or `None` when it has been told everything. `budget` is the number of
    /// prefixes looked at for one batch; use the same for all peers, so that they share batches. The peer counts
    /// as told once this returns.
    pub fn next_updates(&mut self, peer: PeerId, budget: usize) -> Option<Arc<[OutboundUpdate]>> {
        if self.held {
            return None;
        }
        let at = self.peer(peer)?.group?;
        loop {
            let group = self.groups.get_mut(at)?.as_mut()?;
            let log_end = group.log_end();
            let member = group.member(peer.0)?;
            let (from, end) = match member.step(log_end) {
                Step::Say(updates) => return Some(updates.into()),
                Step::Batch(from, end) => (from, end),
                Step::Nothing => return None,
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
            if !updates.is_empty() {
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
    ) -> Option<(Place, Arc<[OutboundUpdate]>)> {
        let group = self.groups.get(at)?.as_ref()?;
        let mut batch = Batch::default();
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
        let mut updates = withdrawals(batch.unreach);
        updates.extend(batch.reach.into_iter().map(|((announcement, prepend), prefixes)| {
            OutboundUpdate::Reach {
                attributes: Arc::clone(self.attributes.attributes(announcement.attributes)),
                nexthop: announcement.nexthop,
                keep_med: announcement.keep_med,
                prepend,
                prefixes,
            }
        }));
        let updates: Arc<[OutboundUpdate]> = updates.into();
        if !batch.involved.contains(peer.0) {
            let made = CachedBatch { from, to, updates: Arc::clone(&updates), involved: batch.involved };
            self.groups.get_mut(at)?.as_mut()?.keep(made);
        }
        Some((to, updates))
    }

    /// Adds one prefix to a batch as `peer` is to see it; `before`: from whom came what it may hold.
    fn tell(&self, group: &UpdateGroup, peer: PeerId, id: PrefixId, before: u16, batch: &mut Batch) {
        let prefix = self.table.prefix(id);
        let (told, source) = self.told(group, peer, id, &prefix, Some(batch));
        if before != LOCAL {
            batch.involved.add(before);
        }
        if source != LOCAL {
            batch.involved.add(source);
        }
        match told {
            Some((announcement, prepend)) => batch.announce(announcement, prepend, prefix),
            None if before != NOBODY && before != peer.0 => batch.unreach.push(prefix),
            None => (),
        }
    }

    /// How a prefix is announced to a peer, if it is, and from whom the route came.
    pub(crate) fn told(
        &self,
        group: &UpdateGroup,
        peer: PeerId,
        id: PrefixId,
        prefix: &IpNet,
        batch: Option<&mut Batch>,
    ) -> (Option<(Announcement, u8)>, u16) {
        let entry = self.table.entry(id);
        let best = entry.best().filter(|_| !entry.is(Entry::UNCONFIRMED));
        if best.is_some_and(|best| best.peer == peer.0) {
            return (None, peer.0); // its own route
        }
        let announced =
            best.and_then(|best| Some((best, self.exporter().announce(&group.key, entry.family(), best)?)));
        let Some((best, mut announcement)) = announced else { return (None, NOBODY) };
        let origination = self.originated.get(prefix).filter(|_| best.peer == LOCAL);
        let audience = origination.and_then(|origination| origination.peers.as_ref());
        let name = self.peer(peer).map(|state| &state.settings.name);
        let meant = audience.is_none_or(|names| name.is_some_and(|name| names.contains(name)));
        if let OutboundNexthop::Given(nexthop) = announcement.nexthop
            && self.remote_address(peer.0) == Some(nexthop.address)
        {
            announcement.nexthop = OutboundNexthop::Own;
        }
        if let Some(batch) = batch {
            if audience.is_some() {
                batch.involved.add(SEVERAL);
            }
            if let OutboundNexthop::Given(nexthop) = announcement.nexthop
                && !batch.given.contains(&nexthop.address)
            {
                batch.given.push(nexthop.address);
            }
        }
        let has_nexthop = announcement.nexthop != OutboundNexthop::Own || group.key.has_own(entry.family());
        let prepend = origination.map_or(0, |origination| origination.attributes.prepend);
        ((meant && has_nexthop).then_some((announcement, prepend)), best.peer)
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
