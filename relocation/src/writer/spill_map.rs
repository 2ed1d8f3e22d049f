//! What a dry run has gone through, however much that is: hashes, each with the id of the row that would have it. Past a
//! budget they lie sorted in nameless files.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// Hashes that are kept in memory: seven eighths of a power of two, to which the table grows without growing further;
/// 9 MiB.
const BUDGET: usize = (1 << 19) / 8 * 7;

/// A hash and an id.
const BYTES: usize = 16;
/// Hashes of a file that are read at once: 4 KiB.
const BLOCK: usize = 256;

/// What is to be remembered of a row.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Its id.
    pub(super) id: i64,
    /// Its keys of unique sets: if another row has one of them, it cannot be written.
    pub(super) unique: Vec<u64>,
    /// Its values that rules ask for.
    pub(super) asked: Vec<u64>,
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
    file: File,
    /// The first hash of each block, 14 KiB for a file.
    firsts: Vec<u64>,
    entries: usize,
}

impl SpillMap {
    /// Nothing yet. Files will be in `dir`.
    pub(super) fn new(dir: &Path) -> Self {
        Self { budget: BUDGET, dir: dir.to_owned(), fresh: HashMap::new(), sorted: Vec::new() }
    }

    /// Remembers a row, unless another one has one of its unique keys. Of a value that another row has, that row stays
    /// the holder.
    pub(super) fn take(&mut self, row: &Keys) -> io::Result<bool> {
        for key in &row.unique {
            if self.get(*key)?.is_some() {
                return Ok(false);
            }
        }
        for key in &row.unique {
            self.put(*key, row.id)?;
        }
        for value in &row.asked {
            if self.get(*value)?.is_none() {
                self.put(*value, row.id)?;
            }
        }
        Ok(true)
    }

    /// The id of the row that has this.
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
        let mut file = BufWriter::new(tempfile::tempfile_in(dir)?);
        for (hash, id) in entries {
            file.write_all(&hash.to_le_bytes())?;
            file.write_all(&id.to_le_bytes())?;
        }
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let firsts = entries.iter().step_by(BLOCK).map(|(hash, _)| *hash).collect();
        Ok(Self { file, firsts, entries: entries.len() })
    }

    fn get(&self, hash: u64) -> io::Result<Option<i64>> {
        let Some(block) = self.firsts.partition_point(|first| *first <= hash).checked_sub(1) else {
            return Ok(None);
        };
        let length = BLOCK.min(self.entries - block * BLOCK);
        let mut bytes = [[0_u8; BYTES]; BLOCK];
        let (bytes, _) = bytes.split_at_mut(length);
        self.file.read_exact_at(bytes.as_flattened_mut(), (block * BLOCK * BYTES) as u64)?;
        let (hashes_and_ids, _) = bytes.as_flattened().as_chunks::<8>();
        let (entries, _) = hashes_and_ids.as_chunks::<2>();
        let found = entries.binary_search_by_key(&hash, |[hash, _]| u64::from_le_bytes(*hash)).ok();
        Ok(found.and_then(|index| entries.get(index)).map(|[_, id]| i64::from_le_bytes(*id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_remembered_is_found_in_memory_and_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        // Spread over all hashes, and all of them different, for the factor is odd.
        let hash = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for budget in [1, 7, BLOCK, BLOCK + 1, 10_000] {
            let mut remembered = SpillMap { budget, ..SpillMap::new(dir.path()) };
            let count = if budget < BLOCK { 300 } else { 2_000 };
            for number in 0..count {
                let row = Keys {
                    id: number as i64,
                    unique: vec![hash(2 * number)],
                    asked: vec![hash(2 * number + 1)],
                };
                assert!(remembered.take(&row).unwrap());
            }
            assert!(remembered.fresh.len() <= budget, "budget {budget}");
            assert_eq!(remembered.sorted.is_empty(), budget == 10_000, "budget {budget}");
            for number in 0..count {
                for key in [2 * number, 2 * number + 1] {
                    assert_eq!(remembered.get(hash(key)).unwrap(), Some(number as i64), "budget {budget}");
                }
                let other = Keys { id: -1, unique: vec![hash(2 * number)], asked: vec![] };
                assert!(!remembered.take(&other).unwrap(), "budget {budget}");
                let other = Keys { id: -1, unique: vec![], asked: vec![hash(2 * number + 1)] };
                assert!(remembered.take(&other).unwrap(), "budget {budget}");
                assert_eq!(remembered.get(hash(2 * number + 1)).unwrap(), Some(number as i64));
            }
            for number in 2 * count..3 * count {
                assert_eq!(remembered.get(hash(number)).unwrap(), None, "budget {budget}");
            }
        }
    }
}
