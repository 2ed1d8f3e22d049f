//! Rules about users and members, each on the smallest export that demonstrates it.

use causeway_harness::{
    account::{AuditReport, Cell, Outcome},
    cluster::{ImportOptions, Store},
    export::Export,
};
use causeway_proto::relocation::v1::{Finding, FindingKind};
use serde_json::json;

use crate::support::{MEMBER, ORGANIZATION, USER, cluster, import, kinds, member, reported};

fn text<'a>(account: &'a AuditReport, model: &str, pk: i64, field: &str) -> &'a str {
    let row = account.row(model, pk).unwrap_or_else(|| panic!("{model} {pk} is no row"));
    row[field].as_text().unwrap_or_else(|| panic!("{field} of {model} {pk} is not text"))
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
    assert_eq!(reported(&account, FindingKind::DuplicateDropped), 1);
    assert_eq!(reported(&account, FindingKind::RecordMerged), 1);
    cluster.stop().await;
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

pub(crate) async fn an_organization_without_an_owner_is_reported(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.user(11, "ann").organization(1, "owned").organization(2, "managed").organization(3, "empty");
    export.organization(4, "invited").organization(5, "lost");
    export.push(MEMBER, 1, &member(1, 11, "owner")).push(MEMBER, 2, &member(2, 11, "manager"));
    export.push(MEMBER, 4, &json!({"organization": 4, "email": "ann@example.com", "role": "owner"}));
    export.push(MEMBER, 5, &member(5, 99, "owner"));
    let options = ImportOptions::default();
    let without = |findings: &[Finding]| {
        let reported = findings.iter().filter(|it| it.kind() == FindingKind::OrganizationWithoutOwner);
        let mut pks: Vec<i64> = reported.map(|finding| finding.source_pk).collect();
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
pub(crate) async fn a_username_that_is_the_address_of_somebody_else_is_reported(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let user = |export: &mut Export, pk: i64, name: &str, email: &str| {
        export.push(USER, pk, &json!({"username": name, "password": "x", "email": email}));
    };
    let mut export = Export::new();
    user(&mut export, 1, "Ilse@x.test", "other@x.test");
    user(&mut export, 2, "ilse", "ILSE@x.test");
    user(&mut export, 3, "own@x.test", "own@x.test");
    export.email(1, "address@x.test");
    let reported = |account: &AuditReport| {
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
    assert_eq!(reported(&account), [of(1, "username")]);

    let mut export = Export::new();
    user(&mut export, 4, "ADDRESS@x.test", "four@x.test");
    user(&mut export, 5, "five", "own@x.test");
    user(&mut export, 6, "six@x.test", "six@x.test");
    let dry = ImportOptions::default().dry_run();
    let dry = cluster.region(0).import(&export.to_bytes(), &dry).await.expect("it ends");
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(reported(&account), [of(4, "username"), of(5, "email")]);
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
        // With an address of their own, none is added.
        export.user_email(pk, pk, email);
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
    let reported = |findings: &[Finding]| {
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
    assert_eq!(reported(&account.findings), expected);
    let findings = cluster.region(0).findings(&dry.import_id).await.expect("a list");
    assert_eq!(reported(&findings), expected, "the dry run");
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
    assert_eq!(reported(&suffixed, FindingKind::UsernameChanged), 2);
    let (_, merged) = import(&cluster, &export, &ImportOptions::default().merge_users()).await;
    assert_eq!(reported(&merged, FindingKind::UserMerged), 2);
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
    assert_eq!(reported(&account, FindingKind::TokenCleared), 1);

    export.find(ORGANIZATION, 1).expect("it").fields.insert("slug".to_owned(), json!("two"));
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(reported(&account, FindingKind::TokenCleared), 3);
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
