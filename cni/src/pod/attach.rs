//! Making a wire, or nothing.
//!
//! The pair is made on the node, its pod end set up in the pod, then the host end on the node, then the rest in the
//! pod: the end that goes up last finds its carrier at once, and on the node that saves the kernel from walking the
//! routes of all pods when it comes later. Nothing waits for anything to settle.

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;

use netlink::{Batch, Refused, Socket};

use super::link::Link;
use super::netns::Netns;
use super::rtnetlink::{
    RT_TABLE_LOCAL, RT_TABLE_MAIN, RTM_GETLINK, RTPROT_STATIC, Route, add_address, add_route, configure_v4,
    create_pair, mark, no_address_of_its_own, set_neighbour, up, which_link,
};
use super::{Attached, GATEWAY_V4, GATEWAY_V6, HOST_MAC, PodError, Wire, routes, sysctls};

/// IPv6 routes without a priority get 1024, which would leave one of BGP for the same address (a pod with a static
/// address that moved here) in front. 0 means that default.
const HOST_ROUTE_PRIORITY_V6: u32 = 1;
/// Routes of a pod's further interfaces: this and the interface's index.
const SECOND_PRIORITY: u32 = 4096;

type Outcomes = Vec<Result<(), Refused>>;

/// Makes the wire. On failure nothing of it stays.
///
/// An interface that the pod has already is an error and stays untouched. What an earlier ADD of the same attachment
/// left when it was killed is replaced.
///
/// # Errors
/// [`PodError`], naming what the kernel refused.
pub fn attach(netns: &Netns, wire: &Wire) -> Result<Attached, PodError> {
    check_usable(wire)?;
    let mut node = Socket::route()?;
    remove_leftover(&mut node, netns, wire)?;
    let host = make_pair(&mut node, netns, wire)?;
    let is_first =
        connect(&mut node, netns, wire, &host).or_else(|failure| undo(&mut node, &host, failure))?;
    Ok(Attached {
        host_ifindex: host.index,
        pod_ifindex: host.peer_index,
        host_mac: HOST_MAC,
        pod_mac: wire.pod_mac,
        is_first,
    })
}

fn undo<T>(node: &mut Socket, host: &Link, failure: PodError) -> Result<T, PodError> {
    Err(match Link::delete(node, host.index) {
        Ok(()) => failure,
        Err(undoing) => PodError::NotUndone { failure: Box::new(failure), undoing, name: host.name.clone() },
    })
}

fn check_usable(wire: &Wire) -> Result<(), PodError> {
    let least = if wire.addresses.v6.is_some() { 1280 } else { 68 };
    if !(least..=65535).contains(&wire.mtu_bytes) {
        let family = if least == 1280 { " with an IPv6 address" } else { "" };
        return Err(PodError::Unusable(format!(
            "mtu {} cannot be a pod's{family}: use {least} to 65535",
            wire.mtu_bytes
        )));
    }
    let [first, ..] = wire.pod_mac;
    if first & 1 != 0 || wire.pod_mac == [0; 6] || wire.pod_mac == HOST_MAC {
        return Err(PodError::Unusable(format!(
            "mac {} cannot be a pod's: use a unicast address other than zero and {}",
            mac_text(wire.pod_mac),
            mac_text(HOST_MAC)
        )));
    }
    Ok(())
}

pub(super) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// A killed ADD leaves a host end of ours whose other end is not the interface that is now asked for.
fn remove_leftover(node: &mut Socket, netns: &Netns, wire: &Wire) -> Result<(), PodError> {
    let Some(found) = Link::named(node, wire.host_ifname.as_str())? else {
        return Ok(());
    };
    if found.alias != wire.mark {
        return Err(PodError::ForeignLink { name: found.name, alias: found.alias });
    }
    let in_pod = netns.enter(|| Link::named(&mut Socket::route()?, wire.ifname.as_str()));
    if in_pod.map_err(PodError::Enter)??.is_some() {
        return Err(PodError::InterfaceExists { ifname: wire.ifname.to_string() });
    }
    Ok(Link::delete(node, found.index)?)
}

/// Makes and marks both ends in one system call, so that a kill leaves either nothing or what is known for ours.
fn make_pair(node: &mut Socket, netns: &Netns, wire: &Wire) -> Result<Link, PodError> {
    let name = wire.host_ifname.as_str();
    let mut batch = Batch::new();
    create_pair(&mut batch, wire, netns.as_fd());
    mark(&mut batch, name, &wire.mark, &sysctls::host_v4(wire));
    batch.request("looking for the host end", RTM_GETLINK, 0, |body| which_link(body, 0, Some(name)));
    let mut host = None;
    let outcomes = node.converse(batch, |_, message| host = host.take().or_else(|| Link::parse(message)))?;
    let mut outcomes = outcomes.into_iter();
    match outcomes.next() {
        // The host end's name was free, so it is the other end's.
        Some(Err(refused)) if refused.errno == libc::EEXIST => {
            return Err(PodError::InterfaceExists { ifname: wire.ifname.to_string() });
        }
        Some(Err(refused)) => return Err(refused.into()),
        _ => {}
    }
    let host = host.ok_or_else(|| PodError::Gone { what: name.to_owned() })?;
    match outcomes.find_map(Result::err) {
        Some(refused) => undo(node, &host, refused.into()),
        None => Ok(host),
    }
}

fn connect(node: &mut Socket, netns: &Netns, wire: &Wire, host: &Link) -> Result<bool, PodError> {
    prepare_host(node, wire, host)?;
    let mut pod = netns.enter(|| prepare_pod(wire, host)).map_err(PodError::Enter)??;
    on_node(node, wire, host)?;
    in_pod(&mut pod, wire, host.peer_index)
}

/// The host end's settings are read back before it goes up: afterwards, asking for it makes the kernel walk all IPv6
/// routes of the node.
fn prepare_host(node: &mut Socket, wire: &Wire, host: &Link) -> Result<(), PodError> {
    let files = sysctls::host_v6(wire, host)?;
    if files.is_empty() {
        return unless_overwritten(sysctls::differences_of_host(host, wire));
    }
    sysctls::write(host, &files)?;
    let gone = || PodError::Gone { what: host.name.clone() };
    let written = Link::of_index(node, host.index)?.ok_or_else(gone)?;
    unless_overwritten(sysctls::differences_of_host(&written, wire))
}

/// Settings of the pod end, which is then up and waits for its carrier. The socket stays in the pod.
fn prepare_pod(wire: &Wire, host: &Link) -> Result<Socket, PodError> {
    let index = host.peer_index;
    let mut socket = Socket::route()?;
    let mut batch = Batch::new();
    configure_v4(&mut batch, index, &sysctls::POD_V4);
    if host.v6_settings.is_some() {
        no_address_of_its_own(&mut batch, index);
    }
    let pod = ask_after(&mut socket, batch, index)?.ok_or_else(|| gone_in_pod(wire))?;
    sysctls::write(&pod, &sysctls::pod_v6(wire, &pod)?)?;
    let mut batch = Batch::new();
    up(&mut batch, index, "setting the pod end up");
    socket.exchange(batch)?;
    Ok(socket)
}

/// The pod's addresses, its gateways, and its routes by them. False: another interface has the default routes.
fn in_pod(socket: &mut Socket, wire: &Wire, index: u32) -> Result<bool, PodError> {
    let mut batch = Batch::new();
    if wire.addresses.v6.is_some() {
        let doing = "giving the pod its link-local address";
        add_address(&mut batch, doing, index, link_local(wire.pod_mac).into());
    }
    for address in wire.addresses.iter() {
        let gateway = gateway(address);
        add_address(&mut batch, "giving the pod its address", index, address);
        set_neighbour(&mut batch, "telling the pod its gateway's hardware address", index, gateway, HOST_MAC);
    }
    let outcomes = add_routes(socket, batch, &pod_routes(wire, index, None))?;
    let taken =
        |outcome: &Result<(), Refused>| matches!(outcome, Err(refused) if refused.errno == libc::EEXIST);
    let is_first = !outcomes.iter().any(taken);
    if is_first {
        all(outcomes)?;
    } else {
        // The pod has a first interface already. This one's routes stand behind its, for those who bind to this one.
        let behind = pod_routes(wire, index, Some(SECOND_PRIORITY + index));
        all(add_routes(socket, Batch::new(), &behind)?)?;
    }
    // Being asked, the kernel also acts upon the carrier at once (older ones in their own time): what is sent before
    // that is dropped.
    let pod = Link::of_index(socket, index)?.ok_or_else(|| gone_in_pod(wire))?;
    unless_overwritten(sysctls::differences_of_pod(&pod, wire)).map(|()| is_first)
}

fn gone_in_pod(wire: &Wire) -> PodError {
    PodError::Gone { what: format!("{} in the pod", wire.ifname) }
}

/// The host end goes up, which gives both their carrier; the routes to the pod and what goes with them.
fn on_node(node: &mut Socket, wire: &Wire, host: &Link) -> Result<(), PodError> {
    let mut batch = Batch::new();
    if host.v6_settings.is_some() {
        no_address_of_its_own(&mut batch, host.index);
    }
    up(&mut batch, host.index, "setting the host end up");
    if wire.addresses.v6.is_some() {
        add_address(&mut batch, "giving the host end fe80::1", host.index, GATEWAY_V6.into());
    }
    for address in wire.addresses.iter() {
        let doing = "telling the node the pod's hardware address";
        set_neighbour(&mut batch, doing, host.index, address, wire.pod_mac);
    }
    let host_routes: Vec<Route> =
        wire.addresses.iter().map(|address| host_route(wire, host, address)).collect();
    let outcomes = add_routes(node, batch, &host_routes)?;
    for (address, outcome) in wire.addresses.iter().zip(outcomes) {
        let Err(refused) = outcome else { continue };
        return Err(match (refused.errno, wire.sources.same_family(address)) {
            (libc::EEXIST, _) => {
                PodError::RouteTaken { address, held: routes::holder(node, wire.table, address)? }
            }
            (libc::EINVAL, Some(source_address)) => {
                PodError::Source { address, source_address, reason: refused }
            }
            _ => refused.into(),
        });
    }
    Ok(())
}

fn host_route(wire: &Wire, host: &Link, address: IpAddr) -> Route {
    Route {
        doing: "adding the node's route to the pod",
        destination: Some(address),
        gateway: None,
        index: host.index,
        table: wire.table,
        protocol: wire.protocol,
        source: wire.sources.same_family(address),
        priority: address.is_ipv6().then_some(HOST_ROUTE_PRIORITY_V6),
    }
}

/// To the gateways, and by them to everything else. And to the pod itself: the kernel takes in what is sent to a new
/// IPv6 address only when a worker of its own has added a route for it, also when there is nothing to detect. That
/// may be later than the first packet.
fn pod_routes(wire: &Wire, index: u32, priority: Option<u32>) -> Vec<Route> {
    let route = |doing, destination, gateway| {
        let (table, protocol) = (RT_TABLE_MAIN, RTPROT_STATIC);
        Route { doing, destination, gateway, index, table, protocol, source: None, priority }
    };
    let gateways = wire
        .addresses
        .v4
        .map(|_| route("adding the pod's route to its gateway", Some(GATEWAY_V4.into()), None));
    let own = wire.addresses.v6.map(|v6| {
        let doing = "adding the pod's route to itself";
        Route { table: RT_TABLE_LOCAL, ..route(doing, Some(v6.into()), None) }
    });
    let defaults = wire
        .addresses
        .iter()
        .map(|address| route("adding the pod's default route", None, Some(gateway(address))));
    gateways.into_iter().chain(own).chain(defaults).collect()
}

/// Sends `batch`, which must succeed, with routes at its end: what became of each.
fn add_routes(socket: &mut Socket, mut batch: Batch, routes: &[Route]) -> Result<Outcomes, PodError> {
    let first = batch.len();
    routes.iter().for_each(|route| add_route(&mut batch, route));
    let mut outcomes = socket.outcomes(batch)?;
    let of_routes = outcomes.split_off(first);
    all(outcomes)?;
    Ok(of_routes)
}

/// Sends `batch` and then asks for the link, whose settings are read back so.
fn ask_after(socket: &mut Socket, mut batch: Batch, index: u32) -> Result<Option<Link>, PodError> {
    batch.request("reading the link back", RTM_GETLINK, 0, |body| which_link(body, index, None));
    let mut link = None;
    all(socket.converse(batch, |_, message| link = link.take().or_else(|| Link::parse(message)))?)?;
    Ok(link)
}

fn all(outcomes: Outcomes) -> Result<(), PodError> {
    outcomes.into_iter().find_map(Result::err).map_or(Ok(()), |refused| Err(refused.into()))
}

fn unless_overwritten(differences: Vec<String>) -> Result<(), PodError> {
    if differences.is_empty() { Ok(()) } else { Err(PodError::Overwritten(differences)) }
}

pub(super) fn gateway(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { GATEWAY_V4.into() } else { GATEWAY_V6.into() }
}

/// The address that the kernel would make: RFC 4291 appendix A.
fn link_local([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}
