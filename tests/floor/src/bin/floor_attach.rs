//! `floor-attach ADDRESS...`: the plugin's work in the kernel and nothing else. No configuration, no ledger, no lock.
//!
//! `CNI_COMMAND`, `CNI_CONTAINERID`, `CNI_NETNS` and `CNI_IFNAME` as for a plugin; the addresses to attach are given.

use std::env::var;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, bail};
use cni::pod::{self, Netns, Wire, names};
use cni::{Addresses, Attachment, ContainerId, IfName, NetworkName};

fn main() -> anyhow::Result<()> {
    let attachment = Attachment {
        network: NetworkName::parse("floor")?,
        container_id: ContainerId::parse(&var("CNI_CONTAINERID")?)?,
        ifname: IfName::parse(&var("CNI_IFNAME")?)?,
    };
    let host_ifname = names::host_ifname(&attachment);
    match var("CNI_COMMAND")?.as_str() {
        "ADD" => {
            let netns = Netns::open(Path::new(&var("CNI_NETNS")?), false)?;
            pod::attach(&netns, &wire(&attachment, host_ifname)?)?;
        }
        "DEL" => {
            pod::detach(&host_ifname)?;
        }
        other => bail!("CNI_COMMAND is {other}: only ADD and DEL are measured"),
    }
    Ok(())
}

fn wire(attachment: &Attachment, host_ifname: IfName) -> anyhow::Result<Wire> {
    let mut addresses = Addresses::default();
    for argument in std::env::args().skip(1) {
        match argument.parse().with_context(|| format!("{argument} is no address"))? {
            IpAddr::V4(address) => addresses.v4 = Some(address),
            IpAddr::V6(address) => addresses.v6 = Some(address),
        }
    }
    Ok(Wire {
        host_ifname,
        ifname: attachment.ifname.clone(),
        addresses,
        pod_mac: names::pod_mac(attachment),
        mtu_bytes: 1500,
        table: 254,
        protocol: 200,
        sources: Addresses::default(),
        mark: names::mark(attachment),
        route_localnet: false,
    })
}
