//! From a peer's OPEN to Established: the collision decision, KEEPALIVE, and what Established ends.

use std::time::Instant;

use super::collision::{Identity, survivor};
use super::connection::{Connection, Phase};
use super::deadlines::COLLISION_REMNANT;
use super::negotiate::negotiate;
use super::{Action, Actions, ConnId, Direction, DownReason, Negotiated, Session};
use crate::wire::notification::cease as subcode;
use crate::wire::{Message, Notification, Open};

impl Session {
    /// An OPEN in OpenSent.
    pub(super) fn opened(&mut self, now: Instant, id: ConnId, open: &Open, out: &mut Actions) {
        let Some(connection) = self.connections.iter().find(|c| c.id == id) else { return };
        let direction = connection.direction;
        let negotiated = match negotiate(&self.config, &connection.sent, open, connection.endpoints) {
            Ok(negotiated) => Box::new(negotiated),
            Err(refusal) => return self.end(now, id, DownReason::NotificationSent(refusal), out),
        };
        let established = self.connections.iter().find(|c| c.is_established());
        if let Some((old, gives_way)) = established.map(|c| (c.id, gives_way(c, now))) {
            if !gives_way {
                return self.lose(now, id, out);
            }
            self.end(now, old, DownReason::Replaced, out);
        }
        let other = self.connections.iter().find(|c| c.id != id);
        let Some((other, other_waits)) = other.map(|c| (c.id, matches!(c.phase, Phase::OpenSent))) else {
            return self.confirm(now, id, negotiated, out);
        };
        if direction == self.survivor(&negotiated) {
            self.lose(now, other, out);
            self.confirm(now, id, negotiated, out);
        } else if other_waits {
            out.push(Action::UseCodec(id, negotiated.codec.clone()));
            if let Some(connection) = self.connection(id) {
                connection.hold_back(now, negotiated);
            }
        } else {
            self.lose(now, id, out);
        }
    }

    fn survivor(&self, negotiated: &Negotiated) -> Direction {
        let local = Identity { router_id: self.local.router_id, asn: negotiated.local_asn };
        let remote = Identity { router_id: negotiated.remote_router_id, asn: negotiated.remote_asn };
        survivor(local, remote)
    }

    fn confirm(&mut self, now: Instant, id: ConnId, negotiated: Box<Negotiated>, out: &mut Actions) {
        // The peer has chosen a connection: a second one of ours would only collide with it.
        self.abandon_attempt(out);
        out.push(Action::UseCodec(id, negotiated.codec.clone()));
        out.push(Action::Send(id, Message::Keepalive));
        if let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) {
            connection.confirm(now, negotiated, &mut self.jitter);
        }
    }

    /// The peer's KEEPALIVE in OpenConfirm.
    pub(super) fn establish(&mut self, now: Instant, id: ConnId, out: &mut Actions) {
        let other = self.connections.iter().find(|c| c.id != id).map(|c| c.id);
        if let Some(other) = other {
            self.lose(now, other, out);
        }
        let Some(connection) = self.connection(id) else { return };
        let Phase::OpenConfirm(negotiated) = &connection.phase else { return };
        let negotiated = negotiated.clone();
        connection.establish(now, negotiated.clone());
        self.carried.clone_from(&negotiated.codec.families);
        let gone = self.stale.back(now, negotiated.graceful_restart.as_ref(), &self.config.graceful_restart);
        out.push(Action::Up(id, negotiated));
        out.extend(gone.into_iter().map(Action::SweepStale));
    }

    /// A connection was held back long enough for one whose OPEN does not come.
    pub(super) fn end_wait(&mut self, now: Instant, held: ConnId, out: &mut Actions) {
        let silent = self.connections.iter().find(|c| c.id != held).map(|c| c.id);
        if let Some(silent) = silent {
            self.lose(now, silent, out);
        }
        self.promote(now, out);
    }

    /// Confirms a connection that was held back for another one which is gone.
    pub(super) fn promote(&mut self, now: Instant, out: &mut Actions) {
        let [connection] = self.connections.as_slice() else { return };
        let id = connection.id;
        let Phase::Held { negotiated, keepalive_seen, .. } = connection.phase.clone() else { return };
        self.confirm(now, id, negotiated, out);
        if keepalive_seen {
            self.establish(now, id, out);
        }
    }

    /// Ends a connection because of another one: Cease 6/7.
    pub(super) fn lose(&mut self, now: Instant, id: ConnId, out: &mut Actions) {
        self.end(now, id, DownReason::NotificationSent(Notification::cease(subcode::COLLISION)), out);
    }
}

/// RFC 4724 section 4.2: a peer that restarts gracefully and connects anew has lost this connection.
fn gives_way(established: &Connection, now: Instant) -> bool {
    match &established.phase {
        Phase::Established { negotiated, since } => {
            negotiated.graceful_restart.is_some() && now.saturating_duration_since(*since) > COLLISION_REMNANT
        }
        _ => false,
    }
}
