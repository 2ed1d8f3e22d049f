//! Single rules, each on the smallest export that demonstrates it.

use causeway_harness::{
    account::{AuditReport, Cell, Outcome},
    cluster::{ImportOptions, Silo, Store},
    export::Export,
};
use causeway_proto::relocation::v1::FindingKind;
use causeway_silo::{
    db::{DbError, Statement},
    transact,
};
use serde_json::json;

use crate::support::{MEMBER, ORGANIZATION, USER, cluster, import, kinds, member, reported};

fn text<'a>(account: &'a AuditReport, model: &str, pk: i64, field: &str) -> &'a str {
    let row = account.row(model, pk).unwrap_or_else(|| panic!("{model} {pk} is no row"));
    row[field].as_text().unwrap_or_else(|| panic!("{field} of {model} {pk} is not text"))
}

/// A slug from the file takes precedence over one that the import makes, whichever comes first.
pub(crate) async fn a_project_or_team_without_a_slug_gets_one_from_its_name(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "one").organization(2, "two");
    let project = |export: &mut Export, pk: i64, organization: i64, slug: serde_json::Value, name: &str| {
        let fields = json!({"organization": organization, "slug": slug, "name": name});
        export.push("sentry.project", pk, &fields);
    };
    project(&mut export, 1, 1, json!(null), "Ticket Booth");
    project(&mut export, 2, 1, json!("ticket-booth"), "Ticket Booth 2");
    project(&mut export, 3, 1, json!(""), "Ticket Booth");
    // Another organization has slugs of its own.
    project(&mut export, 4, 2, json!(null), "Ticket Booth");
    project(&mut export, 5, 2, json!(null), "ticket_booth");
    project(&mut export, 6, 2, json!(null), "404");
    // The application has pages of these names. Who has such a slug keeps it.
    project(&mut export, 8, 2, json!(null), "Settings");
    project(&mut export, 9, 2, json!("teams"), "Teams");
    export.push("sentry.project", 7, &json!({"organization": 2, "name": "Größe"}));
    export.push("sentry.team", 1, &json!({"organization": 1, "slug": "", "name": "Night"}));
    export.push("sentry.team", 2, &json!({"organization": 1, "slug": null, "name": "***"}));
    let monitor = json!({
        "organization_id": 1, "project_id": 1, "slug": "", "name": "Back Up",
        "guid": "6f0d3e1b-1111-4222-8333-444455556666",
    });
    export.push("sentry.monitor", 1, &monitor);
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    let slug = |pk: i64| text(&account, "sentry.project", pk, "slug");
    assert_eq!([slug(2), slug(4), slug(7)], ["ticket-booth", "ticket-booth", "grosse"]);
    assert_eq!(slug(9), "teams");
    for (pk, front) in
        [(1, "ticket-booth-"), (3, "ticket-booth-"), (5, "ticket-booth-"), (6, "404-"), (8, "settings-")]
    {
        assert!(slug(pk).starts_with(front), "{pk}: {}", slug(pk));
    }
    assert_ne!(slug(1), slug(3));
    assert_eq!(text(&account, "sentry.team", 1, "slug"), "night");
    assert!(text(&account, "sentry.team", 2, "slug").starts_with("team-"));
    assert_eq!(text(&account, "sentry.monitor", 1, "slug"), "back-up");
    assert_eq!(kinds(&account), [("SLUG_MADE", 10)].into());

    // The same file gives the same slugs.
    let (_, again) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(text(&again, "sentry.project", 3, "slug"), slug(3));
    cluster.stop().await;
}

/// The product creates the subscriptions with status creating, whatever they were before. It never checks an active one
/// without an id.
pub(crate) async fn subscriptions_to_queries_are_to_be_made(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "one").project(4, 1, "p");
    for (pk, status) in [(1, json!(0)), (2, json!(3)), (3, json!(1))] {
        let fields = json!({
            "project": 4, "type": "incidents", "status": status, "subscription_id": format!("0/{pk}"),
            "query_extra": "release:1", "date_added": "2024-03-05T06:07:08.123Z",
        });
        export.push("sentry.querysubscription", pk, &fields);
    }
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    for pk in 1..=3 {
        let row = account.row("sentry.querysubscription", pk).expect("a row");
        assert_eq!(row["status"], Cell::Int(1));
        assert_eq!([&row["subscription_id"], &row["query_extra"]], [&Cell::Null, &Cell::Null]);
        assert_eq!(row["type"], Cell::Text("incidents".to_owned()));
    }
    cluster.stop().await;
}

pub(crate) async fn every_key_of_a_project_is_kept(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "one").project(1, 1, "p").project(2, 1, "q");
    for pk in 1..=5 {
        export.project_key(pk, 1, &format!("key {pk}"));
    }
    // The same key twice in one file, in another project, and half a key.
    let twice = export.find("sentry.projectkey", 1).expect("a key").fields["public_key"].clone();
    export.push("sentry.projectkey", 6, &json!({"project": 2, "public_key": twice, "secret_key": ""}));
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(account.after.rows("sentry.projectkey").len(), 6);
    assert_eq!(kinds(&account), [("KEY_REGENERATED", 2)].into());
    cluster.stop().await;
}

pub(crate) async fn an_owner_has_one_option_of_a_name(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "one").user(1, "ann").member(1, 1, 1).project(1, 1, "p").project(2, 1, "q");
    for (pk, value) in [(1, 1), (2, 2)] {
        export.push("sentry.organizationoption", pk, &json!({"organization": 1, "key": "k", "value": value}));
        export.project_option(pk, 1, "k", &json!(value));
        export.user_option(pk, 1, "k", &json!(value));
    }
    export.project_option(3, 2, "k", &json!(3)).user_option(3, 1, "another", &json!(3));
    // An option of a project counts for that project only. An option of an organization counts once, whatever its
    // project is.
    export.push("sentry.useroption", 4, &json!({"user": 1, "key": "k", "project_id": 1, "value": 4}));
    for (pk, project) in [(5, 1), (6, 2)] {
        let fields =
            json!({"user": 1, "key": "org", "organization_id": 1, "project_id": project, "value": project});
        export.push("sentry.useroption", pk, &fields);
    }
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    for model in ["sentry.organizationoption", "sentry.projectoption", "sentry.useroption"] {
        assert_eq!(account.row(model, 1).expect("the first one")["value"], Cell::Json(json!(1)));
        assert_eq!(account.outcome(model, 2), Some(Outcome::Dropped));
    }
    assert_eq!(kinds(&account), [("DUPLICATE_DROPPED", 4)].into());
    cluster.stop().await;
}

pub(crate) async fn an_option_that_the_application_does_not_take_is_left_out(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "one").user(1, "ann").member(1, 1, 1);
    // Options of older releases: names that no longer exist, and numbers that mean nothing any more.
    let old = [
        ("timezone", json!("US/Pacific-New")),
        ("theme", json!("default")),
        ("stacktrace_order", json!(0)),
        ("language", json!("xx!")),
        ("clock_24_hours", json!("noon")),
    ];
    for (pk, (key, value)) in (1..).zip(&old) {
        export.user_option(pk, 1, key, value);
    }
    // If an option is left out, the next one with its key is the first one.
    export.user_option(11, 1, "theme", &json!("dark")).user_option(12, 1, "theme", &json!("light"));
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(kinds(&account), [("DUPLICATE_DROPPED", 1), ("OPTION_LEFT_OUT", 5)].into());
    assert_eq!(account.after.rows("sentry.useroption").len(), 1);
    assert!(matches!(account.outcome("sentry.useroption", 11), Some(Outcome::Inserted(_))));
    // Options of an existing user are not checked at all.
    let merged = ImportOptions::default().merge_users();
    let (_, account) = import(&cluster, &export, &merged).await;
    assert_eq!(reported(&account, FindingKind::OptionLeftOut), 0);
    assert_eq!(reported(&account, FindingKind::SkippedByRule), 7);
    cluster.stop().await;
}

pub(crate) async fn missing_fields_take_their_defaults(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "one").user(1, "ann").user_email(1, 1, "a@example.com").email(1, "a@example.com");
    export.member(1, 1, 1).invite(2, 1, "b@example.com").team(1, 1, "t").project(1, 1, "p");
    export.project_option(1, 1, "k", &json!(null)).auth_token(1, 1, "t").user_option(1, 1, "k", &json!([]));
    export.push("sentry.projectownership", 1, &json!({"project": 1}));
    export.push("sentry.savedsearch", 1, &json!({"name": "s", "query": "q"}));
    export.push(
        "sentry.dashboard",
        1,
        &json!({"title": "d", "created_by_id": 1, "organization": 1, "unknown": 1}),
    );
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    let organization = account.row(ORGANIZATION, 1).expect("it");
    assert_eq!(organization["default_role"], Cell::Text("member".to_owned()));
    assert_eq!(organization["flags"], Cell::Int(1));
    assert_eq!(account.row("sentry.dashboard", 1).expect("it")["visits"], Cell::Int(1));
    assert_eq!(kinds(&account), [("UNKNOWN_FIELD", 1)].into());
    cluster.stop().await;
}

pub(crate) async fn every_wanted_slug_becomes_one(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    let long = "a-slug-of-fifty-characters-is-kept-as-it-is-000000";
    assert_eq!(long.len(), 50);
    let wanted =
        ["kept", "kept", "api", "Über_Räume", "UPPER", "12345", "", long, long, "a", "x--y", "漢字", "🦀"];
    for (pk, slug) in (1..).zip(wanted) {
        export.organization(pk, slug);
    }
    export.push(ORGANIZATION, 90, &json!({"name": "From Its Name"}));
    export.push(ORGANIZATION, 91, &json!({"name": "Null", "slug": null}));
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    let slug = |pk: i64| text(&account, ORGANIZATION, pk, "slug");
    assert_eq!(slug(4), "uber-raume");
    assert_eq!(slug(5), "upper");
    assert_eq!(slug(90), "from-its-name");
    assert_eq!((slug(10), slug(11)), ("a", "x--y"));
    assert!(slug(3).starts_with("api-") && slug(6).starts_with("12345-"));
    assert!([slug(8), slug(9)].contains(&long));
    let mut slugs: Vec<&str> = account.after.reservations().iter().map(|it| it.slug.as_str()).collect();
    slugs.dedup();
    assert_eq!(slugs.len(), export.records.len());
    cluster.stop().await;
}

pub(crate) async fn a_thousand_organizations_of_one_slug_are_distinguished(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    for pk in 1..=1_100 {
        export.organization(pk, "same");
    }
    let (import, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!((import.organizations.len(), import.organization_count), (1_000, 1_100));
    assert_eq!(reported(&account, FindingKind::SlugChanged), 1_099);
    cluster.stop().await;
}

/// A chunk has at most a mebibyte. Here the conflicting value is in an earlier chunk.
pub(crate) async fn rules_hold_between_chunks(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "one").project(1, 1, "p");
    let first = |pk: i64| if pk > 100 { pk - 100 } else { pk };
    for pk in 1..=120 {
        let name = format!("user-{}", first(pk));
        let name = if pk > 100 { name.to_uppercase() } else { name };
        // The later membership has the higher role.
        let role = if pk > 100 { "manager" } else { "admin" };
        export.user(pk, &name).email(pk, &format!("{name}@example.com"));
        export.push(MEMBER, pk, &member(1, pk, role));
        export.project_key(pk, 1, &format!("key {}", first(pk)));
    }
    for record in &mut export.records {
        // About 70 of these are a mebibyte.
        record.fields.insert("padding".to_owned(), json!("x".repeat(15_000)));
    }
    let (import, account) = import(&cluster, &export, &ImportOptions::default().merge_users()).await;
    assert!(import.size_bytes > 6 << 20);
    let existing = |model: &str| {
        (101..=120).filter(|pk| matches!(account.outcome(model, *pk), Some(Outcome::Existing(_)))).count()
    };
    assert_eq!((existing(USER), existing("sentry.email")), (20, 20));
    assert_eq!(account.after.rows(MEMBER).len(), 100);
    let expected =
        [("KEY_REGENERATED", 40), ("RECORD_MERGED", 20), ("UNKNOWN_FIELD", 6), ("USER_MERGED", 20)];
    assert_eq!(kinds(&account), expected.into());
    let raised = (1..=100).filter(|pk| text(&account, MEMBER, *pk, "role") == "manager").count();
    assert_eq!(raised, 20);
    cluster.stop().await;
}

/// The target may be a database with rows of an application, of which control knows nothing.
pub(crate) async fn rows_that_were_here_before_are_left_alone(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    for sql in [
        "INSERT INTO sentry_organization (id, name, slug, status, date_added, default_role, is_test, flags) \
         VALUES (7000000, 'Here', 'one', 0, '2024-01-01T00:00:00.000000Z', 'member', false, 1)",
        "INSERT INTO sentry_environment (id, organization_id, name, date_added) \
         VALUES (1, 7000000, 'here', '2024-01-01T00:00:00.000000Z'), (3, 7000000, 'there', '2024-01-01T00:00:00.000000Z')",
    ] {
        let written = transact!(DbError, db, |tx| { tx.execute(Statement::new(sql)).await? });
        written.expect("the rows are written");
    }
    let mut export = Export::new();
    export.organization(1, "one").organization(2, "two");
    for pk in 1..=5 {
        export.push("sentry.environment", pk, &json!({"organization_id": 1, "name": format!("e{pk}")}));
    }
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert!(text(&account, ORGANIZATION, 1, "slug").starts_with("one-"));
    assert_eq!(text(&account, ORGANIZATION, 2, "slug"), "two");
    let ids: Vec<i64> = account.after.rows(ORGANIZATION).keys().copied().collect();
    assert_eq!((ids.len(), ids.first()), (3, Some(&7_000_000)), "ids lie above those that were here");
    assert_eq!(account.after.rows("sentry.environment").len(), 7);
    cluster.stop().await;
}

pub(crate) async fn an_unknown_field_is_reported_whatever_the_scope(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.push("sentry.controloption", 1, &json!({"key": "k", "value": 1, "mood": 1}));
    export.push("sentry.userrole", 1, &json!({"name": "r", "permissions": [], "mood": 1}));
    export.organization(1, "one");
    export.push("sentry.team", 1, &json!({"organization": 1, "slug": "t", "name": "t", "mood": 1}));
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(reported(&account, FindingKind::UnknownField), 3);
    cluster.stop().await;
}
