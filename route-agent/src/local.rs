//! What this node originates: advertisements turned into prefixes, as the kernel stands now.
//!
//! In: the desired state, netlink's word that a link or an address changed, and the FIB's that routes of others
//! or of pods did. Out: the whole set of originated prefixes to the speaker, and the blackholes behind aggregates to the
//! FIB; level-triggered both. The kernel is asked only for what an advertisement depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::DesiredState;
use api::desired::AdvertisementSource;
use bgp_speaker::SpeakerHandle;
use bgp_speaker::rib::Origination;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::LinkAttribute;
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::config::Loaded;
use crate::fib::run::FibHandle;
use crate::kernel::dump;
use crate::kernel::socket::Netlink;

/// Changes of links and addresses that come this close together are one.
const SETTLE: Duration = Duration::from_millis(20);
/// The same for routes of others. Short: an announcement without its route draws traffic that is lost.
const SETTLE_ROUTES: Duration = Duration::from_millis(2);
/// A look reads a table, which may be large: of a stream of changes, looks take one part in this many of the time.
const SHARE_OF_LOOKS: u32 = 10;
/// But no look waits longer than this for the next.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// A dump the kernel refused is repeated after this long.
const RETRY: Duration = Duration::from_secs(1);

/// What the kernel says that advertisements depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct KernelView {
    /// Global addresses by interface name.
    addresses: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Destinations of routes that are not ours.
    destinations: BTreeSet<IpNet>,
    /// Addresses of pods outside this node's blocks.
    strays: BTreeSet<IpNet>,
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
    fib: FibHandle,
) -> anyhow::Result<()> {
    // Few messages even on a busy node; routes, of which there may be many, come by way of the FIB.
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
    let (connection, handle, mut messages) =
        rtnetlink::new_multicast_connection(&groups).context("netlink for local addresses")?;
    tokio::spawn(connection);
    let mut pods = fib.pods();
    let mut told = None;
    loop {
        let desired = Arc::clone(&loaded.borrow_and_update().desired);
        // Subscribed before the look: what changes in between is seen twice, never missed.
        let mut routes = requires_route(&desired).then(|| fib.others_routes());
        let by_address = desired
            .advertisements
            .iter()
            .any(|advertisement| matches!(advertisement.source, AdvertisementSource::Interfaces { .. }));
        let by_pod = announces_pods(&desired);
        let mut view = None;
        loop {
            let began = tokio::time::Instant::now();
            let mut retry = None;
            // What only pods changed needs no second look at the rest.
            if view.is_none() {
                match look(&handle, &desired).await {
                    Ok(looked) => view = Some(looked),
                    Err(error) => {
                        let error = format!("{error:#}");
                        warn!(error, "reading addresses and routes; what is originated stays as it was");
                        retry = Some(tokio::time::Instant::now() + RETRY);
                    }
                }
            }
            let cost = began.elapsed();
            if let Some(view) = &mut view {
                if by_pod {
                    view.strays = pods.borrow_and_update().outside(&desired.node.pod_blocks).collect();
                }
                let local = derive(&desired, view);
                if told.as_ref() != Some(&local) {
                    tell(&speaker, &fib, told.as_ref(), &local).await?;
                    told = Some(local);
                }
            }
            let news = loop {
                tokio::select! {
                    changed = loaded.changed() => match changed {
                        Ok(()) => break News::Configuration,
                        Err(_) => return Ok(()),
                    },
                    message = messages.next() => match message {
                        Some(_) if by_address => break News::Addresses,
                        Some(_) => {}
                        None => anyhow::bail!("netlink for local addresses has ended"),
                    },
                    changed = next(routes.as_mut()) => match changed {
                        Ok(()) => break News::Routes,
                        Err(_) => return Err(crate::fib::run::Stopped.into()),
                    },
                    changed = pods.changed(), if by_pod => match changed {
                        Ok(()) => break News::Pods,
                        Err(_) => return Err(crate::fib::run::Stopped.into()),
                    },
                    () = until(retry) => break News::Addresses,
                }
            };
            match news {
                News::Configuration => break,
                News::Addresses => tokio::time::sleep(SETTLE).await,
                News::Routes => tokio::time::sleep(before_next_look(cost, began.elapsed())).await,
                News::Pods => {
                    tokio::time::sleep(SETTLE_ROUTES).await;
                    continue;
                }
            }
            view = None;
            // What has come meanwhile is part of the next look.
            while let Some(Some(_)) = messages.next().now_or_never() {}
            if let Some(routes) = &mut routes {
                routes.mark_unchanged();
            }
        }
    }
}

/// How long to wait with the next look at routes, after one that took `cost` and began `since` ago.
fn before_next_look(cost: Duration, since: Duration) -> Duration {
    (cost * SHARE_OF_LOOKS).min(BETWEEN_LOOKS).saturating_sub(since).max(SETTLE_ROUTES)
}

enum News {
    Configuration,
    Addresses,
    Routes,
    Pods,
}

/// Blackholes are in the kernel before others send here what would loop, and stay until they no longer do.
async fn tell(
    speaker: &SpeakerHandle,
    fib: &FibHandle,
    told: Option<&Local>,
    local: &Local,
) -> anyhow::Result<()> {
    debug!(originated = local.originated.len(), blackholes = local.blackholes.len(), "originations");
    let before = told.map(|told| &told.blackholes).into_iter().flatten();
    let both: BTreeSet<IpNet> = before.chain(&local.blackholes).copied().collect();
    let shrinks = both != local.blackholes;
    fib.set_blackholes(both).await?;
    speaker.set_originated(local.originated.clone()).await?;
    if shrinks {
        fib.set_blackholes(local.blackholes.clone()).await?;
    }
    Ok(())
}

async fn next(routes: Option<&mut watch::Receiver<u64>>) -> Result<(), watch::error::RecvError> {
    match routes {
        Some(routes) => routes.changed().await,
        None => std::future::pending().await,
    }
}

fn requires_route(desired: &DesiredState) -> bool {
    desired.advertisements.iter().any(|advertisement| {
        matches!(advertisement.source, AdvertisementSource::Static { require_route: true, .. })
    })
}

fn announces_pods(desired: &DesiredState) -> bool {
    desired.advertisements.iter().any(|advertisement| advertisement.source == AdvertisementSource::PodBlocks)
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Asks the kernel for what this desired state needs.
async fn look(handle: &Handle, desired: &DesiredState) -> anyhow::Result<KernelView> {
    let mut view = KernelView::default();
    if desired
        .advertisements
        .iter()
        .any(|advertisement| matches!(advertisement.source, AdvertisementSource::Interfaces { .. }))
    {
        view.addresses = addresses(handle).await?;
    }
    if requires_route(desired) {
        let install = &desired.install;
        let (table, ours) = (install.table, [install.protocol, install.local_protocol]);
        let read = move || dump::destinations(&mut Netlink::open()?, table, ours);
        view.destinations = tokio::task::spawn_blocking(read).await??;
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
        if is_passing(&message) {
            continue;
        }
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

/// Whether an address cannot be used yet, or will not be for long: announcing it would make a promise that
/// nobody keeps.
fn is_passing(message: &AddressMessage) -> bool {
    let passing = AddressHeaderFlags::Tentative
        | AddressHeaderFlags::Dadfailed
        | AddressHeaderFlags::Deprecated
        // Of an IPv6 address this says temporary; of an IPv4 address, that it is a second one of its subnet.
        | AddressHeaderFlags::Secondary;
    message.header.family == netlink_packet_route::AddressFamily::Inet6
        && message.header.flags.intersects(passing)
}

fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
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
            AdvertisementSource::PodBlocks => {
                local.blackholes.extend(&desired.node.pod_blocks);
                let prefixes = desired.node.pod_blocks.iter().chain(&kernel.strays);
                local.originated.extend(prefixes.map(|prefix| (*prefix, origination.clone())));
            }
        }
    }
    local
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::AddressFamily;

    use super::*;

    #[test]
    fn routes_are_looked_at_soon_and_a_large_table_less_often() {
        let ms = Duration::from_millis;
        for (cost, since, expected) in
            [(0, 0, 2), (1, 1, 9), (1, 9, 2), (50, 50, 450), (300, 300, 700), (300, 60_000, 2)]
        {
            assert_eq!(before_next_look(ms(cost), ms(since)), ms(expected), "{cost} ms, {since} ms ago");
        }
    }

    #[test]
    fn pod_blocks_have_a_blackhole_and_pods_outside_them_a_route_of_their_own() {
        let text = "\
apiVersion: towpath.io/v1alpha1
kind: NodeNetwork
metadata: {name: node1}
spec: {podCIDRs: [10.244.1.0/24, \"fd00:244:1::/64\"]}
---
apiVersion: towpath.io/v1alpha1
kind: Advertisement
metadata: {name: pods}
spec: {source: {podBlocks: {}}, attributes: {med: 7}}
";
        let mut documents = api::Documents::default();
        documents.add("all.yaml", text.as_bytes());
        let desired = documents.build("node1").unwrap();
        assert!(announces_pods(&desired));
        let strays = BTreeSet::from(["192.0.2.7/32".parse().unwrap()]);
        let local = derive(&desired, &KernelView { strays, ..KernelView::default() });
        let shown = |prefixes: Vec<&IpNet>| prefixes.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown(local.blackholes.iter().collect()), ["10.244.1.0/24", "fd00:244:1::/64"]);
        assert_eq!(
            shown(local.originated.keys().collect()),
            ["10.244.1.0/24", "192.0.2.7/32", "fd00:244:1::/64"]
        );
        assert!(local.originated.values().all(|origination| origination.attributes.med == Some(7)));
    }

    #[test]
    fn addresses_that_may_not_last_are_not_announced() {
        let message = |family, flags| {
            let mut message = AddressMessage::default();
            (message.header.family, message.header.flags) = (family, flags);
            message
        };
        let (v4, v6) = (AddressFamily::Inet, AddressFamily::Inet6);
        for (family, flags, expected) in [
            (v6, AddressHeaderFlags::Permanent, false),
            (v6, AddressHeaderFlags::Tentative, true),
            (v6, AddressHeaderFlags::Tentative | AddressHeaderFlags::Optimistic, true),
            (v6, AddressHeaderFlags::Permanent | AddressHeaderFlags::Dadfailed, true),
            (v6, AddressHeaderFlags::Deprecated, true),
            (v6, AddressHeaderFlags::Secondary, true),
            // A second address of an IPv4 subnet.
            (v4, AddressHeaderFlags::Secondary, false),
        ] {
            assert_eq!(is_passing(&message(family, flags)), expected, "{family:?} {flags:?}");
        }
    }
}
