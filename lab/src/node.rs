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

use anyhow::Context;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::helper;
use crate::netlink::Netlink;
use crate::root;
use crate::state::StateDir;
use crate::topology::{Network, NodeSpec, Topology};

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
const SYSCTLS: [(&str, &str); 10] = [
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
];

/// Makes the node's namespaces and files, starts its process 1, and ends.
pub(crate) fn prepare(state: &StateDir, name: &str, shared: Option<&str>) -> anyhow::Result<()> {
    let plan = state.plan().context("reading the lab's plan")?;
    let spec = plan.topology.nodes.get(name).context("no such node")?;
    let own = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC;
    match shared {
        Some(pid) => {
            join(pid, "net", LinkNameSpaceType::Network)?;
            join(pid, "uts", LinkNameSpaceType::HostNameAndNISDomainName)?;
            helper::unshare(own).context("making its namespaces")?;
        }
        None => {
            helper::unshare(own | UnshareFlags::NEWNET | UnshareFlags::NEWUTS)
                .context("making its namespaces")?;
            rustix::system::sethostname(spec.hostname.as_bytes()).context("setting its host name")?;
            Netlink::route()?.set_up(LO, true).context("setting lo up")?;
            settings(&plan.topology.name, name, spec)?;
        }
    }
    let hosts = hosts(&plan.topology, &plan.topology.network_owner(name));
    root::build(&state.root(name), &plan, spec, &hosts)?;
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

fn join(pid: &str, space: &str, kind: LinkNameSpaceType) -> anyhow::Result<()> {
    let file = File::open(format!("/proc/{pid}/ns/{space}"))?;
    move_into_link_name_space(file.as_fd(), Some(kind))
        .with_context(|| format!("entering the {space} namespace"))
}

fn settings(lab: &str, name: &str, spec: &NodeSpec) -> anyhow::Result<()> {
    let mut sysctls: BTreeMap<&str, String> =
        SYSCTLS.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    // Namespaces share one seed otherwise, and chained ECMP hops then all choose alike.
    sysctls.insert("net.ipv4.fib_multipath_hash_seed", hash_seed(lab, name).to_string());
    for (key, value) in &sysctls {
        // An older kernel lacks some of ours; those of the file below must all be there.
        let _ = std::fs::write(sysctl_path(key), value);
    }
    for (key, value) in &spec.sysctls {
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

/// A node knows itself; names of other nodes have addresses only on a management network.
fn hosts(topology: &Topology, owner: &str) -> String {
    let hostname = topology.nodes.get(owner).map_or(owner, |node| node.hostname.as_str());
    let mut names = vec![hostname];
    if hostname != owner {
        names.push(owner);
    }
    if let Some(Network::None) = topology.nodes.get(owner).map(|node| &node.network) {
        names.extend(
            topology.nodes.get(owner).map(|node| node.container.as_str()).filter(|name| *name != hostname),
        );
    }
    let names = names.join(" ");
    format!("127.0.0.1 localhost {names}\n::1 localhost ip6-localhost ip6-loopback {names}\n")
}
