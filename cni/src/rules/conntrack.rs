//! Flows that connection tracking remembers and that must not outlive what they were translated by.
//!
//! Two moments: a UDP port is published, and a client that has been sending to it all along keeps its old, untranslated
//! or elsewhere translated flow; and a pod is gone, and what is left of its flows would reach the next pod that gets
//! the address. The kernel has no index by address: each question walks the whole table, filtered there
//! (CTA_FILTER, Linux 5.8; an older kernel lists everything, so every entry is looked at again here). It is
//! therefore asked only where there is something to find, see [`Effort`].
//!
//! Source: `linux/netfilter/nfnetlink_conntrack.h`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink::nft::NFGENMSG;
use netlink::read::{address, attributes, u16_at};
use netlink::{Attributes, Batch, Body, Error, Message, Socket};

use super::{Published, RulesError};
use crate::Addresses;
use crate::spec::runtime::Protocol;

const IPCTNL_MSG_CT_GET: u16 = (1 << 8) | 1;
const IPCTNL_MSG_CT_DELETE: u16 = (1 << 8) | 2;
const IPCTNL_MSG_CT_GET_STATS: u16 = (1 << 8) | 5;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_STATS_GLOBAL_ENTRIES: u16 = 1;
const NLA_F_NESTED: u16 = 0x8000;

/// Above this many entries a walk takes milliseconds; a pod that published nothing is then not worth one.
const CHEAP_ENTRIES: u32 = 20_000;

/// How much forgetting a pod's flows may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// The pod had ports of the node: its flows are translated and must go.
    Thorough,
    /// It had none: no walk where nothing is tracked, nor through a table of more than 20,000 entries. What stays
    /// then is flows that others translate (Services, masquerading); whoever translates them ends them, and an
    /// address rests before it is given out again.
    Cheap,
}

/// One tracked flow: what deleting it takes, and its first packet's destination.
struct Flow {
    family: u8,
    orig: Vec<u8>,
    id: Vec<u8>,
    zone: Vec<u8>,
    tuple: Tuple,
    reply: Tuple,
}

/// Addresses, protocol and destination port of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tuple {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    protocol: u8,
    destination_port: u16,
}

/// What the kernel is to look for in one direction.
#[derive(Clone, Copy)]
enum Wanted {
    /// First packets of UDP to this port, over IPv6 or not.
    UdpTo { port: u16, ipv6: bool },
    /// Flows begun by this address.
    From(Ipv4Addr),
    /// Flows that this address answers.
    AnsweredBy(Ipv4Addr),
    /// Both, of IPv6: the kernel's filter compares its addresses the wrong way round (`!ipv6_addr_cmp`, all versions
    /// up to 6.18 at least), so the whole family is listed and looked at here.
    FromOrAnsweredBy(Ipv6Addr),
}

/// Ends the flows from and to these addresses; returns how many there were.
///
/// # Errors
/// [`RulesError::Netlink`]. A kernel without connection tracking has nothing to forget.
pub fn forget_flows(addresses: &Addresses, effort: Effort) -> Result<usize, RulesError> {
    let mut socket = Socket::netfilter()?;
    let entries = match entries(&mut socket) {
        Err(error) if is_untracked(&error) => 0,
        entries => entries?,
    };
    if entries == 0 || (effort == Effort::Cheap && entries > CHEAP_ENTRIES) {
        return Ok(0);
    }
    let mut flows = Vec::new();
    let v4 = addresses.v4.into_iter().flat_map(|v4| [Wanted::AnsweredBy(v4), Wanted::From(v4)]);
    for wanted in v4.chain(addresses.v6.map(Wanted::FromOrAnsweredBy)) {
        flows.extend(find(&mut socket, wanted)?);
    }
    delete(&mut socket, &flows)
}

/// Ends the UDP flows to the published ports that do not lead into the pod.
pub(super) fn forget_udp(published: &Published) -> Result<usize, RulesError> {
    let mut ports: Vec<(u16, bool)> = Vec::new();
    for mapping in published.mappings.iter().filter(|mapping| mapping.protocol == Protocol::Udp) {
        let families = published
            .addresses
            .iter()
            .filter(|pod| mapping.host_ip.is_none_or(|host_ip| host_ip.is_ipv4() == pod.is_ipv4()));
        ports.extend(families.map(|pod| (mapping.host_port.get(), pod.is_ipv6())));
    }
    ports.sort_unstable();
    ports.dedup();
    if ports.is_empty() {
        return Ok(0);
    }
    let mut socket = Socket::netfilter()?;
    // The table was just given a nat chain, so the kernel tracks; whether it lets itself be asked is another matter.
    if entries(&mut socket)? == 0 {
        return Ok(0);
    }
    let mut local = Local::default();
    let mut flows = Vec::new();
    for (port, ipv6) in ports {
        for flow in find(&mut socket, Wanted::UdpTo { port, ipv6 })? {
            let leads_here =
                flow.reply.source.is_some_and(|source| published.addresses.iter().any(|pod| pod == source));
            // What passes through the node to the same port elsewhere (a DNS server, say) is not ours to end.
            if !leads_here && local.is(flow.tuple.destination)? {
                flows.push(flow);
            }
        }
    }
    delete(&mut socket, &flows)
}

/// How many flows are tracked in this network namespace.
fn entries(socket: &mut Socket) -> Result<u32, Error> {
    let entries = |message: &Message<'_>| {
        let entry = attributes(message.payload, NFGENMSG).find(|(kind, _)| *kind == CTA_STATS_GLOBAL_ENTRIES);
        entry.and_then(|(_, value)| Some(u32::from_be_bytes(value.try_into().ok()?)))
    };
    let doing = "asking how many flows are tracked";
    Ok(socket.get(doing, IPCTNL_MSG_CT_GET_STATS, |body| body.header(&[0; 4]), entries)?.unwrap_or_default())
}

/// No ctnetlink in this kernel.
fn is_untracked(error: &Error) -> bool {
    matches!(error.errno(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT))
}

fn find(socket: &mut Socket, wanted: Wanted) -> Result<Vec<Flow>, Error> {
    socket.dump(
        "listing tracked flows",
        IPCTNL_MSG_CT_GET,
        |body| wanted.write(body),
        |flows: &mut Vec<Flow>, message| {
            flows.extend(Flow::read(message).filter(|flow| wanted.is(flow)));
        },
    )
}

/// Deletes them; those that ended by themselves meanwhile are as good.
fn delete(socket: &mut Socket, flows: &[Flow]) -> Result<usize, RulesError> {
    // What the socket takes at once has a limit, and each request is answered.
    for some in flows.chunks(256) {
        let mut batch = Batch::new();
        for flow in some {
            batch.request("ending a tracked flow", IPCTNL_MSG_CT_DELETE, 0, |body| {
                body.header(&[flow.family, 0, 0, 0]);
                body.bytes(CTA_TUPLE_ORIG | NLA_F_NESTED, &flow.orig);
                for (kind, value) in [(CTA_ID, &flow.id), (CTA_ZONE, &flow.zone)] {
                    if !value.is_empty() {
                        body.bytes(kind, value);
                    }
                }
            });
        }
        for outcome in socket.outcomes(batch)? {
            match outcome {
                Err(refused) if refused.errno != libc::ENOENT => return Err(Error::from(refused).into()),
                _ => {}
            }
        }
    }
    Ok(flows.len())
}

impl Wanted {
    const fn is_ipv6(self) -> bool {
        match self {
            Self::UdpTo { ipv6, .. } => ipv6,
            Self::From(_) | Self::AnsweredBy(_) => false,
            Self::FromOrAnsweredBy(_) => true,
        }
    }

    /// A dump request with its filter.
    fn write(self, body: &mut Body<'_>) {
        const IP_SRC: u32 = 1;
        const PROTO_NUM: u32 = 1 << 3;
        const PROTO_DST_PORT: u32 = 1 << 5;
        let family = if self.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
        body.header(&[u8::try_from(family).expect("AF_INET and AF_INET6 are small"), 0, 0, 0]);
        let source = |body: &mut Body<'_>, address: Ipv4Addr| {
            body.nest(CTA_TUPLE_IP, |ip| ip.address(CTA_IP_V4_SRC, address.into()));
        };
        let (direction, flags) = match self {
            Self::UdpTo { port, .. } => {
                body.nest(CTA_TUPLE_ORIG, |tuple| {
                    tuple.nest(CTA_TUPLE_PROTO, |proto| {
                        proto.u8(CTA_PROTO_NUM, Protocol::Udp.number());
                        proto.bytes(CTA_PROTO_DST_PORT, &port.to_be_bytes());
                    });
                });
                (CTA_FILTER_ORIG_FLAGS, PROTO_NUM | PROTO_DST_PORT)
            }
            Self::From(address) => {
                body.nest(CTA_TUPLE_ORIG, |tuple| source(tuple, address));
                (CTA_FILTER_ORIG_FLAGS, IP_SRC)
            }
            Self::AnsweredBy(address) => {
                body.nest(CTA_TUPLE_REPLY, |tuple| source(tuple, address));
                (CTA_FILTER_REPLY_FLAGS, IP_SRC)
            }
            Self::FromOrAnsweredBy(_) => return,
        };
        body.nest(CTA_FILTER, |filter| filter.u32(direction, flags));
    }

    fn is(self, flow: &Flow) -> bool {
        match self {
            Self::UdpTo { port, .. } => {
                flow.tuple.protocol == Protocol::Udp.number() && flow.tuple.destination_port == port
            }
            Self::From(address) => flow.tuple.source == Some(address.into()),
            Self::AnsweredBy(address) => flow.reply.source == Some(address.into()),
            Self::FromOrAnsweredBy(address) => {
                [flow.tuple.source, flow.reply.source].contains(&Some(address.into()))
            }
        }
    }
}

impl Flow {
    fn read(message: &Message<'_>) -> Option<Self> {
        let find = |wanted| {
            attributes(message.payload, NFGENMSG).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
        };
        let orig = find(CTA_TUPLE_ORIG)?;
        Some(Self {
            family: message.payload.first().copied()?,
            orig: orig.to_vec(),
            id: find(CTA_ID).unwrap_or_default().to_vec(),
            zone: find(CTA_ZONE).unwrap_or_default().to_vec(),
            tuple: Tuple::read(orig),
            reply: Tuple::read(find(CTA_TUPLE_REPLY)?),
        })
    }
}

impl Tuple {
    fn read(bytes: &[u8]) -> Self {
        let mut tuple = Self::default();
        for (kind, value) in Attributes(bytes)
            .flat_map(|(part, value)| Attributes(value).map(move |(kind, value)| ((part, kind), value)))
        {
            match kind {
                (CTA_TUPLE_IP, CTA_IP_V4_SRC | CTA_IP_V6_SRC) => tuple.source = address(value),
                (CTA_TUPLE_IP, CTA_IP_V4_DST | CTA_IP_V6_DST) => tuple.destination = address(value),
                (CTA_TUPLE_PROTO, CTA_PROTO_NUM) => {
                    tuple.protocol = value.first().copied().unwrap_or_default()
                }
                (CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT) => {
                    tuple.destination_port = u16_at(value, 0).map(u16::from_be).unwrap_or_default();
                }
                _ => {}
            }
        }
        tuple
    }
}

/// Which addresses are this node's own, by the kernel's routes and each asked for once.
#[derive(Default)]
struct Local {
    socket: Option<Socket>,
    known: BTreeMap<IpAddr, bool>,
}

impl Local {
    fn is(&mut self, address: Option<IpAddr>) -> Result<bool, Error> {
        const RTM_GETROUTE: u16 = 26;
        const RTA_DST: u16 = 1;
        const RTN_LOCAL: u8 = 2;
        const TYPE_IN_RTMSG: usize = 7;
        let Some(address) = address else { return Ok(false) };
        if let Some(known) = self.known.get(&address) {
            return Ok(*known);
        }
        let socket = match self.socket.take() {
            Some(socket) => self.socket.insert(socket),
            None => self.socket.insert(Socket::route()?),
        };
        let (family, bits) = if address.is_ipv4() { (libc::AF_INET, 32) } else { (libc::AF_INET6, 128) };
        let mut rtmsg = [0; 12];
        (rtmsg[0], rtmsg[1]) = (u8::try_from(family).expect("AF_INET and AF_INET6 are small"), bits);
        let kind = socket.get(
            "asking whether an address is the node's own",
            RTM_GETROUTE,
            |body| {
                body.header(&rtmsg);
                body.address(RTA_DST, address);
            },
            |message| message.payload.get(TYPE_IN_RTMSG).copied(),
        );
        let local = match kind {
            Ok(kind) => kind == Some(RTN_LOCAL),
            // No route: not ours.
            Err(Error::Refused(_)) => false,
            Err(error) => return Err(error),
        };
        self.known.insert(address, local);
        Ok(local)
    }
}
