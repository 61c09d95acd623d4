//! BGP messages as bytes and as values (RFC 4271 section 4).
//!
//! In: octets of a TCP stream. Out: [`Message`]s, or the [`MessageError`] that becomes a NOTIFICATION, or
//! an UPDATE with its RFC 7606 faults. Never panics, never reads past a length, no I/O, no clock.

pub mod attributes;
pub mod notification;
pub mod open;
pub mod update;

pub use api::desired::AfiSafi;
pub use attributes::{AttributesBuilder, Nexthop, Origin, PathAttributes};
pub use notification::{ErrorCode, MessageError, Notification};
pub use open::{Capability, Open};
pub use update::{AttributeFault, FaultAction, Nlri, Reach, Update};

/// Octets of the fixed header (RFC 4271 section 4.1).
pub const HEADER_LEN: usize = 19;
/// Largest message without RFC 8654.
pub const MAX_MESSAGE: usize = 4096;
/// Largest message with RFC 8654; never OPEN or KEEPALIVE.
pub const MAX_EXTENDED_MESSAGE: usize = 65535;

/// A message that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("does not fit in a message")]
pub struct EncodeError;

/// One BGP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Type 1.
    Open(Open),
    /// Type 2, with what RFC 7606 found wrong with it.
    Update(Update),
    /// Type 3.
    Notification(Notification),
    /// Type 4.
    Keepalive,
    /// Type 5 (RFC 2918, RFC 7313).
    RouteRefresh(RouteRefresh),
}

/// ROUTE-REFRESH. Families we do not know are kept as numbers so that they can be ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    /// AFI as received.
    pub afi: u16,
    /// SAFI as received.
    pub safi: u8,
    /// What it asks or says.
    pub kind: RefreshKind,
}

/// Message subtype (RFC 7313 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshKind {
    /// 0: please send everything again.
    Request,
    /// 1: Beginning of Route Refresh.
    Begin,
    /// 2: End of Route Refresh.
    End,
    /// Anything else is ignored.
    Unknown(u8),
}

/// What both OPENs agreed on, as far as bytes are concerned. Made by `session::negotiate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codec {
    /// AS numbers in AS_PATH and AGGREGATOR have four octets (RFC 6793).
    pub four_octet_as: bool,
    /// RFC 8654 both ways.
    pub extended_message: bool,
    /// Families both sides offered.
    pub families: Vec<AfiSafi>,
    /// IPv4 prefixes may carry IPv6 next hops (RFC 8950).
    pub extended_nexthop_v4: bool,
    /// The peer is in another AS: LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST from it are discarded (RFC 7606).
    pub ebgp: bool,
}

impl Codec {
    /// What holds before the OPENs are exchanged.
    pub fn before_open() -> Self {
        Self {
            four_octet_as: false,
            extended_message: false,
            families: Vec::new(),
            extended_nexthop_v4: false,
            ebgp: true,
        }
    }
    /// Largest message that may be sent or received, but for OPEN and KEEPALIVE.
    pub fn max_message(&self) -> usize {
        if self.extended_message { MAX_EXTENDED_MESSAGE } else { MAX_MESSAGE }
    }
}
