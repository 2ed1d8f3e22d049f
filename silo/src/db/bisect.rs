//! Writes rows of which some break a constraint that nobody here knows. Only the database can tell which ones.

use std::ops::Range;

use super::{DbError, DbErrorKind, HasDbError, Statement, Tx};

/// Rows to write, in their order.
pub trait Parts: Send {
    /// The error of writing.
    type Error: From<DbError> + HasDbError + Send;

    /// Writes a part of the rows, or none of them.
    fn write(&mut self, part: Range<usize>) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Runs a statement about a savepoint.
    fn run(&mut self, sql: &'static str) -> impl Future<Output = Result<(), DbError>> + Send;
}

/// A row that the database refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its place among the rows.
    pub index: usize,
    /// Whether it breaks a unique set or a check.
    pub kind: DbErrorKind,
    /// What it breaks, if the database names it.
    pub constraint: Option<String>,
}

/// After so many rows that are refused, parts are not split in two any more.
const MANY: usize = 32;

/// Whether the rows themselves are the reason for an error.
#[must_use]
pub fn is_refusal(error: &DbError) -> bool {
    matches!(error.kind(), DbErrorKind::Unique | DbErrorKind::Check)
}

/// Writes each row that breaks no constraint together with those before it, as if there were a statement for each.
/// Leaves out the others, and returns them.
///
/// Usually there are none, and one statement writes all rows. The database does not say which rows of a statement it
/// refuses. So a part that is refused is split in two, until the row that is refused is alone. Each such row costs some
/// ninety statements among 5,000, the maximum: two parts on each of a dozen levels, with a savepoint around each. If
/// many are refused, that is more than statements for each row. So after [`MANY`], each row is a part of its own.
///
/// # Errors
/// Any error of the database but that a row breaks a unique set or a check.
pub async fn write_bisecting<P: Parts>(rows: &mut P, count: usize) -> Result<Vec<Refused>, P::Error> {
    let mut refused = Vec::new();
    // The last part of the list is the next one. The parts are in reverse order, so that earlier rows come first.
    let mut parts = vec![Range { start: 0, end: count }];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        rows.run("SAVEPOINT causeway_part").await?;
        let error = match rows.write(part.clone()).await {
            Ok(()) => {
                rows.run("RELEASE SAVEPOINT causeway_part").await?;
                continue;
            }
            Err(error) => error,
        };
        let Some((kind, constraint)) =
            error.db_error().filter(|error| is_refusal(error)).map(|it| (it.kind(), it.constraint()))
        else {
            return Err(error);
        };
        let constraint = constraint.map(str::to_owned);
        rows.run("ROLLBACK TO SAVEPOINT causeway_part").await?;
        rows.run("RELEASE SAVEPOINT causeway_part").await?;
        if part.len() > 1 && refused.len() >= MANY {
            parts.extend(part.rev().map(|index| index..index + 1));
        } else if part.len() > 1 {
            let middle = part.start + part.len() / 2;
            parts.push(middle..part.end);
            parts.push(part.start..middle);
        } else {
            refused.push(Refused { index: part.start, kind, constraint });
        }
    }
    Ok(refused)
}

impl Tx {
    /// Changes rows, each as if there were a statement for it: those whose new values break a unique set or a check stay
    /// as they are, and are returned. `change` makes the statement for a part of the rows.
    ///
    /// # Errors
    /// Any other error of the database.
    pub async fn execute_bisecting<'r, T: Sync>(
        &mut self,
        rows: &'r [T],
        change: impl Fn(&[T]) -> Statement + Send,
    ) -> Result<Vec<(&'r T, Refused)>, DbError> {
        let refused = write_bisecting(&mut Changes { tx: self, rows, change }, rows.len()).await?;
        let row = |refused: Refused| Ok((rows.get(refused.index).ok_or_else(outside)?, refused));
        refused.into_iter().map(row).collect()
    }
}

/// The error that a part has rows that there are not.
#[must_use]
pub fn outside() -> DbError {
    DbError::inconsistent("a part has more rows than there are")
}

/// Rows that a statement changes.
struct Changes<'a, T, F> {
    tx: &'a mut Tx,
    rows: &'a [T],
    change: F,
}

impl<T: Sync, F: Fn(&[T]) -> Statement + Send> Parts for Changes<'_, T, F> {
    type Error = DbError;

    async fn write(&mut self, part: Range<usize>) -> Result<(), DbError> {
        let rows = self.rows.get(part).ok_or_else(outside)?;
        self.tx.execute((self.change)(rows)).await?;
        // What is checked at the end of the transaction would fail there, when it is too late to leave a row as it is.
        self.tx.check_constraints().await
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), DbError> {
        self.tx.execute(Statement::new(sql)).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{
        db::{Column, Db, Options},
        transact,
    };

    const COUNT: usize = 1_000;

    /// Rows for a table with a check that some of them break. Counts statements.
    struct Numbers<'a> {
        tx: &'a mut Tx,
        refused: HashSet<usize>,
        statements: usize,
    }

    impl Parts for Numbers<'_> {
        type Error = DbError;

        async fn write(&mut self, part: Range<usize>) -> Result<(), DbError> {
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
    }

    async fn database(directory: &tempfile::TempDir) -> Db {
        let url = format!("sqlite:{}", directory.path().join("region.db").display());
        Db::connect(&url, &Options::default()).await.unwrap()
    }

    /// Inserts all rows but those that are refused, and returns the number of statements.
    async fn statements(refused: impl IntoIterator<Item = usize>) -> usize {
        let directory = tempfile::tempdir().unwrap();
        let db = database(&directory).await;
        let refused: HashSet<usize> = refused.into_iter().collect();
        let (statements, breaking, left) = transact!(DbError, db, |tx| {
            tx.execute(Statement::new("CREATE TABLE number (id BIGINT, is_right BOOLEAN CHECK (is_right))"))
                .await?;
            let mut numbers = Numbers { tx, refused: refused.clone(), statements: 0 };
            let breaking = write_bisecting(&mut numbers, COUNT).await?;
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

    #[tokio::test]
    async fn a_row_whose_new_value_is_refused_keeps_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let db = database(&directory).await;
        let (refused, rows) = transact!(DbError, db, |tx| {
            for sql in [
                "CREATE TABLE word (id BIGINT, value TEXT UNIQUE CONSTRAINT odd CHECK (value <> 'no'))",
                "INSERT INTO word VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')",
            ] {
                tx.execute(Statement::new(sql)).await?;
            }
            let words: Vec<(i64, String)> =
                [(1, "A"), (2, "no"), (3, "A"), (4, "D")].map(|(id, word)| (id, word.to_owned())).into();
            let dialect = tx.dialect();
            let change = |words: &[(i64, String)]| {
                let (ids, values) = words.iter().cloned().unzip();
                let rows = [("id", Column::Ints(ids)), ("value", Column::Texts(values))];
                Statement::new("UPDATE word SET value = r.value FROM ")
                    .rows(dialect, "r", rows)
                    .push(" WHERE word.id = r.id")
            };
            let refused: Vec<(i64, Refused)> = tx
                .execute_bisecting(&words, change)
                .await?
                .into_iter()
                .map(|(word, why)| (word.0, why))
                .collect();
            let rows = tx.fetch_all(Statement::new("SELECT value FROM word ORDER BY id")).await?;
            (refused, rows.iter().map(|row| row.text("value")).collect::<Result<Vec<_>, _>>()?)
        })
        .unwrap();
        let refused: Vec<_> =
            refused.iter().map(|(id, it)| (*id, it.index, it.kind, it.constraint.as_deref())).collect();
        assert_eq!(refused, [(2, 1, DbErrorKind::Check, Some("odd")), (3, 2, DbErrorKind::Unique, None)]);
        assert_eq!(rows, ["A", "b", "c", "D"]);
    }
}
