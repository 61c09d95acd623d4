//! A log that is missing, damaged or of another boot is made anew from what the kernel has.
//!
//! The links say who is wired with which address; the old log, as far as it can be read, adds what links do not
//! know (the pod's name, the namespace), the ADDs that are under way, and the addresses that rest. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::process::Process;
use super::{Lease, LeaseState};
use crate::{Addresses, Attachment};

/// A wired pod, as its host link tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// From the link's mark.
    pub attachment: Attachment,
    /// From the routes to the link.
    pub addresses: Addresses,
}

/// The rows of the new log: every link's, and those of ADDs that run. `now` is in seconds since 1970.
pub fn rows(links: Vec<Found>, old: Vec<Lease>, now: u64, is_alive: impl Fn(Process) -> bool) -> Vec<Lease> {
    let mut rows: Vec<Lease> = Vec::with_capacity(links.len());
    for link in links {
        if link.addresses.is_empty() {
            // An ADD was killed before it set the route: only its own DEL or GC has work here.
            continue;
        }
        let known = old.iter().rev().find(|lease| lease.attachment == link.attachment);
        let row = known.cloned().unwrap_or_else(|| unknown(link.attachment, now));
        rows.push(Lease { addresses: link.addresses, ..row });
    }
    let wired: BTreeSet<Attachment> = rows.iter().map(|row| row.attachment.clone()).collect();
    rows.extend(old.into_iter().filter(|lease| {
        !wired.contains(&lease.attachment)
            && lease.state == LeaseState::Intent
            && lease.process.is_some_and(&is_alive)
    }));
    // Two links with one address: the first keeps it, `towpath ipam check` names the other.
    let mut seen: BTreeSet<IpAddr> = BTreeSet::new();
    rows.retain(|row| {
        let is_new = row.addresses.iter().all(|address| !seen.contains(&address));
        seen.extend(row.addresses.iter());
        is_new
    });
    rows
}

/// All that a link tells. DEL then tries everything an ADD can have set.
fn unknown(attachment: Attachment, now: u64) -> Lease {
    Lease {
        attachment,
        addresses: Addresses::default(),
        state: LeaseState::Ready,
        process: None,
        netns: None,
        pod: None,
        ports: true,
        shaped: true,
        claimed_at: now,
        id: 0,
    }
}
