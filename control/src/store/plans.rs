//! The queries that control asks all the time, each with the index that must answer it: for tests that ask a database how it
//! would answer them.

use causeway_silo::db::Statement;

use super::report;
use crate::model::report::{ImportFilter, ImportPosition};

/// Each query of the console about reported imports, with the index of `causeway_reported_import` that its plan must use.
/// `after` is the place where a further page begins.
#[must_use]
pub fn queries(after: &ImportPosition) -> Vec<(Statement, &'static str)> {
    let in_progress = ImportFilter { in_progress: true, ..ImportFilter::default() };
    let failed =
        ImportFilter { state: Some("FAILED".to_owned()), dry_run: Some(false), ..ImportFilter::default() };
    let mut queries = Vec::new();
    for after in [None, Some(after)] {
        queries.push((
            report::imports_query(&in_progress, after, 51),
            "causeway_reported_import_in_progress_idx",
        ));
        queries.push((report::imports_query(&failed, after, 51), "causeway_reported_import_state_idx"));
    }
    queries
}
