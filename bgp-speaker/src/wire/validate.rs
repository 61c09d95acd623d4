//! What each known attribute must look like, and what RFC 7606 section 7 asks when it does not.

use std::borrow::Cow;

use super::attributes::{code, flag};
use super::{Codec, FaultAction, as_path, zetta};

/// Communities of one kind that are more than anyone needs: routes with more are withdrawn.
pub(super) const MAX_COMMUNITIES: usize = 1000;

/// What the Optional and Transitive bits must say (RFC 4271 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Category {
    WellKnown,
    OptionalTransitive,
    OptionalNonTransitive,
}

impl Category {
    pub(super) fn flags(self) -> u8 {
        match self {
            Self::WellKnown => flag::TRANSITIVE,
            Self::OptionalTransitive => flag::OPTIONAL | flag::TRANSITIVE,
            Self::OptionalNonTransitive => flag::OPTIONAL,
        }
    }

    /// RFC 7606 section 3 c: only these two bits can be in conflict.
    pub(super) fn agrees(self, flags: u8) -> bool {
        flags & (flag::OPTIONAL | flag::TRANSITIVE) == self.flags()
    }

    /// Flags the attribute has in the block: Partial stays once set, and only has a meaning here.
    pub(super) fn canonical(self, flags: u8) -> u8 {
        match self {
            Self::OptionalTransitive => self.flags() | flags & flag::PARTIAL,
            Self::WellKnown | Self::OptionalNonTransitive => self.flags(),
        }
    }
}

/// Category of an attribute this speaker knows; `None`: unknown.
pub(super) fn category(attribute: u8) -> Option<Category> {
    Some(match attribute {
        code::ORIGIN | code::AS_PATH | code::NEXT_HOP | code::LOCAL_PREF | code::ATOMIC_AGGREGATE => {
            Category::WellKnown
        }
        code::AGGREGATOR
        | code::COMMUNITIES
        | code::EXTENDED_COMMUNITIES
        | code::AS4_PATH
        | code::AS4_AGGREGATOR
        | code::LARGE_COMMUNITY
        | code::OTC => Category::OptionalTransitive,
        code::MULTI_EXIT_DISC
        | code::ORIGINATOR_ID
        | code::CLUSTER_LIST
        | code::MP_REACH_NLRI
        | code::MP_UNREACH_NLRI => Category::OptionalNonTransitive,
        _ => return None,
    })
}

/// Name for logs.
pub(super) fn name(attribute: u8) -> &'static str {
    match attribute {
        code::ORIGIN => "ORIGIN",
        code::AS_PATH => "AS_PATH",
        code::NEXT_HOP => "NEXT_HOP",
        code::MULTI_EXIT_DISC => "MULTI_EXIT_DISC",
        code::LOCAL_PREF => "LOCAL_PREF",
        code::ATOMIC_AGGREGATE => "ATOMIC_AGGREGATE",
        code::AGGREGATOR => "AGGREGATOR",
        code::COMMUNITIES => "COMMUNITIES",
        code::ORIGINATOR_ID => "ORIGINATOR_ID",
        code::CLUSTER_LIST => "CLUSTER_LIST",
        code::MP_REACH_NLRI => "MP_REACH_NLRI",
        code::MP_UNREACH_NLRI => "MP_UNREACH_NLRI",
        code::EXTENDED_COMMUNITIES => "EXTENDED_COMMUNITIES",
        code::AS4_PATH => "AS4_PATH",
        code::AS4_AGGREGATOR => "AS4_AGGREGATOR",
        code::LARGE_COMMUNITY => "LARGE_COMMUNITY",
        code::OTC => "OTC",
        _ => "unknown attribute",
    }
}

/// What is wrong with an attribute and what to do about it.
pub(super) type Fault = (FaultAction, Cow<'static, str>);

/// An attribute that this session must not carry is dropped before its flags or value matter.
pub(super) fn out_of_place(attribute: u8, codec: &Codec) -> Option<&'static str> {
    match attribute {
        // RFC 7606 sections 7.5, 7.9 and 7.10.
        code::LOCAL_PREF | code::ORIGINATOR_ID | code::CLUSTER_LIST if codec.ebgp => {
            Some("it does not belong on an external session")
        }
        // RFC 6793 section 3.
        code::AS4_PATH | code::AS4_AGGREGATOR if codec.four_octet_as => {
            Some("it does not belong on a session with 4-octet AS numbers")
        }
        _ => None,
    }
}

/// Checks length and value of a known attribute other than MP_REACH_NLRI and MP_UNREACH_NLRI.
pub(super) fn check(attribute: u8, value: &[u8], codec: &Codec) -> Result<(), Fault> {
    let withdraw = |reason: Cow<'static, str>| Err((FaultAction::TreatAsWithdraw, reason));
    let discard = |reason: Cow<'static, str>| Err((FaultAction::DiscardAttribute, reason));
    let length = value.len();
    match attribute {
        code::ORIGIN if length != 1 => withdraw(expected(length, "1")),
        code::ORIGIN if zetta::origin(value).is_none() => {
            withdraw(format!("value {} is undefined", value.first().unwrap_or(&0)).into())
        }
        code::AS_PATH => {
            let checked =
                if codec.four_octet_as { as_path::check::<4>(value) } else { as_path::check::<2>(value) };
            checked.or_else(withdraw)
        }
        code::NEXT_HOP | code::MULTI_EXIT_DISC | code::LOCAL_PREF | code::ORIGINATOR_ID | code::OTC
            if length != 4 =>
        {
            withdraw(expected(length, "4"))
        }
        code::ATOMIC_AGGREGATE if length != 0 => discard(expected(length, "0")),
        code::AGGREGATOR => aggregator(value, codec.four_octet_as).or_else(discard),
        code::AS4_AGGREGATOR => aggregator(value, true).or_else(discard),
        code::COMMUNITIES => list(length, 4).or_else(withdraw),
        code::CLUSTER_LIST => list(length, 4).or_else(withdraw),
        code::EXTENDED_COMMUNITIES => list(length, 8).or_else(withdraw),
        code::LARGE_COMMUNITY => list(length, 12).or_else(withdraw),
        // RFC 6793 section 6: the attribute alone is dropped, its confederation segments even quietly.
        code::AS4_PATH => as_path::check::<4>(&as_path::without_confederation(value))
            .and_then(|()| as_path::check_structure(value))
            .or_else(discard),
        _ => Ok(()),
    }
}

fn expected(length: usize, right: &str) -> Cow<'static, str> {
    format!("length {length} instead of {right}").into()
}

/// RFC 7606 section 7.7; AS 0 is malformed too (RFC 7607).
fn aggregator(value: &[u8], four_octet: bool) -> Result<(), Cow<'static, str>> {
    let asn = match value {
        [asn @ .., _, _, _, _] if asn.len() == if four_octet { 4 } else { 2 } => asn,
        _ => return Err(expected(value.len(), if four_octet { "8" } else { "6" })),
    };
    if asn.iter().all(|&octet| octet == 0) {
        return Err("it names AS 0".into());
    }
    Ok(())
}

/// RFC 7606 sections 7.8, 7.10 and 7.14, RFC 8092 section 6: a non-zero multiple.
fn list(length: usize, unit: usize) -> Result<(), Cow<'static, str>> {
    if length == 0 || !length.is_multiple_of(unit) {
        return Err(format!("length {length} is no multiple of {unit} above 0").into());
    }
    if length / unit > MAX_COMMUNITIES {
        return Err(format!("{} entries, more than {MAX_COMMUNITIES}", length / unit).into());
    }
    Ok(())
}
