//! What ends at a shutdown, and what remains.

use std::time::{Duration, Instant};

use causeway_harness::cluster::{Service, Store};
use causeway_proto::{
    control::v1::WatchSlugReservationsRequest, failure::reason_of, region::v1::GetImportRequest,
    relocation::v1::ErrorReason,
};
use tokio::{net::TcpStream, time::timeout};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::{
    Begun, Hold, PATIENCE, REGION, covered, eventually, health, processes, reported, watch,
};

pub(crate) async fn a_region_that_is_terminated_ends_after_its_current_chunk(store: Store) {
    let cluster = processes(store, &["--shutdown-drain=200ms", "--shutdown-timeout=20s"]).await;
    let mut hold = Hold::projects(&cluster, store).await;
    let begun = Begun::half_written(&cluster).await;
    hold.reached().await;
    let address = cluster.region(0).url().trim_start_matches("http://").to_owned();
    let (_client, mut health) = health(cluster.region(0).url()).await;
    assert_eq!(reported(&mut health).await, Some(ServingStatus::Serving));
    let watching = watch(&cluster, &begun.id).await;

    let signalled = Instant::now();
    cluster.signal(REGION, "TERM").expect("it runs");
    assert_eq!(reported(&mut health).await, Some(ServingStatus::NotServing));
    let not_serving = Instant::now();
    assert!(!watching.is_finished(), "the watch ended before health said so");
    eventually("the port is closed", async || TcpStream::connect(&address).await.is_err()).await;
    // From here on, the region starts no chunk. It waits for the one in progress.
    hold.let_go().await;
    let status = cluster.ended(REGION).await.expect("it ends in time");
    assert_eq!(status.code(), Some(0), "{}", cluster.log(REGION).unwrap_or_default());
    assert!(signalled.elapsed() < Duration::from_secs(25), "{:?}", signalled.elapsed());
    assert_eq!(reported(&mut health).await, None);

    // The watcher saw everything that was written, and why the watch ended.
    let (last, status, ended) = watching.await.expect("it does not panic");
    assert_eq!((reason_of(&status), status.code()), (Some(ErrorReason::ShuttingDown), Code::Unavailable));
    assert!(ended > not_serving, "the watch ended before health said so");
    let (state, all) = covered(&cluster, "%").await;
    assert_eq!(state, "writing", "it was stopped too late for this test");
    let shown = last.models.iter().map(|it| it.inserted + it.existing + it.filtered + it.dropped);
    assert_eq!(shown.sum::<i64>(), all);
    if store == Store::Postgres {
        assert!(covered(&cluster, "sentry.project").await.1 > 0, "the current chunk is lost");
    }

    cluster.start_service(REGION).await.expect("it starts");
    begun.arrives(&cluster).await;
    cluster.stop().await;
}

pub(crate) async fn a_second_signal_ends_a_region_at_once_and_loses_nothing(store: Store) {
    // A graceful shutdown would take long.
    let cluster = processes(store, &["--shutdown-drain=25s", "--shutdown-timeout=25s"]).await;
    let begun = Begun::half_written(&cluster).await;
    let (_client, mut health) = health(cluster.region(0).url()).await;
    assert_eq!(reported(&mut health).await, Some(ServingStatus::Serving));
    cluster.signal(REGION, "TERM").expect("it runs");
    assert_eq!(reported(&mut health).await, Some(ServingStatus::NotServing));
    // The region still accepts calls, until the second signal.
    let asked = GetImportRequest { import_id: begun.id.clone() };
    cluster.region(0).imports().get_import(asked).await.expect("it still answers");
    let signalled = Instant::now();
    cluster.signal(REGION, "INT").expect("it runs");
    let status = cluster.ended(REGION).await.expect("it ends in time");
    assert_eq!(status.code(), Some(1));
    assert!(signalled.elapsed() < Duration::from_secs(10), "{:?}", signalled.elapsed());
    assert!(cluster.log(REGION).expect("a log").contains("stopped at once"));

    cluster.start_service(REGION).await.expect("it starts");
    begun.arrives(&cluster).await;
    // A graceful stop would take as long as the arguments above define.
    for service in [REGION, Service::Control(0)] {
        cluster.kill(service).await;
    }
    cluster.stop().await;
}

pub(crate) async fn a_control_that_is_terminated_ends_its_feeds(store: Store) {
    let cluster = processes(store, &["--shutdown-drain=100ms"]).await;
    let control = Service::Control(0);
    let request = WatchSlugReservationsRequest { region: "us".to_owned(), ..Default::default() };
    let mut feed = None;
    eventually("the region has registered", async || {
        let opened = cluster.control().reservations().watch_slug_reservations(request.clone()).await;
        feed = opened.ok().map(tonic::Response::into_inner);
        feed.is_some()
    })
    .await;
    let mut feed = feed.expect("it is open");
    feed.message().await.expect("it is not broken").expect("a beginning");
    let (_client, mut health) = health(&cluster.control_url()).await;
    assert_eq!(reported(&mut health).await, Some(ServingStatus::Serving));

    cluster.signal(control, "TERM").expect("it runs");
    assert_eq!(reported(&mut health).await, Some(ServingStatus::NotServing));
    let status = loop {
        match timeout(PATIENCE, feed.message()).await.expect("something is reported") {
            Ok(message) => drop(message.expect("it ends with a reason")),
            Err(status) => break status,
        }
    };
    assert_eq!((reason_of(&status), status.code()), (Some(ErrorReason::ShuttingDown), Code::Unavailable));
    assert_eq!(cluster.ended(control).await.expect("it ends in time").code(), Some(0));

    // The region that follows its feed reconnects.
    cluster.start_service(control).await.expect("it starts");
    let begun = Begun::half_written(&cluster).await;
    begun.arrives(&cluster).await;
    cluster.quiet(PATIENCE).await.expect("the region has heard all of its feed");
    cluster.stop().await;
}

pub(crate) async fn a_region_without_its_database_says_so_and_goes_on_when_it_is_back(store: Store) {
    let cluster = processes(store, &["--health-interval=50ms", "--database-acquire-timeout=1s"]).await;
    let begun = Begun::half_written(&cluster).await;
    let (_client, mut health) = health(cluster.region(0).url()).await;
    assert_eq!(reported(&mut health).await, Some(ServingStatus::Serving));
    let watching = watch(&cluster, &begun.id).await;

    cluster.stop_database().await.expect("it stops");
    assert_eq!(reported(&mut health).await, Some(ServingStatus::NotServing));
    // Watchers and callers get the reason, and the import does not fail.
    let (_, status, _) = timeout(PATIENCE, watching).await.expect("it ends").expect("it does not panic");
    assert_eq!(reason_of(&status), Some(ErrorReason::DatabaseUnavailable), "{status:?}");
    let asked = GetImportRequest { import_id: begun.id.clone() };
    let status = cluster.region(0).imports().get_import(asked).await.expect_err("there is no database");
    assert_eq!(reason_of(&status), Some(ErrorReason::DatabaseUnavailable), "{status:?}");
    eventually("the import waits", async || {
        let log = cluster.log(REGION).expect("a log");
        log.lines().any(|line| {
            line.contains("an import waits and tries again")
                && line.contains(ErrorReason::DatabaseUnavailable.as_str_name())
        })
    })
    .await;
    assert!(cluster.is_running(REGION));

    cluster.start_database().await.expect("it starts");
    assert_eq!(reported(&mut health).await, Some(ServingStatus::Serving));
    begun.arrives(&cluster).await;
    cluster.stop().await;
}
