//! Reading at any offset, without a position that another reader of the same file could move.

use std::{
    fs::File,
    io::{self, Cursor},
};

/// A source of bytes that several readers can read at any offset at once.
pub trait ReadAt {
    /// Reads some bytes from `offset` on into `out`, and returns how many; 0 at the end.
    ///
    /// # Errors
    /// If they cannot be read.
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize>;

    /// The size in bytes.
    ///
    /// # Errors
    /// If the size cannot be determined.
    fn size(&self) -> io::Result<u64>;

    /// Fills `out` with the bytes that begin at `offset`.
    ///
    /// # Errors
    /// If they cannot be read, or the end comes first.
    fn read_exact_at(&self, mut out: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !out.is_empty() {
            match self.read_at(out, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    out = out.split_at_mut(count).1;
                    offset += u64::try_from(count).map_err(io::Error::other)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl ReadAt for File {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, out, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// Bytes in memory. The position of the cursor does not matter.
impl<T: AsRef<[u8]>> ReadAt for Cursor<T> {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.get_ref().as_ref();
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        io::Read::read(&mut bytes.split_at(from).1, out)
    }

    fn size(&self) -> io::Result<u64> {
        u64::try_from(self.get_ref().as_ref().len()).map_err(io::Error::other)
    }
}
