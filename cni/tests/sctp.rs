//! Host ports of SCTP, on kernels without SCTP too: an INIT chunk is written by hand and followed into the pod and back.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "what serves and asks is for TCP and UDP")]
mod node;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use cni::rules::{self, Published};
use cni::spec::runtime::{PortMapping, Protocol};
use meter::netns::Netns;
use node::{NODE, Node, OUTSIDE};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, socket, sockopt};

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const INITIATE_TAG: u32 = 0x1234_5678;

/// What arrived or is to be sent: ports, verification tag and the kind of the only chunk.
#[derive(Debug, PartialEq, Eq)]
struct Packet {
    source_port: u16,
    destination_port: u16,
    tag: u32,
    chunk: u8,
}

impl Packet {
    /// RFC 9260 sections 3.1 and 3.3.2: the common header and a chunk of the INIT family.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.source_port.to_be_bytes());
        bytes.extend(self.destination_port.to_be_bytes());
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend([self.chunk, 0, 0, 20]);
        bytes.extend(INITIATE_TAG.to_be_bytes());
        bytes.extend(65_536u32.to_be_bytes());
        bytes.extend([0, 1, 0, 1]);
        bytes.extend(1u32.to_be_bytes());
        let checksum = crc32c(&bytes);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        let be16 = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let mut unsigned = bytes.to_vec();
        unsigned[8..12].fill(0);
        let checksum = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
        assert_eq!(checksum, crc32c(&unsigned), "the checksum covers the translated ports");
        Self {
            source_port: be16(0),
            destination_port: be16(2),
            tag: u32::from_be_bytes(bytes[4..8].try_into().unwrap()),
            chunk: bytes[12],
        }
    }
}

/// RFC 9260 appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// A raw socket for SCTP inside `netns`.
struct Raw {
    socket: OwnedFd,
    ipv6: bool,
}

impl Raw {
    fn open(netns: &Netns, ipv6: bool) -> Self {
        let family = if ipv6 { AddressFamily::INET6 } else { AddressFamily::INET };
        let socket = netns.run(|| Ok(socket(family, SocketType::RAW, Some(ipproto::SCTP))?)).unwrap();
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_secs(4))).unwrap();
        Self { socket, ipv6 }
    }

    fn send(&self, to: IpAddr, packet: &Packet) {
        sendto(&self.socket, &packet.encode(), SendFlags::empty(), &SocketAddr::new(to, 0)).unwrap();
    }

    fn receive(&self) -> Packet {
        let mut bytes = [0; 256];
        let (length, _) =
            rustix::io::retry_on_intr(|| recv(&self.socket, &mut bytes, RecvFlags::empty())).unwrap();
        // Only IPv4's raw sockets show the IP header.
        Packet::decode(&bytes[if self.ipv6 { 0 } else { 20 }..length])
    }
}

#[test]
fn an_sctp_host_port_leads_into_the_pod_and_back() {
    let node = Node::new();
    let pod = node.pod(2);
    let mapping = PortMapping {
        host_port: 5060.try_into().unwrap(),
        container_port: 5061.try_into().unwrap(),
        protocol: Protocol::Sctp,
        host_ip: None,
    };
    let published =
        Published { owner: pod.host_ifname.clone(), addresses: pod.addresses, mappings: vec![mapping] };
    node.run(rules::ensure_guard).unwrap();
    node.run(|| rules::publish(&published)).unwrap();
    for (family, ipv6) in [(0, false), (1, true)] {
        let (outside, inside) = (Raw::open(&node.outside, ipv6), Raw::open(&pod.netns, ipv6));
        let init = Packet { source_port: 40_000, destination_port: 5060, tag: 0, chunk: INIT };
        outside.send(NODE[family].parse().unwrap(), &init);
        assert_eq!(inside.receive(), Packet { destination_port: 5061, ..init });
        let answer =
            Packet { source_port: 5061, destination_port: 40_000, tag: INITIATE_TAG, chunk: INIT_ACK };
        inside.send(OUTSIDE[family].parse().unwrap(), &answer);
        assert_eq!(outside.receive(), Packet { source_port: 5060, ..answer });
    }
}

#[test]
fn the_checksum_is_the_one_of_the_rfc() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}
