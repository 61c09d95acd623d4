//! The pod's own loopback interface: set up, looked at, set down.

use std::net::IpAddr;

use netlink::read::address;
use netlink::{Batch, Body, Message, Socket, attributes};

use super::PodError;
use super::link::Link;
use super::netns::Netns;
use super::rtnetlink::{ADDRESS_HEADER, IFA_ADDRESS, IFF_UP, link_header, up};

/// Each network namespace begins with `lo`, which has this index (`LOOPBACK_IFINDEX`).
const LOOPBACK_INDEX: u32 = 1;

/// A pod's `lo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loopback {
    /// Whether it is up.
    pub is_up: bool,
    /// Its addresses with their prefix lengths, IPv4 first.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// Sets `lo` up and says which addresses it then has.
///
/// # Errors
/// [`PodError`].
pub fn loopback_up(netns: &Netns) -> Result<Loopback, PodError> {
    inside(netns, |socket| {
        let mut batch = Batch::new();
        up(&mut batch, LOOPBACK_INDEX, "setting lo up");
        socket.exchange(batch)?;
        look(socket)
    })
}

/// Sets `lo` down.
///
/// # Errors
/// [`PodError`].
pub fn loopback_down(netns: &Netns) -> Result<(), PodError> {
    const RTM_SETLINK: u16 = 19;
    inside(netns, |socket| {
        let mut batch = Batch::new();
        let header = link_header(LOOPBACK_INDEX, 0, IFF_UP);
        batch.request("setting lo down", RTM_SETLINK, 0, |body| body.header(&header));
        Ok(socket.exchange(batch)?)
    })
}

/// Looks at `lo`.
///
/// # Errors
/// [`PodError`].
pub fn loopback(netns: &Netns) -> Result<Loopback, PodError> {
    inside(netns, look)
}

fn inside<T>(netns: &Netns, work: impl FnOnce(&mut Socket) -> Result<T, PodError>) -> Result<T, PodError> {
    netns.enter(|| work(&mut Socket::route()?)).map_err(PodError::Enter)?
}

fn look(socket: &mut Socket) -> Result<Loopback, PodError> {
    const RTM_GETADDR: u16 = 22;
    let gone = || PodError::Gone { what: "lo in the pod".to_owned() };
    let link = Link::of_index(socket, LOOPBACK_INDEX)?.ok_or_else(gone)?;
    let [a, b, c, d] = LOOPBACK_INDEX.to_ne_bytes();
    let ask = |body: &mut Body<'_>| body.header(&[0, 0, 0, 0, a, b, c, d]);
    let mut addresses =
        socket.dump("listing the addresses of lo", RTM_GETADDR, ask, |all: &mut Vec<_>, message| {
            all.extend(read_address(message));
        })?;
    addresses.sort_by_key(|(address, _)| address.is_ipv6());
    Ok(Loopback { is_up: link.is_up, addresses })
}

fn read_address(message: &Message<'_>) -> Option<(IpAddr, u8)> {
    let (_, octets) = attributes(message.payload, ADDRESS_HEADER).find(|(kind, _)| *kind == IFA_ADDRESS)?;
    Some((address(octets)?, *message.payload.get(1)?))
}
