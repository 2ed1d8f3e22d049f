//! Renames from the call to the region's confirmation.

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

use crate::support::{agrees, imported, leads, leads_in, rename, slug_of, until, wish};

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

    let done = rename(&control, &wish(1, id, "dune")).await.expect("renamed");
    assert_eq!((done.state(), done.slug.as_str()), (RenameState::Confirmed, "dune"));
    assert_eq!((done.previous_slug.as_str(), done.region.as_str()), (old.as_str(), "us"));
    assert_eq!(slug_of(&cluster, 0, id).await, "dune");
    assert_eq!((leads(&control, &old).await, leads(&control, "dune").await), (None, led(id, "dune")));
    assert_eq!(rename(&control, &wish(1, id, "dune")).await.expect("the same"), done);
    until("the region has heard of it", async || leads_in(&cluster, 0, &old).await.is_none()).await;

    // Back, and this one stays as an alias.
    let back = UpdateOrganizationSlugRequest { keep_alias: true, require_exact: true, ..wish(2, id, &old) };
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
    let impatient = UpdateOrganizationSlugRequest { wait: Some(time::seconds(0)), ..wish(1, id, "dune") };
    assert_eq!(rename(&control, &impatient).await.expect("begun").state(), RenameState::Pending);
    assert_eq!((leads(&control, &old).await, leads(&control, "dune").await), (led(id, &old), None));
    cluster.start_region(0).await.expect("it starts");
    assert_eq!(
        rename(&control, &wish(1, id, "dune")).await.expect("renamed").state(),
        RenameState::Confirmed
    );
    agrees(&cluster, 0).await;
    cluster.stop().await;
}

pub(crate) async fn a_region_refuses_a_slug_that_it_has(store: Store) {
    let cluster = cluster(store).await;
    let [(id, old), (other, other_slug)] = imported(&cluster, 0).await;
    let control = cluster.control();
    // The application has renamed an organization without asking control.
    let db = cluster.db(Silo::Region(0)).await.expect("its database");
    let set = |slug: &str| {
        Statement::new("UPDATE sentry_organization SET slug = $1 WHERE id = $2 RETURNING id")
            .with(slug)
            .with(other)
    };
    db.fetch_all(set("local")).await.expect("renamed");
    let before = control.all_reservations().await.expect("reservations");

    let refused = rename(&control, &wish(1, id, "local")).await.expect_err("the region has it");
    assert_eq!(reason_of(&refused), Some(ErrorReason::SlugTakenInRegion), "{refused:?}");
    assert!(refused.message().contains(&other.to_string()), "{}", refused.message());
    assert_eq!(slug_of(&cluster, 0, id).await, old);
    assert_eq!(control.all_reservations().await.expect("reservations"), before);
    let again = rename(&control, &wish(1, id, "local")).await.expect_err("it stays refused");
    assert_eq!(reason_of(&again), Some(ErrorReason::SlugTakenInRegion));

    // An organization that the region has no more.
    db.fetch_all(set(&other_slug)).await.expect("renamed back");
    let gone = "UPDATE causeway_import SET state = 'failed' RETURNING state";
    db.fetch_all(Statement::new(gone)).await.expect("as if it had failed");
    let refused = rename(&control, &wish(2, id, "dune")).await.expect_err("not ready");
    assert_eq!(reason_of(&refused), Some(ErrorReason::OrganizationNotReady), "{refused:?}");
    db.close().await;
    cluster.stop().await;
}

pub(crate) async fn a_region_resolves_its_slugs_without_control(store: Store) {
    let mut cluster = cluster(store).await;
    let [(id, old), _] = imported(&cluster, 0).await;
    let keep = UpdateOrganizationSlugRequest { keep_alias: true, ..wish(1, id, "dune") };
    rename(&cluster.control(), &keep).await.expect("renamed");
    until("the region has heard of it", async || leads_in(&cluster, 0, &old).await == led(id, "dune")).await;
    cluster.stop_control().await;
    assert_eq!(leads_in(&cluster, 0, "dune").await, led(id, "dune"));
    // Also one that has only just been started.
    cluster.stop_region(0).await;
    cluster.start_region(0).await.expect("it starts");
    assert_eq!(leads_in(&cluster, 0, &old).await, led(id, "dune"));
    assert_eq!(leads_in(&cluster, 0, "nobody").await, None);
    cluster.start_control().await.expect("it starts");
    let done = rename(&cluster.control(), &wish(2, id, "elm")).await.expect("renamed");
    assert_eq!(done.state(), RenameState::Confirmed);
    agrees(&cluster, 0).await;
    cluster.stop().await;
}

/// A rename to `dune` that the region has done and cannot tell; meanwhile an operator has given it up. With the
/// organization, and the slug that it had.
async fn given_up(
    cluster: &Cluster,
    failpoints: &Failpoints,
) -> (i64, String, UpdateOrganizationSlugRequest) {
    let [(id, old), _] = imported(cluster, 0).await;
    let control = cluster.control();
    // What the feed has told of the import is not what the failpoint is for.
    until("the region has heard of it", async || leads_in(cluster, 0, &old).await == led(id, &old)).await;
    failpoints.arm("region.feed.applied", Act::Kill, 0);
    let impatient = UpdateOrganizationSlugRequest { wait: Some(time::seconds(0)), ..wish(1, id, "dune") };
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

/// Somebody asks for the same slug again, and the region does that before it has heard that the first rename was given
/// up: the slug stays.
pub(crate) async fn a_rename_that_was_given_up_leaves_the_next_one_alone(store: Store) {
    let failpoints = Failpoints::default();
    let cluster =
        Cluster::builder(store).region("us").failpoints(&failpoints).start().await.expect("a cluster");
    let (id, _, _) = given_up(&cluster, &failpoints).await;
    failpoints.arm("region.rename.answered", Act::Hold, 0);
    cluster.set_link_state(0, LinkState::Open);
    failpoints.held().await;
    let control = cluster.control();
    let impatient = UpdateOrganizationSlugRequest { wait: Some(time::seconds(0)), ..wish(2, id, "dune") };
    rename(&control, &impatient).await.expect("begun");
    let db = cluster.db(Silo::Region(0)).await.expect("its database");
    until("the region has done both", async || {
        let answers = db.fetch_all(Statement::new("SELECT operation_id FROM causeway_rename")).await;
        answers.expect("answers").len() == 2
    })
    .await;
    db.close().await;
    failpoints.release();
    let done = rename(&control, &wish(2, id, "dune")).await.expect("renamed");
    assert_eq!(done.state(), RenameState::Confirmed);
    agrees(&cluster, 0).await;
    assert_eq!(slug_of(&cluster, 0, id).await, "dune");
    cluster.stop().await;
}

/// A rename that was given up is taken back just when the region hears of another one: that one stays.
pub(crate) async fn a_rename_that_was_given_up_waits_for_what_the_feed_brings(store: Store) {
    let failpoints = Failpoints::default();
    let cluster =
        Cluster::builder(store).region("us").failpoints(&failpoints).start().await.expect("a cluster");
    let (id, _, _) = given_up(&cluster, &failpoints).await;
    let db = cluster.db(Silo::Region(0)).await.expect("its database");
    // As the feed is taken in: the cursor first.
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
        // SQLite lets nobody read for a change who would have to wait.
        until("it waits", async || {
            let waiting = Statement::new(
                "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                 AND (query LIKE '%causeway_feed_cursor%' OR query LIKE 'UPDATE sentry_organization%')",
            );
            let row = db.fetch_optional(waiting).await.expect("it answers").expect("a row");
            // Who takes in the feed, and who takes back the rename.
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

async fn confirm(control: &ControlApi, wish: &UpdateOrganizationSlugRequest) {
    let request = ConfirmOrganizationSlugReservationsRequest {
        region: "us".to_owned(),
        operation_id: wish.operation_id.clone(),
    };
    control.reservations().confirm_organization_slug_reservations(request).await.expect("confirmed");
}

/// Asks for a rename that the region cannot hear of, and confirms it in the place of the region.
async fn rename_without_region(cluster: &Cluster, number: u128, id: i64, slug: &str) {
    let control = cluster.control();
    let wish = UpdateOrganizationSlugRequest { wait: Some(time::seconds(0)), ..wish(number, id, slug) };
    assert_eq!(rename(&control, &wish).await.expect("begun").state(), RenameState::Pending);
    confirm(&control, &wish).await;
}

/// Somebody else confirms renames, so that they are over when the region hears of them: as changes, or as a snapshot.
pub(crate) async fn a_rename_that_somebody_else_confirms_reaches_the_region(store: Store) {
    for snapshot in [false, true] {
        let mut cluster = cluster(store).await;
        let [(one, first), (other, second)] = imported(&cluster, 0).await;
        agrees(&cluster, 0).await;
        cluster.stop_region(0).await;
        // One goes through two slugs, and its first one goes to the other, whose own it gets in the end.
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

/// An organization that was renamed by hand is not what control last said, and people decide about it.
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
    // What the region cannot do is no reason to do nothing else.
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

/// A rename that the region did was given up, and the next one is confirmed by somebody else before the region hears of
/// either: it gets the last one, and neither the first nor what was before.
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

/// The places of a rename and how often each is passed before it is done.
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

/// That a service dies at one of these places is tried with all other steps, in the fault tests.
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
            ..wish(number as u128 + 1, id, &slug)
        };
        let control = cluster.control();
        let done = rename(&control, &asked).await;
        let done = done.unwrap_or_else(|status| panic!("{place}: {status:?}"));
        assert_eq!((done.state(), done.slug.as_str()), (RenameState::Confirmed, slug.as_str()), "{place}");
        // What comes behind the confirmation may be what is killed.
        until(&format!("{place} is reached"), async || !failpoints.is_armed()).await;
        agrees(&cluster, 0).await;
        assert_eq!(slug_of(&cluster, 0, id).await, slug, "{place}");
        assert_eq!(leads(&cluster.control(), &slug).await, led(id, &slug), "{place}");
    }
    cluster.stop().await;
}
