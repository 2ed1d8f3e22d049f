//! What the behaviours have in common.

use causeway_harness::{
    account::{Account, Audit, Look},
    cluster::{Cluster, ImportOptions, Store},
    export::Export,
};
use causeway_proto::region::v1::Import;

pub(crate) async fn cluster(store: Store, regions: &[&str]) -> Cluster {
    Cluster::start(store, regions).await.expect("a cluster; on PostgreSQL this test needs one installed")
}

pub(crate) async fn look(cluster: &Cluster, region: usize) -> Look {
    Look::at(cluster, region).await.expect("the databases can be read")
}

/// Imports into the first region and accounts for it.
pub(crate) async fn import(cluster: &Cluster, export: &Export, options: &ImportOptions) -> (Import, Account) {
    let (before, bytes) = (look(cluster, 0).await, export.to_bytes());
    let import = cluster.region(0).import(&bytes, options).await.expect("the import ends");
    let account = Audit::new(cluster, 0, &before, &bytes, options, &import).run().await;
    (import, accounted(account))
}

/// The account, or all that does not add up.
pub(crate) fn accounted(account: anyhow::Result<Account>) -> Account {
    account.unwrap_or_else(|error| panic!("{error:#}"))
}
