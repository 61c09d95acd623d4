//! Connection collision detection (RFC 4271 section 6.8) as a comparison.
//!
//! The connection opened by the speaker with the higher BGP Identifier survives; identifiers are compared as
//! unsigned numbers, and equal ones by AS number (RFC 6286 section 2.3).
//!
//! RFC 4271 compares only with connections in OpenConfirm. Both sides can then confirm different connections,
//! close the other one each, and be left with none. Here the comparison is made as soon as one OPEN is known,
//! and a connection that would lose waits, unconfirmed, until the other one has its OPEN or is gone: a speaker
//! never becomes Established on a connection its peer is about to close.

use std::net::Ipv4Addr;

use super::Direction;

/// What the comparison looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    /// BGP Identifier; `Ipv4Addr` orders as the number does.
    pub(super) router_id: Ipv4Addr,
    /// AS number on this session.
    pub(super) asn: u32,
}

/// Whose connection survives, seen from us.
pub(super) fn survivor(local: Identity, remote: Identity) -> Direction {
    if local > remote { Direction::Outgoing } else { Direction::Incoming }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_identifier_keeps_its_own_connection_and_equal_ones_go_by_as() {
        let cases = [
            ("higher id", ([10, 0, 0, 2], 1), ([10, 0, 0, 1], 9), Direction::Outgoing),
            ("lower id", ([10, 0, 0, 1], 9), ([10, 0, 0, 2], 1), Direction::Incoming),
            ("first octet counts most", ([9, 255, 255, 255], 1), ([10, 0, 0, 0], 1), Direction::Incoming),
            ("equal id, higher AS", ([1, 1, 1, 1], 70000), ([1, 1, 1, 1], 65000), Direction::Outgoing),
            ("equal id, lower AS", ([1, 1, 1, 1], 65000), ([1, 1, 1, 1], 70000), Direction::Incoming),
        ];
        let identity = |(id, asn): ([u8; 4], u32)| Identity { router_id: id.into(), asn };
        for (name, local, remote, expected) in cases {
            assert_eq!(survivor(identity(local), identity(remote)), expected, "{name}");
            assert_ne!(survivor(identity(remote), identity(local)), expected, "{name}: both sides agree");
        }
    }
}
