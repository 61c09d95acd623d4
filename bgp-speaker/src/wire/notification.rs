//! NOTIFICATION: codes, subcodes, and the shutdown text of RFC 9003.

/// An error that ends the session: what the NOTIFICATION will say (RFC 4271 section 6).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("NOTIFICATION {code:?}/{subcode}")]
pub struct MessageError {
    /// Error code.
    pub code: ErrorCode,
    /// Error subcode, 0 when unspecific.
    pub subcode: u8,
    /// Data field.
    pub data: Vec<u8>,
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

impl std::fmt::Display for Notification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}/{}", self.code, self.subcode)
    }
}
