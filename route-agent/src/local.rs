//! What this node originates: advertisements turned into prefixes, as the kernel stands now.
//!
//! In: the desired state, and netlink's word that an address or route changed. Out: the whole set of originated
//! prefixes to the speaker, and the blackholes behind aggregates to the FIB; level-triggered both.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::DesiredState;
use api::desired::AdvertisementSource;
use bgp_speaker::SpeakerHandle;
use bgp_speaker::rib::Origination;
use futures_util::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::config::Loaded;

/// Changes of the kernel that come this close together are one.
const SETTLE: Duration = Duration::from_millis(20);
/// A dump the kernel refused is repeated after this long.
const RETRY: Duration = Duration::from_secs(1);

/// What the kernel says that advertisements depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct KernelView {
    /// Global addresses by interface name.
    addresses: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Destinations of routes that are not ours.
    destinations: BTreeSet<IpNet>,
}

/// What follows from both.
#[derive(Clone, Debug, Default, PartialEq)]
struct Local {
    originated: BTreeMap<IpNet, Origination>,
    blackholes: BTreeSet<IpNet>,
}

/// Keeps originations and blackholes up to date until the configuration channel closes.
///
/// # Errors
/// Netlink cannot be opened, or the speaker or the FIB has stopped.
pub(crate) async fn run(
    mut loaded: watch::Receiver<Loaded>,
    speaker: SpeakerHandle,
    blackholes: watch::Sender<BTreeSet<IpNet>>,
) -> anyhow::Result<()> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let (connection, handle, mut messages) =
        rtnetlink::new_multicast_connection(&groups).context("netlink for local addresses")?;
    tokio::spawn(connection);
    let mut told = None;
    loop {
        let desired = Arc::clone(&loaded.borrow_and_update().desired);
        let retry = match look(&handle, &desired).await {
            Ok(view) => {
                let local = derive(&desired, &view);
                if told.as_ref() != Some(&local) {
                    debug!(
                        originated = local.originated.len(),
                        blackholes = local.blackholes.len(),
                        "originations"
                    );
                    // The blackhole first: no moment in which others send here what would loop.
                    blackholes.send_replace(local.blackholes.clone());
                    speaker.set_originated(local.originated.clone()).await?;
                    told = Some(local);
                }
                None
            }
            Err(error) => {
                warn!(%error, "reading addresses and routes; what is originated stays as it was");
                Some(tokio::time::Instant::now() + RETRY)
            }
        };
        loop {
            tokio::select! {
                changed = loaded.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return Ok(()),
                },
                message = messages.next() => match message {
                    Some((message, _)) if concerns(&message.payload, &desired) => {
                        tokio::time::sleep(SETTLE).await;
                        break;
                    }
                    Some(_) => {}
                    None => anyhow::bail!("netlink for local addresses has ended"),
                },
                () = until(retry) => break,
            }
        }
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Route changes matter only to `requireRoute`, and our own never.
fn concerns(payload: &NetlinkPayload<RouteNetlinkMessage>, desired: &DesiredState) -> bool {
    let requires_route = desired.advertisements.iter().any(|advertisement| {
        matches!(advertisement.source, AdvertisementSource::Static { require_route: true, .. })
    });
    match payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
        ) => requires_route && !is_ours(route, desired),
        _ => true,
    }
}

fn is_ours(route: &RouteMessage, desired: &DesiredState) -> bool {
    let protocol = u8::from(route.header.protocol);
    protocol == desired.install.protocol || protocol == desired.install.local_protocol
}

/// Asks the kernel for what this desired state needs.
async fn look(handle: &Handle, desired: &DesiredState) -> Result<KernelView, rtnetlink::Error> {
    let mut view = KernelView::default();
    let wants =
        |test: fn(&AdvertisementSource) -> bool| desired.advertisements.iter().any(|adv| test(&adv.source));
    if wants(|source| matches!(source, AdvertisementSource::Interfaces { .. })) {
        view.addresses = addresses(handle).await?;
    }
    if wants(|source| matches!(source, AdvertisementSource::Static { require_route: true, .. })) {
        view.destinations = destinations(handle, desired).await?;
    }
    Ok(view)
}

async fn addresses(handle: &Handle) -> Result<BTreeMap<String, BTreeSet<IpAddr>>, rtnetlink::Error> {
    let mut names = BTreeMap::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await? {
        let name = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        });
        names.insert(link.header.index, name.unwrap_or_default());
    }
    let mut found: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    let mut addresses = handle.address().get().execute();
    while let Some(message) = addresses.try_next().await? {
        let Some(name) = names.get(&message.header.index) else { continue };
        // IFA_LOCAL is ours on point-to-point links, where IFA_ADDRESS is the other end's.
        let local = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
        let address = local.or_else(|| {
            message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })
        });
        if let Some(address) = address.filter(|address| is_global(*address)) {
            found.entry(name.clone()).or_default().insert(address);
        }
    }
    Ok(found)
}

fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

async fn destinations(handle: &Handle, desired: &DesiredState) -> Result<BTreeSet<IpNet>, rtnetlink::Error> {
    let mut found = BTreeSet::new();
    for family in [netlink_packet_route::AddressFamily::Inet, netlink_packet_route::AddressFamily::Inet6] {
        let mut query = RouteMessage::default();
        query.header.address_family = family;
        let mut routes = handle.route().get(query).execute();
        while let Some(route) = routes.try_next().await? {
            if !is_ours(&route, desired)
                && let Some(destination) = destination(&route)
            {
                found.insert(destination);
            }
        }
    }
    Ok(found)
}

fn destination(route: &RouteMessage) -> Option<IpNet> {
    let length = route.header.destination_prefix_length;
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    let address = address.unwrap_or(match route.header.address_family {
        netlink_packet_route::AddressFamily::Inet6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
    });
    IpNet::new(address, length).ok()
}

fn derive(desired: &DesiredState, kernel: &KernelView) -> Local {
    let mut local = Local::default();
    for advertisement in &desired.advertisements {
        let origination =
            Origination { attributes: advertisement.attributes.clone(), peers: advertisement.peers.clone() };
        match &advertisement.source {
            AdvertisementSource::Static { cidrs, require_route } => {
                for cidr in cidrs {
                    if !*require_route {
                        local.blackholes.insert(*cidr);
                    } else if !kernel.destinations.contains(cidr) {
                        continue;
                    }
                    local.originated.insert(*cidr, origination.clone());
                }
            }
            AdvertisementSource::Interfaces { names } => {
                for address in names.iter().filter_map(|name| kernel.addresses.get(name)).flatten() {
                    local.originated.insert(IpNet::from(*address), origination.clone());
                }
            }
        }
    }
    local
}
