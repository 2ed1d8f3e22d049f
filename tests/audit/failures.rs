//! What is recorded of calls that fail.

use causeway_harness::cluster::Store;
use causeway_proto::{
    calls::REQUEST_ID,
    control::v1::{
        BulkCreateHeader, LeaseIdsRequest, ReleaseOrganizationsRequest, ResolveSlugRequest,
        TakeOverRegionRequest, bulk_create_organization_slug_reservations_request::Part,
    },
    region::v1::RevertImportRequest,
    relocation::v1::ListAuditEntriesRequest,
};
use tonic::Status;
use uuid::Uuid;

use crate::support::{all, started, until};

fn request_of(status: &Status) -> String {
    let id = status.metadata().get(REQUEST_ID).expect("an error says its request");
    id.to_str().expect("a text").to_owned()
}

pub(crate) async fn a_call_that_is_refused_is_recorded_with_its_reason(store: Store) {
    let cluster = started(store).await;
    let id = Uuid::from_u128(7).to_string();
    let revert = RevertImportRequest { import_id: id.clone() };
    let refused = cluster.region(0).imports().revert_import(revert).await.expect_err("there is none");
    let filter = ListAuditEntriesRequest { request_id: request_of(&refused), ..Default::default() };
    let found = until(&cluster.region(0), &filter, |found| !found.is_empty()).await;
    let entry = &found[0];
    assert_eq!(entry.call, "causeway.region.v1.ImportService/RevertImport");
    assert_eq!((entry.outcome.as_str(), entry.reason.as_str()), ("NOT_FOUND", "IMPORT_NOT_FOUND"));
    assert_eq!((entry.object.clone(), entry.import_id.clone()), (format!("import/{id}"), id.clone()));

    // A stream that ends early.
    let header = BulkCreateHeader { region: "us".to_owned(), operation_id: id.clone() };
    let part = causeway_proto::control::v1::BulkCreateOrganizationSlugReservationsRequest {
        part: Some(Part::Header(header)),
    };
    let mut reservations = cluster.control().reservations();
    let refused = reservations
        .bulk_create_organization_slug_reservations(tokio_stream::iter([part]))
        .await
        .expect_err("it is not complete");
    let filter = ListAuditEntriesRequest { request_id: request_of(&refused), ..Default::default() };
    let found = until(&cluster.control(), &filter, |found| !found.is_empty()).await;
    assert_eq!(
        (found[0].object.clone(), found[0].reason.as_str()),
        (format!("operation/{id}"), "STREAM_INCOMPLETE")
    );

    // A call that only reads changes nothing, so its failures are not recorded.
    let resolve = ResolveSlugRequest { slug: "nobody".to_owned() };
    cluster.control().directory().resolve_slug(resolve).await.expect_err("there is none");
    let take_over = TakeOverRegionRequest { name: "de".to_owned(), ..Default::default() };
    let refused = cluster.control().regions().take_over_region(take_over).await.expect_err("there is none");
    let filter = ListAuditEntriesRequest { request_id: request_of(&refused), ..Default::default() };
    until(&cluster.control(), &filter, |found| !found.is_empty()).await;
    let (control, _) = all(&cluster).await;
    assert!(control.iter().all(|entry| !entry.call.ends_with("ResolveSlug")), "{control:#?}");
    cluster.stop().await;
}

pub(crate) async fn failed_calls_do_not_fill_the_log(store: Store) {
    const CALLS: i64 = 400;
    let cluster = started(store).await;
    let control = cluster.control();
    let began = std::time::Instant::now();
    let refused = async || {
        let take_over = TakeOverRegionRequest { name: "de".to_owned(), ..Default::default() };
        control.regions().take_over_region(take_over).await.expect_err("there is none")
    };
    for _ in 0..CALLS {
        refused().await;
    }
    let seconds = began.elapsed().as_secs();
    let filter = ListAuditEntriesRequest { object: "region/de".to_owned(), ..Default::default() };
    let found = until(&control, &filter, |found| found.len() >= 5).await;
    // The region's calls come from the same address, and some of its own may have failed too.
    assert!(found.len() as u64 <= 10 + seconds / 10 + 1, "{} rows in {seconds} s", found.len());
    cluster.stop().await;
}

/// Texts of a caller get into the log only where they are ids, names of regions, or the identity of its certificate.
pub(crate) async fn what_a_caller_writes_by_mistake_is_not_kept(store: Store) {
    let cluster = started(store).await;
    let control = cluster.control();
    let secret = "ann@example.org";
    let take_over = TakeOverRegionRequest { name: secret.to_owned(), instance_id: String::new() };
    let lease = LeaseIdsRequest {
        region: secret.to_owned(),
        operation_id: Uuid::from_u128(8).to_string(),
        model: secret.to_owned(),
        ..Default::default()
    };
    let release = ReleaseOrganizationsRequest { region: secret.to_owned(), organization_ids: vec![1] };
    let refused = [
        control.regions().take_over_region(take_over).await.expect_err("it is not a name"),
        control.regions().lease_ids(lease).await.expect_err("it is not a name"),
        control.reservations().release_organizations(release).await.expect_err("it is not a name"),
    ];
    let revert = RevertImportRequest { import_id: secret.to_owned() };
    let here = cluster.region(0).imports().revert_import(revert).await.expect_err("it is not an id");
    for status in &refused {
        let filter = ListAuditEntriesRequest { request_id: request_of(status), ..Default::default() };
        until(&control, &filter, |found| !found.is_empty()).await;
    }
    let filter = ListAuditEntriesRequest { request_id: request_of(&here), ..Default::default() };
    until(&cluster.region(0), &filter, |found| !found.is_empty()).await;
    let (control, region) = all(&cluster).await;
    let text = format!("{control:?} {region:?}");
    assert!(!text.contains("ann@") && !text.contains("example.org"), "{text}");
    cluster.stop().await;
}
