//! What can be learned about a database without changing anything in it, for `causeway doctor`.

use std::path::PathBuf;

use chrono::{DateTime, Utc};

use super::{
    Column, ConnectError, Db, DbError, Dialect, Statement,
    place::{Target, file_of},
};

/// The oldest PostgreSQL that Causeway is tested with, as `server_version_num` counts.
pub const OLDEST_POSTGRES: i64 = 150_000;

/// What a PostgreSQL server says about itself, and what the user of the connection may do in the database.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// The version as people write it, e.g. `15.18`.
    pub version: String,
    /// The version as a number, e.g. 150018.
    pub version_number: i64,
    /// Whether the server replays what another one writes, and so refuses writes.
    pub is_standby: bool,
    /// The server's time.
    pub clock: DateTime<Utc>,
    /// How many connections the server accepts from users without special rights.
    pub max_connections: i64,
    /// The encoding of texts in the database, e.g. `UTF8`.
    pub encoding: String,
    /// The database, the user and the schema where new tables go, each as SQL needs it, with quotes if it needs any.
    pub database: String,
    /// See [`ServerFacts::database`].
    pub user: String,
    /// See [`ServerFacts::database`].
    pub schema: String,
    /// Whether the user may create schemas and extensions in the database.
    pub may_create_schemas: bool,
    /// Whether the user may create tables where new tables go.
    pub may_create_tables: bool,
}

/// Rights that the user of the connection lacks on a table or a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LackingRights {
    /// The table or the sequence.
    pub name: String,
    /// Whether it is a sequence.
    pub is_sequence: bool,
    /// The rights, e.g. `INSERT, UPDATE`.
    pub rights: String,
}

/// A table whose next id by default exists already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceBehind {
    /// The table.
    pub table: String,
    /// Its sequence, quoted and with its schema where SQL needs that.
    pub sequence: String,
    /// The last id that the sequence has given out.
    pub last: i64,
    /// The highest id in the table.
    pub highest: i64,
}

/// The file of a SQLite database that does not exist, although the database's URL names it. `None` if it exists, and on
/// PostgreSQL.
///
/// # Errors
/// If the URL is not the URL of a database.
pub fn absent_file(url: &str) -> Result<Option<PathBuf>, ConnectError> {
    Ok(file_of_url(url)?.filter(|path| !path.exists()))
}

/// The file of a SQLite database; `None` on PostgreSQL, and for a database in memory.
///
/// # Errors
/// If the URL is not the URL of a database.
pub fn file_of_url(url: &str) -> Result<Option<PathBuf>, ConnectError> {
    match Target::of(url)? {
        Target::Postgres(_) => Ok(None),
        Target::Sqlite(options) => Ok(file_of(&options)),
    }
}

impl Db {
    /// What the server says about itself. `None` on SQLite, which has no server.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub async fn server_facts(&self) -> Result<Option<ServerFacts>, DbError> {
        if self.dialect() == Dialect::Sqlite {
            return Ok(None);
        }
        let statement = Statement::new(
            "SELECT split_part(current_setting('server_version'), ' ', 1) AS version, \
             CAST(current_setting('server_version_num') AS bigint) AS version_number, \
             pg_is_in_recovery() AS is_standby, clock_timestamp() AS clock, \
             CAST(current_setting('max_connections') AS bigint) \
             - CAST(current_setting('superuser_reserved_connections') AS bigint) AS max_connections, \
             current_setting('server_encoding') AS encoding, \
             quote_ident(current_database()) AS database, quote_ident(current_user) AS db_user, \
             COALESCE(quote_ident(current_schema()), 'public') AS schema, \
             has_database_privilege(current_database(), 'CREATE') AS may_create_schemas, \
             COALESCE(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create_tables",
        );
        let Some(row) = self.fetch_optional(statement).await? else { return Ok(None) };
        Ok(Some(ServerFacts {
            version: row.text("version")?,
            version_number: row.int("version_number")?,
            is_standby: row.bool("is_standby")?,
            clock: row.time("clock")?,
            max_connections: row.int("max_connections")?,
            encoding: row.text("encoding")?,
            database: row.text("database")?,
            user: row.text("db_user")?,
            schema: row.text("schema")?,
            may_create_schemas: row.bool("may_create_schemas")?,
            may_create_tables: row.bool("may_create_tables")?,
        }))
    }

    /// Those of these extensions that the server cannot install in the database, because it does not have their files.
    /// Empty on SQLite.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub async fn unavailable_extensions(&self, names: &[&str]) -> Result<Vec<String>, DbError> {
        if self.dialect() == Dialect::Sqlite {
            return Ok(Vec::new());
        }
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let statement = Statement::new("SELECT e.name AS name FROM ")
            .rows(self.dialect(), "e", [("name", Column::Texts(names))])
            .push(
                " WHERE NOT EXISTS (SELECT 1 FROM pg_available_extensions a WHERE a.name = e.name) ORDER BY 1",
            );
        self.fetch_all(statement).await?.iter().map(|row| row.text("name")).collect()
    }

    /// The rights that the user lacks on Causeway's own tables, on those of `tables` that exist, and on their sequences.
    /// Empty on SQLite.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub async fn lacking_rights(&self, tables: &[String]) -> Result<Vec<LackingRights>, DbError> {
        if self.dialect() == Dialect::Sqlite {
            return Ok(Vec::new());
        }
        let statement = Statement::new(
            "WITH tables AS (SELECT c.oid, c.relname::text AS name FROM pg_class c \
             WHERE c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid) AND (c.relname LIKE 'causeway\\_%' OR c.relname IN \
             (SELECT t.name FROM ",
        )
        .rows(self.dialect(), "t", [("name", Column::Texts(tables.to_vec()))])
        .push(
            "))), lacking AS (SELECT t.name, false AS is_sequence, concat_ws(', ', \
             CASE WHEN NOT has_table_privilege(t.oid, 'SELECT') THEN 'SELECT' END, \
             CASE WHEN NOT has_table_privilege(t.oid, 'INSERT') THEN 'INSERT' END, \
             CASE WHEN NOT has_table_privilege(t.oid, 'UPDATE') THEN 'UPDATE' END, \
             CASE WHEN NOT has_table_privilege(t.oid, 'DELETE') THEN 'DELETE' END) AS rights FROM tables t \
             UNION ALL SELECT s.oid::regclass::text, true, \
             concat_ws(', ', CASE WHEN NOT has_sequence_privilege(s.oid, 'USAGE') THEN 'USAGE' END, \
             CASE WHEN NOT has_sequence_privilege(s.oid, 'UPDATE') THEN 'UPDATE' END) FROM tables t \
             JOIN pg_depend d ON d.refobjid = t.oid AND d.refclassid = 'pg_class'::regclass \
             AND d.classid = 'pg_class'::regclass JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S') \
             SELECT name, is_sequence, rights FROM lacking WHERE rights <> '' ORDER BY is_sequence, name",
        );
        let rows = self.fetch_all(statement).await?;
        let lacking = |row: &super::Row| {
            Ok(LackingRights {
                name: row.text("name")?,
                is_sequence: row.bool("is_sequence")?,
                rights: row.text("rights")?,
            })
        };
        rows.iter().map(lacking).collect()
    }

    /// Those of `tables` whose sequence is below an id that the table has: the next insert of the application that takes
    /// the default would collide. Tables that the user cannot read are left out. Empty on SQLite, which counts from the
    /// highest row.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub async fn sequences_behind(&self, tables: &[String]) -> Result<Vec<SequenceBehind>, DbError> {
        if self.dialect() == Dialect::Sqlite {
            return Ok(Vec::new());
        }
        let find = Statement::new(
            "SELECT f.name AS name, f.quoted AS quoted, f.sequence AS sequence FROM \
             (SELECT t.name AS name, c.oid::regclass::text AS quoted, \
             pg_get_serial_sequence(c.oid::regclass::text, 'id') AS sequence FROM ",
        )
        .rows(self.dialect(), "t", [("name", Column::Texts(tables.to_vec()))])
        .push(
            " JOIN pg_class c ON c.oid = to_regclass(quote_ident(t.name)) \
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'id' AND NOT a.attisdropped \
             WHERE has_table_privilege(c.oid, 'SELECT')) f \
             WHERE f.sequence IS NOT NULL AND has_sequence_privilege(f.sequence, 'SELECT') ORDER BY f.name",
        );
        let mut compare: Option<Statement> = None;
        for row in self.fetch_all(find).await? {
            let (name, quoted, sequence) = (row.text("name")?, row.text("quoted")?, row.text("sequence")?);
            let next = match compare {
                None => Statement::new("SELECT * FROM (SELECT CAST("),
                Some(statement) => statement.push(" UNION ALL SELECT CAST("),
            };
            let next = next.arg(name).push(" AS text) AS name, CAST(").arg(sequence.clone());
            compare = Some(next.push(&format!(
                " AS text) AS sequence, (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM {sequence}) AS \
                 last, (SELECT CAST(COALESCE(MAX(id), 0) AS bigint) FROM {quoted}) AS highest"
            )));
        }
        let Some(compare) = compare else { return Ok(Vec::new()) };
        let rows = self.fetch_all(compare.push(") s WHERE s.highest > s.last ORDER BY s.name")).await?;
        let behind = |row: &super::Row| {
            Ok(SequenceBehind {
                table: row.text("name")?,
                sequence: row.text("sequence")?,
                last: row.int("last")?,
                highest: row.int("highest")?,
            })
        };
        rows.iter().map(behind).collect()
    }

    /// The first damage that SQLite finds in the file, if it finds any. `None` on PostgreSQL too, which has other means.
    /// Reads the whole file.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub async fn damage(&self) -> Result<Option<String>, DbError> {
        if self.dialect() == Dialect::Postgres {
            return Ok(None);
        }
        let found = self.fetch_optional(Statement::new("PRAGMA quick_check(1)")).await?;
        let found = found.map(|row| row.text("quick_check")).transpose()?;
        Ok(found.filter(|found| found != "ok"))
    }
}
