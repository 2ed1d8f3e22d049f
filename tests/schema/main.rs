//! Checks that catalog and schema agree, on each store and in each silo: tables, columns and types, unique sets,
//! foreign keys.

#![expect(clippy::expect_used, reason = "a database that cannot be asked ends its test")]

use std::{collections::BTreeSet, time::Duration};

use causeway_harness::{cluster::Store, postgres::Postgres};
use causeway_relocation::{
    catalog::{Catalog, Silo, USER},
    schema,
    writer::find_rows,
};
use causeway_silo::{
    db::{Column, Db, DbError, Dialect, Options, Statement},
    transact,
};

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

mod migrated;
mod plans;
mod upgrade;

use crate::{
    migrated::{expected_foreign_keys, expected_unique_sets, on_both_silos},
    plans::{
        imports_that_changed_or_go_on_are_found_by_their_indexes,
        reported_imports_are_listed_by_their_indexes,
    },
};

async fn tables_and_columns_are_those_of_the_catalog(store: Store) {
    on_both_silos(store, async |migrated| {
        let wrong = migrated.differences(&migrated.catalog).await;
        assert_eq!(wrong, [] as [String; 0]);
    })
    .await;
}

async fn unique_sets_are_those_of_the_catalog(store: Store) {
    on_both_silos(store, async |migrated| {
        assert_eq!(migrated.unique_sets().await, expected_unique_sets(migrated));
    })
    .await;
}

async fn foreign_keys_are_the_references_within_the_silo(store: Store) {
    on_both_silos(store, async |migrated| {
        assert_eq!(migrated.foreign_keys().await, expected_foreign_keys(migrated));
    })
    .await;
}

async fn tables_that_are_absent_are_created_again(store: Store) {
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
        "sentry.onlyhere": {
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
    let catalog = include_str!("../../relocation/catalog.json").replacen(" \"models\": {", entry, 1);
    let catalog = Catalog::parse(&catalog).expect("a catalog");
    on_both_silos(store, async |migrated| {
        let before = migrated.structure().await;
        let made = || schema::create_missing_tables(&migrated.db, &catalog, migrated.silo);
        // Several processes of one region may start at once.
        let (one, other) = tokio::join!(made(), made());
        let mut made: Vec<String> = one.expect("made").into_iter().chain(other.expect("made")).collect();
        made.dedup();
        let expected: &[&str] = match migrated.silo {
            Silo::Region => &["sentry_onlyhere"],
            Silo::Control => &[],
        };
        assert_eq!(made, expected);
        let wrong = migrated.differences(&catalog).await;
        assert_eq!(wrong, [] as [String; 0]);
        assert_eq!(migrated.structure().await, before, "no other table was altered");
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
        let wrong = migrated.differences(&migrated.catalog).await;
        assert!(
            wrong.iter().any(|one| one.starts_with(&format!("column {table}.{column} is integer"))),
            "{wrong:?}"
        );
        assert!(
            wrong.iter().all(|one| one.contains(table)),
            "a table that is absent is not a difference: {wrong:?}"
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

on_each_store! {
    tables_and_columns_are_those_of_the_catalog,
    unique_sets_are_those_of_the_catalog,
    foreign_keys_are_the_references_within_the_silo,
    tables_that_are_absent_are_created_again,
    a_new_model_gets_its_table_in_an_installation_that_exists,
    a_table_that_differs_is_named_with_its_column,
    a_start_that_is_refused_leaves_the_database_as_it_was,
    reported_imports_are_listed_by_their_indexes,
    imports_that_changed_or_go_on_are_found_by_their_indexes,
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
            let flushed = Statement::new("SELECT 1 AS told FROM pg_stat_force_next_flush()");
            migrated.db.fetch_all(flushed).await.expect("told");
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
        // The connection that queried the names gets the request to publish sooner or later.
        let flushed = async {
            loop {
                match read().await - before {
                    0 => tokio::task::yield_now().await,
                    entries => break entries,
                }
            }
        };
        let entries = tokio::time::timeout(Duration::from_secs(30), flushed).await.expect("it is reported");
        // A name that exists is queried twice: to see that it exists, and again for its id.
        assert!((1_000..=2_000).contains(&entries), "{entries} entries of indexes were read for 1,000 users");
    })
    .await;
}
