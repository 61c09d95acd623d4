//! The few rtnetlink requests a lab needs, blocking, on a socket of the calling thread's network namespace.
//!
//! Encoding of links is `netlink-packet-route`'s; the header, the acknowledgement and its extended
//! text are read here.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_packet_core::Emitable;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, Prop,
};
use netlink_sys::{Socket, SocketAddr, protocols};

use crate::kernel::netns::inside;

const HEADER: usize = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLA_TYPE_MASK: u16 = 0x3fff;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLM_F_CAPPED: u16 = 0x100;
const NLMSGERR_ATTR_MSG: u16 = 1;
pub(crate) const RTM_NEWLINK: u16 = 16;
const RTM_NEWLINKPROP: u16 = 108;

/// A blocking netlink socket; requests are sent and acknowledged one after the other.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// Where and how one end of a veth pair is made.
pub(crate) struct VethEnd<F> {
    pub(crate) device: String,
    pub(crate) mac: [u8; 6],
    pub(crate) ifindex: u32,
    pub(crate) netns: F,
}

impl Netlink {
    pub(crate) fn route() -> io::Result<Self> {
        Self::open(protocols::NETLINK_ROUTE)
    }

    /// A socket of another namespace, which stays there whichever thread uses it.
    pub(crate) fn route_in(netns: BorrowedFd<'_>) -> io::Result<Self> {
        inside(netns, Self::route)?
    }

    pub(crate) fn netfilter() -> io::Result<Self> {
        Self::open(protocols::NETLINK_NETFILTER)
    }

    fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Makes both ends at once, each straight in its namespace with its own name and ifindex.
    ///
    /// The first end is up; the second one cannot be yet, because the kernel opens it before it
    /// has a peer (ENOTCONN).
    pub(crate) fn veth<F: AsFd>(&mut self, ends: &[VethEnd<F>; 2], mtu_bytes: u32) -> io::Result<()> {
        let [near, far] = ends;
        let mut message = end_message(near, mtu_bytes);
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        let peer = InfoData::Veth(InfoVeth::Peer(end_message(far, mtu_bytes)));
        message
            .attributes
            .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(peer)]));
        self.link_request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &message)
    }

    /// Sets a link administratively up or down.
    pub(crate) fn set_up(&mut self, ifindex: u32, up: bool) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        self.link_request(RTM_NEWLINK, 0, &message)
    }

    /// Takes a device of this socket's namespace to `netns`, names it, and sets it up there.
    ///
    /// It keeps its ifindex, unless that is taken there.
    pub(crate) fn move_and_set_up(
        &mut self,
        ifindex: u32,
        name: &str,
        netns: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = LinkFlags::Up;
        message.attributes =
            vec![LinkAttribute::NetNsFd(netns.as_raw_fd()), LinkAttribute::IfName(name.to_owned())];
        self.link_request(RTM_NEWLINK, 0, &message)
    }

    /// Gives a device a second name, up to 127 bytes long.
    pub(crate) fn alternative_name(&mut self, ifindex: u32, name: &str) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.attributes.push(LinkAttribute::PropList(vec![Prop::AltIfName(name.to_owned())]));
        self.link_request(RTM_NEWLINKPROP, NLM_F_CREATE | NLM_F_EXCL, &message)
    }

    pub(crate) fn link_request(&mut self, kind: u16, flags: u16, message: &LinkMessage) -> io::Result<()> {
        let mut body = vec![0; message.buffer_len()];
        message.emit(&mut body);
        self.acknowledged(kind, flags, &body)
    }

    /// Sends one request and waits for its acknowledgement.
    pub(crate) fn acknowledged(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let request = frame(kind, flags | NLM_F_REQUEST | NLM_F_ACK, self.sequence, body);
        self.exchange(&request, 1)
    }

    /// Sends `request` and reads `acknowledgements` of them; the first refusal is the outcome.
    pub(crate) fn exchange(&mut self, request: &[u8], acknowledgements: usize) -> io::Result<()> {
        self.socket.send(request, 0)?;
        let mut seen = 0;
        let mut outcome = Ok(());
        while seen < acknowledgements {
            let (bytes, _) = self.socket.recv_from_full()?;
            for (kind, flags, payload) in messages(&bytes) {
                if kind != NLMSG_ERROR {
                    continue;
                }
                seen += 1;
                if let Err(error) = acknowledgement(flags, payload) {
                    // A refused batch is refused whole, and not every message is answered then.
                    seen = acknowledgements;
                    outcome = outcome.and(Err(error));
                }
            }
        }
        outcome
    }

    /// Sends `request`, which asks for a list, and collects the answers as type and body.
    pub(crate) fn dump(&mut self, request: &[u8]) -> io::Result<Vec<(u16, Vec<u8>)>> {
        self.socket.send(request, 0)?;
        let mut answers = Vec::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            for (kind, flags, payload) in messages(&bytes) {
                match kind {
                    NLMSG_DONE | NLMSG_ERROR => return acknowledgement(flags, payload).map(|()| answers),
                    kind => answers.push((kind, payload.to_vec())),
                }
            }
        }
    }
}

fn end_message<F: AsFd>(veth: &VethEnd<F>, mtu_bytes: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = veth.ifindex;
    message.attributes = vec![
        LinkAttribute::IfName(veth.device.clone()),
        LinkAttribute::Mtu(mtu_bytes),
        LinkAttribute::Address(veth.mac.to_vec()),
        LinkAttribute::NetNsFd(veth.netns.as_fd().as_raw_fd()),
    ];
    message
}

/// One netlink message: header (native byte order) and body.
pub(crate) fn frame(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER + body.len() + 3);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The messages of a datagram as (type, flags, payload); what is cut short ends the walk.
fn messages(bytes: &[u8]) -> impl Iterator<Item = (u16, u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(rest, 0)?).ok().filter(|length| *length >= HEADER)?;
        let message = rest.get(..length)?;
        let next = length.next_multiple_of(4).min(rest.len());
        rest = rest.get(next..).unwrap_or_default();
        Some((u16_at(message, 4)?, u16_at(message, 6)?, message.get(HEADER..)?))
    })
}

/// One attribute (native byte order), padded.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("lab attributes are short: names and numbers");
    let mut bytes = Vec::with_capacity(value.len() + 8);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The attributes of a body or of a nested attribute as (type, value); what is cut short ends the walk.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & NLA_TYPE_MASK;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// An NLMSG_ERROR: a negated errno (0: done), the request's header, and with extended
/// acknowledgement the kernel's own words.
fn acknowledgement(flags: u16, payload: &[u8]) -> io::Result<()> {
    let code =
        u32_at(payload, 0).map_or(libc::EPROTO, |raw| i32::from_ne_bytes(raw.to_ne_bytes()).wrapping_neg());
    if code == 0 {
        return Ok(());
    }
    let error = io::Error::from_raw_os_error(code);
    match extended_text(flags, payload) {
        Some(text) => Err(io::Error::new(error.kind(), format!("{error}: {text}"))),
        None => Err(error),
    }
}

fn extended_text(flags: u16, payload: &[u8]) -> Option<String> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let request = match flags & NLM_F_CAPPED {
        0 => usize::try_from(u32_at(payload, 4)?).ok()?.next_multiple_of(4),
        _ => HEADER,
    };
    let mut rest = payload.get(4 + request..)?;
    while let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let length = usize::from(length);
        let value = rest.get(4..length)?;
        if kind == NLMSGERR_ATTR_MSG {
            return Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The index of the interface `name` of the calling thread's network namespace.
pub(crate) fn ifindex(name: &str) -> io::Result<u32> {
    let (family, kind) = (rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM);
    let socket = rustix::net::socket_with(family, kind, rustix::net::SocketFlags::CLOEXEC, None)?;
    Ok(rustix::net::netdevice::name_to_index(&socket, name)?)
}
