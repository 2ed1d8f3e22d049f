//! The audit logs of all silos: each chain is whole, no row is outside of it, and what was committed has its row.

use anyhow::{Context as _, ensure};
use causeway_audit::{chain::Verifier, store};
use causeway_silo::db::{Db, Statement};

use crate::cluster::{Cluster, Silo};

/// Positions that are read at once.
const PAGE: i64 = 1_000;

/// Checks the logs of all silos.
pub(super) async fn check(cluster: &Cluster) -> anyhow::Result<()> {
    for silo in cluster.silos() {
        let db = cluster.shared_db(silo).await?;
        whole(&db).await.with_context(|| format!("the audit log of {silo:?}"))?;
        if silo == Silo::Control {
            each_chunk_has_a_row(&db).await?;
        }
    }
    Ok(())
}

async fn whole(db: &Db) -> anyhow::Result<()> {
    let base = store::base(db).await?;
    let mut verifier = Verifier::new(base, None)?;
    loop {
        let page = store::seals(db, verifier.head().position, PAGE).await?;
        if page.is_empty() {
            break;
        }
        for sealed in page {
            verifier.next(sealed.position, &sealed.hash, sealed.entry.as_ref())?;
        }
    }
    verifier.finish(base)?;
    let (_, loose) = store::unsealed(db).await?;
    ensure!(loose == 0, "{loose} rows are not in the chain, and will not be");
    Ok(())
}

/// A chunk at control is one row in the transaction that writes it, however often the region sends it.
async fn each_chunk_has_a_row(db: &Db) -> anyhow::Result<()> {
    let count = Statement::new(
        "SELECT (SELECT count(*) FROM causeway_import_chunk) AS chunks, (SELECT count(*) FROM causeway_audit \
         WHERE call LIKE '%/ImportModels' AND outcome = 'OK') AS entries",
    );
    let row = db.fetch_optional(count).await?.context("a count")?;
    let (chunks, entries) = (row.int("chunks")?, row.int("entries")?);
    ensure!(
        chunks == entries,
        "control has {chunks} chunks of imports, and {entries} rows of its log say so"
    );
    Ok(())
}
