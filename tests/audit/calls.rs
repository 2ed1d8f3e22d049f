//! What is recorded of calls that succeed, and of work in the background.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use causeway_harness::{
    cluster::{Act, Cluster, Failpoints, ImportOptions, Silo, Store},
    export,
    pki::Pki,
};
use causeway_proto::{
    calls::{self, REQUEST_ID},
    control::v1::{
        AddRegionRequest, CreateOrganizationSlugReservationRequest, OrganizationSlugRequest,
        ReleaseOrganizationSlugReservationsRequest, ReleaseSlugAliasRequest, RemoveRegionRequest,
        ResumeRegionRequest, SuspendRegionRequest, TakeOverRegionRequest, UpdateOrganizationSlugRequest,
    },
    region::v1::{
        ApproveOrganizationsRequest, DifferenceKind, ImportState, PauseImportsRequest, ReconcileMode,
        ResumeImportRequest, RevertImportRequest, SetThrottleRequest, UnpauseImportsRequest,
    },
    relocation::v1::{AuditEntry, ListAuditEntriesRequest},
};
use causeway_silo::{db::Statement, env::Environment};
use tonic::Request;
use uuid::Uuid;

use crate::support::{PATIENCE, all, entries, started, until};

/// An organization id that no test imports.
const ELSEWHERE: i64 = 9_000_001;

async fn reserved(cluster: &Cluster, operation_id: Uuid, organization_id: i64, slug: &str) {
    let organization =
        OrganizationSlugRequest { organization_id, slug: slug.to_owned(), ..Default::default() };
    let request = CreateOrganizationSlugReservationRequest {
        region: "us".to_owned(),
        operation_id: operation_id.to_string(),
        organization: Some(organization),
    };
    cluster.control().reservations().create_organization_slug_reservation(request).await.expect("reserved");
}

/// Makes every call of the contract that changes something, so that it does.
async fn make_every_call(cluster: &Cluster, failpoints: &Failpoints) {
    let (control, region) = (cluster.control(), cluster.region(0));
    // The region makes most calls of control by itself: for an import and its revert.
    let bytes = export::large(3).to_bytes();
    let import =
        region.import(&bytes, &ImportOptions::default().hide_organizations()).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded, "{:?}", import.failure);
    let approve = ApproveOrganizationsRequest { import_id: import.import_id.clone(), ..Default::default() };
    region.organizations().approve_organizations(approve).await.expect("approved");

    let organization_id = import.organizations[0].id;
    let rename = UpdateOrganizationSlugRequest {
        operation_id: Uuid::from_u128(71).to_string(),
        organization_id,
        desired_slug: "renamed".to_owned(),
        keep_alias: true,
        ..Default::default()
    };
    let renamed =
        control.reservations().update_organization_slug(rename).await.expect("renamed").into_inner();
    let alias = ReleaseSlugAliasRequest { organization_id, slug: renamed.previous_slug };
    assert!(control.reservations().release_slug_alias(alias).await.expect("released").into_inner().released);

    reserved(cluster, Uuid::from_u128(72), ELSEWHERE, "elsewhere").await;
    let release = ReleaseOrganizationSlugReservationsRequest {
        region: "us".to_owned(),
        operation_id: Uuid::from_u128(72).to_string(),
        refusal: None,
        only_unconfirmed: false,
    };
    control.reservations().release_organization_slug_reservations(release).await.expect("released");
    // Reserved and confirmed for an organization that the region does not have: a comparison frees that.
    reserved(cluster, Uuid::from_u128(73), ELSEWHERE, "elsewhere").await;
    control.confirm("us", &Uuid::from_u128(73).to_string()).await.expect("confirmed");
    cluster.quiet(PATIENCE).await.expect("quiet");
    let repaired = region.reconcile(ReconcileMode::Repair).await.expect("compared");
    let freed = repaired.differences.iter().any(|difference| {
        difference.kind() == DifferenceKind::ReservationWithoutOrganization && difference.repaired
    });
    assert!(freed, "{:?}", repaired.differences);

    let revert = RevertImportRequest { import_id: import.import_id.clone() };
    region.imports().revert_import(revert).await.expect("it begins");
    let reverted = region.wait_until(&import.import_id, |it| it.state() == ImportState::Reverted).await;
    reverted.expect("reverted");

    // A dry run says which import it is about before it asks.
    let dry = region.import(&bytes, &ImportOptions::default().dry_run()).await.expect("it ends");
    assert_eq!(dry.state(), ImportState::Planned, "{:?}", dry.failure);

    // An import whose rows somebody has got in the way of.
    failpoints.arm("region.models.written", Act::Hold, 0);
    let begun = region.begin(&bytes, &ImportOptions::default()).await.expect("it begins").import;
    let import_id = begun.unwrap_or_default().import_id;
    failpoints.held().await;
    let pause = PauseImportsRequest { import_id: import_id.clone(), all: false };
    region.imports().pause_imports(pause).await.expect("paused");
    let unpause = UnpauseImportsRequest { import_id: import_id.clone(), all: false };
    region.imports().unpause_imports(unpause).await.expect("it continues");
    let limit = SetThrottleRequest { max_rows_per_second: Some(1_000_000), ..Default::default() };
    region.throttle().set_throttle(limit).await.expect("set");
    let counts = |sign| {
        let statement = Statement::new("UPDATE causeway_import_model SET seen = seen + ").arg(sign);
        statement.push(" WHERE model = 'sentry.organization'")
    };
    cluster.change(Silo::Region(0), &[counts(1_i64)]).await.expect("changed");
    failpoints.release();
    let failed = region.wait(&import_id).await.expect("it ends");
    assert_eq!(failed.state(), ImportState::Failed);
    cluster.change(Silo::Region(0), &[counts(-1_i64)]).await.expect("changed");
    region
        .imports()
        .resume_import(ResumeImportRequest { import_id: import_id.clone() })
        .await
        .expect("resumed");
    assert_eq!(region.wait(&import_id).await.expect("it ends").state(), ImportState::Succeeded);

    let take_over = TakeOverRegionRequest { name: "us".to_owned(), ..Default::default() };
    control.regions().take_over_region(take_over).await.expect("allowed");

    let name = || "spare".to_owned();
    let mut regions = control.regions();
    regions.add_region(AddRegionRequest { name: name() }).await.expect("added");
    let suspend = SuspendRegionRequest { name: name(), text: "a test".to_owned() };
    regions.suspend_region(suspend).await.expect("suspended");
    regions.resume_region(ResumeRegionRequest { name: name() }).await.expect("resumed");
    regions.remove_region(RemoveRegionRequest { name: name() }).await.expect("removed");
    cluster.quiet(PATIENCE).await.expect("quiet");
}

fn names(entries: &[AuditEntry]) -> BTreeSet<String> {
    entries.iter().filter(|entry| entry.outcome == "OK").map(|entry| entry.call.clone()).collect()
}

/// A call that is added to the contract is either one that only reads, or one that this test makes and that is
/// recorded.
pub(crate) async fn every_call_that_changes_something_is_recorded(store: Store) {
    let failpoints = Failpoints::default();
    let built = Cluster::builder(store).region("us").failpoints(&failpoints);
    // The region reports its imports and comparisons by itself.
    let built =
        built.configure_regions(|options| options.report_every = Duration::from_millis(20)).start().await;
    let cluster = built.expect("a cluster; on PostgreSQL this test needs one installed");
    make_every_call(&cluster, &failpoints).await;
    let about = ListAuditEntriesRequest { object: "region/us".to_owned(), ..Default::default() };
    let is_recorded = |entries: &[AuditEntry]| {
        let has = |call: &str| entries.iter().any(|entry| entry.call.ends_with(call));
        has("/ReportImports") && has("/ReportComparison")
    };
    until(&cluster.control(), &about, is_recorded).await;
    let (control, region) = all(&cluster).await;
    let (of_control, of_region) = (names(&control), names(&region));
    for name in calls::changing().expect("the contract can be read") {
        let recorded = if name.starts_with("causeway.region.") { &of_region } else { &of_control };
        assert!(recorded.contains(&name), "{name} is not recorded: {recorded:?}");
    }
    // And what the region does by itself.
    for name in ["import", "revert", "rename"] {
        assert!(of_region.contains(name), "{name} is not recorded: {of_region:?}");
    }
    assert!(
        !of_control.contains("internal") && !of_region.contains("internal"),
        "work that nobody has named"
    );
    for entry in control.iter().chain(&region) {
        assert!(!entry.object.is_empty() && !entry.request_id.is_empty(), "{entry:?}");
        let is_own = !entry.call.contains('/');
        assert_eq!(entry.address, if is_own { "" } else { "127.0.0.1" }, "{entry:?}");
        assert_eq!(entry.who, if is_own { "us" } else { "" }, "{entry:?}");
    }
    cluster.stop().await;
}

pub(crate) async fn an_import_has_one_request_id_in_both_silos(store: Store) {
    let cluster = started(store).await;
    let bytes = export::large(3).to_bytes();
    let import = cluster.region(0).import(&bytes, &ImportOptions::default()).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded);
    let id = import.import_id;
    let filter = ListAuditEntriesRequest { request_id: id.clone(), ..Default::default() };
    // The directory hears of it a little later.
    cluster.quiet(PATIENCE).await.expect("quiet");
    let here = entries(&cluster.region(0), &filter).await;
    let there = entries(&cluster.control(), &filter).await;
    assert_eq!(here.iter().map(|it| it.call.as_str()).collect::<Vec<_>>(), ["import"]);
    let there: BTreeSet<&str> = there.iter().map(|it| it.call.rsplit('/').next().expect("a name")).collect();
    for call in [
        "ImportModels",
        "BulkCreateOrganizationSlugReservations",
        "ConfirmOrganizationSlugReservations",
        "ReportOrganizations",
    ] {
        assert!(there.contains(call), "{call}: {there:?}");
    }
    // The upload was another request, about the same object.
    let filter = ListAuditEntriesRequest { object: format!("import/{id}"), ..Default::default() };
    let about: Vec<String> =
        entries(&cluster.region(0), &filter).await.into_iter().map(|it| it.call).collect();
    assert_eq!(about, ["import", "causeway.region.v1.ImportService/ImportOrganizations"]);
    cluster.stop().await;
}

pub(crate) async fn an_import_that_fails_is_recorded_with_its_reason(store: Store) {
    let cluster = started(store).await;
    let import = cluster.region(0).import(b"{\"no\": \"export\"}", &ImportOptions::default()).await;
    let import = import.expect("it ends");
    assert_eq!(import.state(), ImportState::Failed);
    let filter = ListAuditEntriesRequest { request_id: import.import_id, ..Default::default() };
    let found = entries(&cluster.region(0), &filter).await;
    let found: Vec<_> =
        found.iter().map(|it| (it.call.as_str(), it.outcome.as_str(), it.reason.as_str())).collect();
    assert_eq!(found, [("import", "INVALID_ARGUMENT", "EXPORT_INVALID")]);
    cluster.stop().await;
}

pub(crate) async fn a_request_keeps_the_id_that_its_caller_gave_it(store: Store) {
    let cluster = started(store).await;
    let control = cluster.control();
    let take_over = async |id: Option<&str>| {
        let mut request = Request::new(TakeOverRegionRequest { name: "us".to_owned(), ..Default::default() });
        if let Some(id) = id {
            request.metadata_mut().insert(REQUEST_ID, id.parse().expect("a value"));
            request.metadata_mut().insert("x-forwarded-for", "192.0.2.7".parse().expect("a value"));
        }
        let answer = control.regions().take_over_region(request).await.expect("allowed");
        let request_id = answer.metadata().get(REQUEST_ID).expect("the answer says it");
        request_id.to_str().expect("a text").to_owned()
    };
    let mine = Uuid::from_u128(0xabc).to_string();
    assert_eq!(take_over(Some(&mine)).await, mine);
    for invalid in ["", "mine", "00000000-0000-0000-0000-000000000000", &"x".repeat(2_000)] {
        let given = take_over(Some(invalid)).await;
        assert!(Uuid::try_parse(&given).is_ok_and(|id| !id.is_nil()) && given != invalid, "{given}");
    }
    let other = take_over(None).await;
    for id in [&mine, &other] {
        let filter = ListAuditEntriesRequest { request_id: id.clone(), ..Default::default() };
        let found = entries(&control, &filter).await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].object.as_str(), found[0].address.as_str()), ("region/us", "127.0.0.1"));
    }
    cluster.stop().await;
}

pub(crate) async fn a_caller_is_known_by_its_certificate(store: Store) {
    let pki = Arc::new(Pki::new(Environment::system()).expect("a CA"));
    let built = Cluster::builder(store).region("us").tls(&pki).start().await;
    let cluster = built.expect("a cluster; on PostgreSQL this test needs one installed");
    let bytes = export::large(1).to_bytes();
    let import = cluster.region(0).import(&bytes, &ImportOptions::default()).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded);
    cluster.quiet(PATIENCE).await.expect("quiet");
    let (control, region) = all(&cluster).await;
    let by =
        |entries: &[AuditEntry], who: &str| entries.iter().filter(|entry| entry.who.ends_with(who)).count();
    assert!(control.iter().all(|entry| entry.who.starts_with("spiffe://")), "{control:#?}");
    assert_eq!(by(&control, "/region/us"), control.len());
    assert_eq!(by(&region, "/operator/me"), 1, "the upload: {region:#?}");
    let filter = ListAuditEntriesRequest { who: control[0].who.clone(), ..Default::default() };
    assert_eq!(until(&cluster.control(), &filter, |found| !found.is_empty()).await.len(), control.len());
    cluster.stop().await;
}
