//! A region that an operator suspends while it imports.

use causeway_harness::{
    account::Audit,
    cluster::{Act, Cluster, ImportOptions, Store},
};
use causeway_proto::{
    control::v1::{ResumeRegionRequest, SuspendRegionRequest},
    region::v1::{Import, ImportState},
    relocation::v1::ErrorReason,
};

use crate::support::{accounted, cluster, exhaustive, rows_now};

async fn suspend(cluster: &Cluster) {
    let request = SuspendRegionRequest { name: "us".to_owned(), text: "a test".to_owned() };
    cluster.control().regions().suspend_region(request).await.expect("suspended");
}

async fn resume(cluster: &Cluster) {
    let request = ResumeRegionRequest { name: "us".to_owned() };
    cluster.control().regions().resume_region(request).await.expect("resumed");
}

/// Waits until the import waits for the end of the suspension, and has tried again.
async fn waits(cluster: &Cluster, id: &str) {
    let is_refused = |import: &Import| {
        let waiting = import.waiting.as_ref();
        waiting.is_some_and(|it| it.reason() == ErrorReason::RegionSuspended && it.attempts > 1)
    };
    let import = cluster.region(0).wait_until(id, is_refused).await.expect("it waits");
    let message = import.waiting.unwrap_or_default().message;
    for part in ["(a test)", "`causeway regions resume us`"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(import.failure.is_none());
}

pub(crate) async fn an_import_of_a_suspended_region_waits_until_it_is_resumed(store: Store) {
    let mut cluster = cluster(store, &["us"]).await;
    let (bytes, options) = (exhaustive().to_bytes(), ImportOptions::default());
    let before = rows_now(&cluster, 0).await;
    suspend(&cluster).await;
    let begun = cluster.region(0).begin(&bytes, &options).await.expect("it is taken").import;
    let id = begun.unwrap_or_default().import_id;
    waits(&cluster, &id).await;
    // One that starts while it is suspended cannot register.
    cluster.stop_region(0).await;
    cluster.start_region(0).await.expect("it starts");
    waits(&cluster, &id).await;

    resume(&cluster).await;
    let import = cluster.region(0).wait(&id).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded, "{import:?}");
    accounted(Audit::new(&cluster, 0, &before, &bytes, &options, &import).run().await);
    cluster.stop().await;
}

pub(crate) async fn an_import_whose_region_is_suspended_half_way_ends_well(store: Store) {
    for place in
        ["control.import_models.committed", "control.bulk_create.committed", "control.confirm.committed"]
    {
        let cluster = cluster(store, &["us"]).await;
        let (bytes, options) = (exhaustive().to_bytes(), ImportOptions::default());
        let before = rows_now(&cluster, 0).await;
        cluster.failpoints().arm(place, Act::Hold, 0);
        let begun = cluster.region(0).begin(&bytes, &options).await.expect("it is taken").import;
        let id = begun.unwrap_or_default().import_id;
        cluster.failpoints().held().await;
        suspend(&cluster).await;
        cluster.failpoints().release();
        waits(&cluster, &id).await;
        resume(&cluster).await;
        let import = cluster.region(0).wait(&id).await.expect("it ends");
        assert_eq!(import.state(), ImportState::Succeeded, "{place}: {import:?}");
        accounted(Audit::new(&cluster, 0, &before, &bytes, &options, &import).run().await);
        cluster.stop().await;
    }
}
