//! A client that knows nothing but the address: it learns services and messages by reflection, as grpcurl does, and
//! speaks JSON. It runs the commands of `docs/grpcurl.md`, and makes every mistake that the page lists.

#![expect(clippy::expect_used, clippy::panic, reason = "a behaviour that is not there ends its test")]

mod dynamic;
mod mistakes;
mod page;
mod shown;

use std::sync::Arc;

use causeway_harness::cluster::{Cluster, Store};
use causeway_relocation::encrypted::PrivateKey;
use serde_json::json;

use crate::dynamic::Client;

const KEY: &str = include_str!("../encrypted-exports/test-key-private.pem");

/// A cluster in which only the region `us` can decrypt encrypted exports.
async fn cluster(regions: &[&str]) -> Cluster {
    let mut cluster = Cluster::start(Store::Sqlite, regions).await.expect("a cluster");
    cluster.configure_regions(|options| {
        if options.name == "us" {
            options.decryption_keys = vec![Arc::new(PrivateKey::from_pem(KEY).expect("a key"))];
        }
    });
    cluster.stop_region(0).await;
    cluster.start_region(0).await.expect("it starts");
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_services_are_listed_and_healthy() {
    let cluster = cluster(&["us"]).await;
    let control = Client::meet(&cluster.control_url()).await;
    let region = Client::meet(cluster.region(0).url()).await;
    for (client, names) in [
        (
            &control,
            &["DirectoryService", "RegionService", "SlugReservationService", "ControlImportService"][..],
        ),
        (&region, &["ImportService", "OrganizationService"]),
    ] {
        for name in names {
            let listed = client.services.iter().any(|service| service.ends_with(&format!(".{name}")));
            assert!(listed, "{name} is not in {:?}", client.services);
        }
        let health = client.call("grpc.health.v1.Health/Check", &[json!({})]).await.expect("it answers");
        assert_eq!(health, [json!({"status": "SERVING"})]);
    }
    drop((control, region));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_page_shows_is_what_happens() {
    let cluster = cluster(&["us"]).await;
    shown::run(&cluster).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mistake_has_a_documented_reason() {
    let mut cluster = cluster(&["us", "de"]).await;
    mistakes::make_all(&mut cluster).await;
    cluster.stop().await;
}
