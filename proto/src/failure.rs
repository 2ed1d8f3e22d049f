//! The only table from reasons to gRPC codes, and the only place that makes or reads a rich `Status`.

use std::{collections::HashMap, fmt, time::Duration};

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
        | R::OrganizationIdTaken
        | R::OperationContentDiffers
        | R::SlugTaken
        | R::SlugTakenInRegion => Code::AlreadyExists,
        R::RegionNotRegistered
        | R::OperationReleased
        | R::OperationConfirmed
        | R::OrganizationAlreadyReserved
        | R::OrganizationNotReserved
        | R::ImportNotFailed
        | R::ImportFileGone
        | R::OrganizationNotReady
        | R::RenameInFlight
        | R::ContractNotSupported
        | R::CapabilityMissing
        | R::TooManyAliases
        | R::SlugNotAlias
        | R::ReconciliationUnderWay
        | R::ImportBeingReverted
        | R::ImportIsDryRun
        | R::DecryptionKeyMissing
        | R::DecryptionKeyMismatch
        | R::SchemaChanged
        | R::ImportNotPlanning
        | R::ControlNotOfProduct
        | R::RegionSuspended
        | R::ImportPaused
        | R::ImportEnded
        | R::RegionHasRegistered
        | R::ControlLostRows => Code::FailedPrecondition,
        R::SpoolFailed
        | R::UploadTooLarge
        | R::TooManyUploads
        | R::TooManyBulkCreations
        | R::TooMuchInHand
        | R::TooManyWatches
        | R::TooManyCalls
        | R::IdSpaceExhausted
        | R::TooManySlugs => Code::ResourceExhausted,
        R::UniqueConflict
        | R::DatabaseContention
        | R::UploadStalled
        | R::StreamStalled
        | R::StreamIncomplete => Code::Aborted,
        R::DatabaseUnavailable | R::DatabaseFull | R::ControlUnavailable | R::ShuttingDown => {
            Code::Unavailable
        }
        R::IdentityInvalid => Code::Unauthenticated,
        R::RoleNotAllowed
        | R::NotOwnRegion
        | R::NotOwnImport
        | R::MergeNotAllowed
        | R::InstructionsRefused
        | R::RowNotOfImport
        | R::RegionNotAdded => Code::PermissionDenied,
        R::CountsDoNotAddUp | R::Internal | R::Unspecified => Code::Internal,
    }
}

/// The least time to wait before the same call, with nothing else changed, may succeed; `None` if it fails again until
/// somebody acts. `error.proto` documents it after the code.
#[must_use]
pub const fn retry_after(reason: ErrorReason) -> Option<Duration> {
    use ErrorReason as R;
    match reason {
        R::DatabaseContention | R::StreamIncomplete => Some(Duration::from_millis(100)),
        R::UniqueConflict
        | R::UploadStalled
        | R::StreamStalled
        | R::DatabaseUnavailable
        | R::ControlUnavailable
        | R::ShuttingDown
        | R::TooManyUploads
        | R::TooManyBulkCreations
        | R::TooMuchInHand
        | R::TooManyWatches
        | R::TooManyCalls => Some(Duration::from_secs(1)),
        R::DatabaseFull | R::ReconciliationUnderWay => Some(Duration::from_secs(10)),
        _ => None,
    }
}

/// The most bytes of a value of a request that an error shows; longer ones are cut.
pub const MAX_VALUE_BYTES: usize = 100;
/// The most bytes of a message as it is sent, where each byte that is not ASCII takes three. The message is sent twice,
/// and the whole status must stay below the 8 KiB of headers that clients and proxies accept.
const MAX_MESSAGE_BYTES: usize = 1_100;
/// The most bytes of the description of a field or of a precondition.
const MAX_DESCRIPTION_BYTES: usize = 200;
/// The most `BadRequest` violations of a status. Further ones are left out.
const MAX_VIOLATIONS: usize = 8;

/// The name in the metadata of an error for the address of control, if a region failed a call because of what
/// control answered. Commands for control in the message go there.
pub const CONTROL_ADDRESS: &str = "control_address";

/// A value of a request as an error shows it: its beginning, at most [`MAX_VALUE_BYTES`] bytes, without control characters.
#[must_use]
pub fn shown(value: &str) -> String {
    cut(value, MAX_VALUE_BYTES, |character| character.len_utf8())
}

/// The beginning of a text, at most `most` bytes as `length` counts them, with `…` if there was more. Control
/// characters become spaces.
fn cut(text: &str, most: usize, length: impl Fn(char) -> usize) -> String {
    let mut bytes = 0;
    let mut beginning = String::new();
    for character in text.chars().map(|it| if it.is_control() { ' ' } else { it }) {
        bytes += length(character);
        if bytes > most {
            beginning.push('…');
            break;
        }
        beginning.push(character);
    }
    beginning
}

/// The reason as `ErrorInfo` contains it: the enum value's name without its prefix.
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
    /// A failure for `reason`; the message says what happened and what to do. A message that is too long for a status
    /// is cut.
    #[must_use]
    pub fn new(reason: ErrorReason, message: impl Into<String>) -> Self {
        let travels = |character: char| if character.is_ascii() { 1 } else { 3 * character.len_utf8() };
        Self {
            reason,
            message: cut(&message.into(), MAX_MESSAGE_BYTES, travels),
            metadata: HashMap::new(),
            fields: Vec::new(),
            precondition: None,
        }
    }

    /// A malformed request: the field that is wrong, and how.
    #[must_use]
    pub fn invalid_field(field: &str, description: impl Into<String>) -> Self {
        let description = description.into();
        let message = format!("{}: {description}", shown(field));
        Self::new(ErrorReason::InvalidArgument, message).field(field, description)
    }

    /// Adds a name and value to the `ErrorInfo`, for programs.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.metadata.insert(key.to_owned(), shown(&value.to_string()));
        self
    }

    /// Adds a `BadRequest` violation, unless the status already has 8 of them.
    #[must_use]
    pub fn field(mut self, field: &str, description: impl Into<String>) -> Self {
        if self.fields.len() < MAX_VIOLATIONS {
            self.fields.push((shown(field), description_of(&description.into())));
        }
        self
    }

    /// Adds a `PreconditionFailure`: which thing is not in the state that the call needs.
    #[must_use]
    pub fn precondition(mut self, kind: &str, subject: impl Into<String>) -> Self {
        self.precondition = Some((kind.to_owned(), shown(&subject.into())));
        self
    }

    /// The reason, which decides the gRPC code.
    #[must_use]
    pub fn reason(&self) -> ErrorReason {
        self.reason
    }
}

fn description_of(text: &str) -> String {
    cut(text, MAX_DESCRIPTION_BYTES, char::len_utf8)
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let mut details =
            ErrorDetails::with_error_info(reason_name(failure.reason), DOMAIN, failure.metadata);
        for (field, description) in failure.fields {
            details.add_bad_request_violation(field, description);
        }
        if let Some(least) = retry_after(failure.reason) {
            details.set_retry_info(Some(least));
        }
        if let Some((kind, subject)) = failure.precondition {
            details.add_precondition_failure_violation(kind, subject, description_of(&failure.message));
        }
        Status::with_error_details(code(failure.reason), failure.message, details)
    }
}

/// The reason that a status contains, if it came from Causeway.
#[must_use]
pub fn reason_of(status: &Status) -> Option<ErrorReason> {
    let info = status.get_error_details().error_info().cloned()?;
    if info.domain != DOMAIN {
        return None;
    }
    ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason))
}

/// A value of the `ErrorInfo` that a status contains, if it came from Causeway and has it.
#[must_use]
pub fn metadata_of(status: &Status, name: &str) -> Option<String> {
    let mut info = status.get_error_details().error_info().cloned()?;
    if info.domain == DOMAIN { info.metadata.remove(name) } else { None }
}

/// The name of a gRPC code as the documentation of gRPC writes it, e.g. `NOT_FOUND`.
#[must_use]
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_comes_with_the_code_that_its_comment_names_and_may_be_retried_if_it_says_so() {
        let descriptors = crate::json::pool().expect("the contract can be read");
        let documented = descriptors
            .get_enum_by_name("causeway.relocation.v1.ErrorReason")
            .expect("the enum is in the descriptor set");
        let mut checked = 0;
        for value in documented.values().skip(1) {
            let comment = crate::comments::of_value(&value);
            let first = comment.split('.').next().expect("a first sentence");
            let (named, retry) = first.strip_suffix(", retry").map_or((first, false), |code| (code, true));
            let reason = ErrorReason::try_from(value.number()).expect("generated from the same file");
            let ours = format!("{:?}", code(reason));
            assert_eq!(named.replace('_', "").to_lowercase(), ours.to_lowercase(), "{}", value.name());
            assert_eq!(retry, retry_after(reason).is_some(), "{}", value.name());
            checked += 1;
        }
        assert!(checked > 25, "only {checked} reasons were found");
    }

    #[test]
    fn a_status_fits_into_the_headers_whatever_a_request_held() {
        for value in ["x".repeat(100_000), "ß".repeat(100_000), "\u{1}\u{10ffff}".repeat(100_000)] {
            let mut failure = Failure::new(ErrorReason::SlugNotFound, format!("no {value} is there"))
                .precondition("SLUG", value.as_str());
            for index in 0..20 {
                failure = failure.field(&format!("{index}{value}"), value.as_str());
            }
            for key in ["slug", "region", "limit"] {
                failure = failure.with(key, &value);
            }
            let status = Status::from(failure);
            let headers = status.clone().into_http::<String>();
            let size: usize =
                headers.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
            assert!(size < 8 << 10, "{size} bytes of headers");
            assert_eq!(reason_of(&status), Some(ErrorReason::SlugNotFound));
            assert!(status.message().starts_with("no ") && status.message().ends_with('…'), "{status:?}");
        }
        assert_eq!(shown("acme"), "acme");
        assert_eq!(shown("a\nb"), "a b");
        assert_eq!(shown(&"x".repeat(100)), "x".repeat(100));
        assert_eq!(shown(&"x".repeat(101)), "x".repeat(100) + "…");
    }

    /// The reasons that any call may give, as the comment of the enum says.
    const OF_ANY_CALL: [&str; 10] = [
        "DATABASE_UNAVAILABLE",
        "DATABASE_CONTENTION",
        "DATABASE_FULL",
        "SHUTTING_DOWN",
        "INTERNAL",
        "IDENTITY_INVALID",
        "ROLE_NOT_ALLOWED",
        "NOT_OWN_REGION",
        "NOT_OWN_IMPORT",
        "TOO_MANY_CALLS",
    ];

    #[test]
    fn every_call_says_whether_it_may_be_repeated_and_lists_its_reasons() {
        use prost_types::method_options::IdempotencyLevel;
        let pool = crate::json::pool().expect("the contract can be read");
        let mut checked = 0;
        for call in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let name = call.full_name().to_owned();
            let level =
                call.method_descriptor_proto().options.as_ref().map(|options| options.idempotency_level());
            assert_ne!(level.unwrap_or_default(), IdempotencyLevel::IdempotencyUnknown, "{name}");
            let comment = crate::comments::of_call(&call);
            let (_, reasons) =
                comment.split_once("Reasons: ").unwrap_or_else(|| panic!("{name} lists no reasons"));
            let words = reasons.split(|c: char| !c.is_ascii_uppercase() && c != '_');
            let reasons: Vec<&str> = words.filter(|word| word.len() > 3).collect();
            assert!(
                reasons.iter().any(|reason| !OF_ANY_CALL.contains(reason)) || reasons.is_empty(),
                "{name}"
            );
            for reason in reasons {
                let known = ErrorReason::from_str_name(&format!("ERROR_REASON_{reason}"));
                assert!(known.is_some(), "{name} lists {reason}, which is not a reason");
            }
            checked += 1;
        }
        assert!(checked > 35, "only {checked} calls were found");
    }

    #[test]
    fn a_status_gives_back_its_reason() {
        let status = Status::from(
            Failure::new(ErrorReason::SlugNotFound, "no organization is called x").with("slug", "x"),
        );
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(reason_of(&status), Some(ErrorReason::SlugNotFound));
        assert_eq!(metadata_of(&status, "slug").as_deref(), Some("x"));
        assert_eq!(metadata_of(&status, "region"), None);
        assert!(status.get_error_details().retry_info().is_none(), "it stays so");
        let away = Status::from(Failure::new(ErrorReason::DatabaseUnavailable, "no database"));
        let details = away.get_error_details();
        assert_eq!(details.retry_info().and_then(|info| info.retry_delay), Some(Duration::from_secs(1)));
        assert_eq!(reason_of(&Status::not_found("somebody else's")), None);
    }
}
