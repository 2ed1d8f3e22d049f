//! When certificates begin and end.

use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::{parse_x509_certificate, parse_x509_crl};

use crate::files::{Contents, FileError, day, shown};

/// How long before its end a certificate is warned of: long enough for somebody who is away to come back.
pub const WARN_BEFORE: TimeDelta = TimeDelta::days(14);

/// The end of the certificate that somebody has shown: the last moment at which it is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateEnd(pub DateTime<Utc>);

impl CertificateEnd {
    /// The end of this certificate; `None` if it cannot be parsed.
    #[must_use]
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, parsed) = parse_x509_certificate(der).ok()?;
        Some(Self(time(parsed.validity().not_after.timestamp())))
    }
}

/// What it is that begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CertificateKind {
    Own,
    Ca,
    RevocationList,
}

/// Something in a file that is valid for a time only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dated {
    kind: CertificateKind,
    path: PathBuf,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
}

/// When the first certificate of each kind ends; `None` where there is none of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// The own certificate, and those between it and its CA.
    pub own: Option<DateTime<Utc>>,
    /// The CAs that the other side is checked by.
    pub ca: Option<DateTime<Utc>>,
    /// When a revocation list should have been replaced.
    pub revocation_list: Option<DateTime<Utc>>,
}

impl Ends {
    pub(crate) fn of(all: &[Dated]) -> Self {
        let first = |kind| all.iter().filter(|dated| dated.kind == kind).map(|dated| dated.until).min();
        Self {
            own: first(CertificateKind::Own),
            ca: first(CertificateKind::Ca),
            revocation_list: first(CertificateKind::RevocationList),
        }
    }
}

fn malformed(file: &Contents, what: &str) -> FileError {
    FileError::Malformed { path: shown(file.path()), reason: format!("{what} cannot be parsed") }
}

fn time(seconds: i64) -> DateTime<Utc> {
    // A certificate may name the year 9999; anything beyond what the type can hold is as good as never.
    DateTime::from_timestamp(seconds, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

impl Dated {
    fn certificate(
        kind: CertificateKind,
        file: &Contents,
        der: &CertificateDer<'_>,
    ) -> Result<Self, FileError> {
        let (_, parsed) = parse_x509_certificate(der).map_err(|_| malformed(file, "a certificate"))?;
        let validity = parsed.validity();
        let (from, until) = (time(validity.not_before.timestamp()), time(validity.not_after.timestamp()));
        Ok(Self { kind, path: file.path().to_owned(), from, until })
    }

    /// Those of a chain: the certificate of this process, and those between it and its CA.
    pub(crate) fn of_chain(file: &Contents, chain: &[CertificateDer<'_>]) -> Result<Vec<Self>, FileError> {
        chain.iter().map(|der| Self::certificate(CertificateKind::Own, file, der)).collect()
    }

    /// Those of all CAs in a file.
    pub(crate) fn of_cas(file: &Contents) -> Result<Vec<Self>, FileError> {
        file.certificates()?.iter().map(|der| Self::certificate(CertificateKind::Ca, file, der)).collect()
    }

    /// Those of revocation lists that contain the time of the next one.
    pub(crate) fn of_revocation_lists(
        file: &Contents,
        lists: &[CertificateRevocationListDer<'_>],
    ) -> Result<Vec<Self>, FileError> {
        let mut dated = Vec::new();
        for list in lists {
            let (_, parsed) = parse_x509_crl(list).map_err(|_| malformed(file, "a revocation list"))?;
            if let Some(next) = parsed.next_update() {
                dated.push(Self {
                    kind: CertificateKind::RevocationList,
                    path: file.path().to_owned(),
                    from: time(parsed.last_update().timestamp()),
                    until: time(next.timestamp()),
                });
            }
        }
        Ok(dated)
    }

    /// Refuses a certificate that is not valid now.
    pub(crate) fn check(&self, now: DateTime<Utc>) -> Result<(), FileError> {
        let path = shown(&self.path);
        if now > self.until {
            return Err(FileError::Expired { path, at: self.until });
        }
        if now < self.from {
            return Err(FileError::NotYetValid { path, at: self.from });
        }
        Ok(())
    }

    /// What to warn of now, if anything.
    pub(crate) fn warning(&self, now: DateTime<Utc>) -> Option<String> {
        let (path, until) = (shown(&self.path), day(&self.until));
        let what = match self.kind {
            CertificateKind::Own => format!("the certificate {path}"),
            CertificateKind::Ca => format!("a CA of {path}"),
            CertificateKind::RevocationList if now > self.until => {
                return Some(format!(
                    "the revocation list {path} should have been renewed by {until}; get a newer one"
                ));
            }
            CertificateKind::RevocationList => return None,
        };
        if now > self.until {
            Some(format!("{what} has expired on {until}; issue a new one"))
        } else if now < self.from {
            Some(format!("{what} is not valid before {}; look at this machine's clock", day(&self.from)))
        } else if self.until - now <= WARN_BEFORE {
            Some(format!("{what} expires on {until}; issue a new one before that"))
        } else {
            None
        }
    }
}
