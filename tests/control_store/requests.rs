//! Requests that every call refuses, and limits on answers, whatever a caller asks for.

use causeway_proto::{
    control::v1::{
        BatchResolveSlugsRequest, CheckSlugsRequest, FindRowsRequest, GetRegionRequest, HeldOrganization,
        ListHeldOrganizationsRequest, ListImportChunksRequest, ListOrganizationsRequest, ListRegionsRequest,
        ListSlugReservationsRequest, RegisterRegionRequest, ReleaseOrganizationsRequest,
        ReleaseSlugAliasRequest, ReservationType, ResolveSlugRequest,
        control_import_service_client::ControlImportServiceClient,
        directory_service_client::DirectoryServiceClient, region_service_client::RegionServiceClient,
    },
    failure::reason_of,
    page::PAGE_BYTES,
    relocation::v1::ErrorReason,
};
use causeway_silo::{
    db::{DbError, Statement},
    transact,
};
use prost::Message as _;
use tonic::{Code, Response, Status};

use crate::{
    grpc::{Served, refused, serve},
    support::{Fixture, bulk_create, operation, wanted},
};

/// One more than a request may have of anything.
const TOO_MANY: usize = 10_001;

impl Served {
    fn directory(&self) -> DirectoryServiceClient<tonic::transport::Channel> {
        DirectoryServiceClient::new(self.channel.clone())
    }

    fn regions(&self) -> RegionServiceClient<tonic::transport::Channel> {
        RegionServiceClient::new(self.channel.clone())
    }

    fn imports(&self) -> ControlImportServiceClient<tonic::transport::Channel> {
        ControlImportServiceClient::new(self.channel.clone())
    }
}

fn outcome_of<T>(outcome: Result<Response<T>, Status>) -> Result<(), Status> {
    outcome.map(drop)
}

pub(crate) async fn a_request_of_too_many_entries_is_refused_before_it_is_decoded(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let served = serve(&fixture.control).await;
    let many = || vec![String::new(); TOO_MANY];
    let check = CheckSlugsRequest { slugs: many(), ..Default::default() };
    let asked = CheckSlugsRequest { organizations: vec![Default::default(); TOO_MANY], ..Default::default() };
    let release =
        ReleaseOrganizationsRequest { region: "us".to_owned(), organization_ids: vec![0; TOO_MANY] };
    let rows = FindRowsRequest {
        model: "sentry.user".to_owned(),
        field: "username".to_owned(),
        values: many(),
        ..Default::default()
    };
    let resolve = BatchResolveSlugsRequest { slugs: many() };
    for outcome in [
        outcome_of(served.directory().check_slugs(check).await),
        outcome_of(served.directory().check_slugs(asked).await),
        outcome_of(served.directory().batch_resolve_slugs(resolve).await),
        outcome_of(served.reservations().release_organizations(release).await),
        outcome_of(served.imports().find_rows(rows).await),
    ] {
        let message = outcome.as_ref().map_or_else(|status| status.message().to_owned(), |()| String::new());
        assert!(message.contains("at most 10000 entries"), "{message}");
        refused(outcome, Code::InvalidArgument, ErrorReason::InvalidArgument);
    }
}

pub(crate) async fn a_zero_character_in_any_text_is_refused(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let served = serve(&fixture.control).await;
    let zero = || "u\0s".to_owned();
    let register = RegisterRegionRequest { name: zero(), ..Default::default() };
    let list = ListSlugReservationsRequest { region: zero(), ..Default::default() };
    let token = ListSlugReservationsRequest { page_token: zero(), ..Default::default() };
    let rows = FindRowsRequest {
        model: "sentry.user".to_owned(),
        field: "username".to_owned(),
        values: vec![zero()],
        ..Default::default()
    };
    let chunks = ListImportChunksRequest { region: zero(), ..Default::default() };
    let alias = ReleaseSlugAliasRequest { organization_id: 1, slug: zero() };
    for outcome in [
        outcome_of(served.directory().resolve_slug(ResolveSlugRequest { slug: zero() }).await),
        outcome_of(
            served.directory().batch_resolve_slugs(BatchResolveSlugsRequest { slugs: vec![zero()] }).await,
        ),
        outcome_of(served.regions().get_region(GetRegionRequest { name: zero() }).await),
        outcome_of(served.regions().register_region(register).await),
        outcome_of(served.reservations().list_slug_reservations(list).await),
        outcome_of(served.reservations().list_slug_reservations(token).await),
        outcome_of(served.reservations().release_slug_alias(alias).await),
        outcome_of(served.imports().find_rows(rows).await),
        outcome_of(served.imports().list_import_chunks(chunks).await),
    ] {
        refused(outcome, Code::InvalidArgument, ErrorReason::InvalidArgument);
    }
}

/// Well-formed tokens with made-up checksums, of the keys `acme`, `7`, one with a zero character, none, and `7 7`.
const FORGED: [&str; 5] = [
    "BwcHBwcHBwcHBwcHBwcHB2FjbWU",
    "BwcHBwcHBwcHBwcHBwcHBzc",
    "BwcHBwcHBwcHBwcHBwcHB2EAYg",
    "BwcHBwcHBwcHBwcHBwcHBw",
    "BwcHBwcHBwcHBwcHBwcHBzcgNw",
];

pub(crate) async fn a_forged_page_token_is_refused(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let served = serve(&fixture.control).await;
    for page_token in FORGED {
        let page_token = page_token.to_owned();
        let reservations =
            ListSlugReservationsRequest { page_token: page_token.clone(), ..Default::default() };
        let organizations = ListOrganizationsRequest { page_token: page_token.clone(), ..Default::default() };
        let regions = ListRegionsRequest { page_token: page_token.clone(), ..Default::default() };
        let held = ListHeldOrganizationsRequest {
            region: "us".to_owned(),
            page_token: page_token.clone(),
            ..Default::default()
        };
        let chunks = ListImportChunksRequest {
            region: "us".to_owned(),
            import_id: operation(1).to_string(),
            page_token,
            ..Default::default()
        };
        for outcome in [
            outcome_of(served.reservations().list_slug_reservations(reservations).await),
            outcome_of(served.directory().list_organizations(organizations).await),
            outcome_of(served.directory().list_held_organizations(held).await),
            outcome_of(served.regions().list_regions(regions).await),
            outcome_of(served.imports().list_import_chunks(chunks).await),
        ] {
            refused(outcome, Code::InvalidArgument, ErrorReason::InvalidPageToken);
        }
    }
}

/// Controls on one database accept each other's tokens.
pub(crate) async fn a_page_token_is_good_at_any_control_of_the_database(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let (one, other) = (serve(&fixture.control).await, fixture.another(2).await);
    let other = serve(&other).await;
    let first = ListRegionsRequest { page_size: 1, ..Default::default() };
    let page = one.regions().list_regions(first.clone()).await.expect("a page").into_inner();
    let next = ListRegionsRequest { page_token: page.next_page_token, ..first };
    let page = other.regions().list_regions(next).await.expect("the next page").into_inner();
    assert_eq!(page.regions[0].name, "us");
}

pub(crate) async fn an_error_never_gives_a_request_back(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let served = serve(&fixture.control).await;
    let long = || "x".repeat(5_000);
    let rows = FindRowsRequest {
        model: long(),
        field: long(),
        values: vec![long()],
        region: long(),
        import_id: long(),
    };
    let chunks = ListImportChunksRequest { import_id: long(), ..Default::default() };
    for outcome in [
        outcome_of(served.directory().resolve_slug(ResolveSlugRequest { slug: long() }).await),
        outcome_of(served.regions().get_region(GetRegionRequest { name: long() }).await),
        outcome_of(served.imports().find_rows(rows).await),
        outcome_of(served.imports().list_import_chunks(chunks).await),
    ] {
        let status = outcome.expect_err("nobody has it");
        assert!(reason_of(&status).is_some(), "{status:?}");
        assert!(status.message().len() < 400 && !status.message().contains(&"x".repeat(101)), "{status:?}");
    }
}

/// Many organizations, each with the most aliases that it may have.
pub(crate) async fn a_page_of_what_is_held_is_bounded_by_bytes(fixture: Fixture) {
    const ORGANIZATIONS: i64 = 250;
    const ALIASES: i64 = 100;
    let fixture = fixture.with_regions(&["us"]).await;
    let requested_slugs = (0..ORGANIZATIONS * ALIASES).map(|id| wanted(id + 1, &format!("{:a>44}-{id}", "")));
    let requested_slugs = requested_slugs.collect();
    bulk_create(&fixture.control, "us", operation(1), requested_slugs).await.expect("reserved");
    let db = fixture.db().await;
    transact!(DbError, db, |tx| {
        let statement = Statement::new(
            "UPDATE causeway_organization_slug_reservation SET type = 'vanity_alias', \
             organization_id = (organization_id - 1) / $1 + 1 WHERE region = 'us'",
        )
        .with(ALIASES);
        tx.execute(statement).await?;
    })
    .expect("they are aliases");
    db.close().await;

    let served = serve(&fixture.control).await;
    let ids: Vec<i64> = (1..=ORGANIZATIONS).collect();
    for organization_ids in [vec![], ids.clone()] {
        let mut request = ListHeldOrganizationsRequest {
            region: "us".to_owned(),
            page_size: 1_000,
            organization_ids,
            ..Default::default()
        };
        let (mut all, mut pages) = (Vec::<HeldOrganization>::new(), 0);
        loop {
            let page = served.directory().list_held_organizations(request.clone()).await;
            let page = page.expect("a page").into_inner();
            assert!(page.encoded_len() < PAGE_BYTES + 1_000, "{} bytes", page.encoded_len());
            all.extend(page.organizations);
            pages += 1;
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        assert!(pages > 2, "{pages} pages");
        assert_eq!(all.iter().map(|held| held.organization_id).collect::<Vec<_>>(), ids);
        for held in &all {
            assert_eq!(held.reservations.len(), 100, "organization {}", held.organization_id);
            assert!(held.reservations.iter().all(|it| it.r#type() == ReservationType::VanityAlias));
        }
    }
}
