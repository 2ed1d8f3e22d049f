//! The largest possible answers fit into a message, so that no caller's library refuses them.

use causeway_proto::{
    control::v1::{
        BatchResolveSlugsRequest, CheckSlugsRequest, ConfirmOrganizationSlugReservationsRequest,
        ImportModelsRequest, ImportRecord, OrganizationSlugRequest, OrganizationSlugRequestBatch,
        RegisterRegionRequest, bulk_create_organization_slug_reservations_request::Part,
        control_import_service_client::ControlImportServiceClient,
        directory_service_client::DirectoryServiceClient, region_service_client::RegionServiceClient,
    },
    failure::reason_of,
    limits::{MAX_CHUNK_RECORDS, MAX_FIND_BYTES, MAX_FIND_VALUES, MAX_MESSAGE_BYTES},
    relocation::v1::{ErrorReason, FindingKind, ImportFlags},
};
use prost::Message as _;
use serde_json::json;

use crate::{
    grpc::{header, serve},
    support::{Fixture, operation, refused_field},
};

/// A registration with the longest name and address that a region may have.
fn longest_region() -> RegisterRegionRequest {
    let address = "http://control.example.com/";
    RegisterRegionRequest {
        name: "r".repeat(32),
        address: format!("{address}{}", "x".repeat(2_048 - address.len())),
        instance_id: operation(99).to_string(),
        ..RegisterRegionRequest::default()
    }
}

pub(crate) async fn the_largest_answers_about_slugs_fit_into_a_message(fixture: Fixture) {
    let served = serve(&fixture.control).await;
    let region = longest_region();
    let name = region.name.clone();
    RegionServiceClient::new(served.channel.clone()).register_region(region).await.expect("registered");
    let id = operation(1).to_string();
    let request = |organization_id: i64| OrganizationSlugRequest {
        organization_id: (1 << 52) + organization_id,
        slug: format!("slug-{organization_id:0>45}"),
        name: "n".repeat(255),
        taken_in_region: false,
    };
    let requests: Vec<OrganizationSlugRequest> = (0..1_000).map(request).collect();
    let slugs: Vec<String> = requests.iter().map(|request| request.slug.clone()).collect();
    let batch = Part::Batch(OrganizationSlugRequestBatch { requests: requests.clone() });
    served.bulk_create(vec![header(&name, &id), batch]).await.expect("reserved");
    let confirm = ConfirmOrganizationSlugReservationsRequest { region: name, operation_id: id };
    served.reservations().confirm_organization_slug_reservations(confirm).await.expect("confirmed");

    let mut directory = DirectoryServiceClient::new(served.channel.clone());
    let resolved = directory.batch_resolve_slugs(BatchResolveSlugsRequest { slugs }).await.expect("resolved");
    assert_eq!(resolved.get_ref().organizations.len(), 1_000);
    assert!(resolved.get_ref().encoded_len() > MAX_MESSAGE_BYTES / 2, "they are not the largest");

    // Another region asks for the same slugs, in texts of the greatest length.
    let other = RegisterRegionRequest { name: "us".to_owned(), ..longest_region() };
    let other = RegisterRegionRequest { instance_id: operation(98).to_string(), ..other };
    RegionServiceClient::new(served.channel.clone()).register_region(other).await.expect("registered");
    let padded = |request: OrganizationSlugRequest| OrganizationSlugRequest {
        slug: format!("{}{}", request.slug, " ".repeat(255 - request.slug.len())),
        ..request
    };
    let organizations: Vec<_> = requests.into_iter().map(padded).collect();
    let check = CheckSlugsRequest { organizations, region: "us".to_owned(), ..CheckSlugsRequest::default() };
    let checked = directory.check_slugs(check).await.expect("checked").into_inner();
    let full = |check: &&causeway_proto::control::v1::SlugCheck| {
        check.taken_by.is_some() && !check.id_taken_by_region.is_empty() && !check.candidate.is_empty()
    };
    assert_eq!(checked.checks.iter().filter(full).count(), 1_000, "{:?}", checked.checks.first());
    assert!(checked.encoded_len() > MAX_MESSAGE_BYTES / 2, "they are not the largest");
}

pub(crate) async fn the_largest_answer_for_a_chunk_fits_into_a_message(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let served = serve(&fixture.control).await;
    let mut imports = ControlImportServiceClient::new(served.channel.clone());
    let user = |number: usize| {
        let name = format!("{number:0>8}{}", "\u{1f600}".repeat(120));
        json!({"username": name, "password": "", "email": format!("{number:0>8}{}", "\u{1}".repeat(67))})
    };
    let record = |number: usize| ImportRecord {
        ordinal: i64::try_from(number).expect("small"),
        source_pk: (1 << 53) - 1 - i64::try_from(number).expect("small"),
        byte_offset: 1 << 52,
        fields_json: user(number).to_string(),
    };
    let chunk = |import: u128, count: usize| ImportModelsRequest {
        region: "us".to_owned(),
        import_id: operation(import).to_string(),
        model: "sentry.user".to_owned(),
        flags: Some(ImportFlags::default()),
        min_ordinal: 1,
        max_ordinal: i64::try_from(count).expect("small"),
        tables_fingerprint: String::new(),
        records: (1..=count).map(record).collect(),
    };
    imports.import_models(chunk(1, MAX_CHUNK_RECORDS)).await.expect("written");
    // The same users again: each gets another username, with a finding.
    let written = imports.import_models(chunk(2, MAX_CHUNK_RECORDS)).await.expect("written").into_inner();
    let renamed = written.findings.iter().filter(|it| it.kind() == FindingKind::UsernameChanged).count();
    assert_eq!((renamed, written.keys.len()), (MAX_CHUNK_RECORDS, MAX_CHUNK_RECORDS));
    assert!(written.encoded_len() > MAX_MESSAGE_BYTES / 2, "it is not the largest");

    let refused = imports.import_models(chunk(3, MAX_CHUNK_RECORDS + 1)).await.expect_err("too many records");
    assert_eq!(reason_of(&refused), Some(ErrorReason::InvalidArgument));
}

pub(crate) async fn values_that_are_looked_up_are_bounded_in_bytes(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let imports = fixture.control.imports();
    let find = async |values| imports.find_rows("sentry.user", "username", values).await;
    let most = vec!["x".repeat(MAX_FIND_BYTES / MAX_FIND_VALUES); MAX_FIND_VALUES];
    assert_eq!(find(most).await.expect("as many as may be"), []);
    assert_eq!(refused_field(find(vec![String::new(); MAX_FIND_VALUES + 1]).await), "values");
    assert_eq!(refused_field(find(vec!["x".repeat(MAX_FIND_BYTES / 2 + 1); 2]).await), "values");
}
