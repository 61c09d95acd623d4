//! The routing information bases (RFC 4271 section 3.2) as one value: Adj-RIB-In, Loc-RIB, Adj-RIB-Out.
//!
//! In: updates and session changes, in the order they happened. Out, both pulled: [`RibEvent`]s for whoever
//! installs routes ([`Rib::next_event`]), and [`OutboundBatch`]es for each peer ([`Rib::next_updates`]). What is
//! pulled late is told once, at its latest state, so nothing queues here. No I/O, no clock, no runtime.
//!
//! ```text
//!  apply, peer_down, sweep  -> adj_in    paths of peers, verdicts (filter.rs)
//!  nexthop_changed          -> loc_rib   decision, forwarding set  -> fib_queue -> next_event
//!  set_originated           -> originate                           -> adj_out   -> next_updates (output)
//! ```

mod adj_in;
mod adj_out;
mod batch;
mod decision;
mod export;
mod fib_queue;
mod intern;
mod loc_rib;
mod originate;
mod output;
mod path;
mod peer;
mod session;
mod slab;
mod table;
mod view;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;
use rustc_hash::FxHashSet;
use smallvec::SmallVec;

pub use batch::OutboundBatch;
pub use decision::{Candidate, Decision, Step, decide, explain};
pub use export::{OutboundNexthop, OutboundUpdate, PeerExport};
pub use originate::{Origination, Originations};
pub use path::Verdict;
pub use peer::{PeerSession, PeerSettings};
pub use session::SettingsEffect;
pub use view::{AdvertisedView, BestView, Counts, PathState, RouteView, Source};

use crate::filter::ImportFilter;
use crate::wire::AfiSafi;
use adj_out::UpdateGroup;
use fib_queue::FibQueue;
use intern::{AttributeTable, SetTable};
use peer::PeerState;
use table::PrefixTable;

/// What holds for the whole RIB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RibConfig {
    /// Largest ECMP width, at least 1.
    pub max_paths: u16,
    /// The node's AS number.
    pub local_asn: u32,
    /// BGP Identifier.
    pub router_id: Ipv4Addr,
    /// A learned route is announced only once the FIB has confirmed it.
    pub advertise_after_install: bool,
    /// Accept every valid route and re-advertise the best ones.
    pub transit: bool,
    /// This cluster's pod ranges.
    pub pod_ranges: Vec<IpNet>,
    /// Somebody takes [`RibEvent`]s and confirms them. Without: nothing is queued, everything counts as installed.
    pub fib: bool,
}

/// The three RIBs of one speaker.
pub struct Rib {
    config: RibConfig,
    filter: ImportFilter,
    table: PrefixTable,
    attributes: AttributeTable,
    sets: SetTable,
    /// By [`PeerId`].
    peers: Vec<Option<PeerState>>,
    groups: Vec<Option<UpdateGroup>>,
    originated: Originations,
    unreachable: FxHashSet<FibNexthop>,
    fib: FibQueue,
    /// Nothing is sent before [`Rib::release`] (RFC 4724 section 4.1).
    held: bool,
}

impl Rib {
    /// An empty RIB without peers.
    pub fn new(config: RibConfig) -> Self {
        Self {
            filter: ImportFilter { transit: config.transit, pod_ranges: config.pod_ranges.clone() },
            config,
            table: PrefixTable::default(),
            attributes: AttributeTable::new(),
            sets: SetTable::new(),
            peers: Vec::new(),
            groups: Vec::new(),
            originated: Originations::default(),
            unreachable: FxHashSet::default(),
            fib: FibQueue::default(),
            held: false,
        }
    }

    /// Prefixes in the table, those included whose removal the FIB has not confirmed.
    pub fn prefix_count(&self) -> usize {
        self.table.len()
    }

    /// The configuration in force.
    pub fn config(&self) -> &RibConfig {
        &self.config
    }
}

/// What a call found out that is not a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Limits reached, in order.
    pub limits: Vec<LimitEvent>,
}

/// `maxPrefix` of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitEvent {
    /// Whose.
    pub peer: PeerId,
    /// Family.
    pub family: AfiSafi,
    /// The limit.
    pub limit: u32,
    /// What was reached.
    pub kind: LimitKind,
}

/// What was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// `warnAt` per cent; told once until the count falls below again.
    Near,
    /// More than the limit; told at the first prefix above it. With `Restart` and `Down` the driver stops the
    /// session; with all but `Warn` the prefixes above were not taken.
    Exceeded(api::desired::MaxPrefixAction),
}

/// Dense index of a prefix in the RIB. Carried to the FIB so that it needs no prefix table of its own;
/// reused only after the FIB has confirmed the removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PrefixId(pub u32);

/// Dense index of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u16);

/// A BGP next hop as the FIB must resolve it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FibNexthop {
    /// Global or link-local address.
    pub address: IpAddr,
    /// The interface of a link-local address or of a directly connected eBGP session.
    pub ifindex: Option<u32>,
    /// May resolve over routes we installed ourselves (iBGP next hops only).
    pub recursive: bool,
}

/// An ECMP set, sorted, without duplicates, at most `max_paths` long. Interned: equal sets share one `Arc`.
pub type NexthopSet = SmallVec<[FibNexthop; 2]>;

/// One prefix whose forwarding changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BestChange {
    /// Dense index, stable while the prefix is in the RIB.
    pub id: PrefixId,
    /// The prefix.
    pub prefix: IpNet,
    /// Where packets go; `None`: not by us (withdrawn, unreachable, or originated here).
    pub nexthops: Option<Arc<NexthopSet>>,
}

/// What the router task tells the FIB, in order, on one bounded channel.
#[derive(Clone, Debug)]
pub enum RibEvent {
    /// Changes up to and including `seq`; the FIB answers with `SpeakerHandle::installed` once `seq` is in the kernel.
    Changes {
        /// Increases by one with each batch.
        seq: u64,
        /// Each prefix at most once.
        changes: Vec<BestChange>,
    },
    /// These next hops are gone with their session: take them out of every group now, before the
    /// [`RibEvent::Changes`] that follow say what each prefix uses instead.
    NexthopsDown(Vec<FibNexthop>),
    /// Those changes have all been sent: groups that still want a next hop named before get it back.
    NexthopsSettled,
    /// Start (false) and end (true) of a complete list of what is wanted, asked for by `SpeakerHandle::resend`.
    Resend {
        /// All has been sent.
        complete: bool,
    },
    /// Every peer that was alive before the start has sent End-of-RIB (or will not): stale kernel routes may go.
    Converged,
}
