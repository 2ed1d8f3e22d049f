//! Fields that their column cannot take.

use causeway_harness::cluster::Store;
use causeway_proto::relocation::v1::FindingKind;

use crate::stage::{Place, Refused, cluster, good, refuse, with_record};

/// A record of a model with one bad field. Of the other fields there are those that the model needs.
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

/// What a team needs, what a project needs, and so on.
const TEAM: &str = r#""organization": 1, "slug": "s""#;
const PROJECT: &str = r#""organization": 1, "slug": "s", "name": "n""#;
const USER: &str = r#""password": "x", "username": "u", "email": "e""#;
const INCIDENT: &str = r#""organization": 1, "alert_rule": 1, "identifier": 1, "type": 1, "title": "t""#;
const RULE: &str = r#""project": 5, "label": "l""#;
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
        bad("sentry.user", r#""password": "x", "username": "u""#, "email", &text(76), "75 are the most"),
        bad("sentry.user", USER, "name", &text(201), "200 are the most"),
        bad("sentry.project", PROJECT, "status", "2147483648", "is not between"),
        bad("sentry.project", PROJECT, "status", "-2147483649", "is not between"),
        bad("sentry.user", USER, "avatar_type", "32768", "is not between"),
        bad("sentry.counter", r#""project": 5"#, "value", "9223372036854775808", "not an integer"),
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
        cases.push(bad("sentry.rule", RULE, "data", wrong, "begins as JSON text but is none"));
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
    cases.push(bad("sentry.useroption", r#""user": 2, "key": "language""#, "value", wrong, "begins as JSON"));
    for (option, wrong) in [
        ("timezone", r#""\"Nowhere\"""#),
        ("theme", r#""\"mauve\"""#),
        ("clock_24_hours", "7"),
        ("language", "\"\\\"EN\\\"\""),
    ] {
        let others = format!(r#""user": 2, "key": "{option}""#);
        cases.push(bad("sentry.useroption", &others, "value", wrong, option));
    }
    cases
}

fn references() -> Vec<Refused> {
    let mut cases = Vec::new();
    for wrong in
        ["\"x\"", "\"1\"", "0", "-1", "1.5", "true", "[1]", "{}", "9007199254740992", "99999999999999999999"]
    {
        let others = r#""slug": "s", "name": "n""#;
        cases.push(bad("sentry.team", others, "organization", wrong, "not a primary key"));
        // Also where it may be null, and where the name ends with `_id`.
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
        invalid(
            "a member that is nobody",
            "sentry.organizationmember",
            r#"{"organization": 1}"#,
            "user_id",
            "exactly one",
        ),
        invalid("a member that is two", "sentry.organizationmember", both, "user_id", "exactly one"),
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
