//! The same over gRPC: streams, reasons, page tokens.

use std::time::Duration;

use causeway_control::Control;
use causeway_harness::cluster::bulk_create_messages;
use causeway_proto::{
    control::v1::{
        BulkCreateHeader, BulkCreateOrganizationSlugReservationsRequest as Message,
        ConfirmOrganizationSlugReservationsRequest, LeaseIdsRequest, ListSlugReservationsRequest,
        OrganizationSlugRequest, OrganizationSlugRequestBatch, RegisterRegionRequest,
        ReleaseOrganizationSlugReservationsRequest, ReservationType, ResolveSlugRequest, ResolvedSlug,
        SlugRefusal, WatchSlugReservationsRequest, bulk_create_organization_slug_reservations_request::Part,
        directory_service_client::DirectoryServiceClient, region_service_client::RegionServiceClient,
        slug_reservation_service_client::SlugReservationServiceClient,
    },
    failure::reason_of,
    relocation::v1::ErrorReason,
};
use causeway_silo::{
    db::{DbError, Statement},
    transact,
};
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Status,
    service::Routes,
    transport::{Channel, Server},
};
use uuid::Uuid;

use crate::support::{Fixture, WATCHES, bulk_create, operation, wanted};

/// A server on the loopback interface. It ends with the runtime of its test, so that a client may outlive this.
pub(crate) struct Served {
    pub(crate) channel: Channel,
}

pub(crate) async fn serve(control: &Control) -> Served {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let mut routes = Routes::builder();
    control.add_services(&mut routes, false);
    let serving = Server::builder().add_routes(routes.routes());
    tokio::spawn(async move {
        serving.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("it serves");
    });
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("a URL");
    Served { channel: endpoint.connect().await.expect("connected") }
}

impl Served {
    pub(crate) fn reservations(&self) -> SlugReservationServiceClient<Channel> {
        SlugReservationServiceClient::new(self.channel.clone())
    }

    /// Makes a complete bulk creation.
    pub(crate) async fn bulk_create(&self, parts: Vec<Part>) -> Result<Vec<Vec<ResolvedSlug>>, Status> {
        self.send(bulk_create_messages(parts)).await
    }

    /// Makes a bulk creation of these messages, and returns the batches of its answer. A complete answer ends with a
    /// summary.
    async fn send(&self, messages: Vec<Message>) -> Result<Vec<Vec<ResolvedSlug>>, Status> {
        let call = self
            .reservations()
            .bulk_create_organization_slug_reservations(tokio_stream::iter(messages))
            .await?;
        let mut answers = call.into_inner();
        let mut batches = Vec::new();
        let mut summary = None;
        while let Some(batch) = answers.message().await? {
            assert_eq!(summary, None, "the summary is the last message");
            summary = batch.summary;
            batches.push(batch.slugs);
        }
        assert_eq!(batches.pop(), Some(Vec::new()), "the summary has a message of its own");
        let count: usize = batches.iter().map(Vec::len).sum();
        assert_eq!(summary.map(|it| it.organization_count), i64::try_from(count).ok());
        Ok(batches)
    }
}

pub(crate) fn header(region: &str, operation_id: &str) -> Part {
    Part::Header(BulkCreateHeader { region: region.to_owned(), operation_id: operation_id.to_owned() })
}

pub(crate) fn batch(ids: std::ops::Range<i64>) -> Part {
    let request = |organization_id| OrganizationSlugRequest {
        organization_id,
        slug: format!("slug-{organization_id}"),
        name: String::new(),
        taken_in_region: organization_id == 17,
    };
    Part::Batch(OrganizationSlugRequestBatch { requests: ids.map(request).collect() })
}

pub(crate) fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, reason: ErrorReason) {
    let status = outcome.expect_err("it is refused");
    assert_eq!((status.code(), reason_of(&status)), (code, Some(reason)), "{status:?}");
}

pub(crate) async fn a_bulk_creation_goes_both_ways_in_batches(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let served = serve(&fixture.control).await;
    let id = operation(1).to_string();
    let messages = || vec![header("us", &id), batch(1..10_001), batch(10_001..20_001), batch(20_001..22_001)];
    let batches = served.bulk_create(messages()).await.expect("reserved");
    assert!(batches.iter().all(|batch| (1..=10_000).contains(&batch.len())));
    let answers: Vec<&ResolvedSlug> = batches.iter().flatten().collect();
    assert_eq!(answers.len(), 22_000);
    assert!(answers.iter().zip(1..).all(|(answer, id)| {
        let kept = answer.slug == format!("slug-{id}");
        answer.organization_id == id && answer.wanted_slug == format!("slug-{id}") && kept == (id != 17)
    }));
    assert_eq!(served.bulk_create(messages()).await.expect("again"), batches);
    let confirm =
        ConfirmOrganizationSlugReservationsRequest { region: "us".to_owned(), operation_id: id.clone() };
    let confirmed =
        served.reservations().confirm_organization_slug_reservations(confirm).await.expect("confirmed");
    assert_eq!(confirmed.into_inner().reservation_count, 22_000);
    let mut directory = DirectoryServiceClient::new(served.channel.clone());
    let resolve = ResolveSlugRequest { slug: "Slug-22000".to_owned() };
    let found = directory.resolve_slug(resolve).await.expect("known").into_inner().organization.expect("one");
    assert_eq!((found.organization_id, found.region_address.as_str()), (22_000, "https://us.example.com"));
}

pub(crate) async fn a_stream_out_of_order_is_refused(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let served = serve(&fixture.control).await;
    let id = operation(1).to_string();
    for parts in [
        vec![],
        vec![batch(1..2), header("us", &id)],
        vec![header("us", &id), header("us", &id)],
        vec![header("us", "not a UUID"), batch(1..2)],
        vec![header("", &id), batch(1..2)],
        vec![header("us", &id), batch(1..10_002)],
        vec![header("us", &id), batch(1..3), batch(2..4)],
    ] {
        refused(served.bulk_create(parts).await, Code::InvalidArgument, ErrorReason::InvalidArgument);
    }
    let empty = || Message { part: None };
    let whole = bulk_create_messages(vec![header("us", &id), batch(1..3)]);
    for messages in [
        vec![empty()],
        vec![whole[0].clone(), whole[1].clone(), empty()],
        [whole.clone(), vec![empty()]].concat(),
        [whole.clone(), vec![whole[2].clone()]].concat(),
        [whole.clone(), vec![whole[1].clone()]].concat(),
    ] {
        refused(served.send(messages).await, Code::InvalidArgument, ErrorReason::InvalidArgument);
    }
    // The end must match what was sent.
    let other_end = bulk_create_messages(vec![batch(1..4)]).remove(1);
    let other_digest = bulk_create_messages(vec![batch(2..4)]).remove(1);
    for end in [other_end, other_digest] {
        let messages = vec![whole[0].clone(), whole[1].clone(), end];
        refused(served.send(messages).await, Code::InvalidArgument, ErrorReason::InvalidArgument);
    }
    // A stream without its end may have been cut off anywhere.
    for cut in 0..whole.len() {
        let outcome = served.send(whole[..cut].to_vec()).await;
        refused(outcome, Code::Aborted, ErrorReason::StreamIncomplete);
    }
    assert_eq!(fixture.reservations().await, []);
    let outcome = served.bulk_create(vec![header("nowhere", &id), batch(1..2)]).await;
    refused(outcome, Code::FailedPrecondition, ErrorReason::RegionNotRegistered);
}

pub(crate) async fn failures_carry_their_reason(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let served = serve(&fixture.control).await;
    let mut regions = RegionServiceClient::new(served.channel.clone());
    let register = |name: &str, instance_id: &str| RegisterRegionRequest {
        name: name.to_owned(),
        address: "https://us.example.com".to_owned(),
        instance_id: instance_id.to_owned(),
        ..RegisterRegionRequest::default()
    };
    let outcome = regions.register_region(register("us", &Uuid::nil().to_string())).await;
    refused(outcome, Code::AlreadyExists, ErrorReason::RegionNameTaken);
    let outcome = regions.register_region(register("us", "")).await;
    refused(outcome, Code::InvalidArgument, ErrorReason::InvalidArgument);
    let lease = LeaseIdsRequest {
        region: "us".to_owned(),
        operation_id: operation(1).to_string(),
        model: "sentry.team".to_owned(),
        count: 10,
        above: 5,
    };
    let leased = regions.lease_ids(lease.clone()).await.expect("leased").into_inner();
    assert_eq!((leased.first_id, leased.count), (6, 10));
    let outcome = regions.lease_ids(LeaseIdsRequest { count: 11, ..lease.clone() }).await;
    refused(outcome, Code::AlreadyExists, ErrorReason::OperationContentDiffers);
    let used = Statement::new("UPDATE causeway_id_lease_counter SET last_id = 9007199254740991");
    let db = fixture.db().await;
    transact!(DbError, db, |tx| { tx.execute(used.clone()).await? }).expect("written");
    db.close().await;
    let operation_id = operation(2).to_string();
    let outcome = regions.lease_ids(LeaseIdsRequest { operation_id, ..lease }).await;
    refused(outcome, Code::ResourceExhausted, ErrorReason::IdSpaceExhausted);
    let mut directory = DirectoryServiceClient::new(served.channel.clone());
    let outcome = directory.resolve_slug(ResolveSlugRequest { slug: "nobody".to_owned() }).await;
    refused(outcome, Code::NotFound, ErrorReason::SlugNotFound);
    // A caller that comes when control has stopped must ask the next control.
    fixture.control.stop().await;
    let outcome = directory.resolve_slug(ResolveSlugRequest { slug: "nobody".to_owned() }).await;
    refused(outcome, Code::Unavailable, ErrorReason::ShuttingDown);
}

/// An operator has seen that an operation is not confirmed, and the region confirms it before the call arrives.
pub(crate) async fn what_is_confirmed_meanwhile_is_not_released_for_an_operator(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let reservations = fixture.control.slug_reservations();
    bulk_create(&fixture.control, "us", operation(1), vec![wanted(1, "acme")]).await.expect("reserved");
    bulk_create(&fixture.control, "us", operation(2), vec![wanted(2, "birch")]).await.expect("reserved");
    reservations.confirm("us", operation(1)).await.expect("confirmed");
    let mut client = serve(&fixture.control).await.reservations();
    let request = |number| ReleaseOrganizationSlugReservationsRequest {
        region: "us".to_owned(),
        operation_id: operation(number).to_string(),
        refusal: None,
        only_unconfirmed: true,
    };
    let refused =
        client.release_organization_slug_reservations(request(1)).await.expect_err("it is confirmed");
    assert_eq!(reason_of(&refused), Some(ErrorReason::OperationConfirmed));
    let with_refusal = ReleaseOrganizationSlugReservationsRequest {
        refusal: Some(SlugRefusal {
            reason: ErrorReason::OrganizationNotFound.into(),
            message: "gone".to_owned(),
        }),
        ..request(2)
    };
    let refused = client.release_organization_slug_reservations(with_refusal).await.expect_err("not both");
    assert_eq!(reason_of(&refused), Some(ErrorReason::InvalidArgument));
    for _ in 0..2 {
        let released = client.release_organization_slug_reservations(request(2)).await.expect("released");
        assert_eq!(released.into_inner().released_count, 1);
    }
    let left: Vec<String> = fixture.reservations().await.into_iter().map(|it| it.slug).collect();
    assert_eq!(left, ["acme"]);
}

pub(crate) async fn pages_are_asked_for_by_token(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let served = serve(&fixture.control).await;
    served
        .bulk_create(vec![header("us", &operation(1).to_string()), batch(100..350)])
        .await
        .expect("reserved");
    let list = async |request: &ListSlugReservationsRequest| {
        served.reservations().list_slug_reservations(request.clone()).await.map(tonic::Response::into_inner)
    };
    let mut request = ListSlugReservationsRequest { region: "us".to_owned(), ..Default::default() };
    let mut sizes = Vec::new();
    let mut ids = Vec::new();
    let mut tokens = Vec::new();
    loop {
        let page = list(&request).await.expect("a page");
        sizes.push(page.reservations.len());
        ids.extend(page.reservations.iter().map(|reservation| reservation.organization_id));
        assert!(page.reservations.iter().all(|reservation| {
            reservation.r#type() == ReservationType::TemporaryRenameAlias
                && reservation.operation_id == operation(1).to_string()
        }));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token.clone_from(&page.next_page_token);
        tokens.push(page.next_page_token);
    }
    assert_eq!(sizes, [100, 100, 50]);
    assert_eq!(ids, (100..350).collect::<Vec<_>>());
    request.page_token.clone_from(&tokens[0]);
    let other_filter = ListSlugReservationsRequest { region: String::new(), ..request.clone() };
    refused(list(&other_filter).await, Code::InvalidArgument, ErrorReason::InvalidPageToken);
    let by_hand = ListSlugReservationsRequest { page_token: "slug-1".to_owned(), ..request.clone() };
    refused(list(&by_hand).await, Code::InvalidArgument, ErrorReason::InvalidPageToken);
    let negative = ListSlugReservationsRequest { page_size: -1, ..request.clone() };
    refused(list(&negative).await, Code::InvalidArgument, ErrorReason::InvalidArgument);
    let unknown = ListSlugReservationsRequest { r#type: 77, page_token: String::new(), ..request };
    refused(list(&unknown).await, Code::InvalidArgument, ErrorReason::InvalidArgument);
}

pub(crate) async fn as_many_watches_are_open_at_once_as_the_limit(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let served = serve(&fixture.control).await;
    let watch = async || {
        let request = WatchSlugReservationsRequest { region: "us".to_owned(), ..Default::default() };
        served.reservations().watch_slug_reservations(request).await.map(tonic::Response::into_inner)
    };
    let mut open = Vec::new();
    for _ in 0..WATCHES {
        open.push(watch().await.expect("there is a place"));
    }
    let refused = watch().await.expect_err("there is no place");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(reason_of(&refused), Some(ErrorReason::TooManyWatches), "{refused:?}");
    let details = tonic_types::StatusExt::get_error_details(&refused);
    let limit = details.error_info().and_then(|info| info.metadata.get("limit").cloned());
    assert_eq!(limit, Some(WATCHES.to_string()));
    // The other streams go on, and a closed stream leaves a place.
    for stream in &mut open {
        stream.message().await.expect("it is not broken").expect("it is not over");
    }
    open.pop();
    let again = async {
        while watch().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(30), again).await.expect("there is a place again");
}
