//! Stops and restores a node's forwarding: one nf_tables batch, so that it happens at once.
//!
//! The table `inet towpath-lab` holds one chain on the forward hook whose policy is drop; what the
//! node itself sends and receives is untouched. Where the kernel has no nf_tables, the forwarding
//! sysctls of both families are switched instead, which the caller learns.

use std::io;

use super::{
    NF_DROP, NFPROTO_INET, NFT_MSG_DELTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_NEWTABLE, NFTA_CHAIN_HOOK,
    NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY, NFTA_CHAIN_TABLE, NFTA_CHAIN_TYPE, NFTA_HOOK_HOOKNUM,
    NFTA_HOOK_PRIORITY, NFTA_TABLE_NAME, NLM_F_CREATE, PRIORITY, TABLE, batch, lacks_nf_tables, nested,
    number_attribute, text_attribute,
};
use crate::kernel::netlink::Netlink;

const CHAIN: &str = "forward";
const NF_INET_FORWARD: u32 = 2;

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

fn set_sysctls(value: &str) -> io::Result<()> {
    std::fs::write(IPV4_FORWARDING, value)?;
    std::fs::write(IPV6_FORWARDING, value)
}

fn stop_batch() -> Vec<u8> {
    let hook = [
        number_attribute(NFTA_HOOK_HOOKNUM, NF_INET_FORWARD),
        number_attribute(NFTA_HOOK_PRIORITY, PRIORITY.cast_unsigned()),
    ];
    let chain = [
        text_attribute(NFTA_CHAIN_TABLE, TABLE),
        text_attribute(NFTA_CHAIN_NAME, CHAIN),
        nested(NFTA_CHAIN_HOOK, &hook),
        number_attribute(NFTA_CHAIN_POLICY, NF_DROP),
        text_attribute(NFTA_CHAIN_TYPE, "filter"),
    ];
    let table = text_attribute(NFTA_TABLE_NAME, TABLE);
    let requests =
        [(NFT_MSG_NEWTABLE, NLM_F_CREATE, table), (NFT_MSG_NEWCHAIN, NLM_F_CREATE, chain.concat())];
    batch(NFPROTO_INET, &requests)
}

fn restore_batch() -> Vec<u8> {
    batch(NFPROTO_INET, &[(NFT_MSG_DELTABLE, 0, text_attribute(NFTA_TABLE_NAME, TABLE))])
}
