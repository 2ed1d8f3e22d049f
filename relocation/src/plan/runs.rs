//! Where the records of one model lie in the file: stretches that hold nothing else. A file that is grouped by model
//! has one stretch a model. One that is not may have one a record, so they go to disk past a budget.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use serde::{Deserialize, Serialize};

/// A stretch of the file that holds records of one model only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Where its first record begins, in bytes.
    pub(crate) offset: u64,
    /// How many bytes it has, to the end of its last record.
    pub(crate) length: u64,
    /// How many records it holds.
    pub(crate) records: u64,
}

/// How many runs of one model are kept in memory: 1.5 MiB.
const BUDGET: usize = 64 * 1024;

/// The runs of one model, in the order of the file.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    last: Vec<Run>,
    spilled: Option<BufWriter<File>>,
}

impl Runs {
    /// Adds a stretch that lies behind all others.
    pub(crate) fn push(&mut self, run: Run, dir: &Path) -> io::Result<()> {
        if self.last.len() >= BUDGET {
            let file = match &mut self.spilled {
                Some(file) => file,
                None => self.spilled.insert(BufWriter::new(tempfile::tempfile_in(dir)?)),
            };
            for run in self.last.drain(..) {
                for number in [run.offset, run.length, run.records] {
                    file.write_all(&number.to_le_bytes())?;
                }
            }
        }
        self.last.push(run);
        Ok(())
    }

    /// Says that no more will come.
    pub(crate) fn encrypt(&mut self) -> io::Result<()> {
        match &mut self.spilled {
            Some(file) => file.flush(),
            None => Ok(()),
        }
    }

    /// All runs, from the first. Only after [`encrypt`](Self::encrypt).
    pub(crate) fn iter(&self) -> io::Result<impl Iterator<Item = io::Result<Run>> + use<>> {
        let file = self.spilled.as_ref().map(|file| file.get_ref().try_clone()).transpose()?;
        Ok(Spilled { file, at: 0 }.chain(self.last.clone().into_iter().map(Ok)))
    }
}

/// Reads runs back, each iterator at a place of its own.
struct Spilled {
    file: Option<File>,
    at: u64,
}

impl Iterator for Spilled {
    type Item = io::Result<Run>;

    fn next(&mut self) -> Option<Self::Item> {
        let file = self.file.as_ref()?;
        let mut numbers = [[0_u8; 8]; 3];
        for (index, bytes) in numbers.iter_mut().enumerate() {
            match file.read_exact_at(bytes, self.at) {
                Ok(()) => self.at += 8,
                Err(error) if index == 0 && error.kind() == io::ErrorKind::UnexpectedEof => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        let [offset, length, records] = numbers.map(u64::from_le_bytes);
        Some(Ok(Run { offset, length, records }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_past_the_budget_come_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut runs = Runs::default();
        let count = BUDGET as u64 * 2 + 10;
        for index in 0..count {
            runs.push(Run { offset: index * 10, length: 5, records: 1 }, dir.path()).unwrap();
        }
        runs.encrypt().unwrap();
        for _ in 0..2 {
            let all: Vec<Run> = runs.iter().unwrap().collect::<io::Result<_>>().unwrap();
            assert_eq!(all.len() as u64, count);
            assert!(all.iter().enumerate().all(|(index, run)| run.offset == index as u64 * 10));
        }
        assert!(runs.last.len() <= BUDGET);
    }
}
