//! Reads the audit logs of a cluster.

use std::time::Duration;

use causeway_client::{Client, collect_pages};
use causeway_harness::cluster::{Cluster, Store};
use causeway_proto::relocation::v1::{AuditEntry, ListAuditEntriesRequest, ListAuditEntriesResponse};
use tonic::Response;

/// How long something may take that happens in the background.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster with the region `us`, which has registered.
pub(crate) async fn started(store: Store) -> Cluster {
    let cluster = Cluster::start(store, &["us"]).await;
    let cluster = cluster.expect("a cluster; on PostgreSQL this test needs one installed");
    until(&cluster.control(), &ListAuditEntriesRequest::default(), |found| !found.is_empty()).await;
    cluster
}

/// The entries of a service that match, the newest first.
pub(crate) async fn entries(client: &Client, filter: &ListAuditEntriesRequest) -> Vec<AuditEntry> {
    let all: ListAuditEntriesResponse = collect_pages(async |page_token| {
        let request = ListAuditEntriesRequest { page_token, page_size: 1_000, ..filter.clone() };
        client.audit().list_audit_entries(request).await.map(Response::into_inner)
    })
    .await
    .expect("entries");
    all.entries
}

/// All entries of the control and the first region.
pub(crate) async fn all(cluster: &Cluster) -> (Vec<AuditEntry>, Vec<AuditEntry>) {
    let filter = ListAuditEntriesRequest::default();
    (entries(&cluster.control(), &filter).await, entries(&cluster.region(0), &filter).await)
}

/// The entries that match, as soon as they are as wanted.
pub(crate) async fn until(
    client: &Client,
    filter: &ListAuditEntriesRequest,
    wanted: impl Fn(&[AuditEntry]) -> bool,
) -> Vec<AuditEntry> {
    let looking = async {
        loop {
            let found = entries(client, filter).await;
            if wanted(&found) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(found) => found,
        Err(_) => panic!("it does not come: {:#?}", entries(client, filter).await),
    }
}
