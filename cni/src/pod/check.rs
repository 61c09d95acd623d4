//! Whether a wire is as it was made, as far as that matters to the pod.
//!
//! What comes after us in a chain, and the pod itself, may add addresses and routes, take a smaller MTU, and set
//! sysctls of its end. A hardware address that was changed after us is followed here: both ends' neighbours are
//! permanent, so nobody else corrects them, and the pod's own went with its old address.

use std::net::IpAddr;

use netlink::read::{address, u16_at, u32_at};
use netlink::{Batch, Body, Error, Message, Socket, attributes};

use super::attach::{gateway, mac_text};
use super::link::Link;
use super::netns::Netns;
use super::routes::{self, Filter, FoundRoute};
use super::rtnetlink::{
    ADDRESS_HEADER, IFA_ADDRESS, IFA_LOCAL, NDA_DST, NDA_LLADDR, NEIGHBOUR_HEADER, NUD_PERMANENT, family,
    neighbour_header, set_neighbour,
};
use super::{HOST_MAC, PodError, Wire, sysctls};

/// What is not as it should be, in words; empty when all is well.
///
/// The wire's MTU is the most that the pod's end may have; its hardware address is the one given at first.
///
/// # Errors
/// What the kernel refused to tell, or to correct.
pub fn check(netns: &Netns, wire: &Wire) -> Result<Vec<String>, PodError> {
    let mut differences = Vec::new();
    let mut node = Socket::route()?;
    let mut inside = netns.enter(Socket::route).map_err(PodError::Enter)??;
    let host = match Link::named(&mut node, wire.host_ifname.as_str())? {
        Some(host) if host.alias == wire.mark => Some(host),
        Some(other) => {
            differences.push(format!("{} on the node is not this attachment's", other.name));
            None
        }
        None => {
            differences.push(format!("{} is missing on the node", wire.host_ifname));
            None
        }
    };
    let pod = Link::named(&mut inside, wire.ifname.as_str())?;
    if pod.is_none() {
        differences.push(format!("{} is missing in the pod", wire.ifname));
    }
    if let Some(host) = &host {
        check_host(&mut node, wire, host, &mut differences)?;
    }
    if let Some(pod) = &pod {
        check_pod(&mut inside, wire, pod, &mut differences)?;
    }
    if let (Some(host), Some(pod)) = (host, pod) {
        if host.peer_index != pod.index {
            differences.push(format!("{} in the pod is not the other end of {}", pod.name, host.name));
            return Ok(differences);
        }
        if host.mtu_bytes < pod.mtu_bytes {
            let (less, more) = (host.mtu_bytes, pod.mtu_bytes);
            differences.push(format!("{} has MTU {less}, less than {more} of {}", host.name, pod.name));
        }
        check_neighbours((&mut node, &host), (&mut inside, &pod), wire, &mut differences)?;
    }
    Ok(differences)
}

fn check_host(
    node: &mut Socket,
    wire: &Wire,
    host: &Link,
    differences: &mut Vec<String>,
) -> Result<(), PodError> {
    if !host.is_up {
        differences.push(format!("{} is down", host.name));
    }
    differences.extend(sysctls::differences_of_host(host, wire));
    for address in wire.addresses.iter() {
        let route = routes::exact(node, wire.table, address)?;
        let is_ours = |route: &FoundRoute| {
            route.is_unicast && route.interfaces == [host.index] && route.protocol == wire.protocol
        };
        if !route.as_ref().is_some_and(is_ours) {
            let (table, protocol) = (wire.table, wire.protocol);
            let wanted = format!("protocol {protocol} in table {table} by {}", host.name);
            let found = match route {
                Some(_) => routes::holder(node, wire.table, address)?,
                None => "missing".to_owned(),
            };
            differences.push(format!("the node's route to {address} is {found}, not {wanted}"));
        }
    }
    Ok(())
}

fn check_pod(
    inside: &mut Socket,
    wire: &Wire,
    pod: &Link,
    differences: &mut Vec<String>,
) -> Result<(), PodError> {
    if !pod.is_up {
        differences.push(format!("{} in the pod is down", pod.name));
    }
    if pod.mtu_bytes > wire.mtu_bytes {
        let (found, most) = (pod.mtu_bytes, wire.mtu_bytes);
        differences.push(format!("{} in the pod has MTU {found}, more than {most}", pod.name));
    }
    for address in wire.addresses.iter() {
        match is_usable(inside, pod.index, address)? {
            Some(true) => {}
            Some(false) => differences.push(format!("{address} in the pod is still being detected")),
            None => differences.push(format!("{address} is missing on {} in the pod", pod.name)),
        }
        let filter = Filter { interface: Some(pod.index), ..Filter::default() };
        let gateway = gateway(address);
        // In any table: source-based routing moves an interface's routes into one of its own.
        let mut by_us = routes::list(inside, family(address), filter)?.into_iter();
        if !by_us.any(|route| route.prefix_len == 0 && route.gateway == Some(gateway)) {
            differences.push(format!("the pod's default route by {gateway} on {} is missing", pod.name));
        }
    }
    Ok(())
}

/// Neighbours are reported when one is missing, and corrected when the pod's hardware address changed.
fn check_neighbours(
    (node, host): (&mut Socket, &Link),
    (inside, pod): (&mut Socket, &Link),
    wire: &Wire,
    differences: &mut Vec<String>,
) -> Result<(), PodError> {
    let (mut missing, mut changed) = (Vec::new(), pod.mac != wire.pod_mac);
    for address in wire.addresses.iter() {
        let found = neighbour(node, host.index, address)?;
        changed |= found.is_some_and(|mac| mac != pod.mac);
        let mac = mac_text(pod.mac);
        if found.is_none() {
            missing.push(format!("the node's neighbour {address} at {mac} on {} is missing", host.name));
        }
        let gateway = gateway(address);
        if neighbour(inside, pod.index, gateway)? != Some(HOST_MAC) {
            let mac = mac_text(HOST_MAC);
            missing.push(format!("the pod's neighbour {gateway} at {mac} on {} is missing", pod.name));
        }
    }
    if !changed {
        differences.append(&mut missing);
        return Ok(());
    }
    let (mut on_node, mut in_pod) = (Batch::new(), Batch::new());
    for address in wire.addresses.iter() {
        let gateway = gateway(address);
        set_neighbour(&mut on_node, "correcting the node's neighbour", host.index, address, pod.mac);
        set_neighbour(&mut in_pod, "correcting the pod's neighbour", pod.index, gateway, HOST_MAC);
    }
    node.exchange(on_node)?;
    inside.exchange(in_pod)?;
    Ok(())
}

/// The hardware address of a permanent neighbour.
fn neighbour(socket: &mut Socket, index: u32, address: IpAddr) -> Result<Option<[u8; 6]>, Error> {
    const RTM_NEWNEIGH: u16 = 28;
    const RTM_GETNEIGH: u16 = 30;
    let write = |body: &mut Body<'_>| {
        body.header(&neighbour_header(index, address, 0));
        body.address(NDA_DST, address);
    };
    let parse = |message: &Message<'_>| {
        let permanent = u16_at(message.payload, 8)? & NUD_PERMANENT != 0;
        let mac = attributes(message.payload, NEIGHBOUR_HEADER).find(|(kind, _)| *kind == NDA_LLADDR)?.1;
        let mac = <[u8; 6]>::try_from(mac).ok()?;
        (message.kind == RTM_NEWNEIGH && permanent).then_some(mac)
    };
    match socket.get("looking for a neighbour", RTM_GETNEIGH, write, parse) {
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
        answer => answer,
    }
}

/// Whether the link's address can be used; `None`: it has no such address.
fn is_usable(socket: &mut Socket, index: u32, wanted: IpAddr) -> Result<Option<bool>, Error> {
    const RTM_GETADDR: u16 = 22;
    /// `IFA_F_DADFAILED`, `IFA_F_TENTATIVE`
    const UNUSABLE: u8 = 0x08 | 0x40;
    let [a, b, c, d] = index.to_ne_bytes();
    let write = |body: &mut Body<'_>| body.header(&[family(wanted), 0, 0, 0, a, b, c, d]);
    let each = |found: &mut Option<bool>, message: &Message<'_>| {
        let value = |attribute| {
            let (_, octets) =
                attributes(message.payload, ADDRESS_HEADER).find(|(kind, _)| *kind == attribute)?;
            address(octets)
        };
        let here = u32_at(message.payload, 4) == Some(index);
        if here && value(IFA_LOCAL).or_else(|| value(IFA_ADDRESS)) == Some(wanted) {
            *found = message.payload.get(2).map(|flags| flags & UNUSABLE == 0);
        }
    };
    socket.dump("listing addresses", RTM_GETADDR, write, each)
}
