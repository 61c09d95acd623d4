//! Stops and restores a node's forwarding: one nf_tables batch, so that it happens at once.
//!
//! The table `inet towpath-lab` holds one chain on the forward hook whose policy is drop; what the
//! node itself sends and receives is untouched. Where the kernel has no nf_tables, the forwarding
//! sysctls of both families are switched instead, which the caller learns.

use std::io;

use crate::netlink::{Netlink, frame};

const TABLE: &str = "towpath-lab";
const CHAIN: &str = "forward";

const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8;
const NFT_MSG_DELTABLE: u16 = (NFNL_SUBSYS_NFTABLES << 8) | 2;
const NFT_MSG_NEWCHAIN: u16 = (NFNL_SUBSYS_NFTABLES << 8) | 3;
const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;
const NF_INET_FORWARD: u32 = 2;
const NF_DROP: u32 = 0;
/// Before every filter, so that no rule of the node lets a packet through first.
const PRIORITY: i32 = -300;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NLA_F_NESTED: u16 = 0x8000;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;

const IPV4_FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
const IPV6_FORWARDING: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// A prepared request, so that sending it is one system call.
pub(crate) struct Forwarding {
    netlink: Netlink,
}

impl Forwarding {
    /// Opens the socket in the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::netfilter()? })
    }

    /// From here on no packet is forwarded, in either family. Repeating it changes nothing.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        self.netlink.exchange(&stop_batch(), 2)
    }

    /// Undoes [`Forwarding::stop`]. Repeating it changes nothing.
    pub(crate) fn restore(&mut self) -> io::Result<()> {
        match self.netlink.exchange(&restore_batch(), 1) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }
}

/// Stops forwarding, by sysctl where the kernel has no nf_tables.
pub(crate) fn stop() -> io::Result<()> {
    match Forwarding::open().and_then(|mut forwarding| forwarding.stop()) {
        Err(error) if lacks_nf_tables(&error) => set_sysctls("0"),
        outcome => outcome,
    }
}

/// Restores forwarding, of both families where it was stopped by sysctl.
pub(crate) fn restore() -> io::Result<()> {
    match Forwarding::open().and_then(|mut forwarding| forwarding.restore()) {
        Err(error) if lacks_nf_tables(&error) => set_sysctls("1"),
        outcome => outcome,
    }
}

fn lacks_nf_tables(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP | libc::EINVAL))
}

fn set_sysctls(value: &str) -> io::Result<()> {
    std::fs::write(IPV4_FORWARDING, value)?;
    std::fs::write(IPV6_FORWARDING, value)
}

fn stop_batch() -> Vec<u8> {
    let table = text_attribute(NFTA_TABLE_NAME, TABLE);
    let hook = [
        attribute(NFTA_HOOK_HOOKNUM, &NF_INET_FORWARD.to_be_bytes()),
        attribute(NFTA_HOOK_PRIORITY, &PRIORITY.to_be_bytes()),
    ]
    .concat();
    let chain = [
        text_attribute(NFTA_CHAIN_TABLE, TABLE),
        text_attribute(NFTA_CHAIN_NAME, CHAIN),
        attribute(NFTA_CHAIN_HOOK | NLA_F_NESTED, &hook),
        attribute(NFTA_CHAIN_POLICY, &NF_DROP.to_be_bytes()),
        text_attribute(NFTA_CHAIN_TYPE, "filter"),
    ]
    .concat();
    batch(&[(NFT_MSG_NEWTABLE, NLM_F_CREATE, &table), (NFT_MSG_NEWCHAIN, NLM_F_CREATE, &chain)])
}

fn restore_batch() -> Vec<u8> {
    batch(&[(NFT_MSG_DELTABLE, 0, &text_attribute(NFTA_TABLE_NAME, TABLE))])
}

/// Messages between BEGIN and END are applied together or not at all.
fn batch(requests: &[(u16, u16, &[u8])]) -> Vec<u8> {
    let edge = nfgenmsg(NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES);
    let mut bytes = frame(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, 0, &edge);
    for (sequence, (kind, flags, attributes)) in (1..).zip(requests) {
        let body = [&nfgenmsg(NFPROTO_INET, 0)[..], attributes].concat();
        bytes.extend(frame(*kind, flags | NLM_F_REQUEST | NLM_F_ACK, sequence, &body));
    }
    bytes.extend(frame(NFNL_MSG_BATCH_END, NLM_F_REQUEST, u32::MAX, &edge));
    bytes
}

/// `struct nfgenmsg`: family, version 0, resource id in network byte order.
fn nfgenmsg(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn text_attribute(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, &[text.as_bytes(), &[0]].concat())
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length =
        u16::try_from(4 + value.len()).expect("lab attributes are short: names and numbers of this file");
    let mut bytes = Vec::with_capacity(value.len() + 8);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
