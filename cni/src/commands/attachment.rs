//! One attachment on this node: everything that is known by its names, and how all of it is taken away.

use std::time::Duration;

use crate::ipam::{self, BootTime, Lease, Links, Lock, NetnsId, Process, Store};
use crate::pod::{self, Netns, names};
use crate::rules::{self, Effort};
use crate::spec::{CniError, Code, Input, StatePlace, Target};
use crate::{Attachment, IfName, bandwidth};

/// How long ADD and DEL of one attachment wait for each other.
const TURN_DEADLINE: Duration = Duration::from_secs(10);

/// The ledger of this node.
pub(super) type Ledger = Store<ipam::Node>;

/// An attachment and what its names lead to.
#[derive(Clone, Debug)]
pub(super) struct Attached {
    pub(super) attachment: Attachment,
    pub(super) host_ifname: IfName,
    pub(super) ifb_name: IfName,
    pub(super) mark: String,
}

impl Attached {
    /// The attachment `input` and `target` name.
    ///
    /// # Errors
    /// 7: names so long that the kernel cannot keep them, by which nothing could be found again.
    pub(super) fn new(input: &Input, target: &Target) -> Result<Self, CniError> {
        let (network, container_id, ifname) =
            (input.network.clone(), target.container_id.clone(), target.ifname.clone());
        let attachment = Attachment { network, container_id, ifname };
        if !names::mark_fits(&attachment) {
            let octets = attachment.to_string().len();
            let most = names::MARK_OCTETS - (names::mark(&attachment).len() - octets);
            let msg = format!(
                "name, CNI_CONTAINERID and CNI_IFNAME have {octets} octets together, with blanks between them, and \
                 may have {most}: use a shorter name",
            );
            return Err(CniError::new(Code::InvalidConfig, msg));
        }
        Ok(Self::of(attachment))
    }

    /// An attachment whose names are known to fit.
    pub(super) fn of(attachment: Attachment) -> Self {
        Self {
            host_ifname: names::host_ifname(&attachment),
            ifb_name: names::ifb_name(&attachment),
            mark: names::mark(&attachment),
            attachment,
        }
    }

    /// Waits for the turn of this attachment.
    ///
    /// # Errors
    /// 11 when another command for it does not end; 5 when the lock file cannot be had.
    pub(super) fn turn(&self, ledger: &Ledger) -> Result<Lock, CniError> {
        Ok(ledger.attachment_lock(&self.attachment, TURN_DEADLINE)?)
    }

    /// Takes away all that an ADD can have made, whether `lease` knows of it or not, and goes on after a failure.
    /// The row stays: whoever calls releases it when all is gone.
    pub(super) fn remove(&self, lease: Option<&Lease>) -> Vec<CniError> {
        // Without a row nobody knows what there was: everything cheap is tried.
        let (ports, shaped) = lease.map_or((true, true), |lease| (lease.ports, lease.shaped));
        // Kept until the links are gone: the kernel's wait for both is then one.
        let withdrawn = ports.then(|| rules::withdraw(&self.host_ifname).map_err(CniError::from));
        // Before the address is free again: its old flows must not reach the next pod.
        let effort = if ports { Effort::Thorough } else { Effort::Cheap };
        let forget = |lease: &Lease| rules::forget_flows(&lease.addresses, effort).map_err(CniError::from);
        let (links, flows) = std::thread::scope(|scope| {
            // Connection tracking may be large; looking through it fills the time that deleting links waits.
            let flows = lease.filter(|_| ports).map(|lease| scope.spawn(move || forget(lease)));
            let links = if shaped {
                bandwidth::remove(&self.host_ifname, &self.ifb_name).map_err(CniError::from)
            } else {
                pod::detach(&self.host_ifname).map_err(CniError::from)
            };
            let flows = match flows {
                Some(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                None => lease.map_or(Ok(0), forget),
            };
            (links, flows)
        });
        [withdrawn.and_then(Result::err), links.err(), flows.err()].into_iter().flatten().collect()
    }
}

/// Removes an attachment and its row as DEL does, unless another ADD of it came since `seen`, its row, was read. What
/// GC and `towpath ipam` do with what is left over.
pub fn collect(ledger: &Store<ipam::Node>, attachment: &Attachment, seen: Option<&Lease>) -> Vec<CniError> {
    let this = Attached::of(attachment.clone());
    let remove = || -> Result<Vec<CniError>, CniError> {
        let _turn = this.turn(ledger)?;
        let lease = ledger.lease(attachment)?;
        if lease.as_ref().map(|lease| lease.id) != seen.map(|lease| lease.id) {
            return Ok(Vec::new());
        }
        let mut failures = this.remove(lease.as_ref());
        if failures.is_empty() && lease.is_some() {
            failures.extend(ledger.release(attachment).err().map(CniError::from));
        }
        Ok(failures)
    };
    remove().unwrap_or_else(|error| vec![error])
}

/// Opens the ledger. Nothing is read or made yet.
pub(super) fn ledger(place: &StatePlace, boot_id: &str, reuse_delay: Duration) -> Ledger {
    Store::open(&place.state_dir, boot_id, reuse_delay, Links::of_node(place.route_protocol))
}

/// This process and the moment it was called.
///
/// # Errors
/// 5 without /proc.
pub(super) fn caller() -> Result<(Process, BootTime), CniError> {
    let called_at = BootTime::now();
    let failed = |error| CniError::new(Code::Io, format!("reading /proc/self/stat: {error}; mount /proc"));
    Ok((Process::current().map_err(failed)?, called_at))
}

/// A namespace as the ledger notes it.
pub(super) fn netns_id(netns: &Netns) -> NetnsId {
    let identity = netns.identity();
    NetnsId { dev: identity.device, ino: identity.inode }
}

/// Several failures as one error: the first one's code and words, the others as details.
pub(super) fn first_of(failures: Vec<CniError>) -> Result<(), CniError> {
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else { return Ok(()) };
    let others: Vec<String> = failures.map(|failure| failure.to_string()).collect();
    if others.is_empty() {
        return Err(first);
    }
    let details = [first.details.clone(), others.join("; ")];
    let details: Vec<String> = details.into_iter().filter(|text| !text.is_empty()).collect();
    Err(first.with_details(details.join("; ")))
}
