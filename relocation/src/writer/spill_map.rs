//! What a dry run stores about its rows, however much it is: hashes, each with the id of the row that would
//! have it. Beyond a budget they are in nameless files, sorted.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use crate::spill::SpillFile;

/// How many hashes stay in memory: seven eighths of a power of two, which the hash table can contain before it grows
/// again; 9 MiB.
const BUDGET: usize = (1 << 19) / 8 * 7;

/// How many hashes of a file are read at once: 4 KiB.
const BLOCK: u64 = 256;

/// What a dry run stores about a row.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The id that the dry run made up for it.
    pub(super) id: i64,
    /// The hashes of its keys in unique sets. If another row has one of them, this row cannot be written.
    pub(super) unique: Vec<u64>,
    /// The hashes of its values that rules look up.
    pub(super) looked_up: Vec<u64>,
}

/// Hashes and the first id that came with each.
#[derive(Debug)]
pub(super) struct SpillMap {
    budget: usize,
    dir: PathBuf,
    fresh: HashMap<u64, i64>,
    sorted: Vec<Sorted>,
}

/// A file of hashes in ascending order.
#[derive(Debug)]
struct Sorted {
    /// A hash and an id.
    file: SpillFile<2>,
    /// The first hash of each block, 14 KiB for a file.
    firsts: Vec<u64>,
}

impl SpillMap {
    /// An empty map. Its files will be in `dir`.
    pub(super) fn new(dir: &Path) -> Self {
        Self { budget: BUDGET, dir: dir.to_owned(), fresh: HashMap::new(), sorted: Vec::new() }
    }

    /// Stores the keys of a row. Returns `false`, and stores nothing, if another row has one of its unique
    /// keys. If another row has one of its looked-up values, that row stays the holder.
    pub(super) fn take(&mut self, row: &Keys) -> io::Result<bool> {
        for key in &row.unique {
            if self.get(*key)?.is_some() {
                return Ok(false);
            }
        }
        for key in &row.unique {
            self.put(*key, row.id)?;
        }
        for value in &row.looked_up {
            if self.get(*value)?.is_none() {
                self.put(*value, row.id)?;
            }
        }
        Ok(true)
    }

    /// The id of the row that has this hash.
    pub(super) fn get(&self, hash: u64) -> io::Result<Option<i64>> {
        if let Some(id) = self.fresh.get(&hash) {
            return Ok(Some(*id));
        }
        for sorted in &self.sorted {
            if let Some(id) = sorted.get(hash)? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn put(&mut self, hash: u64, id: i64) -> io::Result<()> {
        if self.fresh.len() >= self.budget {
            let mut entries: Vec<(u64, i64)> = self.fresh.drain().collect();
            entries.sort_unstable();
            self.sorted.push(Sorted::write(&entries, &self.dir)?);
        }
        self.fresh.insert(hash, id);
        Ok(())
    }
}

impl Sorted {
    fn write(entries: &[(u64, i64)], dir: &Path) -> io::Result<Self> {
        let mut file = SpillFile::new(dir)?;
        file.append(entries.iter().map(|(hash, id)| [*hash, id.cast_unsigned()]))?;
        let step = usize::try_from(BLOCK).map_err(io::Error::other)?;
        let firsts = entries.iter().step_by(step).map(|(hash, _)| *hash).collect();
        Ok(Self { file, firsts })
    }

    fn get(&self, hash: u64) -> io::Result<Option<i64>> {
        let Some(block) = self.firsts.partition_point(|first| *first <= hash).checked_sub(1) else {
            return Ok(None);
        };
        let block = u64::try_from(block).map_err(io::Error::other)?;
        let entries = self.file.read_at(block * BLOCK, BLOCK)?;
        let found = entries.binary_search_by_key(&hash, |[hash, _]| *hash).ok();
        Ok(found.and_then(|index| entries.get(index)).map(|[_, id]| id.cast_signed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK_ROWS: usize = BLOCK as usize;

    #[test]
    fn what_was_remembered_is_found_in_memory_and_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        // The hashes are spread over the whole range, and all different, because the factor is odd.
        let hash = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for budget in [1, 7, BLOCK_ROWS, BLOCK_ROWS + 1, 10_000] {
            let mut remembered = SpillMap { budget, ..SpillMap::new(dir.path()) };
            let count = if budget < BLOCK_ROWS { 300 } else { 2_000 };
            for number in 0..count {
                let row = Keys {
                    id: number as i64,
                    unique: vec![hash(2 * number)],
                    looked_up: vec![hash(2 * number + 1)],
                };
                assert!(remembered.take(&row).unwrap());
            }
            assert!(remembered.fresh.len() <= budget, "budget {budget}");
            assert_eq!(remembered.sorted.is_empty(), budget == 10_000, "budget {budget}");
            for number in 0..count {
                for key in [2 * number, 2 * number + 1] {
                    assert_eq!(remembered.get(hash(key)).unwrap(), Some(number as i64), "budget {budget}");
                }
                let other = Keys { id: -1, unique: vec![hash(2 * number)], looked_up: vec![] };
                assert!(!remembered.take(&other).unwrap(), "budget {budget}");
                let other = Keys { id: -1, unique: vec![], looked_up: vec![hash(2 * number + 1)] };
                assert!(remembered.take(&other).unwrap(), "budget {budget}");
                assert_eq!(remembered.get(hash(2 * number + 1)).unwrap(), Some(number as i64));
            }
            for number in 2 * count..3 * count {
                assert_eq!(remembered.get(hash(number)).unwrap(), None, "budget {budget}");
            }
        }
    }
}
