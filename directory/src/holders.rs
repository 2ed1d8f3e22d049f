//! Which regions may have a slug. It is asked first, so that a slug is looked up in the tables of those regions only,
//! however many regions there are.
//!
//! A slug that is in the table of a region is here before anybody can see that table, and is taken out only when nobody
//! sees it there any more. So a region that is missing here does not have the slug. A region that is here most likely
//! has it, but not surely: while a snapshot comes in, its slugs are here already, and two slugs may have the same hash.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak},
};

use hashbrown::HashTable;

/// Each part has a lock of its own and grows by itself, so that nobody waits until a table of all slugs has grown.
const PARTS: usize = 1_024;

/// The hash of a slug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlugHash(u64);

impl SlugHash {
    /// Which part the slug is in.
    fn part(self) -> usize {
        (self.0 >> 32) as usize % PARTS
    }

    /// What is stored of the hash.
    fn stored(self) -> u32 {
        self.0 as u32
    }
}

/// That a region has a slug: eight bytes for each slug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holding {
    hash: u32,
    region: u32,
}

impl Holding {
    /// The hash by which the table finds it. The table needs the upper bits, which the stored hash does not have.
    fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

/// Which regions may have which slugs. A region is here as many times as it has slugs of a hash.
#[derive(Debug)]
pub(crate) struct Holders {
    hasher: RandomState,
    parts: Box<[RwLock<HashTable<Holding>>]>,
}

impl Holders {
    pub(crate) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            parts: (0..PARTS).map(|_| RwLock::new(HashTable::new())).collect(),
        }
    }

    fn read(&self, hash: SlugHash) -> RwLockReadGuard<'_, HashTable<Holding>> {
        self.parts[hash.part()].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, hash: SlugHash) -> RwLockWriteGuard<'_, HashTable<Holding>> {
        self.parts[hash.part()].write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The numbers of the regions that may have a slug, each once.
    pub(crate) fn of(&self, slug: &str) -> Vec<u32> {
        let hash = self.hash(slug);
        let mut regions = Vec::new();
        for holding in self.read(hash).iter_hash(Holding::spread(hash.stored())) {
            if holding.hash == hash.stored() && !regions.contains(&holding.region) {
                regions.push(holding.region);
            }
        }
        regions
    }

    fn hash(&self, slug: &str) -> SlugHash {
        SlugHash(self.hasher.hash_one(slug))
    }

    fn add(&self, hash: SlugHash, region: u32) {
        let holding = Holding { hash: hash.stored(), region };
        let spread = |holding: &Holding| Holding::spread(holding.hash);
        self.write(hash).insert_unique(spread(&holding), holding, spread);
    }

    fn remove(&self, hash: SlugHash, region: u32) {
        let holding = Holding { hash: hash.stored(), region };
        if let Ok(entry) = self.write(hash).find_entry(Holding::spread(holding.hash), |it| *it == holding) {
            entry.remove();
        }
    }

    /// How many slugs there are, of all regions.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.read().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}

/// A region among the holders. If the directory is gone, there is nothing to add to or to remove from.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    holders: Weak<Holders>,
    number: u32,
}

impl Holder {
    /// The region of this number. No other region has it.
    pub(crate) fn new(holders: &Arc<Holders>, number: u32) -> Self {
        Self { holders: Arc::downgrade(holders), number }
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// To add and remove many slugs; `None` if the directory is gone.
    pub(crate) fn open(&self) -> Option<OpenHolder> {
        Some(OpenHolder { holders: self.holders.upgrade()?, number: self.number })
    }
}

/// A region among holders that are there.
#[derive(Debug)]
pub(crate) struct OpenHolder {
    holders: Arc<Holders>,
    number: u32,
}

impl OpenHolder {
    pub(crate) fn hash(&self, slug: &str) -> SlugHash {
        self.holders.hash(slug)
    }

    /// The region has one slug more.
    pub(crate) fn add(&self, hash: SlugHash) {
        self.holders.add(hash, self.number);
    }

    /// The region has one slug less.
    pub(crate) fn remove(&self, hash: SlugHash) {
        self.holders.remove(hash, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_stays_a_holder_until_its_last_slug_of_a_hash_is_gone() {
        let holders = Arc::new(Holders::new());
        let [one, two] = [1, 2].map(|number| Holder::new(&holders, number).open().expect("it is there"));
        let hash = one.hash("acme");
        one.add(hash);
        one.add(hash);
        two.add(hash);
        one.remove(hash);
        let mut regions = holders.of("acme");
        regions.sort_unstable();
        assert_eq!((regions, holders.of("other")), (vec![1, 2], vec![]));
        one.remove(hash);
        assert_eq!(holders.of("acme"), [2]);
    }
}
