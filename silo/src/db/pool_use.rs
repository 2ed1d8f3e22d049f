//! How many connections of a pool are in use, for the metrics.

use sqlx::Database;

use super::{Db, Pool, Readers};

/// The connections of one pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUse {
    /// `all` on PostgreSQL, and `replica` of one; on SQLite, `readers` or `writer`.
    pub pool: &'static str,
    /// Those that do something.
    pub used: u32,
    /// Those that are open and wait for something to do.
    pub idle: u32,
    /// The most that may be open.
    pub most: u32,
}

fn of<D: Database>(name: &'static str, pool: &sqlx::Pool<D>) -> PoolUse {
    // The two numbers are not read at the same moment.
    let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX).min(pool.size());
    PoolUse { pool: name, used: pool.size() - idle, idle, most: pool.options().get_max_connections() }
}

impl Db {
    /// The connections of its pools. Makes no query.
    #[must_use]
    pub fn pool_use(&self) -> Vec<PoolUse> {
        match &self.pool {
            Pool::Postgres(pool) => vec![of("all", pool.connections())],
            Pool::Sqlite { readers, writer } => vec![of("readers", readers), of("writer", writer)],
        }
    }
}

impl Readers {
    /// The connections to the database and to its replica; none to a replica that cannot be reached. Asks nobody.
    #[must_use]
    pub fn pool_use(&self) -> Vec<PoolUse> {
        let mut pools = self.primary().pool_use();
        if let Some(replica) = self.connected_replica() {
            pools.extend(replica.pool_use().into_iter().map(|it| PoolUse { pool: "replica", ..it }));
        }
        pools
    }
}

#[cfg(test)]
mod tests {
    use crate::db::{Db, Options};

    #[tokio::test]
    async fn the_writer_is_used_as_long_as_somebody_writes() {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite:{}", directory.path().join("x.db").display());
        let db = Db::connect(&url, &Options::default()).await.expect("a database");
        let of = |name: &str| db.pool_use().into_iter().find(|pool| pool.pool == name).expect("a pool");
        assert_eq!((of("writer").most, of("readers").most), (1, 9));
        let tx = db.begin().await.expect("a transaction");
        assert_eq!((of("writer").used, of("writer").idle), (1, 0));
        tx.commit().await.expect("it is kept");
        // The connection returns in a task of its own; the next transaction waits for it.
        db.begin().await.expect("a transaction").commit().await.expect("it is kept");
        assert_eq!(of("readers").used, 0);
        db.close().await;
    }
}
