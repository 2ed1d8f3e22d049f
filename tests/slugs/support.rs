//! Helpers for the behaviours.

use std::time::Duration;

use causeway_harness::{
    cluster::{Cluster, ControlApi, ImportOptions, Silo},
    export,
};
use causeway_proto::{
    control::v1::{
        ReservationType, ResolveSlugRequest, UpdateOrganizationSlugRequest, UpdateOrganizationSlugResponse,
    },
    failure::reason_of,
    region::v1::{GetOrganizationRequest, ImportState, get_organization_request::By},
    relocation::v1::ErrorReason,
    time,
};
use causeway_silo::db::Statement;
use tonic::Status;
use uuid::Uuid;

/// The longest that a change may take to get from one service to another. On a quiet machine, none takes a tenth of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Imports the exhaustive export into a region. Returns the ids and slugs of its two organizations, sorted by slug.
pub(crate) async fn imported(cluster: &Cluster, region: usize) -> [(i64, String); 2] {
    let bytes = export::exhaustive().expect("an export").to_bytes();
    let import = cluster.region(region).import(&bytes, &ImportOptions::default()).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded, "{import:?}");
    let mut organizations: Vec<(i64, String)> =
        import.organizations.into_iter().map(|it| (it.id, it.slug)).collect();
    organizations.sort_by(|one, other| one.1.cmp(&other.1));
    organizations.try_into().expect("two organizations")
}

pub(crate) fn requested_slug(
    number: u128,
    organization_id: i64,
    slug: &str,
) -> UpdateOrganizationSlugRequest {
    UpdateOrganizationSlugRequest {
        organization_id,
        desired_slug: slug.to_owned(),
        operation_id: Uuid::from_u128(number).to_string(),
        wait: Some(time::seconds(60)),
        ..Default::default()
    }
}

/// Requests a rename, and repeats the request while control is unavailable.
pub(crate) async fn rename(
    control: &ControlApi,
    requested_slug: &UpdateOrganizationSlugRequest,
) -> Result<UpdateOrganizationSlugResponse, Status> {
    let asking = async {
        loop {
            match control.reservations().update_organization_slug(requested_slug.clone()).await {
                Err(status)
                    if matches!(
                        reason_of(&status),
                        None | Some(ErrorReason::DatabaseUnavailable | ErrorReason::ShuttingDown)
                    ) =>
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                answer => return answer.map(tonic::Response::into_inner),
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("control answers in time")
}

/// The organization that a slug leads to at control, and its canonical slug.
pub(crate) async fn leads(control: &ControlApi, slug: &str) -> Option<(i64, String)> {
    let request = ResolveSlugRequest { slug: slug.to_owned() };
    match control.directory().resolve_slug(request).await {
        Ok(answer) => {
            let found = answer.into_inner().organization.expect("an organization");
            Some((found.organization_id, found.canonical_slug))
        }
        Err(status) if reason_of(&status) == Some(ErrorReason::SlugNotFound) => None,
        Err(status) => panic!("{status:?}"),
    }
}

/// Like [`leads`], in a region.
pub(crate) async fn leads_in(cluster: &Cluster, region: usize, slug: &str) -> Option<(i64, String)> {
    let request = causeway_proto::region::v1::ResolveSlugRequest { slug: slug.to_owned() };
    match cluster.region(region).organizations().resolve_slug(request).await {
        Ok(answer) => {
            let found = answer.into_inner();
            Some((found.organization_id, found.canonical_slug))
        }
        // Or the region has not received anything yet.
        Err(status)
            if matches!(
                reason_of(&status),
                Some(ErrorReason::SlugNotFound | ErrorReason::ControlUnavailable)
            ) =>
        {
            None
        }
        Err(status) => panic!("{status:?}"),
    }
}

/// The slug of an organization in its region, if the region answers.
pub(crate) async fn slug_in(cluster: &Cluster, region: usize, id: i64) -> Result<String, Status> {
    let request = GetOrganizationRequest { by: Some(By::Id(id)) };
    let answer = cluster.region(region).organizations().get_organization(request).await?;
    Ok(answer.into_inner().organization.expect("an organization").slug)
}

/// The slug of an organization in its region. Panics if the organization is not visible.
pub(crate) async fn slug_of(cluster: &Cluster, region: usize, id: i64) -> String {
    slug_in(cluster, region, id).await.expect("visible")
}

/// Waits until `so` returns true.
pub(crate) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("timed out: {what}"));
}

/// Waits until nothing is in progress, and checks that each organization of the region has one primary reservation,
/// with its slug.
pub(crate) async fn agrees(cluster: &Cluster, region: usize) {
    cluster.quiet(PATIENCE).await.expect("it becomes quiet");
    let db = cluster.db(Silo::Region(region)).await.expect("its database");
    let rows = db.fetch_all(Statement::new("SELECT id, slug FROM sentry_organization ORDER BY slug"));
    let organizations: Vec<(i64, String)> = rows
        .await
        .expect("organizations")
        .iter()
        .map(|row| (row.int("id").expect("an id"), row.text("slug").expect("a slug")))
        .collect();
    until("all is answered", async || {
        let left = db.fetch_all(Statement::new("SELECT operation_id FROM causeway_rename")).await;
        left.expect("answers").is_empty()
    })
    .await;
    db.close().await;
    let name = cluster.region_name(region);
    let reservations = cluster.control().all_reservations().await.expect("reservations");
    let primary: Vec<(i64, String)> = reservations
        .into_iter()
        .filter(|it| it.region == name && it.r#type() == ReservationType::Primary)
        .map(|it| (it.organization_id, it.slug))
        .collect();
    assert_eq!(organizations, primary);
}
