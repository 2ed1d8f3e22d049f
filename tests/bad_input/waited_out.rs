//! Imports wait while control or a database is down before, during or after any step. Each step of an import ends at a
//! failpoint that a test can name, before and after each commit and each call. At each of them the test takes something
//! away, and gives it back when the import has noticed or is past it.

use std::time::Duration;

use causeway_harness::{
    account::Audit,
    cluster::{Act, Cluster, Failpoints, ImportOptions, Service, Silo, Store},
    export::Export,
};
use causeway_proto::{
    failure::reason_of,
    region::v1::{Import, ImportState},
    relocation::v1::ErrorReason,
};
use causeway_silo::db::Statement;
use tonic::Code;

use crate::support::{all_reported, rows_now};

/// The longest wait. Nothing here takes that long.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a database is down: longer than a region's first pauses between two attempts.
const DOWN: Duration = Duration::from_millis(300);

/// The failpoints that an import reaches. Those at which it leases ids come first, because a later import still has
/// ids.
fn places() -> Vec<&'static str> {
    let mut places: Vec<&str> =
        causeway_region::FAILPOINTS.iter().copied().filter(|place| is_of_an_import(place)).collect();
    places.sort_by_key(|place| !place.starts_with("region.ids."));
    places
}

/// Whether an import reaches a failpoint by itself, without a resume or a revert.
fn is_of_an_import(place: &str) -> bool {
    ["receive", "plan", "ids", "chunk", "control_chunk", "models", "slugs", "finish", "report"]
        .iter()
        .any(|step| place.strip_prefix("region.").is_some_and(|rest| rest.starts_with(&format!("{step}."))))
}

/// An export for each failpoint, with records of both silos. The first one has only an organization, so that the second
/// one is the first to need ids for a project.
fn export(number: usize) -> Export {
    let name = format!("at-{number}");
    let mut export = Export::new();
    export.organization(1, &name).user(2, &name).member(3, 1, 2).auth_token(4, 1, &name);
    if number > 0 {
        export.project(5, 1, "p").project_key(6, 5, &name);
    }
    export
}

/// Uploads a file until the region accepts it: a client without an answer sends it again.
async fn begin(cluster: &Cluster, bytes: &[u8], options: &ImportOptions) {
    let sent = async {
        while let Err(status) = cluster.region(0).begin(bytes, options).await {
            // A broken connection can have many codes, and none of our reasons.
            assert!(status.code() == Code::Unavailable || reason_of(&status).is_none(), "{status:?}");
        }
    };
    tokio::time::timeout(PATIENCE, sent).await.expect("the region takes it");
}

/// Imports one export for each failpoint, and takes something away while the import waits there.
async fn at_each_place(store: Store, take: impl AsyncFn(&Cluster, &Failpoints, &str, &ImportOptions)) {
    let failpoints = Failpoints::default();
    let cluster = Cluster::builder(store)
        .region("us")
        .failpoints(&failpoints)
        .configure_regions(|options| options.limits.organizations_a_transaction = 1)
        .start()
        .await
        .expect("a cluster");
    for (number, place) in places().into_iter().enumerate() {
        let id = format!("7a0f4f2e-3c5b-4a5e-9b1d-0d9d2a6c2f{number:02}");
        let (bytes, options) = (export(number).to_bytes(), ImportOptions::default().import_id(&id));
        let before = rows_now(&cluster).await;
        failpoints.arm(place, Act::Hold, 0);
        let (_, ()) = tokio::join!(begin(&cluster, &bytes, &options), async {
            let held = tokio::time::timeout(PATIENCE, failpoints.held()).await;
            assert!(held.is_ok(), "{place} is not reached");
            take(&cluster, &failpoints, place, &options).await;
        });
        let import = cluster.region(0).wait(&id).await.expect("it ends");
        assert_eq!(import.state(), ImportState::Succeeded, "{place}: {:?}", import.failure);
        let account = Audit::new(&cluster, 0, &before, &bytes, &options, &import).run().await;
        account.unwrap_or_else(|error| panic!("{place}: {error:#}"));
        all_reported(&cluster).await;
    }
    cluster.stop().await;
}

/// Waits until an import waits for something, or has succeeded.
async fn until_it_waits(cluster: &Cluster, id: &str) -> Import {
    let seen = |import: &Import| import.waiting.is_some() || import.state() == ImportState::Succeeded;
    cluster.region(0).wait_until(id, seen).await.expect("it goes on")
}

pub(crate) async fn control_that_goes_away_at_any_step_is_waited_for(store: Store) {
    at_each_place(store, async |cluster, failpoints, place, options| {
        cluster.stop_service(Service::Control(0)).await;
        failpoints.release();
        // A file that has not been accepted yet is not an import.
        if !place.starts_with("region.receive.") {
            let id = options.import_id.as_deref().unwrap_or_default();
            let import = until_it_waits(cluster, id).await;
            if import.state() != ImportState::Succeeded {
                let waiting = import.waiting.unwrap_or_default();
                // A call that arrives while control stops gets `ShuttingDown`.
                let reasons = [ErrorReason::ControlUnavailable, ErrorReason::ShuttingDown];
                assert!(reasons.contains(&waiting.reason()), "{place}: {waiting:?}");
            }
        }
        cluster.start_service(Service::Control(0)).await.expect("it starts");
    })
    .await;
}

/// On PostgreSQL both databases are on one server. SQLite has no server: a database is down when its service is.
pub(crate) async fn databases_that_go_away_at_any_step_are_waited_for(store: Store) {
    at_each_place(store, async |cluster, failpoints, _, _| match store {
        Store::Postgres => {
            let db = cluster.db(Silo::Region(0)).await.expect("a database");
            let mut open = db.begin().await.expect("a connection");
            let (crashed, ()) = tokio::join!(cluster.crash_database(DOWN), async {
                while open.fetch_optional(Statement::new("SELECT 1 AS n")).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                failpoints.release();
            });
            crashed.expect("it starts again");
            drop(open);
            db.close().await;
        }
        Store::Sqlite => {
            cluster.kill(Service::Region(0)).await;
            cluster.kill(Service::Control(0)).await;
            cluster.revive().await.expect("they start");
        }
    })
    .await;
}
