//! What a changed field of a peer's configuration asks for. Every field is named: a new one does not compile
//! until somebody has decided.

use std::time::Instant;

use api::desired::{Family, Neighbor, Peer};

use super::{Actions, Session, StopReason};
use crate::wire::AfiSafi;

/// What a change of configuration does to a running session, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigEffect {
    /// [`Session::update_config`] takes it; Established sessions stay. Timers and what the OPEN carries count
    /// from the next negotiation on.
    Hot,
    /// Like `Hot`, and routes must be looked at again: route refresh in, re-export out.
    Soft,
    /// [`Session::update_config`], then [`StopReason::ConfigurationChange`].
    Reset,
}

/// The strongest effect of all fields that differ.
pub fn needs_reset(old: &Peer, new: &Peer) -> ConfigEffect {
    use ConfigEffect::{Hot, Reset, Soft};
    // Destructured in full so that the compiler asks about new fields.
    let Peer {
        name,
        neighbor,
        port,
        local_asn,
        remote_asn,
        source,
        bind_interface,
        md5,
        timers: _,
        ttl,
        passive,
        graceful_restart,
        families,
        next_hop,
        allow_local_as,
        enforce_first_as,
        paused: _,
    } = new;
    let reset = old.name != *name
        || neighbor_moved(&old.neighbor, neighbor)
        || old.port != *port
        || old.local_asn != *local_asn
        || old.remote_asn != *remote_asn
        || old.source != *source
        || old.bind_interface != *bind_interface
        || old.md5 != *md5
        || old.ttl != *ttl
        || old.passive != *passive
        || old.graceful_restart.mode != graceful_restart.mode
        || offered(&old.families) != offered(families);
    let soft = old.next_hop != *next_hop
        || old.allow_local_as != *allow_local_as
        || old.enforce_first_as != *enforce_first_as;
    match (reset, soft) {
        (true, _) => Reset,
        (false, true) => Soft,
        (false, false) => Hot,
    }
}

/// The listener decides which sessions of a listen range stay when its ranges or its limit change.
fn neighbor_moved(old: &Neighbor, new: &Neighbor) -> bool {
    match (old, new) {
        (Neighbor::Listen { .. }, Neighbor::Listen { .. }) => false,
        (old, new) => old != new,
    }
}

/// What the OPEN says about families; limits are the RIB's.
fn offered(families: &[Family]) -> Vec<(AfiSafi, bool)> {
    let mut offered: Vec<_> = families.iter().map(|f| (f.afi_safi, f.extended_next_hop)).collect();
    offered.sort_unstable();
    offered
}

impl Session {
    /// Takes a new configuration without touching an Established session, except that `paused` stops and
    /// starts it. Where [`needs_reset`] says [`ConfigEffect::Reset`], follow with
    /// `Event::Stop(StopReason::ConfigurationChange)`.
    pub fn update_config(&mut self, now: Instant, config: Peer) -> Actions {
        let mut out = Actions::new();
        let was_paused = std::mem::replace(&mut self.config, config).paused;
        match (was_paused, self.config.paused.clone()) {
            (None, Some(text)) => self.stop(now, StopReason::AdminShutdown(text), &mut out),
            (Some(_), None) => self.start(now, &mut out),
            (None, None) | (Some(_), Some(_)) => {}
        }
        self.shorten_waits(now);
        out
    }
}
