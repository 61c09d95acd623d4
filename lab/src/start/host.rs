//! The lab's host namespace, which is the holder's own: what containerlab has on the machine itself.
//!
//! Bridges, `host:` and `mgmt-net:` ends and the management network are here, and nothing leads from
//! here to the machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::Context;

use crate::file::space::{self, Space};
use crate::file::topology::Topology;
use crate::kernel::netlink::Netlink;
use crate::node::control;
use crate::node::{device_requests, namespaces};
use crate::start::state::StateDir;
use crate::start::wires::random_mac;
use crate::start::{eth0, netns_names, outside};

/// Ifindex of the first bridge; links of the file have lower ones.
const FIRST_BRIDGE: u32 = 20_000_000;

/// Readies the namespace before any node starts.
pub(crate) fn prepare(topology: &Topology) -> anyhow::Result<()> {
    namespaces::settings(&topology.name, "host", &BTreeMap::new())?;
    if eth0::is_used(topology) {
        eth0::make_bridge(topology)?;
    }
    Ok(())
}

/// Answers requests about devices here, which no node's process 1 can reach.
pub(crate) fn serve(state: &StateDir) -> anyhow::Result<()> {
    let listener = UnixListener::bind(state.host_socket()).context("listening for requests")?;
    let serve = move || {
        for stream in listener.incoming() {
            if let Err(error) = stream.and_then(|stream| answer(&stream)) {
                eprintln!("request: {error}");
            }
        }
    };
    std::thread::Builder::new().name("host".to_owned()).spawn(serve).context("serving requests")?;
    Ok(())
}

fn answer(stream: &UnixStream) -> io::Result<()> {
    let Some((request, _)) = control::receive(stream)? else { return Ok(()) };
    control::reply(stream, &device_requests::answer(request))
}

/// The namespace itself; asked for in the holder, it is its own.
pub(crate) fn netns() -> anyhow::Result<OwnedFd> {
    Ok(File::open("/proc/self/ns/net").context("opening the lab's host namespace")?.into())
}

/// Makes the bridge that `node` is in `netns`; returns its ifindex.
pub(crate) fn make_bridge(topology: &Topology, node: &str, netns: BorrowedFd<'_>) -> anyhow::Result<u32> {
    let device = space::bridge_device(node);
    let in_host = space::of(node, &topology.nodes) == Space::Host;
    if in_host && eth0::is_used(topology) && device == topology.management.bridge {
        // The file names the management bridge as a node, to link others to it.
        return Ok(eth0::BRIDGE);
    }
    let position = topology.nodes.keys().take_while(|name| *name != node).count();
    let ifindex = FIRST_BRIDGE + u32::try_from(position)?;
    let mut netlink = Netlink::route_in(netns).context("opening a socket in its network")?;
    netlink.bridge(device, ifindex, random_mac()?).with_context(|| format!("making the bridge {device}"))?;
    Ok(ifindex)
}

/// Removes what the lab has left in the file system and in namespaces outside, when its caller has gone.
pub(crate) fn forget(state: &StateDir) -> io::Result<()> {
    // Without its plan a lab has made nothing outside yet.
    if let Ok(plan) = state.plan() {
        outside::clear_from_inside(state, &plan.topology)?;
    }
    netns_names::release(state)?;
    state.remove()
}
