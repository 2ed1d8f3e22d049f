//! What operators have a region do through control: the region takes it with its reports, and does it once.

use std::time::Duration;

use causeway_harness::cluster::{Act, Cluster, ClusterBuilder, Failpoints, ImportOptions, Silo, Store};
use causeway_proto::{
    region::v1::{
        GetImportRequest, Import, ImportState, PauseImportsRequest, ResumeImportRequest, RevertImportRequest,
    },
    relocation::v1::{AuditEntry, ListAuditEntriesRequest},
};
use causeway_silo::{
    db::{Row, Statement},
    env::Environment,
};
use uuid::Uuid;

use crate::{
    support::{eventually, exhaustive, rows_now},
    survive::{refuse_projects, take_projects_again},
};

const ANN: &str = "spiffe://test.example/operator/ann";

/// A region that reports all the time.
fn reporting(store: Store, failpoints: &Failpoints) -> ClusterBuilder {
    let builder = Cluster::builder(store).region("us").failpoints(failpoints);
    builder.configure_regions(|options| {
        options.report_every = Duration::from_millis(20);
        options.throttle.look_interval = Duration::from_millis(20);
    })
}

async fn started(builder: ClusterBuilder) -> Cluster {
    builder.start().await.expect("a cluster; on PostgreSQL this test needs one installed")
}

/// Has an instruction of this number wait at control, as the console does.
async fn ask(cluster: &Cluster, number: u128, import: &str, kind: &str) {
    let statement = Statement::new(
        "INSERT INTO causeway_instruction (instruction_id, region, import_id, kind, asked_by, asked_at) \
         VALUES ($1, 'us', $2, $3, $4, $5)",
    )
    .with(Uuid::from_u128(number))
    .with(Uuid::try_parse(import).expect("an id"))
    .with(kind)
    .with(ANN)
    .with(Environment::system().now());
    cluster.change(Silo::Control, &[statement]).await.expect("it waits");
}

async fn row(cluster: &Cluster, silo: Silo, statement: Statement) -> Row {
    let db = cluster.db(silo).await.expect("a database");
    let row = db.fetch_optional(statement).await.expect("it answers").expect("a row");
    db.close().await;
    row
}

/// The answer that control has: `None` if there is none, an empty text if the instruction was carried out, or else why
/// it was refused, as reason and message.
async fn answer(cluster: &Cluster, number: u128) -> Option<(String, String)> {
    let statement = Statement::new(
        "SELECT answered_at, refused_reason, refused_message FROM causeway_instruction WHERE instruction_id = ",
    )
    .arg(Uuid::from_u128(number));
    let row = row(cluster, Silo::Control, statement).await;
    row.opt_time("answered_at").expect("a time")?;
    let text = |column| row.opt_text(column).expect("a text").unwrap_or_default();
    Some((text("refused_reason"), text("refused_message")))
}

async fn answered(cluster: &Cluster, number: u128) -> (String, String) {
    eventually("an answer", async || answer(cluster, number).await.is_some()).await;
    answer(cluster, number).await.expect("it has an answer")
}

async fn done(cluster: &Cluster, number: u128) {
    assert_eq!(answered(cluster, number).await, (String::new(), String::new()), "{number}");
}

async fn get(cluster: &Cluster, id: &str) -> Import {
    let request = GetImportRequest { import_id: id.to_owned() };
    let answer = cluster.region(0).imports().get_import(request).await.expect("it is there");
    answer.into_inner().import.expect("an import")
}

async fn pause(cluster: &Cluster, id: &str) {
    let request = PauseImportsRequest { import_id: id.to_owned(), all: false };
    let paused = cluster.region(0).imports().pause_imports(request).await.expect("paused").into_inner();
    assert_eq!(paused.paused_import_ids, [id]);
}

/// What the audit log of the region has about an import that came through control.
async fn entries(cluster: &Cluster, id: &str) -> Vec<AuditEntry> {
    let filter = ListAuditEntriesRequest { object: format!("import/{id}"), ..Default::default() };
    let all =
        cluster.region(0).audit().list_audit_entries(filter).await.expect("a list").into_inner().entries;
    all.into_iter().filter(|entry| entry.call.starts_with("control/")).collect()
}

/// An import that has failed, and would not fail again.
async fn failed(cluster: &Cluster) -> String {
    refuse_projects(cluster).await;
    let options = ImportOptions::default();
    let failed = cluster.region(0).import(&exhaustive().to_bytes(), &options).await.expect("it ends");
    assert_eq!(failed.state(), ImportState::Failed);
    take_projects_again(cluster).await;
    failed.import_id
}

pub(crate) async fn an_instruction_is_carried_out_once_however_often_it_arrives(store: Store) {
    let failpoints = Failpoints::default();
    let cluster = started(reporting(store, &failpoints)).await;
    let before = rows_now(&cluster, 0).await;
    failpoints.arm("region.slugs.answered", Act::Hold, 0);
    let options = ImportOptions::default();
    let begun = cluster.region(0).begin(&exhaustive().to_bytes(), &options).await.expect("it begins");
    let id = begun.import.unwrap_or_default().import_id;
    failpoints.held().await;
    pause(&cluster, &id).await;
    failpoints.release();
    failpoints.arm("region.finish.counted", Act::Hold, 0);
    ask(&cluster, 1, &id, "resume").await;
    failpoints.held().await;
    done(&cluster, 1).await;
    assert!(get(&cluster, &id).await.pause.is_none());
    // Somebody pauses it again. Control has lost the answer, and hands out the same instruction once more.
    pause(&cluster, &id).await;
    failpoints.release();
    let lost = Statement::new("UPDATE causeway_instruction SET answered_at = NULL");
    cluster.change(Silo::Control, &[lost]).await.expect("lost");
    done(&cluster, 1).await;
    assert!(get(&cluster, &id).await.pause.is_some(), "it was resumed twice");
    let entries_before = entries(&cluster, &id).await;
    assert_eq!(entries_before.len(), 1, "{entries_before:?}");
    let AuditEntry { who, call, outcome, request_id, .. } = &entries_before[0];
    assert_eq!((who.as_str(), call.as_str(), outcome.as_str()), (ANN, "control/resume-import", "OK"));
    assert_eq!(*request_id, Uuid::from_u128(1).to_string());
    // Another instruction is another wish.
    ask(&cluster, 2, &id, "resume").await;
    assert_eq!(cluster.region(0).wait(&id).await.expect("it ends").state(), ImportState::Succeeded);
    done(&cluster, 2).await;
    ask(&cluster, 3, &id, "revert").await;
    done(&cluster, 3).await;
    assert_eq!(cluster.region(0).wait(&id).await.expect("it ends").state(), ImportState::Reverted);
    assert_eq!(rows_now(&cluster, 0).await, before);
    let calls: Vec<_> = entries(&cluster, &id).await.into_iter().map(|entry| entry.call).collect();
    assert_eq!(calls, ["control/revert-import", "control/resume-import", "control/resume-import"]);
    cluster.stop().await;
}

pub(crate) async fn an_instruction_is_refused_as_the_command_would_be(store: Store) {
    let cluster = started(reporting(store, &Failpoints::default())).await;
    let region = cluster.region(0);
    let import = region.import(&exhaustive().to_bytes(), &ImportOptions::default()).await.expect("it ends");
    let dry = ImportOptions::default().dry_run();
    let dry = region.import(&exhaustive().to_bytes(), &dry).await.expect("it ends").import_id;
    let invalid = region.import(b"{\"no\": \"export\"}", &ImportOptions::default()).await.expect("it ends");
    let unknown = Uuid::from_u128(77).to_string();
    let resume = async |id: &str| {
        let request = ResumeImportRequest { import_id: id.to_owned() };
        region.imports().resume_import(request).await.expect_err("refused").message().to_owned()
    };
    let revert = async |id: &str| {
        let request = RevertImportRequest { import_id: id.to_owned() };
        region.imports().revert_import(request).await.expect_err("refused").message().to_owned()
    };
    let trials = [
        (&import.import_id, "resume", "IMPORT_NOT_FAILED", resume(&import.import_id).await),
        (&unknown, "resume", "IMPORT_NOT_FOUND", resume(&unknown).await),
        (&unknown, "revert", "IMPORT_NOT_FOUND", revert(&unknown).await),
        (&dry, "revert", "IMPORT_IS_DRY_RUN", revert(&dry).await),
        (&invalid.import_id, "resume", "IMPORT_FILE_GONE", resume(&invalid.import_id).await),
    ];
    for (number, (id, kind, reason, message)) in (1..).zip(trials) {
        ask(&cluster, number, id, kind).await;
        assert_eq!(answered(&cluster, number).await, (reason.to_owned(), message), "{kind} {reason}");
        let recorded = entries(&cluster, id).await;
        assert!(recorded.iter().any(|it| it.reason == reason && it.who == ANN), "{reason}: {recorded:?}");
    }
    assert_eq!(get(&cluster, &import.import_id).await.state(), ImportState::Succeeded);
    cluster.stop().await;
}

pub(crate) async fn a_region_may_refuse_all_instructions(store: Store) {
    let builder = reporting(store, &Failpoints::default()).configure_regions(|options| {
        options.report_every = Duration::from_millis(20);
        options.refuse_instructions = true;
    });
    let cluster = started(builder).await;
    let region = cluster.region(0);
    let import = region.import(&exhaustive().to_bytes(), &ImportOptions::default()).await.expect("it ends");
    let id = import.import_id;
    for (number, kind) in [(1, "revert"), (2, "resume")] {
        ask(&cluster, number, &id, kind).await;
        let (reason, message) = answered(&cluster, number).await;
        assert_eq!(reason, "INSTRUCTIONS_REFUSED");
        assert!(message.contains("--refuse-instructions"), "{message}");
    }
    assert_eq!(get(&cluster, &id).await.state(), ImportState::Succeeded);
    let recorded: Vec<_> = entries(&cluster, &id).await.into_iter().map(|it| (it.call, it.reason)).collect();
    let refused = "INSTRUCTIONS_REFUSED".to_owned();
    assert_eq!(
        recorded,
        [
            ("control/resume-import".to_owned(), refused.clone()),
            ("control/revert-import".to_owned(), refused)
        ]
    );
    // Whoever calls the region is served.
    let request = RevertImportRequest { import_id: id.clone() };
    region.imports().revert_import(request).await.expect("it begins");
    assert_eq!(region.wait(&id).await.expect("it ends").state(), ImportState::Reverted);
    cluster.stop().await;
}

pub(crate) async fn an_instruction_is_carried_out_once_if_its_process_fails_or_dies(store: Store) {
    let failpoints = Failpoints::default();
    let cluster = started(reporting(store, &failpoints)).await;
    let mut number = 0;
    for place in ["region.instruction.prepared", "region.instruction.noted"] {
        for act in [Act::Fail, Act::Kill] {
            let id = failed(&cluster).await;
            for (kind, end) in [("resume", ImportState::Succeeded), ("revert", ImportState::Reverted)] {
                let what = format!("{place} {act:?} {kind}");
                number += 1;
                failpoints.arm(place, act, 0);
                ask(&cluster, number, &id, kind).await;
                if act == Act::Kill {
                    cluster.killed().await;
                    cluster.revive().await.expect("it starts");
                }
                done(&cluster, number).await;
                assert!(!failpoints.is_armed(), "{what}: never reached");
                let import = cluster.region(0).wait(&id).await.expect("it ends");
                assert_eq!((import.state(), import.resume_count), (end, 1), "{what}");
                let call = format!("control/{kind}-import");
                let entries = entries(&cluster, &id).await;
                let carried_out: Vec<_> = entries.iter().filter(|it| it.call == call).collect();
                assert_eq!(carried_out.len(), 1, "{what}: {carried_out:?}");
                assert_eq!(carried_out[0].outcome, "OK", "{what}");
            }
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_import_is_resumed_by_the_process_that_has_its_file() {
    let mut cluster = started(reporting(Store::Postgres, &Failpoints::default())).await;
    let id = failed(&cluster).await;
    let second = cluster.start_second_process(0).await.expect("it starts");
    cluster.stop_region(0).await;
    ask(&cluster, 1, &id, "resume").await;
    // The other process hears of it with each report, and leaves it alone.
    let reported = async || {
        let statement = Statement::new("SELECT reported_at FROM causeway_region_report WHERE region = 'us'");
        row(&cluster, Silo::Control, statement).await.time("reported_at").expect("a time")
    };
    for _ in 0..3 {
        let last = reported().await;
        eventually("another report", async || reported().await > last).await;
    }
    assert_eq!(answer(&cluster, 1).await, None);
    cluster.start_region(0).await.expect("it starts");
    done(&cluster, 1).await;
    assert_eq!(cluster.region(0).wait(&id).await.expect("it ends").state(), ImportState::Succeeded);
    second.stop().await;
    cluster.stop().await;
}
