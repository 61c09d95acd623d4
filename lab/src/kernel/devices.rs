//! rtnetlink requests for devices that are no veth pair, and for addresses and default routes.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::Emitable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use crate::kernel::netlink::{NLM_F_CREATE, NLM_F_EXCL, Netlink, RTM_NEWLINK};

const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;

impl Netlink {
    /// Makes a bridge, up, without spanning tree, as the kernel does by default.
    ///
    /// Its address is given, because otherwise it changes with the ports and neighbours learn a wrong one.
    pub(crate) fn bridge(&mut self, device: &str, ifindex: u32, mac: [u8; 6]) -> io::Result<()> {
        let attributes = vec![LinkAttribute::Address(mac.to_vec())];
        self.new_device(InfoKind::Bridge, device, ifindex, attributes)
    }

    /// Makes an interface that swallows what is sent to it, up.
    pub(crate) fn dummy(
        &mut self,
        device: &str,
        ifindex: u32,
        mac: [u8; 6],
        mtu_bytes: u32,
    ) -> io::Result<()> {
        let attributes = vec![LinkAttribute::Address(mac.to_vec()), LinkAttribute::Mtu(mtu_bytes)];
        self.new_device(InfoKind::Dummy, device, ifindex, attributes)
    }

    fn new_device(
        &mut self,
        kind: InfoKind,
        device: &str,
        ifindex: u32,
        attributes: Vec<LinkAttribute>,
    ) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = attributes;
        message.attributes.push(LinkAttribute::IfName(device.to_owned()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]));
        self.link_request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &message)
    }

    /// Makes a device a port of `bridge`.
    pub(crate) fn set_master(&mut self, ifindex: u32, bridge: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.attributes.push(LinkAttribute::Controller(bridge));
        self.link_request(RTM_NEWLINK, 0, &message)
    }

    /// Removes a device, and its peer with it.
    pub(crate) fn delete(&mut self, ifindex: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        self.link_request(RTM_DELLINK, 0, &message)
    }

    pub(crate) fn add_address(&mut self, ifindex: u32, address: IpNet) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address.addr());
        message.header.prefix_len = address.prefix_len();
        message.header.index = ifindex;
        message.attributes =
            vec![AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr())];
        if let IpNet::V4(net) = address {
            message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
        }
        self.request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &message)
    }

    /// The default route of the gateway's family.
    pub(crate) fn add_default_route(&mut self, ifindex: u32, gateway: IpAddr) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(gateway);
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Boot;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        let via = match gateway {
            IpAddr::V4(gateway) => RouteAddress::Inet(gateway),
            IpAddr::V6(gateway) => RouteAddress::Inet6(gateway),
        };
        message.attributes = vec![RouteAttribute::Gateway(via), RouteAttribute::Oif(ifindex)];
        self.request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &message)
    }

    fn request(&mut self, kind: u16, flags: u16, message: &impl Emitable) -> io::Result<()> {
        let mut body = vec![0; message.buffer_len()];
        message.emit(&mut body);
        self.acknowledged(kind, flags, &body)
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
