//! The kernel's routes, read over netlink: no program is started, so that looking often costs little.
//!
//! Layout of the messages: linux/rtnetlink.h. A decoder of its own, so that it can disagree with towpath's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, bail};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

use crate::netns::Netns;

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_GETNEXTHOP: u16 = 106;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// NLM_F_REQUEST and NLM_F_DUMP.
const DUMP: u16 = 0x301;
const REQUEST: u16 = 1;
/// The answer is the route itself, not what it means for one packet.
const RTM_F_FIB_MATCH: u32 = 0x2000;
const RTN_UNICAST: u8 = 1;
/// RTNH_F_DEAD: the kernel does not use this hop.
const DEAD: u32 = 1;
/// The kernel answers at once; longer means that it does not.
const PATIENCE: Duration = Duration::from_secs(5);

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Address and prefix length.
    pub destination: (IpAddr, u8),
    /// The table; 254 is main.
    pub table: u32,
    /// The metric; of two routes the lower one is used.
    pub metric: u32,
    /// Who made it, by number: 2 the kernel, 199 and 200 towpath.
    pub protocol: u8,
    /// Whether it leads anywhere: not unreachable, blackhole or the like.
    pub unicast: bool,
    /// The next hops, those out of use included.
    pub hops: Vec<Hop>,
    /// The nexthop object it uses, where it names one.
    pub nexthop: Option<u32>,
}

/// One next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The gateway; `None` where the destination is on the link.
    pub via: Option<IpAddr>,
    /// The interface, by index.
    pub ifindex: u32,
    /// RTNH_F flags; bit 0: dead, bit 4: its link is down.
    pub flags: u32,
}

impl Route {
    /// Reads struct rtmsg (family, dst_len, src_len, tos, table, protocol, scope, type, flags) and its attributes.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let &[family, length, _, _, table, protocol, _, kind] = body.first_chunk::<8>()?;
        let destination = match i32::from(family) {
            libc::AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            libc::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            // Multicast routes and labels are no business of these tests.
            _ => return None,
        };
        let flags = u32_at(body, 8)?;
        let mut route = Self {
            destination: (destination, length),
            table: u32::from(table),
            metric: 0,
            protocol,
            unicast: kind == RTN_UNICAST,
            hops: Vec::new(),
            nexthop: None,
        };
        let mut single = Hop { via: None, ifindex: 0, flags };
        for (kind, value) in attributes(body.get(12..).unwrap_or_default()) {
            match kind {
                1 => route.destination.0 = address(value).unwrap_or(destination), // RTA_DST
                6 => route.metric = u32_at(value, 0).unwrap_or(0),                // RTA_PRIORITY
                9 => route.hops = multipath(value),                               // RTA_MULTIPATH
                15 => route.table = u32_at(value, 0).unwrap_or(route.table),      // RTA_TABLE
                30 => route.nexthop = u32_at(value, 0),                           // RTA_NH_ID
                other => hop_attribute(other, value, &mut single),
            }
        }
        if route.hops.is_empty() && single.ifindex != 0 {
            route.hops.push(single);
        }
        Some(route)
    }

    /// How many next hops the kernel uses; 0 for unreachable and its like.
    #[must_use]
    pub fn usable(&self) -> usize {
        if self.unicast { self.used().count() } else { 0 }
    }

    /// The next hops that are not dead.
    pub fn used(&self) -> impl Iterator<Item = &Hop> {
        self.hops.iter().filter(|hop| hop.flags & DEAD == 0)
    }
}

fn hop_attribute(kind: u16, value: &[u8], hop: &mut Hop) {
    match kind {
        4 => hop.ifindex = u32_at(value, 0).unwrap_or(0), // RTA_OIF
        5 => hop.via = address(value),                    // RTA_GATEWAY
        18 => hop.via = value.get(2..).and_then(address), // RTA_VIA: a family, then the address
        _ => {}
    }
}

/// struct rtnexthop: length (u16), flags, weight, ifindex; attributes. One after the other.
fn multipath(mut bytes: &[u8]) -> Vec<Hop> {
    let mut hops = Vec::new();
    while let (Some(length), Some(&flags), Some(ifindex)) = (u16_at(bytes, 0), bytes.get(2), u32_at(bytes, 4))
    {
        let length = usize::from(length);
        let Some(rest) = bytes.get(8..length) else { break };
        let mut hop = Hop { via: None, ifindex, flags: u32::from(flags) };
        for (kind, value) in attributes(rest) {
            if kind != 4 {
                hop_attribute(kind, value, &mut hop);
            }
        }
        hops.push(hop);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

/// All routes of one family, of every table.
///
/// # Errors
/// When the namespace cannot be entered or the kernel does not answer.
pub fn routes(netns: &Netns, ipv4: bool) -> anyhow::Result<Vec<Route>> {
    let family = if ipv4 { libc::AF_INET } else { libc::AF_INET6 };
    let socket = request_socket(netns)?;
    let mut routes: Vec<Route> = Vec::new();
    dump(&socket, RTM_GETROUTE, family as u8, 12, |kind, body| {
        if kind == RTM_NEWROUTE {
            routes.extend(Route::decode(body));
        }
    })
    .context("listing routes")?;
    // Where net.ipv4.nexthop_compat_mode is off, a route only names its object.
    if routes.iter().any(|route| route.hops.is_empty() && route.nexthop.is_some()) {
        let mut objects = HashMap::new();
        dump(&socket, RTM_GETNEXTHOP, 0, 8, |kind, body| {
            if kind == RTM_NEWNEXTHOP {
                objects.extend(Object::decode(body));
            }
        })
        .context("listing nexthop objects")?;
        for route in routes.iter_mut().filter(|route| route.hops.is_empty()) {
            route.hops = route.nexthop.map_or_else(Vec::new, |id| hops_of(id, &objects));
        }
    }
    Ok(routes)
}

/// A socket for requests to the kernel in a namespace; a read from it fails after five seconds.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn request_socket(netns: &Netns) -> anyhow::Result<OwnedFd> {
    let socket = netns.run(|| {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(socket)
    });
    socket.context("opening a netlink socket")
}

/// Asks for single routes, a few microseconds each.
#[derive(Debug)]
pub struct Lookup {
    socket: OwnedFd,
}

impl Lookup {
    /// Opens a socket in a namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn open(netns: &Netns) -> anyhow::Result<Self> {
        Ok(Self { socket: request_socket(netns)? })
    }

    /// The route that a packet to this address would take; `None` where there is none. Of a route by nexthop object
    /// [`Route::hops`] may be empty.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn route_to(&self, address: IpAddr) -> anyhow::Result<Option<Route>> {
        let (family, octets) = match address {
            IpAddr::V4(v4) => (libc::AF_INET as u8, v4.octets().to_vec()),
            IpAddr::V6(v6) => (libc::AF_INET6 as u8, v6.octets().to_vec()),
        };
        // A header, struct rtmsg, RTA_DST.
        let length = 16 + 12 + 4 + octets.len();
        let mut request = (length as u32).to_ne_bytes().to_vec();
        request.extend(RTM_GETROUTE.to_ne_bytes());
        request.extend(REQUEST.to_ne_bytes());
        request.extend([0; 8]);
        request.extend([family, octets.len() as u8 * 8, 0, 0, 0, 0, 0, 0]);
        request.extend(RTM_F_FIB_MATCH.to_ne_bytes());
        request.extend((4 + octets.len() as u16).to_ne_bytes());
        request.extend(1u16.to_ne_bytes());
        request.extend(octets);
        rustix::net::send(&self.socket, &request, SendFlags::empty()).context("asking for a route")?;
        let mut buffer = [0; 8192];
        let (read, _) = rustix::net::recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty())
            .context("reading the answer about a route")?;
        let answer = buffer.get(..read).unwrap_or_default();
        match u16_at(answer, 4) {
            Some(RTM_NEWROUTE) => Ok(answer.get(16..).and_then(Route::decode)),
            // No such route, in whichever words.
            Some(NLMSG_ERROR) => Ok(None),
            other => bail!("an answer of type {other:?} about a route"),
        }
    }
}

/// A nexthop object: one hop, or a group of objects.
enum Object {
    One(Hop),
    Group(Vec<u32>),
}

impl Object {
    /// Reads struct nhmsg (family, scope, protocol, reserved, flags) and its attributes: the id, and what it stands for.
    fn decode(body: &[u8]) -> Option<(u32, Self)> {
        let mut hop = Hop { via: None, ifindex: 0, flags: u32_at(body, 4)? };
        let (mut id, mut group) = (None, None);
        for (kind, value) in attributes(body.get(8..)?) {
            match kind {
                1 => id = u32_at(value, 0), // NHA_ID
                // NHA_GROUP: struct nexthop_grp {id, weight, reserved}, 8 bytes each.
                2 => group = Some(value.chunks(8).filter_map(|member| u32_at(member, 0)).collect()),
                5 => hop.ifindex = u32_at(value, 0).unwrap_or(0), // NHA_OIF
                6 => hop.via = address(value),                    // NHA_GATEWAY
                _ => {}
            }
        }
        Some((id?, group.map_or(Self::One(hop), Self::Group)))
    }
}

fn hops_of(id: u32, objects: &HashMap<u32, Object>) -> Vec<Hop> {
    match objects.get(&id) {
        Some(Object::One(hop)) => vec![hop.clone()],
        // Groups have no groups as members (nexthop(8)).
        Some(Object::Group(members)) => members
            .iter()
            .filter_map(|member| match objects.get(member) {
                Some(Object::One(hop)) => Some(hop.clone()),
                _ => None,
            })
            .collect(),
        None => Vec::new(),
    }
}

/// Asks for everything of one kind; `head` is the length of the request's body, whose first byte is the family.
fn dump(
    socket: &OwnedFd,
    question: u16,
    family: u8,
    head: u8,
    mut each: impl FnMut(u16, &[u8]),
) -> anyhow::Result<()> {
    let mut request = vec![0; 16 + usize::from(head)];
    request[0] = 16 + head;
    request[4..6].copy_from_slice(&question.to_ne_bytes());
    request[6..8].copy_from_slice(&DUMP.to_ne_bytes());
    request[16] = family;
    rustix::net::send(socket, &request, SendFlags::empty()).context("asking the kernel")?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (length, _) = rustix::net::recv(socket, buffer.as_mut_slice(), RecvFlags::empty())
            .context("waiting for the kernel's answer")?;
        let mut bytes = &buffer[..length.min(buffer.len())];
        while let (Some(length), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
            let length = length as usize;
            let Some(body) = bytes.get(16..length) else { bail!("a netlink message is cut short") };
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => bail!("the kernel refuses"),
                kind => each(kind, body),
            }
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (size, kind) = (usize::from(u16_at(rest, 0)?), u16_at(rest, 2)?);
        let value = rest.get(4..size)?;
        rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_as_ip_shows_them() {
        let (netns, other) = (Netns::fresh().unwrap(), Netns::fresh().unwrap());
        netns.link(("eth1", &["10.9.0.1/24", "fd00:9::1/64"]), &other, ("eth1", &["10.9.0.2/24"])).unwrap();
        for command in [
            "route add 10.1.0.0/16 proto 199 metric 20 nexthop via 10.9.0.2 nexthop via 10.9.0.3",
            "route add 10.2.0.0/16 via inet6 fd00:9::2 dev eth1",
            "route add unreachable 10.3.0.0/16 table 77",
            "nexthop add id 7 via 10.9.0.2 dev eth1",
            "nexthop add id 8 via 10.9.0.3 dev eth1",
            "nexthop add id 9 group 7/8",
            "route add 10.4.0.0/16 nhid 9",
            "route add 10.5.0.0/16 nhid 8",
            "-6 route add fd00:1::/32 proto 199 nexthop via fd00:9::2 nexthop via fd00:9::3",
        ] {
            netns.ip(command).unwrap();
        }
        // Routes then name their objects only.
        netns.sysctl("net/ipv4/nexthop_compat_mode", "0").unwrap();
        let find = |ipv4: bool, destination: &str| {
            let all = routes(&netns, ipv4).unwrap();
            all.into_iter().find(|route| route.destination.0.to_string() == destination).unwrap()
        };
        let via = |route: &Route| -> Vec<String> {
            route.used().filter_map(|hop| hop.via).map(|via| via.to_string()).collect()
        };
        let ecmp = find(true, "10.1.0.0");
        assert_eq!((ecmp.protocol, ecmp.metric, ecmp.table, ecmp.usable()), (199, 20, 254, 2));
        assert_eq!(via(&ecmp), ["10.9.0.2", "10.9.0.3"]);
        assert_eq!(via(&find(true, "10.2.0.0")), ["fd00:9::2"]);
        assert_eq!(via(&find(true, "10.4.0.0")), ["10.9.0.2", "10.9.0.3"]);
        assert_eq!(via(&find(true, "10.5.0.0")), ["10.9.0.3"]);
        let lookup = Lookup::open(&netns).unwrap();
        for (address, expected) in [
            ("10.4.7.7", Some(("10.4.0.0", 16))),
            ("fd00:1::7", Some(("fd00:1::", 32))),
            ("10.3.0.1", None),
            ("fd00:7::", None),
        ] {
            let found = lookup.route_to(address.parse().unwrap()).unwrap();
            let found = found.map(|route| route.destination);
            assert_eq!(found, expected.map(|(to, length)| (to.parse().unwrap(), length)), "{address}");
        }
        let unreachable = find(true, "10.3.0.0");
        assert_eq!((unreachable.table, unreachable.usable()), (77, 0));
        assert_eq!(via(&find(false, "fd00:1::")), ["fd00:9::2", "fd00:9::3"]);
    }
}
