//! Imports that are under way when control is put back.

use causeway_harness::cluster::{Act, Cluster, Failpoints, ImportOptions, Silo, Store};
use causeway_proto::{
    region::v1::{ImportState, RevertImportRequest},
    relocation::v1::ErrorReason,
};

use crate::{
    control::{PATIENCE, export, imported, slugs},
    page::{Operator, agree},
};

/// Holds an import at a place, has control put back from a copy that was taken at another one, and lets it go on.
async fn put_back_meanwhile(
    store: Store,
    copied_at: &str,
    put_back_at: &str,
) -> (Cluster, Operator, causeway_proto::region::v1::Import) {
    let failpoints = Failpoints::default();
    let built = Cluster::builder(store).region("us").failpoints(&failpoints);
    let mut cluster = built.start().await.expect("a cluster");
    let operator = Operator::of(&cluster, Silo::Control);
    imported(&cluster, 0, &["acme"]).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    failpoints.arm(copied_at, Act::Hold, 0);
    let begun = cluster.region(0).begin(&export(&["birch", "cedar"]), &ImportOptions::default()).await;
    let import_id = begun.expect("begun").import.expect("an import").import_id;
    failpoints.held().await;
    operator.copy(store);
    failpoints.arm(put_back_at, Act::Hold, 0);
    failpoints.release();
    failpoints.held().await;
    cluster.stop_control().await;
    cluster.close_shared_db(Silo::Control).await;
    operator.put_back(store);
    operator.say_restored(store).well();
    cluster.start_control().await.expect("it starts");
    failpoints.release();
    let import = cluster.region(0).wait(&import_id).await.expect("it ends");
    (cluster, operator, import)
}

pub(crate) async fn an_import_goes_on_if_control_forgot_only_its_slugs(store: Store) {
    let (cluster, mut operator, import) =
        put_back_meanwhile(store, "region.slugs.chosen", "region.slugs.written").await;
    assert_eq!(import.state(), ImportState::Succeeded, "{import:?}");
    cluster.quiet(PATIENCE).await.expect("quiet");
    agree(&mut operator, &cluster, 0);
    assert_eq!(slugs(&cluster, 0).await, ["acme", "birch", "cedar"].map(str::to_owned).into());
    cluster.assert_invariants().await.expect("no promise is broken");
    cluster.stop().await;
}

pub(crate) async fn an_import_whose_users_control_forgot_never_becomes_visible(store: Store) {
    let (cluster, mut operator, import) =
        put_back_meanwhile(store, "region.plan.stored", "region.slugs.chosen").await;
    assert_eq!(import.state(), ImportState::Failed, "{import:?}");
    let failure = import.failure.as_ref().expect("a reason");
    assert_eq!(failure.reason(), ErrorReason::ControlLostRows, "{failure:?}");
    assert!(failure.message.contains("2 of sentry.user"), "{failure:?}");
    assert_eq!(slugs(&cluster, 0).await, ["acme".to_owned()].into());
    let request = RevertImportRequest { import_id: import.import_id.clone() };
    cluster.region(0).imports().revert_import(request).await.expect("reverting");
    let import = cluster.region(0).wait(&import.import_id).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Reverted, "{import:?}");
    imported(&cluster, 0, &["birch", "cedar"]).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    agree(&mut operator, &cluster, 0);
    cluster.assert_invariants().await.expect("no promise is broken");
    cluster.stop().await;
}
