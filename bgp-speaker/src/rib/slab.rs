//! Values in chunks under dense numbers: growing copies nothing, and an emptied chunk gives its memory back.

use std::ops::{Index, IndexMut};

/// Values of one chunk. A chunk of prefix entries is 24 KiB.
const CHUNK: usize = 1024;

/// A slab of plain values. Numbers are reused, lowest chunk with room last freed first.
pub(crate) struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// Chunks with room; each once.
    open: Vec<u32>,
}

struct Chunk<T> {
    items: Vec<T>,
    /// Vacant places below `items.len()`.
    free: Vec<u16>,
    listed: bool,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), open: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// One past the largest number ever given out.
    pub(crate) fn end(&self) -> u32 {
        u32::try_from(self.chunks.len() * CHUNK).expect("numbers are u32: `insert` counts them")
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let number = match self.open.last() {
            Some(number) => *number,
            None => {
                self.chunks.push(Chunk { items: Vec::new(), free: Vec::new(), listed: true });
                let number =
                    u32::try_from(self.chunks.len() - 1).expect("fewer than 2^32 values fit in memory");
                self.open.push(number);
                number
            }
        };
        let chunk = &mut self.chunks[number as usize];
        let place = match chunk.free.pop() {
            Some(place) => {
                chunk.items[usize::from(place)] = value;
                usize::from(place)
            }
            None => {
                if chunk.items.capacity() == 0 {
                    chunk.items.reserve_exact(CHUNK);
                }
                chunk.items.push(value);
                chunk.items.len() - 1
            }
        };
        if chunk.free.is_empty() && chunk.items.len() == CHUNK {
            chunk.listed = false;
            self.open.pop();
        }
        number * CHUNK as u32 + place as u32
    }

    /// Makes `id` vacant. Its value stays readable until it is reused: callers mark it vacant first if they iterate.
    pub(crate) fn remove(&mut self, id: u32) {
        let (number, place) = split(id);
        let chunk = &mut self.chunks[number];
        chunk.free.push(place as u16);
        if chunk.free.len() == chunk.items.len() {
            chunk.items = Vec::new();
            chunk.free = Vec::new();
        }
        if !chunk.listed {
            chunk.listed = true;
            self.open.push(number as u32);
        }
    }

    /// The value at `id`, vacant ones included; `None` where nothing was ever put or the chunk is gone.
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let (number, place) = split(id);
        self.chunks.get(number)?.items.get(place)
    }
}

fn split(id: u32) -> (usize, usize) {
    (id as usize / CHUNK, id as usize % CHUNK)
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;
    fn index(&self, id: u32) -> &T {
        let (number, place) = split(id);
        &self.chunks[number].items[place]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, id: u32) -> &mut T {
        let (number, place) = split(id);
        &mut self.chunks[number].items[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_reused_and_empty_chunks_freed() {
        let mut slab = Slab::default();
        let ids: Vec<u32> = (0..3000u32).map(|value| slab.insert(value)).collect();
        assert_eq!(ids, (0..3000).collect::<Vec<_>>());
        assert_eq!(slab[2999], 2999);
        for id in 0..2048 {
            slab.remove(id);
        }
        assert!(slab.get(5).is_none() && slab.get(1500).is_none(), "the first two chunks are gone");
        assert_eq!(slab[2500], 2500);
        let again: std::collections::BTreeSet<u32> = (0..3000u32).map(|value| slab.insert(value)).collect();
        assert_eq!(again.len(), 3000);
        assert!(again.iter().all(|id| !(2048..3000).contains(id)), "a used number is not given twice");
        assert!(slab.end() <= 4096);
    }
}
