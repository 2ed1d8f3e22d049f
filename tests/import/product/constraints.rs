//! Values that are too long and unique sets that only this database has.

use causeway_harness::{
    cluster::{Failpoints, ImportOptions, Silo},
    export::Export,
    product::Release,
};
use causeway_proto::{
    region::v1::ImportState,
    relocation::v1::{ErrorReason, FindingKind},
};
use serde_json::json;

use super::{as_it_is, ask, assert_failed, cluster, cluster_of, import, of_kind, set};
use crate::support::USER;

/// The catalog knows longer texts than this release of the product takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_for_which_the_database_has_no_room_is_refused_in_the_plan() {
    let cluster = as_it_is().await;
    let mut export = Export::new();
    export.organization(1, "one").user(11, "ann").project(31, 1, "project");
    for (model, pk, field, value) in [
        (USER, 11, "email", json!(format!("{}@example.com", "a".repeat(80)))),
        ("sentry.project", 31, "slug", json!("s".repeat(80))),
    ] {
        let mut long = export.clone();
        set(&mut long, model, pk, field, value);
        let message = assert_failed(
            &import(&cluster, &long, &ImportOptions::default()).await.0,
            ErrorReason::ExportInvalid,
        );
        for part in [model, &format!("pk {pk}"), field, "characters"] {
            assert!(message.contains(part), "{part} is not in {message}");
        }
    }
    let rows = "SELECT slug AS line FROM sentry_organization";
    assert_eq!(ask(&cluster, Silo::Region(0), rows).await, [] as [String; 0]);
    assert_eq!(import(&cluster, &export, &ImportOptions::default()).await.0.state(), ImportState::Succeeded);
    cluster.stop().await;
}

/// Records of one file that break a unique index of this database are refused in the plan, whatever other releases
/// allow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_break_an_index_of_this_database_are_refused_in_the_plan() {
    let of_control = "CREATE UNIQUE INDEX ON sentry_orgauthtoken (name)";
    let of_region = "CREATE UNIQUE INDEX ON sentry_team (name, organization_id)";
    let cluster = cluster(&Failpoints::default(), &[of_control], &[of_region]).await;
    let mut export = Export::new();
    export.organization(1, "one").user(11, "ann").user(12, "bob").team(21, 1, "a").team(22, 1, "b");
    for pk in [1, 2] {
        let token = json!({"organization_id": 1, "name": format!("t{pk}"), "token_hashed": format!("{pk:064}"), "scope_list": []});
        export.push("sentry.orgauthtoken", pk, &token);
        let view = json!({"organization": 1, "user_id": 11, "name": "v", "query": "", "position": pk});
        export.push("sentry.groupsearchview", pk, &view);
    }
    for (model, pk, field, value) in [
        ("sentry.orgauthtoken", 2, "name", json!("t1")),
        ("sentry.team", 22, "name", json!("a")),
        // The product has dropped this index in 25.3.
        ("sentry.groupsearchview", 2, "position", json!(1)),
    ] {
        let mut same = export.clone();
        set(&mut same, model, pk, field, value);
        for options in [ImportOptions::default().dry_run(), ImportOptions::default()] {
            let (refused, _) = import(&cluster, &same, &options).await;
            let message = assert_failed(&refused, ErrorReason::ExportInvalid);
            for part in [model, &format!("pk {pk}"), field] {
                assert!(message.contains(part), "{part} is not in {message}");
            }
        }
    }
    let rows = "SELECT slug AS line FROM sentry_organization";
    assert_eq!(ask(&cluster, Silo::Region(0), rows).await, [] as [String; 0]);
    let (done, _) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    // What is there already stays, and what conflicts with it is left out.
    let (again, findings) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(again.state(), ImportState::Succeeded, "{:?}", again.failure);
    let dropped = of_kind(&findings, FindingKind::DuplicateDropped);
    assert_eq!(dropped, [("sentry.orgauthtoken", "")].into());
    cluster.stop().await;
}

/// Users of the file who become one may both have what only one may have. Some of these unique sets are checked at the end
/// of a transaction. A dry run reports the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_merged_users_both_have_is_left_out_in_sets_of_this_database() {
    let (view, star, favorite) =
        ("sentry.groupsearchview", "sentry.groupsearchviewstarred", "sentry.dashboardfavoriteuser");
    for (release, lost) in
        [(Release::R24_9, vec![(view, 2)]), (Release::R26_6, vec![(star, 2), (favorite, 2)])]
    {
        let cluster = cluster_of(release, &Failpoints::default(), &[], &[]).await;
        let mut export = Export::new();
        export.organization(1, "one").user(11, "ann").user(12, "Ann");
        for pk in [1, 2] {
            let view =
                json!({"organization": 1, "user_id": 10 + pk, "name": "v", "query": "", "position": 0});
            export.push("sentry.groupsearchview", pk, &view);
            let star = json!({"organization": 1, "user_id": 10 + pk, "group_search_view": pk, "position": 0});
            export.push("sentry.groupsearchviewstarred", pk, &star);
            let dashboard = json!({"title": format!("d{pk}"), "created_by_id": 11, "organization": 1});
            export.push("sentry.dashboard", pk, &dashboard);
        }
        // The third one has the position of the second one, which is left out itself.
        for (pk, user, dashboard, position) in [(1, 12, 1, 0), (2, 11, 1, 1), (3, 12, 2, 1)] {
            let favorite =
                json!({"organization": 1, "user_id": user, "dashboard": dashboard, "position": position});
            export.push("sentry.dashboardfavoriteuser", pk, &favorite);
        }
        let options = ImportOptions::default().merge_users();
        let (dry, predicted) = import(&cluster, &export, &options.clone().dry_run()).await;
        assert_eq!(dry.state(), ImportState::Planned, "{:?}", dry.failure);
        let (done, findings) = import(&cluster, &export, &options).await;
        assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
        for findings in [&predicted, &findings] {
            let dropped = findings.iter().filter(|it| it.kind() == FindingKind::DuplicateDropped);
            let mut dropped: Vec<_> = dropped.map(|it| (it.model.as_str(), it.source_pk)).collect();
            dropped.sort_unstable_by_key(|it| std::cmp::Reverse(*it));
            assert_eq!(dropped, lost, "{release:?}");
        }
        cluster.stop().await;
    }
}
