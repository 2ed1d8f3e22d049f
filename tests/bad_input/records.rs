//! Records without a required part, and records that contradict each other.

use causeway_harness::{cluster::Store, export::Export};
use causeway_proto::relocation::v1::FindingKind;
use serde_json::json;

use crate::support::{Place, Refused, cluster, good, refuse, with_record};

fn malformed(record: &str, model: &str, pk: impl Into<Option<i64>>, says: &str) -> Refused {
    let (file, offset) = with_record(&good(), record);
    Refused {
        name: record.to_owned(),
        file,
        place: Place { offset, model: model.to_owned(), pk: pk.into(), ..Place::default() },
        kind: FindingKind::DeserializationFailed,
        says: says.to_owned(),
    }
}

pub(crate) async fn a_record_without_its_three_parts_is_refused(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let team = "sentry.team";
    let mut cases = vec![
        malformed("{}", "", None, "no `model`"),
        malformed(r#"{"pk": 9, "fields": {}}"#, "", None, "no `model`"),
        malformed(r#"{"Model": "sentry.team", "pk": 9, "fields": {}}"#, "", None, "no `model`"),
        malformed(r#"{"model": "sentry.team", "fields": {}}"#, team, None, "no `pk`"),
        malformed(r#"{"model": "Sentry.Team", "fields": {}}"#, team, None, "no `pk`"),
        malformed(r#"{"model": "sentry.nonsense", "fields": {}}"#, "sentry.nonsense", None, "no `pk`"),
        malformed(r#"{"model": "sentry.team", "pk": 9}"#, team, 9, "no `fields`"),
        malformed(r#"{"model": "sentry.actor", "pk": 9}"#, "sentry.actor", 9, "no `fields`"),
        malformed(
            r#"{"model": "sentry.team", "pk": 9, "pk": 9, "fields": {}}"#,
            "",
            None,
            "`pk` stands twice",
        ),
        malformed(r#"{"model": "sentry.team", "pk": 9, "fields": {"a": }}"#, "", None, "not JSON"),
        malformed(
            "{\"model\": \"sentry.team\", \"pk\": 9, \"fields\": {\"a\": \"\n\"}}",
            "",
            None,
            "not JSON",
        ),
    ];
    for wrong in ["null", "7", "[\"sentry.team\"]", "{}", "true"] {
        let record = format!(r#"{{"model": {wrong}, "pk": 9, "fields": {{}}}}"#);
        cases.push(malformed(&record, "", None, "`model` is not a string"));
    }
    for wrong in ["null", "\"1\"", "\"x\"", "1.5", "1.0", "1e3", "true", "[1]", "{}", "99999999999999999999"]
    {
        for model in [team, "sentry.nonsense"] {
            let record = format!(r#"{{"model": "{model}", "pk": {wrong}, "fields": {{}}}}"#);
            cases.push(malformed(&record, model, None, "`pk` is not an integer"));
        }
    }
    for wrong in [i64::MIN, -1, 0, 1 << 53, i64::MAX] {
        for model in [team, "sentry.user", "sentry.nonsense"] {
            let record = format!(r#"{{"model": "{model}", "pk": {wrong}, "fields": {{}}}}"#);
            cases.push(malformed(&record, model, wrong, "`pk` is not between 1 and 2^53 - 1"));
        }
    }
    for wrong in ["null", "[]", "\"{}\"", "1", "false"] {
        let record = format!(r#"{{"model": "sentry.team", "pk": 9, "fields": {wrong}}}"#);
        cases.push(malformed(&record, team, 9, "`fields` are not an object"));
    }
    refuse(&cluster, cases).await;
    cluster.stop().await;
}

/// A refusal because the last record of an export contradicts an earlier one.
fn contradicts(name: &str, export: &Export, model: &str, earlier: i64, later: i64, field: &str) -> Refused {
    let first = export.records.iter().position(|it| it.model == model && it.pk == earlier);
    let mut until = export.clone();
    until.records.truncate(first.expect("it is there") + 1);
    let first = until.offset(model, earlier).expect("it is there");
    Refused {
        name: name.to_owned(),
        file: export.to_bytes(),
        place: Place {
            offset: export.offset(model, later).expect("it is there"),
            model: model.to_owned(),
            ordinal: 0,
            pk: Some(later),
            field: field.to_owned(),
        },
        kind: FindingKind::IntegrityError,
        says: format!("at byte {first}"),
    }
}

pub(crate) async fn records_that_contradict_each_other_are_refused(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut cases = Vec::new();
    for (model, pk) in [
        ("sentry.organization", 1),
        ("sentry.user", 2),
        ("sentry.organizationmember", 3),
        ("sentry.team", 4),
        ("sentry.project", 5),
    ] {
        let mut export = good();
        let double = export.find(model, pk).expect("it is there").clone();
        // Other unique values, so that only the primary key occurs twice.
        let other = match model {
            "sentry.organizationmember" => json!({"user_id": null, "email": "other@example.com"}),
            "sentry.user" => json!({"username": "other"}),
            _ => json!({"slug": "other"}),
        };
        export.records.push(double.with(&other));
        cases.push(contradicts(&format!("{model} {pk} twice"), &export, model, pk, pk, ""));
    }
    let mut teams = good();
    teams.team(8, 1, "other").team(9, 1, "good");
    cases.push(contradicts("two teams of one slug", &teams, "sentry.team", 4, 9, "slug"));
    let mut projects = good();
    projects.project(9, 1, "good");
    cases.push(contradicts("two projects of one slug", &projects, "sentry.project", 5, 9, "slug"));
    let environment = json!({"organization_id": 1, "name": "production"});
    let mut environments = good();
    environments.push("sentry.environment", 8, &environment).push("sentry.environment", 9, &environment);
    cases.push(contradicts(
        "two environments of one name",
        &environments,
        "sentry.environment",
        8,
        9,
        "organization_id",
    ));
    refuse(&cluster, cases).await;

    // These records look similar, but do not contradict each other.
    let mut export = good();
    export.organization(7, "better").team(9, 7, "good").project(9, 7, "good").team(10, 1, "Good");
    export.push("sentry.environment", 8, &environment).push(
        "sentry.environment",
        9,
        &json!({"organization_id": 7, "name": "production"}),
    );
    crate::support::tells(
        &cluster,
        "the same in two organizations",
        &export.to_bytes(),
        &Default::default(),
        &[],
    )
    .await;
    cluster.stop().await;
}
