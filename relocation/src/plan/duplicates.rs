//! Finds records that share a primary key or break a unique set, in a file of any size: hashes of the keys are sorted,
//! on disk past a budget, and equal neighbours are looked at.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufReader, BufWriter, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

/// A key of a record: which set it is in, the hash of its values, where the record begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    hash: u64,
    set: u32,
    offset: u64,
}

const BYTES: usize = 20;

impl Entry {
    fn write(self, file: &mut impl io::Write) -> io::Result<()> {
        file.write_all(&self.hash.to_le_bytes())?;
        file.write_all(&self.set.to_le_bytes())?;
        file.write_all(&self.offset.to_le_bytes())
    }

    fn read(file: &mut impl io::Read) -> io::Result<Option<Self>> {
        let mut bytes = [0; BYTES];
        match file.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let [h0, h1, h2, h3, h4, h5, h6, h7, s0, s1, s2, s3, o0, o1, o2, o3, o4, o5, o6, o7] = bytes;
        Ok(Some(Self {
            hash: u64::from_le_bytes([h0, h1, h2, h3, h4, h5, h6, h7]),
            set: u32::from_le_bytes([s0, s1, s2, s3]),
            offset: u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]),
        }))
    }
}

/// Collects keys and finds those that are given twice.
#[derive(Debug)]
pub(super) struct Duplicates {
    budget: usize,
    dir: PathBuf,
    entries: Vec<Entry>,
    sorted: Vec<File>,
}

impl Duplicates {
    /// Keeps at most `budget` keys (24 bytes each) in memory, the others in nameless files in `dir`.
    pub(super) fn new(budget: usize, dir: &Path) -> Self {
        Self { budget: budget.max(1), dir: dir.to_owned(), entries: Vec::new(), sorted: Vec::new() }
    }

    /// Adds a key of the record that begins at `offset`.
    pub(super) fn add(&mut self, set: u32, hash: u64, offset: u64) -> io::Result<()> {
        if self.entries.len() >= self.budget {
            self.entries.sort_unstable();
            let mut file = BufWriter::new(tempfile::tempfile_in(&self.dir)?);
            for entry in self.entries.drain(..) {
                entry.write(&mut file)?;
            }
            let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.flush()?;
            self.sorted.push(file);
        }
        self.entries.push(Entry { hash, set, offset });
        Ok(())
    }

    /// Calls `found` with the set and the offsets of two records whose keys have the same hash, the earlier one first:
    /// each such record with the first one of its hash. They may still differ.
    pub(super) fn find<E: From<io::Error>>(
        mut self,
        mut found: impl FnMut(u32, u64, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        self.entries.sort_unstable();
        let mut files = Vec::with_capacity(self.sorted.len());
        for mut file in self.sorted {
            file.seek(SeekFrom::Start(0))?;
            files.push(BufReader::with_capacity(64 * 1024, file));
        }
        let memory = files.len();
        let mut entries = self.entries.into_iter();
        let mut next = |source: usize| match files.get_mut(source) {
            Some(file) => Entry::read(file),
            None => Ok(entries.next()),
        };
        let mut heads = BinaryHeap::new();
        for source in 0..=memory {
            if let Some(entry) = next(source)? {
                heads.push(Reverse((entry, source)));
            }
        }
        let mut first: Option<Entry> = None;
        while let Some(Reverse((entry, source))) = heads.pop() {
            if let Some(following) = next(source)? {
                heads.push(Reverse((following, source)));
            }
            match first {
                Some(first) if first.hash == entry.hash && first.set == entry.set => {
                    found(entry.set, first.offset, entry.offset)?
                }
                _ => first = Some(entry),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(budget: usize, keys: &[(u32, u64)]) -> Vec<(u32, u64, u64)> {
        let dir = tempfile::tempdir().unwrap();
        let mut duplicates = Duplicates::new(budget, dir.path());
        for (offset, (set, hash)) in keys.iter().enumerate() {
            duplicates.add(*set, *hash, offset as u64).unwrap();
        }
        let mut all = Vec::new();
        duplicates
            .find(|set, first, second| {
                all.push((set, first, second));
                Ok::<_, io::Error>(())
            })
            .unwrap();
        all
    }

    #[test]
    fn the_same_are_found_in_memory_and_on_disk() {
        let keys = [(1, 7), (1, 8), (2, 7), (1, 7), (1, 9), (1, 7), (2, 9)];
        let expected = [(1, 0, 3), (1, 0, 5)];
        for budget in [1, 2, 3, 100] {
            assert_eq!(found(budget, &keys), expected, "budget {budget}");
        }
        assert_eq!(found(3, &[(1, 1), (1, 2), (2, 1), (2, 2)]), []);
    }
}
