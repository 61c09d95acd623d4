//! NOTIFICATION: codes, subcodes, and the shutdown text of RFC 9003.

use std::fmt;

use bytes::{BufMut, BytesMut};

use super::{AfiSafi, HEADER_LEN, frame, nlri};

/// Cease subcodes (RFC 4486, RFC 8538).
pub mod cease {
    /// Maximum Number of Prefixes Reached.
    pub const MAX_PREFIXES: u8 = 1;
    /// Administrative Shutdown.
    pub const ADMINISTRATIVE_SHUTDOWN: u8 = 2;
    /// Peer De-configured.
    pub const PEER_DECONFIGURED: u8 = 3;
    /// Administrative Reset.
    pub const ADMINISTRATIVE_RESET: u8 = 4;
    /// Connection Rejected.
    pub const CONNECTION_REJECTED: u8 = 5;
    /// Other Configuration Change.
    pub const CONFIGURATION_CHANGE: u8 = 6;
    /// Connection Collision Resolution.
    pub const COLLISION: u8 = 7;
    /// Out of Resources.
    pub const OUT_OF_RESOURCES: u8 = 8;
    /// Hard Reset: the data holds the code, subcode and data meant.
    pub const HARD_RESET: u8 = 9;
}

/// An error that ends the session: what the NOTIFICATION will say (RFC 4271 section 6).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", Notification::from(self.clone()).reason())]
pub struct MessageError {
    /// Error code.
    pub code: ErrorCode,
    /// Error subcode, 0 when unspecific.
    pub subcode: u8,
    /// Data field.
    pub data: Vec<u8>,
}

impl MessageError {
    /// The error with its data field.
    pub fn new(code: ErrorCode, subcode: u8, data: &[u8]) -> Self {
        Self { code, subcode, data: data.to_vec() }
    }
}

/// NOTIFICATION message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: ErrorCode,
    /// Error subcode.
    pub subcode: u8,
    /// Data field.
    pub data: Vec<u8>,
}

impl From<MessageError> for Notification {
    fn from(error: MessageError) -> Self {
        Self { code: error.code, subcode: error.subcode, data: error.data }
    }
}

/// Error codes (RFC 4271 section 4.5, RFC 7313 section 5, RFC 8538, RFC 9687).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// 1
    MessageHeader,
    /// 2
    Open,
    /// 3
    Update,
    /// 4
    HoldTimerExpired,
    /// 5
    FiniteStateMachine,
    /// 6
    Cease,
    /// 7
    RouteRefresh,
    /// 8
    SendHoldTimerExpired,
    /// A code we do not know, from a peer.
    Unknown(u8),
}

impl From<u8> for ErrorCode {
    fn from(code: u8) -> Self {
        match code {
            1 => Self::MessageHeader,
            2 => Self::Open,
            3 => Self::Update,
            4 => Self::HoldTimerExpired,
            5 => Self::FiniteStateMachine,
            6 => Self::Cease,
            7 => Self::RouteRefresh,
            8 => Self::SendHoldTimerExpired,
            other => Self::Unknown(other),
        }
    }
}

impl From<ErrorCode> for u8 {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::MessageHeader => 1,
            ErrorCode::Open => 2,
            ErrorCode::Update => 3,
            ErrorCode::HoldTimerExpired => 4,
            ErrorCode::FiniteStateMachine => 5,
            ErrorCode::Cease => 6,
            ErrorCode::RouteRefresh => 7,
            ErrorCode::SendHoldTimerExpired => 8,
            ErrorCode::Unknown(other) => other,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MessageHeader => "Message Header Error",
            Self::Open => "OPEN Message Error",
            Self::Update => "UPDATE Message Error",
            Self::HoldTimerExpired => "Hold Timer Expired",
            Self::FiniteStateMachine => "Finite State Machine Error",
            Self::Cease => "Cease",
            Self::RouteRefresh => "ROUTE-REFRESH Message Error",
            Self::SendHoldTimerExpired => "Send Hold Timer Expired",
            Self::Unknown(code) => return write!(f, "unknown error code {code}"),
        })
    }
}

impl Notification {
    /// A NOTIFICATION without data.
    pub fn new(code: ErrorCode, subcode: u8) -> Self {
        Self { code, subcode, data: Vec::new() }
    }

    /// A Cease without data; subcodes are in [`cease`].
    pub fn cease(subcode: u8) -> Self {
        Self::new(ErrorCode::Cease, subcode)
    }

    /// Administrative Shutdown with a text for the other operator, cut to 255 octets (RFC 9003).
    pub fn cease_shutdown(text: &str) -> Self {
        Self::cease_with_text(cease::ADMINISTRATIVE_SHUTDOWN, text)
    }

    /// Administrative Reset with a text for the other operator, cut to 255 octets (RFC 9003).
    pub fn cease_reset(text: &str) -> Self {
        Self::cease_with_text(cease::ADMINISTRATIVE_RESET, text)
    }

    /// Maximum Number of Prefixes Reached, with the family and the limit as data (RFC 4486 section 4).
    pub fn cease_max_prefix(family: AfiSafi, limit: u32) -> Self {
        let (afi, safi) = nlri::numbers(family);
        let mut data = afi.to_be_bytes().to_vec();
        data.push(safi);
        data.extend(limit.to_be_bytes());
        Self { data, ..Self::cease(cease::MAX_PREFIXES) }
    }

    fn cease_with_text(subcode: u8, text: &str) -> Self {
        let mut end = text.len().min(255);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = text.get(..end).unwrap_or_default();
        let mut data = Vec::new();
        // RFC 9003 section 2: an empty text is a length of zero; RFC 4486 peers read an absent one alike.
        if let Ok(length @ 1..) = u8::try_from(text.len()) {
            data.push(length);
            data.extend_from_slice(text.as_bytes());
        }
        Self { data, ..Self::cease(subcode) }
    }

    /// The text of an Administrative Shutdown or Reset, also inside a Hard Reset (RFC 9003, RFC 8538).
    /// Octets that are not UTF-8 and control characters are replaced, so it can be logged as it is.
    pub fn shutdown_text(&self) -> Option<String> {
        let (code, subcode, data) = self.innermost();
        if code != ErrorCode::Cease
            || !matches!(subcode, cease::ADMINISTRATIVE_SHUTDOWN | cease::ADMINISTRATIVE_RESET)
        {
            return None;
        }
        let (&length, text) = data.split_first()?;
        let text = text.get(..usize::from(length)).filter(|text| !text.is_empty())?;
        let printable = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        Some(String::from_utf8_lossy(text).chars().map(printable).collect())
    }

    /// What a Hard Reset wraps (RFC 8538 section 3), else the message itself.
    fn innermost(&self) -> (ErrorCode, u8, &[u8]) {
        match (self.code, self.subcode, self.data.as_slice()) {
            (ErrorCode::Cease, cease::HARD_RESET, [code, subcode, data @ ..]) => {
                (ErrorCode::from(*code), *subcode, data)
            }
            (code, subcode, data) => (code, subcode, data),
        }
    }

    /// The message in words, for logs and for `peers`.
    pub fn reason(&self) -> String {
        let (code, subcode, data) = self.innermost();
        let mut words = describe(code, subcode);
        if let Some(text) = self.shutdown_text() {
            words.push_str(&format!(": \"{text}\""));
        } else if let Some(detail) = detail(code, subcode, data) {
            words.push_str(&format!(" ({detail})"));
        }
        if (code, subcode) == (self.code, self.subcode) { words } else { format!("Hard Reset: {words}") }
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, MessageError> {
        match body {
            [code, subcode, data @ ..] => {
                Ok(Self { code: ErrorCode::from(*code), subcode: *subcode, data: data.to_vec() })
            }
            _ => Err(frame::bad_length(u16::try_from(HEADER_LEN + body.len()).unwrap_or(u16::MAX))),
        }
    }

    /// Data that does not fit is cut: the code and subcode must reach the peer whatever they quote.
    pub(super) fn encode(&self, max: usize, out: &mut BytesMut) {
        out.put_u8(self.code.into());
        out.put_u8(self.subcode);
        let room = max.saturating_sub(HEADER_LEN + 2).min(self.data.len());
        out.put_slice(self.data.get(..room).unwrap_or_default());
    }
}

/// Code and subcode in the words of the registry.
fn describe(code: ErrorCode, subcode: u8) -> String {
    let words = match (code, subcode) {
        (ErrorCode::MessageHeader, 1) => "Connection Not Synchronized",
        (ErrorCode::MessageHeader, 2) => "Bad Message Length",
        (ErrorCode::MessageHeader, 3) => "Bad Message Type",
        (ErrorCode::Open, 1) => "Unsupported Version Number",
        (ErrorCode::Open, 2) => "Bad Peer AS",
        (ErrorCode::Open, 3) => "Bad BGP Identifier",
        (ErrorCode::Open, 4) => "Unsupported Optional Parameter",
        (ErrorCode::Open, 5) => "Authentication Failure",
        (ErrorCode::Open, 6) => "Unacceptable Hold Time",
        (ErrorCode::Open, 7) => "Unsupported Capability",
        (ErrorCode::Open, 11) => "Role Mismatch",
        (ErrorCode::Update, 1) => "Malformed Attribute List",
        (ErrorCode::Update, 2) => "Unrecognized Well-known Attribute",
        (ErrorCode::Update, 3) => "Missing Well-known Attribute",
        (ErrorCode::Update, 4) => "Attribute Flags Error",
        (ErrorCode::Update, 5) => "Attribute Length Error",
        (ErrorCode::Update, 6) => "Invalid ORIGIN Attribute",
        (ErrorCode::Update, 7) => "AS Routing Loop",
        (ErrorCode::Update, 8) => "Invalid NEXT_HOP Attribute",
        (ErrorCode::Update, 9) => "Optional Attribute Error",
        (ErrorCode::Update, 10) => "Invalid Network Field",
        (ErrorCode::Update, 11) => "Malformed AS_PATH",
        (ErrorCode::FiniteStateMachine, 1) => "unexpected message in OpenSent",
        (ErrorCode::FiniteStateMachine, 2) => "unexpected message in OpenConfirm",
        (ErrorCode::FiniteStateMachine, 3) => "unexpected message in Established",
        (ErrorCode::Cease, cease::MAX_PREFIXES) => "Maximum Number of Prefixes Reached",
        (ErrorCode::Cease, cease::ADMINISTRATIVE_SHUTDOWN) => "Administrative Shutdown",
        (ErrorCode::Cease, cease::PEER_DECONFIGURED) => "Peer De-configured",
        (ErrorCode::Cease, cease::ADMINISTRATIVE_RESET) => "Administrative Reset",
        (ErrorCode::Cease, cease::CONNECTION_REJECTED) => "Connection Rejected",
        (ErrorCode::Cease, cease::CONFIGURATION_CHANGE) => "Other Configuration Change",
        (ErrorCode::Cease, cease::COLLISION) => "Connection Collision Resolution",
        (ErrorCode::Cease, cease::OUT_OF_RESOURCES) => "Out of Resources",
        (ErrorCode::Cease, cease::HARD_RESET) => "Hard Reset",
        (ErrorCode::Cease, 10) => "BFD Down",
        (ErrorCode::RouteRefresh, 1) => "Invalid Message Length",
        (_, 0) => return code.to_string(),
        (_, other) => return format!("{code}: subcode {other}"),
    };
    format!("{code}: {words}")
}

/// What the data field adds for a reader, where its meaning is known.
fn detail(code: ErrorCode, subcode: u8, data: &[u8]) -> Option<String> {
    match (code, subcode, data) {
        (ErrorCode::MessageHeader, 2, &[a, b]) => Some(format!("length {}", u16::from_be_bytes([a, b]))),
        (ErrorCode::MessageHeader, 3, &[kind]) => Some(format!("type {kind}")),
        (ErrorCode::Open, 1, &[a, b]) => Some(format!("it supports {}", u16::from_be_bytes([a, b]))),
        (ErrorCode::Open, 7, &[capability, ..]) => Some(format!("capability {capability}")),
        (ErrorCode::Update, 2..=9, &[_, attribute, ..]) => Some(format!("attribute {attribute}")),
        (ErrorCode::Cease, cease::MAX_PREFIXES, &[a, b, safi, c, d, e, f]) => {
            let (afi, limit) = (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]));
            let family = nlri::family(afi, safi).map_or(format!("AFI {afi} SAFI {safi}"), |f| f.to_string());
            Some(format!("{family}, limit {limit}"))
        }
        _ => None,
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}", u8::from(self.code), self.subcode, self.reason())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(code: u8, subcode: u8, data: &[u8]) -> Notification {
        Notification { code: code.into(), subcode, data: data.to_vec() }
    }

    #[test]
    fn every_code_has_words() {
        let cases: &[(u8, u8, &[u8], &str)] = &[
            (1, 2, &[0x10, 0x01], "Message Header Error: Bad Message Length (length 4097)"),
            (1, 3, &[255], "Message Header Error: Bad Message Type (type 255)"),
            (2, 1, &[0, 4], "OPEN Message Error: Unsupported Version Number (it supports 4)"),
            (2, 11, &[], "OPEN Message Error: Role Mismatch"),
            (3, 9, &[0x80, 14, 0], "UPDATE Message Error: Optional Attribute Error (attribute 14)"),
            (4, 0, &[], "Hold Timer Expired"),
            (5, 3, &[4], "Finite State Machine Error: unexpected message in Established"),
            (
                6,
                1,
                &[0, 2, 1, 0, 0, 0, 9],
                "Cease: Maximum Number of Prefixes Reached (ipv6-unicast, limit 9)",
            ),
            (6, 2, b"\x07upgrade", "Cease: Administrative Shutdown: \"upgrade\""),
            (6, 9, b"\x06\x04\x02ok", "Hard Reset: Cease: Administrative Reset: \"ok\""),
            (6, 9, &[], "Cease: Hard Reset"),
            (6, 77, &[], "Cease: subcode 77"),
            (7, 1, &[], "ROUTE-REFRESH Message Error: Invalid Message Length"),
            (8, 0, &[], "Send Hold Timer Expired"),
            (200, 7, &[], "unknown error code 200: subcode 7"),
        ];
        for (code, subcode, data, expected) in cases {
            assert_eq!(notification(*code, *subcode, data).reason(), *expected);
        }
    }

    #[test]
    fn shutdown_text_is_safe_to_print_whatever_the_peer_sent() {
        let cases: &[(&str, &[u8], Option<&str>)] = &[
            ("no data", b"", None),
            ("empty text", b"\x00", None),
            ("longer than the data", b"\x05abc", None),
            ("shorter than the data", b"\x02abc", Some("ab")),
            ("not UTF-8", b"\x02\xc3\x28", Some("\u{fffd}(")),
            ("an escape sequence", b"\x03a\x1b\n", Some("a\u{fffd}\u{fffd}")),
        ];
        for (name, data, expected) in cases {
            assert_eq!(notification(6, 2, data).shutdown_text().as_deref(), *expected, "{name}");
        }
        assert_eq!(notification(6, 3, b"\x01a").shutdown_text(), None, "only shutdown and reset carry text");
    }

    #[test]
    fn a_long_shutdown_text_is_cut_between_characters() {
        let sent = Notification::cease_shutdown(&"é".repeat(200));
        assert_eq!(sent.data.len(), 255);
        assert_eq!(sent.shutdown_text(), Some("é".repeat(127)));
        assert_eq!(Notification::cease_reset("").data, Vec::<u8>::new());
    }

    #[test]
    fn max_prefix_says_family_and_limit() {
        let sent = Notification::cease_max_prefix(AfiSafi::Ipv4Unicast, 1000);
        assert_eq!((sent.subcode, sent.data.as_slice()), (1, &[0, 1, 1, 0, 0, 3, 232][..]));
    }
}
