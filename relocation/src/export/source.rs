//! The file that an export is read from, plain or encrypted. A reader need not know which it is: all offsets are
//! offsets in the plain text.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use causeway_silo::env::Environment;

use crate::encrypted::{Encrypted, OpenError, Plaintext, PrivateKey, ReadAt as _};

/// An export in an open file. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Source(Form);

#[derive(Debug, Clone)]
enum Form {
    Plain { file: Arc<File>, size: u64 },
    Encrypted(Encrypted<File>),
}

impl Source {
    /// Opens a plain export.
    ///
    /// # Errors
    /// If there is no such file, or it cannot be read.
    pub fn plain(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.size()?;
        Ok(Self(Form::Plain { file: Arc::new(file), size }))
    }

    /// Opens an encrypted export and authenticates all of it, unless `stop` is set before that is done. Blocks.
    ///
    /// # Errors
    /// If it cannot be read, is damaged or changed, or was encrypted for another key.
    pub fn encrypted(
        path: &Path,
        key: &PrivateKey,
        env: &Environment,
        stop: &AtomicBool,
    ) -> Result<Self, OpenError> {
        Ok(Self(Form::Encrypted(Encrypted::open_unless(File::open(path)?, key, env, stop)?)))
    }

    /// How many bytes the export has.
    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.0 {
            Form::Plain { size, .. } => *size,
            Form::Encrypted(sealed) => sealed.size(),
        }
    }

    /// The SHA-256 of the export in lowercase hex, if it is encrypted: authentication has computed it. `None` for a
    /// plain export.
    #[must_use]
    pub fn sha256(&self) -> Option<String> {
        match &self.0 {
            Form::Plain { .. } => None,
            Form::Encrypted(sealed) => Some(sealed.sha256()),
        }
    }

    /// Reads a part of the export. A range that goes beyond the end is cut there.
    #[must_use]
    pub fn part(&self, range: Range<u64>) -> ExportRange {
        ExportRange(match &self.0 {
            Form::Plain { file, .. } => PartForm::Plain { file: Arc::clone(file), range },
            Form::Encrypted(sealed) => PartForm::Encrypted(Box::new(sealed.part(range))),
        })
    }

    /// Reads the export from an offset to its end.
    #[must_use]
    pub fn from(&self, offset: u64) -> ExportRange {
        self.part(offset..self.size())
    }
}

/// A part of an export, read from its beginning.
#[derive(Debug)]
pub struct ExportRange(PartForm);

#[derive(Debug)]
enum PartForm {
    Plain { file: Arc<File>, range: Range<u64> },
    Encrypted(Box<Plaintext<File>>),
}

impl Read for ExportRange {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let (file, range) = match &mut self.0 {
            PartForm::Encrypted(plaintext) => return plaintext.read(out),
            PartForm::Plain { file, range } => (file, range),
        };
        let left = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let wanted = out.len().min(left);
        let (out, _) = out.split_at_mut(wanted);
        let count = file.read_at(out, range.start)?;
        range.start += u64::try_from(count).map_err(io::Error::other)?;
        Ok(count)
    }
}
