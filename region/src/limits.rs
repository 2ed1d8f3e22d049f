//! What a region bounds so that no import can fill its database, disk or memory.

use std::time::Duration;

use causeway_relocation::export;

/// Bounds of a region. Each has a default that serves most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many findings are stored of one import. Those behind are counted by kind and not stored, which is a finding
    /// of its own; errors and the first few of each kind are stored always.
    pub findings: u32,
    /// How many bytes an upload may have, as it is sent.
    pub upload_bytes: u64,
    /// How many uploads may be under way at once; a further one is refused.
    pub uploads: usize,
    /// How many of them may come from one address; a further one is refused.
    pub uploads_per_address: usize,
    /// How long nothing may come of an upload before its place is given to others.
    pub upload_idle: Duration,
    /// How many bytes a second an upload must have over each such time that is spent on waiting for it; 0 if any.
    pub upload_rate: u64,
    /// How many streams of `WatchImport` may be open at once; a further one is refused.
    pub watches: usize,
    /// How large and how deeply nested a record of an export may be.
    pub record: export::Limits,
    /// How many imports are worked on at once; further ones wait for their turn. A turn is a chunk, or the plan of a file.
    pub imports_at_once: usize,
    /// How many organizations one transaction names, shows or hides; at least one. That keeps it short, however many an
    /// import has.
    pub organizations_a_transaction: u32,
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
            organizations_a_transaction: 20_000,
        }
    }
}
