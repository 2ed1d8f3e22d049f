//! Upgrades of the product while an import runs that have nothing to do with it.

use causeway_harness::{
    cluster::{Act, Failpoints, ImportOptions, Service, Silo},
    export::Export,
    product::Release,
};
use causeway_proto::{region::v1::ImportState, relocation::v1::ErrorReason};
use serde_json::json;

use crate::product::{ask, assert_failed, begin, cluster_of, execute};

/// Control compares the table that a chunk is for, and no others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_of_a_table_that_no_chunk_writes_does_no_harm() {
    let failpoints = Failpoints::default();
    let cluster = cluster_of(Release::R24_9, &failpoints, &[], &[]).await;
    failpoints.arm("region.control_chunk.ready", Act::Hold, 0);
    let mut export = Export::new();
    export.organization(1, "one").user(11, "ann").team(21, 1, "team");
    let id = begin(&cluster, &export, &ImportOptions::default()).await;
    failpoints.held().await;
    let db = cluster.db(Silo::Control).await.expect("a database");
    execute(&db, "ALTER TABLE sentry_email ADD COLUMN later integer").await;
    failpoints.disarm();
    failpoints.release();
    let ended = cluster.region(0).wait(&id).await.expect("it ends");
    assert_eq!(ended.state(), ImportState::Succeeded, "{:?}", ended.failure);
    let users = "SELECT username AS line FROM auth_user";
    assert_eq!(ask(&cluster, Silo::Control, users).await, ["ann"]);
    cluster.stop().await;
}

/// A file with a record that is left out only if its user exists is planned while control is away, by the tables that
/// control described before. They have changed when control is back: the file is planned again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_waits_for_control_goes_by_the_tables_of_then() {
    let cluster = cluster_of(Release::R24_9, &Failpoints::default(), &[], &[]).await;
    let options = ImportOptions::default().merge_users();
    let mut export = Export::new();
    export.organization(1, "one").user(11, "al").member(12, 1, 11);
    let first = begin(&cluster, &export, &options).await;
    let ended = cluster.region(0).wait(&first).await.expect("it ends");
    assert_eq!(ended.state(), ImportState::Succeeded, "{:?}", ended.failure);

    cluster.stop_service(Service::Control(0)).await;
    export.email(13, "al@example.com");
    export.push("sentry.useroption", 5, &json!({"user": 11, "value": "1"}));
    let id = begin(&cluster, &export, &options).await;
    let waits = |import: &causeway_proto::region::v1::Import| {
        import.waiting.as_ref().is_some_and(|it| it.reason() == ErrorReason::ControlUnavailable)
    };
    cluster.region(0).wait_until(&id, waits).await.expect("it waits");
    let db = cluster.db(Silo::Control).await.expect("a database");
    execute(&db, "ALTER TABLE sentry_email ALTER COLUMN email TYPE varchar(3)").await;
    cluster.revive().await.expect("it starts");
    let ended = cluster.region(0).wait(&id).await.expect("it ends");
    let message = assert_failed(&ended, ErrorReason::ExportInvalid);
    assert_eq!(ended.failure.unwrap_or_default().state(), ImportState::Planning, "{message}");
    assert!(message.contains("3 are the most"), "{message}");
    cluster.stop().await;
}
