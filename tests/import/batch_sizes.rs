//! An import keeps the batches for control that it began with, also under a release with other sizes.

use causeway_harness::{
    account::Audit,
    cluster::{Act, Cluster, Failpoints, ImportOptions, Service, Silo, Store},
    export::Export,
};
use causeway_proto::region::v1::ImportState;
use causeway_region::ControlBatch;
use causeway_silo::db::Statement;

use crate::support::{USER, accounted, rows_now};

fn users() -> Vec<u8> {
    let mut export = Export::new();
    export.organization(1, "one");
    for pk in 1..=20 {
        export.user(pk, &format!("user-{pk:02}"));
    }
    export.to_bytes()
}

/// How many users each chunk of the import has.
async fn chunks(cluster: &Cluster, id: &str) -> Vec<i64> {
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    let query = Statement::new(
        "SELECT max_ordinal - min_ordinal + 1 AS n FROM causeway_import_chunk WHERE import_id = $1 AND model = $2 \
         ORDER BY min_ordinal",
    );
    let id: uuid::Uuid = id.parse().expect("an id");
    let rows = db.fetch_all(query.with(id).with(USER)).await.expect("it answers");
    db.close().await;
    rows.iter().map(|row| row.int("n").expect("a number")).collect()
}

/// The region dies after control has committed a chunk, and before the region has recorded it. The release that is
/// started then has other sizes, and must request the same chunk.
pub(crate) async fn an_import_goes_on_under_a_release_with_other_batches(store: Store) {
    let failpoints = Failpoints::default();
    let built = Cluster::builder(store).region("us").failpoints(&failpoints).start().await;
    let mut cluster = built.expect("a cluster; on PostgreSQL this test needs one installed");
    let (bytes, options) = (users(), ImportOptions::default());
    let default = ControlBatch::default();
    let changes = [
        (ControlBatch { records: 3, ..default }, ControlBatch { records: 7, ..default }),
        (ControlBatch { records: 7, ..default }, ControlBatch { records: 2, ..default }),
        (ControlBatch { bytes: 700, ..default }, default),
        (default, ControlBatch { bytes: 700, ..default }),
    ];
    for (round, (old, new)) in (1..).zip(changes) {
        cluster.configure_regions(move |options| options.limits.control_batch = old);
        cluster.stop_region(0).await;
        cluster.start_region(0).await.expect("it starts");
        let undisturbed = cluster.region(0).import(&bytes, &options).await.expect("it ends");
        let as_before = chunks(&cluster, &undisturbed.import_id).await;

        let before = rows_now(&cluster, 0).await;
        failpoints.arm("region.control_chunk.answered", Act::Kill, 0);
        // The process may die before it has answered.
        let id = uuid::Uuid::from_u128(round).to_string();
        let options = options.clone().import_id(&id);
        let _answer = cluster.region(0).begin(&bytes, &options).await;
        cluster.killed().await;
        assert_eq!(chunks(&cluster, &id).await, [] as [i64; 0], "the chunk has been recorded");
        cluster.configure_regions(move |options| options.limits.control_batch = new);
        cluster.start_service(Service::Region(0)).await.expect("it starts");
        let import = cluster.region(0).wait(&id).await.expect("it ends");
        assert_eq!(import.state(), ImportState::Succeeded, "{old:?}, then {new:?}: {:?}", import.failure);
        accounted(Audit::new(&cluster, 0, &before, &bytes, &options, &import).run().await);
        assert_eq!(chunks(&cluster, &id).await, as_before, "{old:?}, then {new:?}");

        // What begins under the new release has its sizes.
        let later = cluster.region(0).import(&bytes, &ImportOptions::default()).await.expect("it ends");
        let of_later = chunks(&cluster, &later.import_id).await;
        assert_ne!(of_later, as_before, "{old:?}, then {new:?}");
        assert_eq!(of_later.iter().sum::<i64>(), 20);
    }
    cluster.stop().await;
}
