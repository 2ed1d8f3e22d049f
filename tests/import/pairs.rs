//! Every export into every release of the product's databases, one for both services and one for each. The independent
//! accounting holds every record, row and finding against the file. Only PostgreSQL: the product has no other.

use causeway_harness::{
    account::Audit,
    cluster::{Cluster, ImportOptions, Silo, Store},
    export::Export,
    product::{self, Release},
};
use causeway_proto::{
    region::v1::{ImportState, RevertImportRequest},
    relocation::v1::FindingKind,
};
use causeway_silo::db::Statement;

use crate::support::{accounted, exhaustive, look};

async fn cluster(release: Release, one_database: bool) -> Cluster {
    let tables = product::tables(release).expect("the tables");
    let builder = Cluster::builder(Store::Postgres).region("us").tables_of_control(&tables);
    let builder = match one_database {
        true => builder.one_database(),
        false => builder.tables_of_regions(&tables),
    };
    builder.start().await.expect("a cluster; this test needs PostgreSQL")
}

/// Imports a file and accounts for it.
async fn import(cluster: &Cluster, export: &Export, options: &ImportOptions) -> String {
    let (before, bytes) = (look(cluster, 0).await, export.to_bytes());
    let import = cluster.region(0).import(&bytes, options).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded, "{:?}", import.failure);
    accounted(Audit::new(cluster, 0, &before, &bytes, options, &import).run().await);
    import.import_id
}

async fn revert(cluster: &Cluster, import_id: &str) {
    let request = RevertImportRequest { import_id: import_id.to_owned() };
    cluster.region(0).imports().revert_import(request).await.expect("it is taken back");
    let reverted = cluster.region(0).wait(import_id).await.expect("it ends");
    assert_eq!(reverted.state(), ImportState::Reverted);
    let findings = cluster.region(0).findings(import_id).await.expect("findings");
    let kept = findings.iter().filter(|it| it.kind() == FindingKind::RowKept);
    let kept: Vec<&str> = kept.map(|it| it.reason.as_str()).collect();
    assert_eq!(kept, [] as [&str; 0]);
}

/// All of it, a part of it, on top of what is there with users merged; then everything is taken back.
async fn arrives(release: Release, one_database: bool) {
    let cluster = cluster(release, one_database).await;
    let export = exhaustive();
    let empty = look(&cluster, 0).await;
    let options = ImportOptions::default();
    let mut imports = vec![import(&cluster, &export, &options).await];
    imports.push(import(&cluster, &export, &options.clone().filter(&["acme"])).await);
    imports.push(import(&cluster, &export, &options.merge_users()).await);
    for import_id in imports.iter().rev() {
        revert(&cluster, import_id).await;
    }
    assert_eq!(look(&cluster, 0).await, empty, "nothing stays");
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
