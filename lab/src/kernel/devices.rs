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

use crate::kernel::netlink::{NLM_F_CREATE, NLM_F_EXCL, Netlink, RTM_NEWLINK, attributes, frame};

const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
/// Length of `struct ifinfomsg`, and where its index is (linux/rtnetlink.h).
const IFINFOMSG: usize = 16;
const IFI_INDEX: std::ops::Range<usize> = 4..8;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
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

    /// Removes every veth of this socket's namespace, and with each its peer, wherever that is.
    pub(crate) fn delete_veths(&mut self) -> io::Result<()> {
        let request = frame(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 0, &[0; IFINFOMSG]);
        let links = self.dump(&request)?;
        for (_, body) in links.iter().filter(|(_, body)| is_veth(body)) {
            let index =
                body.get(IFI_INDEX).and_then(|index| Some(u32::from_ne_bytes(index.try_into().ok()?)));
            match self.delete(index.unwrap_or_default()) {
                // It went with a peer of this namespace.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                outcome => outcome?,
            }
        }
        Ok(())
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

fn is_veth(body: &[u8]) -> bool {
    let own = attributes(body.get(IFINFOMSG..).unwrap_or_default());
    let mut info = own.filter(|(kind, _)| *kind == IFLA_LINKINFO).flat_map(|(_, info)| attributes(info));
    info.any(|(kind, value)| kind == IFLA_INFO_KIND && value.strip_suffix(b"\0").unwrap_or(value) == b"veth")
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
