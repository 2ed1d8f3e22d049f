//! The log and its chain come in pages.

use causeway_client::Client;
use causeway_harness::cluster::Store;
use causeway_proto::{
    control::v1::{LeaseIdsRequest, TakeOverRegionRequest},
    failure::reason_of,
    relocation::v1::{AuditEntry, AuditSeal, ErrorReason, ListAuditEntriesRequest, ListAuditSealsRequest},
};
use prost_types::Timestamp;
use uuid::Uuid;

use crate::support::{PATIENCE, entries, started};

/// The chain, two positions a page, and how many entries are not in it yet.
async fn chain(client: &Client) -> (Vec<AuditSeal>, i64) {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListAuditSealsRequest { page_size: 2, page_token };
        let page = client.audit().list_audit_seals(request).await.expect("a page").into_inner();
        assert!(page.seals.len() <= 2 && (page.base_position, page.loose_count) == (0, 0));
        all.extend(page.seals);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return (all, page.waiting_count);
        }
    }
}

pub(crate) async fn the_log_is_served_page_by_page(store: Store) {
    let cluster = started(store).await;
    let control = cluster.control();
    for number in 0..7 {
        let request = LeaseIdsRequest {
            region: "us".to_owned(),
            operation_id: Uuid::from_u128(number + 1).to_string(),
            model: "sentry.organization".to_owned(),
            count: 1,
            above: 0,
        };
        control.regions().lease_ids(request).await.expect("leased");
    }
    let whole = async {
        loop {
            let (chain, waiting) = chain(&control).await;
            if waiting == 0 {
                return chain;
            }
        }
    };
    let chain = tokio::time::timeout(PATIENCE, whole).await.expect("entries get into the chain");
    let all = entries(&control, &ListAuditEntriesRequest::default()).await;
    assert!(all.len() >= 8, "{all:#?}");
    assert!(chain.iter().map(|seal| seal.position).eq(1..=i64::try_from(all.len()).expect("few")));

    // The same entries, one a page, the newest first.
    let (mut paged, mut page_token) = (Vec::<AuditEntry>::new(), String::new());
    loop {
        let request = ListAuditEntriesRequest { page_size: 1, page_token, ..Default::default() };
        let page = control.audit().list_audit_entries(request).await.expect("a page").into_inner();
        paged.extend(page.entries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, all);
    let times: Vec<_> = all.iter().map(|it| it.time.map(|time| (time.seconds, time.nanos))).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
    for seal in &chain {
        let entry = seal.entry.as_ref().expect("an entry");
        let listed = all.iter().find(|it| it.id == entry.id).expect("it is listed");
        assert_eq!((listed.position, &listed.hash), (seal.position, &seal.hash));
    }

    let first = ListAuditEntriesRequest { page_size: 1, ..Default::default() };
    let page = control.audit().list_audit_entries(first).await.expect("a page").into_inner();
    let (token, time) = (page.next_page_token, Some(Timestamp { seconds: 0, nanos: -1 }));
    for (request, reason) in [
        (
            ListAuditEntriesRequest { who: "us".to_owned(), page_token: token, ..Default::default() },
            ErrorReason::InvalidPageToken,
        ),
        (ListAuditEntriesRequest { page_size: -1, ..Default::default() }, ErrorReason::InvalidArgument),
        (ListAuditEntriesRequest { since: time, ..Default::default() }, ErrorReason::InvalidArgument),
        (
            ListAuditEntriesRequest { who: "x".repeat(513), ..Default::default() },
            ErrorReason::InvalidArgument,
        ),
        (
            ListAuditEntriesRequest { object: "x".repeat(129), ..Default::default() },
            ErrorReason::InvalidArgument,
        ),
        (
            ListAuditEntriesRequest { request_id: "7".to_owned(), ..Default::default() },
            ErrorReason::InvalidArgument,
        ),
    ] {
        let refused = control.audit().list_audit_entries(request).await.expect_err("it is refused");
        assert_eq!(reason_of(&refused), Some(reason), "{refused:?}");
    }
    // Whatever fails with these calls, they change nothing, so they are not in the log themselves.
    let take_over = TakeOverRegionRequest { name: "us".to_owned(), ..Default::default() };
    control.regions().take_over_region(take_over).await.expect("allowed");
    let after = entries(&control, &ListAuditEntriesRequest::default()).await;
    assert!(after.iter().all(|entry| !entry.call.contains("AuditService")), "{after:#?}");
    cluster.stop().await;
}
