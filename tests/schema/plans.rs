//! Queries that are asked all the time are answered by their indexes, also when the tables are large.

use std::time::Duration;

use causeway_control::model::report::ImportPosition;
use causeway_harness::cluster::{Cluster, Silo, Store};
use causeway_silo::{
    db::{Db, Dialect, Statement},
    env::Environment,
};
use chrono::TimeDelta;
use uuid::Uuid;

/// The numbers 1 to 5,000 as a table `n`.
const NUMBERS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) ";

/// An id and a time for each number of `n`, the largest number now.
fn id_and_time(db: &Db) -> (&'static str, &'static str) {
    match db.dialect() {
        Dialect::Postgres => ("gen_random_uuid()", "now() - (5000 - n.i) * interval '1 hour'"),
        Dialect::Sqlite => (
            "lower(substr(hex(randomblob(16)), 1, 8) || '-0000-4000-8000-' || substr(hex(randomblob(16)), 1, 12))",
            "strftime('%Y-%m-%dT%H:%M:%S', 'now', '-' || (5000 - n.i) || ' hours') || '.000000Z'",
        ),
    }
}

/// The steps in which the database would answer a query.
async fn plan(db: &Db, query: Statement) -> Vec<String> {
    let (explain, column) = match db.dialect() {
        Dialect::Postgres => ("EXPLAIN ", "QUERY PLAN"),
        Dialect::Sqlite => ("EXPLAIN QUERY PLAN ", "detail"),
    };
    let steps = db.fetch_all(query.within(explain, "")).await.expect("a plan");
    steps.iter().map(|step| step.text(column).expect("a step")).collect()
}

/// Fails unless the plan of a query uses all of these indexes, and reads nothing else of the table.
async fn uses(db: &Db, query: Statement, indexes: &[&str], table: &str) {
    let steps = plan(db, query).await;
    for index in indexes {
        assert!(steps.iter().any(|step| step.contains(index)), "{index} is not used: {steps:#?}");
    }
    let scan = match db.dialect() {
        Dialect::Postgres => format!("Seq Scan on {table}"),
        Dialect::Sqlite => format!("SCAN {table}"),
    };
    let whole = steps.iter().find(|step| step.ends_with(&scan) || step.contains(&format!("{scan} ")));
    let whole = whole.filter(|step| !indexes.iter().any(|index| step.contains(index)));
    assert_eq!(whole, None, "the whole table is read: {steps:#?}");
}

async fn change(cluster: &Cluster, silo: Silo, sql: String) {
    let analyzed = Statement::new("ANALYZE");
    cluster.change(silo, &[Statement::new("").push(&sql)]).await.expect("filled");
    // On SQLite, services never do that, so plans are made without it.
    if cluster.store() == Store::Postgres {
        cluster.change(silo, &[analyzed]).await.expect("analyzed");
    }
}

pub(crate) async fn reported_imports_are_listed_by_their_indexes(store: Store) {
    let cluster = Cluster::start(store, &["us"]).await.expect("a cluster");
    cluster.quiet(Duration::from_secs(60)).await.expect("it registers");
    let db = cluster.db(Silo::Control).await.expect("a database");
    let (id, time) = id_and_time(&db);
    let sql = format!(
        "{NUMBERS} INSERT INTO causeway_reported_import (region, import_id, state, ended, dry_run, created_at, updated_at, \
         reported_at, size_bytes, organization_count, summary, details) \
         SELECT 'us', {id}, CASE n.i % 100 WHEN 0 THEN 'FAILED' WHEN 1 THEN 'WRITING' ELSE 'SUCCEEDED' END, n.i % 100 <> 1, \
         false, {time}, {time}, {time}, 1, 1, '{{}}', '{{}}' FROM n"
    );
    change(&cluster, Silo::Control, sql).await;
    let created_at = Environment::system().now() - TimeDelta::hours(1_000);
    let after = ImportPosition { created_at, region: "us".to_owned(), import_id: Uuid::nil() };
    for (query, index) in causeway_control::store::plans::queries(&after) {
        uses(&db, query, &[index], "causeway_reported_import").await;
    }
    db.close().await;
    cluster.stop().await;
}

pub(crate) async fn imports_that_changed_or_go_on_are_found_by_their_indexes(store: Store) {
    let cluster = Cluster::start(store, &["us"]).await.expect("a cluster");
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    let (id, time) = id_and_time(&db);
    let sql = format!(
        "{NUMBERS} INSERT INTO causeway_import (import_id, state, merge_users, hide_organizations, size_bytes, sha256, \
         created_at, updated_at, records, slug_attempt, slugs_written, reported) \
         SELECT {id}, CASE n.i % 1000 WHEN 0 THEN 'failed' ELSE 'succeeded' END, false, false, 1, '', {time}, {time}, 1, 1, \
         true, true FROM n"
    );
    change(&cluster, Silo::Region(0), sql).await;
    let since = Environment::system().now() - TimeDelta::hours(3);
    for (query, indexes) in causeway_region::store::plans::queries(since) {
        uses(&db, query, indexes, "causeway_import").await;
    }
    db.close().await;
    cluster.stop().await;
}
