//! Files with certificates, private keys and revocation lists, in PEM form.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The most bytes that are read of a file. The longest ones are revocation lists; a million entries take some 40 MB.
const MAX_BYTES: u64 = 64 << 20;

/// A certificate with the private key that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairFiles {
    /// The certificate, followed by those between it and its CA, if there are any.
    pub cert: PathBuf,
    /// The private key, without a passphrase.
    pub key: PathBuf,
}

/// Why a file cannot be used. The text names the file and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It cannot be read, or is larger than any such file.
    #[error("{path} cannot be read: {reason}")]
    Unreadable {
        /// The path of the file, as it was given.
        path: String,
        /// The error of the operating system.
        reason: String,
    },
    /// It does not have what it should have.
    #[error("{path} has no {missing} in PEM form")]
    Empty {
        /// The path of the file, as it was given.
        path: String,
        /// What it should have.
        missing: &'static str,
    },
    /// What it has cannot be parsed, or is of a kind that is not supported.
    #[error("{path} cannot be used: {reason}")]
    Malformed {
        /// The path of the file, as it was given.
        path: String,
        /// Why its content cannot be used.
        reason: String,
    },
    /// The key is that of another certificate.
    #[error("the private key {key} does not belong to the certificate {cert}; give both files of one issue")]
    Mismatch {
        /// The file with the certificate.
        cert: String,
        /// The file with the key.
        key: String,
    },
    /// The certificate is over.
    #[error("the certificate {path} has expired on {}; issue a new one", day(.at))]
    Expired {
        /// The path of the file, as it was given.
        path: String,
        /// The moment at which the certificate expired.
        at: DateTime<Utc>,
    },
    /// The certificate has not begun.
    #[error("the certificate {path} is not valid before {}; set this machine's clock, or issue a new one", day(.at))]
    NotYetValid {
        /// The path of the file, as it was given.
        path: String,
        /// The moment from which the certificate is valid.
        at: DateTime<Utc>,
    },
}

/// A time as messages show it.
pub(crate) fn day(at: &DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// A path as messages show it.
pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A file's bytes. Erased when it is dropped, for they may be a key.
#[derive(Debug)]
pub(crate) struct Contents {
    path: PathBuf,
    bytes: Zeroizing<Vec<u8>>,
}

impl Contents {
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let unreadable = |reason: String| FileError::Unreadable { path: shown(path), reason };
        let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
        // Large enough from the start: a growing buffer would leave copies of a key in memory.
        let size = file.metadata().map_or(0, |metadata| metadata.len()).min(MAX_BYTES);
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1));
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(unreadable("it is larger than 64 MiB".to_owned()));
        }
        Ok(Self { path: path.to_owned(), bytes })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn malformed(&self, reason: impl ToString) -> FileError {
        FileError::Malformed { path: shown(&self.path), reason: reason.to_string() }
    }

    fn empty(&self, missing: &'static str) -> FileError {
        FileError::Empty { path: shown(&self.path), missing }
    }

    /// All certificates, at least one.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, FileError> {
        let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        match parsed {
            Ok(found) if found.is_empty() => Err(self.empty("certificate")),
            Ok(found) => Ok(found),
            Err(error) => Err(self.malformed(error)),
        }
    }

    /// The first private key in the file.
    pub(crate) fn key(&self) -> Result<PrivateKeyDer<'static>, FileError> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound => {
                self.empty("private key without a passphrase (`openssl pkey -in OLD -out NEW` removes one)")
            }
            error => self.malformed(error),
        })
    }

    /// All revocation lists, at least one.
    pub(crate) fn revocation_lists(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
        let parsed: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&self.bytes).collect();
        match parsed {
            Ok(found) if found.is_empty() => Err(self.empty("revocation list")),
            Ok(found) => Ok(found),
            Err(error) => Err(self.malformed(error)),
        }
    }

    /// The certificates as those of CAs.
    pub(crate) fn roots(&self) -> Result<RootCertStore, FileError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|error| self.malformed(error))?;
        }
        Ok(roots)
    }
}

/// A number that differs if the contents of any of the files do.
pub(crate) fn digest<'a>(files: impl IntoIterator<Item = &'a Contents>) -> [u8; 32] {
    let mut all = Sha256::new();
    for file in files {
        all.update((file.bytes.len() as u64).to_le_bytes());
        all.update(file.bytes.as_slice());
    }
    all.finalize().into()
}

/// Warns if users other than the owner can read a file with a private key or another secret.
#[cfg(unix)]
pub fn warn_if_readable_by_others(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
    if mode & 0o077 != 0 {
        let mode = format!("{mode:o}");
        tracing::warn!(
            mode,
            "other users of this machine can read a file with a secret; chmod 600 '{}'",
            path.display()
        );
    }
}

/// Other systems have no such modes.
#[cfg(not(unix))]
pub fn warn_if_readable_by_others(_: &Path) {}
