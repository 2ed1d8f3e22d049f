//! The one table from reasons to gRPC codes, and the one place where a rich `Status` is made or read.

use std::{collections::HashMap, fmt};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::relocation::v1::ErrorReason;

/// The domain of every `ErrorInfo` that Causeway sends.
pub const DOMAIN: &str = "causeway";

/// The gRPC code that a reason always comes with, as `error.proto` documents it.
#[must_use]
pub const fn code(reason: ErrorReason) -> Code {
    use ErrorReason as R;
    match reason {
        R::InvalidArgument
        | R::InvalidPageToken
        | R::UploadInvalid
        | R::ExportInvalid
        | R::EncryptedExportInvalid
        | R::FilterMatchesNothing
        | R::RecordTooLarge
        | R::RecordTooDeep
        | R::ModelNotWritable
        | R::SlugInvalid
        | R::SlugReserved => Code::InvalidArgument,
        R::ImportNotFound
        | R::RegionNotFound
        | R::SlugNotFound
        | R::OrganizationNotFound
        | R::OperationNotFound => Code::NotFound,
        R::ImportContentDiffers
        | R::ChunkContentDiffers
        | R::RegionNameTaken
        | R::OperationContentDiffers
        | R::SlugTaken
        | R::SlugTakenInRegion => Code::AlreadyExists,
        R::RegionNotRegistered
        | R::OperationReleased
        | R::OperationConfirmed
        | R::OrganizationAlreadyReserved
        | R::ImportNotFailed
        | R::ImportFileGone
        | R::OrganizationNotReady
        | R::RenameInFlight
        | R::TooManyAliases
        | R::SlugNotAlias
        | R::ReconciliationUnderWay
        | R::ImportBeingReverted
        | R::ImportIsDryRun
        | R::DecryptionKeyMissing
        | R::DecryptionKeyMismatch => Code::FailedPrecondition,
        R::SpoolFailed
        | R::UploadTooLarge
        | R::TooManyUploads
        | R::TooManyWatches
        | R::IdSpaceExhausted
        | R::TooManySlugs => Code::ResourceExhausted,
        R::UniqueConflict | R::DatabaseContention | R::UploadStalled | R::StreamIncomplete => Code::Aborted,
        R::DatabaseUnavailable | R::ControlUnavailable | R::ShuttingDown => Code::Unavailable,
        R::CountsDoNotAddUp | R::Internal | R::Unspecified => Code::Internal,
    }
}

/// The reason as `ErrorInfo` carries it: the enum value's name without its prefix.
#[must_use]
pub fn reason_name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

/// A failure on its way to a client.
#[derive(Debug, Clone)]
pub struct Failure {
    reason: ErrorReason,
    message: String,
    metadata: HashMap<String, String>,
    fields: Vec<(String, String)>,
    precondition: Option<(String, String)>,
}

impl Failure {
    /// A failure for `reason`; the message says what happened and what to do.
    #[must_use]
    pub fn new(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            metadata: HashMap::new(),
            fields: Vec::new(),
            precondition: None,
        }
    }

    /// A malformed request: the field that is wrong, and how.
    #[must_use]
    pub fn invalid_field(field: &str, description: impl Into<String>) -> Self {
        let description = description.into();
        Self::new(ErrorReason::InvalidArgument, format!("{field}: {description}")).field(field, description)
    }

    /// Adds a name and value to the `ErrorInfo`, for programs.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// Adds a `BadRequest` violation.
    #[must_use]
    pub fn field(mut self, field: &str, description: impl Into<String>) -> Self {
        self.fields.push((field.to_owned(), description.into()));
        self
    }

    /// Adds a `PreconditionFailure`: which thing is not in the state that the call needs.
    #[must_use]
    pub fn precondition(mut self, kind: &str, subject: impl Into<String>) -> Self {
        self.precondition = Some((kind.to_owned(), subject.into()));
        self
    }

    /// Its reason.
    #[must_use]
    pub fn reason(&self) -> ErrorReason {
        self.reason
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let mut details =
            ErrorDetails::with_error_info(reason_name(failure.reason), DOMAIN, failure.metadata);
        for (field, description) in failure.fields {
            details.add_bad_request_violation(field, description);
        }
        if let Some((kind, subject)) = failure.precondition {
            details.add_precondition_failure_violation(kind, subject, failure.message.clone());
        }
        Status::with_error_details(code(failure.reason), failure.message, details)
    }
}

/// The reason that a status carries, if it came from Causeway.
#[must_use]
pub fn reason_of(status: &Status) -> Option<ErrorReason> {
    let info = status.get_error_details().error_info().cloned()?;
    if info.domain != DOMAIN {
        return None;
    }
    ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_comes_with_the_code_that_its_comment_names() {
        let descriptors = crate::json::pool();
        let documented = descriptors
            .get_enum_by_name("causeway.relocation.v1.ErrorReason")
            .expect("the enum is in the descriptor set");
        let file = documented.parent_file();
        let locations =
            &file.file_descriptor_proto().source_code_info.as_ref().expect("comments are kept").location;
        let mut checked = 0;
        for (index, value) in documented.values().enumerate().skip(1) {
            let path = [5, 0, 2, i32::try_from(index).expect("small")];
            let comment = locations
                .iter()
                .find(|location| location.path == path)
                .map(|location| location.leading_comments().trim().to_owned())
                .expect("every reason has a comment");
            let named = comment.split('.').next().expect("a first sentence").to_owned();
            let reason = ErrorReason::try_from(value.number()).expect("generated from the same file");
            let ours = format!("{:?}", code(reason));
            assert_eq!(named.replace('_', "").to_lowercase(), ours.to_lowercase(), "{}", value.name());
            checked += 1;
        }
        assert!(checked > 25, "only {checked} reasons were found");
    }

    #[test]
    fn a_status_gives_back_its_reason() {
        let status = Status::from(
            Failure::new(ErrorReason::SlugNotFound, "no organization is called x").with("slug", "x"),
        );
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(reason_of(&status), Some(ErrorReason::SlugNotFound));
        assert_eq!(reason_of(&Status::not_found("somebody else's")), None);
    }
}
