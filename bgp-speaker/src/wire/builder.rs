//! Attributes of routes we originate, and changed copies of received ones.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::attributes::{RawAttribute, code, flag};
use super::validate::category;
use super::{EncodeError, Origin, PathAttributes, as_path};

/// Makes a block for a route we originate, or a changed copy of one. ORIGIN IGP and an empty AS_PATH are
/// there unless said otherwise; an empty list removes its attribute.
#[derive(Clone, Debug, Default)]
pub struct AttributesBuilder {
    /// Flags and value by type code: the order of the block.
    attributes: BTreeMap<u8, (u8, Vec<u8>)>,
}

impl From<&PathAttributes> for AttributesBuilder {
    fn from(attributes: &PathAttributes) -> Self {
        let entry = |raw: RawAttribute<'_>| (raw.code, (raw.flags, raw.value.to_vec()));
        Self { attributes: attributes.iter().map(entry).collect() }
    }
}

impl AttributesBuilder {
    /// ORIGIN.
    #[must_use]
    pub fn origin(self, origin: Origin) -> Self {
        self.set(code::ORIGIN, vec![origin as u8])
    }

    /// AS_PATH of one sequence, the nearest AS first.
    #[must_use]
    pub fn as_path(self, asns: &[u32]) -> Self {
        self.set(code::AS_PATH, as_path::sequence(asns))
    }

    /// MULTI_EXIT_DISC, or none.
    #[must_use]
    pub fn med(self, med: Option<u32>) -> Self {
        self.number(code::MULTI_EXIT_DISC, med)
    }

    /// LOCAL_PREF, or none.
    #[must_use]
    pub fn local_pref(self, local_pref: Option<u32>) -> Self {
        self.number(code::LOCAL_PREF, local_pref)
    }

    /// ATOMIC_AGGREGATE.
    #[must_use]
    pub fn atomic_aggregate(mut self, present: bool) -> Self {
        if present {
            return self.set(code::ATOMIC_AGGREGATE, Vec::new());
        }
        self.attributes.remove(&code::ATOMIC_AGGREGATE);
        self
    }

    /// AGGREGATOR.
    #[must_use]
    pub fn aggregator(self, asn: u32, router_id: Ipv4Addr) -> Self {
        self.set(code::AGGREGATOR, [asn.to_be_bytes(), router_id.octets()].concat())
    }

    /// COMMUNITIES, in this order.
    #[must_use]
    pub fn communities(self, values: &[u32]) -> Self {
        self.list(code::COMMUNITIES, values.iter().flat_map(|value| value.to_be_bytes()))
    }

    /// LARGE_COMMUNITY, in this order, a repeated one once (RFC 8092 section 5).
    #[must_use]
    pub fn large_communities(self, values: &[[u32; 3]]) -> Self {
        let mut unique: Vec<[u32; 3]> = Vec::with_capacity(values.len());
        for value in values {
            if !unique.contains(value) {
                unique.push(*value);
            }
        }
        self.list(code::LARGE_COMMUNITY, unique.into_iter().flatten().flat_map(u32::to_be_bytes))
    }

    /// EXTENDED_COMMUNITIES, in this order.
    #[must_use]
    pub fn ext_communities(self, values: &[[u8; 8]]) -> Self {
        self.list(code::EXTENDED_COMMUNITIES, values.iter().flatten().copied())
    }

    /// ORIGINATOR_ID, or none.
    #[must_use]
    pub fn originator_id(self, router_id: Option<Ipv4Addr>) -> Self {
        self.number(code::ORIGINATOR_ID, router_id.map(u32::from))
    }

    /// CLUSTER_LIST, the nearest cluster first.
    #[must_use]
    pub fn cluster_list(self, clusters: &[Ipv4Addr]) -> Self {
        self.list(code::CLUSTER_LIST, clusters.iter().flat_map(|cluster| cluster.octets()))
    }

    /// OTC, or none.
    #[must_use]
    pub fn otc(self, asn: Option<u32>) -> Self {
        self.number(code::OTC, asn)
    }

    /// An attribute this speaker does not know; sent on with Optional, Transitive and Partial.
    #[must_use]
    pub fn unknown(mut self, code: u8, value: &[u8]) -> Self {
        if category(code).is_none() {
            let flags = flag::OPTIONAL | flag::TRANSITIVE | flag::PARTIAL;
            self.attributes.insert(code, (flags, value.to_vec()));
        }
        self
    }

    /// The block.
    ///
    /// # Errors
    /// [`EncodeError::AttributeTooLong`] when a list is longer than 65535 octets.
    pub fn build(mut self) -> Result<PathAttributes, EncodeError> {
        self.attributes.entry(code::ORIGIN).or_insert((flag::TRANSITIVE, vec![Origin::Igp as u8]));
        self.attributes.entry(code::AS_PATH).or_insert((flag::TRANSITIVE, Vec::new()));
        let too_long = self.attributes.iter().find(|(_, (_, value))| value.len() > usize::from(u16::MAX));
        if let Some((&code, (_, value))) = too_long {
            return Err(EncodeError::AttributeTooLong { code, length: value.len() });
        }
        let raw =
            self.attributes.iter().map(|(&code, (flags, value))| RawAttribute { flags: *flags, code, value });
        Ok(PathAttributes::from_sorted(raw))
    }

    fn number(mut self, code: u8, value: Option<u32>) -> Self {
        match value {
            Some(value) => self.set(code, value.to_be_bytes().to_vec()),
            None => {
                self.attributes.remove(&code);
                self
            }
        }
    }

    fn list(mut self, code: u8, octets: impl Iterator<Item = u8>) -> Self {
        let value: Vec<u8> = octets.collect();
        if value.is_empty() {
            self.attributes.remove(&code);
            return self;
        }
        self.set(code, value)
    }

    fn set(mut self, code: u8, value: Vec<u8>) -> Self {
        let flags = category(code).map_or(0, |category| category.flags());
        self.attributes.insert(code, (flags, value));
        self
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    #[test]
    fn the_block_is_in_type_order_whatever_the_order_of_calls() {
        let built = AttributesBuilder::default()
            .communities(&[0xffff_ff01])
            .local_pref(Some(200))
            .as_path(&[65001])
            .origin(Origin::Incomplete)
            .build()
            .unwrap();
        let expected = hex!("400101 02" "400206 0201 0000fde9" "400504 000000c8" "c00804 ffffff01");
        assert_eq!(built.block(), expected);
        assert_eq!((built.origin(), built.local_pref()), (Origin::Incomplete, Some(200)));
    }

    #[test]
    fn an_originated_route_has_its_mandatory_attributes_and_they_can_be_changed() {
        let built = AttributesBuilder::default().build().unwrap();
        assert_eq!(built.block(), hex!("400101 00" "400200"));
        let changed = built.to_builder().med(Some(5)).cluster_list(&[Ipv4Addr::LOCALHOST]).build().unwrap();
        assert_eq!(changed.med(), Some(5));
        let back = changed.to_builder().med(None).cluster_list(&[]).build().unwrap();
        assert_eq!(back, built);
    }

    #[test]
    fn every_value_comes_back() {
        let id = Ipv4Addr::new(10, 0, 0, 1);
        let built = AttributesBuilder::default()
            .as_path(&[1, 70000])
            .atomic_aggregate(true)
            .aggregator(70000, id)
            .large_communities(&[[1, 2, 3], [1, 2, 3], [4, 5, 6]])
            .ext_communities(&[hex!("0002 fde9 00000001")])
            .originator_id(Some(id))
            .otc(Some(65001))
            .unknown(99, &[1, 2])
            .build()
            .unwrap();
        assert_eq!(built.as_path().to_string(), "1 70000");
        assert_eq!((built.summary().as_path_len, built.summary().neighbor_as), (2, 1));
        assert!(built.atomic_aggregate());
        assert_eq!(built.aggregator(), Some((70000, id)));
        assert_eq!(built.large_communities().collect::<Vec<_>>(), [[1, 2, 3], [4, 5, 6]]);
        assert_eq!(built.ext_communities().count(), 1);
        assert_eq!((built.originator_id(), built.otc()), (Some(id), Some(65001)));
        let unknown: Vec<_> = built.unknown().collect();
        assert_eq!(unknown, [RawAttribute { flags: 0xe0, code: 99, value: &[1, 2] }]);
    }

    #[test]
    fn a_list_that_no_length_field_can_say_is_refused() {
        let error = AttributesBuilder::default().communities(&vec![1; 20000]).build().unwrap_err();
        assert_eq!(error, EncodeError::AttributeTooLong { code: 8, length: 80000 });
    }
}
