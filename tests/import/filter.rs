//! Imports of some of the organizations of a file.

use std::collections::BTreeMap;

use causeway_harness::{
    account::{Cell, Outcome},
    cluster::{Cluster, ImportOptions, Store},
    export::{Export, OTHER_SLUG, OTHER_SOURCE_ID, SLUG, SOURCE_ID},
};
use causeway_proto::{
    region::v1::Import,
    relocation::v1::{ErrorReason, FindingKind, Severity},
};
use serde_json::json;

use crate::support::{MEMBER, ORGANIZATION, USER, cluster, exhaustive, fails, import, kinds, reported};

pub(crate) async fn a_filter_takes_an_organization_and_what_belongs_to_it(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let options = ImportOptions::default().filter(&[OTHER_SLUG]);
    let (import_, account) = import(&cluster, &exhaustive(), &options).await;
    assert_eq!(import_.organization_count, 1);
    assert_eq!(account.outcome(ORGANIZATION, SOURCE_ID), Some(Outcome::Filtered));
    assert!(matches!(account.outcome(ORGANIZATION, OTHER_SOURCE_ID), Some(Outcome::Inserted(_))));
    // The users are the members, also those who are members of other organizations too, and nobody else.
    let users = [11, 12, 13, 14].map(|pk| matches!(account.outcome(USER, pk), Some(Outcome::Inserted(_))));
    assert_eq!(users, [true, false, true, false]);
    // The addresses are those of these users, second ones included; not those of other users or of nobody.
    let mut addresses: Vec<&str> =
        account.after.rows("sentry.email").values().filter_map(|row| row["email"].as_text()).collect();
    addresses.sort_unstable();
    assert_eq!(addresses, ["inactive@example.com", "owner", "second@example.com"]);
    // An invitation stays although the inviter is not imported. Other records that refer to such a user are dropped.
    assert_eq!(account.row(MEMBER, 34).expect("the invitation")["inviter_id"], Cell::Null);
    assert_eq!(account.outcome("sentry.ruleactivity", 35), Some(Outcome::Dropped));
    assert_eq!(reported(&account, FindingKind::ClearedReference), 1);
    // A record with a reference that leads nowhere is dropped under any filter; two models refer to models of other scopes.
    assert_eq!(reported(&account, FindingKind::DroppedReference), 4);

    // The other organization on top, and then both by name.
    let options = ImportOptions::default().filter(&[SLUG]).merge_users();
    let (import_, account) = import(&cluster, &exhaustive(), &options).await;
    assert_eq!(import_.organizations[0].slug, SLUG);
    let users = [11, 12, 13, 14].map(|pk| account.outcome(USER, pk).expect("a user"));
    assert!(
        matches!(users, [Outcome::Existing(_), Outcome::Inserted(_), Outcome::Filtered, Outcome::Filtered]),
        "{users:?}"
    );
    let options = ImportOptions::default().filter(&[SLUG, OTHER_SLUG, SLUG]);
    let (import_, account) = import(&cluster, &exhaustive(), &options).await;
    assert_eq!(import_.organization_count, 2);
    assert_eq!(account.outcome(USER, 14), Some(Outcome::Filtered));
    cluster.stop().await;
}

pub(crate) async fn a_filter_that_matches_nothing_is_refused(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    // Slugs are compared exactly.
    let options = ImportOptions::default().filter(&["nobody", "ACME"]);
    let (failed, message) = fails(&cluster, &exhaustive(), &options, ErrorReason::FilterMatchesNothing).await;
    assert!(message.contains("nobody") && message.contains("ACME"), "{message}");
    // The file need not be repaired, and the message lists the slugs that it has.
    let (_, has) = message.split_once("The export has").expect("it says which slugs there are");
    assert!([SLUG, OTHER_SLUG].iter().all(|slug| has.contains(&format!("`{slug}`"))), "{message}");
    let findings = cluster.region(0).findings(&failed.import_id).await.expect("a list");
    let reported = findings.last().expect("one of the failure");
    assert_eq!((reported.kind(), reported.severity()), (FindingKind::FilterMatchesNothing, Severity::Error));
    assert!(reported.remedy.starts_with("Correct the filter"), "{reported:?}");

    let mut many = Export::new();
    for pk in 1..=25 {
        many.organization(pk, &format!("slug-{pk}"));
    }
    let (_, message) = fails(&cluster, &many, &options, ErrorReason::FilterMatchesNothing).await;
    assert!(message.contains("`slug-1`, `slug-2`") && message.contains("`slug-10` and 15 more"), "{message}");
    let mut none = Export::new();
    none.user(1, "ann");
    let (_, message) = fails(&cluster, &none, &options, ErrorReason::FilterMatchesNothing).await;
    assert!(message.contains("no organization at all"), "{message}");
    cluster.stop().await;
}

pub(crate) async fn an_empty_filter_imports_nothing(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let options = ImportOptions::default().filter(&[]);
    let (import, account) = import(&cluster, &exhaustive(), &options).await;
    assert_eq!((import.organization_count, account.after.row_count()), (0, 0));
    cluster.stop().await;
}

pub(crate) async fn a_slug_that_the_export_lacks_is_reported(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let options = ImportOptions::default().filter(&["nobody", SLUG, "Acme"]);
    let (import, account) = import(&cluster, &exhaustive(), &options).await;
    assert_eq!(import.organization_count, 1);
    let findings = account.findings_of(FindingKind::FilterSlugNotFound);
    let about = |slug: &str| findings.iter().filter(|it| it.reason.contains(&format!("`{slug}`"))).count();
    assert_eq!((findings.len(), about("nobody"), about("Acme")), (2, 1, 1));
    cluster.stop().await;
}

pub(crate) async fn a_query_goes_with_the_rules_that_refer_to_it(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "one").organization(2, "two").project(1, 1, "p").project(2, 2, "p");
    for pk in 11..=14 {
        let query = json!({"type": 0, "dataset": "events", "query": "", "aggregate": "a", "time_window": 1, "resolution": 1});
        export.push("sentry.snubaquery", pk, &query);
    }
    for (pk, organization, query) in [(1, Some(1), 11), (2, Some(2), 12), (3, None, 13)] {
        let rule =
            json!({"organization": organization, "snuba_query": query, "name": "n", "threshold_period": 1});
        export.push("sentry.alertrule", pk, &rule);
    }
    for (pk, project, query) in [(1, 1, 11), (2, 2, 12), (3, 2, 11)] {
        let subscription = json!({"project": project, "type": "t", "snuba_query": query});
        export.push("sentry.querysubscription", pk, &subscription);
    }
    let (_, account) = import(&cluster, &export, &ImportOptions::default().filter(&["one"])).await;
    let queries =
        (11..=14).map(|pk| matches!(account.outcome("sentry.snubaquery", pk), Some(Outcome::Inserted(_))));
    assert_eq!(queries.collect::<Vec<_>>(), [true, false, false, false]);
    // Nor is a rule that belongs to no organization.
    assert_eq!(account.outcome("sentry.alertrule", 3), Some(Outcome::Filtered));
    assert_eq!(account.after.rows("sentry.querysubscription").len(), 1);
    // Without a filter, records need no owner. But nothing refers to the last query.
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert!(matches!(account.outcome("sentry.snubaquery", 13), Some(Outcome::Inserted(_))));
    assert_eq!(account.outcome("sentry.snubaquery", 14), Some(Outcome::Dropped));
    assert_eq!(reported(&account, FindingKind::SkippedByRule), 1);
    cluster.stop().await;
}

pub(crate) async fn a_query_that_nothing_imported_refers_to_does_not_stay(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    // `left` is no longer a member, but still owns a rule.
    export.organization(1, "one").organization(2, "two").user(5, "ann").user(6, "left").member(1, 1, 5);
    export.push("sentry.environment", 3, &json!({"organization_id": 1, "name": "e"}));
    let query = json!({"type": 0, "dataset": "events", "query": "", "aggregate": "a", "time_window": 1, "resolution": 1, "environment": 3});
    let rule =
        json!({"organization": 1, "snuba_query": 11, "user_id": 6, "name": "n", "threshold_period": 1});
    export.push("sentry.snubaquery", 11, &query).push("sentry.alertrule", 1, &rule);
    export.push("sentry.snubaqueryeventtype", 1, &json!({"snuba_query": 11, "type": 0}));
    let snapshot = json!({"start": "2024-01-01T00:00:00Z", "end": "2024-01-02T00:00:00Z", "period": 1});
    export.push("sentry.timeseriessnapshot", 4, &snapshot);
    let (_, account) = import(&cluster, &export, &ImportOptions::default().filter(&["one"])).await;
    assert_eq!(account.outcome("sentry.alertrule", 1), Some(Outcome::Dropped));
    assert_eq!(account.outcome("sentry.snubaquery", 11), Some(Outcome::Dropped));
    assert_eq!(account.outcome("sentry.timeseriessnapshot", 4), Some(Outcome::Filtered));
    assert_eq!(account.after.rows("sentry.snubaquery").len(), 0);
    // Without a filter, the rule has its owner and the query its rule.
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(account.after.rows("sentry.snubaquery").len(), 1);
    assert!(matches!(account.outcome("sentry.timeseriessnapshot", 4), Some(Outcome::Inserted(_))));
    cluster.stop().await;
}

pub(crate) async fn what_a_filter_leaves_out_cannot_refuse_the_file(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "one").organization(2, "two").user(5, "ann").user(6, "bob");
    export.member(1, 1, 5).member(2, 2, 6).project(21, 1, "p").team(11, 1, "t");
    export.user_email(5, 5, "ann@example.com").project_key(21, 21, "p");
    let filter = ImportOptions::default().filter(&["one"]);
    let whole = export.clone();
    // A value that is too long, one of a wrong type, a missing field, two kinds of duplicates; and a child of one of
    // these records.
    let long = "x".repeat(110);
    export.push("sentry.project", 22, &json!({"organization": 2, "slug": long, "name": "n"}));
    export.push("sentry.project", 23, &json!({"organization": 2, "slug": "s", "name": 7}));
    export.push("sentry.team", 12, &json!({"organization": 2, "slug": "n"}));
    export.team(13, 2, "same").team(14, 2, "same").team(15, 2, "a").team(15, 2, "b");
    export.push("sentry.useroption", 1, &json!({"user": 6, "value": "\"v\""}));
    export.project_key(31, 22, "k").member(3, 2, 6);
    export.find(MEMBER, 3).expect("it").fields.insert("email".to_owned(), json!("a@example.com"));
    let (dry, _) = import_dry(&cluster, &export, filter.clone().dry_run()).await;
    let (done, account) = import(&cluster, &export, &filter).await;
    assert_eq!(dry, kinds(&account));
    assert_eq!(kinds(&account), [("DEFECT_FILTERED", 7)].into());
    assert_eq!((done.organization_count, account.after.rows("sentry.team").len()), (1, 1));
    for (model, pk) in [("sentry.project", 22), ("sentry.team", 12), ("sentry.projectkey", 31), (MEMBER, 3)] {
        assert_eq!(account.outcome(model, pk), Some(Outcome::Filtered), "{model} {pk}");
    }
    let finding = account.findings.iter().find(|it| it.source_pk == 22).expect("it is reported");
    assert!(finding.reason.contains("110 characters") && finding.field == "slug", "{finding:?}");
    assert!(finding.ordinal == 2 && finding.byte_offset > 0, "{finding:?}");

    // The same mistake in the wanted organization fails the import, and so does the whole file without a filter.
    let mut export = whole;
    export.push("sentry.project", 22, &json!({"organization": 1, "slug": long, "name": "n"}));
    let (_, message) = fails(&cluster, &export, &filter, ErrorReason::ExportInvalid).await;
    assert!(message.contains("pk 22, field slug"), "{message}");
    fails(&cluster, &export, &ImportOptions::default(), ErrorReason::ExportInvalid).await;
    cluster.stop().await;
}

pub(crate) async fn a_record_between_two_organizations_is_reported(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export
        .organization(1, "one")
        .organization(2, "two")
        .project(21, 1, "p")
        .project(22, 2, "p")
        .team(1, 1, "t");
    let monitor = json!({"organization_id": 1, "project_id": 22, "slug": "m", "name": "m", "type": 3, "guid": "6f0d3e1b-1111-4222-8333-444455556666"});
    export.push("sentry.monitor", 1, &monitor);
    export.push("sentry.projectteam", 1, &json!({"project": 22, "team": 1}));
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(kinds(&account), [("TWO_ORGANIZATIONS", 2)].into());
    let finding = account.findings.iter().find(|it| it.model == "sentry.monitor").expect("it is reported");
    assert!(finding.reason.contains("organization_id and project_id lead to two"), "{finding:?}");
    for slug in ["one", "two"] {
        let (_, account) = import(&cluster, &export, &ImportOptions::default().filter(&[slug])).await;
        for model in ["sentry.monitor", "sentry.projectteam"] {
            assert_eq!(account.outcome(model, 1), Some(Outcome::Dropped), "{model} of {slug}");
        }
        assert_eq!(reported(&account, FindingKind::TwoOrganizations), 2);
    }
    cluster.stop().await;
}

/// Makes a dry run and returns the kinds of its findings, then makes the import.
async fn import_dry(
    cluster: &Cluster,
    export: &Export,
    options: ImportOptions,
) -> (BTreeMap<&'static str, usize>, Import) {
    let region = cluster.region(0);
    let done = region.import(&export.to_bytes(), &options).await.expect("it ends");
    let mut kinds = BTreeMap::new();
    for finding in region.findings(&done.import_id).await.expect("a list") {
        let name = finding.kind().as_str_name().trim_start_matches("FINDING_KIND_");
        *kinds.entry(name).or_default() += 1;
    }
    (kinds, done)
}
