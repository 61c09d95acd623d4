//! BGP messages as bytes and as values (RFC 4271 section 4).
//!
//! In: octets of a TCP stream. Out: [`Message`]s, or the [`MessageError`] that becomes a NOTIFICATION, or
//! an UPDATE with its RFC 7606 faults. Never panics, never reads past a length, no I/O, no clock.
//!
//! ```text
//! BytesMut --frame::next--> frame --decode--> Message     Message --encode--> BytesMut
//!                                                          routes --update::encode_reach--> BytesMut
//! ```

pub mod as_path;
pub mod attributes;
pub mod builder;
mod capability;
mod encode;
pub mod export;
pub mod frame;
mod nlri;
pub mod notification;
pub mod open;
mod refresh;
pub mod template;
#[cfg(test)]
mod tests;
pub mod update;
mod validate;
mod walk;
pub mod zetta;

use bytes::{BufMut, BytesMut};

pub use api::desired::AfiSafi;
pub use as_path::AsPath;
pub use attributes::{Nexthop, Origin, PathAttributes};
pub use builder::AttributesBuilder;
pub use export::ExportRules;
pub use frame::FrameReader;
pub(crate) use nlri::numbers;
pub use notification::{ErrorCode, MessageError, Notification};
pub use open::{Capability, Open};
pub use refresh::{RefreshKind, RouteRefresh};
pub use template::{OwnNexthops, Places, Template};
pub use update::{AttributeFault, FaultAction, Nlri, Reach, Update};

/// Octets of the fixed header (RFC 4271 section 4.1).
pub const HEADER_LEN: usize = 19;
/// Largest message without RFC 8654.
pub const MAX_MESSAGE: usize = 4096;
/// Largest message with RFC 8654; never OPEN or KEEPALIVE.
pub const MAX_EXTENDED_MESSAGE: usize = 65535;
/// Stands for an AS number of four octets where only two fit (RFC 6793 section 4.1).
pub const AS_TRANS: u16 = 23456;

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

/// Why something cannot be put on the wire. Nothing has been written when it is returned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The message is longer than the session allows.
    #[error("the message would be {length} octets long, the session allows {max}")]
    MessageTooLong {
        /// Octets it would take.
        length: usize,
        /// Octets allowed.
        max: usize,
    },
    /// The attributes leave no room for a prefix: the route cannot be told to this peer.
    #[error("the path attributes take {length} octets and leave no room for a prefix in a message of {max}")]
    AttributesTooLong {
        /// Octets of the attributes.
        length: usize,
        /// Octets allowed for the whole message.
        max: usize,
    },
    /// A path attribute is longer than its length field can say.
    #[error("path attribute {code} is {length} octets long, at most 65535 fit")]
    AttributeTooLong {
        /// Attribute type code.
        code: u8,
        /// Octets of its value.
        length: usize,
    },
    /// A capability is longer than its length field can say.
    #[error("capability {code} is {length} octets long, at most 255 fit")]
    CapabilityTooLong {
        /// Capability code.
        code: u8,
        /// Octets of its value.
        length: usize,
    },
    /// The Restart Time has twelve bits.
    #[error("restart time {seconds} s does not fit: at most 4095 s")]
    RestartTime {
        /// The time asked for, seconds.
        seconds: u16,
    },
    /// An AS number over 65535 needs the capability of RFC 6793 in the OPEN.
    #[error("AS {asn} does not fit in two octets and the OPEN has no 4-octet AS capability for it")]
    AsnNeedsCapability {
        /// The AS number.
        asn: u32,
    },
    /// A prefix is of another family than the first one.
    #[error("{prefix} is not of the family {family}")]
    OtherFamily {
        /// The prefix.
        prefix: ipnet::IpNet,
        /// The family of the call.
        family: AfiSafi,
    },
    /// The session cannot carry this next hop for this family (RFC 2545, RFC 8950).
    #[error("next hop {nexthop} cannot be sent with {family} prefixes on this session")]
    NexthopFamily {
        /// The next hop.
        nexthop: std::net::IpAddr,
        /// Family of the prefixes.
        family: AfiSafi,
    },
    /// The update needs more than one message; use [`update::encode_reach`] and its sisters.
    #[error("the update does not fit the fields of one UPDATE message")]
    NotOneUpdate,
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

/// Reads one whole message, header included, as [`frame::next`] cuts it.
///
/// # Errors
/// What the NOTIFICATION must say. Errors of an UPDATE that do not end the session are in
/// [`Update::faults`] instead (RFC 7606).
pub fn decode(frame: &[u8], codec: &Codec) -> Result<Message, MessageError> {
    let header = frame::Header::read(frame, codec)?;
    let body = match (header, frame.get(HEADER_LEN..)) {
        (Some(header), Some(body)) if header.length == frame.len() => (header.kind, body),
        // Only a caller that does not cut frames by their length comes here.
        _ => return Err(frame::bad_length(u16::try_from(frame.len()).unwrap_or(u16::MAX))),
    };
    Ok(match body {
        (frame::Kind::Open, body) => Message::Open(open::decode(body)?),
        (frame::Kind::Update, body) => Message::Update(walk::decode(body, codec)?),
        (frame::Kind::Notification, body) => Message::Notification(Notification::decode(body)?),
        (frame::Kind::Keepalive, _) => Message::Keepalive,
        (frame::Kind::RouteRefresh, body) => Message::RouteRefresh(RouteRefresh::decode(frame, body)?),
    })
}

/// Appends one message to `out`; [`decode`] reads it back equal, but for [`Update::faults`].
///
/// # Errors
/// See [`EncodeError`]; `out` is then as it was.
pub fn encode(message: &Message, codec: &Codec, out: &mut BytesMut) -> Result<(), EncodeError> {
    let start = out.len();
    let result = match message {
        Message::Open(open) => framed(out, frame::Kind::Open, MAX_MESSAGE, |out| open.encode(out)),
        Message::Update(update) => encode::encode_update(update, codec, out),
        Message::Notification(notification) => {
            framed(out, frame::Kind::Notification, codec.max_message(), |out| {
                notification.encode(codec.max_message(), out);
                Ok(())
            })
        }
        Message::Keepalive => framed(out, frame::Kind::Keepalive, MAX_MESSAGE, |_| Ok(())),
        Message::RouteRefresh(refresh) => framed(out, frame::Kind::RouteRefresh, MAX_MESSAGE, |out| {
            refresh.encode(out);
            Ok(())
        }),
    };
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Writes a header, the body, and the length once it is known.
fn framed(
    out: &mut BytesMut,
    kind: frame::Kind,
    max: usize,
    body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.put_bytes(0xff, 16);
    out.put_u16(0);
    out.put_u8(kind.code());
    body(out)?;
    let length = out.len() - start;
    match u16::try_from(length) {
        Ok(short) if length <= max => {
            patch_u16(out, start + 16, short);
            Ok(())
        }
        _ => Err(EncodeError::MessageTooLong { length, max }),
    }
}

/// Overwrites two octets that were reserved at `at`.
fn patch_u16(out: &mut [u8], at: usize, value: u16) {
    if let Some(place) = out.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}
