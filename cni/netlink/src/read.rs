//! Bounds-checked reading of netlink bytes: messages of a datagram, attributes of a message.
//!
//! The kernel is trusted to be well-meaning, not to be bug-free or of our version: whatever does not
//! fit is skipped, nothing is indexed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One message of a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub sequence: u32,
    /// Port of the socket whose request caused this; 0: the kernel itself.
    pub port: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// Iterates over the messages of a datagram.
pub struct Messages<'a>(
    /// The datagram.
    pub &'a [u8],
);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let bytes = self.0;
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            port: u32_at(bytes, 12)?,
            payload: bytes.get(16..length)?,
        };
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    }
}

/// Iterates over attributes: type without its flag bits, and value.
pub struct Attributes<'a>(
    /// Attributes one after the other.
    pub &'a [u8],
);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.0;
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..length)?;
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    }
}

/// Attributes behind a fixed header of `header` bytes.
pub fn attributes(payload: &[u8], header: usize) -> Attributes<'_> {
    Attributes(payload.get(header..).unwrap_or(&[]))
}

/// A number in the machine's byte order.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A number in the machine's byte order.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// An address by its length: 4 or 16 octets.
pub fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

/// The kernel's verdict in an `NLMSG_ERROR` or `NLMSG_DONE`: positive errno (0: success) and its words.
pub fn verdict(message: &Message<'_>) -> (i32, String) {
    const NLMSGERR_ATTR_MSG: u16 = 1;
    const NLM_F_ACK_TLVS: u16 = 0x200;
    let errno = u32_at(message.payload, 0).map_or(libc::EPROTO, |raw| 0i32.wrapping_sub(raw.cast_signed()));
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return (errno, String::new());
    }
    // NLMSG_ERROR carries the request's header (NETLINK_CAP_ACK cuts its body), NLMSG_DONE does not.
    let header = if message.kind == crate::socket::NLMSG_ERROR { 20 } else { 4 };
    let text = attributes(message.payload, header)
        .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
        .map(|(_, value)| text(value))
        .unwrap_or_default();
    (errno, text)
}

/// A C string attribute.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or(value)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn foreign_bytes_never_panic_and_always_end(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            for message in Messages(&bytes) {
                let _ = verdict(&message);
                prop_assert!(attributes(message.payload, 12).count() <= 100);
            }
        }
    }

    #[test]
    fn a_message_shorter_than_its_header_ends_the_walk() {
        let mut bytes = [0u8; 16];
        bytes[0] = 8;
        assert!(Messages(&bytes).next().is_none());
    }
}
