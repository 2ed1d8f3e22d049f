//! What a caller of a region may do wrong or meet, and why an import stops.

use std::time::Duration;

use causeway_client::{CallError, feed::FeedError};
use causeway_proto::{
    failure::{retry_after, shown},
    relocation::v1::ErrorReason,
};
use causeway_relocation::{
    encrypted::OpenError,
    export::{ExportError, Limit},
    writer::{HasWriteError, ScratchError, WriteError},
};
use causeway_silo::db::{DbError, DbErrorKind, HasDbError};
use tonic::Code;
use uuid::Uuid;

use crate::import::{ImportState, Pause};

/// Why a call or a step of an import failed. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the request is missing or malformed.
    #[error("{field}: {description}")]
    InvalidArgument {
        /// The name of the field in the contract.
        field: &'static str,
        /// What is wrong with it.
        description: String,
    },
    /// This region writes into a database of the product, and control into one of its own: the ids of its users are those
    /// of other people to the product.
    #[error(
        "this region's database belongs to the product, and control's does not, so members would become other people of \
         the product; start a control on the product's database of users (--database-url), and this region with it \
         (--control), then resume the import"
    )]
    ControlNotOfProduct,
    /// No import can write into the tables of a database: a sentence for each reason.
    #[error(
        "an import cannot write into the tables of the product: {0}. Use a release of Causeway that knows these tables, \
         then resume the import, or import the file under a new id"
    )]
    TablesUnfit(String),
    /// The tables of a database are not as they were when the import was planned.
    #[error(
        "the tables of this region's or of control's database have changed since the import was planned, so what was \
         found then does not hold any more; {}", if *dry_run {
            "begin the dry run again, under a new id"
        } else {
            "revert the import, and import the file under a new id"
        }
    )]
    SchemaChanged {
        /// Whether the import is a dry run, which wrote nothing.
        dry_run: bool,
    },
    /// Control has forgotten rows that the import has written there.
    #[error(
        "control no longer has rows that the import has written there ({0}): its database was put back from an older copy; \
         revert the import, and import the file under a new id"
    )]
    ControlLostRows(String),
    /// Control can never reserve the slugs of the organizations in one operation.
    #[error(
        "the organizations to import would take {bytes} bytes at control while it reserves their slugs, and it gives one \
         import {limit}: import them in parts, each with a filter, or start control with a larger --max-bulk-bytes"
    )]
    OrganizationsTooLarge {
        /// What they would take.
        bytes: usize,
        /// What they may take.
        limit: usize,
    },
    /// The database refuses each slug that control gives to an organization.
    #[error(
        "the database refuses each slug that organization {organization} of the file is given, as it breaks {constraint}; \
         change that, then resume the import, or revert it"
    )]
    SlugsRefused {
        /// Its id in the export.
        organization: i64,
        /// What the slugs break.
        constraint: String,
    },
    /// The database refuses the status of a hidden organization.
    #[error(
        "the database refuses the status of an organization that would become visible, as it breaks {0}; all of them stay \
         hidden. Change that, then approve them again"
    )]
    StatusRefused(String),
    /// There is no such import.
    #[error("this region has no import {0}; `causeway imports list` lists those that it has")]
    ImportNotFound(Uuid),
    /// The import id belongs to another import.
    #[error("import {import_id} exists with another {differs}; use a new id for another import")]
    ImportContentDiffers {
        /// The id of the import, as the request names it.
        import_id: Uuid,
        /// What differs from the first request, e.g. `filter`.
        differs: &'static str,
    },
    /// Somebody else began the import.
    #[error("another caller began the import; its own caller, or an operator, may ask for it")]
    NotOwnImport,
    /// An importer wants to merge users, and may not.
    #[error(
        "importers may not use merge_users at this region, because it ties members of the file to users that exist; \
         nothing was kept. Import without it, import as an operator, or start the region with --allow-merge"
    )]
    MergeNotAllowed,
    /// The region takes no instructions of control.
    #[error(
        "this region was started with --refuse-instructions, so its imports are not resumed or reverted through control; \
         call the region instead"
    )]
    InstructionsRefused,
    /// Control has sent an instruction of a kind that this release does not know.
    #[error(
        "this release of the region does not know this instruction; call the region instead, or upgrade it"
    )]
    InstructionUnknown,
    /// An instruction of control was carried out or refused before. Never leaves the code that carries it out.
    #[error("the instruction was carried out or refused before")]
    InstructionNoted,
    /// The upload does not match its header.
    #[error("{0}; nothing was kept, send the file again")]
    UploadInvalid(String),
    /// A request stream ended before its last message.
    #[error(
        "the upload ended before its last message, which says that it is whole; nothing was kept, send the file again"
    )]
    StreamIncomplete,
    /// The upload is larger than this region takes.
    #[error(
        "the upload has {} bytes, and this region takes {limit}; nothing was kept. Start the region with a larger \
         --max-upload-bytes, or split the export", announced.map_or_else(|| "more".to_owned(), |size| size.to_string())
    )]
    UploadTooLarge {
        /// How many bytes its header announces; `None` if the upload itself was too long.
        announced: Option<u64>,
        /// The largest upload that the region accepts, in bytes.
        limit: u64,
    },
    /// As many uploads are under way as this region takes at once.
    #[error(
        "{limit} uploads are under way{}, and this region takes no more at once; nothing was kept. Send the file again a \
         little later, or start the region with a larger {}",
        if *.of_address { " from this address" } else { "" },
        if *.of_address { "--max-uploads-per-address" } else { "--max-uploads" }
    )]
    TooManyUploads {
        /// How many that are.
        limit: usize,
        /// Whether they are those of one address.
        of_address: bool,
    },
    /// As many watches are open as this region has at once.
    #[error(
        "{limit} watches are open, and this region has no more at once; the import goes on all the same. Watch it again a \
         little later, or start the region with a larger --max-watches"
    )]
    TooManyWatches {
        /// How many that are.
        limit: usize,
    },
    /// A caller has stopped to send.
    #[error(
        "nothing came of the upload for {0:?}, so its place was given to others; nothing was kept, send the file again"
    )]
    UploadStalled(Duration),
    /// A caller sends too little.
    #[error(
        "the upload came with less than {rate} bytes a second, so its place was given to others; nothing was kept, send \
         the file again, or start the region with a smaller --upload-min-rate"
    )]
    UploadTooSlow {
        /// The least bytes a second.
        rate: u64,
    },
    /// The upload cannot be stored.
    #[error("the upload cannot be spooled: {}; nothing was kept", spool_advice(.0))]
    SpoolFailed(#[source] std::io::Error),
    /// The export is encrypted, and the region has no private key.
    #[error(
        "this region has no private key, so it cannot open an encrypted export; start it with --decryption-key, or have \
         the command open the export (--decrypt-with)"
    )]
    DecryptionKeyMissing,
    /// The export is encrypted for another key.
    #[error(
        "the export was encrypted for another key than this region's; encrypt it for that, or have the command open \
         it with the right private key (--decrypt-with)"
    )]
    DecryptionKeyMismatch,
    /// The encrypted export cannot be opened.
    #[error("the encrypted export cannot be opened: {0}")]
    EncryptedExport(#[source] OpenError),
    /// The export breaks a rule, or cannot be read.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A record that was written does not add up.
    #[error("{0}")]
    CountsDoNotAddUp(String),
    /// There is no such visible organization.
    #[error("this region has no visible organization {}", shown(.0))]
    OrganizationNotFound(String),
    /// Hidden organizations cannot be shown: their import has not succeeded.
    #[error("{0} has not succeeded, or is being taken back: its organizations cannot be shown")]
    OrganizationsNotReady(String),
    /// No organization of this region has the slug.
    #[error("no organization of this region has the slug {:?}", shown(.0))]
    SlugNotFound(String),
    /// The region has no replica of its reservations yet.
    #[error("this region has not heard from control yet, so it cannot say; try again")]
    NeverHeard,
    /// A call to control failed.
    #[error("{}", control_message(.0))]
    Control(#[from] CallError),
    /// Control's feed ended, or sent what does not follow what it sent before.
    #[error("control's feed cannot be read: {0}")]
    Feed(FeedError),
    /// Another process has written a chunk of the import: the keys that it gave must be read again.
    #[error("the chunk of {model} that begins at ordinal {min_ordinal} has been written by another process")]
    ChunkExists {
        /// The model of the chunk, by its catalog name.
        model: String,
        /// The ordinal of the chunk's first record.
        min_ordinal: i64,
    },
    /// Another process has the lease of the import, or the import is in another state by now. Never leaves
    /// the runner.
    #[error("import {0} has been taken over or moved on meanwhile")]
    Superseded(Uuid),
    /// The import cannot be resumed: it did not fail.
    #[error("import {0} has not failed, it is {name}; there is nothing to resume", name = .1.name().replace('_', " "))]
    ImportNotFailed(Uuid, ImportState),
    /// The import cannot be resumed: it is paused.
    #[error("{}", paused(.id, .pause))]
    ImportPaused {
        /// The id of the import.
        id: Uuid,
        /// Since when, and by whom.
        pause: Pause,
    },
    /// The import cannot be paused: it has ended.
    #[error("import {0} has ended, it is {name}; there is nothing to pause", name = .1.name().replace('_', " "))]
    ImportEnded(Uuid, ImportState),
    /// The import cannot be resumed: it is being reverted, or was.
    #[error("import {0} is being reverted, or was; import the file again under a new id")]
    ImportBeingReverted(Uuid),
    /// The import cannot be reverted: it is a dry run.
    #[error("import {0} is a dry run: it has written nothing, so there is nothing to take back")]
    ImportIsDryRun(Uuid),
    /// The import cannot be resumed: its file is not here.
    #[error(
        "the file of import {0} is not in the spool directory of this region process; resume it at the process that received it, or import the file again under a new id"
    )]
    ImportFileGone(Uuid),
    /// The import cannot be resumed: it would fail again, so its file was not retained.
    #[error(
        "the file of import {0} was not kept: it was a dry run, or failed for what stands in the file or the filter and would fail again; mend that and import it under a new id"
    )]
    ImportFileNotKept(Uuid),
    /// Another process or call compares the region with control.
    #[error("the region is being compared with control already, at {0}; try again when that has ended")]
    ReconciliationUnderWay(String),
    /// The records of a chunk could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A dry run needs the disk of the spool directory for what it must store.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The database refused a statement, or could not be reached.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The service is stopping.
    #[error("the region is stopping; imports go on when it is back")]
    Stopping,
    /// A defect of Causeway, which the text describes.
    #[error("{0}")]
    Internal(String),
}

/// What a message may contain about a disk's error: what to do about it.
fn spool_advice(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "the disk of the region's spool directory is full; make room there, then send the file again"
        }
        ErrorKind::FileTooLarge => {
            "the region may not write a file of this size; raise its limit (ulimit -f), then send the file again"
        }
        _ => "the region's log says why",
    }
}

/// That an import is paused, since when, by whom, and how to continue it.
pub(crate) fn paused(id: &Uuid, pause: &Pause) -> String {
    let by = pause.by.as_ref().map_or_else(|| "an operator".to_owned(), |by| shown(by));
    let since = pause.since.format("%Y-%m-%d %H:%M:%S UTC");
    format!(
        "import {id} has been paused by {by} since {since}; continue it with `causeway imports resume {id}`"
    )
}

/// What control answered, or why it did not answer.
fn control_message(error: &CallError) -> String {
    match error.reason() {
        Some(_) => format!("control: {}", error.message()),
        // It names control and its address.
        None => error.message(),
    }
}

/// Whether a call to control may succeed when it is made again.
fn control_may_answer(error: &CallError) -> bool {
    match error.reason() {
        // Control does not know this region any more, another region has its name, nobody has added it, it is
        // suspended, control is of another release, or the certificate does not identify this region or
        // identifies another one: an operator can correct each of these.
        Some(
            ErrorReason::RegionNotRegistered
            | ErrorReason::RegionNameTaken
            | ErrorReason::RegionNotAdded
            | ErrorReason::RegionSuspended
            | ErrorReason::ContractNotSupported
            | ErrorReason::IdentityInvalid
            | ErrorReason::RoleNotAllowed
            | ErrorReason::NotOwnRegion
            // Another control of an older release may have received the plan, or control was restored from a
            // backup. The step that asks announces the plan again first.
            | ErrorReason::ImportNotPlanning,
        ) => true,
        Some(reason) => retry_after(reason).is_some(),
        // Not from control itself: a broken connection, or a proxy in between while control is being replaced.
        None => {
            !matches!(error.code(), Some(Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted))
        }
    }
}

impl From<FeedError> for Error {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Call(error) => Self::Control(error),
            error => Self::Feed(error),
        }
    }
}

impl HasDbError for Error {
    fn db_error(&self) -> Option<&DbError> {
        match self {
            Self::Database(error) => Some(error),
            Self::Write(error) => error.db_error(),
            _ => None,
        }
    }
}

impl HasWriteError for Error {
    fn write_error(&self) -> Option<&WriteError> {
        match self {
            Self::Write(error) => Some(error),
            _ => None,
        }
    }
}

impl Error {
    /// An [`Error::InvalidArgument`] about this field.
    pub(crate) fn invalid(field: &'static str, description: impl Into<String>) -> Self {
        Self::InvalidArgument { field, description: description.into() }
    }

    /// Why a task did not come to its end. One that was cancelled was so because the process ends: the import goes on
    /// when it is back, and has not failed.
    pub(crate) fn of_task(what: &str, error: &tokio::task::JoinError) -> Self {
        if error.is_cancelled() {
            Self::Stopping
        } else {
            Self::Internal(format!("{what} ended by itself: {error}"))
        }
    }

    /// The reason of the contract.
    #[must_use]
    pub fn reason(&self) -> ErrorReason {
        if let Some(error) = self.db_error() {
            return match error.kind() {
                DbErrorKind::Full => ErrorReason::DatabaseFull,
                DbErrorKind::Unavailable | DbErrorKind::ReadOnly => ErrorReason::DatabaseUnavailable,
                DbErrorKind::Closed => ErrorReason::ShuttingDown,
                DbErrorKind::Contention => ErrorReason::DatabaseContention,
                DbErrorKind::Unique => ErrorReason::UniqueConflict,
                DbErrorKind::ForeignKey | DbErrorKind::Check | DbErrorKind::Other => ErrorReason::Internal,
            };
        }
        match self {
            Self::InvalidArgument { .. } => ErrorReason::InvalidArgument,
            Self::SchemaChanged { .. }
            | Self::TablesUnfit(_)
            | Self::SlugsRefused { .. }
            | Self::StatusRefused(_) => ErrorReason::SchemaChanged,
            Self::OrganizationsTooLarge { .. } => ErrorReason::TooManySlugs,
            Self::ControlLostRows(_) => ErrorReason::ControlLostRows,
            Self::ControlNotOfProduct => ErrorReason::ControlNotOfProduct,
            Self::ImportNotFound(_) => ErrorReason::ImportNotFound,
            Self::ImportContentDiffers { .. } => ErrorReason::ImportContentDiffers,
            Self::NotOwnImport => ErrorReason::NotOwnImport,
            Self::MergeNotAllowed => ErrorReason::MergeNotAllowed,
            Self::InstructionsRefused => ErrorReason::InstructionsRefused,
            Self::InstructionUnknown => ErrorReason::InvalidArgument,
            Self::Superseded(_) | Self::InstructionNoted => ErrorReason::DatabaseContention,
            Self::ImportNotFailed(..) => ErrorReason::ImportNotFailed,
            Self::ImportPaused { .. } => ErrorReason::ImportPaused,
            Self::ImportEnded(..) => ErrorReason::ImportEnded,
            Self::ImportBeingReverted(_) => ErrorReason::ImportBeingReverted,
            Self::ImportIsDryRun(_) => ErrorReason::ImportIsDryRun,
            Self::ImportFileGone(_) | Self::ImportFileNotKept(_) => ErrorReason::ImportFileGone,
            Self::UploadInvalid(_) => ErrorReason::UploadInvalid,
            Self::StreamIncomplete => ErrorReason::StreamIncomplete,
            Self::UploadTooLarge { .. } => ErrorReason::UploadTooLarge,
            Self::TooManyUploads { .. } => ErrorReason::TooManyUploads,
            Self::TooManyWatches { .. } => ErrorReason::TooManyWatches,
            Self::UploadStalled(_) | Self::UploadTooSlow { .. } => ErrorReason::UploadStalled,
            Self::SpoolFailed(_) | Self::Export(ExportError::Io(_)) | Self::Scratch(_) => {
                ErrorReason::SpoolFailed
            }
            Self::DecryptionKeyMissing => ErrorReason::DecryptionKeyMissing,
            Self::DecryptionKeyMismatch => ErrorReason::DecryptionKeyMismatch,
            Self::EncryptedExport(_) => ErrorReason::EncryptedExportInvalid,
            Self::Export(ExportError::Invalid(_)) | Self::Write(WriteError::Value(_)) => {
                ErrorReason::ExportInvalid
            }
            Self::Export(ExportError::OverLimit { limit: Limit::RecordBytes, .. }) => {
                ErrorReason::RecordTooLarge
            }
            Self::Export(ExportError::OverLimit { limit: Limit::Depth, .. }) => ErrorReason::RecordTooDeep,
            Self::Export(ExportError::FilterMatchesNothing(_)) => ErrorReason::FilterMatchesNothing,
            Self::CountsDoNotAddUp(_) => ErrorReason::CountsDoNotAddUp,
            Self::OrganizationNotFound(_) => ErrorReason::OrganizationNotFound,
            Self::OrganizationsNotReady(_) => ErrorReason::OrganizationNotReady,
            Self::SlugNotFound(_) => ErrorReason::SlugNotFound,
            Self::ReconciliationUnderWay(_) => ErrorReason::ReconciliationUnderWay,
            Self::NeverHeard | Self::Feed(_) => ErrorReason::ControlUnavailable,
            Self::Control(error) => error.reason().unwrap_or(ErrorReason::ControlUnavailable),
            Self::Write(_) | Self::ChunkExists { .. } => ErrorReason::UniqueConflict,
            Self::Stopping | Self::Export(ExportError::Stopped) => ErrorReason::ShuttingDown,
            Self::Database(_) | Self::Internal(_) | Self::Export(ExportError::Inconsistent(_)) => {
                ErrorReason::Internal
            }
        }
    }

    /// Whether a step of an import that failed so is tried again until it succeeds.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        if let Some(error) = self.db_error() {
            return matches!(
                error.kind(),
                // Another row may have got a unique value between the query and the write: the step queries
                // again.
                DbErrorKind::Unavailable
                    | DbErrorKind::Contention
                    | DbErrorKind::Full
                    | DbErrorKind::ReadOnly
                    | DbErrorKind::Closed
                    | DbErrorKind::Unique
            );
        }
        match self {
            Self::Control(error) => control_may_answer(error),
            Self::Feed(_) => true,
            Self::Write(WriteError::UniqueConflict { .. } | WriteError::IdsTaken { .. })
            | Self::Scratch(_)
            | Self::ChunkExists { .. }
            | Self::Superseded(_)
            // The region has opened the export before, with a key that it may be given again.
            | Self::DecryptionKeyMissing
            | Self::DecryptionKeyMismatch => true,
            // A full disk, too many open files. A file that is gone does not come back.
            Self::Export(ExportError::Io(error)) => error.kind() != std::io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// Whether the step only stopped because the service does.
    #[must_use]
    pub fn is_stop(&self) -> bool {
        matches!(self, Self::Stopping | Self::Export(ExportError::Stopped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_ends_with_the_process_has_not_failed() {
        let cut_off = tokio::spawn(std::future::pending::<()>());
        cut_off.abort();
        let error = Error::of_task("a task", &cut_off.await.expect_err("it was cancelled"));
        assert!(error.is_stop(), "{error}");
        let broken = tokio::spawn(async { panic!("a defect") });
        let error = Error::of_task("a task", &broken.await.expect_err("it panicked"));
        assert!(!error.is_stop() && !error.is_transient(), "{error}");
    }

    /// Trying again would not correct the program, and the import would wait for ever.
    #[test]
    fn a_defect_is_not_tried_again() {
        let error = Error::Export(ExportError::Inconsistent("two halves that differ"));
        assert!(!error.is_stop() && !error.is_transient(), "{error}");
        assert_eq!(error.reason(), ErrorReason::Internal);
        assert_eq!(error.to_string(), "two halves that differ: a defect of Causeway");
        let full = Error::Export(std::io::Error::from(std::io::ErrorKind::StorageFull).into());
        assert!(full.is_transient(), "{full}");
    }
}
