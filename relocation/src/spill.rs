//! Rows of numbers in nameless files, for data that does not fit in memory. A file is gone with the process, so nothing
//! that must survive may depend on it.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

/// How many rows an iterator reads at once.
const BLOCK: u64 = 2_048;

/// A nameless file of rows of `N` numbers each. Rows can only be added at its end.
#[derive(Debug)]
pub(crate) struct SpillFile<const N: usize> {
    file: File,
    rows: u64,
}

impl<const N: usize> SpillFile<N> {
    const ROW_BYTES: u64 = 8 * N as u64;

    /// An empty file in `dir`.
    pub(crate) fn new(dir: &Path) -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile_in(dir)?, rows: 0 })
    }

    /// Adds rows after all others. After an error the file must not be used any more.
    pub(crate) fn append(&mut self, rows: impl IntoIterator<Item = [u64; N]>) -> io::Result<()> {
        let mut writer = BufWriter::new(&self.file);
        for row in rows {
            writer.write_all(row.map(u64::to_le_bytes).as_flattened())?;
            self.rows += 1;
        }
        writer.flush()
    }

    /// Up to `count` rows from the row with this index on; fewer at the end of the file.
    pub(crate) fn read_at(&self, index: u64, count: u64) -> io::Result<Vec<[u64; N]>> {
        let count = count.min(self.rows.saturating_sub(index));
        let length = usize::try_from(count * Self::ROW_BYTES).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, index * Self::ROW_BYTES)?;
        let (numbers, _) = bytes.as_chunks::<8>();
        let (rows, _) = numbers.as_chunks::<N>();
        Ok(rows.iter().map(|row| row.map(u64::from_le_bytes)).collect())
    }

    /// All rows that the file has now, from the first. Each iterator has its own position and its own handle of the
    /// file, so it may outlive this one.
    pub(crate) fn iter(&self) -> io::Result<SpilledRows<N>> {
        let file = Self { file: self.file.try_clone()?, rows: self.rows };
        Ok(SpilledRows { file, next: 0, block: Vec::new().into_iter() })
    }
}

/// Reads the rows of a file in their order.
#[derive(Debug)]
pub(crate) struct SpilledRows<const N: usize> {
    file: SpillFile<N>,
    next: u64,
    block: std::vec::IntoIter<[u64; N]>,
}

impl<const N: usize> Iterator for SpilledRows<N> {
    type Item = io::Result<[u64; N]>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(row) = self.block.next() {
            return Some(Ok(row));
        }
        match self.file.read_at(self.next, BLOCK) {
            Ok(block) => {
                self.next += BLOCK;
                self.block = block.into_iter();
                self.block.next().map(Ok)
            }
            Err(error) => Some(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let count = 2 * BLOCK + 10;
        let row = |index: u64| [index, u64::MAX - index, 7];
        let mut file = SpillFile::new(dir.path()).unwrap();
        file.append((0..100).map(row)).unwrap();
        let early = file.iter().unwrap();
        file.append((100..count).map(row)).unwrap();
        for _ in 0..2 {
            let all: Vec<[u64; 3]> = file.iter().unwrap().collect::<io::Result<_>>().unwrap();
            assert!(all.into_iter().eq((0..count).map(row)));
        }
        assert_eq!(early.count(), 100);
        assert_eq!(file.read_at(count - 1, 5).unwrap(), [row(count - 1)]);
        assert!(file.read_at(count, 5).unwrap().is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a file has a name");
    }
}
