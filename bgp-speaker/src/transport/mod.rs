//! TCP for BGP: listening and connecting with the options a peer asks for.
//!
//! In: checked peer settings. Out: connected streams with their [`Endpoints`]. Implements the transport
//! parts of RFC 4271 (section 8.2.1), RFC 2385 (MD5) and RFC 5082 (GTSM).

mod interfaces;
mod listener;
mod sockopt;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use api::desired::{Peer, RemoteAsn, Source, Ttl};
use ipnet::IpNet;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

pub(crate) use interfaces::{interface_addresses, interface_index};
pub(crate) use listener::{ListenKey, Listeners};

use crate::session::Endpoints;

/// A connect that the network does not answer is given up after this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// What a connection to or from one neighbour needs.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    pub(crate) remote: SocketAddr,
    pub(crate) peer: Peer,
}

/// The socket address of a peer: link-local addresses need their interface's index.
pub(crate) fn remote_address(address: IpAddr, interface: Option<&str>, port: u16) -> io::Result<SocketAddr> {
    Ok(match (address, interface) {
        (IpAddr::V6(address), Some(name)) => {
            SocketAddr::V6(SocketAddrV6::new(address, port, 0, interface_index(name)?))
        }
        (address, _) => SocketAddr::new(address, port),
    })
}

/// The interface of a link-local address, by name.
pub(crate) fn zone(remote: SocketAddr) -> Option<String> {
    match remote {
        SocketAddr::V6(remote) if remote.scope_id() != 0 => interfaces::interface_name(remote.scope_id()),
        _ => None,
    }
}

/// Opens a connection to the neighbour.
pub(crate) async fn connect(dial: Dial) -> io::Result<(TcpStream, Endpoints)> {
    let socket = Socket::new(Domain::for_address(dial.remote), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let Some(device) = &dial.peer.bind_interface {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    if let Some(source) = source_address(&dial.peer.source, dial.remote)? {
        socket.bind(&source.into())?;
    }
    if let Some(key) = &dial.peer.md5 {
        sockopt::set_md5_key(&socket, IpNet::from(dial.remote.ip()), Some(key))?;
    }
    set_ttl(&socket, dial.remote.is_ipv6(), &dial.peer)?;
    let socket = TcpSocket::from_std_stream(socket.into());
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, socket.connect(dial.remote))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer"))??;
    let endpoints = prepare(&stream)?;
    Ok((stream, endpoints))
}

/// Sets what a peer asks for on a connection it opened.
pub(crate) fn adopt(stream: &TcpStream, peer: &Peer) -> io::Result<Endpoints> {
    set_ttl(&SockRef::from(stream), stream.peer_addr()?.is_ipv6(), peer)?;
    prepare(stream)
}

fn prepare(stream: &TcpStream) -> io::Result<Endpoints> {
    // KEEPALIVEs and withdrawals must not wait for an acknowledgement of earlier bytes.
    stream.set_nodelay(true)?;
    let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
    let ifindex = interfaces::connecting_interface(local, remote)?;
    Ok(Endpoints { local, remote, ifindex })
}

fn source_address(source: &Source, remote: SocketAddr) -> io::Result<Option<SocketAddr>> {
    let address = match source {
        Source::Kernel => return Ok(None),
        Source::Address(address) => *address,
        Source::Interface(name) => interface_addresses(interface_index(name)?)?
            .into_iter()
            .map(|net| net.addr())
            .find(|address| {
                // `lo` has 127.0.0.1 first, which reaches nobody else.
                address.is_ipv6() == remote.is_ipv6()
                    && is_link_local(*address) == is_link_local(remote.ip())
                    && address.is_loopback() == remote.ip().is_loopback()
            })
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::AddrNotAvailable,
                    format!("interface {name} has no address of the neighbour's family"),
                )
            })?,
    };
    Ok(Some(match remote {
        SocketAddr::V6(remote) if is_link_local(address) => match address {
            IpAddr::V6(address) => SocketAddr::V6(SocketAddrV6::new(address, 0, 0, remote.scope_id())),
            IpAddr::V4(_) => SocketAddr::new(address, 0),
        },
        _ => SocketAddr::new(address, 0),
    }))
}

/// fe80::/10.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// eBGP: the configured hops. iBGP peers may be anywhere. GTSM: 255 both ways.
fn set_ttl(socket: &Socket, ipv6: bool, peer: &Peer) -> io::Result<()> {
    let internal = match peer.remote_asn {
        RemoteAsn::Internal => true,
        RemoteAsn::Number(asn) => asn == peer.local_asn,
        RemoteAsn::External | RemoteAsn::Any => false,
    };
    let ttl = match peer.ttl {
        Ttl::Security(hops) => {
            sockopt::set_min_ttl(socket, ipv6, 255 - (hops - 1))?;
            255
        }
        Ttl::Multihop(1) if internal => 255,
        Ttl::Multihop(hops) => hops,
    };
    if ipv6 { socket.set_unicast_hops_v6(ttl.into()) } else { socket.set_ttl_v4(ttl.into()) }
}

/// Any address of a family, for a listener.
pub(crate) fn unspecified(ipv6: bool) -> IpAddr {
    if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}
