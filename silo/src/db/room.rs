//! Whether a database can be written to.
//!
//! A small row can often be written where nothing larger can: SQLite writes it over an old page of its log, PostgreSQL
//! beside another one. So the database counts as full from the first transaction on that met that, until a mebibyte can
//! be written. As long as none has, one row is enough.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::time::timeout;

use super::{Db, DbError, Statement, Tx};

/// What is known about the room in a database. Shared by all who use its connections.
#[derive(Debug, Default)]
pub(super) struct Room(AtomicBool);

impl Room {
    /// A transaction met that there is none.
    pub(super) fn is_short(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn was_short(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn is_back(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Changes the one row that is there for this.
const ROW: &str = "INSERT INTO causeway_health (id, checks) VALUES (1, 1) \
    ON CONFLICT (id) DO UPDATE SET checks = causeway_health.checks + 1";

/// New pages for a mebibyte, whatever free ones the table has: it is another file until this is rolled back. Others check
/// too; who must wait for them finds out soon enough.
const POSTGRES: [&str; 3] = [
    "SET LOCAL lock_timeout = '1s'",
    "TRUNCATE causeway_health",
    "INSERT INTO causeway_health (id, checks, filler) \
     SELECT n, 0, repeat('x', 7000) FROM generate_series(1, 150) AS n",
];

/// A mebibyte through the log, which takes nothing before the commit; and its end.
const SQLITE: [&str; 2] = [
    "INSERT INTO causeway_health (id, checks, filler) VALUES (2, 1, hex(zeroblob(524288))) \
     ON CONFLICT (id) DO UPDATE SET checks = causeway_health.checks + 1, filler = excluded.filler",
    "DELETE FROM causeway_health WHERE id = 2",
];

impl Db {
    /// Whether the database takes what is written, by writing something of no meaning into `causeway_health`. Waits no
    /// longer than `patience` for its turn, and keeps nobody else waiting.
    ///
    /// # Errors
    /// If it does not. [`Contention`](super::DbErrorKind::Contention) says that others were writing all the time.
    pub async fn check_writable(&self, patience: Duration) -> Result<(), DbError> {
        if !self.room().was_short() {
            let mut tx = self.begin_within(patience).await?;
            tx.execute(Statement::new(ROW)).await?;
            return tx.commit().await;
        }
        let mut tx = self.begin_within(patience).await?;
        match tx {
            Tx::Postgres(_) => {
                for sql in POSTGRES {
                    tx.execute(Statement::new(sql)).await?;
                }
                // Dropped, and so rolled back.
            }
            Tx::Sqlite(_) => {
                tx.execute(Statement::new(SQLITE[0])).await?;
                tx.commit().await?;
                let mut tx = self.begin_within(patience).await?;
                tx.execute(Statement::new(SQLITE[1])).await?;
                tx.commit().await?;
            }
        }
        self.room().is_back();
        Ok(())
    }

    async fn begin_within(&self, patience: Duration) -> Result<Tx, DbError> {
        timeout(patience, self.begin()).await.map_err(|_| DbError::busy())?
    }
}
