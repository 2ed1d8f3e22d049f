//! What regions report about their own work, as control stores and shows it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::instruction::InstructionAnswer;

/// An import of a region, as the region last reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedImport {
    /// The id of the import.
    pub import_id: Uuid,
    /// Its state, in upper case, such as `WRITING`. One that this release does not know is possible.
    pub state: String,
    /// Whether it has ended, well or not.
    pub ended: bool,
    /// Whether it is a dry run.
    pub dry_run: bool,
    /// When it was begun, by the region's clock.
    pub created_at: DateTime<Utc>,
    /// When it last changed, by the region's clock.
    pub updated_at: DateTime<Utc>,
    /// The size of the export in bytes.
    pub size_bytes: i64,
    /// How many organizations it has imported so far or, in a dry run, would import.
    pub organization_count: i64,
    /// How far it is, and why it does not go on.
    pub summary: ImportSummary,
    /// Its counts and findings; empty in lists.
    pub details: ImportDetails,
}

/// How far an import is, and why it does not go on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportSummary {
    /// The progress in its state; `None` if no process runs it.
    pub progress: Option<ReportedProgress>,
    /// What it waits for; `None` if it does not wait.
    pub waiting: Option<ReportedReason>,
    /// Since when it waits, by the region's clock.
    pub waiting_since: Option<DateTime<Utc>>,
    /// Why it failed; `None` if it did not.
    pub failure: Option<ReportedReason>,
    /// Who began it, as the URI of an identity; empty if callers needed none.
    pub begun_by: String,
    /// The operation with which it last asked for slugs; `None` if it has not, or its region does not say.
    #[serde(default)]
    pub slug_operation: Option<Uuid>,
}

/// The progress of an import in its state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedProgress {
    /// The model that is written or read; empty while planning.
    pub model: String,
    /// Records that were handled in this state.
    pub records_done: i64,
    /// Records to handle in this state; 0 if unknown.
    pub records_total: i64,
    /// Bytes of the file that were read in this state; only while planning.
    pub bytes_done: i64,
    /// Records a second, or bytes a second while planning; 0 if unknown.
    pub rate: i64,
    /// What holds it back; `None` if nothing does.
    #[serde(default)]
    pub throttled: Option<ReportedThrottle>,
}

/// A limit of a region that holds an import back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedThrottle {
    /// Which limit, such as `ROWS`. One that this release does not know is possible.
    pub kind: String,
    /// The limit: rows or bytes in a second, or the latency of the probe statement in milliseconds.
    pub limit: i64,
    /// The part of the time in which imports may write because of that latency, in percent.
    pub write_percent: i32,
}

/// Why an import waits or has failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedReason {
    /// The name of the reason, such as `CONTROL_UNAVAILABLE`.
    pub reason: String,
    /// The message, for people.
    pub message: String,
}

/// The counts and findings of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportDetails {
    /// What happened to the records, by model, in the order of writing.
    pub models: Vec<ReportedCounts>,
    /// How many findings there are of each kind.
    pub finding_counts: Vec<ReportedFindingCount>,
    /// The first findings, the most serious first.
    pub findings: Vec<ReportedFinding>,
    /// The slugs of the first organizations, if it has ended.
    #[serde(default)]
    pub slugs: Vec<String>,
}

/// What happened to the records of one model. `ModelCounts` of the contract says what each count is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the contract describes each count")]
pub struct ReportedCounts {
    pub model: String,
    pub seen: i64,
    pub inserted: i64,
    pub existing: i64,
    pub out_of_scope: i64,
    pub filtered: i64,
    pub dropped: i64,
    pub passed_over: i64,
    pub changed: i64,
    pub deleted: i64,
    pub kept: i64,
    /// Stored reports of older releases do not have it.
    #[serde(default)]
    pub added: i64,
}

/// How many findings of one kind an import has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedFindingCount {
    /// The kind, such as `SLUG_CHANGED`.
    pub kind: String,
    /// The severity, such as `INFO`.
    pub severity: String,
    /// How many there are.
    pub count: i64,
}

/// A finding of an import. `Finding` of the contract says what each field is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the contract describes each field")]
pub struct ReportedFinding {
    pub kind: String,
    pub severity: String,
    pub model: String,
    pub source_pk: i64,
    pub field: String,
    pub reason: String,
    pub remedy: String,
}

/// What a region reports at once.
#[derive(Debug, Clone)]
pub struct ImportReport {
    /// The name of the region.
    pub region: String,
    /// The version of its release.
    pub version: String,
    /// The version of its feed up to which it has read it.
    pub feed_version: i64,
    /// Imports that have changed.
    pub imports: Vec<ReportedImport>,
    /// What became of instructions.
    pub answers: Vec<InstructionAnswer>,
}

/// When and as what a region has last reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionReport {
    /// The name of the region.
    pub region: String,
    /// The version of its release.
    pub version: String,
    /// The version of its feed up to which it had read it then.
    pub feed_version: i64,
    /// When it last reported, by control's clock. What was not part of that report had not changed.
    pub reported_at: DateTime<Utc>,
}

/// The result of the last comparison of a region with control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The name of the region.
    pub region: String,
    /// When it ended, by the region's clock.
    pub compared_at: DateTime<Utc>,
    /// How many organizations were compared.
    pub compared: i64,
    /// How many differences were found.
    pub difference_count: i64,
    /// How many of them were repaired.
    pub repaired_count: i64,
    /// How many organizations were left for the next comparison, because they changed all the time.
    pub moving_count: i64,
    /// The first differences.
    pub differences: Vec<ReportedDifference>,
}

/// One difference between a region and control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedDifference {
    /// The kind, such as `SLUG_DIFFERS`.
    pub kind: String,
    /// The id of the organization.
    pub organization_id: i64,
    /// What differs, for people.
    pub message: String,
    /// What to do about it, for people; empty after a repair.
    pub remedy: String,
    /// Whether the comparison has repaired it.
    pub repaired: bool,
}

/// Which reported imports to list; by default all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportFilter {
    /// Only those of this region.
    pub region: Option<String>,
    /// Only those in this state, in upper case.
    pub state: Option<String>,
    /// Only those that have not ended.
    pub in_progress: bool,
    /// Only dry runs, or only imports that are none.
    pub dry_run: Option<bool>,
}

/// The place of an import in the list, which has the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportPosition {
    /// When the import was begun.
    pub created_at: DateTime<Utc>,
    /// Its region.
    pub region: String,
    /// Its id.
    pub import_id: Uuid,
}
