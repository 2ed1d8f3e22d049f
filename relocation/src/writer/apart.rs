//! Inserts rows of which some break a constraint that the catalog does not know. Only the database knows
//! which ones.

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

/// After so many rows that are refused, parts are not split in two any more.
const MANY: usize = 32;

/// Whether the rows themselves are the reason for an error.
pub(super) fn is_refusal(error: &DbError) -> bool {
    matches!(error.kind(), DbErrorKind::Unique | DbErrorKind::Check)
}

/// Inserts each row that breaks no constraint together with those before it, as if there were a statement for each.
/// Leaves out the others, and returns those of them that break a check.
///
/// Usually there are none, and one statement inserts all rows. The database does not report which rows of a
/// statement it refuses. So a part that is refused is split in two, until the row that is refused is alone.
/// Each such row costs some ninety statements in a chunk of 5,000, the maximum: two parts on each of a dozen
/// levels, with a savepoint around each. If many are refused, that is more than statements for each row. So
/// after [`MANY`], each row is a part of its own.
pub(super) async fn insert_apart(rows: &mut impl Rows, count: usize) -> Result<Vec<Breaking>, WriteError> {
    let (mut breaking, mut refused) = (Vec::new(), 0);
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
        if part.len() > 1 && refused >= MANY {
            parts.extend(part.rev().map(|index| index..index + 1));
        } else if part.len() > 1 {
            let middle = part.start + part.len() / 2;
            parts.push(middle..part.end);
            parts.push(part.start..middle);
        } else {
            refused += 1;
            if let (DbErrorKind::Check, Some(id)) = (error.kind(), rows.id(part.start)) {
                breaking.push(Breaking { id, check: error.constraint().map(str::to_owned) });
            }
        }
    }
    Ok(breaking)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use causeway_silo::{
        db::{self, Column, Db, Statement, Tx},
        transact,
    };

    use super::*;

    const COUNT: usize = 1_000;

    /// Rows for a table with a check that some of them break. Counts statements.
    struct Numbers<'a> {
        tx: &'a mut Tx,
        refused: HashSet<usize>,
        statements: usize,
    }

    impl Rows for Numbers<'_> {
        async fn insert(&mut self, part: Range<usize>) -> Result<(), WriteError> {
            self.statements += 1;
            let ids = part.clone().filter_map(|index| i64::try_from(index).ok()).collect();
            let is_right = part.map(|index| !self.refused.contains(&index)).collect();
            let rows = [("id", Column::Ints(ids)), ("is_right", Column::Bools(is_right))];
            let statement = Statement::new("INSERT INTO number (id, is_right) SELECT r.id, r.is_right FROM ");
            self.tx.execute(statement.rows(self.tx.dialect(), "r", rows)).await?;
            Ok(())
        }

        async fn run(&mut self, sql: &'static str) -> Result<(), DbError> {
            self.statements += 1;
            self.tx.execute(Statement::new(sql)).await.map(|_| ())
        }

        fn id(&self, index: usize) -> Option<i64> {
            i64::try_from(index).ok()
        }
    }

    /// Inserts all rows but those that are refused, and returns the number of statements.
    async fn statements(refused: impl IntoIterator<Item = usize>) -> usize {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("region.db").display());
        let db = Db::connect(&url, &db::Options::default()).await.unwrap();
        let refused: HashSet<usize> = refused.into_iter().collect();
        let (statements, breaking, left) = transact!(WriteError, db, |tx| {
            tx.execute(Statement::new("CREATE TABLE number (id BIGINT, is_right BOOLEAN CHECK (is_right))"))
                .await?;
            let mut numbers = Numbers { tx, refused: refused.clone(), statements: 0 };
            let breaking = insert_apart(&mut numbers, COUNT).await?;
            let statements = numbers.statements;
            let left = tx.fetch_one(Statement::new("SELECT count(*) AS n FROM number")).await?.int("n")?;
            (statements, breaking.len(), left)
        })
        .unwrap();
        assert_eq!((breaking, left), (refused.len(), i64::try_from(COUNT - refused.len()).unwrap()));
        statements
    }

    #[tokio::test]
    async fn a_row_that_is_refused_is_left_out_alone() {
        assert_eq!(statements([]).await, 3);
        let few = statements([0, 456, 999]).await;
        assert!(few < 250, "{few}");
    }

    #[tokio::test]
    async fn many_rows_that_are_refused_cost_few_statements_each() {
        let all = statements(0..COUNT).await;
        assert!(all < 4 * COUNT + 300, "{all}");
    }
}
