//! The forwarding table of this node as BGP wants it, and what is still missing in the kernel.
//!
//! In: changes of the RIB, what the kernel answered, what others did to it. Out: [`Request`]s, one
//! netlink message each, and [`Note`]s for the speaker. No socket, no runtime, no clock: the time is an
//! argument.
//!
//! ```text
//!  RIB --changes--> Table --plan()--> requests --> kernel
//!                    4 octets a prefix                |
//!  RIB <---notes---- Groups <----applied()---- outcomes, events of others
//! ```
//!
//! Every route points to a kernel nexthop *group*, also where there is one next hop only. When all
//! routes of a group move to the same new set, the group is replaced: one message, whatever the number
//! of routes. When a neighbour's session goes down, [`Fib::nexthops_down`] takes it out of every group
//! before the RIB has said what each prefix uses instead.
//!
//! Deleting a nexthop object makes the kernel delete all routes on it. So objects are removed only in a
//! later batch than the one that moved the last route away, and only when that was confirmed.
//!
//! What is not ours stays as it is: a new route is created with `NLM_F_EXCL`, so that a foreign route
//! with the same prefix and metric is reported, not replaced; deletions name our protocol. A route of
//! ours that someone replaces by one of another protocol is foreign from then on, and reported.

mod adopt;
mod driver;
mod events;
mod groups;
mod local;
pub mod numbers;
mod outcome;
mod plan;
pub mod pods;
pub mod run;
mod slab;
pub mod status;
mod table;
mod wishes;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use api::desired::Install;
use bgp_speaker::rib::{FibNexthop, PrefixId};
use ipnet::IpNet;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;
use smallvec::SmallVec;

use groups::{GroupState, Groups};
use local::Blackholes;
use numbers::Numbers;
use plan::InFlight;
use status::Repair;
use table::{NONE, Table};

pub use local::BLACKHOLE_METRIC;

/// A next hop as the kernel takes it: one nexthop object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hop {
    /// Gateway address; may be IPv6 for IPv4 routes (RFC 8950).
    pub gateway: IpAddr,
    /// Outgoing interface.
    pub ifindex: u32,
    /// The gateway is on link although no subnet of the interface covers it.
    pub onlink: bool,
}

/// What identifies a route to the kernel, with the protocol that marks it as ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteKey {
    /// Destination.
    pub prefix: IpNet,
    /// Table number.
    pub table: u32,
    /// Priority.
    pub metric: u32,
    /// `rtm_protocol`.
    pub protocol: u8,
}

/// One netlink message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Create a nexthop object; with `replace`, give an existing one back its content.
    Nexthop {
        /// `NHA_ID`.
        id: u32,
        /// Where it leads.
        hop: Hop,
        /// It exists.
        replace: bool,
    },
    /// Create or replace a group.
    Group {
        /// `NHA_ID`.
        id: u32,
        /// Ids of nexthop objects.
        members: SmallVec<[u32; 4]>,
        /// It exists.
        replace: bool,
    },
    /// Delete a nexthop object or group that nothing uses.
    DeleteNexthop {
        /// `NHA_ID`.
        id: u32,
    },
    /// Create a route, or replace one of ours.
    Route {
        /// Which.
        key: RouteKey,
        /// `RTA_NH_ID`.
        group: u32,
        /// It exists and is ours.
        replace: bool,
    },
    /// Create a blackhole.
    Blackhole {
        /// Which.
        key: RouteKey,
    },
    /// Delete a route of ours.
    DeleteRoute {
        /// Which.
        key: RouteKey,
        /// Only if it is a blackhole.
        blackhole: bool,
    },
}

/// The kernel said no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Positive errno.
    pub errno: i32,
    /// The kernel's own words (extended acknowledgement), may be empty.
    pub text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", std::io::Error::from_raw_os_error(self.errno))?;
        if self.text.is_empty() { Ok(()) } else { write!(f, ": {}", self.text) }
    }
}

/// Something for the speaker, or for the driver to ask the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Everything up to `seq` is in the kernel, except what is named.
    Installed {
        /// `RibEvent::Changes::seq`.
        seq: u64,
        /// Not in the kernel as wanted. When one of them is later, it follows as [`Note::Reassert`].
        failed: Vec<PrefixId>,
    },
    /// A next hop became resolvable or ceased to be.
    NexthopChanged(FibNexthop, bool),
    /// Routes are lost whose prefixes are not known here: send everything wanted again.
    Resend,
    /// Send what is wanted for this prefix again.
    Reassert(IpNet),
    /// Compare nexthop objects with what is thought to be there (answer: [`Fib::reconcile`]).
    Verify,
    /// See what route occupies this prefix (answer: [`Fib::inspected`]).
    Inspect(IpNet),
    /// The picture of the kernel is not to be trusted: read everything (answer: [`Fib::restart`]).
    Resync,
}

/// A route to remove that no prefix id stands for: found at start and not wanted, or under a former key.
#[derive(Clone, Copy, Debug)]
struct Stray {
    key: RouteKey,
    group: u32,
    attempts: u32,
}

/// A refused request of one prefix.
#[derive(Clone, Debug)]
struct Failure {
    refusal: Refusal,
    since: Instant,
    attempts: u32,
    retry_at: Instant,
    /// Another's route has the key: its protocol, once known.
    foreign: Option<Option<u8>>,
}

/// Prefixes queued before the RIB has to wait: four batches, some ten milliseconds of kernel time.
const QUEUE: usize = 8 * 1024;

/// The pure core. See the module's head.
#[derive(Debug)]
pub struct Fib {
    install: Install,
    numbers: Numbers,
    table: Table,
    groups: Groups,
    /// Found at start and not claimed by a wish yet: the group in use.
    adopted: FxHashMap<IpNet, u32>,
    /// Our routes under a table, metric or protocol we no longer use; removed with the sweep.
    former: Vec<Stray>,
    strays: VecDeque<Stray>,
    stray_retry: Vec<(Instant, Stray)>,
    /// Nexthop objects of ours that are not in a form we make; removed when no route can be on them.
    leftovers: Vec<u32>,
    plain_users: u32,
    /// Routes taken away or overwritten by others: what is there now, and who did it.
    suspects: FxHashMap<IpNet, (u32, String)>,
    failures: FxHashMap<u32, Failure>,
    timers: BTreeSet<(Instant, u32)>,
    /// Oldest first; at most two.
    in_flight: VecDeque<InFlight>,
    /// Sequence numbers to confirm once the queue has been worked off to a position.
    marks: VecDeque<(u64, u64)>,
    /// To be named as failed by the next confirmation.
    unconfirmed: FxHashSet<PrefixId>,
    /// The kernel's state is unknown: nothing is written until everything has been read anew.
    stalled: bool,
    /// Between `NexthopsDown` and `NexthopsSettled`.
    holding: bool,
    /// A complete list has been asked for; until it has come nothing is confirmed or swept.
    resend: Resend,
    converged: bool,
    blackholes: Blackholes,
    notes: Vec<Note>,
    repairs: VecDeque<Repair>,
    repaired: u64,
    resyncs: u64,
    drift: u64,
}

/// State of a complete list of wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resend {
    No,
    /// Asked for because a group died.
    Asked {
        begun: bool,
    },
    /// Asked for because everything was read anew: nothing of before can be confirmed until it is complete.
    Restart {
        begun: bool,
    },
}

impl Fib {
    /// An empty one; what the kernel has comes with [`Fib::adopt`].
    pub fn new(install: Install) -> Self {
        Self {
            blackholes: Blackholes::new(&install),
            numbers: Numbers::of(&install),
            install,
            table: Table::default(),
            groups: Groups::default(),
            adopted: FxHashMap::default(),
            former: Vec::new(),
            strays: VecDeque::new(),
            stray_retry: Vec::new(),
            leftovers: Vec::new(),
            plain_users: 0,
            suspects: FxHashMap::default(),
            failures: FxHashMap::default(),
            timers: BTreeSet::new(),
            in_flight: VecDeque::new(),
            marks: VecDeque::new(),
            unconfirmed: FxHashSet::default(),
            stalled: false,
            holding: false,
            resend: Resend::No,
            converged: false,
            notes: Vec::new(),
            repairs: VecDeque::new(),
            repaired: 0,
            resyncs: 0,
            drift: 0,
        }
    }

    /// The blackholes wanted: all of them, each time.
    pub fn set_blackholes(&mut self, prefixes: BTreeSet<IpNet>) {
        self.blackholes.want(prefixes);
    }

    /// Every blackhole wanted is in the kernel or refused by it, every other is gone or cannot be removed.
    pub fn blackholes_settled(&self) -> bool {
        self.blackholes.settled()
    }

    /// What has happened since the last call.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// A batch is on its way to the kernel.
    pub fn is_writing(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Nothing is queued, in flight or to be swept: the kernel holds what is thought to be there. Prefixes that
    /// wait for a next hop, or for another's route to go, may remain.
    pub fn is_quiet(&self) -> bool {
        self.in_flight.is_empty() && self.table.queue_is_empty() && self.strays.is_empty() && !self.stalled
    }

    /// Whether more changes are welcome. What the kernel has not been told of stays with the RIB, where a waiting
    /// prefix costs 4 octets instead of 60 and is told at its latest state.
    pub fn has_room(&self) -> bool {
        self.table.queue_len() < QUEUE
    }

    /// Protocol, table and metric in use.
    pub fn install(&self) -> &Install {
        &self.install
    }

    /// Protocol numbers routes of ours may carry.
    pub fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// Routes of ours may also carry these: their routes are removed with the sweep.
    pub fn add_numbers(&mut self, numbers: &Numbers) {
        self.numbers = std::mem::take(&mut self.numbers).and(numbers);
    }

    /// Forgets the numbers of earlier configurations once nothing that carries them is left; true if there were any.
    pub fn forget_former_numbers(&mut self) -> bool {
        let current = Numbers::of(&self.install);
        let done = self.numbers != current
            && self.swept()
            && self.leftovers.is_empty()
            && self.in_flight.is_empty()
            && self.blackholes.swept();
        if done {
            self.numbers = current;
        }
        done
    }

    fn key(&self, prefix: IpNet) -> RouteKey {
        let Install { table, metric, protocol, .. } = self.install;
        RouteKey { prefix, table, metric, protocol }
    }

    fn is_dead(&self, group: u32) -> bool {
        self.groups.groups.get(group).is_some_and(|group| group.state == GroupState::Dead)
    }

    fn serves(&self, group: u32, set: u32) -> bool {
        let serves = |group: &groups::Group| group.state == GroupState::Live && group.label == Some(set);
        self.groups.groups.get(group).is_some_and(serves)
    }

    fn add_users(&mut self, group: u32, prefix: IpNet, by: i32) {
        match group {
            NONE => {}
            table::PLAIN => self.plain_users = self.plain_users.saturating_add_signed(by),
            group => self.groups.add_users(group, prefix, by),
        }
    }
}
