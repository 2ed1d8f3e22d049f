//! Databases on PostgreSQL.

use causeway_harness::{
    cluster::{Cluster, ImportOptions, Silo, Store},
    export,
    postgres::Postgres,
};
use causeway_silo::db::{Db, Options, Statement};

use crate::{Finding, Found, doctor};

async fn control(url: &str, more: &[&str]) -> Found {
    doctor(&[&["control", "--database-url", url], more].concat()).await
}

async fn execute(url: &str, sql: &str) {
    let db = Db::connect(url, &Options::default()).await.expect("it is there");
    db.fetch_optional(Statement::new("").push(sql)).await.expect("done");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_database_before_the_first_start_is_found() {
    let postgres = Postgres::start().await.expect("PostgreSQL");
    let url = postgres.create_database("control").await.expect("made");
    control(&url, &[]).await.has("new", &[]);
    let error = |check| [(check, "error")];

    let text = control(&postgres.url("absent"), &[]).await.has("absent", &error("database"));
    assert!(text.contains("createdb"), "{text}");
    let text = control(&url, &["--database-max-connections", "1000"]).await;
    let text = text.has("connections", &error("database-server"));
    assert!(text.contains("--database-max-connections is 1000"), "{text}");

    execute(
        &url,
        "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    )
    .await;
    let text = control(&postgres.url("ascii"), &[]).await.has("encoding", &error("database-server"));
    assert!(text.contains("SQL_ASCII"), "{text}");

    execute(&url, "CREATE ROLE me LOGIN").await;
    let place = url.split_once('@').expect("a user").1;
    let text = control(&format!("postgres://me@{place}"), &[]).await.has("rights", &error("database-rights"));
    assert!(text.contains("GRANT USAGE, CREATE ON SCHEMA public TO me;"), "{text}");

    // In a database of the product, the first start makes a schema for its own tables.
    let product = postgres.create_database("product").await.expect("made");
    execute(&product, "CREATE TABLE django_migrations (id bigint)").await;
    let place = product.split_once('@').expect("a user").1;
    let rights = async || {
        let found = control(&format!("postgres://me@{place}"), &[]).await;
        let of_rights = |it: &Finding| it.check == "database-rights" && it.severity == "error";
        found.findings.into_iter().find(of_rights).and_then(|finding| finding.advice)
    };
    let advice = rights().await.expect("a finding");
    let statement = advice.split_once(": ").expect("a statement").1.trim_end_matches(';');
    assert_eq!(statement, "GRANT CREATE ON DATABASE product TO me");
    execute(&product, statement).await;
    assert_eq!(rights().await, None);
    // Or somebody else makes the schema. Then no rights elsewhere are needed.
    execute(&product, "REVOKE CREATE ON DATABASE product FROM me").await;
    assert!(rights().await.is_some());
    execute(&product, "CREATE SCHEMA causeway_control").await;
    let text = control(&format!("postgres://me@{place}"), &[]).await.has("a schema", &error("database"));
    let grant = "GRANT USAGE, CREATE ON SCHEMA causeway_control TO \"me\"";
    assert!(text.contains(grant), "{text}");
    execute(&product, grant).await;
    assert_eq!(rights().await, None);
    execute(&product, "DROP SCHEMA causeway_control").await;
    execute(&product, "CREATE SCHEMA causeway_control AUTHORIZATION me").await;
    assert_eq!(rights().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_tables_of_a_region_is_found_and_the_advice_mends_it() {
    let cluster = Cluster::start(Store::Postgres, &["us"]).await.expect("a cluster");
    let bytes = export::exhaustive().expect("an export").to_bytes();
    cluster.region(0).import(&bytes, &ImportOptions::default()).await.expect("it ends");
    let url = cluster.database_url(Silo::Region(0)).to_owned();
    let (spool, control) = (cluster.spool_dir(0).display().to_string(), cluster.control_url());
    let region = async |url: &str| {
        let line =
            ["region", "--name", "us", "--control", &control, "--spool-dir", &spool, "--database-url", url];
        doctor(&line).await
    };
    let error = |check| [(check, "error")];
    region(&url).await.has("healthy", &[]);

    // Restored from a copy without its sequences.
    execute(&url, "SELECT setval('sentry_organization_id_seq', 1, false)").await;
    let text = region(&url).await.has("a sequence", &error("sequences"));
    assert!(text.contains("collides in sentry_organization"), "{text}");
    let statement = text.split_once("in psql: ").expect("a statement").1.trim_end_matches(';');
    execute(&url, statement).await;
    region(&url).await.has("a sequence that was set", &[]);

    execute(&url, "CREATE ROLE me LOGIN").await;
    execute(&url, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO me").await;
    let place = url.split_once('@').expect("a user").1;
    let found = region(&format!("postgres://me@{place}")).await;
    let text = found.has("rights", &error("database-rights"));
    assert!(text.contains("INSERT, UPDATE, DELETE"), "{text}");
    let granted = "GRANT ALL ON ALL TABLES IN SCHEMA public TO me";
    execute(&url, granted).await;
    let text = region(&format!("postgres://me@{place}")).await.has("sequences", &error("database-rights"));
    assert!(text.contains("ON SEQUENCE"), "{text}");
    execute(&url, "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO me").await;
    region(&format!("postgres://me@{place}")).await.has("all rights", &[]);

    execute(&url, "ALTER TABLE sentry_organization RENAME COLUMN name TO title").await;
    let text = region(&url).await.has("a column", &error("schema"));
    assert!(text.contains("sentry_organization") && text.contains("name"), "{text}");
    cluster.stop().await;
}
