//! A region is put back to what it was before an import, a rename and a revert.

use std::collections::BTreeSet;

use causeway_harness::cluster::{Cluster, ImportOptions, Silo, Store};
use causeway_proto::region::v1::{ImportState, RevertImportRequest};

use crate::{
    control::{PATIENCE, export, id_of, imported, rename, slugs},
    page::{CHECK, Operator, REPAIR_REGION, agree},
};

pub(crate) async fn a_region_is_put_back_from_a_copy(store: Store) {
    let mut cluster = Cluster::start(store, &["us", "de"]).await.expect("a cluster");
    let mut operator = Operator::of(&cluster, Silo::Region(0));
    let kept = imported(&cluster, 0, &["acme", "birch"]).await;
    let gone = imported(&cluster, 0, &["cedar"]).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    operator.copy(store);

    rename(&cluster, id_of(&kept, "acme"), "acme-two", true).await;
    let request = RevertImportRequest { import_id: gone.import_id.clone() };
    cluster.region(0).imports().revert_import(request).await.expect("reverting");
    cluster.region(0).wait(&gone.import_id).await.expect("it ends");
    let lost = imported(&cluster, 0, &["fig", "gum"]).await;
    cluster.quiet(PATIENCE).await.expect("quiet");

    cluster.stop_region(0).await;
    cluster.close_shared_db(Silo::Region(0)).await;
    operator.put_back(store);
    cluster.start_region(0).await.expect("it starts");
    cluster.quiet(PATIENCE).await.expect("quiet");
    // The rename comes with the feed.
    let expected = ["acme-two", "birch", "cedar"].map(str::to_owned);
    assert_eq!(slugs(&cluster, 0).await, BTreeSet::from(expected));
    // An import now gets no id that a lost organization had.
    let other = imported(&cluster, 0, &["hazel"]).await;
    let lost_ids: BTreeSet<i64> = lost.organizations.iter().map(|it| it.id).collect();
    assert!(!lost_ids.contains(&id_of(&other, "hazel")), "an id is given out twice");

    let found = operator.reconcile(&cluster, 0, CHECK);
    assert_eq!(found.code, Some(10), "{found:?}");
    for kind in ["RESERVATION_WITHOUT_ORGANIZATION", "ORGANIZATION_WITHOUT_RESERVATION", "IMPORT_DIFFERS"] {
        assert!(found.output.contains(kind), "{kind}: {found:?}");
    }
    for command in found.printed("causeway imports revert ") {
        assert!(command.contains(&gone.import_id), "{command}");
        operator.calls(&format!("{command} --yes")).well();
    }
    operator.reconcile(&cluster, 0, REPAIR_REGION).well();
    // The lost import is sent again under its old id.
    let options = ImportOptions::default().import_id(&lost.import_id);
    let again = cluster.region(0).import(&export(&["fig", "gum"]), &options).await.expect("it ends");
    assert_eq!(again.state(), ImportState::Succeeded, "{again:?}");
    cluster.quiet(PATIENCE).await.expect("quiet");
    agree(&mut operator, &cluster, 0);
    agree(&mut operator, &cluster, 1);
    let expected = ["acme-two", "birch", "fig", "gum", "hazel"].map(str::to_owned);
    assert_eq!(slugs(&cluster, 0).await, BTreeSet::from(expected));
    cluster.assert_invariants().await.expect("no promise is broken");
    cluster.stop().await;
}
