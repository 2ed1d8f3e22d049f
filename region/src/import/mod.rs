//! Imports: what one is, how it begins, and what can be seen of it. [`engine`] takes it from state to state.

// First, for the macro of a transaction that holds a lease.
#[macro_use]
mod lease;

mod approve;
mod batches;
mod changed_slug;
mod chunks;
mod engine;
mod findings;
mod mapped;
mod owners;
mod pace;
mod receive;
mod resume;
mod running;
mod spool;
mod state;
mod steps;
mod view;
mod writes;

use std::collections::BTreeSet;

pub(crate) use approve::Approved;
use causeway_proto::{control::v1::SlugVerdict, relocation::v1::ErrorReason};
use causeway_relocation::finding::Tense;
use chrono::{DateTime, Utc};
pub(crate) use engine::Engine;
pub use lease::Lease;
pub(crate) use pace::Pace;
pub use receive::{Announced, Upload};
pub use state::{ImportState, Worker};
use uuid::Uuid;
pub use view::{ImportView, ModelKey, Progress};

/// What an import is to do; part of what its id stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Slugs of the organizations to import; all if `None`.
    pub filter: Option<BTreeSet<String>>,
    /// A user of the file whose username exists is mapped to the user who has it.
    pub merge_users: bool,
    /// Leave the organizations hidden at the end.
    pub hide_organizations: bool,
    /// Write nothing, and say what would happen.
    pub dry_run: bool,
}

/// What an import waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The reason of the last attempt that failed.
    pub reason: ErrorReason,
    /// The message of that attempt; at most 4,000 bytes.
    pub message: String,
    /// When the first of these attempts failed.
    pub since: DateTime<Utc>,
    /// How many attempts have failed in a row.
    pub attempts: i64,
}

/// Why an import failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The reason with which the step failed.
    pub reason: ErrorReason,
    /// What happened, to which record, and what to do.
    pub message: String,
    /// The state in which it happened.
    pub state: ImportState,
}

/// One run of one export into this region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The id that the caller chose.
    pub id: Uuid,
    /// How far it is.
    pub state: ImportState,
    /// What it is to do. Lists leave its filter out.
    pub parameters: Parameters,
    /// How many slugs its filter has, if it has one. Also in lists.
    pub filter_slugs: Option<i64>,
    /// The size of the export in bytes, decrypted.
    pub size_bytes: i64,
    /// The SHA-256 of the export, decrypted; lowercase hex.
    pub sha256: String,
    /// The SHA-256 of the file as it was sent, lowercase hex.
    pub upload_sha256: String,
    /// Whether the spooled file is encrypted.
    pub encrypted: bool,
    /// When it was begun: the "now" of all its defaults and rules.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Records in the file, known after planning.
    pub records: i64,
    /// How often slugs have been requested from control; 0 if never.
    pub slug_attempt: i64,
    /// Whether the slugs have been written into the organizations.
    pub slugs_written: bool,
    /// Whether control's directory has the organizations.
    pub reported: bool,
    /// How many organizations have been written.
    pub organization_count: i64,
    /// What it waits for; `None` if it does not wait.
    pub waiting: Option<Waiting>,
    /// Why it failed; `None` if it did not.
    pub failure: Option<Failure>,
    /// Which process runs it; `None` if none does.
    pub lease: Option<Lease>,
    /// The spool directory that has its file; `None` if that was never noted.
    pub spool_id: Option<Uuid>,
    /// How often it was resumed after it had failed.
    pub resumes: i64,
    /// How often organizations of it were shown after it had succeeded.
    pub approvals: i64,
}

impl Import {
    /// Whether its findings tell of what has happened, or would happen.
    #[must_use]
    pub fn tense(&self) -> Tense {
        Tense::of(self.parameters.dry_run)
    }

    /// Whether there is nothing left to do for it.
    #[must_use]
    pub fn needs_nobody(&self) -> bool {
        match self.state.worker() {
            Worker::Nobody => true,
            Worker::UntilReported => self.reported,
            Worker::WithFile | Worker::WithoutFile => false,
        }
    }
}

/// What became of the records of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelCounts {
    /// The name of the model, e.g. `sentry.team`.
    pub model: String,
    /// Its place in the order of writing; after all others for models that the catalog has no place for.
    pub position: i64,
    /// Records in the file.
    pub seen: i64,
    /// New rows.
    pub inserted: i64,
    /// Records mapped to rows that existed.
    pub existing: i64,
    /// Records of other scopes.
    pub out_of_scope: i64,
    /// Records that the filter leaves out.
    pub filtered: i64,
    /// Records that were not written, each with a finding.
    pub dropped: i64,
    /// New rows that were deleted when the import was reverted.
    pub deleted: i64,
    /// New rows that stayed then, each with a finding.
    pub kept: i64,
    /// Records of models that the catalog has no place for: excluded, removed or unknown.
    pub passed_over: i64,
    /// Those among the mapped ones that are not quite as they were in the file. Not part of the sum.
    pub changed: i64,
}

impl ModelCounts {
    /// Whether every record is accounted for.
    #[must_use]
    pub fn add_up(&self) -> bool {
        self.seen
            == self.inserted
                + self.existing
                + self.out_of_scope
                + self.filtered
                + self.dropped
                + self.passed_over
    }
}

/// An organization that was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedOrganization {
    /// Its id now.
    pub id: i64,
    /// Its id in the export.
    pub source_id: i64,
    /// Its record's number among those of its model; unknown for imports of older releases.
    pub ordinal: Option<i64>,
    /// Where its record begins in the file; unknown for imports of older releases.
    pub byte_offset: Option<i64>,
    /// The slug that it had in the export.
    pub wanted_slug: String,
    /// Its name in the export.
    pub name: String,
    /// The status that it gets back when the import finishes.
    pub status: i64,
    /// Another organization of this region has its slug.
    pub taken_in_region: bool,
    /// A field of it was changed before its slug was decided.
    pub changed: bool,
    /// The attempt from which on its slug is known to be one that another organization of this region has.
    pub taken_from_attempt: Option<i64>,
    /// The slug that control gave it, or would give it in a dry run.
    pub slug: Option<String>,
    /// Why it is that one; unknown for imports of older releases.
    pub slug_plan: Option<SlugPlan>,
}

/// What control and the region say of a wanted slug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlugPlan {
    /// Whether it is given as it is.
    pub verdict: SlugVerdict,
    /// Region and id of the organization that has it, if it is taken by one that is there.
    pub taken_by: Option<(String, i64)>,
}
