//! What control hears of an import.

use std::time::Duration;

use causeway_harness::{
    cluster::{Act, Cluster, Failpoints, ImportOptions, Silo, Store},
    export,
};
use causeway_proto::region::v1::{GetImportRequest, Import, ImportState};
use causeway_silo::db::Statement;

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

/// A person who looks at control's console after a region has started sees its imports as they are: the first report waits
/// neither for others nor for a time.
pub(crate) async fn a_region_reports_its_imports_as_soon_as_control_knows_it(store: Store) {
    let mut cluster = Cluster::start(store, &["us"]).await.expect("a cluster");
    let bytes = export::large(1).to_bytes();
    let import = cluster.region(0).import(&bytes, &ImportOptions::default()).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded);
    cluster.configure_regions(|options| options.report_every = Duration::from_secs(3_600));
    cluster.stop_region(0).await;
    let db = cluster.db(Silo::Control).await.expect("a database");
    let reported = async || {
        let rows = Statement::new("SELECT import_id, state FROM causeway_reported_import ORDER BY import_id");
        let rows = db.fetch_all(rows).await.expect("it answers");
        let row = |row: &causeway_silo::db::Row| {
            (row.uuid("import_id").expect("an id").to_string(), row.text("state").expect("a state"))
        };
        rows.iter().map(row).collect::<Vec<_>>()
    };
    assert_eq!(reported().await, []);
    cluster.start_region(0).await.expect("it starts");
    let expected = [(import.import_id, "SUCCEEDED".to_owned())];
    eventually("control has it", async || reported().await == expected).await;
    db.close().await;
    cluster.stop().await;
}
