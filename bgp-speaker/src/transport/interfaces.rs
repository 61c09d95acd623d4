//! Which interface a session runs over, and which addresses that interface has.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::SockaddrStorage;

/// Index of the interface called `name`.
///
/// # Errors
/// Says that there is no such interface.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    if_nametoindex(name).map_err(|errno| {
        io::Error::new(io::Error::from(errno).kind(), format!("no interface {name}: {errno}"))
    })
}

/// Name of the interface with this index, if there is one.
pub(crate) fn interface_name(index: u32) -> Option<String> {
    let name = nix::net::if_::if_indextoname(index).ok()?;
    name.into_string().ok()
}

/// Every address of the interface, with its subnet.
pub(crate) fn interface_addresses(ifindex: u32) -> io::Result<Vec<IpNet>> {
    Ok(all_addresses()?.into_iter().filter(|(index, _)| *index == ifindex).map(|(_, net)| net).collect())
}

/// The interface of a directly connected neighbour: the scope of a link-local address, else the
/// interface whose subnet holds both ends. `None` for a neighbour behind a router.
pub(crate) fn connecting_interface(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<u32>> {
    if let SocketAddr::V6(remote) = remote
        && remote.scope_id() != 0
    {
        return Ok(Some(remote.scope_id()));
    }
    let mut on_link: Vec<(u32, IpNet)> = all_addresses()?
        .into_iter()
        .filter(|(_, net)| net.addr() == local.ip() && net.contains(&remote.ip()))
        .collect();
    on_link.sort_by_key(|(_, net)| std::cmp::Reverse(net.prefix_len()));
    Ok(on_link.first().map(|(index, _)| *index))
}

fn all_addresses() -> io::Result<Vec<(u32, IpNet)>> {
    let mut found = Vec::new();
    for entry in getifaddrs()? {
        let (Some(address), Some(mask)) = (entry.address.and_then(ip), entry.netmask.and_then(ip)) else {
            continue;
        };
        // An interface that vanishes between the two calls is simply not there any more.
        let (Ok(index), Ok(net)) =
            (if_nametoindex(entry.interface_name.as_str()), IpNet::with_netmask(address, mask))
        else {
            continue;
        };
        found.push((index, net));
    }
    Ok(found)
}

fn ip(address: SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(v4.ip().into());
    }
    address.as_sockaddr_in6().map(|v6| v6.ip().into())
}
