//! A process loses an import to another one in the middle of a step: whatever it still tries to commit is refused.

use std::time::Duration;

use causeway_harness::{
    account::Audit,
    cluster::{Act, Cluster, Failpoints, ImportOptions, Silo, Store},
    export::Export,
};
use causeway_proto::region::v1::{ImportState, RevertImportRequest};
use causeway_silo::{db::Statement, env::Environment};
use chrono::TimeDelta;
use uuid::Uuid;

use crate::{
    support::{accounted, rows_now},
    survive::change,
};

/// Failpoints of an import right before one of its transactions, each with the name of that transaction. Each
/// transaction is of another kind.
const OF_AN_IMPORT: [(&str, &str); 8] = [
    ("region.plan.made", "the plan"),
    ("region.control_chunk.answered", "the note of a chunk that control wrote"),
    ("region.chunk.ready", "a chunk"),
    ("region.models.written", "the end of writing"),
    ("region.slugs.answered", "the slugs"),
    ("region.slugs.confirmed", "that slugs are final"),
    ("region.finish.counted", "that all is visible"),
    ("region.report.answered", "that control's directory knows"),
];

/// The same for a revert.
const OF_A_REVERT: [(&str, &str); 3] = [
    ("region.revert_control_chunk.answered", "the mark of a chunk that control has taken back"),
    ("region.revert_chunk.ready", "a chunk that is taken back"),
    ("region.revert.released", "the end of the revert"),
];

/// The longest that an import may take to reach a failpoint. None takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that the transactions of imports change, as one text.
const CHANGED: &str = "SELECT i.state || ' ' || i.slug_attempt || ' ' || i.slugs_written || ' ' || i.reported || ' ' || i.records \
    || ' chunks ' || (SELECT count(*) FROM causeway_import_chunk) \
    || ' reverted ' || (SELECT count(*) FROM causeway_import_chunk WHERE reverted_at IS NOT NULL) \
    || ' findings ' || (SELECT count(*) FROM causeway_import_finding) \
    || ' counted ' || (SELECT COALESCE(SUM(seen + inserted + deleted + kept), 0) FROM causeway_import_model) \
    || ' organizations ' || (SELECT count(*) FROM sentry_organization) \
    || ' hidden ' || (SELECT count(*) FROM sentry_organization WHERE status = 3) \
    || ' named ' || (SELECT count(*) FROM sentry_organization WHERE slug NOT LIKE '~%') \
    || ' projects ' || (SELECT count(*) FROM sentry_project) || ' teams ' || (SELECT count(*) FROM sentry_team) \
    AS held FROM causeway_import i WHERE i.import_id = $1";

/// An export with something for every step of an import: both silos, deferred models, slugs, a finding.
fn export() -> Vec<u8> {
    let mut export = Export::new();
    export.organization(1, "one").organization(2, "one").user(1, "ann").email(1, "ann@example.com");
    export.user_email(1, 1, "ann@example.com").member(1, 1, 1).member(2, 2, 1).team(1, 2, "t");
    export.project(1, 1, "p").project_key(1, 1, "key").auth_token(1, 1, "token");
    export.to_bytes()
}

async fn stored_state(cluster: &Cluster, id: Uuid) -> String {
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    let row = db.fetch_optional(Statement::new(CHANGED).with(id)).await.expect("it answers").expect("a row");
    db.close().await;
    row.text("held").expect("a text")
}

/// Gives the lease of the import to another process, for as long as the test takes. The import keeps its state, so the
/// old process is refused because of the lease alone.
async fn give_to_another(cluster: &Cluster, id: Uuid) {
    let until = Environment::system().now() + TimeDelta::days(1);
    let take = Statement::new(
        "UPDATE causeway_import SET lease_holder = $1, lease_place = 'elsewhere', lease_spool = $1, lease_renewed_at = $2, \
         lease_until = $2 WHERE import_id = $3",
    );
    change(cluster, vec![take.with(Uuid::from_u128(7)).with(until).with(id)]).await;
}

async fn take_back(cluster: &Cluster, id: Uuid) {
    let free = "UPDATE causeway_import SET lease_holder = NULL, lease_place = NULL, lease_spool = NULL, lease_acquired_at = NULL, \
                lease_renewed_at = NULL, lease_until = NULL WHERE import_id = $1";
    change(cluster, vec![Statement::new(free).with(id)]).await;
}

async fn standing(store: Store, failpoints: &Failpoints) -> Cluster {
    let built = Cluster::builder(store).region("us").failpoints(failpoints).start().await;
    built.expect("a cluster; on PostgreSQL this test needs one installed")
}

/// Takes the import from the process that waits at this failpoint, lets the process go on, and stops it. Describes what
/// the process has committed; `None` if nothing.
async fn loses_it(
    cluster: &mut Cluster,
    failpoints: &Failpoints,
    id: Uuid,
    place: &str,
    what: &str,
) -> Option<String> {
    let there = tokio::time::timeout(PATIENCE, failpoints.held()).await;
    assert!(there.is_ok(), "{place} was never reached");
    give_to_another(cluster, id).await;
    let before = stored_state(cluster, id).await;
    failpoints.release();
    // It ends after its current step.
    cluster.stop_region(0).await;
    let after = stored_state(cluster, id).await;
    take_back(cluster, id).await;
    cluster.start_region(0).await.expect("it starts");
    (after != before).then(|| {
        format!("after {place}, {what} was committed by a process without the lease: {before} became {after}")
    })
}

pub(crate) async fn what_a_process_without_the_lease_wants_to_commit_is_refused(store: Store) {
    let failpoints = Failpoints::default();
    let mut cluster = standing(store, &failpoints).await;
    let (bytes, options) = (export(), ImportOptions::default());
    let mut committed = Vec::new();
    for (place, what) in OF_AN_IMPORT {
        let before = rows_now(&cluster, 0).await;
        failpoints.arm(place, Act::Hold, 0);
        let begun = cluster.region(0).begin(&bytes, &options).await.expect("it begins");
        let id = Uuid::try_parse(&begun.import.unwrap_or_default().import_id).expect("an id");
        committed.extend(loses_it(&mut cluster, &failpoints, id, place, what).await);
        let import = cluster.region(0).wait(&id.to_string()).await.expect("it ends");
        accounted(Audit::new(&cluster, 0, &before, &bytes, &options, &import).run().await);
    }
    assert_eq!(committed, [] as [String; 0]);
    cluster.stop().await;
}

pub(crate) async fn what_a_process_without_the_lease_wants_to_take_back_stays(store: Store) {
    let failpoints = Failpoints::default();
    let mut cluster = standing(store, &failpoints).await;
    let (bytes, options) = (export(), ImportOptions::default());
    let before = rows_now(&cluster, 0).await;
    let mut committed = Vec::new();
    for (place, what) in OF_A_REVERT {
        let import = cluster.region(0).import(&bytes, &options).await.expect("it ends");
        assert_eq!(import.state(), ImportState::Succeeded);
        failpoints.arm(place, Act::Hold, 0);
        let request = RevertImportRequest { import_id: import.import_id.clone() };
        cluster.region(0).imports().revert_import(request).await.expect("it is taken back");
        let id = Uuid::try_parse(&import.import_id).expect("an id");
        committed.extend(loses_it(&mut cluster, &failpoints, id, place, what).await);
        let reverted = cluster.region(0).wait(&import.import_id).await.expect("it ends");
        assert_eq!(reverted.state(), ImportState::Reverted);
        assert_eq!(rows_now(&cluster, 0).await, before, "{place}: something is left");
    }
    assert_eq!(committed, [] as [String; 0]);
    cluster.stop().await;
}

/// Two real processes on one database: the process that lost the import comes back after the other one has ended it.
pub(crate) async fn a_process_that_comes_back_late_changes_nothing(store: Store) {
    if store == Store::Sqlite {
        // Only one process can use an SQLite file.
        return;
    }
    let failpoints = Failpoints::default();
    let mut cluster = standing(store, &failpoints).await;
    let (bytes, options) = (export(), ImportOptions::default());
    // Only failpoints after which the import needs no file: the other process does not have the file, and would leave
    // the import alone.
    for place in ["region.report.answered", "region.revert.adopted", "region.revert_control_chunk.answered"] {
        let before = rows_now(&cluster, 0).await;
        failpoints.arm(place, Act::Hold, 0);
        let begun = cluster.region(0).begin(&bytes, &options).await.expect("it begins");
        let id = begun.import.unwrap_or_default().import_id;
        let reverts = place.starts_with("region.revert");
        let revert = RevertImportRequest { import_id: id.clone() };
        if reverts {
            cluster.region(0).wait(&id).await.expect("it ends");
            cluster.region(0).imports().revert_import(revert.clone()).await.expect("it is taken back");
        }
        failpoints.held().await;
        let over =
            "UPDATE causeway_import SET lease_until = lease_acquired_at WHERE lease_holder IS NOT NULL";
        change(&cluster, vec![Statement::new(over)]).await;
        let other_process = cluster.start_second_process(0).await.expect("another process");
        if reverts {
            let ended = other_process.region().wait(&id).await.expect("the other process ends it");
            assert_eq!(ended.state(), ImportState::Reverted, "{place}");
        } else {
            let reported = "SELECT count(*) AS n FROM causeway_import WHERE NOT reported";
            let db = cluster.db(Silo::Region(0)).await.expect("a database");
            crate::support::eventually("the other process reports it", async || {
                let row = db.fetch_optional(Statement::new(reported)).await.expect("it answers");
                row.expect("a row").int("n").expect("a number") == 0
            })
            .await;
            db.close().await;
        }
        let id = Uuid::try_parse(&id).expect("an id");
        let after = (stored_state(&cluster, id).await, rows_now(&cluster, 0).await);
        failpoints.release();
        cluster.stop_region(0).await;
        assert_eq!((stored_state(&cluster, id).await, rows_now(&cluster, 0).await), after, "{place}");
        if reverts {
            assert_eq!(after.1, before, "{place}");
        }
        other_process.stop().await;
        cluster.start_region(0).await.expect("it starts");
    }
    cluster.stop().await;
}
