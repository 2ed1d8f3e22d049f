//! Reading an export: a JSON array of `{"model", "pk", "fields"}`, record by record, never the whole.
//!
//! [`Scanner`] cuts the bytes into records, [`RawRecord`] takes a record apart, [`decode`] makes values of its
//! fields as the catalog says.

mod alike;
mod array;
mod decode;
mod options;
mod raw;
mod scan;
mod source;

pub(crate) use decode::each_field;
pub use decode::{Decoded, Decoder, decode_literal};
pub(crate) use options::unknown_option;
pub use raw::RawRecord;
pub use scan::{Limit, Limits, Scanned, Scanner};
pub use source::{Part, Source};

use crate::finding::{Finding, FindingKind};

/// The largest primary key: ids travel through JSON and JavaScript.
pub const MAX_PK: i64 = (1 << 53) - 1;

/// Why an export cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It breaks a rule; the finding says which record, field and rule.
    #[error("{0}")]
    Invalid(Box<Finding>),
    /// A record is more than the service takes; the finding says which, as far as that can be read.
    #[error("{finding}")]
    OverLimit {
        /// The limit that it passes.
        limit: Limit,
        /// Where it begins, and what may help.
        finding: Box<Finding>,
    },
    /// None of the slugs of the filter is in it.
    #[error("{0}")]
    FilterMatchesNothing(String),
    /// It cannot be read.
    #[error("the spooled export cannot be read")]
    Io(#[from] std::io::Error),
    /// The service is stopping.
    #[error("stopped")]
    Stopped,
}

impl ExportError {
    pub(crate) fn form(offset: u64, reason: impl Into<String>) -> Self {
        Self::Invalid(Box::new(Finding::new(FindingKind::DeserializationFailed, reason).at(offset)))
    }
}

impl ExportError {
    /// Names the place of what is wrong with a record.
    pub(crate) fn placed(self, place: impl FnOnce(Finding) -> Finding) -> Self {
        match self {
            Self::Invalid(finding) => Self::Invalid(Box::new(place(*finding))),
            Self::OverLimit { limit, finding } => {
                Self::OverLimit { limit, finding: Box::new(place(*finding)) }
            }
            other => other,
        }
    }
}

impl From<Finding> for ExportError {
    fn from(finding: Finding) -> Self {
        Self::Invalid(Box::new(finding))
    }
}
