//! The handles of each part of a service. A part makes its own, or gets them passed in, and the port shows them.

use std::time::Duration;

use prometheus_client::registry::Registry;

use crate::{
    counted::{Counts, Levels, Sizes, There},
    table,
};

/// What the calls of a service count.
#[derive(Debug, Clone)]
pub struct CallMetrics {
    ended: Counts<3>,
    duration: Sizes<1>,
    open: Levels<1>,
}

impl Default for CallMetrics {
    fn default() -> Self {
        Self {
            ended: Counts::new(&table::CALLS),
            duration: Sizes::new(&table::CALL_DURATION),
            open: Levels::new(&table::CALLS_IN_PROGRESS),
        }
    }
}

impl CallMetrics {
    /// A call is in progress until the guard is dropped.
    #[must_use]
    pub fn begin(&self, rpc: &str) -> There {
        self.open.enter([rpc])
    }

    /// A call has ended. `took` is `None` for one that lasts as long as its caller wants.
    pub fn ended(&self, rpc: &str, code: &str, reason: &str, took: Option<Duration>) {
        self.ended.add([rpc, code, reason], 1);
        if let Some(took) = took {
            self.duration.observe([rpc], took.as_secs_f64());
        }
    }

    /// Shows them to whoever scrapes.
    pub fn register(&self, registry: &mut Registry) {
        self.ended.register(registry);
        self.duration.register(registry);
        self.open.register(registry);
    }
}

/// What became of the records of a chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChunkRecords {
    /// New rows of records.
    pub inserted: u64,
    /// New rows that no record stands for.
    pub added: u64,
    /// Records that lead to rows which existed.
    pub existing: u64,
    /// Records that a filter left out.
    pub filtered: u64,
    /// Records of another scope.
    pub out_of_scope: u64,
    /// Records that were not written, each with a finding.
    pub dropped: u64,
    /// Bytes of all of them in the file.
    pub bytes: u64,
}

/// What the imports of a region count.
#[derive(Debug, Clone)]
pub struct ImportMetrics {
    records: Counts<2>,
    bytes: Counts<1>,
    chunk: Sizes<1>,
    commit: Sizes<0>,
}

impl Default for ImportMetrics {
    fn default() -> Self {
        Self {
            records: Counts::new(&table::IMPORT_RECORDS),
            bytes: Counts::new(&table::IMPORT_BYTES),
            chunk: Sizes::new(&table::CHUNK_DURATION),
            commit: Sizes::new(&table::CHUNK_COMMIT_DURATION),
        }
    }
}

impl ImportMetrics {
    /// A chunk has been committed. `model` must be one of the catalog.
    pub fn committed(&self, model: &str, records: ChunkRecords) {
        let ChunkRecords { inserted, added, existing, filtered, out_of_scope, dropped, bytes } = records;
        let outcomes = [
            ("inserted", inserted),
            ("added", added),
            ("existing", existing),
            ("filtered", filtered),
            ("out_of_scope", out_of_scope),
            ("dropped", dropped),
        ];
        for (outcome, count) in outcomes.into_iter().filter(|(_, count)| *count > 0) {
            self.records.add([model, outcome], count);
        }
        self.bytes.add([model], bytes);
    }

    /// The region has written a chunk, and the commit was this part of the time.
    pub fn wrote_here(&self, took: Duration, commit: Duration) {
        self.chunk.observe(["region"], took.as_secs_f64());
        self.commit.observe([], commit.as_secs_f64());
    }

    /// Control has written a chunk.
    pub fn wrote_at_control(&self, took: Duration) {
        self.chunk.observe(["control"], took.as_secs_f64());
    }

    /// Shows them to whoever scrapes.
    pub fn register(&self, registry: &mut Registry) {
        self.records.register(registry);
        self.bytes.register(registry);
        self.chunk.register(registry);
        self.commit.register(registry);
    }
}

/// What the comparisons of a region with control leave.
#[derive(Debug, Clone)]
pub struct ComparisonMetrics {
    left: Levels<0>,
    ended: Levels<0>,
}

impl Default for ComparisonMetrics {
    fn default() -> Self {
        Self { left: Levels::new(&table::DIFFERENCES), ended: Levels::new(&table::COMPARISON_END) }
    }
}

impl ComparisonMetrics {
    /// A comparison has ended, at this time in seconds since 1970, and this many differences are left.
    pub fn ended(&self, at: i64, left: i64) {
        self.left.set([], left);
        self.ended.set([], at);
    }

    /// Shows them to whoever scrapes.
    pub fn register(&self, registry: &mut Registry) {
        self.left.register(registry);
        self.ended.register(registry);
    }
}

/// What the bulk creations of a control count.
#[derive(Debug, Clone)]
pub struct SlugMetrics {
    given: Counts<1>,
    rounds: Sizes<0>,
    conflicts: Counts<0>,
}

impl Default for SlugMetrics {
    fn default() -> Self {
        let conflicts = Counts::new(&table::SLUG_CONFLICTS);
        conflicts.add([], 0);
        Self { given: Counts::new(&table::SLUGS_GIVEN), rounds: Sizes::new(&table::SUFFIX_ROUNDS), conflicts }
    }
}

impl SlugMetrics {
    /// So many organizations got the slug that they got for this reason.
    pub fn slugs_given(&self, reason: &str, count: u64) {
        self.given.add([reason], count);
    }

    /// A bulk creation has picked all slugs, after so many rounds with a suffix.
    pub fn picked(&self, suffix_rounds: u32) {
        self.rounds.observe([], f64::from(suffix_rounds));
    }

    /// A bulk creation is tried again, because another one came before.
    pub fn conflict(&self) {
        self.conflicts.add([], 1);
    }

    /// Shows them to whoever scrapes.
    pub fn register(&self, registry: &mut Registry) {
        self.given.register(registry);
        self.rounds.register(registry);
        self.conflicts.register(registry);
    }
}
