//! The requests of rtnetlink that a wire consists of.
//!
//! Numbers and layouts: linux/rtnetlink.h, if_link.h, if_addr.h, neighbour.h, veth.h.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink::flags::{CREATE, EXCL, REPLACE};
use netlink::{Batch, Body};

use super::sysctls::Setting;
use super::{HOST_MAC, Wire};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
pub(super) const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;

pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

/// struct ifinfomsg
pub(super) const LINK_HEADER: usize = 16;
pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
pub(super) const IFLA_LINK: u16 = 5;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_IFALIAS: u16 = 20;
pub(super) const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
pub(super) const IFF_UP: u32 = 1;
pub(super) const IFF_LOOPBACK: u32 = 8;

/// struct ifaddrmsg
pub(super) const ADDRESS_HEADER: usize = 8;
pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;

/// struct rtmsg
pub(super) const ROUTE_HEADER: usize = 12;
pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_OIF: u16 = 4;
pub(super) const RTA_GATEWAY: u16 = 5;
pub(super) const RTA_PRIORITY: u16 = 6;
pub(super) const RTA_PREFSRC: u16 = 7;
pub(super) const RTA_TABLE: u16 = 15;
pub(super) const RT_TABLE_MAIN: u32 = 254;
pub(super) const RT_TABLE_LOCAL: u32 = 255;
pub(super) const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
pub(super) const SCOPE_UNIVERSE: u8 = 0;
pub(super) const SCOPE_LINK: u8 = 253;
/// Somebody typed it: routes in the pod, where nobody sweeps by protocol.
pub(super) const RTPROT_STATIC: u8 = 4;

/// struct ndmsg
pub(super) const NEIGHBOUR_HEADER: usize = 12;
pub(super) const NDA_DST: u16 = 1;
pub(super) const NDA_LLADDR: u16 = 2;
pub(super) const NUD_PERMANENT: u16 = 0x80;

pub(super) fn link_header(index: u32, flags: u32, change: u32) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

pub(super) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// Octets of an address in bits: the length of a prefix that holds nothing else.
pub(super) fn host_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Both ends at once, the pod's at its place and under its name: it is never seen on the node.
pub(super) fn create_pair(batch: &mut Batch, wire: &Wire, netns: BorrowedFd<'_>) {
    const VETH_INFO_PEER: u16 = 1;
    const IFLA_INFO_DATA: u16 = 2;
    let end = |body: &mut Body<'_>, name: &str, mac: [u8; 6]| {
        body.header(&link_header(0, 0, 0));
        body.text(IFLA_IFNAME, name);
        body.bytes(IFLA_ADDRESS, &mac);
        body.u32(IFLA_MTU, wire.mtu_bytes);
        // A veth end hands packets over without a queue of its own. The kernel's default is one for each processor,
        // each with its objects in sysfs: most of the time it takes to make the pair.
        body.u32(IFLA_NUM_TX_QUEUES, 1);
        body.u32(IFLA_NUM_RX_QUEUES, 1);
    };
    batch.request("making the veth pair", RTM_NEWLINK, CREATE | EXCL, |body| {
        end(body, wire.host_ifname.as_str(), HOST_MAC);
        body.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth");
            info.nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    end(peer, wire.ifname.as_str(), wire.pod_mac);
                    peer.u32(IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
                });
            });
        });
    });
}

/// Sets the mark and IPv4's settings of the link of this name.
pub(super) fn mark(batch: &mut Batch, name: &str, mark: &str, settings: &[Setting]) {
    batch.request("marking the host end", RTM_SETLINK, 0, |body| {
        body.header(&link_header(0, 0, 0));
        body.text(IFLA_IFNAME, name);
        // Without its final zero: the kernel counts it.
        body.bytes(IFLA_IFALIAS, mark.as_bytes());
        v4_settings(body, settings);
    });
}

/// Sets IPv4's settings of a link.
pub(super) fn configure_v4(batch: &mut Batch, index: u32, settings: &[Setting]) {
    batch.request("setting the pod end's IPv4 sysctls", RTM_SETLINK, 0, |body| {
        body.header(&link_header(index, 0, 0));
        v4_settings(body, settings);
    });
}

fn v4_settings(body: &mut Body<'_>, settings: &[Setting]) {
    const IFLA_INET_CONF: u16 = 1;
    body.nest(IFLA_AF_SPEC, |families| {
        families.nest(AF_INET.into(), |inet| {
            inet.nest(IFLA_INET_CONF, |conf| settings.iter().for_each(|s| conf.u32(s.number + 1, s.value)));
        });
    });
}

/// Keeps the kernel from making an IPv6 link-local address of its own on the link, and from detecting whether it is
/// somebody else's.
pub(super) fn no_address_of_its_own(batch: &mut Batch, index: u32) {
    const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
    const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
    batch.request("setting IPv6 address generation", RTM_SETLINK, 0, |body| {
        body.header(&link_header(index, 0, 0));
        body.nest(IFLA_AF_SPEC, |families| {
            families
                .nest(AF_INET6.into(), |inet6| inet6.u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE));
        });
    });
}

pub(super) fn up(batch: &mut Batch, index: u32, doing: &'static str) {
    batch.request(doing, RTM_SETLINK, 0, |body| body.header(&link_header(index, IFF_UP, IFF_UP)));
}

pub(super) fn delete_link(batch: &mut Batch, index: u32) {
    batch.request("removing the host end", RTM_DELLINK, 0, |body| body.header(&link_header(index, 0, 0)));
}

/// Asks for a link by name, or by index when `name` is `None`.
pub(super) fn which_link(body: &mut Body<'_>, index: u32, name: Option<&str>) {
    const RTEXT_FILTER_SKIP_STATS: u32 = 8;
    body.header(&link_header(index, 0, 0));
    if let Some(name) = name {
        body.text(IFLA_IFNAME, name);
    }
    body.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
}

/// An address that is usable at once: no duplicate address detection. And no route to its prefix, not even to itself:
/// the kernel walks all pods' to add another to one that each of them has.
pub(super) fn add_address(batch: &mut Batch, doing: &'static str, index: u32, address: IpAddr) {
    const IFA_FLAGS: u16 = 8;
    const IFA_F_NODAD: u32 = 0x002;
    const IFA_F_NOPREFIXROUTE: u32 = 0x200;
    let [a, b, c, d] = index.to_ne_bytes();
    batch.request(doing, RTM_NEWADDR, CREATE | EXCL, |body| {
        body.header(&[family(address), host_bits(address), 0, SCOPE_UNIVERSE, a, b, c, d]);
        body.address(IFA_LOCAL, address);
        body.address(IFA_ADDRESS, address);
        if address.is_ipv6() {
            body.u32(IFA_FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
        }
    });
}

/// A route to be added where none is for the same destination.
pub(super) struct Route {
    pub(super) doing: &'static str,
    /// `None`: the default route.
    pub(super) destination: Option<IpAddr>,
    pub(super) gateway: Option<IpAddr>,
    pub(super) index: u32,
    /// In [`RT_TABLE_LOCAL`]: what is delivered here.
    pub(super) table: u32,
    pub(super) protocol: u8,
    pub(super) source: Option<IpAddr>,
    /// `None`: the kernel's default, 0 for IPv4 and 1024 for IPv6.
    pub(super) priority: Option<u32>,
}

pub(super) fn add_route(batch: &mut Batch, route: &Route) {
    const RTNH_F_ONLINK: u32 = 4;
    let Some(any) = route.destination.or(route.gateway) else { return };
    let scope = if any.is_ipv4() && route.gateway.is_none() { SCOPE_LINK } else { SCOPE_UNIVERSE };
    let flags = if route.gateway.is_some() { RTNH_F_ONLINK } else { 0 };
    let mut header = [0; ROUTE_HEADER];
    header[0] = family(any);
    header[1] = route.destination.map_or(0, host_bits);
    // A table past 255 is named by the attribute alone.
    header[4] = u8::try_from(route.table).unwrap_or(0);
    header[5] = route.protocol;
    header[6] = scope;
    header[7] = if route.table == RT_TABLE_LOCAL { RTN_LOCAL } else { RTN_UNICAST };
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    batch.request(route.doing, RTM_NEWROUTE, CREATE | EXCL, |body| {
        body.header(&header);
        if let Some(destination) = route.destination {
            body.address(RTA_DST, destination);
        }
        if let Some(gateway) = route.gateway {
            body.address(RTA_GATEWAY, gateway);
        }
        body.u32(RTA_OIF, route.index);
        body.u32(RTA_TABLE, route.table);
        if let Some(source) = route.source {
            body.address(RTA_PREFSRC, source);
        }
        if let Some(priority) = route.priority {
            body.u32(RTA_PRIORITY, priority);
        }
    });
}

/// A neighbour that is never asked for and never forgotten.
pub(super) fn set_neighbour(
    batch: &mut Batch,
    doing: &'static str,
    index: u32,
    address: IpAddr,
    mac: [u8; 6],
) {
    batch.request(doing, RTM_NEWNEIGH, CREATE | REPLACE, |body| {
        body.header(&neighbour_header(index, address, NUD_PERMANENT));
        body.address(NDA_DST, address);
        body.bytes(NDA_LLADDR, &mac);
    });
}

pub(super) fn neighbour_header(index: u32, address: IpAddr, state: u16) -> [u8; NEIGHBOUR_HEADER] {
    let mut header = [0; NEIGHBOUR_HEADER];
    header[0] = family(address);
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header
}
