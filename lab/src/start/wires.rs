//! The links of a lab that comes up: each pair is made by the first of its two nodes that is ready.
//!
//! If the other node is not, its end is parked, down, in a namespace of nobody until it is; so the
//! first node has a link without carrier meanwhile, as it has in containerlab. Taking an end from
//! one namespace to another costs some 20 ms, so [`crate::start::bring_up`] lets nodes that wait for
//! nothing get ready together.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use rustix::thread::UnshareFlags;

use crate::file::links::{Dummy, End, Link, alternative_name, device_name};
use crate::file::space::{self, Space};
use crate::file::topology::Topology;
use crate::kernel::netlink::{Netlink, VethEnd};
use crate::start::{helper, outside};

/// First ifindex of a link; `lo` is 1, and daemons make some of their own.
const FIRST_IFINDEX: u32 = 10;

pub(crate) struct Wires {
    links: Vec<Wire>,
    dummies: Vec<(Dummy, u32)>,
    pairs: Mutex<Pairs>,
}

/// A link, and the ifindex of each end.
struct Wire {
    link: Link,
    ifindex: [u32; 2],
}

/// Where a node's ends go.
struct Namespace {
    netns: OwnedFd,
    /// In that namespace.
    netlink: Netlink,
    /// There: the bridge whose ports its ends are.
    bridge: Option<u32>,
}

/// The state of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pair {
    Missing,
    /// One end is in its place, the other one parked.
    Half,
    Whole,
}

struct Pairs {
    /// In the namespace of `parked`.
    netlink: Netlink,
    parked: OwnedFd,
    state: Vec<Pair>,
    ready: BTreeMap<String, Namespace>,
}

impl Wires {
    pub(crate) fn new(topology: &Topology) -> anyhow::Result<Self> {
        let state = vec![Pair::Missing; topology.links.len()];
        let wire = |(index, link): (usize, &Link)| {
            let [a, b] = &link.ends;
            Wire {
                link: link.clone(),
                ifindex: [ifindex(topology, a, index, 0), ifindex(topology, b, index, 1)],
            }
        };
        let links: Vec<Wire> = topology.links.iter().enumerate().map(wire).collect();
        let dummies = topology.dummies.iter().enumerate();
        let dummies = dummies
            .map(|(index, dummy)| (dummy.clone(), ifindex(topology, &dummy.end, links.len() + index, 0)))
            .collect();
        let (netlink, parked) = std::thread::spawn(nobodys_namespace)
            .join()
            .map_err(|_| anyhow::anyhow!("its thread panicked"))
            .flatten()
            .context("making the namespace of ends that wait")?;
        Ok(Self {
            links,
            dummies,
            pairs: Mutex::new(Pairs { netlink, parked, state, ready: BTreeMap::new() }),
        })
    }

    /// From now on ends of `node` may be put into its namespace `netns`, as ports of `bridge` there.
    pub(crate) fn ready(&self, node: &str, netns: OwnedFd, bridge: Option<u32>) -> anyhow::Result<()> {
        let netlink = Netlink::route_in(netns.as_fd()).context("opening a socket in its network")?;
        self.lock().ready.entry(node.to_owned()).or_insert(Namespace { netns, netlink, bridge });
        Ok(())
    }

    /// Puts every end of `node`, which is ready, into its namespace, up.
    pub(crate) fn attach(&self, node: &str) -> anyhow::Result<()> {
        let mut pairs = self.lock();
        for (index, wire) in self.links.iter().enumerate() {
            for (side, _) in wire.link.ends.iter().enumerate().filter(|(_, end)| end.node == node) {
                let [a, b] = &wire.link.ends;
                pairs.attach(index, side, wire).with_context(|| {
                    format!("link {}:{} - {}:{}", a.node, a.interface, b.node, b.interface)
                })?;
            }
        }
        for (dummy, ifindex) in self.dummies.iter().filter(|(dummy, _)| dummy.end.node == node) {
            pairs.dummy(dummy, *ifindex).with_context(|| {
                let remedy = "the kernel needs dummy devices (CONFIG_DUMMY): `modprobe dummy`";
                format!("dummy {}:{}, {remedy}", dummy.end.node, dummy.end.interface)
            })?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Pairs> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pairs {
    fn attach(&mut self, index: usize, side: usize, wire: &Wire) -> anyhow::Result<()> {
        let Wire { link: Link { ends: [first, second], mtu_bytes }, ifindex: [one, two] } = wire;
        let (near, far) = if side == 0 { (first, second) } else { (second, first) };
        let (near_index, far_index) = if side == 0 { (*one, *two) } else { (*two, *one) };
        let home = self.ready.get(&near.node).context("its node is not ready")?;
        let state = match self.state.get(index) {
            Some(Pair::Whole) | None => return Ok(()),
            Some(Pair::Half) => {
                let device = device_name(&near.interface);
                self.netlink.move_and_set_up(near_index, &device, home.netns.as_fd())?;
                self.finish(near, near_index)?;
                Pair::Whole
            }
            Some(Pair::Missing) => {
                let here = veth_end(near, near_index, home.netns.as_fd())?;
                match self.ready.get(&far.node) {
                    Some(other) => {
                        let there = veth_end(far, far_index, other.netns.as_fd())?;
                        self.netlink.veth(&[here, there], *mtu_bytes)?;
                        self.finish(far, far_index)?;
                        self.namespace(far)?.netlink.set_up(far_index, true)?;
                    }
                    None => {
                        let mut there = veth_end(far, far_index, self.parked.as_fd())?;
                        there.device = format!("end{far_index}");
                        self.netlink.veth(&[here, there], *mtu_bytes)?;
                    }
                }
                self.finish(near, near_index)?;
                if self.ready.contains_key(&far.node) { Pair::Whole } else { Pair::Half }
            }
        };
        if let Some(slot) = self.state.get_mut(index) {
            *slot = state;
        }
        Ok(())
    }

    fn dummy(&mut self, dummy: &Dummy, ifindex: u32) -> anyhow::Result<()> {
        let Dummy { end, mtu_bytes } = dummy;
        let mac = end.mac.map_or_else(random_mac, Ok)?;
        let device = device_name(&end.interface);
        self.namespace(end)?.netlink.dummy(&device, ifindex, mac, *mtu_bytes)?;
        self.finish(end, ifindex)
    }

    /// Makes an end a port of its bridge, and gives it its second name, where the kernel does not
    /// take the written one.
    fn finish(&mut self, end: &End, ifindex: u32) -> anyhow::Result<()> {
        let home = self.namespace(end)?;
        if let Some(bridge) = home.bridge {
            home.netlink.set_master(ifindex, bridge).context("making it a port of its bridge")?;
        }
        if let Some(name) = alternative_name(&end.interface) {
            let netlink = &mut self.namespace(end)?.netlink;
            netlink.alternative_name(ifindex, &name).with_context(|| format!("naming it {name}"))?;
        }
        Ok(())
    }

    fn namespace(&mut self, end: &End) -> anyhow::Result<&mut Namespace> {
        self.ready.get_mut(&end.node).context("its node is not ready")
    }
}

/// Different for every end of the lab, because an end that is moved keeps its ifindex; and the two
/// ends of a pair never share one: with equal ones the kernel delays carrier events by up to a second.
fn ifindex(topology: &Topology, end: &End, link: usize, side: usize) -> u32 {
    if matches!(space::of(&end.node, &topology.nodes), Space::Outside(_)) {
        return outside::ifindex_of(topology, link, side);
    }
    u32::try_from(2 * link + side).unwrap_or(u32::MAX - FIRST_IFINDEX) + FIRST_IFINDEX
}

fn veth_end<'n>(end: &End, ifindex: u32, netns: BorrowedFd<'n>) -> anyhow::Result<VethEnd<BorrowedFd<'n>>> {
    let mac = match end.mac {
        Some(mac) => mac,
        None => random_mac()?,
    };
    Ok(VethEnd { device: device_name(&end.interface), mac, ifindex, netns })
}

/// Runs on a thread of its own, which leaves for the new namespace.
fn nobodys_namespace() -> anyhow::Result<(Netlink, OwnedFd)> {
    helper::unshare(UnshareFlags::NEWNET)?;
    Ok((Netlink::route()?, File::open("/proc/thread-self/ns/net")?.into()))
}

/// containerlab's prefix, and three random octets.
pub(crate) fn random_mac() -> anyhow::Result<[u8; 6]> {
    let mut random = [0; 3];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let [a, b, c] = random;
    Ok([0xaa, 0xc1, 0xab, a, b, c])
}
