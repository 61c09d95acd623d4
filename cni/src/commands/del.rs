//! DEL: takes the attachment away, whatever is left of it, and however often it is asked to.

use super::attachment::{self, Attached};
use super::node;
use crate::ipam::REUSE_DELAY;
use crate::spec::{CniError, Code, Input, Target};

/// Detaches the pod. Namespace, interface, row, rules and the runtime's memory may all be missing.
///
/// # Errors
/// What could not be undone, when another DEL can help; everything else is done then.
pub(super) fn del(input: &Input, target: &Target) -> Result<(), CniError> {
    let this = match Attached::new(input, target) {
        Ok(this) => this,
        // No ADD can have made one.
        Err(_) => return Ok(()),
    };
    let place = input.state_place()?;
    let ledger = match node::boot_id(&place.boot_id_file) {
        Ok(boot_id) => attachment::ledger(&place, &boot_id, REUSE_DELAY),
        // Without the ledger the kernel can still be cleaned.
        Err(error) => return attachment::first_of([vec![error], this.remove(None)].concat()),
    };
    let mut failures = Vec::new();
    let turn = match this.turn(&ledger) {
        Ok(turn) => Some(turn),
        // An ADD under way would make anew what is taken away here; it ends before the runtime asks again.
        Err(error) if error.code == Code::TryAgainLater => return Err(error),
        Err(error) => {
            failures.push(error);
            None
        }
    };
    let lease = ledger.lease(&this.attachment).unwrap_or_else(|error| {
        failures.push(error.into());
        None
    });
    let not_removed = this.remove(lease.as_ref());
    // An address that still has its wire or its flows is not given to the next pod.
    if not_removed.is_empty() && turn.is_some() {
        failures.extend(ledger.release(&this.attachment).err().map(CniError::from));
    }
    failures.extend(not_removed);
    attachment::first_of(failures)
}
