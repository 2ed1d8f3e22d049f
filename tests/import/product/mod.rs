//! Imports into databases that belong to the product, of release 24.9. Only PostgreSQL: the product has no other.

mod constraints;
mod databases;
mod lost_records;
mod older_tables;
mod upgrades;

use std::collections::BTreeSet;

use causeway_harness::{
    cluster::{Cluster, Failpoints, ImportOptions, Silo, Store},
    export::Export,
    postgres::Postgres,
    product::{self, Release},
};
use causeway_proto::{
    region::v1::{Import, ImportState, RevertImportRequest},
    relocation::v1::{ErrorReason, Finding, FindingKind},
};
use causeway_silo::{
    db::{Db, DbError, Options, Statement},
    transact,
};
use serde_json::json;

/// A cluster whose databases have the product's tables of 24.9, and these changes of them.
async fn cluster(failpoints: &Failpoints, of_control: &[&str], of_region: &[&str]) -> Cluster {
    cluster_of(Release::R24_9, failpoints, of_control, of_region).await
}

pub(crate) async fn cluster_of(
    release: Release,
    failpoints: &Failpoints,
    of_control: &[&str],
    of_region: &[&str],
) -> Cluster {
    let tables = product::tables(release).expect("the tables");
    let with = |changes: &[&str]| {
        let changes = changes.iter().map(|change| (*change).to_owned());
        tables.iter().cloned().chain(changes).collect::<Vec<_>>()
    };
    let built = Cluster::builder(Store::Postgres)
        .region("us")
        .failpoints(failpoints)
        .tables_of_control(&with(of_control))
        .tables_of_regions(&with(of_region))
        .start()
        .await;
    built.expect("a cluster; this test needs PostgreSQL")
}

async fn as_it_is() -> Cluster {
    cluster(&Failpoints::default(), &[], &[]).await
}

pub(crate) async fn begin(cluster: &Cluster, export: &Export, options: &ImportOptions) -> String {
    let begun = cluster.region(0).begin(&export.to_bytes(), options).await;
    begun.expect("it begins").import.unwrap_or_default().import_id
}

pub(crate) async fn import(
    cluster: &Cluster,
    export: &Export,
    options: &ImportOptions,
) -> (Import, Vec<Finding>) {
    let id = begin(cluster, export, options).await;
    let import = cluster.region(0).wait(&id).await.expect("it ends");
    let findings = cluster.region(0).findings(&id).await.expect("its findings");
    (import, findings)
}

pub(crate) fn set(export: &mut Export, model: &str, pk: i64, field: &str, value: serde_json::Value) {
    let record = export.find(model, pk).expect("it is there");
    *record = record.clone().with(&json!({ field: value }));
}

pub(crate) fn assert_failed(import: &Import, reason: ErrorReason) -> String {
    let failure = import.failure.clone().unwrap_or_default();
    assert_eq!((import.state(), failure.reason()), (ImportState::Failed, reason), "{failure:?}");
    failure.message
}

pub(crate) async fn execute(db: &Db, statement: &'static str) {
    let executed: Result<(), DbError> = transact!(DbError, db, |tx| {
        tx.execute(Statement::new(statement)).await?;
    });
    executed.expect("executed");
}

pub(crate) async fn ask(cluster: &Cluster, silo: Silo, query: &'static str) -> Vec<String> {
    let db = cluster.db(silo).await.expect("a database");
    let rows = db.fetch_all(Statement::new(query)).await.expect("asked");
    rows.iter().map(|row| row.text("line").expect("a text")).collect()
}

/// Everything that a database has of the product: columns, indexes, constraints.
async fn structure(db: &Db) -> BTreeSet<String> {
    let query = Statement::new(
        "SELECT concat_ws(' ', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull) AS line \
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname NOT LIKE 'causeway%' \
         UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint \
         WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text NOT LIKE 'causeway%' \
         UNION ALL SELECT concat_ws(' ', tablename, indexdef) FROM pg_indexes \
         WHERE schemaname = 'public' AND tablename NOT LIKE 'causeway%'",
    );
    let rows = db.fetch_all(query).await.expect("asked");
    rows.iter().map(|row| row.text("line").expect("a text")).collect()
}

/// The same of a database that no service has ever used.
async fn structure_of_product() -> BTreeSet<String> {
    let server = Postgres::start().await.expect("this test needs PostgreSQL");
    let url = server.create_database("product").await.expect("a database");
    let db = Db::connect(&url, &Options::default()).await.expect("a database");
    let created: Result<(), DbError> = transact!(DbError, db, |tx| {
        for statement in product::tables(Release::R24_9).expect("the tables") {
            tx.execute(Statement::new("").push(&statement)).await?;
        }
    });
    created.expect("created");
    structure(&db).await
}

/// Model and field of each finding of this kind.
fn of_kind(findings: &[Finding], kind: FindingKind) -> BTreeSet<(&str, &str)> {
    let found = findings.iter().filter(|finding| finding.kind() == kind);
    found.map(|finding| (finding.model.as_str(), finding.field.as_str())).collect()
}

async fn revert(cluster: &Cluster, import_id: &str) {
    let request = RevertImportRequest { import_id: import_id.to_owned() };
    cluster.region(0).imports().revert_import(request).await.expect("it is taken back");
    let reverted = cluster.region(0).wait(import_id).await.expect("it ends");
    assert_eq!(reverted.state(), ImportState::Reverted);
    for (silo, query) in [
        (Silo::Control, "SELECT username AS line FROM auth_user"),
        (Silo::Region(0), "SELECT slug AS line FROM sentry_organization"),
    ] {
        assert_eq!(ask(cluster, silo, query).await, [] as [String; 0], "{query}");
    }
}
