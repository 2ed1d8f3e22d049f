//! Bounds of a region, so that no import can fill its database, disk or memory.

use std::time::Duration;

use causeway_proto::limits::{MAX_CHUNK_RECORDS, MAX_ORGANIZATIONS};
use causeway_relocation::export;

/// Bounds of a region. The defaults suit most regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many findings of one import are stored, 100,000 by default. Further ones are only counted by kind, and that
    /// is a finding of its own. Errors and the first few of each kind are always stored.
    pub findings: u32,
    /// The most bytes of an upload as it is sent, 64 GiB by default.
    pub upload_bytes: u64,
    /// How many uploads may run at once, 8 by default; a further one is refused.
    pub uploads: usize,
    /// How many uploads may come from one address at once, 6 by default; a further one is refused.
    pub uploads_per_address: usize,
    /// How long an upload may be silent before the region gives its place to others, 60 s by default.
    pub upload_idle: Duration,
    /// The least rate of an upload in bytes a second, 16 KiB by default; 0 if any rate will do. It is measured over
    /// each stretch of `upload_idle` that the region spends on waiting for the upload.
    pub upload_rate: u64,
    /// How many streams of `WatchImport` may be open at once, 1,000 by default; a further one is refused.
    pub watches: usize,
    /// How large and how deeply nested a record of an export may be.
    pub record: export::Limits,
    /// How many imports the region works on at once, 2 by default; others wait for their turn. A turn is a chunk, or
    /// the plan of a file.
    pub imports_at_once: usize,
    /// How many organizations one import may have, 1,000,000 by default, and never more: control reserves no more slugs
    /// in one operation.
    pub organizations: usize,
    /// How many organizations one transaction changes, 20,000 by default; 0 counts as 1. It keeps transactions short,
    /// however many organizations an import has.
    pub organizations_a_transaction: u32,
    /// How large the batches for control are of imports that begin with this process. An import keeps the sizes that it
    /// began with.
    pub control_batch: ControlBatch,
}

/// How an import cuts its records into batches for control. A chunk that control has committed and the region has not
/// recorded must be requested as the same chunk, so an import stores the sizes and keeps them, also when a release with
/// other sizes continues it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlBatch {
    /// The most records: as many as control takes in one message, by default, and never more.
    pub records: u32,
    /// The most bytes that the records have in the file, 2 MiB by default, so that they fit into one message. A larger
    /// record is a batch of its own.
    pub bytes: u32,
}

impl Default for ControlBatch {
    fn default() -> Self {
        Self { records: u32::try_from(MAX_CHUNK_RECORDS).unwrap_or(u32::MAX), bytes: 2 * 1024 * 1024 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            findings: 100_000,
            upload_bytes: 64 << 30,
            uploads: 8,
            uploads_per_address: 6,
            upload_idle: Duration::from_secs(60),
            upload_rate: 16 << 10,
            watches: 1_000,
            record: export::Limits::default(),
            imports_at_once: 2,
            organizations: MAX_ORGANIZATIONS,
            organizations_a_transaction: 20_000,
            control_batch: ControlBatch::default(),
        }
    }
}
