//! Imports of some organizations of a file.

use causeway_harness::{
    account::{Cell, Fate},
    cluster::{ImportOptions, Store},
    export::{Export, OTHER_SLUG, OTHER_SOURCE_ID, SLUG, SOURCE_ID},
};
use causeway_proto::relocation::v1::{ErrorReason, FindingKind};
use serde_json::json;

use crate::stage::{MEMBER, ORGANIZATION, USER, cluster, exhaustive, fails, import, told};

pub(crate) async fn a_filter_takes_an_organization_and_what_belongs_to_it(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let options = ImportOptions::default().filter(&[OTHER_SLUG]);
    let (import_, account) = import(&cluster, &exhaustive(), &options).await;
    assert_eq!(import_.organization_count, 1);
    assert_eq!(account.fate(ORGANIZATION, SOURCE_ID), Some(Fate::Filtered));
    assert!(matches!(account.fate(ORGANIZATION, OTHER_SOURCE_ID), Some(Fate::Inserted(_))));
    // Members come, whether they are members of others too; nobody else does.
    let users = [11, 12, 13, 14].map(|pk| matches!(account.fate(USER, pk), Some(Fate::Inserted(_))));
    assert_eq!(users, [true, false, true, false]);
    // Addresses, also second ones, of those; but not of the others, and not those that are nobody's.
    let mut addresses: Vec<&str> =
        account.after.rows("sentry.email").values().filter_map(|row| row["email"].as_text()).collect();
    addresses.sort_unstable();
    assert_eq!(addresses, ["inactive@example.com", "owner", "second@example.com"]);
    // An invitation stays though whoever made it does not come; what else speaks of such a user is lost.
    assert_eq!(account.row(MEMBER, 34).expect("the invitation")["inviter_id"], Cell::Null);
    assert_eq!(account.fate("sentry.ruleactivity", 35), Some(Fate::Dropped));
    assert_eq!(told(&account, FindingKind::ClearedReference), 1);
    // And what leads nowhere at all is lost under any filter.
    assert_eq!(told(&account, FindingKind::DroppedReference), 2);

    // The other one, on top, and then both by name.
    let options = ImportOptions::default().filter(&[SLUG]).merge_users();
    let (import_, account) = import(&cluster, &exhaustive(), &options).await;
    assert_eq!(import_.organizations[0].slug, SLUG);
    let users = [11, 12, 13, 14].map(|pk| account.fate(USER, pk).expect("a user"));
    assert!(
        matches!(users, [Fate::Existing(_), Fate::Inserted(_), Fate::Filtered, Fate::Filtered]),
        "{users:?}"
    );
    let options = ImportOptions::default().filter(&[SLUG, OTHER_SLUG, SLUG]);
    let (import_, account) = import(&cluster, &exhaustive(), &options).await;
    assert_eq!(import_.organization_count, 2);
    assert_eq!(account.fate(USER, 14), Some(Fate::Filtered));
    cluster.stop().await;
}

pub(crate) async fn a_filter_that_matches_nothing_is_refused(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    // Slugs are compared exactly.
    let options = ImportOptions::default().filter(&["nobody", "ACME"]);
    let (_, message) = fails(&cluster, &exhaustive(), &options, ErrorReason::FilterMatchesNothing).await;
    assert!(message.contains("nobody") && message.contains("ACME"), "{message}");
    cluster.stop().await;
}

pub(crate) async fn an_empty_filter_imports_nothing(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let options = ImportOptions::default().filter(&[]);
    let (import, account) = import(&cluster, &exhaustive(), &options).await;
    assert_eq!((import.organization_count, account.after.row_count()), (0, 0));
    cluster.stop().await;
}

pub(crate) async fn a_slug_that_the_export_lacks_is_told(store: Store) {
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
        (11..=14).map(|pk| matches!(account.fate("sentry.snubaquery", pk), Some(Fate::Inserted(_))));
    assert_eq!(queries.collect::<Vec<_>>(), [true, false, false, false]);
    // A rule that hangs from nothing either.
    assert_eq!(account.fate("sentry.alertrule", 3), Some(Fate::Filtered));
    assert_eq!(account.after.rows("sentry.querysubscription").len(), 1);
    // Without a filter, nobody asks whose they are.
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert!(matches!(account.fate("sentry.snubaquery", 14), Some(Fate::Inserted(_))));
    cluster.stop().await;
}
