//! A region's SQL, and nothing else. Every time is passed in.

pub(crate) mod finding;
pub(crate) mod id_block;
pub(crate) mod import;
pub(crate) mod imported;
pub(crate) mod model_counts;
pub(crate) mod organization;

use causeway_relocation::{
    db::{Db, DbError, Migrations, Statement},
    transact,
};
use uuid::Uuid;

/// The schema of a region's database.
pub(crate) const MIGRATIONS: Migrations = Migrations {
    postgres: &[
        (1, "model tables", include_str!("../../../migrations/region/postgres/0001_model_tables.sql")),
        (2, "causeway", include_str!("../../../migrations/region/postgres/0002_causeway.sql")),
    ],
    sqlite: &[
        (1, "model tables", include_str!("../../../migrations/region/sqlite/0001_model_tables.sql")),
        (2, "causeway", include_str!("../../../migrations/region/sqlite/0002_causeway.sql")),
    ],
};

/// The id of this database, which it gets when it is opened first.
pub(crate) async fn instance_id(db: &Db, fresh: Uuid) -> Result<Uuid, DbError> {
    transact!(DbError, db, |tx| {
        tx.execute(
            Statement::new("INSERT INTO causeway_region (instance_id) VALUES ($1) ON CONFLICT DO NOTHING")
                .with(fresh),
        )
        .await?;
        tx.fetch_one(Statement::new("SELECT instance_id FROM causeway_region")).await?.uuid("instance_id")?
    })
}
