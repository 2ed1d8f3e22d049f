//! Requests renames and related operations, and repeats them until there is an answer.

use anyhow::ensure;
use causeway_harness::cluster::Cluster;
use causeway_proto::{
    control::v1::{
        ReleaseOrganizationSlugReservationsRequest, ReleaseSlugAliasRequest, RenameState,
        UpdateOrganizationSlugRequest,
    },
    relocation::v1::ErrorReason,
    time,
};
use tokio::time::Instant;

use crate::driver::{Controls, PATIENCE, retry_until_ok_or_refused};

/// The result of a rename.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Renamed {
    /// The region has confirmed it.
    Confirmed { slug: String, previous_slug: String },
    /// It was refused for this reason.
    Refused(ErrorReason),
}

/// The reasons for which a rename may be refused.
const REFUSALS: [ErrorReason; 9] = [
    ErrorReason::OrganizationNotFound,
    ErrorReason::OrganizationNotReady,
    ErrorReason::RenameInFlight,
    ErrorReason::SlugInvalid,
    ErrorReason::SlugReserved,
    ErrorReason::SlugTaken,
    ErrorReason::SlugTakenInRegion,
    ErrorReason::OperationReleased,
    ErrorReason::OperationContentDiffers,
];

/// Requests a rename, and waits until the region has confirmed it or it is refused.
pub(crate) async fn rename(
    cluster: &Cluster,
    mut request: UpdateOrganizationSlugRequest,
) -> anyhow::Result<Renamed> {
    request.wait = Some(time::seconds(1));
    cluster.trace().note(format!("{request:?}"));
    let _wait = cluster.trace().wait(format!("the end of rename {}", request.operation_id));
    let until = Instant::now() + PATIENCE;
    let controls = Controls::default();
    let renamed = loop {
        let answer = retry_until_ok_or_refused(cluster, "a rename", &REFUSALS, || async {
            controls.next(cluster).reservations().update_organization_slug(request.clone()).await
        });
        match answer.await?.map(tonic::Response::into_inner) {
            Ok(renamed) if renamed.state() == RenameState::Confirmed => {
                break Renamed::Confirmed { slug: renamed.slug, previous_slug: renamed.previous_slug };
            }
            Ok(renamed) => {
                ensure!(Instant::now() < until, "a rename is not done after {PATIENCE:?}: {renamed:?}");
            }
            Err(reason) => break Renamed::Refused(reason),
        }
    };
    cluster.trace().note(format!("rename {}: {renamed:?}", request.operation_id));
    Ok(renamed)
}

/// Cancels a rename, as an operator does, unless it is done or never started.
pub(crate) async fn give_up(cluster: &Cluster, region: usize, operation_id: &str) -> anyhow::Result<()> {
    cluster.trace().note(format!("give up rename {operation_id}"));
    let request = ReleaseOrganizationSlugReservationsRequest {
        region: cluster.region_name(region).to_owned(),
        operation_id: operation_id.to_owned(),
        refusal: None,
        only_unconfirmed: false,
    };
    let controls = Controls::default();
    let refusals = [ErrorReason::OperationNotFound, ErrorReason::OperationConfirmed];
    let _either = retry_until_ok_or_refused(cluster, "giving up a rename", &refusals, || async {
        controls.next(cluster).reservations().release_organization_slug_reservations(request.clone()).await
    })
    .await?;
    Ok(())
}

/// Releases an alias. Does nothing if the slug is not an alias.
pub(crate) async fn release_alias(cluster: &Cluster, organization_id: i64, slug: &str) -> anyhow::Result<()> {
    cluster.trace().note(format!("release the alias {slug} of {organization_id}"));
    let request = ReleaseSlugAliasRequest { organization_id, slug: slug.to_owned() };
    let controls = Controls::default();
    let refusals = [ErrorReason::SlugNotAlias, ErrorReason::RenameInFlight];
    let _either = retry_until_ok_or_refused(cluster, "releasing an alias", &refusals, || async {
        controls.next(cluster).reservations().release_slug_alias(request.clone()).await
    })
    .await?;
    Ok(())
}
