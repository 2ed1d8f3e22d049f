//! Control's SQL, and nothing else. Callers pass in every time.

pub mod added_region;
pub(crate) mod control_state;
pub(crate) mod directory;
pub(crate) mod era;
pub(crate) mod feed;
pub mod feed_transaction;
pub(crate) mod id_lease;
pub(crate) mod import;
pub(crate) mod import_plan;
pub(crate) mod instruction;
pub(crate) mod measured;
pub mod plans;
pub(crate) mod product_db;
pub(crate) mod product_state;
pub(crate) mod product_tables;
pub(crate) mod region;
pub(crate) mod region_ids;
pub(crate) mod rename;
pub(crate) mod report;
pub(crate) mod slug_lookup;
pub(crate) mod slug_operation;
pub mod slug_reservation;

use causeway_proto::page::PageKey;
use causeway_relocation::catalog::Silo;
use causeway_silo::db::{Db, DbError, Migrations, Statement};

/// Compares a region column, which it follows, in a statement over the reservations of given organizations.
/// With a plain comparison, PostgreSQL may read all reservations of a region rather than search for each
/// organization, as long as it does not know how many reservations the region has.
const EQUALS_WITHOUT_REGION_INDEX: &str = " || '' = ";

/// The schema of a control's database: numbered migrations for PostgreSQL and SQLite.
pub(crate) const MIGRATIONS: Migrations = Migrations {
    silo: Silo::Control,
    postgres: &[
        (1, "model tables", include_str!("../../../migrations/control/postgres/0001_model_tables.sql")),
        (2, "causeway", include_str!("../../../migrations/control/postgres/0002_causeway.sql")),
        (3, "imports", include_str!("../../../migrations/control/postgres/0003_imports.sql")),
        (6, "feed", include_str!("../../../migrations/control/postgres/0006_feed.sql")),
        (7, "revert", include_str!("../../../migrations/control/postgres/0007_revert.sql")),
        (12, "health", include_str!("../../../migrations/control/postgres/0012_health.sql")),
        (14, "slug answers", include_str!("../../../migrations/control/postgres/0014_slug_answers.sql")),
        (15, "directory", include_str!("../../../migrations/control/postgres/0015_directory.sql")),
        (16, "ids of regions", include_str!("../../../migrations/control/postgres/0016_ids_of_regions.sql")),
        (17, "take over", include_str!("../../../migrations/control/postgres/0017_take_over.sql")),
        (19, "page tokens", include_str!("../../../migrations/control/postgres/0019_page_tokens.sql")),
        (
            22,
            "operations in parts",
            include_str!("../../../migrations/control/postgres/0022_operations_in_parts.sql"),
        ),
        (
            33,
            "models up to 26.6",
            include_str!("../../../migrations/control/postgres/0033_models_up_to_26_6.sql"),
        ),
        (
            35,
            "product names of regions",
            include_str!("../../../migrations/control/postgres/0035_product_names_of_regions.sql"),
        ),
        (36, "audit", include_str!("../../../migrations/control/postgres/0036_audit.sql")),
        (37, "added regions", include_str!("../../../migrations/control/postgres/0037_added_regions.sql")),
        (
            39,
            "planned imports",
            include_str!("../../../migrations/control/postgres/0039_planned_imports.sql"),
        ),
        (
            41,
            "addresses to sign in",
            include_str!("../../../migrations/control/postgres/0041_addresses_to_sign_in.sql"),
        ),
        (42, "first chunks", include_str!("../../../migrations/control/postgres/0042_first_chunks.sql")),
        (43, "reports", include_str!("../../../migrations/control/postgres/0043_reports.sql")),
        (45, "restored", include_str!("../../../migrations/control/postgres/0045_restored.sql")),
        (46, "report numbers", include_str!("../../../migrations/control/postgres/0046_report_numbers.sql")),
        (47, "instructions", include_str!("../../../migrations/control/postgres/0047_instructions.sql")),
        (48, "catalog", include_str!("../../../migrations/control/postgres/0048_catalog.sql")),
    ],
    sqlite: &[
        (1, "model tables", include_str!("../../../migrations/control/sqlite/0001_model_tables.sql")),
        (2, "causeway", include_str!("../../../migrations/control/sqlite/0002_causeway.sql")),
        (3, "imports", include_str!("../../../migrations/control/sqlite/0003_imports.sql")),
        (6, "feed", include_str!("../../../migrations/control/sqlite/0006_feed.sql")),
        (7, "revert", include_str!("../../../migrations/control/sqlite/0007_revert.sql")),
        (12, "health", include_str!("../../../migrations/control/sqlite/0012_health.sql")),
        (14, "slug answers", include_str!("../../../migrations/control/sqlite/0014_slug_answers.sql")),
        (15, "directory", include_str!("../../../migrations/control/sqlite/0015_directory.sql")),
        (16, "ids of regions", include_str!("../../../migrations/control/sqlite/0016_ids_of_regions.sql")),
        (17, "take over", include_str!("../../../migrations/control/sqlite/0017_take_over.sql")),
        (19, "page tokens", include_str!("../../../migrations/control/sqlite/0019_page_tokens.sql")),
        (
            22,
            "operations in parts",
            include_str!("../../../migrations/control/sqlite/0022_operations_in_parts.sql"),
        ),
        (
            33,
            "models up to 26.6",
            include_str!("../../../migrations/control/sqlite/0033_models_up_to_26_6.sql"),
        ),
        (
            35,
            "product names of regions",
            include_str!("../../../migrations/control/sqlite/0035_product_names_of_regions.sql"),
        ),
        (36, "audit", include_str!("../../../migrations/control/sqlite/0036_audit.sql")),
        (37, "added regions", include_str!("../../../migrations/control/sqlite/0037_added_regions.sql")),
        (39, "planned imports", include_str!("../../../migrations/control/sqlite/0039_planned_imports.sql")),
        (
            41,
            "addresses to sign in",
            include_str!("../../../migrations/control/sqlite/0041_addresses_to_sign_in.sql"),
        ),
        (42, "first chunks", include_str!("../../../migrations/control/sqlite/0042_first_chunks.sql")),
        (43, "reports", include_str!("../../../migrations/control/sqlite/0043_reports.sql")),
        (45, "restored", include_str!("../../../migrations/control/sqlite/0045_restored.sql")),
        (46, "report numbers", include_str!("../../../migrations/control/sqlite/0046_report_numbers.sql")),
        (47, "instructions", include_str!("../../../migrations/control/sqlite/0047_instructions.sql")),
        (48, "catalog", include_str!("../../../migrations/control/sqlite/0048_catalog.sql")),
    ],
    of_models: &[1, 33, 41],
    statement_of_models: Some(
        "CREATE INDEX IF NOT EXISTS causeway_auth_user_username_lower_idx ON auth_user (lower(username));",
    ),
    without_models: false,
};

/// The key for the checksums of page tokens, which the database stores.
pub(crate) async fn page_key(db: &Db) -> Result<PageKey, DbError> {
    let statement = Statement::new("SELECT value FROM causeway_secret WHERE name = 'page_tokens'");
    let row = db.fetch_optional(statement).await?;
    let secret =
        row.ok_or_else(|| DbError::inconsistent("causeway_secret has no page_tokens"))?.bytes("value")?;
    let secret = secret.try_into().map_err(|_| DbError::inconsistent("causeway_secret: page_tokens"))?;
    Ok(PageKey::new(secret))
}
