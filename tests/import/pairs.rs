//! Every export into every release of the product's databases, one for both services and one for each. The independent
//! accounting holds every record, row and finding against the file. Only PostgreSQL: the product has no other.

use causeway_bench::generate;
use causeway_harness::{
    cluster::{Cluster, ImportOptions, Silo, Store},
    product::{self, Release},
};
use causeway_silo::db::Statement;

use crate::support::{exhaustive, import_bytes, import_in_all_ways, of_release, revert_all, rows_now};

async fn cluster(release: Release, one_database: bool) -> Cluster {
    let tables = product::tables(release).expect("the tables");
    let builder = Cluster::builder(Store::Postgres).region("us").tables_of_control(&tables);
    let builder = match one_database {
        true => builder.one_database(),
        false => builder.tables_of_regions(&tables),
    };
    builder.start().await.expect("a cluster; this test needs PostgreSQL")
}

/// Checks that the product's own inserts get ids that no row has.
async fn assert_sequences_are_ahead(cluster: &Cluster) {
    let behind = "SELECT c.relname::text AS name FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'id' \
                  WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace \
                  AND pg_get_serial_sequence(quote_ident(c.relname), 'id') IS NOT NULL \
                  AND (xpath('/row/most/text()', query_to_xml(format('SELECT COALESCE(max(id), 0) AS most FROM %I', \
                  c.relname), false, true, '')))[1]::text::bigint \
                  > COALESCE(pg_sequence_last_value(pg_get_serial_sequence(quote_ident(c.relname), 'id')::regclass), 0)";
    for silo in [Silo::Control, Silo::Region(0)] {
        let db = cluster.db(silo).await.expect("a database");
        let rows = db.fetch_all(Statement::new(behind)).await.expect("asked");
        let names: Vec<String> = rows.iter().map(|row| row.text("name").expect("a name")).collect();
        assert_eq!(names, [] as [String; 0], "their sequences are behind");
    }
}

/// All of it, a part of it, on top of what is there with users merged, and an export of each release; then
/// everything is reverted.
async fn arrives(release: Release, one_database: bool) {
    let cluster = cluster(release, one_database).await;
    let export = exhaustive().to_bytes();
    let empty = rows_now(&cluster, 0).await;
    let mut imports = import_in_all_ways(&cluster, &export, "acme").await;
    for release in generate::Release::ALL {
        let import = import_bytes(&cluster, &of_release(release), &ImportOptions::default()).await.0;
        imports.push(import.import_id);
    }
    assert_sequences_are_ahead(&cluster).await;
    revert_all(&cluster, &imports).await;
    assert_eq!(rows_now(&cluster, 0).await, empty, "nothing stays");
    for (silo, table) in [
        (Silo::Control, "sentry_organizationslugreservation"),
        (Silo::Control, "auth_user"),
        (Silo::Region(0), "sentry_organization"),
    ] {
        let db = cluster.db(silo).await.expect("a database");
        let rows = db.fetch_all(Statement::new("SELECT 1 AS one FROM ").push(table)).await.expect("asked");
        assert!(rows.is_empty(), "{table}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_in_the_databases_of_each_release() {
    for release in Release::ALL {
        arrives(release, false).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_in_one_database_of_each_release() {
    for release in Release::ALL {
        arrives(release, true).await;
    }
}
