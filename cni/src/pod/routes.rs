//! Routes as the kernel tells of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink::read::{address, u16_at, u32_at};
use netlink::{Attributes, Body, Error, Message, Socket, attributes};

use super::link::Link;
use super::names;
use super::rtnetlink::{
    ROUTE_HEADER, RTA_DST, RTA_GATEWAY, RTA_OIF, RTA_PREFSRC, RTA_TABLE, RTN_UNICAST, family, host_bits,
};

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
/// Answer with the route itself, not with what one packet would do.
const RTM_F_FIB_MATCH: u32 = 0x2000;
/// Name the table where it was found.
const RTM_F_LOOKUP_TABLE: u32 = 0x1000;

/// What is asked of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundRoute {
    /// The unspecified address for a default route.
    pub(super) destination: IpAddr,
    pub(super) prefix_len: u8,
    pub(super) table: u32,
    pub(super) protocol: u8,
    pub(super) gateway: Option<IpAddr>,
    pub(super) source: Option<IpAddr>,
    /// Whether packets go on by it: not a blackhole, and not to this node itself.
    pub(super) is_unicast: bool,
    /// Of each next hop. None where the kernel names only the next hop object (`net.ipv4.nexthop_compat_mode` 0).
    pub(super) interfaces: Vec<u32>,
    /// The next hop object or group by which it leads.
    pub(super) nexthop_id: Option<u32>,
    /// The least MTU set on the route itself.
    pub(super) mtu_bytes: Option<u32>,
}

impl FoundRoute {
    /// Reads an `RTM_NEWROUTE`; `None` when it is something else.
    pub(super) fn parse(message: &Message<'_>) -> Option<Self> {
        const RTA_METRICS: u16 = 8;
        const RTAX_MTU: u16 = 2;
        const RTA_MULTIPATH: u16 = 9;
        const RTA_NH_ID: u16 = 30;
        if message.kind != RTM_NEWROUTE {
            return None;
        }
        let [family, prefix_len, _, _, table, protocol, _, kind, ..] =
            *message.payload.first_chunk::<ROUTE_HEADER>()?;
        let any = if family == 2 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let mut route = Self {
            destination: any,
            prefix_len,
            table: table.into(),
            protocol,
            gateway: None,
            source: None,
            is_unicast: kind == RTN_UNICAST,
            interfaces: Vec::new(),
            nexthop_id: None,
            mtu_bytes: None,
        };
        for (kind, value) in attributes(message.payload, ROUTE_HEADER) {
            match kind {
                RTA_DST => route.destination = address(value)?,
                RTA_OIF => route.interfaces.push(u32_at(value, 0)?),
                RTA_GATEWAY => route.gateway = address(value),
                RTA_PREFSRC => route.source = address(value),
                RTA_TABLE => route.table = u32_at(value, 0)?,
                RTA_METRICS => {
                    let mtu = Attributes(value).find(|(metric, _)| *metric == RTAX_MTU);
                    route.mtu_bytes = mtu.and_then(|(_, value)| u32_at(value, 0));
                }
                RTA_NH_ID => route.nexthop_id = u32_at(value, 0),
                RTA_MULTIPATH => next_hops(value, &mut route.interfaces),
                _ => {}
            }
        }
        Some(route)
    }

    /// Whether it is to this address and no other.
    pub(super) fn is_to(&self, address: IpAddr) -> bool {
        self.destination == address && self.prefix_len == host_bits(address)
    }
}

/// struct rtnexthop: length, flags, hops, interface; then attributes.
fn next_hops(mut bytes: &[u8], interfaces: &mut Vec<u32>) {
    while let (Some(length), Some(index)) = (u16_at(bytes, 0), u32_at(bytes, 4)) {
        interfaces.push(index);
        bytes = bytes.get(usize::from(length.max(8)).next_multiple_of(4)..).unwrap_or(&[]);
    }
}

/// The route that a packet to `destination` takes by the node's rules; `None`: there is none.
pub(super) fn toward(socket: &mut Socket, destination: IpAddr) -> Result<Option<FoundRoute>, Error> {
    // IPv6 names the table in any case, and does not know the flag.
    let table = if destination.is_ipv4() { RTM_F_LOOKUP_TABLE } else { 0 };
    lookup(socket, destination, RTM_F_FIB_MATCH | table)
}

/// The source address that the node itself would use towards `destination`.
pub(super) fn source_toward(socket: &mut Socket, destination: IpAddr) -> Result<Option<IpAddr>, Error> {
    Ok(lookup(socket, destination, 0)?.and_then(|route| route.source))
}

fn lookup(socket: &mut Socket, destination: IpAddr, flags: u32) -> Result<Option<FoundRoute>, Error> {
    let write = |body: &mut Body<'_>| {
        let mut header = [0; ROUTE_HEADER];
        header[0] = family(destination);
        header[1] = host_bits(destination);
        header[8..12].copy_from_slice(&flags.to_ne_bytes());
        body.header(&header);
        body.address(RTA_DST, destination);
    };
    match socket.get("looking up a route", RTM_GETROUTE, write, FoundRoute::parse) {
        Err(error) if no_route(error.errno()) => Ok(None),
        answer => answer,
    }
}

/// The interfaces of a next hop object, or of each in a group.
pub(super) fn interfaces_of(socket: &mut Socket, nexthop_id: u32) -> Result<Vec<u32>, Error> {
    const NHA_GROUP: u16 = 2;
    const NHA_OIF: u16 = 5;
    /// struct nexthop_grp
    const MEMBER: usize = 8;
    let mut interfaces = Vec::new();
    let mut ids = vec![nexthop_id];
    // A group's members are never groups; objects that go meanwhile lead nowhere.
    while let Some(id) = ids.pop() {
        let Some((group, interface)) = nexthop(socket, id, |payload| {
            let value = |wanted| attributes(payload, NEXTHOP_HEADER).find(|(kind, _)| *kind == wanted);
            let members = value(NHA_GROUP).map_or(&[][..], |(_, members)| members);
            let group: Vec<u32> =
                members.chunks_exact(MEMBER).filter_map(|member| u32_at(member, 0)).collect();
            (group, value(NHA_OIF).and_then(|(_, index)| u32_at(index, 0)))
        })?
        else {
            continue;
        };
        ids.extend(group.into_iter().filter(|member| *member != id));
        interfaces.extend(interface);
    }
    Ok(interfaces)
}

/// struct nhmsg
const NEXTHOP_HEADER: usize = 8;

fn nexthop<T>(socket: &mut Socket, id: u32, read: impl Fn(&[u8]) -> T) -> Result<Option<T>, Error> {
    const RTM_NEWNEXTHOP: u16 = 104;
    const RTM_GETNEXTHOP: u16 = 106;
    const NHA_ID: u16 = 1;
    let write = |body: &mut Body<'_>| {
        body.header(&[0; NEXTHOP_HEADER]);
        body.u32(NHA_ID, id);
    };
    let parse = |message: &Message<'_>| (message.kind == RTM_NEWNEXTHOP).then(|| read(message.payload));
    match socket.get("looking up a next hop", RTM_GETNEXTHOP, write, parse) {
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
        answer => answer,
    }
}

/// What a lookup that ends nowhere, or in a route that forbids, is answered with.
fn no_route(errno: Option<i32>) -> bool {
    const NONE: [i32; 5] = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EINVAL, libc::EACCES, libc::EAGAIN];
    errno.is_some_and(|errno| NONE.contains(&errno))
}

/// Routes of one protocol number, or of one table, or out of one interface: the kernel filters, yet walks all of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filter {
    /// 0: any.
    pub(super) protocol: u8,
    pub(super) table: Option<u32>,
    pub(super) interface: Option<u32>,
}

/// The routes of a family that pass the filter.
pub(super) fn list(socket: &mut Socket, family: u8, filter: Filter) -> Result<Vec<FoundRoute>, Error> {
    let write = |body: &mut Body<'_>| {
        let mut header = [0; ROUTE_HEADER];
        header[0] = family;
        header[5] = filter.protocol;
        body.header(&header);
        if let Some(table) = filter.table {
            body.u32(RTA_TABLE, table);
        }
        if let Some(interface) = filter.interface {
            body.u32(RTA_OIF, interface);
        }
    };
    let found = socket.dump("listing routes", RTM_GETROUTE, write, |found: &mut Vec<_>, message| {
        found.extend(FoundRoute::parse(message));
    });
    match found {
        // A table without routes does not exist; a kernel without the family has none.
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT)) => {
            Ok(Vec::new())
        }
        found => found,
    }
}

/// The route of `table` to exactly this address, if there is one.
pub(super) fn exact(socket: &mut Socket, table: u32, address: IpAddr) -> Result<Option<FoundRoute>, Error> {
    let wanted = |route: &FoundRoute| route.table == table && route.is_to(address);
    if let Some(route) = toward(socket, address)?.filter(wanted) {
        return Ok(Some(route));
    }
    // A table that the node's rules do not lead to.
    let filter = Filter { table: Some(table), ..Filter::default() };
    Ok(list(socket, family(address), filter)?.into_iter().find(wanted))
}

/// In words, who has the route to exactly this address.
pub(super) fn holder(socket: &mut Socket, table: u32, address: IpAddr) -> Result<String, Error> {
    let Some(route) = exact(socket, table, address)? else {
        return Ok(format!("in table {table}, which went while it was looked at"));
    };
    let Some(index) = route.interfaces.first().filter(|_| route.is_unicast) else {
        return Ok(format!("one that leads nowhere, protocol {} in table {table}", route.protocol));
    };
    let link = Link::of_index(socket, *index)?.unwrap_or_default();
    let whose = match names::marked(&link.alias) {
        Some(attachment) => format!(", which belongs to attachment {attachment}"),
        None => String::new(),
    };
    Ok(format!("protocol {} in table {table} by {}{whose}", route.protocol, link.name))
}
