//! The NOTIFICATIONs this speaker sends of its own accord: Cease (RFC 4486, RFC 9003) and FSM errors (RFC 6608).

use super::negotiate::numbers;
use super::{DownReason, StopReason};
use crate::wire::{ErrorCode, Message, Notification};

/// Cease subcodes (RFC 4486 section 3).
pub(super) const MAX_PREFIXES: u8 = 1;
pub(super) const ADMIN_SHUTDOWN: u8 = 2;
pub(super) const DECONFIGURED: u8 = 3;
pub(super) const ADMIN_RESET: u8 = 4;
pub(super) const CONNECTION_REJECTED: u8 = 5;
pub(super) const CONFIGURATION_CHANGE: u8 = 6;
pub(super) const COLLISION: u8 = 7;
pub(super) const OUT_OF_RESOURCES: u8 = 8;

/// Longest shutdown communication (RFC 9003 section 2).
const TEXT_MAX: usize = 255;

/// A Cease without data.
pub(super) fn cease(subcode: u8) -> Notification {
    Notification { code: ErrorCode::Cease, subcode, data: Vec::new() }
}

/// A Cease with a shutdown communication: one length octet and UTF-8, cut between characters to fit.
pub(super) fn with_text(subcode: u8, text: &str) -> Notification {
    let end = (0..=TEXT_MAX.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let text = text.get(..end).unwrap_or_default();
    let mut data = vec![u8::try_from(text.len()).unwrap_or(0)];
    data.extend_from_slice(text.as_bytes());
    Notification { code: ErrorCode::Cease, subcode, data }
}

/// What the peer is told when we stop; `None`: the connection is closed without a word.
/// `quiet_restart`: the peer keeps our routes when we go without NOTIFICATION (RFC 4724 section 4).
pub(super) fn for_stop(reason: &StopReason, quiet_restart: bool) -> Option<Notification> {
    Some(match reason {
        StopReason::AdminShutdown(text) => with_text(ADMIN_SHUTDOWN, text),
        StopReason::Deconfigured => cease(DECONFIGURED),
        StopReason::AdminReset(text) => with_text(ADMIN_RESET, text),
        StopReason::ConfigurationChange => cease(CONFIGURATION_CHANGE),
        StopReason::MaxPrefix { family, limit, .. } => {
            let (afi, safi) = numbers(*family);
            let mut data = afi.to_be_bytes().to_vec();
            data.push(safi);
            data.extend_from_slice(&limit.to_be_bytes());
            Notification { code: ErrorCode::Cease, subcode: MAX_PREFIXES, data }
        }
        StopReason::OutOfResources => cease(OUT_OF_RESOURCES),
        StopReason::ProcessStops if quiet_restart => return None,
        StopReason::ProcessStops => with_text(ADMIN_SHUTDOWN, ""),
        StopReason::LinkDown(_) => return None,
    })
}

/// A message that its state does not allow (RFC 6608): the data is the type of the message.
pub(super) fn unexpected(subcode: u8, message: &Message) -> DownReason {
    let kind = match message {
        Message::Open(_) => 1,
        Message::Update(_) => 2,
        Message::Notification(_) => 3,
        Message::Keepalive => 4,
        Message::RouteRefresh(_) => 5,
    };
    DownReason::NotificationSent(Notification {
        code: ErrorCode::FiniteStateMachine,
        subcode,
        data: vec![kind],
    })
}

/// An error with neither subcode nor data: a timer ran out.
pub(super) fn expired(code: ErrorCode) -> DownReason {
    DownReason::NotificationSent(Notification { code, subcode: 0, data: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::AfiSafi;

    #[test]
    fn stop_reasons_become_the_cease_their_rfc_names() {
        let text = |t: &str| [&[t.len() as u8], t.as_bytes()].concat();
        let limit = StopReason::MaxPrefix { family: AfiSafi::Ipv6Unicast, limit: 258, restart: true };
        let cases = [
            (StopReason::AdminShutdown("maintenance".into()), 2, text("maintenance")),
            (StopReason::Deconfigured, 3, vec![]),
            (StopReason::AdminReset("again".into()), 4, text("again")),
            (StopReason::ConfigurationChange, 6, vec![]),
            (limit, 1, vec![0, 2, 1, 0, 0, 1, 2]),
            (StopReason::OutOfResources, 8, vec![]),
            (StopReason::ProcessStops, 2, text("")),
        ];
        for (reason, subcode, data) in cases {
            let expected = Notification { code: ErrorCode::Cease, subcode, data };
            assert_eq!(for_stop(&reason, false), Some(expected), "{reason:?}");
        }
        assert_eq!(for_stop(&StopReason::ProcessStops, true), None);
        assert_eq!(for_stop(&StopReason::LinkDown("eth0".into()), false), None);
    }

    #[test]
    fn shutdown_text_is_cut_between_characters() {
        let long = "ü".repeat(200);
        let notification = with_text(ADMIN_SHUTDOWN, &long);
        assert_eq!(notification.data.len(), 255, "254 octets of text: 255 would split a character");
        assert_eq!(notification.data.first(), Some(&254));
        assert_eq!(std::str::from_utf8(&notification.data[1..]).unwrap(), "ü".repeat(127));
    }
}
