//! A region's SQL, and nothing else. Callers pass in the time.

pub(crate) mod compared;
pub(crate) mod compared_import;
pub(crate) mod finding;
pub(crate) mod id_block;
pub mod import;
pub(crate) mod import_trace;
pub(crate) mod imported;
pub(crate) mod instruction;
pub(crate) mod lease;
pub mod lease_transaction;
pub(crate) mod measured;
pub(crate) mod model_counts;
pub(crate) mod organization;
pub(crate) mod pause;
pub mod plans;
pub(crate) mod product_db;
pub(crate) mod reconciliation;
pub(crate) mod replica;
pub(crate) mod report_number;
pub(crate) mod revert_again;
pub(crate) mod throttle;

use causeway_proto::page::PageKey;
use causeway_relocation::catalog::Silo;
use causeway_silo::{
    db::{Db, DbError, Migrations, Statement},
    transact,
};
use uuid::Uuid;

/// The migrations of a region's database.
pub(crate) const MIGRATIONS: Migrations = Migrations {
    silo: Silo::Region,
    postgres: &[
        (1, "model tables", include_str!("../../../migrations/region/postgres/0001_model_tables.sql")),
        (2, "causeway", include_str!("../../../migrations/region/postgres/0002_causeway.sql")),
        (
            3,
            "encrypted exports",
            include_str!("../../../migrations/region/postgres/0003_encrypted_exports.sql"),
        ),
        (
            4,
            "dry runs and findings",
            include_str!("../../../migrations/region/postgres/0004_dry_runs_and_findings.sql"),
        ),
        (5, "lease", include_str!("../../../migrations/region/postgres/0005_lease.sql")),
        (6, "replica", include_str!("../../../migrations/region/postgres/0006_replica.sql")),
        (10, "revert", include_str!("../../../migrations/region/postgres/0010_revert.sql")),
        (11, "reconciliation", include_str!("../../../migrations/region/postgres/0011_reconciliation.sql")),
        (12, "health", include_str!("../../../migrations/region/postgres/0012_health.sql")),
        (19, "page tokens", include_str!("../../../migrations/region/postgres/0019_page_tokens.sql")),
        (20, "filters", include_str!("../../../migrations/region/postgres/0020_filters.sql")),
        (22, "slug attempts", include_str!("../../../migrations/region/postgres/0022_slug_attempts.sql")),
        (26, "owners", include_str!("../../../migrations/region/postgres/0026_owners.sql")),
        (
            32,
            "counts and approvals",
            include_str!("../../../migrations/region/postgres/0032_counts_and_approvals.sql"),
        ),
        (
            33,
            "models up to 26.6",
            include_str!("../../../migrations/region/postgres/0033_models_up_to_26_6.sql"),
        ),
        (34, "planned for", include_str!("../../../migrations/region/postgres/0034_planned_for.sql")),
        (36, "audit", include_str!("../../../migrations/region/postgres/0036_audit.sql")),
        (38, "begun by", include_str!("../../../migrations/region/postgres/0038_begun_by.sql")),
        (39, "refused slugs", include_str!("../../../migrations/region/postgres/0039_refused_slugs.sql")),
        (40, "announced", include_str!("../../../migrations/region/postgres/0040_announced.sql")),
        (
            41,
            "batches and pauses",
            include_str!("../../../migrations/region/postgres/0041_batches_and_pauses.sql"),
        ),
        (42, "traces", include_str!("../../../migrations/region/postgres/0042_traces.sql")),
        (43, "feed era", include_str!("../../../migrations/region/postgres/0043_feed_era.sql")),
        (44, "reports", include_str!("../../../migrations/region/postgres/0044_reports.sql")),
        (45, "throttle", include_str!("../../../migrations/region/postgres/0045_throttle.sql")),
        (46, "report numbers", include_str!("../../../migrations/region/postgres/0046_report_numbers.sql")),
        (47, "instructions", include_str!("../../../migrations/region/postgres/0047_instructions.sql")),
        (48, "ended", include_str!("../../../migrations/region/postgres/0048_ended.sql")),
        (
            49,
            "nullable time filters",
            include_str!("../../../migrations/region/postgres/0049_nullable_time_filters.sql"),
        ),
        (50, "catalog", include_str!("../../../migrations/region/postgres/0050_catalog.sql")),
        (51, "added rows", include_str!("../../../migrations/region/postgres/0051_added_rows.sql")),
    ],
    sqlite: &[
        (1, "model tables", include_str!("../../../migrations/region/sqlite/0001_model_tables.sql")),
        (2, "causeway", include_str!("../../../migrations/region/sqlite/0002_causeway.sql")),
        (
            3,
            "encrypted exports",
            include_str!("../../../migrations/region/sqlite/0003_encrypted_exports.sql"),
        ),
        (
            4,
            "dry runs and findings",
            include_str!("../../../migrations/region/sqlite/0004_dry_runs_and_findings.sql"),
        ),
        (5, "lease", include_str!("../../../migrations/region/sqlite/0005_lease.sql")),
        (6, "replica", include_str!("../../../migrations/region/sqlite/0006_replica.sql")),
        (10, "revert", include_str!("../../../migrations/region/sqlite/0010_revert.sql")),
        (11, "reconciliation", include_str!("../../../migrations/region/sqlite/0011_reconciliation.sql")),
        (12, "health", include_str!("../../../migrations/region/sqlite/0012_health.sql")),
        (19, "page tokens", include_str!("../../../migrations/region/sqlite/0019_page_tokens.sql")),
        (20, "filters", include_str!("../../../migrations/region/sqlite/0020_filters.sql")),
        (22, "slug attempts", include_str!("../../../migrations/region/sqlite/0022_slug_attempts.sql")),
        (26, "owners", include_str!("../../../migrations/region/sqlite/0026_owners.sql")),
        (
            32,
            "counts and approvals",
            include_str!("../../../migrations/region/sqlite/0032_counts_and_approvals.sql"),
        ),
        (
            33,
            "models up to 26.6",
            include_str!("../../../migrations/region/sqlite/0033_models_up_to_26_6.sql"),
        ),
        (34, "planned for", include_str!("../../../migrations/region/sqlite/0034_planned_for.sql")),
        (36, "audit", include_str!("../../../migrations/region/sqlite/0036_audit.sql")),
        (38, "begun by", include_str!("../../../migrations/region/sqlite/0038_begun_by.sql")),
        (39, "refused slugs", include_str!("../../../migrations/region/sqlite/0039_refused_slugs.sql")),
        (40, "announced", include_str!("../../../migrations/region/sqlite/0040_announced.sql")),
        (
            41,
            "batches and pauses",
            include_str!("../../../migrations/region/sqlite/0041_batches_and_pauses.sql"),
        ),
        (42, "traces", include_str!("../../../migrations/region/sqlite/0042_traces.sql")),
        (43, "feed era", include_str!("../../../migrations/region/sqlite/0043_feed_era.sql")),
        (44, "reports", include_str!("../../../migrations/region/sqlite/0044_reports.sql")),
        (45, "throttle", include_str!("../../../migrations/region/sqlite/0045_throttle.sql")),
        (46, "report numbers", include_str!("../../../migrations/region/sqlite/0046_report_numbers.sql")),
        (47, "instructions", include_str!("../../../migrations/region/sqlite/0047_instructions.sql")),
        (48, "ended", include_str!("../../../migrations/region/sqlite/0048_ended.sql")),
        (
            49,
            "nullable time filters",
            include_str!("../../../migrations/region/sqlite/0049_nullable_time_filters.sql"),
        ),
        (50, "catalog", include_str!("../../../migrations/region/sqlite/0050_catalog.sql")),
        (51, "added rows", include_str!("../../../migrations/region/sqlite/0051_added_rows.sql")),
    ],
    of_models: &[1, 33, 49],
    statement_of_models: None,
    without_models: false,
};

/// The region that this database belongs to.
#[derive(Debug)]
pub(crate) struct Instance {
    /// The id of this database. Control uses it to recognize another region with the same name.
    pub(crate) id: Uuid,
    /// The region's name when the database was first opened.
    pub(crate) name: String,
}

/// The region that this database belongs to. The first call stores id and name; later ones return what was stored.
pub(crate) async fn instance(db: &Db, fresh: Uuid, name: &str) -> Result<Instance, DbError> {
    transact!(DbError, db, |tx| {
        let insert = "INSERT INTO causeway_region (instance_id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        tx.execute(Statement::new(insert).with(fresh).with(name)).await?;
        let row = tx.fetch_one(Statement::new("SELECT instance_id, name FROM causeway_region")).await?;
        Instance { id: row.uuid("instance_id")?, name: row.text("name")? }
    })
}

/// The name that a database's region had when the database was first opened; `None` if no region has started on it.
pub(crate) async fn recorded_name(db: &Db) -> Result<Option<String>, DbError> {
    let row = db.fetch_optional(Statement::new("SELECT name FROM causeway_region")).await?;
    row.map(|row| row.text("name")).transpose()
}

/// The secret of this database for page tokens.
pub(crate) async fn page_key(db: &Db) -> Result<PageKey, DbError> {
    let statement = Statement::new("SELECT value FROM causeway_secret WHERE name = 'page_tokens'");
    let row = db.fetch_optional(statement).await?;
    let secret =
        row.ok_or_else(|| DbError::inconsistent("causeway_secret has no page_tokens"))?.bytes("value")?;
    let secret = secret.try_into().map_err(|_| DbError::inconsistent("causeway_secret: page_tokens"))?;
    Ok(PageKey::new(secret))
}
