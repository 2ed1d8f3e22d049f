//! What control hears of an import.

use causeway_harness::{
    cluster::{Act, Cluster, Failpoints, ImportOptions, Store},
    export,
};
use causeway_proto::region::v1::{GetImportRequest, Import, ImportState};

use crate::support::eventually;

async fn get(cluster: &Cluster, id: &str) -> Import {
    let request = GetImportRequest { import_id: id.to_owned() };
    let answer = cluster.region(0).imports().get_import(request).await.expect("it is there");
    answer.into_inner().import.expect("an import")
}

fn updated(import: &Import) -> (i64, i32) {
    import.update_time.map_or((0, 0), |time| (time.seconds, time.nanos))
}

/// A region tells control of imports that have changed within a minute, and the directory's answer may come later and
/// bring findings: it is a change as well.
pub(crate) async fn an_import_changes_once_more_when_the_directory_has_it(store: Store) {
    let failpoints = Failpoints::default();
    let built = Cluster::builder(store).region("us").failpoints(&failpoints).start().await;
    let cluster = built.expect("a cluster; on PostgreSQL this test needs one installed");
    failpoints.arm("region.report.answered", Act::Hold, 0);
    let bytes = export::large(1).to_bytes();
    let begun = cluster.region(0).begin(&bytes, &ImportOptions::default()).await.expect("it begins").import;
    let id = begun.unwrap_or_default().import_id;
    failpoints.held().await;
    let before = get(&cluster, &id).await;
    assert_eq!(before.state(), ImportState::Succeeded);
    failpoints.release();
    eventually("it has changed", async || updated(&get(&cluster, &id).await) > updated(&before)).await;
    cluster.stop().await;
}
