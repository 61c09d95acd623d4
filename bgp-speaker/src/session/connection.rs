//! One TCP connection of a peer, from its first OPEN on: phase and timers.
//!
//! Knows nothing of the other connection, of retries or of configuration; `state.rs` decides what its
//! events mean for the session.

use std::time::{Duration, Instant};

use super::deadlines::{COLLISION_WAIT, Jitter, LARGE_HOLD, after, send_hold_time};
use super::{ConnId, Direction, Endpoints, Negotiated, State};
use crate::wire::Open;

/// How far a connection has come.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Our OPEN is sent, the peer's is awaited.
    OpenSent,
    /// The peer's OPEN is good, but another connection will win the collision if its OPEN comes in time.
    Held {
        /// What the OPENs agreed on.
        negotiated: Box<Negotiated>,
        /// The peer has confirmed already.
        keepalive_seen: bool,
        /// When this connection is confirmed after all.
        until: Instant,
    },
    /// Our KEEPALIVE is sent, the peer's is awaited.
    OpenConfirm(Box<Negotiated>),
    /// Routes flow.
    Established {
        /// What the OPENs agreed on.
        negotiated: Box<Negotiated>,
        /// Since when.
        since: Instant,
    },
}

/// One TCP connection.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) id: ConnId,
    pub(super) direction: Direction,
    pub(super) endpoints: Endpoints,
    /// The OPEN sent on it: what is negotiated is what was said, not what the configuration says by now.
    pub(super) sent: Open,
    pub(super) phase: Phase,
    pub(super) hold: Option<Instant>,
    pub(super) keepalive: Option<Instant>,
    pub(super) send_hold: Option<Instant>,
}

impl Connection {
    pub(super) fn new(
        now: Instant,
        id: ConnId,
        direction: Direction,
        endpoints: Endpoints,
        sent: Open,
    ) -> Self {
        let hold = Some(after(now, LARGE_HOLD));
        let phase = Phase::OpenSent;
        Self { id, direction, endpoints, sent, phase, hold, keepalive: None, send_hold: None }
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::OpenSent | Phase::Held { .. } => State::OpenSent,
            Phase::OpenConfirm(_) => State::OpenConfirm,
            Phase::Established { .. } => State::Established,
        }
    }

    pub(super) fn is_established(&self) -> bool {
        matches!(self.phase, Phase::Established { .. })
    }

    pub(super) fn negotiated(&self) -> Option<&Negotiated> {
        match &self.phase {
            Phase::OpenSent => None,
            Phase::Held { negotiated, .. }
            | Phase::OpenConfirm(negotiated)
            | Phase::Established { negotiated, .. } => Some(negotiated),
        }
    }

    /// The peer's OPEN is good, and the other connection goes first.
    pub(super) fn hold_back(&mut self, now: Instant, negotiated: Box<Negotiated>) {
        let until = after(now, COLLISION_WAIT);
        self.phase = Phase::Held { negotiated, keepalive_seen: false, until };
    }

    /// The peer's OPEN is answered with KEEPALIVE.
    pub(super) fn confirm(&mut self, now: Instant, negotiated: Box<Negotiated>, jitter: &mut Jitter) {
        // With Hold Time 0 RFC 4271 waits for the peer's KEEPALIVE for ever; the large value bounds that.
        let hold = if negotiated.hold_time.is_zero() { LARGE_HOLD } else { negotiated.hold_time };
        self.hold = Some(after(now, hold));
        self.keepalive = keepalive_timer(now, &negotiated, jitter);
        self.phase = Phase::OpenConfirm(negotiated);
    }

    /// The peer's KEEPALIVE has come.
    pub(super) fn establish(&mut self, now: Instant, negotiated: Box<Negotiated>) {
        self.hold = hold_timer(now, &negotiated);
        self.send_hold = send_hold_time(negotiated.hold_time).map(|wait| after(now, wait));
        self.phase = Phase::Established { negotiated, since: now };
    }

    /// A message has come: the peer lives.
    pub(super) fn heard(&mut self, now: Instant) {
        if let Phase::Established { negotiated, .. } = &self.phase {
            self.hold = hold_timer(now, negotiated);
        }
    }

    /// Octets have left: the peer reads.
    pub(super) fn wrote(&mut self, now: Instant) {
        if let Phase::Established { negotiated, .. } = &self.phase {
            self.send_hold = send_hold_time(negotiated.hold_time).map(|wait| after(now, wait));
        }
    }

    /// A KEEPALIVE has been sent.
    pub(super) fn kept_alive(&mut self, now: Instant, jitter: &mut Jitter) {
        self.keepalive = self.negotiated().and_then(|negotiated| keepalive_timer(now, negotiated, jitter));
    }

    /// The earliest of this connection's timers.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let held = match self.phase {
            Phase::Held { until, .. } => Some(until),
            _ => None,
        };
        [self.hold, self.keepalive, self.send_hold, held].into_iter().flatten().min()
    }
}

fn hold_timer(now: Instant, negotiated: &Negotiated) -> Option<Instant> {
    running(negotiated.hold_time).map(|wait| after(now, wait))
}

fn keepalive_timer(now: Instant, negotiated: &Negotiated, jitter: &mut Jitter) -> Option<Instant> {
    running(negotiated.keepalive).map(|wait| after(now, jitter.apply(wait)))
}

fn running(wait: Duration) -> Option<Duration> {
    (!wait.is_zero()).then_some(wait)
}
