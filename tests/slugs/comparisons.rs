//! Comparisons of a region with control in themselves: many pages, one comparison at a time, and what the command
//! prints.

use std::time::Duration;

use causeway_harness::{
    cluster::{Act, Cluster, ClusterBuilder, Failpoints, ImportOptions, RegionApi, Silo, Store},
    export::Export,
    snapshot::ClusterSnapshot,
};
use causeway_proto::{
    failure::reason_of,
    region::v1::{DifferenceKind as K, ImportState, ReconcileMode},
    relocation::v1::ErrorReason,
};
use causeway_silo::{db::Statement, env::Environment};
use chrono::TimeDelta;
use uuid::Uuid;

use crate::{
    commands,
    support::{PATIENCE, imported, rename, requested_slug},
};

/// More organizations than two pages contain.
const MANY: i64 = 2_100;
/// The distance between the id of an imported organization and the id of its copy.
const BEYOND: i64 = 1_000_000;

/// Imports many organizations, and returns their ids in order.
async fn import_many(cluster: &Cluster) -> Vec<i64> {
    let mut export = Export::new();
    (1..=MANY).for_each(|pk| {
        export.organization(pk, &format!("org-{pk}"));
    });
    let import = cluster.region(0).import(&export.to_bytes(), &ImportOptions::default()).await;
    assert_eq!(import.expect("it ends").state(), ImportState::Succeeded);
    cluster.quiet(PATIENCE).await.expect("quiet");
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    let rows = db.fetch_all(Statement::new("SELECT id FROM sentry_organization ORDER BY id")).await;
    let ids = rows.expect("rows").iter().map(|row| row.int("id").expect("an id")).collect();
    db.close().await;
    ids
}

/// After many organizations that both sides have, there are as many again of which each side has every other one, so
/// that the pages of the two sides do not end at the same ids.
pub(crate) async fn many_pages_are_compared_to_their_ends(store: Store) {
    let cluster = Cluster::start(store, &["us"]).await.expect("a cluster");
    let ids = import_many(&cluster).await;
    assert_eq!(i64::try_from(ids.len()), Ok(MANY));
    let copies = Statement::new(
        "INSERT INTO sentry_organization (id, name, slug, status, date_added, default_role, is_test, flags) \
         SELECT id + $1, name, slug || '-copy', 0, date_added, default_role, is_test, flags FROM sentry_organization \
         WHERE id % 2 = 0",
    );
    // The last organization that both sides have differs too.
    let renamed = Statement::new("UPDATE sentry_organization SET slug = 'by-hand' WHERE id = $1");
    let last = *ids.last().expect("many");
    let statements = [copies.with(BEYOND), renamed.with(last)];
    cluster.change(Silo::Region(0), &statements).await.expect("changed");
    let odd = ids.iter().filter(|id| *id % 2 != 0).map(|id| (id + BEYOND, format!("held-{id}")));
    let (control, operation) = (cluster.control(), Uuid::from_u128(1).to_string());
    control.reserve_all("us", &operation, &odd.collect::<Vec<_>>()).await.expect("reserved");
    control.confirm("us", &operation).await.expect("confirmed");

    let mut wanted = vec![(last, K::SlugDiffers)];
    wanted.extend(ids.iter().map(|id| match id % 2 {
        0 => (id + BEYOND, K::OrganizationWithoutReservation),
        _ => (id + BEYOND, K::ReservationWithoutOrganization),
    }));
    for mode in [ReconcileMode::Check, ReconcileMode::Repair] {
        let answer = cluster.region(0).reconcile(mode).await.expect("compared");
        let kinds = answer.differences.iter().map(|it| (it.organization_id, it.kind()));
        let (found, other): (Vec<_>, Vec<_>) = kinds.partition(|it| wanted.contains(it));
        assert!(found == wanted, "{mode:?}: {} are found: {found:?}", found.len());
        // The replica receives a little later what a repair has changed.
        let late = |(_, kind): &(i64, K)| mode == ReconcileMode::Repair && *kind == K::ReplicaDiffers;
        assert!(other.iter().all(late), "{mode:?}: {other:?} are found too");
        let differences = i64::try_from(answer.differences.len()).expect("some");
        let repaired = if mode == ReconcileMode::Repair { differences } else { 0 };
        let summary = answer.summary.expect("a summary");
        assert_eq!(
            (summary.compared, summary.differences, summary.repaired, summary.moving),
            (2 * MANY, differences, repaired, 0),
            "{mode:?}"
        );
    }
    cluster.quiet(PATIENCE).await.expect("quiet");
    let answer = cluster.region(0).reconcile(ReconcileMode::Check).await.expect("compared");
    assert_eq!(answer.differences, []);
    assert_eq!(answer.summary.expect("a summary").compared, MANY + MANY / 2);
    cluster.stop().await;
}

/// A cluster with a region that is stopped in the middle of a comparison, and the future of that comparison.
async fn standing_still(builder: ClusterBuilder) -> (Cluster, Failpoints, impl Future<Output = ()>) {
    let failpoints = Failpoints::default();
    let mut cluster = builder.region("us").failpoints(&failpoints).start().await.expect("a cluster");
    cluster.stop_region(0).await;
    // A comparison that is refused should not wait long for the running one.
    cluster.configure_regions(|options| options.comparison_wait = Duration::from_millis(50));
    cluster.start_region(0).await.expect("it starts");
    let [(one, _), _] = imported(&cluster, 0).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    let wrong = Statement::new("UPDATE causeway_organization SET name = 'x' WHERE organization_id = $1");
    cluster.change(Silo::Control, &[wrong.with(one)]).await.expect("changed");
    failpoints.arm("region.reconcile.reported", Act::Hold, 0);
    let region = cluster.region(0);
    let first = tokio::spawn(async move { region.reconcile(ReconcileMode::Repair).await });
    tokio::time::timeout(PATIENCE, failpoints.held()).await.expect("it repairs");
    let ends = async {
        let answer = first.await.expect("it ends").expect("compared");
        let summary = answer.summary.expect("a summary");
        assert_eq!((summary.differences, summary.repaired), (1, 1), "{answer:?}");
    };
    (cluster, failpoints, ends)
}

/// Checks that another comparison is refused, and that the refusal names who is comparing.
async fn is_refused(cluster: &Cluster, region: &RegionApi) {
    let before = ClusterSnapshot::of(cluster).await.expect("a snapshot");
    for mode in [ReconcileMode::Check, ReconcileMode::Repair] {
        let refused = region.reconcile(mode).await.expect_err("somebody compares already");
        assert_eq!(reason_of(&refused), Some(ErrorReason::ReconciliationUnderWay), "{refused:?}");
        let place = format!("process {}", std::process::id());
        assert!(refused.message().contains(&place), "{refused:?}");
    }
    assert_eq!(ClusterSnapshot::of(cluster).await.expect("a snapshot"), before);
}

async fn agree(region: &RegionApi) {
    let answer = region.reconcile(ReconcileMode::Check).await.expect("compared");
    assert_eq!(answer.differences, [], "{answer:?}");
}

pub(crate) async fn a_process_compares_once_at_a_time(store: Store) {
    let (cluster, failpoints, first) = standing_still(Cluster::builder(store)).await;
    is_refused(&cluster, &cluster.region(0)).await;
    failpoints.release();
    first.await;
    agree(&cluster.region(0)).await;
    cluster.stop().await;
}

pub(crate) async fn processes_of_a_region_compare_one_after_the_other(builder: ClusterBuilder) {
    let (cluster, failpoints, first) = standing_still(builder).await;
    let second = cluster.start_second_process(0).await.expect("it starts");
    is_refused(&cluster, second.region()).await;
    failpoints.release();
    first.await;
    agree(second.region()).await;
    agree(&cluster.region(0)).await;
    second.stop().await;
    cluster.stop().await;
}

/// The lease belongs to a process that is gone, or that takes too long for a page.
pub(crate) async fn a_lease_that_is_over_is_taken(builder: ClusterBuilder) {
    let (cluster, failpoints, first) = standing_still(builder).await;
    let second = cluster.start_second_process(0).await.expect("it starts");
    let over = Statement::new("UPDATE causeway_reconciliation SET lease_until = $1");
    let over = over.with(Environment::system().now() - TimeDelta::seconds(1));
    cluster.change(Silo::Region(0), &[over]).await.expect("changed");
    agree(second.region()).await;
    // The second process has released the lease, so the first one takes it again and finishes.
    failpoints.release();
    first.await;
    second.stop().await;
    cluster.stop().await;
}

pub(crate) async fn a_comparison_is_printed_as_a_table(store: Store) {
    let cluster = Cluster::start(store, &["us"]).await.expect("a cluster");
    let [(one, slug), (other, _)] = imported(&cluster, 0).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    let url = cluster.region(0).url().to_owned();
    let compared = async |mode: &str| commands::run(&["reconcile", mode, "--region", &url]).await;
    let clean = "2 organizations compared, 0 differences, 0 repaired\n";
    let (code, stdout, stderr) = compared("--check").await;
    assert_eq!((code, stdout.as_str()), (Some(0), clean), "{stderr}");

    let set = Statement::new("UPDATE sentry_organization SET slug = 'by-hand' WHERE id = $1").with(one);
    // A slug that no organization may have: a person must resolve this.
    let add = Statement::new(
        "INSERT INTO sentry_organization (id, name, slug, status, date_added, default_role, is_test, flags) \
         SELECT 900001, name, 'settings', 0, date_added, default_role, is_test, flags FROM sentry_organization \
         WHERE id = $1",
    );
    cluster.change(Silo::Region(0), &[set, add.with(other)]).await.expect("changed");
    let added = 900_001;
    let answer = cluster.region(0).reconcile(ReconcileMode::Check).await.expect("compared");
    let control = answer.control_addresses.first().expect("the region knows where control is");
    // A repaired difference needs no advice. Both runs leave a difference, and the exit code shows that.
    let differs = format!(
        "organization {one} is `by-hand`, and control holds `{slug}` for it; give it control's slug: `causeway reconcile \
         --repair --region {url}`; or keep the region's: `causeway slugs rename {one} by-hand --exact --control {control}`"
    );
    for (mode, shown, repaired) in [("--check", differs.as_str(), 0), ("--repair", "repaired", 1)] {
        let (code, stdout, stderr) = compared(mode).await;
        assert_eq!(code, Some(10), "{mode}: {stderr}");
        // A list breaks its lines where 80 columns end, but no command.
        let words = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            one.to_string(),
            "SLUG_DIFFERS".to_owned(),
            shown.to_owned(),
            format!(
                "organization {added} is `settings`, and control holds no slug for it; it cannot be repaired: its slug \
                 is a reserved word; give it another one in the region"
            ),
            format!("3 organizations compared, 2 differences, {repaired} repaired"),
        ] {
            assert!(words.contains(&part), "{mode}: {part:?} is not in {stdout}");
        }
    }
    let gone = Statement::new("DELETE FROM sentry_organization WHERE id = 900001");
    cluster.change(Silo::Region(0), &[gone]).await.expect("changed");
    let (code, stdout, stderr) = compared("--check").await;
    assert_eq!((code, stdout.as_str()), (Some(0), clean), "{stderr}");
    cluster.stop().await;
}

/// During the comparison, the region has not yet received the confirmation of a rename that it has executed
/// itself.
pub(crate) async fn what_the_region_has_yet_to_hear_is_no_difference(builder: ClusterBuilder) {
    let failpoints = Failpoints::default();
    let cluster = builder.region("us").failpoints(&failpoints).start().await.expect("a cluster");
    let [(id, _), _] = imported(&cluster, 0).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    // The first message is the rename request, and the second one is its confirmation.
    failpoints.arm("region.feed.prepared", Act::Hold, 1);
    rename(&cluster.control(), &requested_slug(1, id, "dune")).await.expect("renamed");
    failpoints.held().await;
    let answer = cluster.region(0).reconcile(ReconcileMode::Check).await.expect("compared");
    assert_eq!(answer.differences, []);
    assert_eq!(answer.summary.expect("a summary").moving, 1);
    failpoints.release();
    cluster.quiet(PATIENCE).await.expect("quiet");
    let answer = cluster.region(0).reconcile(ReconcileMode::Check).await.expect("compared");
    assert_eq!((answer.differences, answer.summary.expect("a summary").moving), (vec![], 0));
    cluster.stop().await;
}
