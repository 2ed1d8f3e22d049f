//! Whether a database can be written to.
//!
//! On a full disk a small row can often still be written: SQLite writes it over an old page of its log,
//! PostgreSQL next to another row. So when a transaction has found the disk full, the database counts as full
//! until a mebibyte can be written. As long as no transaction has, writing one row is enough of a check.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::time::timeout;

use super::{Db, DbError, Statement, Tx};

/// Whether the database has run out of room. Shared by all users of its connections.
#[derive(Debug, Default)]
pub(super) struct DiskSpace(AtomicBool);

impl DiskSpace {
    /// Records that a transaction found no room.
    pub(super) fn mark_full(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn mark_ok(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Changes the one row that exists for this check.
const ROW: &str = "INSERT INTO causeway_health (id, checks) VALUES (1, 1) \
    ON CONFLICT (id) DO UPDATE SET checks = causeway_health.checks + 1";

/// Writes a mebibyte to new pages, whatever free pages the table has: after TRUNCATE it is another file, until this is
/// rolled back. Other processes check too; one that waits for them longer than the lock timeout fails.
const POSTGRES: [&str; 3] = [
    "SET LOCAL lock_timeout = '1s'",
    "TRUNCATE causeway_health",
    "INSERT INTO causeway_health (id, checks, filler) \
     SELECT n, 0, repeat('x', 7000) FROM generate_series(1, 150) AS n",
];

/// Writes a mebibyte through the log, which takes nothing before the commit, and then deletes it.
const SQLITE: [&str; 2] = [
    "INSERT INTO causeway_health (id, checks, filler) VALUES (2, 1, hex(zeroblob(524288))) \
     ON CONFLICT (id) DO UPDATE SET checks = causeway_health.checks + 1, filler = excluded.filler",
    "DELETE FROM causeway_health WHERE id = 2",
];

impl Db {
    /// Checks that the database accepts writes, by writing something without meaning into `causeway_health`. Waits at
    /// most `patience` for its turn, and keeps no other writer waiting.
    ///
    /// # Errors
    /// If it does not. [`Contention`](super::DbErrorKind::Contention) means that other writers used the database all
    /// the time.
    pub async fn check_writable(&self, patience: Duration) -> Result<(), DbError> {
        if !self.disk_space().is_full() {
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
        self.disk_space().mark_ok();
        Ok(())
    }

    async fn begin_within(&self, patience: Duration) -> Result<Tx, DbError> {
        timeout(patience, self.begin()).await.map_err(|_| DbError::busy())?
    }
}
