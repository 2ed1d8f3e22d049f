//! The tables of the product change between imports, during an import and before its revert.

use std::collections::BTreeSet;

use causeway_harness::{
    cluster::{Act, Failpoints, ImportOptions, Service, Silo},
    export::Export,
};
use causeway_proto::{
    region::v1::ImportState,
    relocation::v1::{ErrorReason, FindingKind},
};
use serde_json::json;

use super::{as_it_is, ask, assert_failed, begin, cluster, execute, import, of_kind, revert, set};
use crate::support::USER;

/// No service is started again when somebody upgrades the product.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_of_the_product_between_two_imports_does_no_harm() {
    let cluster = as_it_is().await;
    let mut export = Export::new();
    export.organization(1, "one").user(11, "ann");
    set(&mut export, USER, 11, "is_suspended", json!(true));
    let (_, findings) = import(&cluster, &export, &ImportOptions::default()).await;
    assert!(of_kind(&findings, FindingKind::NotInDatabase).contains(&(USER, "is_suspended")));

    let db = cluster.db(Silo::Control).await.expect("a database");
    execute(&db, "ALTER TABLE auth_user ADD COLUMN is_suspended boolean").await;
    execute(&db, "UPDATE auth_user SET is_suspended = false").await;
    execute(&db, "ALTER TABLE auth_user ALTER COLUMN is_suspended SET NOT NULL").await;
    let (done, findings) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    assert_eq!(of_kind(&findings, FindingKind::NotInDatabase), BTreeSet::new());
    let suspended =
        ask(&cluster, Silo::Control, "SELECT is_suspended::text AS line FROM auth_user ORDER BY id").await;
    assert_eq!(suspended, ["false", "true"]);
    cluster.stop().await;
}

/// What was found when the import was planned does not hold any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_of_the_product_during_an_import_ends_it() {
    for (place, silo, upgrade) in [
        ("region.plan.stored", Silo::Region(0), "ALTER TABLE sentry_team ADD COLUMN later integer"),
        ("region.plan.stored", Silo::Control, "ALTER TABLE auth_user ALTER COLUMN email TYPE varchar(74)"),
        (
            "region.chunk.ready",
            Silo::Region(0),
            "ALTER TABLE sentry_team DROP COLUMN org_role, DROP COLUMN status",
        ),
        ("region.control_chunk.ready", Silo::Control, "ALTER TABLE auth_user DROP COLUMN avatar_url"),
        // A value is sent in the form of the type that the column had.
        ("region.chunk.ready", Silo::Region(0), "ALTER TABLE sentry_team ALTER COLUMN status TYPE bigint"),
        ("region.chunk.ready", Silo::Region(0), "DROP TABLE sentry_team CASCADE"),
    ] {
        let failpoints = Failpoints::default();
        let cluster = cluster(&failpoints, &[], &[]).await;
        let is_between = place == "region.plan.stored";
        failpoints.arm(place, if is_between { Act::Kill } else { Act::Hold }, 0);
        let mut export = Export::new();
        export.organization(1, "one").user(11, "ann").team(21, 1, "team");
        let id = begin(&cluster, &export, &ImportOptions::default()).await;
        if is_between {
            cluster.killed().await;
        } else {
            failpoints.held().await;
        }
        execute(&cluster.db(silo).await.expect("a database"), upgrade).await;
        failpoints.disarm();
        if is_between {
            cluster.start_service(Service::Region(0)).await.expect("it starts");
        } else {
            failpoints.release();
        }
        let ended = cluster.region(0).wait(&id).await.expect("it ends");
        assert_failed(&ended, ErrorReason::SchemaChanged);
        assert_eq!(cluster.region(0).visible_organizations().await.expect("asked"), []);
        revert(&cluster, &id).await;
        cluster.stop().await;
    }
}

/// The rows of a table go with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_is_reverted_after_the_product_has_dropped_its_tables() {
    let cluster = as_it_is().await;
    let mut export = Export::new();
    export.organization(1, "one").user(11, "ann").email(12, "ann@example.com").team(21, 1, "team");
    let (done, _) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    execute(&cluster.db(Silo::Control).await.expect("a database"), "DROP TABLE sentry_email CASCADE").await;
    execute(&cluster.db(Silo::Region(0)).await.expect("a database"), "DROP TABLE sentry_team CASCADE").await;
    revert(&cluster, &done.import_id).await;
    cluster.stop().await;
}
