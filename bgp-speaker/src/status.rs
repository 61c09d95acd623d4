//! What a peer looks like from outside: for `towpath peers`, for metrics, for tests. Stable JSON names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use api::desired::Peer;
use serde::{Deserialize, Serialize};

use crate::session::{DownReason, Negotiated, Session, State};
use crate::wire::{Capability, FaultAction, Message};

/// A session as its task last published it.
#[derive(Clone, Debug)]
pub(crate) struct PeerView {
    pub(crate) state: State,
    /// When `state` was entered.
    pub(crate) since: SystemTime,
    pub(crate) negotiated: Option<Negotiated>,
    pub(crate) last_down: Option<DownReason>,
    /// The NOTIFICATION behind it: `last_down` itself, or what came before attempts that fail since.
    pub(crate) cause: Option<DownReason>,
    /// Both in words.
    pub(crate) reason: Option<String>,
    /// How often an Established session was lost.
    pub(crate) downs: u64,
}

impl PeerView {
    /// The first view of a session.
    pub(crate) fn of(session: &Session, config: &Peer) -> Self {
        let last_down = session.last_down().map(|(reason, _)| reason.clone());
        Self {
            state: session.state(),
            since: SystemTime::now(),
            negotiated: session.negotiated().cloned(),
            reason: last_down.as_ref().map(|reason| reason.explain(config)),
            cause: cause(last_down.as_ref(), None),
            last_down,
            downs: 0,
        }
    }

    /// The view that follows this one.
    pub(crate) fn next(&self, session: &Session, config: &Peer, downs: u64) -> Self {
        let fresh = Self::of(session, config);
        // What was said before a later session counts no more.
        let before = self.cause.as_ref().filter(|_| downs == self.downs);
        let cause = cause(fresh.last_down.as_ref(), before);
        let reason = fresh.reason.map(|now| match &cause {
            Some(cause) if fresh.last_down.as_ref() != Some(cause) => {
                format!("{now}; before that {}", cause.explain(config))
            }
            _ => now,
        });
        let since = if fresh.state == self.state { self.since } else { fresh.since };
        Self { since, cause, reason, downs, ..fresh }
    }

    pub(crate) fn outdated(&self, session: &Session) -> bool {
        self.state != session.state()
            || self.last_down.as_ref() != session.last_down().map(|(reason, _)| reason)
    }
}

/// Why a neighbour does not talk to us is in its NOTIFICATION; that it then refuses connections is not news.
fn cause(last_down: Option<&DownReason>, before: Option<&DownReason>) -> Option<DownReason> {
    match last_down? {
        DownReason::NotificationReceived(_) | DownReason::NotificationSent(_) => last_down.cloned(),
        DownReason::ConnectFailed(_) | DownReason::ConnectionClosed(_) => before.cloned(),
        DownReason::Stopped(_) | DownReason::Replaced => None,
    }
}

/// Message counters of one peer: written by its task, read by anyone.
#[derive(Debug, Default)]
pub(crate) struct SharedCounters {
    received: [AtomicU64; 5],
    sent: [AtomicU64; 5],
    treat_as_withdraw: AtomicU64,
    discarded: AtomicU64,
}

impl SharedCounters {
    pub(crate) fn received(&self, message: &Message) {
        self.received[kind(message)].fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn sent(&self, message: &Message) {
        self.sent[kind(message)].fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn sent_batch(&self, messages: &Messages) {
        self.sent[1].fetch_add(messages.update, Ordering::Relaxed);
        self.sent[4].fetch_add(messages.route_refresh, Ordering::Relaxed);
    }
    pub(crate) fn fault(&self, action: FaultAction) {
        match action {
            FaultAction::TreatAsWithdraw => self.treat_as_withdraw.fetch_add(1, Ordering::Relaxed),
            FaultAction::DiscardAttribute => self.discarded.fetch_add(1, Ordering::Relaxed),
        };
    }
    pub(crate) fn messages(&self) -> (Messages, Messages) {
        (Messages::of(&self.received), Messages::of(&self.sent))
    }
    pub(crate) fn faults(&self) -> Faults {
        Faults {
            treat_as_withdraw: self.treat_as_withdraw.load(Ordering::Relaxed),
            discarded_attributes: self.discarded.load(Ordering::Relaxed),
        }
    }
}

fn kind(message: &Message) -> usize {
    match message {
        Message::Open(_) => 0,
        Message::Update(_) => 1,
        Message::Notification(_) => 2,
        Message::Keepalive => 3,
        Message::RouteRefresh(_) => 4,
    }
}

/// Messages by type, one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Messages {
    /// OPEN.
    pub open: u64,
    /// UPDATE.
    pub update: u64,
    /// NOTIFICATION.
    pub notification: u64,
    /// KEEPALIVE.
    pub keepalive: u64,
    /// ROUTE-REFRESH.
    pub route_refresh: u64,
}

impl Messages {
    fn of(counters: &[AtomicU64; 5]) -> Self {
        let [open, update, notification, keepalive, route_refresh] =
            counters.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        Self { open, update, notification, keepalive, route_refresh }
    }
}

/// UPDATEs that RFC 7606 answered without a reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Faults {
    /// Routes of an UPDATE were withdrawn.
    pub treat_as_withdraw: u64,
    /// An attribute was dropped.
    pub discarded_attributes: u64,
}

/// One session, whole: what `towpath peers -o json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus {
    /// `metadata.name` of the BGPPeer.
    pub peer: String,
    /// The neighbour's address.
    pub neighbor: IpAddr,
    /// Accepted from a listen range.
    pub dynamic: bool,
    /// Name of RFC 4271 section 8.2.2.
    pub state: String,
    /// Seconds since the epoch at which `state` was entered.
    pub since: u64,
    /// Our AS on this session.
    pub local_asn: u32,
    /// The peer's AS: from its OPEN, else the configured number.
    pub remote_asn: Option<u32>,
    /// The peer's BGP Identifier while Established.
    pub remote_router_id: Option<Ipv4Addr>,
    /// Our end of the connection.
    pub local_endpoint: Option<SocketAddr>,
    /// The peer's end of the connection.
    pub remote_endpoint: Option<SocketAddr>,
    /// Seconds; 0: off.
    pub hold_time: Option<u64>,
    /// Seconds; 0: off.
    pub keepalive: Option<u64>,
    /// Why the session is down, or was last, in words.
    pub reason: Option<String>,
    /// The last error's code and subcode when there was a NOTIFICATION.
    pub last_error: Option<LastError>,
    /// How often an Established session was lost.
    pub down_count: u64,
    /// Administratively down.
    pub paused: bool,
    /// Capabilities of both sides, in words.
    pub capabilities: Capabilities,
    /// Graceful Restart in a few words.
    pub graceful_restart: String,
    /// Prefix counts, by family.
    pub families: Vec<FamilyStatus>,
    /// Messages received.
    pub received: Messages,
    /// Messages sent.
    pub sent: Messages,
    /// RFC 7606 reactions.
    pub faults: Faults,
}

impl PeerStatus {
    /// The session should be Established: it is neither paused nor the neighbour's to open.
    pub fn is_wanted(&self) -> bool {
        !self.paused && !self.dynamic
    }

    /// The session is Established.
    pub fn is_established(&self) -> bool {
        self.state == "Established"
    }

    /// Why it is not Established, in words.
    pub fn down_because(&self) -> &str {
        self.reason.as_deref().unwrap_or("not connected yet")
    }
}

/// One session in brief: what is known of it without a look at the routes, and so at once with any number of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionBrief {
    /// `metadata.name` of the BGPPeer.
    pub peer: String,
    /// The neighbour's address.
    pub neighbor: IpAddr,
    /// Neither paused nor the neighbour's to open.
    pub wanted: bool,
    /// Name of RFC 4271 section 8.2.2.
    pub state: String,
    /// Seconds since the epoch at which `state` was entered.
    pub since: u64,
    /// Our end of the connection.
    pub local_endpoint: Option<SocketAddr>,
    /// The peer has sent End-of-RIB for every family.
    pub told: bool,
}

/// A NOTIFICATION, sent or received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Both in words, with the shutdown text.
    pub text: String,
    /// The peer sent it.
    pub received: bool,
}

/// Capabilities by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Ours.
    pub sent: Vec<String>,
    /// Theirs.
    pub received: Vec<String>,
}

/// Prefix counts of one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyStatus {
    /// `ipv4-unicast` or `ipv6-unicast`.
    pub family: String,
    /// In Adj-RIB-In.
    pub received: u32,
    /// Of these, accepted by import rules.
    pub accepted: u32,
    /// Of these, stale (RFC 4724).
    pub stale: u32,
    /// Prefixes this peer is told.
    pub advertised: u32,
    /// `maxPrefix.limit`.
    pub limit: u32,
    /// The peer has sent its End-of-RIB in this session (RFC 4724 section 2), or the session does not carry the family.
    #[serde(default)]
    pub end_of_rib: bool,
}

/// Capabilities in words.
pub(crate) fn capability_names(capabilities: &[Capability]) -> Vec<String> {
    capabilities.iter().map(capability_name).collect()
}

fn capability_name(capability: &Capability) -> String {
    match capability {
        Capability::MultiProtocol { afi: 1, safi: 1 } => "ipv4-unicast".to_owned(),
        Capability::MultiProtocol { afi: 2, safi: 1 } => "ipv6-unicast".to_owned(),
        Capability::MultiProtocol { afi, safi } => format!("afi {afi} safi {safi}"),
        Capability::RouteRefresh => "route refresh".to_owned(),
        Capability::ExtendedNextHop(_) => "extended next hop".to_owned(),
        Capability::ExtendedMessage => "extended message".to_owned(),
        Capability::GracefulRestart(restart) => format!("graceful restart {} s", restart.restart_time),
        Capability::FourOctetAs(asn) => format!("4-octet AS {asn}"),
        Capability::EnhancedRouteRefresh => "enhanced route refresh".to_owned(),
        Capability::Fqdn { host, .. } => format!("host name {host}"),
        Capability::Unknown { code, .. } => format!("capability {code}"),
    }
}

/// Seconds since the epoch.
pub(crate) fn epoch_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// The NOTIFICATION behind a lost session, if that was the reason.
pub(crate) fn last_error(reason: &DownReason) -> Option<LastError> {
    let (notification, received) = match reason {
        DownReason::NotificationReceived(notification) => (notification, true),
        DownReason::NotificationSent(notification) => (notification, false),
        _ => return None,
    };
    Some(LastError {
        code: notification.code.into(),
        subcode: notification.subcode,
        text: notification.reason(),
        received,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::StopReason;
    use crate::wire::{ErrorCode, Notification};

    #[test]
    fn a_notification_stays_the_cause_while_attempts_fail() {
        let notification = |subcode| {
            DownReason::NotificationReceived(Notification {
                code: ErrorCode::Cease,
                subcode,
                data: Vec::new(),
            })
        };
        let (limit, shutdown) = (notification(1), notification(2));
        let refused = DownReason::ConnectFailed("Connection refused".to_owned());
        let closed = DownReason::ConnectionClosed("reset by peer".to_owned());
        let stopped = DownReason::Stopped(StopReason::AdminReset(String::new()));
        let cases = [
            ("nothing yet", None, None, None),
            ("a notification", Some(&limit), None, Some(&limit)),
            ("refused afterwards", Some(&refused), Some(&limit), Some(&limit)),
            ("closed afterwards", Some(&closed), Some(&limit), Some(&limit)),
            ("another notification", Some(&shutdown), Some(&limit), Some(&shutdown)),
            ("refused from the start", Some(&refused), None, None),
            ("our operator's reset", Some(&stopped), Some(&limit), None),
        ];
        for (name, last_down, before, expected) in cases {
            assert_eq!(cause(last_down, before).as_ref(), expected, "{name}");
        }
    }
}
