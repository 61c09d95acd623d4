//! CHECK: whether the attachment is as ADD left it. What later plugins of a chain changed is no difference.

use super::add::{published, wire};
use super::attachment::{self, Attached};
use super::node::Node;
use crate::bandwidth;
use crate::ipam::{Lease, LeaseState};
use crate::pod::{self, Netns};
use crate::rules;
use crate::spec::{AddResult, CniError, Code, Input, NetnsPath, Target, Wanted};

/// Compares the attachment with its lease, its configuration and the result of its ADD.
///
/// # Errors
/// 104 with every difference; 7 without a `prevResult`, and the codes of what could not be looked at.
pub(super) fn check(
    input: &Input,
    target: &Target,
    netns_path: &NetnsPath,
    wanted: &Wanted,
) -> Result<(), CniError> {
    let (conf, place) = (input.conf()?, input.state_place()?);
    let Some(previous) = input.prev_result()? else {
        return Err(CniError::new(
            Code::InvalidConfig,
            "prevResult is missing: CHECK compares with the result of ADD",
        ));
    };
    let this = Attached::new(input, target)?;
    let mut node = Node::read(&conf, &place)?;
    let ledger = attachment::ledger(&place, &node.boot_id, conf.reuse_delay);
    let netns = Netns::open(&netns_path.to_path(), netns_path.may_be_own)?;
    let Some(lease) = ledger.lease(&this.attachment)? else {
        let remedy = "the pod must be made anew: another one may get its address";
        return Err(differs(&this, vec![format!("no address is leased to it; {remedy}")]));
    };

    let mut differences = in_result(&previous, &this, &lease);
    // The uplink may have changed since; a pod keeps the MTU it was given.
    node.mtu_bytes = previous.mtu_bytes(this.attachment.ifname.as_str()).or(node.mtu_bytes);
    let wire = wire(&this, lease.addresses, &node, &conf, wanted)?;
    differences.extend(pod::check(&netns, &wire)?);
    differences.extend(rules::check(&published(&this, lease.addresses, &wanted.port_mappings))?);
    if !wanted.bandwidth.is_unlimited() {
        let Attached { host_ifname, ifb_name, .. } = &this;
        differences.extend(bandwidth::check(host_ifname, ifb_name, wire.mtu_bytes, &wanted.bandwidth)?);
    }
    if differences.is_empty() { Ok(()) } else { Err(differs(&this, differences)) }
}

/// What the result of ADD and the lease do not agree on.
fn in_result(previous: &AddResult, this: &Attached, lease: &Lease) -> Vec<String> {
    let mut differences = Vec::new();
    if lease.state == LeaseState::Intent {
        differences.push("its ADD did not come to its end".to_owned());
    }
    for name in [this.host_ifname.as_str(), this.attachment.ifname.as_str()] {
        if !previous.has_interface(name) {
            differences.push(format!("prevResult has no interface {name}"));
        }
    }
    for address in lease.addresses.iter().filter(|address| !previous.has_address(*address)) {
        differences.push(format!("prevResult does not have its address {address}"));
    }
    differences
}

fn differs(this: &Attached, differences: Vec<String>) -> CniError {
    let msg = format!(
        "container {}, {}: {}",
        this.attachment.container_id,
        this.attachment.ifname,
        differences.first().map_or("", String::as_str)
    );
    CniError::new(Code::Differs, msg).with_details(differences.get(1..).unwrap_or_default().join("; "))
}
