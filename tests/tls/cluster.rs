//! A control and a region that speak mutual TLS with each other and with their callers.

use std::sync::Arc;

use causeway_client::{Client, Service, Timeouts};
use causeway_directory::{Directory, Options};
use causeway_harness::{
    cluster::{Cluster, ImportOptions, Store},
    pki::Pki,
};
use causeway_proto::region::v1::ImportState;
use causeway_silo::env::Environment;
use causeway_tls::Role;
use tokio::time::timeout;

use crate::support::{LIMIT, caller, example};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_over_mutual_tls_arrives_and_is_found_by_a_router() {
    let pki = Arc::new(Pki::new(Environment::system()).expect("a CA"));
    let cluster = Cluster::builder(Store::Sqlite).region("us").tls(&pki).start().await.expect("it starts");
    let import = cluster.region(0).import(&example(), &ImportOptions::default()).await.expect("it is taken");
    assert_eq!(import.state(), ImportState::Succeeded, "{import:?}");

    let tls = caller(&pki, Role::Router, "edge");
    let urls = [cluster.control_url()];
    let control = Client::with_tls(Service::Control, &urls, Timeouts::default(), Some(tls)).expect("a URL");
    let directory = Directory::follow(control, Options::default());
    timeout(LIMIT, directory.ready()).await.expect("it is ready in time");
    let found = directory.resolve("acme").expect("it is there");
    assert_eq!(found.region.as_ref(), "us");
    assert!(found.region_address.starts_with("https://127.0.0.1:"), "{found:?}");
    drop(directory);
    cluster.stop().await;
}
