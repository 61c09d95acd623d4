//! ADD: an address, a wire, and what was asked for beside them; or nothing.
//!
//! The intent is durable before the kernel is touched, and a failure undoes what was done. Killed at any instruction,
//! ADD leaves what DEL or GC find by the attachment's names.

use std::net::IpAddr;

use super::attachment::{self, Attached, Ledger};
use super::node::Node;
use crate::ipam::{Claim, Lease, LeaseState};
use crate::pod::{self, GATEWAY_V4, GATEWAY_V6, HOST_MAC, Netns, PodError, Wire, names};
use crate::rules::{self, Published};
use crate::spec::{
    AddResult, CniError, Code, Input, Interface, Mac, NetnsPath, NetworkConf, PortMapping, Target, Wanted,
};
use crate::{Addresses, bandwidth};

/// Attaches the pod and returns the result.
///
/// # Errors
/// Every code; nothing is left then.
pub(super) fn add(
    input: &Input,
    target: &Target,
    netns_path: &NetnsPath,
    wanted: &Wanted,
) -> Result<String, CniError> {
    let (process, called_at) = attachment::caller()?;
    let (conf, place) = (input.conf()?, input.state_place()?);
    let previous = input.prev_result()?;
    let this = Attached::new(input, target)?;
    let node = Node::read(&conf, &place)?;
    if let (true, Some(reason)) = (node.drained, &node.not_ready) {
        // Runtimes that do not ask STATUS have the conflist as long as there are pods to end.
        return Err(CniError::new(Code::TryAgainLater, format!("no pods start here: {reason}")));
    }
    let netns = Netns::open(&netns_path.to_path(), netns_path.may_be_own)?;
    let ledger = attachment::ledger(&place, &node.boot_id, conf.reuse_delay);

    let _turn = this.turn(&ledger)?;
    clear_the_place(&this, &ledger)?;
    let lease = ledger.claim(&Claim {
        attachment: this.attachment.clone(),
        blocks: node.blocks.clone(),
        wanted: wanted.ips.clone(),
        foreign_addresses: conf.foreign_addresses,
        ranges: wanted.ip_ranges.clone(),
        reserved: node.node_addresses.clone(),
        reuse_delay: conf.reuse_delay,
        netns: Some(attachment::netns_id(&netns)),
        process,
        called_at,
        pod: wanted.pod.clone(),
        ports: !wanted.port_mappings.is_empty(),
        shaped: !wanted.bandwidth.is_unlimited(),
    })?;
    let mut made = Made { this: &this, lease: &lease, is_wired: false };
    let done = made.make(&netns, &node, &conf, wanted).and_then(|done| {
        ledger.ready(&lease)?;
        Ok(done)
    });
    let (wire, is_first) = done.map_err(|failure| made.undo(&ledger, failure))?;
    let mut result = previous.unwrap_or_else(AddResult::empty);
    add_ours(&mut result, &wire, is_first, netns_path);
    if let Some(dns) = wanted.dns.as_ref().or(conf.dns.as_ref()) {
        result.set_dns(dns);
    }
    Ok(result.to_json(input.version))
}

/// An attachment that is there already is an error, and stays as it is. What a killed ADD left makes way.
fn clear_the_place(this: &Attached, ledger: &Ledger) -> Result<(), CniError> {
    if !pod::is_there(&this.host_ifname)? {
        return Ok(());
    }
    match ledger.lease(&this.attachment)? {
        // Its process is gone: we have its turn.
        Some(lease) if lease.state == LeaseState::Intent => attachment::first_of(this.remove(Some(&lease))),
        // Without a row it is what an earlier boot of the container left, or somebody else's; the wire tells.
        None => Ok(()),
        Some(lease) => {
            let msg = format!(
                "container {} is attached already: its {} has {}; DEL comes before another ADD",
                this.attachment.container_id, this.attachment.ifname, lease.addresses
            );
            Err(CniError::new(Code::InterfaceExists, msg))
        }
    }
}

/// What an ADD has made so far.
struct Made<'a> {
    this: &'a Attached,
    lease: &'a Lease,
    is_wired: bool,
}

impl Made<'_> {
    fn make(
        &mut self,
        netns: &Netns,
        node: &Node,
        conf: &NetworkConf,
        wanted: &Wanted,
    ) -> Result<(Wire, bool), CniError> {
        let wire = wire(self.this, self.lease.addresses, node, conf, wanted)?;
        // A pod that could send under another's address before the guard stands would do so in its first millisecond.
        rules::ensure_guard()?;
        let attached = pod::attach(netns, &wire);
        // A wire that failed has undone itself, or says that it could not.
        self.is_wired = matches!(attached, Ok(_) | Err(PodError::NotUndone { .. }));
        let is_first = attached?.is_first;
        if !wanted.port_mappings.is_empty() {
            rules::publish(&published(self.this, self.lease.addresses, &wanted.port_mappings))?;
        }
        let Attached { host_ifname, ifb_name, mark, .. } = self.this;
        if !wanted.bandwidth.is_unlimited() {
            bandwidth::shape(host_ifname, ifb_name, mark, wire.mtu_bytes, &wanted.bandwidth)?;
        }
        Ok((wire, is_first))
    }

    /// Takes back what was made and gives the address back; `failure` says why, and what could not be undone.
    fn undo(&self, ledger: &Ledger, failure: CniError) -> CniError {
        let mut failures = vec![failure];
        if self.is_wired {
            failures.extend(self.this.remove(Some(self.lease)));
        }
        // An address whose wire may still be there stays leased until DEL or GC.
        if failures.len() == 1 {
            failures.extend(ledger.release(&self.this.attachment).err().map(CniError::from));
        }
        attachment::first_of(failures).expect_err("there is at least the first failure")
    }
}

/// The wire of an attachment with these addresses.
pub(super) fn wire(
    this: &Attached,
    addresses: Addresses,
    node: &Node,
    conf: &NetworkConf,
    wanted: &Wanted,
) -> Result<Wire, CniError> {
    let mut configured = Addresses::default();
    // The first of each family counts.
    node.node_addresses.iter().rev().for_each(|address| configured.set(*address));
    let (mut sources, mut mtu_bytes) = (configured, node.mtu_bytes);
    let is_complete = addresses.iter().all(|address| configured.same_family(address).is_some());
    if !is_complete || mtu_bytes.is_none() {
        let mut kernel = pod::node::Node::open()?;
        if mtu_bytes.is_none() {
            mtu_bytes = Some(kernel.uplink_mtu_bytes()?);
        }
        sources = kernel.sources(&addresses)?;
        configured.iter().for_each(|address| sources.set(address));
    }
    Ok(Wire {
        host_ifname: this.host_ifname.clone(),
        ifname: this.attachment.ifname.clone(),
        addresses,
        pod_mac: wanted.mac.map_or_else(|| names::pod_mac(&this.attachment), Mac::octets),
        mtu_bytes: mtu_bytes.unwrap_or(1500),
        table: conf.route_table,
        protocol: node.route_protocol,
        sources,
        mark: this.mark.clone(),
        route_localnet: wanted.port_mappings.iter().any(reaches_loopback),
    })
}

/// Whether a mapping is to be reached at 127.0.0.1 too.
fn reaches_loopback(mapping: &PortMapping) -> bool {
    mapping.host_ip.is_none_or(|ip| ip == IpAddr::from([0, 0, 0, 0]) || (ip.is_ipv4() && ip.is_loopback()))
}

/// The node's ports that lead to the attachment.
pub(super) fn published(this: &Attached, addresses: Addresses, mappings: &[PortMapping]) -> Published {
    Published { owner: this.host_ifname.clone(), addresses, mappings: mappings.to_vec() }
}

/// Both ends, the addresses, and the default routes unless another interface has the pod's.
fn add_ours(result: &mut AddResult, wire: &Wire, is_first: bool, netns_path: &NetnsPath) {
    let mtu_bytes = Some(wire.mtu_bytes);
    let (host_mac, pod_mac) = (mac_text(HOST_MAC), mac_text(wire.pod_mac));
    let host = Interface { name: wire.host_ifname.as_str(), mac: &host_mac, mtu_bytes, sandbox: None };
    result.add_interface(&host);
    let (name, sandbox) = (wire.ifname.as_str(), Some(netns_path.path.as_str()));
    let index = result.add_interface(&Interface { name, mac: &pod_mac, mtu_bytes, sandbox });
    for address in wire.addresses.iter() {
        let (gateway, everything): (IpAddr, &str) =
            if address.is_ipv4() { (GATEWAY_V4.into(), "0.0.0.0/0") } else { (GATEWAY_V6.into(), "::/0") };
        result.add_ip(address, Some(gateway), index);
        if is_first {
            result.add_route(everything, gateway);
        }
    }
}

fn mac_text(octets: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = octets;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}
