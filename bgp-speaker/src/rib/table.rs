//! The prefix table: every prefix once, its paths, and what is decided about it, in 24 bytes.
//!
//! A prefix has a dense number for as long as anybody may still refer to it. The first path is inline (the
//! best one once [`Entry::SELECTED`] is set), further ones are linked in a slab of 12-byte nodes. IPv6
//! addresses live in a slab of their own so that IPv4 entries do not pay for them.

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::HashTable;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustc_hash::FxBuildHasher;

use super::PrefixId;
use super::intern::SetId;
use super::path::{NOBODY, Path};
use super::slab::Slab;
use crate::wire::AfiSafi;

/// End of a list of links.
const END: u32 = u32::MAX;

/// One prefix.
pub(crate) struct Entry {
    /// IPv4 address, or the number of the IPv6 address.
    address: u32,
    len: u8,
    flags: u8,
    /// Low bits of the sequence number of the last batch that told the FIB about it.
    pub(crate) batch: u16,
    first: Path,
    more: u32,
    /// Where packets go.
    pub(crate) set: SetId,
}

struct Link {
    path: Path,
    next: u32,
}

impl Entry {
    const V6: u8 = 1;
    const VACANT: u8 = 2;
    /// The inline path is the best path; without it no path is usable.
    pub(crate) const SELECTED: u8 = 4;
    /// In the FIB's queue.
    pub(crate) const DIRTY: u8 = 8;
    /// Told to the FIB, not confirmed.
    pub(crate) const AWAITING: u8 = 16;
    /// Not to be advertised until the FIB has confirmed it.
    pub(crate) const UNCONFIRMED: u8 = 32;

    pub(crate) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
    pub(crate) fn put(&mut self, flag: u8, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }
    pub(crate) fn family(&self) -> AfiSafi {
        if self.is(Self::V6) { AfiSafi::Ipv6Unicast } else { AfiSafi::Ipv4Unicast }
    }
    pub(crate) fn best(&self) -> Option<Path> {
        self.is(Self::SELECTED).then_some(self.first)
    }
    pub(crate) fn has_paths(&self) -> bool {
        self.first.peer != NOBODY
    }
    pub(crate) fn has_one_path(&self) -> bool {
        self.has_paths() && self.more == END
    }
}

/// All prefixes.
#[derive(Default)]
pub(crate) struct PrefixTable {
    entries: Slab<Entry>,
    addresses: Slab<[u8; 16]>,
    links: Slab<Link>,
    index: HashTable<u32>,
}

impl PrefixTable {
    /// Number of prefixes.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }
    /// Every number in use is below this.
    pub(crate) fn end(&self) -> u32 {
        self.entries.end()
    }
    /// The entry of a number that may be vacant.
    pub(crate) fn get(&self, id: PrefixId) -> Option<&Entry> {
        self.entries.get(id.0).filter(|entry| !entry.is(Entry::VACANT))
    }
    /// The entry of a number known to be in use.
    pub(crate) fn entry(&self, id: PrefixId) -> &Entry {
        &self.entries[id.0]
    }
    pub(crate) fn entry_mut(&mut self, id: PrefixId) -> &mut Entry {
        &mut self.entries[id.0]
    }

    pub(crate) fn prefix(&self, id: PrefixId) -> IpNet {
        prefix_of(&self.entries[id.0], &self.addresses)
    }

    pub(crate) fn find(&self, prefix: &IpNet) -> Option<PrefixId> {
        let len = prefix.prefix_len();
        // Compared as it is stored: this is the hottest line of a full table.
        let found = match prefix.addr() {
            IpAddr::V4(address) => self.index.find(hash(prefix), |id| {
                let entry = &self.entries[*id];
                entry.address == address.to_bits() && entry.len == len && !entry.is(Entry::V6)
            }),
            IpAddr::V6(address) => self.index.find(hash(prefix), |id| {
                let entry = &self.entries[*id];
                entry.len == len && entry.is(Entry::V6) && self.addresses[entry.address] == address.octets()
            }),
        };
        found.copied().map(PrefixId)
    }

    /// Adds a prefix that [`PrefixTable::find`] does not find.
    pub(crate) fn insert(&mut self, prefix: &IpNet) -> PrefixId {
        let (address, flags) = match prefix.addr() {
            IpAddr::V4(address) => (address.to_bits(), 0),
            IpAddr::V6(address) => (self.addresses.insert(address.octets()), Entry::V6),
        };
        let id = self.entries.insert(Entry {
            address,
            len: prefix.prefix_len(),
            flags,
            batch: 0,
            first: Path::NONE,
            more: END,
            set: SetId::NONE,
        });
        if self.index.len() == self.index.capacity() {
            self.grow_index();
        } else {
            let (entries, addresses) = (&self.entries, &self.addresses);
            self.index.insert_unique(hash(prefix), id, |id| hash(&prefix_of(&entries[*id], addresses)));
        }
        PrefixId(id)
    }

    /// Makes the index anew from the entries, in their order: the table's own way of growing reads them in the order of
    /// the index, each from another page.
    fn grow_index(&mut self) {
        let wanted = self.index.len() + self.index.len() / 2 + 1;
        self.index = HashTable::new(); // goes before the larger one comes
        self.index = HashTable::with_capacity(wanted);
        let (entries, addresses) = (&self.entries, &self.addresses);
        let hash_of = |id: &u32| hash(&prefix_of(&entries[*id], addresses));
        for id in 0..entries.end() {
            if entries.get(id).is_some_and(|entry| !entry.is(Entry::VACANT)) {
                self.index.insert_unique(hash_of(&id), id, hash_of);
            }
        }
    }

    /// Forgets a prefix without paths; its number may be given out again.
    pub(crate) fn remove(&mut self, id: PrefixId) {
        let hash_of_it = hash(&self.prefix(id));
        if let Ok(found) = self.index.find_entry(hash_of_it, |other| *other == id.0) {
            found.remove();
        }
        let entry = &mut self.entries[id.0];
        debug_assert!(!entry.has_paths() && entry.set == SetId::NONE, "a removed prefix holds nothing");
        entry.put(Entry::VACANT, true);
        if entry.is(Entry::V6) {
            self.addresses.remove(entry.address);
        }
        self.entries.remove(id.0);
        if self.index.capacity() > 1024 && self.index.len() < self.index.capacity() / 8 {
            let (entries, addresses) = (&self.entries, &self.addresses);
            self.index.shrink_to(0, |id| hash(&prefix_of(&entries[*id], addresses)));
        }
    }

    pub(crate) fn paths(&self, id: PrefixId) -> impl Iterator<Item = Path> + '_ {
        let entry = &self.entries[id.0];
        let mut next = entry.more;
        let links = std::iter::from_fn(move || {
            let link = (next != END).then(|| &self.links[next])?;
            next = link.next;
            Some(link.path)
        });
        entry.has_paths().then_some(entry.first).into_iter().chain(links)
    }

    pub(crate) fn path(&self, id: PrefixId, peer: u16) -> Option<Path> {
        self.paths(id).find(|path| path.peer == peer)
    }

    /// Puts a path in the place of the same peer's, or as a new one. Returns the one it replaced.
    pub(crate) fn set_path(&mut self, id: PrefixId, path: Path) -> Option<Path> {
        if let Some(place) = self.place(id, path.peer) {
            return Some(std::mem::replace(place, path));
        }
        let entry = &mut self.entries[id.0];
        if entry.has_paths() {
            entry.more = self.links.insert(Link { path, next: entry.more });
        } else {
            entry.first = path;
        }
        None
    }

    pub(crate) fn remove_path(&mut self, id: PrefixId, peer: u16) -> Option<Path> {
        let entry = &mut self.entries[id.0];
        if entry.first.peer == peer && peer != NOBODY {
            let removed = entry.first;
            entry.put(Entry::SELECTED, false);
            let more = entry.more;
            if more == END {
                entry.first = Path::NONE;
            } else {
                (entry.first, entry.more) = (self.links[more].path, self.links[more].next);
                self.links.remove(more);
            }
            return Some(removed);
        }
        let (mut before, mut at) = (END, entry.more);
        while at != END {
            let Link { path, next } = self.links[at];
            if path.peer == peer {
                match before {
                    END => self.entries[id.0].more = next,
                    before => self.links[before].next = next,
                }
                self.links.remove(at);
                return Some(path);
            }
            (before, at) = (at, next);
        }
        None
    }

    /// Makes the path of `peer` the inline one, and so the best; `None`: no path is usable.
    pub(crate) fn select(&mut self, id: PrefixId, peer: Option<u16>) {
        let first = self.entries[id.0].first;
        if let Some(peer) = peer.filter(|peer| *peer != first.peer)
            && let Some(place) = self.place(id, peer)
        {
            let best = std::mem::replace(place, first);
            self.entries[id.0].first = best;
        }
        self.entries[id.0].put(Entry::SELECTED, peer.is_some());
    }

    fn place(&mut self, id: PrefixId, peer: u16) -> Option<&mut Path> {
        let entry = &mut self.entries[id.0];
        if entry.first.peer == peer {
            return Some(&mut entry.first);
        }
        let mut at = entry.more;
        while at != END {
            if self.links[at].path.peer == peer {
                return Some(&mut self.links[at].path);
            }
            at = self.links[at].next;
        }
        None
    }
}

fn prefix_of(entry: &Entry, addresses: &Slab<[u8; 16]>) -> IpNet {
    const CHECKED: &str = "the length came from a prefix";
    if entry.is(Entry::V6) {
        let address = Ipv6Addr::from(addresses[entry.address]);
        IpNet::V6(Ipv6Net::new(address, entry.len).expect(CHECKED))
    } else {
        IpNet::V4(Ipv4Net::new(Ipv4Addr::from_bits(entry.address), entry.len).expect(CHECKED))
    }
}

fn hash(prefix: &IpNet) -> u64 {
    match prefix {
        IpNet::V4(prefix) => FxBuildHasher.hash_one((prefix.addr().to_bits(), prefix.prefix_len())),
        IpNet::V6(prefix) => FxBuildHasher.hash_one((prefix.addr().to_bits(), prefix.prefix_len())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::intern::AttrId;
    use super::super::path::Verdict;
    use super::*;

    fn path(peer: u16) -> Path {
        Path::new(AttrId(u32::from(peer)), peer, Verdict::Accepted)
    }

    #[test]
    fn an_entry_is_24_bytes_and_a_further_path_12() {
        assert_eq!((size_of::<Entry>(), size_of::<Link>()), (24, 12));
    }

    #[test]
    fn paths_are_replaced_selected_and_removed_wherever_they_stand() {
        for victim in 0..4u16 {
            let mut table = PrefixTable::default();
            let id = table.insert(&"10.0.0.0/24".parse().unwrap());
            for peer in 0..4 {
                assert_eq!(table.set_path(id, path(peer)), None);
            }
            table.select(id, Some(2));
            assert_eq!(table.entry(id).best(), Some(path(2)));
            assert_eq!(table.remove_path(id, victim), Some(path(victim)));
            assert_eq!(table.entry(id).best().is_some(), victim != 2);
            let mut left: Vec<u16> = table.paths(id).map(|path| path.peer).collect();
            left.sort_unstable();
            assert_eq!(left, (0..4).filter(|peer| *peer != victim).collect::<Vec<_>>());
            assert_eq!(table.remove_path(id, victim), None);
        }
    }

    #[test]
    fn both_families_are_found_again_and_forgotten() {
        let mut table = PrefixTable::default();
        let prefixes: Vec<IpNet> =
            ["0.0.0.0/0", "::/0", "10.0.0.0/8", "10.0.0.0/9", "2001:db8::/64", "2001:db8::/65"]
                .map(|text| text.parse().unwrap())
                .to_vec();
        let ids: Vec<PrefixId> = prefixes.iter().map(|prefix| table.insert(prefix)).collect();
        for (prefix, id) in prefixes.iter().zip(&ids) {
            assert_eq!((table.find(prefix), table.prefix(*id)), (Some(*id), *prefix));
        }
        for id in &ids {
            table.remove(*id);
        }
        assert_eq!(table.len(), 0);
        assert!(ids.iter().all(|id| table.get(*id).is_none()));
    }
}
