//! The session: what each event means in each state (RFC 4271 section 8.2.2).
//!
//! | event | Idle | Connect | Active | OpenSent | OpenConfirm | Established |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | Start | connect | - | connect | - | - | - |
//! | Stop | Idle | Idle | Idle | Cease, Idle | Cease, Idle | Cease, Down, Idle |
//! | Connected, ours | close | OPEN | close | close | close | close |
//! | Connected, theirs | OPEN¹ | OPEN | OPEN | OPEN, second connection | same | same |
//! | ConnectFailed | - | Active | - | stays on theirs | - | - |
//! | Closed | - | - | - | Idle² | Idle² | Down, stale or not, Idle² |
//! | OPEN, good | - | - | - | KEEPALIVE, OpenConfirm³ | 5/2 | 5/3 |
//! | OPEN, bad | - | - | - | 2/x, Idle² | 5/2 | 5/3 |
//! | KEEPALIVE | - | - | - | 5/1 | Established | - |
//! | UPDATE | - | - | - | 5/1 | 5/2 | deliver |
//! | ROUTE-REFRESH | - | - | - | 5/1 | 5/2 | deliver when negotiated |
//! | NOTIFICATION | - | - | - | Idle² | Idle² | Down, Idle² |
//! | malformed | - | - | - | its code, Idle² | its code, Idle² | its code, Down, Idle² |
//! | ConnectRetry expires | - | connect again | connect | attempt given up | - | - |
//! | Hold expires | - | - | - | 4/0, Idle² | 4/0, Idle² | 4/0, Down, Idle² |
//! | Keepalive expires | - | - | - | - | KEEPALIVE | KEEPALIVE |
//! | SendHold expires | - | - | - | - | - | 8/0, Down, Idle² |
//! | IdleHold expires | connect | - | - | - | - | - |
//!
//! ¹ also while IdleHold runs, which speeds recovery up; refused with Cease 6/5 when stopped or `passive: Never`.
//! ² only when no other connection or attempt is left; IdleHold runs then, and doubles with each failure.
//! ³ or waits for, or loses to, another connection: `collision.rs`. A second connection's OPEN in Established
//!   loses with Cease 6/7, unless Graceful Restart was negotiated: then it is the restarted peer and takes over
//!   (RFC 4724 section 4.2; on its good OPEN rather than on its SYN, so that a stray TCP connection ends nothing).
//!
//! Besides RFC 4271: a failed connect leads to Active and is repeated after one second, two, four, up to
//! ConnectRetryTime; DelayOpen and the optional session attributes of section 8.1.1 do not exist.

use std::time::{Duration, Instant};

use api::desired::{Neighbor, Passive, Peer};
use smallvec::SmallVec;

use super::capabilities::{self, Refused};
use super::cease;
use super::connection::{Connection, Phase};
use super::deadlines::{Backoff, Jitter, after, due};
use super::restart::Stale;
use super::{
    Action, Actions, ConnId, Direction, DownReason, Endpoints, Event, LocalSpeaker, Negotiated, State,
    StopReason,
};
use crate::wire::notification::cease as subcode;
use crate::wire::{AfiSafi, ErrorCode, Message, Notification, RefreshKind, RouteRefresh};

/// The finite state machine of one peer. Made stopped: [`Event::Start`] sets it going.
#[derive(Clone, Debug)]
pub struct Session {
    pub(super) config: Peer,
    pub(super) local: LocalSpeaker,
    /// Why nothing is attempted; `None`: the session is to be up.
    pub(super) stopped: Option<StopReason>,
    pub(super) connections: SmallVec<[Connection; 2]>,
    /// A TCP connect of ours is under way.
    pub(super) connecting: bool,
    /// ConnectRetry timer: bounds the attempt in Connect, ends the wait in Active.
    pub(super) retry: Option<Instant>,
    pub(super) idle_hold: Option<Instant>,
    pub(super) backoff: Backoff,
    pub(super) jitter: Jitter,
    pub(super) refused: Refused,
    pub(super) stale: Stale,
    /// Families of the last Established session: this process has kept their forwarding state since.
    pub(super) carried: Vec<AfiSafi>,
    pub(super) last_down: Option<(DownReason, Instant)>,
}

impl Session {
    /// A stopped session. `seed` sets the jitter; give each peer another one.
    pub fn new(config: Peer, local: LocalSpeaker, seed: u64) -> Self {
        Self {
            stopped: Some(StopReason::AdminShutdown(config.paused.clone().unwrap_or_default())),
            config,
            local,
            connections: SmallVec::new(),
            connecting: false,
            retry: None,
            idle_hold: None,
            backoff: Backoff::default(),
            jitter: Jitter::new(seed),
            refused: Refused::default(),
            stale: Stale::default(),
            carried: Vec::new(),
            last_down: None,
        }
    }

    /// What `event` asks for. Events of connections already closed are ignored.
    pub fn handle(&mut self, now: Instant, event: Event) -> Actions {
        let mut out = Actions::new();
        match event {
            Event::Start => self.start(now, &mut out),
            Event::Stop(reason) => self.stop(now, reason, &mut out),
            Event::Connected(id, direction, endpoints) => {
                self.connected(now, id, direction, endpoints, &mut out);
            }
            Event::ConnectFailed(text) => self.connect_failed(now, text),
            Event::Closed(id, text) => self.end(now, id, DownReason::ConnectionClosed(text), &mut out),
            Event::Message(id, message) => self.message(now, id, message, &mut out),
            Event::Malformed(id, e) => {
                let notification = Notification { code: e.code, subcode: e.subcode, data: e.data };
                self.end(now, id, DownReason::NotificationSent(notification), &mut out);
            }
            Event::Wrote(id) => {
                if let Some(connection) = self.connection(id) {
                    connection.wrote(now);
                }
            }
            Event::RequestRefresh => self.request_refresh(&mut out),
            Event::Deadline => self.deadline_passed(now, &mut out),
        }
        out
    }

    /// When [`Event::Deadline`] is due, if at all: the driver's only timer.
    pub fn deadline(&self) -> Option<Instant> {
        let connections = self.connections.iter().filter_map(Connection::deadline);
        connections.chain([self.retry, self.idle_hold, self.stale.deadline].into_iter().flatten()).min()
    }

    /// The state of the connection that has come furthest.
    pub fn state(&self) -> State {
        let rank = |state: &State| match state {
            State::Established => 2,
            State::OpenConfirm => 1,
            _ => 0,
        };
        match self.connections.iter().map(Connection::state).max_by_key(rank) {
            Some(state) => state,
            None if self.stopped.is_some() || self.idle_hold.is_some() => State::Idle,
            None if self.connecting => State::Connect,
            None => State::Active,
        }
    }

    /// What the Established session agreed on.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.connections.iter().find(|c| c.is_established()).and_then(Connection::negotiated)
    }

    /// Why the session was last not Established, or could not become so, and when that was.
    pub fn last_down(&self) -> Option<(&DownReason, Instant)> {
        self.last_down.as_ref().map(|(reason, when)| (reason, *when))
    }

    /// Takes effect with the next OPEN; a changed router id needs [`StopReason::ConfigurationChange`] as well.
    pub fn set_local(&mut self, local: LocalSpeaker) {
        self.local = local;
    }

    pub(super) fn start(&mut self, now: Instant, out: &mut Actions) {
        // Over the prefix limit: only a reset helps, not a link that comes back.
        let over_limit = matches!(self.stopped, Some(StopReason::MaxPrefix { .. }));
        if self.config.paused.is_some() || over_limit {
            return;
        }
        self.stopped = None;
        if self.connections.is_empty() && !self.connecting {
            self.backoff.reset();
            self.attempt(now, out);
        }
    }

    /// Connects, or waits for the peer to connect.
    fn attempt(&mut self, now: Instant, out: &mut Actions) {
        self.idle_hold = None;
        if self.waits_for_peer() {
            self.connecting = false;
            self.retry = None;
            return;
        }
        self.connecting = true;
        let patience = self.config.timers.connect_retry.max(Duration::from_secs(1));
        self.retry = Some(after(now, self.jitter.apply(patience)));
        out.push(Action::Connect);
    }

    fn waits_for_peer(&self) -> bool {
        self.config.passive == Passive::Always || matches!(self.config.neighbor, Neighbor::Listen { .. })
    }

    fn connect_failed(&mut self, now: Instant, text: String) {
        if !std::mem::take(&mut self.connecting) {
            return;
        }
        self.retry = None;
        if self.connections.is_empty() {
            self.last_down = Some((DownReason::ConnectFailed(text), now));
            let wait = self.backoff.next(self.config.timers.connect_retry);
            self.retry = Some(after(now, self.jitter.apply(wait)));
        }
    }

    fn connected(
        &mut self,
        now: Instant,
        id: ConnId,
        direction: Direction,
        endpoints: Endpoints,
        out: &mut Actions,
    ) {
        match direction {
            // Given up meanwhile.
            Direction::Outgoing if !self.connecting => return out.push(Action::Close(id)),
            Direction::Outgoing => {
                self.connecting = false;
                self.retry = None;
            }
            Direction::Incoming => {
                if let Some(refusal) = self.refusal() {
                    out.push(Action::Send(id, Message::Notification(refusal)));
                    return out.push(Action::Close(id));
                }
            }
        }
        self.idle_hold = None;
        if !self.connecting {
            self.retry = None;
        }
        self.refused.lapse(now);
        let open = capabilities::open(&self.config, &self.local, &self.carried, &self.refused);
        out.push(Action::Send(id, Message::Open(open.clone())));
        self.connections.push(Connection::new(now, id, direction, endpoints, open));
        // A peer that connects twice has given its first connection up.
        let older = self
            .connections
            .iter()
            .find(|c| c.id != id && c.direction == direction && !c.is_established())
            .map(|c| c.id);
        if let Some(older) = older {
            self.lose(now, older, out);
        }
    }

    /// What an incoming connection is answered with when it is not wanted.
    fn refusal(&self) -> Option<Notification> {
        match &self.stopped {
            Some(StopReason::AdminShutdown(text)) => Some(Notification::cease_shutdown(text)),
            Some(_) => Some(Notification::cease(subcode::CONNECTION_REJECTED)),
            None if self.config.passive == Passive::Never => {
                Some(Notification::cease(subcode::CONNECTION_REJECTED))
            }
            None => None,
        }
    }

    fn message(&mut self, now: Instant, id: ConnId, message: Message, out: &mut Actions) {
        let Some(connection) = self.connection(id) else { return };
        connection.heard(now);
        match (&mut connection.phase, message) {
            (_, Message::Notification(notification)) => {
                let sent = connection.sent.clone();
                if !connection.is_established() && self.refused.learn(now, &notification, &sent) {
                    // The next OPEN is another one: worth an early try.
                    self.backoff.reset();
                }
                self.end(now, id, DownReason::NotificationReceived(notification), out);
            }
            (Phase::OpenSent, Message::Open(open)) => self.opened(now, id, &open, out),
            (Phase::OpenSent, other) => self.end(now, id, cease::unexpected(1, &other), out),
            (Phase::Held { keepalive_seen, .. }, Message::Keepalive) => *keepalive_seen = true,
            (Phase::OpenConfirm(_), Message::Keepalive) => self.establish(now, id, out),
            (Phase::Held { .. } | Phase::OpenConfirm(_), other) => {
                self.end(now, id, cease::unexpected(2, &other), out);
            }
            (Phase::Established { .. }, Message::Keepalive) => {}
            (Phase::Established { .. }, Message::Update(update)) => {
                let end_of_rib = update.end_of_rib;
                out.push(Action::Deliver(update));
                out.extend(end_of_rib.filter(|f| self.stale.end_of_rib(*f)).map(Action::SweepStale));
            }
            (Phase::Established { negotiated, .. }, Message::RouteRefresh(refresh)) => {
                out.extend(refresh_wanted(negotiated, refresh).then_some(Action::Refresh(refresh)));
            }
            (Phase::Established { .. }, other @ Message::Open(_)) => {
                self.end(now, id, cease::unexpected(3, &other), out);
            }
        }
    }

    fn request_refresh(&self, out: &mut Actions) {
        let established = self.connections.iter().find(|c| c.is_established());
        let Some((id, negotiated)) = established.and_then(|c| Some((c.id, c.negotiated()?))) else { return };
        if negotiated.route_refresh {
            out.extend(negotiated.codec.families.iter().map(|family| {
                let request = RouteRefresh::new(*family, RefreshKind::Request);
                Action::Send(id, Message::RouteRefresh(request))
            }));
        }
    }

    fn deadline_passed(&mut self, now: Instant, out: &mut Actions) {
        out.extend(self.stale.expire(now).into_iter().map(Action::SweepStale));
        let ids: SmallVec<[ConnId; 2]> = self.connections.iter().map(|c| c.id).collect();
        for id in ids {
            self.connection_deadline(now, id, out);
        }
        if due(self.idle_hold, now) {
            self.attempt(now, out);
        } else if due(self.retry, now) {
            if !self.connections.is_empty() {
                self.abandon_attempt(out);
                return;
            }
            if self.connecting {
                let waited = self.config.timers.connect_retry.as_secs();
                let text = format!("timed out after {waited} s");
                self.last_down = Some((DownReason::ConnectFailed(text), now));
            }
            self.attempt(now, out);
        }
    }

    fn connection_deadline(&mut self, now: Instant, id: ConnId, out: &mut Actions) {
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) else { return };
        let held_long_enough = matches!(connection.phase, Phase::Held { until, .. } if until <= now);
        if due(connection.hold, now) {
            self.end(now, id, cease::expired(ErrorCode::HoldTimerExpired), out);
        } else if due(connection.send_hold, now) {
            self.end(now, id, cease::expired(ErrorCode::SendHoldTimerExpired), out);
        } else if held_long_enough {
            self.end_wait(now, id, out);
        } else if due(connection.keepalive, now) {
            connection.kept_alive(now, &mut self.jitter);
            out.push(Action::Send(id, Message::Keepalive));
        }
    }

    pub(super) fn connection(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|c| c.id == id)
    }

    /// Brings running waits under the limits of a new configuration.
    pub(super) fn shorten_waits(&mut self, now: Instant) {
        let timers = self.config.timers;
        self.retry = self.retry.map(|at| at.min(after(now, timers.connect_retry)));
        self.idle_hold = self.idle_hold.map(|at| at.min(after(now, timers.idle_hold_max)));
    }
}

/// Only what was negotiated for a family in use; the rest is ignored (RFC 2918 section 4, RFC 7313 section 5).
fn refresh_wanted(negotiated: &Negotiated, refresh: RouteRefresh) -> bool {
    refresh.family().is_some_and(|family| negotiated.codec.families.contains(&family))
        && match refresh.kind {
            RefreshKind::Request => negotiated.route_refresh,
            RefreshKind::Begin | RefreshKind::End => negotiated.enhanced_refresh,
            RefreshKind::Unknown(_) => false,
        }
}
