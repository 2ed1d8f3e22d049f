//! Reading an export: a JSON array of `{"model", "pk", "fields"}`, record by record, never as a whole.
//!
//! [`Scanner`] cuts the bytes into records, [`RawRecord`] splits a record into its parts, [`decode`] turns
//! its fields into values as the catalog defines them.

mod alike;
mod array;
mod decode;
mod json_text;
mod options;
mod raw;
mod scan;
mod source;

pub(crate) use array::numbers;
pub(crate) use decode::each_field;
pub use decode::{Decoded, Decoder, decode_literal};
pub(crate) use json_text::without_bad_escapes;
pub(crate) use options::unknown_option;
pub use raw::RawRecord;
pub(crate) use raw::cow_str;
pub use scan::{Limit, Limits, Scanned, Scanner};
pub use source::{ExportRange, Source};

use crate::finding::{Finding, FindingKind};

/// The largest primary key. Ids pass through JSON and JavaScript, which has no larger exact integers.
pub const MAX_PK: i64 = (1 << 53) - 1;

/// Why an export cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The export breaks a rule; the finding says which record, field and rule.
    #[error("{0}")]
    Invalid(Box<Finding>),
    /// A record is over a limit of the service; the finding says which record, as far as that can be read.
    #[error("{finding}")]
    OverLimit {
        /// The limit that the record is over.
        limit: Limit,
        /// Where the record begins, and what may help.
        finding: Box<Finding>,
    },
    /// The export has none of the slugs of the filter.
    #[error("{0}")]
    FilterMatchesNothing(String),
    /// The file cannot be read. Whoever opens it adds its path to the error.
    #[error("the spooled export cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// What is known of the export contradicts itself: a defect of this program.
    #[error("{0}: a defect of Causeway")]
    Inconsistent(&'static str),
    /// The service is stopping.
    #[error("stopped")]
    Stopped,
}

impl ExportError {
    pub(crate) fn form(offset: u64, reason: impl Into<String>) -> Self {
        Self::Invalid(Box::new(Finding::new(FindingKind::DeserializationFailed, reason).at(offset)))
    }

    /// Something that is known of the export contradicts itself. That is a defect of this program, not of the export.
    pub(crate) fn inconsistent(what: &'static str) -> Self {
        Self::Inconsistent(what)
    }
}

impl ExportError {
    /// Adds the place to the finding, if the error has one.
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
