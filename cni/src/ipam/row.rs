//! A row of the log as bytes: what choosing an address needs is read at once, the rest when somebody asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::choose::Family;
use super::process::Process;
use super::record::{u32_at, u64_at};
use super::{Lease, LeaseState, NetnsId};
use crate::{Addresses, Attachment, ContainerId, IfName, NetworkName};

/// One claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'log> {
    /// Sequence of the record that made it; kept when the log is rewritten.
    pub id: u64,
    /// What is leased.
    pub addresses: Addresses,
    /// The blocks the addresses were chosen from.
    pub chosen_from: ChosenFrom,
    /// How far the ADD came.
    pub state: LeaseState,
    /// Whose.
    pub names: Names<'log>,
    payload: &'log [u8],
}

/// Prefix lengths of the blocks a row's addresses were chosen from; `None` for a static address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChosenFrom {
    /// Of the IPv4 address.
    pub v4: Option<u8>,
    /// Of the IPv6 address.
    pub v6: Option<u8>,
}

impl ChosenFrom {
    pub(super) fn of(&mut self, family: Family) -> &mut Option<u8> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

/// An attachment's names as the log has them: not yet checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names<'log> {
    /// Octets of network, container id and interface name.
    lengths: [u8; 3],
    /// The three, back to back.
    octets: &'log [u8],
}

// Where a payload has what: id, then these, then the names, then the pod.
const CLAIMED_AT: usize = 8;
const STARTED_TICKS: usize = 16;
const NETNS_DEV: usize = 24;
const NETNS_INO: usize = 32;
const PID: usize = 40;
const V4: usize = 44;
const V6: usize = 48;
const FLAGS: usize = 64;
const PREFIX_V4: usize = 65;
const PREFIX_V6: usize = 66;
const POD_OCTETS: usize = 67;
const NAMES: usize = 69;

/// Longest `namespace/name` kept, in octets: Kubernetes allows 63 and 253.
const MOST_POD_OCTETS: usize = 320;
/// Stands for "static" where a prefix length would be.
const NO_PREFIX: u8 = u8::MAX;

const HAS_V4: u8 = 1;
const HAS_V6: u8 = 2;
const HAS_NETNS: u8 = 4;
const READY: u8 = 8;
const PORTS: u8 = 16;
const SHAPED: u8 = 32;

impl<'log> Row<'log> {
    /// Writes a lease as [`Row::decode`] reads it.
    pub fn compose(lease: &Lease, chosen_from: ChosenFrom, out: &mut Vec<u8>) {
        let (process, netns) = (lease.process, lease.netns);
        let pod = lease.pod.as_deref().unwrap_or("").as_bytes();
        let pod = &pod[..pod.len().min(MOST_POD_OCTETS)];
        let flags = [
            (lease.addresses.v4.is_some(), HAS_V4),
            (lease.addresses.v6.is_some(), HAS_V6),
            (netns.is_some(), HAS_NETNS),
            (lease.state == LeaseState::Ready, READY),
            (lease.ports, PORTS),
            (lease.shaped, SHAPED),
        ];
        out.extend_from_slice(&lease.id.to_le_bytes());
        out.extend_from_slice(&lease.claimed_at.to_le_bytes());
        out.extend_from_slice(&process.map_or(0, |process| process.started_ticks).to_le_bytes());
        out.extend_from_slice(&netns.map_or(0, |netns| netns.dev).to_le_bytes());
        out.extend_from_slice(&netns.map_or(0, |netns| netns.ino).to_le_bytes());
        out.extend_from_slice(&process.map_or(0, |process| process.pid).to_le_bytes());
        out.extend_from_slice(&lease.addresses.v4.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        out.extend_from_slice(&lease.addresses.v6.unwrap_or(Ipv6Addr::UNSPECIFIED).octets());
        out.push(flags.iter().filter(|(set, _)| *set).fold(0, |flags, (_, flag)| flags | flag));
        out.push(chosen_from.v4.unwrap_or(NO_PREFIX));
        out.push(chosen_from.v6.unwrap_or(NO_PREFIX));
        out.extend_from_slice(&(pod.len() as u16).to_le_bytes());
        Names::compose(&lease.attachment, out);
        out.extend_from_slice(pod);
    }

    /// Reads a claim's payload; what lies behind it is ignored.
    #[must_use]
    pub fn decode(payload: &'log [u8]) -> Option<Self> {
        let names = Names::decode(payload.get(NAMES..)?)?;
        let flags = payload[FLAGS];
        let pod_octets = usize::from(u16::from_le_bytes([payload[POD_OCTETS], payload[POD_OCTETS + 1]]));
        let payload = payload.get(..NAMES + names.encoded_octets() + pod_octets)?;
        let v4 = <[u8; 4]>::try_from(&payload[V4..V6]).ok()?;
        let v6 = <[u8; 16]>::try_from(&payload[V6..FLAGS]).ok()?;
        let prefix = |octet: u8| (octet != NO_PREFIX).then_some(octet);
        Some(Self {
            id: u64_at(payload, 0)?,
            addresses: Addresses {
                v4: (flags & HAS_V4 != 0).then(|| v4.into()),
                v6: (flags & HAS_V6 != 0).then(|| v6.into()),
            },
            chosen_from: ChosenFrom { v4: prefix(payload[PREFIX_V4]), v6: prefix(payload[PREFIX_V6]) },
            state: if flags & READY != 0 { LeaseState::Ready } else { LeaseState::Intent },
            names,
            payload,
        })
    }

    /// Writes the payload again, with the state of now.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.payload);
        if self.state == LeaseState::Ready {
            out[start + FLAGS] |= READY;
        }
    }

    /// The addresses that were chosen, each with its block.
    pub fn chosen(&self) -> impl Iterator<Item = (IpAddr, IpNet)> + use<> {
        let pair = |address: Option<IpAddr>, prefix: Option<u8>| {
            let address = address?;
            Some((address, IpNet::new(address, prefix?).ok()?.trunc()))
        };
        let v4 = pair(self.addresses.v4.map(IpAddr::from), self.chosen_from.v4);
        let v6 = pair(self.addresses.v6.map(IpAddr::from), self.chosen_from.v6);
        v4.into_iter().chain(v6)
    }

    /// Everything the row says; `None` if a name of it is none.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        let number = |offset| u64_at(self.payload, offset);
        let flags = self.payload[FLAGS];
        let pid = u32_at(self.payload, PID)?;
        let netns = NetnsId { dev: number(NETNS_DEV)?, ino: number(NETNS_INO)? };
        let started_ticks = number(STARTED_TICKS)?;
        let pod = self.pod();
        Some(Lease {
            attachment: self.names.attachment()?,
            addresses: self.addresses,
            state: self.state,
            process: (pid != 0).then_some(Process { pid, started_ticks }),
            netns: (flags & HAS_NETNS != 0).then_some(netns),
            pod: (!pod.is_empty()).then(|| String::from_utf8_lossy(pod).into_owned()),
            ports: flags & PORTS != 0,
            shaped: flags & SHAPED != 0,
            claimed_at: number(CLAIMED_AT)?,
            id: self.id,
        })
    }

    /// Whose, in words.
    #[must_use]
    pub fn holder(&self) -> String {
        let [network, container_id, ifname] = self.names.parts().map(String::from_utf8_lossy);
        let whose = format!("container {container_id} interface {ifname} of network {network}");
        match String::from_utf8_lossy(self.pod()) {
            pod if pod.is_empty() => whose,
            pod => format!("pod {pod} ({whose})"),
        }
    }

    fn pod(&self) -> &'log [u8] {
        &self.payload[NAMES + self.names.encoded_octets()..]
    }
}

impl<'log> Names<'log> {
    /// An attachment's names as [`Names::decode`] reads them.
    pub fn compose(attachment: &Attachment, out: &mut Vec<u8>) {
        let parts =
            [attachment.network.as_str(), attachment.container_id.as_str(), attachment.ifname.as_str()];
        // Names are checked when they are parsed: none has more than 255 octets.
        out.extend(parts.iter().map(|part| part.len() as u8));
        for part in parts {
            out.extend_from_slice(part.as_bytes());
        }
    }

    /// Reads three names; what lies behind them is ignored.
    #[must_use]
    pub fn decode(bytes: &'log [u8]) -> Option<Self> {
        let lengths = *bytes.first_chunk::<3>()?;
        let total: usize = lengths.iter().map(|&length| usize::from(length)).sum();
        Some(Self { lengths, octets: bytes[3..].get(..total)? })
    }

    /// Writes them again.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.lengths);
        out.extend_from_slice(self.octets);
    }

    /// The attachment, if each name is one.
    #[must_use]
    pub fn attachment(&self) -> Option<Attachment> {
        let [network, container_id, ifname] = self.parts();
        let text = |octets| std::str::from_utf8(octets).ok();
        Some(Attachment {
            network: NetworkName::parse(text(network)?).ok()?,
            container_id: ContainerId::parse(text(container_id)?).ok()?,
            ifname: IfName::parse(text(ifname)?).ok()?,
        })
    }

    fn parts(&self) -> [&'log [u8]; 3] {
        let (network, rest) = self.octets.split_at(usize::from(self.lengths[0]));
        let (container_id, ifname) = rest.split_at(usize::from(self.lengths[1]));
        [network, container_id, ifname]
    }

    fn encoded_octets(&self) -> usize {
        self.lengths.len() + self.octets.len()
    }
}
