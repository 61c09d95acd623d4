//! UPDATE as values, and the encoders for routes.
//!
//! What RFC 7606 decides about received octets is in `walk`; what is written is in `encode`.

use std::fmt;

use ipnet::{Ipv4Net, Ipv6Net};

pub use super::encode::{encode_end_of_rib, encode_reach, encode_unreach};
use super::{AfiSafi, Nexthop, PathAttributes};

/// A decoded UPDATE after RFC 7606: what to take, what to withdraw, and what was wrong with it.
/// Withdraw first, then announce: a prefix in both is announced (RFC 4271 section 4.3).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Update {
    /// Announced prefixes: one entry for MP_REACH_NLRI and one for the NLRI field, none of them empty.
    /// `attributes` is `Some` when not empty.
    pub reach: Vec<Reach>,
    /// Withdrawn prefixes (including those of a treat-as-withdraw); at most one entry for each family.
    pub unreach: Vec<Nlri>,
    /// Attributes of everything in `reach`.
    pub attributes: Option<PathAttributes>,
    /// End-of-RIB marker for a family (RFC 4724 section 2).
    pub end_of_rib: Option<AfiSafi>,
    /// What RFC 7606 asked to discard or withdraw, with the reason; empty for a clean message.
    pub faults: Vec<AttributeFault>,
}

impl Update {
    /// How many prefixes are announced or withdrawn.
    pub fn prefix_count(&self) -> usize {
        let announced = self.reach.iter().map(|reach| &reach.nlri);
        announced.chain(&self.unreach).map(Nlri::len).sum()
    }
}

/// Announced prefixes of one family with their next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The next hop.
    pub nexthop: Nexthop,
    /// The prefixes, masked.
    pub nlri: Nlri,
}

/// Prefixes of one family, host bits cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nlri {
    /// AFI 1, SAFI 1.
    V4(Vec<Ipv4Net>),
    /// AFI 2, SAFI 1.
    V6(Vec<Ipv6Net>),
}

/// One thing wrong with an UPDATE that does not end the session (RFC 7606 section 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeFault {
    /// Attribute type code; 0 when the message as a whole is meant.
    pub attribute: u8,
    /// What was done.
    pub action: FaultAction,
    /// Why, in words, with the offending value.
    pub reason: String,
}

impl fmt::Display for AttributeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = match self.action {
            FaultAction::DiscardAttribute => "attribute discarded",
            FaultAction::TreatAsWithdraw => "routes withdrawn",
        };
        write!(f, "{} ({done})", self.reason)
    }
}

/// Reaction short of a session reset, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultAction {
    /// The attribute was dropped, the routes taken.
    DiscardAttribute,
    /// The routes were withdrawn.
    TreatAsWithdraw,
}
