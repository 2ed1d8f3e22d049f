//! Inserts rows of which some break a constraint that the catalog does not know. Only the database can tell which ones.

use std::{future::Future, ops::Range};

use causeway_silo::db::{DbError, DbErrorKind};

use super::WriteError;

/// What became of rows that were to be inserted.
#[derive(Debug, Default)]
pub(super) struct Inserted {
    /// The ids of the rows that are in the table now.
    pub(super) ids: Vec<i64>,
    /// The rows that break a check of the table.
    pub(super) breaking: Vec<Breaking>,
}

/// A row that breaks a check of the table.
#[derive(Debug)]
pub(super) struct Breaking {
    /// The id that the row was to have.
    pub(super) id: i64,
    /// The name of the check, if the database gives one.
    pub(super) check: Option<String>,
}

/// Rows, in their order, and the table that they go into.
pub(super) trait Rows: Send {
    /// Inserts a part of the rows, or none of them.
    fn insert(&mut self, part: Range<usize>) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Runs a statement about a savepoint.
    fn run(&mut self, sql: &'static str) -> impl Future<Output = Result<(), DbError>> + Send;

    /// The id that a row is to have.
    fn id(&self, index: usize) -> Option<i64>;
}

/// Whether the rows themselves are the reason for an error.
pub(super) fn is_refusal(error: &DbError) -> bool {
    matches!(error.kind(), DbErrorKind::Unique | DbErrorKind::Check)
}

/// Inserts each row that breaks no constraint together with those before it, as if there were a statement for each.
/// Leaves out the others, and returns those of them that break a check.
///
/// Usually there are none, and one statement inserts all rows. The database does not say which rows of a statement it
/// refuses. So a part that is refused is split in two, until the row that is refused is alone. Each such row costs some
/// ninety statements in a chunk of 5,000, the maximum: two parts on each of a dozen levels, with a savepoint around each.
/// That is much less than a statement for each row, unless most of them are refused; then it is up to eight for each.
pub(super) async fn insert_apart(rows: &mut impl Rows, count: usize) -> Result<Vec<Breaking>, WriteError> {
    let mut breaking = Vec::new();
    // The last part of the list is the next one. The parts are in reverse order, so that earlier rows come first.
    let mut parts = vec![Range { start: 0, end: count }];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        rows.run("SAVEPOINT causeway_part").await?;
        let error = match rows.insert(part.clone()).await {
            Ok(()) => {
                rows.run("RELEASE SAVEPOINT causeway_part").await?;
                continue;
            }
            Err(WriteError::Database(error)) if is_refusal(&error) => error,
            Err(error) => return Err(error),
        };
        rows.run("ROLLBACK TO SAVEPOINT causeway_part").await?;
        rows.run("RELEASE SAVEPOINT causeway_part").await?;
        if part.len() > 1 {
            let middle = part.start + part.len() / 2;
            parts.push(middle..part.end);
            parts.push(part.start..middle);
        } else if let (DbErrorKind::Check, Some(id)) = (error.kind(), rows.id(part.start)) {
            breaking.push(Breaking { id, check: error.constraint().map(str::to_owned) });
        }
    }
    Ok(breaking)
}
