//! What the generator makes is what the importer takes: all of it, and nothing has to be dropped.

use causeway_bench::generate::{Export, Extent, Release};
use causeway_harness::{
    account::{Audit, RowsSnapshot},
    cluster::{Cluster, ImportOptions, Store},
};
use causeway_proto::relocation::v1::FindingKind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_export_of_any_release_is_imported_whole_and_accounted_for() {
    for release in Release::ALL {
        let mut export = Vec::new();
        Export::of(release, 7, Extent::Records(6_000)).write(&mut export).unwrap();
        let cluster = Cluster::start(Store::Sqlite, &["us"]).await.unwrap();
        let before = RowsSnapshot::at(&cluster, 0).await.unwrap();
        let options = ImportOptions::default();
        let import = cluster.region(0).import(&export, &options).await.unwrap();
        let account = Audit::new(&cluster, 0, &before, &export, &options, &import).run().await.unwrap();
        let is_expected = |kind| match kind {
            FindingKind::SlugChanged => true,
            FindingKind::RemovedModel => release == Release::R24_4,
            // Positions and projects of views.
            FindingKind::RowAdded => [Release::R24_11, Release::R25_1].contains(&release),
            _ => false,
        };
        // Reviews are of repositories, which are of another scope.
        let of_repositories = |model: &str| {
            release == Release::R26_6 && matches!(model, "sentry.repository" | "sentry.codereviewevent")
        };
        let mut unexpected = account.findings.clone();
        unexpected.retain(|finding| !is_expected(finding.kind()) && !of_repositories(&finding.model));
        assert!(unexpected.is_empty(), "{release:?}: {unexpected:?}");
        cluster.stop().await;
    }
}
