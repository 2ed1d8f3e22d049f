//! Running services.

use std::time::{Duration, Instant};

use causeway_control::model::region::AcceptRegions;
use causeway_harness::{
    cluster::{Cluster, ImportOptions, Service, Silo, Store},
    export,
};
use causeway_proto::{
    control::v1::{AddRegionRequest, RemoveRegionRequest, ResumeRegionRequest, SuspendRegionRequest},
    region::v1::ImportState,
};
use causeway_silo::db::Statement;

use crate::{Found, doctor, run};

const OPERATION: &str = "7d7e8f10-2b3c-4d5e-8f90-a1b2c3d4e5f7";

async fn control(cluster: &Cluster) -> Found {
    doctor(&["--control", &cluster.control_url()]).await
}

async fn region(cluster: &Cluster) -> Found {
    doctor(&["--region", &cluster.url(Service::Region(0))]).await
}

async fn change(cluster: &Cluster, sql: &str) {
    let statements = [Statement::new("").push(sql)];
    cluster.change(Silo::Control, &statements).await.expect("it is changed");
}

/// Waits until the health of a service is as wanted, and returns what is found then.
pub(crate) async fn until_healthy<F: Future<Output = Found>>(
    is_healthy: bool,
    look: impl Fn() -> F,
) -> Found {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let found = look().await;
        if found.faults().contains(&("health", "error")) != is_healthy || Instant::now() > until {
            return found;
        }
    }
}

/// Runs the command that a text has in backticks and that begins with these words, with `more` words behind.
pub(crate) async fn run_printed(text: &str, words: &str, more: &[&str]) {
    let command = text.split('`').find(|part| part.starts_with(words));
    let command = command.unwrap_or_else(|| panic!("no {words:?} in {text}"));
    let arguments: Vec<&str> = command.split(' ').skip(1).chain(more.iter().copied()).collect();
    let output = run(&arguments).await;
    assert!(output.status.success(), "{command}: {output:?}");
}

async fn what_control_finds(store: Store) {
    let mut cluster = Cluster::start(store, &["us"]).await.expect("a cluster");
    control(&cluster).await.has("healthy", &[]);

    let mut regions = cluster.control().regions();
    regions.add_region(AddRegionRequest { name: "mars".to_owned() }).await.expect("added");
    let text = control(&cluster).await.has("added", &[("registration", "warning")]);
    assert!(text.contains("mars was added and has never registered"), "{text}");
    regions.remove_region(RemoveRegionRequest { name: "mars".to_owned() }).await.expect("removed");

    let suspend = SuspendRegionRequest { name: "us".to_owned(), text: "moving".to_owned() };
    regions.suspend_region(suspend).await.expect("suspended");
    let text = control(&cluster).await.has("suspended", &[("registration", "warning")]);
    assert!(text.contains("moving"), "{text}");
    run_printed(&text, "causeway regions resume us", &[]).await;
    regions
        .resume_region(ResumeRegionRequest { name: "us".to_owned() })
        .await
        .expect("it is resumed already");

    change(&cluster, "UPDATE causeway_region SET certificate_end = '2020-01-01T00:00:00Z'").await;
    let text = control(&cluster).await.has("certificate", &[("certificates", "warning")]);
    assert!(text.contains("region us") && text.contains("2020-01-01"), "{text}");
    change(&cluster, "UPDATE causeway_region SET certificate_end = NULL").await;

    cluster.control().reserve("us", OPERATION, 700_001, "stuck").await.expect("reserved");
    control(&cluster).await.has("a fresh reservation", &[]);
    change(&cluster, "UPDATE causeway_slug_operation SET updated_at = '2020-01-01T00:00:00Z'").await;
    let text = control(&cluster).await.has("stuck", &[("reservations", "warning")]);
    assert!(text.contains(OPERATION) && text.contains("of 1 organization"), "{text}");
    run_printed(&text, "causeway slugs release-operation", &[]).await;
    control(&cluster).await.has("released", &[]);

    // Whoever answers at the address of a region must be that region.
    let address = cluster.url(Service::Region(0));
    let other = cluster.control_url();
    change(&cluster, &format!("UPDATE causeway_region SET address = '{other}'")).await;
    let text = control(&cluster).await.has("another answers", &[("reachable", "error")]);
    assert!(text.contains("another service than region us"), "{text}");
    change(&cluster, &format!("UPDATE causeway_region SET address = '{address}'")).await;

    cluster.stop_region(0).await;
    let text = control(&cluster).await.has("a region is away", &[("reachable", "error")]);
    assert!(text.contains("region us cannot be reached at"), "{text}");
    change(&cluster, "UPDATE causeway_region SET last_contact_at = '2020-01-01T00:00:00Z'").await;
    let text = control(&cluster).await.has("silent", &[("feed", "error"), ("reachable", "error")]);
    assert!(text.contains("heard nothing from region us for"), "{text}");
    cluster.start_region(0).await.expect("started");

    cluster.refuse_rows(Silo::Control, "causeway_health", true).await.expect("refused");
    let found = until_healthy(false, || control(&cluster)).await;
    let text = found.has("no writes", &[("health", "error")]);
    assert!(text.contains("NOT_SERVING"), "{text}");

    let text = doctor(&["--control", &address]).await.has("a region for control", &[("reachable", "error")]);
    assert!(text.contains("is a region, and not control"), "{text}");
    cluster.stop().await;
}

async fn what_a_region_finds(store: Store) {
    let cluster = Cluster::start(store, &["us"]).await.expect("a cluster");
    // Imports are served as soon as control knows the region.
    until_healthy(true, || region(&cluster)).await.has("healthy", &[]);

    let bytes = br#"[{"model": "sentry.user", "pk": 7, "fields": {"username": 1}}]"#;
    let import = cluster.region(0).import(bytes, &ImportOptions::default()).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Failed);
    let text = region(&cluster).await.has("failed", &[("imports", "warning")]);
    assert!(text.contains(&import.import_id) && text.contains("mend the file"), "{text}");
    assert!(!text.contains("imports resume"), "the file is gone: {text}");
    run_printed(&text, "causeway imports revert", &["--yes"]).await;
    region(&cluster).await.has("reverted", &[]);

    let bytes = export::exhaustive().expect("an export").to_bytes();
    let import = cluster.region(0).import(&bytes, &ImportOptions::default()).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded);
    region(&cluster).await.has("imported", &[]);
    change(&cluster, "DELETE FROM causeway_organization").await;
    let text = region(&cluster).await.has("a difference", &[("differences", "error")]);
    assert!(text.contains("causeway reconcile --check"), "{text}");
    let url = cluster.url(Service::Region(0));
    let output = run(&["reconcile", "--repair", "--region", &url]).await;
    assert!(output.status.success(), "{output:?}");
    region(&cluster).await.has("repaired", &[]);

    cluster.stop_service(Service::Control(0)).await;
    let found = region(&cluster).await;
    let text = found.has("control is away", &[("differences", "error")]);
    assert!(text.contains("were not compared"), "{text}");
    cluster.stop_service(Service::Region(0)).await;
    let text = region(&cluster).await.has("away", &[("reachable", "error")]);
    assert!(text.contains(&url) && text.contains("refused"), "{text}");
    cluster.stop().await;
}

/// Control says what to do about a region that nobody has added; the doctor prints that with control's address.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_doctor_says_of_a_region_that_was_not_added_can_be_pasted() {
    let cluster = Cluster::builder(Store::Sqlite)
        .region("us")
        .configure_control(|options| options.accept_regions = AcceptRegions::Added)
        .start()
        .await
        .expect("a cluster");
    let found = region(&cluster).await;
    let said = found.findings.iter().find(|finding| finding.text.contains("causeway regions add us"));
    let said = said.unwrap_or_else(|| panic!("{:#?}", found.findings));
    run_printed(&said.text, "causeway regions add us", &[]).await;
    until_healthy(true, || region(&cluster)).await.has("added", &[]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_control_and_its_regions_is_found_on_sqlite() {
    what_control_finds(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_control_and_its_regions_is_found_on_postgres() {
    what_control_finds(Store::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_region_is_found_on_sqlite() {
    what_a_region_finds(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_region_is_found_on_postgres() {
    what_a_region_finds(Store::Postgres).await;
}
