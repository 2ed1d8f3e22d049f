//! Tests of renames, from the call to the region's confirmation.

use causeway_harness::cluster::{Act, Cluster, ControlApi, Failpoints, LinkState, Service, Silo, Store};
use causeway_proto::{
    control::v1::{
        ConfirmOrganizationSlugReservationsRequest, ReleaseOrganizationSlugReservationsRequest, RenameState,
        UpdateOrganizationSlugRequest,
    },
    failure::reason_of,
    region::v1::ReconcileMode,
    relocation::v1::ErrorReason,
    time,
};
use causeway_silo::db::Statement;
use uuid::Uuid;

use crate::support::{agrees, imported, leads, leads_in, rename, requested_slug, slug_of, until};

async fn cluster(store: Store) -> Cluster {
    Cluster::start(store, &["us"]).await.expect("a cluster")
}

fn led(id: i64, slug: &str) -> Option<(i64, String)> {
    Some((id, slug.to_owned()))
}

pub(crate) async fn a_rename_is_done_by_its_region(store: Store) {
    let cluster = cluster(store).await;
    let [(id, old), _] = imported(&cluster, 0).await;
    let control = cluster.control();

    let done = rename(&control, &requested_slug(1, id, "dune")).await.expect("renamed");
    assert_eq!((done.state(), done.slug.as_str()), (RenameState::Confirmed, "dune"));
    assert_eq!((done.previous_slug.as_str(), done.region.as_str()), (old.as_str(), "us"));
    assert_eq!(slug_of(&cluster, 0, id).await, "dune");
    assert_eq!((leads(&control, &old).await, leads(&control, "dune").await), (None, led(id, "dune")));
    assert_eq!(rename(&control, &requested_slug(1, id, "dune")).await.expect("the same"), done);
    until("the region has heard of it", async || leads_in(&cluster, 0, &old).await.is_none()).await;

    // Rename it back. This time the previous slug stays as an alias.
    let back = UpdateOrganizationSlugRequest {
        keep_alias: true,
        require_exact: true,
        ..requested_slug(2, id, &old)
    };
    assert_eq!(rename(&control, &back).await.expect("renamed").state(), RenameState::Confirmed);
    for slug in [old.as_str(), "dune", "DUNE"] {
        assert_eq!(leads(&control, slug).await, led(id, &old));
    }
    until("the region has heard of it", async || leads_in(&cluster, 0, "dune").await == led(id, &old)).await;
    agrees(&cluster, 0).await;
    cluster.stop().await;
}

pub(crate) async fn a_rename_waits_for_a_region_that_is_away(store: Store) {
    let mut cluster = cluster(store).await;
    let [(id, old), _] = imported(&cluster, 0).await;
    cluster.stop_region(0).await;
    let control = cluster.control();
    let impatient =
        UpdateOrganizationSlugRequest { wait: Some(time::seconds(0)), ..requested_slug(1, id, "dune") };
    assert_eq!(rename(&control, &impatient).await.expect("begun").state(), RenameState::Pending);
    assert_eq!((leads(&control, &old).await, leads(&control, "dune").await), (led(id, &old), None));
    cluster.start_region(0).await.expect("it starts");
    assert_eq!(
        rename(&control, &requested_slug(1, id, "dune")).await.expect("renamed").state(),
        RenameState::Confirmed
    );
    agrees(&cluster, 0).await;
    cluster.stop().await;
}

pub(crate) async fn a_region_refuses_a_slug_that_it_has(store: Store) {
    let cluster = cluster(store).await;
    let [(id, old), (other, other_slug)] = imported(&cluster, 0).await;
    let control = cluster.control();
    // The application renames an organization without asking control.
    let db = cluster.db(Silo::Region(0)).await.expect("its database");
    let set = |slug: &str| {
        Statement::new("UPDATE sentry_organization SET slug = $1 WHERE id = $2 RETURNING id")
            .with(slug)
            .with(other)
    };
    db.fetch_all(set("local")).await.expect("renamed");
    let before = control.all_reservations().await.expect("reservations");

    let refused = rename(&control, &requested_slug(1, id, "local")).await.expect_err("the region has it");
    assert_eq!(reason_of(&refused), Some(ErrorReason::SlugTakenInRegion), "{refused:?}");
    assert!(refused.message().contains(&other.to_string()), "{}", refused.message());
    assert_eq!(slug_of(&cluster, 0, id).await, old);
    assert_eq!(control.all_reservations().await.expect("reservations"), before);
    let again = rename(&control, &requested_slug(1, id, "local")).await.expect_err("it stays refused");
    assert_eq!(reason_of(&again), Some(ErrorReason::SlugTakenInRegion));

    // An organization that is no longer visible in the region.
    db.fetch_all(set(&other_slug)).await.expect("renamed back");
    let gone = "UPDATE causeway_import SET state = 'failed' RETURNING state";
    db.fetch_all(Statement::new(gone)).await.expect("as if it had failed");
    let refused = rename(&control, &requested_slug(2, id, "dune")).await.expect_err("not ready");
    assert_eq!(reason_of(&refused), Some(ErrorReason::OrganizationNotReady), "{refused:?}");
    db.close().await;
    cluster.stop().await;
}

/// A check that only this database has.
const NO_DUNE: &str =
    "ALTER TABLE sentry_organization ADD COLUMN more integer CONSTRAINT odd CHECK (slug NOT LIKE 'dune%')";

pub(crate) async fn a_region_refuses_a_slug_that_its_database_refuses(store: Store) {
    let cluster = cluster(store).await;
    let [(id, old), (other, _)] = imported(&cluster, 0).await;
    let control = cluster.control();
    cluster.change(Silo::Region(0), &[Statement::new(NO_DUNE)]).await.expect("changed");
    let refused =
        rename(&control, &requested_slug(1, id, "dune")).await.expect_err("the database refuses it");
    assert_eq!(reason_of(&refused), Some(ErrorReason::SlugTakenInRegion), "{refused:?}");
    let broken = "the slug dune breaks the check `odd` of the table sentry_organization";
    assert!(refused.message().contains(broken), "{}", refused.message());
    assert_eq!(slug_of(&cluster, 0, id).await, old);
    // The feed goes on.
    let done = rename(&control, &requested_slug(2, id, "elm")).await.expect("renamed");
    assert_eq!(done.state(), RenameState::Confirmed);
    assert_eq!(
        rename(&control, &requested_slug(3, other, &old)).await.expect("renamed").state(),
        RenameState::Confirmed
    );
    agrees(&cluster, 0).await;
    cluster.stop().await;
}

/// Somebody else confirms renames before the region hears of them, and its database refuses one of the slugs: that
/// organization keeps its own, and so does the one that would have got that. A comparison reports both.
pub(crate) async fn a_slug_that_the_database_refuses_keeps_no_other_rename_back(store: Store) {
    let mut cluster = cluster(store).await;
    let [(one, first), (other, second)] = imported(&cluster, 0).await;
    let [(third, _), (fourth, last)] = imported(&cluster, 0).await;
    agrees(&cluster, 0).await;
    cluster.stop_region(0).await;
    cluster.change(Silo::Region(0), &[Statement::new(NO_DUNE)]).await.expect("changed");
    rename_without_region(&cluster, 1, one, "dune").await;
    rename_without_region(&cluster, 2, other, &first).await;
    rename_without_region(&cluster, 3, third, "elm").await;
    cluster.start_region(0).await.expect("it starts");
    until("the region has heard of it", async || slug_of(&cluster, 0, third).await == "elm").await;
    for (id, slug) in [(one, &first), (other, &second), (fourth, &last)] {
        assert_eq!(slug_of(&cluster, 0, id).await, *slug);
    }
    let compared = cluster.region(0).reconcile(ReconcileMode::Check).await.expect("compared");
    let different: Vec<i64> = compared.differences.iter().map(|it| it.organization_id).collect();
    assert_eq!(different, [one.min(other), one.max(other)], "{compared:?}");
    cluster.stop().await;
}

pub(crate) async fn renames_that_a_region_hears_of_at_once_are_all_done_and_recorded(store: Store) {
    const RENAMES: u128 = 12;
    let mut cluster = cluster(store).await;
    let mut ids = Vec::new();
    for _ in 0..RENAMES / 2 {
        ids.extend(imported(&cluster, 0).await.map(|(id, _)| id));
    }
    agrees(&cluster, 0).await;
    cluster.stop_region(0).await;
    let control = cluster.control();
    for (number, id) in (1..).zip(&ids) {
        let slug = format!("slug-{number}");
        let requested_slug = UpdateOrganizationSlugRequest {
            wait: Some(time::seconds(0)),
            ..requested_slug(number, *id, &slug)
        };
        assert_eq!(rename(&control, &requested_slug).await.expect("begun").state(), RenameState::Pending);
    }
    // One of them is over before the region hears of it.
    let over = ReleaseOrganizationSlugReservationsRequest {
        region: "us".to_owned(),
        operation_id: Uuid::from_u128(RENAMES).to_string(),
        ..Default::default()
    };
    control.reservations().release_organization_slug_reservations(over).await.expect("released");
    cluster.start_region(0).await.expect("it starts");
    agrees(&cluster, 0).await;
    for (number, id) in (1..RENAMES).zip(&ids) {
        assert_eq!(slug_of(&cluster, 0, *id).await, format!("slug-{number}"));
    }
    let db = cluster.db(Silo::Region(0)).await.expect("its database");
    let recorded =
        "SELECT object, operation_id, request_id FROM causeway_audit WHERE call = 'rename' ORDER BY id";
    let recorded = db.fetch_all(Statement::new(recorded)).await.expect("rows");
    let mut objects = Vec::new();
    for row in &recorded {
        let operation = row.uuid("operation_id").expect("an id");
        assert_eq!(row.uuid("request_id").expect("an id"), operation);
        objects.push((operation, row.text("object").expect("a text")));
    }
    objects.sort_unstable();
    let expected =
        (1..RENAMES).zip(&ids).map(|(number, id)| (Uuid::from_u128(number), format!("organization/{id}")));
    assert_eq!(objects, expected.collect::<Vec<_>>());
    db.close().await;
    cluster.stop().await;
}

pub(crate) async fn a_region_resolves_its_slugs_without_control(store: Store) {
    let mut cluster = cluster(store).await;
    let [(id, old), _] = imported(&cluster, 0).await;
    let keep = UpdateOrganizationSlugRequest { keep_alias: true, ..requested_slug(1, id, "dune") };
    rename(&cluster.control(), &keep).await.expect("renamed");
    until("the region has heard of it", async || leads_in(&cluster, 0, &old).await == led(id, "dune")).await;
    cluster.stop_control().await;
    assert_eq!(leads_in(&cluster, 0, "dune").await, led(id, "dune"));
    // Also in a region that has just been started.
    cluster.stop_region(0).await;
    cluster.start_region(0).await.expect("it starts");
    assert_eq!(leads_in(&cluster, 0, &old).await, led(id, "dune"));
    assert_eq!(leads_in(&cluster, 0, "nobody").await, None);
    cluster.start_control().await.expect("it starts");
    let done = rename(&cluster.control(), &requested_slug(2, id, "elm")).await.expect("renamed");
    assert_eq!(done.state(), RenameState::Confirmed);
    agrees(&cluster, 0).await;
    cluster.stop().await;
}

/// A rename to `dune` that the region has executed and cannot report, and that an operator has cancelled
/// meanwhile. Returns the organization, its previous slug, and the request.
async fn given_up(
    cluster: &Cluster,
    failpoints: &Failpoints,
) -> (i64, String, UpdateOrganizationSlugRequest) {
    let [(id, old), _] = imported(cluster, 0).await;
    let control = cluster.control();
    // The failpoint must not act on the feed's events about the import.
    until("the region has heard of it", async || leads_in(cluster, 0, &old).await == led(id, &old)).await;
    failpoints.arm("region.feed.applied", Act::Kill, 0);
    let impatient =
        UpdateOrganizationSlugRequest { wait: Some(time::seconds(0)), ..requested_slug(1, id, "dune") };
    rename(&control, &impatient).await.expect("begun");
    cluster.killed().await;
    cluster.kill(Service::Region(0)).await;
    cluster.set_link_state(0, LinkState::Cut);
    cluster.revive().await.expect("it starts");
    assert_eq!(slug_of(cluster, 0, id).await, "dune");
    let release = ReleaseOrganizationSlugReservationsRequest {
        region: "us".to_owned(),
        operation_id: impatient.operation_id.clone(),
        refusal: None,
        only_unconfirmed: false,
    };
    control.reservations().release_organization_slug_reservations(release).await.expect("released");
    (id, old, impatient)
}

pub(crate) async fn a_rename_that_was_given_up_is_taken_back(store: Store) {
    let failpoints = Failpoints::default();
    let cluster =
        Cluster::builder(store).region("us").failpoints(&failpoints).start().await.expect("a cluster");
    let (id, old, rename_given_up) = given_up(&cluster, &failpoints).await;
    cluster.heal().await.expect("all is well");
    let refused = rename(&cluster.control(), &rename_given_up).await.expect_err("given up");
    assert_eq!(reason_of(&refused), Some(ErrorReason::OperationReleased));
    until("the old slug is back", async || slug_of(&cluster, 0, id).await == old).await;
    agrees(&cluster, 0).await;
    cluster.stop().await;
}

/// The same slug is requested again, and the region executes that before it receives the cancellation of the
/// first rename: the slug stays.
pub(crate) async fn a_rename_that_was_given_up_leaves_the_next_one_alone(store: Store) {
    let failpoints = Failpoints::default();
    let cluster =
        Cluster::builder(store).region("us").failpoints(&failpoints).start().await.expect("a cluster");
    let (id, _, _) = given_up(&cluster, &failpoints).await;
    failpoints.arm("region.rename.answered", Act::Hold, 0);
    cluster.set_link_state(0, LinkState::Open);
    failpoints.held().await;
    let control = cluster.control();
    let impatient =
        UpdateOrganizationSlugRequest { wait: Some(time::seconds(0)), ..requested_slug(2, id, "dune") };
    rename(&control, &impatient).await.expect("begun");
    let db = cluster.db(Silo::Region(0)).await.expect("its database");
    until("the region has done both", async || {
        let answers = db.fetch_all(Statement::new("SELECT operation_id FROM causeway_rename")).await;
        answers.expect("answers").len() == 2
    })
    .await;
    db.close().await;
    failpoints.release();
    let done = rename(&control, &requested_slug(2, id, "dune")).await.expect("renamed");
    assert_eq!(done.state(), RenameState::Confirmed);
    agrees(&cluster, 0).await;
    assert_eq!(slug_of(&cluster, 0, id).await, "dune");
    cluster.stop().await;
}

/// The region undoes a cancelled rename at the same time as it receives another one: the other one stays.
pub(crate) async fn a_rename_that_was_given_up_waits_for_what_the_feed_brings(store: Store) {
    let failpoints = Failpoints::default();
    let cluster =
        Cluster::builder(store).region("us").failpoints(&failpoints).start().await.expect("a cluster");
    let (id, _, _) = given_up(&cluster, &failpoints).await;
    let db = cluster.db(Silo::Region(0)).await.expect("its database");
    // Lock the rows in the same order as the region when it applies the feed: the cursor first.
    let mut feed = db.begin().await.expect("a transaction");
    let renamed = Statement::new("UPDATE sentry_organization SET slug = 'elm' WHERE id = $1").with(id);
    for change in [Statement::new("UPDATE causeway_feed_cursor SET version = version"), renamed] {
        assert_eq!(feed.execute(change).await.expect("changed"), 1);
    }
    failpoints.arm("region.rename.answered", Act::Hold, 0);
    cluster.set_link_state(0, LinkState::Open);
    failpoints.held().await;
    failpoints.release();
    if store == Store::Postgres {
        // On SQLite, a transaction that would have to wait to write cannot even read.
        until("it waits", async || {
            let waiting = Statement::new(
                "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                 AND (query LIKE '%causeway_feed_cursor%' OR query LIKE 'UPDATE sentry_organization%')",
            );
            let row = db.fetch_optional(waiting).await.expect("it answers").expect("a row");
            // One applies the feed, the other undoes the rename.
            row.int("n").expect("a number") >= 2
        })
        .await;
    }
    feed.commit().await.expect("renamed");
    until("it is taken back", async || {
        let answers = db.fetch_all(Statement::new("SELECT operation_id FROM causeway_rename")).await;
        answers.expect("answers").is_empty()
    })
    .await;
    assert_eq!(slug_of(&cluster, 0, id).await, "elm");
    db.close().await;
    cluster.stop().await;
}

async fn confirm(control: &ControlApi, requested_slug: &UpdateOrganizationSlugRequest) {
    let request = ConfirmOrganizationSlugReservationsRequest {
        region: "us".to_owned(),
        operation_id: requested_slug.operation_id.clone(),
    };
    control.reservations().confirm_organization_slug_reservations(request).await.expect("confirmed");
}

/// Requests a rename that the region cannot receive, and confirms it in the region's place.
async fn rename_without_region(cluster: &Cluster, number: u128, id: i64, slug: &str) {
    let control = cluster.control();
    let requested_slug =
        UpdateOrganizationSlugRequest { wait: Some(time::seconds(0)), ..requested_slug(number, id, slug) };
    assert_eq!(rename(&control, &requested_slug).await.expect("begun").state(), RenameState::Pending);
    confirm(&control, &requested_slug).await;
}

/// Somebody else confirms renames, so that they are done before the region receives them: as events, or in a snapshot.
pub(crate) async fn a_rename_that_somebody_else_confirms_reaches_the_region(store: Store) {
    for snapshot in [false, true] {
        let mut cluster = cluster(store).await;
        let [(one, first), (other, second)] = imported(&cluster, 0).await;
        agrees(&cluster, 0).await;
        cluster.stop_region(0).await;
        // One organization goes through two slugs. Its first slug goes to the other organization, and it gets the
        // other's slug in the end.
        rename_without_region(&cluster, 1, one, "dune").await;
        rename_without_region(&cluster, 2, other, &first).await;
        rename_without_region(&cluster, 3, one, &second).await;
        if snapshot {
            let db = cluster.db(Silo::Region(0)).await.expect("its database");
            let anew = "UPDATE causeway_feed_cursor SET version = 0 RETURNING version";
            db.fetch_all(Statement::new(anew)).await.expect("the feed begins with a snapshot");
            db.close().await;
        }
        cluster.start_region(0).await.expect("it starts");
        until("the region has both", async || {
            slug_of(&cluster, 0, one).await == second && slug_of(&cluster, 0, other).await == first
        })
        .await;
        agrees(&cluster, 0).await;
        let compared = cluster.region(0).reconcile(ReconcileMode::Check).await.expect("compared");
        assert_eq!(compared.differences, []);
        cluster.stop().await;
    }
}

/// An organization was renamed manually, so its slug is not the one that control last had. People decide
/// about it.
pub(crate) async fn a_slug_that_was_changed_by_hand_stays_when_somebody_else_confirms_a_rename(store: Store) {
    let mut cluster = cluster(store).await;
    let [(one, _), (other, second)] = imported(&cluster, 0).await;
    agrees(&cluster, 0).await;
    cluster.stop_region(0).await;
    let db = cluster.db(Silo::Region(0)).await.expect("its database");
    let by_hand =
        Statement::new("UPDATE sentry_organization SET slug = 'local' WHERE id = $1 RETURNING id").with(one);
    db.fetch_all(by_hand).await.expect("renamed");
    rename_without_region(&cluster, 1, one, "dune").await;
    // A change that the region cannot carry out must not keep it from the others.
    rename_without_region(&cluster, 2, other, "local").await;
    cluster.start_region(0).await.expect("it starts");
    until("the region has heard of it", async || leads_in(&cluster, 0, "dune").await == led(one, "dune"))
        .await;
    assert_eq!(slug_of(&cluster, 0, one).await, "local");
    assert_eq!(slug_of(&cluster, 0, other).await, second);
    let compared = cluster.region(0).reconcile(ReconcileMode::Check).await.expect("compared");
    let different: Vec<i64> = compared.differences.iter().map(|it| it.organization_id).collect();
    assert_eq!(different, [one.min(other), one.max(other)], "{compared:?}");
    db.close().await;
    cluster.stop().await;
}

/// The region executed a rename that was cancelled, and somebody else confirms the next one before the region
/// receives either. The organization gets the last slug, not the first and not the original one.
pub(crate) async fn a_rename_that_was_given_up_gives_way_to_one_that_somebody_else_confirmed(store: Store) {
    let failpoints = Failpoints::default();
    let cluster =
        Cluster::builder(store).region("us").failpoints(&failpoints).start().await.expect("a cluster");
    let (id, _, _) = given_up(&cluster, &failpoints).await;
    rename_without_region(&cluster, 2, id, "elm").await;
    cluster.heal().await.expect("all is well");
    until("the region has it", async || slug_of(&cluster, 0, id).await == "elm").await;
    agrees(&cluster, 0).await;
    cluster.stop().await;
}

/// The failpoints that a rename passes.
const PLACES: [&str; 9] = [
    "control.rename.prepared",
    "control.rename.committed",
    "region.feed.prepared",
    "region.feed.applied",
    "control.confirm.prepared",
    "control.confirm.committed",
    "region.rename.answered",
    "region.rename.prepared",
    "region.rename.noted",
];

/// Here a call fails at each place. The fault tests kill services at these places, with all other steps.
pub(crate) async fn a_rename_survives_a_failure_at_each_place(store: Store) {
    let failpoints = Failpoints::default();
    let cluster =
        Cluster::builder(store).region("us").failpoints(&failpoints).start().await.expect("a cluster");
    let [(id, _), _] = imported(&cluster, 0).await;
    agrees(&cluster, 0).await;
    for (number, place) in PLACES.into_iter().enumerate() {
        let slug = format!("slug-{number}");
        failpoints.arm(place, Act::Fail, 0);
        let asked = UpdateOrganizationSlugRequest {
            keep_alias: number % 2 == 0,
            ..requested_slug(number as u128 + 1, id, &slug)
        };
        let control = cluster.control();
        let done = rename(&control, &asked).await;
        let done = done.unwrap_or_else(|status| panic!("{place}: {status:?}"));
        assert_eq!((done.state(), done.slug.as_str()), (RenameState::Confirmed, slug.as_str()), "{place}");
        // The failpoint may act after the confirmation.
        until(&format!("{place} is reached"), async || !failpoints.is_armed()).await;
        agrees(&cluster, 0).await;
        assert_eq!(slug_of(&cluster, 0, id).await, slug, "{place}");
        assert_eq!(leads(&cluster.control(), &slug).await, led(id, &slug), "{place}");
    }
    cluster.stop().await;
}
