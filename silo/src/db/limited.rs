//! Queries that the database gives up after some time.

use std::time::Duration;

use tokio::time::timeout;

use super::{Db, DbError, Dialect, Row, Statement};

impl Db {
    /// All rows of a query that may take long and is not important: the metrics'. PostgreSQL gives it up after `limit`,
    /// so that it does not go on when nobody waits for it any more. It is not retried.
    ///
    /// # Errors
    /// If the database refuses the statement, cannot be reached, or does not answer within `limit`.
    pub async fn fetch_within(&self, limit: Duration, statement: Statement) -> Result<Vec<Row>, DbError> {
        match self.dialect() {
            Dialect::Postgres => {
                let mut tx = self.begin().await?;
                // Whatever the defaults of the database are: it can neither fail as serializable transactions do, nor write.
                tx.execute(Statement::new("SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY"))
                    .await?;
                let limit = limit.as_millis().to_string();
                let set = Statement::new("SELECT set_config('statement_timeout', $1, true)").with(limit);
                tx.fetch_all(set).await?;
                let rows = tx.fetch_all(statement).await?;
                tx.commit().await?;
                Ok(rows)
            }
            // It runs in this process, and on a connection that only reads.
            Dialect::Sqlite => match timeout(limit, self.fetch_all(statement)).await {
                Ok(rows) => rows,
                Err(_) => Err(DbError::unanswered(limit)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::db::{Db, DbErrorKind, Options, Statement};

    #[tokio::test]
    async fn a_query_that_takes_too_long_is_given_up() {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite:{}", directory.path().join("x.db").display());
        let db = Db::connect(&url, &Options::default()).await.expect("a database");
        let rows = db.fetch_within(Duration::from_secs(60), Statement::new("SELECT 1 AS one")).await;
        assert_eq!(rows.expect("it is quick").len(), 1);
        let slow = "WITH RECURSIVE n (a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n WHERE a < 3000000) \
             SELECT count(*) AS many FROM n";
        let error = db.fetch_within(Duration::from_millis(5), Statement::new(slow)).await;
        assert_eq!(error.expect_err("it takes longer").kind(), DbErrorKind::Unavailable);
        db.close().await;
    }
}
