//! Resuming and reverting an import of a region: what a page asks before, and what becomes of it.

use std::sync::Arc;

use causeway_harness::{
    cluster::{Act, Cluster, ImportOptions, Service, Silo, Store},
    pki::Pki,
};
use causeway_proto::{
    control::v1::SuspendRegionRequest,
    region::v1::{ImportState, PauseImportsRequest},
    relocation::v1::{AuditEntry, ListAuditEntriesRequest},
};
use causeway_silo::{db::Statement, env::Environment};
use causeway_tls::Role;
use chrono::TimeDelta;
use uuid::Uuid;

use crate::{
    http::{Answer, Visitor},
    support::{before, example, started, token},
};

/// The form of a page that asks.
pub(crate) fn form(page: &Answer) -> String {
    let (_, rest) = page.body.split_once("name=\"instruction\" value=\"").expect("an id");
    let id = rest.split_once('"').expect("its end").0;
    format!("token={}&instruction={id}", token(&page.body))
}

/// What the audit log of control has about an import by the console.
async fn entries(cluster: &Cluster, id: &str) -> Vec<AuditEntry> {
    let filter = ListAuditEntriesRequest { object: format!("import/{id}"), ..Default::default() };
    let answer = cluster.control().audit().list_audit_entries(filter).await.expect("listed");
    answer.into_inner().entries.into_iter().filter(|it| it.call.starts_with("console/")).collect()
}

/// An import that is held and paused, as control has heard.
pub(crate) async fn paused(cluster: &Cluster, visitor: &Visitor) -> String {
    cluster.failpoints().arm("region.slugs.answered", Act::Hold, 0);
    let begun = cluster.region(0).begin(&example(), &ImportOptions::default()).await.expect("it begins");
    let id = begun.import.unwrap_or_default().import_id;
    cluster.failpoints().held().await;
    let request = PauseImportsRequest { import_id: id.clone(), all: false };
    cluster.region(0).imports().pause_imports(request).await.expect("paused");
    cluster.failpoints().release();
    visitor.until(&format!("/imports/us/{id}"), "has been paused").await;
    id
}

pub(crate) async fn an_import_is_resumed_and_reverted_after_a_question(store: Store) {
    let (cluster, visitor) = started(store).await;
    let id = paused(&cluster, &visitor).await;
    let page = format!("/imports/us/{id}");
    let (resume, revert) = (format!("{page}/resume"), format!("{page}/revert"));
    visitor.get(&page).await.says(200, &[&resume, &revert, "Resume…", "Revert…", "End the pause"]);
    let list = visitor.get("/imports").await;
    list.says(200, &[">paused<"]);
    list.lacks(&[">waits<"]);
    let asked = visitor.get(&resume).await;
    let command = format!("causeway imports resume {id} --region {}", cluster.region(0).url());
    asked
        .says(200, &["Resume an import?", "What will happen", "The pause ends", "has been paused", &command]);
    // A pause holds a revert as well.
    visitor.get(&revert).await.says(200, &["the revert begins paused", "of which nothing is visible"]);
    // A question changes nothing, and neither does a link.
    visitor.get(&format!("{resume}?{}", form(&asked))).await.says(200, &["Resume an import?"]);
    visitor.get(&page).await.lacks(&["Waits for the region", "Resumed"]);
    let done = visitor.post(&resume, &form(&asked)).await;
    assert_eq!((done.status, done.headers["location"].as_str()), (303, page.as_str()), "{}", done.body);
    visitor.until(&page, "Resumed").await.says(200, &["by region us", "somebody asked for it"]);
    assert_eq!(cluster.region(0).wait(&id).await.expect("it ends").state(), ImportState::Succeeded);
    visitor.until(&page, "succeeded").await.lacks(&[&format!("\"{resume}\"")]);
    visitor.get(&resume).await.says(200, &["there is nothing to resume"]);
    // The same form again is the same instruction: it asks for nothing.
    let again = visitor.post(&resume, &form(&asked)).await;
    assert_eq!(again.status, 303);
    let slug = cluster.region(0).visible_organizations().await.expect("listed")[0].slug.clone();
    let asked = visitor.until(&revert, &slug).await;
    asked.says(
        200,
        &["Revert an import?", "cannot be undone", "disappear", "are released", "rows that it has"],
    );
    let done = visitor.post(&revert, &form(&asked)).await;
    assert_eq!(done.status, 303, "{}", done.body);
    // Nothing is left of it, so there is nothing to do, and no advice about what is gone.
    let gone = visitor.until(&page, "It is gone").await;
    gone.says(
        200,
        &[
            ", as somebody asked",
            "rows were deleted",
            "Organizations it had",
            "models whose rows were deleted",
        ],
    );
    gone.lacks(&["What can be done", "causeway imports", "slug changed", "note good"]);
    visitor.get(&revert).await.says(200, &["It is reverted"]);
    let recorded = entries(&cluster, &id).await;
    let calls: Vec<_> = recorded.iter().map(|it| (it.call.as_str(), it.outcome.as_str())).collect();
    assert_eq!(calls, [("console/revert-import", "OK"), ("console/resume-import", "OK")]);
    cluster.stop().await;
}

pub(crate) async fn what_became_of_an_instruction_is_reported(store: Store) {
    let (cluster, visitor) = started(store).await;
    let import = cluster.region(0).import(&example(), &ImportOptions::default()).await.expect("it ends");
    let id = import.import_id;
    let page = format!("/imports/us/{id}");
    visitor.until(&page, "succeeded").await;
    let revert = format!("{page}/revert");
    let asked = visitor.get(&revert).await;
    cluster.kill(Service::Region(0)).await;
    assert_eq!(visitor.post(&revert, &form(&asked)).await.status, 303);
    visitor.get(&page).await.says(200, &["Waits for the region", "somebody asked to revert this import"]);
    // What waits already is not asked again.
    let waiting = visitor.get(&revert).await;
    waiting.says(200, &["Waits for the region"]);
    waiting.lacks(&["<form"]);
    let of = |change: &str| Statement::new("UPDATE causeway_instruction SET ").push(change);
    let expired = of("asked_at = ").arg(before(TimeDelta::minutes(10)));
    cluster.change(Silo::Control, &[expired]).await.expect("changed");
    visitor.get(&page).await.says(200, &["No answer", "within 10 min", "ask again"]);
    let asked_again = visitor.get(&revert).await;
    asked_again.says(200, &["<form"]);
    let refused =
        of("answered_at = asked_at, refused_reason = 'IMPORT_IS_DRY_RUN', refused_message = '<b>`x`'");
    cluster.change(Silo::Control, &[refused]).await.expect("changed");
    let refused = visitor.get(&page).await;
    refused.says(200, &["Refused", "IMPORT_IS_DRY_RUN", "&lt;b&gt;<code>x</code>"]);
    // As many wait as may.
    for number in 0..20 {
        let statement = Statement::new(
            "INSERT INTO causeway_instruction (instruction_id, region, import_id, kind, asked_by, asked_at) \
             VALUES ($1, 'us', $1, 'revert', '', $2)",
        );
        let statement = statement.with(Uuid::from_u128(number)).with(before(TimeDelta::seconds(1)));
        cluster.change(Silo::Control, &[statement]).await.expect("changed");
    }
    let full = visitor.post(&revert, &form(&asked_again)).await;
    full.says(409, &["Too many instructions wait for region us"]);
    let suspend = SuspendRegionRequest { name: "us".to_owned(), ..Default::default() };
    cluster.control().regions().suspend_region(suspend).await.expect("suspended");
    let suspended = visitor.get(&revert).await;
    suspended.says(200, &["Region us is suspended"]);
    suspended.lacks(&["<form"]);
    visitor.post(&revert, &form(&asked_again)).await.says(409, &["suspended"]);
    cluster.stop().await;
}

pub(crate) async fn an_instruction_without_its_token_or_about_nothing_is_refused(store: Store) {
    let (cluster, visitor) = started(store).await;
    let import = cluster.region(0).import(&example(), &ImportOptions::default()).await.expect("it ends");
    let id = import.import_id;
    let page = format!("/imports/us/{id}");
    visitor.until(&page, "succeeded").await;
    let revert = format!("{page}/revert");
    let asked = visitor.get(&revert).await;
    let (own, of_other) = (form(&asked), form(&visitor.get(&revert).await));
    let part = |form: &str, index: usize| form.split('&').nth(index).unwrap_or_default().to_owned();
    for body in [
        String::new(),
        part(&own, 0),
        part(&own, 1),
        format!("{}&instruction=x", part(&own, 0)),
        // The token of one page with the id of another.
        format!("{}&{}", part(&own, 0), part(&of_other, 1)),
        format!("token={}&{}", "A".repeat(40), part(&own, 1)),
    ] {
        visitor.post(&revert, &body).await.says(403, &["Nothing was done"]);
    }
    // The token is for a revert.
    visitor.post(&format!("{page}/resume"), &own).await.says(403, &["Nothing was done"]);
    for header in ["Origin: http://evil.example", "Sec-Fetch-Site: cross-site"] {
        visitor.request("POST", &revert, &[header], &own).await.says(403, &["Another site has asked"]);
    }
    let unknown = Uuid::from_u128(7);
    for (path, status) in [
        ("/imports/us/x/revert".to_owned(), 400),
        (format!("/imports/us/{unknown}/revert"), 404),
        (format!("/imports/fr/{id}/revert"), 404),
        (format!("{page}/delete"), 404),
        (format!("{page}/%00"), 400),
    ] {
        visitor.get(&path).await.says(status, &[]);
        assert!((400..500).contains(&visitor.post(&path, &own).await.status), "{path}");
    }
    visitor.until(&format!("/audit?object=import/{id}"), "revert-import").await;
    let recorded = entries(&cluster, &id).await;
    assert!(recorded.iter().all(|it| it.outcome == "PERMISSION_DENIED"), "{recorded:?}");
    let count = Statement::new("SELECT count(*) AS count FROM causeway_instruction");
    let db = cluster.db(Silo::Control).await.expect("a database");
    let row = db.fetch_optional(count).await.expect("it answers").expect("a row");
    db.close().await;
    assert_eq!(row.int("count").expect("a number"), 0, "something waits");
    assert_eq!(visitor.post(&revert, &own).await.status, 303, "the right form still does it");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_operator_has_an_import_reverted_and_both_audit_logs_have_who() {
    let pki = Arc::new(Pki::new(Environment::system()).expect("a CA"));
    let built = Cluster::builder(Store::Sqlite).region("us").tls(&pki).console().start().await;
    let cluster = built.expect("it starts");
    let visitor = |role, name: &str| {
        let tls = pki.client(Some(pki.pair(role, name).expect("issued"))).expect("it can be used");
        Visitor::new(&cluster.console_url().expect("it has a console"), Some(tls))
    };
    let (ann, bob) = (visitor(Role::Operator, "ann"), visitor(Role::Operator, "bob"));
    ann.until("/regions", "alive").await;
    let import = cluster.region(0).import(&example(), &ImportOptions::default()).await.expect("it ends");
    let page = format!("/imports/us/{}", import.import_id);
    ann.until(&page, "succeeded").await;
    let revert = format!("{page}/revert");
    let asked = ann.get(&revert).await;
    for role in Role::ALL.into_iter().filter(|role| *role != Role::Operator) {
        let other = visitor(role, "us");
        let refused = other.get(&revert).await;
        refused.says(403, &["The console is for operators"]);
        refused.lacks(&["token", "<form"]);
        // Not even with the form of somebody who may.
        other.post(&revert, &form(&asked)).await.says(403, &["for operators"]);
    }
    bob.post(&revert, &form(&asked)).await.says(403, &["Nothing was done"]);
    ann.get(&page).await.lacks(&["Waits for the region", "Revert begun"]);
    assert_eq!(ann.post(&revert, &form(&asked)).await.status, 303);
    let who = "spiffe://test.example/operator/ann";
    ann.until(&page, "It is gone").await.says(200, &[&format!("as {who} asked")]);
    let at_control = entries(&cluster, &import.import_id).await;
    let done: Vec<_> = at_control.iter().filter(|it| it.outcome == "OK").collect();
    assert_eq!((done.len(), done[0].who.as_str()), (1, who));
    let filter =
        ListAuditEntriesRequest { object: format!("import/{}", import.import_id), ..Default::default() };
    let in_region = cluster.region(0).audit().list_audit_entries(filter).await.expect("listed").into_inner();
    let through_control: Vec<_> =
        in_region.entries.iter().filter(|it| it.call == "control/revert-import").collect();
    assert_eq!((through_control.len(), through_control[0].who.as_str()), (1, who));
    cluster.stop().await;
}
