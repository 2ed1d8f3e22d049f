//! Helpers for the behaviours.

use std::{collections::BTreeMap, time::Duration};

use causeway_bench::generate::{self, Extent, Release};
use causeway_harness::{
    account::{Audit, AuditReport, RowsSnapshot},
    cluster::{Cluster, ImportOptions, Store},
    export::{self, Export},
};
use causeway_proto::{
    failure::reason_of,
    region::v1::{Import, ImportState, RevertImportRequest},
    relocation::v1::{ErrorReason, FindingKind},
};
use causeway_region::Limits;
use tonic::Status;

pub(crate) const ORGANIZATION: &str = "sentry.organization";
pub(crate) const MEMBER: &str = "sentry.organizationmember";
pub(crate) const USER: &str = "sentry.user";

pub(crate) async fn cluster(store: Store, regions: &[&str]) -> Cluster {
    Cluster::start(store, regions).await.expect("a cluster; on PostgreSQL this test needs one installed")
}

/// A cluster of one region with these limits.
pub(crate) async fn limited(store: Store, limit: impl Fn(&mut Limits) + Send + Sync + 'static) -> Cluster {
    let mut cluster = cluster(store, &["us"]).await;
    cluster.configure_regions(move |options| limit(&mut options.limits));
    cluster.stop_region(0).await;
    cluster.start_region(0).await.expect("it starts");
    cluster
}

/// Waits until `is_so` returns true.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let so = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    so.unwrap_or_else(|_| panic!("timed out while waiting for: {what}"));
}

pub(crate) fn exhaustive() -> Export {
    export::exhaustive().expect("an export")
}

pub(crate) async fn rows_now(cluster: &Cluster, region: usize) -> RowsSnapshot {
    RowsSnapshot::at(cluster, region).await.expect("the databases can be read")
}

/// Imports into the first region and audits the import.
pub(crate) async fn import(
    cluster: &Cluster,
    export: &Export,
    options: &ImportOptions,
) -> (Import, AuditReport) {
    import_bytes(cluster, &export.to_bytes(), options).await
}

/// Imports a file into the first region and audits the import.
pub(crate) async fn import_bytes(
    cluster: &Cluster,
    bytes: &[u8],
    options: &ImportOptions,
) -> (Import, AuditReport) {
    let before = rows_now(cluster, 0).await;
    let import = cluster.region(0).import(bytes, options).await.expect("the import ends");
    let account = accounted(Audit::new(cluster, 0, &before, bytes, options, &import).run().await);
    (import, account)
}

/// Imports a file whole, all of it once more, its organization with this slug, and all again with users merged; each import
/// is audited. Returns their ids.
pub(crate) async fn import_in_all_ways(cluster: &Cluster, bytes: &[u8], slug: &str) -> Vec<String> {
    let options = ImportOptions::default();
    let mut ids = Vec::new();
    let all = [options.clone(), options.clone(), options.clone().filter(&[slug]), options.merge_users()];
    for options in all {
        let (import, _) = import_bytes(cluster, bytes, &options).await;
        assert_eq!(import.state(), ImportState::Succeeded, "{:?}", import.failure);
        ids.push(import.import_id);
    }
    ids
}

/// Reverts imports, the last one first. Nothing may stay of them.
pub(crate) async fn revert_all(cluster: &Cluster, import_ids: &[String]) {
    for import_id in import_ids.iter().rev() {
        let request = RevertImportRequest { import_id: import_id.clone() };
        cluster.region(0).imports().revert_import(request).await.expect("it is taken back");
        let reverted = cluster.region(0).wait(import_id).await.expect("it ends");
        assert_eq!(reverted.state(), ImportState::Reverted);
        let findings = cluster.region(0).findings(import_id).await.expect("findings");
        let kept = findings.iter().filter(|it| it.kind() == FindingKind::RowKept);
        let kept: Vec<&str> = kept.map(|it| it.reason.as_str()).collect();
        assert_eq!(kept, [] as [&str; 0]);
    }
}

/// An export of a release as its installations write it, of about 500 records.
pub(crate) fn of_release(release: Release) -> Vec<u8> {
    let mut export = Vec::new();
    generate::Export::of(release, 5, Extent::Records(500)).write(&mut export).expect("written");
    export
}

/// The report of an audit. Panics with all mismatches if there are any.
pub(crate) fn accounted(account: anyhow::Result<AuditReport>) -> AuditReport {
    account.unwrap_or_else(|error| panic!("{error:#}"))
}

/// Imports into the first region. The import must fail for this reason and leave nothing. Returns the
/// message.
pub(crate) async fn fails(
    cluster: &Cluster,
    export: &Export,
    options: &ImportOptions,
    reason: ErrorReason,
) -> (Import, String) {
    let before = rows_now(cluster, 0).await;
    let import = cluster.region(0).import(&export.to_bytes(), options).await.expect("the import ends");
    assert_eq!(import.state(), ImportState::Failed);
    let failure = import.failure.clone().unwrap_or_default();
    assert_eq!(failure.reason(), reason, "{}", failure.message);
    assert_eq!(failure.state(), ImportState::Planning);
    assert!(failure.message.contains("nothing was written"), "{}", failure.message);
    assert_eq!(rows_now(cluster, 0).await, before, "something was written");
    assert_eq!(cluster.region(0).mapped_keys(&import.import_id).await.expect("a list"), []);
    (import, failure.message)
}

/// The reason of a refused call.
pub(crate) fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>) -> ErrorReason {
    let status = outcome.expect_err("it is refused");
    reason_of(&status).unwrap_or_else(|| panic!("no reason in {status:?}"))
}

/// The number of findings of each kind. Leaves out organizations without owner, and rows that were added: few exports here
/// have members, keys of projects and addresses of users, and separate tests cover that.
pub(crate) fn kinds(account: &AuditReport) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    let left_out = [FindingKind::OrganizationWithoutOwner, FindingKind::RowAdded];
    let reported = account.findings.iter().filter(|it| !left_out.contains(&it.kind()));
    for finding in reported {
        let name = finding.kind().as_str_name().trim_start_matches("FINDING_KIND_");
        *kinds.entry(name).or_default() += 1;
    }
    kinds
}

/// The number of findings of one kind.
pub(crate) fn reported(account: &AuditReport, kind: FindingKind) -> usize {
    account.findings_of(kind).len()
}

/// A member as a record of an export.
pub(crate) fn member(organization: i64, user: i64, role: &str) -> serde_json::Value {
    serde_json::json!({"organization": organization, "user_id": user, "role": role})
}
