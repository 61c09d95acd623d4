//! Blackholes behind the aggregates we originate, so that addresses not in use do not loop.
//!
//! Level-triggered: the driver is given the whole set each time. They carry the protocol of local routes
//! and the second highest metric there is, so every real route to the same prefix wins.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use api::desired::Install;
use ipnet::IpNet;

use super::outcome::pause;
use super::plan::{Batch, Target};
use super::{Refusal, Request, RouteKey};
use crate::kernel::{KernelRoute, RTN_BLACKHOLE};

/// Metric of blackholes. Not the very highest, which some tools use to mean "none".
pub const BLACKHOLE_METRIC: u32 = u32::MAX - 1;

#[derive(Clone, Debug)]
enum State {
    Missing,
    Present,
    InFlight { creating: bool },
    Refused { retry_at: Instant, since: Instant, refusal: Refusal, present: bool },
}

#[derive(Debug)]
pub(super) struct Blackholes {
    table: u32,
    protocol: u8,
    /// `None`: nobody has said yet, so nothing found is removed.
    wanted: Option<BTreeSet<IpNet>>,
    states: BTreeMap<IpNet, State>,
    /// Blackholes of ours under a table or metric no longer used.
    former: Vec<RouteKey>,
    dirty: bool,
}

impl Blackholes {
    pub(super) fn new(install: &Install) -> Self {
        Self {
            table: install.table,
            protocol: install.local_protocol,
            wanted: None,
            states: BTreeMap::new(),
            former: Vec::new(),
            dirty: false,
        }
    }

    pub(super) fn want(&mut self, prefixes: BTreeSet<IpNet>) {
        self.wanted = Some(prefixes.iter().map(IpNet::trunc).collect());
        self.dirty = true;
    }

    pub(super) fn wanted(&self) -> Option<BTreeSet<IpNet>> {
        self.wanted.clone()
    }

    /// Nothing is to be written or in flight.
    pub(super) fn settled(&self) -> bool {
        !self.dirty && !self.states.values().any(|state| matches!(state, State::InFlight { .. }))
    }

    /// None is left under a former key.
    pub(super) fn swept(&self) -> bool {
        self.wanted.is_some() && self.former.is_empty()
    }

    pub(super) fn adopt(&mut self, key: RouteKey) {
        if self.key(key.prefix) == key {
            self.states.insert(key.prefix, State::Present);
        } else {
            self.former.push(key);
        }
        self.dirty = true;
    }

    /// Whether a route has the key of a blackhole of ours.
    pub(super) fn is_at(&self, route: &KernelRoute) -> bool {
        route.table == self.table && route.metric == BLACKHOLE_METRIC
    }

    /// Someone else deleted one; true if it will be restored.
    pub(super) fn lost(&mut self, prefix: IpNet) -> bool {
        match self.states.get_mut(&prefix) {
            Some(state @ State::Present) => *state = State::Missing,
            _ => return false,
        }
        self.dirty = true;
        self.wanted.as_ref().is_some_and(|wanted| wanted.contains(&prefix))
    }

    /// How many of those thought to be in the kernel a dump lacks, and how many it has beside them.
    pub(super) fn audit(&self, routes: &[KernelRoute]) -> u64 {
        let found: BTreeSet<IpNet> = routes
            .iter()
            .filter(|route| {
                route.kind == RTN_BLACKHOLE && route.protocol == self.protocol && self.is_at(route)
            })
            .map(|route| route.prefix)
            .collect();
        let lost = self
            .states
            .iter()
            .filter(|(prefix, state)| matches!(state, State::Present) && !found.contains(prefix));
        let strange = found.iter().filter(|prefix| !self.states.contains_key(prefix));
        (lost.count() + strange.count()) as u64
    }

    /// How many are in the kernel, as far as is confirmed.
    pub(super) fn len(&self) -> usize {
        let there = |state: &&State| {
            matches!(
                state,
                State::Present | State::InFlight { creating: false } | State::Refused { present: true, .. }
            )
        };
        self.states.values().filter(there).count()
    }

    /// Those the kernel refuses.
    pub(super) fn refused(&self) -> impl Iterator<Item = (IpNet, &Refusal, Instant)> {
        self.states.iter().filter_map(|(prefix, state)| match state {
            State::Refused { refusal, since, .. } => Some((*prefix, refusal, *since)),
            _ => None,
        })
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.states
            .values()
            .filter_map(|state| match state {
                State::Refused { retry_at, .. } => Some(*retry_at),
                _ => None,
            })
            .min()
    }

    fn key(&self, prefix: IpNet) -> RouteKey {
        RouteKey { prefix, table: self.table, metric: BLACKHOLE_METRIC, protocol: self.protocol }
    }

    pub(super) fn plan(&mut self, now: Instant, batch: &mut Batch) {
        if !self.dirty && self.deadline().is_none_or(|at| at > now) {
            return;
        }
        let Some(wanted) = self.wanted.clone() else { return };
        self.dirty = false;
        for prefix in &wanted {
            self.states.entry(*prefix).or_insert(State::Missing);
        }
        for key in self.former.drain(..) {
            batch.push(Request::DeleteRoute { key, blackhole: true }, Target::Leftover);
        }
        let prefixes: Vec<IpNet> = self.states.keys().copied().collect();
        for prefix in prefixes {
            let key = self.key(prefix);
            let Some(state) = self.states.get_mut(&prefix) else { continue };
            let present = match state {
                State::Missing => false,
                State::Present => true,
                State::Refused { retry_at, present, .. } if *retry_at <= now => *present,
                State::InFlight { .. } | State::Refused { .. } => continue,
            };
            match (wanted.contains(&prefix), present) {
                (true, true) => *state = State::Present,
                (true, false) => batch.push(Request::Blackhole { key }, Target::Blackhole(prefix)),
                (false, true) => {
                    batch.push(Request::DeleteRoute { key, blackhole: true }, Target::Blackhole(prefix));
                }
                (false, false) => {
                    self.states.remove(&prefix);
                    continue;
                }
            }
            if wanted.contains(&prefix) != present {
                self.flying(prefix, !present);
            }
        }
    }

    fn flying(&mut self, prefix: IpNet, creating: bool) {
        if let Some(state) = self.states.get_mut(&prefix) {
            *state = State::InFlight { creating };
        }
    }

    pub(super) fn done(&mut self, now: Instant, prefix: IpNet, refusal: Option<Refusal>) {
        let Some(state) = self.states.get_mut(&prefix) else { return };
        let State::InFlight { creating } = *state else { return };
        let gone = refusal.as_ref().is_some_and(|refusal| refusal.errno == libc::ESRCH);
        match refusal {
            Some(refusal) if creating || !gone => {
                let retry_at = now + pause(6);
                *state = State::Refused { retry_at, since: now, refusal, present: !creating };
            }
            _ if creating => *state = State::Present,
            _ => {
                self.states.remove(&prefix);
            }
        }
        // The wish may have changed meanwhile.
        self.dirty = true;
    }
}
