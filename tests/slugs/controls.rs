//! Several controls on one database, under its isolation level.

use causeway_harness::{
    cluster::{Cluster, ClusterBuilder, ImportOptions, Service},
    export,
};
use causeway_proto::{control::v1::RenameState, region::v1::ImportState};
use causeway_silo::db::retried;
use tokio::task::JoinSet;

use crate::support::{PATIENCE, agrees, imported, leads, rename, requested_slug, slug_of};

async fn cluster(builder: ClusterBuilder) -> Cluster {
    builder.controls(2).region("us").region("de").start().await.expect("a cluster")
}

pub(crate) async fn a_region_goes_on_with_another_control(builder: ClusterBuilder) {
    let cluster = cluster(builder).await;
    let [(id, _), _] = imported(&cluster, 0).await;
    cluster.kill(Service::Control(0)).await;
    // An import through the other control, and a rename, which needs the feed.
    let [(other, _), _] = imported(&cluster, 1).await;
    let control = cluster.control_number(1);
    let done = rename(&control, &requested_slug(1, id, "dune")).await.expect("renamed");
    assert_eq!(done.state(), RenameState::Confirmed);

    cluster.start_service(Service::Control(0)).await.expect("it starts");
    cluster.kill(Service::Control(1)).await;
    let control = cluster.control_number(0);
    let done = rename(&control, &requested_slug(2, other, "elm")).await.expect("renamed");
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

/// Renames of four organizations, each requested from both controls at once, twenty in all.
pub(crate) async fn renames_through_two_controls_end_alike(builder: ClusterBuilder) {
    let cluster = cluster(builder).await;
    let (one, other) = tokio::join!(imported(&cluster, 0), imported(&cluster, 1));
    let organizations = [one, other].concat();
    for round in 0..5_u128 {
        let mut calls = JoinSet::new();
        for (index, (id, _)) in organizations.iter().enumerate() {
            for control in 0..2 {
                let (control, id) = (cluster.control_number(control), *id);
                let requested_slug =
                    requested_slug(round * 10 + index as u128 + 1, id, &format!("slug-{index}-{round}"));
                calls.spawn(async move { rename(&control, &requested_slug).await.expect("renamed") });
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

/// Both regions import exports that want the same slugs and users, while one control after the other is killed. Then
/// all organizations are renamed through both controls at once.
pub(crate) async fn imports_and_renames_outlive_their_controls(builder: ClusterBuilder) {
    const ROUNDS: usize = 3;
    let cluster = cluster(builder).await;
    let bytes = export::exhaustive().expect("an export").to_bytes();
    let mut imports = JoinSet::new();
    for region in [0, 1, 0, 1] {
        let (region, bytes) = (cluster.region(region), bytes.clone());
        imports.spawn(async move {
            let options = ImportOptions::default().merge_users();
            region.import(&bytes, &options).await.expect("it ends")
        });
    }
    let faults = async {
        for index in (0..2).cycle().take(2 * ROUNDS) {
            cluster.kill(Service::Control(index)).await;
            cluster.start_service(Service::Control(index)).await.expect("it starts");
        }
    };
    let (imports, ()) = tokio::join!(imports.join_all(), faults);
    cluster.quiet(PATIENCE).await.expect("it becomes quiet");
    let mut organizations = Vec::new();
    for import in imports {
        assert_eq!(import.state(), ImportState::Succeeded, "{import:?}");
        organizations.extend(import.organizations.into_iter().map(|it| it.id));
    }
    assert_eq!(organizations.len(), 8);

    let mut calls = JoinSet::new();
    for (number, id) in organizations.iter().copied().enumerate() {
        for control in 0..2 {
            let control = cluster.control_number(control);
            let requested_slug = requested_slug(number as u128 + 1, id, &format!("slug-{number}"));
            calls.spawn(async move { rename(&control, &requested_slug).await.expect("renamed") });
        }
    }
    let faults = async {
        for index in 0..2 {
            cluster.kill(Service::Control(index)).await;
            cluster.start_service(Service::Control(index)).await.expect("it starts");
        }
    };
    let (renamed, ()) = tokio::join!(calls.join_all(), faults);
    assert!(renamed.iter().all(|done| done.state() == RenameState::Confirmed), "{renamed:?}");
    for (number, id) in organizations.into_iter().enumerate() {
        let slug = format!("slug-{number}");
        assert_eq!(leads(&cluster.control(), &slug).await, Some((id, slug)));
    }
    agrees(&cluster, 0).await;
    agrees(&cluster, 1).await;
    cluster.assert_invariants().await.expect("every promise is kept");
    cluster.stop().await;
}

/// Transactions that conflicted with those of another control are retried and counted.
pub(crate) async fn what_is_serializable_is_run_again_and_counted(builder: ClusterBuilder) {
    let before = retried();
    renames_through_two_controls_end_alike(builder.serializable()).await;
    assert!(retried() > before, "no transaction was retried");
}
