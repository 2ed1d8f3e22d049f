//! The other side of the comparison: the same rows, written in the plainest fast way that the database has, with
//! nothing checked, mapped or recorded.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use causeway_relocation::{
    catalog::{Catalog, Silo},
    writer::LEAST_COPY,
};
use futures::TryStreamExt as _;
use sqlx::{
    Arguments as _, AssertSqlSafe, Column as _, Connection as _, PgConnection, Row as _, SqliteConnection,
    TypeInfo as _, ValueRef as _,
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteRow},
};

use crate::rig::{Databases, Rig, Store};

const PIECE: usize = 256 * 1024;
/// Bytes of the signature of binary COPY, of its flags, and of the length of the part that readers skip.
const HEADER: usize = 19;
/// Rows of one statement on SQLite, as far as its limit on parameters allows.
const SQLITE_ROWS: usize = 500;
const SQLITE_PARAMETERS: usize = 32_766;
/// Rows of one transaction on SQLite.
const SQLITE_TRANSACTION: usize = 100_000;

/// Rows that an import has written, table by table.
#[derive(Debug)]
pub(crate) struct Rows {
    tables: Vec<Table>,
    /// The databases that the rows came from. On SQLite they still exist, and the rows are read from them.
    from: Databases,
}

#[derive(Debug)]
struct Table {
    name: String,
    silo: Silo,
    /// The rows in PostgreSQL's binary COPY format.
    file: PathBuf,
}

/// How many rows were written, and how long that took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Written {
    pub(crate) rows: u64,
    pub(crate) time: Duration,
}

impl Rows {
    /// Saves the rows of all model tables, in the order in which they can be written. On SQLite, only stores
    /// where they are.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(crate) async fn dump(rig: &Rig, databases: &Databases) -> anyhow::Result<Self> {
        let catalog = Catalog::load()?;
        let mut tables = Vec::new();
        for model in catalog.written() {
            let file = rig.directory().join(format!("{}.copy", model.table));
            tables.push(Table { name: model.table.clone(), silo: model.silo, file });
        }
        if rig.store() == Store::Postgres {
            for silo in [Silo::Control, Silo::Region] {
                let mut connection = PgConnection::connect(databases.of(silo)).await?;
                for table in tables.iter().filter(|table| table.silo == silo) {
                    dump(&mut connection, table).await?;
                }
                connection.close().await?;
            }
        }
        Ok(Self { tables, from: databases.clone() })
    }

    /// Writes the rows into databases that have the same tables, and no rows in them.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn write(&self, rig: &Rig, into: &Databases) -> anyhow::Result<Written> {
        match rig.store() {
            Store::Postgres => self.copy(into).await,
            Store::Sqlite => self.insert(into).await,
        }
    }

    async fn copy(&self, into: &Databases) -> anyhow::Result<Written> {
        let mut control = PgConnection::connect(&into.control).await?;
        let mut region = PgConnection::connect(&into.region).await?;
        let began = Instant::now();
        let mut rows = 0;
        let mut piece = vec![0; PIECE];
        for table in &self.tables {
            let connection = if table.silo == Silo::Control { &mut control } else { &mut region };
            let mut file = File::open(&table.file)?;
            // Pads short data as the services do. Without that, sqlx waits at the end of short data, and no other
            // client does.
            let filling = LEAST_COPY.saturating_sub(usize::try_from(file.metadata()?.len())?);
            let mut header = [0; HEADER];
            file.read_exact(&mut header)?;
            let mut beginning = [&header[..HEADER - 4], &u32::try_from(filling)?.to_be_bytes()].concat();
            beginning.resize(HEADER + filling, 0);
            let mut copy = connection
                .copy_in_raw(&format!("COPY \"{}\" FROM STDIN (FORMAT binary)", table.name))
                .await?;
            copy.send(beginning).await?;
            loop {
                let length = file.read(&mut piece)?;
                if length == 0 {
                    break;
                }
                copy.send(&piece[..length]).await?;
            }
            rows += copy.finish().await?;
        }
        let time = began.elapsed();
        control.close().await?;
        region.close().await?;
        Ok(Written { rows, time })
    }

    async fn insert(&self, into: &Databases) -> anyhow::Result<Written> {
        let mut written = Written { rows: 0, time: Duration::ZERO };
        for silo in [Silo::Control, Silo::Region] {
            let mut source = SqliteConnection::connect(self.from.of(silo)).await?;
            // The same options as the services.
            let options: SqliteConnectOptions = into.of(silo).parse()?;
            let options = options
                .foreign_keys(true)
                .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
                .synchronous(sqlx::sqlite::SqliteSynchronous::Full);
            let mut target = SqliteConnection::connect_with(&options).await?;
            for table in self.tables.iter().filter(|table| table.silo == silo) {
                let mut after = 0_i64;
                loop {
                    // Only the inserts are timed.
                    let sql = format!(
                        "SELECT * FROM \"{}\" WHERE id > ? ORDER BY id LIMIT {SQLITE_TRANSACTION}",
                        table.name
                    );
                    let rows = sqlx::query(AssertSqlSafe(sql)).bind(after).fetch_all(&mut source).await?;
                    let Some(last) = rows.last() else { break };
                    after = last.try_get("id")?;
                    let statements = statements(table, &rows)?;
                    let began = Instant::now();
                    let mut transaction = target.begin().await?;
                    for (sql, arguments) in statements {
                        sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut *transaction).await?;
                    }
                    transaction.commit().await?;
                    written.time += began.elapsed();
                    written.rows += rows.len() as u64;
                }
            }
            source.close().await?;
            target.close().await?;
        }
        Ok(written)
    }
}

async fn dump(connection: &mut PgConnection, table: &Table) -> anyhow::Result<()> {
    let mut file = std::io::BufWriter::new(File::create(&table.file)?);
    let mut pieces =
        connection.copy_out_raw(&format!("COPY \"{}\" TO STDOUT (FORMAT binary)", table.name)).await?;
    while let Some(piece) = pieces.try_next().await? {
        file.write_all(&piece)?;
    }
    file.flush()?;
    Ok(())
}

fn statements(table: &Table, rows: &[SqliteRow]) -> anyhow::Result<Vec<(String, SqliteArguments)>> {
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let names: Vec<String> = first.columns().iter().map(|column| format!("\"{}\"", column.name())).collect();
    let each = (SQLITE_PARAMETERS / names.len()).clamp(1, SQLITE_ROWS);
    let places = format!("({})", vec!["?"; names.len()].join(", "));
    let mut statements = Vec::new();
    for rows in rows.chunks(each) {
        let sql = format!(
            "INSERT INTO \"{}\" ({}) VALUES {}",
            table.name,
            names.join(", "),
            vec![places.as_str(); rows.len()].join(", ")
        );
        let mut arguments = SqliteArguments::default();
        for row in rows {
            for index in 0..names.len() {
                let value = row.try_get_raw(index)?;
                let kind = value.type_info().name().to_owned();
                let added = match kind.as_str() {
                    _ if value.is_null() => arguments.add(None::<i64>),
                    "INTEGER" | "BOOLEAN" => arguments.add(row.try_get_unchecked::<i64, _>(index)?),
                    "REAL" => arguments.add(row.try_get_unchecked::<f64, _>(index)?),
                    "BLOB" => arguments.add(row.try_get_unchecked::<Vec<u8>, _>(index)?),
                    _ => arguments.add(row.try_get_unchecked::<String, _>(index)?),
                };
                added.map_err(|error| anyhow::anyhow!("a value cannot be bound: {error}"))?;
            }
        }
        statements.push((sql, arguments));
    }
    Ok(statements)
}

/// Removes the files that [`Rows::dump`] has made.
///
/// # Errors
/// If a file cannot be removed.
pub(crate) fn forget(rows: Rows) -> std::io::Result<()> {
    rows.tables
        .iter()
        .map(|table| table.file.as_path())
        .filter(|file| file.exists())
        .try_for_each(std::fs::remove_file::<&Path>)
}
