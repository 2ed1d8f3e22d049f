//! Services of both releases together.

use causeway_harness::{
    cluster::{Cluster, Failpoints, ImportOptions, LinkState, Service, Store},
    export, process,
};
use causeway_proto::region::v1::{Import, ImportState, RevertImportRequest};

use crate::support::{PATIENCE, Release, all_is_well, cluster, imported, rename, started};

/// Imports, renames, reverts and compares.
async fn everything_works(cluster: &Cluster) {
    let import = imported(cluster, &["acme", "birch"]).await;
    rename(cluster, import.organizations[0].id, "cedar").await;
    let other = imported(cluster, &["dune"]).await;
    let request = RevertImportRequest { import_id: other.import_id.clone() };
    cluster.region(0).imports().revert_import(request).await.expect("reverting");
    let other = cluster.region(0).wait(&other.import_id).await.expect("it ends");
    assert_eq!(other.state(), ImportState::Reverted, "{other:?}");
    let dry = ImportOptions::default().dry_run();
    let dry = cluster.region(0).import(&crate::support::export(&["elm"]), &dry).await.expect("it ends");
    assert_eq!(dry.state(), ImportState::Planned, "{dry:?}");
    all_is_well(cluster).await;
    imported(cluster, &["dune"]).await;
    all_is_well(cluster).await;
}

/// Replaces both services by those of this release, and checks every table.
async fn in_the_end(mut cluster: Cluster) {
    for service in [Service::Control(0), Service::Region(0)] {
        cluster.stop_service(service).await;
        cluster.run_with(service, Release::This.program());
        cluster.start_service(service).await.expect("it starts");
    }
    all_is_well(&cluster).await;
    imported(&cluster, &["fig"]).await;
    all_is_well(&cluster).await;
    cluster.assert_invariants().await.expect("no promise is broken");
    cluster.stop().await;
}

pub(crate) async fn a_new_control_serves_old_regions(store: Store) {
    let cluster = started(store, Release::This, Release::Previous, &Failpoints::default()).await;
    everything_works(&cluster).await;
    in_the_end(cluster).await;
}

pub(crate) async fn new_regions_work_with_an_old_control(store: Store) {
    let cluster = started(store, Release::Previous, Release::This, &Failpoints::default()).await;
    everything_works(&cluster).await;
    in_the_end(cluster).await;
}

pub(crate) async fn an_old_command_and_a_new_one_work_with_both(store: Store) {
    for (control, region) in [(Release::Previous, Release::This), (Release::This, Release::Previous)] {
        let cluster = started(store, control, region, &Failpoints::default()).await;
        imported(&cluster, &["acme"]).await;
        let (at_control, at_region) = (cluster.control_url(), cluster.url(Service::Region(0)));
        for release in [Release::Previous, Release::This] {
            for arguments in [
                ["slugs", "resolve", "acme", "--control", &at_control],
                ["imports", "list", "--region", &at_region, "--output=text"],
                ["reconcile", "--check", "--region", &at_region, "--output=text"],
                ["audit", "verify", "--control", &at_control, "--"],
            ] {
                let arguments = arguments.iter().filter(|argument| **argument != "--");
                let ended = process::command(release.program()).args(arguments).output().expect("it runs");
                assert!(ended.status.success(), "{release:?}: {ended:?}");
            }
        }
        cluster.stop().await;
    }
}

/// An import that writes, and cannot end: its region does not reach control any more.
async fn held(cluster: &Cluster) -> String {
    let bytes = export::large(60).to_bytes();
    let begun = cluster.region(0).begin(&bytes, &ImportOptions::default()).await.expect("begun");
    let import_id = begun.import.expect("an import").import_id;
    let writes = |import: &Import| import.state() == ImportState::Writing;
    cluster.region(0).wait_until(&import_id, writes).await.expect("it writes");
    cluster.set_link_state(0, LinkState::Cut);
    import_id
}

/// The import was under way all the time that something else was done, and goes on to its end.
async fn goes_on(cluster: &Cluster, import_id: &str) {
    let import = cluster.region(0).wait_until(import_id, |_| true).await.expect("it is there");
    assert!(!import.state().is_final(), "it has ended too early: {import:?}");
    cluster.set_link_state(0, LinkState::Open);
    let import = cluster.region(0).wait(import_id).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded, "{import:?}");
}

/// Two controls of the previous release. One is replaced, which migrates the database, while an import runs through both.
pub(crate) async fn an_old_control_goes_on_while_a_new_one_migrates_its_database() {
    let old = Release::Previous;
    let mut cluster = cluster(Store::Postgres, old, old).controls(2).start().await.expect("a cluster");
    let import_id = held(&cluster).await;
    let new = Service::Control(1);
    cluster.stop_service(new).await;
    cluster.run_with(new, Release::This.program());
    cluster.start_service(new).await.expect("it starts");
    goes_on(&cluster, &import_id).await;
    // The old one still serves alone, with the new tables.
    cluster.stop_service(new).await;
    let import = imported(&cluster, &["acme", "birch"]).await;
    rename(&cluster, import.organizations[0].id, "cedar").await;
    cluster.start_service(new).await.expect("it starts");
    cluster.stop_service(Service::Control(0)).await;
    cluster.run_with(Service::Control(0), Release::This.program());
    cluster.start_service(Service::Control(0)).await.expect("it starts");
    in_the_end_of_two(cluster).await;
}

async fn in_the_end_of_two(mut cluster: Cluster) {
    let region = Service::Region(0);
    cluster.stop_service(region).await;
    cluster.run_with(region, Release::This.program());
    cluster.start_service(region).await.expect("it starts");
    all_is_well(&cluster).await;
    cluster.assert_invariants().await.expect("no promise is broken");
    cluster.stop().await;
}

/// A process of a region of this release starts beside one of the previous release, while that imports.
pub(crate) async fn an_old_region_goes_on_while_a_new_process_migrates_its_database() {
    let old = Release::Previous;
    let cluster = cluster(Store::Postgres, old, old).start().await.expect("a cluster");
    let import_id = held(&cluster).await;
    let second = cluster.start_second_process(0).await.expect("it starts");
    goes_on(&cluster, &import_id).await;
    let import = second.region().import(&crate::support::export(&["acme"]), &ImportOptions::default()).await;
    assert_eq!(import.expect("it ends").state(), ImportState::Succeeded);
    imported(&cluster, &["birch"]).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    second.stop().await;
    in_the_end(cluster).await;
}
