//! Checks that catalog and schema agree, on each store and in each silo: tables, columns and types, unique sets,
//! foreign keys. The table that the catalog creates for a model must equal the one that the first migration created.

#![expect(clippy::expect_used, reason = "a database that cannot be asked ends its test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use causeway_harness::{
    cluster::{self, Cluster, Store},
    postgres::Postgres,
};
use causeway_relocation::{
    catalog::{Catalog, Silo, USER},
    schema,
    writer::find_rows,
};
use causeway_silo::{
    db::{Column, Db, DbError, Dialect, Options, Statement},
    transact,
};

/// A table's unique set: its columns in alphabetical order, and the columns that its condition refers to.
type UniqueSet = (String, Vec<String>, Vec<String>);

/// Table, column, and the table that the column refers to.
type ForeignKey = (String, String, String);

/// What a test examines: the database of one silo, and the catalog.
struct Migrated {
    silo: Silo,
    db: Db,
    catalog: Catalog,
}

/// Runs a test on both silos of a cluster.
async fn on_both_silos(store: Store, test: impl AsyncFn(&Migrated)) {
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
    fn tables(&self) -> BTreeMap<&str, &str> {
        let models = self.catalog.written().filter(|model| model.silo == self.silo);
        models.map(|model| (model.table.as_str(), model.name.as_str())).collect()
    }

    async fn ask(&self, postgres: &'static str, sqlite: &'static str) -> Vec<causeway_silo::db::Row> {
        let sql = match self.db.dialect() {
            Dialect::Postgres => postgres,
            Dialect::Sqlite => sqlite,
        };
        self.db.fetch_all(Statement::new(sql)).await.expect("the database answers")
    }

    async fn unique_sets(&self) -> BTreeSet<UniqueSet> {
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
    async fn structure(&self) -> BTreeSet<(String, String)> {
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

    async fn drop_tables(&self) {
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

    async fn foreign_keys(&self) -> BTreeSet<ForeignKey> {
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
        let text = |row: &causeway_silo::db::Row, column: &str| row.text(column).expect("a name");
        rows.iter()
            .map(|row| (text(row, "table_name"), text(row, "column_name"), text(row, "target")))
            .filter(|(table, ..)| tables.contains_key(table.as_str()))
            .collect()
    }
}

async fn tables_and_columns_are_those_of_the_catalog(store: Store) {
    on_both_silos(store, async |migrated| {
        let wrong = schema::differences(&migrated.db, &migrated.catalog, migrated.silo).await;
        assert_eq!(wrong.expect("the database answers"), [] as [String; 0]);
    })
    .await;
}

fn expected_unique_sets(migrated: &Migrated) -> BTreeSet<UniqueSet> {
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

async fn unique_sets_are_those_of_the_catalog(store: Store) {
    on_both_silos(store, async |migrated| {
        assert_eq!(migrated.unique_sets().await, expected_unique_sets(migrated));
    })
    .await;
}

fn expected_foreign_keys(migrated: &Migrated) -> BTreeSet<ForeignKey> {
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

async fn foreign_keys_are_the_references_within_the_silo(store: Store) {
    on_both_silos(store, async |migrated| {
        assert_eq!(migrated.foreign_keys().await, expected_foreign_keys(migrated));
    })
    .await;
}

async fn the_catalog_makes_the_tables_that_the_first_migration_made(store: Store) {
    on_both_silos(store, async |migrated| {
        let made = || schema::create_missing_tables(&migrated.db, &migrated.catalog, migrated.silo);
        assert_eq!(made().await.expect("asked"), [] as [String; 0]);
        let before = migrated.structure().await;
        assert!(before.len() > migrated.tables().len());
        migrated.drop_tables().await;
        assert_eq!(migrated.structure().await, BTreeSet::new());
        assert_eq!(made().await.expect("made").len(), migrated.tables().len());
        assert_eq!(migrated.structure().await, before);
    })
    .await;
}

/// A new model needs only an entry in the catalog, even where all other tables exist already.
async fn a_new_model_gets_its_table_in_an_installation_that_exists(store: Store) {
    let entry = r#" "models": {
        "sentry.widgetnote": {
         "silo": "region",
         "scopes": ["organization"],
         "unique": [{"fields": ["organization", "title"]}],
         "columns": [
          {"field": "organization", "type": "bigint", "references": "sentry.organization"},
          {"field": "author_id", "type": "bigint", "null": true, "references": "sentry.user"},
          {"field": "title", "type": "text", "sql": "varchar(128)"},
          {"field": "body", "type": "text"},
          {"field": "mail", "type": "email", "sql": "citext", "max_length": 75},
          {"field": "date_added", "type": "datetime", "default": "now()"}
         ]
        },"#;
    let catalog = include_str!("../relocation/catalog.json").replacen(" \"models\": {", entry, 1);
    let catalog = Catalog::parse(&catalog).expect("a catalog");
    on_both_silos(store, async |migrated| {
        let before = migrated.structure().await;
        let made = || schema::create_missing_tables(&migrated.db, &catalog, migrated.silo);
        // Several processes of one region may start at once.
        let (one, other) = tokio::join!(made(), made());
        let mut made: Vec<String> = one.expect("made").into_iter().chain(other.expect("made")).collect();
        made.dedup();
        let expected: &[&str] = match migrated.silo {
            Silo::Region => &["sentry_widgetnote"],
            Silo::Control => &[],
        };
        assert_eq!(made, expected);
        let wrong = schema::differences(&migrated.db, &catalog, migrated.silo).await;
        assert_eq!(wrong.expect("the database answers"), [] as [String; 0]);
        assert_eq!(migrated.structure().await, before, "no other table was altered");
    })
    .await;
}

/// The catalog of an imagined later release: longer texts, a value that may be null, new columns, and a condition for a
/// unique set.
fn later_catalog() -> Catalog {
    let mut catalog: serde_json::Value =
        serde_json::from_str(include_str!("../relocation/catalog.json")).expect("the catalog");
    let added = serde_json::json!([
        {"field": "later", "type": "integer", "null": true, "since": "99.1"},
        {"field": "kind", "type": "text", "sql": "varchar(16)", "default": "it's", "since": "99.1"},
        {"field": "is_old", "type": "boolean", "default": true, "since": "99.1"},
        {"field": "labels", "type": "array", "sql": "text[]", "default": [], "since": "99.1"},
        {"field": "extra", "type": "json", "default": {"a": 1}, "since": "99.1"},
    ]);
    let models = &mut catalog["models"];
    for model in ["sentry.environment", "sentry.useremail"] {
        let columns = models[model]["columns"].as_array_mut().expect("columns");
        columns.extend(added.as_array().expect("columns").iter().cloned());
        for column in columns {
            match column["field"].as_str() {
                Some("name") => column["sql"] = "text".into(),
                Some("email") => column["sql"] = "varchar(300)".into(),
                Some("date_added" | "validation_hash") => column["null"] = true.into(),
                _ => {}
            }
        }
    }
    for (model, fields) in
        [("sentry.environment", ["organization_id", "name"]), ("sentry.useremail", ["email", "user"])]
    {
        let condition = serde_json::json!({"field": "later", "is_null": true});
        models[model]["unique"] = serde_json::json!([{"fields": fields, "where": condition}]);
    }
    Catalog::parse(&catalog.to_string()).expect("a catalog")
}

/// Tables that an older release created get what this release's catalog has, and keep their rows.
async fn tables_of_an_older_release_are_altered(store: Store) {
    let catalog = later_catalog();
    on_both_silos(store, async |migrated| {
        let (table, insert, text) = match migrated.silo {
            Silo::Control => (
                "sentry_useremail",
                ["INSERT INTO auth_user (id, username, first_name, email, password, is_staff, is_active, is_unclaimed, is_superuser, \
                  is_managed, is_password_expired, date_joined, avatar_type) VALUES (7, 'u', '', '', '', false, true, true, \
                  false, false, false, '2024-01-01T00:00:00.000000Z', 0)",
                 "INSERT INTO sentry_useremail (id, user_id, email, validation_hash, date_hash_added, is_verified) \
                  VALUES (3, 7, 'a@example.com', 'x', '2024-01-01T00:00:00.000000Z', true)"],
                "email",
            ),
            Silo::Region => (
                "sentry_environment",
                ["INSERT INTO sentry_organization (id, name, slug, status, date_added, default_role, is_test, flags) \
                  VALUES (7, 'a', 'a', 0, '2024-01-01T00:00:00.000000Z', 'member', false, 1)",
                 "INSERT INTO sentry_environment (id, name, organization_id, date_added) \
                  VALUES (3, 'a name', 7, '2024-01-01T00:00:00.000000Z')"],
                "name",
            ),
        };
        let inserted: Result<(), DbError> = transact!(DbError, &migrated.db, |tx| {
            for statement in insert {
                tx.execute(Statement::new(statement)).await?;
            }
        });
        inserted.expect("inserted");
        let altered = || schema::upgrade_tables(&migrated.db, &catalog, migrated.silo);
        // Several processes of one region may start at once.
        let (one, other) = tokio::join!(altered(), altered());
        let mut tables: Vec<String> = one.expect("altered").into_iter().chain(other.expect("altered")).collect();
        tables.dedup();
        assert_eq!(tables, [table]);
        assert_eq!(altered().await.expect("asked"), [] as [String; 0]);

        let wrong = schema::differences(&migrated.db, &catalog, migrated.silo).await;
        assert_eq!(wrong.expect("the database answers"), [] as [String; 0]);
        let later = Migrated { silo: migrated.silo, db: migrated.db.clone(), catalog: later_catalog() };
        assert_eq!(later.unique_sets().await, expected_unique_sets(&later));
        assert_eq!(later.foreign_keys().await, expected_foreign_keys(&later));
        let row = Statement::new("SELECT * FROM ").push(table);
        let row = migrated.db.fetch_optional(row).await.expect("asked").expect("the row is there");
        assert_eq!(row.int("id").expect("an id"), 3);
        assert!(row.text(text).expect("a text").starts_with('a'));
        assert_eq!(row.text("kind").expect("a text"), "it's");
        assert_eq!(row.text("extra").expect("a text"), r#"{"a":1}"#);
        assert!(row.bool("is_old").expect("a boolean"));
        let null = Statement::new("UPDATE ").push(table).push(" SET later = 1, ");
        let null = null.push(if table == "sentry_environment" { "date_added" } else { "validation_hash" });
        let updated: Result<u64, DbError> =
            transact!(DbError, &migrated.db, |tx| { tx.execute(null.clone().push(" = NULL")).await? });
        assert_eq!(updated.expect("it may be null"), 1);
    })
    .await;
}

/// A database of the product is never altered.
async fn tables_of_the_product_are_not_altered(store: Store) {
    let catalog = later_catalog();
    on_both_silos(store, async |migrated| {
        let marked: Result<(), DbError> = transact!(DbError, &migrated.db, |tx| {
            tx.execute(Statement::new("CREATE TABLE django_migrations (id bigint PRIMARY KEY)")).await?;
        });
        marked.expect("marked");
        let before = migrated.structure().await;
        let altered = schema::upgrade_tables(&migrated.db, &catalog, migrated.silo).await;
        assert_eq!(altered.expect("asked"), [] as [String; 0]);
        assert_eq!(migrated.structure().await, before);
        let wrong = schema::differences(&migrated.db, &catalog, migrated.silo).await.expect("asked");
        assert!(wrong.iter().any(|one| one.ends_with("has no column later")), "{wrong:?}");
    })
    .await;
}

/// If a product's table has another version, it is left unchanged, and so is everything else.
async fn a_table_that_differs_is_named_with_its_column(store: Store) {
    on_both_silos(store, async |migrated| {
        let (table, column) = match migrated.silo {
            Silo::Control => ("sentry_email", "email"),
            Silo::Region => ("sentry_team", "slug"),
        };
        migrated.drop_tables().await;
        let made: Result<(), DbError> = transact!(DbError, &migrated.db, |tx| {
            let make = Statement::new("CREATE TABLE ").push(table);
            tx.execute(make.push(" (id bigint PRIMARY KEY, ").push(column).push(" integer NOT NULL)"))
                .await?;
        });
        made.expect("made");
        let wrong = schema::differences(&migrated.db, &migrated.catalog, migrated.silo).await.expect("asked");
        assert!(
            wrong.iter().any(|one| one.starts_with(&format!("column {table}.{column} is integer"))),
            "{wrong:?}"
        );
        assert!(
            wrong.iter().all(|one| one.contains(table)),
            "a table that is absent is no difference: {wrong:?}"
        );
    })
    .await;
}

/// If a service does not start because a table has another version, it has created nothing: the product's next upgrade
/// finds its database unchanged.
async fn a_start_that_is_refused_leaves_the_database_as_it_was(store: Store) {
    let server = match store {
        Store::Postgres => Some(Postgres::start().await.expect("this test needs PostgreSQL")),
        Store::Sqlite => None,
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (service, table, column) in [("control", "sentry_email", "email"), ("region", "sentry_team", "slug")]
    {
        let url = match &server {
            Some(server) => server.create_database(service).await.expect("a database"),
            None => format!("sqlite:{}", directory.path().join(format!("{service}.db")).display()),
        };
        let db = Db::connect(&url, &Options::default()).await.expect("a database");
        let made: Result<(), DbError> = transact!(DbError, db, |tx| {
            let make = Statement::new("CREATE TABLE ").push(table);
            tx.execute(make.push(" (id bigint PRIMARY KEY, ").push(column).push(" integer NOT NULL)"))
                .await?;
        });
        made.expect("made");
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_causeway"));
        command.args([service, "--listen", "127.0.0.1:0", "--database-url", &url]).kill_on_drop(true);
        if service == "region" {
            command.args(["--name", "us", "--control", "http://127.0.0.1:1", "--spool-dir"]);
            command.arg(directory.path().join("spool"));
        }
        let ended = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
        let ended = ended.expect("it does not start").expect("it ends");
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success(), "{stderr}");
        assert!(stderr.contains(&format!("column {table}.{column} is integer")), "{stderr}");
        assert!(stderr.contains("Nothing was changed. Give another --database-url"), "{stderr}");
        let all = match db.dialect() {
            Dialect::Postgres => "SELECT tablename::text AS name FROM pg_tables WHERE schemaname = 'public'",
            Dialect::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table'",
        };
        let rows = db.fetch_all(Statement::new(all)).await.expect("asked");
        let tables: Vec<String> = rows.iter().map(|row| row.text("name").expect("a name")).collect();
        assert_eq!(tables, [table]);
    }
}

macro_rules! on_each_store {
    ($($behaviour:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$behaviour(causeway_harness::cluster::Store::Sqlite).await;
                }
            )+
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$behaviour(causeway_harness::cluster::Store::Postgres).await;
                }
            )+
        }
    };
}

on_each_store! {
    tables_and_columns_are_those_of_the_catalog,
    unique_sets_are_those_of_the_catalog,
    foreign_keys_are_the_references_within_the_silo,
    the_catalog_makes_the_tables_that_the_first_migration_made,
    a_new_model_gets_its_table_in_an_installation_that_exists,
    tables_of_an_older_release_are_altered,
    tables_of_the_product_are_not_altered,
    a_table_that_differs_is_named_with_its_column,
    a_start_that_is_refused_leaves_the_database_as_it_was,
}

/// PostgreSQL caches plans per connection. A plan that was made while the tables were empty, and that reads whole
/// tables, would still be used when they are full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_on_empty_tables_ask_by_an_index() {
    on_both_silos(Store::Postgres, async |migrated| {
        for (table, model) in migrated.tables() {
            let statement = Statement::new("EXPLAIN SELECT t.id FROM ")
                .rows(migrated.db.dialect(), "r", [("id", Column::Ints((1..=5_000).collect()))])
                .push(&format!(" JOIN \"{table}\" t ON t.id = r.id"));
            let plan = migrated.db.fetch_all(statement).await.expect("a plan");
            let plan: Vec<String> = plan.iter().map(|row| row.text("QUERY PLAN").expect("a line")).collect();
            assert!(plan.iter().any(|line| line.contains("Index")), "{model}: {plan:#?}");
        }
    })
    .await;
}

/// For an expression in a table that was never analyzed, PostgreSQL estimates that one row in two hundred has a given
/// value. A join by the expression would then read the whole index for every chunk of an import, and the time for an
/// import would grow with the square of its size.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_looked_up_one_by_one_in_a_table_that_was_never_analyzed() {
    on_both_silos(Store::Postgres, async |migrated| {
        let (Silo::Control, Some(user)) = (migrated.silo, migrated.catalog.model(USER)) else { return };
        let filled: Result<(), DbError> = transact!(DbError, &migrated.db, |tx| {
            let users = Statement::new(
                "INSERT INTO auth_user (username, password, first_name, email, is_staff, is_active, is_unclaimed, \
                 is_superuser, is_managed, is_password_expired, date_joined, avatar_type) \
                 SELECT 'name.' || number, '', '', '', false, true, false, false, false, false, now(), 0 \
                 FROM generate_series(1, 20000) AS numbers (number)",
            );
            tx.execute(users).await?;
        });
        filled.expect("users");
        let read = async || {
            // A connection publishes its statistics on request, or after a while.
            let told = Statement::new("SELECT 1 AS told FROM pg_stat_force_next_flush()");
            migrated.db.fetch_all(told).await.expect("told");
            let entries = Statement::new(
                "SELECT sum(idx_tup_read)::bigint AS entries FROM pg_stat_user_indexes WHERE relname = 'auth_user'",
            );
            let counted = migrated.db.fetch_optional(entries).await.expect("counted").expect("a row");
            counted.int("entries").expect("a number")
        };
        let before = read().await;
        let column = &user.columns[user.column("username").expect("it has one")];
        let names = (19_001..=20_500).map(|number| format!("NAME.{number}")).collect();
        let found = find_rows(&migrated.db, user, column, names).await.expect("looked up");
        assert_eq!(found.len(), 1_000);
        // The connection that looked the names up gets the request to publish sooner or later.
        let told = async {
            loop {
                match read().await - before {
                    0 => tokio::task::yield_now().await,
                    entries => break entries,
                }
            }
        };
        let entries = tokio::time::timeout(Duration::from_secs(30), told).await.expect("it is told");
        // A name that exists is looked up twice: to see that it exists, and again for its id.
        assert!((1_000..=2_000).contains(&entries), "{entries} entries of indexes were read for 1,000 users");
    })
    .await;
}
