//! What becomes of tables that an older release of Causeway created, and of what somebody has added to them.

use causeway_harness::{
    cluster::Store,
    postgres::Postgres,
    product::{self, Release},
};
use causeway_relocation::{
    catalog::{Catalog, Silo},
    schema,
};
use causeway_silo::{
    db::{Db, DbError, Migrations, Options, Statement},
    transact,
};

use crate::migrated::{Migrated, expected_foreign_keys, expected_unique_sets, on_both_silos};

/// The catalog of an imagined later release: longer texts, a value that may be null, new columns, and a condition for a
/// unique set.
fn later_catalog() -> Catalog {
    let mut catalog: serde_json::Value =
        serde_json::from_str(include_str!("../../relocation/catalog.json")).expect("the catalog");
    catalog["newest_release"] = "99.1".into();
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

/// The same catalog after a correction of tables that exist.
fn corrected_catalog() -> Catalog {
    let mut catalog: serde_json::Value =
        serde_json::from_str(include_str!("../../relocation/catalog.json")).expect("the catalog");
    catalog["revision"] = (catalog["revision"].as_u64().expect("a number") + 1).into();
    Catalog::parse(&catalog.to_string()).expect("a catalog")
}

/// Statements that insert a row, with id 3, into the table of each silo that [`later_catalog`] alters.
fn rows_to_keep(silo: Silo) -> &'static [&'static str] {
    match silo {
        Silo::Control => &[
            "INSERT INTO auth_user (id, username, first_name, email, password, is_staff, is_active, is_unclaimed, is_superuser, \
             is_managed, is_password_expired, date_joined, avatar_type) VALUES (7, 'u', '', '', '', false, true, true, \
             false, false, false, '2024-01-01T00:00:00.000000Z', 0)",
            "INSERT INTO sentry_useremail (id, user_id, email, validation_hash, date_hash_added, is_verified) \
             VALUES (3, 7, 'a@example.com', 'x', '2024-01-01T00:00:00.000000Z', true)",
        ],
        Silo::Region => &[
            "INSERT INTO sentry_organization (id, name, slug, status, date_added, default_role, is_test, flags) \
             VALUES (7, 'a', 'a', 0, '2024-01-01T00:00:00.000000Z', 'member', false, 1)",
            "INSERT INTO sentry_environment (id, name, organization_id, date_added) \
             VALUES (3, 'a name', 7, '2024-01-01T00:00:00.000000Z')",
        ],
    }
}

/// Tables that an older release created get what this release's catalog has, and keep their rows.
async fn tables_of_an_older_release_are_altered(store: Store) {
    let catalog = later_catalog();
    on_both_silos(store, async |migrated| {
        let (table, text) = match migrated.silo {
            Silo::Control => ("sentry_useremail", "email"),
            Silo::Region => ("sentry_environment", "name"),
        };
        migrated.execute(rows_to_keep(migrated.silo)).await.expect("inserted");
        let altered = || schema::upgrade_tables(&migrated.db, &catalog, migrated.silo);
        // Several processes of one region may start at once.
        let (one, other) = tokio::join!(altered(), altered());
        let mut tables: Vec<String> =
            one.expect("altered").into_iter().chain(other.expect("altered")).collect();
        tables.dedup();
        assert_eq!(tables, [table]);
        assert_eq!(altered().await.expect("asked"), [] as [String; 0]);

        let wrong = migrated.differences(&catalog).await;
        assert_eq!(wrong, [] as [String; 0]);
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

/// A database of the product is never altered. The product uses only PostgreSQL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_the_product_are_not_altered() {
    let catalog = later_catalog();
    on_both_silos(Store::Postgres, async |migrated| {
        let marked: Result<(), DbError> = transact!(DbError, &migrated.db, |tx| {
            tx.execute(Statement::new("CREATE TABLE django_migrations (id bigint PRIMARY KEY)")).await?;
        });
        marked.expect("marked");
        let before = migrated.structure().await;
        let altered = schema::upgrade_tables(&migrated.db, &catalog, migrated.silo).await;
        assert_eq!(altered.expect("asked"), [] as [String; 0]);
        assert_eq!(migrated.structure().await, before);
        // What the database lacks of models is not written. Without the tables for the product's workers, nobody would
        // find what was imported.
        let wrong = migrated.differences(&catalog).await;
        let missing = match migrated.silo {
            Silo::Control => vec!["sentry_organizationslugreservation", "sentry_controloutbox"],
            Silo::Region => vec!["sentry_regionoutbox"],
        };
        let named = wrong.iter().map(|one| one.split(" is missing, ").next().unwrap_or_default());
        assert_eq!(
            named.collect::<Vec<_>>(),
            missing.iter().map(|table| format!("table {table}")).collect::<Vec<_>>()
        );
    })
    .await;
}

/// A user who may not create the schema for Causeway's own tables gets the command that somebody else has to run, and
/// nothing is left. The user of the product's tables need not own them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_the_right_to_create_a_schema_is_told_what_to_run() {
    let server = Postgres::start().await.expect("this test needs PostgreSQL");
    let url = server.create_database("product").await.expect("a database");
    let owner = Db::connect(&url, &Options::default()).await.expect("a database");
    let execute = async |statements: &[String]| {
        let executed: Result<(), DbError> = transact!(DbError, owner, |tx| {
            for statement in statements {
                tx.execute(Statement::new("").push(statement)).await?;
            }
        });
        executed.expect("executed");
    };
    let mut tables = product::tables(Release::R24_9).expect("the tables");
    tables.push("CREATE ROLE \"of causeway\" LOGIN".to_owned());
    tables.push("GRANT ALL ON ALL TABLES IN SCHEMA public TO \"of causeway\"".to_owned());
    execute(&tables).await;
    let (catalog, user) =
        (Catalog::load().expect("the catalog"), url.replacen("postgres@", "of%20causeway@", 1));
    assert_ne!(user, url);
    let prepare = async || {
        let db = Db::connect(&user, &Options::default()).await.expect("a database");
        schema::prepare(db, &catalog, FIRST_OF_REGION).await
    };
    let refused = prepare().await.expect_err("it is refused").to_string();
    let command = "CREATE SCHEMA causeway_region AUTHORIZATION \"of causeway\"";
    assert!(refused.ends_with(command) || refused.contains(&format!("{command}:")), "{refused}");
    let ours = "SELECT n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                WHERE c.relname = 'causeway_migration'";
    let found = async || {
        let rows = owner.fetch_all(Statement::new(ours)).await.expect("asked");
        rows.iter().map(|row| row.text("name").expect("a name")).collect::<Vec<_>>()
    };
    assert_eq!(found().await, [] as [String; 0]);
    execute(&[command.to_owned()]).await;
    prepare().await.expect("prepared");
    assert_eq!(found().await, ["causeway_region.causeway_migration"]);
}

/// A database of a release that needs more than the catalog knows is refused before anything is made in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_product_is_refused_and_left_as_it_was() {
    let server = Postgres::start().await.expect("this test needs PostgreSQL");
    let url = server.create_database("product").await.expect("a database");
    let db = Db::connect(&url, &Options::default()).await.expect("a database");
    let mut tables = product::tables(Release::R24_9).expect("the tables");
    tables.push("ALTER TABLE sentry_organization ADD COLUMN tier integer NOT NULL".to_owned());
    let made: Result<(), DbError> = transact!(DbError, db, |tx| {
        for statement in &tables {
            tx.execute(Statement::new("").push(statement)).await?;
        }
    });
    made.expect("made");
    let all = "SELECT n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname NOT LIKE 'pg%' ORDER BY 1";
    let found = async || {
        let rows = db.fetch_all(Statement::new(all)).await.expect("asked");
        rows.iter().map(|row| row.text("name").expect("a name")).collect::<Vec<_>>()
    };
    let before = found().await;
    let catalog = Catalog::load().expect("the catalog");
    let another = Db::connect(&url, &Options::default()).await.expect("a database");
    let refused = schema::prepare(another, &catalog, FIRST_OF_REGION).await.expect_err("refused").to_string();
    let newest = format!("up to {}", catalog.newest_release());
    for part in ["sentry_organization.tier needs a value", &newest] {
        assert!(refused.contains(part), "{part} is not in {refused}");
    }
    assert_eq!(found().await, before);
}

/// In a database of the product without the tables that its workers read, what an import brings would be found by nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_product_without_the_tables_for_its_workers_is_refused() {
    let server = Postgres::start().await.expect("this test needs PostgreSQL");
    let cases = [
        (FIRST_OF_REGION, "sentry_regionoutbox", "DROP TABLE sentry_regionoutbox"),
        (FIRST_OF_CONTROL, "sentry_controloutbox", "DROP TABLE sentry_controloutbox"),
        (
            FIRST_OF_CONTROL,
            "sentry_organizationslugreservation",
            "DROP TABLE sentry_organizationslugreservation",
        ),
        (
            FIRST_OF_CONTROL,
            "sentry_controloutbox.cell needs a value",
            "ALTER TABLE sentry_controloutbox ADD COLUMN cell text NOT NULL",
        ),
        (
            FIRST_OF_REGION,
            "sentry_regionoutbox has no column payload",
            "ALTER TABLE sentry_regionoutbox RENAME COLUMN payload TO content",
        ),
    ];
    for (number, (migrations, table, change)) in cases.into_iter().enumerate() {
        let url = server.create_database(&format!("product_{number}")).await.expect("a database");
        let db = Db::connect(&url, &Options::default()).await.expect("a database");
        let mut tables = product::tables(Release::R25_6).expect("the tables");
        tables.push(change.to_owned());
        let made: Result<(), DbError> = transact!(DbError, db, |tx| {
            for statement in &tables {
                tx.execute(Statement::new("").push(statement)).await?;
            }
        });
        made.expect("made");
        let catalog = Catalog::load().expect("the catalog");
        let refused = schema::prepare(db, &catalog, migrations).await.expect_err("refused").to_string();
        assert!(refused.contains(table) && refused.contains("Nothing was changed"), "{table}: {refused}");
    }
}

/// What somebody has added to a table is not Causeway's to remove: columns and their values, indexes, constraints,
/// triggers, and on SQLite views, which there do not hinder.
async fn what_somebody_added_to_a_table_stays(store: Store) {
    let catalog = later_catalog();
    on_both_silos(store, async |migrated| {
        migrated.execute(rows_to_keep(migrated.silo)).await.expect("inserted");
        let common: &[&str] = match migrated.silo {
            Silo::Control => &[
                "ALTER TABLE sentry_useremail ADD COLUMN note varchar(20) NOT NULL DEFAULT 'it''s'",
                "UPDATE sentry_useremail SET note = 'kept'",
                "CREATE UNIQUE INDEX their_index ON sentry_useremail (note, id)",
            ],
            Silo::Region => &[
                "ALTER TABLE sentry_environment ADD COLUMN note varchar(20) NOT NULL DEFAULT 'it''s'",
                "UPDATE sentry_environment SET note = 'kept'",
                "CREATE UNIQUE INDEX their_index ON sentry_environment (note, id)",
            ],
        };
        migrated.execute(common).await.expect("added");
        let of_database: &[&str] = match (store, migrated.silo) {
            (Store::Sqlite, Silo::Control) => &[
                "CREATE TRIGGER their_trigger AFTER UPDATE OF note ON sentry_useremail \
                 BEGIN UPDATE sentry_useremail SET validation_hash = 'seen' WHERE id = new.id; END",
                "CREATE VIEW their_view AS SELECT email FROM sentry_useremail",
            ],
            (Store::Sqlite, Silo::Region) => &[
                "CREATE TRIGGER their_trigger AFTER UPDATE OF note ON sentry_environment \
                 BEGIN UPDATE sentry_environment SET kind = 'seen' WHERE id = new.id; END",
                "CREATE VIEW their_view AS SELECT name FROM sentry_environment",
            ],
            (Store::Postgres, Silo::Control) => {
                &["ALTER TABLE sentry_useremail ADD CONSTRAINT theirs UNIQUE (id, note)"]
            }
            (Store::Postgres, Silo::Region) => {
                &["ALTER TABLE sentry_environment ADD CONSTRAINT theirs UNIQUE (id, note)"]
            }
        };
        migrated.execute(of_database).await.expect("added");
        let before = migrated.names().await;
        assert!(before.contains("their_index"));

        let altered = schema::upgrade_tables(&migrated.db, &catalog, migrated.silo).await.expect("altered");
        let after = migrated.names().await;
        let lost: Vec<&String> = before.difference(&after).filter(|name| !name.ends_with("_uniq")).collect();
        assert_eq!(lost, [] as [&String; 0]);
        let insert: &[&str] = match migrated.silo {
            Silo::Control => {
                &["INSERT INTO sentry_useremail (id, user_id, email, date_hash_added, is_verified) \
                 VALUES (4, 7, 'b@example.com', '2024-01-01T00:00:00.000000Z', true)"]
            }
            Silo::Region => {
                &["INSERT INTO sentry_environment (id, name, organization_id) VALUES (4, 'another', 7)"]
            }
        };
        migrated.execute(insert).await.expect("the column has its default");
        let notes = Statement::new("SELECT note FROM ").push(&altered[0]).push(" ORDER BY id");
        let notes = migrated.db.fetch_all(notes).await.expect("asked");
        let notes: Vec<String> = notes.iter().map(|row| row.text("note").expect("a text")).collect();
        assert_eq!(notes, ["kept", "it's"]);
    })
    .await;
}

/// An operator learns which table is in the way and what to do, and finds everything as it was.
async fn a_table_that_cannot_be_altered_is_named(store: Store) {
    let catalog = later_catalog();
    on_both_silos(store, async |migrated| {
        let (table, hindrance): (_, &[&str]) = match (store, migrated.silo) {
            (Store::Postgres, Silo::Control) => {
                ("sentry_useremail", &["CREATE VIEW their_view AS SELECT email FROM sentry_useremail"])
            }
            (Store::Postgres, Silo::Region) => {
                ("sentry_environment", &["CREATE VIEW their_view AS SELECT name FROM sentry_environment"])
            }
            (Store::Sqlite, Silo::Control) => (
                "sentry_useremail",
                &["ALTER TABLE sentry_useremail ADD COLUMN loud text GENERATED ALWAYS AS (upper(email)) VIRTUAL"],
            ),
            (Store::Sqlite, Silo::Region) => (
                "sentry_environment",
                &["ALTER TABLE sentry_environment ADD COLUMN loud text GENERATED ALWAYS AS (upper(name)) VIRTUAL"],
            ),
        };
        migrated.execute(hindrance).await.expect("added");
        let before = migrated.structure().await;
        let refused = schema::upgrade_tables(&migrated.db, &catalog, migrated.silo).await;
        let refused = refused.expect_err("it cannot be altered").to_string();
        assert!(refused.contains(&format!("table {table} cannot be altered")), "{refused}");
        assert!(refused.contains("drop"), "{refused}");
        assert_eq!(migrated.structure().await, before);
    })
    .await;
}

const FIRST: Migrations = Migrations {
    silo: Silo::Control,
    postgres: &[
        (1, "model tables", include_str!("../../migrations/control/postgres/0001_model_tables.sql")),
        (2, "causeway", include_str!("../../migrations/control/postgres/0002_causeway.sql")),
        (48, "catalog", include_str!("../../migrations/control/postgres/0048_catalog.sql")),
    ],
    sqlite: &[
        (1, "model tables", include_str!("../../migrations/control/sqlite/0001_model_tables.sql")),
        (2, "causeway", include_str!("../../migrations/control/sqlite/0002_causeway.sql")),
        (48, "catalog", include_str!("../../migrations/control/sqlite/0048_catalog.sql")),
    ],
    of_models: &[1],
    statement_of_models: None,
    without_models: false,
};

const FIRST_OF_REGION: Migrations = Migrations {
    silo: Silo::Region,
    postgres: &[
        (1, "model tables", include_str!("../../migrations/region/postgres/0001_model_tables.sql")),
        (50, "catalog", include_str!("../../migrations/region/postgres/0050_catalog.sql")),
    ],
    sqlite: &[
        (1, "model tables", include_str!("../../migrations/region/sqlite/0001_model_tables.sql")),
        (50, "catalog", include_str!("../../migrations/region/sqlite/0050_catalog.sql")),
    ],
    of_models: &[1],
    statement_of_models: None,
    without_models: false,
};

const FIRST_OF_CONTROL: Migrations = Migrations {
    silo: Silo::Control,
    postgres: &[
        (1, "model tables", include_str!("../../migrations/control/postgres/0001_model_tables.sql")),
        (48, "catalog", include_str!("../../migrations/control/postgres/0048_catalog.sql")),
    ],
    sqlite: &[
        (1, "model tables", include_str!("../../migrations/control/sqlite/0001_model_tables.sql")),
        (48, "catalog", include_str!("../../migrations/control/sqlite/0048_catalog.sql")),
    ],
    ..FIRST_OF_REGION
};

/// The tables of the first release, brought to this one, are those that a new installation gets.
async fn an_installation_of_the_first_release_becomes_as_a_new_one(store: Store) {
    let server = match store {
        Store::Postgres => Some(Postgres::start().await.expect("this test needs PostgreSQL")),
        Store::Sqlite => None,
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = directory.path();
    let database = async |name: &str, silo| {
        let url = match &server {
            Some(server) => server.create_database(name).await.expect("a database"),
            None => format!("sqlite:{}", directory.join(format!("{name}.db")).display()),
        };
        let db = Db::connect(&url, &Options::default()).await.expect("a database");
        Migrated { silo, db, catalog: Catalog::load().expect("the catalog") }
    };
    for first in [FIRST, FIRST_OF_REGION] {
        let new = database(&format!("new_{:?}", first.silo).to_lowercase(), first.silo).await;
        schema::prepare(new.db.clone(), &new.catalog, first).await.expect("prepared");
        let old = database(&format!("old_{:?}", first.silo).to_lowercase(), first.silo).await;
        old.db.migrate(first).await.expect("migrated");
        assert_ne!(old.structure().await, new.structure().await, "there are newer models");

        schema::prepare(old.db.clone(), &old.catalog, first).await.expect("prepared");
        assert_eq!(old.structure().await, new.structure().await);
        assert_eq!(old.names().await, new.names().await);
        assert_eq!(old.unique_sets().await, expected_unique_sets(&old));
        assert_eq!(old.foreign_keys().await, expected_foreign_keys(&old));
    }
}

/// A release whose catalog is older than that of one that has used the database would take back what that one changed.
async fn a_database_that_a_newer_catalog_has_used_is_refused(store: Store) {
    let server = match store {
        Store::Postgres => Some(Postgres::start().await.expect("this test needs PostgreSQL")),
        Store::Sqlite => None,
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    for migrations in [FIRST, FIRST_OF_REGION] {
        let silo = migrations.silo;
        let name = format!("{silo:?}").to_lowercase();
        let url = match &server {
            Some(server) => server.create_database(&name).await.expect("a database"),
            None => format!("sqlite:{}", directory.path().join(format!("{name}.db")).display()),
        };
        let connect = async || Db::connect(&url, &Options::default()).await.expect("a database");
        let prepare =
            async |catalog: &Catalog| schema::prepare(connect().await, catalog, migrations).await.map(drop);
        let old = Catalog::load().expect("the catalog");
        prepare(&old).await.expect("it is new");
        for newer in [corrected_catalog(), later_catalog()] {
            prepare(&newer).await.expect("an upgrade");
            let noted = format!("a catalog of {}", newer.tables_version());
            let known = format!("up to {}", old.tables_version());
            let migrated = Migrated { silo, db: connect().await, catalog: later_catalog() };
            let before = migrated.structure().await;
            let examined = schema::examine(connect().await, &old, migrations, &[]).await.map(drop);
            for refused in [prepare(&old).await, examined] {
                let refused = refused.expect_err("it is older").to_string();
                for part in ["has been used by a newer release of Causeway", &noted, &known] {
                    assert!(refused.contains(part), "{part} is not in {refused}");
                }
            }
            assert_eq!(migrated.structure().await, before);
            prepare(&newer).await.expect("the newer one starts again");
        }
    }
}

/// Control's tables may be among those of the product, where an older release has put them, and a region's in a schema of
/// their own.
#[tokio::test(flavor = "multi_thread")]
async fn what_control_has_noted_does_not_count_for_a_region() {
    const BEFORE: Migrations = Migrations {
        postgres: &[(
            1,
            "model tables",
            include_str!("../../migrations/region/postgres/0001_model_tables.sql"),
        )],
        ..FIRST_OF_REGION
    };
    let server = Postgres::start().await.expect("this test needs PostgreSQL");
    let url = server.create_database("both").await.expect("a database");
    let connect = async || Db::connect(&url, &Options::default()).await.expect("a database");
    let db = connect().await;
    db.create_own_schema(Silo::Region).await.expect("a schema");
    let own = db.in_own_schema(Silo::Region).await.expect("the schema");
    own.migrate(BEFORE).await.expect("migrated");
    let db = connect().await;
    transact!(DbError, db, |tx| {
        let table = "CREATE TABLE public.causeway_catalog (year bigint, month bigint, revision bigint)";
        tx.execute(Statement::new(table)).await?;
        tx.execute(Statement::new("INSERT INTO public.causeway_catalog VALUES (2099, 1, 0)")).await?;
    })
    .expect("control has noted a newer catalog");
    let catalog = Catalog::load().expect("the catalog");
    schema::prepare(connect().await, &catalog, FIRST_OF_REGION)
        .await
        .map(drop)
        .expect("it is the region's first note");
}

on_each_store! {
    a_database_that_a_newer_catalog_has_used_is_refused,
    an_installation_of_the_first_release_becomes_as_a_new_one,
    tables_of_an_older_release_are_altered,
    what_somebody_added_to_a_table_stays,
    a_table_that_cannot_be_altered_is_named,
}

/// A newer release may have made a column longer, or somebody did manually: every value of this release fits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_is_longer_than_needed_is_left_alone() {
    on_both_silos(Store::Postgres, async |migrated| {
        let longer: &[&str] = match migrated.silo {
            Silo::Control => &["ALTER TABLE sentry_useremail ALTER COLUMN email TYPE varchar(900)"],
            Silo::Region => &["ALTER TABLE sentry_environment ALTER COLUMN name TYPE text"],
        };
        migrated.execute(longer).await.expect("altered");
        let before = migrated.structure().await;
        let wrong = migrated.differences(&migrated.catalog).await;
        assert_eq!(wrong, [] as [String; 0]);
        let altered = schema::upgrade_tables(&migrated.db, &migrated.catalog, migrated.silo).await;
        assert_eq!(altered.expect("asked"), [] as [String; 0]);
        assert_eq!(migrated.structure().await, before);
    })
    .await;
}

/// A start that waits for another one must see what that one did, whatever isolation the database has by default.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_at_the_same_time_alter_tables_once_under_any_isolation() {
    let server = Postgres::start().await.expect("this test needs PostgreSQL");
    let url = server.create_database("region").await.expect("a database");
    let connect = async || Db::connect(&url, &Options::default()).await.expect("a database");
    let db = connect().await;
    db.migrate(FIRST_OF_REGION).await.expect("migrated");
    let isolation =
        Statement::new("ALTER DATABASE region SET default_transaction_isolation = 'serializable'");
    let set: Result<(), DbError> = transact!(DbError, db, |tx| {
        tx.execute(isolation.clone()).await?;
    });
    set.expect("set");

    let catalog = Catalog::load().expect("the catalog");
    let (one, other) = (connect().await, connect().await);
    let upgrade =
        async |db: &Db| schema::upgrade_tables(db, &catalog, Silo::Region).await.expect("altered").len();
    let (one, other) = tokio::join!(upgrade(&one), upgrade(&other));
    assert!((one == 0) != (other == 0), "{one} and {other} tables were altered");
}

/// A program that checks no foreign keys may have broken one long ago. That refuses no start, as it did not before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reference_that_was_broken_before_does_not_hinder() {
    on_both_silos(Store::Sqlite, async |migrated| {
        let careless = migrated.db.for_rebuilding().await.expect("opened").expect("it is SQLite");
        let insert = match migrated.silo {
            Silo::Control => "INSERT INTO sentry_useremail (id, user_id, email, validation_hash, date_hash_added, is_verified) \
                              VALUES (3, 99, 'a@example.com', 'x', '2024-01-01T00:00:00.000000Z', true)",
            Silo::Region => "INSERT INTO sentry_environmentproject (id, project_id, environment_id) VALUES (3, 99, 99)",
        };
        let broken: Result<(), DbError> = transact!(DbError, careless, |tx| {
            tx.execute(Statement::new(insert)).await?;
        });
        broken.expect("inserted");
        careless.close().await;
        let altered = schema::upgrade_tables(&migrated.db, &later_catalog(), migrated.silo).await;
        assert_eq!(altered.expect("altered").len(), 1);
    })
    .await;
}
