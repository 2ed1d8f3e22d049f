//! Imports that failed and are resumed, and which process runs an import.

use causeway_harness::{
    account::Audit,
    cluster::{Cluster, ImportOptions, Silo, Store},
    export::Export,
};
use causeway_proto::{
    region::v1::{Import, ImportState, ResumeImportRequest},
    relocation::v1::ErrorReason,
};
use causeway_silo::{db::Statement, env::Environment};
use chrono::TimeDelta;
use tonic::Status;
use uuid::Uuid;

use crate::support::{accounted, cluster, eventually, exhaustive, import, refused, rows_now};

/// Changes a region's database directly, without its service.
pub(crate) async fn change(cluster: &Cluster, statements: Vec<Statement>) {
    cluster.change(Silo::Region(0), &statements).await.expect("it is changed");
}

/// Makes the database refuse projects.
pub(crate) async fn refuse_projects(cluster: &Cluster) {
    cluster.refuse_rows(Silo::Region(0), "sentry_project", true).await.expect("it is changed");
}

pub(crate) async fn take_projects_again(cluster: &Cluster) {
    cluster.refuse_rows(Silo::Region(0), "sentry_project", false).await.expect("it is changed");
}

async fn resume(cluster: &Cluster, id: &str) -> Result<Import, Status> {
    let request = ResumeImportRequest { import_id: id.to_owned() };
    let answer = cluster.region(0).imports().resume_import(request).await?.into_inner();
    Ok(answer.import.unwrap_or_default())
}

pub(crate) async fn an_import_that_failed_goes_on_when_its_cause_is_gone(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let (bytes, options) = (exhaustive().to_bytes(), ImportOptions::default());
    let before = rows_now(&cluster, 0).await;
    refuse_projects(&cluster).await;
    let failed = cluster.region(0).import(&bytes, &options).await.expect("it ends");
    let id = failed.import_id.clone();
    let failure = failed.failure.clone().unwrap_or_default();
    assert_eq!(failed.state(), ImportState::Failed);
    assert_eq!((failure.reason(), failure.state()), (ErrorReason::Internal, ImportState::Writing));
    assert!(failed.lease.is_none(), "{:?}", failed.lease);

    // The cause is still there, so the import fails again in the same place.
    let resumed = resume(&cluster, &id).await.expect("it is resumed");
    assert_eq!(resumed.resume_count, 1);
    let again = cluster.region(0).wait(&id).await.expect("it ends");
    assert_eq!((again.state(), again.failure.as_ref()), (ImportState::Failed, Some(&failure)));

    take_projects_again(&cluster).await;
    resume(&cluster, &id).await.expect("it is resumed");
    let import = cluster.region(0).wait(&id).await.expect("it ends");
    assert!(import.failure.is_none());
    accounted(Audit::new(&cluster, 0, &before, &bytes, &options, &import).run().await);

    // A caller that did not receive the answer repeats the request, and nothing changes.
    let after = rows_now(&cluster, 0).await;
    let heard = resume(&cluster, &id).await.expect("it was resumed before");
    assert_eq!((heard.state(), heard.resume_count), (ImportState::Succeeded, 2));
    assert_eq!(rows_now(&cluster, 0).await, after);
    cluster.stop().await;
}

/// Four chunks of teams. Stores that can do so write them in parallel with projects.
const TEAMS: i64 = 20_000;

/// The number that this statement returns in a silo's database.
async fn number(cluster: &Cluster, silo: Silo, sql: &'static str) -> i64 {
    let db = cluster.db(silo).await.expect("a database");
    let row = db.fetch_optional(Statement::new(sql)).await.expect("it answers").expect("a row");
    db.close().await;
    row.int("n").expect("a number")
}

/// Makes the database refuse projects, but only after the first chunk of teams has been written, so that the import is
/// writing teams at that moment.
async fn refuse_projects_among_teams(cluster: &Cluster, store: Store) {
    if store == Store::Sqlite {
        let trigger = "CREATE TRIGGER no_projects BEFORE INSERT ON sentry_project \
                       BEGIN SELECT RAISE(ABORT, 'no projects'); END";
        return change(cluster, vec![Statement::new(trigger)]).await;
    }
    let function = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN \
                    WHILE NOT EXISTS (SELECT FROM sentry_team) LOOP PERFORM pg_sleep(0.001); END LOOP; \
                    RAISE EXCEPTION ''no projects''; END'";
    let trigger =
        "CREATE TRIGGER no_projects BEFORE INSERT ON sentry_project FOR EACH ROW EXECUTE FUNCTION refuse()";
    change(cluster, vec![Statement::new(function), Statement::new(trigger)]).await;
}

pub(crate) async fn a_model_that_fails_ends_the_others_after_their_chunk(store: Store) {
    const CHUNKS: &str = "SELECT count(*) AS n FROM causeway_import_chunk";
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "one").user(2, "ann").member(3, 1, 2).project(4, 1, "p").project_key(5, 4, "key");
    (1..=TEAMS).for_each(|pk| {
        export.team(pk, 1, &format!("t{pk}"));
    });
    let (bytes, options) = (export.to_bytes(), ImportOptions::default());
    let before = rows_now(&cluster, 0).await;
    refuse_projects_among_teams(&cluster, store).await;
    let failed = cluster.region(0).import(&bytes, &options).await.expect("it ends");
    let (failure, chunks) =
        (failed.failure.unwrap_or_default(), number(&cluster, Silo::Region(0), CHUNKS).await);
    assert_eq!((failure.reason(), failure.state()), (ErrorReason::Internal, ImportState::Writing));
    assert!(failure.message.contains("no projects"), "{}", failure.message);

    // No transaction stays open, and nothing is written any more.
    if store == Store::Postgres {
        for silo in [Silo::Control, Silo::Region(0)] {
            let open = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() \
                        AND pid <> pg_backend_pid() AND xact_start IS NOT NULL";
            eventually("no transaction is open", async || number(&cluster, silo, open).await == 0).await;
        }
        let teams = "SELECT max(max_ordinal) AS n FROM causeway_import_chunk WHERE model = 'sentry.team'";
        let teams = number(&cluster, Silo::Region(0), teams).await;
        assert!(0 < teams && teams < TEAMS, "teams were not being written, or went on: {teams}");
        let rows = "SELECT count(*) AS n FROM sentry_team";
        assert_eq!(number(&cluster, Silo::Region(0), rows).await, teams, "a chunk was written in part");
    }
    assert_eq!(number(&cluster, Silo::Region(0), CHUNKS).await, chunks, "something was written later");

    let take = match store {
        Store::Sqlite => "DROP TRIGGER no_projects",
        Store::Postgres => "DROP FUNCTION refuse CASCADE",
    };
    change(&cluster, vec![Statement::new(take)]).await;
    resume(&cluster, &failed.import_id).await.expect("it is resumed");
    let import = cluster.region(0).wait(&failed.import_id).await.expect("it ends");
    accounted(Audit::new(&cluster, 0, &before, &bytes, &options, &import).run().await);
    cluster.stop().await;
}

pub(crate) async fn what_cannot_be_resumed_is_refused(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let region = cluster.region(0);
    assert_eq!(refused(resume(&cluster, &Uuid::nil().to_string()).await), ErrorReason::ImportNotFound);
    assert_eq!(refused(resume(&cluster, "7").await), ErrorReason::InvalidArgument);
    let (succeeded, _) = import(&cluster, &exhaustive(), &ImportOptions::default()).await;
    assert_eq!(refused(resume(&cluster, &succeeded.import_id).await), ErrorReason::ImportNotFailed);
    // A file that breaks a rule would break it again, so the region does not keep it.
    let failed = region.import(br#"[{"model": 7}]"#, &ImportOptions::default()).await.expect("it ends");
    assert_eq!(failed.failure.clone().unwrap_or_default().reason(), ErrorReason::ExportInvalid);
    assert_eq!(refused(resume(&cluster, &failed.import_id).await), ErrorReason::ImportFileGone);
    assert_eq!(region.wait(&failed.import_id).await.expect("it has ended"), failed);
    cluster.stop().await;
}

pub(crate) async fn a_process_that_lost_an_import_leaves_it_alone_until_the_lease_is_over(store: Store) {
    let mut cluster = cluster(store, &["us"]).await;
    let (bytes, options) = (exhaustive().to_bytes(), ImportOptions::default());
    let before = rows_now(&cluster, 0).await;
    cluster.stop_control().await;
    let region = cluster.region(0);
    let begun = region.begin(&bytes, &options).await.expect("it begins").import.unwrap_or_default();
    let waits =
        region.wait_until(&begun.import_id, |import| import.waiting.is_some()).await.expect("it waits");
    let lease = waits.lease.clone().expect("somebody runs it");
    assert!(lease.place.contains(&format!("process {}", std::process::id())), "{lease:?}");
    assert!(lease.acquire_time.is_some() && lease.renew_time.is_some() && lease.expire_time.is_some());

    // Another process, with another spool directory, has the lease for a while.
    let (other, until) = (Uuid::from_u128(7), Environment::system().now() + TimeDelta::seconds(3));
    let take = Statement::new(
        "UPDATE causeway_import SET lease_holder = $1, lease_place = 'elsewhere', lease_spool = $1, lease_renewed_at = $2, lease_until = $2",
    );
    change(&cluster, vec![take.with(other).with(until)]).await;
    let seen = region
        .wait_until(&begun.import_id, |import| {
            import.lease.as_ref().is_some_and(|lease| lease.holder_id == other.to_string())
        })
        .await
        .expect("the holder is seen");
    assert_eq!(seen.lease.unwrap_or_default().place, "elsewhere");
    cluster.start_control().await.expect("it starts");
    // A process that starts meanwhile leaves the import alone too.
    cluster.stop_region(0).await;
    cluster.start_region(0).await.expect("it starts");

    let import = cluster.region(0).wait(&begun.import_id).await.expect("it ends");
    accounted(Audit::new(&cluster, 0, &before, &bytes, &options, &import).run().await);
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    let first = Statement::new("SELECT MIN(created_at) AS first FROM causeway_import_chunk");
    let first = db.fetch_optional(first).await.expect("it answers").expect("a row");
    assert!(first.time("first").expect("a time") >= until, "it wrote while another process had the import");
    cluster.stop().await;
}
