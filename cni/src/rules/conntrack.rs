//! Flows that connection tracking remembers and that must not outlive what they were translated by.
//!
//! Two moments: a UDP port is published, and a client that has been sending to it all along keeps its old, untranslated
//! or elsewhere translated flow; and a pod is gone, and what is left of its flows would reach the next pod that gets
//! the address. The kernel has no index by address: each question walks the whole table, 5 to 15 ms for the usual
//! 262,144 buckets however few flows there are. So it is asked only where there is something to find, see [`Effort`],
//! and one walk through all is taken instead of two with a filter each while that is less work.
//!
//! Source: `linux/netfilter/nfnetlink_conntrack.h`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

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
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_STATUS_MASK: u16 = 26;
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

/// So many flows are listed in the time of another walk.
const FLOWS_PER_WALK: usize = 7_000;
/// Up to this many buckets and flows a walk costs less than a millisecond.
const CHEAP_TABLE: u32 = 20_000;
const BUCKETS: &str = "/proc/sys/net/netfilter/nf_conntrack_buckets";

/// How much forgetting a pod's flows may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// The pod had ports of the node: its flows are translated and must go.
    Thorough,
    /// It had none: its flows are looked for in a small table only. What stays is flows that others translate
    /// (Services, masquerading): whoever translates them ends them, and an address rests before it is given out again.
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

/// What the kernel is to pick of a large table. A kernel that does not know a filter lists everything, so every flow is
/// looked at again here.
#[derive(Clone, Copy)]
enum Filter {
    /// First packets of UDP to this port, over IPv6 or not (CTA_FILTER, Linux 5.8).
    UdpTo { port: u16, ipv6: bool },
    /// Flows that this address answers.
    AnsweredBy(Ipv4Addr),
    /// IPv6 flows whose destination is translated (CTA_STATUS). The kernel's filter by IPv6 address cannot be used: it
    /// compares the wrong way round (`!ipv6_addr_cmp`, up to Linux 6.18 at least).
    TranslatedV6,
}

/// Ends the flows that these addresses answer, and where little is tracked those they have begun, too; returns how
/// many there were.
///
/// # Errors
/// [`RulesError::Netlink`]. A kernel without connection tracking has nothing to forget.
pub fn forget_flows(addresses: &Addresses, effort: Effort) -> Result<usize, RulesError> {
    let mut socket = Socket::netfilter()?;
    let entries = match entries(&mut socket) {
        Err(error) if is_untracked(&error) => 0,
        entries => entries?,
    };
    if entries == 0 || (effort == Effort::Cheap && buckets().saturating_add(entries) > CHEAP_TABLE) {
        return Ok(0);
    }
    let filters: Vec<Filter> = addresses
        .v4
        .map(Filter::AnsweredBy)
        .into_iter()
        .chain(addresses.v6.map(|_| Filter::TranslatedV6))
        .collect();
    let flows = find(&mut socket, entries, &filters, |flow| {
        addresses.iter().any(|pod| [flow.tuple.source, flow.reply.source].contains(&Some(pod)))
    })?;
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
    let entries = entries(&mut socket)?;
    if entries == 0 {
        return Ok(0);
    }
    let filters: Vec<Filter> = ports.iter().map(|&(port, ipv6)| Filter::UdpTo { port, ipv6 }).collect();
    let mut flows = find(&mut socket, entries, &filters, |flow| {
        let port = (flow.tuple.destination_port, flow.tuple.destination.is_some_and(|at| at.is_ipv6()));
        let leads_here = published.addresses.iter().any(|pod| flow.reply.source == Some(pod));
        flow.tuple.protocol == Protocol::Udp.number() && ports.contains(&port) && !leads_here
    })?;
    // What passes through the node to the same port elsewhere (a DNS server, say) is not ours to end.
    let mut local = Local::default();
    let mut ours = Vec::new();
    for flow in flows.drain(..) {
        if local.is(flow.tuple.destination)? {
            ours.push(flow);
        }
    }
    delete(&mut socket, &ours)
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

/// How many buckets a walk visits; where it is not told, as if they were many.
fn buckets() -> u32 {
    std::fs::read_to_string(BUCKETS).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(u32::MAX)
}

/// The flows that `is` picks of those the filters let through; of all, where that is less work.
fn find(
    socket: &mut Socket,
    entries: u32,
    filters: &[Filter],
    is: impl Fn(&Flow) -> bool,
) -> Result<Vec<Flow>, Error> {
    let mut list = |filter: Option<Filter>| {
        socket.dump(
            "listing tracked flows",
            IPCTNL_MSG_CT_GET,
            |body| Filter::write(filter, body),
            |flows: &mut Vec<Flow>, message| flows.extend(Flow::read(message).filter(&is)),
        )
    };
    let walks_saved = filters.len().saturating_sub(1);
    if entries as usize <= walks_saved * FLOWS_PER_WALK {
        return list(None);
    }
    let mut flows = Vec::new();
    for filter in filters {
        flows.extend(list(Some(*filter))?);
    }
    Ok(flows)
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

impl Filter {
    /// A dump request; without a filter, for both families.
    fn write(filter: Option<Self>, body: &mut Body<'_>) {
        const IP_SRC: u32 = 1;
        const PROTO_NUM: u32 = 1 << 3;
        const PROTO_DST_PORT: u32 = 1 << 5;
        const IPS_DST_NAT: u32 = 1 << 5;
        let family = match filter {
            None => libc::AF_UNSPEC,
            Some(Self::UdpTo { ipv6: true, .. } | Self::TranslatedV6) => libc::AF_INET6,
            Some(Self::UdpTo { .. } | Self::AnsweredBy(_)) => libc::AF_INET,
        };
        body.header(&[u8::try_from(family).expect("address families of IP are small"), 0, 0, 0]);
        match filter {
            None => {}
            Some(Self::UdpTo { port, .. }) => {
                body.nest(CTA_TUPLE_ORIG, |tuple| {
                    tuple.nest(CTA_TUPLE_PROTO, |proto| {
                        proto.u8(CTA_PROTO_NUM, Protocol::Udp.number());
                        proto.bytes(CTA_PROTO_DST_PORT, &port.to_be_bytes());
                    });
                });
                body.nest(CTA_FILTER, |filter| filter.u32(CTA_FILTER_ORIG_FLAGS, PROTO_NUM | PROTO_DST_PORT));
            }
            Some(Self::AnsweredBy(address)) => {
                body.nest(CTA_TUPLE_REPLY, |tuple| {
                    tuple.nest(CTA_TUPLE_IP, |ip| ip.address(CTA_IP_V4_SRC, address.into()));
                });
                body.nest(CTA_FILTER, |filter| filter.u32(CTA_FILTER_REPLY_FLAGS, IP_SRC));
            }
            Some(Self::TranslatedV6) => {
                body.be32(CTA_STATUS, IPS_DST_NAT);
                body.be32(CTA_STATUS_MASK, IPS_DST_NAT);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tuple_is_read_as_the_kernel_writes_it() {
        // CTA_TUPLE_IP {SRC 192.0.2.2, DST 192.0.2.1}, CTA_TUPLE_PROTO {NUM 17, SRC_PORT 4000, DST_PORT 53}.
        let bytes = [
            &[20, 0, 1, 0x80, 8, 0, 1, 0, 192, 0, 2, 2, 8, 0, 2, 0, 192, 0, 2, 1][..],
            &[28, 0, 2, 0x80, 5, 0, 1, 0, 17, 0, 0, 0, 6, 0, 2, 0, 15, 160, 0, 0, 6, 0, 3, 0, 0, 53, 0, 0],
        ]
        .concat();
        let expected = Tuple {
            source: Some([192, 0, 2, 2].into()),
            destination: Some([192, 0, 2, 1].into()),
            protocol: 17,
            destination_port: 53,
        };
        assert_eq!(Tuple::read(&bytes), expected);
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_no_flow_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Tuple::read(&bytes);
            let _ = Flow::read(&Message { kind: 256, flags: 0, sequence: 0, port: 0, payload: &bytes });
        }
    }
}
