//! What the pages say.

use std::time::{Duration, Instant};

use causeway_harness::{
    cluster::{Act, Cluster, ImportOptions, Service, Silo, Store},
    export,
};
use causeway_proto::{
    control::v1::{SuspendRegionRequest, UpdateOrganizationSlugRequest},
    region::v1::{
        ApproveOrganizationsRequest, ImportState, ReconcileMode, RevertImportRequest, SetThrottleRequest,
        ThrottleKind,
    },
};
use causeway_silo::db::{Dialect, Statement};
use chrono::TimeDelta;

use crate::{
    instructions::paused,
    support::{before, example, operation, started, visitor},
};

const PAGES: [&str; 7] = ["/", "/regions", "/imports", "/slugs", "/stuck", "/differences", "/audit"];

/// Checks that each field of a page, unless it is hidden, is within a label with words. Returns how many there are.
fn labels(path: &str, body: &str) -> usize {
    let mut count = 0;
    for (at, _) in body.match_indices("<input").chain(body.match_indices("<select")) {
        let (before, from) = body.split_at(at);
        let tag = from.split('>').next().unwrap_or_default();
        if tag.contains("type=\"hidden\"") {
            continue;
        }
        count += 1;
        let (_, label) = before.rsplit_once("<label").unwrap_or_else(|| panic!("{path}: no label: {tag}"));
        let words = label.split_once('>').map_or("", |(_, words)| words.trim());
        assert!(!label.contains("</label>") && !words.is_empty(), "{path}: no label: {tag}");
    }
    count
}

/// Checks that each command in a page can be pasted: it says where it goes.
fn commands_go_somewhere(path: &str, body: &str) -> usize {
    let commands: Vec<&str> = body
        .split("<code")
        .skip(1)
        .filter_map(|rest| rest.split_once('>')?.1.split_once("</code>").map(|(text, _)| text))
        .filter(|text| text.starts_with("causeway "))
        .collect();
    for command in &commands {
        assert!(command.contains(" --region ") || command.contains(" --control "), "{path}: {command}");
    }
    commands.len()
}

pub(crate) async fn every_command_in_a_page_can_be_pasted(store: Store) {
    let (cluster, visitor) = started(store).await;
    let id = paused(&cluster, &visitor).await;
    let control = cluster.control();
    control.reserve("us", &operation(1), 9_000_001, "elsewhere").await.expect("reserved");
    control.confirm("us", &operation(1)).await.expect("confirmed");
    cluster.region(0).reconcile(ReconcileMode::Check).await.expect("compared");
    visitor.until("/differences", " left").await;
    let (page, url) = (format!("/imports/us/{id}"), cluster.region(0).url().to_owned());
    let resume = format!("<code>causeway imports resume {id} --region {url}</code>");
    visitor.get(&page).await.says(200, &[&resume]);
    let repair = format!("<code>causeway reconcile --repair --region {url}</code>");
    visitor.get("/differences").await.says(200, &[&repair]);
    let (resuming, reverting) = (format!("{page}/resume"), format!("{page}/revert"));
    let absent = format!("/imports/us/{}", operation(7));
    let mut commands = 0;
    for path in
        PAGES.into_iter().chain([page.as_str(), &resuming, &reverting, "/organizations/9000001", &absent])
    {
        commands += commands_go_somewhere(path, &visitor.get(path).await.body);
    }
    assert!(commands >= 10, "{commands}");
    // What a page says that there is nothing, too.
    visitor.get(&absent).await.says(404, &[&format!("causeway imports show {} --region URL", operation(7))]);
    cluster.stop().await;
}

pub(crate) async fn what_holds_an_import_back_is_shown(store: Store) {
    let (cluster, visitor) = started(store).await;
    let slow = SetThrottleRequest { max_rows_per_second: Some(1), ..SetThrottleRequest::default() };
    cluster.region(0).throttle().set_throttle(slow).await.expect("set");
    let begun = cluster.region(0).begin(&example(), &ImportOptions::default()).await.expect("it is taken");
    let id = begun.import.unwrap_or_default().import_id;
    let path = format!("/imports/us/{id}");
    visitor.until(&path, "held back to 1 rows/s").await;
    visitor.get("/imports").await.says(200, &["held back to 1 rows/s"]);
    let free =
        SetThrottleRequest { unlimited: vec![ThrottleKind::Rows.into()], ..SetThrottleRequest::default() };
    cluster.region(0).throttle().set_throttle(free).await.expect("set");
    assert_eq!(cluster.region(0).wait(&id).await.expect("it ends").state(), ImportState::Succeeded);
    visitor.until(&path, "succeeded").await.lacks(&["held back"]);
    cluster.stop().await;
}

pub(crate) async fn every_page_has_its_headers_and_nothing_of_elsewhere(store: Store) {
    let (cluster, visitor) = started(store).await;
    let import = cluster.region(0).import(&example(), &ImportOptions::default()).await.expect("it ends");
    let of_import = format!("/imports/us/{}", import.import_id);
    visitor.until(&of_import, "succeeded").await;
    let of_organization = format!("/organizations/{}", import.organizations[0].id);
    let mut labelled = 0;
    for path in PAGES.into_iter().chain([of_import.as_str(), of_organization.as_str()]) {
        let page = visitor.get(path).await;
        page.says(
            200,
            &["<!DOCTYPE html>", "<html lang=\"en\">", "<title>", "<h1>", "href=\"#main\"", "<main"],
        );
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "same-origin"),
        ] {
            assert_eq!(page.headers.get(name).map(String::as_str), Some(value), "{path}: {name}");
        }
        let policy = &page.headers["content-security-policy"];
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        // Nothing inline, and nothing from elsewhere.
        page.lacks(&["<script>", "<style", " style=", " onclick=", " onload=", "src=\"http", "href=\"http"]);
        for header in page.body.split("<th").skip(1).filter(|rest| !rest.starts_with("ead")) {
            let tag = header.split('>').next().unwrap_or_default();
            assert!(tag.contains("scope=\"col\"") || tag.contains("scope=\"row\""), "{path}: <th{tag}>");
        }
        labelled += labels(path, &page.body);
        let main = visitor.request("GET", path, &["x-causeway-part: main"], "").await;
        assert_eq!(main.status, 200);
        let is_live = page.body.contains("data-live");
        assert_eq!(is_live, !main.body.contains("<html"), "{path}: the script gets the main part only");
    }
    // The forms of imports, slugs and audit have at least one each.
    assert!(labelled >= 4, "{labelled}");
    for (path, kind) in [
        ("/assets/console.css", "text/css; charset=utf-8"),
        ("/assets/console.js", "text/javascript; charset=utf-8"),
        ("/favicon.svg", "image/svg+xml"),
    ] {
        let file = visitor.get(path).await;
        assert_eq!((file.status, file.headers["content-type"].as_str()), (200, kind));
    }
    cluster.stop().await;
}

pub(crate) async fn an_import_is_shown_while_it_runs_and_when_it_has_ended(store: Store) {
    let (cluster, visitor) = started(store).await;
    cluster.failpoints().arm("region.models.written", Act::Hold, 0);
    let begun = cluster.region(0).begin(&example(), &ImportOptions::default()).await.expect("it is taken");
    let id = begun.import.unwrap_or_default().import_id;
    cluster.failpoints().held().await;
    let path = format!("/imports/us/{id}");
    let page = visitor.until(&path, "writing").await;
    page.says(200, &["What can be done", "causeway imports show", "causeway imports revert"]);
    page.says(200, &[&format!("causeway imports pause {id} --region")]);
    page.lacks(&["causeway imports resume"]);
    let page = visitor.until(&path, "records").await;
    page.says(200, &["<progress", "Records by model", "sentry.organization"]);
    visitor.get("/imports?state=IN_PROGRESS").await.says(200, &[&path, "writing"]);
    visitor.get("/").await.says(200, &[&path, "<span>import in progress<"]);
    cluster.failpoints().release();
    assert_eq!(cluster.region(0).wait(&id).await.expect("it ends").state(), ImportState::Succeeded);
    let page = visitor.until(&path, "succeeded").await;
    page.says(200, &["Inserted", "Findings by kind", "The first findings, the most serious first"]);
    page.lacks(&["<progress", "causeway imports pause"]);
    // What to do comes before what was found, and what is as in the file is folded.
    let place = |text: &str| page.body.find(text).unwrap_or_else(|| panic!("{text}: {}", page.body));
    assert!(place("What can be done") < place("Findings by kind"));
    assert!(place("sentry.organization<") < place("<details>") && place("<details>") < place("sentry.team<"));
    page.says(200, &["models as in the file"]);
    visitor.get("/imports?state=IN_PROGRESS").await.lacks(&[&path]);
    visitor.get("/imports?region=us&state=SUCCEEDED").await.says(200, &[&path]);
    visitor.get("/imports?state=FAILED_DRY_RUN").await.says(200, &["No region has reported such an import"]);
    visitor.get("/imports?region=de").await.lacks(&[&path]);
    let unknown = visitor.get("/imports?state=FOO").await;
    unknown.says(
        200,
        &["in the state “FOO”, and this release knows no such state", "<option value=\"FOO\" selected"],
    );
    unknown.lacks(&[&path]);
    let options = ImportOptions { dry_run: true, ..Default::default() };
    let dry = cluster.region(0).import(&example(), &options).await.expect("it ends");
    let page = visitor.until(&format!("/imports/us/{}", dry.import_id), "Nothing was written").await;
    page.says(200, &["Would be inserted", "Would be imported"]);
    page.lacks(&[">Inserted<"]);
    cluster.stop().await;
}

pub(crate) async fn a_failed_import_is_shown_with_why_and_what_to_do(store: Store) {
    let (cluster, visitor) = started(store).await;
    let import = cluster.region(0).import(b"{\"no\": \"export\"}", &ImportOptions::default()).await;
    let import = import.expect("it ends");
    assert_eq!(import.state(), ImportState::Failed);
    let path = format!("/imports/us/{}", import.import_id);
    let page = visitor.until(&path, "It failed").await;
    let address = cluster.region(0).url().to_owned();
    let revert = format!("causeway imports revert {} --region {address}", import.import_id);
    let again = format!("causeway import organizations FILE --region {address}");
    page.says(200, &["EXPORT_INVALID", &revert, "error", &again]);
    visitor.get("/").await.says(200, &["<span>failed import</span>"]);
    page.lacks(&["causeway imports resume"]);
    // One that can go on when the cause is gone.
    cluster.refuse_rows(Silo::Region(0), "sentry_team", true).await.expect("changed");
    let import = cluster.region(0).import(&example(), &ImportOptions::default()).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Failed);
    let path = format!("/imports/us/{}", import.import_id);
    let resume = format!("causeway imports resume {} --region {address}", import.import_id);
    let page = visitor.until(&path, "It failed").await;
    page.says(200, &[&resume, "--all --findings"]);
    page.lacks(&["FILE"]);
    visitor.get("/").await.says(200, &["failed imports", "tile alert"]);
    cluster.stop().await;
}

pub(crate) async fn a_hidden_organization_has_the_command_that_shows_it(store: Store) {
    let (cluster, visitor) = started(store).await;
    let options = ImportOptions::default().hide_organizations();
    let import = cluster.region(0).import(&example(), &options).await.expect("it ends");
    let id = import.organizations[0].id;
    let path = format!("/organizations/{id}");
    let approve = format!("causeway organizations approve {id} --region {}", cluster.region(0).url());
    visitor.until(&path, &approve).await.says(200, &["hidden"]);
    let request = ApproveOrganizationsRequest { organization_ids: vec![id], ..Default::default() };
    cluster.region(0).organizations().approve_organizations(request).await.expect("it is shown");
    visitor.until(&path, "active").await.lacks(&["organizations approve"]);
    cluster.stop().await;
}

pub(crate) async fn a_slug_is_found_with_its_owner_and_its_history(store: Store) {
    let (cluster, visitor) = started(store).await;
    let import = cluster.region(0).import(&example(), &ImportOptions::default()).await.expect("it ends");
    let organization = &import.organizations[0];
    let (id, slug) = (organization.id, organization.slug.clone());
    let owner = format!("/organizations/{id}");
    visitor.get(&format!("/slugs?q={}", &slug[..3])).await.says(200, &[&slug, &owner, "us"]);
    // Where the slug comes from.
    let link = format!("href=\"/imports/us/{}\"", import.import_id);
    visitor.until(&owner, &link).await.says(200, &["Where its slugs come from", "as wanted"]);
    // Another organization wants the same one, and gets another.
    let second = cluster.region(0).import(&example(), &ImportOptions::default()).await.expect("it ends");
    let other = &second.organizations[0];
    assert_ne!(other.slug, slug);
    let link = format!("href=\"/imports/us/{}\"", second.import_id);
    let page = visitor.until(&format!("/organizations/{}", other.id), &link).await;
    let why = format!("<strong>{slug}</strong> is taken by organization <a href=\"{owner}\">{id}</a> of us");
    page.says(200, &[&other.slug, &other.wanted_slug, &why]);
    let rename = UpdateOrganizationSlugRequest {
        operation_id: operation(9),
        organization_id: id,
        desired_slug: "renamed-once".to_owned(),
        keep_alias: true,
        ..Default::default()
    };
    cluster.control().reservations().update_organization_slug(rename).await.expect("renamed");
    let page = visitor.until(&owner, "alias").await;
    page.says(
        200,
        &["<h1>renamed-once</h1>", &slug, "Its renames", "UpdateOrganizationSlug", "causeway slugs rename"],
    );
    // The old slug leads to it as well, and so does its id.
    visitor.get(&format!("/slugs?q={slug}")).await.says(200, &["alias", &owner]);
    let by_id = visitor.get(&format!("/slugs?q={id}")).await;
    assert_eq!((by_id.status, by_id.headers["location"].as_str()), (303, owner.as_str()));
    // Digits are the beginning of a slug, unless an organization has this id.
    cluster.control().reserve("us", &operation(8), 77, "2024-party").await.expect("reserved");
    visitor.get("/slugs?q=2024").await.says(200, &["2024-party", "/organizations/77"]);
    visitor.get("/slugs?q=999999").await.says(200, &["No slug begins with"]);
    visitor.get("/slugs?q=Welcome").await.says(200, &["“Welcome” is a reserved word"]);
    visitor.get("/slugs?q=welcomed").await.lacks(&["is a reserved word:"]);
    visitor.get("/audit").await.says(200, &["UpdateOrganizationSlug"]);
    visitor.get(&format!("/audit?object=organization/{id}")).await.says(200, &["UpdateOrganizationSlug"]);
    // Once it is deleted, control still knows of its rename.
    page.says(200, &["NEW-SLUG --exact --keep-alias --control http"]);
    let revert = RevertImportRequest { import_id: import.import_id.clone() };
    cluster.region(0).imports().revert_import(revert).await.expect("begun");
    cluster.region(0).wait(&import.import_id).await.expect("it ends");
    let gone = visitor.until(&owner, "It is gone").await;
    gone.says(200, &["Its renames"]);
    gone.lacks(&["causeway slugs rename", "not reported by its region", ">none<"]);
    cluster.stop().await;
}

pub(crate) async fn a_silent_region_is_shown_and_what_is_old_is_marked(store: Store) {
    let (cluster, visitor) = started(store).await;
    cluster.failpoints().arm("region.models.written", Act::Hold, 0);
    let bytes = export::large(2).to_bytes();
    let begun = cluster.region(0).begin(&bytes, &ImportOptions::default()).await.expect("it is taken");
    let id = begun.import.unwrap_or_default().import_id;
    cluster.failpoints().held().await;
    let path = format!("/imports/us/{id}");
    visitor.until(&path, "writing").await.lacks(&["is silent", ">old<"]);
    visitor.get("/regions").await.says(200, &["alive"]);
    cluster.kill(Service::Region(0)).await;
    let long_ago = before(TimeDelta::minutes(3));
    let silent = [("causeway_region", "last_contact_at"), ("causeway_region_report", "reported_at")].map(
        |(table, column)| {
            Statement::new("UPDATE ").push(table).push(" SET ").push(column).push(" = ").arg(long_ago)
        },
    );
    cluster.change(Silo::Control, &silent).await.expect("changed");
    visitor.get("/regions").await.says(200, &["silent", "3 min"]);
    visitor.get("/").await.says(200, &["Regions that need attention", "silent"]);
    visitor.get(&path).await.says(200, &["Region us is silent", ">old<", "writing"]);
    visitor.get("/imports").await.says(200, &[">old<"]);
    cluster.stop().await;
}

pub(crate) async fn what_is_stuck_is_named_with_its_import_and_its_silent_region(store: Store) {
    let (cluster, visitor) = started(store).await;
    cluster.failpoints().arm("region.slugs.answered", Act::Hold, 0);
    let begun = cluster.region(0).begin(&example(), &ImportOptions::default()).await.expect("it is taken");
    let id = begun.import.unwrap_or_default().import_id;
    cluster.failpoints().held().await;
    let path = format!("/imports/us/{id}");
    visitor.until(&path, "resolving slugs").await;
    cluster.kill(Service::Region(0)).await;
    let (old, silent) = (before(TimeDelta::minutes(20)), before(TimeDelta::minutes(3)));
    let reserved = Statement::new("UPDATE causeway_organization_slug_reservation SET created_at = ").arg(old);
    let heard = Statement::new("UPDATE causeway_region SET last_contact_at = ").arg(silent);
    cluster.change(Silo::Control, &[reserved, heard]).await.expect("changed");
    let stuck = visitor.get("/stuck").await;
    let told = ["more than 10 min ago", &path, "Region us is silent", "goes on by itself when it is back"];
    stuck.says(200, &told);
    let (_, rest) = stuck.body.split_once("href=\"/stuck/").expect("a link");
    let release = format!("/stuck/{}", rest.split_once('"').expect("its end").0);
    visitor.get(&release).await.says(200, &[&path, "release only if it will not come back"]);
    cluster.failpoints().release();
    cluster.stop().await;
}

pub(crate) async fn a_suspended_region_is_shown(store: Store) {
    let (cluster, visitor) = started(store).await;
    visitor.until("/regions", env!("CARGO_PKG_VERSION")).await;
    // What an operator has written is shown as text.
    let request = SuspendRegionRequest { name: "us".to_owned(), text: "<b>stolen</b> key".to_owned() };
    cluster.control().regions().suspend_region(request).await.expect("suspended");
    let page = visitor.get("/regions").await;
    page.says(200, &["suspended", "&lt;b&gt;stolen&lt;/b&gt; key"]);
    page.lacks(&["<b>"]);
    cluster.stop().await;
}

pub(crate) async fn a_difference_is_shown_with_what_to_do(store: Store) {
    let (cluster, visitor) = started(store).await;
    let control = cluster.control();
    control.reserve("us", &operation(1), 9_000_001, "elsewhere").await.expect("reserved");
    control.confirm("us", &operation(1)).await.expect("confirmed");
    cluster.quiet(Duration::from_secs(60)).await.expect("quiet");
    cluster.region(0).reconcile(ReconcileMode::Check).await.expect("compared");
    let page = visitor.until("/differences", "1 left").await;
    let address = cluster.region(0).url().to_owned();
    page.says(
        200,
        &[
            "reservation without organization",
            "/organizations/9000001",
            &format!("causeway reconcile --repair --region {address}"),
        ],
    );
    visitor.get("/").await.says(200, &["<span>region that differs<"]);
    cluster.region(0).reconcile(ReconcileMode::Repair).await.expect("repaired");
    visitor.until("/differences", "agrees").await.says(200, &["repaired"]);
    cluster.stop().await;
}

/// Rows of 100 regions with 1,000 imports each, and of 100,000 organizations.
async fn fill(cluster: &Cluster) {
    let db = cluster.db(Silo::Control).await.expect("a database");
    let (numbers, id, time) = match db.dialect() {
        Dialect::Postgres => (
            "generate_series(0, 99999) AS n(i)",
            "CAST(lpad(to_hex(n.i), 32, '0') AS uuid)",
            "CAST('2026-01-01T00:00:00Z' AS timestamptz) + n.i * interval '1 second'",
        ),
        Dialect::Sqlite => (
            "(WITH RECURSIVE c(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i < 99999) SELECT i FROM c) AS n",
            "printf('00000000-0000-0000-0000-%012x', n.i)",
            "strftime('%Y-%m-%dT%H:%M:%S', '2026-01-01', '+' || n.i || ' seconds') || '.000000Z'",
        ),
    };
    let (region, address, instance) = match db.dialect() {
        Dialect::Postgres => ("'r' || n.i", "CAST(lpad(to_hex(n.i), 32, '0') AS uuid)", "n.i < 100"),
        Dialect::Sqlite => ("'r' || n.i", "printf('00000000-0000-0000-0000-%012x', n.i)", "n.i < 100"),
    };
    let summary = r#"{"progress":null,"waiting":null,"waiting_since":null,"failure":null,"begun_by":""}"#;
    let details = r#"{"models":[],"finding_counts":[],"findings":[]}"#;
    for statement in [
        format!(
            "INSERT INTO causeway_added_region (name, added_at) SELECT {region}, {time} FROM {numbers} WHERE {instance}"
        ),
        format!(
            "INSERT INTO causeway_region (name, address, instance_id, created_at, last_seen_at) \
             SELECT {region}, 'http://127.0.0.1:1', {address}, {time}, {time} FROM {numbers} WHERE {instance}"
        ),
        format!(
            "INSERT INTO causeway_reported_import (region, import_id, state, ended, dry_run, created_at, updated_at, \
             reported_at, size_bytes, organization_count, summary, details) SELECT 'r' || (n.i % 100), {id}, \
             CASE WHEN n.i % 1000 = 0 THEN 'WRITING' ELSE 'SUCCEEDED' END, n.i % 1000 <> 0, false, {time}, {time}, \
             {time}, 1, 1, '{summary}', '{details}' FROM {numbers}"
        ),
        format!(
            "INSERT INTO causeway_region_comparison (region, compared_at, compared, difference_count, repaired_count, \
             moving_count, differences) SELECT {region}, {time}, 9, 2, n.i % 2, 0, '[]' FROM {numbers} WHERE {instance}"
        ),
        format!(
            "INSERT INTO causeway_organization_slug_reservation (slug, organization_id, region, wanted_slug, type, \
             operation_id, created_at) SELECT 'slug-' || n.i, n.i + 1, 'r1', 'x', 'primary', {id}, {time} \
             FROM {numbers}"
        ),
    ] {
        let mut tx = db.begin().await.expect("a transaction");
        tx.execute(Statement::new("").push(&statement)).await.unwrap_or_else(|error| panic!("{error}"));
        tx.commit().await.expect("committed");
    }
    db.close().await;
}

pub(crate) async fn a_hundred_thousand_imports_and_organizations_have_pages(store: Store) {
    let cluster = Cluster::builder(store).console().start().await.expect("a cluster");
    let visitor = visitor(&cluster);
    fill(&cluster).await;
    one_is_stuck(&cluster).await;
    // The slowest takes some 30 ms. One that looked at all rows for each of them would take minutes.
    let began = Instant::now();
    for path in [
        "/",
        "/regions",
        "/imports",
        "/imports?state=IN_PROGRESS",
        "/imports?region=r7",
        "/slugs",
        "/slugs?q=slug-9",
        "/organizations/5",
        "/stuck",
        "/differences",
        "/audit",
    ] {
        let page = visitor.get(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        assert!(page.body.len() < 200_000, "{path}: {} bytes", page.body.len());
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    // All 100 regions are silent and differ.
    let overview = visitor.get("/").await;
    overview.says(
        200,
        &[
            ">100</span><span>regions that need attention<",
            ">100</span><span>regions that differ<",
            "The first 50 are shown. <a href=\"/regions\">",
        ],
    );
    let first = visitor.get("/differences").await;
    first.says(200, &["/differences?after=r17\" rel=\"next\""]);
    assert_eq!(first.body.matches("<section").count(), 10);
    visitor.get("/differences?after=r17").await.says(200, &["<h2>r18 ", "First page"]);
    // All imports in progress, page by page: each once.
    let (mut path, mut seen) = ("/imports?state=IN_PROGRESS".to_owned(), Vec::new());
    loop {
        let page = visitor.get(&path).await;
        seen.extend(
            page.body
                .split("href=\"/imports/")
                .skip(1)
                .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())),
        );
        let Some((before, _)) = page.body.split_once("\" rel=\"next\"") else { break };
        let (_, link) = before.rsplit_once("href=\"").expect("a link");
        path = link.replace("&amp;", "&");
    }
    assert_eq!(seen.len(), 100);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 100);
    cluster.stop().await;
}

/// One stuck operation among them.
async fn one_is_stuck(cluster: &Cluster) {
    let statement = Statement::new(
        "UPDATE causeway_organization_slug_reservation SET type = 'temporary_rename_alias' WHERE slug = 'slug-7'",
    );
    cluster.change(Silo::Control, &[statement]).await.expect("changed");
}
