//! Compares a region with control: each difference is made in the database, found, and repaired.

use std::{collections::BTreeMap, time::Duration};

use causeway_harness::{
    cluster::{Cluster, ControlApi, ImportOptions, Service, Silo, Store},
    export,
    snapshot::ClusterSnapshot,
};
use causeway_proto::{
    control::v1::{ListOrganizationsRequest, UpdateOrganizationSlugRequest},
    region::v1::{
        Difference, DifferenceKind, ImportState, ReconcileMode, ReconcileResponse, ResumeImportRequest,
        RevertImportRequest,
    },
    relocation::v1::{FindingKind, OrganizationStatus},
};
use causeway_relocation::generate::derived_uuid;
use causeway_silo::db::Statement;
use chrono::TimeDelta;
use uuid::Uuid;

use crate::commands::run;
use crate::support::{PATIENCE, agrees, imported, leads, leads_in, rename, requested_slug, slug_of, until};

use DifferenceKind as K;

async fn cluster(store: Store) -> Cluster {
    Cluster::start(store, &["us"]).await.expect("a cluster")
}

/// Changes the database of a silo directly.
async fn change(cluster: &Cluster, silo: Silo, statement: Statement) {
    cluster.change(silo, &[statement]).await.expect("changed");
}

const HERE: Silo = Silo::Region(0);

async fn set_slug(cluster: &Cluster, id: i64, slug: &str) {
    let set = Statement::new("UPDATE sentry_organization SET slug = $2 WHERE id = $1").with(id).with(slug);
    change(cluster, HERE, set).await;
}

/// Inserts a copy of an organization, as if the application had created one without asking control.
async fn insert_manually(cluster: &Cluster, like: i64, id: i64, slug: &str) {
    let insert = Statement::new(
        "INSERT INTO sentry_organization (id, name, slug, status, date_added, default_role, is_test, flags) \
         SELECT $2, name, $3, 0, date_added, default_role, is_test, flags FROM sentry_organization WHERE id = $1",
    );
    change(cluster, HERE, insert.with(like).with(id).with(slug)).await;
}

/// Reserves a slug at control as region us does, and returns the slug that the organization got.
async fn reserve(control: &ControlApi, operation: Uuid, organization_id: i64, slug: &str) -> String {
    let operation = operation.to_string();
    control.reserve("us", &operation, organization_id, slug).await.expect("reserved")
}

async fn compare(cluster: &Cluster, mode: ReconcileMode) -> ReconcileResponse {
    cluster.region(0).reconcile(mode).await.expect("compared")
}

fn kinds(answer: &ReconcileResponse) -> Vec<(i64, K)> {
    answer.differences.iter().map(|it| (it.organization_id, it.kind())).collect()
}

/// Checks that both sides agree.
async fn is_clean(cluster: &Cluster) {
    let answer = compare(cluster, ReconcileMode::Check).await;
    assert_eq!(answer.differences, [], "{answer:?}");
    assert_eq!(answer.summary.expect("a summary").moving, 0);
}

/// A check finds exactly these differences and changes nothing. A repair finds them again and repairs all of them, with
/// everything that only then comes to light. Then both sides agree.
async fn found_and_mended(cluster: &Cluster, expected: &[(i64, K)]) -> Vec<Difference> {
    let before = ClusterSnapshot::of(cluster).await.expect("a snapshot");
    let checked = compare(cluster, ReconcileMode::Check).await;
    assert_eq!(kinds(&checked), expected, "{checked:?}");
    assert!(checked.differences.iter().all(|it| !it.repaired && !it.remedy.is_empty()), "{checked:?}");
    let summary = checked.summary.expect("a summary");
    assert_eq!((summary.differences, summary.repaired), (i64::try_from(expected.len()).expect("few"), 0));
    assert_eq!(ClusterSnapshot::of(cluster).await.expect("a snapshot"), before);

    let mended = compare(cluster, ReconcileMode::Repair).await;
    for difference in expected {
        assert!(kinds(&mended).contains(difference), "{difference:?} in {mended:?}");
    }
    assert!(mended.differences.iter().all(|it| it.repaired && it.remedy.is_empty()), "{mended:?}");
    let summary = mended.summary.expect("a summary");
    assert_eq!(summary.differences, summary.repaired);
    is_clean(cluster).await;
    checked.differences
}

/// Differences that only people can resolve: a check and a repair report them with the same reason.
async fn found_and_left(cluster: &Cluster, expected: &[(i64, K)], why: &str) {
    for mode in [ReconcileMode::Check, ReconcileMode::Repair] {
        let answer = compare(cluster, mode).await;
        assert_eq!(kinds(&answer), expected, "{answer:?}");
        assert!(answer.differences.iter().all(|it| !it.repaired), "{answer:?}");
        assert!(answer.differences.iter().any(|it| it.remedy.contains(why)), "{why}: {answer:?}");
    }
}

/// The entries of control's directory by id: slug, name and status.
async fn directory(cluster: &Cluster) -> BTreeMap<i64, (String, String, OrganizationStatus)> {
    let request = ListOrganizationsRequest { page_size: 1000, ..Default::default() };
    let all = cluster.control().directory().list_organizations(request).await.expect("the directory");
    let all = all.into_inner().organizations.into_iter();
    all.map(|it| (it.organization_id, (it.slug.clone(), it.name.clone(), it.status()))).collect()
}

pub(crate) async fn an_organization_that_control_does_not_know_gets_its_slug_reserved(store: Store) {
    let cluster = cluster(store).await;
    let [(one, _), (other, _)] = imported(&cluster, 0).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    is_clean(&cluster).await;
    insert_manually(&cluster, one, 900_001, "before").await;
    found_and_mended(&cluster, &[(900_001, K::OrganizationWithoutReservation)]).await;
    assert_eq!(leads(&cluster.control(), "before").await, Some((900_001, "before".to_owned())));
    assert_eq!(directory(&cluster).await[&900_001].0, "before");

    // The slugs that follow: an alias of another organization, a reserved word, and one that differs only in case.
    let keep = UpdateOrganizationSlugRequest { keep_alias: true, ..requested_slug(1, other, "dune") };
    let old = rename(&cluster.control(), &keep).await.expect("renamed").previous_slug;
    cluster.quiet(PATIENCE).await.expect("quiet");
    insert_manually(&cluster, one, 900_002, &old).await;
    let expected = [(900_002, K::OrganizationWithoutReservation)];
    // A repair would give it the slug with a suffix: tests/restored.
    let answer = compare(&cluster, ReconcileMode::Check).await;
    assert_eq!(kinds(&answer), expected, "{answer:?}");
    let remedy = &answer.differences[0].remedy;
    assert!(remedy.contains(&format!("organization {other} of us")), "{remedy}");
    assert!(remedy.contains(&format!("let it be `{old}-?`")), "{remedy}");
    set_slug(&cluster, 900_002, "settings").await;
    found_and_left(&cluster, &expected, "reserved word").await;
    set_slug(&cluster, 900_002, "Before").await;
    let expected = [(900_002, K::OrganizationWithoutReservation), (900_001, K::SlugTwice)];
    found_and_left(&cluster, &expected, "give one of them another slug").await;
    // No attempt has left anything at control.
    let reservations = cluster.control().all_reservations().await.expect("reservations");
    assert!(reservations.iter().all(|it| it.organization_id != 900_002), "{reservations:?}");
    set_slug(&cluster, 900_002, "after").await;
    found_and_mended(&cluster, &[(900_002, K::OrganizationWithoutReservation)]).await;
    agrees(&cluster, 0).await;
    cluster.stop().await;
}

pub(crate) async fn an_organization_gets_the_slug_that_control_holds(store: Store) {
    let cluster = cluster(store).await;
    let [(one, first), (other, second)] = imported(&cluster, 0).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    set_slug(&cluster, one, "by-hand").await;
    let found = found_and_mended(&cluster, &[(one, K::SlugDiffers)]).await;
    assert_eq!((found[0].slug.as_str(), found[0].control_slug.as_str()), ("by-hand", first.as_str()));
    assert_eq!(slug_of(&cluster, 0, one).await, first);

    // Each has the slug of the other one. Only people can decide which one goes first.
    set_slug(&cluster, one, "for-now").await;
    set_slug(&cluster, other, &first).await;
    set_slug(&cluster, one, &second).await;
    let expected = [(one, K::SlugDiffers), (other, K::SlugDiffers)];
    found_and_left(&cluster, &expected, "of the region has that slug").await;
    set_slug(&cluster, one, "for-now").await;
    // The other slug is free now, so the second organization gets its slug back, which frees the slug of the first one.
    compare(&cluster, ReconcileMode::Repair).await;
    compare(&cluster, ReconcileMode::Repair).await;
    is_clean(&cluster).await;
    assert_eq!((slug_of(&cluster, 0, one).await, slug_of(&cluster, 0, other).await), (first, second));
    agrees(&cluster, 0).await;
    cluster.stop().await;
}

/// The slug that control holds breaks a check that only this database has. Another organization is repaired all the same.
pub(crate) async fn a_slug_that_the_database_refuses_is_no_repair(store: Store) {
    let cluster = cluster(store).await;
    let [(one, first), (other, second)] = imported(&cluster, 0).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    set_slug(&cluster, one, "by-hand").await;
    set_slug(&cluster, other, "too").await;
    let check = "ALTER TABLE sentry_organization ADD COLUMN more integer CONSTRAINT odd CHECK (slug <> '";
    change(&cluster, HERE, Statement::new(check).push(&first).push("')")).await;
    let broken = "it cannot be repaired: the slug breaks the check `odd` of the table sentry_organization";
    let repaired = compare(&cluster, ReconcileMode::Repair).await;
    let reported: Vec<_> = repaired.differences.iter().map(|it| (it.organization_id, it.repaired)).collect();
    let mut expected = [(one, false), (other, true)];
    expected.sort_unstable();
    assert_eq!(reported, expected, "{repaired:?}");
    let left = repaired.differences.iter().find(|it| it.organization_id == one).expect("it is left");
    assert!(left.remedy.contains(broken), "{left:?}");
    assert_eq!(
        (slug_of(&cluster, 0, one).await, slug_of(&cluster, 0, other).await),
        ("by-hand".into(), second)
    );
    cluster.stop().await;
}

pub(crate) async fn what_is_held_for_nobody_is_freed(store: Store) {
    let cluster = cluster(store).await;
    let [(one, _), _] = imported(&cluster, 0).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    let control = cluster.control();
    let operation_id = Uuid::from_u128(1);
    reserve(&control, operation_id, 900_003, "gone").await;
    control.confirm("us", &operation_id.to_string()).await.expect("confirmed");
    found_and_mended(&cluster, &[(900_003, K::ReservationWithoutOrganization)]).await;
    assert_eq!(leads(&control, "gone").await, None);
    until("the region has heard of it", async || leads_in(&cluster, 0, "gone").await.is_none()).await;

    // A temporary reservation of an organization that does not exist.
    let given = reserve(&control, Uuid::from_u128(2), 900_004, "left").await;
    let found = found_and_mended(&cluster, &[(900_004, K::TemporaryReservationLeft)]).await;
    assert_eq!(found[0].control_slug, given);
    // An organization that has another slug by now, and one that has the reserved slug.
    insert_manually(&cluster, one, 900_008, "other").await;
    reserve(&control, Uuid::from_u128(3), 900_008, "left").await;
    let expected = [(900_008, K::OrganizationWithoutReservation), (900_008, K::TemporaryReservationLeft)];
    found_and_mended(&cluster, &expected).await;
    assert_eq!(leads(&control, "other").await, Some((900_008, "other".to_owned())));
    insert_manually(&cluster, one, 900_005, "left").await;
    reserve(&control, Uuid::from_u128(4), 900_005, "left").await;
    found_and_mended(&cluster, &[(900_005, K::TemporaryReservationLeft)]).await;
    assert_eq!(leads(&control, "left").await, Some((900_005, "left".to_owned())));
    assert_eq!(directory(&cluster).await[&900_005].0, "left");
    agrees(&cluster, 0).await;
    cluster.stop().await;
}

pub(crate) async fn the_directory_is_updated_again(store: Store) {
    let cluster = cluster(store).await;
    let [(one, _), (other, _)] = imported(&cluster, 0).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    let before = directory(&cluster).await;
    let set =
        Statement::new("UPDATE causeway_organization SET name = 'x', status = 3 WHERE organization_id = $1");
    change(&cluster, Silo::Control, set.with(one)).await;
    let forget = Statement::new("DELETE FROM causeway_organization WHERE organization_id = $1");
    change(&cluster, Silo::Control, forget.with(other)).await;
    // An organization without reservation is not in the directory, even if the table has a row for it.
    let add = Statement::new(
        "INSERT INTO causeway_organization (organization_id, region, name, status, reported_at) \
         SELECT 900006, region, name, status, reported_at FROM causeway_organization WHERE organization_id = $1",
    );
    change(&cluster, Silo::Control, add.with(one)).await;
    assert!(!directory(&cluster).await.contains_key(&900_006));
    let expected = [(one, K::DirectoryDiffers), (other, K::DirectoryDiffers)];
    let found = found_and_mended(&cluster, &expected).await;
    assert!(found[0].message.contains("another name and status"), "{}", found[0].message);
    assert_eq!(directory(&cluster).await, before);
    cluster.stop().await;
}

pub(crate) async fn a_replica_that_is_wrong_is_made_again(store: Store) {
    let cluster = cluster(store).await;
    let [(one, slug), (other, _)] = imported(&cluster, 0).await;
    agrees(&cluster, 0).await;
    let forget = Statement::new("DELETE FROM causeway_slug_replica WHERE organization_id = $1");
    change(&cluster, HERE, forget.with(one)).await;
    let add = Statement::new(
        "INSERT INTO causeway_slug_replica (slug, organization_id, type, canonical_slug, operation_id, wanted, generation) \
         SELECT 'stale', 900007, type, canonical_slug, operation_id, wanted, generation FROM causeway_slug_replica \
         WHERE organization_id = $1",
    );
    change(&cluster, HERE, add.with(other)).await;
    assert_eq!(leads_in(&cluster, 0, &slug).await, None);
    found_and_mended(&cluster, &[(one, K::ReplicaDiffers), (900_007, K::ReplicaDiffers)]).await;
    assert_eq!(leads_in(&cluster, 0, &slug).await, Some((one, slug)));
    assert_eq!(leads_in(&cluster, 0, "stale").await, None);
    agrees(&cluster, 0).await;
    cluster.stop().await;
}

/// A call of the import arrives late.
pub(crate) async fn what_comes_after_a_revert_is_released(store: Store) {
    let cluster = cluster(store).await;
    let bytes = export::exhaustive().expect("an export").to_bytes();
    let import = cluster.region(0).import(&bytes, &ImportOptions::default()).await.expect("it ends");
    let organization = import.organizations.first().expect("an organization").id;
    let import_id = import.import_id;
    let request = RevertImportRequest { import_id: import_id.clone() };
    cluster.region(0).imports().revert_import(request).await.expect("reverting");
    let import = cluster.region(0).wait(&import_id).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Reverted);
    is_clean(&cluster).await;
    let id = Uuid::try_parse(&import_id).expect("an id");
    // The call that the region would have made next if it had not been stopped.
    let operation = derived_uuid(id, "organization slugs 2");
    reserve(&cluster.control(), operation, organization, "late").await;
    found_and_mended(&cluster, &[(organization, K::TemporaryReservationLeft)]).await;
    agrees(&cluster, 0).await;
    cluster.stop().await;
}

/// A failed import may be resumed, and then needs what it has reserved.
pub(crate) async fn what_a_failed_import_holds_is_left_alone(store: Store) {
    let cluster = cluster(store).await;
    cluster.refuse_rows(Silo::Control, "sentry_orgauthtoken", true).await.expect("it is changed");
    let bytes = export::exhaustive().expect("an export").to_bytes();
    let import = cluster.region(0).import(&bytes, &ImportOptions::default()).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Failed, "{import:?}");
    let before = cluster.control().all_reservations().await.expect("reservations");
    assert_ne!(before, []);
    for mode in [ReconcileMode::Check, ReconcileMode::Repair] {
        let answer = compare(&cluster, mode).await;
        assert_eq!(answer.differences, [], "{answer:?}");
        assert_eq!(answer.summary.expect("a summary").compared, 2);
    }
    assert_eq!(cluster.control().all_reservations().await.expect("reservations"), before);
    cluster.refuse_rows(Silo::Control, "sentry_orgauthtoken", false).await.expect("it is changed");
    let request = ResumeImportRequest { import_id: import.import_id.clone() };
    cluster.region(0).imports().resume_import(request).await.expect("resumed");
    let import = cluster.region(0).wait(&import.import_id).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded, "{import:?}");
    cluster.quiet(PATIENCE).await.expect("quiet");
    is_clean(&cluster).await;
    cluster.stop().await;
}

/// Imports, reverts and renames, while two tasks compare and repair all the time.
pub(crate) async fn nothing_is_wrong_while_things_move(store: Store) {
    let cluster = cluster(store).await;
    let [(one, _), _] = imported(&cluster, 0).await;
    let moving = async {
        for round in 0..4_u128 {
            let renaming = async {
                for number in 0..6 {
                    let requested_slug = UpdateOrganizationSlugRequest {
                        keep_alias: number % 2 == 0,
                        ..requested_slug(round * 10 + number + 1, one, &format!("slug-{round}-{number}"))
                    };
                    rename(&cluster.control(), &requested_slug).await.expect("renamed");
                }
            };
            let importing = async {
                let bytes = export::exhaustive().expect("an export").to_bytes();
                let options = ImportOptions::default().merge_users();
                let import = cluster.region(0).import(&bytes, &options).await.expect("it ends");
                let request = RevertImportRequest { import_id: import.import_id.clone() };
                cluster.region(0).imports().revert_import(request).await.expect("reverting");
                cluster.region(0).wait(&import.import_id).await.expect("it ends");
            };
            tokio::join!(renaming, importing);
        }
    };
    let comparing = async {
        let mut compared = 0;
        loop {
            for mode in [ReconcileMode::Check, ReconcileMode::Repair] {
                let answer = cluster.region(0).reconcile(mode).await.expect("compared");
                assert_eq!(answer.differences, [], "after {compared}");
                compared += 1;
            }
        }
    };
    tokio::select! {
        () = moving => {}
        () = comparing => {}
        () = async { loop { compare(&cluster, ReconcileMode::Repair).await; } } => {}
    }
    cluster.quiet(PATIENCE).await.expect("quiet");
    is_clean(&cluster).await;
    cluster.stop().await;
}

/// Soon after it starts and then at intervals, a region repairs differences if no data is lost by that, and leaves the
/// others to people.
pub(crate) async fn a_region_mends_what_it_may_by_itself(store: Store) {
    let mut cluster = cluster(store).await;
    let [(one, first), (other, _)] = imported(&cluster, 0).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    cluster.stop_region(0).await;
    insert_manually(&cluster, one, 900_001, "before").await;
    set_slug(&cluster, one, "by-hand").await;
    cluster.configure_regions(|options| options.reconcile_every = Duration::from_millis(100));
    cluster.start_region(0).await.expect("it starts");
    let control = cluster.control();
    until("it is reserved", async || leads(&control, "before").await.is_some()).await;
    // The same again while the region runs.
    let forget = Statement::new("DELETE FROM causeway_organization WHERE organization_id = $1");
    change(&cluster, Silo::Control, forget.with(other)).await;
    until("it is reported", async || directory(&cluster).await.contains_key(&other)).await;
    assert_eq!(slug_of(&cluster, 0, one).await, "by-hand");
    let answer = compare(&cluster, ReconcileMode::Check).await;
    assert_eq!(kinds(&answer), [(one, K::SlugDiffers)], "{answer:?}");
    assert_eq!(answer.differences[0].control_slug, first);
    cluster.stop().await;
}

/// Whether control has rows of an import that it has not reverted.
async fn is_back(cluster: &Cluster, id: Uuid) -> bool {
    let db = cluster.db(Silo::Control).await.expect("a database");
    let left = Statement::new(
        "SELECT COUNT(*) AS chunks FROM causeway_import_chunk WHERE import_id = $1 AND reverted_at IS NULL",
    );
    let row = db.fetch_optional(left.with(id)).await.expect("it is read").expect("a row");
    db.close().await;
    row.int("chunks").expect("a number") > 0
}

/// Control has the rows of two reverted imports again, one of which was reverted 31 days ago.
pub(crate) async fn a_region_compares_recent_imports_by_itself(store: Store) {
    let mut cluster = cluster(store).await;
    let bytes = export::exhaustive().expect("an export").to_bytes();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let import = cluster.region(0).import(&bytes, &ImportOptions::default()).await.expect("it ends");
        assert_eq!(import.state(), ImportState::Succeeded, "{import:?}");
        let request = RevertImportRequest { import_id: import.import_id.clone() };
        cluster.region(0).imports().revert_import(request).await.expect("reverting");
        let import = cluster.region(0).wait(&import.import_id).await.expect("it ends");
        assert_eq!(import.state(), ImportState::Reverted, "{import:?}");
        ids.push(Uuid::try_parse(&import.import_id).expect("an id"));
    }
    cluster.stop_region(0).await;
    let db = cluster.db(HERE).await.expect("a database");
    for (id, days) in ids.iter().zip([31, 29]) {
        let read = Statement::new("SELECT updated_at FROM causeway_import WHERE import_id = $1").with(*id);
        let row = db.fetch_optional(read).await.expect("it is read").expect("a row");
        let before = row.time("updated_at").expect("a time") - TimeDelta::days(days);
        let set = Statement::new("UPDATE causeway_import SET updated_at = $2 WHERE import_id = $1");
        change(&cluster, HERE, set.with(*id).with(before)).await;
        let again =
            Statement::new("UPDATE causeway_import_chunk SET reverted_at = NULL WHERE import_id = $1");
        change(&cluster, Silo::Control, again.with(*id)).await;
    }
    db.close().await;
    assert!(is_back(&cluster, ids[0]).await && is_back(&cluster, ids[1]).await);
    cluster.configure_regions(|options| options.reconcile_every = Duration::from_millis(100));
    cluster.start_region(0).await.expect("it starts");
    until("the recent one is reverted again", async || !is_back(&cluster, ids[1]).await).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    // It waits for the comparison that began the revert, so that one has passed the other import, too.
    let answer = compare(&cluster, ReconcileMode::Check).await;
    assert_eq!(answer.differences.len(), 1, "{answer:?}");
    assert!(answer.differences[0].message.contains(&ids[0].to_string()), "{answer:?}");
    assert!(is_back(&cluster, ids[0]).await);
    compare(&cluster, ReconcileMode::Repair).await;
    until("the old one is, on request", async || !is_back(&cluster, ids[0]).await).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    agrees(&cluster, 0).await;
    cluster.stop().await;
}

/// Organizations that are older than Causeway: control leases their ids to no other region, and adds all organizations
/// of an import there to the directory.
pub(crate) async fn ids_from_before_causeway_are_given_to_nobody(store: Store) {
    let mut cluster = Cluster::start(store, &["us", "de"]).await.expect("a cluster");
    cluster.stop_region(0).await;
    for (id, slug) in [(1_i64, "first"), (2, "second"), (3, "third"), ((1 << 53) - 2, "absurd")] {
        let insert = Statement::new(
            "INSERT INTO sentry_organization (id, name, slug, status, date_added, default_role, is_test, flags) \
             VALUES ($1, 'Old', $2, 0, '2024-01-01T00:00:00.000000Z', 'member', false, 1)",
        );
        change(&cluster, HERE, insert.with(id).with(slug)).await;
    }
    cluster.start_region(0).await.expect("it starts");
    let reported = compare(&cluster, ReconcileMode::Repair).await;
    assert!(reported.differences.iter().all(|it| it.repaired), "{reported:?}");
    is_clean(&cluster).await;
    let [(one, first), (other, second)] = imported(&cluster, 1).await;
    assert!(one.min(other) > 3 && one.max(other) < 100_000, "{one} {other}");
    until("all are reported", async || directory(&cluster).await.len() == 6).await;
    let listed = directory(&cluster).await;
    for (id, slug) in [(1, "first"), (3, "third"), ((1 << 53) - 2, "absurd"), (one, &first), (other, &second)]
    {
        assert_eq!(listed[&id].0, slug);
    }
    agrees(&cluster, 0).await;
    agrees(&cluster, 1).await;
    cluster.stop().await;
}

/// A region that has ids of another region registers, and its log and `causeway regions list` report that.
pub(crate) async fn ids_that_two_regions_have_are_reported_at_registration(store: Store) {
    let built = Cluster::builder(store).region("us").region("de").processes(env!("CARGO_BIN_EXE_causeway"));
    let mut cluster = built.start().await.expect("a cluster");
    let log = |cluster: &Cluster, region| cluster.log(Service::Region(region)).expect("a log");
    for (region, ids) in [(0, 1..=3_i64), (1, 2..=7)] {
        cluster.stop_region(region).await;
        for id in ids {
            let insert = Statement::new(
                "INSERT INTO sentry_organization (id, name, slug, status, date_added, default_role, is_test, flags) \
                 VALUES ($1, 'Old', $2, 0, '2024-01-01T00:00:00.000000Z', 'member', false, 1)",
            );
            change(&cluster, Silo::Region(region), insert.with(id).with(format!("{region}-old-{id}"))).await;
        }
    }
    // The first one has the ids by then, so the second one hears of the conflict.
    for region in [0, 1] {
        let registered = |text: &str| text.matches("registered with control").count();
        let before = registered(&log(&cluster, region));
        cluster.start_region(region).await.expect("it starts");
        until("it is registered", async || registered(&log(&cluster, region)) > before).await;
    }
    let reported = |text: String| -> Vec<String> {
        let lines = text.lines().filter(|line| line.contains("ids that belong to another region"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(reported(log(&cluster, 0)), [] as [&str; 0]);
    let [line] = &reported(log(&cluster, 1))[..] else { panic!("not one line: {}", log(&cluster, 1)) };
    for part in [
        "ERROR",
        "first_id=2 last_id=3",
        "rows=2",
        "other_region=\"us\"",
        "has rows of these ids",
        "import them again",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    let (code, _, stderr) = run(&["regions", "list", "--control", &cluster.control_url()]).await;
    assert_eq!(code, Some(0), "{stderr}");
    let note = "region de has ids that belong to region us as well: sentry.organization 2 to 3; us has rows of these ids too";
    assert!(stderr.contains(note) && stderr.contains("import them again"), "{stderr}");
    cluster.stop().await;
}

/// If the directory refuses one organization, it still accepts the others, and the import reports the refused one.
pub(crate) async fn an_import_says_what_the_directory_does_not_take(store: Store) {
    let mut cluster = cluster(store).await;
    let bytes = export::exhaustive().expect("an export").to_bytes();
    let import = cluster.region(0).import(&bytes, &ImportOptions::default()).await.expect("it ends");
    let [one, other] = [0, 1].map(|at| import.organizations[at].id);
    cluster.quiet(PATIENCE).await.expect("quiet");
    cluster.stop_region(0).await;
    // As if an operator had released one of them just before the region reported to the directory.
    for table in ["causeway_organization_slug_reservation", "causeway_organization"] {
        let delete = Statement::new("DELETE FROM ").push(table).push(" WHERE organization_id = ").arg(one);
        change(&cluster, Silo::Control, delete).await;
    }
    let forget = Statement::new("DELETE FROM causeway_organization WHERE organization_id = $1");
    change(&cluster, Silo::Control, forget.with(other)).await;
    let unreported = Statement::new("UPDATE causeway_import SET reported = $1").with(false);
    change(&cluster, HERE, unreported).await;
    cluster.start_region(0).await.expect("it starts");
    until("it is told", async || directory(&cluster).await.contains_key(&other)).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    assert!(!directory(&cluster).await.contains_key(&one));
    let findings = cluster.region(0).findings(&import.import_id).await.expect("a list");
    let reported: Vec<_> = findings.iter().filter(|it| it.kind() == FindingKind::NotInDirectory).collect();
    assert_eq!(reported.len(), 1, "{findings:?}");
    assert_eq!(reported[0].source_pk, import.organizations[0].source_id);
    assert!(reported[0].reason.contains("holds no confirmed slug"), "{}", reported[0].reason);
    // Reported again, as after an approval, the finding is there once.
    cluster.stop_region(0).await;
    let unreported = Statement::new("UPDATE causeway_import SET reported = $1").with(false);
    change(&cluster, HERE, unreported).await;
    cluster.start_region(0).await.expect("it starts");
    cluster.quiet(PATIENCE).await.expect("quiet");
    let again = cluster.region(0).findings(&import.import_id).await.expect("a list");
    assert_eq!(again.iter().filter(|it| it.kind() == FindingKind::NotInDirectory).count(), 1, "{again:?}");
    let import = cluster.region(0).wait(&import.import_id).await.expect("it has ended");
    assert_eq!(import.state(), ImportState::Succeeded);
    // The advice in the finding works.
    compare(&cluster, ReconcileMode::Repair).await;
    is_clean(&cluster).await;
    assert!(directory(&cluster).await.contains_key(&one));
    cluster.stop().await;
}
