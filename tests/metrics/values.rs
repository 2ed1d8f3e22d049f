//! Values that are not zero: what falls behind, and what is tried again.

use std::time::Instant;

use causeway_harness::cluster::{Cluster, Service, Silo, Store};
use causeway_proto::control::v1::WatchSlugReservationsRequest;
use causeway_silo::db::Statement;
use futures::future::join_all;
use uuid::Uuid;

use crate::support::{PATIENCE, Scrape, metrics_of};

async fn started(store: Store, serializable: bool) -> Cluster {
    let builder = Cluster::builder(store)
        .region("us")
        .processes(env!("CARGO_BIN_EXE_causeway"))
        .arguments(&["--metrics-listen=127.0.0.1:0"]);
    let builder = if serializable { builder.serializable() } else { builder };
    builder.start().await.expect("a cluster; on PostgreSQL this test needs one installed")
}

fn operation(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_reads_nothing_lags_behind_its_feed() {
    const LAG: &str = "causeway_feed_lag_changes{region=\"us\"}";
    let cluster = started(Store::Sqlite, false).await;
    let control = metrics_of(&cluster, Service::Control(0)).await;
    Scrape::until(control, |scrape| scrape.value(LAG) == Some(0.0)).await;
    // A stream of the region that nobody reads, in place of its own one.
    cluster.stop_service(Service::Region(0)).await;
    let db = cluster.db(Silo::Control).await.expect("its database");
    let read = Statement::new("SELECT instance_id FROM causeway_region");
    let row = db.fetch_optional(read).await.expect("read").expect("it has registered");
    let instance_id = row.uuid("instance_id").expect("its id");
    db.close().await;
    let request = WatchSlugReservationsRequest {
        region: "us".to_owned(),
        after_version: 0,
        instance_id: instance_id.to_string(),
    };
    let watch =
        cluster.control().reservations().watch_slug_reservations(request).await.expect("it is opened");
    // More than the buffers between the two have room for.
    let mut number = 0;
    let until = Instant::now() + PATIENCE;
    while !Scrape::of(control).await.value(LAG).is_some_and(|lag| lag > 0.0) {
        let shown = Scrape::of(control).await.text;
        assert!(Instant::now() < until, "no lag after {number} reservations:\n{shown}");
        let wanted: Vec<(i64, String)> = (number..number + 5_000)
            .map(|id| (9_000_000 + id, format!("slug-of-some-length-{id}")))
            .collect();
        number += 5_000;
        let id = operation(u128::try_from(number).expect("a number"));
        cluster.control().reserve_all("us", &id, &wanted).await.expect("reserved");
        // Only what is confirmed is in the feed.
        cluster.control().confirm("us", &id).await.expect("confirmed");
    }
    drop(watch);
    cluster.start_service(Service::Region(0)).await.expect("it starts");
    Scrape::until(control, |scrape| scrape.value(LAG) == Some(0.0)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_lost_is_counted_by_its_sqlstate() {
    const RETRIES: &str = "causeway_transaction_retries_total{sqlstate=\"40001\"}";
    let cluster = started(Store::Postgres, true).await;
    let control = metrics_of(&cluster, Service::Control(0)).await;
    Scrape::until(control, |scrape| scrape.value("causeway_regions{state=\"registered\"}") == Some(1.0))
        .await;
    assert_eq!(Scrape::of(control).await.value(RETRIES), None);
    let until = Instant::now() + PATIENCE;
    let mut number: u32 = 0;
    while Scrape::of(control).await.value(RETRIES).is_none() {
        assert!(Instant::now() < until, "no transaction has lost in {number} calls");
        // All want the same slug, at once.
        let calls = (number..number + 16).map(async |number| {
            let id = operation(number.into());
            cluster.control().reserve("us", &id, 9_000_000 + i64::from(number), "wanted").await
        });
        for given in join_all(calls).await {
            given.expect("it is tried again until it succeeds");
        }
        number += 16;
    }
    assert!(Scrape::of(control).await.value(RETRIES).is_some_and(|retries| retries >= 1.0));
    cluster.stop().await;
}
