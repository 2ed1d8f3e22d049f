//! Where the records of one model are in the file: extents that contain no other model. A file that is grouped by
//! model has one extent per model. Any other file may have one per record, so extents go to disk beyond a budget.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

use crate::spill::SpillFile;

/// A part of the file with records of one model only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extent {
    /// Where its first record begins, in bytes.
    pub(crate) offset: u64,
    /// Its length in bytes, to the end of its last record.
    pub(crate) length: u64,
    /// How many records it has.
    pub(crate) records: u64,
}

/// How many runs of one model stay in memory: 1.5 MiB.
const BUDGET: usize = 64 * 1024;

/// The runs of one model, in the order of the file.
#[derive(Debug, Default)]
pub(crate) struct Extents {
    last: Vec<Extent>,
    spilled: Option<SpillFile<3>>,
}

impl Extents {
    /// Adds an extent that comes after all others.
    pub(crate) fn push(&mut self, run: Extent, dir: &Path) -> io::Result<()> {
        if self.last.len() >= BUDGET {
            let file = match &mut self.spilled {
                Some(file) => file,
                None => self.spilled.insert(SpillFile::new(dir)?),
            };
            file.append(self.last.drain(..).map(|run| [run.offset, run.length, run.records]))?;
        }
        self.last.push(run);
        Ok(())
    }

    /// All runs, from the first.
    pub(crate) fn iter(&self) -> io::Result<impl Iterator<Item = io::Result<Extent>> + use<>> {
        let spilled = self.spilled.as_ref().map(SpillFile::iter).transpose()?;
        let run = |row: io::Result<[u64; 3]>| {
            row.map(|[offset, length, records]| Extent { offset, length, records })
        };
        Ok(spilled.into_iter().flatten().map(run).chain(self.last.clone().into_iter().map(Ok)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_past_the_budget_come_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut runs = Extents::default();
        let count = BUDGET as u64 * 2 + 10;
        for index in 0..count {
            runs.push(Extent { offset: index * 10, length: 5, records: 1 }, dir.path()).unwrap();
        }
        for _ in 0..2 {
            let all: Vec<Extent> = runs.iter().unwrap().collect::<io::Result<_>>().unwrap();
            assert_eq!(all.len() as u64, count);
            assert!(all.iter().enumerate().all(|(index, run)| run.offset == index as u64 * 10));
        }
        assert!(runs.last.len() <= BUDGET);
    }
}
