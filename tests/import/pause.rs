//! Paused imports: no process works on them, whatever happens, until somebody ends that.

use std::{collections::BTreeSet, time::Duration};

use causeway_harness::{
    account::Audit,
    cluster::{Act, Cluster, Failpoints, ImportOptions, Service, Silo, Store},
    export::Export,
};
use causeway_proto::{
    region::v1::{
        GetImportRequest, Import, ImportState, ListImportsRequest, PauseImportsRequest, PauseImportsResponse,
        ResumeImportRequest, RevertImportRequest, SetThrottleRequest, UnpauseImportsRequest,
        UnpauseImportsResponse,
    },
    relocation::v1::{ErrorReason, ListAuditEntriesRequest},
};
use causeway_silo::db::Statement;
use tonic::Status;
use uuid::Uuid;

use crate::{
    faults::retry_until_ok,
    support::{accounted, eventually, refused, rows_now},
    survive::{refuse_projects, take_projects_again},
};

/// Where an import is held, in which state, and how it got there.
const PLACES: [(&str, ImportState, How); 7] = [
    ("region.plan.made", ImportState::Planning, How::Import),
    ("region.plan.stored", ImportState::Checking, How::DryRun),
    ("region.chunk.ready", ImportState::Writing, How::Import),
    ("region.slugs.answered", ImportState::ResolvingSlugs, How::Import),
    ("region.finish.counted", ImportState::Finishing, How::Import),
    // One of the organizations is visible.
    ("region.finish.part_shown", ImportState::Finishing, How::Import),
    ("region.revert_chunk.ready", ImportState::Reverting, How::Revert),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Import,
    DryRun,
    Revert,
}

/// What a process might commit for an import, as one text.
const COMMITTED: &str = "SELECT i.state || ' ' || i.slug_attempt || ' ' || i.slugs_written || ' ' || i.records \
    || ' chunks ' || (SELECT count(*) FROM causeway_import_chunk c WHERE c.import_id = i.import_id) \
    || ' reverted ' || (SELECT count(*) FROM causeway_import_chunk c WHERE c.import_id = i.import_id AND reverted_at IS NOT NULL) \
    || ' findings ' || (SELECT count(*) FROM causeway_import_finding f WHERE f.import_id = i.import_id) \
    || ' lease ' || COALESCE(CAST(i.lease_holder AS text), 'none') AS line FROM causeway_import i WHERE i.import_id = $1";

fn export() -> Vec<u8> {
    let mut export = Export::new();
    export.organization(1, "one").organization(2, "one").user(1, "ann").email(1, "ann@example.com");
    export.user_email(1, 1, "ann@example.com").member(1, 1, 1).member(2, 2, 1).team(1, 2, "t");
    export.project(1, 1, "p").project_key(1, 1, "key").auth_token(1, 1, "token");
    export.to_bytes()
}

async fn standing(store: Store, failpoints: &Failpoints) -> Cluster {
    let builder = Cluster::builder(store).region("us").failpoints(failpoints);
    let builder = builder.configure_regions(|options| {
        // So that no test waits long for what another process has been told.
        options.throttle.look_interval = Duration::from_millis(20);
        // So that organizations become visible in parts.
        options.limits.organizations_a_transaction = 1;
    });
    builder.start().await.expect("a cluster; on PostgreSQL this test needs one installed")
}

async fn pause(cluster: &Cluster, id: &str) -> Result<PauseImportsResponse, Status> {
    let request = PauseImportsRequest { import_id: id.to_owned(), all: false };
    Ok(cluster.region(0).imports().pause_imports(request).await?.into_inner())
}

async fn unpause(cluster: &Cluster, id: &str) -> Result<UnpauseImportsResponse, Status> {
    let request = UnpauseImportsRequest { import_id: id.to_owned(), all: false };
    Ok(cluster.region(0).imports().unpause_imports(request).await?.into_inner())
}

async fn get(cluster: &Cluster, id: &str) -> Import {
    let request = GetImportRequest { import_id: id.to_owned() };
    cluster
        .region(0)
        .imports()
        .get_import(request)
        .await
        .expect("it is there")
        .into_inner()
        .import
        .expect("an import")
}

async fn committed(cluster: &Cluster, id: &str) -> String {
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    let id: Uuid = id.parse().expect("an id");
    let row =
        db.fetch_optional(Statement::new(COMMITTED).with(id)).await.expect("it answers").expect("a row");
    db.close().await;
    row.text("line").expect("a text")
}

/// Begins what leads to the state, and waits until it is held there.
async fn hold(cluster: &Cluster, failpoints: &Failpoints, place: &str, how: How) -> String {
    let (region, options) = (cluster.region(0), ImportOptions::default());
    if how == How::Revert {
        let import = region.import(&export(), &options).await.expect("it ends");
        assert_eq!(import.state(), ImportState::Succeeded);
        failpoints.arm(place, Act::Hold, 0);
        let request = RevertImportRequest { import_id: import.import_id.clone() };
        region.imports().revert_import(request).await.expect("it begins");
        failpoints.held().await;
        return import.import_id;
    }
    failpoints.arm(place, Act::Hold, 0);
    let options = if how == How::DryRun { options.dry_run() } else { options };
    let begun = region.begin(&export(), &options).await.expect("it begins").import;
    failpoints.held().await;
    begun.unwrap_or_default().import_id
}

fn assert_paused(import: &Import, state: ImportState, what: &str) {
    assert_eq!(import.state(), state, "{what}");
    let pause = import.pause.as_ref().unwrap_or_else(|| panic!("{what}: it is not paused: {import:?}"));
    assert!(pause.since.is_some() && pause.by.is_empty(), "{what}: {pause:?}");
    let waiting = import.waiting.as_ref().expect("it says why it waits");
    assert_eq!((waiting.reason(), waiting.attempts), (ErrorReason::ImportPaused, 0), "{what}");
    assert_eq!(waiting.since, pause.since, "{what}");
    let resume = format!("`causeway imports resume {}`", import.import_id);
    assert!(waiting.message.contains(&resume) && waiting.message.contains("since"), "{}", waiting.message);
    assert!(import.lease.is_none(), "{what}: {:?}", import.lease);
}

fn end_of(how: How) -> ImportState {
    match how {
        How::Import => ImportState::Succeeded,
        How::DryRun => ImportState::Planned,
        How::Revert => ImportState::Reverted,
    }
}

/// The step that is in progress commits nothing any more, and no later process takes the import up.
pub(crate) async fn an_import_can_be_paused_in_each_state_and_continues_where_it_was(store: Store) {
    let failpoints = Failpoints::default();
    let mut cluster = standing(store, &failpoints).await;
    for (place, state, how) in PLACES {
        for killed in [false, true] {
            let what = format!("{place}, killed: {killed}");
            let before = rows_now(&cluster, 0).await;
            let id = hold(&cluster, &failpoints, place, how).await;
            let paused = pause(&cluster, &id).await.expect("it is paused");
            let this = std::slice::from_ref(&id);
            assert_eq!(
                (paused.paused_import_ids.as_slice(), paused.already_paused_import_ids.len()),
                (this, 0)
            );
            assert_paused(&get(&cluster, &id).await, state, &what);
            let before_the_end = committed(&cluster, &id).await;
            assert!(before_the_end.ends_with("lease none"), "{what}: {before_the_end}");
            if killed {
                cluster.kill(Service::Region(0)).await;
                cluster.revive().await.expect("it starts");
            } else {
                failpoints.release();
                // It ends after the current step.
                cluster.stop_region(0).await;
                assert_eq!(committed(&cluster, &id).await, before_the_end, "{what}");
                cluster.start_region(0).await.expect("it starts");
            }
            let again = pause(&cluster, &id).await.expect("it is paused still");
            assert_eq!(
                (again.already_paused_import_ids.as_slice(), again.paused_import_ids.len()),
                (this, 0)
            );
            // A process that is started does not take it up, however often the pause was asked for.
            cluster.stop_region(0).await;
            cluster.start_region(0).await.expect("it starts");
            assert_eq!(committed(&cluster, &id).await, before_the_end, "{what}");
            assert_paused(&get(&cluster, &id).await, state, &what);

            let ended = unpause(&cluster, &id).await.expect("it continues");
            assert_eq!(ended.unpaused_import_ids, this, "{what}");
            let import = cluster.region(0).wait(&id).await.expect("it ends");
            assert_eq!(import.state(), end_of(how), "{what}: {:?}", import.failure);
            assert!(import.pause.is_none() && import.waiting.is_none(), "{what}: {import:?}");
            match how {
                How::Import => {
                    let options = ImportOptions::default();
                    accounted(Audit::new(&cluster, 0, &before, &export(), &options, &import).run().await);
                }
                How::DryRun | How::Revert => assert_eq!(rows_now(&cluster, 0).await, before, "{what}"),
            }
        }
    }
    cluster.stop().await;
}

/// A run that waits for a limit ends at once, and gives up its place, its lease and what it waits for.
pub(crate) async fn paused_imports_take_no_place_and_others_go_on(store: Store) {
    let mut cluster = standing(store, &Failpoints::default()).await;
    cluster.configure_regions(|options| options.limits.imports_at_once = 1);
    cluster.stop_region(0).await;
    cluster.start_region(0).await.expect("it starts");
    let (region, options) = (cluster.region(0), ImportOptions::default());
    // With this limit, the second chunk waits for minutes.
    let slow = SetThrottleRequest { max_bytes_per_second: Some(1), ..Default::default() };
    region.throttle().set_throttle(slow).await.expect("set");
    let done = region.import(b"[]", &options).await.expect("it ends");
    let mut ids = BTreeSet::new();
    for _ in 0..2 {
        let begun = region.begin(&export(), &options).await.expect("it begins").import;
        ids.insert(begun.unwrap_or_default().import_id);
    }
    for id in &ids {
        let under_way = |import: &Import| import.state() == ImportState::Writing && import.lease.is_some();
        region.wait_until(id, under_way).await.expect("it is under way");
    }
    let all = PauseImportsRequest { import_id: String::new(), all: true };
    let paused = region.imports().pause_imports(all.clone()).await.expect("paused").into_inner();
    assert_eq!(BTreeSet::from_iter(paused.paused_import_ids), ids);
    let again = region.imports().pause_imports(all).await.expect("paused").into_inner();
    assert_eq!(BTreeSet::from_iter(again.already_paused_import_ids), ids);
    assert_eq!(again.paused_import_ids, [] as [String; 0]);
    let listed =
        region.imports().list_imports(ListImportsRequest::default()).await.expect("a list").into_inner();
    for import in &listed.imports {
        assert_eq!(import.pause.is_some(), import.import_id != done.import_id, "{import:?}");
    }
    // The only place is free for one that begins now.
    let free = SetThrottleRequest { unlimited: vec![2], ..Default::default() };
    region.throttle().set_throttle(free).await.expect("set");
    let later = region.import(&export(), &options).await.expect("it ends");
    assert_eq!(later.state(), ImportState::Succeeded);
    for id in &ids {
        assert_paused(&get(&cluster, id).await, ImportState::Writing, "all");
    }
    let all = UnpauseImportsRequest { import_id: String::new(), all: true };
    let ended = region.imports().unpause_imports(all.clone()).await.expect("they continue").into_inner();
    assert_eq!(BTreeSet::from_iter(ended.unpaused_import_ids), ids);
    for id in &ids {
        assert_eq!(region.wait(id).await.expect("it ends").state(), ImportState::Succeeded);
    }
    let none = region.imports().unpause_imports(all).await.expect("there are none").into_inner();
    assert_eq!(none, UnpauseImportsResponse::default());
    cluster.stop().await;
}

/// The call fails, or its process is killed, right before and right after its commit.
pub(crate) async fn a_pause_that_fails_or_dies_once_is_one(store: Store) {
    let failpoints = Failpoints::default();
    let cluster = standing(store, &failpoints).await;
    for (place, ends) in [
        ("region.pause.prepared", false),
        ("region.pause.committed", false),
        ("region.unpause.prepared", true),
        ("region.unpause.committed", true),
    ] {
        for act in [Act::Fail, Act::Kill] {
            let id = hold(&cluster, &failpoints, "region.slugs.answered", How::Import).await;
            if ends {
                pause(&cluster, &id).await.expect("it is paused");
            }
            failpoints.arm(place, act, 0);
            if act == Act::Fail {
                failpoints.release();
            }
            if ends {
                retry_until_ok(&cluster, async || unpause(&cluster, &id).await).await;
            } else {
                retry_until_ok(&cluster, async || pause(&cluster, &id).await).await;
                assert!(get(&cluster, &id).await.pause.is_some(), "{place} {act:?}");
                retry_until_ok(&cluster, async || unpause(&cluster, &id).await).await;
            }
            assert!(!failpoints.is_armed(), "{place} was never reached");
            let import = cluster.region(0).wait(&id).await.expect("it ends");
            assert_eq!(import.state(), ImportState::Succeeded, "{place} {act:?}");
            let entries = async |call: &str| {
                let filter = ListAuditEntriesRequest { object: format!("import/{id}"), ..Default::default() };
                let mut audit = cluster.region(0).audit();
                let all = audit.list_audit_entries(filter).await.expect("a list").into_inner().entries;
                let call = format!("causeway.region.v1.ImportService/{call}");
                all.iter().filter(|entry| entry.call == call && entry.outcome == "OK").count()
            };
            // However often it was called.
            assert_eq!(
                (entries("PauseImports").await, entries("UnpauseImports").await),
                (1, 1),
                "{place} {act:?}"
            );
        }
    }
    cluster.stop().await;
}

pub(crate) async fn a_paused_import_is_only_continued_by_ending_the_pause(store: Store) {
    let failpoints = Failpoints::default();
    let mut cluster = standing(store, &failpoints).await;
    let before = rows_now(&cluster, 0).await;
    let id = hold(&cluster, &failpoints, "region.finish.counted", How::Import).await;
    pause(&cluster, &id).await.expect("it is paused");
    failpoints.release();
    let region = cluster.region(0);
    let resume = ResumeImportRequest { import_id: id.clone() };
    let status = region.imports().resume_import(resume).await.expect_err("it is paused");
    assert!(status.message().contains(&format!("`causeway imports resume {id}`")), "{}", status.message());
    assert_eq!(refused::<()>(Err(status)), ErrorReason::ImportPaused);
    // To send it again joins it, and does not continue it.
    let options = ImportOptions::default().import_id(&id);
    assert!(region.begin(&export(), &options).await.expect("it is joined").joined);
    assert_paused(&get(&cluster, &id).await, ImportState::Finishing, "joined");
    // A revert is begun, and deletes nothing yet.
    let revert = RevertImportRequest { import_id: id.clone() };
    region.imports().revert_import(revert).await.expect("it begins");
    cluster.stop_region(0).await;
    cluster.start_region(0).await.expect("it starts");
    assert_paused(&get(&cluster, &id).await, ImportState::Reverting, "reverting");
    assert_ne!(rows_now(&cluster, 0).await, before, "it has been reverted");
    unpause(&cluster, &id).await.expect("it continues");
    let ended = cluster.region(0).wait(&id).await.expect("it ends");
    assert_eq!(ended.state(), ImportState::Reverted);
    assert_eq!(rows_now(&cluster, 0).await, before);
    cluster.stop().await;
}

pub(crate) async fn what_cannot_be_paused_is_refused(store: Store) {
    let cluster = standing(store, &Failpoints::default()).await;
    let region = cluster.region(0);
    let unknown = Uuid::from_u128(7).to_string();
    assert_eq!(refused(pause(&cluster, &unknown).await), ErrorReason::ImportNotFound);
    assert_eq!(refused(unpause(&cluster, &unknown).await), ErrorReason::ImportNotFound);
    for (id, all) in [("", false), ("x", false), (unknown.as_str(), true)] {
        let request = PauseImportsRequest { import_id: id.to_owned(), all };
        assert_eq!(
            refused(region.imports().pause_imports(request).await),
            ErrorReason::InvalidArgument,
            "{id}"
        );
        let request = UnpauseImportsRequest { import_id: id.to_owned(), all };
        assert_eq!(
            refused(region.imports().unpause_imports(request).await),
            ErrorReason::InvalidArgument,
            "{id}"
        );
    }
    let none = PauseImportsRequest { import_id: String::new(), all: true };
    let none = region.imports().pause_imports(none).await.expect("there are none").into_inner();
    assert_eq!(none, PauseImportsResponse::default());

    let options = ImportOptions::default();
    let reverted = region.import(&export(), &options).await.expect("it ends");
    let revert = RevertImportRequest { import_id: reverted.import_id.clone() };
    region.imports().revert_import(revert).await.expect("it begins");
    let reverted = region.wait_until(&reverted.import_id, |it| it.state() == ImportState::Reverted).await;
    let succeeded = region.import(&export(), &options).await.expect("it ends");
    let planned = region.import(&export(), &options.clone().dry_run()).await.expect("it ends");
    refuse_projects(&cluster).await;
    let failed = region.import(&export(), &options).await.expect("it ends");
    take_projects_again(&cluster).await;
    for (import, state) in [
        (reverted.expect("it ends"), ImportState::Reverted),
        (succeeded, ImportState::Succeeded),
        (planned, ImportState::Planned),
        (failed, ImportState::Failed),
    ] {
        assert_eq!(import.state(), state);
        let status = pause(&cluster, &import.import_id).await.expect_err("it has ended");
        assert!(status.message().contains(&state.short_name()), "{}", status.message());
        assert_eq!(refused::<()>(Err(status)), ErrorReason::ImportEnded);
        // What is not paused stays as it is.
        let answer = unpause(&cluster, &import.import_id).await.expect("there is nothing to do");
        assert_eq!(answer.not_paused_import_ids, [import.import_id.as_str()]);
        assert_eq!(get(&cluster, &import.import_id).await.state(), state);
    }
    cluster.stop().await;
}

/// An import runs in the process that has its file. It is paused and continued by calls to another one.
pub(crate) async fn a_pause_holds_for_all_processes_of_a_region(store: Store) {
    if store == Store::Sqlite {
        // Only one process can use an SQLite file.
        return;
    }
    let failpoints = Failpoints::default();
    let cluster = standing(store, &failpoints).await;
    let before = rows_now(&cluster, 0).await;
    let id = hold(&cluster, &failpoints, "region.slugs.answered", How::Import).await;
    let other = cluster.start_second_process(0).await.expect("another process");
    let request = PauseImportsRequest { import_id: id.clone(), all: false };
    other.region().imports().pause_imports(request).await.expect("it is paused");
    let paused = committed(&cluster, &id).await;
    failpoints.release();
    // The first process does other things meanwhile.
    let mut small = Export::new();
    small.organization(9, "nine");
    let meanwhile =
        cluster.region(0).import(&small.to_bytes(), &ImportOptions::default()).await.expect("it ends");
    assert_eq!(meanwhile.state(), ImportState::Succeeded);
    assert_eq!(committed(&cluster, &id).await, paused);
    let request = UnpauseImportsRequest { import_id: id.clone(), all: false };
    other.region().imports().unpause_imports(request).await.expect("it continues");
    eventually("the process with the file continues", async || {
        get(&cluster, &id).await.state() == ImportState::Succeeded
    })
    .await;
    let revert = RevertImportRequest { import_id: meanwhile.import_id.clone() };
    cluster.region(0).imports().revert_import(revert).await.expect("it begins");
    let reverted = |import: &Import| import.state() == ImportState::Reverted;
    cluster.region(0).wait_until(&meanwhile.import_id, reverted).await.expect("it ends");
    let import = get(&cluster, &id).await;
    accounted(Audit::new(&cluster, 0, &before, &export(), &ImportOptions::default(), &import).run().await);
    other.stop().await;
    cluster.stop().await;
}

/// Whether the process still works on an import: only it has the progress.
fn has_progress(import: &Import) -> bool {
    import
        .progress
        .as_ref()
        .is_some_and(|progress| progress.records_total > 0 || progress.throttled.is_some())
}

/// The process that runs the import waits for a limit, so it has no transaction that would tell. It learns of the pause
/// when it renews the lease.
pub(crate) async fn a_pause_by_another_process_ends_the_wait_for_a_limit(store: Store) {
    if store == Store::Sqlite {
        // Only one process can use an SQLite file.
        return;
    }
    let cluster = standing(store, &Failpoints::default()).await;
    let region = cluster.region(0);
    // With this limit, the second chunk waits for minutes.
    let slow = SetThrottleRequest { max_bytes_per_second: Some(1), ..Default::default() };
    region.throttle().set_throttle(slow).await.expect("set");
    let begun = region.begin(&export(), &ImportOptions::default()).await.expect("it begins").import;
    let id = begun.unwrap_or_default().import_id;
    let waits = |import: &Import| import.progress.as_ref().is_some_and(|it| it.throttled.is_some());
    region.wait_until(&id, waits).await.expect("it waits for the limit");
    let other = cluster.start_second_process(0).await.expect("another process");
    let request = PauseImportsRequest { import_id: id.clone(), all: false };
    other.region().imports().pause_imports(request.clone()).await.expect("it is paused");
    eventually("the process with the file ends the wait", async || !has_progress(&get(&cluster, &id).await))
        .await;
    assert_paused(&get(&cluster, &id).await, ImportState::Writing, "by another process");
    let free = SetThrottleRequest { unlimited: vec![2], ..Default::default() };
    region.throttle().set_throttle(free).await.expect("set");
    unpause(&cluster, &id).await.expect("it continues");
    assert_eq!(region.wait(&id).await.expect("it ends").state(), ImportState::Succeeded);
    other.stop().await;
    cluster.stop().await;
}

/// An import that has given its turn to another one waits for the next one, perhaps for long.
pub(crate) async fn a_pause_ends_the_wait_for_a_turn(store: Store) {
    let failpoints = Failpoints::default();
    let mut cluster = standing(store, &failpoints).await;
    cluster.configure_regions(|options| options.limits.imports_at_once = 1);
    cluster.stop_region(0).await;
    cluster.start_region(0).await.expect("it starts");
    let region = cluster.region(0);
    let mut large = Export::new();
    large.organization(1, "one");
    (1..=2_000).for_each(|pk| {
        large.team(pk, 1, &format!("t{pk}"));
    });
    failpoints.arm("region.chunk.committed", Act::Hold, 0);
    let begun = region.begin(&large.to_bytes(), &ImportOptions::default()).await.expect("it begins").import;
    let id = begun.unwrap_or_default().import_id;
    failpoints.held().await;
    failpoints.arm("region.turn.passed", Act::Hold, 0);
    let small = region.begin(&export(), &ImportOptions::default()).await.expect("it begins").import;
    let small = small.unwrap_or_default().import_id;
    region.wait_until(&small, |import| import.state() == ImportState::Writing).await.expect("it is planned");
    failpoints.release();
    // As if it waited for its turn from here on.
    failpoints.held().await;
    assert!(has_progress(&get(&cluster, &id).await));
    pause(&cluster, &id).await.expect("it is paused");
    eventually("it does not wait any more", async || !has_progress(&get(&cluster, &id).await)).await;
    assert_eq!(region.wait(&small).await.expect("it ends").state(), ImportState::Succeeded);
    unpause(&cluster, &id).await.expect("it continues");
    assert_eq!(region.wait(&id).await.expect("it ends").state(), ImportState::Succeeded);
    cluster.stop().await;
}
