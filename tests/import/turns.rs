//! No import keeps others waiting for long, however large it is: a turn is one chunk, and transactions are short.

use std::time::Duration;

use causeway_harness::{
    account::Audit,
    cluster::{Act, Cluster, Failpoints, ImportOptions, Silo, Store},
    export::{self, Export},
};
use causeway_proto::{
    control::v1::ListOrganizationsRequest,
    region::v1::{ApproveOrganizationsRequest, ImportState, RevertImportRequest},
    relocation::v1::{ErrorReason, FindingKind, OrganizationStatus},
};
use causeway_region::Limits;
use causeway_silo::db::Statement;
use tokio::time::timeout;

use crate::{
    resume::ORGANIZATIONS,
    support::{accounted, eventually, refused, rows_now},
    survive::change,
};

/// A cluster of one region with these failpoints and limits.
async fn standing(
    store: Store,
    failpoints: &Failpoints,
    limit: impl Fn(&mut Limits) + Send + Sync + 'static,
) -> Cluster {
    let built = Cluster::builder(store).region("us").failpoints(failpoints).start().await;
    let mut cluster = built.expect("a cluster; on PostgreSQL this test needs one installed");
    cluster.configure_regions(move |options| limit(&mut options.limits));
    cluster.stop_region(0).await;
    cluster.start_region(0).await.expect("it starts");
    cluster
}

/// If the region works on one import at a time, the large import gives up its turn between two chunks. The test stops
/// it there, and the small import finishes.
pub(crate) async fn a_small_import_ends_while_a_large_one_is_being_written(store: Store) {
    let failpoints = Failpoints::default();
    let cluster = standing(store, &failpoints, |limits| limits.imports_at_once = 1).await;
    let (region, options) = (cluster.region(0), ImportOptions::default());
    let mut small = Export::new();
    small.organization(1, "small").user(1, "ann").member(1, 1, 1).team(1, 1, "t");
    failpoints.arm("region.chunk.committed", Act::Hold, 0);
    let large = export::large(ORGANIZATIONS).to_bytes();
    let large = region.begin(&large, &options).await.expect("it begins").import.unwrap_or_default();
    failpoints.held().await;
    failpoints.arm("region.turn.passed", Act::Hold, 0);
    let small = region.begin(&small.to_bytes(), &options).await.expect("it begins").import;
    let small = small.unwrap_or_default().import_id;
    // Planning an import takes no turn of the imports that write.
    let planned = region.wait_until(&small, |import| import.state() == ImportState::Writing).await;
    planned.expect("it is planned while the large one has its turn");
    failpoints.release();
    failpoints.held().await;
    let small = region.wait(&small).await.expect("it ends");
    assert_eq!((small.state(), small.organization_count), (ImportState::Succeeded, 1));
    let now = region.wait_until(&large.import_id, |_| true).await.expect("it is there");
    assert_eq!(now.state(), ImportState::Writing, "the import has not ended before");
    failpoints.release();
    let large = region.wait(&large.import_id).await.expect("it ends");
    assert_eq!((large.state(), large.organization_count), (ImportState::Succeeded, ORGANIZATIONS));
    for counts in &large.models {
        assert_eq!(counts.seen, counts.inserted + counts.existing + counts.out_of_scope, "{counts:?}");
    }
    cluster.stop().await;
}

/// The same in other states, each of which has its own pages or parts.
pub(crate) async fn a_small_import_ends_while_a_large_one_is_in_another_state(store: Store) {
    let mut small = Export::new();
    small.organization(5_000, "small");
    for (place, is_dry_run) in [("region.check.page_checked", true), ("region.finish.part_shown", false)] {
        let failpoints = Failpoints::default();
        let cluster = standing(store, &failpoints, |limits| {
            (limits.imports_at_once, limits.organizations_a_transaction) = (1, 400);
        })
        .await;
        let region = cluster.region(0);
        let mut options = ImportOptions::default();
        if is_dry_run {
            options = options.dry_run();
        }
        failpoints.arm(place, Act::Hold, 0);
        let large = region.begin(&organizations(1_003).to_bytes(), &options).await.expect("it begins");
        let large = large.import.unwrap_or_default().import_id;
        failpoints.held().await;
        failpoints.arm("region.turn.passed", Act::Hold, 0);
        let small = region.begin(&small.to_bytes(), &ImportOptions::default()).await.expect("it begins");
        let small = small.import.unwrap_or_default().import_id;
        let waits = region.wait_until(&small, |import| import.state() == ImportState::Writing).await;
        waits.expect("it is planned");
        failpoints.release();
        failpoints.held().await;
        assert_eq!(region.wait(&small).await.expect("it ends").state(), ImportState::Succeeded, "{place}");
        let now = region.wait_until(&large, |_| true).await.expect("it is there");
        assert!(
            matches!(now.state(), ImportState::Checking | ImportState::Finishing),
            "{place}: {:?}",
            now.state()
        );
        failpoints.release();
        region.wait(&large).await.expect("it ends");
        cluster.stop().await;
    }
}

/// Control works on the slugs of the large import, and the region does something else meanwhile.
pub(crate) async fn an_import_has_no_turn_while_control_works_for_it(store: Store) {
    let mut small = Export::new();
    small.organization(5_000, "small");
    for place in ["control.bulk_create.committed", "control.confirm.committed"] {
        let failpoints = Failpoints::default();
        let cluster = standing(store, &failpoints, |limits| limits.imports_at_once = 1).await;
        let (region, options) = (cluster.region(0), ImportOptions::default());
        failpoints.arm(place, Act::Hold, 0);
        let large = region.begin(&organizations(3).to_bytes(), &options).await.expect("it begins");
        let large = large.import.unwrap_or_default().import_id;
        failpoints.held().await;
        // Without the turn of the large one it would wait for ever.
        let small = timeout(Duration::from_secs(60), region.import(&small.to_bytes(), &options)).await;
        let small = small.expect("it has a turn").expect("it ends");
        assert_eq!(small.state(), ImportState::Succeeded, "{place}");
        let now = region.wait_until(&large, |_| true).await.expect("it is there");
        assert_eq!(now.state(), ImportState::ResolvingSlugs, "{place}");
        failpoints.release();
        assert_eq!(region.wait(&large).await.expect("it ends").state(), ImportState::Succeeded);
        cluster.stop().await;
    }
}

fn organizations(count: i64) -> Export {
    let mut export = Export::new();
    for pk in 1..=count {
        export.organization(pk, &format!("tenant-{pk}"));
    }
    export
}

/// A transaction makes at most four organizations visible, and the service dies between two transactions.
pub(crate) async fn many_organizations_become_visible_in_parts(store: Store) {
    let failpoints = Failpoints::default();
    let cluster = standing(store, &failpoints, |limits| limits.organizations_a_transaction = 4).await;
    let (export, options) = (export::large(9).to_bytes(), ImportOptions::default());
    let before = rows_now(&cluster, 0).await;
    failpoints.arm("region.finish.part_shown", Act::Kill, 1);
    let begun = cluster.region(0).begin(&export, &options).await.expect("it begins").import;
    cluster.killed().await;
    let shown = "SELECT count(*) AS n FROM sentry_organization WHERE status = 0";
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    let row = db.fetch_optional(Statement::new(shown)).await.expect("it answers").expect("a row");
    assert_eq!(row.int("n").expect("a number"), 8);
    db.close().await;
    cluster.revive().await.expect("it starts");
    let import = cluster.region(0).wait(&begun.unwrap_or_default().import_id).await.expect("it ends");
    accounted(Audit::new(&cluster, 0, &before, &export, &options, &import).run().await);
    assert_eq!(cluster.region(0).visible_organizations().await.expect("a list").len(), 9);
    cluster.stop().await;
}

pub(crate) async fn many_hidden_organizations_are_approved_in_parts(store: Store) {
    let failpoints = Failpoints::default();
    let cluster = standing(store, &failpoints, |limits| limits.organizations_a_transaction = 4).await;
    let options = ImportOptions::default().hide_organizations();
    let import = cluster.region(0).import(&organizations(11).to_bytes(), &options).await.expect("it ends");
    let of_import = || ApproveOrganizationsRequest {
        import_id: import.import_id.clone(),
        ..ApproveOrganizationsRequest::default()
    };
    let shown = async || cluster.region(0).visible_organizations().await.expect("a list").len();
    let approved = "SELECT count(*) AS n FROM causeway_audit WHERE call LIKE '%/ApproveOrganizations'";
    let audited = async || {
        let db = cluster.db(Silo::Region(0)).await.expect("a database");
        let row = db.fetch_optional(Statement::new(approved)).await.expect("it answers").expect("a row");
        db.close().await;
        row.int("n").expect("a number")
    };
    // The process dies after the first part, and another call continues.
    failpoints.arm("region.approve.committed", Act::Kill, 0);
    let died = cluster.region(0).organizations().approve_organizations(of_import()).await;
    died.expect_err("nobody answers");
    cluster.killed().await;
    cluster.revive().await.expect("it starts");
    assert_eq!((shown().await, audited().await), (4, 1));
    // The caller goes away after the next part, and the rest is shown all the same.
    failpoints.arm("region.approve.committed", Act::Hold, 1);
    let (mut organizations, request) = (cluster.region(0).organizations(), of_import());
    let caller = tokio::spawn(async move { organizations.approve_organizations(request).await });
    failpoints.held().await;
    caller.abort();
    assert_eq!((shown().await, audited().await), (8, 2), "the first part of this call had nothing to show");
    failpoints.release();
    eventually("all are visible", async || shown().await == 11).await;
    assert_eq!(audited().await, 2, "a call has one row");
    let again = cluster.region(0).organizations().approve_organizations(of_import()).await.expect("again");
    assert_eq!(again.into_inner().approved, 0);
    eventually("control hears of all", async || {
        let request = ListOrganizationsRequest { page_size: 1_000, ..Default::default() };
        let listed = cluster.control().directory().list_organizations(request).await.expect("a list");
        let of = listed.into_inner().organizations;
        of.len() == 11 && of.iter().all(|it| it.status() == OrganizationStatus::Active)
    })
    .await;
    cluster.stop().await;
}

pub(crate) async fn an_approval_ends_when_its_import_is_reverted(store: Store) {
    let failpoints = Failpoints::default();
    let cluster = standing(store, &failpoints, |limits| limits.organizations_a_transaction = 4).await;
    let before = rows_now(&cluster, 0).await;
    let region = cluster.region(0);
    let options = ImportOptions::default().hide_organizations();
    let import = region.import(&organizations(11).to_bytes(), &options).await.expect("it ends");
    failpoints.arm("region.approve.committed", Act::Hold, 0);
    let request = ApproveOrganizationsRequest {
        import_id: import.import_id.clone(),
        ..ApproveOrganizationsRequest::default()
    };
    let mut organizations = region.organizations();
    let approval = tokio::spawn(async move { organizations.approve_organizations(request).await });
    failpoints.held().await;
    let revert = RevertImportRequest { import_id: import.import_id.clone() };
    region.imports().revert_import(revert).await.expect("it is taken back");
    failpoints.release();
    let refusal = refused(approval.await.expect("no panic"));
    assert_eq!(refusal, ErrorReason::OrganizationNotReady);
    let reverted = region.wait(&import.import_id).await.expect("it ends");
    assert_eq!(reverted.state(), ImportState::Reverted);
    assert_eq!(rows_now(&cluster, 0).await, before, "something is left");
    cluster.stop().await;
}

pub(crate) async fn an_import_that_is_reverted_while_it_becomes_visible_is_hidden_at_once(store: Store) {
    let failpoints = Failpoints::default();
    let cluster = standing(store, &failpoints, |limits| limits.organizations_a_transaction = 4).await;
    let before = rows_now(&cluster, 0).await;
    let region = cluster.region(0);
    failpoints.arm("region.finish.part_shown", Act::Hold, 1);
    let begun =
        region.begin(&organizations(11).to_bytes(), &ImportOptions::default()).await.expect("it begins");
    let id = begun.import.unwrap_or_default().import_id;
    failpoints.held().await;
    assert_eq!(region.visible_organizations().await.expect("a list").len(), 8);
    region
        .imports()
        .revert_import(RevertImportRequest { import_id: id.clone() })
        .await
        .expect("it is taken back");
    assert_eq!(region.visible_organizations().await.expect("a list"), []);
    failpoints.release();
    let reverted = region.wait(&id).await.expect("it ends");
    assert_eq!(reverted.state(), ImportState::Reverted);
    assert_eq!(rows_now(&cluster, 0).await, before, "something is left");
    cluster.stop().await;
}

/// While the region writes a first page of slugs, somebody creates an organization manually with a slug that
/// control gave to an organization of the next page. The region releases all slugs and requests them again,
/// and each change is reported once. In the second round, the service dies in the middle of that.
pub(crate) async fn slugs_that_the_region_has_after_all_are_asked_for_again(store: Store) {
    const COUNT: i64 = 1_003;
    for kill in [false, true] {
        let failpoints = Failpoints::default();
        let cluster = standing(store, &failpoints, |limits| limits.organizations_a_transaction = 400).await;
        let mut export = organizations(COUNT);
        // This organization's slug changes in the first page in any case.
        export.organization(COUNT + 1, "settings");
        let (bytes, options) = (export.reversed().to_bytes(), ImportOptions::default());
        failpoints.arm("region.slugs.page_written", Act::Hold, 0);
        let begun = cluster.region(0).begin(&bytes, &options).await.expect("it begins").import;
        failpoints.held().await;
        let db = cluster.db(Silo::Region(0)).await.expect("a database");
        let last = "SELECT wanted_slug AS slug FROM causeway_import_organization ORDER BY organization_id DESC LIMIT 1";
        let row = db.fetch_optional(Statement::new(last)).await.expect("it answers").expect("a row");
        let taken = row.text("slug").expect("a slug");
        let by_hand = "INSERT INTO sentry_organization (id, name, slug, status, date_added, default_role, is_test, flags) \
                       SELECT 900000, 'By hand', $1, 0, date_added, default_role, is_test, flags FROM sentry_organization \
                       LIMIT 1";
        change(&cluster, vec![Statement::new(by_hand).with(taken.as_str())]).await;
        if kill {
            failpoints.arm("region.slugs.page_written", Act::Kill, 0);
        }
        failpoints.release();
        if kill {
            cluster.killed().await;
            cluster.revive().await.expect("it starts");
        }
        let id = begun.unwrap_or_default().import_id;
        let import = cluster.region(0).wait(&id).await.expect("it ends");
        assert_eq!(import.state(), ImportState::Succeeded, "{:?}", import.failure);
        let findings = cluster.region(0).findings(&id).await.expect("a list");
        let changed: Vec<&str> = findings
            .iter()
            .filter(|finding| finding.kind() == FindingKind::SlugChanged)
            .map(|finding| finding.reason.as_str())
            .collect();
        assert_eq!(changed.len(), 2, "{changed:?}");
        assert!(changed.iter().any(|reason| reason.contains(&taken)), "{changed:?}");
        let counts = import.models.iter().find(|counts| counts.model == "sentry.organization");
        assert_eq!(counts.map(|counts| counts.changed), Some(2), "each is counted once, too");
        let differ = "SELECT count(*) AS n FROM causeway_import_organization i JOIN sentry_organization o \
                      ON o.id = i.organization_id WHERE o.slug <> i.slug OR i.slug <> i.wanted_slug";
        let row = db.fetch_optional(Statement::new(differ)).await.expect("it answers").expect("a row");
        assert_eq!(row.int("n").expect("a number"), 2);
        db.close().await;
        let reservations = cluster.control().all_reservations().await.expect("a list");
        assert_eq!(reservations.len(), usize::try_from(COUNT + 1).expect("few"));
        cluster.stop().await;
    }
}
