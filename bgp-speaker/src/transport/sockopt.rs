//! The socket options that no safe library offers: TCP MD5 keys, the minimum received TTL, the TTL of a SYN.
//!
//! In: a socket and checked values. Out: what `setsockopt` or `getsockopt` answers. Implements the kernel side of RFC 2385
//! and RFC 5082. The only file of this crate with `unsafe`.
#![expect(unsafe_code, reason = "socket options with structures libc does not wrap safely")]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use api::desired::Secret;
use ipnet::IpNet;

/// `TCP_MD5SIG_EXT` of linux/tcp.h.
const TCP_MD5SIG_EXT: libc::c_int = 32;
/// `TCP_MD5SIG_FLAG_PREFIX` of linux/tcp.h.
const FLAG_PREFIX: u8 = 1;
/// `TCP_MD5SIG_MAXKEYLEN` of linux/tcp.h.
pub(crate) const MAX_KEY: usize = 80;
/// `IPV6_MINHOPCOUNT` of linux/in6.h.
const IPV6_MINHOPCOUNT: libc::c_int = 73;

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
struct TcpMd5Sig {
    addr: libc::sockaddr_storage,
    flags: u8,
    prefixlen: u8,
    keylen: u16,
    ifindex: libc::c_int,
    key: [u8; MAX_KEY],
}

/// Sets the TCP MD5 key for connections with `neighbor`; `None` removes it.
///
/// # Errors
/// `ENOMEM` when `net.core.optmem_max` is used up (one key costs about 200 bytes of it), `ENOPROTOOPT`
/// when the kernel has no TCP MD5, `ENOENT` when a key to remove is not there.
pub(crate) fn set_md5_key(socket: &impl AsFd, neighbor: IpNet, key: Option<&Secret>) -> io::Result<()> {
    let octets = key.map_or(&[][..], Secret::expose);
    if octets.len() > MAX_KEY {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a TCP MD5 key has at most 80 octets"));
    }
    // SAFETY: every field of `tcp_md5sig` is an integer or an array of integers, for which all-zero is a value.
    let mut option: TcpMd5Sig = unsafe { zeroed() };
    match neighbor.addr() {
        IpAddr::V4(address) => {
            let sockaddr: *mut libc::sockaddr_in = (&raw mut option.addr).cast();
            // SAFETY: sockaddr_storage is at least as large as and aligned for sockaddr_in.
            unsafe {
                (*sockaddr).sin_family = libc::AF_INET as libc::sa_family_t;
                (*sockaddr).sin_addr.s_addr = u32::from_ne_bytes(address.octets());
            }
        }
        IpAddr::V6(address) => {
            let sockaddr: *mut libc::sockaddr_in6 = (&raw mut option.addr).cast();
            // SAFETY: sockaddr_storage is at least as large as and aligned for sockaddr_in6.
            unsafe {
                (*sockaddr).sin6_family = libc::AF_INET6 as libc::sa_family_t;
                (*sockaddr).sin6_addr.s6_addr = address.octets();
            }
        }
    }
    option.flags = FLAG_PREFIX;
    option.prefixlen = neighbor.prefix_len();
    option.keylen = octets.len() as u16;
    option.key[..octets.len()].copy_from_slice(octets);
    set(socket, libc::IPPROTO_TCP, TCP_MD5SIG_EXT, &option)
}

/// Drops received packets whose TTL (hop limit) is below `minimum` (RFC 5082).
///
/// # Errors
/// What `setsockopt` answers.
pub(crate) fn set_min_ttl(socket: &impl AsFd, ipv6: bool, minimum: u8) -> io::Result<()> {
    let value = libc::c_int::from(minimum);
    if ipv6 {
        set(socket, libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT, &value)
    } else {
        set(socket, libc::IPPROTO_IP, libc::IP_MINTTL, &value)
    }
}

/// Keeps the SYN of each connection that a listener accepts, for [`syn_ttl`].
///
/// # Errors
/// What `setsockopt` answers.
pub(crate) fn save_syn(listener: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    set(listener, libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, &on)
}

/// TTL (hop limit) with which the SYN of an accepted connection arrived; `None` where the kernel did not
/// keep it: it answered with a SYN cookie, or this was asked before.
///
/// # Errors
/// What `getsockopt` answers.
pub(crate) fn syn_ttl(accepted: &impl AsFd) -> io::Result<Option<u8>> {
    // Network and transport header with all their options.
    let mut headers = [0u8; 256];
    let mut length = headers.len() as libc::socklen_t;
    // SAFETY: the descriptor is open for the whole call because `accepted` is borrowed; the kernel writes at
    // most `length` octets into `headers`, and how many there were into `length`, both alive and exclusive.
    let result = unsafe {
        libc::getsockopt(
            accepted.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SAVED_SYN,
            headers.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(headers.get(..length as usize).and_then(header_ttl))
}

/// The TTL in an IPv4 header or the hop limit in an IPv6 header.
fn header_ttl(header: &[u8]) -> Option<u8> {
    match header.first()? >> 4 {
        4 => header.get(8).copied(),
        6 => header.get(7).copied(),
        _ => None,
    }
}

fn set<T>(socket: &impl AsFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call because `socket` is borrowed; `value` is a live `T`,
    // and the length passed is its size; the kernel only reads from it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    #[test]
    fn the_ttl_is_read_from_headers_of_both_families_and_from_nothing_else() {
        let ipv4 = hex!("45000034 00004000 fe06 0000 0a000102 0a000101");
        let ipv6 = hex!("60000000 0014 06 fd fd000001 00000000 00000000 00000002");
        let cases: &[(&[u8], Option<u8>)] =
            &[(&ipv4, Some(254)), (&ipv6, Some(253)), (&ipv4[..8], None), (&[0x50; 20], None), (&[], None)];
        for (header, expected) in cases {
            assert_eq!(header_ttl(header), *expected, "{header:02x?}");
        }
    }
}
