//! GC: what belongs to no attachment of the runtime's list is taken away, half-made ADDs included.
//!
//! Only this network is judged by its list. An ADD that runs is left alone, and so is what was added after GC began.
//! Without a list nothing is done: a runtime that did not say is not one that has no pods.

use std::collections::BTreeSet;

use super::attachment::{self, Ledger};
use super::node;
use crate::ipam::{Lease, REUSE_DELAY};
use crate::pod::{self, names};
use crate::spec::{CniError, Input, StatePlace};
use crate::{Attachment, bandwidth, rules};

/// Sweeps the network.
///
/// # Errors
/// What could not be removed; everything else is.
pub(super) fn gc(input: &Input) -> Result<(), CniError> {
    let Some(valid) = input.valid_attachments()? else { return Ok(()) };
    let place = input.state_place()?;
    let ledger = attachment::ledger(&place, &node::boot_id(&place.boot_id_file)?, REUSE_DELAY);
    // Rows of another boot or of a damaged ledger are no rows: from here on they are what the kernel says.
    ledger.recover()?;
    let sweep = Sweep { input, valid, place, ledger };
    attachment::first_of(sweep.run()?)
}

struct Sweep<'a> {
    input: &'a Input,
    valid: BTreeSet<Attachment>,
    place: StatePlace,
    ledger: Ledger,
}

impl Sweep<'_> {
    /// Rows first, then what the kernel has without a row. Failures are collected.
    fn run(&self) -> Result<Vec<CniError>, CniError> {
        let mut failures = Vec::new();
        // What is added from here on is not in this list.
        for lease in self.ledger.leases()?.iter().filter(|lease| self.is_garbage(lease)) {
            failures.extend(attachment::collect(&self.ledger, &lease.attachment, Some(lease)));
        }
        // Links are listed before rows: an ADD has its row first, so a link without one belongs to nobody.
        let links = pod::links(self.place.route_protocol)?.into_iter().map(|link| link.attachment);
        let devices = bandwidth::links().map_err(bandwidth::BandwidthError::from)?;
        let owners = rules::owners()?;
        let rows: BTreeSet<Attachment> =
            self.ledger.leases()?.into_iter().map(|lease| lease.attachment).collect();
        let marked = devices.iter().filter_map(|device| names::marked(&device.mark));
        let without_row: BTreeSet<Attachment> = links
            .chain(marked)
            .filter(|attachment| self.is_ours(attachment) && !rows.contains(attachment))
            .collect();
        for attachment in &without_row {
            failures.extend(attachment::collect(&self.ledger, attachment, None));
        }
        let named: BTreeSet<_> = rows.iter().map(names::host_ifname).collect();
        for owner in owners.difference(&named) {
            // Another state folder's pod has its link.
            match pod::is_there(owner) {
                Ok(true) => {}
                Ok(false) => failures.extend(rules::withdraw(owner).err().map(CniError::from)),
                Err(error) => failures.push(error.into()),
            }
        }
        Ok(failures)
    }

    /// Of this network and not on its list.
    fn is_ours(&self, attachment: &Attachment) -> bool {
        attachment.network == self.input.network && !self.valid.contains(attachment)
    }

    /// Not on the list, and its ADD has ended.
    fn is_garbage(&self, lease: &Lease) -> bool {
        let is_running = lease.process.is_some_and(|process| process.is_alive());
        self.is_ours(&lease.attachment) && !is_running
    }
}
