//! While control works on the slugs of an import, the import has no turn: how many do that at once is limited, and
//! afterwards each takes its turn again.

use causeway_harness::{
    cluster::{Act, Cluster, Failpoints, ImportOptions, Store},
    export::Export,
};
use causeway_proto::{control::v1::ReleaseOrganizationSlugReservationsRequest, region::v1::ImportState};

use crate::support::eventually;

/// A region that works on one import at a time.
async fn one_at_a_time(store: Store, failpoints: &Failpoints) -> Cluster {
    let builder = Cluster::builder(store).region("us").failpoints(failpoints);
    let builder = builder.configure_regions(|options| options.limits.imports_at_once = 1);
    builder.start().await.expect("a cluster; on PostgreSQL this test needs one installed")
}

fn organization(pk: i64) -> Vec<u8> {
    let mut export = Export::new();
    export.organization(pk, &format!("tenant-{pk}"));
    export.to_bytes()
}

pub(crate) async fn four_imports_at_once_ask_for_slugs(store: Store) {
    let failpoints = Failpoints::default();
    let cluster = one_at_a_time(store, &failpoints).await;
    let (region, options) = (cluster.region(0), ImportOptions::default());
    for _ in 0..4 {
        failpoints.arm("region.slugs.asking", Act::Hold, 0);
    }
    let mut ids = Vec::new();
    for pk in 1..=6 {
        let begun = region.begin(&organization(pk), &options).await.expect("it begins");
        ids.push(begun.import.unwrap_or_default().import_id);
    }
    eventually("all have chosen what to ask for", async || failpoints.reached("region.slugs.chosen") == 6)
        .await;
    eventually("four ask", async || failpoints.reached("region.slugs.asking") == 4).await;
    // Turns are given in the order in which they are waited for. So before a dry run has had its turns, both other imports
    // have had theirs, in which they came to ask.
    for pk in 7..=8 {
        let dry = region.import(&organization(pk), &ImportOptions::default().dry_run()).await;
        assert_eq!(dry.expect("it ends").state(), ImportState::Planned);
    }
    assert_eq!(failpoints.reached("region.slugs.asking"), 4, "more than four ask at once");
    let mut ended = 0;
    eventually("all end", async || {
        failpoints.release();
        while ended < ids.len() {
            let now = region.wait_until(&ids[ended], |_| true).await.expect("it is there");
            if !now.state().is_final() {
                return false;
            }
            assert_eq!(now.state(), ImportState::Succeeded, "{:?}", now.failure);
            ended += 1;
        }
        true
    })
    .await;
    assert_eq!(failpoints.reached("region.slugs.asking"), 6);
    cluster.stop().await;
}

/// An operator releases the slugs of an import before it confirms them, so it asks again under another operation. All that
/// it writes meanwhile, it writes in its turn.
pub(crate) async fn an_import_takes_its_turn_again_after_an_error_of_control(store: Store) {
    let failpoints = Failpoints::default();
    let cluster = one_at_a_time(store, &failpoints).await;
    let region = cluster.region(0);
    failpoints.arm("region.slugs.written", Act::Hold, 0);
    let begun = region.begin(&organization(1), &ImportOptions::default()).await.expect("it begins");
    let id = begun.import.unwrap_or_default().import_id;
    failpoints.held().await;
    let reserved = cluster.control().all_reservations().await.expect("a list");
    let request = ReleaseOrganizationSlugReservationsRequest {
        region: "us".to_owned(),
        operation_id: reserved[0].operation_id.clone(),
        refusal: None,
        only_unconfirmed: true,
    };
    let released = cluster.control().reservations().release_organization_slug_reservations(request).await;
    released.expect("released");
    failpoints.release();
    let import = region.wait(&id).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded, "{:?}", import.failure);
    assert_eq!(failpoints.reached("region.slugs.asking"), 2, "it has asked again");
    // Nobody else waits for a turn. So only an import that has none would queue up for one between two pages.
    assert_eq!(failpoints.reached("region.turn.passed"), 0, "it has written without a turn");
    cluster.stop().await;
}
