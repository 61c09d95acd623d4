//! The routing information bases (RFC 4271 section 3.2) as one value: Adj-RIB-In, Loc-RIB, Adj-RIB-Out.
//!
//! In: updates and session changes, in the order they happened. Out: [`BestChange`]s for whoever installs
//! routes, and encoded UPDATEs pulled by peers. No I/O, no clock, no runtime.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use smallvec::SmallVec;

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
