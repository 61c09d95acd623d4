//! ICMP and ICMPv6 echo without a `ping` program.

use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Netns;

/// Asks `to` for `count` echoes, one after the other, and gives the round-trip time of each, `None`
/// where no answer came within `patience`.
///
/// `from` is the source address; without one the kernel chooses.
///
/// # Errors
/// When the raw socket cannot be made (root is needed) or the source address is not there. No route
/// counts as no answer, after a pause of `patience`.
pub fn ping(
    netns: &Netns,
    from: Option<IpAddr>,
    to: IpAddr,
    count: u16,
    patience: Duration,
) -> anyhow::Result<Vec<Option<Duration>>> {
    ping_of(PAYLOAD.len(), netns, from, to, count, patience)
}

/// [`ping`] with this many bytes after the ICMP header.
///
/// # Errors
/// As [`ping`].
pub fn ping_of(
    bytes: usize,
    netns: &Netns,
    from: Option<IpAddr>,
    to: IpAddr,
    count: u16,
    patience: Duration,
) -> anyhow::Result<Vec<Option<Duration>>> {
    netns.run(|| {
        let (domain, protocol) = match to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket =
            Socket::new(domain, Type::RAW, Some(protocol)).context("making a raw socket (root is needed)")?;
        if let Some(from) = from {
            socket.bind(&SocketAddr::new(from, 0).into()).with_context(|| format!("binding {from}"))?;
        }
        // A raw socket gets every echo reply of the namespace; ours are known by this and the sender.
        let id = (std::process::id() as u16) ^ (super::now_ns() >> 10) as u16;
        (1..=count).map(|number| echo(&socket, to, id, number, bytes, patience)).collect()
    })
}

/// Waits until `to` answers, at most for `limit`.
///
/// # Errors
/// When it does not.
pub fn until_answers(netns: &Netns, from: Option<IpAddr>, to: IpAddr, limit: Duration) -> anyhow::Result<()> {
    crate::wait::until(limit, &format!("an echo from {to}"), || {
        let answers = ping(netns, from, to, 1, Duration::from_millis(100))?;
        Ok(answers.iter().any(Option::is_some).then_some(()))
    })
}

fn echo(
    socket: &Socket,
    to: IpAddr,
    id: u16,
    number: u16,
    bytes: usize,
    patience: Duration,
) -> anyhow::Result<Option<Duration>> {
    let started = Instant::now();
    let deadline = started + patience;
    let request = request(to, id, number, bytes);
    let mut sent = socket.send_to(&request, &SocketAddr::new(to, 0).into()).is_ok();
    // Only the head of an answer matters.
    let mut buffer = [MaybeUninit::<u8>::uninit(); 1500];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        if !sent {
            std::thread::sleep(left.min(Duration::from_millis(5)));
            sent = socket.send_to(&request, &SocketAddr::new(to, 0).into()).is_ok();
            continue;
        }
        socket.set_read_timeout(Some(left))?;
        // An error is the timeout, or an ICMP error about the request: neither is an answer.
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let bytes: Vec<u8> = buffer[..length].iter().map(|byte| assume_init(*byte)).collect();
        if from.as_socket().is_some_and(|from| from.ip() == to) && is_reply(&bytes, to, id, number) {
            return Ok(Some(started.elapsed()));
        }
    }
}

#[expect(unsafe_code, reason = "socket2 fills a buffer of MaybeUninit and says how many bytes it filled")]
fn assume_init(byte: MaybeUninit<u8>) -> u8 {
    // SAFETY: only called for the bytes that recv_from says it has written.
    unsafe { byte.assume_init() }
}

/// What a request carries, again and again.
const PAYLOAD: &[u8] = b"towpath echo test, 32 bytes long";

fn request(to: IpAddr, id: u16, number: u16, bytes: usize) -> Vec<u8> {
    let kind = if to.is_ipv4() { 8 } else { 128 };
    let mut packet = vec![kind, 0, 0, 0];
    packet.extend(id.to_be_bytes());
    packet.extend(number.to_be_bytes());
    packet.extend(PAYLOAD.iter().cycle().take(bytes));
    if to.is_ipv4() {
        // The kernel fills in the checksum of ICMPv6 only.
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

fn is_reply(bytes: &[u8], to: IpAddr, id: u16, number: u16) -> bool {
    // A raw IPv4 socket delivers the IP header too, a raw IPv6 socket does not.
    let (skip, kind) = match to {
        IpAddr::V4(_) => (bytes.first().map_or(0, |first| usize::from(first & 15) * 4), 0),
        IpAddr::V6(_) => (0, 129),
    };
    let Some(message) = bytes.get(skip..skip + 8) else { return false };
    message[0] == kind && message[4..6] == id.to_be_bytes() && message[6..8] == number.to_be_bytes()
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_packet_with_its_checksum_is_zero() {
        let packet = request("10.0.0.1".parse().unwrap(), 77, 1, 33);
        assert_eq!(checksum(&packet), 0);
        assert_eq!(checksum(&[0x45, 0x00, 0x01]), !0x4600);
    }

    #[test]
    fn lo_answers_echoes_of_both_families_and_an_unrouted_address_does_not() {
        let netns = Netns::fresh().unwrap();
        for address in ["127.0.0.1", "::1"] {
            let answers = ping(&netns, None, address.parse().unwrap(), 3, Duration::from_secs(2)).unwrap();
            assert!(answers.iter().all(Option::is_some), "{address}: {answers:?}");
            let large =
                ping_of(9000, &netns, None, address.parse().unwrap(), 1, Duration::from_secs(2)).unwrap();
            assert!(large[0].is_some(), "{address}: 9000 bytes");
        }
        let silent = ping(&netns, None, "192.0.2.1".parse().unwrap(), 1, Duration::from_millis(50)).unwrap();
        assert_eq!(silent, [None]);
    }
}
