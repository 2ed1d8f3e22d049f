//! Connections to a database with several hosts.

use std::time::{Duration, Instant};

use causeway_silo::db::{Db, DbErrorKind, Options, Statement};

use crate::pair::{
    PATIENCE, Pair, connect, numbers, options, port, port_unless_replaced, write, write_at_last,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_names_both_hosts_finds_the_primary_and_follows_it() {
    let mut pair = Pair::start().await;
    // In whichever order they are named.
    let (a, b) = (pair.a.port(), pair.b.port());
    let turned = format!("postgres://postgres@127.0.0.1:{b},127.0.0.1:{a}/db");
    for url in [pair.url(""), turned] {
        let db = connect(&url).await;
        assert_eq!(port(&db).await, a);
        db.close().await;
    }
    let db = connect(&pair.url("")).await;
    write(&db, 1).await.expect("it is written");
    pair.a.replicated_to(&pair.b).await.expect("it is replicated");
    pair.a.crash().await.expect("it ends");
    let error = write(&db, 2).await.expect_err("there is no primary");
    assert_eq!(error.kind(), DbErrorKind::Unavailable, "{error}");
    pair.promote_b().await;
    write_at_last(&db, 2).await;
    assert_eq!(port(&db).await, b);
    assert_eq!(numbers(&db).await, [1, 2]);
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_comes_back_as_if_nothing_had_happened_is_not_used() {
    let mut pair = Pair::start().await;
    let (db, reader) = (connect(&pair.url("")).await, connect(&pair.url("")).await);
    write(&db, 1).await.expect("it is written");
    assert_eq!(numbers(&reader).await, [1]);
    pair.a.replicated_to(&pair.b).await.expect("it is replicated");
    let mut open = db.begin().await.expect("a transaction");
    open.execute(Statement::new("INSERT INTO t VALUES (2)")).await.expect("it is written");

    let sleeping = tokio::spawn(async move {
        reader.fetch_optional(Statement::new("SELECT pg_sleep(600)::text AS n")).await.map(|_| ())
    });
    let asleep = "SELECT pid::bigint AS pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let watching = connect(&pair.a.url("db")).await;
    let began = Instant::now();
    while watching.fetch_all(Statement::new(asleep)).await.expect("it answers").is_empty() {
        assert!(began.elapsed() < PATIENCE, "the statement does not begin");
    }
    watching.close().await;

    pair.a.set_frozen(true).expect("it stops");
    pair.promote_b().await;
    // A statement and a transaction are under way, and nobody will answer them.
    let began = Instant::now();
    let error = open.commit().await.expect_err("nobody has answered");
    assert_eq!(error.kind(), DbErrorKind::Unavailable, "{error}");
    let error = sleeping.await.expect("no panic").expect_err("nobody has answered");
    assert_eq!(error.kind(), DbErrorKind::Unavailable, "{error}");
    assert!(began.elapsed() < PATIENCE);
    write_at_last(&db, 3).await;
    assert_eq!(port(&db).await, pair.b.port());

    // Now both say that they are the primary: the old one does not know that it was replaced.
    pair.a.set_frozen(false).expect("it goes on");
    let old = connect(&pair.a.url("db")).await;
    write(&old, 100).await.expect("it believes that it is the primary");
    for number in 4..40 {
        write_at_last(&db, number).await;
    }
    // One that starts now asks both.
    let (a, b) = (pair.a.port(), pair.b.port());
    let fresh = connect(&format!("postgres://postgres@127.0.0.1:{a},127.0.0.1:{b}/db")).await;
    assert_eq!(port(&fresh).await, b);
    // One that has seen the new one never goes back, even if the old one is the only one to answer.
    pair.b.stop().await.expect("it ends");
    let error = write(&db, 41).await.expect_err("only a former primary is there");
    assert_eq!(error.kind(), DbErrorKind::Unavailable, "{error}");
    pair.b.restart().await.expect("it starts");
    write_at_last(&db, 42).await;
    let expected: Vec<i64> = [1].into_iter().chain(3..40).chain([42]).collect();
    let there = numbers(&db).await;
    // The transaction that was under way may have been committed by the old one only.
    assert_eq!(there, expected);
    let there = numbers(&old).await;
    assert!(!there.iter().any(|number| (3..100).contains(number)), "the old one got {there:?}");
    for db in [db, old, fresh] {
        db.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_primary_is_left_even_if_nobody_waited_while_it_was_away() {
    let pair = Pair::start().await;
    let db = connect(&pair.url("")).await;
    write(&db, 1).await.expect("it is written");
    pair.a.replicated_to(&pair.b).await.expect("it is replicated");
    pair.a.set_frozen(true).expect("it stops");
    pair.promote_b().await;
    pair.a.set_frozen(false).expect("it goes on");
    // All connections lead to the old one, which answers on them.
    let began = Instant::now();
    loop {
        match port_unless_replaced(&db).await {
            Ok(port) if port == pair.b.port() => break,
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), DbErrorKind::Unavailable, "{error}"),
        }
        assert!(began.elapsed() < PATIENCE, "the former primary is still used");
    }
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_can_only_be_read_loses_its_connections() {
    let pair = Pair::start().await;
    // With one connection, whoever comes next gets the same one, or a new one if it was closed.
    let one = Options { max_connections: 1, ..options() };
    let db = Db::connect(&pair.a.url("db"), &one).await.expect("a database");
    let backend = async || {
        let row = db.fetch_optional(Statement::new("SELECT pg_backend_pid()::bigint AS pid")).await;
        row.expect("it answers").expect("a row").int("pid").expect("a number")
    };
    let before = backend().await;
    assert_eq!(backend().await, before, "a connection is used again");
    // As on a standby.
    pair.a.set_read_only(true).await.expect("it is set");
    let began = Instant::now();
    let error = loop {
        // The setting arrives a moment after it was made.
        match write(&db, 1).await {
            Ok(()) => assert!(began.elapsed() < PATIENCE, "it can still be written to"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), DbErrorKind::ReadOnly, "{error}");
    assert_ne!(backend().await, before, "the connection is closed");
    // Whoever wants to write does not even begin there.
    let attempt = Db::connect(&(pair.a.url("db") + "?target_session_attrs=read-write"), &options()).await;
    let error = attempt.expect_err("it does not accept writes").to_string();
    assert!(error.contains("it does not accept writes"), "{error}");
    pair.a.set_read_only(false).await.expect("it is set");
    write_at_last(&db, 2).await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_without_a_primary_are_named_with_the_reason_of_each() {
    let mut pair = Pair::start().await;
    let standby = connect(&pair.url("&target_session_attrs=standby")).await;
    assert_eq!(port(&standby).await, pair.b.port());
    standby.close().await;
    pair.a.crash().await.expect("it ends");
    let error = Db::connect(&pair.url(""), &options()).await.expect_err("there is no primary").to_string();
    let (a, b) = (format!("127.0.0.1:{}: ", pair.a.port()), format!("127.0.0.1:{}: ", pair.b.port()));
    assert!(error.contains(&(b + "it is a standby")) && error.contains(&a), "{error}");
    assert!(error.contains("--database-url"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_keeps_nobody_for_ever_and_its_return_is_noticed() {
    let pair = Pair::start().await;
    let db = connect(&(pair.a.url("db") + "?connect_timeout=1")).await;
    write(&db, 1).await.expect("it is written");
    let mut open = db.begin().await.expect("a transaction");
    pair.a.set_frozen(true).expect("it stops");
    let error = open.execute(Statement::new("INSERT INTO t VALUES (2)")).await.expect_err("nobody answers");
    assert_eq!(error.kind(), DbErrorKind::Unavailable, "{error}");
    drop(open);
    assert_eq!(write(&db, 3).await.expect_err("nobody answers").kind(), DbErrorKind::Unavailable);
    pair.a.set_frozen(false).expect("it goes on");
    for number in 4..12 {
        write_at_last(&db, number).await;
    }
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_restarted_while_nobody_used_it_fails_nobody() {
    let mut pair = Pair::start().await;
    // The service is told what it needs, so it notices that the server is another one than before.
    let db = connect(&(pair.a.url("db") + "?target_session_attrs=read-write")).await;
    for number in [1, 3, 5] {
        write(&db, number).await.expect("it is written");
        let idle = Instant::now();
        pair.a.restart().await.expect("it starts");
        // A connection that was used just now is taken without a test.
        tokio::time::sleep_until((idle + Duration::from_millis(200)).into()).await;
        for number in [number, number + 1] {
            write(&db, number).await.expect("a new connection is made, and the caller notices nothing");
        }
    }
    assert_eq!(numbers(&db).await, [1, 2, 3, 4, 5, 6]);
    db.close().await;
}
