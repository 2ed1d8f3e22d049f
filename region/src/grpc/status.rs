//! The only place that turns an error of a region into a failure of the contract, and that into a status.

use causeway_proto::{
    failure::{CONTROL_ADDRESS, Failure},
    relocation::v1::ErrorReason,
};
use causeway_silo::db::DbError;
use tonic::Status;

use crate::error::Error;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        failure(&error).into()
    }
}

/// The status for an error of the store.
pub(super) fn database(error: DbError) -> Status {
    Error::from(error).into()
}

fn failure(error: &Error) -> Failure {
    let reason = error.reason();
    let new = || Failure::new(reason, error.to_string());
    match error {
        Error::InvalidArgument { field, description } => Failure::invalid_field(field, description.clone()),
        Error::ImportNotFound(id) => new().with("import_id", id),
        Error::ImportPaused { id, .. } => new().with("import_id", id).precondition("IMPORT", id.to_string()),
        Error::ImportNotFailed(id, state) | Error::ImportEnded(id, state) => {
            new().with("import_id", id).with("state", state.name()).precondition("IMPORT", id.to_string())
        }
        Error::ImportBeingReverted(id) | Error::ImportIsDryRun(id) => {
            new().with("import_id", id).precondition("IMPORT", id.to_string())
        }
        Error::ImportFileGone(id) | Error::ImportFileNotKept(id) => {
            new().with("import_id", id).precondition("SPOOL_FILE", id.to_string())
        }
        Error::ImportContentDiffers { import_id, differs } => {
            new().with("import_id", import_id).with("differs", differs)
        }
        Error::UploadTooLarge { limit, .. } => new().with("limit", limit),
        Error::TooManyUploads { limit, of_address } => {
            new().with("limit", limit).with("of", if *of_address { "address" } else { "region" })
        }
        Error::TooManyWatches { limit } => new().with("limit", limit),
        Error::DecryptionKeyMissing | Error::DecryptionKeyMismatch => {
            new().precondition("DECRYPTION_KEY", "region")
        }
        Error::ReconciliationUnderWay(place) => {
            new().with("place", place).precondition("RECONCILIATION", "region")
        }
        Error::OrganizationsNotReady(what) => new().precondition("IMPORT", what),
        Error::Control(error) => match error.addresses().next() {
            // The first of several controls: a command goes to one.
            Some(address) => new().with(CONTROL_ADDRESS, address),
            None => new(),
        },
        Error::SlugNotFound(slug) => new().with("slug", slug),
        Error::OrganizationNotFound(which) => new().with("organization", which),
        // Only the log has the error of the database or the disk. A caller learns what to do about it.
        Error::SpoolFailed(source) => {
            tracing::error!(error = %source, "an upload cannot be spooled");
            new()
        }
        Error::Database(_) | Error::Write(_) | Error::Internal(_) => {
            let message = match reason {
                ErrorReason::DatabaseUnavailable => {
                    "the database of the region cannot be used at the moment; the region's log says why"
                }
                ErrorReason::DatabaseFull => {
                    "the disk of the region's database is full; make room there, and what waits for it goes on by itself"
                }
                ErrorReason::DatabaseContention => "the database of the region is contended; try again",
                _ => {
                    tracing::error!(%error, reason = reason.as_str_name(), "a call failed");
                    return Failure::new(reason, "the region met a defect; its log has the details");
                }
            };
            tracing::warn!(%error, reason = reason.as_str_name(), "a call cannot be answered now; the caller should repeat it later");
            Failure::new(reason, message)
        }
        _ => new(),
    }
}

#[cfg(test)]
mod tests {
    use causeway_proto::failure::reason_of;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_the_database_says_stays_here() {
        let status = Status::from(Error::from(DbError::inconsistent("column secret is null")));
        assert_eq!(reason_of(&status), Some(ErrorReason::Internal));
        assert!(!status.message().contains("secret"));
    }

    #[test]
    fn a_caller_learns_which_import_and_what_differs() {
        let status = Status::from(Error::ImportContentDiffers { import_id: Uuid::nil(), differs: "filter" });
        assert_eq!(status.code(), tonic::Code::AlreadyExists);
        assert_eq!(reason_of(&status), Some(ErrorReason::ImportContentDiffers));
        assert!(status.message().contains("another filter"));
    }
}
