//! The only place that turns an error of control into a failure of the contract and a gRPC status.

use causeway_proto::{failure::Failure, relocation::v1::ErrorReason};
use causeway_relocation::writer::WriteError;
use causeway_silo::db::{DbError, DbErrorKind};
use tonic::Status;

use crate::Error;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        failure(&error).into()
    }
}

/// The reason of an error about one organization, for an answer that lists many.
pub(super) fn reason(error: &Error) -> ErrorReason {
    failure(error).reason()
}

fn failure(error: &Error) -> Failure {
    let new = |reason| Failure::new(reason, error.to_string());
    match error {
        Error::InvalidArgument { field, description } => Failure::invalid_field(field, description),
        Error::SchemaChanged => new(ErrorReason::SchemaChanged),
        Error::StreamIncomplete => new(ErrorReason::StreamIncomplete),
        Error::StreamStalled(_) | Error::StreamTooSlow { .. } => new(ErrorReason::StreamStalled),
        Error::TooManyBulkCreations { limit, of } => {
            new(ErrorReason::TooManyBulkCreations).with("limit", limit).with("of", of)
        }
        Error::TooMuchInHand { limit, of } => {
            new(ErrorReason::TooMuchInHand).with("limit", limit).with("of", of)
        }
        Error::RegionNotRegistered { region } => {
            new(ErrorReason::RegionNotRegistered).with("region", region).precondition("REGION", region)
        }
        Error::RegionNameTaken { region } | Error::RegionIdentityDiffers { region, .. } => {
            new(ErrorReason::RegionNameTaken).with("region", region)
        }
        Error::RegionNotAdded { region } => new(ErrorReason::RegionNotAdded).with("region", region),
        Error::NotOwnRegion { region } => new(ErrorReason::NotOwnRegion).with("region", region),
        Error::RegionSuspended { region, .. } => {
            new(ErrorReason::RegionSuspended).with("region", region).precondition("REGION", region)
        }
        Error::RegionHasRegistered { region } => {
            new(ErrorReason::RegionHasRegistered).with("region", region).precondition("REGION", region)
        }
        Error::RegionNotFound { region } => new(ErrorReason::RegionNotFound).with("region", region),
        Error::IdSpaceExhausted { model } => new(ErrorReason::IdSpaceExhausted).with("model", model),
        Error::SlugNotFound { slug } => new(ErrorReason::SlugNotFound).with("slug", slug),
        Error::OperationNotFound { region, operation_id } => {
            new(ErrorReason::OperationNotFound).with("region", region).with("operation_id", operation_id)
        }
        Error::RenameNotFound { operation_id } => {
            new(ErrorReason::OperationNotFound).with("operation_id", operation_id)
        }
        Error::OperationContentDiffers { operation_id } => {
            new(ErrorReason::OperationContentDiffers).with("operation_id", operation_id)
        }
        Error::OperationReleased { operation_id } => new(ErrorReason::OperationReleased)
            .with("operation_id", operation_id)
            .precondition("OPERATION", operation_id.to_string()),
        Error::OperationTooLarge { limit } => new(ErrorReason::TooManySlugs).with("limit", limit),
        Error::TooManySlugs { most } => new(ErrorReason::TooManySlugs).with("most", most),
        Error::OrganizationAlreadyReserved { organization_id, slug, operation_id } => {
            new(ErrorReason::OrganizationAlreadyReserved)
                .with("organization_id", organization_id)
                .with("slug", slug)
                .with("operation_id", operation_id)
                .precondition("ORGANIZATION", organization_id.to_string())
        }
        Error::OrganizationIdTaken { organization_id, region } => new(ErrorReason::OrganizationIdTaken)
            .with("organization_id", organization_id)
            .with("region", region),
        Error::OrganizationNotReserved { organization_id } => {
            new(ErrorReason::OrganizationNotReserved).with("organization_id", organization_id)
        }
        Error::SlugTaken { slug } | Error::SlugTakenInProduct { slug, .. } => {
            new(ErrorReason::SlugTaken).with("slug", slug)
        }
        Error::SlugInvalid { slug } => {
            new(ErrorReason::SlugInvalid).with("slug", slug).field("desired_slug", error.to_string())
        }
        Error::SlugReserved { slug } => {
            new(ErrorReason::SlugReserved).with("slug", slug).field("desired_slug", error.to_string())
        }
        Error::OrganizationNotFound { organization_id } => {
            new(ErrorReason::OrganizationNotFound).with("organization_id", organization_id)
        }
        Error::TooManyAliases { organization_id, limit } => new(ErrorReason::TooManyAliases)
            .with("organization_id", organization_id)
            .with("limit", limit)
            .precondition("ORGANIZATION", organization_id.to_string()),
        Error::RenameInFlight { organization_id, operation_id } => new(ErrorReason::RenameInFlight)
            .with("organization_id", organization_id)
            .with("operation_id", operation_id)
            .precondition("ORGANIZATION", organization_id.to_string()),
        Error::RenamingInProduct { organization_id, slug } => new(ErrorReason::RenameInFlight)
            .with("organization_id", organization_id)
            .with("slug", slug)
            .precondition("ORGANIZATION", organization_id.to_string()),
        Error::Refused(refusal) => new(refusal.reason),
        Error::SlugNotAlias { slug } => {
            new(ErrorReason::SlugNotAlias).with("slug", slug).precondition("SLUG", slug)
        }
        Error::OperationConfirmed { operation_id } => new(ErrorReason::OperationConfirmed)
            .with("operation_id", operation_id)
            .precondition("OPERATION", operation_id.to_string()),
        Error::TooManyWatches { limit } => new(ErrorReason::TooManyWatches).with("limit", limit),
        Error::ShuttingDown => new(ErrorReason::ShuttingDown),
        Error::ModelNotWritable { model } => new(ErrorReason::ModelNotWritable).with("model", model),
        Error::ExportInvalid(_) | Error::Write(WriteError::Value(_)) => new(ErrorReason::ExportInvalid),
        Error::ChunkContentDiffers { model, min_ordinal } => {
            new(ErrorReason::ChunkContentDiffers).with("model", model).with("min_ordinal", min_ordinal)
        }
        Error::ImportNotPlanning { import_id } => new(ErrorReason::ImportNotPlanning)
            .with("import_id", import_id)
            .precondition("IMPORT", import_id.to_string()),
        Error::RowNotOfImport { import_id, record, model, id, .. }
        | Error::RowUsedElsewhere { import_id, record, model, id, .. } => new(ErrorReason::RowNotOfImport)
            .with("import_id", import_id)
            .with("ordinal", record)
            .with("model", model)
            .with("id", id),
        Error::ImportBeingReverted { import_id } => new(ErrorReason::ImportBeingReverted)
            .with("import_id", import_id)
            .precondition("IMPORT", import_id.to_string()),
        Error::ChunkExists
        | Error::Write(WriteError::IdsTaken { .. } | WriteError::UniqueConflict { .. }) => {
            new(ErrorReason::UniqueConflict)
        }
        Error::TaskFailed(error) => {
            tracing::error!(%error, "the task of a call panicked or was cancelled");
            Failure::new(ErrorReason::ShuttingDown, "control is going down; try again")
        }
        Error::Database(error) | Error::Write(WriteError::Database(error)) => database_failure(error),
    }
}

/// Logs the error of the database. The caller only gets what it can do about the failure.
fn database_failure(error: &DbError) -> Failure {
    match error.kind() {
        DbErrorKind::Full => {
            tracing::warn!(%error, "the disk of the database is full: callers wait until there is room");
            Failure::new(
                ErrorReason::DatabaseFull,
                "the disk of control's database is full; make room there, and what waits for it goes on by itself",
            )
        }
        DbErrorKind::ReadOnly => {
            tracing::warn!(%error, "the database can only be read: callers wait until it can be written to");
            Failure::new(
                ErrorReason::DatabaseUnavailable,
                "the database of control can only be read; make it writable, and what waits for it goes on by itself",
            )
        }
        DbErrorKind::Unavailable => {
            tracing::warn!(%error, "the database cannot be used at the moment: callers wait");
            Failure::new(
                ErrorReason::DatabaseUnavailable,
                "the database of control cannot be used at the moment; its log says why",
            )
        }
        DbErrorKind::Closed => {
            tracing::debug!(%error, "a call arrived after the service had stopped");
            Failure::new(ErrorReason::ShuttingDown, "control is going down; try again")
        }
        DbErrorKind::Contention => {
            tracing::warn!(%error, "a transaction lost repeatedly against concurrent ones");
            Failure::new(ErrorReason::DatabaseContention, "the database of control is contended; try again")
        }
        DbErrorKind::Unique | DbErrorKind::ForeignKey | DbErrorKind::Check | DbErrorKind::Other => {
            tracing::error!(%error, kind = ?error.kind(), "the database failed");
            Failure::new(ErrorReason::Internal, "control met a defect; its log has the details")
        }
    }
}

#[cfg(test)]
mod tests {
    use causeway_proto::failure::reason_of;
    use tonic::Code;
    use tonic_types::StatusExt as _;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_malformed_field_is_named() {
        let status = Status::from(Error::invalid("requests[3].slug", "is too long"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(reason_of(&status), Some(ErrorReason::InvalidArgument));
        let violations = status.get_details_bad_request().expect("there is one").field_violations;
        assert_eq!(violations[0].field, "requests[3].slug");
        assert_eq!(violations[0].description, "is too long");
    }

    #[test]
    fn an_unknown_region_is_a_precondition() {
        let status = Status::from(Error::RegionNotRegistered { region: "us".to_owned() });
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(reason_of(&status), Some(ErrorReason::RegionNotRegistered));
        let violations = status.get_details_precondition_failure().expect("there is one").violations;
        assert_eq!((violations[0].r#type.as_str(), violations[0].subject.as_str()), ("REGION", "us"));
        let info = status.get_details_error_info().expect("there is one");
        assert_eq!(info.metadata["region"], "us");
    }

    #[test]
    fn each_error_has_its_reason() {
        let text = || "x".to_owned();
        let operation_id = Uuid::nil();
        for (error, reason) in [
            (Error::RegionNameTaken { region: text() }, ErrorReason::RegionNameTaken),
            (Error::NotOwnRegion { region: text() }, ErrorReason::NotOwnRegion),
            (Error::RegionNotFound { region: text() }, ErrorReason::RegionNotFound),
            (Error::IdSpaceExhausted { model: text() }, ErrorReason::IdSpaceExhausted),
            (Error::SlugNotFound { slug: text() }, ErrorReason::SlugNotFound),
            (Error::OperationNotFound { region: text(), operation_id }, ErrorReason::OperationNotFound),
            (Error::RenameNotFound { operation_id }, ErrorReason::OperationNotFound),
            (Error::OperationContentDiffers { operation_id }, ErrorReason::OperationContentDiffers),
            (Error::OperationReleased { operation_id }, ErrorReason::OperationReleased),
            (Error::TooManySlugs { most: 1 }, ErrorReason::TooManySlugs),
            (
                Error::OrganizationAlreadyReserved { organization_id: 1, slug: text(), operation_id },
                ErrorReason::OrganizationAlreadyReserved,
            ),
        ] {
            assert_eq!(reason_of(&Status::from(error)), Some(reason));
        }
    }

    #[test]
    fn what_the_database_says_stays_here() {
        let status = Status::from(Error::from(DbError::inconsistent("column secret is null")));
        assert_eq!(reason_of(&status), Some(ErrorReason::Internal));
        assert!(!status.message().contains("secret"));
    }
}
