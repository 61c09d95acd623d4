//! `"type": "loopback"`, or the program called by the name `loopback`: sets the pod's own `lo` up and answers as the
//! reference plugin does, so that one file serves a node's whole conflist.

use std::net::IpAddr;

use crate::pod::{self, Netns, NetnsError};
use crate::spec::{AddResult, CniError, Code, Input, Interface, NetnsPath};

/// Sets `lo` up. A result of plugins before is passed on as it is.
///
/// # Errors
/// 8: no such namespace; 101: an address of `lo` that is no loopback address; what the kernel refuses.
pub(super) fn add(input: &Input, netns_path: &NetnsPath) -> Result<String, CniError> {
    let previous = input.prev_result()?;
    let lo = pod::loopback_up(&open(netns_path)?)?;
    if let Some(previous) = previous {
        return Ok(previous.to_json(input.version));
    }
    let mut result = AddResult::empty();
    let (mac, sandbox) = ("00:00:00:00:00:00", Some(netns_path.path.as_str()));
    let index = result.add_interface(&Interface { name: "lo", mac, mtu_bytes: None, sandbox });
    let first = |v4: bool| lo.addresses.iter().find(|(address, _)| address.is_ipv4() == v4);
    for (address, length) in [first(true), first(false)].into_iter().flatten() {
        refuse_foreign(*address)?;
        result.add_net(*address, *length, None, index);
    }
    Ok(result.to_json(input.version))
}

/// Sets `lo` down, if there still is one.
///
/// # Errors
/// What the kernel refuses.
pub(super) fn del(netns_path: Option<&NetnsPath>) -> Result<(), CniError> {
    let Some(netns_path) = netns_path else { return Ok(()) };
    match open(netns_path) {
        Ok(netns) => Ok(pod::loopback_down(&netns)?),
        Err(NetnsError::Open { .. } | NetnsError::Other { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether `lo` is up.
///
/// # Errors
/// 104 when it is not.
pub(super) fn check(netns_path: &NetnsPath) -> Result<(), CniError> {
    if pod::loopback(&open(netns_path)?)?.is_up {
        return Ok(());
    }
    let msg = format!("lo in {} is down; set it up with `ip link set lo up`", netns_path.path);
    Err(CniError::new(Code::Differs, msg))
}

fn open(netns_path: &NetnsPath) -> Result<Netns, NetnsError> {
    Netns::open(&netns_path.to_path(), netns_path.may_be_own)
}

fn refuse_foreign(address: IpAddr) -> Result<(), CniError> {
    if address.is_loopback() {
        return Ok(());
    }
    let msg = format!("lo of the pod has {address}, which is no loopback address; remove it");
    Err(CniError::new(Code::InterfaceExists, msg))
}
