//! The queries that a region asks all the time, or of very many rows, each with the indexes that must answer it: for tests
//! that ask a database how it would answer them.

use causeway_silo::db::Statement;
use chrono::{DateTime, Utc};

use super::import;

/// Each query, with the indexes of `causeway_import` that its plan must use. `since` is the time after which the first one
/// looks for changes.
#[must_use]
pub fn queries(since: DateTime<Utc>) -> Vec<(Statement, &'static [&'static str])> {
    vec![
        (
            import::changed_since_query(since, 1_000),
            &["causeway_import_updated_idx", "causeway_import_unfinished_idx"],
        ),
        (import::unfinished_query(), &["causeway_import_unfinished_idx"]),
    ]
}
