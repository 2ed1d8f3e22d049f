//! The entries that planning sorts: the hash of a key, and the record that has the key.

use std::io;

use serde::{Deserialize, Serialize};

/// A key of a record: the hash of its values, the set that it belongs to, and where the record begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) hash: u64,
    pub(super) set: u32,
    pub(super) offset: u64,
}

const BYTES: usize = 20;

impl Entry {
    /// The entry as a row of a spill file.
    pub(super) fn into_row(self) -> [u64; 3] {
        [self.hash, self.set.into(), self.offset]
    }

    pub(super) fn from_row([hash, set, offset]: [u64; 3]) -> io::Result<Self> {
        Ok(Self { hash, set: u32::try_from(set).map_err(io::Error::other)?, offset })
    }

    /// Reads all entries of a file, up to its end.
    pub(super) fn all(mut bytes: &[u8]) -> io::Result<Vec<Self>> {
        let mut entries = Vec::with_capacity(bytes.len() / BYTES);
        while let Some(entry) = Self::read(&mut bytes)? {
            entries.push(entry);
        }
        Ok(entries)
    }

    pub(super) fn write(self, file: &mut impl io::Write) -> io::Result<()> {
        file.write_all(&self.hash.to_le_bytes())?;
        file.write_all(&self.set.to_le_bytes())?;
        file.write_all(&self.offset.to_le_bytes())
    }

    pub(super) fn read(file: &mut impl io::Read) -> io::Result<Option<Self>> {
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
