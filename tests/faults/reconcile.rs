//! A region that differs from control, and is compared with it until nothing is left.

use anyhow::{Context as _, ensure};
use causeway_harness::cluster::{Cluster, Silo};
use causeway_proto::{
    control::v1::{
        BulkCreateHeader, BulkCreateOrganizationSlugReservationsRequest,
        ConfirmOrganizationSlugReservationsRequest, OrganizationSlugRequest, OrganizationSlugRequestBatch,
        bulk_create_organization_slug_reservations_request::Part,
    },
    region::v1::ReconcileMode,
};
use causeway_relocation::db::Statement;
use tokio::time::Instant;

use crate::driver::{PATIENCE, insist};

/// Changes something by hand.
async fn change(cluster: &Cluster, silo: Silo, statement: Statement) -> anyhow::Result<()> {
    let db = cluster.db(silo).await?;
    let mut tx = db.begin().await?;
    tx.execute(statement).await?;
    tx.commit().await?;
    db.close().await;
    Ok(())
}

/// Reserves a slug for an organization that its region does not have.
async fn reserve(
    cluster: &Cluster,
    operation_id: &str,
    organization_id: i64,
    slug: &str,
) -> anyhow::Result<()> {
    let region = cluster.region_name(0).to_owned();
    let header = BulkCreateHeader { region, operation_id: operation_id.to_owned() };
    let request = OrganizationSlugRequest { organization_id, slug: slug.to_owned(), ..Default::default() };
    let parts = [Part::Header(header), Part::Batch(OrganizationSlugRequestBatch { requests: vec![request] })]
        .map(|part| BulkCreateOrganizationSlugReservationsRequest { part: Some(part) });
    insist("a reservation", || async {
        let mut reservations = cluster.control().reservations();
        let parts = tokio_stream::iter(parts.clone());
        let mut answers = reservations.bulk_create_organization_slug_reservations(parts).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok(())
    })
    .await
}

/// Makes the first region and control differ about these organizations of it in all ways that are repaired by a write
/// of their own, and repairs that. The first one is called `slug`.
pub(crate) async fn differ_and_repair(
    cluster: &Cluster,
    ids: [i64; 2],
    slug: &str,
    operations: [&str; 2],
) -> anyhow::Result<()> {
    cluster.quiet(PATIENCE).await?;
    cluster.trace().note(format!("organizations {ids:?} are changed by hand"));
    let by_hand =
        Statement::new("UPDATE sentry_organization SET slug = 'by-hand' WHERE id = $1").with(ids[0]);
    change(cluster, Silo::Region(0), by_hand).await?;
    let gone =
        "DELETE FROM causeway_organization_slug_reservation WHERE organization_id = $1 AND region = $2";
    let gone = Statement::new(gone).with(ids[1]).with(cluster.region_name(0));
    change(cluster, Silo::Control, gone).await?;
    let gone = Statement::new("DELETE FROM causeway_organization WHERE organization_id = $1").with(ids[1]);
    change(cluster, Silo::Control, gone).await?;
    let [left, held] = operations;
    reserve(cluster, left, 900_001, "left").await?;
    reserve(cluster, held, 900_002, "held").await?;
    insist("a confirmation", || async {
        let request = ConfirmOrganizationSlugReservationsRequest {
            region: cluster.region_name(0).to_owned(),
            operation_id: held.to_owned(),
        };
        cluster.control().reservations().confirm_organization_slug_reservations(request).await
    })
    .await?;
    repair(cluster, 0).await?;
    let db = cluster.db(Silo::Region(0)).await?;
    let row = Statement::new("SELECT slug FROM sentry_organization WHERE id = $1").with(ids[0]);
    let now = db.fetch_optional(row).await?.context("the organization")?.text("slug")?;
    db.close().await;
    ensure!(now == slug, "the organization is {now}, and was to be {slug} again");
    Ok(())
}

/// Compares a region with control, and repairs, until both agree.
pub(crate) async fn repair(cluster: &Cluster, region: usize) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        for mode in [ReconcileMode::Repair, ReconcileMode::Check] {
            cluster.trace().note(format!("{mode:?} {}", cluster.region_name(region)));
            let answer =
                insist("a comparison", || async { cluster.region_by_link(region).reconcile(mode).await })
                    .await?;
            let summary = answer.summary.context("a summary")?;
            if mode == ReconcileMode::Check && summary.differences == 0 && summary.moving == 0 {
                return Ok(());
            }
            ensure!(Instant::now() < until, "they differ after {PATIENCE:?}: {answer:?}");
        }
    }
}

/// Compares a region with control, where nobody has changed anything by hand: they do not differ, whatever happens
/// meanwhile.
pub(crate) async fn nothing_differs(
    cluster: &Cluster,
    region: usize,
    mode: ReconcileMode,
) -> anyhow::Result<()> {
    cluster.trace().note(format!("{mode:?} {}", cluster.region_name(region)));
    let compared = insist("a comparison", || async { cluster.region_by_link(region).reconcile(mode).await });
    let answer = compared.await?;
    cluster.trace().note(format!("{mode:?} {}: {:?}", cluster.region_name(region), answer.summary));
    ensure!(
        answer.differences.is_empty(),
        "{} differs from control: {answer:?}",
        cluster.region_name(region)
    );
    Ok(())
}
