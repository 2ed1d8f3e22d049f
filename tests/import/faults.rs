//! Each failpoint of a revert and of a resume: a service fails there once, and is killed there once. The end is always
//! the same.

use std::time::Duration;

use causeway_harness::{
    account::Audit,
    cluster::{Act, Cluster, Failpoints, ImportOptions, Silo, Store},
    export::{self, Export},
};
use causeway_proto::region::v1::{Import, ImportState, ResumeImportRequest, RevertImportRequest};
use causeway_silo::db::Statement;

use crate::{
    support::{accounted, rows_now},
    survive::{refuse_projects, take_projects_again},
};

/// The most attempts of a request. No request needs more than a few.
const PATIENCE: usize = 200;

/// The pause between two checks whether a service has died.
const SOON: Duration = Duration::from_millis(300);

/// An export with something for every step of an import: both silos, deferred models, slugs, leased ids, added rows.
fn export() -> Vec<u8> {
    let mut export = Export::new();
    export.organization(1, "one").organization(2, "one").user(1, "ann").email(1, "ann@example.com");
    export.user_email(1, 1, "ann@example.com").member(1, 1, 1).member(2, 2, 1).team(1, 2, "t");
    export.project(1, 1, "p").project_key(1, 1, "key").auth_token(1, 1, "token");
    // Rows are added for these, here and at control.
    export.project(2, 1, "without").user(2, "bob").member(3, 1, 2);
    export.to_bytes()
}

async fn cluster(store: Store, failpoints: &Failpoints) -> Cluster {
    let built = Cluster::builder(store).region("us").failpoints(failpoints).start().await;
    built.expect("a cluster; on PostgreSQL this test needs one installed")
}

/// Repeats a request until there is an answer, and restarts services that have died.
pub(crate) async fn retry_until_ok<T, E: std::fmt::Debug>(
    cluster: &Cluster,
    ask: impl AsyncFn() -> Result<T, E>,
) -> T {
    let mut last = None;
    for _ in 0..PATIENCE {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => last = Some(error),
        }
        // If a service is killed while it starts, the next round starts it.
        let _killed = cluster.revive().await;
    }
    panic!("it never succeeded, at last because of {last:?}; {:?}", cluster.trace());
}

/// Waits until an import has ended, and restarts services that have died.
async fn to_its_end(cluster: &Cluster, id: &str) -> Import {
    let region = cluster.region(0);
    retry_until_ok(cluster, async || {
        tokio::select! {
            import = region.wait(id) => import.map_err(|status| status.to_string()),
            () = cluster.killed() => Err("a service was killed".to_owned()),
        }
    })
    .await
}

/// The failpoints whose names start with one of these.
fn places(of: &[&str]) -> Vec<&'static str> {
    let all = causeway_region::FAILPOINTS.iter().chain(causeway_control::FAILPOINTS).copied();
    all.filter(|place| of.iter().any(|front| place.starts_with(front))).collect()
}

pub(crate) async fn a_revert_that_fails_or_dies_anywhere_once_leaves_nothing(store: Store) {
    let failpoints = Failpoints::default();
    let cluster = cluster(store, &failpoints).await;
    let (bytes, options) = (export(), ImportOptions::default());
    let before = rows_now(&cluster, 0).await;
    for place in places(&["region.revert", "control.revert"]) {
        for act in [Act::Fail, Act::Kill] {
            let region = cluster.region(0);
            let import = region.import(&bytes, &options).await.expect("it ends");
            assert_eq!(import.state(), ImportState::Succeeded);
            failpoints.arm(place, act, 0);
            let request = RevertImportRequest { import_id: import.import_id.clone() };
            retry_until_ok(&cluster, async || region.imports().revert_import(request.clone()).await).await;
            let import = to_its_end(&cluster, &import.import_id).await;
            retry_until_ok(&cluster, async || cluster.quiet(SOON).await).await;
            assert!(!failpoints.is_armed(), "{place} was never reached");
            assert_eq!(import.state(), ImportState::Reverted);
            assert_eq!(rows_now(&cluster, 0).await, before, "{place}: something is left");
            for counts in &import.models {
                let rows = counts.inserted + counts.added;
                assert_eq!((counts.deleted, counts.kept), (rows, 0), "{place}: {counts:?}");
            }
            let added = import.models.iter().filter(|counts| counts.added > 0);
            assert_eq!(added.count(), 2, "rows are added here and at control");
        }
    }
    cluster.stop().await;
}

pub(crate) async fn a_resumption_that_fails_or_dies_once_is_one(store: Store) {
    let failpoints = Failpoints::default();
    let cluster = cluster(store, &failpoints).await;
    let (bytes, options) = (export(), ImportOptions::default());
    for place in places(&["region.resume"]) {
        for act in [Act::Fail, Act::Kill] {
            let before = rows_now(&cluster, 0).await;
            refuse_projects(&cluster).await;
            let region = cluster.region(0);
            let failed = region.import(&bytes, &options).await.expect("it ends");
            assert_eq!(failed.state(), ImportState::Failed);
            take_projects_again(&cluster).await;
            failpoints.arm(place, act, 0);
            let request = ResumeImportRequest { import_id: failed.import_id.clone() };
            retry_until_ok(&cluster, async || region.imports().resume_import(request.clone()).await).await;
            assert!(!failpoints.is_armed(), "{place} was never reached");
            let import = to_its_end(&cluster, &failed.import_id).await;
            assert_eq!(import.resume_count, 1);
            accounted(Audit::new(&cluster, 0, &before, &bytes, &options, &import).run().await);
        }
    }
    cluster.stop().await;
}

/// The failpoints at which a region is killed after it has done one thing that it need not do again.
const STEPS: [&str; 3] = ["region.plan.logged", "region.chunk.committed", "region.control_chunk.noted"];

/// The number of chunks of an import.
async fn chunks(cluster: &Cluster, id: &str) -> u64 {
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    let id: uuid::Uuid = id.parse().expect("an id");
    let count =
        Statement::new("SELECT count(*) AS chunks FROM causeway_import_chunk WHERE import_id = $1").with(id);
    let row = db.fetch_optional(count).await.expect("it answers").expect("a row");
    db.close().await;
    u64::try_from(row.int("chunks").expect("a number")).expect("not negative")
}

/// However often the region is killed, the import progresses every time: no step is done twice.
pub(crate) async fn an_import_gets_further_in_every_life(store: Store) {
    let failpoints = Failpoints::default();
    let cluster = cluster(store, &failpoints).await;
    let (bytes, options) = (export::large(120).to_bytes(), ImportOptions::default());
    let undisturbed = cluster.region(0).import(&bytes, &options).await.expect("it ends");
    assert_eq!(undisturbed.state(), ImportState::Succeeded);
    cluster.quiet(SOON * 100).await.expect("it has been reported");
    let steps = STEPS.map(|place| failpoints.reached(place));
    assert!(steps.iter().all(|steps| *steps >= 3), "the export is too small: {steps:?}");

    let before = rows_now(&cluster, 0).await;
    let arm = || {
        failpoints.disarm();
        STEPS.iter().for_each(|place| failpoints.arm(place, Act::Kill, 0));
    };
    arm();
    let (region, id) = (cluster.region(0), "0f2c1b7e-6b0a-4a39-8a83-3f5b8a1f9d10");
    let options = options.import_id(id);
    retry_until_ok(&cluster, async || region.begin(&bytes, &options).await).await;
    let mut ended = None;
    for _ in 0..PATIENCE {
        ended = tokio::select! {
            import = region.wait(id) => import.ok(),
            () = cluster.killed() => None,
        };
        if ended.is_some() {
            break;
        }
        arm();
        // The region may reach the failpoint before it serves. Then the next round starts it.
        let _killed = cluster.revive().await;
    }
    failpoints.disarm();
    let import = ended.unwrap_or_else(|| panic!("it never ended: {:?}", cluster.trace()));
    let now = STEPS.map(|place| failpoints.reached(place));
    let made: Vec<u64> = now.iter().zip(steps).map(|(now, before)| now - before).collect();
    assert_eq!(made[0], steps[0], "steps of planning");
    // Chunks of other models may be committed while the region dies after one, but none is written twice.
    let chunks = chunks(&cluster, id).await;
    assert!(made[1] > 0 && made[2] > 0 && made[1] + made[2] <= chunks, "{made:?} of {chunks}");
    accounted(Audit::new(&cluster, 0, &before, &bytes, &options, &import).run().await);
    cluster.stop().await;
}
