//! Who has which address of this node's blocks: one log, one lock, no daemon.
//!
//! ```text
//!   Claim ──> store ──(lock, read)──> ledger ──> choose      pure: which address
//!             │  ▲                      ▲
//!             │  └── recover <── kernel │ folds
//!             └──(append, unlock, sync)─┴── record           pure: bytes of the log
//! ```
//!
//! A [`Store`] is `<stateDir>/cni/`, shared by every network of the node that names the same `stateDir`. An address
//! is leased in two steps: [`Store::claim`] makes the *intent* durable before the kernel is touched,
//! [`Store::ready`] says that the pod is wired. What was killed in between is undone by DEL or GC. The lock is held
//! while the log is read and one record is appended, never while the disk or the kernel is waited for.
//! [`ledger`], [`choose`] and [`record`] have neither clock nor I/O.

pub mod audit;
mod choose;
pub mod error;
pub mod ledger;
pub mod lock;
pub mod node;
pub mod process;
pub mod record;
pub mod recover;
pub mod row;
pub mod store;

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::spec::IpRange;
use crate::{Addresses, Attachment};

pub use audit::{Finding, audit};
pub use error::{BlockCount, IpamError};
pub use ledger::{Ledger, Now};
pub use lock::Lock;
pub use node::{Links, Node};
pub use process::{BootTime, Process};
pub use recover::Found;
pub use store::{Condition, Store};

/// How long a released address rests before it is handed out again while others are free (`reuseDelay`): routers,
/// proxies and clients of the pod that had it may still send to it.
pub const REUSE_DELAY: Duration = Duration::from_secs(60);

/// What an ADD asks for.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Whose the addresses will be.
    pub attachment: Attachment,
    /// Blocks of this node from which an address is chosen, one per family that has a block. At least one.
    pub blocks: Vec<IpNet>,
    /// Addresses asked for by name, at most one per family; the other family's is chosen.
    pub wanted: Vec<IpAddr>,
    /// Whether an address of `wanted` may lie outside `blocks` (`foreignAddresses`): the daemon then announces it as a
    /// host route.
    pub foreign_addresses: bool,
    /// Where these name a family, that family's address is chosen within them.
    pub ranges: Vec<IpRange>,
    /// Never handed out: the node's own addresses.
    pub reserved: Vec<IpAddr>,
    /// See [`REUSE_DELAY`].
    pub reuse_delay: Duration,
    /// The pod's network namespace, for people and for `towpath ipam check`.
    pub netns: Option<NetnsId>,
    /// The process of this ADD: its row is not garbage while it lives.
    pub process: Process,
    /// When this ADD began: a DEL that came later has the last word.
    pub called_at: BootTime,
    /// `namespace/name` of the pod where the runtime says it, for people.
    pub pod: Option<String>,
    /// Whether host ports are published, so that DEL knows what to undo.
    pub ports: bool,
    /// Whether the bandwidth is limited, so that DEL knows what to undo.
    pub shaped: bool,
}

/// A row of the ledger: an attachment and its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Whose.
    pub attachment: Attachment,
    /// Which.
    pub addresses: Addresses,
    /// How far the ADD came.
    pub state: LeaseState,
    /// The process of the ADD; `None` when the row was rebuilt from the kernel.
    pub process: Option<Process>,
    /// The pod's network namespace, if known.
    pub netns: Option<NetnsId>,
    /// `namespace/name` of the pod, if known.
    pub pod: Option<String>,
    /// Whether host ports may have been published.
    pub ports: bool,
    /// Whether the bandwidth may have been limited.
    pub shaped: bool,
    /// When it was claimed, in seconds since 1970.
    pub claimed_at: u64,
    /// Tells this row from a later one of the same attachment; grows from row to row.
    pub id: u64,
}

impl Lease {
    /// What `claim` gets: a row that is not yet wired.
    #[must_use]
    pub fn intent(claim: &Claim, addresses: Addresses, now: Now, id: u64) -> Self {
        Self {
            attachment: claim.attachment.clone(),
            addresses,
            state: LeaseState::Intent,
            process: Some(claim.process),
            netns: claim.netns,
            pod: claim.pod.clone(),
            ports: claim.ports,
            shaped: claim.shaped,
            claimed_at: now.unix_seconds,
            id,
        }
    }
}

/// How far an ADD came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaseState {
    /// The addresses are promised; the wire may be missing or half made.
    Intent,
    /// The pod is wired.
    Ready,
}

/// A network namespace's identity on this host, until it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetnsId {
    /// `st_dev` of the namespace file.
    pub dev: u64,
    /// `st_ino` of the namespace file.
    pub ino: u64,
}
