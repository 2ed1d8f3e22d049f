//! Comparisons of regions with control, also of a region that differs, until nothing differs any more.

use anyhow::{Context as _, ensure};
use causeway_harness::cluster::{Cluster, Silo};
use causeway_proto::region::v1::ReconcileMode;
use causeway_silo::db::Statement;
use tokio::time::Instant;

use crate::driver::{PATIENCE, retry_until_ok};

/// Makes the first region and control differ about these organizations, in every way that a separate write repairs, and
/// repairs the differences. `slug` is the slug of the first organization.
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
    cluster.change(Silo::Region(0), &[by_hand]).await?;
    let slugs =
        "DELETE FROM causeway_organization_slug_reservation WHERE organization_id = $1 AND region = $2";
    let region = cluster.region_name(0);
    let slugs = Statement::new(slugs).with(ids[1]).with(region);
    let entry = Statement::new("DELETE FROM causeway_organization WHERE organization_id = $1").with(ids[1]);
    cluster.change(Silo::Control, &[slugs, entry]).await?;
    let control = cluster.control();
    for (operation, id, slug) in [(operations[0], 900_001, "left"), (operations[1], 900_002, "held")] {
        // An organization that the region does not have.
        retry_until_ok(cluster, "a reservation", || control.reserve(region, operation, id, slug)).await?;
    }
    retry_until_ok(cluster, "a confirmation", || control.confirm(region, operations[1])).await?;
    repair(cluster, 0).await?;
    let db = cluster.db(Silo::Region(0)).await?;
    let row = Statement::new("SELECT slug FROM sentry_organization WHERE id = $1").with(ids[0]);
    let now = db.fetch_optional(row).await?.context("the organization")?.text("slug")?;
    db.close().await;
    ensure!(now == slug, "the organization is {now}, and was to be {slug} again");
    Ok(())
}

/// Compares a region with control and repairs it, until both agree.
pub(crate) async fn repair(cluster: &Cluster, region: usize) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        for mode in [ReconcileMode::Repair, ReconcileMode::Check] {
            cluster.trace().note(format!("{mode:?} {}", cluster.region_name(region)));
            let answer = retry_until_ok(cluster, "a comparison", || async {
                cluster.region_by_link(region).reconcile(mode).await
            })
            .await?;
            let summary = answer.summary.context("a summary")?;
            if mode == ReconcileMode::Check && summary.differences == 0 && summary.moving == 0 {
                return Ok(());
            }
            ensure!(Instant::now() < until, "they differ after {PATIENCE:?}: {answer:?}");
        }
    }
}

/// Compares a region with control. They must not differ, whatever happens meanwhile, because nobody has
/// changed rows manually.
pub(crate) async fn nothing_differs(
    cluster: &Cluster,
    region: usize,
    mode: ReconcileMode,
) -> anyhow::Result<()> {
    cluster.trace().note(format!("{mode:?} {}", cluster.region_name(region)));
    let compared = retry_until_ok(cluster, "a comparison", || async {
        cluster.region_by_link(region).reconcile(mode).await
    });
    let answer = compared.await?;
    cluster.trace().note(format!("{mode:?} {}: {:?}", cluster.region_name(region), answer.summary));
    ensure!(
        answer.differences.is_empty(),
        "{} differs from control: {answer:?}",
        cluster.region_name(region)
    );
    Ok(())
}
