//! Many clients that watch one import.

use causeway_harness::cluster::{Cluster, Failpoints, ImportOptions, Store};
use causeway_proto::region::v1::{Import, ImportState};

use crate::support::exhaustive;

const WATCHES: usize = 100;
/// How many attempts of a waiting import the test watches.
const ATTEMPTS: i64 = 5;

fn attempts(import: &Import) -> i64 {
    import.waiting.as_ref().map_or(0, |waiting| waiting.attempts.into())
}

/// Each of them receives the changes, and the region reads the import as often as for one watcher.
pub(crate) async fn a_hundred_who_watch_one_import_share_one_reader(store: Store) {
    let failpoints = Failpoints::default();
    let built = Cluster::builder(store).region("us").failpoints(&failpoints).start().await;
    let mut cluster = built.expect("a cluster; on PostgreSQL this test needs one installed");
    cluster.stop_control().await;
    let region = cluster.region(0);
    let begun = region.begin(&exhaustive().to_bytes(), &ImportOptions::default()).await.expect("it begins");
    let id = begun.import.unwrap_or_default().import_id;
    let waits = region.wait_until(&id, |import| import.waiting.is_some()).await.expect("it waits");
    let mut watches = Vec::new();
    for _ in 0..WATCHES {
        watches.push(region.watch(&id).await.expect("it is watched"));
    }
    let looked = failpoints.reached("region.watch.read");
    let mut last = attempts(&waits);
    for watch in &mut watches {
        let mut heard = 0;
        while heard < attempts(&waits) + ATTEMPTS {
            let message = watch.message().await.expect("it is reported").expect("it goes on");
            heard = attempts(&message.import.unwrap_or_default());
        }
        last = last.max(heard);
    }
    let looks = failpoints.reached("region.watch.read") - looked;
    // One read for each reported attempt, and some while nothing had changed. A single watcher would have caused as
    // many.
    let most = u64::try_from(2 * (last - attempts(&waits)) + 20).expect("some");
    assert!(looks <= most, "{looks} reads for {last} attempts");
    assert!(looks < WATCHES.try_into().expect("some"), "{looks} reads for {WATCHES} watches");

    // All of them receive the end.
    cluster.start_control().await.expect("it starts");
    for watch in &mut watches {
        let mut state = ImportState::Unspecified;
        while let Some(message) = watch.message().await.expect("it is reported") {
            state = message.import.unwrap_or_default().state();
        }
        assert_eq!(state, ImportState::Succeeded);
    }
    cluster.stop().await;
}
