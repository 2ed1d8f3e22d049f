//! Fields with values that their column cannot take.

use causeway_harness::cluster::{ImportOptions, Silo, Store};
use causeway_proto::relocation::v1::FindingKind;
use causeway_relocation::export::MAX_PK;
use causeway_silo::{
    db::Statement,
    env::{ALPHANUMERIC, Environment},
};
use chrono::DateTime;
use serde_json::json;

use crate::support::{Place, Refused, check_import, cluster, good, refuse, tells, with_record};

/// A record of a model with one bad field. `others` are the fields that the model needs besides.
fn bad(model: &str, others: &str, field: &str, value: &str, says: &str) -> Refused {
    let kept = if others.is_empty() { String::new() } else { format!(", {others}") };
    let fields = format!(r#"{{"{field}": {value}{kept}}}"#);
    invalid(&format!("{model} {field} {value:.60}"), model, &fields, field, says)
}

fn invalid(name: &str, model: &str, fields: &str, field: &str, says: &str) -> Refused {
    let export = good();
    let record = format!(r#"{{"model": "{model}", "pk": 9, "fields": {fields}}}"#);
    let (file, offset) = with_record(&export, &record);
    let ordinal = export.records.iter().filter(|record| record.model == model).count() + 1;
    Refused {
        name: name.to_owned(),
        file,
        place: Place {
            offset,
            model: model.to_owned(),
            ordinal: i64::try_from(ordinal).expect("few"),
            pk: Some(9),
            field: field.to_owned(),
        },
        kind: FindingKind::ValidationError,
        says: says.to_owned(),
    }
}

/// The fields that a team needs, a project needs, and so on.
const TEAM: &str = r#""organization": 1, "slug": "s""#;
const PROJECT: &str = r#""organization": 1, "slug": "s", "name": "n""#;
const USER: &str = r#""password": "x", "username": "u", "email": "e""#;
const INCIDENT: &str = r#""organization": 1, "alert_rule": 1, "identifier": 1, "type": 1, "title": "t""#;
const RULE: &str = r#""project": 5, "label": "l""#;
const MEMBER: &str = r#""organization": 1, "user_id": 2"#;
const TRIGGER: &str = r#""alert_rule": 1, "alert_threshold": 1"#;
const TOKEN: &str = r#""organization_id": 1, "token_hashed": "h", "name": "n""#;

fn types() -> Vec<Refused> {
    let mut cases = Vec::new();
    for wrong in ["7", "true", "[\"n\"]", "{}"] {
        cases.push(bad("sentry.team", TEAM, "name", wrong, "not a string"));
    }
    for wrong in ["\"yes\"", "\"true\"", "0", "1", "[]"] {
        cases.push(bad("sentry.project", PROJECT, "public", wrong, "neither true nor false"));
    }
    for wrong in ["\"0\"", "1.5", "1e2", "true", "[0]", "{}"] {
        cases.push(bad("sentry.project", PROJECT, "status", wrong, "not an integer"));
    }
    for wrong in ["\"\"", "\"x\"", "\"1.5\"", "1.5", "true", "[1]"] {
        cases.push(bad("sentry.project", PROJECT, "flags", wrong, "not an integer"));
    }
    for wrong in ["\"1.5\"", "true", "\"nan\"", "[]"] {
        cases.push(bad(
            "sentry.alertruletrigger",
            r#""alert_rule": 1, "label": "l""#,
            "alert_threshold",
            wrong,
            "not a number",
        ));
    }
    cases
}

fn sizes() -> Vec<Refused> {
    let text = |length: usize| format!("\"{}\"", "n".repeat(length));
    let wide = format!("\"{}\"", "漢".repeat(65));
    vec![
        bad("sentry.team", TEAM, "name", &text(65), "65 characters, 64 are the most"),
        bad("sentry.team", TEAM, "name", &wide, "65 characters, 64 are the most"),
        bad("sentry.team", r#""organization": 1, "name": "n""#, "slug", &text(51), "50 are the most"),
        bad("sentry.user", r#""password": "x", "email": "e""#, "username", &text(129), "128 are the most"),
        bad("sentry.user", r#""password": "x", "username": "u""#, "email", &text(201), "200 are the most"),
        bad("sentry.user", USER, "name", &text(201), "200 are the most"),
        bad("sentry.project", PROJECT, "status", "2147483648", "is not between"),
        bad("sentry.project", PROJECT, "status", "-2147483649", "is not between"),
        bad("sentry.user", USER, "avatar_type", "32768", "is not between"),
        bad("sentry.project", PROJECT, "status", "-1", "not between 0 and 2147483647"),
        bad("sentry.organizationmember", MEMBER, "invite_status", "-1", "not between 0 and 32767"),
        bad("sentry.counter", r#""project": 5"#, "value", "9223372036854775808", "not an integer"),
        bad("sentry.counter", r#""project": 5"#, "value", "-9223372036854775809", "not an integer"),
        bad(
            "sentry.alertruletrigger",
            TRIGGER,
            "label",
            &text(2_601),
            "2601 bytes, where an index takes 2600",
        ),
        bad("sentry.alertruletrigger", TRIGGER, "label", &format!("\"{}\"", "漢".repeat(867)), "2601 bytes"),
        bad("sentry.alertruleactivationcondition", r#""alert_rule": 1"#, "label", &text(2_601), "2601 bytes"),
        bad(
            "sentry.orgauthtoken",
            r#""organization_id": 1, "name": "n""#,
            "token_hashed",
            &text(2_601),
            "2601 bytes",
        ),
        bad(
            "sentry.spanattributeextractionruleconfig",
            r#""project": 5"#,
            "span_attribute",
            &format!("\"{}\"", "漢".repeat(867)),
            "2601 bytes",
        ),
        bad("sentry.project", PROJECT, "flags", "\"9223372036854775808\"", "not an integer"),
        bad(
            "sentry.alertruletrigger",
            r#""alert_rule": 1, "label": "l""#,
            "alert_threshold",
            "1e400",
            "not a number",
        ),
    ]
}

fn kinds() -> Vec<Refused> {
    let mut cases = Vec::new();
    for wrong in [
        "\"soon\"",
        "\"\"",
        "\"2024-13-01T00:00:00Z\"",
        "\"2024-02-30\"",
        "\"2024-01-01T25:00:00Z\"",
        "\"2024-01-01T00:00:00+99:00\"",
        "\"10000-01-01T00:00:00Z\"",
        "\"+12024-01-01T00:00:00Z\"",
        "\"0000-01-01T00:00:00Z\"",
        "\"2024-01-01T00:00:00Z and more\"",
        "\"01/02/2024\"",
        "\"now()\"",
        "\"2024-01-01T24:00:00Z\"",
        "\"infinity\"",
        "\"-infinity\"",
        "\"0001-01-01T00:00:00+01:00\"",
        "\"9999-12-31T23:59:59-01:00\"",
    ] {
        cases.push(bad("sentry.project", PROJECT, "date_added", wrong, "not a time"));
    }
    for wrong in ["1700000000", "true", "[]"] {
        cases.push(bad("sentry.project", PROJECT, "date_added", wrong, "not a string that holds a time"));
    }
    for wrong in [
        "\"\"",
        "\"no-uuid\"",
        "\"123e4567-e89b-12d3-a456-42661417400\"",
        "\"123e4567e89b12d3a45642661417400g\"",
        "7",
    ] {
        cases.push(bad("sentry.incident", INCIDENT, "detection_uuid", wrong, "UUID"));
    }
    for wrong in [r#""{\"a\": ""#, r#""[1, 2""#, r#""{'a': 1}""#, r#""\"abc""#, r#"" {]""#] {
        cases.push(bad("sentry.rule", RULE, "data", wrong, "begins like JSON and is not JSON"));
    }
    for wrong in [
        "7",
        "\"\"",
        "\"org:ci\"",
        "{}",
        "[1]",
        "[[\"a\"]]",
        "\"['a'\"",
        "\"[lambda]\"",
        "\"['a' 'b']\"",
        "true",
    ] {
        cases.push(bad("sentry.orgauthtoken", TOKEN, "scope_list", wrong, "not a list"));
    }
    let snapshot = r#""start": "2024-01-01T00:00:00Z", "end": "2024-01-01T00:00:00Z", "period": 1"#;
    for wrong in ["[1]", "[[\"a\"]]", "\"[[nan, 1]]\"", "\"[[1, 2]\"", "[null]"] {
        cases.push(bad("sentry.timeseriessnapshot", snapshot, "values", wrong, "not a list"));
    }
    cases.push(bad("sentry.timeseriessnapshot", snapshot, "values", "[[1, 2], [3]]", "different lengths"));
    let tag = format!("[\"{}\"]", "a".repeat(51));
    cases.push(bad(
        "sentry.spanattributeextractionruleconfig",
        r#""project": 5, "span_attribute": "s""#,
        "aggregates",
        &tag,
        "50 are the most",
    ));
    let deep = format!("\"{}1{}\"", "[".repeat(20_000), "]".repeat(20_000));
    cases.push(bad("sentry.orgauthtoken", TOKEN, "scope_list", &deep, "not a list"));
    cases.push(bad("sentry.rule", RULE, "data", &deep, "holds JSON nested deeper than 120"));
    let wrong = r#""[lambda: 1]""#;
    cases.push(bad(
        "sentry.useroption",
        r#""user": 2, "key": "language""#,
        "value",
        wrong,
        "begins like JSON and is not JSON",
    ));
    cases
}

fn references() -> Vec<Refused> {
    let mut cases = Vec::new();
    for wrong in
        ["\"x\"", "\"1\"", "0", "-1", "1.5", "true", "[1]", "{}", "9007199254740992", "99999999999999999999"]
    {
        let others = r#""slug": "s", "name": "n""#;
        cases.push(bad("sentry.team", others, "organization", wrong, "not a primary key"));
        // A bad reference is refused too where it may be null, and where the name ends with `_id`.
        cases.push(bad(
            "sentry.organizationmember",
            r#""organization": 1, "email": "e""#,
            "inviter_id",
            wrong,
            "not a primary key",
        ));
    }
    cases
}

/// A record with a field whose name is almost that of a missing one.
fn misnamed(model: &str, others: &str, field: &str, says: &str) -> Refused {
    let fields = format!(r#"{{{others}, "{field}": 1}}"#);
    invalid(&format!("{model} with {field}"), model, &fields, field, says)
}

fn missing() -> Vec<Refused> {
    let absent = |model: &str, fields: &str, field: &str| {
        invalid(
            &format!("{model} without {field}"),
            model,
            &format!("{{{fields}}}"),
            field,
            "missing and has no default",
        )
    };
    let both = r#"{"organization": 1, "user_id": 2, "email": "a@example.com"}"#;
    let twice = r#"{"organization": 1, "slug": "s", "name": "n", "name": "n"}"#;
    let mut twice = invalid("a field twice", "sentry.team", twice, "name", "twice");
    twice.kind = FindingKind::DeserializationFailed;
    vec![
        absent("sentry.team", TEAM, "name"),
        absent("sentry.team", r#""slug": "s", "name": "n""#, "organization"),
        absent("sentry.user", r#""password": "x", "email": "e""#, "username"),
        absent("sentry.rule", RULE, "data"),
        absent("sentry.organization", r#""slug": "s""#, "name"),
        bad("sentry.team", TEAM, "name", "null", "is null"),
        bad("sentry.team", r#""slug": "s", "name": "n""#, "organization", "null", "is null"),
        bad("sentry.project", PROJECT, "status", "null", "is null"),
        bad("sentry.project", PROJECT, "public", "null", "is null"),
        bad("sentry.project", PROJECT, "date_added", "null", "is null"),
        // Names that are close to the name of a missing field.
        misnamed(
            "sentry.organizationmember",
            r#""organization": 1, "email": null"#,
            "user",
            "`user_id` is missing",
        ),
        misnamed(
            "sentry.team",
            r#""slug": "s", "name": "n""#,
            "organization_id",
            "`organization` is missing",
        ),
        misnamed("sentry.rule", r#""label": "l", "data": {}"#, "projectId", "`project` is missing"),
        invalid(
            "a member that is two",
            "sentry.organizationmember",
            both,
            "user_id",
            "only one of user_id and email",
        ),
        invalid(
            "a snooze of nothing",
            "sentry.rulesnooze",
            "{}",
            "rule",
            "exactly one of rule and alert_rule",
        ),
        invalid(
            "a snooze of two",
            "sentry.rulesnooze",
            r#"{"rule": 1, "alert_rule": 1}"#,
            "rule",
            "exactly one of rule and alert_rule",
        ),
        twice,
    ]
}

pub(crate) async fn a_field_that_its_column_cannot_take_is_refused(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut cases = types();
    cases.extend(sizes());
    cases.extend(kinds());
    cases.extend(references());
    cases.extend(missing());
    refuse(&cluster, cases).await;
    cluster.stop().await;
}

/// The cases above refuse values beyond each bound. The plan accepts values at the bound, and so does either database.
pub(crate) async fn values_at_their_bounds_arrive(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = good();
    // Random texts, which no database can compress.
    let env = Environment::fixed(DateTime::UNIX_EPOCH, 1);
    let text = |length: usize| env.characters(ALPHANUMERIC, length);
    let wide = |length: usize| -> String {
        let letters = env.bytes::<2_000>();
        letters
            .iter()
            .take(length)
            .map(|byte| char::from_u32(0x4e00 + u32::from(*byte) * 13).unwrap_or('x'))
            .collect()
    };
    let rule = json!({"organization": 1, "name": wide(200), "threshold_period": i32::MAX, "comparison_delta": i32::MIN});
    export.push("sentry.alertrule", 9, &rule);
    for (pk, label) in [(9, text(2_600)), (10, text(2_600)), (11, wide(866))] {
        let trigger = json!({"alert_rule": 9, "label": label, "alert_threshold": f64::MAX, "resolve_threshold": 5e-324});
        export.push("sentry.alertruletrigger", pk, &trigger);
        export.push("sentry.alertruleactivationcondition", pk, &json!({"alert_rule": 9, "label": label}));
    }
    export.push(
        "sentry.orgauthtoken",
        9,
        &json!({"organization_id": 1, "token_hashed": text(2_600), "name": "n"}),
    );
    for (pk, attribute) in [(9, text(1_000)), (10, wide(866))] {
        let config = json!({"project": 5, "span_attribute": attribute, "unit": "none", "tags": [wide(1_000)], "aggregates": [text(50), "x"]});
        export.push("sentry.spanattributeextractionruleconfig", pk, &config);
    }
    export.push(
        "sentry.project",
        9,
        &json!({"organization": 1, "slug": wide(100), "name": wide(200), "status": i32::MAX, "flags": i64::MIN.to_string(),
            "date_added": "0001-01-01T00:00:00Z", "first_event": "9999-12-31T23:59:59.999999Z"}),
    );
    export.push("sentry.counter", 9, &json!({"project": 9, "value": i64::MIN}));
    let member = json!({"organization": 1, "email": wide(75), "invite_status": i16::MAX, "type": 0, "flags": i64::MAX});
    export.push("sentry.organizationmember", MAX_PK, &member);
    let name = "values at their bounds";
    let choices = [
        (FindingKind::UnknownChoice, "sentry.project", 9, "status"),
        (FindingKind::UnknownChoice, "sentry.organizationmember", MAX_PK, "invite_status"),
    ];
    tells(&cluster, name, &export.to_bytes(), &ImportOptions::default(), &choices).await;

    // JSON that other parsers refuse is stored as it is written.
    for (number, json) in (20..).zip([
        r#""\ud800""#,
        "1e400",
        r#"{"a":"\u0000"}"#,
        r#"[1e-400,-0.0,123456789012345678901234567890]"#,
    ]) {
        let record = format!(
            r#"{{"model": "sentry.rule", "pk": {number}, "fields": {{"project": 5, "label": "{number}", "data": {json}}}}}"#
        );
        let (file, _) = with_record(&good(), &record);
        let import = cluster.region(0).import(&file, &ImportOptions::default()).await.expect("it ends");
        check_import(&record, &import);
        let db = cluster.db(Silo::Region(0)).await.expect("the database can be reached");
        let statement = Statement::new("SELECT data FROM sentry_rule WHERE label = ").arg(number.to_string());
        let row = db.fetch_optional(statement).await.expect("it can be read").expect("it is there");
        assert_eq!(row.text("data").expect("a text"), json);
        db.close().await;
    }
    cluster.stop().await;
}
