//! Reads of control that may be old, from a standby.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use causeway_harness::postgres::Postgres;
use causeway_silo::{
    Silo,
    db::{Db, DbError, Readers, ReplicaOptions, Statement},
};

use crate::pair::{PATIENCE, Pair, connect, options, port_unless_replaced, write};

/// A lag that a replica reaches only if something holds it up.
const LAG: Duration = Duration::from_secs(20);
/// A lag that is reached soon.
const SMALL_LAG: Duration = Duration::from_millis(500);

async fn pair() -> (Pair, Db) {
    let pair = Pair::start().await;
    let primary = connect(&pair.a.url("db")).await;
    let mut tx = primary.begin().await.expect("a transaction");
    let health = include_str!("../../migrations/control/postgres/0012_health.sql");
    for statement in health.split(';').filter(|it| !it.trim().is_empty()) {
        tx.execute(Statement::new("").push(statement)).await.expect("a table");
    }
    tx.commit().await.expect("it is kept");
    (pair, primary)
}

fn readers(primary: &Db, url: &str, max_lag: Duration) -> Readers {
    let replica = ReplicaOptions { url: url.into(), max_lag };
    Readers::with_replica(primary.clone(), Silo::Control, options(), replica).expect("both are PostgreSQL")
}

/// The port of the server that a read goes to.
async fn read(readers: &Readers) -> u16 {
    let port: Result<u16, DbError> = readers.read(|db| async move { port_unless_replaced(&db).await }).await;
    port.expect("it answers")
}

async fn until_reads_go_to(readers: &Readers, server: &Postgres) {
    let began = Instant::now();
    while read(readers).await != server.port() {
        assert!(began.elapsed() < PATIENCE, "reads do not go to that server");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_to_the_replica_and_fall_back_when_it_is_away() {
    let (mut pair, primary) = pair().await;
    let readers = readers(&primary, &pair.b.url("db"), LAG);
    assert_eq!(read(&readers).await, pair.a.port(), "nobody knows yet how far the replica is");
    until_reads_go_to(&readers, &pair.b).await;
    let pools: Vec<_> = readers.pool_use().into_iter().map(|it| (it.pool, it.most > 0)).collect();
    assert_eq!(pools, [("all", true), ("replica", true)]);
    pair.b.crash().await.expect("it ends");
    let began = Instant::now();
    let found: Result<usize, DbError> = readers
        .read(|db| async move { Ok(db.fetch_all(Statement::new("SELECT n FROM t")).await?.len()) })
        .await;
    assert_eq!(found.expect("the primary answers"), 0);
    assert!(began.elapsed() < LAG, "the primary answers at once, and not when the replica is too old");
    pair.b.restart().await.expect("it starts");
    until_reads_go_to(&readers, &pair.b).await;
    // A read is under way when the replica is given up, and its connections are closed.
    let standby = pair.b.port();
    let found: Result<u16, DbError> = readers
        .read(|db| async move {
            if port_unless_replaced(&db).await? == standby {
                db.close().await;
            }
            port_unless_replaced(&db).await
        })
        .await;
    assert_eq!(found.expect("the primary answers"), pair.a.port());
    readers.stop().await;
    primary.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_replica_holds_no_read_for_long() {
    let (pair, primary) = pair().await;
    let readers = readers(&primary, &pair.b.url("db"), LAG);
    until_reads_go_to(&readers, &pair.b).await;
    // Its connections stay open, and nobody answers on them.
    pair.b.set_frozen(true).expect("it stops");
    for attempt in ["the first", "the second"] {
        let began = Instant::now();
        assert_eq!(read(&readers).await, pair.a.port(), "{attempt}");
        // It would take 10 seconds and more if the read waited until its connection counts as lost.
        assert!(began.elapsed() < Duration::from_secs(7), "{attempt} took {:?}", began.elapsed());
    }
    pair.b.set_frozen(false).expect("it goes on, as if nothing had happened");
    until_reads_go_to(&readers, &pair.b).await;
    readers.stop().await;
    primary.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_takes_long_on_the_replica_is_made_on_the_primary_and_others_stay_there() {
    let (pair, primary) = pair().await;
    let readers = readers(&primary, &pair.b.url("db"), LAG);
    until_reads_go_to(&readers, &pair.b).await;
    let standby = pair.b.port();
    let asked = AtomicU32::new(0);
    let slow: Result<u16, DbError> = readers
        .read(|db| {
            asked.fetch_add(1, Ordering::Relaxed);
            async move {
                let port = port_unless_replaced(&db).await?;
                if port == standby {
                    db.fetch_all(Statement::new("SELECT pg_sleep(60)")).await?;
                }
                Ok(port)
            }
        })
        .await;
    assert_eq!(slow.expect("the primary answers"), pair.a.port());
    assert_eq!(asked.into_inner(), 2, "on the replica, and on the primary");
    assert_eq!(read(&readers).await, standby, "the replica is still used");
    let active = "SELECT count(*) AS n FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' \
                  AND state = 'active' AND pid <> pg_backend_pid()";
    let there = connect(&pair.b.url("db")).await;
    let row = there.fetch_optional(Statement::new(active)).await.expect("it answers").expect("a row");
    assert_eq!(row.int("n").expect("a number"), 0, "the statement does not run on");
    there.close().await;
    readers.stop().await;
    primary.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_too_far_behind_is_not_read() {
    let (pair, primary) = pair().await;
    let readers = readers(&primary, &pair.b.url("db"), SMALL_LAG);
    until_reads_go_to(&readers, &pair.b).await;
    pair.b.set_replay(false).await.expect("replay is paused");
    until_reads_go_to(&readers, &pair.a).await;
    // Whatever is older than the bound is seen, because it is read from the primary.
    write(&primary, 1).await.expect("it is written");
    let written = Instant::now();
    // Before that, a read may still go to the replica: it may have been near enough when it was last looked at.
    while written.elapsed() <= SMALL_LAG {
        read(&readers).await;
    }
    for _ in 0..100 {
        assert_eq!(read(&readers).await, pair.a.port());
    }
    pair.b.set_replay(true).await.expect("it goes on");
    until_reads_go_to(&readers, &pair.b).await;
    readers.stop().await;
    primary.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_primary_is_gone_is_not_read_for_longer_than_the_lag() {
    let (mut pair, primary) = pair().await;
    let readers = readers(&primary, &pair.b.url("db"), SMALL_LAG);
    until_reads_go_to(&readers, &pair.b).await;
    pair.a.crash().await.expect("it ends");
    let began = Instant::now();
    loop {
        let read: Result<Vec<_>, DbError> =
            readers.read(|db| async move { db.fetch_all(Statement::new("SELECT n FROM t")).await }).await;
        if read.is_err() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the replica is read although nobody knows how old it is");
    }
    readers.stop().await;
    primary.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_database_that_can_be_a_replica_is_taken() {
    let directory = tempfile::tempdir().expect("a directory");
    let sqlite = connect(&format!("sqlite:{}", directory.path().join("x.db").display())).await;
    for (primary, replica) in
        [(&sqlite, "postgres://127.0.0.1/db"), (&sqlite, "sqlite:y.db"), (&sqlite, "mysql://127.0.0.1/db")]
    {
        let replica = ReplicaOptions { url: replica.into(), max_lag: LAG };
        Readers::with_replica(primary.clone(), Silo::Control, options(), replica)
            .expect_err("it has no replica");
    }
    sqlite.close().await;
}
