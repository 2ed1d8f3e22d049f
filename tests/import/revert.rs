//! Reverts of imports.

use std::collections::{BTreeMap, BTreeSet};

use causeway_harness::{
    account::RowsSnapshot,
    cluster::{Act, Cluster, Failpoints, ImportOptions, Service, Silo, Store},
    export,
};
use causeway_proto::{
    control::v1::ListOrganizationsRequest,
    region::v1::{Import, ImportState, ResumeImportRequest, RevertImportRequest},
    relocation::v1::{ErrorReason, FindingKind, KeyKind, MappedKey, OrganizationStatus},
};
use causeway_silo::{db::Statement, env::Environment};
use chrono::TimeDelta;
use tonic::Status;
use uuid::Uuid;

use crate::{
    resume::{ORGANIZATIONS, half_written},
    support::{ORGANIZATION, USER, cluster, exhaustive, import, refused, rows_now},
    survive::{change, refuse_projects},
};

const TEAM: &str = "sentry.team";

pub(crate) async fn revert(cluster: &Cluster, id: &str) -> Result<Import, Status> {
    let request = RevertImportRequest { import_id: id.to_owned() };
    let answer = cluster.region(0).imports().revert_import(request).await?.into_inner();
    Ok(answer.import.unwrap_or_default())
}

/// Reverts an import and waits until the revert has ended.
async fn reverted(cluster: &Cluster, id: &str) -> Import {
    let begun = revert(cluster, id).await.expect("it is taken back");
    assert!(matches!(begun.state(), ImportState::Reverting | ImportState::Reverted), "{begun:?}");
    let import = cluster.region(0).wait(id).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Reverted);
    import
}

/// The status of each organization in control's directory, by id.
async fn in_directory(cluster: &Cluster) -> BTreeMap<i64, OrganizationStatus> {
    let request = ListOrganizationsRequest::default();
    let answer = cluster.control().directory().list_organizations(request).await.expect("a list");
    let organizations = answer.into_inner().organizations;
    organizations.iter().map(|organization| (organization.organization_id, organization.status())).collect()
}

/// Checks that all rows from before the import are there again, and no others.
async fn assert_gone(cluster: &Cluster, before: &RowsSnapshot, import: &Import) {
    assert_eq!(&rows_now(cluster, 0).await, before, "something is left, or has changed");
    for counts in &import.models {
        assert_eq!((counts.deleted, counts.kept), (counts.inserted + counts.added, 0), "{counts:?}");
    }
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    let left = Statement::new("SELECT count(*) AS count FROM causeway_import_carried");
    let left = db.fetch_optional(left).await.expect("it answers").expect("a row");
    assert_eq!(left.int("count").expect("a count"), 0);
    db.close().await;
}

fn inserted(keys: &[MappedKey]) -> BTreeSet<(&str, i64)> {
    let inserted = keys.iter().filter(|key| key.kind() == KeyKind::Inserted);
    inserted.map(|key| (key.model.as_str(), key.new_pk)).collect()
}

pub(crate) async fn an_import_that_is_reverted_leaves_nothing(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let (export, options) = (exhaustive(), ImportOptions::default());
    // Import the same users and addresses before, so that the names conflict.
    import(&cluster, &export, &options).await;
    let (before, directory) = (rows_now(&cluster, 0).await, in_directory(&cluster).await);

    let (first, _) = import(&cluster, &export, &options).await;
    assert_ne!(in_directory(&cluster).await, directory);
    let import_id = first.import_id.clone();
    let taken_back = reverted(&cluster, &import_id).await;
    assert_gone(&cluster, &before, &taken_back).await;
    assert_eq!(in_directory(&cluster).await, directory);
    assert!(taken_back.models.iter().map(|counts| counts.deleted).sum::<i64>() > 100);

    // A second revert changes nothing. The id stays in use, and the import cannot be resumed.
    let again = revert(&cluster, &import_id).await.expect("it was taken back");
    assert_eq!(again.state(), ImportState::Reverted);
    let request = ResumeImportRequest { import_id: import_id.clone() };
    let resumed = cluster.region(0).imports().resume_import(request).await;
    assert_eq!(refused(resumed), ErrorReason::ImportBeingReverted);
    let joined = cluster.region(0).begin(&export.to_bytes(), &options.clone().import_id(&import_id)).await;
    assert_eq!(joined.expect("it is joined").import.unwrap_or_default().state(), ImportState::Reverted);
    assert_eq!(rows_now(&cluster, 0).await, before);

    let missing = revert(&cluster, &Uuid::nil().to_string()).await;
    assert_eq!(refused(missing), ErrorReason::ImportNotFound);
    cluster.stop().await;
}

/// An import that merged into the users of another one does not need them any more once it is reverted.
pub(crate) async fn imports_that_shared_rows_leave_nothing_when_all_are_reverted(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let before = rows_now(&cluster, 0).await;
    let (export, options) = (exhaustive(), ImportOptions::default());
    let (first, _) = import(&cluster, &export, &options).await;
    let (second, _) = import(&cluster, &export, &options.merge_users()).await;
    reverted(&cluster, &second.import_id).await;
    let first = reverted(&cluster, &first.import_id).await;
    assert_gone(&cluster, &before, &first).await;
    cluster.stop().await;
}

pub(crate) async fn what_was_reverted_can_be_imported_again_with_the_same_slugs(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let before = rows_now(&cluster, 0).await;
    let export = export::large(9);
    let (first, _) = import(&cluster, &export, &ImportOptions::default()).await;
    let taken_back = reverted(&cluster, &first.import_id).await;
    assert_gone(&cluster, &before, &taken_back).await;
    assert_eq!(cluster.region(0).visible_organizations().await.expect("a list"), []);

    let (second, _) = import(&cluster, &export, &ImportOptions::default()).await;
    let slugs = |import: &Import| -> Vec<String> {
        import.organizations.iter().map(|organization| organization.slug.clone()).collect()
    };
    assert_eq!(slugs(&second), slugs(&first));
    cluster.stop().await;
}

pub(crate) async fn what_others_need_stays_and_is_reported(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let export = exhaustive();
    let (first, account) = import(&cluster, &export, &ImportOptions::default()).await;
    // Another import merges its users into those of the first one.
    let (second, _) = import(&cluster, &export, &ImportOptions::default().merge_users()).await;
    // The application has made rows of its own since then, one of them in a table that Causeway does not know.
    let team = account.keys.iter().find(|key| key.model == TEAM).expect("a team").clone();
    change(
        &cluster,
        vec![
            Statement::new("CREATE TABLE app_note (id bigint PRIMARY KEY, team bigint REFERENCES sentry_team (id) ON DELETE CASCADE)"),
            Statement::new("INSERT INTO app_note (id, team) VALUES (1, $1)").with(team.new_pk),
        ],
    )
    .await;
    let before = rows_now(&cluster, 0).await;

    let taken_back = reverted(&cluster, &first.import_id).await;
    let after = rows_now(&cluster, 0).await;
    let (firsts, seconds) = (
        cluster.region(0).mapped_keys(&first.import_id).await.expect("a list"),
        cluster.region(0).mapped_keys(&second.import_id).await.expect("a list"),
    );
    // Everything of the second import is unchanged.
    for key in &seconds {
        assert_eq!(after.row(&key.model, key.new_pk), before.row(&key.model, key.new_pk), "{key:?}");
        assert!(after.row(&key.model, key.new_pk).is_some(), "{key:?} is gone");
    }
    // Each row of the first import is gone, or has a finding.
    let findings = cluster.region(0).findings(&first.import_id).await.expect("a list");
    let reported: BTreeSet<(&str, i64)> = findings
        .iter()
        .filter(|finding| finding.kind() == FindingKind::RowKept)
        .map(|finding| (finding.model.as_str(), finding.source_pk))
        .collect();
    let left: BTreeSet<(&str, i64)> = firsts
        .iter()
        .filter(|key| key.kind() == KeyKind::Inserted && after.row(&key.model, key.new_pk).is_some())
        .map(|key| (key.model.as_str(), key.source_pk))
        .collect();
    assert_eq!(left, reported);
    let models: BTreeSet<&str> = left.iter().map(|(model, _)| *model).collect();
    assert_eq!(
        models,
        BTreeSet::from(["sentry.email", ORGANIZATION, TEAM, USER, "sentry.useremail", "sentry.useroption",])
    );
    let kept: i64 = taken_back.models.iter().map(|counts| counts.kept).sum();
    assert_eq!(usize::try_from(kept).ok(), Some(reported.len()));
    for counts in &taken_back.models {
        assert_eq!(counts.deleted + counts.kept, counts.inserted + counts.added, "{counts:?}");
    }
    // No other row is gone.
    let added: i64 = taken_back.models.iter().map(|counts| counts.added).sum();
    let gone = inserted(&firsts).len() + usize::try_from(added).expect("a number") - left.len();
    assert_eq!(before.row_count() - after.row_count(), gone);
    // The organization that stays is hidden, also in the directory, and keeps its slug.
    let organizations: Vec<i64> = firsts
        .iter()
        .filter(|key| key.model == ORGANIZATION && left.contains(&(ORGANIZATION, key.source_pk)))
        .map(|key| key.new_pk)
        .collect();
    assert!(!organizations.is_empty());
    let (reservations, directory) = (after.reservations(), in_directory(&cluster).await);
    for id in &organizations {
        assert_eq!(directory.get(id), Some(&OrganizationStatus::Hidden), "organization {id}");
        assert_eq!(reservations.iter().filter(|reservation| reservation.organization_id == *id).count(), 1);
    }
    let visible = cluster.region(0).visible_organizations().await.expect("a list");
    assert!(visible.iter().all(|organization| !organizations.contains(&organization.id)));
    assert_eq!(reservations.len(), visible.len() + organizations.len());

    // The second import can be reverted too. It has inserted no users, so they stay.
    let second = reverted(&cluster, &second.import_id).await;
    assert_eq!(second.models.iter().map(|counts| counts.kept).sum::<i64>(), 0);
    assert_eq!(rows_now(&cluster, 0).await.rows(USER), after.rows(USER));
    cluster.stop().await;
}

pub(crate) async fn an_import_that_has_not_ended_can_be_reverted(store: Store) {
    let (failpoints, options) = (Failpoints::default(), ImportOptions::default());
    // An import that is writing.
    let (mut cluster, before, bytes, id) =
        half_written(store, &failpoints, &export::large(ORGANIZATIONS), &options).await;
    let asked = revert(&cluster, &id).await.expect("it is taken back");
    assert_eq!(asked.state(), ImportState::Reverting);
    failpoints.release();
    let region = cluster.region(0);
    let taken_back = region.wait(&id).await.expect("it ends");
    assert_eq!(taken_back.state(), ImportState::Reverted);
    assert_gone(&cluster, &before, &taken_back).await;

    // An import that waits for control. The revert waits for control as well.
    cluster.stop_control().await;
    let begun = region.begin(&bytes, &options).await.expect("it begins").import.unwrap_or_default();
    region.wait_until(&begun.import_id, |import| import.waiting.is_some()).await.expect("it waits");
    let asked = revert(&cluster, &begun.import_id).await.expect("it is taken back");
    assert_eq!(asked.state(), ImportState::Reverting);
    region.wait_until(&begun.import_id, |import| import.waiting.is_some()).await.expect("it waits again");
    cluster.stop_region(0).await;
    cluster.start_region(0).await.expect("it starts");
    cluster.start_control().await.expect("it starts");
    let taken_back = cluster.region(0).wait(&begun.import_id).await.expect("it ends");
    assert_eq!(taken_back.state(), ImportState::Reverted);
    assert_gone(&cluster, &before, &taken_back).await;
    cluster.stop().await;
}

/// A revert does not read the file, so it needs no spool directory: neither that of the process that received the file,
/// nor one that stays in place.
pub(crate) async fn an_import_whose_spool_directory_is_gone_can_be_reverted(store: Store) {
    let (failpoints, options) = (Failpoints::default(), ImportOptions::default());
    // While the import is being written, its service is killed and the directory is removed.
    let (mut cluster, before, bytes, id) =
        half_written(store, &failpoints, &export::large(ORGANIZATIONS), &options).await;
    cluster.kill(Service::Region(0)).await;
    // The clock of the dead process may have been wrong, so the region must not wait for the end of that lease.
    let lease = Statement::new("UPDATE causeway_import SET lease_until = $1");
    change(&cluster, vec![lease.with(Environment::system().now() + TimeDelta::days(1))]).await;
    std::fs::remove_dir_all(cluster.spool_dir(0)).expect("it is there");
    cluster.start_region(0).await.expect("it starts");
    let asked = revert(&cluster, &id).await.expect("it is taken back");
    assert_eq!(asked.state(), ImportState::Reverting);
    let taken_back = cluster.region(0).wait(&id).await.expect("it ends");
    assert_eq!(taken_back.state(), ImportState::Reverted);
    assert_gone(&cluster, &before, &taken_back).await;

    // The directory is removed while the service runs.
    let import = cluster.region(0).import(&bytes, &options).await.expect("it ends");
    std::fs::remove_dir_all(cluster.spool_dir(0)).expect("it is there");
    let taken_back = reverted(&cluster, &import.import_id).await;
    assert_gone(&cluster, &before, &taken_back).await;
    cluster.stop_region(0).await;
    cluster.start_region(0).await.expect("it starts");

    // The same while the import is being written.
    failpoints.arm("region.chunk.committed", Act::Hold, 2);
    let begun =
        cluster.region(0).begin(&bytes, &options).await.expect("it begins").import.unwrap_or_default();
    failpoints.held().await;
    std::fs::remove_dir_all(cluster.spool_dir(0)).expect("it is there");
    revert(&cluster, &begun.import_id).await.expect("it is taken back");
    failpoints.release();
    let taken_back = cluster.region(0).wait(&begun.import_id).await.expect("it ends");
    assert_eq!(taken_back.state(), ImportState::Reverted);
    assert_gone(&cluster, &before, &taken_back).await;
    cluster.stop().await;
}

pub(crate) async fn an_import_that_failed_can_be_reverted(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let (bytes, options) = (exhaustive().to_bytes(), ImportOptions::default());
    let before = rows_now(&cluster, 0).await;
    refuse_projects(&cluster).await;
    let failed = cluster.region(0).import(&bytes, &options).await.expect("it ends");
    assert_eq!(failed.state(), ImportState::Failed);
    assert_ne!(rows_now(&cluster, 0).await, before);
    // As if the region had died between control's answer and its own note of it: only control knows of the users.
    let forget = Statement::new("DELETE FROM causeway_import_chunk WHERE model = 'sentry.user'");
    let discount =
        Statement::new("UPDATE causeway_import_model SET inserted = 0 WHERE model = 'sentry.user'");
    change(&cluster, vec![forget, discount]).await;
    let taken_back = reverted(&cluster, &failed.import_id).await;
    assert_gone(&cluster, &before, &taken_back).await;
    assert!(taken_back.models.iter().any(|counts| counts.model == USER && counts.deleted > 0));
    cluster.stop().await;
}
