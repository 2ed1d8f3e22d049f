//! Small exports of the shapes that installations really have: values that surprise, one in each. Whole, twice and merged,
//! each held against the file, and then reverted.

use causeway_harness::{
    cluster::{ImportOptions, Store},
    export::Export,
};
use causeway_proto::region::v1::ImportState;
use serde_json::{Value, json};

use crate::support::{MEMBER, USER, cluster, import, revert_all, rows_now};

/// Keys of organizations are as large as those that regions share, and an address may be none.
const ORGANIZATION_PK: i64 = 4_556_000_000_000_001;

/// One organization and its owner, as every export of an organization has them.
fn base() -> Export {
    let mut export = Export::new();
    export.organization(ORGANIZATION_PK, "shape").push(
        USER,
        2,
        &json!({
            "username": "keeper", "password": "md5$x$y", "email": "keeper", "name": "", "flags": "0", "avatar_type": 0,
            "avatar_url": null, "is_sentry_app": null, "session_nonce": null, "last_login": null,
            "date_joined": "2024-10-29T20:59:20.204Z",
        }),
    );
    export.member(3, ORGANIZATION_PK, 2);
    export
}

/// The base with one more record.
fn with(model: &str, fields: &Value) -> Export {
    let mut export = base();
    export.push(model, 1, fields);
    export
}

/// The user of an application, who has neither a name nor an address, with the address of nobody.
fn user_of_an_application() -> Export {
    let mut export = Export::new();
    export.push("sentry.email", 9, &json!({"email": "", "date_added": "2023-07-26T19:19:37.201Z"}));
    let user =
        json!({"username": "app-afcf", "password": "x", "email": "", "is_sentry_app": true, "flags": "0"});
    export.push(USER, 34, &user);
    export.push("sentry.useremail", 34, &json!({"user": 34, "email": "", "is_verified": false}));
    export
}

/// Everybody is allowed everything in the other installation. None of that arrives.
fn user_of_all_rights() -> Export {
    let mut export = Export::new();
    let user = json!({
        "username": "chief", "password": "x", "email": "chief@example.com", "is_staff": true, "is_superuser": true,
        "flags": "1", "is_managed": true,
    });
    export.push(USER, 1, &user).email(1, "chief@example.com").user_email(1, 1, "chief@example.com");
    export.push("sentry.authenticator", 1, &json!({"user": 1, "type": 1, "config": "\"\""}));
    export.push("sentry.userip", 1, &json!({"user": 1, "ip_address": "127.0.0.2"}));
    export.push("sentry.userpermission", 1, &json!({"user": 1, "permission": "users.admin"}));
    let role = json!({"name": "Chief", "permissions": "['users.admin', 'options.admin']"});
    export.push("sentry.userrole", 1, &role).push("sentry.userroleuser", 1, &json!({"user": 1, "role": 1}));
    export.user_option(1, 1, "timezone", &json!("Europe/Vienna"));
    export
}

/// What a new installation has, with options and relays of the whole installation.
fn new_installation() -> Export {
    let mut export = base();
    for (pk, value) in [(1, json!(1_687_902_001.262_330_5)), (2, json!("\"23.7.0.dev0\"")), (3, json!(null))]
    {
        export.push("sentry.option", pk, &json!({"key": format!("k{pk}"), "value": value}));
    }
    export.push(
        "sentry.relay",
        1,
        &json!({"relay_id": "541d8473-0a90-4a4e-b536-704f223521b0", "first_seen": null}),
    );
    let usage = json!({"relay_id": "541d8473-0a90-4a4e-b536-704f223521b0", "version": "23.6.1"});
    export.push("sentry.relayusage", 1, &usage);
    export.push("sentry.apiapplication", 1, &json!({"client_id": "c", "client_secret": "s", "name": "n"}));
    export.push("sentry.actor", 1, &json!({"type": 0, "team": 1}));
    let team = json!({"organization": ORGANIZATION_PK, "slug": "t", "name": "T", "actor": 1});
    export.push("sentry.team", 1, &team);
    export.project(1, ORGANIZATION_PK, "internal");
    let key = json!({"project": 1, "label": "Default", "public_key": "a".repeat(32), "secret_key": "b".repeat(32), "roles": "1"});
    export.push("sentry.projectkey", 1, &key);
    export.push("sentry.projectteam", 1, &json!({"project": 1, "team": 1}));
    export.push(
        MEMBER,
        4,
        &json!({"organization": ORGANIZATION_PK, "email": "pending@example.com", "role": "member"}),
    );
    let member = json!({"team": 1, "organizationmember": 3, "is_active": true, "role": null});
    export.push("sentry.organizationmemberteam", 1, &member);
    for (pk, value) in [(1, json!(11)), (2, json!("[\"*\"]")), (3, json!("\"883653\""))] {
        export.project_option(pk, 1, &format!("sentry:option-{pk}"), &value);
    }
    let data = "{\"match\":\"all\",\"conditions\":[],\"actions\":[]}";
    export.push("sentry.rule", 1, &json!({"project": 1, "environment_id": null, "label": "r", "data": data}));
    export
}

fn shapes() -> Vec<(&'static str, Export)> {
    let of = ORGANIZATION_PK;
    let long = |length: usize| format!("{}@example.com", "e".repeat(length - 12));
    let mut widget = base();
    widget.push("sentry.dashboard", 1, &json!({"organization": of, "title": "d", "created_by_id": 2}));
    let text =
        json!({"dashboard": 1, "title": "w", "display_type": 0, "order": 0, "description": "d".repeat(300)});
    widget.push("sentry.dashboardwidget", 1, &text);
    let mut monitor = base();
    monitor.project(5, of, "p");
    let fields = json!({
        "organization_id": of, "project_id": 5, "slug": "m", "name": "m", "guid": "6f0d3e1b-1111-4222-8333-444455556666",
        "config": {"schedule": "0 0 * * *", "alert_rule_id": null},
    });
    monitor.push("monitors.monitor", 1, &fields);
    let dashboard =
        json!({"organization": of, "title": "d", "created_by_id": null, "filters": null, "prebuilt_id": 1});
    let view = json!({
        "organization": of, "user_id": 2, "name": "v", "query": "q", "query_sort": "date", "visibility": "organization",
        "is_all_projects": false, "environments": "[]", "time_filters": {"period": "14d"},
    });
    let placeholder =
        json!({"organization": of, "user_id": null, "email": null, "role": "member", "invite_status": 0});
    let mut owner = base();
    owner.find(MEMBER, 3).expect("it is there").fields.insert("user_email".to_owned(), json!(long(100)));
    let user = json!({"username": "long", "password": "x", "email": long(100)});
    let project = json!({"organization": of, "slug": "s".repeat(80), "name": "p"});
    vec![
        ("the user of an application", user_of_an_application()),
        ("a user of all rights", user_of_all_rights()),
        ("a new installation", new_installation()),
        ("a dashboard that nobody made", with("sentry.dashboard", &dashboard)),
        ("a view without a position", with("sentry.groupsearchview", &view)),
        ("a copied address of 100 characters", owner),
        ("an address of 100 characters", with(USER, &user)),
        ("a slug of 80 characters", with("sentry.project", &project)),
        ("a monitor under its newer name", monitor),
        ("a member without user and address", with(MEMBER, &placeholder)),
        ("a description of 300 characters", widget),
    ]
}

pub(crate) async fn every_shape_of_exports_arrives(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let before = rows_now(&cluster, 0).await;
    for (shape, export) in shapes() {
        let mut ids = Vec::new();
        let plain = ImportOptions::default();
        for options in [plain.clone(), plain.clone(), plain.merge_users()] {
            let (done, report) = import(&cluster, &export, &options).await;
            assert_eq!(done.state(), ImportState::Succeeded, "{shape}: {:?}", done.failure);
            assert!(!report.keys.is_empty(), "{shape}: nothing arrived");
            ids.push(done.import_id);
        }
        revert_all(&cluster, &ids).await;
        assert_eq!(rows_now(&cluster, 0).await, before, "{shape}: something is left");
    }
    cluster.stop().await;
}
