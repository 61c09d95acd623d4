//! How a connection ends, and the session with it: NOTIFICATION, Down, stale paths, and the wait before the
//! next try.

use std::time::Instant;

use api::desired::RestartMode;

use super::cease;
use super::connection::{Connection, Phase};
use super::deadlines::after;
use super::{Action, Actions, ConnId, Down, DownReason, Session, StopReason};
use crate::wire::notification::cease as subcode;
use crate::wire::{AfiSafi, ErrorCode, Message};

impl Session {
    /// Ends one connection. The session goes to Idle when nothing else is left to hope for.
    pub(super) fn end(&mut self, now: Instant, id: ConnId, reason: DownReason, out: &mut Actions) {
        let Some(at) = self.connections.iter().position(|c| c.id == id) else { return };
        let connection = self.connections.remove(at);
        if let DownReason::NotificationSent(notification) = &reason {
            out.push(Action::Send(id, Message::Notification(notification.clone())));
        }
        if !matches!(reason, DownReason::ConnectionClosed(_)) {
            out.push(Action::Close(id));
        }
        if connection.is_established() {
            let retain = self.retain(now, &connection, &reason);
            out.push(Action::Down(Down { reason: reason.clone(), retain }));
        }
        let other_established = self.connections.iter().any(Connection::is_established);
        if connection.is_established() || !(other_established || is_collision(&reason)) {
            self.last_down = Some((reason, now));
        }
        self.promote(now, out);
        self.rest(now);
    }

    /// Which families become stale. A NOTIFICATION either way ends what there was (plain RFC 4724).
    fn retain(&mut self, now: Instant, connection: &Connection, reason: &DownReason) -> Vec<AfiSafi> {
        let Phase::Established { negotiated, since } = &connection.phase else { return Vec::new() };
        self.backoff.session_lasted(now.saturating_duration_since(*since));
        match reason {
            DownReason::ConnectionClosed(_) | DownReason::Replaced => {
                let peer = negotiated.graceful_restart.as_ref();
                self.stale.lost(now, peer, &self.config.graceful_restart)
            }
            // The next process finds the routes in the kernel: nothing may be withdrawn on the way out.
            DownReason::Stopped(StopReason::ProcessStops) => {
                self.stale.forget();
                negotiated.codec.families.clone()
            }
            _ => {
                self.stale.forget();
                Vec::new()
            }
        }
    }

    /// Starts the IdleHold timer unless something is under way.
    pub(super) fn rest(&mut self, now: Instant) {
        let under_way = !self.connections.is_empty() || self.connecting || self.retry.is_some();
        if self.stopped.is_none() && !under_way && self.idle_hold.is_none() {
            let wait = self.backoff.next(self.config.timers.idle_hold_max);
            self.idle_hold = Some(after(now, self.jitter.apply(wait)));
        }
    }

    pub(super) fn abandon_attempt(&mut self, out: &mut Actions) {
        self.retry = None;
        if std::mem::take(&mut self.connecting) {
            out.push(Action::AbortConnect);
        }
    }

    /// Takes the session down from our side, and says what comes next.
    pub(super) fn stop(&mut self, now: Instant, reason: StopReason, out: &mut Actions) {
        self.abandon_attempt(out);
        self.idle_hold = None;
        for connection in std::mem::take(&mut self.connections) {
            if let Some(notification) = cease::for_stop(&reason, self.may_go_quietly(&connection)) {
                out.push(Action::Send(connection.id, Message::Notification(notification)));
            }
            out.push(Action::Close(connection.id));
            if connection.is_established() {
                let reason = DownReason::Stopped(reason.clone());
                let retain = self.retain(now, &connection, &reason);
                out.push(Action::Down(Down { reason, retain }));
            }
        }
        if reason != StopReason::ProcessStops {
            out.extend(self.stale.abandon().into_iter().map(Action::SweepStale));
        }
        self.last_down = Some((DownReason::Stopped(reason.clone()), now));
        match reason {
            StopReason::AdminShutdown(_)
            | StopReason::Deconfigured
            | StopReason::ProcessStops
            | StopReason::MaxPrefix { restart: false, .. } => self.stopped = Some(reason),
            StopReason::AdminReset(_) | StopReason::ConfigurationChange => {
                if matches!(self.stopped, Some(StopReason::MaxPrefix { .. })) {
                    self.stopped = None;
                }
                if self.stopped.is_none() {
                    self.start(now, out);
                }
            }
            StopReason::MaxPrefix { restart: true, .. }
            | StopReason::OutOfResources
            | StopReason::LinkDown(_) => self.rest(now),
        }
    }

    /// The peer keeps our routes when this connection closes without NOTIFICATION. Before the OPENs are
    /// compared it may still hold them from the session before.
    fn may_go_quietly(&self, connection: &Connection) -> bool {
        match connection.negotiated() {
            Some(negotiated) => negotiated.graceful_restart.as_ref().is_some_and(|peer| peer.helps_us),
            None => self.config.graceful_restart.mode == RestartMode::Restarter,
        }
    }
}

/// One of two connections lost: no reason for the session not to come up.
fn is_collision(reason: &DownReason) -> bool {
    match reason {
        DownReason::NotificationSent(n) | DownReason::NotificationReceived(n) => {
            n.code == ErrorCode::Cease && n.subcode == subcode::COLLISION
        }
        _ => false,
    }
}
