//! Constraints that a database has and the catalog does not know: whoever runs the application has added
//! them. A row that breaks one is left out and reported, and everything else arrives.

use causeway_harness::{
    cluster::{Act, Cluster, Failpoints, ImportOptions, Silo, Store},
    export::Export,
    product::Release,
};
use causeway_proto::{
    failure::reason_of,
    region::v1::{ApproveOrganizationsRequest, Import, ImportState, ResumeImportRequest},
    relocation::v1::{ErrorReason, Finding, FindingKind, ModelCounts},
};
use causeway_silo::db::Statement;
use serde_json::json;

use crate::{
    product::{ask, assert_failed, cluster_of, import, set},
    support::{MEMBER, USER, cluster},
};

const TEAM: &str = "sentry.team";
const FAVORITE: &str = "sentry.dashboardfavoriteuser";

async fn change(cluster: &Cluster, silo: Silo, statement: &'static str) {
    cluster.change(silo, &[Statement::new(statement)]).await.expect("changed");
}

/// Imports, and returns which records were dropped for this reason: model and primary key.
async fn succeeds(
    cluster: &Cluster,
    export: &Export,
    options: &ImportOptions,
    kind: FindingKind,
) -> (Import, Vec<Finding>, Vec<(String, i64)>) {
    let (done, findings) = import(cluster, export, options).await;
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    let of_kind = findings.iter().filter(|it| it.kind() == kind);
    let mut reported: Vec<_> = of_kind.map(|it| (it.model.clone(), it.source_pk)).collect();
    reported.sort_unstable();
    (done, findings, reported)
}

fn counts(import: &Import, model: &str) -> ModelCounts {
    import.models.iter().find(|it| it.model == model).cloned().unwrap_or_default()
}

/// No rule is about the index, so nothing that an import may do makes room for the user.
pub(crate) async fn a_user_whom_an_index_of_this_database_keeps_out_is_left_out(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let options = ImportOptions::default();
    let mut export = Export::new();
    export.organization(1, "here").user(1, "ann").email(1, "ann@example.com");
    succeeds(&cluster, &export, &options, FindingKind::DuplicateDropped).await;
    change(&cluster, Silo::Control, "CREATE UNIQUE INDEX only_here ON auth_user (email)").await;
    change(&cluster, Silo::Control, "CREATE UNIQUE INDEX also_here ON sentry_email (date_added)").await;

    let mut export = Export::new();
    export.organization(2, "one").user(21, "bob").user(22, "cat").member(31, 2, 21).member(32, 2, 22);
    set(&mut export, USER, 21, "email", json!("ann@example.com"));
    for (pk, name) in [(41, "x"), (42, "y"), (43, "z")] {
        export.email(pk, &format!("{name}@example.com"));
        let day = if pk == 43 { 2 } else { 1 };
        set(&mut export, "sentry.email", pk, "date_added", json!(format!("2024-01-0{day}T00:00:00Z")));
    }
    // For an address that is there, its row will do, and nothing is inserted.
    export.email(44, "ann@example.com");
    let (done, findings, reported) =
        succeeds(&cluster, &export, &options, FindingKind::DuplicateDropped).await;
    assert_eq!(reported, [("sentry.email".to_owned(), 42), (USER.to_owned(), 21)]);
    let lost = findings.iter().filter(|it| it.kind() == FindingKind::DroppedReference);
    let lost: Vec<_> = lost.map(|it| (it.model.as_str(), it.source_pk)).collect();
    assert_eq!(lost, [(MEMBER, 31)]);
    for (model, inserted, existing, dropped) in
        [(USER, 1, 0, 1), (MEMBER, 1, 0, 1), ("sentry.email", 2, 1, 1)]
    {
        let counts = counts(&done, model);
        let counted = (counts.inserted, counts.existing, counts.dropped);
        assert_eq!(counted, (inserted, existing, dropped), "{model}");
    }

    // Whoever is the same as a user whom the index keeps out is written instead, and that one becomes them.
    let mut export = Export::new();
    export.organization(3, "two").user(21, "dan").user(22, "DAN").user(23, "eve");
    set(&mut export, USER, 21, "email", json!("ann@example.com"));
    export.member(31, 3, 21).member(32, 3, 22).member(33, 3, 23);
    let options = options.merge_users();
    let (done, findings, reported) = succeeds(&cluster, &export, &options, FindingKind::UserMerged).await;
    assert_eq!(reported, [(USER.to_owned(), 21)]);
    let reported = findings.iter().find(|it| it.kind() == FindingKind::UserMerged).expect("it is reported");
    for part in ["another row is the same to a unique set", "a later record of the file", "became that one"] {
        assert!(reported.reason.contains(part), "{part} is not in {}", reported.reason);
    }
    assert!(findings.iter().all(|it| it.kind() != FindingKind::DuplicateDropped), "{findings:?}");
    let users = counts(&done, USER);
    assert_eq!((users.inserted, users.existing, users.dropped), (2, 1, 0));
    let members = counts(&done, MEMBER);
    assert_eq!((members.inserted, members.existing), (2, 1), "both memberships are theirs");
    let names = "SELECT username AS line FROM auth_user WHERE username IN ('dan', 'DAN')";
    assert_eq!(ask(&cluster, Silo::Control, names).await, ["DAN"]);

    // If the database takes none of them, each is reported.
    let mut export = Export::new();
    export.organization(4, "three").user(21, "fay").user(22, "FAY").user(23, "Fay").member(31, 4, 23);
    for pk in [21, 22, 23] {
        set(&mut export, USER, pk, "email", json!("ann@example.com"));
    }
    let (done, _, reported) = succeeds(&cluster, &export, &options, FindingKind::DuplicateDropped).await;
    assert_eq!(reported, [21, 22, 23].map(|pk| (USER.to_owned(), pk)));
    let users = counts(&done, USER);
    assert_eq!((users.inserted, users.existing, users.dropped), (0, 0, 3));
    cluster.stop().await;
}

/// Tables that Causeway has made are no exception.
pub(crate) async fn a_row_that_breaks_a_check_of_this_database_is_left_out(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    // SQLite adds a check only with a column.
    let check = "ALTER TABLE sentry_team ADD COLUMN more integer CONSTRAINT odd CHECK (name <> 'x')";
    change(&cluster, Silo::Region(0), check).await;
    let mut export = Export::new();
    export.organization(1, "one").project(31, 1, "p");
    for pk in 1..=300 {
        export.team(pk, 1, &format!("team-{pk}"));
    }
    for pk in [1, 150, 151, 300] {
        set(&mut export, TEAM, pk, "name", json!("x"));
    }
    let options = ImportOptions::default();
    let (done, findings, reported) = succeeds(&cluster, &export, &options, FindingKind::NotInDatabase).await;
    assert_eq!(reported, [1, 150, 151, 300].map(|pk| (TEAM.to_owned(), pk)));
    let reason = findings.iter().find(|it| it.model == TEAM).map(|it| it.reason.clone()).unwrap_or_default();
    assert!(reason.contains("breaks the check `odd` of the table sentry_team"), "{reason}");
    let teams = counts(&done, TEAM);
    assert_eq!((teams.inserted, teams.dropped), (296, 4));
    cluster.stop().await;
}

fn member(organization: i64, user: i64, role: &str) -> serde_json::Value {
    json!({"organization": organization, "user_id": user, "role": role})
}

/// Whose finding has this kind, and what it says.
fn reasons(findings: &[Finding], kind: FindingKind, pk: i64) -> Vec<&str> {
    let of_kind = findings.iter().filter(|it| it.kind() == kind && it.source_pk == pk);
    of_kind.map(|it| it.reason.as_str()).collect()
}

/// Users were merged, and the membership that stays would get the higher role of both: in one chunk before it is
/// inserted, and in the next one afterwards. A constraint that only this database has refuses that role.
pub(crate) async fn a_member_whose_higher_role_this_database_refuses_keeps_its_own(store: Store) {
    for (constraint, broken, owners) in [
        (
            "ALTER TABLE sentry_organizationmember ADD COLUMN more integer CONSTRAINT odd CHECK (role <> 'manager')",
            "breaks the check `odd` of the table sentry_organizationmember",
            0,
        ),
        (
            "CREATE UNIQUE INDEX one_manager ON sentry_organizationmember (organization_id) WHERE role = 'manager'",
            "of the table sentry_organizationmember, which the catalog does not know",
            1,
        ),
    ] {
        let cluster = cluster(store, &["us"]).await;
        change(&cluster, Silo::Region(0), constraint).await;
        let mut export = Export::new();
        export.organization(1, "one");
        // A chunk has at most a mebibyte, which is about 70 of these. The first two pairs are in one chunk, the last two
        // members become rows of the first chunk.
        for pk in 1..=92 {
            let first = match pk {
                3 | 4 => pk - 2,
                91 | 92 => pk - 86,
                pk => pk,
            };
            let name = format!("user-{first}");
            export.user(pk, &if first == pk { name } else { name.to_uppercase() });
            let role = if first == pk { "member" } else { "manager" };
            export.push(MEMBER, pk, &member(1, pk, role));
        }
        for record in &mut export.records {
            record.fields.insert("padding".to_owned(), json!("x".repeat(15_000)));
        }
        let options = ImportOptions::default().merge_users();
        let (done, findings) = import(&cluster, &export, &options).await;
        assert_eq!(done.state(), ImportState::Succeeded, "{constraint}: {:?}", done.failure);
        let counted = counts(&done, MEMBER);
        assert_eq!((counted.inserted, counted.existing, counted.dropped), (88, 4, 0), "{constraint}");
        let db = cluster.db(Silo::Region(0)).await.expect("a database");
        let managers = "SELECT count(*) AS n FROM sentry_organizationmember WHERE role = 'manager'";
        let managers = db.fetch_all(Statement::new(managers)).await.expect("asked");
        assert_eq!(managers[0].int("n").expect("a number"), owners, "{constraint}");
        let reported: Vec<i64> = [3, 4, 91, 92]
            .into_iter()
            .filter(|pk| {
                reasons(&findings, FindingKind::NotInDatabase, *pk).iter().any(|it| it.contains(broken))
            })
            .collect();
        // With the index, one of them may have the role.
        assert_eq!(
            reported.len(),
            4 - usize::try_from(owners).expect("few"),
            "{constraint}: {reported:?} {findings:?}"
        );
        for pk in [3, 4, 91, 92] {
            let merged = reasons(&findings, FindingKind::RecordMerged, pk);
            assert_eq!(merged.len(), 1, "{merged:?}");
            assert_eq!(
                merged[0].contains("with the higher role"),
                !reported.contains(&pk),
                "{pk}: {merged:?}"
            );
        }
        db.close().await;
        cluster.stop().await;
    }
}

async fn approve(cluster: &Cluster, import: &Import) -> Result<(), tonic::Status> {
    let request = ApproveOrganizationsRequest { import_id: import.import_id.clone(), ..Default::default() };
    cluster.region(0).organizations().approve_organizations(request).await.map(drop)
}

/// An organization is hidden until the import ends, and gets its own status then.
pub(crate) async fn an_organization_whose_status_this_database_refuses_stays_hidden(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let index = "CREATE UNIQUE INDEX one_active ON sentry_organization (status) WHERE status = 0";
    change(&cluster, Silo::Region(0), index).await;
    let mut export = Export::new();
    export.user(11, "ann");
    for (pk, slug, status) in [(1, "one", 1), (2, "two", 0), (3, "three", 0)] {
        export.organization(pk, slug).member(pk, pk, 11);
        set(&mut export, "sentry.organization", pk, "status", json!(status));
    }
    let options = ImportOptions::default();
    let (done, findings, reported) = succeeds(&cluster, &export, &options, FindingKind::NotInDatabase).await;
    assert_eq!(reported, [("sentry.organization".to_owned(), 3)]);
    let reason = reasons(&findings, FindingKind::NotInDatabase, 3).concat();
    for part in ["the status 0 breaks", "of the table sentry_organization", "stays hidden"] {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(done.hidden_organization_count, 1);
    let counted = counts(&done, "sentry.organization");
    assert_eq!((counted.inserted, counted.changed), (3, 1));
    let visible = cluster.region(0).visible_organizations().await.expect("a list");
    let mut visible: Vec<&str> = visible.iter().map(|it| it.slug.as_str()).collect();
    visible.sort_unstable();
    assert_eq!(visible, ["one", "two"]);

    // It cannot be approved either, until somebody has changed that.
    let refused = approve(&cluster, &done).await.expect_err("refused");
    assert_eq!(reason_of(&refused), Some(ErrorReason::SchemaChanged), "{refused:?}");
    assert!(refused.message().contains("of the table sentry_organization"), "{}", refused.message());
    change(&cluster, Silo::Region(0), "DROP INDEX one_active").await;
    approve(&cluster, &done).await.expect("approved");
    assert_eq!(cluster.region(0).visible_organizations().await.expect("a list").len(), 3);
    cluster.stop().await;
}

/// The part whose statuses were refused is tried again when the next part has failed.
pub(crate) async fn a_status_that_is_refused_twice_is_reported_once(store: Store) {
    let failpoints = Failpoints::default();
    let cluster = Cluster::builder(store)
        .region("us")
        .failpoints(&failpoints)
        .configure_regions(|options| options.limits.organizations_a_transaction = 1)
        .start()
        .await
        .expect("a cluster");
    let index = "CREATE UNIQUE INDEX one_active ON sentry_organization (status) WHERE status = 0";
    change(&cluster, Silo::Region(0), index).await;
    let mut export = Export::new();
    for (pk, slug, status) in [(1, "one", 0), (2, "two", 0), (3, "three", 1)] {
        export.organization(pk, slug);
        set(&mut export, "sentry.organization", pk, "status", json!(status));
    }
    // After the second organization, whose status is refused.
    failpoints.arm("region.finish.part_shown", Act::Fail, 1);
    let options = ImportOptions::default();
    let (done, _, reported) = succeeds(&cluster, &export, &options, FindingKind::NotInDatabase).await;
    assert!(!failpoints.is_armed(), "the failpoint was not reached");
    assert_eq!(reported, [("sentry.organization".to_owned(), 2)]);
    assert_eq!(counts(&done, "sentry.organization").changed, 1);
    cluster.stop().await;
}

/// Control cannot know what this database takes. The region asks for another slug.
pub(crate) async fn a_slug_that_this_database_refuses_is_asked_for_again(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let check =
        "ALTER TABLE sentry_organization ADD COLUMN more integer CONSTRAINT odd CHECK (slug <> 'two')";
    change(&cluster, Silo::Region(0), check).await;
    let mut export = Export::new();
    export.organization(1, "one").organization(2, "two").organization(3, "Two");
    let options = ImportOptions::default();
    let (done, findings, reported) = succeeds(&cluster, &export, &options, FindingKind::SlugChanged).await;
    assert_eq!(reported, [2, 3].map(|pk| ("sentry.organization".to_owned(), pk)));
    let reason = reasons(&findings, FindingKind::SlugChanged, 2).concat();
    let expected = "`two` breaks the check `odd` of the table sentry_organization, which the catalog does not know; \
                    the organization is `two-";
    assert!(reason.starts_with(expected), "{reason}");
    let slugs: Vec<&str> = done.organizations.iter().map(|it| it.slug.as_str()).collect();
    assert!(slugs.contains(&"one") && slugs.iter().filter(|slug| slug.starts_with("two-")).count() == 2);
    assert_eq!(counts(&done, "sentry.organization").changed, 2);
    let reserved = cluster.control().all_reservations().await.expect("asked");
    let mut reserved: Vec<&str> = reserved.iter().map(|it| it.slug.as_str()).collect();
    let mut slugs = slugs;
    reserved.sort_unstable();
    slugs.sort_unstable();
    assert_eq!(reserved, slugs);
    cluster.stop().await;
}

/// The import reports a database that takes no slug of an organization, and goes on when that is mended.
pub(crate) async fn an_import_whose_slugs_this_database_all_refuses_fails_and_says_why(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let options = ImportOptions::default();
    let mut export = Export::new();
    export.organization(1, "one");
    succeeds(&cluster, &export, &options, FindingKind::SlugChanged).await;
    let index = "CREATE UNIQUE INDEX few ON sentry_organization (substr(slug, 1, 3)) WHERE substr(slug, 1, 3) = 'one'";
    change(&cluster, Silo::Region(0), index).await;
    let mut export = Export::new();
    export.organization(5, "one");
    let (failed, _) = import(&cluster, &export, &options).await;
    let message = assert_failed(&failed, ErrorReason::SchemaChanged);
    for part in ["organization 5 of the file", "of the table sentry_organization", "resume the import"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(failed.failure.clone().unwrap_or_default().state(), ImportState::ResolvingSlugs);
    change(&cluster, Silo::Region(0), "DROP INDEX few").await;
    let request = ResumeImportRequest { import_id: failed.import_id.clone() };
    cluster.region(0).imports().resume_import(request).await.expect("resumed");
    let done = cluster.region(0).wait(&failed.import_id).await.expect("it ends");
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    assert!(done.organizations[0].slug.starts_with("one-"), "{:?}", done.organizations);
    cluster.stop().await;
}

/// PostgreSQL refuses ON CONFLICT for a table with a set that it checks at the end of a transaction, and nothing is known
/// of an index with a condition or an expression.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_with_a_condition_keeps_rows_out_of_a_table_with_a_deferred_set() {
    let index = "CREATE UNIQUE INDEX ON sentry_dashboardfavoriteuser (user_id) WHERE favorited";
    let expression = "CREATE UNIQUE INDEX ON sentry_dashboardfavoriteuser ((position % 1000))";
    let cluster = cluster_of(Release::R26_6, &Failpoints::default(), &[], &[index, expression]).await;
    let mut export = Export::new();
    export.organization(1, "one").user(11, "ann").user(12, "bob");
    for pk in 1..=9 {
        let dashboard = json!({"title": format!("d{pk}"), "created_by_id": 11, "organization": 1});
        export.push("sentry.dashboard", pk, &dashboard);
    }
    let mut favorite = |pk: i64, user: i64, position: i64, favorited: bool| {
        let fields = json!({"organization": 1, "user_id": user, "dashboard": pk, "position": position, "favorited": favorited});
        export.push(FAVORITE, pk, &fields);
    };
    for (pk, user, favorited) in [(1, 11, true), (2, 11, true), (3, 11, false), (4, 12, true), (5, 12, true)]
    {
        favorite(pk, user, pk, favorited);
    }
    // Of these two, the condition is about none, and the expression keeps the second one out.
    favorite(6, 11, 6, false);
    favorite(7, 11, 1006, false);
    favorite(8, 12, 8, false);
    let options = ImportOptions::default();
    let (done, _, reported) = succeeds(&cluster, &export, &options, FindingKind::DuplicateDropped).await;
    assert_eq!(reported, [2, 5, 7].map(|pk| (FAVORITE.to_owned(), pk)));
    assert_eq!(counts(&done, FAVORITE).inserted, 5);
    let query = "SELECT position::text AS line FROM sentry_dashboardfavoriteuser ORDER BY position";
    assert_eq!(ask(&cluster, Silo::Region(0), query).await, ["1", "3", "4", "6", "8"]);
    cluster.stop().await;
}

/// A release of the product that the catalog does not know may have any check.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_breaks_a_check_of_this_database_is_left_out_alone() {
    let of_region = [
        "ALTER TABLE sentry_team ADD CONSTRAINT odd CHECK (name <> 'x')",
        "ALTER TABLE sentry_organization ADD CONSTRAINT no_two CHECK (name <> 'two')",
        // Of this table, a set is checked at the end of a transaction.
        "ALTER TABLE sentry_dashboardfavoriteuser ADD CHECK (position < 3)",
    ];
    let of_control = ["ALTER TABLE auth_user ADD CHECK (username <> 'bob')"];
    let cluster = cluster_of(Release::R26_6, &Failpoints::default(), &of_control, &of_region).await;
    let mut export = Export::new();
    export.organization(1, "one").organization(2, "two").user(11, "ann").user(12, "bob");
    set(&mut export, "sentry.organization", 2, "name", json!("two"));
    export.member(1, 1, 11).member(2, 1, 12).member(3, 2, 11);
    for pk in 1..=20 {
        export.team(pk, 1, &format!("team-{pk}"));
    }
    for pk in [7, 20] {
        set(&mut export, TEAM, pk, "name", json!("x"));
    }
    for pk in 1..=4 {
        let dashboard = json!({"title": format!("d{pk}"), "created_by_id": 11, "organization": 1});
        export.push("sentry.dashboard", pk, &dashboard);
        let favorite = json!({"organization": 1, "user_id": 11, "dashboard": pk, "position": pk});
        export.push(FAVORITE, pk, &favorite);
    }
    let options = ImportOptions::default();
    let (done, findings, reported) = succeeds(&cluster, &export, &options, FindingKind::NotInDatabase).await;
    let expected =
        [(FAVORITE, 3), (FAVORITE, 4), ("sentry.organization", 2), (TEAM, 7), (TEAM, 20), (USER, 12)];
    assert_eq!(reported, expected.map(|(model, pk)| (model.to_owned(), pk)));
    let of_team = findings.iter().find(|it| it.model == TEAM).map(|it| it.reason.clone()).unwrap_or_default();
    for part in ["breaks the check `odd` of the table sentry_team", "was not written"] {
        assert!(of_team.contains(part), "{of_team}");
    }
    let user = findings.iter().find(|it| it.model == USER).map(|it| it.reason.clone()).unwrap_or_default();
    assert!(user.contains("auth_user_username_check"), "{user}");
    for (model, inserted, dropped) in
        [(TEAM, 18, 2), (USER, 1, 1), (MEMBER, 1, 2), (FAVORITE, 2, 2), ("sentry.organization", 1, 1)]
    {
        let counts = counts(&done, model);
        assert_eq!((counts.inserted, counts.dropped), (inserted, dropped), "{model}");
    }
    // The organization that is left out has reserved no slug.
    assert_eq!(done.organizations.iter().map(|it| it.source_id).collect::<Vec<_>>(), [1]);
    let reserved = cluster.control().all_reservations().await.expect("asked");
    assert_eq!(reserved.iter().map(|it| it.slug.as_str()).collect::<Vec<_>>(), ["one"]);
    cluster.stop().await;
}

/// The database decides how long a text may be, and an index of it less than its column.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_longer_column_of_this_database_takes_longer_values() {
    let of_region = [
        "ALTER TABLE sentry_team ALTER COLUMN name TYPE varchar(300)",
        "ALTER TABLE sentry_team ALTER COLUMN slug TYPE varchar(4000)",
    ];
    let cluster = cluster_of(Release::R26_6, &Failpoints::default(), &[], &of_region).await;
    let name = "é".repeat(250);
    let mut export = Export::new();
    export.organization(1, "one").user(11, "ann").user_email(1, 11, "ann@example.com").member(1, 1, 11);
    export.team(21, 1, "team");
    set(&mut export, TEAM, 21, "name", json!(name));
    let options = ImportOptions::default();
    let (dry, reported) = import(&cluster, &export, &options.clone().dry_run()).await;
    assert_eq!(dry.state(), ImportState::Planned, "{:?}", dry.failure);
    assert_eq!(reported, []);
    let (done, findings) = import(&cluster, &export, &options).await;
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    assert_eq!(findings, []);
    assert_eq!(ask(&cluster, Silo::Region(0), "SELECT name AS line FROM sentry_team").await, [name]);
    for (field, value, why) in
        [("name", "n".repeat(301), "300 are the most"), ("slug", "s".repeat(3_000), "an index takes 2600")]
    {
        let mut long = export.clone();
        set(&mut long, TEAM, 21, field, json!(value));
        let message = assert_failed(&import(&cluster, &long, &options).await.0, ErrorReason::ExportInvalid);
        assert!(message.contains(why), "{message}");
    }
    cluster.stop().await;
}
