//! A schema of PostgreSQL for Causeway's own tables. In a database that belongs to somebody else, the tables of control
//! and of a region are in schemas of their own, so that both may use one database and neither gets in the owner's way.

use std::sync::Arc;

use super::{ConnectError, Db, DbError, Pool, Statement};
use crate::Silo;

/// The name of the schema.
fn name_of(silo: Silo) -> &'static str {
    match silo {
        Silo::Control => "causeway_control",
        Silo::Region => "causeway_region",
    }
}

/// Where a service has its own tables in a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnTables {
    /// Among the tables of the database's owner.
    Shared,
    /// In a schema of their own.
    OwnSchema,
    /// The database does not have them yet.
    Absent,
}

impl Db {
    /// Where a service has its own tables in this database. On SQLite always [`OwnTables::Shared`].
    ///
    /// # Errors
    /// If the database cannot be queried, or has the schema and its user may not use that. The error says what to do.
    pub async fn own_tables(&self, silo: Silo) -> Result<OwnTables, DbError> {
        let Pool::Postgres(pool) = &self.pool else { return Ok(OwnTables::Shared) };
        // A table of the first migrations that only this kind of silo has.
        let table = match silo {
            Silo::Control => "causeway_slug_operation",
            Silo::Region => "causeway_import_organization",
        };
        let schema = name_of(silo);
        let may = "SELECT CAST(has_schema_privilege(oid, 'USAGE') AS integer)::bigint AS may FROM pg_namespace \
                   WHERE nspname = $1";
        let may = self.fetch_optional(Statement::new(may).with(schema.to_owned())).await?;
        if may.map(|row| row.int("may")).transpose()? == Some(0) {
            let user = pool.connect_options().get_username().to_owned();
            return Err(DbError::inconsistent(format!(
                "{user} may not use the schema {schema}, which is for Causeway's own tables; have its owner run: \
                 GRANT USAGE, CREATE ON SCHEMA {schema} TO \"{user}\""
            )));
        }
        let ask = Statement::new(
            "SELECT CAST(CASE WHEN to_regclass($1) IS NOT NULL THEN 2 WHEN to_regclass($2) IS NOT NULL THEN 1 ELSE 0 END \
             AS bigint) AS place",
        );
        let ask = ask.with(format!("{schema}.causeway_migration")).with(table.to_owned());
        let found = self.fetch_optional(ask).await?.map(|row| row.int("place")).transpose()?;
        Ok(match found {
            Some(2) => OwnTables::OwnSchema,
            Some(1) => OwnTables::Shared,
            _ => OwnTables::Absent,
        })
    }

    /// Whether the schema of a service exists, with tables or without. On SQLite never.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub async fn has_own_schema(&self, silo: Silo) -> Result<bool, DbError> {
        if let Pool::Sqlite { .. } = self.pool {
            return Ok(false);
        }
        let there = Statement::new("SELECT 1 AS one FROM pg_namespace WHERE nspname = $1");
        Ok(self.fetch_optional(there.with(name_of(silo).to_owned())).await?.is_some())
    }

    /// Creates the schema of a service, if it is absent. Several processes may do this at once.
    ///
    /// # Errors
    /// If the database refuses, for instance because the user may not create schemas. The error says what to do.
    pub async fn create_own_schema(&self, silo: Silo) -> Result<(), DbError> {
        let schema = name_of(silo);
        let created: Result<(), DbError> = crate::transact!(DbError, self, |tx| {
            // Without the lock, two processes that find none might both create it.
            let lock = Statement::new("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))");
            tx.execute(lock.with(schema.to_owned())).await?;
            // Somebody with more rights may have created it.
            let there = Statement::new("SELECT 1 AS one FROM pg_namespace WHERE nspname = $1")
                .with(schema.to_owned());
            if tx.fetch_optional(there).await?.is_none() {
                tx.execute(Statement::new("CREATE SCHEMA ").push(schema)).await?;
            }
        });
        let user = match &self.pool {
            Pool::Postgres(pool) => pool.connect_options().get_username().to_owned(),
            Pool::Sqlite { .. } => String::new(),
        };
        created.map_err(|error| {
            error.doing(format!(
                "Causeway's own tables need the schema {schema}; have somebody who may do it run: CREATE SCHEMA {schema} \
                 AUTHORIZATION \"{user}\""
            ))
        })
    }

    /// The same database with the tables of a service found where they are: in their schema if they have one
    /// ([`Db::in_own_schema`]), and otherwise as it is.
    ///
    /// # Errors
    /// If the database cannot be reached or queried.
    pub async fn in_its_schema(self, silo: Silo) -> Result<Self, ConnectError> {
        match self.own_tables(silo).await {
            Ok(OwnTables::OwnSchema) => self.in_own_schema(silo).await,
            Ok(OwnTables::Shared | OwnTables::Absent) => Ok(self),
            Err(error) => Err(self.refused(error)),
        }
    }

    /// The database cannot be used for this reason.
    fn refused(&self, error: DbError) -> ConnectError {
        ConnectError::Refused {
            place: self.place.to_string(),
            error,
            advice: format!("mend that, or {}", self.option),
        }
    }

    /// The same database with the schema of a service before all others: its tables are created and found there, and those
    /// of the owner where they were. Closes the connections of this one.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn in_own_schema(self, silo: Silo) -> Result<Self, ConnectError> {
        let Pool::Postgres(pool) = self.pool.clone() else { return Ok(self) };
        let schema = name_of(silo);
        let refused = |error: DbError| self.refused(error);
        let ask = Statement::new(
            "SELECT coalesce(string_agg(quote_ident(name), ',' ORDER BY at), '') AS path FROM \
             unnest(current_schemas(false)) WITH ORDINALITY AS t (name, at) WHERE name <> $1",
        );
        let ask = ask.with(schema.to_owned());
        let others = self.fetch_optional(ask).await.map_err(&refused)?;
        let others = others.map_or_else(|| Ok(String::new()), |row| row.text("path")).map_err(&refused)?;
        let path = if others.is_empty() { schema.to_owned() } else { format!("{schema},{others}") };
        let new = pool.reopened(|options| options.options([("search_path", &path)])).await;
        let new = new.map_err(|error| refused(error.into()))?;
        let (place, disk_space) = (Arc::clone(&self.place), Arc::clone(&self.disk_space));
        let moved = Self { pool: Pool::Postgres(new), place, option: self.option, disk_space };
        // Something between here and the server may drop the setting, and the tables would land among the owner's.
        let first = moved.fetch_optional(Statement::new("SELECT current_schema()::text AS name")).await;
        let first =
            first.and_then(|row| row.map_or(Ok(None), |row| row.opt_text("name"))).map_err(&refused)?;
        if first.as_deref() != Some(schema) {
            return Err(refused(DbError::inconsistent(format!(
                "Causeway's tables would not be in the schema {schema}: the option search_path of the connection does not \
                 reach PostgreSQL. A connection pool in between may drop it"
            ))));
        }
        Ok(moved)
    }
}
