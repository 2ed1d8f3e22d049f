//! Inserts rows of which some break a constraint that the catalog does not know. Only the database knows
//! which ones.

use causeway_silo::db::{DbErrorKind, Parts, write_bisecting};

use super::WriteError;

/// What became of rows that were to be inserted.
#[derive(Debug, Default)]
pub(super) struct Inserted {
    /// The ids of the rows that are in the table now.
    pub(super) ids: Vec<i64>,
    /// The rows that break a check of the table.
    pub(super) breaking: Vec<CheckViolation>,
}

/// A row that breaks a check of the table.
#[derive(Debug)]
pub(super) struct CheckViolation {
    /// The id that the row was to have.
    pub(super) id: i64,
    /// The name of the check, if the database gives one.
    pub(super) check: Option<String>,
}

/// Rows, in their order, and the table that they go into.
pub(super) trait Rows: Parts<Error = WriteError> {
    /// The id that a row is to have.
    fn id(&self, index: usize) -> Option<i64>;
}

/// Inserts each row that breaks no constraint together with those before it. Leaves out the others, and returns those
/// of them that break a check.
pub(super) async fn insert_bisecting(
    rows: &mut impl Rows,
    count: usize,
) -> Result<Vec<CheckViolation>, WriteError> {
    let refused = write_bisecting(rows, count).await?;
    let breaking = refused.into_iter().filter(|row| row.kind == DbErrorKind::Check);
    Ok(breaking
        .filter_map(|row| Some(CheckViolation { id: rows.id(row.index)?, check: row.constraint }))
        .collect())
}
