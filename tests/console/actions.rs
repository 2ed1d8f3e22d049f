//! The actions: what a page asks before them, and what they do.

use causeway_harness::cluster::{Cluster, ImportOptions, Service, Store};
use causeway_proto::{
    control::v1::{
        GetSlugRenameRequest, RenameState, ResumeRegionRequest, SuspendRegionRequest,
        UpdateOrganizationSlugRequest,
    },
    relocation::v1::{AuditEntry, ListAuditEntriesRequest},
};
use uuid::Uuid;

use crate::support::{age, example, operation, reserved_long_ago, started, token, visitor};

/// What the audit log of control has about an operation by the console, as call, outcome and caller.
pub(crate) async fn entries(cluster: &Cluster, number: u128) -> Vec<AuditEntry> {
    let request = ListAuditEntriesRequest {
        object: format!("operation/{}", operation(number)),
        ..ListAuditEntriesRequest::default()
    };
    let answer = cluster.control().audit().list_audit_entries(request).await.expect("listed");
    answer.into_inner().entries.into_iter().filter(|entry| entry.call.starts_with("console/")).collect()
}

pub(crate) async fn a_stuck_reservation_is_released_after_a_question(store: Store) {
    let (cluster, visitor) = started(store).await;
    reserved_long_ago(&cluster, 1, 77, "wanted-by-many").await;
    let path = format!("/stuck/us/{}/release", operation(1));
    visitor.get("/stuck").await.says(200, &["wanted-by-many", &operation(1), "20 min ago", &path]);
    visitor.get("/").await.says(200, &["stuck operation<", "tile alert"]);
    let page = visitor.get(&path).await;
    let command = format!("causeway slugs release-operation {}", operation(1));
    page.says(200, &["Release reserved slugs?", "What will happen", "cannot be undone", &command]);
    // A question changes nothing.
    visitor.get("/stuck").await.says(200, &["wanted-by-many"]);
    let done = visitor.post(&path, &format!("token={}", token(&page.body))).await;
    assert_eq!((done.status, done.headers["location"].as_str()), (303, path.as_str()));
    let after = visitor.get(&done.headers["location"]).await;
    after.says(200, &["<h1>Released</h1>", "This operation is released: 1 slug was freed"]);
    after.lacks(&["<form"]);
    visitor.get("/stuck").await.says(200, &["Nothing is stuck"]);
    // Only the database says what was released.
    visitor.get("/stuck?released=5").await.lacks(&["Released", "role=\"status\""]);
    let entries = entries(&cluster, 1).await;
    let recorded: Vec<_> = entries.iter().map(|it| (it.call.as_str(), it.outcome.as_str())).collect();
    assert_eq!(recorded, [("console/release-operation", "OK")]);
    assert_eq!(entries[0].address, "127.0.0.1");
    // What is confirmed is the slug of an organization, and no action takes it away.
    reserved_long_ago(&cluster, 2, 78, "in-use").await;
    let of_confirmed = format!("/stuck/us/{}/release", operation(2));
    let asked = visitor.get(&of_confirmed).await;
    cluster.control().confirm("us", &operation(2)).await.expect("confirmed");
    visitor.post(&of_confirmed, &format!("token={}", token(&asked.body))).await.says(409, &[]);
    let over = visitor.get(&of_confirmed).await;
    over.says(200, &["nothing to release"]);
    over.lacks(&["<form"]);
    visitor.get("/slugs?q=in-use").await.says(200, &["/organizations/78"]);
    // Once more is the same.
    let again = visitor.post(&path, &format!("token={}", token(&page.body))).await;
    assert_eq!(again.status, 303);
    cluster.stop().await;
}

pub(crate) async fn a_rename_that_hangs_is_given_up_after_a_question(store: Store) {
    let (cluster, visitor) = started(store).await;
    let import = cluster.region(0).import(&example(), &ImportOptions::default()).await.expect("it ends");
    let organization = &import.organizations[0];
    cluster.kill(Service::Region(0)).await;
    let rename = UpdateOrganizationSlugRequest {
        operation_id: operation(5),
        organization_id: organization.id,
        desired_slug: "never".to_owned(),
        wait: Some(prost_types::Duration::default()),
        ..Default::default()
    };
    cluster.control().reservations().update_organization_slug(rename).await.expect("begun");
    for table in ["causeway_organization_slug_reservation", "causeway_slug_rename"] {
        age(&cluster, table, Uuid::from_u128(5)).await;
    }
    let path = format!("/stuck/us/{}/release", operation(5));
    visitor.get("/stuck").await.says(200, &["rename of organization", "never", &path]);
    let owner = format!("/organizations/{}", organization.id);
    visitor.get(&owner).await.says(200, &["waits for its region", &path]);
    let page = visitor.get(&path).await;
    page.says(200, &["Give up a rename?", &organization.slug, "never", "The organization keeps"]);
    let done = visitor.post(&path, &format!("token={}", token(&page.body))).await;
    assert_eq!(done.status, 303, "{}", done.body);
    let request = GetSlugRenameRequest { operation_id: operation(5) };
    let rename = cluster.control().reservations().get_slug_rename(request).await.expect("read").into_inner();
    assert_eq!(rename.state(), RenameState::Refused);
    visitor
        .get(&path)
        .await
        .says(200, &["<h1>Given up</h1>", "This rename was given up: rename", "was released before"]);
    let owner = visitor.get(&owner).await;
    owner.lacks(&[&path, ">refused<"]);
    owner.says(200, &[">given up<"]);
    cluster.stop().await;
}

pub(crate) async fn a_suspended_region_is_to_be_resumed_before_a_release(store: Store) {
    let (cluster, visitor) = started(store).await;
    reserved_long_ago(&cluster, 1, 77, "wanted-by-many").await;
    let path = format!("/stuck/us/{}/release", operation(1));
    let asked = visitor.get(&path).await;
    let regions = cluster.control().regions();
    let request = SuspendRegionRequest { name: "us".to_owned(), text: "stolen key".to_owned() };
    regions.clone().suspend_region(request).await.expect("suspended");
    let page = visitor.get(&path).await;
    page.says(200, &["Region us is suspended", "causeway regions resume us --control http://"]);
    page.lacks(&["<form", "token"]);
    visitor.post(&path, &format!("token={}", token(&asked.body))).await.says(409, &["suspended"]);
    let request = ResumeRegionRequest { name: "us".to_owned() };
    regions.clone().resume_region(request).await.expect("resumed");
    visitor.get(&path).await.says(200, &["What will happen"]);
    cluster.stop().await;
}

pub(crate) async fn a_rename_is_not_shown_for_an_operation_of_another_region(store: Store) {
    let started = Cluster::builder(store).region("us").region("de").console().start().await;
    let cluster = started.expect("a cluster");
    let visitor = visitor(&cluster);
    let import = cluster.region(0).import(&example(), &ImportOptions::default()).await.expect("it ends");
    cluster.kill(Service::Region(0)).await;
    // The id of a rename is chosen by its caller, and that of an operation by its region.
    cluster.control().reserve("de", &operation(5), 9_000_001, "of-de").await.expect("reserved");
    let rename = UpdateOrganizationSlugRequest {
        operation_id: operation(5),
        organization_id: import.organizations[0].id,
        desired_slug: "never".to_owned(),
        wait: Some(prost_types::Duration::default()),
        ..Default::default()
    };
    cluster.control().reservations().update_organization_slug(rename).await.expect("begun");
    let of = |region: &str| format!("/stuck/{region}/{}/release", operation(5));
    visitor.get(&of("us")).await.says(200, &["Give up a rename?", "never"]);
    let of_de = visitor.get(&of("de")).await;
    of_de.says(200, &["Release reserved slugs?", "that region de has reserved"]);
    of_de.lacks(&["never", "rename"]);
    cluster.stop().await;
}

pub(crate) async fn an_action_without_its_token_does_nothing_and_is_recorded(store: Store) {
    let (cluster, visitor) = started(store).await;
    reserved_long_ago(&cluster, 1, 77, "wanted-by-many").await;
    reserved_long_ago(&cluster, 2, 78, "wanted-too").await;
    let path = |number| format!("/stuck/us/{}/release", operation(number));
    let of_other = token(&visitor.get(&path(2)).await.body);
    let own = token(&visitor.get(&path(1)).await.body);
    let mut changed = own.clone();
    changed.replace_range(..1, if own.starts_with('A') { "B" } else { "A" });
    let with = |token: &str| format!("token={token}");
    for body in [String::new(), with(""), with("x"), with(&of_other), with(&changed), "x=1".to_owned()] {
        visitor.post(&path(1), &body).await.says(403, &["Nothing was done"]);
    }
    // A page of another site, which has the token for some reason.
    for header in ["Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Origin: null"] {
        let answer = visitor.request("POST", &path(1), &[header], &with(&own)).await;
        answer.says(403, &["Another site has asked"]);
    }
    // A link is no action.
    visitor.get(&format!("{}?token={own}", path(1))).await.says(200, &["What will happen"]);
    visitor.get("/stuck").await.says(200, &["wanted-by-many", "wanted-too"]);
    visitor.until(&format!("/audit?object=operation/{}", operation(1)), "release-operation").await;
    let failed = entries(&cluster, 1).await;
    // Nobody lacked a role here.
    assert!(failed.iter().all(|it| it.outcome == "PERMISSION_DENIED" && it.reason.is_empty()), "{failed:?}");
    // Neither is there one about what does not exist.
    visitor.post("/stuck/us/x/release", &with(&own)).await.says(400, &["UUID"]);
    let absent = operation(3);
    visitor.get(&format!("/stuck/us/{absent}/release")).await.says(404, &[]);
    visitor.get(&format!("/stuck/fr/{}/release", operation(1))).await.says(404, &["fr"]);
    let done = visitor.post(&path(1), &with(&own)).await;
    assert_eq!(done.status, 303, "the right token still does it: {}", done.body);
    cluster.stop().await;
}
