//! Many clients that watch one import.

use causeway_harness::{
    cluster::{Cluster, Failpoints, ImportOptions, Store},
    export::Export,
};
use causeway_proto::region::v1::{Import, ImportState};

use tokio::{sync::mpsc, task::JoinSet};

use crate::support::exhaustive;

const WATCHES: usize = 100;
/// How many attempts of a waiting import the test watches.
const ATTEMPTS: i64 = 5;

fn attempts(import: &Import) -> i64 {
    import.waiting.as_ref().map_or(0, |waiting| waiting.attempts.into())
}

/// A filter may be as large as a message: a watcher gets it at first and at the end.
pub(crate) async fn a_watcher_gets_the_filter_at_first_and_at_the_end(store: Store) {
    let failpoints = Failpoints::default();
    let built = Cluster::builder(store).region("us").failpoints(&failpoints).start().await;
    let mut cluster = built.expect("a cluster; on PostgreSQL this test needs one installed");
    cluster.stop_control().await;
    let file = Export::new().organization(1, "one").to_bytes();
    let region = cluster.region(0);
    let begun = region.begin(&file, &ImportOptions::default().filter(&["one"])).await.expect("it begins");
    let id = begun.import.unwrap_or_default().import_id;
    region.wait_until(&id, |import| import.waiting.is_some()).await.expect("it waits");
    let mut watch = region.watch(&id).await.expect("it is watched");
    let mut messages = Vec::new();
    while messages.len() < 3 {
        messages.push(watch.message().await.expect("it is reported").expect("it goes on"));
    }
    cluster.start_control().await.expect("it starts");
    while let Some(message) = watch.message().await.expect("it is reported") {
        messages.push(message);
    }
    let imports: Vec<Import> = messages.into_iter().map(|it| it.import.unwrap_or_default()).collect();
    let has_filter: Vec<bool> = imports.iter().map(|import| import.filter.is_some()).collect();
    assert!(has_filter[0] && has_filter[imports.len() - 1], "{has_filter:?}");
    assert_eq!(imports.last().map(Import::state), Some(ImportState::Succeeded));
    for import in &imports {
        assert_eq!(import.filter_slug_count, Some(1));
    }
    let middle =
        &imports[1..imports.iter().position(|it| it.state() == ImportState::Succeeded).expect("it ends")];
    assert!(middle.iter().all(|import| import.filter.is_none()), "{has_filter:?}");
    cluster.stop().await;
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
    // All are read all the time: they share a connection, which takes no more once it is full of what nobody reads.
    let (sender, mut heard) = mpsc::unbounded_channel();
    let mut watchers = JoinSet::new();
    for mut watch in watches {
        let (sender, enough) = (sender.clone(), attempts(&waits) + ATTEMPTS);
        watchers.spawn(async move {
            let (mut import, mut has_said) = (Import::default(), false);
            while let Some(message) = watch.message().await.expect("it is reported") {
                import = message.import.unwrap_or_default();
                if attempts(&import) >= enough && !has_said {
                    has_said = true;
                    sender.send(attempts(&import)).expect("the test goes on");
                }
            }
            import.state()
        });
    }
    let mut last = attempts(&waits);
    for _ in 0..WATCHES {
        last = last.max(heard.recv().await.expect("each hears of the attempts"));
    }
    let looks = failpoints.reached("region.watch.read") - looked;
    // One read for each reported attempt, and some while nothing had changed. A single watcher would have caused as
    // many.
    let most = u64::try_from(2 * (last - attempts(&waits)) + 20).expect("some");
    assert!(looks <= most, "{looks} reads for {last} attempts");
    assert!(looks < WATCHES.try_into().expect("some"), "{looks} reads for {WATCHES} watches");

    // All of them receive the end.
    cluster.start_control().await.expect("it starts");
    while let Some(state) = watchers.join_next().await {
        assert_eq!(state.expect("no panic"), ImportState::Succeeded);
    }
    cluster.stop().await;
}
