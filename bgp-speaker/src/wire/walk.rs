//! Reading an UPDATE (RFC 4271 sections 4.3 and 6.3, RFC 7606).
//!
//! The three fields are located by their lengths first, so that a broken attribute never hides the
//! prefixes it came with. Then each attribute is taken, discarded, or turns the message into a withdrawal;
//! only where prefixes cannot be told any more does the session end.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use hashbrown::HashSet;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use super::attributes::{RawAttribute, code, flag, split_attribute};
use super::nlri::{OtherFamily, Unreadable, is_martian, mp_reach, mp_unreach};
use super::validate::{category, check, name, out_of_place};
use super::{AS_TRANS, AfiSafi, AttributeFault, Codec, ErrorCode, FaultAction, MessageError, Nexthop, Nlri};
use super::{PathAttributes, Reach, Update, as_path};

/// Faults reported for one message: enough to name the cause, however many a hostile peer packs into it.
const MAX_FAULTS: usize = 16;

/// UPDATE Message Error.
fn error(subcode: u8, data: &[u8]) -> MessageError {
    MessageError::new(ErrorCode::Update, subcode, data)
}

/// Reads the body of an UPDATE.
///
/// # Errors
/// 3/1 when the fields do not fit the message, MP_REACH_NLRI or MP_UNREACH_NLRI comes twice, or nothing says
/// which routes a broken message is about; 3/2 for an unknown well-known attribute; 3/9 when MP_REACH_NLRI or
/// MP_UNREACH_NLRI cannot be read; 3/10 for prefixes that cannot be read.
pub(super) fn decode(body: &[u8], codec: &Codec) -> Result<Update, MessageError> {
    let (withdrawn, attributes, announced) = fields(body).ok_or_else(|| error(1, &[]))?;
    let prefixes = |octets| Nlri::decode(AfiSafi::Ipv4Unicast, octets).map_err(|Unreadable| error(10, &[]));
    let (withdrawn, announced) = (prefixes(withdrawn)?, prefixes(announced)?);
    if attributes.is_empty() && withdrawn.is_empty() && announced.is_empty() {
        let end_of_rib = Some(AfiSafi::Ipv4Unicast).filter(|family| codec.families.contains(family));
        return Ok(Update { end_of_rib, ..Update::default() });
    }
    let mut walk = Walk::new(codec);
    walk.run(attributes)?;
    walk.finish(withdrawn, announced)
}

/// Withdrawn Routes, Path Attributes, NLRI; `None` when their lengths do not fit (RFC 7606 section 3 b).
fn fields(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (length, rest) = body.split_first_chunk::<2>()?;
    let (withdrawn, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (attributes, nlri) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((withdrawn, attributes, nlri))
}

/// An attribute for the block; owned where it is not as it came.
struct Kept<'a> {
    flags: u8,
    code: u8,
    value: Cow<'a, [u8]>,
}

impl Kept<'_> {
    fn raw(&self) -> RawAttribute<'_> {
        RawAttribute { flags: self.flags, code: self.code, value: &self.value }
    }
}

/// Type codes met so far.
#[derive(Default)]
struct Seen([u128; 2]);

impl Seen {
    fn contains(&self, code: u8) -> bool {
        let [low, high] = self.0;
        (if code < 128 { low } else { high }) >> (code % 128) & 1 == 1
    }

    fn insert(&mut self, code: u8) {
        let [low, high] = &mut self.0;
        *(if code < 128 { low } else { high }) |= 1 << (code % 128);
    }
}

/// What the attributes said so far.
struct Walk<'a> {
    codec: &'a Codec,
    seen: Seen,
    kept: SmallVec<[Kept<'a>; 12]>,
    next_hop: Option<Ipv4Addr>,
    reach: Option<(Nexthop, Nlri)>,
    unreach: Option<Nlri>,
    as4_path: Option<&'a [u8]>,
    as4_aggregator: Option<&'a [u8]>,
    /// Prefixes of a family this session does not carry were announced, and ignored.
    other_family: bool,
    /// Something other than MP_UNREACH_NLRI was there.
    beyond_unreach: bool,
    withdraw: bool,
    faults: Vec<AttributeFault>,
}

impl<'a> Walk<'a> {
    fn new(codec: &'a Codec) -> Self {
        Self {
            codec,
            seen: Seen::default(),
            kept: SmallVec::new(),
            next_hop: None,
            reach: None,
            unreach: None,
            as4_path: None,
            as4_aggregator: None,
            other_family: false,
            beyond_unreach: false,
            withdraw: false,
            faults: Vec::new(),
        }
    }

    fn fault(&mut self, attribute: u8, action: FaultAction, reason: &str) {
        self.withdraw |= action == FaultAction::TreatAsWithdraw;
        if self.faults.len() < MAX_FAULTS {
            let subject = if attribute == 0 { "UPDATE" } else { name(attribute) };
            let reason = match category(attribute) {
                None if attribute != 0 => format!("{subject} {attribute}: {reason}"),
                _ => format!("{subject}: {reason}"),
            };
            self.faults.push(AttributeFault { attribute, action, reason });
        }
    }

    fn run(&mut self, attributes: &'a [u8]) -> Result<(), MessageError> {
        let mut rest = attributes;
        while !rest.is_empty() {
            let Some((attribute, tail)) = split_attribute(rest) else {
                return self.cut_short(rest);
            };
            let octets = rest.get(..rest.len() - tail.len()).unwrap_or_default();
            self.attribute(attribute, octets)?;
            rest = tail;
        }
        Ok(())
    }

    /// The last attribute runs past the end (RFC 7606 section 4): the routes are withdrawn, unless it is one
    /// that carries routes, which then nobody knows (section 3 j).
    fn cut_short(&mut self, rest: &[u8]) -> Result<(), MessageError> {
        let attribute = rest.get(1).copied().unwrap_or(0);
        if matches!(attribute, code::MP_REACH_NLRI | code::MP_UNREACH_NLRI) {
            return Err(error(1, &[]));
        }
        self.beyond_unreach = true;
        let reason = format!("it runs past the end of the path attributes, {} octets are left", rest.len());
        self.fault(attribute, FaultAction::TreatAsWithdraw, &reason);
        Ok(())
    }

    /// `octets` is the attribute with its header: the data of a NOTIFICATION.
    fn attribute(&mut self, raw: RawAttribute<'a>, octets: &[u8]) -> Result<(), MessageError> {
        self.beyond_unreach |= raw.code != code::MP_UNREACH_NLRI;
        if self.seen.contains(raw.code) {
            // RFC 7606 section 3 g.
            if matches!(raw.code, code::MP_REACH_NLRI | code::MP_UNREACH_NLRI) {
                return Err(error(1, &[]));
            }
            self.fault(raw.code, FaultAction::DiscardAttribute, "it came before, the first one counts");
            return Ok(());
        }
        self.seen.insert(raw.code);
        let Some(category) = category(raw.code) else {
            return self.unknown(raw, octets);
        };
        if let Some(reason) = out_of_place(raw.code, self.codec) {
            self.fault(raw.code, FaultAction::DiscardAttribute, reason);
            return Ok(());
        }
        let agrees = category.agrees(raw.flags);
        if !agrees {
            let reason = format!("flags {:#04x} conflict with its definition", raw.flags);
            self.fault(raw.code, FaultAction::TreatAsWithdraw, &reason);
        }
        match raw.code {
            // Read whatever the flags say: the routes to withdraw are in there.
            code::MP_REACH_NLRI => return self.mp_reach(raw.value, octets),
            code::MP_UNREACH_NLRI => return self.mp_unreach(raw.value, octets),
            _ if !agrees => return Ok(()),
            _ => {}
        }
        match check(raw.code, raw.value, self.codec) {
            Ok(()) => self.keep(RawAttribute { flags: category.canonical(raw.flags), ..raw }),
            Err((action, reason)) => self.fault(raw.code, action, &reason),
        }
        Ok(())
    }

    /// RFC 4271 sections 5 and 6.3.
    fn unknown(&mut self, raw: RawAttribute<'a>, octets: &[u8]) -> Result<(), MessageError> {
        if raw.flags & flag::OPTIONAL == 0 {
            return Err(error(2, octets));
        }
        if raw.flags & flag::TRANSITIVE != 0 {
            let flags = flag::OPTIONAL | flag::TRANSITIVE | flag::PARTIAL;
            self.kept.push(Kept { flags, code: raw.code, value: raw.value.into() });
        }
        Ok(())
    }

    fn mp_reach(&mut self, value: &[u8], octets: &[u8]) -> Result<(), MessageError> {
        match mp_reach(value, self.codec).map_err(|Unreadable| error(9, octets))? {
            Ok((nexthop, nlri)) => {
                if is_martian(nexthop.address) && !nlri.is_empty() {
                    let reason = format!("next hop {} is not a host's address", nexthop.address);
                    self.fault(code::MP_REACH_NLRI, FaultAction::TreatAsWithdraw, &reason);
                }
                self.reach = Some((nexthop, nlri)).filter(|(_, nlri)| !nlri.is_empty());
            }
            Err(family) => {
                self.other_family = true;
                self.not_negotiated(code::MP_REACH_NLRI, family);
            }
        }
        Ok(())
    }

    fn mp_unreach(&mut self, value: &[u8], octets: &[u8]) -> Result<(), MessageError> {
        match mp_unreach(value, self.codec).map_err(|Unreadable| error(9, octets))? {
            Ok(nlri) => self.unreach = Some(nlri),
            Err(family) => self.not_negotiated(code::MP_UNREACH_NLRI, family),
        }
        Ok(())
    }

    fn not_negotiated(&mut self, attribute: u8, OtherFamily { afi, safi }: OtherFamily) {
        let reason = format!("AFI {afi} SAFI {safi} is not part of this session");
        self.fault(attribute, FaultAction::DiscardAttribute, &reason);
    }

    /// A checked attribute goes where it belongs.
    fn keep(&mut self, raw: RawAttribute<'a>) {
        let RawAttribute { flags, code, value } = raw;
        let value: Cow<'a, [u8]> = match (code, value) {
            (code::NEXT_HOP, &[a, b, c, d]) => {
                self.next_hop = Some(Ipv4Addr::new(a, b, c, d));
                return;
            }
            (code::AS4_PATH, _) => {
                self.as4_path = Some(value);
                return;
            }
            (code::AS4_AGGREGATOR, _) => {
                self.as4_aggregator = Some(value);
                return;
            }
            (code::AS_PATH, _) if !self.codec.four_octet_as => as_path::widen(value).into(),
            (code::AGGREGATOR, _) if !self.codec.four_octet_as => [&[0, 0], value].concat().into(),
            (code::LARGE_COMMUNITY, _) => without_repeats(value),
            _ => value.into(),
        };
        self.kept.push(Kept { flags, code, value });
    }

    /// AS4_PATH and AS4_AGGREGATOR of a 2-octet peer (RFC 6793 section 4.2.3).
    fn merge_as4(&mut self) {
        let trans = u32::from(AS_TRANS).to_be_bytes();
        if let Some(as4_aggregator) = self.as4_aggregator
            && let Some(aggregator) = self.kept.iter_mut().find(|kept| kept.code == code::AGGREGATOR)
        {
            if !aggregator.value.starts_with(&trans) {
                // Someone who knows only two octets aggregated later: both AS4 attributes are stale.
                return;
            }
            aggregator.value = as4_aggregator.into();
        }
        if let Some(as4_path) = self.as4_path
            && let Some(path) = self.kept.iter_mut().find(|kept| kept.code == code::AS_PATH)
            && let Some(merged) = as_path::merge(&path.value, &as_path::without_confederation(as4_path))
            // Sets count one, so that two paths within the limit can make one that is not.
            && as_path::check::<4>(&merged).is_ok()
        {
            path.value = merged.into();
        }
    }

    /// What announced routes must have (RFC 7606 section 3 d, RFC 4271 section 6.3).
    fn require_mandatory(&mut self, legacy: bool) {
        for attribute in [code::ORIGIN, code::AS_PATH, code::NEXT_HOP] {
            if !self.seen.contains(attribute) && (legacy || attribute != code::NEXT_HOP) {
                self.fault(attribute, FaultAction::TreatAsWithdraw, "it is missing");
            }
        }
        if let Some(address) = self.next_hop.filter(|&address| legacy && is_martian(IpAddr::V4(address))) {
            let reason = format!("{address} is not a host's address");
            self.fault(code::NEXT_HOP, FaultAction::TreatAsWithdraw, &reason);
        }
    }

    fn finish(mut self, withdrawn: Nlri, announced: Nlri) -> Result<Update, MessageError> {
        let (withdrawn, announced) = self.without_unnegotiated_ipv4(withdrawn, announced);
        let announces = self.reach.is_some() || !announced.is_empty();
        if announces {
            self.require_mandatory(!announced.is_empty());
        } else if self.withdraw && self.beyond_unreach && !self.other_family {
            // RFC 7606 section 5.2: nobody knows which routes the broken message is about.
            return Err(error(1, &[]));
        }
        let ends = !self.beyond_unreach && withdrawn.is_empty();
        let end_of_rib =
            self.unreach.as_ref().filter(|nlri| ends && !announces && nlri.is_empty()).map(Nlri::family);

        let mut unreach = Vec::new();
        withdraw(&mut unreach, withdrawn);
        if let Some(nlri) = self.unreach.take() {
            withdraw(&mut unreach, nlri);
        }
        let mut update = Update { end_of_rib, ..Update::default() };
        if self.withdraw {
            withdraw(&mut unreach, announced);
            if let Some((_, nlri)) = self.reach.take() {
                withdraw(&mut unreach, nlri);
            }
        } else if announces {
            if let Some((nexthop, nlri)) = self.reach.take() {
                update.reach.push(Reach { nexthop, nlri });
            }
            if let Some(address) = self.next_hop.filter(|_| !announced.is_empty()) {
                update.reach.push(Reach { nexthop: IpAddr::V4(address).into(), nlri: announced });
            }
            update.attributes = Some(self.block());
        }
        update.unreach = unreach;
        update.faults = self.faults;
        Ok(update)
    }

    /// The fields of RFC 4271 mean IPv4 unicast, which the session may not carry.
    fn without_unnegotiated_ipv4(&mut self, withdrawn: Nlri, announced: Nlri) -> (Nlri, Nlri) {
        if self.codec.families.contains(&AfiSafi::Ipv4Unicast) || withdrawn.is_empty() && announced.is_empty()
        {
            return (withdrawn, announced);
        }
        self.other_family |= !announced.is_empty();
        self.fault(0, FaultAction::DiscardAttribute, "IPv4 prefixes are not part of this session");
        (Nlri::V4(Vec::new()), Nlri::V4(Vec::new()))
    }

    fn block(&mut self) -> PathAttributes {
        if !self.codec.four_octet_as {
            self.merge_as4();
        }
        if !self.kept.is_sorted_by_key(|kept| kept.code) {
            self.kept.sort_unstable_by_key(|kept| kept.code);
        }
        PathAttributes::from_sorted(self.kept.iter().map(Kept::raw))
    }
}

/// Adds prefixes to the list of their family; IPv4 comes first, as it does in the message.
fn withdraw(unreach: &mut Vec<Nlri>, nlri: Nlri) {
    if nlri.is_empty() {
        return;
    }
    let mut rest = Some(nlri);
    for list in unreach.iter_mut() {
        rest = rest.and_then(|nlri| list.append(nlri).err());
    }
    match rest {
        Some(nlri @ Nlri::V4(_)) => unreach.insert(0, nlri),
        other => unreach.extend(other),
    }
}

/// RFC 8092 section 5: a repeated Large Community counts once.
fn without_repeats(value: &[u8]) -> Cow<'_, [u8]> {
    let entries = value.as_chunks::<12>().0;
    if entries.len() < 2 {
        return value.into();
    }
    let mut seen = HashSet::with_capacity_and_hasher(entries.len(), FxBuildHasher);
    if entries.iter().all(|entry| seen.insert(entry)) {
        return value.into();
    }
    seen.clear();
    let unique: Vec<[u8; 12]> = entries.iter().filter(|entry| seen.insert(entry)).copied().collect();
    unique.into_flattened().into()
}
