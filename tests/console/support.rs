//! A control with a console, and a region that reports to it.

use std::path::Path;

use causeway_harness::cluster::{Cluster, Silo, Store};
use causeway_silo::db::Statement;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::http::Visitor;

/// A control with a console, and the region `us`.
pub(crate) async fn started(store: Store) -> (Cluster, Visitor) {
    let started = Cluster::builder(store).region("us").console().start().await;
    let cluster = started.expect("a cluster; on PostgreSQL this test needs one installed");
    let visitor = visitor(&cluster);
    visitor.until("/regions", "alive").await;
    (cluster, visitor)
}

/// A visitor without a certificate.
pub(crate) fn visitor(cluster: &Cluster) -> Visitor {
    Visitor::new(&cluster.console_url().expect("it has a console"), None)
}

/// The small export in `examples/acme.json`.
pub(crate) fn example() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/acme.json")).expect("it is there")
}

/// The operation with this number.
pub(crate) fn operation(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the services of these tests use the clock of the machine, too"
)]
pub(crate) fn before(length: TimeDelta) -> DateTime<Utc> {
    Utc::now() - length
}

/// Reserves a slug as region `us`, 20 minutes ago.
pub(crate) async fn reserved_long_ago(cluster: &Cluster, number: u128, organization: i64, slug: &str) {
    cluster.control().reserve("us", &operation(number), organization, slug).await.expect("reserved");
    age(cluster, "causeway_organization_slug_reservation", Uuid::from_u128(number)).await;
}

/// Makes the rows of an operation 20 minutes old.
pub(crate) async fn age(cluster: &Cluster, table: &str, operation: Uuid) {
    let statement = Statement::new("UPDATE ").push(table).push(" SET created_at = ");
    let statement =
        statement.arg(before(TimeDelta::minutes(20))).push(" WHERE operation_id = ").arg(operation);
    cluster.change(Silo::Control, &[statement]).await.expect("changed");
}

/// The value of the token in a page that asks.
pub(crate) fn token(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"token\" value=\"").expect("a token");
    rest.split_once('"').expect("its end").0.to_owned()
}
