//! What an import passes over, with a finding, while it imports the rest.

use causeway_harness::{
    account::{Cell, Outcome},
    cluster::{ImportOptions, Service, Store},
    export::Export,
};
use causeway_proto::{
    region::v1::{Import, ImportState},
    relocation::v1::{FindingKind as Kind, ModelCounts, Severity},
};
use serde_json::{Value, json};

use crate::support::{
    MEMBER, ORGANIZATION, PROJECT, PROJECT_KEY, TEAM, Told, USER, cluster, reason, rows_now, tells,
    tells_in_short, with_record,
};

/// An export with one organization that has this slug.
fn of(slug: &str) -> Export {
    let mut export = Export::new();
    export.organization(1, slug).user(2, slug).member(3, 1, 2);
    export
}

struct AuditCase {
    name: &'static str,
    records: Vec<(&'static str, i64, Value)>,
    expected: Vec<Told>,
    /// A model, the number of its records that count as out of scope, and the number that count as passed over.
    not_imported: (&'static str, i64, i64),
}

fn strangers() -> Vec<AuditCase> {
    let team = |more: Value| {
        let mut fields = json!({"organization": 1, "slug": "t", "name": "t"});
        fields.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        fields
    };
    vec![
        AuditCase {
            name: "unknown-models",
            records: vec![
                ("sentry.nonsense", 7, json!({"any": [{"thing": 1}]})),
                ("sentry.nonsense", 7, json!({})),
                ("other.thing", 1, json!({"organization": 99})),
            ],
            expected: vec![
                (Kind::UnknownModel, "sentry.nonsense", 7, ""),
                (Kind::UnknownModel, "other.thing", 1, ""),
            ],
            not_imported: ("sentry.nonsense", 0, 2),
        },
        AuditCase {
            name: "excluded-models",
            records: vec![
                ("sentry.auditlogentry", 8, json!({"organization_id": 1})),
                ("sentry.auditlogentry", 9, json!({"organization_id": 1})),
            ],
            expected: vec![(Kind::UnexpectedModel, "sentry.auditlogentry", 8, "")],
            not_imported: ("sentry.auditlogentry", 0, 2),
        },
        AuditCase {
            name: "other-scopes",
            records: vec![
                ("sentry.option", 1, json!({"key": "k", "value": "\"v\""})),
                // The import does not check values of records that it does not import.
                ("sentry.userip", 1, json!({"user": "x", "ip_address": "no address"})),
                ("sentry.userip", 2, json!({"user": 2, "ip_address": "300.1.2.3/99"})),
            ],
            expected: vec![],
            not_imported: ("sentry.userip", 2, 0),
        },
        AuditCase {
            name: "fields-of-other-scopes",
            records: vec![("sentry.option", 1, json!({"key": "k", "value": "\"v\"", "mood": 1}))],
            expected: vec![(Kind::UnknownField, "sentry.option", 1, "mood")],
            not_imported: ("sentry.option", 1, 0),
        },
        AuditCase {
            name: "unknown-fields",
            records: vec![
                ("sentry.team", 4, team(json!({"mood": "fine", "call_faults": {"sunny": [true]}}))),
                ("sentry.team", 5, team(json!({"mood": "bad", "slug": "u"}))),
            ],
            expected: vec![
                (Kind::UnknownField, TEAM, 4, "mood"),
                (Kind::UnknownField, TEAM, 4, "call_faults"),
            ],
            not_imported: ("", 0, 0),
        },
        AuditCase {
            name: "removed-models",
            records: vec![
                ("sentry.actor", 4, json!({"type": 0, "team": 1})),
                ("Sentry.Actor", 5, json!({"type": 1})),
            ],
            expected: vec![(Kind::RemovedModel, "sentry.actor", 4, "")],
            not_imported: ("sentry.actor", 0, 2),
        },
        AuditCase {
            name: "removed-fields",
            records: vec![
                ("sentry.team", 4, team(json!({"actor": 4, "org_role": "owner"}))),
                ("sentry.team", 5, team(json!({"actor": 5, "org_role": null, "slug": "u"}))),
            ],
            // A field that names an actor is not a loss: the import follows the actor.
            expected: vec![(Kind::RemovedField, TEAM, 4, "org_role")],
            not_imported: ("", 0, 0),
        },
        AuditCase {
            name: "unknown-choices",
            records: vec![("sentry.team", 4, team(json!({"status": 77})))],
            expected: vec![(Kind::UnknownChoice, TEAM, 4, "status")],
            not_imported: ("", 0, 0),
        },
    ]
}

pub(crate) async fn models_and_fields_that_are_not_imported_are_reported(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    for case in strangers() {
        let mut export = of(case.name);
        for (model, pk, fields) in &case.records {
            export.push(model, *pk, fields);
        }
        let options = ImportOptions::default();
        let (import, _) = tells(&cluster, case.name, &export.to_bytes(), &options, &case.expected).await;
        let (model, out_of_scope, passed_over) = case.not_imported;
        let counted = import.models.iter().find(|counts| counts.model == model);
        let counted = counted.map_or((0, 0), |counts| (counts.out_of_scope, counts.passed_over));
        assert_eq!(counted, (out_of_scope, passed_over), "{}: {model}", case.name);
    }
    cluster.stop().await;
}

pub(crate) async fn a_file_of_which_nothing_is_imported_says_so(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let unknown =
        r#"[{"model": "sentry.nonsense", "pk": 7, "fields": {}}, {"model": "x", "pk": 8, "fields": {}}]"#;
    let other = r#"[{"model": "sentry.option", "pk": 1, "fields": {"key": "k", "value": "v"}}]"#;
    let strangers = [(Kind::UnknownModel, "sentry.nonsense", 7, ""), (Kind::UnknownModel, "x", 8, "")];
    let nothing = (Kind::NothingToImport, "", 0, "");
    for (name, file, reported, passed_over, out_of_scope) in [
        ("no known model", unknown, [&strangers[..], &[nothing]].concat(), 2, 0),
        ("another scope", other, vec![nothing], 0, 1),
        ("no records", "[]", vec![nothing], 0, 0),
    ] {
        let options = ImportOptions::default();
        let (import, _) = tells(&cluster, name, file.as_bytes(), &options, &reported).await;
        let sum = |count: fn(&ModelCounts) -> i64| -> i64 { import.models.iter().map(count).sum() };
        let counted = (sum(|counts| counts.passed_over), sum(|counts| counts.out_of_scope));
        assert_eq!(counted, (passed_over, out_of_scope), "{name}");
        let findings = cluster.region(0).findings(&import.import_id).await.expect("a list");
        let last = findings.last().expect("one");
        assert_eq!(last.severity(), Severity::Warning, "{name}");
        assert!(last.reason.ends_with("so nothing is imported"), "{name}: {}", last.reason);
    }
    cluster.stop().await;
}

pub(crate) async fn a_name_that_only_looks_known_is_reported(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let name = "a control character in the name of a model";
    let mut export = of("looks");
    export.team(4, 1, "t").push("sentry.team\u{7}", 5, &json!({"organization": 1, "slug": "u", "name": "u"}));
    let reported = [(Kind::UnknownModel, "sentry.team\u{fffd}", 5, "")];
    let (import, rows_now) = tells_in_short(&cluster, name, &export.to_bytes(), &reported).await;
    assert_eq!(rows_now.rows(TEAM).len(), 1, "{name}");
    let counted = import.models.iter().find(|counts| counts.model == "sentry.team\u{fffd}");
    assert_eq!(counted.map(|counts| (counts.seen, counts.passed_over)), Some((1, 1)), "{name}");
    cluster.stop().await;
}

pub(crate) async fn records_with_lost_references_are_reported_and_counted(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let name = "a reference that leads nowhere, and what hangs from its record";
    let mut export = of("lost");
    export.project(5, 1, "kept").push(
        PROJECT,
        6,
        &json!({"organization": 1, "slug": "lost", "name": "lost", "template": 77}),
    );
    export.project_key(7, 6, "lost").project_key(8, 5, "kept");
    export.push("sentry.rule", 9, &json!({"project": 6, "label": "l", "data": {}}));
    export.push("sentry.ruleactivity", 10, &json!({"rule": 9, "type": 1, "user_id": 2}));
    export.push("sentry.projectbookmark", 11, &json!({"project": 5, "user_id": 99}));
    export.push(MEMBER, 12, &json!({"organization": 1, "email": "invited@example.com", "inviter_id": 98}));
    let expected = [
        (Kind::DroppedReference, PROJECT, 6, "template"),
        (Kind::DroppedReference, PROJECT_KEY, 7, "project"),
        (Kind::DroppedReference, "sentry.rule", 9, "project"),
        (Kind::DroppedReference, "sentry.ruleactivity", 10, "rule"),
        (Kind::DroppedReference, "sentry.projectbookmark", 11, "user_id"),
        (Kind::ClearedReference, MEMBER, 12, "inviter_id"),
    ];
    let options = ImportOptions::default();
    let (import, account) = tells(&cluster, name, &export.to_bytes(), &options, &expected).await;
    for (model, pk, leads) in [
        (PROJECT, 6, "sentry.projecttemplate 77"),
        (PROJECT_KEY, 7, "sentry.project 6"),
        ("sentry.rule", 9, "sentry.project 6"),
        ("sentry.ruleactivity", 10, "sentry.rule 9"),
        ("sentry.projectbookmark", 11, "sentry.user 99"),
        (MEMBER, 12, "sentry.user 98"),
    ] {
        let reason = reason(&account, model, pk);
        assert!(reason.contains(leads), "{model} {pk}: {reason:?} does not say {leads}");
    }
    let dropped: i64 = import.models.iter().map(|counts| counts.dropped).sum();
    assert_eq!(dropped, 5, "{:?}", import.models);
    for (model, pk) in [(ORGANIZATION, 1), (PROJECT, 5), (PROJECT_KEY, 8), (MEMBER, 12)] {
        assert!(
            matches!(account.outcome(model, pk), Some(Outcome::Inserted(_))),
            "{model} {pk} was not imported"
        );
    }
    cluster.stop().await;
}

pub(crate) async fn a_second_membership_after_a_merge_is_reported(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let options = ImportOptions::default().merge_users();
    let mut first = Export::new();
    first.organization(1, "first").user(2, "ann").member(3, 1, 2);
    tells(&cluster, "nobody is there", &first.to_bytes(), &options, &[]).await;

    let name = "two users who are one by now";
    let mut second = Export::new();
    second.organization(1, "second").user(2, "Ann").user(4, "ANN").member(3, 1, 2).member(5, 1, 4);
    let expected = [
        (Kind::UserMerged, USER, 2, "username"),
        (Kind::UserMerged, USER, 4, "username"),
        (Kind::RecordMerged, MEMBER, 5, ""),
    ];
    let (_, account) = tells(&cluster, name, &second.to_bytes(), &options, &expected).await;
    assert_eq!(account.outcome(USER, 2), account.outcome(USER, 4), "{name}");
    let Some(Outcome::Inserted(id)) = account.outcome(MEMBER, 3) else {
        panic!("{name}: the first one is new")
    };
    assert_eq!(account.outcome(MEMBER, 5), Some(Outcome::Existing(id)), "{name}");
    cluster.stop().await;
}

pub(crate) async fn a_slug_of_the_filter_that_the_export_lacks_is_reported(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let name = "one slug of three";
    let mut export = of("here");
    export.organization(4, "not-asked-for").team(5, 4, "t");
    let options = ImportOptions::default().filter(&["here", "HERE", "elsewhere"]);
    let missing = (Kind::FilterSlugNotFound, ORGANIZATION, 0, "");
    let (_, account) = tells(&cluster, name, &export.to_bytes(), &options, &[missing, missing]).await;
    for slug in ["`HERE`", "`elsewhere`"] {
        let reported = account.findings.iter().any(|finding| finding.reason.contains(slug));
        assert!(reported, "{name}: {slug} is not in {:?}", account.findings);
    }
    assert_eq!(account.outcome(TEAM, 5), Some(Outcome::Filtered), "{name}");
    cluster.stop().await;
}

pub(crate) async fn nul_characters_are_removed_and_reported(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let name = "NUL in texts";
    let mut export = of("nul");
    export.push(TEAM, 4, &json!({"organization": 1, "slug": "t", "name": "a\0b\0"}));
    export.push(TEAM, 5, &json!({"organization": 1, "slug": "\0u", "name": "c\0"}));
    export.push(USER, 6, &json!({"username": "nul 2", "name": "Nu\0l", "password": "x", "email": "\0"}));
    export.push(
        "sentry.orgauthtoken",
        7,
        &json!({"organization_id": 1, "token_hashed": "nul", "name": "n", "scope_list": ["org:\0ci", "x"]}),
    );
    let expected = [
        (Kind::TextCleaned, TEAM, 4, "name"),
        (Kind::TextCleaned, TEAM, 5, "slug"),
        (Kind::TextCleaned, USER, 6, "name"),
        (Kind::TextCleaned, USER, 6, "email"),
        (Kind::TextCleaned, "sentry.orgauthtoken", 7, "scope_list"),
    ];
    let (_, account) = tells(&cluster, name, &export.to_bytes(), &ImportOptions::default(), &expected).await;
    for (model, pk, field, text) in [
        (TEAM, 4, "name", "ab"),
        (TEAM, 5, "name", "c"),
        (TEAM, 5, "slug", "u"),
        (USER, 6, "name", "Nul"),
        (USER, 6, "email", ""),
    ] {
        let row = account.row(model, pk).unwrap_or_else(|| panic!("{name}: no {model} {pk}"));
        assert_eq!(row[field].as_text(), Some(text), "{name}: {model} {pk} {field}");
    }

    let name = "NUL in JSON, where its escape is a text that can be held";
    let mut export = of("nul-json");
    let data = json!({"k\0": ["v\0"]});
    export.project(5, 1, "p").push("sentry.rule", 6, &json!({"project": 5, "label": "l", "data": data}));
    let in_text = json!({"project": 5, "label": "l", "data": data.to_string()});
    export.push("sentry.rule", 7, &in_text);
    let (_, account) = tells(&cluster, name, &export.to_bytes(), &ImportOptions::default(), &[]).await;
    for pk in [6, 7] {
        let row = account.row("sentry.rule", pk).unwrap_or_else(|| panic!("{name}: no rule {pk}"));
        assert_eq!(row["data"], Cell::Json(data.clone()), "{name}: rule {pk}");
    }

    let name = "NUL in a username";
    let mut export = of("nul-username");
    export.push(USER, 6, &json!({"username": "zero\0", "password": "x", "email": ""}));
    let reported = [(Kind::TextCleaned, USER, 6, "username")];
    let (_, rows_now) = tells_in_short(&cluster, name, &export.to_bytes(), &reported).await;
    let kept = rows_now.rows(USER).values().any(|row| row["username"].as_text() == Some("zero"));
    assert!(kept, "{name}: no user has this name");
    cluster.stop().await;
}

pub(crate) async fn records_of_other_scopes_that_belong_to_an_import_are_reported(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let name = "an alert that notifies by e-mail, a key and an integration";
    let mut export = of("outside");
    export.organization(9, "not-asked-for");
    export.push("sentry.alertrule", 4, &json!({"organization": 1, "name": "n", "threshold_period": 1}));
    export.push("sentry.alertruletrigger", 4, &json!({"alert_rule": 4, "label": "l", "alert_threshold": 1}));
    let action = json!({"alert_rule_trigger": 4, "type": 0, "target_type": 2, "target_identifier": "11"});
    export.push("sentry.alertruletriggeraction", 4, &action).push(
        "sentry.alertruletriggeraction",
        5,
        &action,
    );
    export.push("sentry.apikey", 6, &json!({"organization_id": 9})).push(
        "sentry.apikey",
        7,
        &json!({"organization_id": 1}),
    );
    // A record that belongs only to a user, or to an organization that is not imported, is not a loss for anybody.
    export.push("sentry.userip", 8, &json!({"user": 2})).push(
        "sentry.apikey",
        8,
        &json!({"organization_id": 77}),
    );
    let reported = |key: i64| {
        [
            (Kind::OutOfScope, "sentry.alertruletriggeraction", 4, ""),
            (Kind::OutOfScope, "sentry.apikey", key, ""),
        ]
    };
    let options = ImportOptions::default();
    let (_, account) = tells(&cluster, name, &export.to_bytes(), &options, &reported(6)).await;
    let reason = reason(&account, "sentry.alertruletriggeraction", 4);
    assert!(reason.contains("sentry.alertruletrigger 4") && reason.contains("2 records"), "{name}: {reason}");
    assert!(reason.contains("the alert notifies nobody"), "{name}: {reason}");
    let filtered = ImportOptions::default().filter(&["outside"]);
    tells(
        &cluster,
        name,
        &export.to_bytes(),
        &filtered,
        &[
            &reported(7)[..],
            &[(Kind::SlugChanged, ORGANIZATION, 1, "slug"), (Kind::UsernameChanged, USER, 2, "username")],
        ]
        .concat(),
    )
    .await;
    cluster.stop().await;
}

/// With users merged, a defect of an option cannot refuse the file if its user exists, because the option is left out
/// anyway. If the user does not exist, the same file is refused, and nothing has changed.
pub(crate) async fn a_defect_of_what_an_existing_user_keeps_is_reported(store: Store) {
    let with = |fields: &str| {
        let mut export = of("acme");
        export.user(7, "nobody").member(8, 1, 7);
        let user = json!({"user": 7, "key": "theme", "value": "\"dark\""});
        export.push("sentry.useroption", 5, &user);
        let record = format!(r#"{{"model": "sentry.useroption", "pk": 6, "fields": {{{fields}}}}}"#);
        with_record(&export, &record)
    };
    let long = format!(r#""user": 2, "key": "{}", "value": "1""#, "k".repeat(65));
    let cases = [
        (long.as_str(), "key", "64 are the most"),
        (r#""user": 2, "key": "a", "key": "b", "value": "1""#, "key", "twice"),
        (r#""user": 2, "value": "1""#, "key", "missing"),
        (r#""user": 2, "key": "language", "value": "[lambda""#, "value", "is not JSON"),
    ];
    let merge = ImportOptions::default().merge_users();
    let cluster = cluster(store, &["us"]).await;
    for options in [merge.clone().dry_run(), merge.clone(), ImportOptions::default()] {
        for (fields, field, says) in cases {
            let (file, offset) = with(fields);
            let before = rows_now(&cluster).await;
            let import = cluster.region(0).import(&file, &options).await.expect("it ends");
            assert_eq!(import.state(), ImportState::Failed, "{fields}");
            assert_eq!(rows_now(&cluster).await, before, "{fields}: something was written");
            let findings = cluster.region(0).findings(&import.import_id).await.expect("a list");
            let [finding] = findings.as_slice() else { panic!("{fields}: not one finding: {findings:#?}") };
            assert_eq!((finding.model.as_str(), finding.source_pk), ("sentry.useroption", 6), "{finding:?}");
            assert_eq!((finding.ordinal, finding.field.as_str()), (2, field), "{finding:?}");
            assert_eq!(finding.byte_offset, i64::try_from(offset).expect("small"), "{finding:?}");
            assert!(finding.reason.contains(says), "{finding:?}");
        }
    }
    // The user exists now, and the other one does not.
    let before = cluster.region(0).import(&of("acme").to_bytes(), &merge).await.expect("it ends");
    assert_eq!(before.state(), ImportState::Succeeded);
    for options in [merge.clone().dry_run(), merge.clone()] {
        for (fields, field, says) in cases {
            let (file, _) = with(fields);
            let import = cluster.region(0).import(&file, &options).await.expect("it ends");
            let ends = if import.dry_run { ImportState::Planned } else { ImportState::Succeeded };
            assert_eq!(import.state(), ends, "{fields}: {:?}", import.failure);
            let counts =
                import.models.iter().find(|it| it.model == "sentry.useroption").expect("it was seen");
            assert_eq!((counts.seen, counts.filtered), (2, 1), "{counts:?}");
            let findings = cluster.region(0).findings(&import.import_id).await.expect("a list");
            let reported: Vec<_> = findings.iter().filter(|it| it.kind() == Kind::DefectFiltered).collect();
            let [finding] = reported.as_slice() else { panic!("{fields}: not one: {findings:#?}") };
            assert_eq!((finding.source_pk, finding.field.as_str()), (6, field), "{finding:?}");
            assert!(finding.reason.contains(says) && finding.reason.contains("here already"), "{finding:?}");
        }
    }
    // If the reference itself is wrong, the owner of the record is unknown.
    let (file, _) = with(r#""user": 2, "user": 7, "key": "a", "value": "1""#);
    let import = cluster.region(0).import(&file, &merge).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Failed, "{import:?}");
    // Without merging, the user of the file is another one, so the file is refused.
    let (file, _) = with(cases[0].0);
    let import = cluster.region(0).import(&file, &ImportOptions::default()).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Failed);
    cluster.stop().await;
}

/// The region dies when it has planned the file, and before control has answered which users exist.
pub(crate) async fn a_defect_is_decided_after_a_restart_too(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let merge = ImportOptions::default().merge_users();
    let before = cluster.region(0).import(&of("acme").to_bytes(), &merge).await.expect("it ends");
    assert_eq!(before.state(), ImportState::Succeeded);
    for (user, ends) in [("acme", ImportState::Succeeded), ("nobody", ImportState::Failed)] {
        let mut export = Export::new();
        export.organization(1, user).user(7, user).member(8, 1, 7);
        let (file, offset) = with_record(
            &export,
            r#"{"model": "sentry.useroption", "pk": 6, "fields": {"user": 7, "value": "1"}}"#,
        );
        cluster.stop_service(Service::Control(0)).await;
        let begun = cluster.region(0).begin(&file, &merge).await.expect("it is taken");
        let id = begun.import.expect("an import").import_id;
        let waits = |import: &Import| import.waiting.is_some();
        let waiting = cluster.region(0).wait_until(&id, waits).await.expect("it waits");
        assert_eq!(waiting.state(), ImportState::Planning);
        cluster.kill(Service::Region(0)).await;
        cluster.revive().await.expect("they start");
        let import = cluster.region(0).wait(&id).await.expect("it ends");
        assert_eq!(import.state(), ends, "{user}: {:?}", import.failure);
        let findings = cluster.region(0).findings(&import.import_id).await.expect("a list");
        let finding = findings.iter().find(|it| it.source_pk == 6).expect("it is reported");
        assert_eq!(finding.byte_offset, i64::try_from(offset).expect("small"), "{finding:?}");
        let filtered = finding.kind() == Kind::DefectFiltered;
        assert_eq!(filtered, ends == ImportState::Succeeded, "{finding:?}");
    }
    cluster.stop().await;
}
