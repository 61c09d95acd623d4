//! A node before its process 1 runs: namespaces, kernel settings, `lo` and the root.
//!
//! In: the plan and, for a node inside another one's network, that one's process id. Out: the
//! process `init`, told to the holder by its id.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::file::kind::Kind;
use crate::file::topology::Network;
use crate::kernel::netlink::Netlink;
use crate::node::root;
use crate::start::eth0::ToBridge;
use crate::start::helper;
use crate::start::state::StateDir;

/// What a node tells the holder, one JSON line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NodeEvent {
    /// Process 1 of the node, by its id in the lab.
    Init(u32),
    /// It serves requests.
    Ready,
}

const LO: u32 = 1;

/// Kernel settings of every node, before those of the topology.
///
/// Addresses are usable at once (no duplicate address detection), a link that loses and regains
/// its cable keeps its IPv6 addresses, and nothing of the machine's own policy leaks in.
///
/// No automatic flow labels: making one leaves a hash on the packet that stays with it through every namespace, and
/// multipath takes such a hash instead of its own, so that all hops of a chain would choose alike. On a cable it is lost.
const SYSCTLS: [(&str, &str); 11] = [
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.default.rp_filter", "0"),
    ("net.ipv6.conf.all.disable_ipv6", "0"),
    ("net.ipv6.conf.default.disable_ipv6", "0"),
    ("net.ipv6.conf.all.accept_dad", "0"),
    ("net.ipv6.conf.default.accept_dad", "0"),
    ("net.ipv6.conf.default.dad_transmits", "0"),
    ("net.ipv6.conf.all.keep_addr_on_down", "1"),
    ("net.ipv6.conf.default.keep_addr_on_down", "1"),
    ("net.ipv6.auto_flowlabels", "0"),
];

/// Makes the node's namespaces and files, starts its process 1, and ends.
pub(crate) fn prepare(state: &StateDir, name: &str, shared: Option<&str>) -> anyhow::Result<()> {
    let plan = state.plan().context("reading the lab's plan")?;
    let spec = plan.topology.nodes.get(name).context("no such node")?;
    let own = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC;
    let topology = &plan.topology;
    match (&spec.network, shared) {
        (Network::Container(_), Some(pid)) => {
            join(&format!("/proc/{pid}/ns/net"), LinkNameSpaceType::Network)?;
            join(&format!("/proc/{pid}/ns/uts"), LinkNameSpaceType::HostNameAndNISDomainName)?;
            helper::unshare(own).context("making its namespaces")?;
        }
        (Network::Container(other), None) => bail!("node {other} is not up"),
        (Network::Host, _) => helper::unshare(own).context("making its namespaces")?,
        (Network::Outside(other), _) => {
            join(&state.outside(other).to_string_lossy(), LinkNameSpaceType::Network)?;
            helper::unshare(own | UnshareFlags::NEWUTS).context("making its namespaces")?;
            if spec.kind != Kind::ExtContainer {
                rustix::system::sethostname(spec.hostname.as_bytes()).context("setting its host name")?;
            }
        }
        (network @ (Network::Management | Network::None), _) => {
            let bridge = (*network == Network::Management).then(ToBridge::open).transpose()?;
            helper::unshare(own | UnshareFlags::NEWNET | UnshareFlags::NEWUTS)
                .context("making its namespaces")?;
            rustix::system::sethostname(spec.hostname.as_bytes()).context("setting its host name")?;
            settings(&topology.name, name, &spec.sysctls)?;
            if let Some(bridge) = bridge {
                bridge.make_eth0(topology, name).context("making eth0")?;
            }
        }
    }
    if spec.kind == Kind::ExtContainer {
        root::keep_machine()?;
    } else {
        root::build(&state.root(name), &plan, name)?;
    }
    let child = helper::step(Path::new(helper::SELF), "init", state, &[name])
        .stdin(Stdio::null())
        .spawn()
        .context("starting its process 1")?;
    say(&NodeEvent::Init(child.id()))
}

/// Writes one event to the holder.
pub(crate) fn say(event: &NodeEvent) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(event)?)?;
    Ok(out.flush()?)
}

fn join(space: &str, kind: LinkNameSpaceType) -> anyhow::Result<()> {
    let file = File::open(space).with_context(|| format!("opening {space}"))?;
    move_into_link_name_space(file.as_fd(), Some(kind)).with_context(|| format!("entering {space}"))
}

/// Sets `lo` up in this process' network namespace, and the kernel as a node has it.
pub(crate) fn settings(lab: &str, name: &str, given: &BTreeMap<String, String>) -> anyhow::Result<()> {
    Netlink::route()?.set_up(LO, true).context("setting lo up")?;
    let mut sysctls: BTreeMap<&str, String> =
        SYSCTLS.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    // Namespaces share one seed otherwise, and chained ECMP hops then all choose alike.
    sysctls.insert("net.ipv4.fib_multipath_hash_seed", hash_seed(lab, name).to_string());
    for (key, value) in &sysctls {
        // An older kernel lacks some of ours; those of the file below must all be there.
        let _ = std::fs::write(sysctl_path(key), value);
    }
    for (key, value) in given {
        std::fs::write(sysctl_path(key), value)
            .with_context(|| format!("setting sysctl {key} to {value}"))?;
    }
    Ok(())
}

/// `net.ipv4.conf.eth0/1.rp_filter`: dots separate, and a slash stands for a dot.
fn sysctl_path(key: &str) -> String {
    let swapped = key.chars().map(|c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    });
    format!("/proc/sys/{}", swapped.collect::<String>())
}

/// Different for every node, the same in every run: FNV-1a, never 0 (which means random).
fn hash_seed(lab: &str, node: &str) -> u32 {
    let bytes = lab.bytes().chain([b'/']).chain(node.bytes());
    bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)).max(1)
}
