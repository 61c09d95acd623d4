//! Attribute blocks, next hops and forwarding sets, each kept once and counted.
//!
//! Two paths share an [`AttrId`] exactly when their attribute octets and next hop are equal, so comparing and
//! grouping routes compares numbers. What nobody refers to any more is freed at once.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

use super::NexthopSet;
use super::slab::Slab;
use crate::wire::{Nexthop, PathAttributes};

/// Number of an interned attribute block with its next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AttrId(pub(crate) u32);

/// Number of an interned forwarding set; [`SetId::NONE`] forwards nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SetId(pub(crate) u32);

impl SetId {
    pub(crate) const NONE: Self = Self(u32::MAX);
}

/// Counted values under dense numbers, found again by hash.
struct Interner<T> {
    slots: Slab<Option<(T, u32)>>,
    index: HashTable<u32>,
}

impl<T: Hash + Eq> Interner<T> {
    fn new() -> Self {
        Self { slots: Slab::default(), index: HashTable::new() }
    }

    fn value(&self, id: u32) -> &T {
        let slot = self.slots.get(id).and_then(Option::as_ref);
        &slot.expect("an id is held only while counted").0
    }

    /// Finds the value or makes it; its count goes up by one.
    fn acquire<Q: Hash + ?Sized>(
        &mut self,
        key: &Q,
        same: impl Fn(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> u32 {
        let hash = FxBuildHasher.hash_one(key);
        let slots = &self.slots;
        let is_it = |id: &u32| slots[*id].as_ref().is_some_and(|slot| same(&slot.0));
        if let Some(id) = self.index.find(hash, is_it).copied() {
            self.add(id, 1);
            return id;
        }
        let id = self.slots.insert(Some((make(), 1)));
        let slots = &self.slots;
        self.index.insert_unique(hash, id, |id| hash_of(slots, *id));
        id
    }

    fn add(&mut self, id: u32, count: u32) {
        if let Some(slot) = &mut self.slots[id] {
            slot.1 += count;
        }
    }

    /// Gives one count back; the value is returned when that was the last.
    fn release(&mut self, id: u32) -> Option<T> {
        let slot = self.slots[id].as_mut()?;
        slot.1 -= 1;
        if slot.1 > 0 {
            return None;
        }
        let hash = FxBuildHasher.hash_one(&slot.0);
        if let Ok(found) = self.index.find_entry(hash, |other| *other == id) {
            found.remove();
        }
        let value = self.slots[id].take();
        self.slots.remove(id);
        if self.index.is_empty() {
            // A table that was emptied gives its memory back.
            *self = Self::new();
        } else if self.index.capacity() > 1024 && self.index.len() < self.index.capacity() / 8 {
            let slots = &self.slots;
            self.index.shrink_to(0, |id| hash_of(slots, *id));
        }
        value.map(|slot| slot.0)
    }

    fn len(&self) -> usize {
        self.index.len()
    }
}

fn hash_of<T: Hash>(slots: &Slab<Option<(T, u32)>>, id: u32) -> u64 {
    FxBuildHasher.hash_one(slots[id].as_ref().map(|slot| &slot.0).expect("indexed ids are live"))
}

/// An attribute block as the table keeps it. Equality and hash go by octets and next hop.
struct Block {
    attributes: Arc<PathAttributes>,
    nexthop: u32,
    scope: Scope,
}

impl Hash for Block {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.attributes.block(), self.nexthop).hash(state);
    }
}
impl PartialEq for Block {
    fn eq(&self, other: &Self) -> bool {
        self.nexthop == other.nexthop && self.attributes.block() == other.attributes.block()
    }
}
impl Eq for Block {}

/// How far a route may travel, by its well-known communities (RFC 1997).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Anywhere.
    Free,
    /// NO_EXPORT, or NO_EXPORT_SUBCONFED, which is the same without confederations.
    InsideAs,
    /// NO_ADVERTISE.
    Nowhere,
}

/// The interned attribute blocks of all paths.
pub(crate) struct AttributeTable {
    blocks: Interner<Block>,
    nexthops: Interner<Nexthop>,
}

impl AttributeTable {
    pub(crate) fn new() -> Self {
        Self { blocks: Interner::new(), nexthops: Interner::new() }
    }

    /// The number of these attributes, counted once for the caller.
    pub(crate) fn acquire(&mut self, attributes: &Arc<PathAttributes>, nexthop: &Nexthop) -> AttrId {
        let hop = self.nexthops.acquire(nexthop, |known| known == nexthop, || *nexthop);
        let before = self.blocks.len();
        let id = self.blocks.acquire(
            &(attributes.block(), hop),
            |known| known.nexthop == hop && known.attributes.block() == attributes.block(),
            || Block { attributes: Arc::clone(attributes), nexthop: hop, scope: scope(attributes.block()) },
        );
        if self.blocks.len() == before {
            // A block counts its next hop once, however many paths count the block.
            self.nexthops.release(hop);
        }
        AttrId(id)
    }

    pub(crate) fn add(&mut self, id: AttrId) {
        self.blocks.add(id.0, 1);
    }

    pub(crate) fn release(&mut self, id: AttrId) {
        if let Some(block) = self.blocks.release(id.0) {
            self.nexthops.release(block.nexthop);
        }
    }

    pub(crate) fn attributes(&self, id: AttrId) -> &Arc<PathAttributes> {
        &self.blocks.value(id.0).attributes
    }
    pub(crate) fn nexthop(&self, id: AttrId) -> &Nexthop {
        self.nexthops.value(self.blocks.value(id.0).nexthop)
    }
    pub(crate) fn scope(&self, id: AttrId) -> Scope {
        self.blocks.value(id.0).scope
    }
    /// Distinct blocks in use.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }
}

/// The interned forwarding sets.
pub(crate) struct SetTable {
    sets: Interner<Arc<NexthopSet>>,
}

impl SetTable {
    pub(crate) fn new() -> Self {
        Self { sets: Interner::new() }
    }
    /// The number of this set, counted once for the caller. The empty set is [`SetId::NONE`].
    pub(crate) fn acquire(&mut self, set: &NexthopSet) -> SetId {
        if set.is_empty() {
            return SetId::NONE;
        }
        SetId(self.sets.acquire(set, |known| **known == *set, || Arc::new(set.clone())))
    }
    pub(crate) fn add(&mut self, id: SetId) {
        if id != SetId::NONE {
            self.sets.add(id.0, 1);
        }
    }
    pub(crate) fn release(&mut self, id: SetId) {
        if id != SetId::NONE {
            self.sets.release(id.0);
        }
    }
    pub(crate) fn get(&self, id: SetId) -> Option<&Arc<NexthopSet>> {
        (id != SetId::NONE).then(|| self.sets.value(id.0))
    }
    /// Distinct sets in use.
    pub(crate) fn len(&self) -> usize {
        self.sets.len()
    }
}

/// Reads COMMUNITIES (type 8) out of a canonical block; anything unexpected in it is skipped, not trusted.
fn scope(mut block: &[u8]) -> Scope {
    const EXTENDED_LENGTH: u8 = 0x10;
    const COMMUNITIES: u8 = 8;
    let mut scope = Scope::Free;
    while let [flags, code, tail @ ..] = block {
        let (length, tail) = match tail {
            [high, low, tail @ ..] if flags & EXTENDED_LENGTH != 0 => {
                (usize::from(u16::from_be_bytes([*high, *low])), tail)
            }
            [length, tail @ ..] => (usize::from(*length), tail),
            [] => break,
        };
        let Some((value, rest)) = tail.split_at_checked(length) else { break };
        if *code == COMMUNITIES {
            for community in value.chunks_exact(4) {
                scope = scope.max(match community {
                    [0xff, 0xff, 0xff, 0x01 | 0x03] => Scope::InsideAs,
                    [0xff, 0xff, 0xff, 0x02] => Scope::Nowhere,
                    _ => Scope::Free,
                });
            }
        }
        block = rest;
    }
    scope
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::AttributesBuilder;
    use hex_literal::hex;

    fn nexthop(address: &str) -> Nexthop {
        Nexthop { address: address.parse().unwrap(), link_local: None }
    }

    #[test]
    fn equal_attributes_share_a_number_until_the_last_is_released() {
        let mut table = AttributeTable::new();
        let make = |med| Arc::new(AttributesBuilder::default().med(Some(med)).build().unwrap());
        let first = table.acquire(&make(1), &nexthop("10.0.0.1"));
        let same = table.acquire(&make(1), &nexthop("10.0.0.1"));
        let other_hop = table.acquire(&make(1), &nexthop("10.0.0.2"));
        let other_med = table.acquire(&make(2), &nexthop("10.0.0.2"));
        assert_eq!(first, same);
        assert!(first != other_hop && other_hop != other_med);
        assert_eq!((table.len(), table.nexthops.len()), (3, 2));
        table.release(first);
        assert_eq!(table.nexthop(same), &nexthop("10.0.0.1"));
        for id in [same, other_hop, other_med] {
            table.release(id);
        }
        assert_eq!((table.len(), table.nexthops.len()), (0, 0));
    }

    #[test]
    fn well_known_communities_limit_the_scope() {
        let cases: &[(&str, &[u8], Scope)] = &[
            ("none", &hex!("400101 00"), Scope::Free),
            ("NO_EXPORT", &hex!("40010100 c00804 ffffff01"), Scope::InsideAs),
            ("NO_EXPORT_SUBCONFED", &hex!("c00804 ffffff03"), Scope::InsideAs),
            ("NO_ADVERTISE wins", &hex!("d0080008 ffffff02 ffffff01"), Scope::Nowhere),
            ("another attribute's octets", &hex!("c02004 ffffff02"), Scope::Free),
            ("a length past the end", &hex!("c00808 ffffff02"), Scope::Free),
        ];
        for (name, block, expected) in cases {
            assert_eq!(scope(block), *expected, "{name}");
        }
    }
}
