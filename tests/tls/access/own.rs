//! What belongs to a caller, where it matters in which message of a stream, how often, or in which call it is named.

use causeway_harness::cluster::{ImportOptions, Silo, bulk_create_messages, upload_messages};
use causeway_proto::{
    control::v1::{
        BulkCreateHeader, CheckSlugsRequest, CreateOrganizationSlugReservationRequest, FindRowsRequest,
        GetRegionRequest, ListRegionsRequest, OrganizationSlugRequest, PlanImportRequest, SlugCheck,
        SlugVerdict, SuspendRegionRequest, WatchSlugReservationsRequest,
        bulk_create_organization_slug_reservations_request::Part as Bulk,
    },
    failure::reason_of,
    region::v1::{
        ImportHeader, ListImportsRequest, ResumeImportRequest, RevertImportRequest,
        import_organizations_request::Part as Upload,
    },
    relocation::v1::{ErrorReason, Scope},
};
use causeway_silo::db::Statement;
use causeway_tls::Role;
use tonic::{Code, Status};

use crate::support::{LIMIT, caller, example, two_regions};

fn refused(status: &Status, reason: ErrorReason) {
    assert_eq!((status.code(), reason_of(status)), (Code::PermissionDenied, Some(reason)), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_of_a_stream_may_name_another_region_or_import() {
    let (pki, cluster) = two_regions().await;
    let us = cluster.control_as(&caller(&pki, Role::Region, "us")).expect("a URL");
    let header = |region: &str| {
        let operation_id = uuid::Uuid::from_u128(7).to_string();
        Bulk::Header(BulkCreateHeader { region: region.to_owned(), operation_id })
    };
    for headers in [["us", "eu"], ["eu", "us"]] {
        let parts = bulk_create_messages(headers.map(header).to_vec());
        let created =
            us.reservations().bulk_create_organization_slug_reservations(tokio_stream::iter(parts)).await;
        let status = match created {
            Err(status) => status,
            Ok(answers) => answers.into_inner().message().await.expect_err("it is refused"),
        };
        refused(&status, ErrorReason::NotOwnRegion);
    }

    let ann = cluster.region_as(0, &caller(&pki, Role::Importer, "ann")).expect("a URL");
    let bob = cluster.region_as(0, &caller(&pki, Role::Importer, "bob")).expect("a URL");
    let of_bob = bob.import(&example(), &ImportOptions::default()).await.expect("it is taken").import_id;
    let header = |import_id: &str| {
        let scope = Scope::Organization.into();
        Upload::Header(ImportHeader { import_id: import_id.to_owned(), scope, ..ImportHeader::default() })
    };
    let own = uuid::Uuid::from_u128(8).to_string();
    for (parts, reason) in [
        (vec![header(&of_bob)], ErrorReason::NotOwnImport),
        (vec![header(&own), header(&of_bob)], ErrorReason::NotOwnImport),
        (vec![Upload::Data(b"[]".to_vec()), header(&of_bob)], ErrorReason::UploadInvalid),
    ] {
        let parts = tokio_stream::iter(upload_messages(parts));
        let status = ann.imports().import_organizations(parts).await.expect_err("it is refused");
        assert_eq!(reason_of(&status), Some(reason), "{status:?}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_importer_has_its_own_imports_and_an_operator_has_all() {
    let (pki, cluster) = two_regions().await;
    let ann = cluster.region_as(0, &caller(&pki, Role::Importer, "ann")).expect("a URL");
    let bob = cluster.region_as(0, &caller(&pki, Role::Importer, "bob")).expect("a URL");
    let of_ann = ann.import(&example(), &ImportOptions::default()).await.expect("taken").import_id;
    let of_bob = bob.import(&example(), &ImportOptions::default()).await.expect("taken").import_id;
    let operator = cluster.region(0);
    let of_operator = operator.import(&example(), &ImportOptions::default()).await.expect("taken").import_id;

    for (api, mut visible) in
        [(&ann, vec![&of_ann]), (&bob, vec![&of_bob]), (&operator, vec![&of_ann, &of_bob, &of_operator])]
    {
        let list =
            api.imports().list_imports(ListImportsRequest::default()).await.expect("listed").into_inner();
        let mut listed: Vec<&String> = list.imports.iter().map(|import| &import.import_id).collect();
        listed.sort();
        visible.sort();
        assert_eq!(listed, visible);
    }

    // The same id with the same content is a join, and only the one who began the import may join it.
    let again = ImportOptions::default().import_id(&of_ann);
    assert!(ann.begin(&example(), &again).await.expect("its own").joined);
    assert!(operator.begin(&example(), &again).await.expect("an operator").joined);
    refused(&bob.begin(&example(), &again).await.expect_err("of another"), ErrorReason::NotOwnImport);

    let revert = RevertImportRequest { import_id: of_ann.clone() };
    let status = bob.imports().revert_import(revert.clone()).await.expect_err("of another");
    refused(&status, ErrorReason::NotOwnImport);
    let resume = ResumeImportRequest { import_id: of_operator.clone() };
    refused(&ann.imports().resume_import(resume).await.expect_err("of another"), ErrorReason::NotOwnImport);
    // One that does not exist is not found, whoever asks.
    let absent = RevertImportRequest { import_id: uuid::Uuid::nil().to_string() };
    let status = bob.imports().revert_import(absent).await.expect_err("absent");
    assert_eq!(reason_of(&status), Some(ErrorReason::ImportNotFound));
    ann.imports().revert_import(revert).await.expect("its own");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_importer_merges_users_only_where_that_is_allowed() {
    let (pki, mut cluster) = two_regions().await;
    let ann = caller(&pki, Role::Importer, "ann");
    let merging = ImportOptions::default().merge_users();
    let status = cluster
        .region_as(0, &ann)
        .expect("a URL")
        .begin(&example(), &merging)
        .await
        .expect_err("it is refused");
    refused(&status, ErrorReason::MergeNotAllowed);
    cluster.region(0).import(&example(), &merging).await.expect("an operator may");

    cluster.stop_service(causeway_harness::cluster::Service::Region(1)).await;
    cluster.configure_regions(|options| options.allow_merge = true);
    cluster.start_service(causeway_harness::cluster::Service::Region(1)).await.expect("it starts");
    cluster
        .region_as(1, &ann)
        .expect("a URL")
        .import(&example(), &merging)
        .await
        .expect("it is allowed here");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_answers_a_region_about_rows_and_slugs_only_for_an_import_that_plans() {
    let (pki, cluster) = two_regions().await;
    let import = cluster.region(0).import(&example(), &ImportOptions::default()).await.expect("taken");
    let us = cluster.control_as(&caller(&pki, Role::Region, "us")).expect("a URL");
    let rows = |import_id: &str| FindRowsRequest {
        model: "sentry.user".to_owned(),
        field: "username".to_owned(),
        values: vec!["ann".to_owned()],
        region: "us".to_owned(),
        import_id: import_id.to_owned(),
    };
    let planned = uuid::Uuid::from_u128(9).to_string();
    let reason = |status: Status| reason_of(&status);
    // The id alone is of no use: nobody has begun such an import, or another region has.
    let eu = cluster.control_as(&caller(&pki, Role::Region, "eu")).expect("a URL");
    let plan = |region: &str| PlanImportRequest { region: region.to_owned(), import_id: planned.clone() };
    eu.imports().plan_import(plan("eu")).await.expect("its own import");
    refused(&us.imports().plan_import(plan("eu")).await.expect_err("of another"), ErrorReason::NotOwnRegion);
    let made_up = us.imports().find_rows(rows(&planned)).await.expect_err("it plans no such import");
    assert_eq!(reason(made_up), Some(ErrorReason::ImportNotPlanning));
    us.imports().plan_import(plan("us")).await.expect("it says so");
    us.imports().find_rows(rows(&planned)).await.expect("it plans");
    let of_written = PlanImportRequest { region: "us".to_owned(), import_id: import.import_id.clone() };
    let written = us.imports().plan_import(of_written).await.expect_err("it has written");
    assert_eq!(reason(written), Some(ErrorReason::ImportNotPlanning));
    let written = us.imports().find_rows(rows(&import.import_id)).await.expect_err("it has written");
    assert_eq!(reason(written), Some(ErrorReason::ImportNotPlanning));
    let unsaid = us.imports().find_rows(rows("")).await.expect_err("for no import");
    assert_eq!(reason(unsaid), Some(ErrorReason::InvalidArgument));

    let slugs = |import_id: &str| CheckSlugsRequest {
        slugs: vec!["acme".to_owned()],
        region: "us".to_owned(),
        import_id: import_id.to_owned(),
        ..CheckSlugsRequest::default()
    };
    let unknown = uuid::Uuid::from_u128(10).to_string();
    let made_up = us.directory().check_slugs(slugs(&unknown)).await.expect_err("it plans no such import");
    assert_eq!(reason(made_up), Some(ErrorReason::ImportNotPlanning));
    us.directory().check_slugs(slugs(&planned)).await.expect("it plans");
    let written = us.directory().check_slugs(slugs(&import.import_id)).await.expect_err("it has written");
    assert_eq!(reason(written), Some(ErrorReason::ImportNotPlanning));
    let unsaid = us.directory().check_slugs(slugs("")).await.expect_err("for no import");
    assert_eq!(reason(unsaid), Some(ErrorReason::InvalidArgument));
    // An import that is planned has no organizations with ids yet.
    let organizations = [0, 7].map(|id| asked(id, "acme")).to_vec();
    let with_id = CheckSlugsRequest { organizations, slugs: vec![], ..slugs(&planned) };
    let with_id = us.directory().check_slugs(with_id).await.expect_err("with an id");
    assert_eq!(reason_of(&with_id), Some(ErrorReason::InvalidArgument));
    assert!(with_id.message().starts_with("organizations[1].organization_id: "), "{with_id:?}");
    // An operator asks for no import.
    cluster
        .control()
        .directory()
        .check_slugs(CheckSlugsRequest { region: String::new(), ..slugs("") })
        .await
        .expect("allowed");
    cluster.stop().await;
}

fn asked(organization_id: i64, slug: &str) -> OrganizationSlugRequest {
    OrganizationSlugRequest { organization_id, slug: slug.to_owned(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comparison_learns_no_more_than_it_would_by_reserving() {
    let (pki, cluster) = two_regions().await;
    let mut of_eu = cluster.region(1).import(&example(), &ImportOptions::default()).await.expect("taken");
    let of_eu = of_eu.organizations.pop().expect("it has one");
    let eu = cluster.control_as(&caller(&pki, Role::Region, "eu")).expect("a URL");
    let us = cluster.control_as(&caller(&pki, Role::Region, "us")).expect("a URL");
    // Ids that nobody has leased, as an application gives them.
    for (api, region, id, slug) in [(&eu, "eu", 5_001, "secret"), (&us, "us", 5_002, "own")] {
        let reserve = CreateOrganizationSlugReservationRequest {
            region: region.to_owned(),
            operation_id: uuid::Uuid::from_u128(11).to_string(),
            organization: Some(asked(id, slug)),
        };
        api.reservations().create_organization_slug_reservation(reserve).await.expect("it is free");
    }
    let organizations = vec![
        // Of another region, with a slug that is free, one that resolves, and one that does not yet.
        asked(of_eu.id, "free"),
        asked(of_eu.id, &of_eu.slug),
        asked(5_001, "secret"),
        // Of nobody.
        asked(6_001, "secret"),
        asked(6_002, &of_eu.slug),
        asked(6_003, "own"),
        asked(6_004, "free-too"),
    ];
    let compared =
        CheckSlugsRequest { organizations, region: "us".to_owned(), ..CheckSlugsRequest::default() };
    let told = us.directory().check_slugs(compared.clone()).await.expect("it may ask").into_inner().checks;
    let only_the_region = |slug: &str| SlugCheck {
        slug: slug.to_owned(),
        id_taken_by_region: "eu".to_owned(),
        ..SlugCheck::default()
    };
    assert_eq!(told[..3], [only_the_region("free"), only_the_region(&of_eu.slug), only_the_region("secret")]);
    let owner = |check: &SlugCheck| {
        (check.verdict(), check.taken_by.as_ref().map(|owner| (owner.region.clone(), owner.organization_id)))
    };
    let owners: Vec<_> = told[3..].iter().map(owner).collect();
    let known = |region: &str, id| Some((region.to_owned(), id));
    assert_eq!(
        owners,
        [
            (SlugVerdict::Taken, None),
            (SlugVerdict::Taken, known("eu", of_eu.id)),
            (SlugVerdict::Taken, known("us", 5_002)),
            (SlugVerdict::Free, None),
        ]
    );
    // An operator gets the whole answer.
    let all = cluster.control().directory().check_slugs(compared).await.expect("allowed").into_inner().checks;
    assert_eq!(owner(&all[0]), (SlugVerdict::Free, None));
    assert_eq!((all[2].id_taken_by_region.as_str(), owner(&all[2]).1), ("eu", known("eu", 5_001)));
    assert_eq!(owner(&all[3]), (SlugVerdict::Taken, known("eu", 5_001)));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_a_region_is_suspended_is_for_operators_and_the_region() {
    let (pki, cluster) = two_regions().await;
    let suspend = SuspendRegionRequest { name: "us".to_owned(), text: "its key was stolen".to_owned() };
    cluster.control().regions().suspend_region(suspend).await.expect("an operator may");
    for (role, name, is_told) in [
        (Role::Operator, "ann", true),
        (Role::Region, "us", true),
        (Role::Region, "eu", false),
        (Role::Router, "edge", false),
    ] {
        let api = cluster.control_as(&caller(&pki, role, name)).expect("a URL");
        let get = GetRegionRequest { name: "us".to_owned() };
        let one =
            api.regions().get_region(get).await.expect("it may").into_inner().region.expect("it is there");
        let list = api.regions().list_regions(ListRegionsRequest::default()).await.expect("it may");
        let listed = list.into_inner().regions.into_iter().find(|it| it.name == "us").expect("it is there");
        for region in [one, listed] {
            let suspension = region.suspension.expect("it is suspended");
            assert_eq!(suspension.text == "its key was stolen", is_told, "{role}/{name}");
            assert_eq!(!suspension.suspended_by.is_empty(), is_told, "{role}/{name}");
            assert_eq!(!region.identity.is_empty(), is_told, "{role}/{name}");
            assert!(suspension.suspend_time.is_some() && !region.address.is_empty());
        }
    }
    cluster.stop().await;
}

/// The id of a region's database gets the region's own places, and a high version begins an era.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knows_the_id_of_a_database_does_not_read_as_its_region() {
    let (pki, cluster) = two_regions().await;
    cluster.region(0).import(&example(), &ImportOptions::default()).await.expect("taken");
    let stored = async |sql: &'static str| {
        let db = cluster.db(Silo::Control).await.expect("a database");
        let row = db.fetch_optional(Statement::new(sql)).await.expect("it is read").expect("a row");
        db.close().await;
        row
    };
    let row = stored("SELECT instance_id FROM causeway_region WHERE name = 'us'").await;
    let instance_id = row.uuid("instance_id").expect("an id").to_string();
    let watch = |after_version, instance_id: &str| WatchSlugReservationsRequest {
        region: "us".to_owned(),
        after_version,
        instance_id: instance_id.to_owned(),
    };
    let us = cluster.control_as(&caller(&pki, Role::Region, "us")).expect("a URL");
    let own = us.reservations().watch_slug_reservations(watch(0, &instance_id)).await;
    let mut own = own.expect("it is the region").into_inner();
    own.message().await.expect("it goes on").expect("a snapshot");

    let router = cluster.control_as(&caller(&pki, Role::Router, "edge")).expect("a URL");
    // As many as would end all streams of the region, and one that would begin an era.
    for after_version in [0, 0, 0, 0, 0, 1 << 20] {
        let refusal = router.reservations().watch_slug_reservations(watch(after_version, &instance_id)).await;
        refused(&refusal.map(|_| ()).expect_err("it is not the region"), ErrorReason::NotOwnRegion);
    }
    router.reservations().watch_slug_reservations(watch(0, "")).await.expect("it may read as a router");
    assert_eq!(stored("SELECT era FROM causeway_era").await.int("era").expect("a number"), 0);

    us.reserve("us", "00000000-0000-4000-8000-000000000001", 5_001, "later").await.expect("it is free");
    us.confirm("us", "00000000-0000-4000-8000-000000000001").await.expect("it is reserved");
    let heard =
        async { while !format!("{:?}", own.message().await.expect("it goes on")).contains("\"later\"") {} };
    tokio::time::timeout(LIMIT, heard).await.expect("the region's own stream goes on");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_header_makes_nobody_somebody_else() {
    let (pki, cluster) = two_regions().await;
    let us = cluster.control_as(&caller(&pki, Role::Region, "us")).expect("a URL");
    let mut request = tonic::Request::new(causeway_proto::control::v1::ListSlugReservationsRequest {
        region: "eu".to_owned(),
        ..Default::default()
    });
    for (name, value) in [
        ("x-forwarded-client-cert", "URI=spiffe://test.example/operator/me"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-user", "spiffe://test.example/operator/me"),
        ("forwarded", "for=127.0.0.1;by=spiffe://test.example/operator/me"),
    ] {
        request.metadata_mut().insert(name, value.parse().expect("ASCII"));
    }
    let status = us.reservations().list_slug_reservations(request).await.expect_err("it is refused");
    refused(&status, ErrorReason::NotOwnRegion);
    cluster.stop().await;
}
