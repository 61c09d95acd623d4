//! Reading what the kernel has: links, addresses, nexthop objects, our routes; and single lookups.
//!
//! Every dump is one consistent pass (the socket repeats an interrupted one) and filtered by the
//! kernel where it can: of a full table only routes of our protocols cross the socket.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::Parseable;
use smallvec::SmallVec;

use crate::fib::Hop;

use super::encode::{
    AF_INET, AF_INET6, AF_UNSPEC, Builder, NLM_F_DUMP, RTA_DST, RTA_GATEWAY, RTA_NH_ID, RTA_OIF,
    RTA_PRIORITY, RTA_TABLE, RTA_VIA, RTM_GETROUTE, RTM_NEWROUTE, RTNH_F_ONLINK, family,
};
use super::nexthop::{NexthopAttribute, NexthopMessage, RTM_GETNEXTHOP, RTM_NEWNEXTHOP};
use super::socket::{NLMSG_ERROR, Netlink};
use super::{Address, KernelError, KernelRoute, Link, NexthopObject, RTN_UNICAST};
use netlink::read::{Message, address, attributes, text, u16_at, u32_at, verdict};

pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
pub(crate) const RTM_NEWADDR: u16 = 20;
pub(crate) const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_F_LOOKUP_TABLE: u32 = 0x1000;
const RTM_F_FIB_MATCH: u32 = 0x2000;
const ROUTE_HEADER_BYTES: usize = 12;

/// All that is known before the first change.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Interfaces.
    pub links: Vec<Link>,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Nexthop objects of every protocol: ids of others must be avoided.
    pub nexthops: Vec<NexthopObject>,
    /// Routes of the protocols asked for, all tables.
    pub routes: Vec<KernelRoute>,
}

/// Reads a [`Snapshot`] with the routes of `protocols`.
///
/// # Errors
/// When the kernel refuses or its tables do not hold still.
pub fn snapshot(netlink: &mut Netlink, protocols: &[u8]) -> Result<Snapshot, KernelError> {
    let mut snapshot = Snapshot {
        links: netlink.dump("list links", |seq| dump_request(RTM_GETLINK, &[0; 16], seq), parse_link)?,
        addresses: netlink.dump(
            "list addresses",
            |seq| dump_request(RTM_GETADDR, &[0; 8], seq),
            parse_address,
        )?,
        nexthops: nexthops(netlink)?,
        routes: Vec::new(),
    };
    for protocol in protocols {
        snapshot.routes.extend(routes(netlink, *protocol)?);
    }
    Ok(snapshot)
}

/// All nexthop objects and groups.
///
/// # Errors
/// As [`snapshot`].
pub fn nexthops(netlink: &mut Netlink) -> Result<Vec<NexthopObject>, KernelError> {
    netlink.dump("list nexthops", |seq| dump_request(RTM_GETNEXTHOP, &[0; 8], seq), parse_nexthop)
}

/// The routes with this protocol number, both families, all tables.
///
/// # Errors
/// As [`snapshot`].
pub fn routes(netlink: &mut Netlink, protocol: u8) -> Result<Vec<KernelRoute>, KernelError> {
    let mut routes = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let header = [family, 0, 0, 0, 0, protocol, 0, 0, 0, 0, 0, 0];
        let found =
            netlink.dump("list routes", |seq| dump_request(RTM_GETROUTE, &header, seq), parse_route)?;
        routes.extend(found.into_iter().filter(|route| asked_for(route, family, protocol)));
    }
    Ok(routes)
}

/// Where the unicast routes of one table lead to that carry none of the protocols in `ours`, as far as traffic
/// could use them now: their interface is up and has a carrier.
///
/// # Errors
/// As [`snapshot`].
pub fn destinations(
    netlink: &mut Netlink,
    table: u32,
    ours: [u8; 2],
) -> Result<BTreeSet<IpNet>, KernelError> {
    let mut found = BTreeSet::new();
    for family in [AF_INET, AF_INET6] {
        let request = |sequence| {
            let mut bytes = Vec::with_capacity(40);
            Builder::new(&mut bytes, RTM_GETROUTE, NLM_F_DUMP, sequence)
                .header(&[family, 0, 0, 0, 0, 0, 0, RTN_UNICAST, 0, 0, 0, 0])
                .number(RTA_TABLE, table)
                .end();
            bytes
        };
        let parse = |message: &Message<'_>| {
            let route = parse_route(message)?;
            // A filter the kernel does not know, or a family without handler: everything comes.
            let counts = self::family(route.prefix.addr()) == family
                && route.table == table
                && route.kind == RTN_UNICAST
                && !ours.contains(&route.protocol)
                && is_alive(message);
            counts.then_some(route.prefix)
        };
        match netlink.dump("list routes of a table", request, parse) {
            Ok(routes) => found.extend(routes),
            // A table nobody has put a route into.
            Err(KernelError::Refused { errno: libc::ENOENT, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Whether a route has a next hop whose interface is up, with a carrier.
fn is_alive(message: &Message<'_>) -> bool {
    const RTA_MULTIPATH: u16 = 9;
    const RTNH_F_DEAD: u32 = 1;
    const RTNH_F_LINKDOWN: u32 = 16;
    const RTNH_HEADER_BYTES: usize = 8;
    let alive = |flags: u32| flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN) == 0;
    let multipath = attributes(message.payload, ROUTE_HEADER_BYTES)
        .find(|(kind, _)| *kind == RTA_MULTIPATH)
        .map(|(_, value)| value);
    let Some(mut hops) = multipath else { return u32_at(message.payload, 8).is_some_and(alive) };
    // `struct rtnexthop`: length, flags, weight, interface; then attributes.
    while let (Some(length), Some(flags)) = (u16_at(hops, 0), hops.get(2)) {
        if alive(u32::from(*flags)) {
            return true;
        }
        let length = usize::from(length).max(RTNH_HEADER_BYTES).next_multiple_of(4);
        hops = hops.get(length..).unwrap_or_default();
    }
    false
}

/// Kernels that do not know the filter send every protocol; one whose IPv6 is switched off (`ipv6.disable=1`)
/// answers a dump of IPv6 with the routes of all other families.
fn asked_for(route: &KernelRoute, family: u8, protocol: u8) -> bool {
    route.protocol == protocol && self::family(route.prefix.addr()) == family
}

/// How the kernel would forward to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The matching entry of the table.
    pub route: KernelRoute,
    /// One gateway the entry leads to; the address itself when it is on link. `None`: it leads nowhere.
    pub hop: Option<Hop>,
}

/// Asks for the table entry that matches `to` and where it leads. `None`: no route.
///
/// # Errors
/// When the socket fails.
pub fn lookup(netlink: &mut Netlink, to: IpAddr) -> Result<Option<Lookup>, KernelError> {
    let Some(message) = query(netlink, to, RTM_F_FIB_MATCH | RTM_F_LOOKUP_TABLE)? else { return Ok(None) };
    let Some(route) = message.route else { return Ok(None) };
    // The entry may have several next hops; the plain lookup chooses one, as for a packet.
    let hop = query(netlink, to, RTM_F_LOOKUP_TABLE)?.and_then(|chosen| {
        let ifindex = chosen.ifindex?;
        Some(Hop { gateway: chosen.gateway.unwrap_or(to), ifindex, onlink: false })
    });
    Ok(Some(Lookup { route, hop }))
}

struct Answer {
    route: Option<KernelRoute>,
    gateway: Option<IpAddr>,
    ifindex: Option<u32>,
}

fn query(netlink: &mut Netlink, to: IpAddr, flags: u32) -> Result<Option<Answer>, KernelError> {
    let sequence = netlink.sequences(1);
    // IPv6 always names the table, and refuses to be asked for it (inet6_rtm_valid_getroute_req).
    let flags = if to.is_ipv4() { flags } else { flags & !RTM_F_LOOKUP_TABLE };
    let [a, b, c, d] = flags.to_ne_bytes();
    let bits = if to.is_ipv4() { 32 } else { 128 };
    let mut bytes = Vec::with_capacity(64);
    Builder::new(&mut bytes, RTM_GETROUTE, 0, sequence)
        .header(&[family(to), bits, 0, 0, 0, 0, 0, 0, a, b, c, d])
        .address(RTA_DST, to)
        .end();
    netlink.send(&bytes)?;
    let mut answer = None;
    while answer.is_none() {
        netlink.receive("look up a next hop", |message| {
            if message.sequence != sequence {
                return;
            }
            match message.kind {
                RTM_NEWROUTE => answer = Some(Some(parse_answer(message))),
                // "No route" comes as ENETUNREACH, a blackhole as EINVAL, and so on: all mean unreachable.
                NLMSG_ERROR if verdict(message).0 != 0 => answer = Some(None),
                _ => {}
            }
        })?;
    }
    Ok(answer.flatten())
}

fn parse_answer(message: &Message<'_>) -> Answer {
    let mut answer = Answer { route: parse_route(message), gateway: None, ifindex: None };
    for (kind, value) in attributes(message.payload, ROUTE_HEADER_BYTES) {
        match kind {
            RTA_OIF => answer.ifindex = u32_at(value, 0),
            RTA_GATEWAY => answer.gateway = address(value),
            // An IPv4 route over an IPv6 gateway: family, then the address.
            RTA_VIA => answer.gateway = value.get(2..).and_then(address),
            _ => {}
        }
    }
    answer
}

fn dump_request(kind: u16, header: &[u8], sequence: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40);
    Builder::new(&mut bytes, kind, NLM_F_DUMP, sequence).header(header).end();
    bytes
}

/// `struct ifinfomsg` with name and flags.
pub(crate) fn parse_link(message: &Message<'_>) -> Option<Link> {
    const IFLA_IFNAME: u16 = 3;
    const IFLA_MTU: u16 = 4;
    const IFF_UP: u32 = 1;
    const IFF_RUNNING: u32 = 0x40;
    const IFF_LOWER_UP: u32 = 0x1_0000;
    if !matches!(message.kind, RTM_NEWLINK | RTM_DELLINK) || message.payload.first() != Some(&AF_UNSPEC) {
        return None; // Bridge ports are also announced with their own family: not a state of the link.
    }
    let index = u32_at(message.payload, 4)?;
    let flags = u32_at(message.payload, 8)?;
    let attribute = |wanted: u16| {
        attributes(message.payload, 16).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    };
    let name = attribute(IFLA_IFNAME).map(text);
    let mtu_bytes = attribute(IFLA_MTU).and_then(|value| u32_at(value, 0)).unwrap_or(0);
    // The same condition under which the kernel keeps nexthop objects (net/ipv4/nexthop.c, nh_netdev_event).
    let usable = flags & IFF_UP != 0 && flags & (IFF_RUNNING | IFF_LOWER_UP) != 0;
    Some(Link { index, name: name?, usable, mtu_bytes })
}

/// `struct ifaddrmsg`.
pub(crate) fn parse_address(message: &Message<'_>) -> Option<Address> {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    const IFA_FLAGS: u16 = 8;
    const IFA_F_NOPREFIXROUTE: u32 = 0x200;
    if !matches!(message.kind, RTM_NEWADDR | RTM_DELADDR) {
        return None;
    }
    let bits = *message.payload.get(1)?;
    let ifindex = u32_at(message.payload, 4)?;
    let (mut peer, mut local, mut flags) = (None, None, 0);
    for (kind, value) in attributes(message.payload, 8) {
        match kind {
            IFA_ADDRESS => peer = address(value),
            IFA_LOCAL => local = address(value),
            IFA_FLAGS => flags = u32_at(value, 0).unwrap_or(0),
            _ => {}
        }
    }
    let peer = peer.or(local)?;
    Some(Address {
        ifindex,
        local: local.unwrap_or(peer),
        subnet: IpNet::new(peer, bits).ok()?.trunc(),
        connected: flags & IFA_F_NOPREFIXROUTE == 0,
    })
}

/// A nexthop object or group.
pub(crate) fn parse_nexthop(message: &Message<'_>) -> Option<NexthopObject> {
    if message.kind != RTM_NEWNEXTHOP && message.kind != super::encode::RTM_DELNEXTHOP {
        return None;
    }
    let parsed = NexthopMessage::parse(message.payload).ok()?;
    let (mut id, mut gateway, mut ifindex, mut members) = (None, None, None, SmallVec::new());
    for attribute in parsed.attributes {
        match attribute {
            NexthopAttribute::Id(value) => id = Some(value),
            NexthopAttribute::Gateway(value) => gateway = Some(value),
            NexthopAttribute::Oif(value) => ifindex = Some(value),
            NexthopAttribute::Group(entries) => members = entries.iter().map(|entry| entry.id).collect(),
            NexthopAttribute::GroupType(_) | NexthopAttribute::Blackhole => {}
        }
    }
    let onlink = parsed.header.flags & RTNH_F_ONLINK != 0;
    let hop = gateway.zip(ifindex).map(|(gateway, ifindex)| Hop { gateway, ifindex, onlink });
    Some(NexthopObject { id: id?, protocol: parsed.header.protocol, hop, members })
}

/// `struct rtmsg`, both directions of notification included.
pub(crate) fn parse_route(message: &Message<'_>) -> Option<KernelRoute> {
    if message.kind != RTM_NEWROUTE && message.kind != super::encode::RTM_DELROUTE {
        return None;
    }
    let &[family, bits, _, tos, table, protocol, _, kind, ..] = message.payload else { return None };
    let unspecified: IpAddr = match family {
        AF_INET => [0; 4].into(),
        AF_INET6 => [0; 16].into(),
        _ => return None,
    };
    let mut destination = unspecified;
    let mut route = KernelRoute {
        prefix: IpNet::new(unspecified, 0).ok()?,
        table: table.into(),
        metric: 0,
        protocol,
        kind,
        tos,
        nexthop_id: None,
        ifindex: None,
    };
    for (kind, value) in attributes(message.payload, ROUTE_HEADER_BYTES) {
        match kind {
            RTA_DST => destination = address(value)?,
            RTA_PRIORITY => route.metric = u32_at(value, 0)?,
            RTA_TABLE => route.table = u32_at(value, 0)?,
            RTA_NH_ID => route.nexthop_id = u32_at(value, 0),
            RTA_OIF => route.ifindex = u32_at(value, 0),
            _ => {}
        }
    }
    route.prefix = IpNet::new(destination, bits).ok()?.trunc();
    Some(route)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_dump_only_the_family_and_the_protocol_asked_for_count() {
        let route = |prefix: &str, protocol| KernelRoute {
            prefix: prefix.parse().unwrap(),
            table: 254,
            metric: 20,
            protocol,
            kind: RTN_UNICAST,
            tos: 0,
            nexthop_id: None,
            ifindex: None,
        };
        let cases = [
            (route("10.0.0.0/8", 199), AF_INET, true),
            // What a kernel without IPv6 answers when its IPv6 routes are asked for.
            (route("10.0.0.0/8", 199), AF_INET6, false),
            (route("2001:db8::/32", 199), AF_INET6, true),
            (route("2001:db8::/32", 199), AF_INET, false),
            (route("10.0.0.0/8", 4), AF_INET, false),
        ];
        for (route, family, expected) in cases {
            assert_eq!(asked_for(&route, family, 199), expected, "{route:?} of family {family}");
        }
    }
}
