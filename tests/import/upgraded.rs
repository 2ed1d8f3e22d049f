//! Upgrades of the product while an import runs that have nothing to do with it.

use causeway_harness::{
    cluster::{Act, Failpoints, ImportOptions, Silo},
    export::Export,
    product::Release,
};
use causeway_proto::region::v1::ImportState;

use crate::product::{ask, begin, cluster_of, execute};

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
