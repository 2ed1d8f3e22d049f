//! A database that does not answer.

use std::time::Duration;

use causeway_harness::cluster::{Cluster, Service, Silo, Store};
use causeway_silo::db::{Db, Statement};
use futures::future::join_all;

use crate::support::{PATIENCE, Scrape, metrics_of};

/// How many statements of the metrics wait for the lock.
async fn waiting(db: &Db) -> i64 {
    let statement = Statement::new(
        "SELECT COUNT(*) AS many FROM pg_stat_activity WHERE state = 'active' \
         AND query LIKE '%FROM causeway_import GROUP BY state%' AND pid <> pg_backend_pid()",
    );
    let rows = db.fetch_all(statement).await.expect("it answers");
    rows.first().expect("a row").int("many").expect("a number")
}

/// PostgreSQL only: nothing can keep a reader of SQLite waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_does_not_answer_holds_up_no_scrape() {
    let cluster = Cluster::builder(Store::Postgres)
        .region("us")
        .serializable()
        .processes(env!("CARGO_BIN_EXE_causeway"))
        .arguments(&["--metrics-listen=127.0.0.1:0"])
        .start()
        .await
        .expect("a cluster; this test needs PostgreSQL installed");
    let region = metrics_of(&cluster, Service::Region(0)).await;
    let db = cluster.db(Silo::Region(0)).await.expect("its database");
    let mut lock = db.begin().await.expect("a transaction");
    lock.execute(Statement::new("LOCK TABLE causeway_import IN ACCESS EXCLUSIVE MODE"))
        .await
        .expect("a lock");

    // None of them waits longer than Prometheus does, and one statement is enough for all.
    let scrapes = tokio::spawn(join_all((0..20).map(|_| Scrape::of(region))));
    let most = async {
        let mut most = 0;
        while !scrapes.is_finished() {
            most = most.max(waiting(&db).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        most
    };
    let most = tokio::time::timeout(PATIENCE, most).await.expect("they are answered");
    assert_eq!(most, 1);
    for scrape in scrapes.await.expect("they are answered") {
        assert!(scrape.value("causeway_spool_bytes").is_some(), "{}", scrape.text);
        assert_eq!(scrape.value("causeway_imports{state=\"failed\"}"), None);
        assert_eq!(scrape.value("causeway_reading_failed{reading=\"imports\"}"), Some(0.0));
    }
    // Then it is given up, by PostgreSQL too.
    let shown = Scrape::until(region, |scrape| {
        scrape.value("causeway_reading_failed{reading=\"imports\"}") == Some(1.0)
    })
    .await;
    assert_eq!(shown.value("causeway_imports{state=\"failed\"}"), None);
    assert_eq!(waiting(&db).await, 0);
    drop(lock);

    // What is read for metrics can neither write nor fail as serializable transactions do.
    let how = Statement::new(
        "SELECT current_setting('transaction_isolation') AS isolation, \
         current_setting('transaction_read_only') AS read_only",
    );
    let rows = db.fetch_within(PATIENCE, how).await.expect("it answers");
    let row = rows.first().expect("a row");
    let found = (row.text("isolation").expect("text"), row.text("read_only").expect("text"));
    assert_eq!(found, ("read committed".to_owned(), "on".to_owned()));
    cluster.stop().await;
}
