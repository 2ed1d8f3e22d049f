//! Which databases control and the regions may have.

use causeway_harness::{
    cluster::{Cluster, ImportOptions, Service, Silo, Store},
    export::Export,
    product::{self, Release},
};
use causeway_proto::{region::v1::ImportState, relocation::v1::ErrorReason};
use causeway_silo::db::Statement;

use super::{ask, assert_failed, import, structure, structure_of_product};
use crate::support::exhaustive;

/// The tables of control and of the region are in schemas of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_database_serves_control_and_a_region() {
    let tables = product::tables(Release::R24_9).expect("the tables");
    let built =
        Cluster::builder(Store::Postgres).region("us").one_database().tables_of_control(&tables).start();
    let cluster = built.await.expect("a cluster; this test needs PostgreSQL");
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    assert_eq!(structure(&db).await, structure_of_product().await, "nothing of the product is another one");
    let ours = "SELECT schemaname || ' ' || count(*) AS line FROM pg_tables WHERE tablename LIKE 'causeway%' GROUP BY schemaname ORDER BY schemaname";
    let (of_control, of_region) = (cluster.db(Silo::Control).await.expect("a database"), db);
    for db in [&of_control, &of_region] {
        let rows = db.fetch_all(Statement::new(ours)).await.expect("asked");
        let schemas: Vec<String> = rows.iter().map(|row| row.text("line").expect("a text")).collect();
        let names: Vec<&str> = schemas.iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(names, ["causeway_control", "causeway_region"], "{schemas:?}");
    }

    let export = exhaustive();
    for round in 0..2 {
        let (done, _) = import(&cluster, &export, &ImportOptions::default()).await;
        assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
        let users = "SELECT count(*)::text AS line FROM sentry_organizationmember m JOIN auth_user u ON u.id = m.user_id";
        assert_ne!(ask(&cluster, Silo::Region(0), users).await, ["0"], "both parts are in one database");
        if round == 0 {
            // They find their schemas again.
            for service in [Service::Control(0), Service::Region(0)] {
                cluster.stop_service(service).await;
                cluster.start_service(service).await.expect("it starts");
            }
        }
    }
    cluster.stop().await;
}

/// Ids of users are those of other people in the product's database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_of_the_product_needs_a_control_of_the_product() {
    let tables = product::tables(Release::R24_9).expect("the tables");
    let built = Cluster::builder(Store::Postgres).region("us").tables_of_regions(&tables).start().await;
    let cluster = built.expect("a cluster; this test needs PostgreSQL");
    let mut export = Export::new();
    export.organization(1, "one").user(11, "ann");
    let (failed, _) = import(&cluster, &export, &ImportOptions::default()).await;
    let message = assert_failed(&failed, ErrorReason::ControlNotOfProduct);
    assert!(message.contains("--database-url"), "{message}");
    assert_eq!(
        ask(&cluster, Silo::Control, "SELECT username AS line FROM auth_user").await,
        [] as [String; 0]
    );
    cluster.stop().await;
}
