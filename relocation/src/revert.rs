//! Reverts an import: deletes the rows that it inserted, one chunk at a time, and keeps the rows that others need by
//! now. References are found through the foreign keys of the database, also those of tables that the catalog does not
//! know, and through the references of the catalog that are not foreign keys.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use causeway_silo::db::{Column, Db, DbError, Dialect, Statement, Tx};
use roaring::RoaringTreemap;

use crate::catalog::{Catalog, Model, Silo};

/// A column that contains ids of another table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Referrer {
    /// The table as SQL, quoted and perhaps with its schema.
    table: String,
    /// The column as SQL, quoted.
    column: String,
    /// `table.column`, as findings name it.
    shown: String,
    /// The table, as [`RowsToDelete`] names it.
    name: String,
}

/// Which columns refer to which table, in one silo.
#[derive(Debug, Default)]
pub struct References {
    by_table: HashMap<String, BTreeSet<Referrer>>,
}

/// Rows of an import that will be deleted too, so their references do not count: ids by table.
pub type RowsToDelete = HashMap<String, RoaringTreemap>;

/// Ids that other rows need, each with a reason that names the column that refers to it.
pub type Needed = BTreeMap<i64, String>;

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl References {
    /// Reads the foreign keys of the database, and adds the references of the catalog between tables of this silo.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub async fn load(db: &Db, catalog: &Catalog, silo: Silo) -> Result<Self, DbError> {
        let models = || catalog.written().filter(|model| model.silo == silo);
        let names = [("name", Column::Texts(models().map(|model| model.table.clone()).collect()))];
        let statement = match db.dialect() {
            Dialect::Postgres => Statement::new(
                "SELECT t.name AS target, format('%I.%I', n.nspname, c.relname) AS table_sql, c.relname::text AS table_name, \
                 a.attname::text AS column_name FROM ",
            )
            .rows(db.dialect(), "t", names)
            .push(
                " JOIN pg_constraint f ON f.contype = 'f' AND f.confrelid = to_regclass(quote_ident(t.name)) \
                 JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
                 CROSS JOIN LATERAL unnest(f.conkey, f.confkey) AS k(source, target) \
                 JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.source \
                 JOIN pg_attribute i ON i.attrelid = f.confrelid AND i.attnum = k.target AND i.attname = 'id' \
                 WHERE c.relname <> 'hybridcloud_orgauthtokenreplica'",
            ),
            Dialect::Sqlite => Statement::new(
                "SELECT t.name AS target, '\"' || replace(m.name, '\"', '\"\"') || '\"' AS table_sql, m.name AS table_name, \
                 f.\"from\" AS column_name FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f JOIN ",
            )
            .rows(db.dialect(), "t", names)
            .push(
                " ON lower(f.\"table\") = lower(t.name) WHERE m.type = 'table' AND (f.\"to\" IS NULL OR lower(f.\"to\") = 'id')",
            ),
        };
        let mut references = Self::default();
        for row in db.fetch_all(statement).await? {
            let (table, column) = (row.text("table_name")?, row.text("column_name")?);
            references.add(&row.text("target")?, &row.text("table_sql")?, &table, &column);
        }
        for model in models().filter(|model| model.has_table) {
            for column in model.columns.iter().filter(|column| column.is_stored) {
                let Some(target) = column.references.as_deref().and_then(|name| catalog.model(name)) else {
                    continue;
                };
                if target.silo == silo {
                    references.add(&target.table, &quoted(&model.table), &model.table, &column.column);
                }
            }
        }
        Ok(references)
    }

    /// The references of the catalog from tables of one silo to tables of the other.
    #[must_use]
    pub fn across(catalog: &Catalog, from: Silo) -> Self {
        let mut references = Self::default();
        for model in catalog.written().filter(|model| model.silo == from && model.has_table) {
            for column in model.columns.iter().filter(|column| column.is_stored) {
                let target = column.references.as_deref().and_then(|name| catalog.model(name));
                if let Some(target) = target.filter(|target| target.silo != from) {
                    references.add(&target.table, &quoted(&model.table), &model.table, &column.column);
                }
            }
        }
        references
    }

    fn add(&mut self, target: &str, table_sql: &str, table: &str, column: &str) {
        let shown = format!("{table}.{column}");
        let known = self.by_table.entry(target.to_owned()).or_default();
        // Most columns are known both from the catalog and from a foreign key.
        if !known.iter().any(|known| known.shown == shown) {
            known.insert(Referrer {
                table: table_sql.to_owned(),
                column: quoted(column),
                shown,
                name: table.to_owned(),
            });
        }
    }

    /// Whether columns of one table refer to rows of another.
    #[must_use]
    pub fn refers(&self, from: &str, to: &str) -> bool {
        self.by_table.get(to).into_iter().flatten().any(|referrer| referrer.name == from)
    }

    /// Which of these rows of a table other rows need. Rows that will be deleted too do not count, nor do references
    /// among these rows.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn needed(
        &self,
        tx: &mut Tx,
        table: &str,
        ids: &[i64],
        to_delete: &RowsToDelete,
    ) -> Result<Needed, DbError> {
        let mut needed = Needed::new();
        let mut going_too = ids.iter().map(|id| unsigned(*id)).collect::<Result<RoaringTreemap, _>>()?;
        loop {
            let before = needed.len();
            for referrer in self.by_table.get(table).into_iter().flatten() {
                let excluded =
                    if referrer.name == table { Some(&going_too) } else { to_delete.get(&referrer.name) };
                let found = pairs(tx, referrer, ids, excluded.is_some()).await?;
                for (id, by) in found {
                    // Rows of tables that the catalog does not know may have any id.
                    let goes = excluded.zip(by).is_some_and(|(excluded, by)| {
                        u64::try_from(by).is_ok_and(|by| excluded.contains(by))
                    });
                    if !goes {
                        needed
                            .entry(id)
                            .or_insert_with(|| format!("a row refers to it in {}", referrer.shown));
                    }
                }
            }
            // A row that stays may refer to other rows of its own table, so check again.
            if needed.len() == before {
                return Ok(needed);
            }
            for id in needed.keys() {
                going_too.remove(unsigned(*id)?);
            }
        }
    }
}

/// The id of a row that an import has inserted, for a set of ids.
///
/// # Errors
/// If it is negative, as no such id can be.
pub fn unsigned(id: i64) -> Result<u64, DbError> {
    u64::try_from(id).map_err(|_| DbError::inconsistent(format!("a row of an import has the id {id}")))
}

/// Which of these ids a column contains and, if `with_rows`, the id of each row that contains one.
async fn pairs(
    tx: &mut Tx,
    referrer: &Referrer,
    ids: &[i64],
    with_rows: bool,
) -> Result<Vec<(i64, Option<i64>)>, DbError> {
    let by = if with_rows { "t.id" } else { "NULL" };
    let statement = Statement::new("SELECT DISTINCT r.id AS id, CAST(")
        .push(by)
        .push(" AS bigint) AS by_id FROM ")
        .rows(tx.dialect(), "r", [("id", Column::Ints(ids.to_vec()))])
        .push(&format!(" JOIN {} t ON t.{} = r.id", referrer.table, referrer.column));
    tx.fetch_all(statement).await?.iter().map(|row| Ok((row.int("id")?, row.opt_int("by_id")?))).collect()
}

/// Deletes rows of a model by their ids and returns how many there were.
///
/// # Errors
/// If the database refuses, e.g. because something has started to refer to a row since [`References::needed`].
pub async fn delete(tx: &mut Tx, model: &Model, ids: Vec<i64>) -> Result<u64, DbError> {
    if ids.is_empty() {
        return Ok(0);
    }
    let statement = Statement::new("DELETE FROM ")
        .push(&quoted(&model.table))
        .push(" WHERE id IN (SELECT r.id FROM ")
        .rows(tx.dialect(), "r", [("id", Column::Ints(ids))])
        .push(")");
    tx.execute(statement).await
}

/// Takes the lock under which rows of a table are read and then written, so that no other writer starts to need one in
/// between.
///
/// # Errors
/// If the database refuses.
pub async fn lock_table(tx: &mut Tx, table: &str, now: chrono::DateTime<chrono::Utc>) -> Result<(), DbError> {
    let statement = Statement::new(
        "INSERT INTO causeway_lock (name, taken_at) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET taken_at = excluded.taken_at",
    )
    .with(table)
    .with(now);
    tx.execute(statement).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use causeway_silo::{db, transact};

    use super::*;

    async fn database(directory: &Path, statements: &[&'static str]) -> Db {
        let url = format!("sqlite:{}", directory.join("region.db").display());
        let db = Db::connect(&url, &db::Options::default()).await.unwrap();
        for statement in statements {
            transact!(DbError, db, |tx| {
                tx.execute(Statement::new(statement)).await?;
            })
            .unwrap();
        }
        db
    }

    #[tokio::test]
    async fn what_others_refer_to_is_needed() {
        let directory = tempfile::tempdir().unwrap();
        let statements = [
            "CREATE TABLE sentry_team (id integer PRIMARY KEY, organization_id bigint, parent bigint REFERENCES sentry_team (id))",
            "CREATE TABLE sentry_projectteam (id integer PRIMARY KEY, project_id bigint, team_id bigint)",
            "CREATE TABLE \"a \"\"notes\"\" table\" (team bigint REFERENCES sentry_team, note text)",
            "INSERT INTO sentry_team VALUES (1, 1, NULL), (2, 1, 1), (3, 1, 2), (4, 1, NULL), (5, 1, NULL), (6, 1, 5)",
            "INSERT INTO \"a \"\"notes\"\" table\" VALUES (3, 'x')",
            "INSERT INTO sentry_projectteam VALUES (10, 1, 4), (11, 1, 5)",
        ];
        let db = database(directory.path(), &statements).await;
        let catalog = Catalog::load().unwrap();
        for model in catalog.written().filter(|model| model.silo == Silo::Region) {
            let columns: String =
                model.columns.iter().map(|column| format!(", {} bigint", quoted(&column.column))).collect();
            let table = Statement::new("CREATE TABLE IF NOT EXISTS ")
                .push(&quoted(&model.table))
                .push(" (id integer PRIMARY KEY")
                .push(&columns)
                .push(")");
            transact!(DbError, db, |tx| {
                tx.execute(table.clone()).await?;
            })
            .unwrap();
        }
        let references = References::load(&db, &catalog, Silo::Region).await.unwrap();
        let to_delete =
            RowsToDelete::from([("sentry_projectteam".to_owned(), RoaringTreemap::from_iter([11]))]);
        let needed = transact!(DbError, db, |tx| {
            references.needed(tx, "sentry_team", &[1, 2, 3, 4, 5, 6], &to_delete).await?
        })
        .unwrap();
        // 3 is needed by a table that the catalog does not know. It refers to 2 and 2 to 1, so these stay too. 4 is
        // needed by a row that is not deleted. The row that refers to 5 is deleted too, and so are 5 and 6.
        assert_eq!(needed.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(needed[&3], "a row refers to it in a \"notes\" table.team");
        assert_eq!(needed[&4], "a row refers to it in sentry_projectteam.team_id");
    }
}
