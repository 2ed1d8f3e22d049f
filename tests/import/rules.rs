//! Single rules, each on the smallest export that demonstrates it.

use causeway_harness::{
    account::{AuditReport, Cell, Outcome},
    cluster::{Cluster, ImportOptions, Silo, Store},
    export::Export,
};
use causeway_proto::relocation::v1::{Finding, FindingKind};
use causeway_silo::{
    db::{DbError, Statement},
    transact,
};
use serde_json::json;

use crate::support::{MEMBER, ORGANIZATION, USER, cluster, import, kinds, told};

fn text<'a>(account: &'a AuditReport, model: &str, pk: i64, field: &str) -> &'a str {
    let row = account.row(model, pk).unwrap_or_else(|| panic!("{model} {pk} is no row"));
    row[field].as_text().unwrap_or_else(|| panic!("{field} of {model} {pk} is no text"))
}

pub(crate) async fn users_who_merge_have_one_membership(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "one").organization(2, "two").user(11, "ann").user(12, "Ann").user(13, "bob");
    export.member(21, 1, 11).member(22, 1, 12).member(23, 2, 12).member(24, 1, 13);
    export.project(31, 1, "p");
    for (pk, user) in [(41, 11), (42, 12), (43, 13)] {
        export.push("sentry.projectbookmark", pk, &json!({"project": 31, "user_id": user}));
    }
    let (_, account) = import(&cluster, &export, &ImportOptions::default().merge_users()).await;
    let Some(Outcome::Inserted(ann)) = account.outcome(USER, 11) else { panic!("the first one is new") };
    assert_eq!(account.outcome(USER, 12), Some(Outcome::Existing(ann)));
    let rows = account.after.rows(MEMBER);
    let users: Vec<i64> = rows.values().filter_map(|row| row["user_id"].as_int()).collect();
    assert_eq!((rows.len(), users.iter().filter(|user| **user == ann).count()), (3, 2));
    let Some(Outcome::Inserted(membership)) = account.outcome(MEMBER, 21) else { panic!("it is new") };
    assert_eq!(account.outcome(MEMBER, 22), Some(Outcome::Existing(membership)));
    assert_eq!(kinds(&account), [("DUPLICATE_DROPPED", 1), ("RECORD_MERGED", 1), ("USER_MERGED", 1)].into());

    // The same again: both are merged into the user who exists already.
    let (_, account) = import(&cluster, &export, &ImportOptions::default().merge_users()).await;
    assert_eq!(account.outcome(USER, 11), Some(Outcome::Existing(ann)));
    assert_eq!(account.outcome(USER, 12), Some(Outcome::Existing(ann)));
    assert_eq!(told(&account, FindingKind::DuplicateDropped), 1);
    assert_eq!(told(&account, FindingKind::RecordMerged), 1);
    cluster.stop().await;
}

fn member(organization: i64, user: i64, role: &str) -> serde_json::Value {
    json!({"organization": organization, "user_id": user, "role": role})
}

/// In any order of the file. The remaining membership gets the teams of both, with the higher role in each team too.
pub(crate) async fn the_higher_role_of_two_memberships_stays_with_the_teams_of_both(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let roles = [
        ("member", "owner", "owner"),
        ("owner", "member", "owner"),
        ("manager", "admin", "manager"),
        ("custom", "member", "member"),
        ("custom", "other", "custom"),
    ];
    let mut export = Export::new();
    export.user(11, "ann").user(12, "ANN");
    for (organization, (first, second, _)) in (1..).zip(roles) {
        export.organization(organization, &format!("o-{organization}"));
        export.team(organization * 10, organization, "both").team(
            organization * 10 + 1,
            organization,
            "second",
        );
        // The second membership in the file has the lower primary key.
        export.push(MEMBER, organization * 10 + 5, &member(organization, 11, first));
        export.push(MEMBER, organization * 10, &member(organization, 12, second));
        for (pk, member, team, role) in [(0, 5, 0, None), (1, 0, 0, Some("admin")), (2, 0, 1, None)] {
            let at = |number: i64| organization * 10 + number;
            let fields = json!({"organizationmember": at(member), "team": at(team), "role": role});
            export.push("sentry.organizationmemberteam", at(pk), &fields);
        }
    }
    let (_, account) = import(&cluster, &export, &ImportOptions::default().merge_users()).await;
    for (organization, (first, second, stays)) in (1..).zip(roles) {
        assert_eq!(text(&account, MEMBER, organization * 10 + 5, "role"), stays, "{first} and {second}");
        let both = account.row("sentry.organizationmemberteam", organization * 10).expect("a membership");
        assert_eq!(both["role"], Cell::Text("admin".to_owned()));
        let second =
            account.row("sentry.organizationmemberteam", organization * 10 + 2).expect("it came along");
        let Some(Outcome::Inserted(kept)) = account.outcome(MEMBER, organization * 10 + 5) else {
            panic!("it is new")
        };
        assert_eq!(second["organizationmember"], Cell::Int(kept));
    }
    assert_eq!(account.after.rows(MEMBER).len(), roles.len());
    assert_eq!(kinds(&account), [("RECORD_MERGED", 10), ("USER_MERGED", 1)].into());
    cluster.stop().await;
}

pub(crate) async fn an_organization_without_an_owner_is_told(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.user(11, "ann").organization(1, "owned").organization(2, "managed").organization(3, "empty");
    export.organization(4, "invited").organization(5, "lost");
    export.push(MEMBER, 1, &member(1, 11, "owner")).push(MEMBER, 2, &member(2, 11, "manager"));
    export.push(MEMBER, 4, &json!({"organization": 4, "email": "ann@example.com", "role": "owner"}));
    export.push(MEMBER, 5, &member(5, 99, "owner"));
    let options = ImportOptions::default();
    let without = |findings: &[Finding]| {
        let told = findings.iter().filter(|it| it.kind() == FindingKind::OrganizationWithoutOwner);
        let mut pks: Vec<i64> = told.map(|finding| finding.source_pk).collect();
        pks.sort_unstable();
        pks
    };
    let dry =
        cluster.region(0).import(&export.to_bytes(), &options.clone().dry_run()).await.expect("it ends");
    let findings = cluster.region(0).findings(&dry.import_id).await.expect("a list");
    assert_eq!(without(&findings), [2, 3, 4, 5]);
    let (_, account) = import(&cluster, &export, &options).await;
    assert_eq!(without(&account.findings), [2, 3, 4, 5]);
    cluster.stop().await;
}

/// Somebody who signs in with it may be mistaken for either user, in the file or in the database, whichever
/// came first.
pub(crate) async fn a_username_that_is_the_address_of_somebody_else_is_told(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let user = |export: &mut Export, pk: i64, name: &str, email: &str| {
        export.push(USER, pk, &json!({"username": name, "password": "x", "email": email}));
    };
    let mut export = Export::new();
    user(&mut export, 1, "Ilse@x.test", "other@x.test");
    user(&mut export, 2, "ilse", "ILSE@x.test");
    user(&mut export, 3, "own@x.test", "own@x.test");
    export.email(1, "address@x.test");
    let told = |account: &AuditReport| {
        let mut places: Vec<(i64, String)> = account
            .findings_of(FindingKind::UsernameIsAddress)
            .iter()
            .map(|finding| (finding.source_pk, finding.field.clone()))
            .collect();
        places.sort();
        places
    };
    let of = |pk: i64, field: &str| (pk, field.to_owned());
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(told(&account), [of(1, "username")]);

    let mut export = Export::new();
    user(&mut export, 4, "ADDRESS@x.test", "four@x.test");
    user(&mut export, 5, "five", "own@x.test");
    user(&mut export, 6, "six@x.test", "six@x.test");
    let dry = ImportOptions::default().dry_run();
    let dry = cluster.region(0).import(&export.to_bytes(), &dry).await.expect("it ends");
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(told(&account), [of(4, "username"), of(5, "email")]);
    let findings = cluster.region(0).findings(&dry.import_id).await.expect("a list");
    assert_eq!(findings.iter().filter(|it| it.kind() == FindingKind::UsernameIsAddress).count(), 2);
    cluster.stop().await;
}

/// However many users are between the two: a chunk of control has 2,500.
pub(crate) async fn a_username_is_compared_with_addresses_of_users_far_away(store: Store) {
    const CHUNK: i64 = 2_500;
    let cluster = cluster(store, &["us"]).await;
    let user = |export: &mut Export, pk: i64, name: &str, email: &str| {
        export.push(USER, pk, &json!({"username": name, "password": "x", "email": email}));
    };
    let mut export = Export::new();
    user(&mut export, 1, "NAME.first@x.test", "one@x.test");
    user(&mut export, 2, "two", "Address.first@x.test");
    // Two users share one address. The first of them also has it as username, and both come before the user who has it
    // only as username.
    user(&mut export, 3, "both@x.test", "both@x.test");
    for pk in 4..=CHUNK {
        user(&mut export, pk, &format!("u{pk}@x.test"), &format!("U{pk}@x.test"));
    }
    user(&mut export, CHUNK + 1, "four", "name.first@x.test");
    user(&mut export, CHUNK + 2, "address.FIRST@x.test", "five@x.test");
    user(&mut export, CHUNK + 3, "six", "BOTH@x.test");
    user(&mut export, CHUNK + 4, "Both@x.test", "seven@x.test");
    let dry = ImportOptions::default().dry_run();
    let dry = cluster.region(0).import(&export.to_bytes(), &dry).await.expect("it ends");
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    let told = |findings: &[Finding]| {
        let found = findings.iter().filter(|it| it.kind() == FindingKind::UsernameIsAddress);
        let mut places: Vec<(i64, String, bool)> =
            found.map(|it| (it.source_pk, it.field.clone(), it.byte_offset > 0)).collect();
        places.sort();
        places
    };
    let of = |pk: i64, field: &str| (pk, field.to_owned(), true);
    let expected = [of(CHUNK + 1, "email"), of(CHUNK + 2, "username"), of(CHUNK + 3, "email")];
    // Primary key CHUNK + 4 has the name of 3 except for case, so it gets another name, which no user has as
    // an address.
    assert_eq!(told(&account.findings), expected);
    let findings = cluster.region(0).findings(&dry.import_id).await.expect("a list");
    assert_eq!(told(&findings), expected, "the dry run");
    cluster.stop().await;
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
    for (pk, front) in [(1, "ticket-booth-"), (3, "ticket-booth-"), (5, "ticket-booth-"), (6, "404-")] {
        assert!(slug(pk).starts_with(front), "{pk}: {}", slug(pk));
    }
    assert_ne!(slug(1), slug(3));
    assert_eq!(text(&account, "sentry.team", 1, "slug"), "night");
    assert!(text(&account, "sentry.team", 2, "slug").starts_with("team-"));
    assert_eq!(text(&account, "sentry.monitor", 1, "slug"), "back-up");
    assert_eq!(kinds(&account), [("SLUG_MADE", 9)].into());

    // The same file gives the same slugs.
    let (_, again) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(text(&again, "sentry.project", 3, "slug"), slug(3));
    cluster.stop().await;
}

/// Exports up to 24.4 name an owner by an actor, and the actor's record may be anywhere in the file.
pub(crate) async fn owners_of_older_exports_are_found(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "one").user(2, "ann").member(3, 1, 2).project(4, 1, "p");
    let owners = [
        (31, json!(7)),
        (32, json!(8)),
        (33, json!(9)),
        (34, json!(10)),
        (35, json!(null)),
        (36, json!("x")),
    ];
    for (pk, owner) in &owners {
        export.push("sentry.rule", *pk, &json!({"project": 4, "label": "r", "data": {}, "owner": owner}));
        let alert = json!({"organization": 1, "name": "a", "threshold_period": 1, "owner": owner});
        export.push("sentry.alertrule", *pk, &alert);
    }
    // An owner in today's fields takes precedence.
    let both = json!({"project": 4, "label": "r", "data": {}, "owner": 7, "owner_user_id": 2});
    export.push("sentry.rule", 37, &both);
    export.push("sentry.actor", 7, &json!({"type": 0, "team": 11, "user_id": null}));
    export.push("sentry.actor", 8, &json!({"type": 1, "team": null, "user_id": 2}));
    export.push("sentry.actor", 9, &json!({"type": 0}));
    export.team(11, 1, "eleven");
    export.push(
        "sentry.team",
        12,
        &json!({"organization": 1, "slug": "t", "name": "t", "actor": 9, "org_role": null}),
    );
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    let id = |model: &str, pk: i64| match account.outcome(model, pk) {
        Some(Outcome::Inserted(id)) => Cell::Int(id),
        outcome => panic!("{model} {pk} is {outcome:?}"),
    };
    let (eleven, twelve, ann) = (id("sentry.team", 11), id("sentry.team", 12), id(USER, 2));
    for (model, team, user) in
        [("sentry.rule", "owner_team", "owner_user_id"), ("sentry.alertrule", "team", "user_id")]
    {
        let of = |pk: i64| {
            let row = account.row(model, pk).unwrap_or_else(|| panic!("{model} {pk} is no row"));
            (row[team].clone(), row[user].clone())
        };
        assert_eq!(of(31), (eleven.clone(), Cell::Null), "{model}");
        assert_eq!(of(32), (Cell::Null, ann.clone()), "{model}");
        assert_eq!(of(33), (twelve.clone(), Cell::Null), "{model}");
        for pk in 34..=36 {
            assert_eq!(of(pk), (Cell::Null, Cell::Null), "{model} {pk}");
        }
    }
    let row = account.row("sentry.rule", 37).expect("a row");
    assert_eq!((&row["owner_team"], &row["owner_user_id"]), (&Cell::Null, &ann));
    // Nothing is known of actor 10, and there is no actor x. A null field is no loss.
    assert_eq!(
        kinds(&account),
        [("CLEARED_REFERENCE", 2), ("REMOVED_FIELD", 2), ("REMOVED_MODEL", 1)].into()
    );
    cluster.stop().await;
}

/// The number refers to a team of the file. Without mapping, it would mean the team with that id in this database.
pub(crate) async fn the_team_that_owns_a_monitor_is_the_one_of_the_file(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "somebody-else").team(1, 1, "theirs").team(2, 1, "theirs-too");
    import(&cluster, &export, &ImportOptions::default()).await;
    let mut export = Export::new();
    export.organization(1, "one").organization(2, "two").project(4, 1, "p");
    export.team(1, 1, "ours").team(2, 2, "filtered");
    for (pk, team) in [(1, json!(1)), (2, json!(2)), (3, json!(99)), (4, json!(null))] {
        let fields = json!({
            "organization_id": 1, "project_id": 4, "slug": format!("m-{pk}"), "name": "m", "owner_team_id": team,
            "guid": format!("6f0d3e1b-1111-4222-8333-44445555000{pk}"),
        });
        export.push("sentry.monitor", pk, &fields);
    }
    let (_, account) = import(&cluster, &export, &ImportOptions::default().filter(&["one"])).await;
    let Some(Outcome::Inserted(ours)) = account.outcome("sentry.team", 1) else { panic!("it is new") };
    let teams =
        [1, 2, 3, 4].map(|pk| account.row("sentry.monitor", pk).expect("a row")["owner_team_id"].clone());
    assert_eq!(teams, [Cell::Int(ours), Cell::Null, Cell::Null, Cell::Null]);
    assert_eq!(kinds(&account), [("CLEARED_REFERENCE", 2)].into());
    cluster.stop().await;
}

/// Adds the checks of the product's own tables. On SQLite they are triggers.
async fn add_checks_of_the_product(cluster: &Cluster, store: Store) {
    let exactly_one = "(rule_id IS NULL) <> (alert_rule_id IS NULL)";
    let at_most_one = "owner_team_id IS NULL OR owner_user_id IS NULL";
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    for (table, check) in
        [("sentry_rulesnooze", exactly_one), ("sentry_rule", at_most_one), ("sentry_monitor", at_most_one)]
    {
        let of_new = check.replace("rule_id", "NEW.rule_id").replace("alert_NEW.", "NEW.alert_");
        let of_new = of_new.replace("owner_", "NEW.owner_");
        let sql = match store {
            Store::Postgres => format!("ALTER TABLE {table} ADD CONSTRAINT own_check CHECK ({check})"),
            Store::Sqlite => format!(
                "CREATE TRIGGER own_check_{table} BEFORE INSERT ON {table} WHEN NOT ({of_new}) \
                 BEGIN SELECT RAISE(ABORT, 'own check'); END"
            ),
        };
        let added: Result<(), DbError> = transact!(DbError, &db, |tx| {
            tx.execute(Statement::new("").push(&sql)).await?;
        });
        added.expect("a check");
    }
}

/// The product's database accepts what the plan accepts: it has checks that two owners of one thing would violate.
pub(crate) async fn two_owners_of_one_thing_arrive_as_one(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    add_checks_of_the_product(&cluster, store).await;
    let mut export = Export::new();
    export.organization(1, "one").user(2, "ann").member(3, 1, 2).project(4, 1, "p").team(5, 1, "t");
    let rule = |team: i64, user: i64| json!({"project": 4, "label": "r", "data": {}, "owner_team": team, "owner_user_id": user});
    export.push("sentry.rule", 1, &rule(5, 2));
    // The team does not exist, so only one of the two owners is left.
    export.push("sentry.rule", 2, &rule(99, 2));
    for (pk, team) in [(1, json!(5)), (2, json!(99)), (3, json!(null))] {
        let fields = json!({
            "organization_id": 1, "project_id": 4, "slug": format!("m-{pk}"), "name": "m", "owner_team_id": team,
            "owner_user_id": 2, "guid": format!("6f0d3e1b-1111-4222-8333-44445555000{pk}"),
        });
        export.push("sentry.monitor", pk, &fields);
    }
    let dry = cluster.region(0).import(&export.to_bytes(), &ImportOptions::default().dry_run()).await;
    let dry = dry.expect("it ends");
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    let id = |model: &str, pk: i64| match account.outcome(model, pk) {
        Some(Outcome::Inserted(id)) => Cell::Int(id),
        outcome => panic!("{model} {pk} is {outcome:?}"),
    };
    let (team, ann) = (id("sentry.team", 5), id(USER, 2));
    let owners = |model: &str, pk: i64, field: &str| {
        let row = account.row(model, pk).unwrap_or_else(|| panic!("{model} {pk} is no row"));
        (row[field].clone(), row["owner_user_id"].clone())
    };
    assert_eq!(owners("sentry.rule", 1, "owner_team"), (team.clone(), Cell::Null));
    assert_eq!(account.outcome("sentry.rule", 2), Some(Outcome::Dropped));
    assert_eq!(owners("sentry.monitor", 1, "owner_team_id"), (team, Cell::Null));
    assert_eq!(owners("sentry.monitor", 2, "owner_team_id"), (Cell::Null, ann.clone()));
    assert_eq!(owners("sentry.monitor", 3, "owner_team_id"), (Cell::Null, ann));
    assert_eq!(kinds(&account), [("CLEARED_REFERENCE", 3), ("DROPPED_REFERENCE", 1)].into());

    let place = |finding: &Finding| (finding.model.clone(), finding.source_pk, finding.field.clone());
    let cleared = |findings: &[Finding], told: &str| -> Vec<(String, i64, String)> {
        let cleared = findings.iter().filter(|it| it.kind() == FindingKind::ClearedReference);
        cleared.filter(|it| it.reason.contains(told) && it.byte_offset > 0).map(place).collect()
    };
    let user = "owner_user_id".to_owned();
    let two = [("sentry.monitor".to_owned(), 1, user.clone()), ("sentry.rule".to_owned(), 1, user)];
    for (mut found, told) in [
        (cleared(&account.findings, "was set beside owner_team"), "the import"),
        (
            cleared(
                &cluster.region(0).findings(&dry.import_id).await.expect("a list"),
                "is set beside owner_team",
            ),
            "the dry run",
        ),
    ] {
        found.sort();
        assert_eq!(found, two, "{told}");
    }
    cluster.stop().await;
}

/// No record of an export with all kinds of records violates the checks of the product's tables.
pub(crate) async fn every_model_arrives_in_tables_with_the_products_checks(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    add_checks_of_the_product(&cluster, store).await;
    let export = causeway_harness::export::exhaustive().expect("an export");
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    for model in ["sentry.rulesnooze", "sentry.rule", "sentry.monitor"] {
        assert!(account.after.rows(model).len() > 1, "{model}");
    }
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

pub(crate) async fn a_merged_member_follows_the_user_who_is_there(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "one").user(1, "ann").member(1, 1, 1);
    import(&cluster, &export, &ImportOptions::default()).await;
    // Under the same name, with another address and inactive.
    let mut export = Export::new();
    export.organization(1, "two").member(1, 1, 1);
    export.push(
        USER,
        1,
        &json!({"username": "Ann", "password": "x", "email": "other@example.com", "is_active": false}),
    );
    let member = json!({"user_email": "third@example.com", "user_is_active": false});
    let fields = member.as_object().cloned().unwrap_or_default();
    export.find(MEMBER, 1).expect("it").fields.extend(fields);
    let (_, account) = import(&cluster, &export, &ImportOptions::default().merge_users()).await;
    let row = account.row(MEMBER, 1).expect("a member");
    assert_eq!(row["user_email"], Cell::Text("ann@example.com".to_owned()));
    assert_eq!(row["user_is_active"], Cell::Bool(true));
    assert_eq!(text(&account, USER, 1, "email"), "ann@example.com");
    cluster.stop().await;
}

pub(crate) async fn usernames_that_differ_only_in_case_are_taken(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "one").user(13, "ANN").user(11, "ann").user(12, "Ann").user(14, "bob");
    export.member(21, 1, 11).member(22, 1, 12).member(23, 1, 13).member(24, 1, 14);
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    // The first user of the file keeps the name.
    assert_eq!(text(&account, USER, 13, "username"), "ANN");
    assert!(text(&account, USER, 11, "username").starts_with("ann-"));
    assert!(text(&account, USER, 12, "username").starts_with("Ann-"));
    assert_eq!(account.after.rows(MEMBER).len(), 4);
    assert_eq!(kinds(&account), [("USERNAME_CHANGED", 2)].into());

    // Against the database: the file writes the name in another case.
    let mut export = Export::new();
    export.organization(1, "two").user(1, "aNN").user(2, "Bob").member(1, 1, 1).member(2, 1, 2);
    let (_, suffixed) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(told(&suffixed, FindingKind::UsernameChanged), 2);
    let (_, merged) = import(&cluster, &export, &ImportOptions::default().merge_users()).await;
    assert_eq!(told(&merged, FindingKind::UserMerged), 2);
    cluster.stop().await;
}

pub(crate) async fn a_long_username_is_shortened_for_its_suffix(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let name = "é".repeat(128);
    let mut export = Export::new();
    export.push(USER, 1, &json!({"username": name, "password": "x", "email": "a@example.com"}));
    export.push(USER, 2, &json!({"username": name, "password": "x", "email": ""}));
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(text(&account, USER, 1, "username"), name);
    assert!(text(&account, USER, 2, "username").starts_with("ééé"));
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
    assert_eq!(told(&account, FindingKind::OptionLeftOut), 0);
    assert_eq!(told(&account, FindingKind::SkippedByRule), 7);
    cluster.stop().await;
}

pub(crate) async fn addresses_are_the_same_in_any_case(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "one").user(1, "ann").member(1, 1, 1);
    export.email(1, "Ann@Example.com").email(2, "ann@example.com").email(3, "bob@example.com");
    export.user_email(1, 1, "ANN@example.com");
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    let Some(Outcome::Inserted(id)) = account.outcome("sentry.email", 1) else { panic!("it is new") };
    assert_eq!(account.outcome("sentry.email", 2), Some(Outcome::Existing(id)));
    assert_eq!(text(&account, "sentry.email", 1, "email"), "Ann@Example.com");

    let mut export = Export::new();
    export.email(7, "ANN@EXAMPLE.COM").email(8, "BOB@example.com").email(9, "new@example.com");
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(account.outcome("sentry.email", 7), Some(Outcome::Existing(id)));
    assert_eq!(account.after.rows("sentry.email").len(), 3);
    cluster.stop().await;
}

pub(crate) async fn a_token_that_is_taken_is_cleared(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "one");
    for (pk, token) in [(2, "t"), (1, "t"), (3, "u")] {
        export.push(
            MEMBER,
            pk,
            &json!({
                "organization": 1, "email": format!("{pk}@example.com"), "token": token,
                "token_expires_at": "2030-01-01T00:00:00Z", "user_is_active": false,
            }),
        );
    }
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    let tokens = [1, 2, 3].map(|pk| account.row(MEMBER, pk).expect("a member")["token"].clone());
    // The first membership of the file keeps the token.
    assert_eq!(tokens, [Cell::Null, Cell::Text("t".to_owned()), Cell::Text("u".to_owned())]);
    assert_eq!(told(&account, FindingKind::TokenCleared), 1);

    export.find(ORGANIZATION, 1).expect("it").fields.insert("slug".to_owned(), json!("two"));
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(told(&account, FindingKind::TokenCleared), 3);
    cluster.stop().await;
}

pub(crate) async fn an_auth_token_without_a_hash_gets_a_new_one(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export
        .organization(1, "one")
        .auth_token(1, 1, "kept")
        .auth_token(2, 1, "empty")
        .auth_token(3, 1, "missing");
    export.find("sentry.orgauthtoken", 2).expect("it").fields.insert("token_hashed".to_owned(), json!(""));
    export.find("sentry.orgauthtoken", 3).expect("it").fields.remove("token_hashed");
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(account.after.rows("sentry.orgauthtoken").len(), 3);
    assert_eq!(kinds(&account), [("KEY_REGENERATED", 2)].into());
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

pub(crate) async fn a_thousand_organizations_of_one_slug_are_told_apart(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    for pk in 1..=1_100 {
        export.organization(pk, "same");
    }
    let (import, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!((import.organizations.len(), import.organization_count), (1_000, 1_100));
    assert_eq!(told(&account, FindingKind::SlugChanged), 1_099);
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

pub(crate) async fn an_unknown_field_is_told_whatever_the_scope(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.push("sentry.controloption", 1, &json!({"key": "k", "value": 1, "mood": 1}));
    export.push("sentry.userrole", 1, &json!({"name": "r", "permissions": [], "mood": 1}));
    export.organization(1, "one");
    export.push("sentry.team", 1, &json!({"organization": 1, "slug": "t", "name": "t", "mood": 1}));
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(told(&account, FindingKind::UnknownField), 3);
    cluster.stop().await;
}
