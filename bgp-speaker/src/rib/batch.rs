//! A batch of updates for the peers of an update group: made once, with each peer's own part left out of it.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use ipnet::IpNet;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::PeerId;
use super::adj_out::Involved;
use super::export::{Announcement, OutboundUpdate};
use super::intern::AttributeTable;
use super::path::{LOCAL, NOBODY, SEVERAL};
use crate::wire::{AfiSafi, Template};

/// For whom of a group an update is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Audience {
    /// All of them.
    All,
    /// All but this peer: the route is its own, or what is withdrawn was.
    AllBut(u16),
    /// This peer only: another's route that it holds, now that its own is the best.
    Only(u16),
}

impl Audience {
    fn includes(self, peer: u16) -> bool {
        match self {
            Self::All => true,
            Self::AllBut(other) => peer != other,
            Self::Only(one) => peer == one,
        }
    }
}

/// What the peers of an update group are told next, made once for all of them.
#[derive(Debug)]
pub struct OutboundBatch {
    updates: Box<[(Audience, OutboundUpdate)]>,
    /// All of it as octets; made by the first session that writes some of it.
    pub(crate) octets: OnceLock<Template>,
}

impl OutboundBatch {
    pub(crate) fn new(updates: Vec<(Audience, OutboundUpdate)>) -> Self {
        Self { updates: updates.into(), octets: OnceLock::new() }
    }

    /// For one peer only, or for all of its group.
    pub(crate) fn for_all(updates: Vec<OutboundUpdate>) -> Self {
        Self::new(updates.into_iter().map(|update| (Audience::All, update)).collect())
    }

    /// The updates of the whole group.
    pub(crate) fn updates(&self) -> impl Iterator<Item = &OutboundUpdate> {
        self.updates.iter().map(|(_, update)| update)
    }

    /// The update of this number in [`OutboundBatch::updates`], if this peer is told it.
    pub(crate) fn update_for(&self, number: usize, peer: PeerId) -> Option<&OutboundUpdate> {
        self.updates.get(number).filter(|(audience, _)| audience.includes(peer.0)).map(|(_, update)| update)
    }

    /// What this peer is told.
    pub fn for_peer(&self, peer: PeerId) -> impl Iterator<Item = &OutboundUpdate> {
        let for_it = self.updates.iter().filter(move |(audience, _)| audience.includes(peer.0));
        for_it.map(|(_, update)| update)
    }
}

/// A batch in the making: prefixes with equal attributes together. A prefix is in it once for each peer, so the order of
/// updates does not matter.
#[derive(Default)]
pub(crate) struct BatchBuilder {
    unreach: FxHashMap<(Audience, AfiSafi), Vec<IpNet>>,
    reach: Vec<(Announced, Vec<IpNet>)>,
    index: FxHashMap<Announced, usize>,
    pub(crate) involved: Involved,
    /// Next hops passed on: a peer is never given its own address as one (RFC 4271 section 5.1.3).
    pub(crate) given: SmallVec<[IpAddr; 4]>,
}

/// Announcement, prepends, and from whom the route came.
type Announced = (Announcement, u8, u16);

impl BatchBuilder {
    /// `source` is not told of its own route; another's that it may hold, from `before`, is withdrawn.
    pub(crate) fn announce(
        &mut self,
        announcement: Announcement,
        prepend: u8,
        source: u16,
        before: u16,
        prefix: IpNet,
    ) {
        let key = (announcement, prepend, source);
        // Routes that came in one message mostly go in one.
        match self.reach.last_mut() {
            Some((last, prefixes)) if *last == key => prefixes.push(prefix),
            _ => {
                let at = *self.index.entry(key).or_insert_with(|| {
                    self.reach.push((key, Vec::new()));
                    self.reach.len() - 1
                });
                self.reach[at].1.push(prefix);
            }
        }
        if source != LOCAL && before != NOBODY && before != source {
            self.unreach_for(Audience::Only(source), prefix);
        }
    }

    /// Whoever may hold the prefix, from `before`, no longer does.
    pub(crate) fn withdraw(&mut self, before: u16, prefix: IpNet) {
        match before {
            NOBODY => {}
            LOCAL | SEVERAL => self.unreach_for(Audience::All, prefix),
            peer => self.unreach_for(Audience::AllBut(peer), prefix),
        }
    }

    fn unreach_for(&mut self, audience: Audience, prefix: IpNet) {
        let family = if prefix.addr().is_ipv4() { AfiSafi::Ipv4Unicast } else { AfiSafi::Ipv6Unicast };
        self.unreach.entry((audience, family)).or_default().push(prefix);
    }

    /// The batch, and for whom of the group it would be another.
    pub(crate) fn finish(self, attributes: &AttributeTable) -> (OutboundBatch, Involved) {
        let unreach = self
            .unreach
            .into_iter()
            .map(|((audience, family), prefixes)| (audience, OutboundUpdate::Unreach { family, prefixes }));
        let reach = self.reach.into_iter().map(|((announcement, prepend, source), prefixes)| {
            let update = OutboundUpdate::Reach {
                attributes: Arc::clone(attributes.attributes(announcement.attributes)),
                nexthop: announcement.nexthop,
                keep_med: announcement.keep_med,
                prepend,
                prefixes,
            };
            (if source == LOCAL { Audience::All } else { Audience::AllBut(source) }, update)
        });
        (OutboundBatch::new(unreach.chain(reach).collect()), self.involved)
    }
}
