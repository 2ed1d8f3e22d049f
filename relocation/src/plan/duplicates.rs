//! Sorts the hashes of the keys of a file of any size, on disk beyond a budget, and finds those that occur more than
//! once.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    path::{Path, PathBuf},
};

use super::entry::Entry;
use crate::spill::SpillFile;

/// Collects keys and finds those that occur more than once.
#[derive(Debug)]
pub(super) struct Duplicates {
    budget: usize,
    dir: PathBuf,
    entries: Vec<Entry>,
    /// Files of sorted entries.
    sorted: Vec<SpillFile<3>>,
}

impl Duplicates {
    /// Keeps at most `budget` keys (24 bytes each) in memory, the others in nameless files in `dir`.
    pub(super) fn new(budget: usize, dir: &Path) -> Self {
        Self { budget: budget.max(1), dir: dir.to_owned(), entries: Vec::new(), sorted: Vec::new() }
    }

    /// Adds a key of a record.
    pub(super) fn add(&mut self, entry: Entry) -> io::Result<()> {
        if self.entries.len() >= self.budget {
            self.entries.sort_unstable();
            let mut file = SpillFile::new(&self.dir)?;
            file.append(self.entries.drain(..).map(Entry::into_row))?;
            self.sorted.push(file);
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Calls `take` with each entry, in sorted order.
    pub(super) fn each<E: From<io::Error>>(
        mut self,
        mut take: impl FnMut(Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        self.entries.sort_unstable();
        let mut files = Vec::with_capacity(self.sorted.len());
        for file in &self.sorted {
            files.push(file.iter()?);
        }
        let memory = files.len();
        let mut entries = self.entries.into_iter();
        let mut next = |source: usize| match files.get_mut(source) {
            Some(file) => file.next().transpose()?.map(Entry::from_row).transpose(),
            None => Ok(entries.next()),
        };
        let mut heads = BinaryHeap::new();
        for source in 0..=memory {
            if let Some(entry) = next(source)? {
                heads.push(Reverse((entry, source)));
            }
        }
        while let Some(Reverse((entry, source))) = heads.pop() {
            if let Some(following) = next(source)? {
                heads.push(Reverse((following, source)));
            }
            take(entry)?;
        }
        Ok(())
    }

    /// Calls `see` with each entry, in sorted order. Calls `found` with two records of a set that have the same hash,
    /// the earlier one first: with the first record of each hash and every later one. Their keys may still differ.
    pub(super) fn find<E: From<io::Error>>(
        self,
        mut see: impl FnMut(Entry) -> Result<(), E>,
        mut found: impl FnMut(Entry, Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut first: Option<Entry> = None;
        self.each(|entry| {
            see(entry)?;
            match first {
                Some(first) if first.hash == entry.hash && first.set == entry.set => found(first, entry)?,
                _ => first = Some(entry),
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(budget: usize, keys: &[(u32, u64)]) -> Vec<(u32, u64, u64)> {
        let dir = tempfile::tempdir().unwrap();
        let mut duplicates = Duplicates::new(budget, dir.path());
        for (offset, (set, hash)) in keys.iter().enumerate() {
            duplicates.add(Entry { set: *set, hash: *hash, offset: offset as u64 }).unwrap();
        }
        let mut all = Vec::new();
        duplicates
            .find(
                |_| Ok(()),
                |first, second| {
                    all.push((second.set, first.offset, second.offset));
                    Ok::<_, io::Error>(())
                },
            )
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
