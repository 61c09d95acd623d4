//! One link as the kernel tells of it.

use netlink::read::{text, u32_at};
use netlink::{Attributes, Batch, Error, Message, Socket, attributes};

use super::rtnetlink::{
    IFF_LOOPBACK, IFF_UP, IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINK,
    IFLA_LINKINFO, IFLA_MTU, LINK_HEADER, RTM_GETLINK, delete_link, which_link,
};

/// What is asked of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) is_up: bool,
    pub(super) is_loopback: bool,
    pub(super) mtu_bytes: u32,
    pub(super) mac: [u8; 6],
    /// `ifalias`; empty without one.
    pub(super) alias: String,
    /// "veth", "ifb"; empty for what is not made by software.
    pub(super) kind: String,
    /// Index of a veth's other end, in that one's namespace.
    pub(super) peer_index: u32,
    /// The kernel's array of IPv4 settings, a number of four octets each.
    pub(super) v4_settings: Option<Vec<u8>>,
    /// The kernel's array of IPv6 settings; `None`: no IPv6 on this link.
    pub(super) v6_settings: Option<Vec<u8>>,
}

impl Link {
    /// The link of this name, if there is one.
    pub(super) fn named(socket: &mut Socket, name: &str) -> Result<Option<Self>, Error> {
        let ask = |body: &mut netlink::Body<'_>| which_link(body, 0, Some(name));
        absent_is_none(socket.get("looking for a link", RTM_GETLINK, ask, Self::parse))
    }

    /// The link of this index, if there is one.
    pub(super) fn of_index(socket: &mut Socket, index: u32) -> Result<Option<Self>, Error> {
        let ask = |body: &mut netlink::Body<'_>| which_link(body, index, None);
        absent_is_none(socket.get("looking for a link", RTM_GETLINK, ask, Self::parse))
    }

    /// Removes it; that it went meanwhile is as good.
    pub(super) fn delete(socket: &mut Socket, index: u32) -> Result<(), Error> {
        let mut batch = Batch::new();
        delete_link(&mut batch, index);
        absent_is_none(socket.exchange(batch).map(Some)).map(|_| ())
    }

    /// Reads an `RTM_NEWLINK`; `None` when it is something else.
    pub(super) fn parse(message: &Message<'_>) -> Option<Self> {
        const RTM_NEWLINK: u16 = 16;
        const AF_INET: u16 = 2;
        const AF_INET6: u16 = 10;
        if message.kind != RTM_NEWLINK {
            return None;
        }
        let flags = u32_at(message.payload, 8)?;
        let mut link = Self {
            index: u32_at(message.payload, 4)?,
            is_up: flags & IFF_UP != 0,
            is_loopback: flags & IFF_LOOPBACK != 0,
            ..Self::default()
        };
        for (kind, value) in attributes(message.payload, LINK_HEADER) {
            match kind {
                IFLA_IFNAME => link.name = text(value),
                IFLA_MTU => link.mtu_bytes = u32_at(value, 0)?,
                IFLA_ADDRESS => link.mac = value.try_into().unwrap_or_default(),
                IFLA_IFALIAS => link.alias = text(value),
                IFLA_LINK => link.peer_index = u32_at(value, 0)?,
                IFLA_LINKINFO => link.kind = attribute(value, IFLA_INFO_KIND).map(text).unwrap_or_default(),
                IFLA_AF_SPEC => {
                    link.v4_settings = settings(value, AF_INET, 1);
                    link.v6_settings = settings(value, AF_INET6, 2);
                }
                _ => {}
            }
        }
        Some(link)
    }
}

/// `IFLA_INET_CONF` (1) or `IFLA_INET6_CONF` (2) of one family.
fn settings(families: &[u8], family: u16, array: u16) -> Option<Vec<u8>> {
    attribute(attribute(families, family)?, array).map(<[u8]>::to_vec)
}

fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// "No such device" is an answer.
pub(super) fn absent_is_none<T>(answer: Result<Option<T>, Error>) -> Result<Option<T>, Error> {
    match answer {
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
        answer => answer,
    }
}
