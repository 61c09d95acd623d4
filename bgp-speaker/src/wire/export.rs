//! Attributes as a peer gets them: copied from the block, but for what the kind of session changes.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::attributes::{RawAttribute, code, flag};
use super::{PathAttributes, as_path};

/// Transitive bit of an extended community, zero meaning transitive (RFC 4360 section 2).
const NON_TRANSITIVE_COMMUNITY: u8 = 0x40;

/// What changes when attributes are sent (RFC 4271 section 5, RFC 4360, RFC 4456).
/// Peers with equal rules and equal codecs get equal octets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExportRules {
    /// AS put in front of the AS_PATH: our own, for external peers.
    pub prepend: Option<u32>,
    /// How often; 1 without a policy. Zero prepends nothing.
    pub prepend_count: u8,
    /// LOCAL_PREF is not sent (external peers).
    pub strip_local_pref: bool,
    /// LOCAL_PREF for a route that has none (internal peers, which require one).
    pub default_local_pref: Option<u32>,
    /// MULTI_EXIT_DISC is not sent: it came from a third AS (RFC 4271 section 5.1.4).
    pub strip_med: bool,
    /// Extended communities that end at the border of an AS are not sent (RFC 4360 section 6).
    pub strip_non_transitive: bool,
    /// ORIGINATOR_ID and CLUSTER_LIST are not sent (RFC 4456 section 8).
    pub strip_reflection: bool,
}

impl ExportRules {
    /// For a peer in another AS: `local_as` once in front; MED is kept.
    pub fn external(local_as: u32) -> Self {
        Self {
            prepend: Some(local_as),
            prepend_count: 1,
            strip_local_pref: true,
            default_local_pref: None,
            strip_med: false,
            strip_non_transitive: true,
            strip_reflection: true,
        }
    }

    /// For a peer in our AS: everything as it is, LOCAL_PREF 100 where there is none.
    pub fn internal() -> Self {
        Self { default_local_pref: Some(100), ..Self::default() }
    }

    /// The attributes in type order; NEXT_HOP when `next_hop` is given.
    pub(super) fn apply<'a>(
        &self,
        attributes: &'a PathAttributes,
        next_hop: Option<[u8; 4]>,
        four_octet_as: bool,
    ) -> Exported<'a> {
        let mut out = Exported(SmallVec::new());
        let block_pref = attributes.local_pref();
        for raw in attributes.iter() {
            match raw.code {
                code::AS_PATH => self.as_path(raw, four_octet_as, &mut out),
                code::AGGREGATOR if !four_octet_as => narrow_aggregator(raw, &mut out),
                code::LOCAL_PREF if self.strip_local_pref => {}
                code::MULTI_EXIT_DISC if self.strip_med => {}
                code::ORIGINATOR_ID | code::CLUSTER_LIST if self.strip_reflection => {}
                code::EXTENDED_COMMUNITIES if self.strip_non_transitive => {
                    let value = transitive_communities(raw.value);
                    if !value.is_empty() {
                        out.push(raw.flags, raw.code, value);
                    }
                }
                _ => out.push(raw.flags, raw.code, raw.value),
            }
        }
        if let Some(octets) = next_hop {
            out.push(flag::TRANSITIVE, code::NEXT_HOP, octets.to_vec());
        }
        if let (None, false, Some(value)) = (block_pref, self.strip_local_pref, self.default_local_pref) {
            out.push(flag::TRANSITIVE, code::LOCAL_PREF, value.to_be_bytes().to_vec());
        }
        out.0.sort_by_key(|entry| entry.1);
        out
    }

    fn as_path<'a>(&self, raw: RawAttribute<'a>, four_octet_as: bool, out: &mut Exported<'a>) {
        let path: Cow<'a, [u8]> = match self.prepend {
            Some(asn) => as_path::prepend(raw.value, asn, self.prepend_count).into(),
            None => raw.value.into(),
        };
        if four_octet_as {
            out.push(raw.flags, raw.code, path);
            return;
        }
        let (narrow, lossy) = as_path::narrow(&path);
        out.push(raw.flags, raw.code, narrow);
        if lossy {
            out.push(flag::OPTIONAL | flag::TRANSITIVE, code::AS4_PATH, path);
        }
    }
}

/// AGGREGATOR in two octets, and AS4_AGGREGATOR when it lost something (RFC 6793 section 4.2.2).
fn narrow_aggregator<'a>(raw: RawAttribute<'a>, out: &mut Exported<'a>) {
    let &[a, b, c, d, ref address @ ..] = raw.value else { return };
    let (short, lossy) = as_path::narrow_asn(u32::from_be_bytes([a, b, c, d]));
    out.push(raw.flags, raw.code, [&short.to_be_bytes()[..], address].concat());
    if lossy {
        out.push(raw.flags, code::AS4_AGGREGATOR, raw.value);
    }
}

fn transitive_communities(value: &[u8]) -> Cow<'_, [u8]> {
    let entries = value.as_chunks::<8>().0;
    let transitive = |entry: &&[u8; 8]| entry[0] & NON_TRANSITIVE_COMMUNITY == 0;
    if entries.iter().all(|entry| transitive(&entry)) {
        return value.into();
    }
    entries.iter().filter(transitive).flatten().copied().collect()
}

/// Flags, type code, value.
type Entry<'a> = (u8, u8, Cow<'a, [u8]>);

/// Attributes ready to be written.
pub(super) struct Exported<'a>(SmallVec<[Entry<'a>; 12]>);

impl<'a> Exported<'a> {
    fn push(&mut self, flags: u8, code: u8, value: impl Into<Cow<'a, [u8]>>) {
        self.0.push((flags, code, value.into()));
    }

    fn iter(&self) -> impl Iterator<Item = RawAttribute<'_>> {
        self.0.iter().map(|(flags, code, value)| RawAttribute { flags: *flags, code: *code, value })
    }

    /// An attribute that grew over what its length field can say.
    pub(super) fn too_long(&self) -> Option<(u8, usize)> {
        self.iter().map(|raw| (raw.code, raw.value.len())).find(|(_, length)| *length > usize::from(u16::MAX))
    }

    /// Where the value of an attribute stands in [`Exported::write`].
    pub(super) fn place(&self, code: u8) -> Option<usize> {
        let mut end = 0;
        let mut ends = self.iter().map(|raw| {
            end += raw.wire_len();
            (raw.code, end - raw.value.len())
        });
        ends.find(|(other, _)| *other == code).map(|(_, start)| start)
    }

    /// The octets.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.iter().map(|raw| raw.wire_len()).sum());
        for raw in self.iter() {
            raw.write(&mut out);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hex_literal::hex;

    use super::*;
    use crate::wire::AttributesBuilder;

    fn octets(rules: &ExportRules, builder: AttributesBuilder, four_octet_as: bool) -> Vec<u8> {
        rules.apply(&builder.build().unwrap(), None, four_octet_as).write()
    }

    #[test]
    fn each_rule_changes_its_attribute_only() {
        let (external, internal) = (ExportRules::external(65000), ExportRules::internal());
        let plain = ExportRules::default();
        let base = || AttributesBuilder::default().as_path(&[1]);
        let id = Ipv4Addr::new(10, 0, 0, 1);
        let twice = ExportRules { prepend_count: 2, ..external.clone() };
        let no_med = ExportRules { strip_med: true, ..external.clone() };
        let communities = [hex!("0002 0001 00000001"), hex!("4002 0001 00000002")];
        let reflected = base().originator_id(Some(id)).cluster_list(&[id]);
        let own = "400101 00 400206 0201 00000001";
        let sent = "400101 00 40020a 0202 0000fde8 00000001";
        let cases: &[(&str, &ExportRules, AttributesBuilder, String)] = &[
            ("nothing", &plain, base(), own.into()),
            ("own AS in front", &external, base(), sent.into()),
            ("twice", &twice, base(), "400101 00 40020e 0203 0000fde8 0000fde8 00000001".into()),
            ("empty path", &external, AttributesBuilder::default(), "400101 00 400206 0201 0000fde8".into()),
            ("LOCAL_PREF outside", &external, base().local_pref(Some(5)), sent.into()),
            ("LOCAL_PREF inside", &internal, base().local_pref(Some(5)), format!("{own} 400504 00000005")),
            ("no LOCAL_PREF inside", &internal, base(), format!("{own} 400504 00000064")),
            ("MED kept", &external, base().med(Some(7)), format!("{sent} 800404 00000007")),
            ("MED stripped", &no_med, base().med(Some(7)), sent.into()),
            ("reflection outside", &external, reflected.clone(), sent.into()),
            ("reflection inside", &plain, reflected, format!("{own} 800904 0a000001 800a04 0a000001")),
            (
                "extended communities outside",
                &external,
                base().ext_communities(&communities),
                format!("{sent} c01008 0002000100000001"),
            ),
            ("only non-transitive ones", &external, base().ext_communities(&communities[1..]), sent.into()),
            (
                "extended communities inside",
                &plain,
                base().ext_communities(&communities),
                format!("{own} c01010 0002000100000001 4002000100000002"),
            ),
            ("unknown", &external, base().unknown(99, &[7]), format!("{sent} e06301 07")),
        ];
        for (name, rules, builder, expected) in cases {
            let got: String =
                octets(rules, builder.clone(), true).iter().map(|o| format!("{o:02x}")).collect();
            assert_eq!(got, expected.replace(' ', ""), "{name}");
        }
    }

    #[test]
    fn a_two_octet_peer_gets_as_trans_and_the_as4_attributes() {
        let rules = ExportRules::external(65000);
        let small = AttributesBuilder::default().as_path(&[1]).aggregator(2, Ipv4Addr::new(10, 0, 0, 1));
        let expected = hex!("400101 00 400206 0202 fde8 0001 c00706 0002 0a000001");
        assert_eq!(octets(&rules, small, false), expected);
        let large =
            AttributesBuilder::default().as_path(&[70000]).aggregator(70000, Ipv4Addr::new(10, 0, 0, 1));
        let expected = hex!(
            "400101 00 400206 0202 fde8 5ba0 c00706 5ba0 0a000001"
            "c0110a 0202 0000fde8 00011170 c01208 00011170 0a000001"
        );
        assert_eq!(octets(&rules, large, false), expected);
    }
}
