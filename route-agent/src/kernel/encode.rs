//! Bytes of the requests the FIB makes: small, append-only, without allocation per message.
//!
//! netlink-packet-route builds a value per message and measures it before writing; at a million
//! messages a second that costs more than the kernel's own work, hence this encoder. Layouts:
//! `linux/rtnetlink.h`, `linux/nexthop.h`.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::fib::{Request, RouteKey};

use super::{RTN_BLACKHOLE, RTN_UNICAST};

pub(crate) const RTM_NEWROUTE: u16 = 24;
pub(crate) const RTM_DELROUTE: u16 = 25;
pub(crate) const RTM_GETROUTE: u16 = 26;
pub(crate) const RTM_NEWNEXTHOP: u16 = 104;
pub(crate) const RTM_DELNEXTHOP: u16 = 105;

pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_DUMP: u16 = 0x300;

pub(crate) const RTA_DST: u16 = 1;
pub(crate) const RTA_OIF: u16 = 4;
pub(crate) const RTA_GATEWAY: u16 = 5;
pub(crate) const RTA_PRIORITY: u16 = 6;
pub(crate) const RTA_TABLE: u16 = 15;
pub(crate) const RTA_VIA: u16 = 18;
pub(crate) const RTA_NH_ID: u16 = 30;
pub(crate) const NHA_ID: u16 = 1;
pub(crate) const NHA_GROUP: u16 = 2;
pub(crate) const NHA_OIF: u16 = 5;
pub(crate) const NHA_GATEWAY: u16 = 6;
pub(crate) const RTNH_F_ONLINK: u32 = 4;
const RT_SCOPE_NOWHERE: u8 = 255;

pub(crate) const AF_UNSPEC: u8 = 0;
pub(crate) const AF_INET: u8 = 2;
pub(crate) const AF_INET6: u8 = 10;

/// A message being written into `out`; [`Builder::end`] fills in its length.
pub(crate) struct Builder<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>, kind: u16, flags: u16, sequence: u32) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        out.extend_from_slice(&sequence.to_ne_bytes());
        out.extend_from_slice(&[0; 4]);
        Self { out, start }
    }

    /// The fixed part behind the netlink header; a multiple of four octets.
    pub(crate) fn header(self, bytes: &[u8]) -> Self {
        self.out.extend_from_slice(bytes);
        self
    }

    pub(crate) fn attribute(self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).expect("attributes written here are short");
        self.out.extend_from_slice(&length.to_ne_bytes());
        self.out.extend_from_slice(&kind.to_ne_bytes());
        self.out.extend_from_slice(value);
        self.out.resize(self.out.len().next_multiple_of(4), 0);
        self
    }

    pub(crate) fn number(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    pub(crate) fn address(self, kind: u16, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.attribute(kind, &v4.octets()),
            IpAddr::V6(v6) => self.attribute(kind, &v6.octets()),
        }
    }

    pub(crate) fn end(self) {
        let length = u32::try_from(self.out.len() - self.start).expect("one message is far below 4 GiB");
        if let Some(place) = self.out.get_mut(self.start..self.start + 4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
    }
}

/// Appends `request` to `out`. `protocol` marks nexthop objects; routes carry the one of their key.
pub(crate) fn request(out: &mut Vec<u8>, request: &Request, sequence: u32, protocol: u8, ack: bool) {
    let ack = if ack { NLM_F_ACK } else { 0 };
    match request {
        Request::Nexthop { id, hop, replace } => {
            let how = if *replace { NLM_F_REPLACE } else { NLM_F_CREATE | NLM_F_EXCL };
            let family = family(hop.gateway);
            let flags = if hop.onlink { RTNH_F_ONLINK } else { 0 };
            Builder::new(out, RTM_NEWNEXTHOP, how | ack, sequence)
                .header(&nexthop_header(family, protocol, flags))
                .number(NHA_ID, *id)
                .number(NHA_OIF, hop.ifindex)
                .address(NHA_GATEWAY, hop.gateway)
                .end();
        }
        Request::Group { id, members, replace } => {
            let how = if *replace { NLM_F_REPLACE } else { NLM_F_CREATE | NLM_F_EXCL };
            let mut entries = Vec::with_capacity(members.len() * 8);
            for member in members {
                entries.extend_from_slice(&member.to_ne_bytes());
                // Weight less one, then reserved octets: all members weigh the same.
                entries.extend_from_slice(&[0; 4]);
            }
            Builder::new(out, RTM_NEWNEXTHOP, how | ack, sequence)
                .header(&nexthop_header(AF_UNSPEC, protocol, 0))
                .number(NHA_ID, *id)
                .attribute(NHA_GROUP, &entries)
                .end();
        }
        Request::DeleteNexthop { id } => {
            // The kernel insists on protocol, scope and flags being zero here.
            Builder::new(out, RTM_DELNEXTHOP, ack, sequence)
                .header(&nexthop_header(AF_UNSPEC, 0, 0))
                .number(NHA_ID, *id)
                .end();
        }
        Request::Route { key, group, replace } => {
            let how = if *replace { NLM_F_REPLACE } else { NLM_F_CREATE | NLM_F_EXCL };
            route(Builder::new(out, RTM_NEWROUTE, how | ack, sequence), key, 0, RTN_UNICAST)
                .number(RTA_NH_ID, *group)
                .end();
        }
        Request::Blackhole { key } => {
            let how = NLM_F_CREATE | NLM_F_EXCL;
            route(Builder::new(out, RTM_NEWROUTE, how | ack, sequence), key, 0, RTN_BLACKHOLE).end();
        }
        // The kernel compares type and protocol when they are given: a foreign route never matches.
        Request::DeleteRoute { key, blackhole } => {
            let kind = if *blackhole { RTN_BLACKHOLE } else { 0 };
            route(Builder::new(out, RTM_DELROUTE, ack, sequence), key, RT_SCOPE_NOWHERE, kind).end();
        }
    }
}

fn route<'a>(builder: Builder<'a>, key: &RouteKey, scope: u8, kind: u8) -> Builder<'a> {
    let family = family(key.prefix.addr());
    let short_table = u8::try_from(key.table).unwrap_or(0);
    let header = [family, key.prefix.prefix_len(), 0, 0, short_table, key.protocol, scope, kind, 0, 0, 0, 0];
    let builder = builder.header(&header);
    let builder = match key.prefix {
        IpNet::V4(net) => builder.attribute(RTA_DST, &net.network().octets()),
        IpNet::V6(net) => builder.attribute(RTA_DST, &net.network().octets()),
    };
    let builder = builder.number(RTA_PRIORITY, key.metric);
    if short_table == 0 { builder.number(RTA_TABLE, key.table) } else { builder }
}

/// `struct nhmsg`.
pub(crate) fn nexthop_header(family: u8, protocol: u8, flags: u32) -> [u8; 8] {
    let [a, b, c, d] = flags.to_ne_bytes();
    [family, 0, protocol, 0, a, b, c, d]
}

pub(crate) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}
