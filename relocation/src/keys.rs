//! The primary key map: for each model, from old pk to new pk, and how the new pk came about. The whole map of an
//! import is in memory, so it is compact: the new pks of a chunk are one block in the order of the old pks, so only the
//! old pks are stored.

use std::collections::BTreeMap;

use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;

/// How a record got its new primary key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyKind {
    /// The record was inserted as a new row.
    Inserted,
    /// The record was mapped to a row that existed already, or to the row of an earlier record of the file.
    Existing,
}

/// The old and new primary keys of one chunk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkKeys {
    /// Old and new pks of inserted rows, sorted by old pk. Rows that are added without a record have -1, -2 and so on as
    /// old pks, and are in chunks of their own.
    pub inserted: Vec<(i64, i64)>,
    /// Old pks, and the pks of the existing rows that the records were mapped to.
    pub existing: Vec<(i64, i64)>,
    /// Old pks of records that the filter excludes.
    pub filtered: Vec<i64>,
    /// Old pks of out-of-scope records, of models that have some of them.
    pub out_of_scope: Vec<i64>,
}

/// Stored keys that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the stored primary keys of a chunk cannot be read")]
pub struct BadKeys(#[from] postcard::Error);

/// Keys that no chunk can have.
#[derive(Debug, thiserror::Error)]
#[error("the primary keys of a chunk are inconsistent: {0}")]
pub struct InconsistentKeys(&'static str);

/// The lists of [`ChunkKeys`], each value as the difference to the one before it, which is short as a variable-length
/// integer. The fifth and sixth list are unused: they have always been empty.
type Packed = [Vec<i64>; 8];

fn differences(values: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut before = 0_i64;
    values.map(|value| value.wrapping_sub(std::mem::replace(&mut before, value))).collect()
}

fn sums(differences: &[i64]) -> impl Iterator<Item = i64> {
    let mut sum = 0_i64;
    differences.iter().map(move |difference| {
        sum = sum.wrapping_add(*difference);
        sum
    })
}

impl ChunkKeys {
    /// Encodes the keys for the database.
    ///
    /// # Errors
    /// Never in practice: every value can be encoded.
    pub fn pack(&self) -> Result<Vec<u8>, BadKeys> {
        let olds = |pairs: &[(i64, i64)]| differences(pairs.iter().map(|pair| pair.0));
        let news = |pairs: &[(i64, i64)]| differences(pairs.iter().map(|pair| pair.1));
        let packed: Packed = [
            olds(&self.inserted),
            news(&self.inserted),
            olds(&self.existing),
            news(&self.existing),
            Vec::new(),
            Vec::new(),
            differences(self.filtered.iter().copied()),
            differences(self.out_of_scope.iter().copied()),
        ];
        Ok(postcard::to_stdvec(&packed)?)
    }

    /// Decodes what [`pack`](Self::pack) encoded.
    ///
    /// # Errors
    /// If the bytes did not come from [`pack`](Self::pack).
    pub fn unpack(bytes: &[u8]) -> Result<Self, BadKeys> {
        let [io, inew, eo, enew, _, _, filtered, out_of_scope]: Packed = postcard::from_bytes(bytes)?;
        let pairs = |olds: &[i64], news: &[i64]| sums(olds).zip(sums(news)).collect();
        Ok(Self {
            inserted: pairs(&io, &inew),
            existing: pairs(&eo, &enew),
            filtered: sums(&filtered).collect(),
            out_of_scope: sums(&out_of_scope).collect(),
        })
    }

    /// Whether these are rows that were added without records.
    #[must_use]
    pub fn are_added(&self) -> bool {
        self.inserted.first().is_some_and(|(old, _)| *old < 0)
    }

    /// Turns the old pks of rows that were added without records from those that control has, 1, 2 and so on, into -1, -2
    /// and so on.
    #[must_use]
    pub fn into_added(mut self) -> Self {
        self.inserted.iter_mut().for_each(|(old, _)| *old = -*old);
        self.inserted.sort_unstable();
        self
    }

    /// All pairs of old and new pk, each with its kind.
    pub fn mapped(&self) -> impl Iterator<Item = (KeyKind, i64, i64)> {
        let of = |kind, pairs: &[(i64, i64)]| {
            pairs.iter().map(move |(old, new)| (kind, *old, *new)).collect::<Vec<_>>()
        };
        of(KeyKind::Inserted, &self.inserted).into_iter().chain(of(KeyKind::Existing, &self.existing))
    }
}

/// What the map knows about a record that another one refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// It was mapped to this new pk.
    Mapped(i64, KeyKind),
    /// The filter excludes it.
    Filtered,
    /// It is out of scope.
    OutOfScope,
    /// It was dropped, or the file does not have it.
    Absent,
}

/// Inserted rows of a chunk. The new pks are a block, in the order of the old pks.
#[derive(Debug)]
struct KeyRange {
    first: i64,
    last: i64,
    new_first: i64,
    /// The old pks, as distances from `first`; `None` if there are no gaps.
    distances: Option<Box<[u32]>>,
}

impl KeyRange {
    fn get(&self, old: i64) -> Option<i64> {
        let distance = old.checked_sub(self.first)?;
        let index = match &self.distances {
            None => distance,
            Some(distances) => {
                i64::try_from(distances.binary_search(&u32::try_from(distance).ok()?).ok()?).ok()?
            }
        };
        Some(self.new_first + index)
    }
}

#[derive(Debug, Default)]
struct ModelKeys {
    /// Sorted by `first`, so that a primary key is found by binary search.
    ranges: Vec<KeyRange>,
    /// For each range: the largest `last` of it and of all ranges before it.
    reach: Vec<i64>,
    others: BTreeMap<i64, (i64, KeyKind)>,
    filtered: RoaringTreemap,
    out_of_scope: RoaringTreemap,
}

impl ModelKeys {
    fn bytes(&self) -> usize {
        const MATCHED: usize = 30;
        let distances = |range: &KeyRange| range.distances.as_deref().map_or(0, size_of_val);
        let ranges: usize = self.ranges.iter().map(distances).sum();
        ranges
            + self.ranges.capacity() * size_of::<KeyRange>()
            + self.reach.capacity() * size_of::<i64>()
            + self.others.len() * MATCHED
            + self.filtered.serialized_size()
            + self.out_of_scope.serialized_size()
    }

    /// Sorts in the ranges that were added at the end. Chunks mostly come in the order of their pks. If they do not,
    /// the sort is still fast, because most ranges are in order already.
    fn settle(&mut self, added_from: usize) {
        // The range before the added ones, if there is one, must not come after them either.
        let checked = self.ranges.iter().skip(added_from.saturating_sub(1));
        let keep = if checked.is_sorted_by_key(|range| range.first) {
            added_from
        } else {
            self.ranges.sort_by_key(|range| range.first);
            0
        };
        self.reach.truncate(keep);
        for range in self.ranges.iter().skip(keep) {
            let reach = self.reach.last().map_or(range.last, |before| range.last.max(*before));
            self.reach.push(reach);
        }
    }

    fn get(&self, old: i64) -> Lookup {
        let end = self.ranges.partition_point(|range| range.first <= old);
        for (range, reach) in self.ranges.iter().zip(&self.reach).take(end).rev() {
            if *reach < old {
                break;
            }
            if range.last >= old
                && let Some(new) = range.get(old)
            {
                return Lookup::Mapped(new, KeyKind::Inserted);
            }
        }
        if let Some((new, kind)) = self.others.get(&old) {
            return Lookup::Mapped(*new, *kind);
        }
        // No record has a primary key below 1.
        let Ok(key) = u64::try_from(old) else { return Lookup::Absent };
        if self.filtered.contains(key) {
            Lookup::Filtered
        } else if self.out_of_scope.contains(key) {
            Lookup::OutOfScope
        } else {
            Lookup::Absent
        }
    }
}

/// The primary key map of one import.
#[derive(Debug)]
pub struct KeyMap {
    models: Vec<ModelKeys>,
}

impl KeyMap {
    /// A map without any keys, for the models of this catalog.
    #[must_use]
    pub fn new(catalog: &Catalog) -> Self {
        Self { models: catalog.models().iter().map(|_| ModelKeys::default()).collect() }
    }

    /// What the map knows about a record. `position` is the position of its model.
    #[must_use]
    pub fn get(&self, position: usize, old: i64) -> Lookup {
        self.models.get(position).map_or(Lookup::Absent, |keys| keys.get(old))
    }

    /// The approximate memory use in bytes. A record that was mapped to an existing row counts with the average size of
    /// a tree entry.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.models.iter().map(ModelKeys::bytes).sum()
    }

    /// Adds the keys of a chunk that has been committed. `position` is the position of its model.
    ///
    /// # Errors
    /// If there is no such model, or the keys are none that a chunk of an import can have.
    pub fn add_chunk(&mut self, position: usize, chunk: &ChunkKeys) -> Result<(), InconsistentKeys> {
        let keys = self.models.get_mut(position).ok_or(InconsistentKeys("their model is unknown"))?;
        let added_from = keys.ranges.len();
        let mut inserted = chunk.inserted.clone();
        inserted.sort_unstable();
        for block in inserted.chunk_by(|a, b| b.1 == a.1 + 1 && b.0 > a.0) {
            // Old pks without gaps need no list. If there are many gaps, one list is smaller than many ranges.
            let dense: Vec<&[(i64, i64)]> = block.chunk_by(|a, b| b.0 == a.0 + 1).collect();
            if dense.len() <= 1 + block.len() / 16 {
                for run in dense {
                    keys.insert_run(run, false)?;
                }
            } else {
                for run in block.chunk_by(|a, b| b.0 - a.0 < i64::from(u32::MAX / 65_536)) {
                    keys.insert_run(run, true)?;
                }
            }
        }
        keys.settle(added_from);
        keys.others.extend(chunk.existing.iter().map(|(old, new)| (*old, (*new, KeyKind::Existing))));
        for (set, olds) in
            [(&mut keys.filtered, &chunk.filtered), (&mut keys.out_of_scope, &chunk.out_of_scope)]
        {
            for old in olds {
                set.insert(u64::try_from(*old).map_err(|_| InconsistentKeys("one is negative"))?);
            }
        }
        Ok(())
    }
}

impl ModelKeys {
    /// Adds rows with consecutive new pks. `gaps`: their old pks have gaps, so store each one.
    fn insert_run(&mut self, run: &[(i64, i64)], gaps: bool) -> Result<(), InconsistentKeys> {
        let (Some((first, new_first)), Some((last, _))) = (run.first().copied(), run.last().copied()) else {
            return Err(InconsistentKeys("a run of them is empty"));
        };
        let distance = |(old, _): &(i64, i64)| {
            u32::try_from(old - first).map_err(|_| InconsistentKeys("two of one run are too far apart"))
        };
        let distances: Option<Box<[u32]>> =
            gaps.then(|| run.iter().map(distance).collect::<Result<_, _>>()).transpose()?;
        self.ranges.push(KeyRange { first, last, new_first, distances });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_became_of_a_record_is_known() {
        let catalog = Catalog::load().unwrap();
        let mut map = KeyMap::new(&catalog);
        let chunk = ChunkKeys {
            inserted: vec![(1, 100), (2, 101), (9, 102)],
            existing: vec![(3, 7)],
            filtered: vec![5],
            out_of_scope: vec![6],
        };
        map.add_chunk(0, &ChunkKeys::unpack(&chunk.pack().unwrap()).unwrap()).unwrap();
        let expected = [
            Lookup::Mapped(100, KeyKind::Inserted),
            Lookup::Mapped(101, KeyKind::Inserted),
            Lookup::Mapped(7, KeyKind::Existing),
            Lookup::Absent,
            Lookup::Filtered,
            Lookup::OutOfScope,
            Lookup::Absent,
        ];
        for (old, expected) in (1..).zip(expected) {
            assert_eq!(map.get(0, old), expected, "{old}");
        }
        assert_eq!(map.get(0, 9), Lookup::Mapped(102, KeyKind::Inserted));
        assert_eq!(map.get(1, 1), Lookup::Absent);
    }

    #[test]
    fn a_record_costs_few_bytes() {
        let catalog = Catalog::load().unwrap();
        let bytes = |old: fn(i64) -> i64| {
            let mut map = KeyMap::new(&catalog);
            let all: Vec<(i64, i64)> = (0..100_000).map(|row| (old(row), 1 + row)).collect();
            for chunk in all.chunks(5_000) {
                map.add_chunk(0, &ChunkKeys { inserted: chunk.to_vec(), ..ChunkKeys::default() }).unwrap();
            }
            map.bytes() as f64 / 100_000.0
        };
        // Consecutive keys, keys with a gap now and then, and the large keys that regions share, which have many gaps.
        assert!(bytes(|row| 1 + row) < 0.1);
        assert!(bytes(|row| 1 + row + row / 40 * 3) < 4.0);
        assert!(bytes(|row| 4_507_110_000_000_001 + row * 16) < 4.5);
    }

    proptest! {
        #[test]
        fn every_pk_leads_where_it_was_put(
            olds in proptest::collection::hash_set(prop_oneof![1_i64..2000, 1_i64..(1 << 53)], 0..300),
            size in 1_usize..60,
        ) {
            let catalog = Catalog::load().unwrap();
            let mut map = KeyMap::new(&catalog);
            let olds: Vec<i64> = olds.into_iter().collect();
            let mut all = Vec::new();
            let mut next = 1;
            for chunk in olds.chunks(size) {
                let mut sorted = chunk.to_vec();
                sorted.sort_unstable();
                next += 10;
                let inserted: Vec<(i64, i64)> = sorted.iter().map(|old| { next += 1; (*old, next) }).collect();
                all.extend(inserted.clone());
                map.add_chunk(0, &ChunkKeys { inserted, ..ChunkKeys::default() }).unwrap();
            }
            for (old, new) in &all {
                prop_assert_eq!(map.get(0, *old), Lookup::Mapped(*new, KeyKind::Inserted));
                if !olds.contains(&(old + 1)) {
                    prop_assert_eq!(map.get(0, old + 1), Lookup::Absent);
                }
            }
        }
    }
}
