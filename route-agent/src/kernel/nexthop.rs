//! `RTM_NEWNEXTHOP`, `RTM_DELNEXTHOP`, `RTM_GETNEXTHOP`: the message netlink-packet-route lacks.
//!
//! Written on netlink-packet-core alone, with that crate family's shape (header, attribute enum,
//! `Emitable`/`Parseable`), so that it can be handed upstream as it is. Layout: `linux/nexthop.h`.
//! Attributes we do not use (encapsulation, resilient groups, statistics) are skipped when parsing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{
    DecodeError, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkPayload, NetlinkSerializable, Nla,
    NlaBuffer, NlasIterator, Parseable, parse_u16, parse_u32,
};

/// `RTM_NEWNEXTHOP`.
pub const RTM_NEWNEXTHOP: u16 = 104;
/// `RTM_DELNEXTHOP`.
pub const RTM_DELNEXTHOP: u16 = 105;
/// `RTM_GETNEXTHOP`.
pub const RTM_GETNEXTHOP: u16 = 106;
/// Multicast group of nexthop notifications (`RTNLGRP_NEXTHOP`).
pub const RTNLGRP_NEXTHOP: u32 = 32;

const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_GROUP_TYPE: u16 = 3;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const HEADER_BYTES: usize = 8;
const GROUP_ENTRY_BYTES: usize = 8;

/// `struct nhmsg`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NexthopHeader {
    /// Address family; 0 for groups.
    pub family: u8,
    /// Route scope, set by the kernel.
    pub scope: u8,
    /// Who made it (`rtm_protocol` numbers).
    pub protocol: u8,
    /// `RTNH_F_*`.
    pub flags: u32,
}

/// `struct nexthop_grp`: one member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NexthopGroupEntry {
    /// Id of the member.
    pub id: u32,
    /// Weight less one.
    pub weight: u8,
}

/// One attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NexthopAttribute {
    /// `NHA_ID`.
    Id(u32),
    /// `NHA_GROUP`.
    Group(Vec<NexthopGroupEntry>),
    /// `NHA_GROUP_TYPE`: 0 multipath, 1 resilient.
    GroupType(u16),
    /// `NHA_BLACKHOLE`.
    Blackhole,
    /// `NHA_OIF`: interface index.
    Oif(u32),
    /// `NHA_GATEWAY`.
    Gateway(IpAddr),
}

/// A nexthop message without its netlink header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NexthopMessage {
    /// Fixed part.
    pub header: NexthopHeader,
    /// Attributes.
    pub attributes: Vec<NexthopAttribute>,
}

impl Nla for NexthopAttribute {
    fn value_len(&self) -> usize {
        match self {
            Self::Id(_) | Self::Oif(_) | Self::Gateway(IpAddr::V4(_)) => 4,
            Self::Group(entries) => entries.len() * GROUP_ENTRY_BYTES,
            Self::GroupType(_) => 2,
            Self::Blackhole => 0,
            Self::Gateway(IpAddr::V6(_)) => 16,
        }
    }

    fn kind(&self) -> u16 {
        match self {
            Self::Id(_) => NHA_ID,
            Self::Group(_) => NHA_GROUP,
            Self::GroupType(_) => NHA_GROUP_TYPE,
            Self::Blackhole => NHA_BLACKHOLE,
            Self::Oif(_) => NHA_OIF,
            Self::Gateway(_) => NHA_GATEWAY,
        }
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        match self {
            Self::Id(value) | Self::Oif(value) => buffer.copy_from_slice(&value.to_ne_bytes()),
            Self::Group(entries) => {
                for (place, entry) in buffer.chunks_exact_mut(GROUP_ENTRY_BYTES).zip(entries) {
                    let [a, b, c, d] = entry.id.to_ne_bytes();
                    place.copy_from_slice(&[a, b, c, d, entry.weight, 0, 0, 0]);
                }
            }
            Self::GroupType(value) => buffer.copy_from_slice(&value.to_ne_bytes()),
            Self::Blackhole => {}
            Self::Gateway(IpAddr::V4(address)) => buffer.copy_from_slice(&address.octets()),
            Self::Gateway(IpAddr::V6(address)) => buffer.copy_from_slice(&address.octets()),
        }
    }
}

impl NexthopAttribute {
    /// `None`: an attribute this type does not carry.
    fn parse(attribute: &NlaBuffer<&[u8]>) -> Result<Option<Self>, DecodeError> {
        let value = attribute.value();
        Ok(Some(match attribute.kind() {
            NHA_ID => Self::Id(parse_u32(value)?),
            NHA_GROUP => Self::Group(
                value
                    .chunks_exact(GROUP_ENTRY_BYTES)
                    .map(|entry| match entry {
                        [a, b, c, d, weight, ..] => Ok(NexthopGroupEntry {
                            id: u32::from_ne_bytes([*a, *b, *c, *d]),
                            weight: *weight,
                        }),
                        _ => Err(DecodeError::from("group entry too short")),
                    })
                    .collect::<Result<_, _>>()?,
            ),
            NHA_GROUP_TYPE => Self::GroupType(parse_u16(value)?),
            NHA_BLACKHOLE => Self::Blackhole,
            NHA_OIF => Self::Oif(parse_u32(value)?),
            NHA_GATEWAY => Self::Gateway(gateway(value)?),
            _ => return Ok(None),
        }))
    }
}

fn gateway(value: &[u8]) -> Result<IpAddr, DecodeError> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Ok(Ipv4Addr::from(octets).into());
    }
    let octets = <[u8; 16]>::try_from(value)
        .map_err(|_| DecodeError::from(format!("NHA_GATEWAY of {} octets", value.len())))?;
    Ok(Ipv6Addr::from(octets).into())
}

impl Emitable for NexthopMessage {
    fn buffer_len(&self) -> usize {
        HEADER_BYTES + self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(HEADER_BYTES);
        let [a, b, c, d] = self.header.flags.to_ne_bytes();
        let NexthopHeader { family, scope, protocol, .. } = self.header;
        header.copy_from_slice(&[family, scope, protocol, 0, a, b, c, d]);
        self.attributes.as_slice().emit(attributes);
    }
}

impl Parseable<[u8]> for NexthopMessage {
    fn parse(payload: &[u8]) -> Result<Self, DecodeError> {
        let (header, rest) = payload
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or_else(|| DecodeError::from(format!("nexthop message of {} octets", payload.len())))?;
        let [family, scope, protocol, _, a, b, c, d] = *header;
        let header = NexthopHeader { family, scope, protocol, flags: u32::from_ne_bytes([a, b, c, d]) };
        let mut attributes = Vec::new();
        for attribute in NlasIterator::new(rest) {
            attributes.extend(NexthopAttribute::parse(&attribute?)?);
        }
        Ok(Self { header, attributes })
    }
}

/// A nexthop message with its type, as [`netlink_packet_core::NetlinkMessage`] carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NexthopNetlinkMessage {
    /// `RTM_NEWNEXTHOP`.
    New(NexthopMessage),
    /// `RTM_DELNEXTHOP`.
    Delete(NexthopMessage),
    /// `RTM_GETNEXTHOP`.
    Get(NexthopMessage),
}

impl NexthopNetlinkMessage {
    fn body(&self) -> &NexthopMessage {
        match self {
            Self::New(body) | Self::Delete(body) | Self::Get(body) => body,
        }
    }
}

impl NetlinkSerializable for NexthopNetlinkMessage {
    fn message_type(&self) -> u16 {
        match self {
            Self::New(_) => RTM_NEWNEXTHOP,
            Self::Delete(_) => RTM_DELNEXTHOP,
            Self::Get(_) => RTM_GETNEXTHOP,
        }
    }

    fn buffer_len(&self) -> usize {
        self.body().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        self.body().emit(buffer);
    }
}

impl From<NexthopNetlinkMessage> for NetlinkPayload<NexthopNetlinkMessage> {
    fn from(message: NexthopNetlinkMessage) -> Self {
        Self::InnerMessage(message)
    }
}

impl NetlinkDeserializable for NexthopNetlinkMessage {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let body = NexthopMessage::parse(payload)?;
        match header.message_type {
            RTM_NEWNEXTHOP => Ok(Self::New(body)),
            RTM_DELNEXTHOP => Ok(Self::Delete(body)),
            RTM_GETNEXTHOP => Ok(Self::Get(body)),
            other => Err(DecodeError::from(format!("message type {other} is not about nexthops"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage};
    use proptest::prelude::*;

    fn attribute() -> impl Strategy<Value = NexthopAttribute> {
        prop_oneof![
            any::<u32>().prop_map(NexthopAttribute::Id),
            proptest::collection::vec((any::<u32>(), any::<u8>()), 0..20).prop_map(|entries| {
                let entry = |(id, weight)| NexthopGroupEntry { id, weight };
                NexthopAttribute::Group(entries.into_iter().map(entry).collect())
            }),
            any::<u16>().prop_map(NexthopAttribute::GroupType),
            Just(NexthopAttribute::Blackhole),
            any::<u32>().prop_map(NexthopAttribute::Oif),
            any::<[u8; 4]>().prop_map(|octets| NexthopAttribute::Gateway(Ipv4Addr::from(octets).into())),
            any::<[u8; 16]>().prop_map(|octets| NexthopAttribute::Gateway(Ipv6Addr::from(octets).into())),
        ]
    }

    proptest! {
        #[test]
        fn what_is_serialized_is_read_back_equal(
            family: u8, scope: u8, protocol: u8, flags: u32,
            attributes in proptest::collection::vec(attribute(), 0..8),
        ) {
            let header = NexthopHeader { family, scope, protocol, flags };
            let body = NexthopNetlinkMessage::New(NexthopMessage { header, attributes });
            let mut message = NetlinkMessage::from(body.clone());
            message.header.flags = NLM_F_REQUEST;
            message.finalize();
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            let back = NetlinkMessage::<NexthopNetlinkMessage>::deserialize(&bytes).unwrap();
            prop_assert_eq!(back.payload, NetlinkPayload::InnerMessage(body));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = NexthopMessage::parse(&bytes);
        }
    }

    #[test]
    fn the_bytes_of_a_group_are_those_of_linux() {
        let message = NexthopMessage {
            header: NexthopHeader { protocol: 199, ..NexthopHeader::default() },
            attributes: vec![
                NexthopAttribute::Id(7),
                NexthopAttribute::Group(vec![
                    NexthopGroupEntry { id: 1, weight: 0 },
                    NexthopGroupEntry { id: 2, weight: 0 },
                ]),
            ],
        };
        let mut bytes = vec![0; Emitable::buffer_len(&message)];
        message.emit(&mut bytes);
        let mut expected = vec![0, 0, 199, 0, 0, 0, 0, 0];
        for (kind, value) in [(1u16, vec![7u32]), (2, vec![1, 0, 2, 0])] {
            expected.extend(u16::try_from(4 + 4 * value.len()).unwrap().to_ne_bytes());
            expected.extend(kind.to_ne_bytes());
            expected.extend(value.iter().flat_map(|word| word.to_ne_bytes()));
        }
        assert_eq!(bytes, expected);
    }
}
