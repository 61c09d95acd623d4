//! Why a session is down, in words for the person on call.

use std::net::IpAddr;

use api::desired::{Neighbor, Peer, RemoteAsn, Ttl};

use super::{DownReason, StopReason};
use crate::wire::notification::cease as subcode;
use crate::wire::{ErrorCode, Notification};

impl DownReason {
    /// One sentence without a full stop; `config` gives the hints (password, TTL, expected AS).
    pub fn explain(&self, config: &Peer) -> String {
        match self {
            Self::Stopped(reason) => stopped(reason),
            Self::NotificationReceived(n) => {
                format!("the peer ended the session: {}{}", explain_notification(n), received_hint(n, config))
            }
            Self::NotificationSent(n) => {
                format!("we ended the session: {}{}", explain_notification(n), sent_hint(n, config))
            }
            Self::ConnectionClosed(text) => format!("the connection closed: {text}"),
            Self::ConnectFailed(text) => connect_failed(text, config),
            Self::Replaced => "the peer connected anew and that connection replaced the old one".to_owned(),
        }
    }
}

fn stopped(reason: &StopReason) -> String {
    let with = |what: &str, text: &str| {
        if text.is_empty() { what.to_owned() } else { format!("{what}: {text}") }
    };
    match reason {
        StopReason::AdminShutdown(text) => with("administratively shut down", text),
        StopReason::Deconfigured => "removed from the configuration".to_owned(),
        StopReason::AdminReset(text) => with("reset by an operator", text),
        StopReason::ConfigurationChange => "a changed field needed a new session".to_owned(),
        StopReason::MaxPrefix { family, limit, restart } => {
            let next = if *restart { "tried again later" } else { "down until `towpath bgp reset`" };
            format!("the peer sent more than {limit} {family} prefixes; {next}")
        }
        StopReason::OutOfResources => "this speaker is out of resources".to_owned(),
        StopReason::ProcessStops => "this speaker stops".to_owned(),
        StopReason::LinkDown(text) => with("the link went down", text),
    }
}

/// The texts come from the operating system, or from the time limit of an attempt.
fn connect_failed(text: &str, config: &Peer) -> String {
    let lower = text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let peer = match &config.neighbor {
        Neighbor::Address { address: IpAddr::V6(v6), .. } => format!("[{v6}]:{}", config.port),
        Neighbor::Address { address, .. } => format!("{address}:{}", config.port),
        Neighbor::Listen { .. } => "the peer".to_owned(),
    };
    if says(&["refused"]) {
        format!(
            "{peer} refused the connection: no BGP speaker listens there, or it does not know this address"
        )
    } else if says(&["unreachable", "no route"]) {
        // EHOSTUNREACH is also what the kernel makes of a router's "time exceeded"; ENETUNREACH is not.
        let hops = match config.ttl {
            Ttl::Multihop(ttl) if ttl < 255 && says(&["no route"]) => {
                format!(", or it is further away than TTL {ttl}")
            }
            Ttl::Multihop(_) | Ttl::Security(_) => String::new(),
        };
        format!("no route to {peer}, or nobody answers for its address on the link{hops} ({text})")
    } else if says(&["timed out", "timeout", "elapsed"]) {
        let password = if config.md5.is_some() { "a wrong password, " } else { "" };
        let hops = match config.ttl {
            Ttl::Security(hops) => {
                format!(", or the peer is more than {hops} hops away or sends a low TTL (GTSM)")
            }
            Ttl::Multihop(ttl) if ttl < 255 => format!(", or it is further away than TTL {ttl}"),
            Ttl::Multihop(_) => String::new(),
        };
        format!("no answer from {peer}: probably {password}a filter or a dead host{hops}")
    } else {
        format!("connecting to {peer} failed: {text}")
    }
}

fn received_hint(notification: &Notification, config: &Peer) -> String {
    match (notification.code, notification.subcode) {
        (ErrorCode::Open, 2) => format!("; it expects another AS than our {}", config.local_asn),
        _ => String::new(),
    }
}

fn sent_hint(notification: &Notification, config: &Peer) -> String {
    match (notification.code, notification.subcode) {
        (ErrorCode::Open, 2) => match config.remote_asn {
            RemoteAsn::Number(asn) => format!("; AS {asn} is expected"),
            RemoteAsn::External => format!("; any but our AS {} is expected", config.local_asn),
            RemoteAsn::Internal => format!("; our AS {} is expected", config.local_asn),
            RemoteAsn::Any => String::new(),
        },
        (ErrorCode::HoldTimerExpired, _) => "; nothing was heard from the peer for the Hold Time".to_owned(),
        (ErrorCode::SendHoldTimerExpired, _) => "; the peer stopped reading what we send".to_owned(),
        _ => String::new(),
    }
}

/// A NOTIFICATION in words: name of the error, then what its data says.
pub fn explain_notification(notification: &Notification) -> String {
    let Notification { code, subcode, data } = notification;
    let name = match code {
        ErrorCode::MessageHeader => named("message header error", header(*subcode), *subcode),
        ErrorCode::Open => named("OPEN refused", open(*subcode), *subcode),
        ErrorCode::Update => named("UPDATE refused", update(*subcode), *subcode),
        ErrorCode::HoldTimerExpired => "Hold Timer expired".to_owned(),
        ErrorCode::FiniteStateMachine => named("unexpected message", state_machine(*subcode), *subcode),
        ErrorCode::Cease => named("Cease", cease(*subcode), *subcode),
        ErrorCode::RouteRefresh => "ROUTE-REFRESH of a wrong length".to_owned(),
        ErrorCode::SendHoldTimerExpired => "Send Hold Timer expired".to_owned(),
        ErrorCode::Unknown(code) => format!("error code {code}, subcode {subcode}"),
    };
    match (code, *subcode) {
        (ErrorCode::Cease, subcode::ADMINISTRATIVE_SHUTDOWN | subcode::ADMINISTRATIVE_RESET) => {
            match shutdown_text(data) {
                Some(text) => format!("{name}: \"{text}\""),
                None => name,
            }
        }
        (ErrorCode::Cease, subcode::MAX_PREFIXES) => match data.as_slice() {
            [.., a, b, c, d] if data.len() == 7 => {
                format!("{name}: more than {}", u32::from_be_bytes([*a, *b, *c, *d]))
            }
            _ => name,
        },
        _ => name,
    }
}

fn named(what: &str, detail: Option<&str>, subcode: u8) -> String {
    match detail {
        Some(detail) => format!("{what}, {detail}"),
        None if subcode == 0 => what.to_owned(),
        None => format!("{what}, subcode {subcode}"),
    }
}

/// RFC 9003 section 2; control characters would let a peer write over an operator's terminal.
fn shutdown_text(data: &[u8]) -> Option<String> {
    let (length, text) = data.split_first()?;
    let text = std::str::from_utf8(text.get(..usize::from(*length))?).ok()?;
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    (!clean.is_empty()).then_some(clean)
}

fn header(subcode: u8) -> Option<&'static str> {
    Some(match subcode {
        1 => "connection not synchronized",
        2 => "bad message length",
        3 => "bad message type",
        _ => return None,
    })
}

fn open(subcode: u8) -> Option<&'static str> {
    Some(match subcode {
        1 => "unsupported version",
        2 => "bad peer AS",
        3 => "bad BGP Identifier",
        4 => "unsupported optional parameter",
        5 => "authentication failure",
        6 => "unacceptable Hold Time",
        7 => "unsupported capability or no address family in common",
        11 => "role mismatch",
        _ => return None,
    })
}

fn update(subcode: u8) -> Option<&'static str> {
    Some(match subcode {
        1 => "malformed attribute list",
        2 => "unrecognized well-known attribute",
        3 => "missing well-known attribute",
        4 => "attribute flags error",
        5 => "attribute length error",
        6 => "invalid ORIGIN",
        8 => "invalid NEXT_HOP",
        9 => "optional attribute error",
        10 => "invalid network field",
        11 => "malformed AS_PATH",
        _ => return None,
    })
}

fn state_machine(subcode: u8) -> Option<&'static str> {
    Some(match subcode {
        1 => "in OpenSent",
        2 => "in OpenConfirm",
        3 => "in Established",
        _ => return None,
    })
}

fn cease(code: u8) -> Option<&'static str> {
    Some(match code {
        subcode::MAX_PREFIXES => "too many prefixes",
        subcode::ADMINISTRATIVE_SHUTDOWN => "administratively shut down",
        3 => "peer removed from the configuration",
        subcode::ADMINISTRATIVE_RESET => "administratively reset",
        5 => "connection rejected",
        6 => "configuration changed",
        subcode::COLLISION => "connection collision, or it still holds an older session with us",
        8 => "out of resources",
        9 => "hard reset",
        10 => "BFD saw the path down",
        _ => return None,
    })
}
