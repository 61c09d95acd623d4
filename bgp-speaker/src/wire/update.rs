//! UPDATE: the walk, RFC 7606's verdicts, and the encoder.

use ipnet::{Ipv4Net, Ipv6Net};

use super::{AfiSafi, Nexthop, PathAttributes};

/// A decoded UPDATE after RFC 7606: what to take, what to withdraw, and what was wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Update {
    /// Announced prefixes; at most one entry for each family. `attributes` is `Some` when not empty.
    pub reach: Vec<Reach>,
    /// Withdrawn prefixes (including those of a treat-as-withdraw).
    pub unreach: Vec<Nlri>,
    /// Attributes of everything in `reach`.
    pub attributes: Option<PathAttributes>,
    /// End-of-RIB marker for a family (RFC 4724 section 2).
    pub end_of_rib: Option<AfiSafi>,
    /// What RFC 7606 asked to discard or withdraw, with the reason; empty for a clean message.
    pub faults: Vec<AttributeFault>,
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

/// Reaction short of a session reset, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultAction {
    /// The attribute was dropped, the routes taken.
    DiscardAttribute,
    /// The routes were withdrawn.
    TreatAsWithdraw,
}
