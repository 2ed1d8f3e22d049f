//! Brings the schema up to date at start, but only if this service may use the database.

use std::borrow::Cow;

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
};

use super::{Db, DbError, Dialect, Pool, Statement};
use crate::Silo;

/// The table of applied migrations. It has an unusual name because an application with tables in the same database may
/// have a table of the usual name.
const TABLE: &str = "causeway_migration";

/// The migrations of one kind of silo, for both databases: number, name and SQL of each. Once landed, a migration is
/// never edited.
#[derive(Debug, Clone, Copy)]
pub struct Migrations {
    /// The kind of silo that they belong to.
    pub silo: Silo,
    /// Those for PostgreSQL, in the order of their numbers.
    pub postgres: &'static [(i64, &'static str, &'static str)],
    /// Those for SQLite, in the order of their numbers.
    pub sqlite: &'static [(i64, &'static str, &'static str)],
    /// The numbers of migrations that only make or alter tables of models.
    pub of_models: &'static [i64],
    /// A statement of another migration that does so.
    pub statement_of_models: Option<&'static str>,
    /// Whether what concerns tables of models is left out, because the tables belong to somebody else. The migrations
    /// count as applied all the same.
    pub without_models: bool,
}

impl Migrations {
    /// The SQL of a migration that is executed.
    fn applied(self, version: i64, sql: &'static str) -> Cow<'static, str> {
        if !self.without_models {
            return Cow::Borrowed(sql);
        }
        if self.of_models.contains(&version) {
            return Cow::Borrowed("SELECT 1;");
        }
        match self.statement_of_models {
            Some(statement) => Cow::Owned(sql.replace(statement, "")),
            None => Cow::Borrowed(sql),
        }
    }

    fn of(self, dialect: Dialect) -> &'static [(i64, &'static str, &'static str)] {
        match dialect {
            Dialect::Postgres => self.postgres,
            Dialect::Sqlite => self.sqlite,
        }
    }

    /// The number of the last migration; 0 if there is none.
    #[must_use]
    pub fn newest(self, dialect: Dialect) -> i64 {
        self.of(dialect).iter().map(|(version, ..)| *version).max().unwrap_or(0)
    }

    fn migrator(self, dialect: Dialect) -> Migrator {
        let migrations = self
            .of(dialect)
            .iter()
            .map(|(version, name, sql)| {
                let migration = |sql: Cow<'static, str>| {
                    Migration::new(
                        *version,
                        Cow::Borrowed(*name),
                        MigrationType::Simple,
                        AssertSqlSafe(sql.into_owned()).into_sql_str(),
                        false,
                    )
                };
                // The checksum stays that of the whole migration.
                let whole = migration(Cow::Borrowed(*sql));
                Migration { sql: migration(self.applied(*version, sql)).sql, ..whole }
            })
            .collect();
        let mut migrator = Migrator::with_migrations(migrations);
        migrator.dangerous_set_table_name(TABLE);
        migrator
    }
}

/// Why a schema cannot be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database belongs to a service of the other kind. Nothing in it was changed.
    #[error(
        "{place} is that of {is}, and {wanted} needs one of its own; nothing in it was changed. Give another \
         --database-url"
    )]
    OtherSilo {
        /// The name of the database, without anything secret.
        place: String,
        /// The kind of silo that it belongs to.
        is: &'static str,
        /// The kind of silo that wants to use it.
        wanted: &'static str,
    },
    /// A newer release has used the database. Nothing in it was changed.
    #[error(
        "{place} has been used by a newer release of Causeway: its schema has migration {version}, and this release \
         knows those up to {known}; nothing was changed. Start that release, or put back a copy from before it"
    )]
    Newer {
        /// The name of the database, without anything secret.
        place: String,
        /// The number of a migration that this release does not know.
        version: i64,
        /// The number of the last migration that it knows.
        known: i64,
    },
    /// A migration was applied that has different content in this release.
    #[error(
        "migration {version} of {place} has another content than that of this release: it was applied by a build that \
         was never released. Start that build, or begin with an empty database"
    )]
    Changed {
        /// The name of the database, without anything secret.
        place: String,
        /// The number of the migration.
        version: i64,
    },
    /// A migration failed. Those before it are applied, and nothing of this one is.
    #[error("the schema of {place} cannot be brought up to date by migration {version}: {error}")]
    Failed {
        /// The name of the database, without anything secret.
        place: String,
        /// The number of the migration.
        version: i64,
        /// The error of the database.
        error: DbError,
    },
    /// The applied migrations cannot be read, or something else failed.
    #[error("the schema of {place} cannot be brought up to date: {error}")]
    Other {
        /// The name of the database, without anything secret.
        place: String,
        /// The error of the database.
        error: DbError,
    },
}

impl Db {
    /// Checks that this service may use the database, and returns the number of the last migration that has been applied;
    /// `None` if it is new. Changes nothing.
    ///
    /// # Errors
    /// If the database is that of another service or of a newer release, or cannot be reached.
    pub async fn check_migrations(&self, migrations: Migrations) -> Result<Option<i64>, MigrateError> {
        self.version(migrations).await
    }

    /// Brings the schema up to date. Several processes may do this at once; doing it again changes nothing.
    ///
    /// # Errors
    /// If the database is that of another service or of a newer release, or refuses.
    pub async fn migrate(&self, migrations: Migrations) -> Result<(), MigrateError> {
        let place = self.place.to_string();
        let other = |error| MigrateError::Other { place: place.clone(), error };
        let before = self.version(migrations).await?;
        let migrator = migrations.migrator(self.dialect());
        // On a connection of its own that logs no statements: a migration has tens of thousands of characters.
        let done = match &self.pool {
            Pool::Postgres(pool) => {
                let options = pool.connect_options().disable_statement_logging();
                let watch = pool.watch();
                let migrated = watch.during(async {
                    let mut connection = options.connect().await?;
                    // No notices that a table exists already.
                    connection.execute("SET client_min_messages = warning").await?;
                    let done = migrator.run_direct(None, &mut connection, false).await;
                    // The migrations are committed, so an error on closing does not matter.
                    let _closed = connection.close().await;
                    Ok::<_, DbError>(done)
                });
                migrated.await.map_err(other)?
            }
            Pool::Sqlite { writer, .. } => {
                let options = writer.connect_options().as_ref().clone().disable_statement_logging();
                let mut connection = options.connect().await.map_err(|error| other(error.into()))?;
                let done = migrator.run_direct(None, &mut connection, false).await;
                let _closed = connection.close().await;
                done
            }
        };
        done.map_err(|error| self.why_not(error, migrations))?;
        let known = migrations.newest(self.dialect());
        if before != Some(known) {
            tracing::info!(migration = known, "the schema of the database is up to date");
        }
        Ok(())
    }

    /// The number of the last migration that has been applied; `None` if there is none. Fails if this service may not
    /// use the database. Changes nothing.
    async fn version(&self, migrations: Migrations) -> Result<Option<i64>, MigrateError> {
        let place = || self.place.to_string();
        let other = |error| MigrateError::Other { place: place(), error };
        // Since its first migrations, each kind of silo has a table that the other one does not have.
        let find = match self.dialect() {
            Dialect::Postgres => {
                "SELECT name FROM (VALUES ('causeway_migration'), ('causeway_slug_operation'), \
                 ('causeway_import_organization')) AS t (name) WHERE to_regclass(name) IS NOT NULL"
            }
            Dialect::Sqlite => {
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ('causeway_migration', \
                 'causeway_slug_operation', 'causeway_import_organization')"
            }
        };
        let rows = self.fetch_all(Statement::new(find)).await.map_err(other)?;
        let tables = rows.iter().map(|row| row.text("name")).collect::<Result<Vec<_>, _>>().map_err(other)?;
        let has = |table: &str| tables.iter().any(|name| name == table);
        let (is, wanted) = match migrations.silo {
            Silo::Control if has("causeway_import_organization") => ("a region", "control"),
            Silo::Region if has("causeway_slug_operation") => ("a control", "a region"),
            _ if !has(TABLE) => return Ok(None),
            _ => {
                let rows = self
                    .fetch_all(Statement::new("SELECT version FROM causeway_migration ORDER BY version"))
                    .await
                    .map_err(other)?;
                let applied = rows
                    .iter()
                    .map(|row| row.int("version"))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(other)?;
                let known = migrations.of(self.dialect());
                let unknown =
                    applied.iter().rev().find(|version| !known.iter().any(|known| known.0 == **version));
                return match unknown {
                    Some(version) => Err(MigrateError::Newer {
                        place: place(),
                        version: *version,
                        known: migrations.newest(self.dialect()),
                    }),
                    None => Ok(applied.last().copied()),
                };
            }
        };
        Err(MigrateError::OtherSilo { place: place(), is, wanted })
    }

    fn why_not(&self, error: sqlx::migrate::MigrateError, migrations: Migrations) -> MigrateError {
        use sqlx::migrate::MigrateError as Why;
        let place = self.place.to_string();
        match error {
            Why::VersionMissing(version) => {
                MigrateError::Newer { place, version, known: migrations.newest(self.dialect()) }
            }
            Why::VersionMismatch(version) => MigrateError::Changed { place, version },
            Why::ExecuteMigration(error, version) => {
                MigrateError::Failed { place, version, error: error.into() }
            }
            Why::Execute(error) => MigrateError::Other { place, error: error.into() },
            error => MigrateError::Other { place, error: DbError::inconsistent(error.to_string()) },
        }
    }
}
