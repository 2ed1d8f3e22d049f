//! Control and a region on a database that moves.

use std::{sync::Arc, time::Instant};

use causeway_harness::{
    cluster::{Cluster, DatabaseServer, ImportOptions, Store},
    export::Export,
};

use crate::pair::{PATIENCE, Pair};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_goes_on_after_the_database_of_both_services_has_moved() {
    let pair = Pair::start().await;
    let url = pair.url("").replace("/db?", "/{}?");
    let server = DatabaseServer::elsewhere(&pair.a.url("postgres"), &[url]).expect("a server");
    let cluster = Cluster::builder(Store::Postgres)
        .on(&Arc::new(server))
        .controls(2)
        .region("us")
        .start()
        .await
        .expect("it starts");
    let export = |slug: &str| {
        let mut export = Export::new();
        export.organization(1, slug).user(1, "ann").member(1, 1, 1).project(1, 1, "website");
        export.to_bytes()
    };
    let region = cluster.region(0);
    region.import(&export("before"), &ImportOptions::default()).await.expect("it succeeds");
    pair.a.replicated_to(&pair.b).await.expect("it is replicated");
    pair.a.set_frozen(true).expect("it stops");
    pair.promote_b().await;
    pair.a.set_frozen(false).expect("it goes on, as if nothing had happened");

    let began = Instant::now();
    let id = loop {
        match region.begin(&export("after"), &ImportOptions::default()).await {
            Ok(begun) => break begun.import.expect("an import").import_id,
            Err(status) => assert!(began.elapsed() < PATIENCE, "{status}"),
        }
    };
    while let Err(status) = region.wait(&id).await {
        assert!(began.elapsed() < PATIENCE, "{status}");
    }
    cluster.quiet(PATIENCE).await.expect("it is quiet");
    cluster.assert_invariants().await.expect("no promise is broken");
    let mut slugs: Vec<String> = region
        .visible_organizations()
        .await
        .expect("it answers")
        .into_iter()
        .map(|organization| organization.slug)
        .collect();
    slugs.sort();
    assert_eq!(slugs, ["after", "before"]);
    cluster.stop().await;
}
