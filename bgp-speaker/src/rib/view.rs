//! What people ask the RIB: which routes came from whom, why one is not used, what a peer is told.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

use super::decision::{Candidate, Step, explain};
use super::path::{LOCAL, Path, Verdict};
use super::peer::slot;
use super::table::Entry;
use super::{FibNexthop, NexthopSet, PeerId, PrefixId, Rib};
use crate::wire::{AfiSafi, Nexthop, PathAttributes};

/// Whose path it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Originated by this node.
    Local,
    /// Learned from a peer.
    Peer(PeerId),
}

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathState {
    /// The best path.
    Best,
    /// Carries traffic beside the best one.
    Multipath,
    /// Lost the decision at this step.
    Lost(Step),
    /// Its next hop cannot be reached.
    NexthopUnreachable,
    /// Import rejected it.
    Rejected(Verdict),
}

impl fmt::Display for PathState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Best => f.write_str("best"),
            Self::Multipath => f.write_str("multipath"),
            Self::Lost(step) => step.fmt(f),
            Self::NexthopUnreachable => f.write_str("next hop unreachable"),
            Self::Rejected(verdict) => verdict.fmt(f),
        }
    }
}

/// One path as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteView {
    /// The prefix.
    pub prefix: IpNet,
    /// Whose.
    pub source: Source,
    /// As received or built.
    pub attributes: Arc<PathAttributes>,
    /// As received; `None` for what is originated here.
    pub nexthop: Option<Nexthop>,
    /// Kept through a restart of its peer.
    pub stale: bool,
    /// What became of it.
    pub state: PathState,
}

/// A prefix as it is forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BestView {
    /// Its number.
    pub id: PrefixId,
    /// The best path.
    pub route: RouteView,
    /// Where packets go; `None` for what is originated here.
    pub nexthops: Option<Arc<NexthopSet>>,
    /// Told to the peers, as far as the FIB is concerned.
    pub confirmed: bool,
}

/// A route as a peer is told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertisedView {
    /// The prefix.
    pub prefix: IpNet,
    /// Attributes before [`super::PeerExport`] is applied.
    pub attributes: Arc<PathAttributes>,
    /// The next hop sent.
    pub nexthop: Nexthop,
    /// MED is sent.
    pub keep_med: bool,
    /// Our AS this many more times.
    pub prepend: u8,
}

/// Routes of one peer and family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Paths held.
    pub received: u32,
    /// Of these, not rejected by import.
    pub accepted: u32,
    /// Of these, kept through a restart of the peer.
    pub stale: u32,
    /// Of these, best.
    pub best: u32,
    /// Prefixes the peer is told, or will be.
    pub advertised: u32,
}

impl Rib {
    /// Every path of a prefix.
    pub fn paths(&self, prefix: &IpNet) -> Vec<RouteView> {
        self.table.find(prefix).map_or_else(Vec::new, |id| self.views(id))
    }

    /// Every path received, rejected ones included; of one peer or of all.
    pub fn received(&self, peer: Option<PeerId>) -> impl Iterator<Item = RouteView> + '_ {
        let wanted = move |view: &RouteView| match view.source {
            Source::Local => false,
            Source::Peer(from) => peer.is_none_or(|peer| peer == from),
        };
        let holds = move |id: &PrefixId| peer.is_none_or(|peer| self.table.path(*id, peer.0).is_some());
        self.ids().filter(holds).flat_map(|id| self.views(id)).filter(wanted)
    }

    /// Every path that import accepted; of one peer or of all.
    pub fn accepted(&self, peer: Option<PeerId>) -> impl Iterator<Item = RouteView> + '_ {
        self.received(peer).filter(|view| !matches!(view.state, PathState::Rejected(_)))
    }

    /// The Loc-RIB.
    pub fn best_routes(&self) -> impl Iterator<Item = BestView> + '_ {
        self.ids().filter_map(|id| {
            let entry = self.table.entry(id);
            let route = self.view(id, entry.best()?, PathState::Best);
            let nexthops = self.sets.get(entry.set).map(Arc::clone);
            Some(BestView { id, route, nexthops, confirmed: !entry.is(Entry::UNCONFIRMED) })
        })
    }

    /// What a peer is told: derived from the Loc-RIB, as it is when it has read everything.
    pub fn advertised(&self, peer: PeerId) -> impl Iterator<Item = AdvertisedView> + '_ {
        let export = self.peer_export(peer);
        let group =
            self.peer(peer).and_then(|state| state.group).and_then(|at| self.groups.get(at)?.as_ref());
        let both = export.zip(group);
        self.ids().filter_map(move |id| {
            let (export, group) = both.as_ref()?;
            let prefix = self.table.prefix(id);
            let (announcement, prepend) = self.told(group, peer, id, &prefix)?;
            Some(AdvertisedView {
                prefix,
                attributes: Arc::clone(self.attributes.attributes(announcement.attributes)),
                nexthop: export.nexthop(announcement.family, announcement.nexthop)?,
                keep_med: announcement.keep_med,
                prepend,
            })
        })
    }

    /// Every path of every prefix.
    pub fn all_paths(&self) -> impl Iterator<Item = RouteView> + '_ {
        self.ids().flat_map(|id| self.views(id))
    }

    /// Counts of all peers, IPv4 then IPv6, in one pass over the table. By [`PeerId`].
    pub fn counts(&self) -> Vec<[Counts; 2]> {
        let mut counts = vec![[Counts::default(); 2]; self.peers.len()];
        for id in self.ids() {
            let entry = self.table.entry(id);
            let family = slot(entry.family());
            let best = entry.best();
            for path in self.table.paths(id) {
                let Some(count) = counts.get_mut(usize::from(path.peer)) else { continue };
                count[family].received += 1;
                count[family].accepted += u32::from(path.verdict() == Verdict::Accepted);
                count[family].stale += u32::from(path.stale());
                count[family].best += u32::from(best.is_some_and(|best| best.peer == path.peer));
            }
            if best.is_none() {
                continue;
            }
            let prefix = self.table.prefix(id);
            for group in self.groups.iter().flatten() {
                let Some((best, announcement, origination)) = self.announced(group, id, &prefix) else {
                    continue;
                };
                for member in group.members.iter().filter(|member| member.peer != best.peer) {
                    let told = self.for_peer(group, PeerId(member.peer), announcement, origination);
                    if let Some(count) = counts.get_mut(usize::from(member.peer)) {
                        count[family].advertised += u32::from(told.is_some());
                    }
                }
            }
        }
        counts
    }

    /// Prefixes, distinct attribute blocks, and distinct forwarding sets held.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.table.len(), self.attributes.len(), self.sets.len())
    }

    /// Prefixes held of a peer and family.
    pub fn received_count(&self, peer: PeerId, family: AfiSafi) -> u32 {
        self.peer(peer).map_or(0, |state| state.received[slot(family)])
    }

    fn ids(&self) -> impl Iterator<Item = PrefixId> + '_ {
        (0..self.table.end()).map(PrefixId).filter(|id| self.table.get(*id).is_some())
    }

    fn views(&self, id: PrefixId) -> Vec<RouteView> {
        let candidates = self.candidates(id);
        let facts: Vec<Candidate> = candidates.iter().map(|candidate| candidate.1).collect();
        let lost = explain(&facts);
        let set = self.sets.get(self.table.entry(id).set);
        let state = |path: Path| {
            if path.peer != LOCAL && path.verdict() != Verdict::Accepted {
                return PathState::Rejected(path.verdict());
            }
            let place = candidates.iter().position(|candidate| candidate.0.peer == path.peer);
            match place.and_then(|at| Some((facts.get(at)?, *lost.get(at)?))) {
                None => PathState::NexthopUnreachable,
                Some((_, None)) => PathState::Best,
                Some((fact, Some(step))) => lost_or_multipath(fact.nexthop, step, set),
            }
        };
        self.table.paths(id).map(|path| self.view(id, path, state(path))).collect()
    }

    fn view(&self, id: PrefixId, path: Path, state: PathState) -> RouteView {
        let local = path.peer == LOCAL;
        RouteView {
            prefix: self.table.prefix(id),
            source: if local { Source::Local } else { Source::Peer(PeerId(path.peer)) },
            attributes: Arc::clone(self.attributes.attributes(path.attributes)),
            nexthop: (!local).then(|| *self.attributes.nexthop(path.attributes)),
            stale: path.stale(),
            state,
        }
    }
}

/// Losing by the tie-breaks leaves a path in the multipath set, if there was room for its next hop.
fn lost_or_multipath(nexthop: FibNexthop, step: Step, set: Option<&Arc<NexthopSet>>) -> PathState {
    let tie = matches!(step, Step::RouterId | Step::PeerAddress);
    if tie && set.is_some_and(|set| set.contains(&nexthop)) {
        PathState::Multipath
    } else {
        PathState::Lost(step)
    }
}
