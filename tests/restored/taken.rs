//! An organization that control has forgotten, and whose slug another one has got since.

use causeway_harness::cluster::{Act, Cluster, Failpoints, Silo, Store};
use causeway_proto::region::v1::{DifferenceKind, ReconcileMode};
use causeway_silo::db::Statement;

use crate::control::{PATIENCE, id_of, imported, slugs};

pub(crate) async fn an_organization_whose_slug_another_one_got_gets_one_with_a_suffix(store: Store) {
    let failpoints = Failpoints::default();
    let built = Cluster::builder(store).region("us").region("de").failpoints(&failpoints);
    let cluster = built.start().await.expect("a cluster");
    let lost = imported(&cluster, 0, &["acme"]).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    let forget = |sql| Statement::new(sql).with(id_of(&lost, "acme"));
    let forgotten = [
        forget("DELETE FROM causeway_organization_slug_reservation WHERE organization_id = $1"),
        forget("DELETE FROM causeway_organization WHERE organization_id = $1"),
    ];
    cluster.change(Silo::Control, &forgotten).await.expect("forgotten");
    imported(&cluster, 1, &["acme"]).await;

    // By itself, the region changes no slug of a visible organization.
    let checked = cluster.region(0).reconcile(ReconcileMode::Check).await.expect("compared");
    let kinds: Vec<_> = checked.differences.iter().map(|it| it.kind()).collect();
    assert!(kinds.contains(&DifferenceKind::OrganizationWithoutReservation), "{checked:?}");
    let found =
        checked.differences.iter().find(|it| it.kind() == DifferenceKind::OrganizationWithoutReservation);
    let remedy = &found.expect("it is there").remedy;
    assert!(remedy.contains("of de") && remedy.contains("`causeway reconcile --repair`"), "{remedy}");
    assert!(slugs(&cluster, 0).await.contains("acme"));

    // A repair that fails half way leaves nothing that the next one does not heal.
    for place in ["region.reconcile.other_reserved", "region.reconcile.other_confirmed"] {
        failpoints.arm(place, Act::Fail, 0);
        cluster.region(0).reconcile(ReconcileMode::Repair).await.expect_err("it fails there");
        assert!(!failpoints.is_armed(), "{place} was not reached");
    }
    for _ in 0..2 {
        cluster.region(0).reconcile(ReconcileMode::Repair).await.expect("repaired");
    }
    cluster.quiet(PATIENCE).await.expect("quiet");
    let last = cluster.region(0).reconcile(ReconcileMode::Check).await.expect("compared");
    assert_eq!(last.differences, [], "{last:?}");
    let (us, de) = (slugs(&cluster, 0).await, slugs(&cluster, 1).await);
    assert!(us.len() == 1 && us.iter().all(|slug| slug.starts_with("acme-")), "{us:?}");
    assert!(de.contains("acme") && us.is_disjoint(&de), "{de:?}");
    cluster.assert_invariants().await.expect("no promise is broken");
    cluster.stop().await;
}
