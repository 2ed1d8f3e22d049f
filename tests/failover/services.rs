//! Control and a region on a database that moves.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use causeway_harness::{
    cluster::{Cluster, DatabaseServer, ImportOptions, Store},
    export::Export,
};
use causeway_proto::control::v1::{CheckSlugsRequest, ResolveSlugRequest, SlugVerdict};
use causeway_silo::db::ReplicaOptions;
use tonic::Code;

use crate::pair::{PATIENCE, Pair};

fn export(slug: &str) -> Vec<u8> {
    let mut export = Export::new();
    export.organization(1, slug).user(1, "ann").member(1, 1, 1).project(1, 1, "website");
    export.to_bytes()
}

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
    let region = cluster.region(0);
    region.import(&export("before"), &ImportOptions::default()).await.expect("it succeeds");
    // The region notes a little later that control's directory has it. If that were lost, only its next start would note it.
    cluster.quiet(PATIENCE).await.expect("it has been reported");
    pair.a.replicated_to(&pair.b).await.expect("it is replicated");
    pair.a.set_frozen(true).expect("it stops");
    pair.promote_b().await;

    let began = Instant::now();
    let id = loop {
        match region.begin(&export("after"), &ImportOptions::default()).await {
            Ok(begun) => break begun.import.expect("an import").import_id,
            Err(status) => assert!(began.elapsed() < PATIENCE, "{status}"),
        }
    };
    // Nothing is replicated synchronously here, so what a former primary answers until it is left is lost. Both controls
    // have left it before it comes back: while it stands still, only its successor can answer.
    for number in 0..2 {
        let control = cluster.control_number(number);
        let request = ResolveSlugRequest { slug: "before".to_owned() };
        while let Err(status) = control.directory().resolve_slug(request.clone()).await {
            assert!(began.elapsed() < PATIENCE, "control {number}: {status}");
        }
    }
    pair.a.set_frozen(false).expect("it goes on, as if nothing had happened");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_with_a_replica_resolves_there_and_decides_on_its_database() {
    let pair = Pair::start().await;
    let ways = [pair.a.url("{}")];
    let server = DatabaseServer::elsewhere(&pair.a.url("postgres"), &ways).expect("a server");
    let replica = ReplicaOptions { url: pair.b.url("control_0").into(), max_lag: Duration::from_secs(600) };
    let cluster = Cluster::builder(Store::Postgres)
        .on(&Arc::new(server))
        .region("us")
        .configure_control(move |options| options.replica = Some(replica.clone()))
        .start()
        .await
        .expect("it starts");
    let resolve = async |slug: &str| {
        let request = ResolveSlugRequest { slug: slug.to_owned() };
        cluster.control().directory().resolve_slug(request).await.map_err(|status| status.code())
    };
    let (region, began) = (cluster.region(0), Instant::now());
    region.import(&export("before"), &ImportOptions::default()).await.expect("it succeeds");
    // Only the replica can answer that it does not know a slug that is there. Until it is used, each one is found.
    let mut number = 0;
    let late = loop {
        pair.b.set_replay(false).await.expect("replay is paused");
        let late = format!("late-{number}");
        region.import(&export(&late), &ImportOptions::default()).await.expect("it succeeds");
        if matches!(resolve(&late).await, Err(Code::NotFound)) {
            break late;
        }
        pair.b.set_replay(true).await.expect("it goes on");
        number += 1;
        assert!(began.elapsed() < PATIENCE, "the replica is never used");
    };
    let request = CheckSlugsRequest { slugs: vec![late.clone()], ..CheckSlugsRequest::default() };
    let checked = cluster.control().directory().check_slugs(request).await.expect("it answers").into_inner();
    assert_eq!(checked.checks[0].verdict(), SlugVerdict::Taken, "{checked:?}");
    pair.b.set_replay(true).await.expect("it goes on");
    while resolve(&late).await.is_err() {
        assert!(began.elapsed() < PATIENCE, "the replica never has it");
    }
    cluster.stop().await;
}
