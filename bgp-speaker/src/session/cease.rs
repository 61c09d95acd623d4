//! The NOTIFICATIONs this speaker sends of its own accord: Cease (RFC 4486, RFC 9003) and FSM errors (RFC 6608).

use super::{DownReason, StopReason};
use crate::wire::notification::cease as subcode;
use crate::wire::{ErrorCode, Message, Notification};

/// What the peer is told when we stop; `None`: the connection is closed without a word.
/// `quiet_restart`: the peer keeps our routes when we go without NOTIFICATION (RFC 4724 section 4).
pub(super) fn for_stop(reason: &StopReason, quiet_restart: bool) -> Option<Notification> {
    Some(match reason {
        StopReason::AdminShutdown(text) => Notification::cease_shutdown(text),
        StopReason::Deconfigured => Notification::cease(subcode::PEER_DECONFIGURED),
        StopReason::AdminReset(text) => Notification::cease_reset(text),
        StopReason::ConfigurationChange => Notification::cease(subcode::CONFIGURATION_CHANGE),
        StopReason::MaxPrefix { family, limit, .. } => Notification::cease_max_prefix(*family, *limit),
        StopReason::OutOfResources => Notification::cease(subcode::OUT_OF_RESOURCES),
        StopReason::ProcessStops if quiet_restart => return None,
        StopReason::ProcessStops => Notification::cease_shutdown(""),
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
            (StopReason::ProcessStops, 2, vec![]),
        ];
        for (reason, subcode, data) in cases {
            let expected = Notification { code: ErrorCode::Cease, subcode, data };
            assert_eq!(for_stop(&reason, false), Some(expected), "{reason:?}");
        }
        assert_eq!(for_stop(&StopReason::ProcessStops, true), None);
        assert_eq!(for_stop(&StopReason::LinkDown("eth0".into()), false), None);
    }
}
