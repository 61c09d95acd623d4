//! The kernel's limit: routes written by netlink with nothing around it.
//!
//! One nexthop object, one socket, batches of 64 KB with one acknowledgement each, in the order of the table, with
//! `nexthop_compat_mode` off. Building the messages is part of the time.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use ipnet::IpNet;
use rustix::net::{RecvFlags, SendFlags};
use towpath_tests::meter::kernel::request_socket;
use towpath_tests::netns::Netns;

const BATCH_BYTES: usize = 64 << 10;
/// The longest message: header, struct rtmsg, RTA_DST of 16 octets, RTA_NH_ID.
const MESSAGE_MAX: usize = 16 + 12 + 20 + 8;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const NLMSG_ERROR: u16 = 2;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
/// NLM_F_CREATE and NLM_F_EXCL.
const NEW: u16 = 0x600;
/// What towpath's routes carry.
const PROTOCOL: u8 = 199;
const NEXTHOP_ID: u32 = 1;

/// A socket and the nexthop object its routes use.
pub(crate) struct Writer {
    socket: OwnedFd,
    batch: Vec<u8>,
}

impl Writer {
    /// Makes the nexthop object in a namespace where `via` is reached over `interface`.
    pub(crate) fn open(netns: &Netns, via: IpAddr, interface: &str) -> anyhow::Result<Self> {
        netns.sysctl("net/ipv4/nexthop_compat_mode", "0")?;
        let family = if via.is_ipv4() { "-4" } else { "-6" };
        netns.ip(&format!("{family} nexthop add id {NEXTHOP_ID} via {via} dev {interface}"))?;
        Ok(Self { socket: request_socket(netns)?, batch: Vec::with_capacity(BATCH_BYTES) })
    }

    /// Adds all routes; the time and the processor time it took.
    pub(crate) fn add(&mut self, prefixes: &[IpNet]) -> anyhow::Result<(Duration, Duration)> {
        self.write(prefixes, RTM_NEWROUTE, NEW)
    }

    /// Deletes all routes.
    pub(crate) fn delete(&mut self, prefixes: &[IpNet]) -> anyhow::Result<(Duration, Duration)> {
        self.write(prefixes, RTM_DELROUTE, 0)
    }

    fn write(&mut self, prefixes: &[IpNet], kind: u16, flags: u16) -> anyhow::Result<(Duration, Duration)> {
        let (began, cpu) = (Instant::now(), thread_cpu()?);
        let mut left = prefixes.iter().peekable();
        while let Some(prefix) = left.next() {
            let last = left.peek().is_none() || self.batch.len() + 2 * MESSAGE_MAX > BATCH_BYTES;
            let ack = if last { ACK } else { 0 };
            message(&mut self.batch, *prefix, kind, REQUEST | flags | ack);
            if last {
                rustix::net::send(&self.socket, &self.batch, SendFlags::empty()).context("writing routes")?;
                self.batch.clear();
                self.acknowledged()?;
            }
        }
        Ok((began.elapsed(), thread_cpu()?.saturating_sub(cpu)))
    }

    /// Refusals come before the acknowledgement of the last message.
    fn acknowledged(&self) -> anyhow::Result<()> {
        let mut buffer = [0; 8192];
        let (length, _) = rustix::net::recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty())
            .context("waiting for the acknowledgement of a batch")?;
        let answer = buffer.get(..length).unwrap_or_default();
        let kind = answer.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
        ensure!(kind == Some(NLMSG_ERROR), "an answer of type {kind:?} to a batch of routes");
        let code = answer.get(16..20).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes);
        match code {
            Some(0) => Ok(()),
            code => bail!("the kernel refused a route: {code:?}"),
        }
    }
}

/// One request: struct rtmsg, RTA_DST and, for a new route, RTA_NH_ID.
fn message(batch: &mut Vec<u8>, prefix: IpNet, kind: u16, flags: u16) {
    let start = batch.len();
    batch.extend_from_slice(&[0; 4]);
    batch.extend_from_slice(&kind.to_ne_bytes());
    batch.extend_from_slice(&flags.to_ne_bytes());
    batch.extend_from_slice(&[0; 8]);
    let family = if prefix.addr().is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
    let new = kind == RTM_NEWROUTE;
    // RT_SCOPE_NOWHERE and RTN_UNSPEC: whichever is there.
    let (protocol, scope, unicast) = if new { (PROTOCOL, 0, 1) } else { (0, 255, 0) };
    batch.extend_from_slice(&[family, prefix.prefix_len(), 0, 0, 254, protocol, scope, unicast, 0, 0, 0, 0]);
    match prefix.network() {
        IpAddr::V4(v4) => attribute(batch, 1, &v4.octets()),
        IpAddr::V6(v6) => attribute(batch, 1, &v6.octets()),
    }
    if new {
        attribute(batch, 30, &NEXTHOP_ID.to_ne_bytes());
    }
    let length = (batch.len() - start) as u32;
    batch[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

/// Values here are of 4 or 16 octets, so nothing is padded.
fn attribute(batch: &mut Vec<u8>, kind: u16, value: &[u8]) {
    batch.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    batch.extend_from_slice(&kind.to_ne_bytes());
    batch.extend_from_slice(value);
}

fn thread_cpu() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split_whitespace().next().and_then(|word| word.parse().ok());
    Ok(Duration::from_nanos(nanoseconds.context("schedstat without a number")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use towpath_tests::feeder::load;
    use towpath_tests::meter::kernel;

    #[test]
    fn a_table_is_written_and_deleted_in_both_families() {
        for via in ["10.0.1.1", "fd00:1::1"] {
            let (netns, other) = (Netns::fresh().unwrap(), Netns::fresh().unwrap());
            netns.link(("feed", &["10.0.1.2/24", "fd00:1::2/64"]), &other, ("eth0", &[])).unwrap();
            let via: IpAddr = via.parse().unwrap();
            let table = load::internet(5000, 1, 65_001, via);
            let prefixes: Vec<IpNet> = table.iter().flat_map(|group| group.prefixes.clone()).collect();
            let mut writer = Writer::open(&netns, via, "feed").unwrap();
            let ours = || {
                let routes = kernel::routes(&netns, via.is_ipv4()).unwrap();
                let ours = routes.iter().filter(|r| r.protocol == PROTOCOL && r.hops[0].via == Some(via));
                ours.count()
            };
            writer.add(&prefixes).unwrap();
            assert_eq!(ours(), 5000);
            assert!(writer.add(&prefixes[..1]).is_err(), "a route that is there");
            writer.delete(&prefixes).unwrap();
            assert_eq!(ours(), 0);
        }
    }
}
