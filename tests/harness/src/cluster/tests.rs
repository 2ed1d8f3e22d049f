//! Tests of clusters, and of the faults that they can have.

use std::time::Duration;

use causeway_proto::{
    control::v1::{GetRegionRequest, ListRegionsRequest},
    region::v1::ImportState,
};
use causeway_silo::db::Statement;
use tokio::net::TcpStream;
use tonic::Code;

use super::*;
use crate::export::Export;

const SOON: Duration = Duration::from_secs(30);

fn small() -> Vec<u8> {
    let mut export = Export::new();
    export.organization(1, "one").organization(2, "one").user(1, "ann").email(1, "ann@example.com");
    export.user_email(1, 1, "ann@example.com").member(1, 1, 1).member(2, 2, 1).project(1, 1, "p");
    export.to_bytes()
}

async fn count(cluster: &Cluster, silo: Silo, table: &str) -> i64 {
    let db = cluster.shared_db(silo).await.unwrap();
    let row = db.fetch_all(Statement::new("SELECT count(*) AS count FROM ").push(table)).await.unwrap();
    row[0].int("count").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_come_back_where_they_were_and_leave_nothing() {
    let mut cluster = Cluster::start(Store::Sqlite, &["us", "de"]).await.unwrap();
    let directory = cluster.directory.path().to_owned();
    let (control, us) = (cluster.control_url(), cluster.region(0).url().to_owned());
    let knock = async |url: &str| TcpStream::connect(url.trim_start_matches("http://")).await;

    cluster.stop_control().await;
    cluster.stop_region(0).await;
    knock(&control).await.unwrap_err();
    knock(&us).await.unwrap_err();
    cluster.start_region(0).await.unwrap();
    cluster.start_control().await.unwrap();
    cluster.start_control().await.unwrap();
    assert_eq!((cluster.control_url(), cluster.region(0).url()), (control, us.as_str()));

    // A client that connected before need not notice. Regions register when they reach control.
    let import = cluster.region(0).import(b"[]", &ImportOptions::default()).await.unwrap();
    assert_eq!(import.region, "us");
    let mut regions = cluster.control().regions();
    let asked = regions.get_region(GetRegionRequest { name: "us".to_owned() }).await.unwrap();
    assert_eq!(asked.into_inner().region.unwrap().address, us);
    regions.list_regions(ListRegionsRequest::default()).await.unwrap();

    cluster.stop().await;
    knock(&us).await.unwrap_err();
    assert!(!directory.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_killed_is_gone_at_once_and_goes_on_when_it_is_back() {
    let cluster = Cluster::start(Store::Sqlite, &["us"]).await.unwrap();
    let id =
        cluster.region(0).begin(&small(), &ImportOptions::default()).await.unwrap().import.unwrap().import_id;
    for service in [Service::Region(0), Service::Control(0)] {
        cluster.kill(service).await;
        assert!(!cluster.is_running(service));
    }
    cluster.killed().await;
    TcpStream::connect(cluster.control_url().trim_start_matches("http://")).await.unwrap_err();
    let before = count(&cluster, Silo::Region(0), "causeway_import_chunk").await;
    cluster.start_service(Service::Region(0)).await.unwrap();
    // Without control, the import can write nothing beyond its plan.
    assert_eq!(count(&cluster, Silo::Region(0), "causeway_import_chunk").await, before);
    cluster.quiet(Duration::from_millis(50)).await.unwrap_err();
    cluster.heal().await.unwrap();
    cluster.quiet(SOON).await.unwrap();
    assert_eq!(cluster.region(0).wait(&id).await.unwrap().state(), ImportState::Succeeded);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failpoint_fails_or_kills_once_and_counts() {
    let (failpoints, life) = (Failpoints::default(), Arc::new(node::Life::default()));
    let hook =
        failpoints.hook(Service::Region(0), Arc::clone(&life), Environment::system(), Trace::default());
    hook("a").await.unwrap();
    failpoints.arm("a", Act::Fail, 1);
    failpoints.arm("b", Act::Kill, 0);
    assert_eq!(failpoints.to_environment(), "a=fail@1,b=kill@0");
    hook("a").await.unwrap();
    hook("a").await.unwrap_err();
    hook("a").await.unwrap();
    let never = tokio::time::timeout(Duration::from_millis(20), hook("b"));
    never.await.unwrap_err();
    assert!(!failpoints.is_armed());
    assert_eq!(failpoints.all_reached(), [("a", 4), ("b", 1)].into());
    failpoints.set_chances(1000, 0);
    hook("c").await.unwrap_err();
    failpoints.disarm();
    hook("c").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_get_lost_and_come_twice_as_the_weather_says() {
    let cluster = Cluster::start(Store::Sqlite, &["us"]).await.unwrap();
    let begin = async |id: &str| {
        let options = ImportOptions::default().import_id(id);
        cluster.region_by_link(0).begin(&small(), &options).await
    };
    let imports = async || count(&cluster, Silo::Region(0), "causeway_import").await;
    let id = |number: u8| format!("3b1f5a3e-8d1f-4b9e-9a1e-0a6b6f2f7c0{number}");

    cluster.set_call_faults(CallFaults { lose_requests: 1000, ..CallFaults::default() });
    assert_eq!(begin(&id(1)).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(imports().await, 0);

    cluster.set_call_faults(CallFaults { lose_answers: 1000, ..CallFaults::default() });
    assert_eq!(begin(&id(1)).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(imports().await, 1);

    // The second call joins the import that the first one began.
    cluster.set_call_faults(CallFaults { repeat: 1000, ..CallFaults::default() });
    begin(&id(2)).await.unwrap();
    assert_eq!(imports().await, 2);

    cluster.set_call_faults(CallFaults {
        delay: 1000,
        longest_delay: Duration::from_millis(5),
        ..CallFaults::default()
    });
    begin(&id(3)).await.unwrap();
    cluster.heal().await.unwrap();
    cluster.quiet(SOON).await.unwrap();
    assert_eq!(count(&cluster, Silo::Region(0), "sentry_organization").await, 6);
    let trace = cluster.trace().to_string();
    for outcome in ["LoseRequest", "LoseAnswer", "Repeat", "Delay"] {
        assert!(trace.contains(outcome), "{trace}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_road_keeps_an_import_waiting() {
    let cluster = Cluster::start(Store::Sqlite, &["us"]).await.unwrap();
    for link_state in [LinkState::Cut, LinkState::Silent] {
        cluster.set_link_state(0, link_state);
        let begun = cluster.region(0).begin(&small(), &ImportOptions::default()).await.unwrap();
        let id = begun.import.unwrap().import_id;
        if link_state == LinkState::Cut {
            cluster.region(0).wait_until(&id, |import| import.waiting.is_some()).await.unwrap();
        }
        let waits = cluster.quiet(Duration::from_millis(100)).await.unwrap_err().to_string();
        assert!(waits.contains(&id), "{waits}");
        cluster.set_link_state(0, LinkState::Open);
        cluster.quiet(SOON).await.unwrap();
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_hangs_says_what_it_waits_for_and_then_what_happened() {
    let cluster = Cluster::start(Store::Sqlite, &["us"]).await.unwrap();
    cluster.set_link_state(0, LinkState::Cut);
    let begun = cluster.region(0).begin(&small(), &ImportOptions::default()).await.unwrap();
    let id = begun.import.unwrap().import_id;
    cluster.kill(Service::Control(0)).await;
    let wait = cluster.trace().wait("the end of the import");
    wait.tried("it waits");
    // The import cannot end, however long it takes to notice that it hangs.
    let doing = async { Ok(cluster.region(0).wait(&id).await?) };
    let hangs = cluster.unless_it_hangs(Duration::from_millis(100), doing).await.unwrap_err();
    let explained = cluster.explain(&hangs).to_string();
    let place =
        |words: &str| explained.find(words).unwrap_or_else(|| panic!("{words} is missing: {explained}"));
    let order = [
        "nothing has happened for 100ms",
        "waits for the end of the import, for ",
        "at last: it waits",
        "these do not run: control 0",
        &format!("import {id} of us: "),
        "what happened:",
        "us -> control: Cut",
    ]
    .map(place);
    assert!(order.is_sorted(), "{explained}");
    drop(wait);
    cluster.heal().await.unwrap();
    // An operation that makes progress is not interrupted, and its result is returned.
    let done = cluster.unless_it_hangs(SOON, async { Ok(cluster.region(0).wait(&id).await?) }).await;
    assert_eq!(done.unwrap().state(), ImportState::Succeeded);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_may_share_a_ground() {
    for store in [Store::Sqlite, Store::Postgres] {
        let database_server = Arc::new(DatabaseServer::new(store).await.unwrap());
        for _ in 0..2 {
            let cluster =
                Cluster::builder(store).on(&database_server).region("us").seed(7).start().await.unwrap();
            let import = cluster.region(0).import(&small(), &ImportOptions::default()).await.unwrap();
            assert_eq!(import.organization_count, 2);
            if store == Store::Postgres {
                cluster.crash_database(Duration::from_millis(10)).await.unwrap();
                cluster.region(0).import(&small(), &ImportOptions::default()).await.unwrap();
            }
            cluster.quiet(SOON).await.unwrap();
            cluster.stop().await;
        }
    }
}
