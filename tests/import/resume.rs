//! Services that stop while an import runs, and start again.

use causeway_harness::{
    account::{Audit, RowsSnapshot},
    cluster::{Act, Cluster, Failpoints, ImportOptions, Silo, Store},
    export::{self, Export},
};
use causeway_proto::{
    region::v1::{GetOrganizationRequest, Import, ImportState, get_organization_request::By},
    relocation::v1::ErrorReason,
};
use causeway_silo::db::Statement;

use crate::support::{ORGANIZATION, accounted, cluster, exhaustive, refused, rows_now};

/// The organizations of the export, which has about 11,000 records.
pub(crate) const ORGANIZATIONS: i64 = 120;

/// A cluster with an import that is stopped in the middle of writing, after a chunk of the region.
pub(crate) async fn half_written(
    store: Store,
    failpoints: &Failpoints,
    export: &Export,
    options: &ImportOptions,
) -> (Cluster, RowsSnapshot, Vec<u8>, String) {
    let built = Cluster::builder(store).region("us").failpoints(failpoints).start().await;
    let cluster = built.expect("a cluster; on PostgreSQL this test needs one installed");
    let (before, bytes) = (rows_now(&cluster, 0).await, export.to_bytes());
    failpoints.arm("region.chunk.committed", Act::Hold, 2);
    let begun = cluster.region(0).begin(&bytes, options).await.expect("it begins").import;
    failpoints.held().await;
    (cluster, before, bytes, begun.unwrap_or_default().import_id)
}

async fn account_for(
    cluster: &Cluster,
    before: &RowsSnapshot,
    bytes: &[u8],
    options: &ImportOptions,
    id: &str,
) -> Import {
    let import = cluster.region(0).wait(id).await.expect("it ends");
    accounted(Audit::new(cluster, 0, before, bytes, options, &import).run().await);
    import
}

pub(crate) async fn a_region_that_is_stopped_goes_on_when_it_is_back(store: Store) {
    let (failpoints, options) = (Failpoints::default(), ImportOptions::default());
    let export = export::large(ORGANIZATIONS);
    let (mut cluster, before, bytes, id) = half_written(store, &failpoints, &export, &options).await;
    failpoints.release();
    cluster.stop_region(0).await;

    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    let state = Statement::new(
        "SELECT state, (SELECT count(*) FROM causeway_import_chunk) AS chunks FROM causeway_import",
    );
    let row = db.fetch_optional(state).await.expect("it answers").expect("an import");
    assert_eq!(row.text("state").expect("a state"), "writing", "it was stopped too late for this test");
    assert!(row.int("chunks").expect("a count") > 0);

    cluster.start_region(0).await.expect("it starts");
    let import = account_for(&cluster, &before, &bytes, &options, &id).await;
    assert_eq!(import.organization_count, ORGANIZATIONS);
    cluster.stop().await;
}

pub(crate) async fn an_import_waits_for_control(store: Store) {
    let mut cluster = cluster(store, &["us"]).await;
    let (bytes, options) = (exhaustive().to_bytes(), ImportOptions::default());
    let before = rows_now(&cluster, 0).await;
    cluster.stop_control().await;
    let region = cluster.region(0);
    let begun = region.begin(&bytes, &options).await.expect("it begins without control").import;
    let id = begun.unwrap_or_default().import_id;
    let waits = region.wait_until(&id, |import| import.waiting.is_some()).await.expect("it waits");
    let waiting = waits.waiting.unwrap_or_default();
    assert_eq!(waiting.reason(), ErrorReason::ControlUnavailable);
    assert!(waiting.attempts > 0 && waiting.since.is_some() && !waiting.message.is_empty(), "{waiting:?}");
    assert!(waits.failure.is_none());
    // It does not matter either if the region stops meanwhile.
    cluster.stop_region(0).await;
    cluster.start_region(0).await.expect("it starts without control");
    let still = cluster.region(0).wait_until(&id, |import| import.waiting.is_some()).await;
    assert_eq!(
        still.expect("it waits again").waiting.unwrap_or_default().reason(),
        ErrorReason::ControlUnavailable
    );

    cluster.start_control().await.expect("it starts");
    let import = account_for(&cluster, &before, &bytes, &options, &id).await;
    assert!(import.waiting.is_none());
    cluster.stop().await;
}

/// The most restarts in a row without progress of the import.
const MAX_RESTARTS_WITHOUT_PROGRESS: usize = 10;

pub(crate) async fn services_that_stop_again_and_again_change_nothing(store: Store) {
    let mut cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "one").organization(2, "one").user(1, "ann").email(1, "ann@example.com");
    export.user_email(1, 1, "ann@example.com").member(1, 1, 1).member(2, 2, 1).team(1, 2, "t");
    export.project(1, 1, "p").project_key(1, 1, "key").auth_token(1, 1, "token").auth_token(2, 2, "other");
    let (bytes, options) = (export.to_bytes(), ImportOptions::default());
    let before = rows_now(&cluster, 0).await;
    let begun = cluster.region(0).begin(&bytes, &options).await.expect("it begins").import;
    let id = begun.unwrap_or_default().import_id;
    // Restarts the services in turn, each time at another step: they finish the current step and forget everything
    // else. Most stop as soon as they have started, which may be too soon for progress. After some restarts without
    // progress, the test waits for some.
    let place = |import: &Import| (import.state(), import.progress.as_ref().map(|it| it.records_done));
    let (mut at, mut lives) = (None, 0);
    for round in 0.. {
        let gets_further =
            |import: &Import| lives < MAX_RESTARTS_WITHOUT_PROGRESS || at != Some(place(import));
        let import = cluster.region(0).wait_until(&id, gets_further).await.expect("it is there");
        if import.state() == ImportState::Succeeded {
            break;
        }
        assert!(import.failure.is_none(), "{import:?}");
        let now = Some(place(&import));
        lives = if at == now { lives + 1 } else { 0 };
        at = now;
        if round % 3 == 2 {
            cluster.stop_control().await;
            cluster.start_control().await.expect("it starts");
        } else {
            cluster.stop_region(0).await;
            cluster.start_region(0).await.expect("it starts");
        }
    }
    account_for(&cluster, &before, &bytes, &options, &id).await;
    cluster.stop().await;
}

pub(crate) async fn nothing_is_visible_before_the_end(store: Store) {
    let (failpoints, options) = (Failpoints::default(), ImportOptions::default());
    let export = export::large(ORGANIZATIONS);
    let (mut cluster, before, bytes, id) = half_written(store, &failpoints, &export, &options).await;
    // Without control it cannot finish.
    cluster.stop_control().await;
    failpoints.release();
    let region = cluster.region(0);
    let stuck =
        region.wait_until(&id, |import| import.waiting.is_some()).await.expect("it waits for control");
    assert_ne!(stuck.state(), ImportState::Succeeded);

    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    let rows = Statement::new("SELECT id, slug, CAST(status AS bigint) AS status FROM sentry_organization");
    let rows = db.fetch_all(rows).await.expect("it answers");
    assert!(!rows.is_empty(), "organizations are there");
    for row in &rows {
        assert_eq!(row.int("status").expect("a status"), 3);
        for by in [By::Id(row.int("id").expect("an id")), By::Slug(row.text("slug").expect("a slug"))] {
            let answer =
                region.organizations().get_organization(GetOrganizationRequest { by: Some(by) }).await;
            assert_eq!(refused(answer), ErrorReason::OrganizationNotFound);
        }
    }
    assert_eq!(region.visible_organizations().await.expect("a list"), []);

    cluster.start_control().await.expect("it starts");
    let import = account_for(&cluster, &before, &bytes, &options, &id).await;
    let visible = region.visible_organizations().await.expect("a list");
    assert_eq!(i64::try_from(visible.len()).ok(), Some(import.organization_count));
    assert_eq!(rows_now(&cluster, 0).await.rows(ORGANIZATION).len(), visible.len());
    cluster.stop().await;
}
