//! The databases of a cluster's silos, and how they describe their tables.

use std::collections::{BTreeMap, BTreeSet};

use causeway_harness::cluster::{self, Cluster, Store};
use causeway_relocation::{
    catalog::{Catalog, Silo},
    schema::Tables,
};
use causeway_silo::{
    db::{Db, DbError, Dialect, Row, Statement},
    transact,
};

/// A table's unique set: its columns in alphabetical order, and the columns that its condition refers to.
pub(crate) type UniqueSet = (String, Vec<String>, Vec<String>);

/// Table, column, and the table that the column refers to.
pub(crate) type ForeignKey = (String, String, String);

/// What a test examines: the database of one silo, and the catalog.
pub(crate) struct Migrated {
    pub(crate) silo: Silo,
    pub(crate) db: Db,
    pub(crate) catalog: Catalog,
}

/// Runs a test on both silos of a cluster.
pub(crate) async fn on_both_silos(store: Store, test: impl AsyncFn(&Migrated)) {
    let cluster = Cluster::start(store, &["us"]).await.expect("a cluster");
    for (silo, of) in [(Silo::Control, cluster::Silo::Control), (Silo::Region, cluster::Silo::Region(0))] {
        let db = cluster.db(of).await.expect("a database");
        let migrated = Migrated { silo, db, catalog: Catalog::load().expect("the catalog") };
        test(&migrated).await;
    }
    cluster.stop().await;
}

impl Migrated {
    /// The tables of the silo's models, each with its model.
    pub(crate) fn tables(&self) -> BTreeMap<&str, &str> {
        let models = self.catalog.written().filter(|model| model.silo == self.silo);
        models.map(|model| (model.table.as_str(), model.name.as_str())).collect()
    }

    pub(crate) async fn ask(&self, postgres: &'static str, sqlite: &'static str) -> Vec<Row> {
        let sql = match self.db.dialect() {
            Dialect::Postgres => postgres,
            Dialect::Sqlite => sqlite,
        };
        self.db.fetch_all(Statement::new(sql)).await.expect("the database answers")
    }

    /// Executes statements that are the same in both databases, all of them or none.
    pub(crate) async fn execute(&self, statements: &[&'static str]) -> Result<(), DbError> {
        transact!(DbError, &self.db, |tx| {
            for statement in statements {
                tx.execute(Statement::new(statement)).await?;
            }
        })
    }

    /// Why no import can write into the tables.
    pub(crate) async fn differences(&self, catalog: &Catalog) -> Vec<String> {
        let tables = Tables::load(&self.db, catalog, self.silo).await.expect("the database answers");
        tables.differences(catalog, self.silo, self.db.dialect())
    }

    /// The names of the indexes, triggers and views of the database, without those that SQLite makes for constraints.
    pub(crate) async fn names(&self) -> BTreeSet<String> {
        let rows = self
            .ask(
                "SELECT c.relname::text AS name FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace \
                 AND c.relkind IN ('i', 'v') \
                 UNION ALL SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal",
                "SELECT name FROM sqlite_master WHERE type IN ('index', 'trigger', 'view') AND sql IS NOT NULL",
            )
            .await;
        rows.iter().map(|row| row.text("name").expect("a name")).collect()
    }

    pub(crate) async fn unique_sets(&self) -> BTreeSet<UniqueSet> {
        let rows = self
            .ask(
                "SELECT c.relname::text AS table_name, i.indexrelid::bigint::text AS index_name, a.attname::text AS column_name, \
                 pg_get_expr(i.indpred, i.indrelid) AS condition \
                 FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
                 CROSS JOIN LATERAL unnest(i.indkey) AS k(number) \
                 JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number \
                 WHERE i.indisunique AND NOT i.indisprimary AND c.relnamespace = 'public'::regnamespace",
                "SELECT t.name AS table_name, i.name AS index_name, c.name AS column_name, \
                 substr(s.sql, nullif(instr(s.sql, ' WHERE '), 0)) AS condition \
                 FROM sqlite_master t JOIN pragma_index_list(t.name) i JOIN pragma_index_info(i.name) c \
                 LEFT JOIN sqlite_master s ON s.type = 'index' AND s.name = i.name \
                 WHERE t.type = 'table' AND i.\"unique\" = 1 AND i.origin <> 'pk'",
            )
            .await;
        let tables = self.tables();
        let mut found: BTreeMap<(String, String), UniqueSet> = BTreeMap::new();
        for row in rows {
            let table = row.text("table_name").expect("a name");
            let Some(model) = tables.get(table.as_str()).and_then(|name| self.catalog.model(name)) else {
                continue;
            };
            let condition = row.opt_text("condition").expect("a text").unwrap_or_default();
            let set =
                found.entry((table.clone(), row.text("index_name").expect("a name"))).or_insert_with(|| {
                    let words: Vec<&str> =
                        condition.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
                    let named = model.columns.iter().map(|column| column.column.clone());
                    (table, Vec::new(), named.filter(|column| words.contains(&column.as_str())).collect())
                });
            set.1.push(row.text("column_name").expect("a name"));
        }
        found
            .into_values()
            .map(|mut set| {
                set.1.sort();
                set
            })
            .collect()
    }

    /// The database's own description of the tables of the silo's models, without what Causeway has added to them.
    pub(crate) async fn structure(&self) -> BTreeSet<(String, String)> {
        let rows = self
            .ask(
                "SELECT c.relname::text AS table_name, concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), \
                 a.attndims, a.attnotnull, a.attidentity, a.atthasdef) AS part \
                 FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
                 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 \
                 UNION ALL SELECT k.conrelid::regclass::text, concat_ws(' ', k.conname, pg_get_constraintdef(k.oid)) \
                 FROM pg_constraint k WHERE k.connamespace = 'public'::regnamespace \
                 UNION ALL SELECT tablename::text, indexdef FROM pg_indexes \
                 WHERE schemaname = 'public' AND indexname NOT LIKE 'causeway%'",
                "SELECT tbl_name AS table_name, sql AS part FROM sqlite_master \
                 WHERE sql IS NOT NULL AND name NOT LIKE 'causeway%'",
            )
            .await;
        let tables = self.tables();
        let spaces = |text: String| {
            let words: Vec<&str> = text.split_whitespace().collect();
            words.join(" ").replace("( ", "(").replace(" )", ")")
        };
        rows.iter()
            .map(|row| (row.text("table_name").expect("a name"), spaces(row.text("part").expect("a text"))))
            .filter(|(table, _)| tables.contains_key(table.as_str()))
            .collect()
    }

    pub(crate) async fn drop_tables(&self) {
        let tables: Vec<&str> = self
            .catalog
            .written()
            .filter(|model| model.silo == self.silo)
            .map(|model| model.table.as_str())
            .collect();
        let end = match self.db.dialect() {
            Dialect::Postgres => "\" CASCADE",
            Dialect::Sqlite => "\"",
        };
        let dropped: Result<(), DbError> = transact!(DbError, &self.db, |tx| {
            for table in tables.iter().rev() {
                tx.execute(Statement::new("DROP TABLE \"").push(table).push(end)).await?;
            }
        });
        dropped.expect("dropped");
    }

    pub(crate) async fn foreign_keys(&self) -> BTreeSet<ForeignKey> {
        let rows = self
            .ask(
                "SELECT c.relname::text AS table_name, a.attname::text AS column_name, f.relname::text AS target \
                 FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class f ON f.oid = k.confrelid \
                 CROSS JOIN LATERAL unnest(k.conkey) AS n(number) \
                 JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = n.number WHERE k.contype = 'f'",
                "SELECT t.name AS table_name, k.\"from\" AS column_name, k.\"table\" AS target \
                 FROM sqlite_master t JOIN pragma_foreign_key_list(t.name) k WHERE t.type = 'table'",
            )
            .await;
        let tables = self.tables();
        let text = |row: &Row, column: &str| row.text(column).expect("a name");
        rows.iter()
            .map(|row| (text(row, "table_name"), text(row, "column_name"), text(row, "target")))
            .filter(|(table, ..)| tables.contains_key(table.as_str()))
            .collect()
    }
}

pub(crate) fn expected_unique_sets(migrated: &Migrated) -> BTreeSet<UniqueSet> {
    let mut expected = BTreeSet::new();
    for model in migrated.catalog.written().filter(|model| model.silo == migrated.silo) {
        let name = |column: &usize| model.columns[*column].column.clone();
        for set in &model.unique {
            let mut columns: Vec<String> = set.columns.iter().map(name).collect();
            columns.sort();
            let condition = set.condition.iter().map(|condition| name(&condition.column)).collect();
            expected.insert((model.table.clone(), columns, condition));
        }
    }
    assert!(!expected.is_empty());
    expected
}

pub(crate) fn expected_foreign_keys(migrated: &Migrated) -> BTreeSet<ForeignKey> {
    let mut expected = BTreeSet::new();
    for model in migrated.catalog.written().filter(|model| model.silo == migrated.silo) {
        for column in model.columns.iter().filter(|column| column.has_foreign_key) {
            let target = column.references.as_ref().and_then(|target| migrated.catalog.model(target));
            // This database cannot contain a row of another silo, or of a table that is not imported.
            let held = target.filter(|target| target.silo == migrated.silo && target.in_organization_scope());
            if let Some(target) = held {
                expected.insert((model.table.clone(), column.column.clone(), target.table.clone()));
            }
        }
    }
    assert!(!expected.is_empty());
    expected
}
