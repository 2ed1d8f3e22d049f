//! Mistakes in the request, not in the file.

use causeway_harness::cluster::{ImportOptions, Store};
use causeway_proto::{
    control::v1::{
        BulkCreateHeader, BulkCreateOrganizationSlugReservationsRequest,
        ConfirmOrganizationSlugReservationsRequest, ImportModelsRequest, LeaseIdsRequest,
        ReleaseOrganizationSlugReservationsRequest, ReleaseOrganizationsRequest, ReportOrganizationsRequest,
        ReportedOrganization, RevertImportChunkRequest, RevertImportRequest,
        bulk_create_organization_slug_reservations_request::Part,
    },
    failure::{code, reason_of},
    region::v1::ImportState,
    relocation::v1::{ErrorReason, FindingKind, ImportFlags, OrganizationStatus, Severity},
};
use tonic::Status;

use crate::support::{Everything, ORGANIZATION, all_reported, check_import, cluster, expect_findings, good};

const ID: &str = "7a0f4f2e-3c5b-4a5e-9b1d-0d9d2a6c1f00";
const NO_REGION: &str = "atlantis";

/// The reason of a refused call. Checks that the call has the status code of that reason.
fn refused<T>(name: &str, outcome: Result<T, Status>) -> ErrorReason {
    let Err(status) = outcome else { panic!("{name}: was not refused") };
    let reason = reason_of(&status).unwrap_or_else(|| panic!("{name}: no reason in {status:?}"));
    assert_eq!(status.code(), code(reason), "{name}: {status:?}");
    reason
}

pub(crate) async fn a_filter_that_matches_nothing_is_refused(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let before = Everything::of(&cluster).await;
    for (name, slugs) in [
        ("another slug", &["other"][..]),
        ("another case", &["GOOD"]),
        ("a part of it", &["goo", "good "]),
        ("an empty slug", &[""]),
    ] {
        let options = ImportOptions::default().filter(slugs);
        let import = match cluster.region(0).import(&good().to_bytes(), &options).await {
            Ok(import) => import,
            // An empty slug is not valid, so the call itself is refused.
            Err(status) if slugs == [""] => {
                assert_eq!(refused::<()>(name, Err(status)), ErrorReason::InvalidArgument, "{name}");
                continue;
            }
            Err(status) => panic!("{name}: {status}"),
        };
        let failure = import.failure.clone().unwrap_or_default();
        assert_eq!(import.state(), ImportState::Failed, "{name}");
        assert_eq!(failure.reason(), ErrorReason::FilterMatchesNothing, "{name}: {failure:?}");
        for slug in slugs {
            assert!(failure.message.contains(&format!("`{slug}`")), "{name}: {failure:?}");
        }
        let findings = cluster.region(0).findings(&import.import_id).await.expect("a list of findings");
        expect_findings(name, &findings, &[(FindingKind::FilterMatchesNothing, ORGANIZATION, 0, "")]);
        assert_eq!(findings[0].severity(), Severity::Error, "{name}");
        assert!(Everything::of(&cluster).await == before, "{name}: something was written");
    }
    // A filter without slugs is different: it selects nothing, and the import succeeds.
    let name = "an empty filter";
    let options = ImportOptions::default().filter(&[]);
    let import = cluster.region(0).import(&good().to_bytes(), &options).await.expect("the import ends");
    check_import(name, &import);
    assert!(import.models.iter().all(|counts| counts.inserted == 0), "{name}: {:?}", import.models);
    cluster.stop().await;
}

pub(crate) async fn an_import_id_with_other_content_is_refused(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let region = cluster.region(0);
    let options = ImportOptions::default().import_id(ID);
    let file = good().to_bytes();
    check_import("the first", &region.import(&file, &options).await.expect("the import ends"));
    all_reported(&cluster).await;

    let before = Everything::of(&cluster).await;
    let mut other = good();
    other.team(9, 1, "more");
    let mut byte = file.clone();
    byte.push(b'\n');
    for (name, file, options) in [
        ("another record", other.to_bytes(), options.clone()),
        ("another byte", byte, options.clone()),
        ("no array at all", b"hello".to_vec(), options.clone()),
        ("another filter", file.clone(), options.clone().filter(&["good"])),
        ("another flag", file.clone(), options.clone().merge_users()),
        ("the other flag", file.clone(), options.clone().hide_organizations()),
    ] {
        let reason = refused(name, region.begin(&file, &options).await);
        assert_eq!(reason, ErrorReason::ImportContentDiffers, "{name}");
        assert!(Everything::of(&cluster).await == before, "{name}: something was written");
    }
    let joined = region.begin(&file, &options).await.expect("the same is not a mistake");
    assert!(joined.joined, "the same upload again joins the import");
    assert!(Everything::of(&cluster).await == before, "the same upload again wrote something");
    cluster.stop().await;
}

pub(crate) async fn an_unregistered_region_is_refused(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let control = cluster.control();
    let before = Everything::of(&cluster).await;
    let header = BulkCreateHeader { region: NO_REGION.to_owned(), operation_id: ID.to_owned() };
    let parts = [BulkCreateOrganizationSlugReservationsRequest { part: Some(Part::Header(header)) }];
    let reserved = match control
        .reservations()
        .bulk_create_organization_slug_reservations(tokio_stream::iter(parts))
        .await
    {
        Ok(answers) => answers.into_inner().message().await.map(|_| ()),
        Err(status) => Err(status),
    };
    let confirm = ConfirmOrganizationSlugReservationsRequest {
        region: NO_REGION.to_owned(),
        operation_id: ID.to_owned(),
    };
    let release = ReleaseOrganizationSlugReservationsRequest {
        region: NO_REGION.to_owned(),
        operation_id: ID.to_owned(),
        ..Default::default()
    };
    let lease = LeaseIdsRequest {
        region: NO_REGION.to_owned(),
        operation_id: ID.to_owned(),
        model: "sentry.project".to_owned(),
        count: 1,
        above: 0,
    };
    let models = ImportModelsRequest {
        region: NO_REGION.to_owned(),
        import_id: ID.to_owned(),
        model: "sentry.user".to_owned(),
        flags: Some(ImportFlags::default()),
        min_ordinal: 1,
        max_ordinal: 1,
        tables_fingerprint: String::new(),
        records: Vec::new(),
    };
    let organization = ReportedOrganization {
        organization_id: 1,
        slug: "good".to_owned(),
        name: "Good".to_owned(),
        status: OrganizationStatus::Active.into(),
    };
    let gone = ReleaseOrganizationsRequest { region: NO_REGION.to_owned(), organization_ids: vec![1] };
    let revert =
        RevertImportRequest { region: NO_REGION.to_owned(), import_id: ID.to_owned(), needed: Vec::new() };
    let revert_chunk = RevertImportChunkRequest {
        region: NO_REGION.to_owned(),
        import_id: ID.to_owned(),
        model: "sentry.user".to_owned(),
        min_ordinal: 1,
    };
    let report = ReportOrganizationsRequest {
        region: NO_REGION.to_owned(),
        organizations: vec![organization],
        ..Default::default()
    };
    for (name, outcome) in [
        ("reserve", reserved),
        ("confirm", control.reservations().confirm_organization_slug_reservations(confirm).await.map(|_| ())),
        ("release", control.reservations().release_organization_slug_reservations(release).await.map(|_| ())),
        ("lease", control.regions().lease_ids(lease).await.map(|_| ())),
        ("import", control.imports().import_models(models).await.map(|_| ())),
        ("release organizations", control.reservations().release_organizations(gone).await.map(|_| ())),
        ("revert", control.imports().revert_import(revert).await.map(|_| ())),
        ("revert a chunk", control.imports().revert_import_chunk(revert_chunk).await.map(|_| ())),
        ("report", control.directory().report_organizations(report).await.map(|_| ())),
    ] {
        assert_eq!(refused(name, outcome), ErrorReason::RegionNotRegistered, "{name}");
        assert!(Everything::of(&cluster).await == before, "{name}: something was written");
    }
    cluster.stop().await;
}
