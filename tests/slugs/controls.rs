//! Several controls on one database.

use causeway_harness::cluster::{Cluster, Service, Store};
use causeway_proto::control::v1::RenameState;
use tokio::task::JoinSet;

use crate::stage::{agrees, imported, leads, rename, slug_of, wish};

async fn cluster(store: Store) -> Cluster {
    Cluster::builder(store).controls(2).region("us").region("de").start().await.expect("a cluster")
}

pub(crate) async fn a_region_goes_on_with_another_control(store: Store) {
    let cluster = cluster(store).await;
    let [(id, _), _] = imported(&cluster, 0).await;
    cluster.kill(Service::Control(0)).await;
    // An import, and a rename, which needs the feed.
    let [(other, _), _] = imported(&cluster, 1).await;
    let control = cluster.control_number(1);
    let done = rename(&control, &wish(1, id, "dune")).await.expect("renamed");
    assert_eq!(done.state(), RenameState::Confirmed);

    cluster.start_service(Service::Control(0)).await.expect("it starts");
    cluster.kill(Service::Control(1)).await;
    let control = cluster.control_number(0);
    let done = rename(&control, &wish(2, other, "elm")).await.expect("renamed");
    assert_eq!(done.state(), RenameState::Confirmed);
    assert_eq!(
        (slug_of(&cluster, 0, id).await, slug_of(&cluster, 1, other).await),
        ("dune".into(), "elm".into())
    );
    cluster.heal().await.expect("all is well");
    agrees(&cluster, 0).await;
    agrees(&cluster, 1).await;
    cluster.stop().await;
}

/// Renames of four organizations, each asked of both controls at once, twenty in all.
pub(crate) async fn renames_through_two_controls_end_alike(store: Store) {
    let cluster = cluster(store).await;
    let (one, other) = tokio::join!(imported(&cluster, 0), imported(&cluster, 1));
    let organizations = [one, other].concat();
    for round in 0..5_u128 {
        let mut calls = JoinSet::new();
        for (index, (id, _)) in organizations.iter().enumerate() {
            for control in 0..2 {
                let (control, id) = (cluster.control_number(control), *id);
                let wish = wish(round * 10 + index as u128 + 1, id, &format!("slug-{index}-{round}"));
                calls.spawn(async move { rename(&control, &wish).await.expect("renamed") });
            }
        }
        for done in calls.join_all().await {
            assert_eq!(done.state(), RenameState::Confirmed, "{done:?}");
        }
    }
    for (index, (id, _)) in organizations.iter().enumerate() {
        let slug = format!("slug-{index}-4");
        assert_eq!(slug_of(&cluster, index / 2, *id).await, slug);
        assert_eq!(leads(&cluster.control_number(1), &slug).await, Some((*id, slug)));
    }
    agrees(&cluster, 0).await;
    agrees(&cluster, 1).await;
    cluster.stop().await;
}
