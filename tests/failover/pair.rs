//! A primary and its standby, and a table to write into.

use std::time::{Duration, Instant};

use causeway_harness::postgres::Postgres;
use causeway_silo::db::{Db, DbError, DbErrorKind, Options, Statement};

/// How long anything may take that has to happen at some time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// A primary, `a`, and its standby, `b`.
pub(crate) struct Pair {
    pub(crate) a: Postgres,
    pub(crate) b: Postgres,
}

impl Pair {
    pub(crate) async fn start() -> Self {
        let a = Postgres::start().await.expect("a server");
        a.create_database("db").await.expect("a database");
        let own = connect(&a.url("db")).await;
        write_statement(&own, Statement::new("CREATE TABLE t (n bigint PRIMARY KEY)"))
            .await
            .expect("a table");
        own.close().await;
        let b = a.standby().await.expect("a standby");
        Self { a, b }
    }

    /// The URL of both servers.
    pub(crate) fn url(&self, parameters: &str) -> String {
        let (a, b) = (self.a.port(), self.b.port());
        format!("postgres://postgres@127.0.0.1:{a},127.0.0.1:{b}/db?connect_timeout=1{parameters}")
    }

    /// Makes the standby the primary.
    pub(crate) async fn promote_b(&self) {
        self.b.promote().await.expect("it is promoted");
    }
}

pub(crate) fn options() -> Options {
    Options { max_connections: 4, acquire_timeout: Duration::from_secs(5), ..Options::default() }
}

pub(crate) async fn connect(url: &str) -> Db {
    Db::connect(url, &options()).await.expect("a database")
}

async fn write_statement(db: &Db, statement: Statement) -> Result<(), DbError> {
    let mut tx = db.begin().await?;
    tx.execute(statement).await?;
    tx.commit().await
}

/// Writes a number once.
pub(crate) async fn write(db: &Db, number: i64) -> Result<(), DbError> {
    let insert = Statement::new("INSERT INTO t VALUES ($1) ON CONFLICT DO NOTHING").with(number);
    write_statement(db, insert).await
}

/// Writes a number again and again until that is answered. Every error on the way must be one that passes.
pub(crate) async fn write_at_last(db: &Db, number: i64) {
    let began = Instant::now();
    while let Err(error) = write(db, number).await {
        assert!(matches!(error.kind(), DbErrorKind::Unavailable | DbErrorKind::ReadOnly), "{error}");
        assert!(began.elapsed() < PATIENCE, "{number} is not written: {error}");
    }
}

/// All numbers.
pub(crate) async fn numbers(db: &Db) -> Vec<i64> {
    let rows = db.fetch_all(Statement::new("SELECT n FROM t ORDER BY n")).await.expect("it answers");
    rows.iter().map(|row| row.int("n").expect("a number")).collect()
}

/// The port of the server that answers.
pub(crate) async fn port(db: &Db) -> u16 {
    port_unless_replaced(db).await.expect("it answers")
}

/// The port of the server that answers, unless it is replaced while it is asked.
pub(crate) async fn port_unless_replaced(db: &Db) -> Result<u16, DbError> {
    let ask = Statement::new("SELECT inet_server_port()::bigint AS port");
    let row = db.fetch_optional(ask).await?.expect("a row");
    Ok(u16::try_from(row.int("port").expect("a number")).expect("a port"))
}
