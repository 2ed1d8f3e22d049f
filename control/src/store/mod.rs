//! Control's SQL, and nothing else. Every time is passed in.

pub(crate) mod control_import;
pub(crate) mod directory;
pub(crate) mod feed;
pub(crate) mod held;
pub(crate) mod id_lease;
pub(crate) mod region;
pub(crate) mod rename;
pub(crate) mod slug_reservation;

use causeway_relocation::db::Migrations;

/// Behind a column that holds a region, in a statement over the reservations of given organizations: is this region. As a
/// plain comparison it would invite PostgreSQL to read all reservations of a region when it does not know yet how many
/// that has, rather than to look for each organization.
const IS_BY_ORGANIZATION: &str = " || '' = ";

/// The schema of a control's database.
pub(crate) const MIGRATIONS: Migrations = Migrations {
    postgres: &[
        (1, "model tables", include_str!("../../../migrations/control/postgres/0001_model_tables.sql")),
        (2, "causeway", include_str!("../../../migrations/control/postgres/0002_causeway.sql")),
        (3, "imports", include_str!("../../../migrations/control/postgres/0003_imports.sql")),
        (6, "feed", include_str!("../../../migrations/control/postgres/0006_feed.sql")),
        (7, "revert", include_str!("../../../migrations/control/postgres/0007_revert.sql")),
        (14, "slug answers", include_str!("../../../migrations/control/postgres/0014_slug_answers.sql")),
    ],
    sqlite: &[
        (1, "model tables", include_str!("../../../migrations/control/sqlite/0001_model_tables.sql")),
        (2, "causeway", include_str!("../../../migrations/control/sqlite/0002_causeway.sql")),
        (3, "imports", include_str!("../../../migrations/control/sqlite/0003_imports.sql")),
        (6, "feed", include_str!("../../../migrations/control/sqlite/0006_feed.sql")),
        (7, "revert", include_str!("../../../migrations/control/sqlite/0007_revert.sql")),
        (14, "slug answers", include_str!("../../../migrations/control/sqlite/0014_slug_answers.sql")),
    ],
};
