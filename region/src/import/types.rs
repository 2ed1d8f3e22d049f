//! The types of an import that all its parts share.

use std::collections::BTreeSet;

use causeway_proto::{control::v1::SlugVerdict, relocation::v1::ErrorReason};
use causeway_relocation::finding::{Finding, Tense};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::state::{ImportState, Worker};
use crate::limits::ControlBatch;

/// What an import is to do. A repeated call for the same import must have the same parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Slugs of the organizations to import; all if `None`.
    pub filter: Option<BTreeSet<String>>,
    /// Map a user of the file whose username exists to the user who has it.
    pub merge_users: bool,
    /// Leave the organizations hidden at the end.
    pub hide_organizations: bool,
    /// Write nothing, and report what would happen.
    pub dry_run: bool,
}

/// Why an import waits: the failed attempts of the work that it retries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The reason of the last failed attempt.
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
    /// The state in which the import failed.
    pub state: ImportState,
}

/// Who begins an import, where its file is, and how its records are cut into batches for control.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun<'a> {
    /// Who begins it, as the URI of an identity; `None` if callers need no identity.
    pub(crate) by: Option<&'a str>,
    /// The spool directory that gets its file.
    pub(crate) spool_id: Uuid,
    /// The sizes that it keeps from now on.
    pub(crate) control_batch: ControlBatch,
}

/// That an operator has paused an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Since when.
    pub since: DateTime<Utc>,
    /// Who has, as the URI of an identity; `None` if callers needed no identity.
    pub by: Option<String>,
}

/// One run of one export into this region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The id that the caller chose.
    pub id: Uuid,
    /// The state that it is in.
    pub state: ImportState,
    /// What it is to do. Lists leave out the filter, which is `None` there.
    pub parameters: Parameters,
    /// How many slugs its filter has; `None` if it has none. Also set in lists.
    pub filter_slugs: Option<i64>,
    /// The size of the export in bytes, decrypted.
    pub size_bytes: i64,
    /// The SHA-256 of the export, decrypted; lowercase hex.
    pub sha256: String,
    /// The SHA-256 of the file as it was sent, lowercase hex; empty for imports of older releases.
    pub upload_sha256: String,
    /// Whether the spooled file is encrypted.
    pub encrypted: bool,
    /// When it was begun. All its defaults and rules use this as the current time.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When it last ended; `None` before, and if a release that does not note this has ended it.
    pub ended_at: Option<DateTime<Utc>>,
    /// Records in the file; 0 until planning has ended.
    pub records: i64,
    /// The tables for which it was planned, as [`causeway_relocation::schema::Tables::fingerprint`] of the region's and
    /// [`causeway_relocation::schema::Tables::fingerprint_of`] of those of control's that its catalog knows; `None` before
    /// that, and if an older release has planned it.
    pub planned_for: Option<String>,
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
    /// The spool directory that has its file; `None` for imports from before such directories had ids.
    pub spool_id: Option<Uuid>,
    /// How often it was resumed after a failure.
    pub resumes: i64,
    /// How often organizations of it were made visible after it had succeeded.
    pub approvals: i64,
    /// Who began it, as the URI of an identity; `None` if callers needed no identity then.
    pub begun_by: Option<String>,
    /// That it is paused; `None` if it is not. No process works on it then.
    pub pause: Option<Pause>,
    /// How its records are cut into batches for control.
    pub control_batch: ControlBatch,
}

impl Import {
    /// Whether its findings say what has happened or, for a dry run, what would happen.
    #[must_use]
    pub fn tense(&self) -> Tense {
        Tense::of(self.parameters.dry_run)
    }

    /// Whether no process needs to work on it now: it has ended, or is paused.
    #[must_use]
    pub fn needs_no_process(&self) -> bool {
        self.pause.is_some()
            || match self.state.worker() {
                Worker::UntilReported => self.reported,
                _ => !self.state.is_unfinished(),
            }
    }

    /// Whether its file may still be needed.
    pub(super) fn keeps_file(&self) -> bool {
        match self.state {
            // A dry run is not resumed but made again from the start.
            ImportState::Failed if self.parameters.dry_run => false,
            // A file that breaks a rule would break it the next time too.
            ImportState::Failed => self.failure.as_ref().is_none_or(|failure| {
                !matches!(failure.reason, ErrorReason::ExportInvalid | ErrorReason::FilterMatchesNothing)
            }),
            state => state.worker() == Worker::WithFile,
        }
    }
}

/// Which process runs an import, and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The id of the process, a new one at each start.
    pub holder: Uuid,
    /// Host name and process id, for people.
    pub place: String,
    /// When the process got the lease.
    pub acquired_at: DateTime<Utc>,
    /// When the process last renewed the lease.
    pub renewed_at: DateTime<Utc>,
    /// When the lease expires, unless it is renewed.
    pub until: DateTime<Utc>,
}

/// What happened to the records of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelCounts {
    /// The name of the model, e.g. `sentry.team`.
    pub model: String,
    /// The model's place in the order of writing. Models that the catalog has no place for come last.
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
    /// New rows that a revert deleted.
    pub deleted: i64,
    /// New rows that a revert left in place, each with a finding.
    pub kept: i64,
    /// Records of models that the catalog has no place for: excluded, removed or unknown.
    pub passed_over: i64,
    /// New rows that no record of the file stands for, each with a finding. Not part of the sum.
    pub added: i64,
    /// Inserted and existing records that were changed on their way from the file. Not part of the sum.
    pub changed: i64,
}

impl ModelCounts {
    /// Whether every record of the file is accounted for.
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

/// An organization of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedOrganization {
    /// Its id in this region; invented in a dry run.
    pub id: i64,
    /// Its id in the export.
    pub source_id: i64,
    /// The ordinal of its record; `None` for imports of older releases.
    pub ordinal: Option<i64>,
    /// The byte at which its record begins in the file; `None` for imports of older releases.
    pub byte_offset: Option<i64>,
    /// The slug that it had in the export.
    pub wanted_slug: String,
    /// Its name in the export.
    pub name: String,
    /// Its own status, which it gets back when the import finishes.
    pub status: i64,
    /// Whether another organization of this region had its wanted slug before the first slug attempt.
    pub taken_in_region: bool,
    /// Whether a field of it was changed before its slug was decided.
    pub changed: bool,
    /// The first slug attempt in which its slug is requested as one that another organization of this region has, or
    /// that the database refuses; `None` if there is no such attempt.
    pub taken_from_attempt: Option<i64>,
    /// What of its table has refused the slug of an earlier attempt; `None` if nothing has.
    pub slug_refused_by: Option<String>,
    /// How often its table has refused a slug of it.
    pub slug_refusals: i64,
    /// The slug that control gave it, or would give it in a dry run; `None` before that.
    pub slug: Option<String>,
    /// Why it got that slug; `None` before that, and for imports of older releases.
    pub slug_plan: Option<SlugPlan>,
}

impl ImportedOrganization {
    /// Adds the place of the organization's record to a finding.
    pub(super) fn place(&self, mut finding: Finding) -> Finding {
        finding.source_pk = Some(self.source_id);
        finding.ordinal = self.ordinal;
        finding.byte_offset = self.byte_offset;
        finding
    }
}

/// Which hidden organizations to make visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Approved {
    /// All organizations of this import.
    Import(Uuid),
    /// The organizations with these ids.
    Organizations(BTreeSet<i64>),
}

/// What control and the region decided about a wanted slug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlugPlan {
    /// Whether the wanted slug is given unchanged, and otherwise why not.
    pub verdict: SlugVerdict,
    /// Region and id of the organization that has the wanted slug, if a known organization has it.
    pub taken_by: Option<(String, i64)>,
}
