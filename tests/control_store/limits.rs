//! Queries that are given up after some time: those of the metrics.

use std::time::{Duration, Instant};

use causeway_silo::db::{DbErrorKind, Dialect, Statement};

use crate::support::Fixture;

pub(crate) async fn a_query_that_takes_too_long_is_given_up_and_does_not_go_on(fixture: Fixture) {
    let db = fixture.db().await;
    let rows = db.fetch_within(Duration::from_secs(60), Statement::new("SELECT 1 AS one")).await;
    assert_eq!(rows.expect("it is quick").len(), 1);
    let slow = match db.dialect() {
        Dialect::Postgres => "SELECT pg_sleep(600)::text AS slept",
        Dialect::Sqlite => {
            "WITH RECURSIVE n (a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n WHERE a < 3000000) \
             SELECT count(*) AS many FROM n"
        }
    };
    let began = Instant::now();
    let error = db.fetch_within(Duration::from_millis(5), Statement::new(slow)).await;
    let error = error.expect_err("it takes longer");
    assert_eq!(error.kind(), DbErrorKind::Unavailable, "{error}");
    assert!(began.elapsed() < Duration::from_secs(60), "it was given up after {:?}", began.elapsed());
    if db.dialect() == Dialect::Postgres {
        assert_eq!(error.code(), Some("57014"), "the database has given it up, and not the caller: {error}");
        let asleep = "SELECT pid::bigint AS pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        let asleep = db.fetch_all(Statement::new(asleep)).await.expect("it answers");
        assert_eq!(asleep.len(), 0, "it goes on");
    }
    db.close().await;
}
