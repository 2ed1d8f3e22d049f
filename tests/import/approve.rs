//! Organizations that an import left hidden become visible when somebody approves them, those that are named together or not at all.

use causeway_harness::{
    account::Cell,
    cluster::{Act, Cluster, Failpoints, ImportOptions, RegionApi, Store},
    export::Export,
};
use causeway_proto::{
    control::v1::ListOrganizationsRequest,
    organization_status,
    region::v1::{ApproveOrganizationsRequest, Import, ImportState},
    relocation::v1::{ErrorReason, OrganizationStatus},
};
use serde_json::json;
use tokio::net::TcpStream;
use tonic::Status;

use crate::{
    revert::revert,
    support::{ORGANIZATION, cluster, eventually, refused, rows_now},
};

async fn approve(region: &RegionApi, ids: &[i64], import: &str) -> Result<i64, Status> {
    let request =
        ApproveOrganizationsRequest { organization_ids: ids.to_vec(), import_id: import.to_owned() };
    Ok(region.organizations().approve_organizations(request).await?.into_inner().approved)
}

async fn visible(region: &RegionApi) -> Vec<String> {
    let all = region.visible_organizations().await.expect("a list");
    all.into_iter().map(|organization| organization.slug).collect()
}

/// The status of each organization in control's directory, by id.
async fn directory(cluster: &Cluster) -> Vec<(i64, OrganizationStatus)> {
    let request = ListOrganizationsRequest { page_size: 1_000, ..Default::default() };
    let answer = cluster.control().directory().list_organizations(request).await.expect("a list");
    let of = answer.into_inner().organizations.into_iter();
    of.map(|organization| (organization.organization_id, organization.status())).collect()
}

async fn hidden(cluster: &Cluster, export: &Export) -> Import {
    let options = ImportOptions::default().hide_organizations();
    let import = cluster.region(0).import(&export.to_bytes(), &options).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded, "{:?}", import.failure);
    import
}

/// Three organizations, one of them pending deletion.
fn three() -> Export {
    let mut export = Export::new();
    export.organization(1, "one").organization(2, "two");
    export.push(ORGANIZATION, 3, &json!({"name": "three", "slug": "three", "status": 1}));
    export
}

pub(crate) async fn organizations_that_were_left_hidden_are_shown_when_approved(store: Store) {
    let mut cluster = cluster(store, &["us"]).await;
    let import = hidden(&cluster, &three()).await;
    let ids: Vec<i64> = import.organizations.iter().map(|organization| organization.id).collect();
    let region = cluster.region(0);
    assert!(import.end_time.is_some(), "{import:?}");
    assert_eq!(import.hidden_organization_count, 3);
    assert_eq!(visible(&region).await, [""; 0]);
    eventually("control knows of all three", async || directory(&cluster).await.len() == 3).await;
    assert_eq!(
        directory(&cluster).await,
        ids[..3].iter().map(|id| (*id, OrganizationStatus::Hidden)).collect::<Vec<_>>()
    );

    // If one organization does not exist, the others stay hidden.
    let outcome = approve(&region, &[ids[0], 999_999, ids[1]], "").await;
    assert_eq!(refused(outcome), ErrorReason::OrganizationNotFound);
    assert_eq!(visible(&region).await, [""; 0]);

    assert_eq!(approve(&region, &[ids[0]], "").await.expect("approved"), 1);
    assert_eq!(visible(&region).await, ["one"]);
    eventually("control hears of it", async || {
        directory(&cluster).await[0] == (ids[0], OrganizationStatus::Active)
    })
    .await;
    assert_eq!(approve(&region, &[ids[0]], "").await.expect("approved before"), 0);
    let now = region.wait(&import.import_id).await.expect("it has ended");
    assert_eq!((now.state(), now.hidden_organization_count), (ImportState::Succeeded, 2));
    // It has changed, and has ended when it ended.
    assert!(now.update_time != import.update_time && now.end_time == import.end_time, "{now:?}");

    // While control is down, the region reports later, also from another process.
    cluster.stop_control().await;
    assert_eq!(approve(&region, &[], &import.import_id).await.expect("approved"), 2);
    assert_eq!(visible(&region).await, ["one", "two", "three"]);
    cluster.stop_region(0).await;
    cluster.start_region(0).await.expect("it starts without control");
    cluster.start_control().await.expect("it starts");
    // Each has its status from the file.
    let (active, leaving) = (OrganizationStatus::Active, OrganizationStatus::PendingDeletion);
    let expected = [(ids[0], active), (ids[1], active), (ids[2], leaving)];
    eventually("control hears of all", async || directory(&cluster).await == expected).await;
    let rows_now = rows_now(&cluster, 0).await;
    for (id, status) in expected {
        assert_eq!(
            rows_now.row(ORGANIZATION, id).expect("a row")["status"],
            Cell::Int(organization_status::to_stored(status).expect("it is stored"))
        );
    }
    let region = cluster.region(0);
    assert_eq!(approve(&region, &[], &import.import_id).await.expect("approved before"), 0);
    assert_eq!(approve(&region, &ids, "").await.expect("approved before"), 0);
    cluster.stop().await;
}

/// A transaction makes at most four organizations visible, and the region begins to stop between two transactions.
pub(crate) async fn an_approval_ends_when_its_region_stops(store: Store) {
    let failpoints = Failpoints::default();
    let builder = Cluster::builder(store).region("us").failpoints(&failpoints);
    let builder = builder.configure_regions(|options| options.limits.organizations_a_transaction = 4);
    let mut cluster = builder.start().await.expect("a cluster; on PostgreSQL this test needs one installed");
    let mut export = Export::new();
    for pk in 1..=11 {
        export.organization(pk, &format!("tenant-{pk}"));
    }
    let import = hidden(&cluster, &export).await;
    failpoints.arm("region.approve.committed", Act::Hold, 0);
    let (region, id) = (cluster.region(0), import.import_id.clone());
    let approval = tokio::spawn(async move { approve(&region, &[], &id).await });
    failpoints.held().await;
    let address = cluster.region(0).url().trim_start_matches("http://").to_owned();
    let stop = cluster.stop_region(0);
    let release = async {
        // The port is closed when the region begins to stop.
        eventually("it stops", async || TcpStream::connect(&address).await.is_err()).await;
        failpoints.release();
    };
    tokio::join!(stop, release);
    approval.await.expect("no panic").expect_err("it has not shown all");
    cluster.start_region(0).await.expect("it starts");
    let region = cluster.region(0);
    assert_eq!(visible(&region).await.len(), 4, "only those of the first part");
    assert_eq!(approve(&region, &[], &import.import_id).await.expect("approved"), 7);
    assert_eq!(visible(&region).await.len(), 11);
    cluster.stop().await;
}

pub(crate) async fn what_cannot_be_approved_is_refused(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let region = cluster.region(0);
    let mut export = Export::new();
    export.organization(1, "shown");
    let shown = region.import(&export.to_bytes(), &ImportOptions::default()).await.expect("it ends");
    assert_eq!(approve(&region, &[], &shown.import_id).await.expect("all are visible"), 0);
    assert_eq!(shown.hidden_organization_count, 0);

    let import = hidden(&cluster, &three()).await;
    let id = import.organizations[0].id;
    let nobody = "00000000-0000-4000-8000-000000000001";
    assert_eq!(refused(approve(&region, &[], nobody).await), ErrorReason::ImportNotFound);
    for (ids, import) in [(&[][..], ""), (&[id][..], import.import_id.as_str()), (&[], "seven")] {
        assert_eq!(refused(approve(&region, ids, import).await), ErrorReason::InvalidArgument);
    }
    let many: Vec<i64> = (1..=1_001).collect();
    assert_eq!(refused(approve(&region, &many, "").await), ErrorReason::InvalidArgument);
    let dry = ImportOptions::default().dry_run();
    let dry = region.import(&three().to_bytes(), &dry).await.expect("it ends");
    assert_eq!(refused(approve(&region, &[], &dry.import_id).await), ErrorReason::OrganizationNotReady);

    // An organization of an import that is being reverted cannot become visible any more.
    revert(&cluster, &import.import_id).await.expect("it is reverted");
    assert_eq!(refused(approve(&region, &[], &import.import_id).await), ErrorReason::OrganizationNotReady);
    let outcome = refused(approve(&region, &[id], "").await);
    assert!(
        matches!(outcome, ErrorReason::OrganizationNotReady | ErrorReason::OrganizationNotFound),
        "{outcome:?}"
    );
    assert_eq!(visible(&region).await, ["shown"]);
    cluster.stop().await;
}
