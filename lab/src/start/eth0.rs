//! The management network in the kernel: a bridge with the gateways in the lab's host namespace,
//! and the eth0 of each node, which has it before its main process starts.
//!
//! Nothing leads from there to the machine: two labs may use the same subnet.

use std::fs::File;
use std::net::IpAddr;

use anyhow::Context;
use ipnet::IpNet;

use crate::file::space::MGMT_NET;
use crate::file::topology::{Network, Topology};
use crate::kernel::netlink::{Netlink, VethEnd};

/// Ifindex of eth0; `lo` is 1.
const ETH0: u32 = 2;

/// Ifindex of the bridge, and then of its ports; links of the file have lower ones.
pub(crate) const BRIDGE: u32 = 10_000_000;

/// Whether anything of the lab is on the management network.
pub(crate) fn is_used(topology: &Topology) -> bool {
    let mut ends = topology.links.iter().flat_map(|link| &link.ends);
    topology.nodes.values().any(|node| node.network == Network::Management)
        || ends.any(|end| end.node == MGMT_NET)
}

/// Makes the bridge in this process' network namespace.
pub(crate) fn make_bridge(topology: &Topology) -> anyhow::Result<()> {
    let management = &topology.management;
    let mut netlink = Netlink::route()?;
    let gateways = || management.subnets.iter().map(|subnet| subnet.gateway);
    netlink
        .bridge(&management.bridge, BRIDGE, mac(gateways().next()))
        .with_context(|| format!("making the management bridge {}", management.bridge))?;
    for subnet in &management.subnets {
        let address = IpNet::new(subnet.gateway, subnet.prefix.prefix_len())?;
        netlink.add_address(BRIDGE, address).with_context(|| format!("giving {address} to the bridge"))?;
    }
    Ok(())
}

/// A node's way to the bridge: taken before the node leaves the host namespace, used after.
pub(crate) struct ToBridge {
    /// Works in the host namespace for ever.
    netlink: Netlink,
    host: File,
}

impl ToBridge {
    /// Must run in the host namespace.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let host = File::open("/proc/self/ns/net").context("opening the host namespace")?;
        Ok(Self { netlink: Netlink::route()?, host })
    }

    /// Makes eth0 in this process' network namespace, which is the node's: address, routes, up.
    pub(crate) fn make_eth0(mut self, topology: &Topology, node: &str) -> anyhow::Result<()> {
        let spec = topology.nodes.get(node).context("no such node")?;
        let position = topology.nodes.keys().take_while(|name| *name != node).count();
        let port = BRIDGE + 1 + u32::try_from(position)?;
        let mac = mac(spec.management.first().map(IpNet::addr));
        // Locally administered like the other one, and different from it.
        let mut port_mac = mac;
        port_mac[0] = 0x06;
        let host_end =
            VethEnd { device: format!("eth0-{position}"), mac: port_mac, ifindex: port, netns: self.host };
        let own = File::open("/proc/self/ns/net").context("opening the node's network namespace")?;
        let eth0 = VethEnd { device: "eth0".to_owned(), mac, ifindex: ETH0, netns: own };
        self.netlink.veth(&[host_end, eth0], topology.management.mtu_bytes)?;
        self.netlink.set_master(port, BRIDGE).context("putting it on the management bridge")?;
        let mut netlink = Netlink::route()?;
        netlink.set_up(ETH0, true)?;
        for address in &spec.management {
            netlink.add_address(ETH0, *address).with_context(|| format!("adding {address}"))?;
        }
        for subnet in &topology.management.subnets {
            let gateway = subnet.gateway;
            netlink
                .add_default_route(ETH0, gateway)
                .with_context(|| format!("default route via {gateway}"))?;
        }
        Ok(())
    }
}

/// Docker's way: 02:42 and the last four octets of the address.
fn mac(address: Option<IpAddr>) -> [u8; 6] {
    let octets = match address {
        Some(IpAddr::V4(address)) => address.octets(),
        Some(IpAddr::V6(address)) => (u128::from(address) as u32).to_be_bytes(),
        None => [0; 4],
    };
    let [a, b, c, d] = octets;
    [0x02, 0x42, a, b, c, d]
}
