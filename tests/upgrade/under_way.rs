//! Imports that are under way while a service is replaced by one of this release.

use causeway_harness::cluster::{Act, Cluster, Failpoints, ImportOptions, Service, Store};
use causeway_proto::region::v1::{Import, ImportState};

use crate::support::{Release, all_is_well, export, started};

/// Places of control at which an import leaves something for the next control.
const OF_CONTROL: [&str; 4] = [
    "control.import_models.committed",
    "control.bulk_create.committed",
    "control.confirm.prepared",
    "control.confirm.committed",
];

/// Places of a region, one in each state of an import.
const OF_REGION: [&str; 7] = [
    "region.plan.made",
    "region.plan.stored",
    "region.ids.noted",
    "region.control_chunk.answered",
    "region.slugs.answered",
    "region.slugs.written",
    "region.finish.counted",
];

/// Has a service of the previous release die at each of these places, and one of this release continue.
async fn replaced_at(store: Store, service: Service, places: &[&str]) {
    for place in places {
        let failpoints = Failpoints::default();
        failpoints.arm(place, Act::Kill, 0);
        let old = Release::Previous;
        let mut cluster = started(store, old, old, &failpoints).await;
        let bytes = export(&["acme", "birch", "cedar"]);
        let begun = cluster.region(0).begin(&bytes, &ImportOptions::default()).await;
        let killed = cluster.ended(service).await.expect("it dies there");
        assert!(!killed.success(), "{place}: {killed}");
        failpoints.disarm();
        let import_id = begun.expect("begun").import.expect("an import").import_id;
        // What is left of the dead process is taken note of.
        cluster.kill(service).await;
        cluster.run_with(service, Release::This.program());
        cluster.start_service(service).await.expect("it starts");
        succeeds(&cluster, &import_id, place).await;
        all_new(cluster).await;
    }
}

async fn succeeds(cluster: &Cluster, import_id: &str, place: &str) {
    let import = cluster.region(0).wait(import_id).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded, "{place}: {import:?}");
    assert_eq!(import.organizations.len(), 3, "{place}");
}

/// Replaces what is still of the previous release, and checks every table.
async fn all_new(mut cluster: Cluster) {
    for service in [Service::Control(0), Service::Region(0)] {
        cluster.stop_service(service).await;
        cluster.run_with(service, Release::This.program());
        cluster.start_service(service).await.expect("it starts");
    }
    all_is_well(&cluster).await;
    cluster.assert_invariants().await.expect("no promise is broken");
    cluster.stop().await;
}

pub(crate) async fn an_import_goes_on_when_control_is_replaced_at_a_step(store: Store) {
    replaced_at(store, Service::Control(0), &OF_CONTROL).await;
}

pub(crate) async fn an_import_goes_on_when_its_region_is_replaced_at_a_step(store: Store) {
    replaced_at(store, Service::Region(0), &OF_REGION).await;
}

/// Both are stopped by SIGTERM in the middle of a larger import, in the order of docs/upgrades.md.
pub(crate) async fn an_import_goes_on_when_both_are_stopped_and_replaced(store: Store) {
    let old = Release::Previous;
    let mut cluster = started(store, old, old, &Failpoints::default()).await;
    let bytes = causeway_harness::export::large(150).to_bytes();
    let begun = cluster.region(0).begin(&bytes, &ImportOptions::default()).await.expect("begun");
    let import_id = begun.import.expect("an import").import_id;
    let writes = |import: &Import| import.state() == ImportState::Writing;
    cluster.region(0).wait_until(&import_id, writes).await.expect("it writes");
    let both = [Service::Control(0), Service::Region(0)];
    // Without control it cannot end.
    for service in both {
        cluster.stop_service(service).await;
    }
    for service in both {
        cluster.run_with(service, Release::This.program());
        cluster.start_service(service).await.expect("it starts");
    }
    let import = cluster.region(0).wait(&import_id).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded, "{import:?}");
    all_new(cluster).await;
}
