//! Files that are refused as a whole: nothing is written in any silo, and the message contains where the
//! error is.

use causeway_harness::{
    cluster::{ImportOptions, Store},
    export::Export,
};
use causeway_proto::relocation::v1::{ErrorReason, FindingKind, Severity};
use serde_json::json;

use crate::support::{cluster, exhaustive, fails, rows_now};

pub(crate) async fn two_teams_of_one_slug_are_refused(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = exhaustive();
    export.team(501, 4_554_202_386_792_449, "twins").team(502, 4_554_202_386_792_449, "twins");
    let first = export.offset("sentry.team", 501).expect("it is there");
    let second = export.offset("sentry.team", 502).expect("it is there");
    let (_, message) = fails(&cluster, &export, &ImportOptions::default(), ErrorReason::ExportInvalid).await;
    for part in
        ["sentry.team", "pk 501", "pk 502", "slug", &format!("byte {first}"), &format!("byte {second}")]
    {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    cluster.stop().await;
}

pub(crate) async fn a_primary_key_that_stands_twice_is_refused(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = exhaustive();
    export.user(11, "somebody else");
    let first = exhaustive().offset("sentry.user", 11).expect("it is there");
    let second = export.offset("sentry.user", 11).expect("it is there");
    let (_, message) = fails(&cluster, &export, &ImportOptions::default(), ErrorReason::ExportInvalid).await;
    for part in ["sentry.user", "pk 11", &format!("byte {first}"), &format!("byte {second}")] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    cluster.stop().await;
}

/// Invalid records, each with the field at fault.
fn invalid() -> Vec<(&'static str, serde_json::Value, &'static str)> {
    let organization = 4_554_202_386_792_449_i64;
    vec![
        ("sentry.team", json!({"organization": organization, "slug": "s"}), "name"),
        ("sentry.team", json!({"organization": organization, "slug": "s", "name": "n".repeat(65)}), "name"),
        ("sentry.team", json!({"organization": "x", "slug": "s", "name": "n"}), "organization"),
        (
            "sentry.team",
            json!({"organization": organization, "slug": "s", "name": "n", "status": 1.5}),
            "status",
        ),
        (
            "sentry.team",
            json!({"organization": organization, "slug": "s", "name": "n", "date_added": "soon"}),
            "date_added",
        ),
        (
            "sentry.organizationmember",
            json!({"organization": organization, "user_id": 11, "email": "a@example.com"}),
            "user_id",
        ),
        ("sentry.user", json!({"username": "x".repeat(129), "password": "x"}), "username"),
        ("sentry.user", json!({"username": "x", "password": "x", "email": "x".repeat(201)}), "email"),
        ("sentry.useroption", json!({"user": 11, "key": "timezone", "value": "[lambda"}), "value"),
        (
            "sentry.orgauthtoken",
            json!({"organization_id": organization, "token_hashed": "x", "name": "x", "scope_list": 7}),
            "scope_list",
        ),
    ]
}

pub(crate) async fn an_invalid_record_is_refused_with_its_place(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let before = rows_now(&cluster, 0).await;
    let region = cluster.region(0);
    let mut begun = Vec::new();
    for (model, fields, field) in invalid() {
        let mut export = exhaustive();
        let ordinal =
            export.records.iter().filter(|record| record.model.eq_ignore_ascii_case(model)).count() + 1;
        export.push(model, 9_001, &fields);
        let offset = export.offset(model, 9_001).expect("it is there");
        let import = region.begin(&export.to_bytes(), &ImportOptions::default()).await;
        let import = import.expect("it begins").import.unwrap_or_default();
        let place = format!("byte {offset}, {model} record {ordinal}, pk 9001, field {field}: ");
        begun.push((import.import_id, place));
    }
    for (id, place) in begun {
        let failure = region.wait(&id).await.expect("it ends").failure.expect("it fails");
        assert_eq!(failure.reason(), ErrorReason::ExportInvalid, "{}", failure.message);
        assert!(failure.message.starts_with(&place), "{} does not begin with {place}", failure.message);
    }
    assert_eq!(rows_now(&cluster, 0).await, before, "something was written");
    cluster.stop().await;
}

/// The list of findings has the same details as the failure's message.
pub(crate) async fn a_refusal_is_a_finding_with_its_kind(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut invalid = Export::new();
    invalid.organization(1, "one").team(1, 1, "t");
    invalid.push("sentry.team", 7, &json!({"organization": 1, "slug": "s"}));
    let mut double = Export::new();
    double.organization(1, "one").team(1, 1, "t").team(7, 1, "t");
    for (export, kind, field) in
        [(invalid, FindingKind::ValidationError, "name"), (double, FindingKind::IntegrityError, "slug")]
    {
        let (import, _) =
            fails(&cluster, &export, &ImportOptions::default(), ErrorReason::ExportInvalid).await;
        let findings = cluster.region(0).findings(&import.import_id).await.expect("a list");
        let [finding] = findings.as_slice() else { panic!("not one finding: {findings:?}") };
        assert_eq!((finding.kind(), finding.severity()), (kind, Severity::Error));
        assert_eq!((finding.model.as_str(), finding.source_pk), ("sentry.team", 7));
        assert_eq!(finding.field, field);
        let offset = export.offset("sentry.team", 7).and_then(|offset| i64::try_from(offset).ok());
        assert_eq!(Some(finding.byte_offset), offset);
    }
    cluster.stop().await;
}
